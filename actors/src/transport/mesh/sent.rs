//! What was sent on a link and is not acknowledged, and what may be sent: congestion control as in RFC 9002 with packets of up to 16 KiB;
//! losses by time alone, as in RFC 8985, because packets that leave together may well overtake each other on their ways.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::frame::{DATA_HEAD_BYTES, Frame, LANES};
use super::received::ACK_DELAY;
use crate::transport::Lane;

/// Packets on their way at most, whatever their size.
const PACKETS_MAX: usize = 512;
/// What is on its way at the beginning, and at least, in bytes.
const WINDOW_FIRST: u64 = 128 * 1024;
const WINDOW_LEAST: u64 = 48 * 1024;
const RTT_FIRST: Duration = Duration::from_millis(250);
const GRANULARITY: Duration = Duration::from_millis(2);
/// Doublings of the probe time-out at most.
const BACKOFF_MAX: u32 = 5;
/// Probe time-outs in a row after which another route is tried.
const ROUTE_AFTER: u32 = 2;

/// What a packet carried that has to arrive.
#[derive(Debug, Clone)]
enum Chunk {
    Data { lane: Lane, offset: u64, bytes: Bytes },
    Credit(Lane),
    Ping,
    End,
    Reset,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    bytes: u64,
    chunks: Vec<Chunk>,
}

#[derive(Debug, Default)]
struct LaneOut {
    lost: VecDeque<(u64, Bytes)>,
    queue: VecDeque<Bytes>,
    /// The offset of the first byte in `queue`.
    next: u64,
    /// Bytes that were written and are not acknowledged.
    held: u64,
    /// How far the other side lets it be written.
    granted: u64,
}

/// The sending half of a link.
#[derive(Debug)]
pub(super) struct Sending {
    lanes: [LaneOut; LANES],
    on_way: BTreeMap<u64, Sent>,
    on_way_bytes: u64,
    number: u64,
    window: u64,
    window_max: u64,
    threshold: u64,
    /// Losses of packets sent before this are news of the same congestion.
    recovery: Option<Instant>,
    rtt: Option<(Duration, Duration)>,
    latest: Duration,
    acknowledged: Option<u64>,
    /// When the newest packet was sent that asks for an acknowledgement.
    asked: Option<Instant>,
    /// When something was acknowledged last, or was sent after a time of quiet.
    progress: Option<Instant>,
    backoff: u32,
    route: u8,
    /// Packets that may be sent beyond the window, because a probe time-out is over.
    probes: u32,
    credits: [bool; LANES],
    ping: bool,
    /// The end has been asked for; it goes out once everything else has.
    ending: bool,
    end_sent: bool,
    end_acknowledged: bool,
    reset: Option<bool>,
    turn: usize,
}

/// What may go into a packet besides data.
pub(super) struct Room<'a> {
    /// How far each lane may be written by the other side.
    pub(super) granted: &'a dyn Fn(Lane) -> u64,
    /// Bytes that are left.
    pub(super) bytes: usize,
}

impl Sending {
    /// Nothing sent. `window_max` bytes are on their way at most; the other side takes `granted` bytes of each lane at first.
    pub(super) fn new(window_max: u64, granted: u64) -> Self {
        Self {
            lanes: std::array::from_fn(|_| LaneOut { granted, ..LaneOut::default() }),
            on_way: BTreeMap::new(),
            on_way_bytes: 0,
            number: 0,
            window: WINDOW_FIRST.min(window_max),
            window_max,
            threshold: u64::MAX,
            recovery: None,
            rtt: None,
            latest: Duration::ZERO,
            acknowledged: None,
            asked: None,
            progress: None,
            backoff: 0,
            route: 0,
            probes: 0,
            credits: [false; LANES],
            ping: false,
            ending: false,
            end_sent: false,
            end_acknowledged: false,
            reset: None,
            turn: 0,
        }
    }

