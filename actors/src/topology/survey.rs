//! One look at the graph: everything that takes time of what watch and healing make of it. Nothing here knows the node's thread, so a large graph is
//! looked at on another one.
//!
//! It is about the part of the network that this node is in, and in it about the nodes that count there ([`super::own_part`]): what anybody can
//! invent is counted, and changes no figure, no alert and no plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::{HealingConfig, TopologyConfig, WatchConfig};
use bowline_messages::topology::HealingPurpose;
use petgraph::graph::NodeIndex;
use petgraph::stable_graph::EdgeReference;
use petgraph::visit::{EdgeFiltered, EdgeRef as _, NodeFiltered};

use super::communities::communities;
use super::healing::outline::Outline;
use super::healing::plan::{Need, Planned, allowed, links_for, plan};
use super::link_state::{LinkData, LiveGraph};
use super::own_part::{Elsewhere, own_part};
use super::{Analyser, Shape};

/// Pairs of nodes that a recommendation names.
pub(super) const PAIRS_NAMED: usize = 3;
/// Busy bridge nodes that ways past are looked for.
const BUSY_MAX: usize = 8;
/// From so many nodes on, clusters are not looked for: that takes some ten times as long as all the rest.
const CLUSTERS_BELOW: u32 = 20_000;

/// A node that the network falls apart without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BridgeNode {
    pub(super) peer: PeerId,
    pub(super) load: f64,
}

/// Groups of nodes with more links inside than between them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Clusters {
    pub(super) of: BTreeMap<PeerId, u32>,
    pub(super) count: u32,
    pub(super) modularity: f64,
}

/// What links made for healing are measured by.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) separation: f64,
    pub(super) diameter: f64,
    pub(super) clustering: f64,
    /// How busy the busiest bridge node is.
    pub(super) load: f64,
    pub(super) components: u32,
}

impl Figures {
    fn of(shape: &Shape, graph: &LiveGraph) -> Self {
        let loads = shape.bridge_nodes.iter().filter_map(|node| graph.graph().node_weight(*node));
        Self {
            separation: shape.separation_risk(),
            diameter: f64::from(shape.diameter_largest_component),
            clustering: shape.average_clustering_deg2(),
            load: loads.map(|node| node.facts.load).fold(0.0, f64::max),
            components: shape.components,
        }
    }

    /// The one that a link is for.
    pub(super) fn by(&self, purpose: HealingPurpose) -> f64 {
        match purpose {
            HealingPurpose::Redundancy => self.separation,
            HealingPurpose::Shortcut => self.diameter,
            HealingPurpose::Relief => self.load,
            HealingPurpose::Local => self.clustering,
        }
    }
}

/// What was seen in one look. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// What the graph was when it was looked at.
    pub(super) version: u64,
    pub(super) structure: u64,
    /// This node's part.
    pub(super) shape: Arc<Shape>,
    pub(super) outline: Arc<Outline>,
    pub(super) figures: Figures,
    /// Those that separate most first.
    pub(super) bridge_nodes: Arc<Vec<BridgeNode>>,
    pub(super) elsewhere: Arc<Elsewhere>,
    pub(super) clusters: Option<Arc<Clusters>>,
    pub(super) needs: Vec<Need>,
    /// The links of the plan for these that are this node's own.
    pub(super) planned: Vec<Planned>,
    /// What people could do about each thing that an alert may stand for.
    pub(super) remedies: Vec<(Need, Vec<Planned>)>,
}

/// What the network would be without one link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Without {
    pub(super) figures: Figures,
    /// Links of the way round it.
    pub(super) way_round: u32,
}

/// What it would be without each of some links of this node, by their other ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Review(pub(super) BTreeMap<PeerId, Without>);

