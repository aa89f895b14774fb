//! Anomaly by robust statistics: how many median absolute deviations a sample lies above the median of those before it. Unlike mean and deviation,
//! neither is moved by the outliers that are looked for.

use bowline_messages::health::{Confidence, Finding, Layer, Rule};

use super::ranked::Ranked;

/// A normal distribution's standard deviation in median absolute deviations.
const MAD_TO_SIGMA: f64 = 1.4826;
/// From here on a sample is called an outlier (Iglewicz and Hoaglin 1993).
const SCORE_LIMIT: f64 = 3.5;
/// Samples before anything is said.
const SAMPLES_MIN: usize = 10;

/// The anomaly detector of one measure of one link: for measures of which more is worse.
#[derive(Debug, Clone, Default)]
pub struct Anomaly {
    samples: Ranked,
    latest: Option<Judged>,
}

#[derive(Debug, Clone, Copy)]
struct Judged {
    sample: f64,
    median: f64,
    deviation: f64,
    score: f64,
}

impl Anomaly {
    /// Takes a sample and judges it by those before.
    pub fn on_sample(&mut self, sample: f64) {
        if !sample.is_finite() {
            return;
        }
        self.latest = self.judge(sample);
        self.samples.push(sample);
    }

    /// The latest sample's distance above the median, in standard deviations; 0 when it is below or too little is known.
    pub fn score(&self) -> f64 {
        self.latest.map_or(0.0, |judged| judged.score)
    }

    /// The latest sample and the median of those before it, once enough is known.
    pub fn beside_usual(&self) -> Option<(f64, f64)> {
        self.latest.map(|judged| (judged.sample, judged.median))
    }

    /// 0.5 at the limit for outliers, towards 1 far beyond it.
    pub fn confidence(&self) -> Confidence {
        let score = self.score();
        Confidence::new(if score.is_infinite() { 1.0 } else { score / (score + SCORE_LIMIT) })
    }

    /// What it says of the latest sample; nothing while that is usual.
    pub fn finding(&self) -> Option<Finding> {
        let judged = self.latest.filter(|judged| judged.score > SCORE_LIMIT)?;
        let samples = [judged.sample, judged.median, judged.deviation];
        Some(Finding::new(Layer::Anomaly, Rule::MedianDeviation, self.confidence(), &samples))
    }

    fn judge(&self, sample: f64) -> Option<Judged> {
        if self.samples.len() < SAMPLES_MIN {
            return None;
        }
        let median = self.samples.median()?;
        let measured = self.samples.median_deviation()?;
        // A measure that hardly varies: a twentieth of it is no anomaly.
        let deviation = measured.max(median.abs() * 0.05).max(1e-9);
        let score = ((sample - median) / (deviation * MAD_TO_SIGMA)).max(0.0);
        Some(Judged { sample, median, deviation: measured, score })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steady() -> Anomaly {
        let mut anomaly = Anomaly::default();
        for n in 0..50 {
            anomaly.on_sample(20.0 + f64::from(n % 5));
        }
        anomaly
    }

    #[test]
    fn an_outlier_is_found_even_after_many_outliers() {
        let mut anomaly = steady();
        assert_eq!(anomaly.finding(), None);
        for _ in 0..20 {
            anomaly.on_sample(500.0);
            assert!(anomaly.confidence().value() > 0.9);
            assert_eq!(anomaly.finding().unwrap().samples[0], 500.0);
        }
        anomaly.on_sample(22.0);
        assert_eq!(anomaly.finding(), None);
    }

    #[test]
    fn better_than_usual_is_no_anomaly() {
        let mut anomaly = steady();
        anomaly.on_sample(0.1);
        assert_eq!((anomaly.score(), anomaly.finding()), (0.0, None));
    }

    proptest! {
        #[test]
        fn no_number_harms_it(samples in proptest::collection::vec(any::<f64>(), 0..150)) {
            let mut anomaly = Anomaly::default();
            for sample in samples {
                anomaly.on_sample(sample);
                prop_assert!((0.0..=1.0).contains(&anomaly.confidence().value()));
                prop_assert!(!anomaly.score().is_nan());
            }
        }
    }
}
