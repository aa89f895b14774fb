//! What has to survive a crash, and how it is read back.
//!
//! The log gives [`Persist`] records; the driver writes each to a medium that keeps it, in order, before it does anything that comes after it. [`Stored`]
//! is what they add up to: a driver may keep the records as a journal, or the sum, or both.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::wire::{Entry, Membership, NUMBER_MAX, Position};
use bowline_messages::PeerId;
use bowline_messages::config::PartitionLogConfig;

/// State of the application up to a place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// What it includes, up to here.
    pub position: Position,
    /// Who took part there.
    pub membership: Membership,
    /// The application's state; empty at position 0.
    pub state: Bytes,
}

/// One thing to be written before anything that comes after it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Persist {
    /// The term, and whom this node voted for in it.
    Vote {
        /// The term.
        term: u64,
        /// Its key.
        #[serde(with = "key")]
        voted_for: Option<PeerId>,
    },
    /// Entries behind `prev`; whatever stood there before is replaced.
    Append {
        /// The entry before the first one.
        prev: Position,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// A snapshot; entries that it includes are no longer needed.
    Snapshot(Snapshot),
}

/// Keys as bytes.
mod key {
    use bowline_messages::PeerId;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(peer: &Option<PeerId>, serializer: S) -> Result<S::Ok, S::Error> {
        peer.map(|peer| *peer.as_bytes()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PeerId>, D::Error> {
        Ok(Option::<[u8; 32]>::deserialize(deserializer)?.map(PeerId::from_bytes))
    }
}

/// Why what was stored cannot be used. The medium's fault; the node has to be removed from the participants and come back as a new one, for what it has
/// promised is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// The bytes are not what was written.
    #[error("what was stored cannot be read")]
    Malformed,
    /// A record does not follow from those before.
    #[error("what was stored has a gap")]
    Gap,
    /// It contradicts itself, or is larger than is allowed here.
    #[error("what was stored contradicts itself or its bounds")]
    Unsound,
}

impl Persist {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        postcard::to_allocvec(self).unwrap_or_default().into()
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`StoredError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, StoredError> {
        match postcard::take_from_bytes(bytes) {
            Ok((persist, [])) => Ok(persist),
            Ok(_) | Err(_) => Err(StoredError::Malformed),
        }
    }
}

/// What the records add up to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stored {
    /// The term this node is in.
    pub term: u64,
    /// Whom it voted for in it.
    #[serde(with = "key")]
    pub voted_for: Option<PeerId>,
    /// Where its log begins.
    pub snapshot: Snapshot,
    /// The entries behind the snapshot.
    pub entries: Vec<Entry>,
}

impl Stored {
    /// The beginning: a log without entries, among these. All participants begin with the same.
    pub fn new(membership: Membership) -> Self {
        Self { snapshot: Snapshot { membership, ..Snapshot::default() }, ..Self::default() }
    }

    /// The index of the last entry.
    pub fn last_index(&self) -> u64 {
        self.snapshot.position.index + self.entries.len() as u64
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`StoredError::Gap`]; nothing changed.
    pub fn apply(&mut self, persist: Persist) -> Result<(), StoredError> {
        let begins = self.snapshot.position.index;
        match persist {
            Persist::Vote { term, voted_for } => (self.term, self.voted_for) = (term, voted_for),
            Persist::Append { prev, entries } => {
                let kept = prev.index.checked_sub(begins).filter(|kept| *kept <= self.entries.len() as u64);
                let kept = kept.and_then(|kept| usize::try_from(kept).ok()).ok_or(StoredError::Gap)?;
                self.entries.truncate(kept);
                self.entries.extend(entries);
            }
            Persist::Snapshot(snapshot) => {
                let gone = snapshot.position.index.checked_sub(begins).ok_or(StoredError::Gap)?;
                let gone = usize::try_from(gone).unwrap_or(usize::MAX);
                let follows = self.term_at(gone) == Some(snapshot.position.term);
                if follows {
                    self.entries.drain(..gone);
                } else {
                    // What stood here was never committed.
                    self.entries.clear();
                }
                self.snapshot = snapshot;
            }
        }
        Ok(())
    }

    /// The term of the entry with this many before it, counted from the snapshot.
    fn term_at(&self, count: usize) -> Option<u64> {
        let entries = self.entries.get(..count)?;
        let term = |entry: &Entry| if let Entry::Term(term) = entry { Some(*term) } else { None };
        Some(entries.iter().rev().find_map(term).unwrap_or(self.snapshot.position.term))
    }

    /// Whether a log may begin from it.
    pub(super) fn is_sound(&self, config: &PartitionLogConfig) -> bool {
        let mut term = self.snapshot.position.term;
        let mut sound = self.term < NUMBER_MAX
            && term <= self.term
            && self.snapshot.position.index < NUMBER_MAX
            && self.snapshot.membership.is_sound(config.participants_max)
            && self.snapshot.state.len() as u64 <= config.snapshot_bytes_max;
        for entry in &self.entries {
            match entry {
                Entry::Term(next) => {
                    sound &= *next > term && *next <= self.term;
                    term = *next;
                }
                Entry::Membership(membership) => sound &= membership.is_sound(config.participants_max),
                Entry::Command(bytes) => sound &= bytes.len() <= config.entry_bytes_max as usize,
            }
        }
        sound
    }
}
