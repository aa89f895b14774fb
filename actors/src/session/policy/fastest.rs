//! The link that will deliver soonest.

use bowline_messages::PolicyName;

use super::{Candidate, Policy, Request, Score, Worth, measured};

/// Links that are behind by more than a factor of e⁴ are all the same.
const BEHIND_MAX: f64 = 4.0;

/// What is made of forecasts. Chosen by cross-validation over recorded links; see `docs/choice.md`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// How unsure a forecast is: a difference of this much between two logarithms of delays means that the better link will be the
    /// better one with about 85 %. Above 0.
    pub sigma: f64,
    /// Weight of how far a link is behind, beside the chance that it is as good as the best: among hopeless links the least slow wins.
    pub behind: f64,
}

impl Default for Likelihood {
    fn default() -> Self {
        Self { sigma: 0.4, behind: 0.24 }
    }
}

/// The link with the smallest expected time to delivery: scored by the chance that it is as good as the best of the others.
pub(super) struct FastestFirst;

impl Policy for FastestFirst {
    fn name(&self) -> PolicyName {
        PolicyName::FastestFirst
    }

    fn rule(&self) -> &'static str {
        "smallest expected delay"
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        Worth::of(&links[at], score(request, links, at))
    }
}

/// The chance that a link is as good as the best of the others, and how far it is behind.
pub(super) fn score(request: &Request<'_>, links: &[Candidate], at: usize) -> Option<Score> {
    let mine = measured(links[at].forecast)?;
    let others = links.iter().enumerate().filter(|(other, c)| *other != at && !c.suspected);
    let best = others.filter_map(|(_, c)| measured(c.forecast)).min_by(f64::total_cmp);
    let Some(best) = best else { return Some(Score::BEST) };
    // Both are at least 0; the tolerance keeps the first logarithm finite, the lower bound the second.
    let ahead = request.damping.as_good_as(best).ln() - mine.max(1e-9).ln();
    let Likelihood { sigma, behind } = request.tuning.likelihood;
    let chance = 1.0 / (1.0 + (-1.7 * ahead / sigma).exp());
    let near = ahead.clamp(-BEHIND_MAX, 0.0) + BEHIND_MAX;
    Some(Score::new((chance + behind * near) / (1.0 + behind * BEHIND_MAX)))
}
