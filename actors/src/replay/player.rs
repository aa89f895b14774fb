//! The session's own chooser as a selector of the replay: the same policies, damping, forecasts and learning, not a copy. Pure.
//!
//! What a session measures by acknowledgements, the replay gives once a second: a delivery after the second's cost, or a loss.

use std::time::{Duration, Instant};

use bowline_messages::link::Medium;
use bowline_messages::{LinkId, MessageClass, PolicyName};

use super::scenario::{Cost, Kind};
use super::select::{Feedback, Selector};
use crate::session::policy::{Candidate, Chooser, Damping, Forecast, Health, Needs, Smoothing, Tuning, Wanted};

/// The message whose cost the scenarios state: 64 KiB.
const MESSAGE_BYTES: usize = 65_536;
/// The security of a link of which nothing is known but that records are sealed: the session's seal and no other, averaged.
const SECURITY: f64 = 0.5;

/// What can be set of policies.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Settings {
    /// Against flapping.
    pub damping: Damping,
    /// How forecasts are made.
    pub smoothing: Smoothing,
    /// What the policies make of them.
    pub tuning: Tuning,
}

/// A policy with what it knows of each link.
#[derive(Debug)]
pub struct Player {
    start: Instant,
    policy: PolicyName,
    kind: Kind,
    chooser: Chooser,
    forecasts: Vec<Forecast>,
    candidates: Vec<Candidate>,
    /// The second in which each link was last heard of.
    heard: Vec<Option<u32>>,
}

/// What a policy is told in the replay: those that learn by trying hear only of the link they picked.
pub const fn feedback_of(policy: PolicyName) -> Feedback {
    match policy {
        PolicyName::Ucb1 | PolicyName::Thompson | PolicyName::Discounted => Feedback::Bandit,
        PolicyName::FastestFirst
        | PolicyName::MostReliable
        | PolicyName::EnergyEfficient
        | PolicyName::LoadBalanced
        | PolicyName::Weighted
        | PolicyName::Priority
        | PolicyName::Redundant
        | PolicyName::Secure
        | PolicyName::Mdp
        | PolicyName::RoundRobin
        | PolicyName::WeightedRoundRobin
        | PolicyName::LeastConnections
        | PolicyName::QualityBased
        | PolicyName::PredictiveOptimal => Feedback::Full,
    }
}

/// Whether a policy draws random numbers, so that several seeds are to be averaged.
pub fn is_stochastic(policy: PolicyName) -> bool {
    policy == PolicyName::Thompson
}

impl Player {
    /// A policy that knows nothing yet of links over these media. `start` is the beginning of second 0.
    pub fn new(start: Instant, policy: PolicyName, kind: Kind, media: &[Medium], seed: u64) -> Self {
        Self::with(start, policy, kind, media, seed, &Settings::default())
    }

    /// The same with other parameters than the default ones.
    pub fn with(
        start: Instant,
        policy: PolicyName,
        kind: Kind,
        media: &[Medium],
        seed: u64,
        settings: &Settings,
    ) -> Self {
        let candidate = |(at, medium): (usize, &Medium)| Candidate {
            medium: *medium,
            load: Some(0.0),
            security: Some(SECURITY),
            ..Candidate::unmeasured(LinkId(u32::try_from(at).unwrap_or(u32::MAX)))
        };
        Self {
            start,
            policy,
            kind,
            chooser: Chooser::new(settings.damping, Needs::default(), seed).tuned(settings.tuning),
            forecasts: vec![Forecast::new(settings.smoothing); media.len()],
            candidates: media.iter().enumerate().map(candidate).collect(),
            heard: vec![None; media.len()],
        }
    }
}

impl Selector for Player {
    fn pick(&mut self, second: u32) -> usize {
        let now = self.start + Duration::from_secs(u64::from(second));
        for (candidate, heard) in self.candidates.iter_mut().zip(&self.heard) {
            // A suspicion is about now: a session clears it with the next answer, and what was not heard of since is not suspected.
            candidate.suspected &= second.checked_sub(1) == *heard;
        }
        let wanted =
            Wanted { policy: self.policy, class: MessageClass::Critical, bytes: Some(MESSAGE_BYTES), apart: false };
        let (choice, _) = self.chooser.choose(now, wanted, &self.candidates);
        choice.links[0].map_or(0, |link| link.0 as usize)
    }

    fn learn(&mut self, second: u32, link: usize, cost: Cost) {
        // The second is over: its cost is known at its end.
        let now = self.start + Duration::from_secs(u64::from(second) + 1);
        let (Some(forecast), Some(candidate)) = (self.forecasts.get_mut(link), self.candidates.get_mut(link)) else {
            return;
        };
        self.heard[link] = Some(second);
        let seconds = cost.ms / 1e3;
        if cost.delivered {
            forecast.on_delivered(now, Duration::from_secs_f64(seconds));
        } else {
            forecast.on_lost(now);
        }
        *candidate = Candidate {
            suspected: !cost.delivered,
            health: if cost.delivered { Health::Optimal } else { Health::Critical },
            ..candidate.with_forecast(forecast)
        };
        candidate.delay = candidate.forecast;
        match self.kind {
            Kind::Throughput => candidate.bandwidth = Some(MESSAGE_BYTES as f64 / seconds.max(1e-6)),
            Kind::Latency => {}
        }
    }
}

/// The medium that a trace's header names.
pub fn medium(name: &str) -> Medium {
    match name {
        "wifi" => Medium::Wifi,
        "ble" => Medium::Bluetooth,
        "cellular" | "lte" | "5g" | "3g" => Medium::Cellular,
        _ => Medium::Unknown,
    }
}
