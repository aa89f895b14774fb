//! One link as its session sees it: what is in flight on it, how it behaves, whether it is believed to live.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::health::{Advice, Evidence};
use bowline_messages::link::{IllegalLinkStep, LinkInfo, LinkState, LinkStats, LinkStep};
use bowline_messages::{ChannelId, LinkId};

use super::ack_pace::AckPace;
use super::acks::AckTracker;
use super::outbox::{CLASSES, PeerLimits, SentItem};
use super::patience::Patience;
use super::policy::{Forecast, Smoothing};
use super::rtt::Rtt;
use super::window::{SendMark, Window, WindowConfig};
use crate::health::probing::ProbeBudget;
use drain::Drain;

mod drain;

/// What a record carries that has to be sent again when it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordItem {
    /// Messages, pieces of one, or skips.
    Data(SentItem),
    /// How far a channel was handed over: everything below the number.
    Delivered(ChannelId, u64),
    /// This side's addresses.
    Addresses,
    /// That another link is dead or suspected.
    LinkDown(LinkId),
    /// That a message was set aside.
    Quarantined(ChannelId, u64),
    /// A datagram, which is never sent again.
    Datagram,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Outstanding,
    Acknowledged,
    Lost,
}

#[derive(Debug, Clone, Copy)]
struct SentRecord {
    sent_at: Instant,
    bytes: u32,
    items: u32,
    fate: Fate,
    /// The lane it went over.
    lane: u8,
    /// Whether it carries messages (else only probes, acknowledgements and the like).
    data: bool,
    /// Whether anything in it has to be sent again when it is lost: messages, what was delivered, notices.
    content: bool,
    mark: SendMark,
}

/// Acknowledgements that are sent without one coming back: a peer that writes and does not read cannot make more of them wait here.
const BARE_RECORDS_MAX: u32 = 1024;

/// Records whose fate is remembered although they are lost, so that a late acknowledgement still counts.
const LOST_REMEMBERED_MAX: usize = 1024;

/// Records whose fate is known and that are remembered because an older one on another lane is outstanding.
const DONE_REMEMBERED_MAX: usize = 4096;

/// What one acknowledgement brought.
#[derive(Debug, Default)]
pub(crate) struct AckOutcome {
    /// Items that the peer has now.
    pub(crate) items: Vec<RecordItem>,
    /// Whether a record was acknowledged that was not before.
    pub(crate) news: bool,
    /// Whether one of those carried messages.
    pub(crate) data: bool,
    /// Whether a round-trip time was measured.
    pub(crate) measured: bool,
    /// Whether it shows that the link carries what it is given, and after what wait if the link was suspected meanwhile.
    pub(crate) progress: bool,
    pub(crate) late: Option<Duration>,
    /// Items that the peer will not acknowledge: it left them out for so long that they are not remembered any more.
    pub(crate) left_out: Vec<RecordItem>,
}

impl AckOutcome {
    /// As new, with the room it has.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.left_out.clear();
        (self.news, self.data, self.measured) = (false, false, false);
        (self.progress, self.late) = (false, None);
    }
}

