//! Plain rules: which samples are usable at all, and when errors come in a burst.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bowline_messages::health::{Confidence, Finding, Layer, Rule};

use super::millis;

/// How many samples a trailing median keeps at most, however fast they come.
const TRAILING_MAX: usize = 1_200;
/// Samples before anything is compared with their median.
const TRAILING_MIN: usize = 5;

/// The median of the samples of the last while, cheap to ask at each sample.
#[derive(Debug, Clone)]
pub struct TrailingMedian {
    span: Duration,
    by_age: VecDeque<(Instant, f64)>,
    by_size: Vec<f64>,
}

impl TrailingMedian {
    /// Over the samples of the last `span`.
    pub fn new(span: Duration) -> Self {
        Self { span, by_age: VecDeque::new(), by_size: Vec::new() }
    }

    /// Takes a sample of a moment; what is no finite number is not taken.
    pub fn push(&mut self, at: Instant, sample: f64) {
        if !sample.is_finite() {
            return;
        }
        if self.by_age.len() >= TRAILING_MAX {
            self.drop_oldest();
        }
        self.by_age.push_back((at, sample));
        let place = self.by_size.partition_point(|other| other.total_cmp(&sample).is_lt());
        self.by_size.insert(place, sample);
    }

    /// The median of the samples of `[at - span, at)`; `None` with fewer than five.
    pub fn median(&mut self, at: Instant) -> Option<f64> {
        while self.by_age.front().is_some_and(|(old, _)| at.saturating_duration_since(*old) > self.span) {
            self.drop_oldest();
        }
        if self.by_size.len() < TRAILING_MIN {
            return None;
        }
        let middle = self.by_size.len() / 2;
        let upper = *self.by_size.get(middle)?;
        if self.by_size.len() % 2 == 1 {
            return Some(upper);
        }
        Some(upper / 2.0 + self.by_size.get(middle.checked_sub(1)?)? / 2.0)
    }

    fn drop_oldest(&mut self) {
        let Some((_, sample)) = self.by_age.pop_front() else { return };
        let place = self.by_size.partition_point(|other| other.total_cmp(&sample).is_lt());
        if place < self.by_size.len() {
            self.by_size.remove(place);
        }
    }
}

/// What makes a sample usable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UsableConfig {
    /// A share lost from here on is not usable, 0 to 1.
    pub loss: f64,
    /// So many times the usual latency is not usable.
    pub latency_factor: f64,
    /// A throughput up to this is none, in kilobits a second.
    pub throughput_min_kbps: f64,
    /// Less than this share of the usual throughput is not usable.
    pub throughput_share: f64,
    /// What is usual: the median of so long.
    pub usual: Duration,
}

impl Default for UsableConfig {
    fn default() -> Self {
        Self {
            loss: 0.9,
            latency_factor: 10.0,
            throughput_min_kbps: 1.0,
            throughput_share: 0.05,
            usual: Duration::from_secs(60),
        }
    }
}

/// Judges the samples of one link.
#[derive(Debug, Clone)]
pub struct Usable {
    config: UsableConfig,
    latency_ms: TrailingMedian,
    throughput_kbps: TrailingMedian,
}

impl Usable {
    /// Nothing is known of the link.
    pub fn new(config: UsableConfig) -> Self {
        let usual = || TrailingMedian::new(config.usual);
        Self { config, latency_ms: usual(), throughput_kbps: usual() }
    }

    /// Whether a latency is usable; `None`: no answer, which is not.
    pub fn latency(&mut self, at: Instant, latency_ms: Option<f64>) -> bool {
        let Some(latency) = latency_ms.filter(|latency| latency.is_finite()) else { return false };
        let usual = self.latency_ms.median(at);
        self.latency_ms.push(at, latency);
        usual.is_none_or(|usual| latency <= self.config.latency_factor * usual)
    }

    /// Whether a throughput is usable; `None`: nothing came, which is not.
    pub fn throughput(&mut self, at: Instant, kbps: Option<f64>) -> bool {
        let Some(kbps) = kbps.filter(|kbps| kbps.is_finite()) else { return false };
        let usual = self.throughput_kbps.median(at);
        self.throughput_kbps.push(at, kbps);
        kbps > self.config.throughput_min_kbps && usual.is_none_or(|usual| kbps >= self.config.throughput_share * usual)
    }

    /// Whether a share lost is usable. One that is not known does not speak against the link.
    pub fn loss(&self, loss: Option<f64>) -> bool {
        loss.is_none_or(|loss| loss.is_nan() || loss < self.config.loss)
    }
}

