//! The part of the network that this node can reach, numbered, and shortest paths in it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use bowline_messages::PeerId;

/// What is known of the network: who says that it has a link to whom, and what the link costs.
pub trait GraphView {
    /// Another number whenever anything below changed.
    fn version(&self) -> u64;

    /// Calls `each` with everybody to whom `peer` says it has a link, in ascending order, with the cost of the link in that
    /// direction. A cost is any measure that adds up; 0 counts as 1.
    fn neighbours(&self, peer: &PeerId, each: &mut dyn FnMut(PeerId, u32));

    /// Whether the peer passes on anything for others; who is not known is taken to.
    fn relays(&self, _peer: &PeerId) -> bool {
        true
    }

    /// Whether the peer is known, reachable or not.
    fn contains(&self, peer: &PeerId) -> bool {
        let mut any = false;
        self.neighbours(peer, &mut |_, _| any = true);
        any
    }
}

/// A way to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whom it passes, this node left out, the destination included.
    pub hops: Vec<PeerId>,
    /// The sum of the costs of its links.
    pub cost: u64,
}

/// Reachable nodes as numbers; this node is number 0.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) ids: Vec<PeerId>,
    index: BTreeMap<PeerId, u32>,
    /// By node: neighbours with the cost of the link to them.
    pub(super) edges: Vec<Vec<(u32, u32)>>,
}

impl Graph {
    /// What is reachable from `local`, whose own links are `own`. Any other link counts when both its ends name it: nobody
    /// gets traffic by claiming links that the other side does not know of. Whoever relays nothing is an end and never on the way.
    pub(super) fn new(local: PeerId, own: &BTreeMap<PeerId, u32>, view: &dyn GraphView) -> Self {
        let mut graph = Self { ids: vec![local], index: BTreeMap::from([(local, 0)]), edges: vec![Vec::new()] };
        for (peer, cost) in own {
            let number = graph.number(*peer);
            graph.edges[0].push((number, (*cost).max(1)));
        }
        let mut at = 1;
        while let Some(peer) = graph.ids.get(at).copied() {
            let mut named = Vec::new();
            view.neighbours(&peer, &mut |other, cost| named.push((other, cost.max(1))));
            for (other, cost) in named.into_iter().filter(|(other, _)| *other != local && *other != peer) {
                let number = graph.number(other);
                graph.edges[at].push((number, cost));
            }
            at += 1;
        }
        for list in &mut graph.edges {
            list.sort_unstable();
            list.dedup_by_key(|(to, _)| *to);
        }
        graph.keep_mutual();
        for (peer, edges) in graph.ids.iter().zip(&mut graph.edges).skip(1) {
            if !view.relays(peer) {
                edges.clear();
            }
        }
        graph
    }

    fn number(&mut self, peer: PeerId) -> u32 {
        let next = self.ids.len() as u32;
        let number = *self.index.entry(peer).or_insert(next);
        if number == next {
            self.ids.push(peer);
            self.edges.push(Vec::new());
        }
        number
    }

    fn keep_mutual(&mut self) {
        let names = |edges: &[Vec<(u32, u32)>], from: u32, to: u32| {
            edges[from as usize].binary_search_by_key(&to, |(to, _)| *to).is_ok()
        };
        let kept: Vec<Vec<(u32, u32)>> = self.edges[1..]
            .iter()
            .zip(1_u32..)
            .map(|(list, from)| list.iter().copied().filter(|(to, _)| names(&self.edges, *to, from)).collect())
            .collect();
        self.edges.truncate(1);
        self.edges.extend(kept);
    }

    pub(super) fn number_of(&self, peer: &PeerId) -> Option<u32> {
        self.index.get(peer).copied()
    }

    /// The route along nodes by number, this node left out.
    pub(super) fn route(&self, nodes: &[u32]) -> Route {
        let mut cost = 0;
        let mut from = 0_u32;
        for to in nodes {
            let edges = &self.edges[from as usize];
            let at = edges.binary_search_by_key(to, |(to, _)| *to);
            cost += at.map_or(0, |at| u64::from(edges[at].1));
            from = *to;
        }
        Route { hops: nodes.iter().map(|node| self.ids[*node as usize]).collect(), cost }
    }
}

/// Shortest paths from this node to everybody (Dijkstra).
#[derive(Debug)]
pub(super) struct Tree {
    /// The node before, on the way there; none where there is no way.
    before: Vec<Option<u32>>,
}

impl Tree {
    /// By cost, on equal costs by hops.
    pub(super) fn by_cost(graph: &Graph) -> Self {
        let nodes = graph.ids.len();
        let mut best = vec![(u64::MAX, u32::MAX); nodes];
        let mut before = vec![None; nodes];
        let mut heap = BinaryHeap::from([Reverse((0_u64, 0_u32, 0_u32))]);
        best[0] = (0, 0);
        while let Some(Reverse((cost, hops, at))) = heap.pop() {
            if (cost, hops) > best[at as usize] {
                continue;
            }
            for (to, weight) in &graph.edges[at as usize] {
                let reached = (cost + u64::from(*weight), hops + 1);
                if reached < best[*to as usize] {
                    best[*to as usize] = reached;
                    before[*to as usize] = Some(at);
                    heap.push(Reverse((reached.0, reached.1, *to)));
                }
            }
        }
        Self { before }
    }

    /// By hops alone: what is left where the cheapest way is longer than the hop limit.
    pub(super) fn by_hops(graph: &Graph) -> Self {
        let mut before = vec![None; graph.ids.len()];
        let mut queue = VecDeque::from([0_u32]);
        while let Some(at) = queue.pop_front() {
            for (to, _) in &graph.edges[at as usize] {
                if *to != 0 && before[*to as usize].is_none() {
                    before[*to as usize] = Some(at);
                    queue.push_back(*to);
                }
            }
        }
        Self { before }
    }

    /// The nodes on the way to one, this node left out.
    pub(super) fn path(&self, to: u32) -> Option<Vec<u32>> {
        let mut path = vec![to];
        let mut at = to;
        while at != 0 {
            at = self.before[at as usize]?;
            path.push(at);
        }
        path.pop();
        path.reverse();
        (!path.is_empty()).then_some(path)
    }
}
