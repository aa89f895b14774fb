//! Where a measure is heading. The plain trend is the first [`Predictor`]; forecasting models take their places beside it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bowline_messages::health::{Confidence, Finding, Layer, Rule};

use super::window::median;

/// A prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The probability of a failure within the horizon, as the predictor sees it.
    pub probability: Confidence,
    /// When the measure meets its limit, from now, if it is heading there.
    pub time_to_failure: Option<Duration>,
    /// The predicted value at the horizon.
    pub value: f64,
}

/// Predicts one measure of one link. Pure: it sees samples with their times and nothing else.
pub trait Predictor: std::fmt::Debug {
    /// Its name, for reports.
    fn name(&self) -> &'static str;

    /// Takes a sample. One that is no finite number, or that is older than the latest, is not taken.
    fn on_sample(&mut self, at: Instant, value: f64);

    /// What will have happened `horizon` after `now`; `None` as long as too little is known.
    fn predict(&self, now: Instant, horizon: Duration) -> Option<Prediction>;
}

/// Samples the trend is drawn through.
const SAMPLES: usize = 24;
/// Samples before there is a trend.
const SAMPLES_MIN: usize = 6;

/// The plain trend: the median of the slopes between all pairs of samples (Theil–Sen), which a few outliers do not turn.
/// For measures of which more is worse.
#[derive(Debug, Clone)]
pub struct PlainTrend {
    limit: f64,
    kept: usize,
    samples: VecDeque<(Instant, f64)>,
}

impl PlainTrend {
    /// A trend towards a limit: at or beyond it the link counts as failed.
    pub fn new(limit: f64) -> Self {
        Self::over(SAMPLES, limit)
    }

    /// The same through the last `samples` samples, at least six.
    pub fn over(samples: usize, limit: f64) -> Self {
        Self { limit, kept: samples.max(SAMPLES_MIN), samples: VecDeque::new() }
    }

    /// What it says, when the limit is met within the horizon.
    pub fn finding(&self, now: Instant, horizon: Duration) -> Option<Finding> {
        let prediction = self.predict(now, horizon)?;
        let until = prediction.time_to_failure.filter(|until| *until <= horizon)?;
        let samples = [self.line()?.slope, self.limit, until.as_secs_f64()];
        Some(Finding::new(Layer::Trend, Rule::TrendMeetsLimit, prediction.probability, &samples))
    }

    fn line(&self) -> Option<Line> {
        let (last, _) = self.samples.back()?;
        if self.samples.len() < SAMPLES_MIN {
            return None;
        }
        let points: Vec<(f64, f64)> =
            self.samples.iter().map(|(at, value)| (-(*last - *at).as_secs_f64(), *value)).collect();
        let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
        for (n, (at, value)) in points.iter().enumerate() {
            for (later, other) in points.iter().skip(n + 1) {
                if later > at {
                    slopes.push((other - value) / (later - at));
                }
            }
        }
        let slope = median(slopes).filter(|slope| slope.is_finite())?;
        let value = median(points.iter().map(|(at, value)| value - slope * at).collect())?;
        let spread = median(points.iter().map(|(at, y)| (y - value - slope * at).abs()).collect())?;
        (value.is_finite() && spread.is_finite()).then_some(Line { at: *last, value, slope, spread })
    }
}

/// A line through the samples: its value at the time of the latest, its slope per second, the median distance of the samples from it.
#[derive(Debug, Clone, Copy)]
struct Line {
    at: Instant,
    value: f64,
    slope: f64,
    spread: f64,
}

impl Predictor for PlainTrend {
    fn name(&self) -> &'static str {
        "plain-trend"
    }

    fn on_sample(&mut self, at: Instant, value: f64) {
        if !value.is_finite() || self.samples.back().is_some_and(|(last, _)| at < *last) {
            return;
        }
        if self.samples.len() >= self.kept {
            self.samples.pop_front();
        }
        self.samples.push_back((at, value));
    }

    fn predict(&self, now: Instant, horizon: Duration) -> Option<Prediction> {
        let line = self.line()?;
        let present = line.value + line.slope * now.saturating_duration_since(line.at).as_secs_f64();
        let value = present + line.slope * horizon.as_secs_f64();
        let missing = self.limit - present;
        let time_to_failure = if missing <= 0.0 {
            Some(Duration::ZERO)
        } else if line.slope > 0.0 {
            Duration::try_from_secs_f64(missing / line.slope).ok()
        } else {
            None
        };
        // How far beyond the limit the value will be, by what the samples scatter.
        let scatter = line.spread.max(self.limit.abs() * 0.05).max(1e-9);
        let probability = Confidence::new(1.0 / (1.0 + (-(value - self.limit) / scatter).exp()));
        Some(Prediction { probability, time_to_failure, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn trend(start: Instant, value: impl Fn(u32) -> f64) -> PlainTrend {
        let mut trend = PlainTrend::new(200.0);
        for n in 0..20 {
            trend.on_sample(start + SECOND * n, value(n));
        }
        trend
    }

    #[test]
    fn a_rising_latency_is_seen_to_meet_its_limit() {
        let start = Instant::now();
        let trend = trend(start, |n| 50.0 + f64::from(n) * 5.0);
        let now = start + SECOND * 19;
        let prediction = trend.predict(now, SECOND * 20).unwrap();
        assert_eq!(prediction.time_to_failure.map(|time| time.as_secs_f64().round()), Some(11.0));
        assert!(prediction.probability.value() > 0.9 && (prediction.value - 245.0).abs() < 1e-6);
        assert_eq!(trend.finding(now, SECOND * 20).unwrap().samples[..2], [5.0, 200.0]);
        assert_eq!(trend.finding(now, SECOND), None, "not yet");
    }

    #[test]
    fn outliers_do_not_turn_it_and_a_falling_measure_meets_nothing() {
        let start = Instant::now();
        let now = start + SECOND * 19;
        let flat = trend(start, |n| if n % 5 == 4 { 900.0 } else { 20.0 });
        assert_eq!(flat.finding(now, SECOND * 60), None);
        let falling = trend(start, |n| 150.0 - f64::from(n)).predict(now, SECOND * 60).unwrap();
        assert_eq!(falling.time_to_failure, None);
        assert!(falling.probability.value() < 0.1);
    }

    #[test]
    fn too_few_samples_and_samples_of_one_moment_say_nothing() {
        let start = Instant::now();
        let mut trend = PlainTrend::new(200.0);
        for _ in 0..30 {
            trend.on_sample(start, 20.0);
        }
        assert_eq!(trend.predict(start, SECOND), None);
        assert_eq!(PlainTrend::new(1.0).predict(start, SECOND), None);
    }

    proptest! {
        #[test]
        fn no_number_harms_it(limit in any::<f64>(), samples in proptest::collection::vec((0_u64..100_000, any::<f64>()), 0..60)) {
            let mut now = Instant::now();
            let mut trend = PlainTrend::new(limit);
            for (gap, value) in samples {
                now += Duration::from_millis(gap);
                trend.on_sample(now, value);
            }
            if let Some(prediction) = trend.predict(now, SECOND * 10) {
                prop_assert!((0.0..=1.0).contains(&prediction.probability.value()));
            }
            trend.finding(now, SECOND * 10);
        }
    }
}
