//! The network falling apart and coming together: terms and tokens of activity, what is seen, decided and reported.

use std::fmt;
use std::time::Duration;

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::id::PeerId;

/// One holding of a lease. Terms grow; one is never granted to two holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {}", self.0)
    }
}

/// Under which lease something is done. It goes with every action, and whoever knows a higher term refuses the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token {
    /// The term of the lease.
    pub term: Term,
    /// Who holds it.
    pub holder: PeerId,
}

/// What a node may do at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// It holds the lease: its side is active.
    Holder {
        /// The term.
        term: Term,
        /// How long the lease lasts, unless it is renewed.
        remaining: Duration,
    },
    /// It is active through a holder.
    Member {
        /// The term.
        term: Term,
        /// Who holds the lease.
        holder: PeerId,
        /// How long it is active, unless that is renewed.
        remaining: Duration,
    },
    /// It is not active.
    Paused,
}

/// How the part of the group that is out of reach looks from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitShape {
    /// Nobody in reach says that it reaches any of them.
    Clean,
    /// Somebody in reach reaches some of them: there is a way around.
    Partial,
    /// Some of them are heard and do not hear this node, or the other way round.
    OneWay,
}

/// Which side of a split a node is on. A guess from what it sees, which never makes anybody active: only a lease does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// It reaches a quorum of the participants.
    Majority,
    /// It does not.
    Minority,
}

/// What is done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Nothing: it passes.
    WaitForHeal,
    /// New links are sought to those out of reach.
    ActiveReconnection,
    /// The majority goes on without the others.
    MajorityRule,
    /// This side is the minority: it is paused, and takes over the state of the other one when it sees it again.
    SplitBrainResolution,
    /// Back to the last state that a majority committed.
    EmergencyRollback,
    /// A peer that was proven to misbehave is excluded.
    ByzantineExclusion,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WaitForHeal => "wait for heal",
            Self::ActiveReconnection => "active reconnection",
            Self::MajorityRule => "majority rule",
            Self::SplitBrainResolution => "split-brain resolution",
            Self::EmergencyRollback => "emergency rollback",
            Self::ByzantineExclusion => "Byzantine exclusion",
        })
    }
}

/// How far a recovery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryStep {
    /// It begins.
    Initializing,
    /// Who is there?
    DetectingPeers,
    /// The state of the losing side becomes that of the winning one.
    SynchronizingState,
    /// Does the lease hold, and does everybody have the same?
    ValidatingConsensus,
    /// The application goes on.
    Finalizing,
    /// It is over.
    Complete,
    /// It is over, and nothing came of it.
    Failed(RecoveryFailure),
}

/// Why nothing came of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecoveryFailure {
    /// A step took longer than its time.
    TimedOut,
    /// The group fell apart again.
    SplitAgain,
    /// The states could not be made one.
    NotSynchronized,
    /// There is no lease, or not everybody has the same state.
    NoConsensus,
    /// The application did not go on.
    Refused,
}

/// Why the application is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// This node starts and has no lease yet.
    Starting,
    /// This side is, or may be, a minority: its lease is over.
    NoLease,
    /// The group is together again, and this node's state is being brought up to it.
    Recovering,
    /// This node is excluded.
    Excluded,
}

/// How a peer misbehaved, as two statements that it signed show to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// It said two different things under one number.
    Equivocation,
    /// It granted one term to two holders.
    DoubleGrant,
    /// It passed something on, under its own signature, that the one named in it did not sign.
    Forgery,
}

impl fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equivocation => "said two different things under one number",
            Self::DoubleGrant => "granted one term to two holders",
            Self::Forgery => "passed on what its origin did not sign",
        })
    }
}

