//! The network falling apart and coming together: terms and tokens of activity, what is seen, decided and reported.

use std::fmt;
use std::time::Duration;

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
