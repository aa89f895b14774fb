//! The layers of one link, put together: samples go in, a verdict comes out.
//!
//! The same machine judges live links and recorded ones (`bowline replay detect`). It never acts: who holds it decides from
//! which confidence on a link is called unusable ([`MonitorConfig::alarm`]).

use std::time::{Duration, Instant};

use bowline_messages::health::{Confidence, Finding, Outlook};
use bowline_messages::link::Medium;

use super::anomaly::Anomaly;
use super::arrivals::{Arrivals, ArrivalsConfig};
use super::control::ControlChart;
use super::fusion::{Verdict, fuse};
use super::local::{LocalConfig, LocalHealth};
use super::predictor::{PlainTrend, Prediction, Predictor};
use super::quality::{Quality, QualityMeter};
use super::rules::{ErrorBurst, Usable, UsableConfig};
use super::window::{SAMPLES_KEPT, median};

/// How the monitor comes to know of losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// Only what arrives is reported in time: losses are seen as silence (probes, acknowledgements).
    Arrivals,
    /// Every interval is reported when it ends, by this side itself, whether something came in it or not: no report is no silence of the
    /// link, but a lateness of this side.
    Intervals,
}

/// One sample of a link. `None` means: not measured, or, where it is what the link is judged by, nothing came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When it was sent, or when its interval ended.
    pub at: Instant,
    /// By what it is judged.
    pub measure: Measure,
}

/// What a sample measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// Round-trip time in milliseconds; `None`: no answer.
    LatencyMs(Option<f64>),
    /// Share of the interval's packets that were lost.
    Loss(Option<f64>),
    /// Throughput in kilobits a second.
    ThroughputKbps(Option<f64>),
}

/// Everything that can be set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MonitorConfig {
    /// How losses become known.
    pub feed: Feed,
    /// From this confidence on the link is to be called unusable. Lower finds outages sooner and is wrong more often; `docs/detection.md` has the
    /// curve.
    pub alarm: f64,
    /// What silence means.
    pub arrivals: ArrivalsConfig,
    /// Which samples count as arrivals.
    pub usable: UsableConfig,
    /// When this side's own lateness is doubted. Looked at for [`Feed::Intervals`], where it shows in the reports.
    pub local: LocalConfig,
    /// A latency that the trend must not meet, in milliseconds.
    pub latency_limit_ms: f64,
    /// How far ahead the trend looks.
    pub horizon: Duration,
    /// Through how many samples the trend is drawn.
    pub trend_samples: usize,
    /// So many errors within [`MonitorConfig::errors_within`] are a burst.
    pub errors: usize,
    /// See [`MonitorConfig::errors`].
    pub errors_within: Duration,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self {
            feed: Feed::Arrivals,
            alarm: 0.44,
            arrivals: ArrivalsConfig::default(),
            usable: UsableConfig::default(),
            // A report that is late by a whole outage says that this side was not running.
            local: LocalConfig {
                tolerance: Duration::from_millis(1_000),
                starved: Duration::from_millis(1_100),
                ..LocalConfig::default()
            },
            latency_limit_ms: 1_000.0,
            horizon: Duration::from_secs(5),
            trend_samples: 24,
            errors: 5,
            errors_within: Duration::from_secs(10),
        }
    }
}

/// The health of one link.
#[derive(Debug, Clone)]
pub struct LinkHealth {
    config: MonitorConfig,
    usable: Usable,
    arrivals: Arrivals,
    control: ControlChart,
    anomaly: Anomaly,
    trend: PlainTrend,
    errors: ErrorBurst,
    local: LocalHealth,
    quality: QualityMeter,
    common: Option<Finding>,
}

impl LinkHealth {
    /// A link that has just come up.
    pub fn new(now: Instant, medium: Medium, config: MonitorConfig) -> Self {
        Self {
            usable: Usable::new(config.usable),
            arrivals: Arrivals::new(now, config.arrivals),
            control: ControlChart::new(),
            anomaly: Anomaly::default(),
            trend: PlainTrend::over(config.trend_samples, config.latency_limit_ms),
            errors: ErrorBurst::new(config.errors, config.errors_within),
            local: LocalHealth::new(config.local),
            quality: QualityMeter::new(medium),
            common: None,
            config,
        }
    }

    /// A sample became known.
    pub fn on_sample(&mut self, now: Instant, sample: Sample) {
        if self.config.feed == Feed::Intervals {
            self.on_report(now);
        }
        let usable = match sample.measure {
            Measure::LatencyMs(latency) => self.usable.latency(sample.at, latency),
            Measure::Loss(loss) => self.usable.loss(loss),
            Measure::ThroughputKbps(kbps) => self.usable.throughput(sample.at, kbps),
        };
        self.arrivals.on_expected(sample.at);
        match self.config.feed {
            Feed::Intervals => self.arrivals.on_interval(now, usable),
            Feed::Arrivals if usable => self.arrivals.on_arrival(now),
            Feed::Arrivals => {}
        }
        self.measure(now, sample.measure, usable);
    }

