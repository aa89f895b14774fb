//! What is said about links: their life cycle, what they run over, what was measured.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use actix::Message;
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::address::{EndpointAddress, TransportKind};
use crate::credit::Credit;
use crate::health::{Layer, Rule};
use crate::id::LinkId;
use crate::wire::Refusal;

/// What a transport runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Medium {
    /// A cable.
    Ethernet,
    /// A wireless LAN.
    Wifi,
    /// Two stations without an access point.
    WifiDirect,
    /// A mobile network.
    Cellular,
    /// Bluetooth of any variant.
    Bluetooth,
    /// This machine itself.
    Loopback,
    /// Other peers.
    Mesh,
    /// Not known: the operating system did not say.
    #[default]
    Unknown,
}

/// A network interface of this machine, as far as it is known for a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Interface {
    /// The operating system's name for it (`eth0`).
    pub name: String,
    /// The operating system's number for it; 0 when there is none.
    pub index: u32,
    /// What it is made of.
    pub medium: Medium,
}

/// An interface of this machine came or went. From the interfaces' monitor to the peers' actor, and on to the sessions: links over
/// an interface that is down fail at once.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct InterfaceChanged {
    /// Its name.
    pub name: String,
    /// The operating system's number for it.
    pub index: u32,
    /// Whether it can carry traffic now: it is up, has a carrier and an address.
    pub up: bool,
}

/// To what a link is bound on this side.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Binding {
    /// The operating system chooses.
    #[default]
    Any,
    /// This local IP address.
    Address(IpAddr),
    /// This interface, by name.
    Interface(String),
}

/// What does not change during the life of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkInfo {
    /// Its name within the session.
    pub id: LinkId,
    /// The transport that carries it.
    pub transport: TransportKind,
    /// This side's end.
    pub local: EndpointAddress,
    /// The peer's end: the address that was dialled, or where the connection came from.
    pub remote: EndpointAddress,
    /// The interface it runs over, when it is known.
    pub interface: Option<Interface>,
    /// Whether this side dialled.
    pub initiator: bool,
}

/// Where a link is in its life. The legal steps are in [`LinkState::after`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LinkState {
    /// Being connected; carries nothing yet.
    Initializing,
    /// Carries data and is acknowledged in time.
    Active,
    /// Carries data, worse than it should.
    Degraded,
    /// Suspected dead; chosen for nothing new, its unacknowledged messages are hedged over another link.
    Failing,
    /// Dead.
    Failed,
    /// Being connected again.
    Recovering,
    /// Closed on purpose.
    Closed,
}

/// What moves a link from one state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LinkStep {
    /// The connection stands and the handshake is done.
    Connected,
    /// The connection was refused or timed out.
    Refused,
    /// The quality fell below what is acceptable.
    QualityDecline,
    /// The quality is acceptable again.
    QualityImprovement,
    /// An error after which the link is suspected dead.
    CriticalError,
    /// The suspicion was confirmed.
    FailureConfirmed,
    /// The suspicion was wrong: a late acknowledgement arrived.
    FalseAlarm,
    /// Another attempt to connect has begun.
    RecoveryAttempt,
    /// That attempt succeeded.
    Recovered,
    /// That attempt failed.
    RecoveryFailed,
    /// Closed on purpose by either side.
    Closed,
}

/// A step that is not possible in a state: our own mistake, never the peer's. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a link that is {state:?} cannot take the step {step:?}")]
pub struct IllegalLinkStep {
    /// The state the link is in.
    pub state: LinkState,
    /// The step that was asked for.
    pub step: LinkStep,
}

/// The whole table of the life cycle, `Closed` aside, which is possible from every state but itself.
pub const LINK_STEPS: [(LinkState, LinkStep, LinkState); 11] = [
    (LinkState::Initializing, LinkStep::Connected, LinkState::Active),
    (LinkState::Initializing, LinkStep::Refused, LinkState::Failed),
    (LinkState::Active, LinkStep::QualityDecline, LinkState::Degraded),
    (LinkState::Degraded, LinkStep::QualityImprovement, LinkState::Active),
    (LinkState::Active, LinkStep::CriticalError, LinkState::Failing),
    (LinkState::Degraded, LinkStep::CriticalError, LinkState::Failing),
    (LinkState::Failing, LinkStep::FailureConfirmed, LinkState::Failed),
    (LinkState::Failing, LinkStep::FalseAlarm, LinkState::Degraded),
    (LinkState::Failed, LinkStep::RecoveryAttempt, LinkState::Recovering),
    (LinkState::Recovering, LinkStep::Recovered, LinkState::Active),
    (LinkState::Recovering, LinkStep::RecoveryFailed, LinkState::Failed),
];

impl LinkState {
    /// The state after a step.
    ///
    /// # Errors
    /// [`IllegalLinkStep`] when the table has no such step.
    pub fn after(self, step: LinkStep) -> Result<Self, IllegalLinkStep> {
        if step == LinkStep::Closed && self != Self::Closed {
            return Ok(Self::Closed);
        }
        LINK_STEPS
            .iter()
            .find(|(from, taken, _)| *from == self && *taken == step)
            .map(|(_, _, to)| *to)
            .ok_or(IllegalLinkStep { state: self, step })
    }

