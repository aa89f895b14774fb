//! What a link's delay will be within the next second or so, from its last samples. Pure.
//!
//! Two exponentially weighted means of the *logarithm* of the delay, a fast and a slow one, are mixed. The logarithm makes a second of
//! outage one sample among others instead of the only one that counts, and the slow mean pulls a link that was bad a moment ago back
//! only a part of the way. The weights are by time, not by sample: a busy link has thousands of samples a second.

use std::time::{Duration, Instant};

/// What a lost sample counts for, and the longest delay that a choice tells apart, in seconds: nothing arrived for a second.
pub const LOST_SECONDS: f64 = 1.0;
/// The shortest delay that is told apart, in seconds.
const SHORTEST_SECONDS: f64 = 1e-6;
/// The time over which the share of lost samples and the spread are averaged.
const STEADY: Duration = Duration::from_secs(10);

/// How a forecast is made. Chosen by cross-validation over recorded links; see `docs/choice.md`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Smoothing {
    /// Time constant of the fast mean.
    pub fast: Duration,
    /// Time constant of the slow mean.
    pub slow: Duration,
    /// The share of the fast mean in the forecast, 0 to 1.
    pub share: f64,
}

impl Default for Smoothing {
    fn default() -> Self {
        Self { fast: Duration::from_millis(600), slow: Duration::from_millis(3_000), share: 0.8 }
    }
}

/// What is known of one link's delay.
#[derive(Debug, Clone, Copy)]
pub struct Forecast {
    smoothing: Smoothing,
    /// Natural logarithms of seconds.
    fast: f64,
    slow: f64,
    /// The same of what samples had above [`LOST_SECONDS`], as a factor: 0 as long as none was longer.
    fast_beyond: f64,
    slow_beyond: f64,
    /// Mean distance of a sample's logarithm from the slow mean.
    spread: f64,
    /// Share of lost samples.
    lost: f64,
    at: Option<Instant>,
    number: u64,
    last: Option<f64>,
}

impl Forecast {
    /// Of a link without a sample.
    pub fn new(smoothing: Smoothing) -> Self {
        let (fast, slow, fast_beyond, slow_beyond) = (0.0, 0.0, 0.0, 0.0);
        Self {
            smoothing,
            fast,
            slow,
            fast_beyond,
            slow_beyond,
            spread: 0.0,
            lost: 0.0,
            at: None,
            number: 0,
            last: None,
        }
    }

    /// A message was delivered after `delay`.
    pub fn on_delivered(&mut self, now: Instant, delay: Duration) {
        self.on_sample(now, Some(delay.as_secs_f64()));
    }

    /// A message was not delivered in time.
    pub fn on_lost(&mut self, now: Instant) {
        self.on_sample(now, None);
    }

    fn on_sample(&mut self, now: Instant, seconds: Option<f64>) {
        let log = seconds.unwrap_or(LOST_SECONDS).clamp(SHORTEST_SECONDS, LOST_SECONDS).ln();
        // A lost one says nothing of how long the others take.
        let beyond = seconds.map_or(self.slow_beyond, |seconds| (seconds / LOST_SECONDS).max(1.0).ln());
        let lost = if seconds.is_none() { 1.0 } else { 0.0 };
        self.number += 1;
        self.last = seconds;
        let Some(before) = self.at.replace(now) else {
            (self.fast, self.slow, self.lost) = (log, log, lost);
            (self.fast_beyond, self.slow_beyond) = (beyond, beyond);
            return;
        };
        let passed = now.saturating_duration_since(before).as_secs_f64();
        let weight = |constant: Duration| 1.0 - (-passed / constant.as_secs_f64().max(1e-3)).exp();
        let steady = weight(STEADY);
        self.spread += ((log - self.slow).abs() - self.spread) * steady;
        self.lost += (lost - self.lost) * steady;
        let (fast, slow) = (weight(self.smoothing.fast), weight(self.smoothing.slow));
        self.fast += (log - self.fast) * fast;
        self.slow += (log - self.slow) * slow;
        self.fast_beyond += (beyond - self.fast_beyond) * fast;
        self.slow_beyond += (beyond - self.slow_beyond) * slow;
    }

    /// The expected time to delivery in seconds, at most [`LOST_SECONDS`]; `None` without a sample.
    pub fn level(&self) -> Option<f64> {
        self.at.map(|_| self.mixed(self.fast, self.slow))
    }

    /// By how much the expected time to delivery exceeds [`Forecast::level`] when delays above [`LOST_SECONDS`] are told apart: a factor,
    /// 1 and up. A choice needs no more than that a link is hopeless; a limit of some seconds does.
    pub fn stretch(&self) -> f64 {
        self.mixed(self.fast_beyond, self.slow_beyond)
    }

    /// The number whose logarithm is the mean of these two.
    fn mixed(&self, fast: f64, slow: f64) -> f64 {
        (fast * self.smoothing.share + slow * (1.0 - self.smoothing.share)).exp()
    }

    /// The number of the last sample, and its delay in seconds unless it was lost.
    pub fn last(&self) -> Option<(u64, Option<f64>)> {
        self.at.map(|_| (self.number, self.last))
    }

    /// Share of samples that were delivered, 0 to 1.
    pub fn reliability(&self) -> Option<f64> {
        self.at.map(|_| 1.0 - self.lost)
    }

    /// How little the delay moves: 1 when it does not, about 0.37 when it is off by a factor of e on average.
    pub fn stability(&self) -> Option<f64> {
        self.at.map(|_| (-self.spread).exp())
    }
}
