//! A token bucket: how much of something may happen, in a row and in the long run.

use std::time::{Duration, Instant};

/// A budget that fills up again at a steady rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    per_second: f64,
    burst: f64,
    filled: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket. `per_second` and `burst` are in whatever unit is taken out later.
    pub(crate) fn new(now: Instant, per_second: f64, burst: f64) -> Self {
        Self { per_second, burst, filled: burst, at: now }
    }

    /// Fills up at another rate, and holds another burst, from now on.
    pub(crate) fn resize(&mut self, now: Instant, per_second: f64, burst: f64) {
        self.fill(now);
        (self.per_second, self.burst, self.filled) = (per_second, burst, self.filled.min(burst));
    }

    /// Takes so much out if there is that much.
    pub(crate) fn take(&mut self, now: Instant, amount: f64) -> bool {
        self.fill(now);
        let enough = self.filled >= amount;
        if enough {
            self.filled -= amount;
        }
        enough
    }

    /// When there will be so much in it; `now` when there is.
    pub(crate) fn ready(&mut self, now: Instant, amount: f64) -> Instant {
        self.fill(now);
        let missing = (amount.min(self.burst) - self.filled).max(0.0);
        if missing == 0.0 { now } else { now + Duration::from_secs_f64(missing / self.per_second) + NEXT }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.filled = (self.filled + passed * self.per_second).min(self.burst);
        self.at = self.at.max(now);
    }
}

/// What rounding may leave out.
const NEXT: Duration = Duration::from_micros(1);

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 2.0, 3.0);
        assert_eq!((0..5).filter(|_| bucket.take(start, 1.0)).count(), 3);
        let ready = bucket.ready(start, 1.0);
        assert!(!bucket.take(ready - Duration::from_millis(10), 1.0));
        assert!(bucket.take(ready, 1.0));
        assert!(ready - start < Duration::from_millis(501));
    }

    #[test]
    fn another_size_holds_from_now_on() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 2.0, 8.0);
        bucket.resize(start, 1.0, 3.0);
        assert!(!bucket.take(start, 4.0) && bucket.take(start, 3.0));
        let later = start + Duration::from_secs(2);
        assert!(!bucket.take(later, 3.0) && bucket.take(later, 2.0));
    }
}
