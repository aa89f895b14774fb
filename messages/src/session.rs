//! What the application and a session say to each other.

use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::class::{Delivery, MessageClass, PolicyName};
use crate::health::{Evidence, LinkOpinion};
use crate::id::{ChannelId, Incarnation, LinkId, PeerId};
use crate::link::{FailedLink, LinkInfo, LinkState, LinkStats};

/// A message the application gives to a session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Outgoing {
    /// The ordered sequence it belongs to. Default: channel 0.
    pub channel: ChannelId,
    /// What kind of message it is. Default: `Critical`.
    pub class: MessageClass,
    /// Its content, up to the configured message size (1 MiB by default); larger content goes through a stream.
    pub payload: Bytes,
    /// What is promised about it. Default: exactly once.
    pub delivery: Delivery,
    /// How long it is worth sending. Default: for ever.
    pub expires_in: Option<Duration>,
    /// A policy for this message alone. Default: that of its class.
    pub policy: Option<PolicyName>,
}

impl Outgoing {
    /// A message of a class on channel 0, exactly once.
    pub fn new(class: MessageClass, payload: impl Into<Bytes>) -> Self {
        Self { class, payload: payload.into(), ..Self::default() }
    }

    /// The same message on another channel.
    #[must_use]
    pub fn on(mut self, channel: ChannelId) -> Self {
        self.channel = channel;
        self
    }
}

/// What is known about a message that `send` accepted. The first two are on the way, the others are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReceiptState {
    /// In the session's queue.
    Accepted,
    /// Put on at least one wire, not acknowledged yet.
    OnWire,
    /// In the mailbox of the peer's application (or its stream's buffer).
    Acknowledged,
    /// Never put on a wire, and it will not be: the session ended, or a newer message took its place.
    NotSent,
    /// Was on a wire when the peer was lost or the time ran out: it may have arrived or not.
    Unknown,
    /// Its time ran out before it was put on a wire.
    Expired,
    /// It made the session actor panic twice and was set aside; reported as an event.
    Quarantined,
}

impl ReceiptState {
    /// Whether nothing more will change.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Accepted | Self::OnWire)
    }
}

/// Why `send` did not accept a message. Nothing of it was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SendError {
    /// The session's queue is full; wait for room or send later. Ours to bear: the peer or the network is slow.
    #[error("the queue to this peer is full ({bytes} bytes wait)")]
    Full {
        /// Bytes that wait in the session.
        bytes: usize,
    },
    /// Larger than the configured message size. The application's mistake: use a stream.
    #[error("the message has {bytes} bytes, more than the {limit} that are allowed; use a stream")]
    TooLarge {
        /// Bytes in the message.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// More channels are in use than a session may have. The application's mistake.
    #[error("the session already has {limit} channels")]
    TooManyChannels {
        /// Channels allowed.
        limit: usize,
    },
    /// The session has ended. A new one has to be connected.
    #[error("the session has ended")]
    Closed,
}

/// One message as it reaches the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// The ordered sequence it belongs to.
    pub channel: ChannelId,
    /// Its number in that sequence; numbers of skipped messages are missing.
    pub sequence: u64,
    /// What kind of message the sender says it is.
    pub class: MessageClass,
    /// Its content. A small message shares memory with others that came in the same record; copy it to keep it for long.
    pub payload: Bytes,
}

/// Messages from one peer, in order within each channel. Sent by the session actor to the application's recipient; being
/// in that recipient's mailbox is what *acknowledged* means.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct Inbox {
    /// Who sent them.
    pub peer: PeerId,
    /// One or more messages.
    pub messages: Vec<Received>,
    /// The link that brought the record which completed them.
    pub via: Arc<LinkInfo>,
}