/// One link as its session sees it.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) info: Arc<LinkInfo>,
    pub(crate) lanes: u8,
    pub(crate) state: LinkState,
    pub(crate) rtt: Rtt,
    /// What its score by requirements is multiplied by.
    pub(crate) multiplier: f64,
    /// What its delay will be, for the choice among links.
    pub(crate) forecast: Forecast,
    pub(crate) window: Window,
    pub(crate) acks: AckTracker,
    pub(crate) stats: LinkStats,
    /// Longest time that the peer holds an acknowledgement back.
    pub(crate) ack_delay_max: Duration,
    /// How often it is wished to acknowledge.
    pub(crate) ack_pace: AckPace,
    /// What it may have held back of what was sent last.
    ack_delay: Duration,
    records: VecDeque<SentRecord>,
    /// Counter of `records[0]`, once something was sent.
    first_counter: u64,
    /// Items of all `records`, in the same order.
    items: VecDeque<RecordItem>,
    outstanding_data: u32,
    /// How many of them have content.
    outstanding_content: u32,
    outstanding: u32,
    /// For each lane, the number behind the newest record on it that was acknowledged.
    acknowledged: [u64; CLASSES],
    /// The oldest message that the link did not pass although it passed others, and since when that is known; until a record with
    /// it is acknowledged.
    missing: Option<(ChannelId, u64, Instant)>,
    /// When a record last came over it.
    pub(crate) arrived_at: Instant,
    /// When the link last showed that it carries what it is given.
    pub(crate) progress_at: Instant,
    /// When a record that wants an acknowledgement was last sent.
    pub(crate) eliciting_at: Instant,
    /// Suspicions since the last progress: each waits longer than the one before.
    pub(crate) suspicions: u32,
    /// Whether it carried the session's traffic when the suspicions began: what follows moves it.
    pub(crate) carried: bool,
    /// Since when nothing came back, once everything on it was given to other links: while the verdict is open and when it has fallen.
    pub(crate) silent_since: Option<Instant>,
    /// Whether it passed something since, though not what it had to.
    pub(crate) passes_others: bool,
    /// How late it was of late.
    pub(crate) patience: Patience,
    /// Since when it is in `Failing`.
    pub(crate) failing_since: Option<Instant>,
    /// Its unacknowledged messages were given to other links already.
    pub(crate) rerouted: bool,
    /// Records that ask for nothing, sent since the peer last acknowledged something.
    pub(crate) bare_records: u32,
    /// A probe is to be sent.
    pub(crate) probe_due: bool,
    /// What probing it may still cost.
    pub(crate) budget: ProbeBudget,
    /// Set while the link's queue is drained to measure its smallest round-trip time afresh.
    drain: Option<Box<Drain>>,
    /// Whether a record sent on it was acknowledged: until then each says which life of ours it belongs to.
    pub(crate) introduced: bool,
    /// Whether the peer has proven, by a record that opened, that it takes part now.
    pub(crate) proven: bool,
    /// When it became `Degraded` last.
    pub(crate) degraded_at: Option<Instant>,
    /// What the health monitor says about it.
    pub(crate) advice: Advice,
    /// Traffic was moved off it because of that, and it was said.
    pub(crate) left: bool,
    /// The peer says that it closes it on purpose.
    pub(crate) let_go: bool,
    /// From what its state was concluded last.
    pub(crate) evidence: Option<Box<Evidence>>,
    /// What the peer takes as it said on this link; none once that counts for the session.
    pub(crate) limits: Option<Box<PeerLimits>>,
    /// When the key of the peer's epoch before is forgotten.
    pub(crate) old_key_until: Option<Instant>,
}

/// Whether a record's item has the message in question, or a piece of it.
fn carries(item: &RecordItem, (channel, sequence, _): &(ChannelId, u64, Instant)) -> bool {
    match item {
        RecordItem::Data(SentItem::Messages { channel: of, first, count }) => {
            of == channel && (*first..*first + u64::from(*count)).contains(sequence)
        }
        RecordItem::Data(SentItem::Fragment { channel: of, sequence: at, .. }) => of == channel && at == sequence,
        RecordItem::Data(SentItem::Skip { .. })
        | RecordItem::Delivered(..)
        | RecordItem::Addresses
        | RecordItem::LinkDown(_)
        | RecordItem::Quarantined(..)
        | RecordItem::Datagram => false,
    }
}

