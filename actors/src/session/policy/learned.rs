//! What the learning policies remember of each link. Pure: time comes in, randomness is not needed here.

use std::time::{Duration, Instant};

use bowline_messages::{LinkId, MessageClass};

use super::forecast::LOST_SECONDS;
use super::{Candidate, Hope, mdp, optimal};

/// Links that are remembered; a session has far fewer.
const ARMS_MAX: usize = 32;
/// How often plans are made anew at most.
const PLAN_EVERY: Duration = Duration::from_secs(1);

/// What is remembered of one link.
#[derive(Debug, Clone)]
pub struct Arm {
    link: LinkId,
    /// The number of the last sample that was learnt from.
    number: u64,
    /// How many samples there were, and the sum of their rewards (each 0 to 1).
    pub(super) plays: f64,
    pub(super) reward: f64,
    /// Means of the logarithm of the delay, and when the last sample was.
    pub(super) fast: f64,
    pub(super) slow: f64,
    pub(super) seen: Instant,
    /// How its quality moves, for the plan.
    pub(super) chain: mdp::Chain,
}

/// What was learnt about all links of a session.
#[derive(Debug, Clone, Default)]
pub struct Learned {
    arms: Vec<Arm>,
    /// Samples of all links, the sum of the logarithms of their delays, and that of their rewards' count.
    pub(super) plays: f64,
    logs: f64,
    planned: Option<Instant>,
    /// Of the distribution that is optimised: one for each class that asked, since other links may be in question for it.
    plans: Vec<Planned>,
}

#[derive(Debug, Clone)]
struct Planned {
    class: MessageClass,
    /// When it was made.
    at: Instant,
    plan: Option<optimal::Plan>,
}

impl Learned {
    /// Learns from every sample that is new, and plans anew when that is due.
    pub fn update(&mut self, now: Instant, hope: &Hope, links: &[Candidate]) {
        let mut news = false;
        for candidate in links {
            let Some((number, seconds)) = candidate.sample else { continue };
            news |= self.learn(now, hope, candidate.link, number, seconds);
        }
        let due = self.planned.is_none_or(|at| now.saturating_duration_since(at) >= PLAN_EVERY);
        if news && due {
            self.planned = Some(now);
            mdp::plan(self.arms.iter_mut().map(|arm| &mut arm.chain));
        }
    }

    /// Plans the shares of the links that are in question for a class anew when that is due.
    pub fn optimise(&mut self, now: Instant, class: MessageClass, links: &[Candidate]) {
        match self.plans.iter_mut().find(|planned| planned.class == class) {
            Some(planned) if now.saturating_duration_since(planned.at) >= PLAN_EVERY => {
                (planned.at, planned.plan) = (now, optimal::plan(links));
            }
            Some(_) => {}
            None => self.plans.push(Planned { class, at: now, plan: optimal::plan(links) }),
        }
    }

    /// The shares that were planned last for a class.
    pub(super) fn plan(&self, class: MessageClass) -> Option<&optimal::Plan> {
        self.plans.iter().find(|planned| planned.class == class)?.plan.as_ref()
    }

    fn learn(&mut self, now: Instant, hope: &Hope, link: LinkId, number: u64, seconds: Option<f64>) -> bool {
        let counted = seconds.filter(|s| s.is_finite()).unwrap_or(LOST_SECONDS).clamp(1e-6, LOST_SECONDS);
        let log = counted.ln();
        let at = self.arms.iter().position(|arm| arm.link == link);
        let Some(at) = at.or_else(|| self.room_for(now, link, log)) else { return false };
        let arm = &mut self.arms[at];
        if arm.number == number {
            return false;
        }
        arm.number = number;
        arm.plays += 1.0;
        arm.reward += reward(counted);
        let passed = now.saturating_duration_since(arm.seen).as_secs_f64();
        let weight = |constant: Duration| 1.0 - (-passed / constant.as_secs_f64()).exp();
        arm.fast += (log - arm.fast) * weight(hope.fast);
        arm.slow += (log - arm.slow) * weight(hope.slow).max(1.0 / arm.plays);
        arm.seen = now;
        arm.chain.on_sample(seconds);
        self.plays += 1.0;
        self.logs += log;
        true
    }

    fn room_for(&mut self, now: Instant, link: LinkId, log: f64) -> Option<usize> {
        if self.arms.len() >= ARMS_MAX {
            return None;
        }
        let chain = mdp::Chain::default();
        self.arms.push(Arm { link, number: 0, plays: 0.0, reward: 0.0, fast: log, slow: log, seen: now, chain });
        Some(self.arms.len() - 1)
    }

    /// Forgets a link.
    pub fn forget(&mut self, link: LinkId) {
        self.arms.retain(|arm| arm.link != link);
    }

    /// What is remembered of a link.
    pub fn arm(&self, link: LinkId) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.link == link)
    }

    /// The mean of the logarithm of all delays so far.
    pub(super) fn mean_log(&self) -> Option<f64> {
        (self.plays > 0.0).then(|| self.logs / self.plays)
    }
}

/// The reward of a delivery: 1 for none at all, 0 for [`LOST_SECONDS`], by the logarithm of the milliseconds between.
fn reward(seconds: f64) -> f64 {
    (1.0 - (1.0 + seconds * 1e3).ln() / (1.0 + LOST_SECONDS * 1e3).ln()).clamp(0.0, 1.0)
}
