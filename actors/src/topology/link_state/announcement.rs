//! What a node says of itself and its links.

use std::time::Duration;

use bowline_messages::PeerId;
use bowline_messages::config::LinkStateConfig;
use bowline_messages::topology::{LinkFacts, NodeFacts};

use super::refusal::Refusal;

/// Which of two announcements of one node is the newer: the incarnation decides, then the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp {
    /// Grows with each start of the process.
    pub incarnation: u64,
    /// Grows with each announcement.
    pub sequence: u64,
}

impl Stamp {
    /// The next one.
    #[must_use]
    pub fn next(self) -> Self {
        match self.sequence.checked_add(1) {
            Some(sequence) => Self { sequence, ..self },
            None => Self { incarnation: self.incarnation.saturating_add(1), sequence: 1 },
        }
    }
}

/// What a node says of itself and its links.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    /// The node.
    pub origin: PeerId,
    /// Which of its announcements it is.
    pub stamp: Stamp,
    /// How long it counts, in whole seconds.
    pub lifetime: Duration,
    /// What the node is like.
    pub facts: NodeFacts,
    /// Its links, in ascending order of the neighbours.
    pub links: Vec<(PeerId, LinkFacts)>,
}

/// Latencies and idle times beyond this are absurd.
const DURATION_MAX: Duration = Duration::from_secs(86_400);
/// Costs beyond this are absurd: sums along a way have to fit.
const COST_MAX: u32 = 1 << 24;

impl Announcement {
    /// Whether it makes sense, whoever signed it.
    ///
    /// # Errors
    /// What is wrong with it; all of it is the origin's fault.
    pub fn check(&self, config: &LinkStateConfig) -> Result<(), Refusal> {
        if self.links.len() > config.edges_max {
            return Err(Refusal::Oversized);
        }
        let ordered = self.links.windows(2).all(|two| two[0].0 < two[1].0);
        if !ordered || self.links.iter().any(|(peer, _)| *peer == self.origin) {
            return Err(Refusal::Contradictory);
        }
        let lives = self.lifetime > Duration::ZERO && self.lifetime <= config.lifetime_max();
        let possible = |link: &LinkFacts| {
            link.loss_ppm <= 1_000_000
                && (1..=COST_MAX).contains(&link.cost)
                && link.latency <= DURATION_MAX
                && link.idle <= DURATION_MAX
        };
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let sane = lives
            && self.stamp.sequence > 0
            && share(self.facts.load)
            && share(self.facts.power)
            && self.links.iter().all(|(_, link)| possible(link));
        if sane { Ok(()) } else { Err(Refusal::Absurd) }
    }

    /// Puts what is measured here into the ranges that others accept.
    pub(super) fn within_range(link: LinkFacts) -> LinkFacts {
        LinkFacts {
            latency: link.latency.min(DURATION_MAX),
            bandwidth: link.bandwidth,
            loss_ppm: link.loss_ppm.min(1_000_000),
            idle: link.idle.min(DURATION_MAX),
            cost: link.cost.clamp(1, COST_MAX),
            healing: link.healing,
        }
    }

    /// What it says of the link to a peer.
    pub fn link(&self, peer: &PeerId) -> Option<&LinkFacts> {
        find(&self.links, peer)
    }
}

/// A peer's entry in a sorted list.
pub(super) fn find<'a>(links: &'a [(PeerId, LinkFacts)], peer: &PeerId) -> Option<&'a LinkFacts> {
    let at = links.binary_search_by(|(other, _)| other.cmp(peer)).ok()?;
    links.get(at).map(|(_, facts)| facts)
}
