//! Traffic that moves to another link in steps.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, duration};

/// Steps of one move at most.
const STEPS_MAX: usize = 16;

/// `[session.gradual]`: how traffic moves from a link that still carries to another one, and what undoes that. A link that is dead is left
/// at once, whatever is set here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GradualConfig {
    /// The share of the traffic that goes over the new link in each step, 0 to 1, rising. The last one is 1. `[1.0]`: all at once,
    /// with the same look at what comes of it.
    pub shares: Vec<f64>,
    /// How long a step takes at least.
    #[serde(with = "duration")]
    pub step: Duration,
    /// How long a step takes at most, when fewer samples than wanted come in.
    #[serde(with = "duration")]
    pub step_max: Duration,
    /// Samples of the new link that a step wants before the links are compared.
    pub samples: usize,
    /// How much longer the new link's delay may be than the old one's, as a share of it, before the move is undone. …
    pub worse_by: f64,
    /// … And by how much at least: differences below this count for nothing.
    #[serde(with = "duration")]
    pub worse_min: Duration,
    /// By how much the new link's share of missed answers may exceed the old one's before the move is undone.
    pub loss_margin: f64,
    /// How long a move that was undone is not tried again.
    #[serde(with = "duration")]
    pub hold: Duration,
    /// Whether traffic also moves in steps to a link that is merely preferred, or only away from one that is about to fail.
    pub preferences: bool,
}

impl Default for GradualConfig {
    fn default() -> Self {
        Self {
            shares: vec![0.1, 0.3, 0.6, 1.0],
            step: Duration::from_millis(250),
            step_max: Duration::from_millis(500),
            samples: 8,
            worse_by: 0.5,
            worse_min: Duration::from_millis(10),
            loss_margin: 0.2,
            hold: Duration::from_secs(10),
            preferences: false,
        }
    }
}

impl GradualConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let ms = Duration::from_millis;
        let hour = Duration::from_secs(3600);
        let shares = &self.shares;
        let rising = shares.windows(2).all(|pair| pair[0] < pair[1]);
        let shares_fit =
            rising && shares.iter().all(|share| (0.0..=1.0).contains(share)) && shares.last() == Some(&1.0);
        let reason = "shares rise, from above 0 to 1, in at most 16 steps";
        let few = shares.len() <= STEPS_MAX && shares.first().is_some_and(|first| *first > 0.0);
        checks.ensure("session.gradual.shares", shares_fit && few, format!("{shares:?}"), reason);
        checks.duration("session.gradual.step", self.step, ms(1)..=hour);
        checks.duration("session.gradual.step_max", self.step_max, self.step..=hour);
        checks.number("session.gradual.samples", self.samples, 1..=64);
        checks.number("session.gradual.worse_by", self.worse_by, 0.0..=100.0);
        checks.duration("session.gradual.worse_min", self.worse_min, Duration::ZERO..=hour);
        checks.number("session.gradual.loss_margin", self.loss_margin, 0.0..=1.0);
        checks.duration("session.gradual.hold", self.hold, Duration::ZERO..=hour);
    }
}
