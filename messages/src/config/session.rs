//! How sessions behave: bounds, spares, probing, verdicts, damping.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::needs::check_multipliers;
use super::{Checks, GradualConfig, RequirementsConfig, WeightsConfig, duration, size};
use crate::class::{MessageClass, PolicyName};

/// `[session]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// Bytes of messages that may wait for one peer; beyond that `send` refuses or waits. More memory against fewer refusals.
    #[serde(with = "size")]
    pub queue_bytes: usize,
    /// Messages that may wait for one peer.
    pub queue_messages: usize,
    /// Bytes that may wait for one peer of what the nodes themselves tell each other (who is there, packets through the mesh). What
    /// finds no room is dropped.
    #[serde(with = "size")]
    pub datagram_bytes: usize,
    /// Bytes in one message; larger content goes through a stream.
    #[serde(with = "size")]
    pub message_bytes: usize,
    /// Bytes per channel that a peer may have sent and the application here not taken. The session's window is four times this. A fast
    /// link with a long delay needs at least its bandwidth-delay product.
    #[serde(with = "size")]
    pub channel_window: u32,
    /// Channels per session, open streams included.
    pub channels: usize,
    /// Bytes of messages that may wait in this node for all peers, to be sent or to be taken. As they fill up the node takes less
    /// and less: no new peers, then no patient messages, then urgent ones only. `0B`: no limit.
    #[serde(with = "size")]
    pub memory_bytes: u64,
    /// Messages of one peer that the application is given in a second, in the long run; as many at once after a quiet time. What
    /// comes beyond waits in the peer's window, and then with the peer. `0`: no limit.
    pub peer_messages_per_second: u64,
    /// The same in bytes. Both hold once more for what readers take from streams.
    #[serde(with = "size")]
    pub peer_bytes_per_second: u64,
    /// Records of one peer in a second that bring nothing: no message, no acknowledgement, no delivery. One that sends more of them
    /// than an honest one ever needs loses the link. `0`: no limit.
    pub peer_idle_records_per_second: u64,
    /// Links that are kept established to one peer.
    pub links: usize,
    /// Longest time an acknowledgement is held back. Detection of a dead link waits this much longer; below a millisecond it
    /// cannot be kept.
    #[serde(with = "duration")]
    pub ack_delay: Duration,
    /// How often an idle link of an idle session is probed.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// How often an idle link is probed while its session has traffic on another.
    #[serde(with = "duration")]
    pub probe: Duration,
    /// How long a link that carries nothing may be silent before it is called failing, and the most that is borne of one that carries
    /// messages (the messages go over others long before). Longer: fewer verdicts that were wrong, and spares are found dead later.
    #[serde(with = "duration")]
    pub spare_patience: Duration,
    /// How long a suspected link is waited for before it is closed, when another one carries the traffic.
    #[serde(with = "duration")]
    pub failover_timeout: Duration,
    /// The same when there is no other. Beyond it the link is given up and dialled anew.
    #[serde(with = "duration")]
    pub last_link_timeout: Duration,
    /// How long a session lives without any link; then its receipts become final. `0s`: for ever.
    #[serde(with = "duration")]
    pub peer_lost_after: Duration,
    /// Bytes of unacknowledged messages that are copied to another link at the first suspicion.
    #[serde(with = "size")]
    pub hedge_bytes: usize,
    /// Bytes in flight per link at most.
    #[serde(with = "size")]
    pub in_flight_bytes: usize,
    /// The queueing delay that data of ours may add to a link: what a dice roll waits behind a file.
    #[serde(with = "duration")]
    pub queue_delay: Duration,
    /// How much better another link's score has to be before traffic moves to it, as a share of the present one's.
    pub switch_margin: f64,
    /// How long a choice of link stands at least, failures aside.
    #[serde(with = "duration")]
    pub switch_dwell: Duration,
    /// In what time the memory of a link's failure halves.
    #[serde(with = "duration")]
    pub penalty_half_life: Duration,
    /// From this probability on that a link fails within seconds, traffic leaves it beforehand, where another is there. `1`: never.
    pub leave_above: f64,
    /// How traffic moves to another link in steps.
    pub gradual: GradualConfig,
    /// The policy of each class.
    pub policies: ClassPolicies,
    /// What messages need of a link.
    pub requirements: RequirementsConfig,
    /// What counts how much in the score by requirements.
    pub weights: WeightsConfig,
    /// What that score is multiplied by, by the name of the transport; 1 for those that are not named.
    pub multipliers: BTreeMap<String, f64>,
}

/// `[session.policies]`: which rule chooses the link, by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassPolicies {
    /// For dice rolls.
    pub realtime: PolicyName,
    /// For bets.
    pub critical: PolicyName,
    /// For steady samples.
    pub streaming: PolicyName,
    /// For chat.
    pub background: PolicyName,
    /// For files.
    pub bulk: PolicyName,
}

