//! Numbers kept while they come in. Pure.

use std::time::Duration;

use serde::Serialize;

/// Values of something that happens a few times per failure, all of them kept.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

/// What is printed of them, in milliseconds. `None`: there were none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// Their mean.
    pub mean_ms: f64,
    /// Half are below.
    pub p50_ms: f64,
    /// 99 of a hundred are below.
    pub p99_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

impl Samples {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e3);
    }

    /// Adds all of another.
    pub fn join(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// In milliseconds, in the order in which they came.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// What is printed of them.
    pub fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        // The smallest value that so many are not above.
        let quantile = |share: f64| sorted.get(((share * count as f64).ceil() as usize).max(1) - 1).copied();
        Some(Summary {
            count,
            mean_ms: sorted.iter().sum::<f64>() / count as f64,
            p50_ms: quantile(0.5)?,
            p99_ms: quantile(0.99)?,
            max_ms: quantile(1.0)?,
        })
    }
}

/// Counts of times on a logarithmic scale, for what happens millions of times: 20 steps a decade from 0.1 ms on, so a quantile is at most 12 % off.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: [u64; Self::BINS],
    count: u64,
    sum_ms: f64,
    max_ms: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; Self::BINS], count: 0, sum_ms: 0.0, max_ms: 0.0 }
    }
}

impl Histogram {
    const BINS: usize = 160;
    const PER_DECADE: f64 = 20.0;
    const LEAST_MS: f64 = 0.1;

    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        let ms = time.as_secs_f64() * 1e3;
        let bin = ((ms.max(Self::LEAST_MS) / Self::LEAST_MS).log10() * Self::PER_DECADE) as usize;
        self.counts[bin.min(Self::BINS - 1)] += 1;
        self.count += 1;
        self.sum_ms += ms;
        self.max_ms = self.max_ms.max(ms);
    }

    /// What is printed of it.
    pub fn summary(&self) -> Option<Summary> {
        (self.count > 0).then(|| Summary {
            count: self.count as usize,
            mean_ms: self.sum_ms / self.count as f64,
            p50_ms: self.quantile(0.5),
            p99_ms: self.quantile(0.99),
            max_ms: self.max_ms,
        })
    }

    /// The upper end of the bin in which a quantile lies.
    fn quantile(&self, share: f64) -> f64 {
        let mut left = (share * self.count as f64).ceil() as u64;
        for (bin, count) in self.counts.iter().enumerate() {
            if *count >= left {
                let end = Self::LEAST_MS * 10f64.powf((bin + 1) as f64 / Self::PER_DECADE);
                return end.min(self.max_ms);
            }
            left -= count;
        }
        self.max_ms
    }
}

/// How often something was so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Share {
    /// So often it was.
    pub of: u64,
    /// So often it could have been.
    pub all: u64,
}

impl Share {
    /// Counts one more.
    pub fn count(&mut self, was: bool) {
        self.of += u64::from(was);
        self.all += 1;
    }

    /// In percent; `None` when it never could have been.
    pub fn percent(self) -> Option<f64> {
        (self.all > 0).then(|| 100.0 * self.of as f64 / self.all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_mean_and_quantiles() {
        let mut samples = Samples::default();
        assert_eq!(samples.summary(), None);
        (1..=200).for_each(|ms| samples.add(Duration::from_millis(ms)));
        let summary = samples.summary().unwrap();
        assert_eq!((summary.count, summary.mean_ms), (200, 100.5));
        assert_eq!((summary.p50_ms, summary.p99_ms, summary.max_ms), (100.0, 198.0, 200.0));
    }

    #[test]
    fn a_histogram_is_nearly_as_good() {
        let mut histogram = Histogram::default();
        assert!(histogram.summary().is_none());
        (1..=1000).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        let summary = histogram.summary().unwrap();
        assert_eq!((summary.count, summary.mean_ms, summary.max_ms), (1000, 500.5, 1000.0));
        assert!((summary.p50_ms / 500.0 - 1.0).abs() < 0.13, "{summary:?}");
        assert!((summary.p99_ms / 990.0 - 1.0).abs() < 0.13, "{summary:?}");
    }
}
