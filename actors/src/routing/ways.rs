//! To which neighbours there is a way through others: looked for a few at a time, because finding out takes a search for each.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bowline_messages::PeerId;

/// Neighbours that are looked at together.
const AT_ONCE: usize = 8;

/// Of which neighbours it was told that there is one.
#[derive(Debug)]
pub(super) struct Ways {
    told: BTreeSet<PeerId>,
    /// The last one that was looked at. Those behind it come next: some may never have a way, and must not keep the others from their turn.
    last: Option<PeerId>,
}

impl Ways {
    /// Of none.
    pub(super) const fn new() -> Self {
        Self { told: BTreeSet::new(), last: None }
    }

    /// Whom to look at now, of all the neighbours there are. Who is none any more is forgotten.
    pub(super) fn next(&mut self, neighbours: &BTreeMap<PeerId, u32>) -> Vec<PeerId> {
        self.told.retain(|peer| neighbours.contains_key(peer));
        let behind = neighbours.range((self.last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let before = self.last.map(|last| neighbours.range(..=last));
        let round = behind.chain(before.into_iter().flatten()).map(|(peer, _)| *peer);
        let open: Vec<PeerId> = round.filter(|peer| !self.told.contains(peer)).take(AT_ONCE).collect();
        self.last = open.last().copied().or(self.last);
        open
    }

    /// It was told of this one.
    pub(super) fn on_told(&mut self, peer: PeerId) {
        self.told.insert(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    #[test]
    fn neighbours_without_a_way_keep_nobody_from_being_looked_at() {
        let mut ways = Ways::new();
        let mut neighbours: BTreeMap<PeerId, u32> = (0..20).map(|n| (peer(n), 1)).collect();
        let mut looked_at = BTreeSet::new();
        // The first 12 are leaves.
        for _ in 0..3 {
            let open = ways.next(&neighbours);
            assert_eq!(open.len(), AT_ONCE);
            open.iter().filter(|peer| **peer >= self::peer(12)).for_each(|peer| ways.on_told(*peer));
            looked_at.extend(open);
        }
        assert_eq!(looked_at.len(), 20);
        let mut again: Vec<PeerId> = (0..3).flat_map(|_| ways.next(&neighbours)).collect();
        assert!(again.iter().all(|open| *open < peer(12)), "{again:?}");
        again.sort_unstable();
        again.dedup();
        assert_eq!(again.len(), 12, "those that have none are looked at again and again");
        // Who goes and comes back is told anew, wherever the round was.
        neighbours.remove(&peer(15));
        ways.next(&neighbours);
        neighbours.insert(peer(15), 1);
        assert!((0..2).flat_map(|_| ways.next(&neighbours)).any(|open| open == peer(15)));
    }

    #[test]
    fn few_neighbours_are_looked_at_once_each() {
        let mut ways = Ways::new();
        let neighbours: BTreeMap<PeerId, u32> = (0..3).map(|n| (peer(n), 1)).collect();
        assert_eq!(ways.next(&neighbours), [peer(0), peer(1), peer(2)]);
        assert_eq!(ways.next(&neighbours), [peer(0), peer(1), peer(2)]);
        assert!(ways.next(&BTreeMap::new()).is_empty());
    }
}