impl ClassPolicies {
    /// The policy of a class.
    pub const fn of(&self, class: MessageClass) -> PolicyName {
        match class {
            MessageClass::Realtime => self.realtime,
            MessageClass::Critical => self.critical,
            MessageClass::Streaming => self.streaming,
            MessageClass::Background => self.background,
            MessageClass::Bulk => self.bulk,
        }
    }
}

impl Default for ClassPolicies {
    fn default() -> Self {
        Self {
            realtime: PolicyName::FastestFirst,
            critical: PolicyName::FastestFirst,
            streaming: PolicyName::LoadBalanced,
            background: PolicyName::FastestFirst,
            bulk: PolicyName::LoadBalanced,
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            queue_bytes: 16 << 20,
            queue_messages: 262_144,
            datagram_bytes: 256 << 10,
            message_bytes: 1 << 20,
            channel_window: 8 << 20,
            channels: 256,
            memory_bytes: 1 << 30,
            peer_messages_per_second: 0,
            peer_bytes_per_second: 0,
            peer_idle_records_per_second: 10_000,
            links: 4,
            ack_delay: Duration::from_millis(2),
            heartbeat: Duration::from_secs(5),
            probe: Duration::from_millis(500),
            spare_patience: Duration::from_secs(1),
            failover_timeout: Duration::from_secs(5),
            last_link_timeout: Duration::from_secs(15),
            peer_lost_after: Duration::from_secs(300),
            hedge_bytes: 16 << 10,
            in_flight_bytes: 4 << 20,
            queue_delay: Duration::from_millis(10),
            switch_margin: 0.15,
            switch_dwell: Duration::from_secs(1),
            penalty_half_life: Duration::from_secs(20),
            leave_above: 0.8,
            gradual: GradualConfig::default(),
            policies: ClassPolicies::default(),
            requirements: RequirementsConfig::default(),
            weights: WeightsConfig::default(),
            multipliers: BTreeMap::new(),
        }
    }
}

impl SessionConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let ms = Duration::from_millis;
        let hour = Duration::from_secs(3600);
        checks.size("session.queue_bytes", self.queue_bytes as u64, 64 << 10..=4 << 30);
        checks.number("session.queue_messages", self.queue_messages, 1..=1 << 24);
        checks.size("session.datagram_bytes", self.datagram_bytes as u64, 32 << 10..=64 << 20);
        checks.size("session.message_bytes", self.message_bytes as u64, 1 << 10..=64 << 20);
        checks.size("session.channel_window", u64::from(self.channel_window), 64 << 10..=1 << 30);
        checks.number("session.channels", self.channels, 1..=65_536);
        checks.size("session.memory_bytes", self.memory_bytes, 0..=1 << 50);
        checks.number("session.peer_messages_per_second", self.peer_messages_per_second, 0..=1 << 40);
        checks.size("session.peer_bytes_per_second", self.peer_bytes_per_second, 0..=1 << 50);
        checks.number("session.peer_idle_records_per_second", self.peer_idle_records_per_second, 0..=1 << 40);
        checks.number("session.links", self.links, 1..=16);
        checks.duration("session.ack_delay", self.ack_delay, ms(1)..=ms(10));
        checks.duration("session.heartbeat", self.heartbeat, ms(100)..=hour);
        checks.duration("session.probe", self.probe, ms(50)..=hour);
        checks.duration("session.spare_patience", self.spare_patience, ms(15)..=hour);
        checks.duration("session.failover_timeout", self.failover_timeout, ms(100)..=hour);
        checks.duration("session.last_link_timeout", self.last_link_timeout, ms(100)..=hour);
        checks.duration("session.peer_lost_after", self.peer_lost_after, Duration::ZERO..=hour * 24 * 365);
        checks.size("session.hedge_bytes", self.hedge_bytes as u64, 0..=1 << 20);
        checks.size("session.in_flight_bytes", self.in_flight_bytes as u64, 16 << 10..=256 << 20);
        checks.duration("session.queue_delay", self.queue_delay, ms(1)..=ms(1000));
        checks.number("session.switch_margin", self.switch_margin, 0.0..=10.0);
        checks.duration("session.switch_dwell", self.switch_dwell, Duration::ZERO..=hour);
        checks.number("session.leave_above", self.leave_above, 0.0..=1.0);
        checks.duration("session.penalty_half_life", self.penalty_half_life, ms(100)..=hour);
        self.gradual.check(checks);
        self.requirements.check(checks);
        self.weights.check(checks);
        check_multipliers(&self.multipliers, checks);
    }
}
