//! A bandit for links that change while nobody looks.

use std::time::Duration;

use bowline_messages::PolicyName;

use super::{Candidate, Policy, Request, Score, Worth};

/// What is remembered and what is hoped. Chosen by cross-validation over recorded links; see `docs/choice.md`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hope {
    /// Time constant of the mean over a link's last samples.
    pub fast: Duration,
    /// Time constant of the mean over its samples in the long run.
    pub slow: Duration,
    /// How fast what is known of a link that is not used grows old.
    pub ageing: Duration,
    /// How fast its expected delay goes back from the last samples to the long mean.
    pub relaxing: Duration,
    /// How much better than expected a link that was not used for long may be: a factor of e to this.
    pub optimism: f64,
    /// The same for one that was never used, against the mean of all.
    pub curiosity: f64,
}

impl Default for Hope {
    fn default() -> Self {
        Self {
            fast: Duration::from_secs(2),
            slow: Duration::from_secs(300),
            ageing: Duration::from_secs(8),
            relaxing: Duration::from_secs(40),
            optimism: 0.6,
            curiosity: 0.7,
        }
    }
}

/// The link with the smallest delay that can be hoped for. A link in use is known by its last samples. One that is not is expected
/// where it was in the long run, and the longer it was not used, the more is hoped of it: it is tried again when the present link has
/// become worse than that hope. Damped like the policies that do not learn.
pub(super) struct Discounted;

impl Policy for Discounted {
    fn name(&self) -> PolicyName {
        PolicyName::Discounted
    }

    fn rule(&self) -> &'static str {
        "smallest delay that can be hoped for"
    }

    fn learns(&self) -> bool {
        true
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let learned = request.learned;
        let Hope { ageing, relaxing, optimism, curiosity, .. } = request.tuning.hope;
        let hope = match learned.arm(links[at].link).filter(|arm| arm.plays > 0.0) {
            Some(arm) => {
                let age = request.now.saturating_duration_since(arm.seen).as_secs_f64();
                let left = |constant: Duration| (-age / constant.as_secs_f64()).exp();
                let fresh = left(relaxing);
                Some(arm.fast * fresh + arm.slow * (1.0 - fresh) - optimism * (1.0 - left(ageing)).sqrt())
            }
            None => learned.mean_log().map(|mean| mean - curiosity),
        };
        // Before anything is known all links are the same.
        let score = hope.map_or(Score::BEST, |log| Score::of_cost(log.exp(), 1e-7));
        Worth::of(&links[at], Some(score))
    }
}
