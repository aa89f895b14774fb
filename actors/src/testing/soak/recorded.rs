//! Recorded links as conditions. Pure but for the folder they are read from.
//!
//! Recordings of the media that stand for a transport are played one after another in an order that follows from the seed. What a recording does
//! not have comes from the synthetic model of the medium; a second in which nothing was delivered passes nothing.

use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use super::condition::{CONDITION_EVERY, Condition, Synthetic};
use super::media::{MEDIA, MEDIA_COUNT, MediumIndex};
use crate::replay::{Folder, FolderError, Rule, Trace};

/// A latency above so many times the median of the last minute makes a link poor (the traces' `GROUND_TRUTH.md`).
const POOR_FACTOR: f64 = 10.0;
/// Throughput up to this share of the median makes a link poor.
const POOR_SHARE: f64 = 0.05;
/// Throughput up to this many kilobits a second is none.
const NOTHING_KBPS: f64 = 1.0;
/// From this share of losses on, nothing passes.
const NOTHING_LOSS: f64 = 0.9;

/// One second of a recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Second {
    /// Round trip in milliseconds.
    latency_ms: Option<f64>,
    /// Mean deviation of it.
    jitter_ms: Option<f64>,
    /// Share lost.
    loss: Option<f64>,
    /// Kilobits a second.
    throughput_kbps: Option<f64>,
    /// Nothing was delivered.
    down: bool,
    /// Worse than usual.
    poor: bool,
}

/// Recordings for each transport, second by second.
#[derive(Debug, Default)]
pub struct Recordings {
    courses: [Vec<Arc<[Second]>>; MEDIA_COUNT],
}

impl Recordings {
    /// Reads a folder.
    ///
    /// # Errors
    /// [`FolderError`]; a single broken trace is one.
    pub fn read(folder: &Folder) -> Result<Self, FolderError> {
        let mut recordings = Self::default();
        for name in folder.names() {
            recordings.add(&folder.trace(name)?);
        }
        Ok(recordings)
    }

    /// Adds a recording to the transport that its medium stands for; others are left out.
    pub fn add(&mut self, trace: &Trace) {
        let stands_for = MEDIA.iter().position(|model| model.recorded.contains(&trace.medium.as_str()));
        if let Some(medium) = stands_for {
            let seconds = seconds(trace);
            if !seconds.is_empty() {
                self.courses[medium].push(seconds.into());
            }
        }
    }

    /// Recordings for a transport.
    pub fn count(&self, medium: MediumIndex) -> usize {
        self.courses[medium].len()
    }
}

/// A recording by seconds.
fn seconds(trace: &Trace) -> Vec<Second> {
    let length = trace.rows.last().map_or(0, |row| (row.t_ms / 1e3) as usize + 1);
    let mut rows = trace.rows.iter().peekable();
    let mut seconds: Vec<Second> = Vec::new();
    for second in 0..length {
        let until = (second + 1) as f64 * 1e3;
        let mut here = Vec::new();
        while let Some(row) = rows.next_if(|row| row.t_ms < until) {
            here.push(*row);
        }
        if here.is_empty() {
            // Sparser than one a second, or a break of the recording: as before.
            seconds.extend(seconds.last().copied());
            continue;
        }
        let mean = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let latencies: Vec<f64> = here.iter().filter_map(|row| row.latency_ms).collect();
        let latency_ms = mean(&latencies);
        let deviations: Vec<f64> = latencies.iter().map(|ms| (ms - latency_ms.unwrap_or(0.0)).abs()).collect();
        let losses: Vec<f64> = here.iter().filter_map(|row| row.loss).collect();
        let rates: Vec<f64> = here.iter().filter_map(|row| row.throughput_kbps).collect();
        let (loss, throughput_kbps) = (mean(&losses), mean(&rates));
        let has = |rule| trace.rules.contains(&rule);
        let silent = has(Rule::Latency) && latencies.is_empty();
        let lost = loss.is_some_and(|loss| loss >= NOTHING_LOSS);
        let stopped = has(Rule::Throughput) && throughput_kbps.is_none_or(|rate| rate <= NOTHING_KBPS);
        let before = &seconds[seconds.len().saturating_sub(60)..];
        let usual = |of: fn(&Second) -> Option<f64>| median(before.iter().filter_map(of).collect());
        let slow = has(Rule::Latency)
            && latency_ms.zip(usual(|s| s.latency_ms)).is_some_and(|(ms, usual)| ms > POOR_FACTOR * usual);
        let thin = has(Rule::Throughput)
            && throughput_kbps.zip(usual(|s| s.throughput_kbps)).is_some_and(|(rate, usual)| rate < POOR_SHARE * usual);
        let jitter_ms = if deviations.len() > 1 { mean(&deviations) } else { None };
        let down = silent || lost || stopped;
        seconds.push(Second { latency_ms, jitter_ms, loss, throughput_kbps, down, poor: down || slow || thin });
    }
    seconds
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    // With fewer than five nothing is usual.
    (values.len() >= 5).then(|| values[values.len() / 2])
}