    /// An interval of live traffic ended. `latencies_ms`: what was measured in it, for the quality; their median is the sample that detectors
    /// judge. `lost`: how many answers did not come in time. Neither of both: nothing is known of the interval.
    pub fn on_interval(&mut self, now: Instant, latencies_ms: &[f64], lost: usize) {
        let sample = median(latencies_ms.to_vec());
        if sample.is_none() && lost == 0 {
            return;
        }
        if self.config.feed == Feed::Intervals {
            self.on_report(now);
        }
        let usable = self.usable.latency(now, sample);
        self.arrivals.on_expected(now);
        match self.config.feed {
            Feed::Intervals => self.arrivals.on_interval(now, usable),
            Feed::Arrivals if usable => self.arrivals.on_arrival(now),
            Feed::Arrivals => {}
        }
        if let Some(latency) = sample {
            self.on_latency(now, latency);
        }
        for latency in latencies_ms {
            self.quality.on_delivered(Duration::try_from_secs_f64(latency / 1e3).ok());
        }
        (0..lost.min(SAMPLES_KEPT)).for_each(|_| self.quality.on_lost());
    }

    /// A rate was measured while the link was busy, in bytes a second.
    pub fn on_rate(&mut self, bytes: f64) {
        self.quality.on_bandwidth(bytes);
    }

    /// The latest sample and the median of those before it, in milliseconds, once enough is known.
    pub fn beside_usual(&self) -> Option<(f64, f64)> {
        self.anomaly.beside_usual()
    }

    /// Where the latency is heading, as far as it meets its limit within the horizon.
    pub fn outlook(&self, now: Instant) -> Outlook {
        let meets = |prediction: &Prediction| prediction.time_to_failure.is_some_and(|t| t <= self.config.horizon);
        let prediction = self.trend.predict(now, self.config.horizon).filter(meets);
        prediction.map_or_else(Outlook::default, |prediction| Outlook {
            probability: prediction.probability,
            seconds: prediction.time_to_failure.map(|time| time.as_secs_f64()),
        })
    }

    /// An error occurred on the link: a reset, a broken record.
    pub fn on_error(&mut self, now: Instant) {
        self.errors.on_error(now);
    }

    /// Links that share something with this one fell together with it; `None`: no longer.
    pub fn on_common_cause(&mut self, finding: Option<Finding>) {
        self.common = finding;
    }

    /// How sure it is that the link does not carry: [`LinkHealth::verdict`] without its reasons.
    pub fn unusable(&self, now: Instant) -> Confidence {
        let silence = self.arrivals.confidence(self.silent(now));
        let common = self.common.as_ref().map_or(Confidence::NONE, |finding| finding.confidence);
        silence.either(Confidence::new(common.value() * silence.value())).doubted(self.local.doubt(now))
    }

    /// Whether the link is to be called unusable.
    pub fn is_alarm(&self, now: Instant) -> bool {
        self.unusable(now).value() >= self.config.alarm
    }

    /// What is thought of the link, and what each layer said.
    pub fn verdict(&self, now: Instant) -> Verdict {
        self.verdict_of(now, Confidence::NONE, true)
    }

    /// The same on a node that doubts itself this much; with what is said of changed latencies, or without it when the change is too small
    /// to matter to anybody.
    pub fn verdict_of(&self, now: Instant, doubt: Confidence, changes: bool) -> Verdict {
        let mut findings = vec![self.arrivals.finding(self.silent(now))];
        findings.extend(self.common.clone());
        findings.extend(self.errors.finding(now));
        if changes {
            findings.extend(self.control.finding());
            findings.extend(self.anomaly.finding());
            findings.extend(self.trend.finding(now, self.config.horizon));
        }
        fuse(findings, self.local.doubt(now).or_greater(doubt))
    }

    /// What was measured of the link.
    pub fn quality(&self) -> Quality {
        self.quality.quality()
    }

    /// The expected arrivals, for what wants to know the learnt loss.
    pub fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    fn silent(&self, now: Instant) -> u32 {
        match self.config.feed {
            Feed::Arrivals => self.arrivals.silent(now),
            Feed::Intervals => self.arrivals.reported_silent(now),
        }
    }

    /// The report of an interval is also a tick of this side's own clock. One that comes after complete doubt begins the watch anew.
    fn on_report(&mut self, now: Instant) {
        if self.local.doubt(now) == Confidence::CERTAIN {
            self.arrivals.on_break(now);
            self.local = LocalHealth::new(self.config.local);
        }
        self.local.on_tick(now);
        self.local.on_timer_set(now);
    }

