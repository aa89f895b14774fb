//! Figures that are far from what they usually are.

use std::collections::{BTreeMap, VecDeque};

use bowline_messages::config::WatchConfig;
use bowline_messages::topology::Figure;

/// Differences below this share of the mean are none, however steady a figure was.
const SHARE_LEAST: f64 = 0.05;
/// Nor are differences below this.
const DIFFERENCE_LEAST: f64 = 0.02;

/// What figures were in the last analyses.
#[derive(Debug)]
pub(super) struct Anomalies {
    deviations: f64,
    window: usize,
    seen: BTreeMap<Figure, VecDeque<f64>>,
}

impl Anomalies {
    pub(super) fn new(config: &WatchConfig) -> Self {
        Self { deviations: config.anomaly_deviations, window: config.anomaly_window, seen: BTreeMap::new() }
    }

    /// Compares a figure with those before it; the limit it is beyond, if it is.
    pub(super) fn add(&mut self, figure: Figure, value: f64) -> Option<f64> {
        let seen = self.seen.entry(figure).or_default();
        let count = seen.len() as f64;
        let enough = seen.len() >= (self.window / 2).max(2);
        let mean = seen.iter().sum::<f64>() / count.max(1.0);
        let variance = seen.iter().map(|other| (other - mean).powi(2)).sum::<f64>() / count.max(1.0);
        let far = (self.deviations * variance.sqrt()).max(SHARE_LEAST * mean.abs()).max(DIFFERENCE_LEAST);
        seen.push_back(value);
        if seen.len() > self.window {
            seen.pop_front();
        }
        let strange = enough && (value - mean).abs() > far;
        strange.then_some(if value > mean { mean + far } else { mean - far })
    }
}
