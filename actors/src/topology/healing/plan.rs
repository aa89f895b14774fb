//! Which links the network needs most: the same answer at every node that sees the same graph, so that each knows which of them are its own to
//! make, without a word.

use bowline_messages::PeerId;
use bowline_messages::config::{HealingConfig, WatchConfig};
use bowline_messages::topology::HealingPurpose;

use super::outline::{FAR, Outline};
use crate::topology::Shape;
use crate::topology::link_state::LiveGraph;

/// A link that the network needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// The end that asks: the one with the lower number of links, then the smaller name.
    pub asks: PeerId,
    /// The end that is asked.
    pub asked: PeerId,
    /// What for.
    pub purpose: HealingPurpose,
}

/// What is wrong with the network's shape, worst first; what plans are made from.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::topology) enum Need {
    /// Losing this node separates too much.
    Redundancy(PeerId),
    /// It is too long.
    Shortcut,
    /// This bridge node is too busy.
    Relief(PeerId),
    /// Neighbours are too seldom neighbours of each other.
    Local,
}

impl Need {
    /// What the network needs, by its figures.
    pub(in crate::topology) fn of(shape: &Shape, graph: &LiveGraph, limits: &WatchConfig) -> Vec<Self> {
        let mut needs = Vec::new();
        let bridge = shape.separation().filter(|separation| separation.share >= limits.separation_recommend);
        needs.extend(bridge.and_then(|separation| graph.peer(separation.node)).map(Self::Redundancy));
        if shape.diameter_largest_component > limits.diameter_alert {
            needs.push(Self::Shortcut);
        }
        let nodes = shape.bridge_nodes.iter().filter_map(|node| graph.graph().node_weight(*node));
        let busy = nodes.filter(|node| node.facts.load > limits.load_alert).map(|node| node.peer);
        needs.extend(busy.min().map(Self::Relief));
        let enough = shape.nodes >= limits.clustering_nodes_least && shape.nodes_deg2plus > 0;
        if enough && shape.average_clustering_deg2() < limits.clustering_alert {
            needs.push(Self::Local);
        }
        needs
    }

    pub(in crate::topology) const fn purpose(&self) -> HealingPurpose {
        match self {
            Self::Redundancy(_) => HealingPurpose::Redundancy,
            Self::Shortcut => HealingPurpose::Shortcut,
            Self::Relief(_) => HealingPurpose::Relief,
            Self::Local => HealingPurpose::Local,
        }
    }
}

/// How many links may be begun for a need now, by what the network may spend.
pub(in crate::topology) fn allowed(need: &Need, outline: &Outline, config: &HealingConfig) -> usize {
    let at_once = ((outline.len() as f64 * config.at_once_share) as usize).max(1);
    let ordinary = outline.edges.saturating_sub(outline.healing) as f64;
    let most = ((ordinary * config.links_share_max) as usize).max(1);
    match need {
        // What keeps the network together is worth more than what the rest may cost.
        Need::Redundancy(_) | Need::Relief(_) => at_once,
        Need::Shortcut => at_once.min(most.saturating_sub(outline.healing)),
        Need::Local => at_once.min(((most as f64 * config.local_share_max) as usize).saturating_sub(outline.healing)),
    }
}

/// The links to begin now: for the worst need that any link can be found for.
pub(in crate::topology) fn plan(needs: &[Need], outline: &Outline, config: &HealingConfig) -> Vec<Planned> {
    let mut links = needs.iter().map(|need| links_for(need, outline, allowed(need, outline, config)));
    links.find(|links| !links.is_empty()).unwrap_or_default()
}

/// The first links for a need, so many at most.
pub(in crate::topology) fn links_for(need: &Need, outline: &Outline, most: usize) -> Vec<Planned> {
    let links = match need {
        Need::Redundancy(around) => outline.number(around).map(|around| redundancy(outline.clone(), around, most)),
        Need::Shortcut => Some(shortcuts(outline.clone(), most)),
        Need::Relief(around) => outline.number(around).map(|around| relief(outline, around, most)),
        Need::Local => Some(local(outline.clone(), most)),
    };
    let planned = |[one, other]: [u32; 2]| {
        let rank = |node: u32| (outline.degree(node), outline.peers[node as usize]);
        let (asks, asked) = if rank(one) <= rank(other) { (one, other) } else { (other, one) };
        let peer = |node: u32| outline.peers[node as usize];
        Planned { asks: peer(asks), asked: peer(asked), purpose: need.purpose() }
    };
    links.unwrap_or_default().into_iter().map(planned).collect()
}