impl Path {
    pub(crate) fn new(
        now: Instant,
        info: Arc<LinkInfo>,
        lanes: u8,
        initial_rtt: Duration,
        ack_delay_max: Duration,
        window: WindowConfig,
    ) -> Self {
        let medium = info.interface.as_ref().map(|interface| interface.medium).unwrap_or_default();
        Self {
            info,
            lanes: lanes.max(1),
            state: LinkState::Initializing,
            rtt: Rtt::new(initial_rtt),
            multiplier: 1.0,
            forecast: Forecast::new(Smoothing::default()),
            window: Window::new(window),
            acks: AckTracker::default(),
            stats: LinkStats::default(),
            ack_delay_max,
            ack_pace: AckPace::default(),
            ack_delay: ack_delay_max,
            records: VecDeque::new(),
            first_counter: 0,
            items: VecDeque::new(),
            outstanding_data: 0,
            outstanding_content: 0,
            outstanding: 0,
            acknowledged: [0; CLASSES],
            missing: None,
            arrived_at: now,
            progress_at: now,
            eliciting_at: now,
            suspicions: 0,
            carried: false,
            silent_since: None,
            passes_others: false,
            patience: Patience::new(now),
            failing_since: None,
            rerouted: false,
            bare_records: 0,
            probe_due: true,
            budget: ProbeBudget::new(now, medium),
            drain: None,
            introduced: false,
            proven: false,
            degraded_at: None,
            advice: Advice::Keep,
            left: false,
            let_go: false,
            evidence: None,
            limits: None,
            old_key_until: None,
        }
    }

    /// When an acknowledgement has to be on its way; none to a peer that does not read what it asked for.
    pub(crate) fn ack_deadline(&self) -> Option<Instant> {
        self.acks.deadline().filter(|_| self.bare_records < BARE_RECORDS_MAX)
    }

    /// Takes a step of the life cycle; gives the state before.
    pub(crate) fn step(&mut self, step: LinkStep) -> Result<LinkState, IllegalLinkStep> {
        let before = self.state;
        self.state = before.after(step)?;
        Ok(before)
    }

    /// The lane on which a class travels.
    pub(crate) fn lane(&self, class: usize) -> u8 {
        (class % usize::from(self.lanes)) as u8
    }

    /// Notes a record that was sealed for a lane of this link, in the order of counters.
    pub(crate) fn on_sent(
        &mut self,
        now: Instant,
        lane: u8,
        counter: u64,
        bytes: usize,
        items: &[RecordItem],
        eliciting: bool,
    ) {
        self.stats.records_sent += 1;
        self.stats.bytes_sent += bytes as u64;
        if self.records.is_empty() {
            self.first_counter = counter;
        }
        if !eliciting {
            self.bare_records += 1;
            // Asked now and then, so that a peer that reads is told from one that only writes.
            self.probe_due |= self.bare_records.is_multiple_of(BARE_RECORDS_MAX / 4);
        }
        let data = items.iter().any(|item| matches!(item, RecordItem::Data(_) | RecordItem::Datagram));
        let content = !items.is_empty();
        let fate = if eliciting { Fate::Outstanding } else { Fate::Acknowledged };
        if !eliciting && self.records.is_empty() {
            return;
        }
        if eliciting {
            if self.outstanding == 0 {
                self.progress_at = self.progress_at.max(now);
            }
            self.outstanding += 1;
            self.outstanding_data += u32::from(data);
            self.outstanding_content += u32::from(content);
            self.eliciting_at = now;
            self.ack_pace.on_sent(now, bytes);
            self.ack_delay = self.ack_delay_max.max(self.ack_pace.delay(now));
        }
        let mark = self.window.on_sent(now, if eliciting { bytes } else { 0 });
        self.items.extend(items);
        let items = items.len() as u32;
        self.records.push_back(SentRecord {
            sent_at: now,
            bytes: bytes as u32,
            items,
            fate,
            lane,
            data,
            content,
            mark,
        });
    }

