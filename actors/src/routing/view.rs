//! The graph that the gossip builds, as routing looks at it.

use bowline_messages::PeerId;

use super::graph::GraphView;
use crate::topology::link_state::LiveGraph;

impl GraphView for LiveGraph {
    fn version(&self) -> u64 {
        Self::version(self)
    }

    fn neighbours(&self, peer: &PeerId, each: &mut dyn FnMut(PeerId, u32)) {
        Self::neighbours(self, peer).into_iter().for_each(|(neighbour, cost)| each(neighbour, cost));
    }

    fn relays(&self, peer: &PeerId) -> bool {
        self.node(peer).is_none_or(|node| node.facts.relays)
    }

    fn contains(&self, peer: &PeerId) -> bool {
        self.index(peer).is_some()
    }
}
