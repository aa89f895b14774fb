//! The bandit UCB1.

use bowline_messages::PolicyName;

use super::{Candidate, Choice, Policy, Request, Score, Worth};

/// Links that were never tried first, then the highest mean reward + √(2 ln t / n). Its changes of link are how it learns, so they are
/// not damped; suspicion and failures count all the same.
pub(super) struct Ucb1;

impl Policy for Ucb1 {
    fn name(&self) -> PolicyName {
        PolicyName::Ucb1
    }

    fn rule(&self) -> &'static str {
        "highest upper confidence bound of the reward"
    }

    fn learns(&self) -> bool {
        true
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let total = request.learned.plays.max(1.0);
        let widest = (2.0 * total.ln()).sqrt();
        let arm = request.learned.arm(links[at].link).filter(|arm| arm.plays > 0.0);
        let score = arm.map_or(Score::BEST, |arm| {
            let bound = arm.reward / arm.plays + widest / arm.plays.sqrt();
            Score::new(bound / (1.0 + widest))
        });
        Worth::of(&links[at], Some(score))
    }

    fn choose(&self, request: &Request<'_>, links: &[Candidate]) -> Choice {
        let undamped = Request { standing: None, ..*request };
        super::damping::settle(&undamped, links, self.rule(), |at| self.worth(request, links, at))
    }
}
