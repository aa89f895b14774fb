//! What messages need of a link, and what counts how much when links are scored by that.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, duration, size};
use crate::class::MessageClass;

/// What is set otherwise for single classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByClass<T> {
    /// For dice rolls.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub realtime: Option<T>,
    /// For bets.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub critical: Option<T>,
    /// For steady samples.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub streaming: Option<T>,
    /// For chat.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub background: Option<T>,
    /// For files.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub bulk: Option<T>,
}

const fn none<T>() -> Option<T> {
    None
}

impl<T> Default for ByClass<T> {
    fn default() -> Self {
        Self { realtime: None, critical: None, streaming: None, background: None, bulk: None }
    }
}

impl<T> ByClass<T> {
    /// What is set for a class.
    pub const fn of(&self, class: MessageClass) -> Option<&T> {
        match class {
            MessageClass::Realtime => self.realtime.as_ref(),
            MessageClass::Critical => self.critical.as_ref(),
            MessageClass::Streaming => self.streaming.as_ref(),
            MessageClass::Background => self.background.as_ref(),
            MessageClass::Bulk => self.bulk.as_ref(),
        }
    }

    /// The classes for which something is set, by the name of their key.
    fn each(&self) -> impl Iterator<Item = (&'static str, &T)> {
        let named = |class: MessageClass| Some((key_of(class), self.of(class)?));
        MessageClass::ALL.into_iter().filter_map(named)
    }
}

const fn key_of(class: MessageClass) -> &'static str {
    match class {
        MessageClass::Realtime => "realtime",
        MessageClass::Critical => "critical",
        MessageClass::Streaming => "streaming",
        MessageClass::Background => "background",
        MessageClass::Bulk => "bulk",
    }
}

/// `[session.requirements]`: what messages need of a link. One that misses a requirement is used only while no other that is not suspected
/// meets all. Limits other than the defaults bind every policy, the defaults `Weighted` and `QualityBased` alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequirementsConfig {
    /// Longest acceptable time to delivery.
    #[serde(with = "duration")]
    pub latency_max: Duration,
    /// Least acceptable bandwidth, in bytes a second.
    #[serde(with = "size")]
    pub bandwidth_min: u64,
    /// Least acceptable share of delivered samples, 0 to 1.
    pub reliability_min: f64,
    /// Least acceptable security, 0 to 1: 1 over transports that are secured themselves, 0.5 where only records are sealed.
    pub security_min: f64,
    /// All four for single classes, in place of those above: `[session.requirements.by_class.bulk]`.
    pub by_class: ByClass<Needs>,
}

/// The requirements of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Longest acceptable time to delivery.
    #[serde(with = "duration")]
    pub latency_max: Duration,
    /// Least acceptable bandwidth, in bytes a second.
    #[serde(with = "size")]
    pub bandwidth_min: u64,
    /// Least acceptable share of delivered samples, 0 to 1.
    pub reliability_min: f64,
    /// Least acceptable security, 0 to 1.
    #[serde(default)]
    pub security_min: f64,
}

impl RequirementsConfig {
    /// The requirements of a class.
    pub fn of(&self, class: MessageClass) -> Needs {
        let Self { latency_max, bandwidth_min, reliability_min, security_min, by_class } = *self;
        by_class.of(class).copied().unwrap_or(Needs { latency_max, bandwidth_min, reliability_min, security_min })
    }

    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let Self { latency_max, bandwidth_min, reliability_min, security_min, by_class } = *self;
        Needs { latency_max, bandwidth_min, reliability_min, security_min }.check("session.requirements", checks);
        for (class, needs) in by_class.each() {
            needs.check(&format!("session.requirements.by_class.{class}"), checks);
        }
    }
}

impl Needs {
    fn check(&self, section: &str, checks: &mut Checks) {
        let range = Duration::from_millis(1)..=Duration::from_secs(3600);
        checks.duration(&format!("{section}.latency_max"), self.latency_max, range);
        // Bandwidth is measured against it, so it is not 0.
        checks.size(&format!("{section}.bandwidth_min"), self.bandwidth_min, 1..=1 << 50);
        checks.number(&format!("{section}.reliability_min"), self.reliability_min, 0.0..=1.0);
        checks.number(&format!("{section}.security_min"), self.security_min, 0.0..=1.0);
    }
}

impl Default for RequirementsConfig {
    fn default() -> Self {
        Self {
            latency_max: Duration::from_millis(500),
            bandwidth_min: 16 << 10,
            reliability_min: 0.5,
            security_min: 0.0,
            by_class: ByClass::default(),
        }
    }
}

/// `[session.weights]`: how much each quality counts in the score by requirements, in proportion to each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WeightsConfig {
    /// A short time to delivery.
    pub latency: f64,
    /// Bandwidth.
    pub bandwidth: f64,
    /// The share that is delivered.
    pub reliability: f64,
    /// How little the delay moves, less the failures of late.
    pub stability: f64,
    /// How far the medium gets with its energy.
    pub power: f64,
    /// How little is under way.
    pub load: f64,
    /// How secure it is.
    pub security: f64,
    /// All seven for single classes, in place of those above: `[session.weights.by_class.bulk]`.
    pub by_class: ByClass<Weights>,
}

/// The weights of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// A short time to delivery.
    pub latency: f64,
    /// Bandwidth.
    pub bandwidth: f64,
    /// The share that is delivered.
    pub reliability: f64,
    /// How little the delay moves, less the failures of late.
    pub stability: f64,
    /// How far the medium gets with its energy.
    pub power: f64,
    /// How little is under way.
    pub load: f64,
    /// How secure it is.
    #[serde(default)]
    pub security: f64,
}

