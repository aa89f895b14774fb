//! The score by priority.

use bowline_messages::PolicyName;

use super::terms::{self, weighted_mean};
use super::{Candidate, Policy, Request, Score, Worth};

/// Health, performance, load, suitability.
const WEIGHTS: [f64; 4] = [0.4, 0.3, 0.2, 0.1];

/// Health first, then performance, load, and how well the link suits the message's class.
pub(super) struct Priority;

impl Policy for Priority {
    fn name(&self) -> PolicyName {
        PolicyName::Priority
    }

    fn rule(&self) -> &'static str {
        "highest score of health, performance, load and suitability"
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let (link, needs) = (&links[at], request.requirements);
        let performance = weighted_mean([(1.0, terms::latency(link, needs)), (1.0, terms::bandwidth(link, needs))]);
        let score = performance.map(|performance| {
            score([
                Some(link.health.value()),
                Some(performance),
                terms::idle(link),
                terms::suitability(link, request.class, needs),
            ])
        });
        Worth::of(link, score)
    }
}

/// The score of terms in the order of the weights.
pub(super) fn score(terms: [Option<f64>; 4]) -> Score {
    let weighted: [(f64, Option<f64>); 4] = std::array::from_fn(|at| (WEIGHTS[at], terms[at]));
    weighted_mean(weighted).map_or(Score::WORST, Score::new)
}
