//! Which commands were carried out: each once, however often it is proposed.

use std::collections::{BTreeMap, BTreeSet};

use bowline_messages::PeerId;
use serde::{Deserialize, Serialize};

/// The name of a command: who accepted it, in which life, and its number in that life, from 1 without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandId {
    #[serde(with = "key")]
    /// Who accepted it.
    pub origin: PeerId,
    /// In which life: grows with each start of that node.
    pub life: u64,
    /// Its number.
    pub number: u64,
}

/// A key as bytes.
mod key {
    use bowline_messages::PeerId;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
        peer.as_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
        Ok(PeerId::from_bytes(<[u8; 32]>::deserialize(deserializer)?))
    }
}

/// Commands of one origin.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Row {
    life: u64,
    /// Everything up to here is done, or so old that it is not done any more.
    floor: u64,
    /// Those done beyond it.
    above: BTreeSet<u64>,
    /// When one was done last, by a count of all.
    last: u64,
}

/// The commands that were carried out. The same log gives the same on every node, and it stays small: an origin has at most
/// [`Done::WINDOW`] commands under way, and what is older counts as done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Done {
    rows: BTreeMap<[u8; 32], Row>,
    count: u64,
}

impl Done {
    /// Commands of one origin that may be under way.
    pub const WINDOW: u64 = 1024;
    /// Origins that are remembered; more than there can be participants, so that none of those is ever forgotten: nothing of anybody else's is carried out.
    const ORIGINS_MAX: usize = 256;

    /// Whether it was carried out, or never will be: it is of an earlier life of its origin, or older than its window.
    pub fn contains(&self, id: &CommandId) -> bool {
        self.rows.get(id.origin.as_bytes()).is_some_and(|row| {
            id.life < row.life || id.life == row.life && (id.number <= row.floor || row.above.contains(&id.number))
        })
    }

    /// Notes that it is carried out. `false`: it was before, or never will be.
    pub fn insert(&mut self, id: &CommandId) -> bool {
        if self.contains(id) {
            return false;
        }
        self.count += 1;
        let row = self.rows.entry(*id.origin.as_bytes()).or_default();
        if id.life > row.life {
            *row = Row { life: id.life, ..Row::default() };
        }
        row.last = self.count;
        row.above.insert(id.number);
        row.floor = row.floor.max(id.number.saturating_sub(Self::WINDOW));
        while row.above.first().is_some_and(|first| *first <= row.floor + 1) {
            if let Some(first) = row.above.pop_first() {
                row.floor = row.floor.max(first);
            }
        }
        while self.rows.len() > Self::ORIGINS_MAX {
            let oldest = self.rows.iter().min_by_key(|(_, row)| row.last).map(|(origin, _)| *origin);
            if let Some(oldest) = oldest {
                self.rows.remove(&oldest);
            }
        }
        true
    }

    /// How many were carried out.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(origin: u8, life: u64, number: u64) -> CommandId {
        CommandId { origin: PeerId::from_bytes([origin; 32]), life, number }
    }

    #[test]
    fn an_earlier_life_is_over_and_so_is_what_is_older_than_the_window() {
        let mut done = Done::default();
        assert!(done.insert(&id(1, 2, 5)) && !done.insert(&id(1, 2, 5)));
        assert!(!done.contains(&id(1, 2, 4)) && done.contains(&id(1, 1, 9)));
        assert!(done.insert(&id(1, 2, Done::WINDOW + 4)));
        assert!(done.contains(&id(1, 2, 4)), "nobody proposes it any more");
        assert!(done.insert(&id(1, 3, 1)) && !done.insert(&id(1, 2, 6)));
        assert_eq!(done.count(), 3);
    }

    #[test]
    fn strangers_do_not_make_it_grow() {
        let mut done = Done::default();
        for origin in 0..2000_u64 {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&origin.to_be_bytes());
            done.insert(&CommandId { origin: PeerId::from_bytes(bytes), life: 1, number: u64::MAX });
        }
        assert_eq!(done.rows.len(), Done::ORIGINS_MAX);
    }

    proptest! {
        #[test]
        fn each_is_done_once_in_any_order(order in Just((1..200_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut done = Done::default();
            for number in &order {
                prop_assert!(done.insert(&id(7, 1, *number)));
                prop_assert!(!done.insert(&id(7, 1, *number)));
            }
            let row = &done.rows[&[7; 32]];
            prop_assert!(row.above.is_empty() && row.floor == 199, "nothing is kept that need not be");
        }
    }
}
