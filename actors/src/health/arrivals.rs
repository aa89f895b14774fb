//! The silence against what the link loses anyway.
//!
//! On a link that loses half of what it carries, four losses in a row are nothing; on one that loses nothing they are an outage.
//! This machine learns each link's own losses and says how likely it is that the present silence will last for `outage` or longer,
//! which is what "outage" means. A silence has one of two causes:
//!
//! * *chance*: each expected arrival is lost independently, with a share that is learnt per link (a Beta distribution, so that little
//!   knowledge says little, and the present silence counts as evidence of losses too);
//! * *a stall* (shadow, handover, a dead peer): it lasts for `t` or longer with probability `(stall_min / t)^stall_tail`, for such silences have no
//!   typical length.
//!
//! By Bayes, with `s` the prior share of stalls, `m` silent arrivals so far, `n` those of a whole outage:
//!
//! ```text
//! P(outage | m) = (s·S(n) + (1-s)·C(n)) / (s·S(m) + (1-s)·C(m))      C(m) = Π_{j<m} (lost+j)/(lost+arrived+j)
//! ```
//!
//! It grows with every silent arrival and is 1 when the silence is as long as an outage: nothing is missed, and an alarm, once given, stands
//! until something arrives.

use std::time::{Duration, Instant};

use bowline_messages::health::{Confidence, Finding, Layer, Rule};

use super::millis;
use super::window::Window;

/// How many expected arrivals an outage has at most; faster links are looked at in coarser steps.
const STEPS_MAX: u32 = 128;
/// Gaps from which the time between arrivals is learnt: odd, so that the median is one of them.
const GAPS: usize = 31;
/// Gaps before the median of them is believed.
const GAPS_MIN: usize = 3;

/// What is known of links before anything is seen. Chosen by cross-validation on recorded links (`docs/detection.md`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArrivalsConfig {
    /// A silence of this length is an outage.
    pub outage: Duration,
    /// The prior share of silences that are stalls, 0 to 1.
    pub stall_share: f64,
    /// How fast long stalls become rare: the exponent of their lengths' tail, above 0.
    pub stall_tail: f64,
    /// The shortest stall.
    pub stall_min: Duration,
    /// Arrivals presumed lost before any was seen, above 0.
    pub prior_lost: f64,
    /// Arrivals presumed to have come before any was seen, above 0.
    pub prior_arrived: f64,
    /// How many expected arrivals are remembered: older ones fade, so that a link may change.
    pub memory: f64,
    /// The time between expected arrivals as long as it is not known.
    pub spacing: Duration,
}

impl Default for ArrivalsConfig {
    fn default() -> Self {
        Self {
            outage: Duration::from_secs(1),
            stall_share: 0.2,
            stall_tail: 1.0,
            stall_min: Duration::from_millis(100),
            prior_lost: 0.5,
            prior_arrived: 0.5,
            memory: 2_000.0,
            spacing: Duration::from_millis(100),
        }
    }
}

/// The expected arrivals of one link.
#[derive(Debug, Clone)]
pub struct Arrivals {
    config: ArrivalsConfig,
    lost: f64,
    arrived: f64,
    gaps_ms: Window,
    spacing: Duration,
    expected_at: Option<Instant>,
    /// The latest arrival, or when the watch began.
    last: Instant,
    /// Reported losses since the latest arrival, and when the latest was reported.
    reported: Option<(u32, Instant)>,
}

impl Arrivals {
    /// The watch begins.
    pub fn new(now: Instant, config: ArrivalsConfig) -> Self {
        let prior = |value: f64| if value.is_finite() { value.clamp(1e-3, 1e6) } else { 1.0 };
        Self {
            lost: prior(config.prior_lost),
            arrived: prior(config.prior_arrived),
            gaps_ms: Window::new(GAPS),
            spacing: config.spacing,
            expected_at: None,
            last: now,
            reported: None,
            config,
        }
    }

    /// Something was sent, or an interval ended, at `at` that should bring an arrival: from these the spacing is learnt. A step that
    /// goes back counts for nothing.
    pub fn on_expected(&mut self, at: Instant) {
        if let Some(before) = self.expected_at.filter(|before| at > *before) {
            self.gaps_ms.push(millis(at - before));
            if let Some(gap) = self.gaps_ms.median().filter(|_| self.gaps_ms.len() >= GAPS_MIN) {
                self.spacing = Duration::try_from_secs_f64(gap / 1e3).unwrap_or(self.config.spacing);
            }
        }
        self.expected_at = Some(self.expected_at.map_or(at, |before| before.max(at)));
    }

