//! What happened: the events that every part reports, for the log, for `bowline` and for embedders.

use std::time::Duration;

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::address::{EndpointAddress, TransportKind};
use crate::health::{Confidence, Evidence, Finding, LinkName, Shared};
use crate::id::{Incarnation, LinkId, PeerId};
use crate::link::{LinkFailure, LinkInfo, LinkState, LinkStep, ShiftReason};
use crate::membership::MembershipEvent;
use crate::migration::{MigrationId, MigrationPhase, RollbackReason};
use crate::partition::PartitionEvent;
use crate::repair::{Diagnosis, Repair, RepairOutcome, Subject};
use crate::session::SessionEnd;
use crate::topology::{Alert, HealingPurpose, HealingStep};

/// One thing that happened, and when.
#[derive(Debug, Clone, PartialEq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct Event {
    /// Time since the node started.
    pub at: Duration,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A listener is open.
    Listening {
        /// Where it can be reached.
        address: EndpointAddress,
        /// What was asked for, as [`EventKind::ListenFailed`] names it when it breaks: with the port that was found where 0 was asked for. A listener that
        /// could not be opened at all is named with port 0 there.
        asked: EndpointAddress,
    },
    /// A listener could not be opened, or broke.
    ListenFailed {
        /// What was asked for.
        address: EndpointAddress,
        /// Why not.
        error: String,
    },
    /// A dial failed.
    DialFailed {
        /// Who was to be reached.
        peer: PeerId,
        /// Where.
        address: EndpointAddress,
        /// Why not.
        error: String,
    },
    /// An inbound connection was refused before or during its handshake.
    ConnectionRefused {
        /// Where it came from.
        from: String,
        /// Why.
        reason: String,
    },
    /// A peer sends more than its budget of messages and bytes; what is beyond waits. Said again only after a pause.
    PeerLimited {
        /// The peer.
        peer: PeerId,
    },
    /// A session has its first link.
    SessionUp {
        /// The peer.
        peer: PeerId,
        /// The peer's incarnation.
        incarnation: Incarnation,
    },
    /// A session ended.
    SessionDown {
        /// The peer.
        peer: PeerId,
        /// Why.
        reason: SessionEnd,
    },
    /// The peer came back as a new process; the session goes on with it.
    PeerRestarted {
        /// The peer.
        peer: PeerId,
        /// Its new incarnation.
        incarnation: Incarnation,
        /// Messages that were on a wire to the old process: their receipts say unknown.
        unknown: u64,
    },
    /// A link joined its session: a record of the peer's opened on it.
    LinkUp {
        /// The peer.
        peer: PeerId,
        /// The link.
        link: LinkInfo,
    },
    /// A link took a step of its life cycle.
    LinkStep {
        /// The peer.
        peer: PeerId,
        /// The link.
        link: LinkId,
        /// From this state
        from: LinkState,
        /// to this one
        to: LinkState,
        /// by this step.
        step: LinkStep,
        /// Why, where there is a reason.
        reason: Option<LinkFailure>,
        /// From what that was concluded, where it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<Box<Evidence>>,
        /// The new link, where one stands for it again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        successor: Option<LinkId>,
    },
    /// Traffic moves from a link that still carries to another one, or back: a step of it.
    TrafficShifted {
        /// The peer.
        peer: PeerId,
        /// The link before.
        from: LinkId,
        /// The link that takes over.
        to: LinkId,
        /// The share of the traffic that goes over the new link from now on, 0 to 1.
        share: f64,
        /// Why.
        reason: ShiftReason,
    },
    /// Traffic goes over another link from now on because the present one is about to fail. It still carries what it was given.
    ProactiveFailover {
        /// The peer.
        peer: PeerId,
        /// The link that is left.
        from: LinkId,
        /// The link that takes over.
        to: LinkId,
        /// From what the failure is predicted.
        evidence: Box<Evidence>,
    },
    /// Links that share an interface or a medium fell together: one cause, reported once.
    CommonCause {
        /// What they share.
        shared: Shared,
        /// Those that fell until now.
        links: Vec<LinkName>,
        /// How that is known.
        finding: Finding,
    },
    /// This node was not running, or does not keep up: it doubts what it sees of links, since everybody seems silent then.
    LocalDoubt {
        /// The transport whose monitor noticed.
        transport: TransportKind,
        /// How much it doubts.
        doubt: Confidence,
        /// How late its timer fired.
        late: Duration,
    },
    /// Traffic is being moved away from a link.
    FailoverStarted {
        /// The peer.
        peer: PeerId,
        /// The link that fails.
        from: LinkId,
        /// Why.
        reason: LinkFailure,
    },
    /// Traffic goes on over another link.
    FailoverCompleted {
        /// The peer.
        peer: PeerId,
        /// The link that failed.
        from: LinkId,
        /// The link that took over.
        to: LinkId,
        /// From the failure to the first acknowledgement on the new link.
        took: Duration,
        /// Messages sent again.
        messages_moved: u64,
    },
    /// No other link is there to take over; messages wait.
    FailoverStalled {
        /// The peer.
        peer: PeerId,
        /// The link that failed.
        from: LinkId,
    },
    /// Another link is preferred from now on, without a failure.
    LinkPreferred {
        /// The peer.
        peer: PeerId,
        /// The link before.
        from: LinkId,
        /// The link now.
        to: LinkId,
        /// The rule that decided.
        rule: String,
    },
    /// A message made the session actor panic twice and was set aside.
    MessageQuarantined {
        /// The peer.
        peer: PeerId,
        /// Whether it was on its way out (else in).
        outgoing: bool,
        /// Its channel.
        channel: u32,
        /// Its number there.
        sequence: u64,
    },
    /// A child of the supervision tree exited.
    ChildExited {
        /// Its place in the tree.
        path: String,
        /// Why.
        reason: String,
    },
    /// A child of the supervision tree was restarted.
    ChildRestarted {
        /// Its place in the tree.
        path: String,
        /// How often by now.
        restarts: u64,
    },
    /// An interface of this machine changed.
    InterfaceChanged {
        /// Its name.
        name: String,
        /// Whether it can carry traffic now.
        up: bool,
    },
    /// A migration of application state began.
    MigrationStarted {
        /// The peer.
        peer: PeerId,
        /// The migration.
        id: MigrationId,
        /// What the application calls the state.
        name: String,
        /// Whether the state leaves this node (else it comes).
        outgoing: bool,
    },
    /// The application here has captured its state.
    MigrationCaptured {
        /// The peer.
        peer: PeerId,
        /// The migration.
        id: MigrationId,
        /// Bytes of the state.
        bytes: u64,
    },
    /// All of the state was sent, or has arrived.
    MigrationTransferred {
        /// The peer.
        peer: PeerId,
        /// The migration.
        id: MigrationId,
        /// Bytes of the state.
        bytes: u64,
        /// Bytes of its pieces, compressed.
        packed_bytes: u64,
        /// How often the transfer was interrupted and went on.
        resumed: u32,
    },
    /// The state that arrived is the one that was captured, and the receiving application accepts it.
    MigrationVerified {
        /// The peer.
        peer: PeerId,
        /// The migration.
        id: MigrationId,
    },
    /// The receiving application has taken the state over.
    MigrationCompleted {
        /// The peer.
        peer: PeerId,
        /// The migration.
        id: MigrationId,
        /// How long it took this side.
        took: Duration,
    },
    /// The migration failed: the state is where it was.
    MigrationRolledBack {
        /// The peer.
        peer: PeerId,
        /// The migration.
        id: MigrationId,
        /// How far it was.
        phase: MigrationPhase,
        /// Why.
        reason: RollbackReason,
    },
    /// Something is being repaired.
    RepairStarted {
        /// What.
        subject: Subject,
        /// What is wrong.
        diagnosis: Diagnosis,
        /// What is done about it.
        repair: Repair,
        /// Which attempt it is, of those that count at present.
        attempt: u32,
    },
    /// It is known, or was waited for long enough, whether a repair helped.
    RepairEnded {
        /// What was repaired.
        subject: Subject,
        /// What was done.
        repair: Repair,
        /// How it ended.
        outcome: RepairOutcome,
    },
    /// Nothing helps: no more is tried for a while.
    Unrepairable {
        /// What.
        subject: Subject,
        /// What is wrong.
        diagnosis: Diagnosis,
        /// Attempts that were made.
        attempts: u32,
    },
    /// Something about the network's shape is wrong, or worse or less bad than it was.
    TopologyAlertRaised {
        /// What.
        alert: Alert,
    },
    /// It is over.
    TopologyAlertCleared {
        /// What it was.
        alert: Alert,
    },
    /// A link that is there because the network needs it took a step.
    HealingLink {
        /// Its other end.
        peer: PeerId,
        /// What it is for.
        purpose: HealingPurpose,
        /// What happened.
        step: HealingStep,
    },
    /// What such a link changed, by the figure that it is for.
    HealingMeasured {
        /// Its other end.
        peer: PeerId,
        /// What it is for.
        purpose: HealingPurpose,
        /// The figure when it was asked for.
        before: f64,
        /// The figure with it.
        after: f64,
    },
    /// Somebody joined the network, is suspected, gone, or back.
    Membership {
        /// What happened.
        #[serde(flatten)]
        what: MembershipEvent,
    },
    /// The group that this node takes part in fell apart, came together, or did something about it.
    Partition {
        /// What happened.
        #[serde(flatten)]
        what: PartitionEvent,
    },
    /// A node signed two different announcements under one number.
    TwoFaced {
        /// The node.
        peer: PeerId,
    },
}
