//! What links made for healing changed, and whether the network would do as well without them.

use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::topology::HealingPurpose;
use petgraph::visit::EdgeFiltered;
use rand::RngExt;

use super::machine::{Figures, Healing, HealingOutput};
use super::outline::FAR;
use super::wire::Say;
use crate::topology::link_state::LiveGraph;

/// Links that are looked at in one review: each takes an analysis.
const REVIEWED_MAX: usize = 4;
/// Risks that differ by less are the same.
const RISK_STEP: f64 = 1e-9;

impl Healing {
    /// Measures links that are there for long enough.
    pub(super) fn measure(&mut self, now: Instant) {
        for (peer, made) in &mut self.links {
            if made.asked && made.measure_at.is_some_and(|at| at <= now) {
                made.measure_at = None;
                let after = self.figures.by(made.purpose);
                let (peer, purpose, before) = (*peer, made.purpose, made.before);
                self.outputs.push_back(HealingOutput::Measured { peer, purpose, before, after });
            }
        }
    }

    /// Looks at the links that this node asked for, and lets one go that was of no use for long enough.
    pub(super) fn review(&mut self, now: Instant, graph: &LiveGraph) {
        self.review_at = now + self.config.review_interval.mul_f64(0.75 + 0.5 * self.rng.random::<f64>());
        let there =
            self.links.iter().filter(|(_, made)| made.asked && made.until.is_none() && made.measure_at.is_none());
        let own: Vec<PeerId> = there.map(|(peer, _)| *peer).take(REVIEWED_MAX).collect();
        let mut useless = None;
        for peer in own {
            let is_useless = self.is_useless(&peer, graph);
            let Some(made) = self.links.get_mut(&peer) else { continue };
            if !is_useless {
                made.useless_since = None;
            } else if *made.useless_since.get_or_insert(now) + self.config.useless_after <= now {
                useless = Some(peer);
            }
        }
        // One at a time: without the first, the second may be needed.
        if let Some(peer) = useless {
            self.say(&[self.own, peer], Say::Undo);
            let until = now + self.config.answer_timeout;
            for (other, made) in &mut self.links {
                made.useless_since = None;
                if *other == peer {
                    (made.leaving, made.until) = (true, Some(until));
                }
            }
        }
    }

    fn is_useless(&mut self, peer: &PeerId, graph: &LiveGraph) -> bool {
        let ends = graph.index(&self.own).zip(graph.index(peer));
        let Some((edge, made)) = ends.and_then(|(a, b)| graph.graph().find_edge(a, b)).zip(self.links.get(peer)) else {
            return false;
        };
        let without =
            EdgeFiltered::from_fn(graph.graph(), |other: petgraph::stable_graph::EdgeReference<'_, _, u32>| {
                petgraph::visit::EdgeRef::id(&other) != edge
            });
        let shape = self.analyser.analyse(&without);
        let without = Figures::of(shape, graph);
        let with = self.figures;
        let low_risk = self.limits.separation_recommend * (1.0 - self.limits.hysteresis);
        let riskier = without.separation > with.separation + RISK_STEP && without.separation >= low_risk;
        if riskier || without.components > with.components {
            return false;
        }
        match made.purpose {
            HealingPurpose::Redundancy => true,
            HealingPurpose::Shortcut => {
                without.diameter <= f64::from(self.limits.diameter_recommend)
                    || self.way_round(peer) < self.config.shortcut_least
            }
            HealingPurpose::Relief => {
                let busy = made.around.and_then(|around| graph.node(&around)).map_or(0.0, |node| node.facts.load);
                busy < self.limits.load_alert / 2.0
            }
            HealingPurpose::Local => {
                let enough = self.limits.clustering_alert * (1.0 + self.limits.hysteresis);
                without.clustering >= enough || without.clustering >= with.clustering
            }
        }
    }

    /// How many links the way to a neighbour has without the link to it; at most a bit over what makes a shortcut worth it.
    fn way_round(&self, peer: &PeerId) -> u32 {
        let Some((own, other)) = self.outline.number(&self.own).zip(self.outline.number(peer)) else { return FAR };
        let mut without = self.outline.clone();
        for (from, to) in [(own, other), (other, own)] {
            without.neighbours[from as usize].retain(|node| *node != to);
        }
        without.distances(&[own], None)[other as usize]
    }
}
