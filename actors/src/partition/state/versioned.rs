//! What an application's state has to offer so that it can be made one again after a split.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::log::Position;
use super::clock::VectorClock;
use super::transfer::Digest;

/// What a state is, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The last entry of the log that it includes.
    pub committed: Position,
    /// The digest of what the log's entries up to there made of it, without anything that was never committed. Two states with the same `committed` have the
    /// same one, or one of them is damaged or lies.
    pub committed_digest: Digest,
    /// How many changes it has seen, committed or not.
    pub sequence: u64,
    /// Whose changes.
    pub clock: VectorClock,
}

/// State of an application that all participants share. Called on the node's thread; nothing in here may block.
///
/// What was committed reaches it through the log, in order: it counts how far it is ([`Version::committed`]) and passes over entries that it has already,
/// for an adopted state may include what the log has yet to give out here. Beside that it may have changes that were never committed, made by a side
/// that hoped to commit them later.
pub trait Versioned {
    /// What it is now.
    fn version(&self) -> Version;

    /// [`Version::committed`] alone, where that costs less: a digest of the state costs as much as the state is large.
    fn committed(&self) -> Position {
        self.version().committed
    }

    /// All of it, as bytes. The same state gives the same bytes on every node: their BLAKE3 digest stands for it.
    fn snapshot(&self) -> Bytes;

    /// Becomes this state, which is intact, and chosen for all.
    ///
    /// # Errors
    /// In its own words; [`Versioned::restore`] follows.
    fn apply(&mut self, state: &Bytes) -> Result<(), String>;

    /// After it became another state: which changes of the one before, never committed and not in this one, are worth proposing again. Nothing of them may be
    /// in the state yet; they come back through the log, or not at all.
    fn merge(&mut self, before: &Bytes) -> Vec<Bytes>;

    /// Goes back to what [`Versioned::snapshot`] gave.
    ///
    /// # Errors
    /// In its own words; the state is then in doubt, and the application is paused.
    fn restore(&mut self, snapshot: &Bytes) -> Result<(), String>;
}
