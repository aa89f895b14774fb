//! Which state counts after a split.

use std::collections::BTreeMap;

use bowline_messages::PeerId;
use serde::{Deserialize, Serialize};

use super::clock::Relation;
use super::transfer::Digest;
use super::versioned::Version;

/// What a participant says of its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// What it is.
    pub version: Version,
    /// Its bytes.
    pub bytes: u64,
    /// Their digest.
    pub digest: Digest,
    /// How many participants were on its side of the split, itself included.
    pub side: u16,
}

/// The participant whose state all take over.
///
/// What the log committed comes first: the state that includes most of it, by term and index. Among those only what was never committed differs, and
/// there a state that another one came from is stale; of those that are not, the one with more changes counts, then the one of the larger side, then the
/// one with the greater digest, so that all come to the same choice. Of equal states the smallest key's: it does not matter whose.
pub fn choose(said: &BTreeMap<PeerId, Summary>) -> Option<PeerId> {
    let furthest = said.values().map(|summary| summary.version.committed).max()?;
    let leading = || said.iter().filter(|(_, summary)| summary.version.committed == furthest);
    let is_stale = |summary: &Summary| {
        leading().any(|(_, other)| summary.version.clock.relation(&other.version.clock) == Relation::Before)
    };
    let rank = |(peer, summary): &(&PeerId, &Summary)| {
        (summary.version.sequence, summary.side, summary.digest, std::cmp::Reverse(**peer))
    };
    leading().filter(|(_, summary)| !is_stale(summary)).max_by_key(rank).map(|(peer, _)| *peer)
}
