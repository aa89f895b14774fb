//! Which neighbour brought the destinations whose distances are kept, so that none takes the room of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bowline_messages::PeerId;

/// What was told of a destination: the newest number, and the smallest metric under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) seqno: u16,
    pub(super) metric: u32,
}

/// Each destination belongs to one neighbour that tells of it, or to nobody when none does any more. While there is room a neighbour may
/// own all of it; where there is none, whoever owns the most gives way to whoever owns less, until all that want it own the same.
#[derive(Debug)]
pub(super) struct Owners {
    /// `None`: of those that nobody tells of.
    owned: BTreeMap<Option<PeerId>, BTreeSet<PeerId>>,
    owner: BTreeMap<PeerId, Option<PeerId>>,
}

impl Owners {
    /// Nothing is owned.
    pub(super) const fn new() -> Self {
        Self { owned: BTreeMap::new(), owner: BTreeMap::new() }
    }

    /// To whom a destination belongs.
    pub(super) fn of(&self, destination: &PeerId) -> Option<PeerId> {
        self.owner.get(destination).copied().flatten()
    }

    /// A destination belongs to somebody else from now on.
    pub(super) fn give(&mut self, destination: PeerId, to: Option<PeerId>) {
        self.remove(&destination);
        self.owner.insert(destination, to);
        self.owned.entry(to).or_default().insert(destination);
    }

    /// A neighbour is gone: what it owned belongs to whoever else tells of it, as `heir` says.
    pub(super) fn on_neighbour_lost(&mut self, by: &PeerId, heir: impl Fn(&PeerId) -> Option<PeerId>) {
        for destination in self.owned.remove(&Some(*by)).unwrap_or_default() {
            self.give(destination, heir(&destination));
        }
    }

    /// The destination that has to make room for a new one of `by`; none when nobody owns more than `by` would then.
    pub(super) fn give_way(&mut self, by: &PeerId) -> Option<PeerId> {
        let own = self.owned.get(&Some(*by)).map_or(0, BTreeSet::len);
        let from = if self.owned.contains_key(&None) {
            None
        } else {
            let (most, owned) = self.owned.iter().max_by_key(|(_, owned)| owned.len())?;
            if owned.len() <= own + 1 {
                return None;
            }
            *most
        };
        let destination = self.owned.get(&from)?.last().copied()?;
        self.remove(&destination);
        Some(destination)
    }

    /// Forgets the destinations of which nothing is known any more.
    pub(super) fn retain(&mut self, known: impl Fn(&PeerId) -> bool) {
        let gone: Vec<PeerId> = self.owner.keys().filter(|destination| !known(destination)).copied().collect();
        gone.iter().for_each(|destination| self.remove(destination));
    }

    fn remove(&mut self, destination: &PeerId) {
        let Some(owner) = self.owner.remove(destination) else { return };
        let Some(owned) = self.owned.get_mut(&owner) else { return };
        owned.remove(destination);
        if owned.is_empty() {
            self.owned.remove(&owner);
        }
    }
}

/// What was told of destinations that had to make room: neighbours may still count on it, so it is remembered as long as that of others,
/// and no offer that is worse is used if they come back. Bounded: what is forgotten soonest goes first.
#[derive(Debug)]
pub(super) struct Retired {
    most: usize,
    told: BTreeMap<PeerId, (Told, Instant)>,
    order: BTreeSet<(Instant, PeerId)>,
}

impl Retired {
    /// Of so many at most.
    pub(super) const fn new(most: usize) -> Self {
        Self { most, told: BTreeMap::new(), order: BTreeSet::new() }
    }

    pub(super) fn put(&mut self, peer: PeerId, told: Told, forget: Instant) {
        self.take(&peer);
        self.told.insert(peer, (told, forget));
        self.order.insert((forget, peer));
        if self.told.len() > self.most
            && let Some((_, first)) = self.order.pop_first()
        {
            self.told.remove(&first);
        }
    }

    pub(super) fn told(&self, peer: &PeerId) -> Option<Told> {
        self.told.get(peer).map(|(told, _)| *told)
    }

    pub(super) fn take(&mut self, peer: &PeerId) -> Option<Told> {
        let (told, forget) = self.told.remove(peer)?;
        self.order.remove(&(forget, *peer));
        Some(told)
    }

    pub(super) fn forget_old(&mut self, now: Instant) {
        while let Some((forget, peer)) = self.order.first().copied().filter(|(forget, _)| *forget <= now) {
            self.order.remove(&(forget, peer));
            self.told.remove(&peer);
        }
    }
}