    /// Takes an acknowledgement of the records in `ranges` (largest range first, inclusive bounds).
    pub(crate) fn on_ack(
        &mut self,
        now: Instant,
        ranges: impl Iterator<Item = (u64, u64)>,
        delay: Duration,
        out: &mut AckOutcome,
    ) {
        let mut largest: Option<(u64, Instant, SendMark)> = None;
        let mut bytes = 0;
        let (mut late_bytes, mut late): (usize, Option<(u64, SendMark)>) = (0, None);
        let mut late_only = true;
        let mut content = false;
        for (low, high) in ranges {
            let Some(end) = high.checked_sub(self.first_counter) else { continue };
            let start = low.saturating_sub(self.first_counter);
            let end = end.saturating_add(1).min(self.records.len() as u64);
            let mut item_at = None;
            for at in start..end {
                let at = at as usize;
                let Some(record) = self.records.get_mut(at) else { break };
                let (items, fate) = (record.items as usize, record.fate);
                if fate == Fate::Acknowledged {
                    item_at = item_at.map(|from: usize| from + items);
                    continue;
                }
                record.fate = Fate::Acknowledged;
                out.news = true;
                out.data |= record.data;
                content |= record.content;
                let (sent_at, mark) = (record.sent_at, record.mark);
                if self.suspicions > 0 {
                    out.late = out.late.max(Some(now.saturating_duration_since(sent_at.max(self.progress_at))));
                }
                if fate == Fate::Outstanding {
                    late_only = false;
                    bytes += record.bytes as usize;
                    self.outstanding -= 1;
                    self.outstanding_data -= u32::from(record.data);
                    self.outstanding_content -= u32::from(record.content);
                }
                let counter = self.first_counter + at as u64;
                if fate == Fate::Lost && record.data {
                    late_bytes += record.bytes as usize;
                    late = late.filter(|(newest, _)| *newest > counter).or(Some((counter, mark)));
                }
                if let Some(behind) = self.acknowledged.get_mut(usize::from(record.lane)) {
                    *behind = (*behind).max(counter + 1);
                }
                if largest.is_none_or(|(known, ..)| counter > known) {
                    largest = Some((counter, sent_at, mark));
                }
                let from = item_at.unwrap_or_else(|| self.records.iter().take(at).map(|r| r.items as usize).sum());
                out.items.extend(self.items.range(from..from + items));
                let missing = self.missing.take();
                self.missing = missing.filter(|m| !self.items.range(from..from + items).any(|item| carries(item, m)));
                item_at = Some(from + items);
            }
        }
        if let Some((_, sent_at, mark)) = largest {
            self.introduced = true;
            self.passes_others |= self.is_withdrawn();
            self.bare_records = 0;
            if !late_only {
                let sample = now.saturating_duration_since(sent_at);
                self.rtt.on_sample(now, sample, delay.min(self.ack_delay));
                out.measured = true;
                self.forecast.on_delivered(now, self.rtt.latest() / 2);
                self.window.on_acknowledged(now, bytes, mark);
                self.drain_step(now, sample);
            }
            if let Some((_, mark)) = late {
                self.window.on_late(now, late_bytes, mark);
            }
            // A probe is no progress while content waits, and a notice is none while messages do. Nor is what overtook a record
            // on its own lane, where order is kept: the link passes some records and not others.
            let content = out.data || (self.outstanding_data == 0 && (content || self.outstanding_content == 0));
            if content && self.missing_since().is_none() && !self.is_overtaken() {
                out.progress = true;
                self.progress_at = now;
                self.suspicions = 0;
                self.carried = false;
                (self.silent_since, self.passes_others) = (None, false);
                self.rerouted &= self.state == LinkState::Failing;
            }
        }
        self.forget_done(&mut out.left_out);
    }

    /// Bytes that may be in flight on it.
    pub(crate) fn window_bytes(&self) -> usize {
        if self.drain.is_some() { self.window.min_bytes() } else { self.window.bytes(self.rtt.min()) }
    }