/// The farthest of some nodes that would take on a link; of those, the one with the fewest links.
fn farthest(outline: &Outline, of: impl Iterator<Item = u32>, distance: &[u32]) -> Option<u32> {
    let open = of.filter(|node| outline.spare[*node as usize] > 0 && distance[*node as usize] != FAR);
    open.min_by_key(|node| (FAR - distance[*node as usize], outline.degree(*node), *node))
}

/// Links from each piece that a bridge node holds to the largest one, between nodes as far from it as can be: so that a link past it is past the
/// bridge nodes behind it, too.
fn redundancy(mut outline: Outline, around: u32, most: usize) -> Vec<[u32; 2]> {
    let pieces = outline.pieces_without(around);
    let starts = outline.neighbours[around as usize].clone();
    let distance = outline.distances(&starts, Some(around));
    let Some((largest, others)) = pieces.split_first() else { return Vec::new() };
    let mut links = Vec::new();
    for piece in others.iter().take(most) {
        let ends = farthest(&outline, piece.iter().copied(), &distance).zip(farthest(
            &outline,
            largest.iter().copied(),
            &distance,
        ));
        if let Some((one, other)) = ends {
            outline.add(one, other);
            links.push([one, other]);
        }
    }
    links
}

/// Links between nodes far from each other, one after the other, each as if those before were there.
fn shortcuts(mut outline: Outline, most: usize) -> Vec<[u32; 2]> {
    let all = |outline: &Outline| 0..outline.len() as u32;
    let mut links = Vec::new();
    let start = all(&outline).max_by_key(|node| (outline.degree(*node), FAR - *node));
    let Some(start) = start else { return links };
    let mut from_start = outline.distances(&[start], None);
    for _ in 0..most {
        // Twice the farthest: near the ends of the longest way, at the price of one search each.
        let Some(one) = farthest(&outline, all(&outline), &from_start) else { break };
        let distance = outline.distances(&[one], None);
        let Some(other) = farthest(&outline, all(&outline), &distance) else { break };
        if distance[other as usize] < 2 {
            break;
        }
        outline.add(one, other);
        outline.shorten(&mut from_start, one, other);
        links.push([one, other]);
    }
    links
}

/// Links between neighbours of a busy bridge node that have no other way to each other, the least busy first.
fn relief(outline: &Outline, around: u32, most: usize) -> Vec<[u32; 2]> {
    let pieces = outline.pieces_without(around);
    let nearest = |piece: &Vec<u32>| {
        let near = piece.iter().copied().filter(|node| outline.linked(around, *node));
        let open = near.filter(|node| outline.spare[*node as usize] > 0);
        open.min_by(|one, other| {
            let rank = |node: u32| outline.load[node as usize];
            rank(*one).total_cmp(&rank(*other)).then(one.cmp(other))
        })
    };
    let Some((first, others)) = pieces.split_first() else { return Vec::new() };
    let Some(one) = nearest(first) else { return Vec::new() };
    let spare = usize::from(outline.spare[one as usize]);
    others.iter().filter_map(nearest).take(most.min(spare)).map(|other| [one, other]).collect()
}

/// Links between two neighbours of a node whose neighbours are strangers to each other, the nodes with the most pairs of such first.
fn local(mut outline: Outline, most: usize) -> Vec<[u32; 2]> {
    let mut middles: Vec<u32> = (0..outline.len() as u32).filter(|node| outline.degree(*node) > 1).collect();
    middles.sort_by_key(|node| (FAR as usize - outline.degree(*node), *node));
    let mut links = Vec::new();
    for middle in middles {
        if links.len() >= most {
            break;
        }
        let open: Vec<u32> = outline.neighbours[middle as usize]
            .iter()
            .copied()
            .filter(|node| outline.spare[*node as usize] > 0)
            .take(PAIRS_OF)
            .collect();
        let pairs =
            open.iter().enumerate().flat_map(|(at, one)| open[at + 1..].iter().map(move |other| [*one, *other]));
        let strangers = pairs.filter(|[one, other]| !outline.linked(*one, *other));
        if let Some([one, other]) = strangers.min_by_key(|[one, other]| outline.degree(*one) + outline.degree(*other)) {
            outline.add(one, other);
            links.push([one, other]);
        }
    }
    links
}

/// Neighbours of one node that are looked at for local links: pairs of them are many.
const PAIRS_OF: usize = 16;