/// Errors that come in a burst.
#[derive(Debug, Clone)]
pub struct ErrorBurst {
    limit: usize,
    within: Duration,
    errors: VecDeque<Instant>,
}

impl ErrorBurst {
    /// `limit` errors (1 to 1,000) `within` a time are a burst.
    pub fn new(limit: usize, within: Duration) -> Self {
        Self { limit: limit.clamp(1, 1_000), within, errors: VecDeque::new() }
    }

    /// An error occurred.
    pub fn on_error(&mut self, now: Instant) {
        if self.errors.len() >= self.limit {
            self.errors.pop_front();
        }
        self.errors.push_back(now);
    }

    /// The share of the limit that is used up.
    pub fn confidence(&self, now: Instant) -> Confidence {
        Confidence::new(self.count(now) as f64 / self.limit as f64)
    }

    /// What it says, once there is a burst.
    pub fn finding(&self, now: Instant) -> Option<Finding> {
        let count = self.count(now);
        let samples = [count as f64, self.limit as f64, millis(self.within)];
        (count >= self.limit).then(|| Finding::new(Layer::Rules, Rule::ErrorBurst, self.confidence(now), &samples))
    }

    fn count(&self, now: Instant) -> usize {
        self.errors.iter().filter(|at| now.saturating_duration_since(**at) <= self.within).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_latency_ten_times_the_usual_is_not_usable_once_the_usual_is_known() {
        let start = Instant::now();
        let mut usable = Usable::new(UsableConfig::default());
        assert!(usable.latency(start, Some(900.0)), "nothing to compare with");
        for n in 1..20 {
            assert!(usable.latency(start + SECOND * n, Some(20.0)));
        }
        assert!(usable.latency(start + SECOND * 20, Some(200.0)));
        assert!(!usable.latency(start + SECOND * 21, Some(201.0)));
        assert!(!usable.latency(start + SECOND * 22, None));
        assert!(usable.latency(start + SECOND * 400, Some(900.0)), "what was usual is forgotten");
    }

    #[test]
    fn a_throughput_of_almost_nothing_is_not_usable() {
        let start = Instant::now();
        let mut usable = Usable::new(UsableConfig::default());
        assert!(!usable.throughput(start, Some(1.0)));
        for n in 1..20 {
            usable.throughput(start + SECOND * n, Some(1_000.0));
        }
        assert!(usable.throughput(start + SECOND * 20, Some(50.0)));
        assert!(!usable.throughput(start + SECOND * 21, Some(49.0)));
        assert!(usable.loss(Some(0.89)) && usable.loss(None) && !usable.loss(Some(0.9)));
    }

    #[test]
    fn errors_far_apart_are_no_burst() {
        let start = Instant::now();
        let mut burst = ErrorBurst::new(3, SECOND * 10);
        for n in 0..6 {
            burst.on_error(start + SECOND * 8 * n);
            assert_eq!(burst.finding(start + SECOND * 8 * n), None);
        }
        burst.on_error(start + SECOND * 41);
        assert_eq!(burst.finding(start + SECOND * 41).unwrap().samples, [3.0, 3.0, 10_000.0]);
        assert_eq!(burst.finding(start + SECOND * 60), None);
    }

    proptest! {
        #[test]
        fn the_trailing_median_is_that_of_a_sorted_copy(samples in proptest::collection::vec((0_u64..4_000, -1e9_f64..1e9), 1..200)) {
            let mut now = Instant::now();
            let mut trailing = TrailingMedian::new(SECOND * 60);
            let mut kept: Vec<(Instant, f64)> = Vec::new();
            for (gap, sample) in samples {
                now += Duration::from_millis(gap);
                kept.retain(|(at, _)| now - *at <= SECOND * 60);
                let model = (kept.len() >= 5).then(|| super::super::window::median(kept.iter().map(|(_, s)| *s).collect())).flatten();
                prop_assert_eq!(trailing.median(now), model);
                trailing.push(now, sample);
                kept.push((now, sample));
            }
        }

        #[test]
        fn no_number_harms_it(samples in proptest::collection::vec(proptest::option::of(any::<f64>()), 0..100)) {
            let start = Instant::now();
            let mut usable = Usable::new(UsableConfig::default());
            for sample in samples {
                usable.latency(start, sample);
                usable.throughput(start, sample);
                usable.loss(sample);
            }
            prop_assert!(!usable.latency(start, Some(f64::NAN)));
        }
    }
}
