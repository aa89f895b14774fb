//! Limits on connections that have not proven who they are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Checks;

/// Section `[limits]`: what strangers may cost. All are checked before any expensive work. A change needs a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Inbound connections in their handshake, per transport. Default: 100.
    pub unproven_total: usize,
    /// Inbound connections in their handshake, per source (an IPv4 address or an IPv6 /64). Default: 3.
    pub unproven_per_source: usize,
    /// New inbound connections a minute, per source. Default: 10.
    pub per_source_per_minute: usize,
    /// How long a source is turned away after a failed attempt. Default: 60 s.
    #[serde(with = "super::duration")]
    pub cool_down: Duration,
    /// How long attempts are remembered; at least a minute, because rates are counted over one. Default: 5 min.
    #[serde(with = "super::duration")]
    pub remember: Duration,
    /// How often forgotten attempts are swept out. Default: 1 min.
    #[serde(with = "super::duration")]
    pub sweep: Duration,
    /// Sources that are remembered at most; at the bound the one that was quiet for longest is forgotten, so that a flood from
    /// many sources costs memory for this many and keeps nobody else out. Default: 10,000.
    pub sources_max: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            unproven_total: 100,
            unproven_per_source: 3,
            per_source_per_minute: 10,
            cool_down: Duration::from_secs(60),
            remember: Duration::from_secs(300),
            sweep: Duration::from_secs(60),
            sources_max: 10_000,
        }
    }
}

impl LimitsConfig {
    /// Limits that do not get in the way: for benches, demonstrations and simulations, where every connection comes from one
    /// source and nobody is a stranger.
    pub fn unlimited() -> Self {
        Self {
            unproven_total: 100_000,
            unproven_per_source: 100_000,
            per_source_per_minute: 1_000_000,
            cool_down: Duration::ZERO,
            ..Self::default()
        }
    }

    pub(super) fn check(&self, checks: &mut Checks) {
        checks.number("limits.unproven_total", self.unproven_total, 1..=100_000);
        checks.number("limits.unproven_per_source", self.unproven_per_source, 1..=100_000);
        checks.number("limits.per_source_per_minute", self.per_source_per_minute, 1..=1_000_000);
        checks.duration("limits.cool_down", self.cool_down, Duration::ZERO..=Duration::from_secs(86_400));
        checks.duration("limits.remember", self.remember, Duration::from_secs(60)..=Duration::from_secs(86_400));
        checks.duration("limits.sweep", self.sweep, Duration::from_secs(1)..=Duration::from_secs(3_600));
        checks.number("limits.sources_max", self.sources_max, 16..=1_000_000);
    }
}