    fn forget_done(&mut self, left_out: &mut Vec<RecordItem>) {
        while let Some(&record) = self.records.front() {
            let many = self.records.len() > LOST_REMEMBERED_MAX;
            let done = match record.fate {
                Fate::Acknowledged => true,
                Fate::Lost => many,
                // A peer that acknowledges what came behind it on its lane, and never this one, cannot make it stay for ever.
                // Nor can one that acknowledges everything on other lanes; what was only slow comes twice then, and counts once.
                Fate::Outstanding => {
                    (many && self.overtook(self.first_counter, &record))
                        || self.records.len() - self.outstanding as usize > DONE_REMEMBERED_MAX
                }
            };
            if !done {
                break;
            }
            let items = record.items as usize;
            if record.fate == Fate::Outstanding {
                left_out.extend(self.items.range(..items));
                self.count_lost(&record);
            }
            self.items.drain(..items);
            self.records.pop_front();
            self.first_counter += 1;
        }
        if self.records.is_empty() && self.records.capacity() > 64 {
            self.records.shrink_to(16);
            self.items.shrink_to(16);
        }
    }

    /// Declares everything outstanding lost and gives its items.
    pub(crate) fn lose_all(&mut self) -> Vec<RecordItem> {
        self.lose(|_, _| true)
    }

    fn lose(&mut self, mut which: impl FnMut(u64, &SentRecord) -> bool) -> Vec<RecordItem> {
        let mut lost = Vec::new();
        let mut from = 0;
        for (counter, at) in (self.first_counter..).zip(0..self.records.len()) {
            let Some(record) = self.records.get_mut(at) else { break };
            let items = record.items as usize;
            if record.fate == Fate::Outstanding && which(counter, record) {
                record.fate = Fate::Lost;
                let record = *record;
                self.count_lost(&record);
                lost.extend(self.items.range(from..from + items));
            }
            from += items;
        }
        lost
    }

    fn count_lost(&mut self, record: &SentRecord) {
        self.window.on_lost(record.bytes as usize);
        self.stats.records_lost += 1;
        self.outstanding -= 1;
        self.outstanding_data -= u32::from(record.data);
        self.outstanding_content -= u32::from(record.content);
    }

    /// Whether a later record of its lane was acknowledged than this one.
    fn overtook(&self, counter: u64, record: &SentRecord) -> bool {
        self.acknowledged.get(usize::from(record.lane)).is_some_and(|behind| counter < *behind)
    }

    /// As when what the link did not pass was acknowledged.
    #[cfg(test)]
    pub(crate) fn take_missing(&mut self) {
        self.missing = None;
    }