    /// Whether new messages may be put on the link: only `Active` and `Degraded` are.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Active | Self::Degraded)
    }
}

/// Why a link took a step towards its end. Printed in events and in `bowline why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkFailure {
    /// The transport reported an error (connection reset, broken pipe); the text is the operating system's.
    Transport(String),
    /// The peer closed the connection in an orderly way.
    ClosedByPeer,
    /// This side closed it: no longer needed, replaced, or shutting down.
    ClosedHere(String),
    /// Data on it was not acknowledged for this long.
    Unacknowledged(Duration),
    /// Smaller or later records were acknowledged and this data was not: the link passes probes and carries nothing.
    Stalled(Duration),
    /// Nothing was heard on the idle link for this long.
    Silent(Duration),
    /// The interface it runs over went down.
    InterfaceDown(String),
    /// The peer said over another link that this one is dead.
    PeerReported,
    /// It still carries, but worse than usual, or it is about to fail: this rule of this layer says so.
    Worsening(Layer, Rule),
    /// Its actor panicked.
    ActorPanicked,
    /// The peer broke the protocol on it.
    Protocol(String),
    /// The peer let this side finish the handshake and then refused it, for this reason.
    Refused(Refusal),
}

impl fmt::Display for LinkFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => write!(f, "{error}"),
            Self::ClosedByPeer => f.write_str("closed by the peer"),
            Self::ClosedHere(why) => write!(f, "closed here: {why}"),
            Self::Unacknowledged(after) => write!(f, "data unacknowledged for {after:.1?}"),
            Self::Stalled(after) => write!(f, "answers probes but carried no data for {after:.1?}"),
            Self::Silent(after) => write!(f, "silent for {after:.1?}"),
            Self::InterfaceDown(name) => write!(f, "interface {name} went down"),
            Self::PeerReported => f.write_str("the peer reported it dead"),
            Self::Worsening(layer, rule) => write!(f, "worse than usual ({layer:?}: {rule:?})"),
            Self::ActorPanicked => f.write_str("its actor panicked"),
            Self::Protocol(what) => write!(f, "protocol violation: {what}"),
            Self::Refused(why) => write!(f, "refused by the peer: {why}"),
        }
    }
}

/// What was measured of a link while traffic moved.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ShiftMeasure {
    /// Round trips that it goes by.
    pub samples: u32,
    /// Their median, in seconds; `None` when there were none.
    pub round_trip: Option<f64>,
    /// Share of answers that were missed, 0 to 1.
    pub missed: f64,
}

/// Why a share of the traffic moved from one link to another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ShiftReason {
    /// The first step: the old link is about to fail.
    Leaving,
    /// The first step: the new link is preferred.
    Preferred,
    /// The next step, or the end of the last: the new link was not worse in the step before.
    AsGood {
        /// What was measured of the new link.
        new: ShiftMeasure,
        /// What was measured of the old link.
        old: ShiftMeasure,
    },
    /// The same, and too little came in to compare them within the time of a step.
    TimeUp {
        /// What was measured of the new link.
        new: ShiftMeasure,
    },
    /// Everything goes back: the new link proved worse.
    Worse {
        /// What was measured of the new link.
        new: ShiftMeasure,
        /// What was measured of the old link.
        old: ShiftMeasure,
    },
    /// Everything goes over the new link at once: the old one is dead.
    OldDied,
    /// Everything goes back: the new link is dead.
    NewDied,
    /// It is given up: what was to move goes over this third link, which is preferred meanwhile.
    Superseded {
        /// The third link.
        by: LinkId,
    },
    /// It is given up: what was to move is back on the old link, which is preferred again.
    Returned,
}

/// A link that died and whose way to the peer may be had again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailedLink {
    /// What it was.
    pub info: LinkInfo,
    /// `Failed`, or `Recovering` while its address is dialled.
    pub state: LinkState,
    /// Why it died.
    pub reason: LinkFailure,
    /// Attempts to have it again so far.
    pub attempts: u32,
}

/// Bytes for one lane of a link, whole packets. From the session actor to the link actor, which queues them behind what waits
/// on the lane and writes. Nothing here bounds the queue: the session hands over what its window allows.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct Transmit {
    /// The lane, as in the transport's contract; lanes beyond those of the link share the last one.
    pub lane: u8,
    /// Whole packets with their lengths.
    pub data: Bytes,
}

/// Whole packets that arrived, with their lengths. From the link actor to the session actor; the link reads on when the credit
/// came back (it has two), so a session that is busy slows the peer down.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct Arrived {
    /// The link.
    pub link: LinkId,
    /// The lane they arrived on.
    pub lane: u8,
    /// One or more whole packets, each with its length in front.
    pub data: BytesMut,
    /// Dropped when the packets were worked on.
    #[serde(skip)]
    pub credit: Credit,
}

