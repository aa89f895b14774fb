//! Who is there: how often members are asked, how long a suspicion waits, and what a group may cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, duration};

/// Section `[membership]`. A change needs a restart. All members of a group should have the same values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MembershipConfig {
    /// How often a member is asked whether it is there: one of them, each in its turn. Shorter: the dead are found sooner, and every node
    /// sends more. Default: 1 s.
    #[serde(with = "duration")]
    pub probe_interval: Duration,
    /// How long its answer is waited for before others are asked to try; the rest of the interval is for them, so this has to be less than
    /// half of it. More than nearly all round trips take. Default: 400 ms.
    #[serde(with = "duration")]
    pub probe_timeout: Duration,
    /// How many others are asked to try a member that did not answer. Default: 3.
    pub helpers: usize,
    /// The shortest time between suspicion and exclusion, in probe intervals, for up to ten members; it grows with the decimal logarithm of
    /// their number. It has to be longer than a healthy node may be stopped. Default: 5.
    pub suspicion_min: u32,
    /// The longest such time, as a multiple of the shortest. So long an accusation waits that nobody confirms. Default: 6.
    pub suspicion_max: u32,
    /// How many others have to confirm an accusation until it waits no longer than the shortest time. Default: 3.
    pub confirmations: usize,
    /// How many times slower a node may become that has reason to doubt itself: 1 to turn this off. Default: 9.
    pub doubt_max: u32,
    /// How late a timer has to fire to say that the node was not running. Default: 150 ms.
    #[serde(with = "duration")]
    pub late_tolerance: Duration,
    /// How often news is passed on while there is any. Default: 200 ms.
    #[serde(with = "duration")]
    pub gossip_interval: Duration,
    /// To how many members at once. Default: 3.
    pub gossip_members: usize,
    /// How often one piece of news is passed on by each node, times the decimal logarithm of the number of members. Default: 4.
    pub gossip_times: u32,
    /// How often a part of the list of members is compared with that of another one. Default: 15 s.
    #[serde(with = "duration")]
    pub sync_interval: Duration,
    /// How often one of the excluded members is tried again, and how often joining is tried. Default: 2 s.
    #[serde(with = "duration")]
    pub retry_interval: Duration,
    /// How long an excluded member is remembered, and tried again. Default: 1 h.
    #[serde(with = "duration")]
    pub forget_after: Duration,
    /// Members at most, excluded ones that are remembered counted by themselves. Half of the places are kept for those that were heard
    /// themselves. Default: 1024.
    pub members_max: usize,
    /// Bytes of one packet at most. Default: 1200.
    pub packet_bytes: usize,
    /// News at most that waits to be passed on. Default: 256.
    pub news_max: usize,
}

impl Default for MembershipConfig {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(400),
            helpers: 3,
            suspicion_min: 5,
            suspicion_max: 6,
            confirmations: 3,
            doubt_max: 9,
            late_tolerance: Duration::from_millis(150),
            gossip_interval: Duration::from_millis(200),
            gossip_members: 3,
            gossip_times: 4,
            sync_interval: Duration::from_secs(15),
            retry_interval: Duration::from_secs(2),
            forget_after: Duration::from_secs(3600),
            members_max: 1024,
            packet_bytes: 1200,
            news_max: 256,
        }
    }
}

impl MembershipConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let (ms, hour) = (Duration::from_millis, Duration::from_secs(3600));
        checks.duration("membership.probe_interval", self.probe_interval, ms(20)..=hour);
        checks.duration("membership.probe_timeout", self.probe_timeout, ms(5)..=hour);
        checks.number("membership.helpers", self.helpers, 1..=16);
        checks.number("membership.suspicion_min", self.suspicion_min, 1..=1000);
        checks.number("membership.suspicion_max", self.suspicion_max, 1..=100);
        checks.number("membership.confirmations", self.confirmations, 0..=8);
        checks.number("membership.doubt_max", self.doubt_max, 1..=100);
        checks.duration("membership.late_tolerance", self.late_tolerance, ms(1)..=hour);
        checks.duration("membership.gossip_interval", self.gossip_interval, ms(5)..=hour);
        checks.number("membership.gossip_members", self.gossip_members, 1..=16);
        checks.number("membership.gossip_times", self.gossip_times, 1..=50);
        checks.duration("membership.sync_interval", self.sync_interval, ms(100)..=hour);
        checks.duration("membership.retry_interval", self.retry_interval, ms(20)..=hour);
        checks.duration("membership.forget_after", self.forget_after, Duration::from_secs(1)..=hour * 24 * 7);
        checks.number("membership.members_max", self.members_max, 2..=65_536);
        checks.number("membership.packet_bytes", self.packet_bytes, 512..=1200);
        checks.number("membership.news_max", self.news_max, 8..=65_536);
        let room = self.probe_timeout * 2 < self.probe_interval;
        let shown = super::print_duration(self.probe_timeout);
        checks.ensure(
            "membership.probe_timeout",
            room,
            &shown,
            "it has to be less than half of membership.probe_interval",
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_that_is_waited_for_longer_than_half_the_interval_is_refused() {
        let mut checks = Checks::default();
        MembershipConfig::default().check(&mut checks);
        assert_eq!(checks.finish(), Ok(()));
        let mut checks = Checks::default();
        let config = MembershipConfig { probe_timeout: Duration::from_millis(500), ..MembershipConfig::default() };
        config.check(&mut checks);
        assert_eq!(checks.finish().unwrap_err()[0].key(), "membership.probe_timeout");
    }
}
