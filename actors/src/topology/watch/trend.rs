//! Where a figure is heading: a straight line through the last samples (least squares).
//!
//! One that changed once or twice, because nodes came or went, is heading nowhere.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bowline_messages::config::WatchConfig;

/// Samples closer than this are one: many changes at once are no trend.
const SPACING: Duration = Duration::from_secs(1);

/// So many steps in one direction are a trend,
const STEPS_LEAST: usize = 3;
/// and so many times as many as in the other.
const STEPS_TIMES: usize = 2;
/// A change by less than this is no step.
const STEP_LEAST: f64 = 1e-3;

/// The last samples of a share.
#[derive(Debug)]
pub(super) struct Trend {
    samples: VecDeque<(Instant, f64)>,
    most: usize,
    horizon: Duration,
}

impl Trend {
    pub(super) fn new(config: &WatchConfig) -> Self {
        Self { samples: VecDeque::new(), most: config.trend_samples, horizon: config.horizon }
    }

    pub(super) fn add(&mut self, now: Instant, value: f64) {
        // Of samples that lie too close, the first keeps its time and the last its value.
        if let Some((at, last)) = self.samples.back_mut()
            && now.saturating_duration_since(*at) < SPACING
        {
            *last = value;
            return;
        }
        self.samples.push_back((now, value));
        if self.samples.len() > self.most {
            self.samples.pop_front();
        }
    }

    /// What it will be when the horizon is reached, 0 to 1; none with fewer than half of the samples, or three, or without a direction.
    pub(super) fn ahead(&self) -> Option<f64> {
        let count = self.samples.len();
        let (first, last) = (self.samples.front()?.0, self.samples.back()?.0);
        if count < (self.most / 2).max(3) {
            return None;
        }
        let values = || self.samples.iter().map(|(_, value)| *value);
        let steps =
            |up: f64| values().zip(values().skip(1)).filter(|(one, next)| (next - one) * up > STEP_LEAST).count();
        let (rises, falls) = (steps(1.0), steps(-1.0));
        if rises.max(falls) < STEPS_LEAST.max(rises.min(falls) * STEPS_TIMES) {
            return None;
        }
        let time = |at: Instant| at.saturating_duration_since(first).as_secs_f64();
        let mean_time = self.samples.iter().map(|(at, _)| time(*at)).sum::<f64>() / count as f64;
        let mean = self.samples.iter().map(|(_, value)| value).sum::<f64>() / count as f64;
        let spread: f64 = self.samples.iter().map(|(at, _)| (time(*at) - mean_time).powi(2)).sum();
        let slope: f64 =
            self.samples.iter().map(|(at, value)| (time(*at) - mean_time) * (value - mean)).sum::<f64>() / spread;
        let ahead = mean + slope * (time(last) + self.horizon.as_secs_f64() - mean_time);
        ahead.is_finite().then(|| ahead.clamp(0.0, 1.0))
    }
}