    /// An expected thing arrived, on a link where losses are not reported: the silence before it says how many were lost.
    pub fn on_arrival(&mut self, now: Instant) {
        let silent = now.saturating_duration_since(self.last);
        let steps = (silent.as_secs_f64() / self.step().as_secs_f64()).round() - 1.0;
        self.learn(steps.clamp(0.0, self.config.memory.max(0.0)), 1.0);
        self.arrive(now);
    }

    /// An interval ended of which it is known whether what was expected in it arrived.
    pub fn on_interval(&mut self, now: Instant, arrived: bool) {
        if arrived {
            let lost = self.reported.map_or(0, |(lost, _)| lost);
            self.learn(f64::from(lost), 1.0);
            self.arrive(now);
        } else {
            let lost = self.reported.map_or(0, |(lost, _)| lost);
            self.reported = Some((lost.saturating_add(1), now));
        }
    }

    /// Nothing is known of the time before: the watch begins anew, with what was learnt.
    pub fn on_break(&mut self, now: Instant) {
        self.arrive(now);
        self.expected_at = None;
    }

    /// The learnt share of expected arrivals that are lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.lost / (self.lost + self.arrived)
    }

    /// The time between expected arrivals.
    pub fn spacing(&self) -> Duration {
        self.spacing
    }

    /// How many expected arrivals did not come, as far as is known on a link whose losses are not reported.
    pub fn silent(&self, now: Instant) -> u32 {
        let silent = now.saturating_duration_since(self.last);
        // The one that is under way now is not late yet; a whole number is not to fall short of itself by rounding.
        whole(silent.as_secs_f64() / self.step().as_secs_f64() - 1.0 + 1e-6)
    }

    /// How many did not come, on a link whose intervals are reported: without a report of a loss, none, for then it is this side that is
    /// late. After one, silence counts as well.
    pub fn reported_silent(&self, now: Instant) -> u32 {
        let Some((lost, at)) = self.reported else { return 0 };
        let step = self.step().as_secs_f64();
        let reported = f64::from(lost) * self.spacing.as_secs_f64() / step;
        // Reports have jitter: only one that is late by half of the spacing counts as silence.
        let overdue = now.saturating_duration_since(at).as_secs_f64() / step - 0.5;
        whole((reported + 1e-6).floor() + overdue.max(0.0).floor())
    }

    /// The probability that the present silence, of `silent` expected arrivals, is or becomes an outage.
    pub fn confidence(&self, silent: u32) -> Confidence {
        let whole_outage = self.outage_steps();
        if silent >= whole_outage {
            return Confidence::CERTAIN;
        }
        let share = if self.config.stall_share.is_nan() { 0.0 } else { self.config.stall_share.clamp(0.0, 1.0) };
        let lasts = |steps| share * self.stall(steps) + (1.0 - share) * self.chance(steps);
        let seen = lasts(silent);
        if seen <= 0.0 {
            return Confidence::CERTAIN; // Neither chance nor a stall of the usual kind: more than either.
        }
        Confidence::new(lasts(whole_outage) / seen)
    }

    /// What it says of a silence.
    pub fn finding(&self, silent: u32) -> Finding {
        let samples = [f64::from(silent), f64::from(silent) * millis(self.step()), self.loss()];
        Finding::new(Layer::Arrivals, Rule::SilenceTooLong, self.confidence(silent), &samples)
    }

    /// The probability that chance alone loses so many arrivals in a row.
    fn chance(&self, silent: u32) -> f64 {
        let total = self.lost + self.arrived;
        (0..silent).map(|n| (self.lost + f64::from(n)) / (total + f64::from(n))).product()
    }

    /// The probability that a stall lasts for so many arrivals or longer.
    fn stall(&self, silent: u32) -> f64 {
        let ratio = self.config.stall_min.as_secs_f64() / (self.step().as_secs_f64() * f64::from(silent)).max(1e-9);
        ratio.min(1.0).powf(self.config.stall_tail.clamp(0.0, 100.0))
    }

    fn outage_steps(&self) -> u32 {
        let steps = self.config.outage.as_secs_f64() / self.step().as_secs_f64();
        // An outage of just so many arrivals is not to need one more because of rounding.
        whole((steps - 1e-6).ceil()).clamp(1, STEPS_MAX)
    }

    /// The time between expected arrivals, no shorter than what is looked at.
    fn step(&self) -> Duration {
        self.spacing.max(self.config.outage / STEPS_MAX).max(Duration::from_micros(1))
    }

    fn arrive(&mut self, now: Instant) {
        self.last = self.last.max(now);
        self.reported = None;
    }

    fn learn(&mut self, lost: f64, arrived: f64) {
        self.lost += lost;
        self.arrived += arrived;
        let fade = self.config.memory.max(1.0) / (self.lost + self.arrived);
        if fade < 1.0 {
            self.lost = (self.lost * fade).max(1e-3);
            self.arrived = (self.arrived * fade).max(1e-3);
        }
    }
}