/// What happened to the group as a whole.
#[derive(Debug, Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(tag = "partition", rename_all = "snake_case")]
#[rtype(result = "()")]
#[non_exhaustive]
pub enum PartitionEvent {
    /// Too few participants are in reach. Nothing is done about it yet.
    Suspected {
        /// Who is out of reach.
        missing: Vec<PeerId>,
        /// How that looks.
        shape: SplitShape,
    },
    /// They are in reach again, before anything was done.
    Cleared {
        /// How long it was suspected.
        suspected: Duration,
    },
    /// It stood for the stable time and is acted upon.
    Split {
        /// Who is out of reach.
        missing: Vec<PeerId>,
        /// How that looks.
        shape: SplitShape,
        /// On which side this node seems to be.
        side: Side,
    },
    /// Enough participants are in reach again.
    Healed {
        /// How long the split lasted, from the suspicion on.
        lasted: Duration,
    },
    /// This node is active under a lease.
    Active {
        /// Which one.
        token: Token,
    },
    /// This node is active no more.
    Paused {
        /// Why.
        reason: PauseReason,
    },
    /// A strategy is at work.
    Strategy {
        /// Which.
        strategy: Strategy,
        /// The number of the attempt, from 1.
        attempt: u32,
    },
    /// All strategies came to nothing; the node stays as it is and begins anew later.
    Exhausted,
    /// A recovery took a step.
    Recovery {
        /// To this.
        step: RecoveryStep,
    },
    /// A peer was proven to misbehave.
    Evidence {
        /// Who.
        peer: PeerId,
        /// How.
        kind: EvidenceKind,
        /// Proofs against it by now.
        strikes: u32,
    },
    /// A peer is excluded for misbehaving.
    Excluded {
        /// Who.
        peer: PeerId,
    },
}

/// What a node can say of the partitions it went through, for `bowline partition explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// What the node may do now.
    pub standing: Standing,
    /// The highest term it knows.
    pub term: Term,
    /// Who is out of reach.
    pub missing: Vec<PeerId>,
    /// How that looks, when it is suspected to be a split.
    pub shape: Option<SplitShape>,
    /// Whether that is acted upon.
    pub split: bool,
    /// The strategy at work, and the number of its attempt.
    pub strategy: Option<(Strategy, u32)>,
    /// How far the recovery is, when there is one.
    pub recovery: Option<RecoveryStep>,
    /// Proofs against each peer that has any, by kind.
    pub evidence: Vec<(PeerId, EvidenceKind, u32)>,
    /// The proofs themselves.
    #[serde(default)]
    pub proofs: Vec<ProofReport>,
    /// Peers that are excluded.
    pub excluded: Vec<PeerId>,
    /// Participants that go by another list of participants. What they say does not count.
    #[serde(default)]
    pub others: Vec<PeerId>,
    /// Figures since the node started.
    pub metrics: PartitionMetrics,
}

/// A proof of misbehaviour, with what somebody needs who wants to check it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofReport {
    /// Who misbehaved.
    pub peer: PeerId,
    /// How.
    pub kind: EvidenceKind,
    /// What it signed: two statements that contradict each other, or one that is enough.
    pub statements: Vec<StatementReport>,
}

/// A statement that a peer signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementReport {
    /// The first part of its number: the life of the peer.
    pub incarnation: u64,
    /// The second part: its place in that life.
    pub count: u64,
    /// What it says, in words.
    pub says: String,
    /// The bytes that are signed, as hexadecimal digits. Before them stands the label of the purpose, `bowline v1 partition` and a zero byte.
    pub signed: String,
    /// The peer's signature of label and bytes, Ed25519, as hexadecimal digits.
    pub signature: String,
}

/// To the application of a group: it is to take on nothing new. It answers when it has finished what it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct PauseApplication {
    /// Why.
    pub reason: PauseReason,
    /// How long it may still act; zero when it may not.
    pub grace: Duration,
}

/// To the application of a group: it may go on. It answers whether it does; when it cannot, it is asked again after another recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "bool")]
pub struct ResumeApplication {
    /// Under this lease.
    pub token: Token,
}

/// Figures of partitions since the node started.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PartitionMetrics {
    /// Recoveries by how long they took: up to 1 s, 2 s, 5 s, 10 s, 30 s, 60 s, longer.
    pub recoveries: [u64; 7],
    /// Time of all recoveries.
    pub recovery_time: Duration,
    /// Attempts of each strategy and how many of them succeeded.
    pub strategies: std::collections::BTreeMap<Strategy, (u64, u64)>,
    /// Splits that were acted upon.
    pub splits: u64,
    /// How long they lasted, all together.
    pub split_time: Duration,
    /// Suspicions that were cleared before anything was done.
    pub suspicions_cleared: u64,
    /// Splits that were none: everybody out of reach turned out to have been reached by others throughout.
    pub false_positives: u64,
    /// Packets that were refused, because they could not be read or were not signed by their origin.
    pub refused: u64,
}
