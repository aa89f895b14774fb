//! What is wrong with a path or a transport, and what is done about it.

use std::time::Duration;

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::address::{EndpointAddress, TransportKind};
use crate::id::{LinkId, PeerId};

/// What is repaired: the way to one peer over one transport, or a transport as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// The peer; `None`: the transport as a whole.
    pub peer: Option<PeerId>,
    /// The transport.
    pub transport: TransportKind,
}

/// What is wrong, as far as this side can know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Diagnosis {
    /// A link has been degraded for long while another one to the peer is well.
    Stuck,
    /// Dials take too long although the peer is there, over another link.
    Slow,
    /// Handshakes fail, or links end because the protocol was broken on them.
    Protocol,
    /// Listeners break, or this side cannot even try to dial.
    Adapter,
    /// The transport's actor does not answer.
    Wedged,
}

/// What is done about it, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// The link is closed and dialled anew.
    ResetConnection,
    /// Dials are given more time, and made at once.
    TuneParameters,
    /// Resume tickets are forgotten: the next handshake is a full one.
    Renegotiate,
    /// The adapter is opened anew, with every listener that is not open, and breakers are closed.
    ReopenAdapter,
    /// The transport's actor is stopped and started by its supervisor.
    RestartTransport,
}

/// What somebody saw that may need a repair, or shows that one is not needed any more. To the repair actor.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub enum Symptom {
    /// A dial failed.
    DialFailed {
        /// Who was dialled.
        peer: PeerId,
        /// Over what.
        transport: TransportKind,
        /// How it failed.
        failure: DialFailure,
    },
    /// A link was made.
    LinkRose {
        /// With whom.
        peer: PeerId,
        /// Over what.
        transport: TransportKind,
        /// Its number.
        link: LinkId,
    },
    /// A link ended.
    LinkFell {
        /// With whom.
        peer: PeerId,
        /// Its number.
        link: LinkId,
        /// Whether the protocol was broken on it.
        protocol: bool,
    },
    /// A link is degraded, or well again.
    LinkDegraded {
        /// With whom.
        peer: PeerId,
        /// Its number.
        link: LinkId,
        /// Whether it is.
        degraded: bool,
    },
    /// A session ended: nothing about its peer counts any more.
    SessionEnded {
        /// The peer.
        peer: PeerId,
    },
    /// A listener is open, or broke.
    Listener {
        /// What was asked for. A transport is well again when each of its listeners that broke is open.
        address: EndpointAddress,
        /// Whether it is open.
        open: bool,
    },
    /// A transport's actor was asked for its state.
    Probed {
        /// Of which transport.
        transport: TransportKind,
        /// Whether it answered in time.
        answered: bool,
    },
}

/// How a dial failed, as far as it matters for repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DialFailure {
    /// It took too long.
    TimedOut,
    /// The handshake failed with a ticket.
    Ticket,
    /// The handshake failed otherwise.
    Handshake,
    /// This side could not even try.
    Local,
    /// The peer, or its host, said no, or cannot be reached: nothing that could be repaired here.
    Elsewhere,
}

/// Where a circuit breaker is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Attempts are made.
    #[default]
    Closed,
    /// No attempts are made.
    Open,
    /// One attempt decides.
    HalfOpen,
}

/// How a repair ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairOutcome {
    /// It is being waited for.
    Pending,
    /// What was wrong is well.
    Healed,
    /// It is as it was.
    Failed,
    /// Nothing was seen since, neither good nor bad.
    Unclear,
}

/// One repair that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairAttempt {
    /// What was thought to be wrong.
    pub diagnosis: Diagnosis,
    /// What was done.
    pub repair: Repair,
    /// How long ago.
    pub ago: Duration,
    /// How it ended.
    pub outcome: RepairOutcome,
}

/// Repairs of one subject, as `status` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// What is repaired.
    pub subject: Subject,
    /// The breaker over repairs: open when they do not help.
    pub breaker: BreakerState,
    /// Whether it was reported that nothing helps, and nothing has changed since.
    pub unrepairable: bool,
    /// The last attempts, oldest first.
    pub attempts: Vec<RepairAttempt>,
}

/// Asks the repair actor what it has done lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Vec<RepairStatus>")]
pub struct RepairsQuery;

/// Opens the adapter anew and every listener that is not open, and closes the breakers. From the repair actor to a transport's actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct Reopen;

/// Repairs the way over a transport. From the repair actor to a session actor.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct RepairPath {
    /// The transport.
    pub transport: TransportKind,
    /// What to do; what is not about a session is ignored.
    pub repair: Repair,
    /// The link to reset.
    pub link: Option<LinkId>,
}
