//! How soon and how rightly a detector finds the outages of recorded links. Pure.
//!
//! A detector hears each row when it becomes known and is asked every [`GRID_MS`]. It gives a score; the alarm is up while the score reaches a
//! threshold, so one replay measures a whole curve. The detectors are the node's own machines ([`crate::health`]) behind a thin
//! coat that turns rows into their inputs.

use std::time::{Duration, Instant};

use bowline_messages::link::Medium;

use super::trace::{Row, RowTime, Rule, Trace};
use super::truth::{Outage, bad_rows};
use crate::health::arrivals::ArrivalsConfig;
use crate::health::monitor::{Feed, LinkHealth, Measure, MonitorConfig, Sample};
use crate::health::phi::Phi;
use crate::health::rules::{Usable, UsableConfig};
use crate::health::unacknowledged::Unacknowledged;

/// The detectors are asked every so many milliseconds.
pub const GRID_MS: f64 = 20.0;
/// After an outage alarms are not counted as false for so many milliseconds.
const AFTER_MS: f64 = 1_000.0;
/// Links whose rows are farther apart are not replayed, in milliseconds.
pub const SPACING_MAX_MS: f64 = 110.0;

/// A detector of outages.
pub trait Detector {
    /// A row became known.
    fn on_row(&mut self, now: Instant, at: Instant, row: &Row);

    /// How much speaks for an outage; never falls while nothing arrives.
    fn score(&self, now: Instant) -> f64;
}

/// Whether a recording takes part.
pub fn takes_part(trace: &Trace) -> bool {
    trace.spacing_ms().is_some_and(|spacing| spacing <= SPACING_MAX_MS)
}

/// What happened at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// Moments outside of outages and the second after each.
    pub moments: u64,
    /// Those with the alarm up.
    pub false_moments: u64,
    /// Outages that were found.
    pub found: u64,
    /// Outages that were not.
    pub missed: u64,
    /// The sum of the delays of those found, in milliseconds.
    pub delay_ms: f64,
}

/// The measures of a tally.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Measures {
    /// From the start of an outage to the first alarm in it, mean over those found; `None` when none was.
    pub mean_delay_ms: Option<f64>,
    /// The share of the time outside of outages (and the second after each) with the alarm up, 0 to 1.
    pub false_positive_time: f64,
    /// Outages without an alarm.
    pub missed: u64,
    /// Outages there were.
    pub outages: u64,
}

impl Tally {
    /// Adds another link's.
    pub fn join(&mut self, other: &Self) {
        self.moments += other.moments;
        self.false_moments += other.false_moments;
        self.found += other.found;
        self.missed += other.missed;
        self.delay_ms += other.delay_ms;
    }

    /// The measures.
    pub fn measures(&self) -> Measures {
        Measures {
            mean_delay_ms: (self.found > 0).then(|| self.delay_ms / self.found as f64),
            false_positive_time: if self.moments == 0 { 0.0 } else { self.false_moments as f64 / self.moments as f64 },
            missed: self.missed,
            outages: self.found + self.missed,
        }
    }
}

/// Replays a link through a detector; one tally for each threshold. `start`: any moment, taken for the beginning of the recording.
pub fn replay(
    trace: &Trace,
    outages: &[Outage],
    start: Instant,
    detector: &mut dyn Detector,
    thresholds: &[f64],
) -> Vec<Tally> {
    let mut known: Vec<(f64, &Row)> = trace.rows.iter().map(|row| (row.known_ms(trace.row_time), row)).collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut known = known.into_iter().peekable();
    let mut tallies = vec![Tally::default(); thresholds.len()];
    let mut found = vec![false; thresholds.len()];
    let mut coming = outages.iter().peekable();
    let end = trace.rows.last().map_or(0.0, |row| row.t_ms);
    let mut step = 0_u32;
    loop {
        let now_ms = f64::from(step) * GRID_MS;
        if now_ms > end {
            break;
        }
        step += 1;
        while let Some((at, row)) = known.next_if(|(at, _)| *at <= now_ms) {
            detector.on_row(moment(start, at), moment(start, row.t_ms), row);
        }
        while coming.next_if(|outage| outage.end_ms + AFTER_MS <= now_ms).is_some() {
            close(&mut tallies, &mut found);
        }
        let outage = coming.peek().filter(|outage| outage.start_ms <= now_ms);
        let score = detector.score(moment(start, now_ms));
        for ((tally, found), threshold) in tallies.iter_mut().zip(&mut found).zip(thresholds) {
            let alarm = score >= *threshold;
            match outage {
                None => {
                    tally.moments += 1;
                    tally.false_moments += u64::from(alarm);
                }
                Some(outage) if alarm && !*found && now_ms < outage.end_ms => {
                    *found = true;
                    tally.found += 1;
                    tally.delay_ms += now_ms - outage.start_ms;
                }
                Some(_) => {}
            }
        }
    }
    for _ in coming {
        close(&mut tallies, &mut found);
    }
    tallies
}

