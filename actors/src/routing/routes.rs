//! Link-state routing: the cheapest route to every peer, and further ones that share no relay with each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_messages::PeerId;

use super::disjoint::Flow;
use super::graph::{Graph, GraphView, Route, Tree};

/// Routes of one node, remembered until the network changes.
#[derive(Debug)]
pub struct Routes {
    local: PeerId,
    hops_max: usize,
    /// Routes to one peer that share no relay.
    most: usize,
    cache_max: usize,
    /// For which view and which links of this node the rest was made.
    made_for: Option<(u64, u64)>,
    graph: Option<Made>,
    cache: BTreeMap<PeerId, Arc<[Route]>>,
}

#[derive(Debug)]
struct Made {
    graph: Graph,
    cheapest: Tree,
    fewest: Option<Tree>,
    flow: Option<Flow>,
}

/// This node's own links, which it knows better than any view.
#[derive(Debug, Clone, Copy)]
pub struct OwnLinks<'a> {
    /// To whom, and what they cost.
    pub costs: &'a BTreeMap<PeerId, u32>,
    /// Another number whenever they changed.
    pub epoch: u64,
}

impl Routes {
    /// Routes of at most `hops_max` hops; `most` of them to one peer, `cache_max` peers.
    pub const fn new(local: PeerId, hops_max: usize, most: usize, cache_max: usize) -> Self {
        Self { local, hops_max, most, cache_max, made_for: None, graph: None, cache: BTreeMap::new() }
    }

    /// The cheapest route to a peer, or one with fewer hops where that has too many; none where there is no way.
    pub fn best(&mut self, own: OwnLinks<'_>, view: &dyn GraphView, to: &PeerId) -> Option<Route> {
        let hops_max = self.hops_max;
        let made = self.made(own, view);
        let to = made.graph.number_of(to).filter(|to| *to != 0)?;
        let path = made.cheapest.path(to)?;
        if path.len() <= hops_max {
            return Some(made.graph.route(&path));
        }
        let fewest = made.fewest.get_or_insert_with(|| Tree::by_hops(&made.graph));
        let path = fewest.path(to).filter(|path| path.len() <= hops_max)?;
        Some(made.graph.route(&path))
    }

    /// All routes to a peer: the best one first, then those that share no relay with each other, the cheapest first. Whatever
    /// single relay is lost, all but one of the latter are left.
    pub fn all(&mut self, own: OwnLinks<'_>, view: &dyn GraphView, to: &PeerId) -> Arc<[Route]> {
        let Some(best) = self.best(own, view, to) else { return Arc::new([]) };
        if let Some(known) = self.cache.get(to) {
            return Arc::clone(known);
        }
        let (most, hops_max) = (self.most, self.hops_max);
        let made = self.made(own, view);
        let mut routes = Vec::new();
        if let Some(to) = made.graph.number_of(to) {
            let flow = made.flow.get_or_insert_with(|| Flow::new(&made.graph));
            routes = flow.routes(to, most).iter().map(|path| made.graph.route(path)).collect();
        }
        routes.retain(|route| route.hops.len() <= hops_max && route.hops != best.hops);
        routes.sort_by(|a, b| (a.cost, &a.hops).cmp(&(b.cost, &b.hops)));
        routes.insert(0, best);
        let routes: Arc<[Route]> = routes.into();
        if self.cache.len() >= self.cache_max {
            self.cache.pop_first();
        }
        self.cache.insert(*to, Arc::clone(&routes));
        routes
    }

    /// Peers whose routes are remembered.
    pub fn remembered(&self) -> usize {
        self.cache.len()
    }

    fn made(&mut self, own: OwnLinks<'_>, view: &dyn GraphView) -> &mut Made {
        let key = (view.version(), own.epoch);
        if self.made_for != Some(key) {
            self.made_for = Some(key);
            self.graph = None;
            self.cache.clear();
        }
        let local = self.local;
        self.graph.get_or_insert_with(|| {
            let graph = Graph::new(local, own.costs, view);
            Made { cheapest: Tree::by_cost(&graph), graph, fewest: None, flow: None }
        })
    }
}