    /// Takes bytes from the front of `data` as far as a lane holds `most`; how many.
    pub(super) fn write(&mut self, lane: Lane, data: &mut Bytes, most: u64) -> usize {
        let lane = &mut self.lanes[usize::from(lane).min(LANES - 1)];
        let room = usize::try_from(most.saturating_sub(lane.held)).unwrap_or(usize::MAX).min(data.len());
        if room > 0 && !self.ending {
            lane.held += room as u64;
            lane.queue.push_back(data.split_to(room));
            return room;
        }
        0
    }

    pub(super) fn ping(&mut self) {
        self.ping = true;
    }

    pub(super) fn credit(&mut self, lane: Lane) {
        self.credits[usize::from(lane)] = true;
    }

    pub(super) fn end(&mut self) {
        self.ending = true;
    }

    /// Everything else is off; only that is still told.
    pub(super) fn reset(&mut self) {
        if self.reset.is_none() {
            self.lanes = std::array::from_fn(|_| LaneOut::default());
            self.on_way.clear();
            (self.on_way_bytes, self.backoff) = (0, 0);
            (self.ending, self.ping, self.credits) = (false, false, [false; LANES]);
            self.reset = Some(false);
        }
    }

    /// Whether the end, or that it was reset, was acknowledged.
    pub(super) fn is_over(&self) -> bool {
        self.end_acknowledged || (self.reset.is_some() && self.reset == Some(true) && self.on_way.is_empty())
    }

    /// Whether everything written was acknowledged.
    #[cfg(test)]
    pub(super) fn is_quiet(&self) -> bool {
        self.lanes.iter().all(|lane| lane.held == 0)
    }

    pub(super) fn on_credit(&mut self, lane: Lane, until: u64) {
        let lane = &mut self.lanes[usize::from(lane)];
        lane.granted = lane.granted.max(until);
    }

    /// Which route packets take: another number after each silence.
    pub(super) const fn route(&self) -> u8 {
        self.route
    }

    /// Whether a probe time-out is over and nothing was acknowledged since.
    pub(super) const fn is_probing(&self) -> bool {
        self.backoff > 0
    }

    /// Packets sent so far.
    pub(super) const fn packets(&self) -> u64 {
        self.number
    }

