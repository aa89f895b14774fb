//! Recorded links as conditions. Pure but for the folder they are read from.
//!
//! Recordings of the media that stand for a transport are played one after another in an order that follows from the seed. What a recording does
//! not have comes from the synthetic model of the medium; a second of an outage in which nothing was delivered passes nothing. What is an outage says
//! the traces' definition alone (`replay::truth`), to the player and to the judge: a shorter run of bad rows is none, and goes on as the second before
//! it; the time of a break in the recording is left out. What was measured is taken for what it is: throughput counts as bandwidth only where the
//! recording's rules judge the link by it (elsewhere it is what somebody happened to use), and broadcast frames that were lost are frames that a
//! connection's radio would have sent again.

use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use super::condition::{CONDITION_EVERY, Condition, Synthetic};
use super::media::{MEDIA, MEDIA_COUNT, MediumIndex};
use crate::replay::truth::{bad_rows, break_ms, outages};
use crate::replay::{Folder, FolderError, Row, Rule, Trace};

/// Throughput up to this many kilobits a second is none.
const NOTHING_KBPS: f64 = 1.0;
/// From this share of losses on, nothing passes.
const NOTHING_LOSS: f64 = 0.9;
/// How a header says that lost broadcasts were counted. Nobody acknowledges those, and nobody sends them again; every other frame is.
const BROADCAST: &str = "broadcast";
/// A frame is sent so often before it is given up (`dot11ShortRetryLimit`, IEEE 802.11).
const FRAME_TRIES: i32 = 7;
/// A frame and its acknowledgement take so long, in milliseconds: a full one at 12 Mbit/s.
const FRAME_MS: f64 = 1.0;
/// Mean wait before a frame is sent for the second time, in milliseconds: half of 31 slots of 9 µs. It doubles with each try, up to 1023 slots
/// (`aCWmin`, `aCWmax` and `aSlotTime` of IEEE 802.11, OFDM).
const BACKOFF_MS: f64 = 0.14;

/// One second of a recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Second {
    /// Round trip in milliseconds.
    latency_ms: Option<f64>,
    /// Mean deviation of it.
    jitter_ms: Option<f64>,
    /// Share lost.
    loss: Option<f64>,
    /// What was lost are frames that nobody sends again.
    broadcast: bool,
    /// Kilobits a second.
    throughput_kbps: Option<f64>,
    /// Nothing was delivered, in an outage.
    down: bool,
    /// There was an outage.
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

/// A recording by seconds, those of its breaks left out.
fn seconds(trace: &Trace) -> Vec<Second> {
    let length = trace.rows.last().map_or(0, |row| (row.t_ms / 1e3) as usize + 1);
    let (outages, pause) = (outages(trace), break_ms(trace));
    let mut rows = trace.rows.iter().zip(bad_rows(trace)).peekable();
    let mut before = 0.0;
    let mut seconds: Vec<Option<Second>> = Vec::new();
    for second in 0..length {
        let (from, until) = (second as f64 * 1e3, (second + 1) as f64 * 1e3);
        let (mut here, mut all_bad) = (Vec::new(), true);
        while let Some((row, bad)) = rows.next_if(|(row, _)| row.t_ms < until) {
            (before, all_bad) = (row.t_ms, all_bad && bad);
            here.push(*row);
        }
        let poor = outages.iter().any(|outage| outage.start_ms < until && outage.end_ms > from);
        if here.is_empty() {
            // Sparser than one a second, so it is as before; or a break.
            if rows.peek().is_some_and(|(next, _)| next.t_ms - before <= pause) {
                seconds.extend(seconds.last().copied());
            }
        } else {
            // Bad, and no outage: whoever measured had nothing to measure just then.
            seconds.push((poor || !all_bad).then(|| measured(trace, &here, poor)));
        }
    }
    let mut known = seconds.iter().flatten().next().copied();
    // As the second before, or at the beginning the first that is known.
    let fill = |second| {
        known = Option::or(second, known);
        known
    };
    seconds.into_iter().filter_map(fill).collect()
}

