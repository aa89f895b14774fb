//! The score by requirements.

use bowline_messages::PolicyName;

use super::terms::Weights;
use super::terms::{self, weighted_mean};
use super::{Candidate, Policy, Request, Requirements, Score, Worth};
use crate::health::quality::power_efficiency;

/// The link with the highest weighted sum of its qualities.
pub(super) struct Weighted;

impl Policy for Weighted {
    fn name(&self) -> PolicyName {
        PolicyName::Weighted
    }

    fn rule(&self) -> &'static str {
        "highest weighted score"
    }

    fn goes_by_requirements(&self) -> bool {
        true
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let score = quality(&links[at], request.requirements, request.weights);
        // The failures are in the stability already: they are not to count twice.
        Worth::of(&Candidate { failures: 0.0, ..links[at] }, score)
    }
}

/// The score by requirements; `None` as long as the latency is not measured. The other terms may be missing.
pub(super) fn quality(link: &Candidate, needs: &Requirements, weights: &Weights) -> Option<Score> {
    let terms = [
        Some(terms::latency(link, needs)?),
        terms::bandwidth(link, needs),
        terms::share(link.reliability),
        terms::stability(link),
        power_efficiency(link.medium),
        terms::idle(link),
        terms::share(link.security),
    ];
    score(terms, weights, link.multiplier)
}

/// The score of terms in the order of the weights, by what the transport's are multiplied with.
pub(super) fn score(terms: [Option<f64>; 7], weights: &Weights, multiplier: f64) -> Option<Score> {
    let weighted: [(f64, Option<f64>); 7] = std::array::from_fn(|at| (weights[at], terms[at]));
    weighted_mean(weighted).map(|mean| Score::new(mean * multiplier))
}
