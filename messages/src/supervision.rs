//! Supervision: who runs, who died and why, and the orders a supervisor takes.
//!
//! | message | from | to | answer |
//! |---|---|---|---|
//! | [`WhichChildren`], [`CountChildren`], [`Tree`] | anyone | a supervisor | lists, counts, the live tree below it |
//! | [`TerminateChild`], [`RestartChild`], [`DeleteChild`] | anyone | a supervisor | done, or a [`ChildError`] |
//! | [`Kill`] | scripts, demonstrations, operators | a supervisor | the child panics in its own context |
//! | [`Shutdown`] | parent, signal handler | a supervisor | children end in reverse order, then it does |
//! | [`Monitor`] | anyone | a supervisor | later one [`Down`] |
//! | [`SupervisionEvent`] | a supervisor | one recipient | - |
//!
//! Starting a child carries a factory, so that message (`StartChild`) lives beside the supervisor.

use std::fmt;
use std::time::Duration;

use actix::{Message, Recipient};
use serde::{Deserialize, Serialize};

/// Exit code of a node whose root supervisor gave up (`EX_SOFTWARE` of `sysexits.h`).
pub const EXIT_CODE_SUPERVISION: u8 = 70;

/// Why an actor's life ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExitReason {
    /// It stopped by itself, its work done.
    Normal,
    /// Its supervisor asked it to stop and it did so in time.
    Shutdown,
    /// It was cut off: brutal kill, or it did not stop before its deadline.
    Killed,
    /// It panicked; the text is the panic's message.
    Panicked {
        /// Message of the panic, shortened to 512 characters.
        message: String,
    },
    /// It stopped in good order but reports that its work failed.
    Failed {
        /// What failed, in the actor's words.
        message: String,
    },
    /// A supervisor whose children crashed more often than its intensity allows.
    IntensityExceeded {
        /// Id of the child whose crash was one too many.
        child: String,
    },
    /// A supervisor that ended its own group instead of escalating (a peer's group).
    GroupEnded {
        /// Id of the child that ended the group.
        child: String,
        /// Why that child ended.
        reason: Box<ExitReason>,
    },
    /// There is no such actor (any more); only ever the answer to a [`Monitor`].
    NoActor,
}

impl ExitReason {
    /// Whether a transient child is restarted after this: it is not after `Normal`, `Shutdown` and `GroupEnded`.
    #[must_use]
    pub fn is_abnormal(&self) -> bool {
        match self {
            Self::Normal | Self::Shutdown | Self::GroupEnded { .. } | Self::NoActor => false,
            Self::Killed | Self::Panicked { .. } | Self::Failed { .. } | Self::IntensityExceeded { .. } => true,
        }
    }

    /// One word per variant, for metric labels.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shutdown => "shutdown",
            Self::Killed => "killed",
            Self::Panicked { .. } => "panicked",
            Self::Failed { .. } => "failed",
            Self::IntensityExceeded { .. } => "intensity_exceeded",
            Self::GroupEnded { .. } => "group_ended",
            Self::NoActor => "no_actor",
        }
    }

    /// Exit code of a node whose root supervisor ended for this reason: 0, or [`EXIT_CODE_SUPERVISION`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.is_abnormal() { EXIT_CODE_SUPERVISION } else { 0 }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::Killed => f.write_str("killed"),
            Self::Panicked { message } => write!(f, "panicked: {message}"),
            Self::Failed { message } => write!(f, "failed: {message}"),
            Self::IntensityExceeded { child } => {
                write!(f, "restart intensity exceeded by {child}")
            }
            Self::GroupEnded { child, reason } => write!(f, "group ended with {child}: {reason}"),
            Self::NoActor => f.write_str("no such actor"),
        }
    }
}

/// Which children are restarted when one of them ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Only the one that ended.
    OneForOne,
    /// All of them: the others are stopped in reverse order, then all are started in order.
    OneForAll,
    /// The one that ended and those started after it.
    RestForOne,
    /// One for one over children that come and go at run time (OTP's `simple_one_for_one`): a child that
    /// ends for good is forgotten, and at shutdown all of them stop at the same time.
    Dynamic,
}

/// When a child that ended is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    Permanent,
    /// After an abnormal end only ([`ExitReason::is_abnormal`]).
    Transient,
    /// Never; the supervisor forgets it.
    Temporary,
}

/// How a child is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownMode {
    /// Asked to stop; cut off when it has not after this long.
    Timeout(Duration),
    /// Cut off at once, without being asked.
    BrutalKill,
    /// Asked to stop and waited for; meant for supervisors, which bound their own children.
    Infinity,
}

/// What a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildKind {
    /// An ordinary actor.
    Worker,
    /// A supervisor with children of its own.
    Supervisor,
}

/// What a child is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    /// Its factory and its `started` are about to run.
    Starting,
    /// Running.
    Running,
    /// Asked to stop, or about to be.
    Stopping,
    /// Ended, and waiting to be started again; its mailbox is kept.
    Restarting,
    /// Ended, and not going to be started without a [`RestartChild`]; messages to it are dropped.
    Down,
}