/// What a link is like: recordings one after another, over the synthetic model.
#[derive(Debug, Clone)]
pub struct Played {
    recordings: Arc<Recordings>,
    medium: MediumIndex,
    random: ChaCha12Rng,
    base: Synthetic,
    course: usize,
    at: usize,
}

impl Played {
    /// A link of a medium that there are recordings for.
    pub fn new(recordings: Arc<Recordings>, medium: MediumIndex, mut random: ChaCha12Rng, base: Synthetic) -> Self {
        let course = random.random_range(0..recordings.count(medium).max(1));
        Self { recordings, medium, random, base, course, at: 0 }
    }

    /// The next second.
    pub fn step(&mut self) -> Condition {
        debug_assert_eq!(CONDITION_EVERY.as_secs(), 1);
        let mut condition = self.base.step();
        let courses = &self.recordings.courses[self.medium];
        let Some(course) = courses.get(self.course) else { return condition };
        if let Some(second) = course.get(self.at) {
            // Whole round trips are recorded; each way takes half.
            let half = |ms: f64| (ms / 2.0).max(0.05);
            condition.delay_ms = second.latency_ms.map_or(condition.delay_ms, half);
            condition.jitter_ms = second.jitter_ms.unwrap_or(condition.jitter_ms);
            condition.loss = second.loss.unwrap_or(condition.loss).min(NOTHING_LOSS);
            let bytes = |kbps: f64| ((kbps * 125.0) as u64).max(1_000);
            condition.bandwidth = second.throughput_kbps.map_or(condition.bandwidth, bytes);
            condition.down = second.down;
            condition.poor = second.poor;
        }
        self.at += 1;
        if self.at >= course.len() {
            self.course = self.random.random_range(0..courses.len());
            self.at = 0;
        }
        condition
    }
}

#[cfg(test)]
mod tests {
    use super::super::draw;
    use super::*;

    fn trace(medium: &str, rules: &str, rows: &str) -> Trace {
        let head = format!(
            "# medium: {medium}\n# group: g\n# row_time: interval_end\n# rules: {rules}\n# outage_min_ms: 1000\n"
        );
        Trace::parse("x.csv", &format!("{head}t_ms,latency_ms,loss,signal_dbm,throughput_kbps\n{rows}")).unwrap()
    }

    #[test]
    fn a_recording_says_when_nothing_passes_and_what_it_does_not_say_is_the_models() {
        let mut recordings = Recordings::default();
        recordings.add(&trace(
            "wifi",
            "throughput+loss",
            "0,,0,,8000\n1000,,0.95,,8000\n2000,,0.1,,0.5\n4000,,0,,800\n",
        ));
        recordings.add(&trace("carrier-pigeon", "loss", "0,,0,,\n"));
        assert_eq!((0..MEDIA_COUNT).map(|medium| recordings.count(medium)).collect::<Vec<_>>(), [0, 0, 0, 1]);
        let base = Synthetic::new(MEDIA[3], draw::stream(1, 0));
        let mut played = Played::new(Arc::new(recordings), 3, draw::stream(1, 1), base.clone());
        let course: Vec<Condition> = (0..6).map(|_| played.step()).collect();
        assert_eq!(course.iter().map(|c| c.down).collect::<Vec<_>>(), [false, true, true, true, false, false]);
        assert_eq!(course[0].bandwidth, 1_000_000);
        // From the start again, with the delays of the model.
        assert_eq!(course[5].loss, 0.0);
        let mut model = base;
        assert_eq!(
            course.iter().map(|c| c.delay_ms).collect::<Vec<_>>(),
            (0..6).map(|_| model.step().delay_ms).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_latency_far_above_the_usual_is_poor_but_not_down() {
        let mut rows: String = (0..10).map(|second| format!("{}000,20,0,,\n", second)).collect();
        rows.push_str("10000,900,0,,\n");
        let seconds = seconds(&trace("lte", "latency", &rows));
        assert!(seconds[10].poor && !seconds[10].down && !seconds[9].poor);
    }
}
