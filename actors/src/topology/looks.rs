//! When the graph is looked at: soon after a change, and yet only a small share of the time.

use std::time::{Duration, Instant};

/// How many times as long as the last look nothing is looked at after it: looks take an eleventh of one processor at most, however large the graph is and
/// however often somebody changes it.
const REST: u32 = 10;
/// Never longer: a process that was stopped while it looked took no time for it, and is to see soon what the network is like now.
const REST_MAX: Duration = Duration::from_mins(5);

/// When the next look is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    at: Instant,
    not_before: Instant,
}

impl Looks {
    /// The first look is at once.
    pub(super) const fn new(now: Instant) -> Self {
        Self { at: now, not_before: now }
    }

    /// When it is.
    pub(super) const fn at(&self) -> Instant {
        self.at
    }

    /// There is something to see: the next look is no later than this, as far as the last one allows.
    pub(super) fn by(&mut self, at: Instant) {
        self.at = self.at.min(at.max(self.not_before));
    }

    /// A look is over that took so long. The next one is after `pause` unless something changes.
    pub(super) fn done(&mut self, now: Instant, took: Duration, pause: Duration) {
        self.not_before = now + (took * REST).min(REST_MAX);
        self.at = self.not_before.max(now + pause);
    }

    /// A look came to nothing. There is no other one before `pause`, whatever changes: it may come to nothing again.
    pub(super) fn failed(&mut self, now: Instant, pause: Duration) {
        self.not_before = now + pause;
        self.at = self.not_before;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_quick_look_is_followed_by_another_as_soon_as_something_changes() {
        let now = Instant::now();
        let mut looks = Looks::new(now);
        looks.done(now, MS, MS * 5000);
        assert_eq!(looks.at(), now + MS * 5000);
        looks.by(now + MS * 200);
        looks.by(now + MS * 1000);
        assert_eq!(looks.at(), now + MS * 200);
    }

    #[test]
    fn a_process_that_was_stopped_while_it_looked_looks_again_soon() {
        let now = Instant::now();
        let mut looks = Looks::new(now);
        looks.done(now, MS * 600_000, MS * 5000);
        assert_eq!(looks.at(), now + MS * 300_000);
    }

    #[test]
    fn a_look_that_came_to_nothing_is_not_repeated_at_once_though_all_of_it_is_news() {
        let now = Instant::now();
        let mut looks = Looks::new(now);
        looks.failed(now, MS * 5000);
        looks.by(now + MS * 200);
        assert_eq!(looks.at(), now + MS * 5000);
    }

    #[test]
    fn whoever_changes_the_graph_all_the_time_does_not_keep_the_processor_busy() {
        let (start, took) = (Instant::now(), MS * 900);
        let (mut looks, mut now, mut busy) = (Looks::new(start), start, Duration::ZERO);
        while now < start + MS * 100_000 {
            now = looks.at().max(now) + took;
            busy += took;
            looks.done(now, took, MS * 5000);
            looks.by(now + MS * 200);
        }
        assert!(busy < (now - start) / 8, "{busy:?} of {:?}", now - start);
    }
}
