//! How long missing progress is borne on one link before it is called failing: what the link itself has shown of late, and no less for a
//! link that carries nothing. Pure.
//!
//! A time-out from the mean and the variation of round trips (RFC 9002) knows nothing of what happens once a minute: a record that is lost
//! twice in a row on a reliable link arrives several round trips late, and the link is as well as before. So the longest waits that ended
//! well are remembered, and forgotten by halves.

use std::time::{Duration, Instant};

/// What a link of which nothing is known yet is taken for.
const LONGEST_AT_FIRST: Duration = Duration::from_millis(100);
/// In this time the memory of the longest wait halves.
const HALF_LIFE: Duration = Duration::from_secs(120);
/// A wait of so many times the longest one that is remembered is more than chance.
const LONGEST_TIMES: u32 = 3;

/// What a link has shown of how long an acknowledgement may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    longest: Duration,
    at: Instant,
}

impl Patience {
    /// Nothing is known yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { longest: LONGEST_AT_FIRST, at: now }
    }

    /// Progress came after such a wait. One that is longer than `most` was an outage, and says nothing of how the link is otherwise.
    pub(crate) fn on_progress(&mut self, now: Instant, waited: Duration, most: Duration) {
        if waited <= most && waited >= self.longest(now) {
            *self = Self { longest: waited, at: now };
        }
    }

    /// The longest wait that is remembered.
    pub(crate) fn longest(&self, now: Instant) -> Duration {
        let halves = now.saturating_duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.longest.mul_f64((-halves).exp2())
    }

    /// How long missing progress is borne until the verdict: `least`, or what the link has shown, and for that no longer than `most`.
    pub(crate) fn verdict_after(&self, now: Instant, least: Duration, most: Duration) -> Duration {
        (self.longest(now) * LONGEST_TIMES).min(most).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const MOST: Duration = Duration::from_millis(800);

    fn quiet(start: Instant) -> (Patience, Instant) {
        (Patience::new(start), start + HALF_LIFE * 20)
    }

    #[test]
    fn a_link_that_is_always_in_time_is_given_the_least() {
        let (mut patience, now) = quiet(Instant::now());
        patience.on_progress(now, 4 * MS, MOST);
        assert_eq!(patience.verdict_after(now, 15 * MS, MOST), 15 * MS);
    }

    #[test]
    fn a_new_link_and_one_that_was_late_are_given_more_and_that_is_forgotten() {
        let start = Instant::now();
        let (mut patience, now) = quiet(start);
        assert_eq!(Patience::new(start).verdict_after(start, 15 * MS, MOST), LONGEST_AT_FIRST * LONGEST_TIMES);
        patience.on_progress(now, 200 * MS, MOST);
        patience.on_progress(now, 5 * MS, MOST);
        assert_eq!(patience.verdict_after(now, 15 * MS, MOST), 600 * MS);
        assert_eq!(patience.verdict_after(now + HALF_LIFE, 15 * MS, MOST), 300 * MS);
        patience.on_progress(now + HALF_LIFE, 150 * MS, MOST);
        assert_eq!(patience.longest(now + HALF_LIFE), 150 * MS);
    }

    #[test]
    fn an_outage_is_no_lateness_and_there_is_a_most_unless_time_outs_are_longer() {
        let (mut patience, now) = quiet(Instant::now());
        patience.on_progress(now, MOST + MS, MOST);
        assert_eq!(patience.verdict_after(now, 15 * MS, MOST), 15 * MS);
        patience.on_progress(now, 700 * MS, MOST);
        assert_eq!(patience.verdict_after(now, 15 * MS, MOST), MOST);
        assert_eq!(patience.verdict_after(now, 2 * MOST, MOST), 2 * MOST);
    }
}
