//! What links made for healing changed, and whether the network would do as well without them.

use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::topology::HealingPurpose;
use rand::RngExt;

use super::machine::{Healing, HealingOutput};
use super::wire::Say;
use crate::topology::survey::{Review, Without};

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

    /// Whose links are to be looked at, when that is due: what the network would be without each of these takes an analysis, so somebody else finds out.
    pub fn to_review(&self, now: Instant) -> Option<Vec<PeerId>> {
        let there =
            self.links.iter().filter(|(_, made)| made.asked && made.until.is_none() && made.measure_at.is_none());
        (now >= self.review_at).then(|| there.map(|(peer, _)| *peer).take(REVIEWED_MAX).collect())
    }

    /// Lets a link go that was of no use for long enough, by what the network would be without each of those that were to be looked at.
    pub fn on_review(&mut self, now: Instant, review: &Review) {
        self.review_at = now + self.config.review_interval.mul_f64(0.75 + 0.5 * self.rng.random::<f64>());
        let mut useless = None;
        for (peer, without) in &review.0 {
            let is_useless = self.is_useless(peer, without);
            let Some(made) = self.links.get_mut(peer) else { continue };
            if !is_useless {
                made.useless_since = None;
            } else if *made.useless_since.get_or_insert(now) + self.config.useless_after <= now {
                useless = Some(*peer);
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

    fn is_useless(&self, peer: &PeerId, Without { figures: without, way_round }: &Without) -> bool {
        let Some(made) = self.links.get(peer) else { return false };
        let with = self.figures;
        let low_risk = self.limits.separation_recommend * (1.0 - self.limits.hysteresis);
        let riskier = without.separation > with.separation + RISK_STEP && without.separation >= low_risk;
        if riskier || without.components > with.components {
            return false;
        }
        match made.purpose {
            HealingPurpose::Redundancy => true,
            HealingPurpose::Shortcut => {
                without.diameter <= f64::from(self.limits.diameter_recommend) || *way_round < self.config.shortcut_least
            }
            HealingPurpose::Relief => {
                let around = made.around.and_then(|around| self.outline.number(&around));
                let busy = around.map_or(0.0, |around| self.outline.load[around as usize]);
                busy < self.limits.load_alert / 2.0
            }
            HealingPurpose::Local => {
                let enough = self.limits.clustering_alert * (1.0 + self.limits.hysteresis);
                without.clustering >= enough || without.clustering >= with.clustering
            }
        }
    }
}
