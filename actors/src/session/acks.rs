//! Which records arrived on one link, and when the peer is to be told (RFC 9000 §13.2).

use std::time::{Duration, Instant};

use super::ranges::RangeSet;

/// Ranges of records that are remembered and told: on a link whose lanes are ordered there are hardly ever more than one a lane.
pub const ACK_RANGES_MAX: usize = 32;
/// So many records that want an acknowledgement are answered at once,
const RECORDS_AT_ONCE: u32 = 8;
/// and so many bytes: a sender whose window is small waits for them. A single small record never is, so that a request is
/// acknowledged by its answer.
const BYTES_AT_ONCE: usize = 8 * 1024;

/// Tracks the records of one link.
#[derive(Debug, Default)]
pub struct AckTracker {
    received: RangeSet,
    largest_at: Option<Instant>,
    eliciting: u32,
    bytes: usize,
    deadline: Option<Instant>,
}

impl AckTracker {
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
            self.deadline = self.deadline.or(Some(now + delay_max));
            if self.eliciting >= RECORDS_AT_ONCE || self.bytes >= BYTES_AT_ONCE {
                self.deadline = Some(now);
            }
        }
    }

    /// When an acknowledgement has to be on its way.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether there is something to acknowledge, due or not.
    pub fn is_pending(&self) -> bool {
        self.eliciting > 0
    }

    /// What to acknowledge: the ranges, and how long the largest was held back. The caller sends it, and says so by calling this.
    pub fn take(&mut self, now: Instant) -> Option<(&RangeSet, Duration)> {
        self.eliciting = 0;
        self.bytes = 0;
        self.deadline = None;
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
