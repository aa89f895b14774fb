//! How often the peer is to acknowledge what a link carries (draft-ietf-quic-ack-frequency): seldom, while a stream of small records is far
//! from filling the link, because every acknowledgement is a record of its own then; at once, where a window waits for them.

use std::time::{Duration, Instant};

/// For so long a wish holds, unless it is said again: so one that is lost costs little, and nobody has to say that it is over.
pub(crate) const HOLDS: Duration = Duration::from_secs(1);
/// A wish that is to go on is said again so long before its end.
const AGAIN: Duration = Duration::from_millis(500);
/// So many records may come before they are acknowledged, where that is wished,
const RECORDS: u32 = 16;
/// in return only half as many, by which each side knows that the other's wish is no reason for one of its own;
const RECORDS_IN_RETURN: u32 = RECORDS / 2;
/// and none waits for longer: below the delay of 25 ms that peers of QUIC are content with (RFC 9000 §18.2).
const DELAY: Duration = Duration::from_millis(15);
/// The most of a window that may be in flight for that, in eighths: with more, the window would soon wait for an acknowledgement.
const WINDOW_EIGHTHS: usize = 7;
/// Records are counted for so long.
const COUNTED_FOR: Duration = Duration::from_millis(100);
/// So many in that time are dense, several within what is held back,
const DENSE_RECORDS: u32 = 15;
/// as long as they are no longer than this on average: of a large record the acknowledgement costs next to nothing.
const SMALL_BYTES: usize = 8 * 1024;
/// and so many dense times after each other a stream whose acknowledgements are worth saving; fewer are a burst.
const STREAM: u32 = 3;

/// How the peer is to acknowledge for the next [`HOLDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// After so many records.
    pub(crate) records: u32,
    /// After this time at the latest.
    pub(crate) delay: Duration,
}

impl Wish {
    /// Whether it comes from who sends a stream, and not in return.
    pub(crate) const fn is_of_a_stream(&self) -> bool {
        self.records > RECORDS_IN_RETURN
    }
}

/// What is wished of the peer, for one link.
#[derive(Debug, Default)]
pub(crate) struct AckPace {
    /// Since when, how many records, and their bytes.
    counted: Option<(Instant, u32, usize)>,
    /// Dense times after each other.
    dense: u32,
    said: Option<Instant>,
    /// A window that was nearly full is left alone until then.
    not_before: Option<Instant>,
    /// Until then the peer may hold back that much.
    held_until: Option<Instant>,
}

impl AckPace {
    /// What is to be wished in a record with messages that is about to be sent, if that is news.
    pub(crate) fn wish(&mut self, now: Instant, in_flight: usize, window: usize) -> Option<Wish> {
        let said = self.said.filter(|at| now.saturating_duration_since(*at) < HOLDS);
        if in_flight / WINDOW_EIGHTHS > window / 8 {
            (self.said, self.not_before) = (None, Some(now + AGAIN));
            return said.map(|_| Wish { records: 1, delay: Duration::ZERO });
        }
        if self.dense < STREAM || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.say(now, RECORDS)
    }

    /// What is to be wished in a record without messages that acknowledges as the peer wished: the peer's stream has room for its own
    /// acknowledgements of such records.
    pub(crate) fn in_return(&mut self, now: Instant) -> Option<Wish> {
        self.say(now, RECORDS_IN_RETURN)
    }

    fn say(&mut self, now: Instant, records: u32) -> Option<Wish> {
        if self.said.is_some_and(|at| now.saturating_duration_since(at) < AGAIN) {
            return None;
        }
        // What it holds back when the wish ends is on its way after that.
        (self.said, self.held_until) = (Some(now), Some(now + HOLDS + DELAY));
        Some(Wish { records, delay: DELAY })
    }

    /// How long the peer may hold an acknowledgement back now, beside what it said itself.
    pub(crate) fn delay(&self, now: Instant) -> Duration {
        if self.held_until.is_some_and(|until| now < until) { DELAY } else { Duration::ZERO }
    }

    /// Notes a record that was sent and wants an acknowledgement.
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: usize) {
        let (began, count, sum) = self.counted.unwrap_or((now, 0, 0));
        let over = now.saturating_duration_since(began);
        if over < COUNTED_FOR {
            self.counted = Some((began, count + 1, sum + bytes));
            return;
        }
        let small = sum / count.max(1) as usize <= SMALL_BYTES;
        let dense = small && count >= DENSE_RECORDS && over < COUNTED_FOR * 2;
        self.dense = if dense { self.dense.saturating_add(1) } else { 0 };
        self.counted = Some((now, 1, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const KIB: usize = 1024;
    const WINDOW: usize = 64 * KIB;

    /// What is wished in a second of records that are sent so often.
    fn wishes(pace: &mut AckPace, from: Instant, every: Duration, in_flight: usize, bytes: usize) -> Vec<Wish> {
        let mut at = from;
        let mut wishes = Vec::new();
        while at < from + 1000 * MS {
            wishes.extend(pace.wish(at, in_flight, WINDOW));
            pace.on_sent(at, bytes);
            at += every;
        }
        wishes
    }

    #[test]
    fn only_a_dense_stream_that_leaves_the_window_empty_is_acknowledged_seldom() {
        let now = Instant::now();
        let seldom = Wish { records: RECORDS, delay: DELAY };
        assert_eq!(wishes(&mut AckPace::default(), now, 8 * MS, 0, KIB), []);
        assert_eq!(wishes(&mut AckPace::default(), now, MS, WINDOW, KIB), []);
        assert_eq!(wishes(&mut AckPace::default(), now, MS, WINDOW / 2, KIB), [seldom; 2], "said again before it ends");
        assert_eq!(wishes(&mut AckPace::default(), now, MS, 0, 16 * KIB), [], "large records");
        // A burst after a pause is no stream.
        let mut pace = AckPace::default();
        for second in 0..5 {
            let now = now + second * 1000 * MS;
            (0..200).for_each(|_| pace.on_sent(now, KIB));
            assert_eq!(pace.wish(now, 0, WINDOW), None);
        }
    }

    #[test]
    fn a_window_that_fills_takes_the_wish_back_once_and_what_is_held_back_is_allowed_for() {
        let now = Instant::now();
        let mut pace = AckPace::default();
        assert_eq!(pace.delay(now), Duration::ZERO);
        wishes(&mut pace, now, MS, 0, KIB);
        let later = now + 1000 * MS;
        assert_eq!(pace.delay(later), DELAY);
        let full = |pace: &mut AckPace| pace.wish(later, WINDOW, WINDOW);
        assert_eq!(full(&mut pace), Some(Wish { records: 1, delay: Duration::ZERO }));
        assert_eq!(full(&mut pace), None);
        assert_eq!(pace.delay(later), DELAY, "acknowledgements under way were held back still");
        assert_eq!(pace.delay(later + HOLDS + DELAY), Duration::ZERO);
        let again = wishes(&mut pace, later, MS, 0, KIB);
        assert_eq!(again.len(), 1, "not for half a second: it may fill again");
    }

    #[test]
    fn what_is_wished_in_return_is_no_reason_to_wish_again() {
        let (mut pace, now) = (AckPace::default(), Instant::now());
        let wish = pace.in_return(now);
        assert!(wish.is_some_and(|wish| !wish.is_of_a_stream()) && pace.delay(now) == DELAY);
        assert_eq!(pace.in_return(now + AGAIN / 2), None);
        assert!(wishes(&mut AckPace::default(), now, MS, 0, KIB)[0].is_of_a_stream());
    }
}
