//! A copy on each of two links.

use bowline_messages::PolicyName;

use super::{Candidate, Choice, Policy, Request, Worth, best, fastest};

/// A copy on each of the two links that deliver soonest.
pub(super) struct Redundant;

impl Policy for Redundant {
    fn name(&self) -> PolicyName {
        PolicyName::Redundant
    }

    fn rule(&self) -> &'static str {
        "a copy on each of the two best"
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        Worth::of(&links[at], fastest::score(request, links, at))
    }

    fn choose(&self, request: &Request<'_>, links: &[Candidate]) -> Choice {
        let worth = |at| self.worth(request, links, at);
        // The first is damped like any other choice; the second costs nothing to change.
        let mut choice = super::damping::settle(request, links, self.rule(), worth);
        let first = links.iter().position(|c| Some(c.link) == choice.links[0]);
        choice.links[1] = first.and_then(|first| best(links, Some(first), worth)).map(|(at, _)| links[at].link);
        if choice.links[1].is_none() {
            choice.rule = "only one link is usable";
        }
        choice
    }
}
