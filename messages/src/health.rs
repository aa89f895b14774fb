//! What is said about the health of links: how sure, which layer, which rule, which samples.

use serde::{Deserialize, Serialize};

/// The most samples that a finding carries.
pub const FINDING_SAMPLES_MAX: usize = 8;

/// How sure a statement is: 0 (not at all) to 1 (certain). Never outside of that and never NaN, whatever it was made of.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct Confidence(f64);

impl Confidence {
    /// Nothing speaks for it.
    pub const NONE: Self = Self(0.0);
    /// There is no doubt.
    pub const CERTAIN: Self = Self(1.0);

    /// The nearest confidence to a number; 0 for NaN.
    pub fn new(value: f64) -> Self {
        Self(if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) })
    }

    /// The number, 0 to 1.
    pub fn value(self) -> f64 {
        self.0
    }

    /// The greater of two.
    #[must_use]
    pub fn or_greater(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// How sure it is that at least one of two independent statements holds.
    #[must_use]
    pub fn either(self, other: Self) -> Self {
        Self::new(1.0 - (1.0 - self.0) * (1.0 - other.0))
    }

    /// What is left of it when its source is doubted.
    #[must_use]
    pub fn doubted(self, doubt: Self) -> Self {
        Self::new(self.0 * (1.0 - doubt.0))
    }
}

impl From<f64> for Confidence {
    fn from(value: f64) -> Self {
        Self::new(value)
    }
}

impl From<Confidence> for f64 {
    fn from(confidence: Confidence) -> Self {
        confidence.0
    }
}

/// A layer of failure detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Layer {
    /// The operating system or the transport said so.
    OperatingSystem,
    /// Data is not acknowledged.
    Unacknowledged,
    /// What was expected did not arrive.
    Arrivals,
    /// Statistical process control of the latency.
    Control,
    /// Plain rules.
    Rules,
    /// Far from what is usual.
    Anomaly,
    /// Links over one interface or medium fell together.
    Correlation,
    /// Where a measure is heading.
    Trend,
}

/// The rule by which a layer came to its finding. What the samples are is said with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// The operating system or the transport reported the link's end; no samples.
    ReportedDown,
    /// Data waited longer than the time-out; samples: waited, time-out (ms).
    TimedOut,
    /// The silence fits an outage better than the link's own losses; samples: silent expected arrivals, ms of silence, learnt share lost.
    SilenceTooLong,
    /// A sample outside of mean ± 3 standard deviations; samples: the latest values, oldest first.
    ThreeSigma,
    /// Seven samples running in one direction; samples: those.
    RunOfSeven,
    /// Too many errors within a time; samples: errors, limit, window (ms).
    ErrorBurst,
    /// A sample far from the median, measured in median absolute deviations; samples: value, median, deviation.
    MedianDeviation,
    /// Links that share an interface or a medium fell within a moment; samples: how many fell, of how many.
    FellTogether,
    /// The trend meets its limit; samples: slope (units/s), limit, seconds until then.
    TrendMeetsLimit,
}

/// What one layer says about one link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The layer.
    pub layer: Layer,
    /// Its rule.
    pub rule: Rule,
    /// How sure it is.
    pub confidence: Confidence,
    /// The numbers behind it, at most [`FINDING_SAMPLES_MAX`]; what they are is said with the rule.
    pub samples: Vec<f64>,
}

impl Finding {
    /// A finding; of more than [`FINDING_SAMPLES_MAX`] samples the last are kept.
    pub fn new(layer: Layer, rule: Rule, confidence: Confidence, samples: &[f64]) -> Self {
        let kept = &samples[samples.len().saturating_sub(FINDING_SAMPLES_MAX)..];
        Self { layer, rule, confidence, samples: kept.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confidence_is_never_outside_of_0_to_1() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 2.0, 0.5] {
            let confidence = Confidence::new(value);
            assert!((0.0..=1.0).contains(&confidence.value()), "{value}");
            let read: Confidence = serde_json::from_str(&serde_json::to_string(&confidence).unwrap()).unwrap();
            assert_eq!(read, confidence);
        }
        let read: Confidence = serde_json::from_str("7.5").unwrap();
        assert_eq!(read, Confidence::CERTAIN);
    }

    #[test]
    fn independent_statements_add_up_and_doubt_takes_away() {
        let half = Confidence::new(0.5);
        assert_eq!(half.either(half), Confidence::new(0.75));
        assert_eq!(half.or_greater(Confidence::new(0.2)), half);
        assert_eq!(half.doubted(half), Confidence::new(0.25));
        assert_eq!(half.doubted(Confidence::CERTAIN), Confidence::NONE);
    }

    #[test]
    fn a_finding_keeps_the_last_samples() {
        let many: Vec<f64> = (0..20).map(f64::from).collect();
        let finding = Finding::new(Layer::Control, Rule::RunOfSeven, Confidence::NONE, &many);
        assert_eq!(finding.samples, many[12..]);
    }
}