/// The whole number below, 0 for what is negative or no number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates, which is what is wanted.
fn whole(value: f64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPACING: Duration = Duration::from_millis(100);

    /// A link that loses every arrival whose number `lost` accepts, for so many intervals, ending with an arrival.
    fn learnt(start: Instant, intervals: u32, lost: impl Fn(u32) -> bool) -> Arrivals {
        let mut machine = Arrivals::new(start, ArrivalsConfig::default());
        for n in 0..intervals {
            machine.on_expected(start + SPACING * n);
            machine.on_interval(start + SPACING * n, n + 1 == intervals || !lost(n));
        }
        machine
    }

    #[test]
    fn the_same_silence_says_more_on_a_clean_link_than_on_a_lossy_one() {
        let start = Instant::now();
        let (clean, lossy) = (learnt(start, 300, |_| false), learnt(start, 300, |n| n % 5 < 3));
        assert!(clean.loss() < 0.01 && (lossy.loss() - 0.6).abs() < 0.02);
        let (clean, lossy) = (clean.confidence(3).value(), lossy.confidence(3).value());
        assert!(clean > 0.25 && lossy < 0.15, "{clean} {lossy}");
    }

    #[test]
    fn a_silence_as_long_as_an_outage_is_certain_on_every_link() {
        let start = Instant::now();
        for share in [0, 3, 9, 10] {
            let machine = learnt(start, 300, |n| n % 10 < share);
            assert_eq!(machine.confidence(10), Confidence::CERTAIN);
            assert!(machine.confidence(9) < Confidence::CERTAIN);
        }
    }

    #[test]
    fn without_reports_the_silence_is_counted_in_the_learnt_spacing() {
        let start = Instant::now();
        let spacing = Duration::from_millis(55);
        let mut machine = Arrivals::new(start, ArrivalsConfig::default());
        for n in 0..40 {
            machine.on_expected(start + spacing * n);
            machine.on_arrival(start + spacing * n);
        }
        assert_eq!(machine.spacing(), spacing);
        let last = start + spacing * 39;
        assert_eq!((machine.silent(last + spacing), machine.silent(last + spacing * 4)), (0, 3));
        let before = machine.loss();
        machine.on_arrival(last + spacing * 4);
        assert!(machine.loss() > before, "three were lost");
    }

    #[test]
    fn where_intervals_are_reported_a_missing_report_is_our_own_lateness_until_a_loss_was_reported() {
        let start = Instant::now();
        let mut machine = learnt(start, 50, |_| false);
        let last = start + SPACING * 49;
        assert_eq!(machine.reported_silent(last + Duration::from_secs(5)), 0);
        machine.on_interval(last + SPACING, false);
        assert_eq!(machine.reported_silent(last + SPACING), 1);
        assert_eq!(machine.reported_silent(last + SPACING * 4), 3);
        machine.on_break(last + Duration::from_secs(5));
        assert_eq!(machine.reported_silent(last + Duration::from_secs(9)), 0);
    }

    #[test]
    fn a_link_may_change() {
        let start = Instant::now();
        let mut machine = learnt(start, 5_000, |n| n < 2_000 && n % 2 == 0);
        assert!(machine.loss() < 0.15, "{}", machine.loss());
        machine.on_interval(start + SPACING * 5_000, false);
        assert_eq!(machine.finding(1).samples[0], 1.0);
    }

    proptest! {
        #[test]
        fn it_is_a_number_and_grows_with_the_silence(
            steps in proptest::collection::vec((0_u64..5_000, 0_u8..3), 0..200),
            share in any::<f64>(), tail in 0.01_f64..9.0, lost in any::<f64>(), arrived in any::<f64>(), memory in any::<f64>(),
        ) {
            let mut now = Instant::now();
            let config = ArrivalsConfig {
                stall_share: share, stall_tail: tail, prior_lost: lost, prior_arrived: arrived, memory, ..ArrivalsConfig::default()
            };
            let mut machine = Arrivals::new(now, config);
            for (gap, what) in steps {
                now += Duration::from_millis(gap);
                machine.on_expected(now);
                match what {
                    0 => machine.on_arrival(now),
                    1 => machine.on_interval(now, true),
                    _ => machine.on_interval(now, false),
                }
            }
            let mut before = 0.0;
            for silent in [0, 1, 2, 3, 5, 8, 13, 50, 128, 1_000, u32::MAX] {
                let value = machine.confidence(silent).value();
                prop_assert!((0.0..=1.0).contains(&value) && value >= before - 1e-9, "{} {} {}", silent, value, before);
                before = value;
            }
        }
    }
}
