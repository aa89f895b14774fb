//! Statistical process control of one measure: a sample outside of mean ± 3 standard deviations (confidence 0.95), or seven
//! running in one direction (0.75). The limits are learnt per link, from samples that were themselves within limits.

use bowline_messages::health::{Confidence, Finding, Layer, Rule};

use super::window::Window;

/// Standard deviations to the control limits.
const SIGMAS: f64 = 3.0;
/// Samples that make a run.
pub const RUN: usize = 7;
/// Samples before there are limits.
const SAMPLES_MIN: usize = 20;
/// So many samples in a row outside of the limits are no outliers but how the link is now: the limits are learnt anew.
const SHIFT: u32 = 20;

/// The control chart of one measure of one link: for measures of which more is worse.
#[derive(Debug, Clone, Default)]
pub struct ControlChart {
    samples: Window,
    run: Window,
    rising: usize,
    outside: u32,
    beyond: bool,
    limit: Option<(f64, f64)>,
}

impl ControlChart {
    /// An empty chart.
    pub fn new() -> Self {
        Self { run: Window::new(RUN), ..Self::default() }
    }

    /// Takes a sample; what is no number is not taken.
    pub fn on_sample(&mut self, sample: f64) {
        let before = self.run.latest();
        if !self.run.push(sample) {
            return;
        }
        self.rising = if before.is_some_and(|before| sample > before) { self.rising + 1 } else { 1 };
        self.beyond = self.limit.is_some_and(|(mean, limit)| (sample - mean).abs() > limit);
        if self.beyond {
            self.outside += 1;
            if self.outside < SHIFT {
                return;
            }
            self.samples.clear();
            self.limit = None;
        }
        self.outside = 0;
        self.samples.push(sample);
        if self.samples.len() >= SAMPLES_MIN {
            // A measure that never varied has no usable limits: every last digit would be beyond them.
            let floor = self.samples.mean().map_or(0.0, |mean| mean.abs() * 0.01);
            self.limit = self.samples.mean().zip(self.samples.deviation().map(|sigma| (sigma * SIGMAS).max(floor)));
        }
    }

    /// What it says of the latest sample; nothing while it is in control.
    pub fn finding(&self) -> Option<Finding> {
        let latest = self.run.last(RUN);
        let worse = self.limit.zip(self.run.latest()).is_some_and(|((mean, _), sample)| sample > mean);
        if self.beyond && worse {
            return Some(Finding::new(Layer::Control, Rule::ThreeSigma, Confidence::new(0.95), &latest));
        }
        (self.rising >= RUN).then(|| Finding::new(Layer::Control, Rule::RunOfSeven, Confidence::new(0.75), &latest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steady() -> ControlChart {
        let mut chart = ControlChart::new();
        for n in 0..60 {
            chart.on_sample(20.0 + f64::from(n % 3));
        }
        chart
    }

    fn rule(chart: &ControlChart) -> Option<(Rule, f64)> {
        chart.finding().map(|finding| (finding.rule, finding.confidence.value()))
    }

    #[test]
    fn a_sample_beyond_three_sigma_is_found_and_the_next_usual_one_clears_it() {
        let mut chart = steady();
        assert_eq!(rule(&chart), None);
        chart.on_sample(60.0);
        assert_eq!(rule(&chart), Some((Rule::ThreeSigma, 0.95)));
        chart.on_sample(21.0);
        assert_eq!(rule(&chart), None);
        chart.on_sample(1.0);
        assert_eq!(rule(&chart), None, "faster than usual is no failure");
    }

    #[test]
    fn seven_rising_samples_are_a_run_and_six_are_not() {
        let mut chart = ControlChart::new();
        for n in 0..6 {
            chart.on_sample(20.0 + f64::from(n) * 0.1);
        }
        assert_eq!(rule(&chart), None);
        chart.on_sample(20.7);
        assert_eq!(rule(&chart), Some((Rule::RunOfSeven, 0.75)));
        assert_eq!(chart.finding().unwrap().samples.len(), RUN);
        chart.on_sample(20.7);
        assert_eq!(rule(&chart), None);
    }

    #[test]
    fn a_link_that_is_slower_for_good_gets_new_limits() {
        let mut chart = steady();
        for n in 0..80 {
            chart.on_sample(60.0 + f64::from(n % 3));
        }
        assert_eq!(rule(&chart), None);
    }

    proptest! {
        #[test]
        fn no_number_harms_it(samples in proptest::collection::vec(any::<f64>(), 0..200)) {
            let mut chart = ControlChart::new();
            for sample in samples {
                chart.on_sample(sample);
                if let Some(finding) = chart.finding() {
                    prop_assert!(finding.samples.iter().all(|sample| sample.is_finite()));
                }
            }
        }
    }
}