/// An outage is over: those that did not find it missed it.
fn close(tallies: &mut [Tally], found: &mut [bool]) {
    for (tally, found) in tallies.iter_mut().zip(found) {
        tally.missed += u64::from(!std::mem::take(found));
    }
}

fn moment(start: Instant, ms: f64) -> Instant {
    // Recordings last hours; one that claims more than any clock can hold stands still.
    Duration::try_from_secs_f64(ms / 1e3).ok().and_then(|after| start.checked_add(after)).unwrap_or(start)
}

/// What a row measures, by the first rule that the link is judged by.
fn measure(rules: &[Rule], row: &Row) -> Measure {
    match rules.first() {
        Some(Rule::Latency) => Measure::LatencyMs(row.latency_ms),
        Some(Rule::Throughput) => Measure::ThroughputKbps(row.throughput_kbps),
        Some(Rule::Loss) | None => Measure::Loss(row.loss),
    }
}

/// The medium of a recording, as the node names it.
pub fn medium(name: &str) -> Medium {
    match name {
        "wifi" => Medium::Wifi,
        "ble" => Medium::Bluetooth,
        "3g" | "lte" | "5g" | "cellular" => Medium::Cellular,
        "ethernet" => Medium::Ethernet,
        _ => Medium::Unknown,
    }
}

/// The node's own monitor; the score is its fused confidence that the link is unusable.
#[derive(Debug)]
pub struct Fused {
    health: LinkHealth,
    rules: Vec<Rule>,
}

impl Fused {
    /// A monitor for a recording.
    pub fn new(trace: &Trace, start: Instant, config: MonitorConfig) -> Self {
        let feed = match trace.row_time {
            RowTime::IntervalEnd => Feed::Intervals,
            RowTime::ProbeSend => Feed::Arrivals,
        };
        let health = LinkHealth::new(start, medium(&trace.medium), MonitorConfig { feed, ..config });
        Self { health, rules: trace.rules.clone() }
    }

    /// One that was told the share of bad rows of the whole recording beforehand. No detector can know it: this is how well one can do at
    /// best that goes by losses.
    pub fn foreknowing(trace: &Trace, start: Instant, config: MonitorConfig) -> Self {
        let bad = bad_rows(trace);
        let lost = bad.iter().filter(|bad| **bad).count() as f64 / (bad.len().max(1)) as f64;
        let arrivals = ArrivalsConfig {
            prior_lost: (lost * 1e6).max(1.0),
            prior_arrived: ((1.0 - lost) * 1e6).max(1.0),
            memory: 1e9,
            ..config.arrivals
        };
        Self::new(trace, start, MonitorConfig { arrivals, ..config })
    }
}

impl Detector for Fused {
    fn on_row(&mut self, now: Instant, at: Instant, row: &Row) {
        self.health.on_sample(now, Sample { at, measure: measure(&self.rules, row) });
    }

    fn score(&self, now: Instant) -> f64 {
        self.health.unusable(now).value()
    }
}

/// Which rows are usable, for the baselines.
#[derive(Debug)]
struct Sieve {
    usable: Usable,
    rules: Vec<Rule>,
}

impl Sieve {
    fn new(trace: &Trace) -> Self {
        Self { usable: Usable::new(UsableConfig::default()), rules: trace.rules.clone() }
    }

    fn passes(&mut self, at: Instant, row: &Row) -> bool {
        match measure(&self.rules, row) {
            Measure::LatencyMs(latency) => self.usable.latency(at, latency),
            Measure::Loss(loss) => self.usable.loss(loss),
            Measure::ThroughputKbps(kbps) => self.usable.throughput(at, kbps),
        }
    }
}

/// A plain time-out since the last usable row; the score is the silence in milliseconds.
#[derive(Debug)]
pub struct PlainTimeout {
    sieve: Sieve,
    waiting: Unacknowledged,
}

impl PlainTimeout {
    /// For a recording; the watch begins with it.
    pub fn new(trace: &Trace, start: Instant) -> Self {
        let mut waiting = Unacknowledged::new(Duration::MAX);
        waiting.on_sent(start);
        Self { sieve: Sieve::new(trace), waiting }
    }
}

impl Detector for PlainTimeout {
    fn on_row(&mut self, now: Instant, at: Instant, row: &Row) {
        if self.sieve.passes(at, row) {
            self.waiting.on_answer(Some(now));
        }
    }

    fn score(&self, now: Instant) -> f64 {
        // Whole microseconds, so that a silence of the time-out is not a rounding error short of it.
        (self.waiting.waited(now).as_secs_f64() * 1e6).round() / 1e3
    }
}

/// Phi accrual over usable rows; the score is phi.
#[derive(Debug)]
pub struct PhiAccrual {
    sieve: Sieve,
    phi: Phi,
}

