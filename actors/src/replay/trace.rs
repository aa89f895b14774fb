//! One recorded link: the header and the rows of its file. Pure.
//!
//! A file has lines `# key: value`, one line of column names, then a row a line: `t_ms,latency_ms,loss,signal_dbm,throughput_kbps`.
//! An empty field means that the source does not have it or that nothing was delivered.

use std::collections::BTreeMap;

/// The columns of a trace, in their order.
const COLUMNS: &str = "t_ms,latency_ms,loss,signal_dbm,throughput_kbps";

/// When a row is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowTime {
    /// It sums up the time before its `t_ms` and is known then.
    IntervalEnd,
    /// It is a probe sent at its `t_ms`: known when the answer came, or, when lost, [`PROBE_LOST_MS`] later.
    ProbeSend,
}

/// After this many milliseconds a probe without an answer is known to be lost.
pub const PROBE_LOST_MS: f64 = 1_000.0;

/// What makes a row bad. The exact words are those of the traces' `rules` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Nearly everything was lost.
    Loss,
    /// No answer, or a far later one than usual.
    Latency,
    /// Nearly nothing came through, or far less than usual.
    Throughput,
}

/// One row. `None`: the source does not have it, or nothing was delivered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Time of the row in milliseconds, from 0, growing.
    pub t_ms: f64,
    /// Round-trip time in milliseconds.
    pub latency_ms: Option<f64>,
    /// Share of the packets of the interval that were lost, 0 to 1.
    pub loss: Option<f64>,
    /// Received power in dBm.
    pub signal_dbm: Option<f64>,
    /// Throughput in kilobits a second.
    pub throughput_kbps: Option<f64>,
}

impl Row {
    /// When the row may be used, in milliseconds.
    pub fn known_ms(&self, row_time: RowTime) -> f64 {
        match row_time {
            RowTime::IntervalEnd => self.t_ms,
            RowTime::ProbeSend => self.t_ms + self.latency_ms.unwrap_or(PROBE_LOST_MS),
        }
    }
}

/// One recorded link.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The name of its file.
    pub name: String,
    /// The medium: `wifi`, `ble`, `lte`, `5g`, `starlink`, ….
    pub medium: String,
    /// Traces of one group were measured in one run or on one day; cross-validation never splits them.
    pub group: String,
    /// When its rows are known.
    pub row_time: RowTime,
    /// What makes a row bad.
    pub rules: Vec<Rule>,
    /// Runs of bad rows shorter than this are no outage, in milliseconds.
    pub outage_min_ms: f64,
    /// Every key of the header, those above included.
    pub header: BTreeMap<String, String>,
    /// Its rows, oldest first; at least one.
    pub rows: Vec<Row>,
}

/// Why a trace cannot be used. The file's fault; nothing was kept of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The header lacks a key.
    #[error("{name}: the header has no `{key}`")]
    MissingKey {
        /// The trace.
        name: String,
        /// The key.
        key: &'static str,
    },
    /// A value of the header is none of those that are known.
    #[error("{name}: `{key}: {value}` is not understood")]
    BadValue {
        /// The trace.
        name: String,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A line is not what it should be.
    #[error("{name}, line {line}: {what}")]
    BadLine {
        /// The trace.
        name: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// There are no rows.
    #[error("{name}: no rows")]
    Empty {
        /// The trace.
        name: String,
    },
}

impl Trace {
    /// Parses the content of a file. `name` is what errors and scenarios call it.
    ///
    /// # Errors
    /// [`TraceError`] names the line or the key.
    pub fn parse(name: &str, text: &str) -> Result<Self, TraceError> {
        let bad = |line: usize, what| TraceError::BadLine { name: name.to_owned(), line: line + 1, what };
        let mut header = BTreeMap::new();
        let mut lines = text.lines().enumerate();
        for (number, line) in lines.by_ref() {
            if let Some(comment) = line.strip_prefix('#') {
                let (key, value) = comment.split_once(':').ok_or_else(|| bad(number, "expected `# key: value`"))?;
                header.insert(key.trim().to_owned(), value.trim().to_owned());
            } else if line.trim_end() == COLUMNS {
                break;
            } else {
                return Err(bad(number, "expected the line of column names"));
            }
        }
        let mut rows: Vec<Row> = Vec::new();
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let row = row(line).map_err(|what| bad(number, what))?;
            if rows.last().is_some_and(|last| last.t_ms >= row.t_ms) {
                return Err(bad(number, "the time does not grow"));
            }
            rows.push(row);
        }
        if rows.is_empty() {
            return Err(TraceError::Empty { name: name.to_owned() });
        }
        Self::with_header(name, header, rows)
    }

    fn with_header(name: &str, header: BTreeMap<String, String>, rows: Vec<Row>) -> Result<Self, TraceError> {
        let value = |key: &'static str| {
            let value = header.get(key).cloned();
            value.ok_or_else(|| TraceError::MissingKey { name: name.to_owned(), key })
        };
        let bad = |key, value: &str| TraceError::BadValue { name: name.to_owned(), key, value: value.to_owned() };
        let row_time = value("row_time")?;
        let row_time = match row_time.as_str() {
            "interval_end" => RowTime::IntervalEnd,
            "probe_send" => RowTime::ProbeSend,
            other => return Err(bad("row_time", other)),
        };
        let rule = |word: &str| match word.trim() {
            "loss" => Ok(Rule::Loss),
            "latency" => Ok(Rule::Latency),
            "throughput" => Ok(Rule::Throughput),
            other => Err(bad("rules", other)),
        };
        let rules = value("rules")?.split('+').map(rule).collect::<Result<Vec<_>, _>>()?;
        let outage_min = value("outage_min_ms")?;
        let outage_min_ms = outage_min.parse().ok().filter(|ms: &f64| ms.is_finite() && *ms >= 0.0);
        Ok(Self {
            name: name.to_owned(),
            medium: value("medium")?,
            group: value("group")?,
            row_time,
            rules,
            outage_min_ms: outage_min_ms.ok_or_else(|| bad("outage_min_ms", &outage_min))?,
            header,
            rows,
        })
    }

    /// The median time between rows in milliseconds; `None` with fewer than two.
    pub fn spacing_ms(&self) -> Option<f64> {
        let mut steps: Vec<f64> = self.rows.windows(2).map(|pair| pair[1].t_ms - pair[0].t_ms).collect();
        steps.sort_by(f64::total_cmp);
        let middle = steps.len() / 2;
        let upper = steps.get(middle)?;
        // With an even number of steps the median lies between the two in the middle.
        let lower = if steps.len().is_multiple_of(2) { steps.get(middle.checked_sub(1)?)? } else { upper };
        Some(f64::midpoint(*lower, *upper))
    }
}