/// Why a session ended or could not begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionEnd {
    /// This side closed it.
    ClosedHere,
    /// The peer closed it.
    ClosedByPeer,
    /// No link could be had for the configured time.
    PeerLost,
    /// The peer's process started anew: what was on the wire to the old one is unknown.
    PeerRestarted {
        /// Its new incarnation.
        incarnation: Incarnation,
    },
    /// Its actors failed more often than their budget allows.
    Failed(String),
    /// The peer was excluded for what it did.
    Excluded(String),
}

/// One link as `status` and `why` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// What does not change.
    pub info: LinkInfo,
    /// Where it is in its life.
    pub state: LinkState,
    /// What was measured.
    pub stats: LinkStats,
    /// Bytes sealed for it and not acknowledged.
    pub in_flight_bytes: usize,
    /// Bytes that may be in flight on it at once.
    pub window_bytes: usize,
    /// Expected seconds to delivery of a small message, with an allowance for variation; `None` means not measured.
    pub expected_delay: Option<f64>,
    /// What it is worth to the policy of each class.
    #[serde(default)]
    pub scores: Vec<ClassScore>,
    /// The penalty for having failed lately, 0 to 1, decaying.
    pub flap_penalty: f64,
    /// What the health monitor made of it last; `None` for a link without traffic.
    pub opinion: Option<Box<LinkOpinion>>,
    /// From what its state was concluded last, where it was.
    pub evidence: Option<Box<Evidence>>,
}

/// One session as `status`, `peers` and `why` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The peer.
    pub peer: PeerId,
    /// This side's incarnation.
    pub incarnation: Incarnation,
    /// The peer's incarnation, once a link stood.
    pub peer_incarnation: Option<Incarnation>,
    /// Its links, usable or not.
    pub links: Vec<LinkStatus>,
    /// Links that died and stand not again yet.
    #[serde(default)]
    pub failed: Vec<FailedLink>,
    /// For each class, the link that would carry the next message of it and the rule that says so.
    pub choices: Vec<LinkChoice>,
    /// Addresses at which the peer says it can be reached.
    pub peer_addresses: Vec<crate::address::EndpointAddress>,
    /// Where this side dials the peer as long as it wants more links, in order of the addresses.
    #[serde(default)]
    pub dials: Vec<DialStatus>,
    /// Messages accepted and not final.
    pub queued_messages: usize,
    /// Bytes of those.
    pub queued_bytes: usize,
    /// Messages accepted since the session began.
    pub messages_accepted: u64,
    /// Messages acknowledged by the peer's application.
    pub messages_acknowledged: u64,
    /// Messages given to the application here.
    pub messages_delivered: u64,
    /// Duplicates that arrived and were dropped.
    pub duplicates_dropped: u64,
    /// How many failovers there were.
    pub failovers: u64,
}

/// An address of a peer at which this side dials it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialStatus {
    /// The address.
    pub address: crate::address::EndpointAddress,
    /// Whether an attempt is under way.
    pub under_way: bool,
    /// Attempts that failed since one succeeded.
    pub failures: u32,
    /// How long until the next attempt, when there is none under way.
    #[serde(with = "crate::config::duration")]
    pub next_in: std::time::Duration,
}

/// What a link is worth for the messages of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// The class.
    pub class: MessageClass,
    /// Which links it is compared with.
    pub rank: LinkRank,
    /// The score by the policy of the class: 0 (worst) to 1 (best), its failures of late counted in; `None` when not measured.
    pub score: Option<f64>,
}

/// Ranks of links: whatever the scores, one of a higher rank is chosen before one of a lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkRank {
    /// Suspected to be dead.
    Suspected,
    /// Misses a requirement of the class, or is predicted to fail.
    Missing,
    /// Not measured yet.
    Unmeasured,
    /// Measured.
    Measured,
}

/// Which link a class uses now, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkChoice {
    /// The class.
    pub class: MessageClass,
    /// The policy in force for it.
    pub policy: PolicyName,
    /// The chosen links, best first; empty when none is usable.
    pub links: Vec<LinkId>,
    /// The rule that decided, in words.
    pub rule: String,
}
