//! The quality of a link, from its last 100 samples. `None` always means "not measured yet".

use std::time::Duration;

pub use bowline_messages::health::Quality;
use bowline_messages::link::Medium;

use super::millis;
use super::ranked::Ranked;
use super::window::Window;

/// How far a medium gets with its energy, relative to the others, 0 to 1: a rough order, not a measurement of this machine. `None` when the
/// medium is not known. Choices by energy or by the score by requirements go by the same.
pub const fn power_efficiency(medium: Medium) -> Option<f64> {
    match medium {
        Medium::Loopback => Some(1.0),
        Medium::Ethernet => Some(0.9),
        Medium::Bluetooth => Some(0.9),
        Medium::Wifi | Medium::WifiDirect => Some(0.7),
        Medium::Mesh => Some(0.5),
        Medium::Cellular => Some(0.3),
        Medium::Unknown => None,
    }
}

/// Measures one link.
#[derive(Debug, Clone)]
pub struct QualityMeter {
    medium: Medium,
    latency_ms: Ranked,
    bandwidth: Ranked,
    delivered: Window,
}

impl QualityMeter {
    /// Nothing measured yet.
    pub fn new(medium: Medium) -> Self {
        Self { medium, latency_ms: Ranked::default(), bandwidth: Ranked::default(), delivered: Window::default() }
    }

    /// Something was delivered, after so long.
    pub fn on_delivered(&mut self, latency: Option<Duration>) {
        if let Some(latency) = latency {
            self.latency_ms.push(millis(latency));
        }
        self.delivered.push(1.0);
    }

    /// Something was lost.
    pub fn on_lost(&mut self) {
        self.delivered.push(0.0);
    }

    /// A bandwidth was measured, in bytes a second; one below 0 or no number is not taken.
    pub fn on_bandwidth(&mut self, bytes: f64) {
        if bytes >= 0.0 {
            self.bandwidth.push(bytes);
        }
    }

    /// The quality as measured so far.
    pub fn quality(&self) -> Quality {
        let latency = self.latency_ms.median();
        let scatter = self.latency_ms.median_deviation().filter(|_| self.latency_ms.len() > 1);
        let count = self.delivered.len() as f64;
        let arrived: f64 = self.delivered.iter().sum();
        Quality {
            latency_ms: latency,
            bandwidth: self.bandwidth.tenths(9),
            loss: self.delivered.mean().map(|delivered| 1.0 - delivered),
            jitter_ms: self.jitter(),
            reliability: (count > 0.0).then(|| (arrived + 0.5) / (count + 1.0)),
            stability: latency.zip(scatter).map(|(latency, scatter)| latency.max(1e-9) / (latency.max(1e-9) + scatter)),
            power_efficiency: power_efficiency(self.medium),
            samples: self.delivered.len(),
        }
    }

    fn jitter(&self) -> Option<f64> {
        let steps = self.latency_ms.len().checked_sub(1).filter(|steps| *steps > 0)?;
        let next = self.latency_ms.iter().skip(1);
        let sum: f64 = self.latency_ms.iter().zip(next).map(|(before, after)| (after - before).abs()).sum();
        Some(sum / steps as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_not_measured_is_none() {
        let quality = QualityMeter::new(Medium::Wifi).quality();
        assert_eq!(quality, Quality { power_efficiency: Some(0.7), ..Quality::default() });
    }

    #[test]
    fn a_known_series_has_known_quality() {
        let mut meter = QualityMeter::new(Medium::Ethernet);
        for latency in [10, 20, 10, 20] {
            meter.on_delivered(Some(Duration::from_millis(latency)));
        }
        meter.on_lost();
        meter.on_bandwidth(1e6);
        let quality = meter.quality();
        assert_eq!((quality.latency_ms, quality.jitter_ms, quality.bandwidth), (Some(15.0), Some(10.0), Some(1e6)));
        assert!((quality.loss.unwrap() - 0.2).abs() < 1e-9);
        assert!((quality.reliability.unwrap() - 0.75).abs() < 1e-9);
        assert!((quality.stability.unwrap() - 0.75).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn shares_stay_shares(samples in proptest::collection::vec((any::<Option<u64>>(), any::<f64>()), 0..300)) {
            let mut meter = QualityMeter::new(Medium::Unknown);
            for (latency, bandwidth) in samples {
                match latency {
                    Some(nanos) => meter.on_delivered(Some(Duration::from_nanos(nanos))),
                    None => meter.on_lost(),
                }
                meter.on_bandwidth(bandwidth);
            }
            let quality = meter.quality();
            for share in [quality.loss, quality.reliability, quality.stability].into_iter().flatten() {
                prop_assert!((0.0..=1.0).contains(&share), "{:?}", quality);
            }
            prop_assert!(quality.samples <= 100 && quality.bandwidth.is_none_or(|bytes| bytes >= 0.0));
        }
    }
}
