//! Which link carries a message: one trait, one line of registration and one file each. Pure.
//!
//! | file | idea |
//! |---|---|
//! | `chooser` | what a session (and the replay of recorded links) asks; holds what was chosen before and what was learnt |
//! | `damping` | hysteresis and the memory of failures, shared by all policies |
//! | `gradual` | traffic that moves to another link in steps, and back when that proves worse |
//! | `forecast` | what a link's delay will be, from its last samples |
//! | `worth` | scores that are bounded and ordered whatever was measured |
//! | `terms` | the parts of the scores by requirements and by priority: latency, bandwidth, reliability, stability, power, load |
//! | `learned` | what the learning policies remember of each link |
//! | `spread` | the distributions, a policy for each way to share |
//! | the others | a policy each |
//!
//! To add a policy: a name in `PolicyName`, a file, and a row in [`policy`].

mod balanced;
pub mod chooser;
pub mod damping;
mod discounted;
mod energy;
mod fastest;
pub mod forecast;
pub mod gradual;
pub mod learned;
mod mdp;
mod optimal;
mod priority;
mod redundant;
mod reliable;
mod secure;
mod spread;
pub mod terms;
#[cfg(test)]
mod tests;
mod thompson;
mod ucb;
mod weighted;
pub mod worth;

use std::time::Instant;

use bowline_messages::link::Medium;
use bowline_messages::{LinkId, MessageClass, PolicyName};

pub use chooser::{Chooser, Wanted};
pub use damping::{Damping, Penalty, Standing};
pub use discounted::Hope;
pub use fastest::Likelihood;
pub use forecast::{Forecast, Smoothing};
pub use learned::Learned;
pub use terms::{Health, Need, Needs, Requirements, Weights};
pub use worth::{Score, Worth};

/// What a policy knows of a link. `None` is "not measured", and nothing is guessed in its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The link.
    pub link: LinkId,
    /// Time to delivery of a small message with an allowance for its variation, in seconds: what load is balanced by.
    pub delay: Option<f64>,
    /// Time to delivery that the last samples let expect, in seconds, as choices are made by it: at most [`forecast::LOST_SECONDS`].
    pub forecast: Option<f64>,
    /// What that is multiplied by where it is held against a limit: 1 and up, see [`Forecast::stretch`].
    pub stretch: f64,
    /// The last sample: its number, and the delay in seconds unless it was lost.
    pub sample: Option<(u64, Option<f64>)>,
    /// Time that what is already in flight on it needs, in seconds.
    pub backlog: f64,
    /// Bytes that may be put on it now.
    pub room: usize,
    /// Share of what may be in flight that is, 0 to 1.
    pub load: Option<f64>,
    /// Whether it is suspected just now.
    pub suspected: bool,
    /// Whether it is predicted to fail soon.
    pub leaving: bool,
    /// Its failures, the older the less: see [`Penalty::failures`]. 0 and up.
    pub failures: f64,
    /// How it is doing.
    pub health: Health,
    /// Bytes a second that it can carry.
    pub bandwidth: Option<f64>,
    /// Whether that was measured so long ago that it is no reason any more to use the link only where there is no other.
    pub bandwidth_is_old: bool,
    /// Share of samples that were delivered, 0 to 1.
    pub reliability: Option<f64>,
    /// How little its delay moves, 0 to 1.
    pub stability: Option<f64>,
    /// What it runs over.
    pub medium: Medium,
    /// How secure it is, 0 to 1.
    pub security: Option<f64>,
    /// What its score by requirements is multiplied by: its transport's.
    pub multiplier: f64,
}

impl Candidate {
    /// A link of which nothing is known.
    pub fn unmeasured(link: LinkId) -> Self {
        Self {
            link,
            delay: None,
            forecast: None,
            stretch: 1.0,
            sample: None,
            backlog: 0.0,
            room: usize::MAX,
            load: None,
            suspected: false,
            leaving: false,
            failures: 0.0,
            health: Health::Good,
            bandwidth: None,
            bandwidth_is_old: false,
            reliability: None,
            stability: None,
            medium: Medium::Unknown,
            security: None,
            multiplier: 1.0,
        }
    }

    /// The same link with everything that its forecast says.
    #[must_use]
    pub fn with_forecast(mut self, forecast: &Forecast) -> Self {
        (self.forecast, self.stretch) = (forecast.level(), forecast.stretch());
        self.sample = forecast.last();
        self.reliability = forecast.reliability();
        self.stability = forecast.stability();
        self
    }

    /// What load is balanced by, in seconds: finite whatever was measured, suspected and unmeasured links last.
    fn cost(&self) -> f64 {
        /// What a link that was not measured is taken for; the session measures it at once.
        const UNMEASURED_SECONDS: f64 = 10.0;
        /// Longer than any delay: a suspected link is taken only when there is no other.
        const SUSPECTED_SECONDS: f64 = 1_000.0;
        /// Longer than that of any link that is not suspected.
        const LEAVING_SECONDS: f64 = 100.0;
        let delay = measured(self.delay).unwrap_or(UNMEASURED_SECONDS);
        let delay = (delay * self.setback()).min(SUSPECTED_SECONDS);
        match (self.suspected, self.leaving) {
            (true, _) => SUSPECTED_SECONDS + delay,
            (false, true) => LEAVING_SECONDS + delay,
            (false, false) => delay,
        }
    }

