//! All nodes at one moment, as they say themselves. Pure.

use std::collections::BTreeSet;

use bowline_messages::PeerId;

use super::plan::{BRIDGE, LEFT, NODES, RIGHT};
use super::protocol::Status;

/// A link that both of its ends know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drawn {
    /// Its ends, in ascending order.
    pub ends: (usize, usize),
    /// Whether it is there because the network needed it.
    pub healing: bool,
}

/// All nodes.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Who is who.
    pub ids: Vec<PeerId>,
    /// How each of them is; `None`: no process, or none that has said anything.
    pub nodes: [Option<Status>; NODES],
}

impl World {
    /// The nodes that are there.
    pub fn alive(&self) -> impl Iterator<Item = usize> + '_ {
        (0..NODES).filter(|node| self.nodes[*node].is_some())
    }

    fn all(&self, of: &[usize], holds: impl Fn(&Status) -> bool) -> bool {
        of.iter().all(|node| self.nodes[*node].as_ref().is_some_and(&holds))
    }

    fn number(&self, peer: &PeerId) -> Option<usize> {
        self.ids.iter().position(|id| id == peer)
    }

    /// The links that both ends know of, in order.
    pub fn links(&self) -> Vec<Drawn> {
        let mut said = BTreeSet::new();
        for (node, status) in self.nodes.iter().enumerate().filter_map(|(node, status)| Some((node, status.as_ref()?)))
        {
            let others = status.neighbours.iter().filter_map(|(peer, healing)| Some((self.number(peer)?, *healing)));
            said.extend(others.map(|(other, healing)| (node, other, healing)));
        }
        let both = said.iter().filter(|(one, other, healing)| {
            one < other && (said.contains(&(*other, *one, *healing)) || said.contains(&(*other, *one, !*healing)))
        });
        let links: BTreeSet<Drawn> =
            both.map(|(one, other, healing)| Drawn { ends: (*one, *other), healing: *healing }).collect();
        links.into_iter().collect()
    }

    /// Whether everybody is there, sees everybody in one network, and may act.
    pub fn is_whole(&self) -> bool {
        let all: Vec<usize> = (0..NODES).collect();
        self.all(&all, |status| status.nodes as usize == NODES && status.parts == 1 && status.running)
    }

    /// Whether the network would hold together without the bridge node.
    pub fn has_second_way(&self) -> bool {
        let links: Vec<_> = self.links().iter().map(|link| link.ends).collect();
        connected((0..NODES).filter(|node| *node != BRIDGE), &links)
    }

    /// Whether all others know that the bridge node is gone, and see each other in one network.
    pub fn is_whole_without_bridge(&self) -> bool {
        let others: Vec<usize> = LEFT.into_iter().chain(RIGHT).collect();
        self.all(&others, |status| status.nodes as usize == NODES - 1 && status.parts == 1)
    }

    /// Whether the smaller side of the split does nothing, and everybody on the larger one may act.
    pub fn is_split(&self) -> bool {
        self.all(&RIGHT, |status| !status.running)
            && self.all(&LEFT, |status| status.running)
            && self.all(&[BRIDGE], |status| status.running)
    }

    /// Whether nobody waits for an answer.
    pub fn is_at_rest(&self) -> bool {
        self.alive().count() == NODES && self.nodes.iter().flatten().all(|status| status.under_way == 0)
    }

    /// Whether a node is one that the network would fall apart without, as most say who are there.
    pub fn is_critical(&self, node: usize) -> bool {
        let Some(id) = self.ids.get(node) else { return false };
        let says = self.nodes.iter().flatten().filter(|status| status.critical.contains(id)).count();
        says * 2 > self.alive().count()
    }
}

/// Whether these nodes hold together by these links alone.
pub fn connected(nodes: impl Iterator<Item = usize>, links: &[(usize, usize)]) -> bool {
    let mut left: BTreeSet<usize> = nodes.collect();
    let mut reached: Vec<usize> = left.pop_first().into_iter().collect();
    while let Some(node) = reached.pop() {
        for (one, other) in links {
            let next = if *one == node {
                other
            } else if *other == node {
                one
            } else {
                continue;
            };
            if left.remove(next) {
                reached.push(*next);
            }
        }
    }
    left.is_empty()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::demo::mesh::plan::LINKS;

    /// Everybody well, with these links; the second value of each says whether it is for healing.
    pub(in crate::cli::demo::mesh) fn world(links: &[((usize, usize), bool)]) -> World {
        let ids: Vec<PeerId> = (0..NODES).map(|node| PeerId::from_bytes([node as u8; 32])).collect();
        let mut world = World { ids: ids.clone(), ..World::default() };
        for node in 0..NODES {
            let of = |((one, other), healing): &((usize, usize), bool)| {
                let far = if *one == node {
                    *other
                } else if *other == node {
                    *one
                } else {
                    return None;
                };
                Some((ids[far], *healing))
            };
            let neighbours = links.iter().filter_map(of).collect();
            let (nodes, parts) = (NODES as u32, 1);
            world.nodes[node] = Some(Status { neighbours, nodes, parts, running: true, ..Status::default() });
        }
        world
    }

    #[test]
    fn a_link_is_one_that_both_ends_know() {
        let mut world = world(&[((0, 1), false), ((3, 6), true)]);
        let (plain, healing) = (Drawn { ends: (0, 1), healing: false }, Drawn { ends: (3, 6), healing: true });
        assert_eq!(world.links(), [plain, healing]);
        world.nodes[1].as_mut().unwrap().neighbours.clear();
        assert_eq!(world.links(), [healing]);
        world.nodes[6] = None;
        assert_eq!(world.links(), []);
    }

    #[test]
    fn a_second_way_is_one_around_the_bridge_node() {
        let mut links: Vec<_> = LINKS.iter().map(|ends| (*ends, false)).collect();
        assert!(!world(&links).has_second_way());
        links.push(((3, 6), true));
        assert!(world(&links).has_second_way());
    }

    #[test]
    fn each_effect_is_seen_and_not_before() {
        let mut world = world(&[]);
        assert!(world.is_whole() && world.is_at_rest() && !world.is_split() && !world.is_whole_without_bridge());
        world.nodes[7].as_mut().unwrap().under_way = 1;
        assert!(!world.is_at_rest());
        for node in RIGHT {
            world.nodes[node].as_mut().unwrap().running = false;
        }
        assert!(world.is_split() && !world.is_whole());
        world.nodes[BRIDGE] = None;
        assert!(!world.is_split(), "the bridge node belongs to the larger side");
        for status in world.nodes.iter_mut().flatten() {
            status.nodes = 7;
        }
        assert!(world.is_whole_without_bridge());
        world.nodes[0].as_mut().unwrap().parts = 2;
        assert!(!world.is_whole_without_bridge());
    }
}