/// One second from its rows.
fn measured(trace: &Trace, here: &[Row], poor: bool) -> Second {
    let has = |rule| trace.rules.contains(&rule);
    let mean = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let latencies: Vec<f64> = here.iter().filter_map(|row| row.latency_ms).collect();
    let latency_ms = mean(&latencies);
    let deviations: Vec<f64> = latencies.iter().map(|ms| (ms - latency_ms.unwrap_or(0.0)).abs()).collect();
    let losses: Vec<f64> = here.iter().filter_map(|row| row.loss).collect();
    let rates: Vec<f64> = here.iter().filter_map(|row| row.throughput_kbps).collect();
    let (loss, throughput_kbps) = (mean(&losses), mean(&rates).filter(|_| has(Rule::Throughput)));
    let silent = has(Rule::Latency) && latencies.is_empty();
    let lost = loss.is_some_and(|loss| loss >= NOTHING_LOSS);
    let stopped = has(Rule::Throughput) && throughput_kbps.is_none_or(|rate| rate <= NOTHING_KBPS);
    let jitter_ms = if deviations.len() > 1 { mean(&deviations) } else { None };
    let broadcast = trace.header.get("note").is_some_and(|note| note.contains(BROADCAST));
    let down = poor && (silent || lost || stopped);
    Second { latency_ms, jitter_ms, loss, broadcast, throughput_kbps, down, poor }
}

