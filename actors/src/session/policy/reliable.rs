//! The link that loses least.

use bowline_messages::PolicyName;

use super::{Candidate, Policy, Request, Score, Worth, terms};

/// Weight of the latency beside the reliability: it decides among links that lose nothing.
const LATENCY: f64 = 0.2;

/// The link with the largest share of delivered samples; among those that lose equally little the faster one.
pub(super) struct MostReliable;

impl Policy for MostReliable {
    fn name(&self) -> PolicyName {
        PolicyName::MostReliable
    }

    fn rule(&self) -> &'static str {
        "loses least"
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let candidate = &links[at];
        let score = terms::share(candidate.reliability).map(|reliability| {
            let latency = terms::latency(candidate, request.requirements).unwrap_or(0.0);
            // Losses weigh twice: a message that is lost has to be sent again over a link that loses as well.
            Score::new(reliability * reliability * (1.0 - LATENCY + LATENCY * latency))
        });
        Worth::of(candidate, score)
    }
}