/// The link is over. From the link actor to the session actor, once, behind everything that arrived; the actor stops then.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct LinkDown {
    /// The link.
    pub link: LinkId,
    /// Why.
    pub reason: LinkFailure,
}

/// Ends a link in an orderly way: what is queued is still written when the transport takes it soon. From the session actor to
/// the link actor, which answers with [`LinkDown`] and stops.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct CloseLink {
    /// Why, for events and logs.
    pub reason: String,
}

/// What one link carried so far, as its actor counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LinkCounters {
    /// Bytes the transport took.
    pub bytes_sent: u64,
    /// Bytes the transport gave.
    pub bytes_received: u64,
    /// Packets handed to the link.
    pub packets_sent: u64,
    /// Whole packets that arrived.
    pub packets_received: u64,
    /// Bytes that wait for the transport now.
    pub queued_bytes: u64,
}

/// Asks a link actor for its counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "LinkCounters")]
pub struct LinkCountersQuery;

/// What was counted and measured on one link. `None` means: not measured yet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LinkStats {
    /// Bytes handed to the transport, headers of records included.
    pub bytes_sent: u64,
    /// Bytes received from the transport.
    pub bytes_received: u64,
    /// Records sealed for this link.
    pub records_sent: u64,
    /// Records that arrived on this link and were opened.
    pub records_received: u64,
    /// Records that arrived and were dropped: forged, replayed, truncated or malformed.
    pub records_rejected: u64,
    /// Records declared lost.
    pub records_lost: u64,
    /// Frames sent again over another link because this one kept them.
    pub frames_rerouted: u64,
    /// Smoothed round-trip time (RFC 9002 §5).
    pub rtt: Option<Duration>,
    /// Smallest round-trip time seen lately.
    pub rtt_min: Option<Duration>,
    /// Mean deviation of the round-trip time (RFC 9002 §5); also the jitter.
    pub rtt_variation: Option<Duration>,
    /// Share of records declared lost lately, 0 to 1.
    pub loss: Option<f64>,
    /// Rate at which the peer acknowledges, bytes a second.
    pub delivery_rate: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [LinkState; 7] = [
        LinkState::Initializing,
        LinkState::Active,
        LinkState::Degraded,
        LinkState::Failing,
        LinkState::Failed,
        LinkState::Recovering,
        LinkState::Closed,
    ];

    #[test]
    fn only_the_steps_of_the_table_are_possible() {
        let steps = [
            LinkStep::Connected,
            LinkStep::Refused,
            LinkStep::QualityDecline,
            LinkStep::QualityImprovement,
            LinkStep::CriticalError,
            LinkStep::FailureConfirmed,
            LinkStep::FalseAlarm,
            LinkStep::RecoveryAttempt,
            LinkStep::Recovered,
            LinkStep::RecoveryFailed,
        ];
        let legal = STATES.iter().flat_map(|s| steps.map(|t| s.after(t))).filter(Result::is_ok).count();
        assert_eq!(legal, LINK_STEPS.len());
        assert_eq!(
            LinkState::Failed.after(LinkStep::Connected),
            Err(IllegalLinkStep { state: LinkState::Failed, step: LinkStep::Connected })
        );
    }

    /// `QualityDecline` as people write it.
    fn in_words(step: LinkStep) -> String {
        let name = format!("{step:?}");
        let words = name.char_indices().map(|(at, c)| match c {
            c if c.is_uppercase() && at > 0 => format!(" {}", c.to_lowercase()),
            c => c.to_lowercase().to_string(),
        });
        words.collect()
    }

    #[test]
    fn the_diagram_in_the_documentation_is_this_table() {
        let page = include_str!("../../docs/failover.md");
        let (_, rest) = page.split_once("```mermaid\nstateDiagram-v2\n").expect("there is a diagram");
        let (drawn, _) = rest.split_once("```").expect("it ends");
        let drawn: Vec<&str> = drawn.lines().map(str::trim).filter(|line| line.contains("-->")).collect();
        let closings = STATES.into_iter().filter(|state| state.after(LinkStep::Closed).is_ok());
        let steps = LINK_STEPS.into_iter().chain(closings.map(|from| (from, LinkStep::Closed, LinkState::Closed)));
        let wanted = steps.map(|(from, step, to)| format!("{from:?} --> {to:?}: {}", in_words(step)));
        let wanted: Vec<String> = std::iter::once("[*] --> Initializing".to_owned()).chain(wanted).collect();
        assert_eq!(drawn, wanted, "docs/failover.md has to say:\n    {}", wanted.join("\n    "));
    }

    #[test]
    fn every_state_but_closed_can_be_closed_and_only_two_carry_messages() {
        for state in STATES {
            assert_eq!(state.after(LinkStep::Closed).is_ok(), state != LinkState::Closed);
        }
        assert_eq!(STATES.iter().filter(|s| s.is_usable()).count(), 2);
    }
}
