//! The outages of a recorded link, by the definition of the traces' documents. Pure, and kept apart from the detectors: nothing here is
//! shared with them, and it looks at the whole recording, which they never may.

use super::trace::{Row, Rule, Trace};

/// A loss from here on makes a row bad.
const LOSS: f64 = 0.9;
/// So many times the trailing median latency makes a row bad.
const LATENCY_FACTOR: f64 = 10.0;
/// A throughput up to this makes a row bad, in kilobits a second.
const THROUGHPUT_MIN_KBPS: f64 = 1.0;
/// Less than this share of the trailing median throughput makes a row bad.
const THROUGHPUT_SHARE: f64 = 0.05;
/// The trailing median is over the rows of so many milliseconds before.
const TRAILING_MS: f64 = 60_000.0;
/// With fewer rows than this there is no trailing median.
const TRAILING_MIN: usize = 5;
/// Runs of bad rows less than so many milliseconds apart are one outage.
const MERGE_MS: f64 = 3_000.0;
/// A step between rows longer than this, and than three usual ones, is a break in the recording, in milliseconds.
const BREAK_MS: f64 = 2_500.0;

/// An outage: `[start_ms, end_ms)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outage {
    /// The first bad row.
    pub start_ms: f64,
    /// The next good row.
    pub end_ms: f64,
}

/// The outages of a recorded link, oldest first.
pub fn outages(trace: &Trace) -> Vec<Outage> {
    let bad = bad_rows(trace);
    let spacing = trace.spacing_ms().unwrap_or(0.0);
    let pause = break_ms(trace);
    let mut outages: Vec<Outage> = Vec::new();
    let mut start = None;
    for (n, row) in trace.rows.iter().enumerate() {
        let is_bad = bad.get(n).copied().unwrap_or(false);
        let next = trace.rows.get(n + 1);
        let mut end = None;
        if is_bad {
            start.get_or_insert(row.t_ms);
            if next.is_none_or(|next| next.t_ms - row.t_ms > pause) {
                end = Some(row.t_ms + spacing);
            }
        } else {
            end = Some(row.t_ms);
        }
        let Some((start_ms, end_ms)) = end.and_then(|end| Some((start.take()?, end))) else { continue };
        if end_ms - start_ms < trace.outage_min_ms {
            continue;
        }
        match outages.last_mut() {
            Some(last) if start_ms - last.end_ms < MERGE_MS => last.end_ms = end_ms,
            Some(_) | None => outages.push(Outage { start_ms, end_ms }),
        }
    }
    outages
}

/// A step between rows that is longer than this is a break in the recording, in milliseconds.
pub fn break_ms(trace: &Trace) -> f64 {
    BREAK_MS.max(3.0 * trace.spacing_ms().unwrap_or(0.0))
}

/// Which rows are bad, in their order.
pub fn bad_rows(trace: &Trace) -> Vec<bool> {
    let mut bad = vec![false; trace.rows.len()];
    for rule in &trace.rules {
        let of_rule = match rule {
            Rule::Loss => trace.rows.iter().map(|row| row.loss.is_some_and(|loss| loss >= LOSS)).collect(),
            Rule::Latency => against_median(
                &trace.rows,
                |row| row.latency_ms,
                |latency, usual| usual.is_some_and(|usual| latency > LATENCY_FACTOR * usual),
            ),
            Rule::Throughput => against_median(
                &trace.rows,
                |row| row.throughput_kbps,
                |kbps, usual| kbps <= THROUGHPUT_MIN_KBPS || usual.is_some_and(|usual| kbps < THROUGHPUT_SHARE * usual),
            ),
        };
        for (bad, of_rule) in bad.iter_mut().zip::<Vec<bool>>(of_rule) {
            *bad |= of_rule;
        }
    }
    bad
}

/// Whether each row's field is missing, or bad against the trailing median.
fn against_median(
    rows: &[Row],
    field: impl Fn(&Row) -> Option<f64>,
    is_bad: impl Fn(f64, Option<f64>) -> bool,
) -> Vec<bool> {
    let mut sorted: Vec<f64> = Vec::new();
    let mut oldest = 0;
    let mut bad = Vec::with_capacity(rows.len());
    for row in rows {
        while let Some(old) = rows.get(oldest).filter(|old| old.t_ms < row.t_ms - TRAILING_MS) {
            if let Some(value) = field(old) {
                let place = sorted.partition_point(|other| *other < value);
                sorted.remove(place);
            }
            oldest += 1;
        }
        let value = field(row);
        bad.push(value.is_none_or(|value| is_bad(value, middle(&sorted))));
        if let Some(value) = value {
            sorted.insert(sorted.partition_point(|other| *other < value), value);
        }
    }
    bad
}

fn middle(sorted: &[f64]) -> Option<f64> {
    if sorted.len() < TRAILING_MIN {
        return None;
    }
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = if sorted.len().is_multiple_of(2) { sorted.get(sorted.len() / 2 - 1)? } else { upper };
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
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

    fn spans(rows: &str) -> Vec<(f64, f64)> {
        outages(&trace(rows)).iter().map(|outage| (outage.start_ms, outage.end_ms)).collect()
    }

    #[test]
    fn a_run_of_a_second_is_an_outage_and_a_shorter_one_is_none() {
        assert_eq!(spans(&format!("..{}..", "x".repeat(10))), [(200.0, 1_200.0)]);
        assert_eq!(spans(&format!("..{}..", "x".repeat(9))), []);
        assert_eq!(spans(&format!("..{}", "x".repeat(10))), [(200.0, 1_200.0)], "at the end of the file");
    }

    #[test]
    fn runs_less_than_three_seconds_apart_are_one_outage_and_short_runs_join_nothing() {
        let run = "x".repeat(10);
        assert_eq!(spans(&format!("{run}{}{run}.", ".".repeat(29))), [(0.0, 4_900.0)]);
        assert_eq!(spans(&format!("{run}{}{run}.", ".".repeat(30))), [(0.0, 1_000.0), (4_000.0, 5_000.0)]);
        assert_eq!(spans(&format!("{run}....xxx....")), [(0.0, 1_000.0)]);
    }

    #[test]
    fn a_break_of_the_recording_ends_a_run_and_is_no_outage() {
        let pause = "_".repeat(25);
        assert_eq!(spans(&format!("....x{pause}......")), []);
        assert_eq!(spans(&format!("..{}{pause}......", "x".repeat(10))), [(200.0, 1_200.0)]);
        let short = "_".repeat(20);
        assert_eq!(spans(&format!("..x{short}......")), [(200.0, 2_300.0)], "no break: the row before it counts");
    }

    #[test]
    fn latency_is_bad_against_the_median_of_the_minute_before() {
        let head = "# medium: 5g\n# group: g\n# row_time: probe_send\n# rules: latency\n# outage_min_ms: 1000\n";
        let mut text = format!("{head}t_ms,latency_ms,loss,signal_dbm,throughput_kbps\n0,900,0,,\n");
        for n in 1..10 {
            text.push_str(&format!("{},20,0,,\n", n * 50));
        }
        text.push_str("500,200,0,,\n550,201,0,,\n600,,1,,\n70000,900,0,,\n");
        let bad = bad_rows(&Trace::parse("test", &text).unwrap());
        assert_eq!(bad.iter().filter(|bad| **bad).count(), 2);
        assert_eq!(bad[10..], [false, true, true, false]);
    }
}
