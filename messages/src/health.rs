//! What is said about the health of links: how sure, which layer, which rule, which samples; and what sessions and the monitors of
//! transports say to each other about it.

use std::fmt;
use std::time::Duration;

use actix::{Message, Recipient};
use serde::{Deserialize, Serialize};

use crate::id::{LinkId, PeerId};
use crate::link::{LinkState, Medium};

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
    /// The peer said so, over another link.
    Peer,
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
    /// The peer reported the link dead or suspected; no samples.
    PeerReported,
    /// Data waited longer than the time-out; samples: waited, time-out (ms).
    TimedOut,
    /// Probes were answered while data waited longer than the time-out; samples: waited, time-out (ms).
    Stalled,
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

/// What was measured of a link, over its last 100 samples. `None` always means "not measured yet".
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Quality {
    /// The median latency, in milliseconds.
    pub latency_ms: Option<f64>,
    /// What it carries at best, in bytes a second: the 90th percentile of what was measured.
    pub bandwidth: Option<f64>,
    /// The share of what was sent that was lost, 0 to 1.
    pub loss: Option<f64>,
    /// The mean difference between one latency and the next, in milliseconds (RFC 3550 §6.4.1, unsmoothed).
    pub jitter_ms: Option<f64>,
    /// The share that was delivered, 0 to 1, counting what was never seen as half a failure.
    pub reliability: Option<f64>,
    /// How steady the latency is, 0 to 1: 1 without scatter, a half when it scatters by its own size.
    pub stability: Option<f64>,
    /// How little energy its medium needs, 0 to 1; none when the medium is not known.
    pub power_efficiency: Option<f64>,
    /// How many samples are behind this, at most 100.
    pub samples: usize,
}

/// What to do about a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Advice {
    /// Nothing: it is as it usually is.
    #[default]
    Keep,
    /// It is worse than usual: it counts as degraded.
    Mistrust,
    /// It is about to fail: traffic is better moved away before it does.
    Leave,
}

/// Where a link is heading.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Outlook {
    /// The probability that it fails within the monitor's horizon.
    pub probability: Confidence,
    /// In how many seconds from now, if that can be said.
    pub seconds: Option<f64>,
}

/// Another link of the same session, as something that traffic could go over instead.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// Its number.
    pub id: LinkId,
    /// Where it is in its life.
    pub condition: LinkState,
    /// Its score for an urgent message under the policy in force, 0 (worst) to 1; `None`: not measured.
    pub score: Option<f64>,
}

/// Why something was concluded about a link, and what else there was.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// How sure the conclusion is.
    pub confidence: Confidence,
    /// How much the node doubted itself; the confidence is what is left after that.
    pub doubt: Confidence,
    /// What each layer said, the surest first.
    pub findings: Vec<Finding>,
    /// The other links of the session.
    pub alternatives: Vec<Alternative>,
}

/// A link of this node: numbers of links are unique within their session only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkName {
    /// With whom the session is.
    pub peer: PeerId,
    /// The link's number in it.
    pub link: LinkId,
}

/// What links have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Shared {
    /// A network interface of this machine, by name.
    Interface(String),
    /// A medium, over whatever interfaces.
    Medium(Medium),
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Medium(medium) => write!(f, "medium {medium:?}"),
        }
    }
}

/// One round trip that was measured on a link, or missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// How long before the report.
    pub ago: Duration,
    /// How long it took; `None`: the answer did not come in time.
    pub took: Option<Duration>,
}

/// What a session saw of one link since its last report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkObserved {
    /// The link.
    pub link: LinkId,
    /// The interface it runs over, if known.
    pub interface: Option<String>,
    /// What that is made of.
    pub medium: Medium,
    /// Some of its round trips, oldest first, evenly spread; a bounded number.
    pub round_trips: Vec<RoundTrip>,
    /// Whether something waits for an acknowledgement.
    pub waiting: bool,
    /// Records that arrived and could not be opened.
    pub errors: u32,
    /// The rate at which the peer acknowledges, in bytes a second, while the link was busy.
    pub rate: Option<f64>,
}

/// What became of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Turn {
    /// It stopped to carry, not on purpose.
    Fell,
    /// It carries after all.
    Rose,
    /// It is gone for good.
    Gone,
}

/// That something became of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkTurn {
    /// The link.
    pub link: LinkId,
    /// The interface it runs over, if known.
    pub interface: Option<String>,
    /// What that is made of.
    pub medium: Medium,
    /// What became of it.
    pub turn: Turn,
}

/// What a session saw of its links over one transport. From the session actor to the health monitor of that transport, at the pace of
/// metrics while there is traffic, never for a message.
#[derive(Debug, Clone, PartialEq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct HealthReport {
    /// With whom the session is.
    pub peer: PeerId,
    /// What was seen of each link.
    pub observed: Vec<LinkObserved>,
    /// What became of links, in the order in which it happened.
    pub turns: Vec<LinkTurn>,
    /// Who wants to know what the monitor makes of it.
    #[serde(skip)]
    pub reply: Option<Recipient<LinkOpinion>>,
}

/// What the monitor of a transport makes of a link. To its session actor: when the advice changes, and at the pace of metrics.
#[derive(Debug, Clone, PartialEq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct LinkOpinion {
    /// The link.
    pub link: LinkId,
    /// What to do.
    pub advice: Advice,
    /// How sure it is that the link is worse than usual.
    pub degrading: Confidence,
    /// How sure it is that the link does not carry.
    pub unusable: Confidence,
    /// Where it is heading.
    pub outlook: Outlook,
    /// How much the node doubts itself; what is above is left after that.
    pub doubt: Confidence,
    /// What each layer says, the surest first.
    pub findings: Vec<Finding>,
    /// What was measured.
    pub quality: Quality,
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