impl WeightsConfig {
    /// The weights of a class.
    pub fn of(&self, class: MessageClass) -> Weights {
        let Self { latency, bandwidth, reliability, stability, power, load, security, by_class } = *self;
        let general = Weights { latency, bandwidth, reliability, stability, power, load, security };
        by_class.of(class).copied().unwrap_or(general)
    }

    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let Self { latency, bandwidth, reliability, stability, power, load, security, by_class } = *self;
        Weights { latency, bandwidth, reliability, stability, power, load, security }.check("session.weights", checks);
        for (class, weights) in by_class.each() {
            weights.check(&format!("session.weights.by_class.{class}"), checks);
        }
    }
}

impl Weights {
    fn check(&self, section: &str, checks: &mut Checks) {
        let each = [
            ("latency", self.latency),
            ("bandwidth", self.bandwidth),
            ("reliability", self.reliability),
            ("stability", self.stability),
            ("power", self.power),
            ("load", self.load),
            ("security", self.security),
        ];
        for (name, weight) in each {
            checks.number(&format!("{section}.{name}"), weight, 0.0..=1_000.0);
        }
        let any = each.iter().any(|(_, weight)| *weight > 0.0);
        checks.ensure(section, any, "only zeros", "one weight at least is above 0");
    }
}

impl Default for WeightsConfig {
    fn default() -> Self {
        Self {
            latency: 0.30,
            bandwidth: 0.25,
            reliability: 0.20,
            stability: 0.15,
            power: 0.10,
            load: 0.0,
            security: 0.0,
            by_class: ByClass::default(),
        }
    }
}

/// Checks `[session.multipliers]`: what the score by requirements of a link is multiplied by, by the name of its transport; 1 for those that are
/// not named.
pub(super) fn check_multipliers(multipliers: &BTreeMap<String, f64>, checks: &mut Checks) {
    for (transport, factor) in multipliers {
        let key = format!("session.multipliers.{transport}");
        checks.number(&key, *factor, 0.0..=100.0);
        let named = !transport.is_empty() && !transport.contains(|c: char| c.is_ascii_uppercase());
        checks.ensure(&key, named, transport, "transports have lower-case names, as in tcp or quic");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::NodeConfig;
    use super::*;

    fn errors(change: impl FnOnce(&mut NodeConfig)) -> Vec<String> {
        let mut config = NodeConfig::default();
        change(&mut config);
        let wrong = config.check().err().unwrap_or_default();
        wrong.iter().map(|error| error.key().to_owned()).collect()
    }

    #[test]
    fn a_class_has_its_own_values_or_the_general_ones() {
        let text = r#"{"latency_max": "200ms", "by_class": {"bulk": {"latency_max": "5s", "bandwidth_min": "1MiB", "reliability_min": 0.1}}}"#;
        let config: RequirementsConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.of(MessageClass::Bulk).bandwidth_min, 1 << 20);
        assert_eq!(config.of(MessageClass::Realtime).latency_max, Duration::from_millis(200));
        assert_eq!(config.of(MessageClass::Realtime).bandwidth_min, 16 << 10);
        assert!(serde_json::from_str::<RequirementsConfig>(r#"{"by_class": {"files": {}}}"#).is_err());
        let half = r#"{"by_class": {"bulk": {"latency": 1.0}}}"#;
        assert!(serde_json::from_str::<WeightsConfig>(half).is_err(), "a class has all weights of its own");
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_key() {
        let needs = Needs { latency_max: Duration::ZERO, bandwidth_min: 1, reliability_min: 1.0, security_min: 0.0 };
        let wrong = errors(|config| config.session.requirements.by_class.bulk = Some(needs));
        assert_eq!(wrong, ["session.requirements.by_class.bulk.latency_max"]);
        let none = Weights {
            latency: 0.0,
            bandwidth: 0.0,
            reliability: 0.0,
            stability: 0.0,
            power: 0.0,
            load: 0.0,
            security: 0.0,
        };
        let wrong = errors(|config| config.session.weights.by_class.realtime = Some(none));
        assert_eq!(wrong, ["session.weights.by_class.realtime"]);
        assert_eq!(
            errors(|config| config.session.requirements.security_min = 1.1),
            ["session.requirements.security_min"]
        );
        assert_eq!(errors(|config| config.session.weights.power = -1.0), ["session.weights.power"]);
        assert_eq!(errors(|config| config.session.weights.power = f64::NAN), ["session.weights.power"]);
        let wrong = errors(|config| _ = config.session.multipliers.insert("TCP".into(), f64::INFINITY));
        assert_eq!(wrong, ["session.multipliers.TCP"; 2]);
    }

    #[test]
    fn steps_of_a_move_rise_to_the_whole() {
        for shares in [vec![], vec![0.5], vec![0.0, 1.0], vec![0.6, 0.3, 1.0], vec![0.5, f64::NAN, 1.0], vec![0.5, 2.0]]
        {
            let shown = format!("{shares:?}");
            let wrong = errors(|config| config.session.gradual.shares = shares);
            assert_eq!(wrong, ["session.gradual.shares"], "{shown}");
        }
        assert!(errors(|config| config.session.gradual.shares = vec![1.0]).is_empty());
        let wrong = errors(|config| config.session.gradual.step_max = Duration::from_millis(1));
        assert_eq!(wrong, ["session.gradual.step_max"]);
    }
}