/// Looks at graphs, one after another. It keeps buffers, and what cannot have changed since.
#[derive(Debug)]
pub struct Surveyor {
    limits: WatchConfig,
    healing: HealingConfig,
    clusters_every: Duration,
    clusters_at: Option<Instant>,
    clusters_structure: u64,
    analyser: Analyser,
    /// Who counts beside this node and its neighbours; none: everybody.
    members: Option<BTreeSet<PeerId>>,
    /// Whether they are others than at the last look.
    met: bool,
    /// Whether they are others than when clusters were looked for.
    clusters_met: bool,
    /// Which nodes of the graph count, by their places, as of the last analysis.
    here: Vec<bool>,
    last: Survey,
    /// The thread of the last look.
    #[cfg(test)]
    pub(super) looked_on: Option<std::thread::ThreadId>,
}

impl Surveyor {
    /// One that has seen nothing yet.
    pub fn new(config: &TopologyConfig) -> Self {
        Self {
            limits: config.watch.clone(),
            healing: config.healing.clone(),
            clusters_every: config.analysis_interval,
            clusters_at: None,
            clusters_structure: 0,
            analyser: Analyser::new(),
            members: None,
            met: false,
            clusters_met: false,
            here: Vec::new(),
            last: Survey::default(),
            #[cfg(test)]
            looked_on: None,
        }
    }

    /// Who is a member, as far as this node knows, of the nodes in the graph. All others that hang on one node alone count for nothing. Before this
    /// is said for the first time, everybody counts.
    pub fn meet(&mut self, members: BTreeSet<PeerId>) {
        if self.members.as_ref() != Some(&members) {
            (self.members, self.met, self.clusters_met) = (Some(members), true, true);
        }
    }

    /// Whether a look would find anything that the last one did not.
    pub fn has_news(&self, now: Instant, graph: &LiveGraph) -> bool {
        self.met || graph.version() != self.last.version || self.wants_clusters(now, graph.structure())
    }

    /// Looks at a graph. Only what may have changed since the last look is worked out anew.
    pub fn look(&mut self, now: Instant, graph: &LiveGraph) -> Survey {
        #[cfg(test)]
        {
            self.looked_on = Some(std::thread::current().id());
        }
        let met = std::mem::take(&mut self.met);
        if met || graph.structure() != self.last.structure {
            self.analyse(graph);
        }
        if self.wants_clusters(now, graph.structure()) {
            self.find_clusters(now, graph);
        }
        if met || graph.version() != self.last.version {
            self.plan(graph);
        }
        self.last.clone()
    }

    /// What the network would be without each of some links of this node: one analysis each. To be asked after [`Surveyor::look`].
    pub fn review(&mut self, graph: &LiveGraph, links: &[PeerId]) -> Review {
        let here = &self.here;
        let part = NodeFiltered::from_fn(graph.graph(), |node| counts(here, node));
        let mut review = Review::default();
        for peer in links {
            let ends = graph.index(&graph.own()).zip(graph.index(peer));
            let Some(edge) = ends.and_then(|(own, other)| graph.graph().find_edge(own, other)) else { continue };
            let others = |other: EdgeReference<'_, LinkData, u32>| other.id() != edge;
            let without = EdgeFiltered::from_fn(&part, others);
            let figures = Figures::of(self.analyser.analyse(&without), graph);
            review.0.insert(*peer, Without { figures, way_round: self.last.outline.way_round(&graph.own(), peer) });
        }
        review
    }

    /// What follows from who is linked to whom.
    fn analyse(&mut self, graph: &LiveGraph) {
        let (here, elsewhere) = own_part(graph, self.members.as_ref());
        let shape = if elsewhere.len() == 0 {
            self.analyser.analyse(graph.graph())
        } else {
            self.analyser.analyse(&NodeFiltered::from_fn(graph.graph(), |node| counts(&here, node)))
        };
        self.here = here;
        self.last.shape = Arc::new(shape.clone());
        self.last.elsewhere = Arc::new(elsewhere);
        self.last.structure = graph.structure();
    }

    fn wants_clusters(&self, now: Instant, structure: u64) -> bool {
        let changed = self.clusters_met || structure != self.clusters_structure;
        changed && self.clusters_at.is_none_or(|at| now >= at + self.clusters_every)
    }

