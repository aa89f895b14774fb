//! The most secure link.

use bowline_messages::PolicyName;

use super::{Candidate, Policy, Request, Score, Worth, fastest, terms};

/// Weight of the delay beside the security: it decides among links that are equally secure.
const DELAY: f64 = 0.1;

/// The link with the highest security score; among equally secure ones the faster one.
pub(super) struct Secure;

impl Policy for Secure {
    fn name(&self) -> PolicyName {
        PolicyName::Secure
    }

    fn rule(&self) -> &'static str {
        "most secure"
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let score = terms::share(links[at].security).map(|security| {
            let soon = fastest::score(request, links, at).map_or(0.0, Score::value);
            Score::new(security * (1.0 - DELAY + DELAY * soon))
        });
        Worth::of(&links[at], score)
    }
}
