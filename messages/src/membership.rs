//! Who belongs to the group: members, what happened to them, and why they are thought to be gone.

use std::fmt;
use std::time::Duration;

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::health::Confidence;
use crate::id::{Incarnation, PeerId};

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It answers, or nobody has said otherwise.
    Alive,
    /// Somebody says that it does not answer. It still belongs to the group and can prove the opposite.
    Suspect,
    /// It did not prove the opposite in time: it is excluded until it comes back by itself.
    Down,
    /// It said good-bye.
    Left,
}

impl MemberState {
    /// Whether a member in this state belongs to the group.
    pub const fn is_active(self) -> bool {
        match self {
            Self::Alive | Self::Suspect => true,
            Self::Down | Self::Left => false,
        }
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        })
    }
}

/// Why a member is gone, as far as that can be told from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The network between here and there is cut; it may well be running.
    NetworkPartition,
    /// It says what cannot be true.
    ByzantineFailure,
    /// Its process or its machine has ended.
    CrashFailure,
    /// Packets to and from it are lost, but not all of them.
    MessageLoss,
    /// It runs, and answers too late.
    TimeoutFailure,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetworkPartition => "network partition",
            Self::ByzantineFailure => "Byzantine failure",
            Self::CrashFailure => "crash",
            Self::MessageLoss => "message loss",
            Self::TimeoutFailure => "time-out",
        })
    }
}

/// A failure kind and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What it is thought to be.
    pub kind: FailureKind,
    /// How sure that is.
    pub confidence: Confidence,
}

/// Something a member did that an honest one does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offence {
    /// It passed on a statement in somebody's name that this one did not sign.
    ForgedStatement,
    /// It accused a member of something about a life, or a number, that this member never had.
    ImpossibleAccusation,
    /// It accused the same member again and again, faster than any honest node can have tried it.
    AccusationFlood,
    /// It told a member again and again that it is excluded, faster than any honest node can exclude it anew.
    RenewalFlood,
}

/// What happened to the group.
#[derive(Debug, Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(tag = "membership", rename_all = "snake_case")]
#[rtype(result = "()")]
#[non_exhaustive]
pub enum MembershipEvent {
    /// A member that was not known, or is not remembered.
    Joined {
        /// Who.
        peer: PeerId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// Somebody says that it does not answer.
    Suspected {
        /// Who.
        peer: PeerId,
        /// Who says so first.
        by: PeerId,
    },
    /// It proved that it is there.
    Cleared {
        /// Who.
        peer: PeerId,
        /// How long it was suspected.
        suspected: Duration,
    },
    /// It is excluded.
    Down {
        /// Who.
        peer: PeerId,
        /// Its life.
        incarnation: Incarnation,
        /// Why, as far as that can be told now.
        failure: Failure,
        /// How many members said that it does not answer.
        accusers: usize,
        /// How long it was suspected.
        suspected: Duration,
    },
    /// It said good-bye, maybe after it was excluded.
    Left {
        /// Who.
        peer: PeerId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// It is back.
    Returned {
        /// Who.
        peer: PeerId,
        /// Its life now.
        incarnation: Incarnation,
        /// Whether it is a new life: then it had ended, else it was out of reach.
        restarted: bool,
        /// How long it was gone; zero when nobody noticed.
        away: Duration,
        /// Why it was gone, now that more is known. None when it had said good-bye.
        failure: Option<Failure>,
    },
    /// A member did what an honest one does not do. Said once for each kind and member in a while.
    Offended {
        /// Who.
        peer: PeerId,
        /// What.
        offence: Offence,
        /// How often until now.
        times: u32,
    },
    /// This node's trust refuses it, because it was excluded or denied or is not listed any more: it is nobody here, whatever others say.
    ShutOut {
        /// Who.
        peer: PeerId,
    },
    /// It was never heard itself, and made room for one that was.
    Evicted {
        /// Who.
        peer: PeerId,
    },
    /// Others had excluded this node; it is back under a new number.
    Excluded {
        /// Who told it.
        by: PeerId,
    },
    /// Another process uses the key of this node, in a later life than this one: nobody listens to this one any more.
    Superseded {
        /// The later life.
        incarnation: Incarnation,
    },
}

/// A member as it is seen from here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Who.
    pub peer: PeerId,
    /// Its life; 0 when that is not known.
    pub incarnation: Incarnation,
    /// How it stands.
    pub state: MemberState,
    /// How long ago something it signed came from itself; none when that never happened.
    pub heard: Option<Duration>,
    /// How many members say at present that it does not answer.
    pub accusers: usize,
    /// Why it is gone.
    pub failure: Option<Failure>,
}