/// A link whose frames are lost as stated, when its radio sends those again that are not acknowledged. What is lost each time is left to the ends.
fn sent_again_by_radio(mut condition: Condition) -> Condition {
    let lost = condition.loss;
    let late_ms: f64 =
        (1..FRAME_TRIES).map(|again| lost.powi(again) * (FRAME_MS + BACKOFF_MS * 2f64.powi(again - 1))).sum();
    let tries: f64 = (0..FRAME_TRIES).map(|again| lost.powi(again)).sum();
    // Spread evenly it is up to twice its mean.
    condition.jitter_ms += 2.0 * late_ms;
    condition.bandwidth = (condition.bandwidth as f64 / tries) as u64;
    condition.loss = lost.powi(FRAME_TRIES);
    condition
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
            if second.broadcast && condition.radio_resends_ms.is_none() {
                condition = sent_again_by_radio(condition);
            }
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
        trace_of(medium, rules, 1_000, rows)
    }

    fn trace_of(medium: &str, rules: &str, outage_min_ms: u32, rows: &str) -> Trace {
        let head = format!(
            "# medium: {medium}\n# group: g\n# row_time: interval_end\n# rules: {rules}\n# outage_min_ms: {outage_min_ms}\n"
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
    fn throughput_is_bandwidth_only_where_the_rules_judge_the_link_by_it() {
        let rows = "0,20,0,,28\n1000,20,0,,21\n";
        let used = seconds(&trace("starlink", "loss+latency", rows));
        assert!(used.iter().all(|second| second.throughput_kbps.is_none() && second.latency_ms == Some(20.0)));
        let capacity = seconds(&trace("lte", "throughput", rows));
        assert_eq!(capacity[0].throughput_kbps, Some(28.0));
    }

    #[test]
    fn a_lost_broadcast_is_a_frame_that_a_radio_would_have_sent_again() {
        let loss = "0,,0.5,,\n1000,,0.95,,\n";
        let one = |note: &str, medium| {
            let head = format!(
                "# medium: {medium}\n# group: g\n# row_time: interval_end\n# rules: loss\n# outage_min_ms: 1000\n# note: {note}\n"
            );
            let text = format!("{head}t_ms,latency_ms,loss,signal_dbm,throughput_kbps\n{loss}");
            let mut recordings = Recordings::default();
            recordings.add(&Trace::parse("x.csv", &text).unwrap());
            let at = super::super::media::index_of(medium).unwrap();
            let base = Synthetic::new(MEDIA[at], draw::stream(1, 0));
            let mut played = Played::new(Arc::new(recordings), at, draw::stream(1, 1), base);
            (played.step(), played.step())
        };
        let (plain, _) = one("frames of a connection", "wifi");
        let (radio, outage) = one("one broadcast frame every 100 ms", "wifi");
        assert_eq!(plain.loss, 0.5);
        // Seven times in a row; each time costs airtime and a moment.
        assert!((radio.loss - 0.5f64.powi(7)).abs() < 1e-9, "{radio:?}");
        let late = (radio.jitter_ms - plain.jitter_ms) / 2.0;
        assert!(late > 1.0 && late < 2.0, "{late}");
        assert!((plain.bandwidth as f64 / radio.bandwidth as f64 - 1.984).abs() < 0.01, "{radio:?}");
        // An outage stays one, and Bluetooth has a way of its own.
        assert!(outage.down && outage.poor && !radio.down);
        assert_eq!(one("one broadcast frame every 100 ms", "ble").0.loss, 0.5);
    }

    /// Throughput by seconds, and whether each is down and poor.
    fn played(trace: &Trace) -> Vec<(f64, bool, bool)> {
        seconds(trace).iter().map(|s| (s.throughput_kbps.unwrap_or(0.0), s.down, s.poor)).collect()
    }

    #[test]
    fn zeros_that_are_no_outage_cut_nothing_and_go_on_as_the_second_before() {
        let good = |rate| (rate, false, false);
        // A download that restarts: two seconds of nothing are none where an outage takes three.
        let rows = "0,,,,0\n1000,,,,8000\n2000,,,,0\n3000,,,,0\n4000,,,,9000\n";
        let restarts = trace_of("lte", "throughput", 3_000, rows);
        assert!(outages(&restarts).is_empty());
        assert_eq!(played(&restarts), [8e3, 8e3, 8e3, 8e3, 9e3].map(good));
        let outage = (0.0, true, true);
        let cut = trace_of("lte", "throughput", 3_000, &rows.replace("4000,,,,9000", "4000,,,,0\n5000,,,,9000"));
        assert_eq!(played(&cut), [good(8e3), good(8e3), outage, outage, outage, good(9e3)]);
    }

    #[test]
    fn what_is_played_as_a_cut_is_an_outage_to_the_judge_and_the_other_way_round() {
        let rows: String = (0..200)
            .map(|n| {
                let bad = [20, 21, 40, 41, 42, 43, 46, 47, 48, 80].contains(&n);
                format!("{},,,,{}\n", n * 1_000 + 7 * (n % 3), if bad { 0 } else { 8_000 })
            })
            .collect();
        for outage_min_ms in [1_000, 2_000, 3_000, 5_000] {
            let trace = trace_of("lte", "throughput", outage_min_ms, &rows);
            let outages = outages(&trace);
            for (at, second) in seconds(&trace).iter().enumerate() {
                let (from, until) = (at as f64 * 1e3, at as f64 * 1e3 + 1e3);
                let is_outage = outages.iter().any(|outage| outage.start_ms < until && outage.end_ms > from);
                assert_eq!(second.poor, is_outage, "second {at} of {outage_min_ms}: {outages:?}");
                assert!(!second.down || second.poor);
                assert_eq!(second.down, second.throughput_kbps == Some(0.0), "second {at} of {outage_min_ms}");
            }
        }
    }

    #[test]
    fn a_break_of_a_recording_is_left_out_even_when_it_was_down_before() {
        let trace = trace("lte", "throughput", "0,,,,8000\n1000,,,,8000\n2000,,,,0\n60000,,,,7000\n61000,,,,7000\n");
        let good = |rate| (rate, false, false);
        assert_eq!(played(&trace), [good(8e3), good(8e3), (0.0, true, true), good(7e3), good(7e3)]);
    }

    #[test]
    fn a_latency_far_above_the_usual_is_poor_but_not_down() {
        let mut rows: String = (0..10).map(|second| format!("{}000,20,0,,\n", second)).collect();
        rows.push_str("10000,900,0,,\n");
        let seconds = seconds(&trace("lte", "latency", &rows));
        assert!(seconds[10].poor && !seconds[10].down && !seconds[9].poor);
    }
}