    /// The expected time to delivery in seconds, however long: what limits are held against.
    fn latency(&self) -> Option<f64> {
        measured(measured(self.forecast).map(|seconds| seconds * self.stretch))
    }

    /// What failures of late make of it: its score is divided by this, or its delay multiplied. 1 without any, finite.
    fn setback(&self) -> f64 {
        /// Half for each failure: more keeps a link that is back out of use for long, and gains nothing (`docs/choice.md`).
        const PER_FAILURE: f64 = 0.5;
        1.0 + PER_FAILURE * self.failures()
    }

    /// Its failures: finite, 0 to [`Penalty::FAILURES_MAX`].
    fn failures(&self) -> f64 {
        if self.failures.is_finite() { self.failures.clamp(0.0, Penalty::FAILURES_MAX) } else { 0.0 }
    }
}

/// A measured quantity that cannot be below 0, if it is one.
fn measured(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value >= 0.0)
}

/// What policies make of what is measured: numbers that were chosen by cross-validation over recorded links (`docs/choice.md`).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tuning {
    /// Of [`PolicyName::FastestFirst`], and of the policies that fall back on it.
    pub likelihood: Likelihood,
    /// Of [`PolicyName::Discounted`].
    pub hope: Hope,
}

/// What is to be decided, and by what.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The time.
    pub now: Instant,
    /// The class of the message.
    pub class: MessageClass,
    /// Its size in bytes, when one message is asked for.
    pub bytes: Option<usize>,
    /// The class's last choice.
    pub standing: Option<Standing>,
    /// Against flapping.
    pub damping: &'a Damping,
    /// What the policies make of what is measured.
    pub tuning: &'a Tuning,
    /// What messages need of a link.
    pub requirements: &'a Requirements,
    /// How much each quality counts in the score by requirements.
    pub weights: &'a Weights,
    /// What was learnt so far.
    pub learned: &'a Learned,
    /// A random number for this choice.
    pub random: u64,
    /// How many choices there were before.
    pub turn: u64,
}

/// A policy's answer: the links to use, best first, and the rule in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// At most two links; more than one means a copy on each.
    pub links: [Option<LinkId>; 2],
    /// The rule that decided.
    pub rule: &'static str,
}

/// Chooses links for messages. Most policies are nothing but [`Policy::worth`].
pub trait Policy: Sync {
    /// Its name in configuration and reports.
    fn name(&self) -> PolicyName;

    /// What it goes by, in words, for `bowline why`.
    fn rule(&self) -> &'static str;

    /// How good the link at `at` is for this message.
    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth;

    /// Whether each message may take another link, so that none is left when the next one is taken.
    fn spreads(&self) -> bool {
        false
    }

    /// Whether it learns from what became of its choices, so that [`Learned`] is to be kept up.
    fn learns(&self) -> bool {
        false
    }

    /// Whether it goes by the score by requirements, and holds to the reference ones where none were set.
    fn goes_by_requirements(&self) -> bool {
        false
    }

    /// Chooses among usable links; none means that the message waits. The standing choice is kept as the damping says.
    fn choose(&self, request: &Request<'_>, links: &[Candidate]) -> Choice {
        damping::settle(request, links, self.rule(), |at| self.worth(request, links, at))
    }
}

/// The policy of this name.
pub fn policy(name: PolicyName) -> &'static dyn Policy {
    match name {
        PolicyName::FastestFirst => &fastest::FastestFirst,
        PolicyName::MostReliable => &reliable::MostReliable,
        PolicyName::EnergyEfficient => &energy::EnergyEfficient,
        PolicyName::LoadBalanced => &balanced::LoadBalanced,
        PolicyName::Weighted => &weighted::Weighted,
        PolicyName::Priority => &priority::Priority,
        PolicyName::Redundant => &redundant::Redundant,
        PolicyName::Secure => &secure::Secure,
        PolicyName::Ucb1 => &ucb::Ucb1,
        PolicyName::Thompson => &thompson::Thompson,
        PolicyName::Discounted => &discounted::Discounted,
        PolicyName::Mdp => &mdp::Mdp,
        PolicyName::RoundRobin => &spread::RoundRobin,
        PolicyName::WeightedRoundRobin => &spread::WeightedRoundRobin,
        PolicyName::LeastConnections => &spread::LeastConnections,
        PolicyName::QualityBased => &spread::QualityBased,
        PolicyName::PredictiveOptimal => &optimal::PredictiveOptimal,
    }
}

/// The place of the best link other than `not`; among equals the one with the smaller number.
fn best(links: &[Candidate], not: Option<usize>, worth: impl Fn(usize) -> Worth) -> Option<(usize, Worth)> {
    let others = (0..links.len()).filter(|at| Some(*at) != not).map(|at| (at, worth(at)));
    others.reduce(|best, other| {
        let order = other.1.cmp(&best.1).then_with(|| links[best.0].link.cmp(&links[other.0].link));
        if order.is_gt() { other } else { best }
    })
}