impl PhiAccrual {
    /// For a recording.
    pub fn new(trace: &Trace) -> Self {
        Self { sieve: Sieve::new(trace), phi: Phi::default() }
    }
}

impl Detector for PhiAccrual {
    fn on_row(&mut self, now: Instant, at: Instant, row: &Row) {
        if self.sieve.passes(at, row) {
            self.phi.on_arrival(now);
        }
    }

    fn score(&self, now: Instant) -> f64 {
        self.phi.phi(now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::truth::outages;
    use super::*;

    /// A trace of rows of 100 ms, one character each: `.` good, `x` lost, `_` a row that is missing.
    fn trace(rows: &str) -> Trace {
        let head = "# medium: wifi\n# group: g\n# row_time: interval_end\n# rules: loss\n# outage_min_ms: 1000\n";
        let mut text = format!("{head}t_ms,latency_ms,loss,signal_dbm,throughput_kbps\n");
        for (n, row) in rows.chars().enumerate().filter(|(_, row)| *row != '_') {
            text.push_str(&format!("{},,{},,\n", n * 100, u8::from(row == 'x')));
        }
        Trace::parse("test", &text).unwrap()
    }

    fn plain(rows: &str, timeout_ms: f64) -> Tally {
        let (trace, start) = (trace(rows), Instant::now());
        replay(&trace, &outages(&trace), start, &mut PlainTimeout::new(&trace, start), &[timeout_ms])[0]
    }

    #[test]
    fn the_delay_is_from_the_first_bad_row_and_the_second_after_an_outage_is_not_counted() {
        // The last good row at 900, the outage from 1,000 to 2,500, the end at 5,400.
        let tally = plain(&format!("{}{}{}", ".".repeat(10), "x".repeat(15), ".".repeat(30)), 340.0);
        assert_eq!((tally.found, tally.missed, tally.false_moments), (1, 0, 0));
        assert_eq!(tally.delay_ms, 240.0);
        // 50 moments before, those from 3,500 to 5,400 after.
        assert_eq!(tally.moments, 50 + 96);
    }

    #[test]
    fn an_alarm_outside_of_outages_is_false_time_and_too_long_a_time_out_misses() {
        let short = plain(&format!("{}xxxx{}", ".".repeat(10), ".".repeat(30)), 340.0);
        // The silence is from 900 to 1,400: the alarm stands from 1,240 until the row at 1,400 is known.
        assert_eq!((short.found + short.missed, short.false_moments), (0, 8));
        let long = plain(&format!("{}{}{}", ".".repeat(10), "x".repeat(15), ".".repeat(30)), 1_800.0);
        assert_eq!((long.found, long.missed), (0, 1));
    }

    #[test]
    fn one_replay_measures_every_threshold_as_its_own_replay_would() {
        let rows = format!("{}xx..xxx.{}{}", ".".repeat(40), "x".repeat(14), ".".repeat(30)).repeat(3);
        let (trace, start) = (trace(&rows), Instant::now());
        let outages = outages(&trace);
        let thresholds = [0.1, 0.3, 0.5, 0.9];
        let fused = || Fused::new(&trace, start, MonitorConfig::default());
        let together = replay(&trace, &outages, start, &mut fused(), &thresholds);
        for (threshold, together) in thresholds.into_iter().zip(together) {
            let alone = replay(&trace, &outages, start, &mut fused(), &[threshold]);
            assert_eq!(alone[0], together);
            assert_eq!(alone[0].missed, 0);
        }
    }

    #[test]
    fn a_gap_in_the_reports_is_no_alarm_of_the_monitor_and_one_of_a_plain_time_out() {
        let rows = format!("{}{}{}", ".".repeat(40), "_".repeat(50), ".".repeat(40));
        let (trace, start) = (trace(&rows), Instant::now());
        let mut fused = Fused::new(&trace, start, MonitorConfig::default());
        assert_eq!(replay(&trace, &[], start, &mut fused, &[0.2])[0].false_moments, 0);
        assert!(plain(&rows, 340.0).false_moments > 200);
    }

    #[test]
    fn on_a_lossy_link_phi_accrual_misses_what_the_monitor_finds() {
        let lossy = ".x....xxxxxxx";
        let rows = format!("{}.{}{}", lossy.repeat(20), "x".repeat(12), ".x..".repeat(10));
        let (trace, start) = (trace(&rows), Instant::now());
        let outages = outages(&trace);
        assert_eq!(outages.len(), 1);
        let phi = replay(&trace, &outages, start, &mut PhiAccrual::new(&trace), &[8.0])[0];
        let mut fused = Fused::new(&trace, start, MonitorConfig::default());
        let fused = replay(&trace, &outages, start, &mut fused, &[MonitorConfig::default().alarm])[0];
        assert_eq!((phi.missed, fused.missed), (1, 0));
    }
}
