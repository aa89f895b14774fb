//! One direction of one simulated link: what was written, when it arrives, and who waits for it. Pure but for the wakers;
//! time comes in as an argument.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::path::Cut;
use crate::transport::Lane;

/// Bytes on their way.
#[derive(Debug)]
struct Chunk {
    /// When the last of it leaves.
    departs: Instant,
    /// How long it travels then.
    delay: Duration,
    arrives: Instant,
    bytes: Bytes,
}

/// From when on a queue leaves how many times as slowly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    from: Instant,
    rate: u64,
    /// `None` is unlimited.
    now: Option<u64>,
}

impl Pace {
    /// From `from` on `now` bytes a second leave, and not `rate` any more.
    pub(super) fn new(from: Instant, rate: u64, now: Option<u64>) -> Self {
        Self { from, rate, now }
    }

    /// When leaves what was to leave at some moment.
    pub(super) fn of(&self, departs: Instant) -> Instant {
        let waits = departs.saturating_duration_since(self.from).as_nanos();
        // Unlimited, or by a rate of zero, which means the same.
        let longer =
            self.now.filter(|now| *now > 0).map_or(0, |now| waits.saturating_mul(self.rate.into()) / u128::from(now));
        let longer = Duration::from_nanos(u64::try_from(longer).unwrap_or(u64::MAX));
        if departs > self.from { self.from.checked_add(longer).unwrap_or(departs) } else { departs }
    }
}

/// How the writer ended the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// In an orderly way, behind everything it wrote.
    Closed,
    /// Abruptly.
    Reset,
}

