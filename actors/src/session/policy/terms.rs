//! The parts that scores are made of, each 0 to 1, `None` as long as it is not measured. Pure.

use bowline_messages::MessageClass;
use bowline_messages::config::{self, RequirementsConfig, WeightsConfig};

use super::{Candidate, measured};
use crate::health::quality::power_efficiency;

/// What messages need of a link. A link that misses one is used only while no other that is not suspected meets all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requirements {
    /// Longest acceptable time to delivery, in seconds.
    pub latency_max: f64,
    /// Least acceptable bandwidth, in bytes a second.
    pub bandwidth_min: f64,
    /// Least acceptable share of delivered samples.
    pub reliability_min: f64,
    /// Least acceptable security, 0 to 1.
    pub security_min: f64,
}

impl Default for Requirements {
    fn default() -> Self {
        Self::REFERENCE
    }
}

impl From<config::Needs> for Requirements {
    fn from(needs: config::Needs) -> Self {
        Self {
            latency_max: needs.latency_max.as_secs_f64(),
            bandwidth_min: needs.bandwidth_min as f64,
            reliability_min: needs.reliability_min,
            security_min: needs.security_min,
        }
    }
}

/// How much each quality counts in the score by requirements: latency, bandwidth, reliability, stability, power, load, security.
pub type Weights = [f64; 7];

/// The reference weights.
pub const REFERENCE_WEIGHTS: Weights = [0.30, 0.25, 0.20, 0.15, 0.10, 0.0, 0.0];

/// What the messages of one class need, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Need {
    /// The requirements.
    pub requirements: Requirements,
    /// The weights.
    pub weights: Weights,
}

/// What the messages of each class need.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// None: the reference for all. Thousands of sessions have that, and pay for a null pointer.
    by_class: Option<Box<[Need; MessageClass::ALL.len()]>>,
}

impl Needs {
    /// As configured.
    pub fn new(requirements: &RequirementsConfig, weights: &WeightsConfig) -> Self {
        let need = |class| {
            let config::Weights { latency, bandwidth, reliability, stability, power, load, security } =
                weights.of(class);
            let weights = [latency, bandwidth, reliability, stability, power, load, security];
            Need { requirements: requirements.of(class).into(), weights }
        };
        let by_class = MessageClass::ALL.map(need);
        let usual = by_class.iter().all(|need| *need == Need::REFERENCE);
        Self { by_class: (!usual).then(|| Box::new(by_class)) }
    }

    /// The same for every class.
    #[cfg(test)]
    pub(super) fn of_all(requirements: Requirements) -> Self {
        let need = Need { requirements, ..Need::REFERENCE };
        Self { by_class: Some(Box::new([need; MessageClass::ALL.len()])) }
    }

    /// Those of a class.
    pub fn of(&self, class: MessageClass) -> &Need {
        self.by_class.as_ref().and_then(|all| all.get(class.index())).unwrap_or(&Need::REFERENCE)
    }
}

impl Need {
    /// Where nothing is configured.
    pub const REFERENCE: Self = Self { requirements: Requirements::REFERENCE, weights: REFERENCE_WEIGHTS };
}

impl Requirements {
    /// Where nothing is configured.
    pub const REFERENCE: Self =
        Self { latency_max: 0.5, bandwidth_min: 16_384.0, reliability_min: 0.5, security_min: 0.0 };

    /// Those that bind every policy: limits that are other than the reference, so that somebody asked for them. The reference is what scores
    /// are measured against; policies that were chosen on recorded links know nothing of it and do worse with it.
    #[must_use]
    pub fn set(self) -> Self {
        let or = |set: f64, reference: f64, none: f64| if set == reference { none } else { set };
        Self {
            latency_max: or(self.latency_max, Self::REFERENCE.latency_max, f64::INFINITY),
            bandwidth_min: or(self.bandwidth_min, Self::REFERENCE.bandwidth_min, 0.0),
            reliability_min: or(self.reliability_min, Self::REFERENCE.reliability_min, 0.0),
            security_min: or(self.security_min, Self::REFERENCE.security_min, 0.0),
        }
    }

    /// Whether something that was measured misses a requirement.
    pub fn missed_by(&self, candidate: &Candidate) -> bool {
        candidate.latency().is_some_and(|seconds| seconds > self.latency_max)
            || measured(candidate.bandwidth)
                .is_some_and(|rate| rate < self.bandwidth_min && !candidate.bandwidth_is_old)
            || share(candidate.reliability).is_some_and(|share| share < self.reliability_min)
            || share(candidate.security).is_some_and(|security| security < self.security_min)
    }

    /// Whether a link that is not suspected meets all of them, as far as it was measured.
    pub fn are_met(&self, links: &[Candidate]) -> bool {
        links.iter().any(|link| !link.suspected && !self.missed_by(link))
    }
}

/// How a link is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It failed.
    Failed,
    /// It is suspected.
    Critical,
    /// Its quality declined.
    Degraded,
    /// Nothing is wrong with it now; it failed lately or is not measured.
    Good,
    /// Nothing is wrong with it.
    Optimal,
}

impl Health {
    /// Its part of a score.
    pub const fn value(self) -> f64 {
        match self {
            Self::Failed => 0.0,
            Self::Critical => 0.25,
            Self::Degraded => 0.5,
            Self::Good => 0.75,
            Self::Optimal => 1.0,
        }
    }
}

/// A share, if it is one.
pub(super) fn share(value: Option<f64>) -> Option<f64> {
    measured(value).map(|value| value.min(1.0))
}

/// 1 − average / max, 0 when above max.
pub(super) fn latency(candidate: &Candidate, needs: &Requirements) -> Option<f64> {
    let seconds = candidate.latency()?;
    Some(if seconds < needs.latency_max { 1.0 - seconds / needs.latency_max } else { 0.0 })
}

/// min(available / min, 2) / 2, 0 when below min.
pub(super) fn bandwidth(candidate: &Candidate, needs: &Requirements) -> Option<f64> {
    let rate = measured(candidate.bandwidth)?;
    Some(if rate < needs.bandwidth_min { 0.0 } else { (rate / needs.bandwidth_min).min(2.0) / 2.0 })
}

/// Stability less 0.1 for each failure, at most 0.5.
pub(super) fn stability(candidate: &Candidate) -> Option<f64> {
    let stability = share(candidate.stability)?;
    Some((stability - (0.1 * candidate.failures()).min(0.5)).max(0.0))
}

/// 1 − load.
pub(super) fn idle(candidate: &Candidate) -> Option<f64> {
    share(candidate.load).map(|load| 1.0 - load)
}

/// How well a link suits a class: by what that class waits for.
pub(super) fn suitability(candidate: &Candidate, class: MessageClass, needs: &Requirements) -> Option<f64> {
    match class {
        MessageClass::Realtime => latency(candidate, needs),
        MessageClass::Critical => share(candidate.reliability),
        MessageClass::Streaming => stability(candidate),
        MessageClass::Background => power_efficiency(candidate.medium),
        MessageClass::Bulk => bandwidth(candidate, needs),
    }
}

/// The mean of what was measured, by weight; `None` when nothing was. What was not measured has no say.
pub fn weighted_mean<const N: usize>(terms: [(f64, Option<f64>); N]) -> Option<f64> {
    let known = |(weight, term): &(f64, Option<f64>)| term.map(|term| (*weight, weight * term));
    let (weights, sum) = terms.iter().filter_map(known).fold((0.0, 0.0), |sum, x| (sum.0 + x.0, sum.1 + x.1));
    (weights > 0.0).then(|| (sum / weights).clamp(0.0, 1.0))
}