    fn find_clusters(&mut self, now: Instant, graph: &LiveGraph) {
        (self.clusters_at, self.clusters_structure, self.clusters_met) = (Some(now), graph.structure(), false);
        self.last.clusters = None;
        if self.last.shape.nodes >= CLUSTERS_BELOW {
            return;
        }
        let part = NodeFiltered::from_fn(graph.graph(), |node| counts(&self.here, node));
        let found = communities(&part);
        let nodes = graph.graph().node_indices().filter(|node| counts(&self.here, *node));
        let of = nodes.filter_map(|node| Some((graph.peer(node)?, *found.of.get(node.index())?))).collect();
        self.last.clusters = Some(Arc::new(Clusters { of, count: found.count, modularity: found.modularity }));
    }

    /// What follows from that and from what nodes say of themselves.
    fn plan(&mut self, graph: &LiveGraph) {
        let shape = Arc::clone(&self.last.shape);
        let mut bridge_nodes = shape.bridge_nodes.clone();
        let separated = |node: &NodeIndex<u32>| shape.by_node.get(node.index()).map_or(0, |node| node.pairs_separated);
        bridge_nodes.sort_by_key(|node| (u64::MAX - separated(node), node.index()));
        let data = bridge_nodes.iter().filter_map(|node| graph.graph().node_weight(*node));
        let bridge_nodes = data.map(|node| BridgeNode { peer: node.peer, load: node.facts.load }).collect();
        let outline = Outline::of(graph, &self.last.elsewhere.all());
        let needs = Need::of(&shape, graph, &self.limits);
        let planned = if needs.is_empty() { Vec::new() } else { plan(&needs, &outline, &self.healing) };
        let own = graph.own();
        self.last = Survey {
            version: graph.version(),
            figures: Figures::of(&shape, graph),
            bridge_nodes: Arc::new(bridge_nodes),
            planned: planned.into_iter().filter(|link| link.asks == own).collect(),
            needs,
            ..std::mem::take(&mut self.last)
        };
        self.last.remedies = self.remedies(graph, &outline);
        self.last.outline = Arc::new(outline);
    }

    /// What people could do about everything that an alert may stand for, which are some more things than those beyond their limits: an alert goes on for a
    /// while. Nobody is taken to be unwilling: people can change that.
    fn remedies(&self, graph: &LiveGraph, outline: &Outline) -> Vec<(Need, Vec<Planned>)> {
        let (limits, shape) = (&self.limits, &self.last.shape);
        let (back, forth) = (1.0 - limits.hysteresis, 1.0 + limits.hysteresis);
        let worst = shape.separation().and_then(|separation| graph.peer(separation.node));
        let mut needs: Vec<Need> = worst.map(Need::Redundancy).into_iter().collect();
        if self.last.figures.diameter >= f64::from(limits.diameter_recommend) * back {
            needs.push(Need::Shortcut);
        }
        if shape.average_clustering_deg2() <= limits.clustering_alert * forth {
            needs.push(Need::Local);
        }
        let busy = self.last.bridge_nodes.iter().filter(|node| node.load >= limits.load_alert * back);
        let mut busy: Vec<PeerId> = busy.map(|node| node.peer).collect();
        busy.sort_unstable();
        needs.extend(busy.into_iter().take(BUSY_MAX).map(Need::Relief));
        if needs.is_empty() {
            return Vec::new();
        }
        let mut willing = outline.clone();
        willing.spare.iter_mut().for_each(|spare| *spare = u8::MAX);
        let links = |need: &Need| links_for(need, &willing, allowed(need, &willing, &self.healing).min(PAIRS_NAMED));
        needs.into_iter().map(|need| (need.clone(), links(&need))).collect()
    }
}

fn counts(here: &[bool], node: NodeIndex<u32>) -> bool {
    here.get(node.index()).is_some_and(|here| *here)
}