    /// Since when something has been on its way and nothing was acknowledged.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.progress.filter(|_| !self.on_way.is_empty() || self.backoff > 0)
    }

    /// The frames of the next packet, when there is one to be sent now. Only what asks for an acknowledgement: acknowledgements are the
    /// caller's.
    pub(super) fn next_packet(&mut self, now: Instant, room: &Room<'_>) -> Option<(u64, Vec<Frame>)> {
        let may = self.on_way_bytes < self.window && self.on_way.len() < PACKETS_MAX;
        if !may && self.probes == 0 {
            return None;
        }
        let (mut chunks, mut frames, mut left) = (Vec::new(), Vec::new(), room.bytes);
        self.take_control(room, &mut chunks, &mut frames, &mut left);
        for step in 0..LANES {
            let lane = (self.turn + step) % LANES;
            self.take_data(lane, &mut chunks, &mut frames, &mut left);
        }
        self.turn = (self.turn + 1) % LANES;
        if self.ending && !self.end_sent && self.lanes.iter().all(|lane| lane.queue.is_empty() && lane.lost.is_empty())
        {
            let end = self.end_frame();
            if end.wire_bytes() <= left {
                left -= end.wire_bytes();
                frames.push(end);
                chunks.push(Chunk::End);
                self.end_sent = true;
            }
        }
        if frames.is_empty() {
            return None;
        }
        let bytes = (room.bytes - left) as u64;
        self.probes = self.probes.saturating_sub(1);
        if self.on_way.is_empty() && self.backoff == 0 {
            self.progress = Some(now);
        }
        let number = self.number();
        self.asked = Some(now);
        self.on_way_bytes += bytes;
        self.on_way.insert(number, Sent { at: now, bytes, chunks });
        Some((number, frames))
    }

    /// A number for a packet that nobody acknowledges.
    pub(super) fn number(&mut self) -> u64 {
        self.number += 1;
        self.number - 1
    }

    fn take_control(&mut self, room: &Room<'_>, chunks: &mut Vec<Chunk>, frames: &mut Vec<Frame>, left: &mut usize) {
        let mut put = |chunk: Chunk, frame: Frame| {
            *left = left.saturating_sub(frame.wire_bytes());
            chunks.push(chunk);
            frames.push(frame);
        };
        if self.reset == Some(false) {
            self.reset = Some(true);
            put(Chunk::Reset, Frame::Reset);
        }
        if std::mem::take(&mut self.ping) {
            put(Chunk::Ping, Frame::Ping);
        }
        for lane in 0..LANES {
            if std::mem::take(&mut self.credits[lane]) {
                let lane = lane as Lane;
                put(Chunk::Credit(lane), Frame::Credit { lane, until: (room.granted)(lane) });
            }
        }
    }

    fn take_data(&mut self, at: usize, chunks: &mut Vec<Chunk>, frames: &mut Vec<Frame>, left: &mut usize) {
        let lane = &mut self.lanes[at];
        while *left > DATA_HEAD_BYTES {
            let most = *left - DATA_HEAD_BYTES;
            let (offset, bytes) = if let Some((offset, mut bytes)) = lane.lost.pop_front() {
                if bytes.len() > most {
                    lane.lost.push_front((offset + most as u64, bytes.split_off(most)));
                }
                (offset, bytes)
            } else {
                let granted = usize::try_from(lane.granted.saturating_sub(lane.next)).unwrap_or(usize::MAX);
                let bytes = gather(&mut lane.queue, most.min(granted));
                let offset = lane.next;
                lane.next += bytes.len() as u64;
                (offset, bytes)
            };
            if bytes.is_empty() {
                return;
            }
            *left -= DATA_HEAD_BYTES + bytes.len();
            frames.push(Frame::Data { lane: at as Lane, offset, bytes: bytes.clone() });
            chunks.push(Chunk::Data { lane: at as Lane, offset, bytes });
        }
    }

    fn end_frame(&self) -> Frame {
        Frame::End { finals: std::array::from_fn(|lane| self.lanes[lane].next) }
    }

    /// Packets were acknowledged; whether that was news.
    pub(super) fn on_ack(&mut self, now: Instant, delay: Duration, ranges: &[(u64, u64)]) -> bool {
        let Some((_, largest)) = ranges.first().copied() else { return false };
        if largest >= self.number {
            return false;
        }
        let mut news = false;
        for (first, last) in ranges {
            let numbers: Vec<u64> = self.on_way.range(*first..=*last).map(|(number, _)| *number).collect();
            for number in numbers {
                let Some(sent) = self.on_way.remove(&number) else { continue };
                news = true;
                self.on_way_bytes -= sent.bytes;
                if number == largest {
                    self.measure(now.saturating_duration_since(sent.at), delay);
                }
                self.grow(&sent);
                sent.chunks.iter().for_each(|chunk| self.arrived(chunk));
            }
        }
        self.acknowledged = Some(self.acknowledged.map_or(largest, |known| known.max(largest)));
        if news {
            self.progress = Some(now);
            self.backoff = 0;
        }
        self.detect_losses(now);
        news
    }

    /// The smoothed round-trip time and its variation (RFC 6298).
    fn measure(&mut self, rtt: Duration, delay: Duration) {
        let rtt = rtt.saturating_sub(delay.min(ACK_DELAY * 2)).max(Duration::from_micros(1));
        self.latest = rtt;
        self.rtt = Some(match self.rtt {
            None => (rtt, rtt / 2),
            Some((smooth, var)) => ((smooth * 7 + rtt) / 8, (var * 3 + smooth.abs_diff(rtt)) / 4),
        });
    }

    fn grow(&mut self, sent: &Sent) {
        if self.recovery.is_some_and(|recovery| sent.at <= recovery) {
            return;
        }
        let by = if self.window < self.threshold { sent.bytes } else { 16 * 1024 * sent.bytes / self.window };
        self.window = (self.window + by).min(self.window_max);
    }

    fn arrived(&mut self, chunk: &Chunk) {
        match chunk {
            Chunk::Data { lane, bytes, .. } => {
                let lane = &mut self.lanes[usize::from(*lane)];
                lane.held = lane.held.saturating_sub(bytes.len() as u64);
            }
            Chunk::End => self.end_acknowledged = true,
            Chunk::Credit(_) | Chunk::Ping | Chunk::Reset => {}
        }
    }

    /// A packet is lost when a later one has arrived and it is a quarter of a round trip late.
    fn loss_delay(&self) -> Duration {
        let rtt = self.rtt.map_or(RTT_FIRST, |(smooth, _)| smooth).max(self.latest);
        rtt + (rtt / 4).max(GRANULARITY)
    }

    fn detect_losses(&mut self, now: Instant) {
        let Some(largest) = self.acknowledged else { return };
        let late = self.loss_delay();
        let on_way = self.on_way.range(..largest);
        let lost: Vec<u64> = on_way.filter(|(_, sent)| sent.at + late <= now).map(|(number, _)| *number).collect();
        for number in lost.into_iter().rev() {
            self.lose(now, number, true);
        }
    }

    /// What a packet carried is sent again.
    fn lose(&mut self, now: Instant, number: u64, congestion: bool) {
        let Some(sent) = self.on_way.remove(&number) else { return };
        self.on_way_bytes -= sent.bytes;
        if congestion && self.recovery.is_none_or(|recovery| sent.at > recovery) {
            self.recovery = Some(now);
            self.window = (self.window * 7 / 10).max(WINDOW_LEAST.min(self.window_max));
            self.threshold = self.window;
        }
        for chunk in sent.chunks.into_iter().rev() {
            match chunk {
                Chunk::Data { lane, offset, bytes } => {
                    self.lanes[usize::from(lane)].lost.push_front((offset, bytes));
                }
                Chunk::Credit(lane) => self.credits[usize::from(lane)] = true,
                Chunk::Ping => self.ping = true,
                Chunk::End => self.end_sent = false,
                Chunk::Reset => self.reset = Some(false),
            }
        }
    }

    fn probe_timeout(&self) -> Duration {
        let (smooth, var) = self.rtt.unwrap_or((RTT_FIRST, RTT_FIRST / 4));
        (smooth + (var * 4).max(GRANULARITY) + ACK_DELAY * 2) * 2_u32.pow(self.backoff)
    }

    fn loss_deadline(&self) -> Option<Instant> {
        let (_, first) = self.on_way.range(..self.acknowledged?).next()?;
        Some(first.at + self.loss_delay())
    }

    fn probe_deadline(&self) -> Option<Instant> {
        self.asked.filter(|_| !self.on_way.is_empty()).map(|asked| asked + self.probe_timeout())
    }

    /// When [`Sending::on_timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.loss_deadline().into_iter().chain(self.probe_deadline()).min()
    }

    /// Finds what is lost; after a silence sends the oldest again, at last over another route.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        if self.loss_deadline().is_some_and(|at| at <= now) {
            self.detect_losses(now);
        }
        if self.probe_deadline().is_some_and(|at| at <= now) {
            self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
            if self.backoff >= ROUTE_AFTER {
                self.route = self.route.wrapping_add(1);
                self.window = WINDOW_LEAST.min(self.window_max);
            }
            let oldest: Vec<u64> = self.on_way.keys().take(2).copied().collect();
            for number in oldest.into_iter().rev() {
                self.lose(now, number, false);
            }
            self.probes = 2;
            self.asked = Some(now);
        }
    }
}

/// Up to so many bytes from the front, in one piece.
fn gather(queue: &mut VecDeque<Bytes>, most: usize) -> Bytes {
    let Some(first) = queue.front_mut() else { return Bytes::new() };
    if first.len() >= most {
        let piece = first.split_to(most);
        if first.is_empty() {
            queue.pop_front();
        }
        return piece;
    }
    if queue.len() == 1 {
        return queue.pop_front().unwrap_or_default();
    }
    let mut piece = bytes::BytesMut::new();
    while let Some(next) = queue.front_mut() {
        let take = next.len().min(most - piece.len());
        piece.extend_from_slice(&next.split_to(take));
        if !next.is_empty() {
            break;
        }
        queue.pop_front();
    }
    piece.freeze()
}
