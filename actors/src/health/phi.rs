//! Phi accrual (Hayashibara et al. 2004): how surprising the present silence is, from mean and deviation of the times between
//! arrivals, as `-log10` of the chance of a longer one. The usual measure, kept to compare with: it takes a link's losses for
//! a wide deviation and then waits for very long.

use std::time::{Duration, Instant};

use bowline_messages::health::Confidence;

use super::millis;
use super::window::Window;

/// Samples before anything is said.
const SAMPLES_MIN: usize = 3;
/// Below this deviation timers, not links, are what is measured, in milliseconds.
const DEVIATION_MIN_MS: f64 = 10.0;
/// The greatest phi: beyond it the chance is no number any more.
pub const PHI_MAX: f64 = 300.0;

/// Phi of one link.
#[derive(Debug, Clone, Default)]
pub struct Phi {
    intervals_ms: Window,
    last: Option<Instant>,
    /// Mean and deviation, in milliseconds: computed when an interval comes in.
    normal: Option<(f64, f64)>,
}

impl Phi {
    /// Something arrived.
    pub fn on_arrival(&mut self, now: Instant) {
        if let Some(last) = self.last {
            self.intervals_ms.push(millis(now.saturating_duration_since(last)));
            self.normal = self.intervals_ms.mean().zip(self.intervals_ms.deviation());
        }
        self.last = Some(now);
    }

    /// How long nothing arrived.
    pub fn silence(&self, now: Instant) -> Duration {
        self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last))
    }

    /// Phi of the present silence, 0 to [`PHI_MAX`]; 0 as long as too little was seen.
    pub fn phi(&self, now: Instant) -> f64 {
        let Some((mean, deviation)) = self.normal.filter(|_| self.intervals_ms.len() >= SAMPLES_MIN) else {
            return 0.0;
        };
        let y = (millis(self.silence(now)) - mean) / deviation.max(DEVIATION_MIN_MS);
        // The logistic approximation of the normal distribution's tail.
        let e = (-y * (1.5976 + 0.070_566 * y * y)).exp();
        let later = if y > 0.0 { e / (1.0 + e) } else { 1.0 - 1.0 / (1.0 + e) };
        let phi = -later.log10();
        if phi.is_nan() { 0.0 } else { phi.clamp(0.0, PHI_MAX) }
    }

    /// How unlikely it is that the link would be silent for so long if nothing had changed.
    pub fn confidence(&self, now: Instant) -> Confidence {
        Confidence::new(1.0 - 10.0_f64.powf(-self.phi(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steady(start: Instant, gap: Duration, count: u32) -> Phi {
        let mut phi = Phi::default();
        for n in 0..count {
            phi.on_arrival(start + gap * n);
        }
        phi
    }

    #[test]
    fn it_grows_with_the_silence_and_falls_with_an_arrival() {
        let start = Instant::now();
        let gap = Duration::from_millis(100);
        let mut phi = steady(start, gap, 20);
        let last = start + gap * 19;
        let values: Vec<f64> = (0..5).map(|n| phi.phi(last + Duration::from_millis(50) * n)).collect();
        assert!(values.windows(2).all(|pair| pair[0] <= pair[1]), "{values:?}");
        assert!(phi.phi(last + gap) < 1.0 && phi.phi(last + gap * 2) > 8.0);
        phi.on_arrival(last + gap * 2);
        assert!(phi.phi(last + gap * 2) < 1.0);
    }

    #[test]
    fn nothing_is_said_before_enough_was_seen() {
        let start = Instant::now();
        assert_eq!(steady(start, Duration::from_millis(100), 3).phi(start + Duration::from_secs(99)), 0.0);
        assert_eq!(Phi::default().confidence(start), Confidence::NONE);
    }

    proptest! {
        #[test]
        fn it_is_a_number_whatever_arrives(gaps in proptest::collection::vec(0_u64..u64::MAX / 4_000_000, 0..120), wait in 0_u64..1 << 40) {
            let mut now = Instant::now();
            let mut phi = Phi::default();
            for gap in gaps {
                now = now.checked_add(Duration::from_nanos(gap)).unwrap_or(now);
                phi.on_arrival(now);
            }
            let value = phi.phi(now + Duration::from_millis(wait));
            prop_assert!((0.0..=PHI_MAX).contains(&value));
        }
    }
}
