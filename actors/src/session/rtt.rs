//! Round-trip time of one link and the time-outs that follow from it (RFC 9002 §5 and §6.2, with the constants of a session
//! over reliable links).

use std::time::{Duration, Instant};

/// The smallest probe time-out: below it timers and schedulers, not links, are what is measured.
pub const PROBE_TIMEOUT_MIN: Duration = Duration::from_millis(3);
/// How long a smallest round-trip time is believed before it is measured afresh.
const MIN_RTT_LIFETIME: Duration = Duration::from_secs(10);

/// Estimator of RFC 9002 §5.
#[derive(Debug, Clone)]
pub struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    latest: Duration,
    min: Duration,
    min_at: Option<Instant>,
    initial: Duration,
}

impl Rtt {
    /// An estimator without a sample, which goes by `initial` until there is one.
    pub fn new(initial: Duration) -> Self {
        Self { smoothed: None, variation: initial / 2, latest: initial, min: initial, min_at: None, initial }
    }

    /// Takes a sample: the time from sending a record to its acknowledgement, and how long the peer says it held that back.
    pub fn on_sample(&mut self, now: Instant, sample: Duration, ack_delay: Duration) {
        if self.min_at.is_none() || sample <= self.min {
            self.min = sample;
            self.min_at = Some(now);
        }
        let adjusted = if sample >= self.min + ack_delay { sample - ack_delay } else { sample };
        self.latest = adjusted;
        match self.smoothed {
            None => {
                self.smoothed = Some(adjusted);
                self.variation = adjusted / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(adjusted)) / 4;
                self.smoothed = Some((smoothed * 7 + adjusted) / 8);
            }
        }
    }

    /// The smoothed round-trip time; before the first sample, what was assumed.
    pub fn smoothed(&self) -> Duration {
        self.smoothed.unwrap_or(self.initial)
    }

    /// The last sample, less the peer's delay.
    pub fn latest(&self) -> Duration {
        self.latest
    }

    /// The smallest sample of late.
    pub fn min(&self) -> Duration {
        self.min
    }

    /// Whether the smallest value is so old that it has to be measured afresh, with the link's queue drained: otherwise our own queue
    /// would be taken for the link's delay, and grow with it.
    pub fn is_min_stale(&self, now: Instant) -> bool {
        self.min_at.is_some_and(|at| now.saturating_duration_since(at) > MIN_RTT_LIFETIME)
    }

    /// Sets the smallest value to what was measured with the queue drained.
    pub fn set_min(&mut self, now: Instant, min: Duration) {
        self.min = min;
        self.min_at = Some(now);
    }

    /// Mean deviation.
    pub fn variation(&self) -> Duration {
        self.variation
    }

    /// Whether there was a sample.
    pub fn is_measured(&self) -> bool {
        self.smoothed.is_some()
    }

    /// After this long without progress an unacknowledged record is suspicious: smoothed + max(4 × variation, 1 ms) + the
    /// peer's acknowledgement delay (RFC 9002 §6.2.1).
    pub fn probe_timeout(&self, ack_delay_max: Duration) -> Duration {
        let margin = (self.variation * 4).max(Duration::from_millis(1));
        (self.smoothed() + margin + ack_delay_max).max(PROBE_TIMEOUT_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn follows_the_formulas_of_rfc_9002() {
        let now = Instant::now();
        let mut rtt = Rtt::new(100 * MS);
        assert!(!rtt.is_measured());
        assert_eq!(rtt.probe_timeout(10 * MS), 310 * MS);
        rtt.on_sample(now, 40 * MS, Duration::ZERO);
        assert_eq!((rtt.smoothed(), rtt.variation(), rtt.min()), (40 * MS, 20 * MS, 40 * MS));
        rtt.on_sample(now, 80 * MS, 8 * MS);
        assert_eq!(rtt.smoothed(), (40 * MS * 7 + 72 * MS) / 8);
        assert_eq!(rtt.variation(), (20 * MS * 3 + 32 * MS) / 4);
        assert_eq!(rtt.min(), 40 * MS);
    }

    #[test]
    fn a_claimed_delay_never_makes_a_sample_smaller_than_the_smallest() {
        let mut rtt = Rtt::new(100 * MS);
        let now = Instant::now();
        rtt.on_sample(now, 40 * MS, 39 * MS);
        assert_eq!(rtt.smoothed(), 40 * MS);
    }

    #[test]
    fn the_smallest_value_ages_and_is_replaced_only_on_purpose() {
        let mut rtt = Rtt::new(100 * MS);
        let now = Instant::now();
        rtt.on_sample(now, 10 * MS, Duration::ZERO);
        let later = now + Duration::from_secs(11);
        rtt.on_sample(later, 50 * MS, Duration::ZERO);
        assert_eq!(rtt.min(), 10 * MS);
        assert!(rtt.is_min_stale(later));
        rtt.set_min(later, 40 * MS);
        assert!(!rtt.is_min_stale(later));
        assert_eq!(rtt.min(), 40 * MS);
    }

    #[test]
    fn the_probe_time_out_has_a_floor() {
        let mut rtt = Rtt::new(MS);
        for _ in 0..100 {
            rtt.on_sample(Instant::now(), Duration::from_micros(20), Duration::ZERO);
        }
        assert_eq!(rtt.probe_timeout(Duration::ZERO), PROBE_TIMEOUT_MIN);
    }
}