    /// Records that are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> (usize, usize) {
        (self.records.len(), self.items.len())
    }

    /// The oldest outstanding messages, up to a number of bytes, for a copy over another link.
    pub(crate) fn oldest_data(&self, budget: usize) -> Vec<SentItem> {
        let (mut found, mut from, mut bytes) = (Vec::new(), 0, 0);
        for record in &self.records {
            let items = record.items as usize;
            if record.fate == Fate::Outstanding && record.data {
                bytes += record.bytes as usize;
                if bytes > budget && !found.is_empty() {
                    break;
                }
                found.extend(self.items.range(from..from + items).filter_map(|item| match item {
                    RecordItem::Data(item) => Some(*item),
                    RecordItem::Delivered(..)
                    | RecordItem::Addresses
                    | RecordItem::LinkDown(_)
                    | RecordItem::Quarantined(..)
                    | RecordItem::Datagram => None,
                }));
            }
            from += items;
        }
        found
    }

    /// The oldest outstanding record with messages, with its number.
    fn oldest_data_record(&self) -> Option<(u64, &SentRecord)> {
        let mut records = (self.first_counter..).zip(&self.records);
        records.find(|(_, r)| r.fate == Fate::Outstanding && r.data)
    }

    /// Whether a later record of the same lane was acknowledged although the oldest one with messages was not.
    fn is_overtaken(&self) -> bool {
        self.outstanding_data > 0
            && self.oldest_data_record().is_some_and(|(counter, record)| self.overtook(counter, record))
    }

    /// Notes that the link passed other records than the oldest with messages.
    pub(crate) fn note_missing(&mut self, now: Instant) {
        if self.missing.is_none()
            && let Some(
                SentItem::Messages { channel, first: sequence, .. } | SentItem::Fragment { channel, sequence, .. },
            ) = self.oldest_data(1).first()
        {
            self.missing = Some((*channel, *sequence, now));
        }
    }

    /// Since when it is known that the link does not pass everything. Not for what no longer has to come over it.
    pub(crate) fn missing_since(&self) -> Option<Instant> {
        self.missing
            .filter(|_| self.outstanding_data > 0 || self.silent_since.is_some() || self.state == LinkState::Failing)
            .map(|(_, _, since)| since)
    }

    /// Declares lost what was overtaken on its own lane, and gives its items, oldest first.
    pub(crate) fn lose_overtaken(&mut self, now: Instant) -> Vec<RecordItem> {
        if !self.is_overtaken() {
            return Vec::new();
        }
        self.note_missing(now);
        let acknowledged = self.acknowledged;
        self.lose(|counter, record| {
            record.data && acknowledged.get(usize::from(record.lane)).is_some_and(|behind| counter < *behind)
        })
    }

    /// When the oldest outstanding record with messages was sent (or with other content, or any, if there is none such).
    pub(crate) fn oldest_sent_at(&self) -> Option<Instant> {
        if self.outstanding == 0 {
            return None;
        }
        let (data_only, content_only) = (self.outstanding_data > 0, self.outstanding_content > 0);
        let counts =
            |r: &&SentRecord| r.fate == Fate::Outstanding && (r.data || !data_only) && (r.content || !content_only);
        let mut open = self.records.iter().filter(counts);
        open.next().map(|r| r.sent_at)
    }

    /// Whether records with messages are unacknowledged.
    pub(crate) fn has_outstanding_data(&self) -> bool {
        self.outstanding_data > 0
    }

    /// Whether records with something are unacknowledged that has to be sent again when it is lost.
    pub(crate) fn has_outstanding_content(&self) -> bool {
        self.outstanding_content > 0
    }

    /// Whether any record that wants an acknowledgement is unacknowledged.
    pub(crate) fn has_outstanding(&self) -> bool {
        self.outstanding > 0
    }

    /// The time-out after which missing progress is suspicious, doubled with each suspicion.
    pub(crate) fn probe_timeout(&self) -> Duration {
        self.rtt.probe_timeout(self.ack_delay)
    }

    /// Whether everything on it was given to other links while the verdict is open.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.silent_since.is_some() && self.state != LinkState::Failing
    }

    /// From when missing progress counts.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        let withdrawn = self.silent_since.filter(|_| self.is_withdrawn());
        withdrawn.or_else(|| self.oldest_sent_at().map(|sent| sent.max(self.progress_at)))
    }

    /// Whether a probe was acknowledged that was sent after the oldest unacknowledged message.
    pub(crate) fn probe_answered_since_data(&self) -> bool {
        let mut behind_data = self.records.iter().skip_while(|r| r.fate != Fate::Outstanding || !r.data);
        behind_data.any(|r| r.fate == Fate::Acknowledged && r.bytes > 0)
    }

    /// Bytes that may still be put on it for a class; urgent classes may overstep the window a little.
    pub(crate) fn room(&self, class: usize, urgent_extra: usize) -> usize {
        let extra = if class <= 1 { urgent_extra } else { 0 };
        (self.window_bytes() + extra).saturating_sub(self.window.in_flight())
    }

    /// The statistics with the current estimates.
    pub(crate) fn snapshot(&self) -> LinkStats {
        let measured = self.rtt.is_measured();
        let sent = self.stats.records_sent;
        LinkStats {
            rtt: measured.then(|| self.rtt.smoothed()),
            rtt_min: measured.then(|| self.rtt.min()),
            rtt_variation: measured.then(|| self.rtt.variation()),
            loss: (sent > 0).then(|| self.stats.records_lost as f64 / sent as f64),
            delivery_rate: self.window.rate(),
            ..self.stats.clone()
        }
    }
}
