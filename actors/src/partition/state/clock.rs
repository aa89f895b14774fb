//! Vector clocks: which of two states came from the other, or neither.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bowline_messages::PeerId;
use serde::{Deserialize, Serialize};

/// How two clocks stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same changes.
    Equal,
    /// Everything here is there too, and there is more: this one is stale.
    Before,
    /// Everything there is here too, and there is more.
    After,
    /// Each has changes that the other lacks.
    Concurrent,
}

/// Why a change was not counted. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a vector clock has at most {0} entries")]
pub struct ClockFull(pub usize);

/// How many changes of each node a state has seen. A node that is not in it has made none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Rows", into = "Rows")]
pub struct VectorClock(BTreeMap<PeerId, u64>);

/// A clock as it travels: keys as bytes.
#[derive(Serialize, Deserialize)]
struct Rows(Vec<([u8; 32], u64)>);

impl From<Rows> for VectorClock {
    fn from(rows: Rows) -> Self {
        // Of two entries of one node the larger counts; zeros are as good as none.
        let mut clock = Self::default();
        for (key, count) in rows.0 {
            clock.raise(PeerId::from_bytes(key), count);
        }
        clock
    }
}

impl From<VectorClock> for Rows {
    fn from(clock: VectorClock) -> Self {
        Self(clock.0.into_iter().map(|(peer, count)| (*peer.as_bytes(), count)).collect())
    }
}

impl VectorClock {
    fn raise(&mut self, peer: PeerId, count: u64) {
        if count > 0 {
            let entry = self.0.entry(peer).or_default();
            *entry = count.max(*entry);
        }
    }

    /// A node made one more change.
    ///
    /// # Errors
    /// [`ClockFull`]: it has not made any, and as many have as there may be.
    pub fn tick(&mut self, peer: PeerId, entries_max: usize) -> Result<(), ClockFull> {
        if !self.0.contains_key(&peer) && self.0.len() >= entries_max {
            return Err(ClockFull(entries_max));
        }
        let entry = self.0.entry(peer).or_default();
        *entry = entry.saturating_add(1);
        Ok(())
    }

    /// How this one stands to another.
    pub fn relation(&self, other: &Self) -> Relation {
        let behind = |a: &Self, b: &Self| a.0.iter().all(|(peer, count)| *count <= b.of(peer));
        match (behind(self, other), behind(other, self)) {
            (true, true) => Relation::Equal,
            (true, false) => Relation::Before,
            (false, true) => Relation::After,
            (false, false) => Relation::Concurrent,
        }
    }

    /// Changes of one node that it has seen.
    pub fn of(&self, peer: &PeerId) -> u64 {
        self.0.get(peer).copied().unwrap_or(0)
    }

    /// The nodes in it.
    pub fn peers(&self) -> impl Iterator<Item = &PeerId> {
        self.0.keys()
    }

    /// How many nodes are in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has seen nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialOrd for VectorClock {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.relation(other) {
            Relation::Equal => Some(Ordering::Equal),
            Relation::Before => Some(Ordering::Less),
            Relation::After => Some(Ordering::Greater),
            Relation::Concurrent => None,
        }
    }
}
