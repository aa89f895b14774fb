//! The last samples of a measure, and statistics over them.

use std::collections::VecDeque;

/// How many samples are kept of a measure.
pub const SAMPLES_KEPT: usize = 100;

/// The last samples, oldest first. What is not a finite number is not taken.
#[derive(Debug, Clone)]
pub struct Window {
    samples: VecDeque<f64>,
    capacity: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self::new(SAMPLES_KEPT)
    }
}

impl Window {
    /// A window of at most `capacity` samples, at least one.
    pub fn new(capacity: usize) -> Self {
        Self { samples: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// Takes a sample, dropping the oldest when full; `false` for what is no finite number.
    pub fn push(&mut self, sample: f64) -> bool {
        if !sample.is_finite() {
            return false;
        }
        if self.samples.len() >= self.capacity {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        true
    }

    /// The sample that the next one takes the place of.
    pub fn oldest_if_full(&self) -> Option<f64> {
        self.samples.front().filter(|_| self.samples.len() >= self.capacity).copied()
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The latest sample.
    pub fn latest(&self) -> Option<f64> {
        self.samples.back().copied()
    }

    /// The samples, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = f64> + '_ {
        self.samples.iter().copied()
    }

    /// The last `count` samples, oldest first; fewer when there are fewer.
    pub fn last(&self, count: usize) -> Vec<f64> {
        self.samples.iter().skip(self.samples.len().saturating_sub(count)).copied().collect()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.samples.clear();
    }

    /// The mean; `None` without samples.
    pub fn mean(&self) -> Option<f64> {
        if self.samples.is_empty() {
            return None;
        }
        // Divided first, so that absurd samples do not overflow the sum.
        let count = self.samples.len() as f64;
        Some(self.samples.iter().map(|sample| sample / count).sum())
    }

    /// The standard deviation; `None` with fewer than two samples.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.samples.len() > 1)?;
        let scale = (self.samples.len() - 1) as f64;
        let variance: f64 = self.samples.iter().map(|sample| (sample - mean).powi(2) / scale).sum();
        Some(variance.sqrt())
    }

    /// The median; `None` without samples.
    pub fn median(&self) -> Option<f64> {
        median(self.samples.iter().copied().collect())
    }

    /// The median distance from the median; `None` without samples.
    pub fn median_deviation(&self) -> Option<f64> {
        let middle = self.median()?;
        median(self.samples.iter().map(|sample| (sample - middle).abs()).collect())
    }
}

/// The median of some numbers; `None` of none.
pub fn median(mut samples: Vec<f64>) -> Option<f64> {
    let (middle, even) = (samples.len() / 2, samples.len().is_multiple_of(2));
    if samples.is_empty() {
        return None;
    }
    // Asked for with every sample of every link: finding the middle is enough, sorting everything is not needed.
    let (below, upper, _) = samples.select_nth_unstable_by(middle, f64::total_cmp);
    let lower = below.iter().copied().max_by(f64::total_cmp).filter(|_| even).unwrap_or(*upper);
    Some(lower / 2.0 + *upper / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(samples: &[f64]) -> Window {
        let mut window = Window::default();
        for sample in samples {
            window.push(*sample);
        }
        window
    }

    #[test]
    fn statistics_of_known_samples() {
        let window = window(&[1.0, 2.0, 3.0, 4.0, 100.0]);
        assert_eq!((window.mean(), window.median(), window.median_deviation()), (Some(22.0), Some(3.0), Some(1.0)));
        assert!((window.deviation().unwrap() - 43.617).abs() < 0.001);
        assert_eq!(window.last(2), [4.0, 100.0]);
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn what_was_never_measured_has_no_statistics() {
        let window = Window::default();
        assert_eq!((window.mean(), window.deviation(), window.median(), window.latest()), (None, None, None, None));
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_its_statistics_are_numbers(samples in proptest::collection::vec(any::<f64>(), 0..300)) {
            let window = window(&samples);
            prop_assert!(window.len() <= SAMPLES_KEPT);
            prop_assert!(window.iter().all(f64::is_finite));
            for number in [window.mean(), window.deviation(), window.median(), window.median_deviation()].into_iter().flatten() {
                prop_assert!(!number.is_nan());
            }
        }
    }
}