/// One child of one supervisor, as [`WhichChildren`] answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildInfo {
    /// Its id, unique below its supervisor.
    pub id: String,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// Its restart type.
    pub restart: Restart,
    /// What it is doing.
    pub state: ChildState,
    /// How often it was started again.
    pub restarts: u32,
}

/// Counts of one supervisor's children, as OTP's `count_children`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildCounts {
    /// Children known, running or not.
    pub specs: usize,
    /// Children running now.
    pub active: usize,
    /// Supervisors among the children known.
    pub supervisors: usize,
    /// Workers among the children known.
    pub workers: usize,
}

/// One node of the live supervision tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeNode {
    /// Its id, unique below its supervisor.
    pub id: String,
    /// Worker or supervisor.
    pub kind: ChildKind,
    /// What it is doing.
    pub state: ChildState,
    /// How often it was started again.
    pub restarts: u32,
    /// Messages waiting in its mailbox when it was asked, none when it did not answer in time.
    pub mailbox: Option<usize>,
    /// Why it last ended abnormally.
    pub last_error: Option<String>,
    /// Time since its present life began; none while it is not running.
    pub uptime: Option<Duration>,
    /// The strategy over its children, when it is a supervisor.
    pub strategy: Option<Strategy>,
    /// Its children in start order; empty also when a supervisor did not answer in time.
    pub children: Vec<TreeNode>,
}

/// Why an order about a child was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChildError {
    /// The caller's fault; nothing changed.
    #[error("no child `{id}`")]
    NotFound {
        /// The id or path asked for.
        id: String,
    },
    /// The caller's fault: the id is taken; nothing changed.
    #[error("child `{id}` exists already")]
    AlreadyPresent {
        /// The id asked for.
        id: String,
    },
    /// The order needs a child that is down; nothing changed.
    #[error("child `{id}` is running")]
    Running {
        /// The id asked for.
        id: String,
    },
    /// The order needs a child that is down; nothing changed.
    #[error("child `{id}` is being restarted")]
    Restarting {
        /// The id asked for.
        id: String,
    },
    /// The order needs a running child; nothing changed.
    #[error("child `{id}` is not running")]
    NotRunning {
        /// The id or path asked for.
        id: String,
    },
    /// The supervisor is shutting down, or gone; nothing changed.
    #[error("the supervisor is shutting down")]
    ShuttingDown,
}

/// To a supervisor: list the children, in start order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Vec<ChildInfo>")]
pub struct WhichChildren;

/// To a supervisor: count the children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "ChildCounts")]
pub struct CountChildren;

/// To a supervisor: the live tree from here down. A child that does not answer within a second of its
/// supervisor's time is shown without mailbox depth, and without children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "TreeNode")]
pub struct Tree;

/// To a supervisor: stop this child and keep its specification (a temporary one is forgotten).
/// Answered when it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Result<(), ChildError>")]
pub struct TerminateChild {
    /// The child's id.
    pub id: String,
}

/// To a supervisor: start a child that is down, under the address it had.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Result<(), ChildError>")]
pub struct RestartChild {
    /// The child's id.
    pub id: String,
}

/// To a supervisor: forget a child that is down; its address closes.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Result<(), ChildError>")]
pub struct DeleteChild {
    /// The child's id.
    pub id: String,
}

/// To a supervisor: make a child panic within its own context, through the same containment as any panic.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Result<(), ChildError>")]
pub struct Kill {
    /// Ids from this supervisor down, parted by `/`: `peers/<id>/session`.
    pub path: String,
}

/// To a supervisor: end in good order, children first, in reverse order of their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct Shutdown;

/// To a supervisor: send one [`Down`] when the child's present life ends; at once when it has none.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Monitor {
    /// Ids from this supervisor down, parted by `/`.
    pub path: String,
    /// Who is told.
    pub recipient: Recipient<Down>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("path", &self.path).finish_non_exhaustive()
    }
}

/// From a supervisor to whoever asked with [`Monitor`]: that life of the actor is over.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct Down {
    /// The path asked for.
    pub path: String,
    /// Why it ended; [`ExitReason::NoActor`] when there was none to watch.
    pub reason: ExitReason,
}

/// From a supervisor to one recipient: something happened to a child or to the supervisor itself.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SupervisionEvent {
    /// A child runs: its factory and `started` returned.
    ChildStarted {
        /// Path from the root, parted by `/`.
        path: String,
        /// How often it was started before.
        restarts: u32,
    },
    /// A child's life ended.
    ChildExited {
        /// Path from the root, parted by `/`.
        path: String,
        /// Why.
        reason: ExitReason,
    },
    /// A child will be started again.
    ChildRestarting {
        /// Path from the root, parted by `/`.
        path: String,
        /// How long the supervisor waits first; zero for the first restart.
        delay: Duration,
    },
    /// The supervisor's intensity was exceeded; it stops its children and ends.
    IntensityExceeded {
        /// Path of the supervisor from the root.
        path: String,
        /// Id of the child whose crash was one too many.
        child: String,
        /// Whether the parent is asked to deal with it (otherwise the group just ends).
        escalates: bool,
    },
}
