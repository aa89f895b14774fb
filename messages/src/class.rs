//! What the application says about a message: its class, how it is to be delivered, and the policy that chooses its link.

use serde::{Deserialize, Serialize};

/// What kind of message this is. Each class has its own queue, its own lane where the link has lanes, a weight in
/// the scheduler and a policy that chooses its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum MessageClass {
    /// Latency decides: a dice roll.
    Realtime,
    /// Must arrive, soon: a bet. The default.
    #[default]
    Critical,
    /// Steady bandwidth: a stream of samples.
    Streaming,
    /// May wait a little: chat.
    Background,
    /// Large and patient: state synchronisation, files.
    Bulk,
}

impl MessageClass {
    /// Every class, most urgent first.
    pub const ALL: [Self; 5] = [Self::Realtime, Self::Critical, Self::Streaming, Self::Background, Self::Bulk];

    /// Position in [`MessageClass::ALL`]: 0 is the most urgent. Also its number on the wire and its lane.
    pub const fn index(self) -> usize {
        match self {
            Self::Realtime => 0,
            Self::Critical => 1,
            Self::Streaming => 2,
            Self::Background => 3,
            Self::Bulk => 4,
        }
    }

    /// The class with this number, if there is one.
    pub fn from_index(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }
}

/// What is promised about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Delivery {
    /// Exactly once, in order within its channel. The default.
    #[default]
    ExactlyOnce,
    /// Sent once and never again: when its link dies under it, it is skipped and its receipt says `unknown`.
    AtMostOnce,
    /// Replaced by the next message of the same channel as long as it has not been put on a wire; never sent again.
    LatestOnly,
}

/// Which rule chooses the link for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyName {
    /// The link with the smallest expected time to delivery. The default.
    FastestFirst,
    /// The link that loses least.
    MostReliable,
    /// The link that costs least energy for a message of this size.
    EnergyEfficient,
    /// Spread over all usable links in proportion to what each can carry.
    LoadBalanced,
    /// The link with the highest sum of its qualities by weight, among those that meet the requirements.
    Weighted,
    /// Health first, then performance, load, and what suits the class.
    Priority,
    /// A copy on each of the two best links; the receiver delivers one.
    Redundant,
    /// The most secure link.
    Secure,
    /// Learns by trying: the highest upper confidence bound.
    Ucb1,
    /// Learns by trying: Thompson sampling.
    Thompson,
    /// Learns by trying, and forgets: for links that change.
    Discounted,
    /// Plans ahead: a Markov decision process over the links' levels of quality.
    Mdp,
    /// One link after the other.
    RoundRobin,
    /// One link after the other, each in proportion to its bandwidth.
    WeightedRoundRobin,
    /// The link on which least is under way.
    LeastConnections,
    /// One link after the other, each in proportion to its quality.
    QualityBased,
    /// Shares that an optimiser finds: least latency within limits on bandwidth, latency and reliability.
    PredictiveOptimal,
}

impl PolicyName {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 17] = [
        Self::FastestFirst,
        Self::MostReliable,
        Self::EnergyEfficient,
        Self::LoadBalanced,
        Self::Weighted,
        Self::Priority,
        Self::Redundant,
        Self::Secure,
        Self::Ucb1,
        Self::Thompson,
        Self::Discounted,
        Self::Mdp,
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnections,
        Self::QualityBased,
        Self::PredictiveOptimal,
    ];

    /// Its name on command lines and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FastestFirst => "fastest-first",
            Self::MostReliable => "most-reliable",
            Self::EnergyEfficient => "energy-efficient",
            Self::LoadBalanced => "load-balanced",
            Self::Weighted => "weighted",
            Self::Priority => "priority",
            Self::Redundant => "redundant",
            Self::Secure => "secure",
            Self::Ucb1 => "ucb1",
            Self::Thompson => "thompson",
            Self::Discounted => "discounted",
            Self::Mdp => "mdp",
            Self::RoundRobin => "round-robin",
            Self::WeightedRoundRobin => "weighted-round-robin",
            Self::LeastConnections => "least-connections",
            Self::QualityBased => "quality-based",
            Self::PredictiveOptimal => "predictive-optimal",
        }
    }
}

/// A text that names no policy. The user's mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("one of {}", PolicyName::ALL.map(PolicyName::as_str).join(", "))]
pub struct UnknownPolicy;

impl std::str::FromStr for PolicyName {
    type Err = UnknownPolicy;

    /// Upper case, hyphens and underscores make no difference.
    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
        Self::ALL.into_iter().find(|name| plain(name.as_str()) == plain(text)).ok_or(UnknownPolicy)
    }
}
