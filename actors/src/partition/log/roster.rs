//! Who is who: the consensus knows participants by numbers, everything else by their keys.

use std::collections::{BTreeMap, BTreeSet};

use bowline_messages::PeerId;
use noraft::{ClusterConfig, NodeId};

use super::wire::Membership;

/// A participant's number: the first eight bytes of its key's digest. It is the same on every node and needs no agreement; two keys that share one
/// (by chance one pair in 2^64; to make one for a given key takes as many attempts) are never let in together.
pub(super) fn number(peer: &PeerId) -> NodeId {
    let digest = blake3::hash(peer.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    NodeId::new(u64::from_be_bytes(first))
}

/// The keys behind the numbers that occur in the log. Bounded: [`Roster::keep`] forgets the others.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster(BTreeMap<NodeId, PeerId>);

impl Roster {
    /// Notes everybody in a membership. `false`, and nothing noted, if a number would stand for two.
    pub(super) fn note(&mut self, membership: &Membership) -> bool {
        let all = membership.everybody();
        let mut seen = BTreeSet::new();
        let clear = |peer: &PeerId| self.0.get(&number(peer)).is_none_or(|known| known == peer);
        if !all.iter().all(|peer| clear(peer) && seen.insert(number(peer))) {
            return false;
        }
        self.0.extend(all.iter().map(|peer| (number(peer), *peer)));
        true
    }

    /// Forgets whoever is in none of these.
    pub(super) fn keep<'a>(&mut self, configs: impl Iterator<Item = &'a ClusterConfig>, me: NodeId) {
        let used: BTreeSet<NodeId> = configs.flat_map(ClusterConfig::unique_nodes).chain([me]).collect();
        self.0.retain(|id, _| used.contains(id));
    }

    /// The key behind a number.
    pub(super) fn peer(&self, id: NodeId) -> Option<PeerId> {
        self.0.get(&id).copied()
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A membership as the consensus has it.
    pub(super) fn membership(&self, config: &ClusterConfig) -> Membership {
        let peers = |ids: &BTreeSet<NodeId>| ids.iter().filter_map(|id| self.peer(*id)).collect();
        Membership {
            voters: peers(&config.voters),
            next_voters: peers(&config.new_voters),
            learners: peers(&config.non_voters),
        }
    }
}

/// A membership for the consensus.
pub(super) fn config(membership: &Membership) -> ClusterConfig {
    let ids = |peers: &BTreeSet<PeerId>| peers.iter().map(number).collect();
    let mut config = ClusterConfig::new();
    config.voters = ids(&membership.voters);
    config.new_voters = ids(&membership.next_voters);
    config.non_voters = ids(&membership.learners);
    config
}
