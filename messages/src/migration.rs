//! State that moves from one node to another over a session: its name, its phases, how it ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One migration, numbered by the side that gives the state away. Printed as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MigrationId(pub u64);

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<MigrationId> for String {
    fn from(id: MigrationId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for MigrationId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

/// How far a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationPhase {
    /// The application captures its state.
    Capturing,
    /// The peer is asked whether it takes the state.
    Offering,
    /// The state is on its way.
    Transferring,
    /// It is complete, and compared with what was captured.
    Verifying,
    /// The application over there takes it over.
    Applying,
    /// It is over.
    Ended,
}

/// Why a migration was rolled back: the side that had the state keeps it, the other one has none of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RollbackReason {
    /// The application here could not capture its state; in its words.
    #[error("the state could not be captured: {0}")]
    CaptureFailed(String),
    /// The state is larger than may be sent, or than the peer takes.
    #[error("the state has {bytes} bytes, {limit} are allowed")]
    TooLarge {
        /// Bytes of the state.
        bytes: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// The peer takes no more migrations at present.
    #[error("the peer takes no more migrations at present")]
    Busy,
    /// The receiving application does not take state of this name from this peer; in its words.
    #[error("refused: {0}")]
    Refused(String),
    /// What arrived is not what was captured.
    #[error("the checksum does not match")]
    Checksum,
    /// The receiving application looked at the state and does not want it; in its words.
    #[error("the state was not accepted: {0}")]
    VerificationFailed(String),
    /// The receiving application could not take the state over; in its words.
    #[error("the state could not be applied: {0}")]
    ApplyFailed(String),
    /// A phase took longer than its time.
    #[error("timed out while {0:?}")]
    TimedOut(MigrationPhase),
    /// The other side broke the protocol.
    #[error("protocol violation: {0}")]
    Protocol(String),
    /// The side that gives the state away called it off.
    #[error("called off: {0}")]
    Aborted(String),
    /// The actor that carries migrations was restarted while the application was at work for this one.
    #[error("interrupted by a restart")]
    Interrupted,
    /// The peer was told to take the state over and did not say whether it has: *it may have it*. The side that gave it away keeps
    /// its copy, and the application has to find out which of the two counts.
    #[error("the peer did not say whether it has the state")]
    OutcomeUnknown,
}
