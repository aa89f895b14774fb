//! What a link is like from second to second: the synthetic model, faults laid over it, and what it then costs to use. Pure.
//!
//! *Synthetic model.* The logarithm of the delay wanders (an Ornstein-Uhlenbeck process with a memory of 30 s) around the medium's usual
//! value; the loss alternates between usual and bad spells (two states, exponential sojourns). What is lost arrives later, because links are
//! reliable: by two round trips and 10 ms, twice that when it is lost again; over Bluetooth, where the radio does it, by 50 ms each time.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use super::draw;
use super::media::MediumModel;
use crate::transport::memory::{Cut, PathSettings};

/// How often conditions change.
pub const CONDITION_EVERY: Duration = Duration::from_secs(1);
/// In so many seconds the wandering delay forgets where it was.
const MEMORY_S: f64 = 30.0;
/// How long a bad spell lasts on average, in seconds.
const BAD_SPELL_S: f64 = 2.0;
/// What is lost is sent again after two round trips and this many milliseconds.
const RESEND_MS: f64 = 10.0;

/// What a link is like now, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    /// One-way delay in milliseconds.
    pub delay_ms: f64,
    /// Each chunk takes up to this much longer.
    pub jitter_ms: f64,
    /// Share of chunks that are lost and sent again, 0 to 1.
    pub loss: f64,
    /// See [`MediumModel::radio_resends_ms`].
    pub radio_resends_ms: Option<f64>,
    /// Bytes a second; at least 1.
    pub bandwidth: u64,
    /// Nothing passes: a recorded outage.
    pub down: bool,
    /// A recording shows it worse than usual, so that calling it unusable is no mistake.
    pub poor: bool,
}

impl Condition {
    /// What a medium is like in the long run.
    pub fn usual(model: &MediumModel) -> Self {
        Self {
            delay_ms: model.delay_ms,
            jitter_ms: model.jitter_ms,
            loss: model.loss,
            radio_resends_ms: model.radio_resends_ms,
            bandwidth: model.bandwidth,
            down: false,
            poor: false,
        }
    }

    /// How much later a lost chunk arrives, in milliseconds.
    fn resend_ms(&self) -> f64 {
        self.radio_resends_ms.unwrap_or(4.0 * self.delay_ms + RESEND_MS)
    }

    /// How many times as long it takes when it is lost again.
    fn resend_factor(&self) -> u32 {
        if self.radio_resends_ms.is_some() { 1 } else { 2 }
    }

    /// The time a small message takes on average, in milliseconds; `None` when nothing passes.
    pub fn cost_ms(&self) -> Option<f64> {
        // The mean over geometric losses of resend × (1 + factor + factor² …); bounded where that diverges, as the network bounds it.
        let late = self.resend_ms() * self.loss / (1.0 - f64::from(self.resend_factor()) * self.loss).max(0.1);
        (!self.down).then_some(self.delay_ms + self.jitter_ms / 2.0 + late)
    }

    /// The network's settings for it.
    pub fn settings(&self) -> PathSettings {
        let ms = |ms: f64| Duration::from_micros((ms.max(0.0) * 1e3) as u64);
        PathSettings {
            latency: ms(self.delay_ms),
            jitter: ms(self.jitter_ms),
            loss_ppm: (self.loss.clamp(0.0, 1.0) * 1e6) as u32,
            resend_delay: ms(self.resend_ms()),
            resend_factor: self.resend_factor(),
            bandwidth: Some(self.bandwidth.max(1)),
            cut: self.down.then_some(Cut::Hold),
            ..PathSettings::default()
        }
    }

    /// The same link `share` (0 to 1) of the way to where it fades out.
    #[must_use]
    pub fn faded(mut self, share: f64) -> Self {
        self.delay_ms *= 1.0 + 9.0 * share;
        self.jitter_ms *= 1.0 + 4.0 * share;
        self.loss = (self.loss + 0.3 * share).min(0.9);
        self.bandwidth = ((self.bandwidth as f64) * (1.0 - 0.95 * share)) as u64;
        self
    }

    /// The same link while something interferes with its medium.
    #[must_use]
    pub fn interfered(mut self) -> Self {
        self.jitter_ms += 30.0;
        self.loss = (self.loss + 0.25).min(0.9);
        self.bandwidth /= 5;
        self
    }
}

/// The synthetic model of one link.
#[derive(Debug, Clone)]
pub struct Synthetic {
    model: MediumModel,
    random: ChaCha12Rng,
    wander: f64,
    bad: bool,
}

impl Synthetic {
    /// A link of a medium. The same random numbers give the same course.
    pub fn new(model: MediumModel, mut random: ChaCha12Rng) -> Self {
        let wander = model.wander * draw::normal(&mut random);
        Self { model, random, wander, bad: false }
    }

    /// The next second.
    pub fn step(&mut self) -> Condition {
        let step = CONDITION_EVERY.as_secs_f64();
        let kept = (-step / MEMORY_S).exp();
        let fresh = self.model.wander * (1.0 - kept * kept).sqrt();
        self.wander = self.wander * kept + fresh * draw::normal(&mut self.random);
        let sojourn = if self.bad { BAD_SPELL_S } else { self.model.bad_every_s };
        if self.random.random::<f64>() < step / sojourn {
            self.bad = !self.bad;
        }
        Condition {
            delay_ms: self.model.delay_ms * self.wander.exp(),
            loss: if self.bad { self.model.bad_loss } else { self.model.loss },
            ..Condition::usual(&self.model)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::media::MEDIA;
    use super::*;

    #[test]
    fn the_delay_wanders_around_the_usual_one_and_bad_spells_have_their_share() {
        let mut link = Synthetic::new(MEDIA[3], draw::stream(1, 0));
        let course: Vec<_> = (0..50_000).map(|_| link.step()).collect();
        let mean = course.iter().map(|c| c.delay_ms.ln()).sum::<f64>() / course.len() as f64;
        assert!((mean - MEDIA[3].delay_ms.ln()).abs() < 0.05, "{mean}");
        let bad = course.iter().filter(|c| c.loss > MEDIA[3].loss).count() as f64 / course.len() as f64;
        assert!((bad - 2.0 / 62.0).abs() < 0.01, "{bad}");
    }

    #[test]
    fn a_fading_link_costs_more_and_more_and_an_outage_passes_nothing() {
        let mut link = Synthetic::new(MEDIA[1], draw::stream(1, 0));
        let usual = link.step();
        let costs: Vec<_> = [0.0, 0.3, 0.6, 1.0].map(|share| usual.faded(share).cost_ms().unwrap()).to_vec();
        assert!(costs.is_sorted() && costs[3] > 5.0 * costs[0], "{costs:?}");
        assert!(usual.interfered().cost_ms() > usual.cost_ms());
        let down = Condition { down: true, ..usual };
        assert_eq!(down.cost_ms(), None);
        assert_eq!(down.settings().cut, Some(Cut::Hold));
    }
}
