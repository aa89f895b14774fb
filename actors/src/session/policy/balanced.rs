//! Spread over all links.

use bowline_messages::PolicyName;

use super::{Candidate, Choice, Policy, Request, Score, Worth};

/// Spread over all links with room, so that all become free at the same time. It has no choice to stand by: each message goes where it
/// would arrive first.
pub(super) struct LoadBalanced;

fn finish(candidate: &Candidate) -> f64 {
    candidate.cost() + if candidate.backlog.is_finite() { candidate.backlog.max(0.0) } else { 0.0 }
}

impl Policy for LoadBalanced {
    fn name(&self) -> PolicyName {
        PolicyName::LoadBalanced
    }

    fn rule(&self) -> &'static str {
        "earliest expected arrival with room"
    }

    fn spreads(&self) -> bool {
        true
    }

    fn worth(&self, _: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let candidate = &links[at];
        let score = candidate.delay.map(|_| Score::of_cost(finish(candidate), 1e-6));
        let worth = Worth::of(candidate, score);
        if candidate.room > 0 || worth == Worth::Unmeasured { worth } else { worth.missing() }
    }

    fn choose(&self, _: &Request<'_>, links: &[Candidate]) -> Choice {
        let trusted = |c: &&Candidate| c.room > 0 && (!c.suspected || links.iter().all(|other| other.suspected));
        let chosen =
            links.iter().filter(trusted).min_by(|a, b| finish(a).total_cmp(&finish(b)).then(a.link.cmp(&b.link)));
        match chosen {
            Some(candidate) => Choice { links: [Some(candidate.link), None], rule: self.rule() },
            None => Choice { links: [None; 2], rule: "no link has room" },
        }
    }
}