#[derive(Debug, Default)]
struct LaneQueue {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    last_arrival: Option<Instant>,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Bytes of a lane.
    Bytes(Lane, Bytes),
    /// The end, everything before it has been read.
    End(End),
    /// Nothing before this time.
    NotBefore(Instant),
    /// Nothing that is known of.
    Nothing,
}

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Pipe {
    lanes: Vec<LaneQueue>,
    /// Chunks that wait for their turn on the path: when each has left, and how large it is.
    leaving: VecDeque<(Instant, usize)>,
    leaving_bytes: usize,
    end: Option<(Instant, End)>,
    /// Since when the path is cut, and how.
    cut: Option<(Instant, Cut)>,
    /// Bytes were lost, so nothing ever arrives again.
    broken: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Pipe {
    pub(super) fn new(lanes: Lane, cut: Option<(Instant, Cut)>) -> Self {
        let mut queues = Vec::new();
        queues.resize_with(usize::from(lanes.max(1)), LaneQueue::default);
        Self {
            lanes: queues,
            leaving: VecDeque::new(),
            leaving_bytes: 0,
            end: None,
            cut,
            broken: false,
            reader: None,
            writer: None,
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut LaneQueue {
        let last = self.lanes.len() - 1;
        &mut self.lanes[usize::from(lane).min(last)]
    }

    /// How many bytes the lane takes now.
    pub(super) fn window_left(&mut self, lane: Lane, window: usize) -> usize {
        window.saturating_sub(self.lane(lane).bytes)
    }

    /// How many bytes may join those that wait for their turn, and when the next of those leaves.
    pub(super) fn queue_left(&mut self, now: Instant, queue: usize) -> (usize, Option<Instant>) {
        while let Some((_, bytes)) = self.leaving.front().copied().filter(|(departs, _)| *departs <= now) {
            self.leaving_bytes -= bytes;
            self.leaving.pop_front();
        }
        (queue.saturating_sub(self.leaving_bytes), self.leaving.front().map(|(departs, _)| *departs))
    }

    /// Puts bytes on the way that leave at one time and arrive `delay` later, or behind what is before them on the lane.
    pub(super) fn push(&mut self, lane: Lane, bytes: Bytes, now: Instant, departs: Instant, delay: Duration) {
        if departs > now {
            self.leaving.push_back((departs, bytes.len()));
            self.leaving_bytes += bytes.len();
        }
        let queue = self.lane(lane);
        let earliest = departs + delay;
        let arrives = queue.last_arrival.map_or(earliest, |last| last.max(earliest));
        queue.last_arrival = Some(arrives);
        queue.bytes += bytes.len();
        queue.chunks.push_back(Chunk { departs, delay, arrives, bytes });
        self.wake_reader();
    }

    /// The path has another bandwidth: what waits for its turn leaves, and arrives, at that pace.
    pub(super) fn repace(&mut self, pace: Pace) {
        for (departs, _) in &mut self.leaving {
            *departs = pace.of(*departs);
        }
        for queue in &mut self.lanes {
            let mut before: Option<Instant> = None;
            for chunk in &mut queue.chunks {
                if chunk.departs > pace.from {
                    chunk.departs = pace.of(chunk.departs);
                    chunk.arrives =
                        before.map_or(chunk.departs + chunk.delay, |last| last.max(chunk.departs + chunk.delay));
                }
                before = Some(chunk.arrives);
            }
            queue.last_arrival = before.or(queue.last_arrival);
        }
        self.wake_reader();
        self.wake_writer();
    }

    /// Ends the pipe behind everything that is on its way.
    pub(super) fn finish(&mut self, end: End, now: Instant, delay: Duration) {
        let last = self.lanes.iter().filter_map(|queue| queue.last_arrival).max();
        let arrives = last.map_or(now + delay, |last| last.max(now + delay));
        if !matches!(self.end, Some((_, End::Reset))) {
            self.end = Some((arrives, end));
            self.wake_reader();
        }
    }

    /// Loses what is on its way and shows a reset at once.
    pub(super) fn reset(&mut self, now: Instant) {
        for queue in &mut self.lanes {
            *queue = LaneQueue::default();
        }
        self.cut = None;
        self.broken = false;
        self.end = Some((now, End::Reset));
        self.wake_reader();
        self.wake_writer();
    }

    /// The path was cut. What has not arrived by now is kept back.
    pub(super) fn cut(&mut self, now: Instant, cut: Cut) {
        let since = self.cut.map_or(now, |(since, _)| since);
        self.cut = Some((since, cut));
    }

    /// The cut is over: what was kept back arrives `delay` from now, or never.
    pub(super) fn heal(&mut self, now: Instant, delay: Duration) {
        if self.broken {
            return;
        }
        let Some((since, cut)) = self.cut.take() else { return };
        let late = |arrives: Instant| arrives > since;
        match cut {
            Cut::Hold => {
                for queue in &mut self.lanes {
                    for chunk in queue.chunks.iter_mut().filter(|chunk| late(chunk.arrives)) {
                        chunk.arrives = chunk.arrives.max(now + delay);
                    }
                    queue.last_arrival = queue.last_arrival.map(|at| if late(at) { at.max(now + delay) } else { at });
                }
                if let Some((arrives, _)) = self.end.as_mut().filter(|(arrives, _)| late(*arrives)) {
                    *arrives = (*arrives).max(now + delay);
                }
            }
            Cut::Vanish => {
                let lost = self.lanes.iter().flat_map(|queue| &queue.chunks).any(|chunk| late(chunk.arrives));
                if lost || self.end.is_some_and(|(arrives, _)| late(arrives)) {
                    self.broken = true;
                    self.cut = Some((since, cut));
                }
            }
        }
        self.wake_reader();
    }

    /// Whether something vanished, so that nothing arrives any more although the path is healed.
    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// The next thing that has arrived: the earliest, on equal times the lowest lane.
    pub(super) fn take(&mut self, now: Instant) -> Found {
        let heads = self.lanes.iter().enumerate().filter_map(|(at, queue)| Some((queue.chunks.front()?.arrives, at)));
        let next = heads.min();
        let held = |arrives: Instant| self.cut.is_some_and(|(since, _)| arrives > since);
        let (arrives, what) = match (next, self.end) {
            (Some((arrives, at)), _) => (arrives, Some(at)),
            (None, Some((arrives, _))) => (arrives, None),
            (None, None) => return Found::Nothing,
        };
        if held(arrives) {
            return Found::Nothing;
        }
        if arrives > now {
            return Found::NotBefore(arrives);
        }
        let Some(at) = what else {
            return self.end.map_or(Found::Nothing, |(_, end)| Found::End(end));
        };
        let queue = &mut self.lanes[at];
        let Some(chunk) = queue.chunks.pop_front() else { return Found::Nothing };
        queue.bytes -= chunk.bytes.len();
        self.wake_writer();
        Found::Bytes(Lane::try_from(at).unwrap_or(Lane::MAX), chunk.bytes)
    }

    /// Whether a reset has arrived at the reader.
    pub(super) fn was_reset(&self, now: Instant) -> bool {
        let held = |arrives: Instant| self.cut.is_some_and(|(since, _)| arrives > since);
        matches!(self.end, Some((arrives, End::Reset)) if arrives <= now && !held(arrives))
    }

    /// More bytes of this lane that have arrived.
    pub(super) fn take_more(&mut self, now: Instant, lane: Lane) -> Option<Bytes> {
        let cut = self.cut;
        let held = |arrives: Instant| cut.is_some_and(|(since, _)| arrives > since);
        let queue = self.lane(lane);
        queue.chunks.front().filter(|chunk| chunk.arrives <= now && !held(chunk.arrives))?;
        let chunk = queue.chunks.pop_front()?;
        queue.bytes -= chunk.bytes.len();
        Some(chunk.bytes)
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}
