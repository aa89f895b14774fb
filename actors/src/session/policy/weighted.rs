//! The score by requirements.

use bowline_messages::PolicyName;

use super::terms::{self, weighted_mean};
use super::{Candidate, Policy, Request, Requirements, Score, Worth};

/// The reference weights: latency, bandwidth, reliability, stability, power, load.
const WEIGHTS: [f64; 6] = [0.30, 0.25, 0.20, 0.15, 0.10, 0.0];
/// What a medium's score is multiplied by; every medium is worth its measurements.
const MULTIPLIER: f64 = 1.0;

/// The link with the highest weighted sum of its qualities, among those that meet every hard requirement.
pub(super) struct Weighted;

impl Policy for Weighted {
    fn name(&self) -> PolicyName {
        PolicyName::Weighted
    }

    fn rule(&self) -> &'static str {
        "highest weighted score"
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let (link, needs) = (&links[at], request.requirements);
        let score = quality(link, needs);
        // The failures are in the stability already: they are not to count twice.
        let worth = Worth::of(&Candidate { penalty: 0.0, ..*link }, score);
        if needs.missed_by(link) { worth.missing() } else { worth }
    }
}

/// The score by requirements; `None` as long as the latency is not measured. The other terms may be missing.
pub(super) fn quality(link: &Candidate, needs: &Requirements) -> Option<Score> {
    score([
        Some(terms::latency(link, needs)?),
        terms::bandwidth(link, needs),
        terms::share(link.reliability),
        terms::stability(link),
        terms::power(link.medium),
        terms::idle(link),
    ])
}

/// The score of terms in the order of the weights.
pub(super) fn score(terms: [Option<f64>; 6]) -> Option<Score> {
    let weighted: [(f64, Option<f64>); 6] = std::array::from_fn(|at| (WEIGHTS[at], terms[at]));
    weighted_mean(weighted).map(|mean| Score::new(mean * MULTIPLIER))
}