fn row(line: &str) -> Result<Row, &'static str> {
    let mut fields = line.split(',').map(|field| match field.trim() {
        "" => Ok(None),
        number => number.parse().ok().filter(|n: &f64| n.is_finite()).map(Some).ok_or("a field is no number"),
    });
    let mut next = || fields.next().ok_or("fewer than five fields")?;
    let row = Row {
        t_ms: next()?.ok_or("no time")?,
        latency_ms: next()?,
        loss: next()?,
        signal_dbm: next()?,
        throughput_kbps: next()?,
    };
    let negative = |field: Option<f64>| field.is_some_and(|n| n < 0.0);
    if fields.next().is_some() {
        return Err("more than five fields");
    }
    if row.t_ms < 0.0 || negative(row.latency_ms) || negative(row.throughput_kbps) {
        return Err("a time, latency or throughput below 0");
    }
    if row.loss.is_some_and(|loss| !(0.0..=1.0).contains(&loss)) {
        return Err("a loss outside of 0 to 1");
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "# medium: wifi\n# group: g\n# row_time: probe_send\n# rules: loss+latency\n# outage_min_ms: 1000\n";

    fn parse(rows: &str) -> Result<Trace, TraceError> {
        Trace::parse("x.csv", &format!("{HEAD}{COLUMNS}\n{rows}"))
    }

    #[test]
    fn a_trace_has_its_header_and_rows() {
        let trace = parse("0,22,0,-73,\n54,,1,,\n109,17.5,0,-73,81.4\n").unwrap();
        assert_eq!((trace.medium.as_str(), trace.group.as_str(), trace.outage_min_ms), ("wifi", "g", 1000.0));
        assert_eq!(trace.rules, [Rule::Loss, Rule::Latency]);
        assert_eq!(trace.rows.len(), 3);
        assert_eq!(
            trace.rows[1],
            Row { t_ms: 54.0, latency_ms: None, loss: Some(1.0), signal_dbm: None, throughput_kbps: None }
        );
        assert_eq!(trace.rows[2].throughput_kbps, Some(81.4));
        assert_eq!(trace.spacing_ms(), Some(54.5));
    }

    #[test]
    fn a_row_is_known_when_its_answer_came_or_was_given_up() {
        let trace = parse("0,22,0,-73,\n54,,1,,\n").unwrap();
        let known: Vec<f64> = trace.rows.iter().map(|row| row.known_ms(trace.row_time)).collect();
        assert_eq!(known, [22.0, 1054.0]);
        assert_eq!(trace.rows[1].known_ms(RowTime::IntervalEnd), 54.0);
    }

    #[test]
    fn a_broken_file_is_refused_with_its_line() {
        let what = |rows: &str| parse(rows).unwrap_err().to_string();
        assert_eq!(what("0,22,0,-73\n"), "x.csv, line 7: fewer than five fields");
        assert_eq!(what("0,22,0,-73,,\n"), "x.csv, line 7: more than five fields");
        assert_eq!(what("0,22,0,-73,\n0,22,0,-73,\n"), "x.csv, line 8: the time does not grow");
        assert_eq!(what("0,NaN,0,-73,\n"), "x.csv, line 7: a field is no number");
        assert_eq!(what("0,-1,0,-73,\n"), "x.csv, line 7: a time, latency or throughput below 0");
        assert_eq!(what("0,1,2,-73,\n"), "x.csv, line 7: a loss outside of 0 to 1");
        assert_eq!(what(",1,1,-73,\n"), "x.csv, line 7: no time");
        assert_eq!(what(""), "x.csv: no rows");
        let header = Trace::parse("x.csv", &format!("# medium: wifi\n{COLUMNS}\n0,,,,\n")).unwrap_err();
        assert_eq!(header, TraceError::MissingKey { name: "x.csv".into(), key: "row_time" });
        let value = Trace::parse("x.csv", &format!("{HEAD}# rules: luck\n{COLUMNS}\n0,,,,\n")).unwrap_err();
        assert_eq!(value.to_string(), "x.csv: `rules: luck` is not understood");
    }
}