    fn on_latency(&mut self, now: Instant, latency_ms: f64) {
        self.control.on_sample(latency_ms);
        self.anomaly.on_sample(latency_ms);
        self.trend.on_sample(now, latency_ms);
    }

    fn measure(&mut self, now: Instant, measure: Measure, usable: bool) {
        if let Measure::LatencyMs(Some(latency)) = measure {
            self.on_latency(now, latency);
        }
        if let Measure::ThroughputKbps(Some(kbps)) = measure {
            self.quality.on_bandwidth(kbps * 125.0);
        }
        if !usable {
            self.quality.on_lost();
            return;
        }
        let latency = if let Measure::LatencyMs(Some(latency)) = measure {
            Duration::try_from_secs_f64(latency / 1e3).ok()
        } else {
            None
        };
        self.quality.on_delivered(latency);
    }
}

#[cfg(test)]
mod tests {
    use bowline_messages::health::Rule;
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    fn health(start: Instant, feed: Feed) -> LinkHealth {
        LinkHealth::new(start, Medium::Wifi, MonitorConfig { feed, ..MonitorConfig::default() })
    }

    #[test]
    fn a_clean_link_that_falls_silent_is_found_after_five_arrivals_and_its_verdict_says_why() {
        let start = Instant::now();
        let mut health = health(start, Feed::Arrivals);
        for n in 0..100 {
            health.on_sample(start + STEP * n, Sample { at: start + STEP * n, measure: Measure::LatencyMs(Some(0.0)) });
            assert!(!health.is_alarm(start + STEP * n));
        }
        let last = start + STEP * 99;
        assert!(!health.is_alarm(last + STEP * 3) && health.is_alarm(last + STEP * 6));
        let verdict = health.verdict(last + STEP * 6);
        assert_eq!(verdict.unusable, health.unusable(last + STEP * 6));
        assert_eq!((verdict.findings[0].rule, verdict.findings[0].samples[0]), (Rule::SilenceTooLong, 5.0));
    }

    #[test]
    fn reports_that_stop_coming_are_this_side_s_own_fault() {
        let start = Instant::now();
        let mut health = health(start, Feed::Intervals);
        let good = |n: u32| Sample { at: start + STEP * n, measure: Measure::Loss(Some(0.0)) };
        let bad = |n: u32| Sample { at: start + STEP * n, measure: Measure::Loss(Some(1.0)) };
        for n in 0..50 {
            health.on_sample(start + STEP * n, good(n));
        }
        for n in 50..150 {
            assert!(!health.is_alarm(start + STEP * n));
        }
        for n in 150..159 {
            health.on_sample(start + STEP * n, bad(n));
        }
        assert!(health.is_alarm(start + STEP * 158), "losses that are reported are losses");
        assert!(!health.is_alarm(start + STEP * 170), "and what is known grows old");
    }

    #[test]
    fn measures_that_worsen_are_degrading_and_not_unusable() {
        let start = Instant::now();
        let mut health = health(start, Feed::Arrivals);
        for n in 0..60_u32 {
            let measure = Measure::LatencyMs(Some(20.0 + f64::from(n % 3)));
            health.on_sample(start + STEP * n, Sample { at: start + STEP * n, measure });
        }
        let now = start + STEP * 60;
        health.on_sample(now, Sample { at: now, measure: Measure::LatencyMs(Some(90.0)) });
        let verdict = health.verdict(now);
        assert!(verdict.degrading.value() >= 0.95 && verdict.unusable.value() < 0.1, "{verdict:?}");
        assert_eq!(health.quality().latency_ms, Some(21.0));
    }

    proptest! {
        #[test]
        fn nothing_that_comes_in_harms_it_and_the_short_way_says_the_same(
            intervals in any::<bool>(),
            steps in proptest::collection::vec((0_u64..9_000, 0_u8..4, proptest::option::of(any::<f64>())), 0..120),
        ) {
            let mut now = Instant::now();
            let mut health = health(now, if intervals { Feed::Intervals } else { Feed::Arrivals });
            for (gap, what, value) in steps {
                now += Duration::from_millis(gap);
                let measure = match what {
                    0 => Measure::LatencyMs(value),
                    1 => Measure::Loss(value),
                    2 => Measure::ThroughputKbps(value),
                    _ => { health.on_error(now); continue; }
                };
                health.on_sample(now, Sample { at: now, measure });
                let later = now + Duration::from_millis(gap / 2);
                prop_assert_eq!(health.verdict(later).unusable, health.unusable(later));
                health.quality();
            }
        }
    }
}
