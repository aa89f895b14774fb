//! Which records arrived on one link, and when the peer is to be told (RFC 9000 §13.2).

use std::time::{Duration, Instant};

use super::ack_pace::{HOLDS, Wish};
use super::ranges::RangeSet;

/// Ranges of records that are remembered and told: on a link whose lanes are ordered there are hardly ever more than one a lane.
pub const ACK_RANGES_MAX: usize = 32;
/// So many records that want an acknowledgement are answered at once,
const RECORDS_AT_ONCE: u32 = 8;
/// and so many bytes: a sender whose window is small waits for them. A single small record never is, so that a request is
/// acknowledged by its answer.
const BYTES_AT_ONCE: usize = 8 * 1024;
/// The most that a peer may wish for: more would only keep from it what it needs. The delay is the one of RFC 9000 §18.2.
const WISH_RECORDS_MAX: u32 = 64;
const WISH_DELAY_MAX: Duration = Duration::from_millis(25);
/// Records that are waited for on a wish count as this long at most, on average.
const WISH_RECORD_BYTES: usize = 1024 + 256;

/// Tracks the records of one link.
#[derive(Debug, Default)]
pub struct AckTracker {
    received: RangeSet,
    largest_at: Option<Instant>,
    eliciting: u32,
    bytes: usize,
    deadline: Option<Instant>,
    /// What the peer is content with, and until when.
    wish: Option<(Wish, Instant)>,
    /// The peer waits for an acknowledgement.
    at_once: bool,
}

impl AckTracker {
    /// The peer says how often it wants to hear.
    pub(super) fn on_wish(&mut self, now: Instant, records: u64, delay: Duration) {
        let records = u32::try_from(records).unwrap_or(u32::MAX).min(WISH_RECORDS_MAX);
        self.at_once = records <= 1;
        self.wish = (!self.at_once).then(|| (Wish { records, delay: delay.min(WISH_DELAY_MAX) }, now + HOLDS));
    }

    /// Notes a record that was opened.
    pub fn on_record(&mut self, now: Instant, counter: u64, bytes: usize, eliciting: bool, delay_max: Duration) {
        if self.received.max().is_none_or(|largest| counter > largest) {
            self.largest_at = Some(now);
        }
        self.received.insert(counter..counter + 1);
        self.received.keep_highest(ACK_RANGES_MAX);
        if eliciting {
            self.eliciting += 1;
            self.bytes += bytes;
            let (records, bytes, delay) = match self.wish.filter(|(_, until)| now < *until) {
                Some((wish, _)) => {
                    let records = wish.records.max(RECORDS_AT_ONCE);
                    (records, records as usize * WISH_RECORD_BYTES, wish.delay.max(delay_max))
                }
                None => (RECORDS_AT_ONCE, BYTES_AT_ONCE, delay_max),
            };
            self.deadline = self.deadline.or(Some(now + delay));
            if self.at_once || self.eliciting >= records || self.bytes >= bytes {
                self.deadline = Some(now);
                self.at_once = false;
            }
        }
    }

    /// When an acknowledgement has to be on its way.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether an acknowledgement will be on its way, due or not.
    pub fn is_pending(&self) -> bool {
        self.deadline.is_some()
    }

    /// Whether the peer is content with an acknowledgement now and then.
    pub(super) fn is_for_a_stream(&self, now: Instant) -> bool {
        self.wish.is_some_and(|(wish, until)| wish.is_of_a_stream() && now < until)
    }

    /// What to acknowledge: the ranges, and how long the largest was held back. The caller sends it, and says so by calling this.
    pub fn take(&mut self, now: Instant) -> Option<(&RangeSet, Duration)> {
        // In a stream the next one is due anyway; until then whatever else is to be said waits for it.
        let stream = self.wish.filter(|(_, until)| self.eliciting > 0 && now < *until);
        self.deadline = stream.map(|(wish, _)| now + wish.delay);
        self.eliciting = 0;
        self.bytes = 0;
        let held = self.largest_at.map(|at| now.saturating_duration_since(at))?;
        (!self.received.is_empty()).then_some((&self.received, held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(2);

    #[test]
    fn a_few_small_records_may_wait_many_or_large_ones_may_not() {
        let now = Instant::now();
        let mut acks = AckTracker::default();
        for counter in 0..u64::from(RECORDS_AT_ONCE) - 1 {
            acks.on_record(now, counter, 64, true, DELAY);
            assert_eq!(acks.deadline(), Some(now + DELAY));
        }
        acks.on_record(now, 100, 64, true, DELAY);
        assert_eq!(acks.deadline(), Some(now));
        acks.take(now);
        acks.on_record(now, 101, BYTES_AT_ONCE, true, DELAY);
        assert_eq!(acks.deadline(), Some(now));
    }

    #[test]
    fn a_peer_that_is_content_with_less_is_told_less_for_a_second_or_until_it_is_not() {
        let now = Instant::now();
        let mut acks = AckTracker::default();
        let deadline = |acks: &mut AckTracker, now, records: u64| {
            // Twice: behind a stream one more is due.
            acks.take(now);
            acks.take(now);
            (0..records).for_each(|counter| acks.on_record(now, counter, 1_000, true, DELAY));
            acks.deadline()
        };
        acks.on_wish(now, 16, 20 * DELAY / 2);
        assert_eq!(deadline(&mut acks, now, 15), Some(now + 10 * DELAY));
        assert_eq!(deadline(&mut acks, now, 16), Some(now));
        assert_eq!(deadline(&mut acks, now + HOLDS, 15), Some(now + HOLDS), "it was not said again");
        acks.on_wish(now, 16, 20 * DELAY / 2);
        acks.on_wish(now, 1, Duration::ZERO);
        assert_eq!(deadline(&mut acks, now, 1), Some(now));
        assert_eq!(deadline(&mut acks, now, 1), Some(now + DELAY));
        acks.on_wish(now, u64::MAX, Duration::MAX);
        assert_eq!(deadline(&mut acks, now, 63), Some(now + WISH_DELAY_MAX), "more is not granted");
        assert_eq!(deadline(&mut acks, now, 64), Some(now));
    }

    #[test]
    fn behind_a_stream_there_is_one_more_acknowledgement_for_whatever_waited_for_it() {
        let now = Instant::now();
        let mut acks = AckTracker::default();
        acks.on_wish(now, 16, 5 * DELAY);
        acks.on_record(now, 0, 1_000, true, DELAY);
        acks.take(now + DELAY);
        assert_eq!((acks.deadline(), acks.is_pending()), (Some(now + 6 * DELAY), true));
        acks.take(now + 6 * DELAY);
        assert!(!acks.is_pending());
    }

    #[test]
    fn a_mere_acknowledgement_is_not_acknowledged() {
        let now = Instant::now();
        let mut acks = AckTracker::default();
        acks.on_record(now, 0, 64, false, DELAY);
        assert!(!acks.is_pending() && acks.deadline().is_none());
    }

    #[test]
    fn what_is_told_is_bounded() {
        let now = Instant::now();
        let mut acks = AckTracker::default();
        for counter in (0..10_000).step_by(2) {
            acks.on_record(now, counter, 64, true, DELAY);
        }
        let (ranges, held) = acks.take(now + DELAY).expect("records arrived");
        assert_eq!((ranges.len(), held), (ACK_RANGES_MAX, DELAY));
        assert!(!acks.is_pending());
    }
}
