//! What a group does when part of it is out of reach: when that is said, who may go on, how it comes together again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, duration};

/// Section `[partition]`. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PartitionConfig {
    /// Participants that have to be in reach, whatever the share says. Default: 2.
    pub min_participants: usize,
    /// The share of the participants, in percent, that has to be in reach, in groups of five and more; below five it is a plain majority. Default: 67.
    pub reachable_percent: u32,
    /// How long a peer may be out of reach before the group is suspected to be split. Longer: fewer false alarms; shorter: earlier ones. Default: 2 s.
    #[serde(with = "duration")]
    pub suspect_after: Duration,
    /// How long a suspicion has to stand unchanged before it is acted upon, in a group of two. Default: 3 s.
    #[serde(with = "duration")]
    pub stable: Duration,
    /// What is added to `stable` for each doubling of the group: larger groups take longer to agree on who is out of reach. Default: 1 s.
    #[serde(with = "duration")]
    pub stable_step: Duration,
    /// How long a view of another node counts. Default: 10 s.
    #[serde(with = "duration")]
    pub view_expiry: Duration,
    /// How long a grant lasts, and so how long a side that has lost its majority stays active at most. Longer: more losses in a row are
    /// borne; shorter: the other side takes over sooner. Default: 3 s.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// How often a lease is renewed. At most a third of `lease`. Default: 500 ms.
    #[serde(with = "duration")]
    pub renew: Duration,
    /// How long those who are asked for a lease have to answer. Default: 1 s.
    #[serde(with = "duration")]
    pub answer: Duration,
    /// Over which time candidates for a lease begin, one after another. Default: 1 s.
    #[serde(with = "duration")]
    pub spread: Duration,
    /// How far clocks may be off, in parts per million. Leases are safe while no clock is farther off. Default: 10 000.
    pub clock_drift_ppm: u32,
    /// Whether the participant with the smallest id decides when there are two halves. Without it both are paused. Default: true.
    pub tie_breaker: bool,
    /// How long one attempt of a strategy may take. Default: 30 s.
    #[serde(with = "duration")]
    pub attempt_timeout: Duration,
    /// Attempts of one strategy before the next one is tried. Default: 3.
    pub attempts: u32,
    /// How long each step of a recovery may take. Default: 10 s.
    #[serde(with = "duration")]
    pub step_timeout: Duration,
    /// Proofs of misbehaviour of one peer after which it is excluded. `0`: never. The same on all participants. Default: 3.
    pub strikes: u32,
    /// Proofs kept of one peer. Default: 16.
    pub evidence_max: usize,
}

impl Default for PartitionConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            min_participants: 2,
            reachable_percent: 67,
            suspect_after: ms(2_000),
            stable: ms(3_000),
            stable_step: ms(1_000),
            view_expiry: ms(10_000),
            lease: ms(3_000),
            renew: ms(500),
            answer: ms(1_000),
            spread: ms(1_000),
            clock_drift_ppm: 10_000,
            tie_breaker: true,
            attempt_timeout: ms(30_000),
            attempts: 3,
            step_timeout: ms(10_000),
            strikes: 3,
            evidence_max: 16,
        }
    }
}

impl PartitionConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let (ms, hour) = (Duration::from_millis, Duration::from_secs(3600));
        checks.number("partition.min_participants", self.min_participants, 1..=1024);
        checks.number("partition.reachable_percent", self.reachable_percent, 1..=100);
        checks.duration("partition.suspect_after", self.suspect_after, ms(100)..=hour);
        checks.duration("partition.stable", self.stable, ms(100)..=hour);
        checks.duration("partition.stable_step", self.stable_step, Duration::ZERO..=hour);
        checks.duration("partition.view_expiry", self.view_expiry, ms(500)..=hour);
        checks.duration("partition.lease", self.lease, ms(100)..=hour);
        checks.duration("partition.renew", self.renew, ms(10)..=hour);
        checks.duration("partition.answer", self.answer, ms(10)..=hour);
        checks.duration("partition.spread", self.spread, ms(10)..=hour);
        checks.number("partition.clock_drift_ppm", self.clock_drift_ppm, 0..=200_000);
        checks.duration("partition.attempt_timeout", self.attempt_timeout, ms(100)..=hour);
        checks.number("partition.attempts", self.attempts, 1..=100);
        checks.duration("partition.step_timeout", self.step_timeout, ms(100)..=hour);
        checks.number("partition.strikes", self.strikes, 0..=1000);
        checks.number("partition.evidence_max", self.evidence_max, 1..=1024);
        let often = self.renew * 3 <= self.lease;
        let shown = super::print_duration(self.renew);
        checks.ensure("partition.renew", often, &shown, "it has to be at most a third of partition.lease");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lease_has_to_be_renewed_often_enough() {
        let mut checks = Checks::default();
        PartitionConfig { renew: Duration::from_millis(1_001), ..PartitionConfig::default() }.check(&mut checks);
        let errors = checks.finish().unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].key(), "partition.renew");
    }
}
