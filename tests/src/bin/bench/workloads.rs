//! What is done, by whom, and what is to be reached.

use bowline::cli::bench::measure::{median, quantile};
use serde_json::Value;

use crate::subjects::{Programs, Server, Subject};
use crate::table::{Row, Target};

/// Raw TLS first: the others are divided by it.
const SUBJECTS: [Subject; 5] =
    [Subject::RawTls, Subject::RawTcp, Subject::Bowline("tcp"), Subject::Bowline("tls"), Subject::Bowline("quic")];

/// One workload.
pub(crate) struct Workload {
    title: &'static str,
    call: &'static str,
    size: usize,
    count: Option<usize>,
    pinned: bool,
    /// Whether each run needs serving processes of its own.
    fresh: bool,
    figures: &'static [Figure],
}

/// One figure that a workload gives.
struct Figure {
    title: &'static str,
    field: &'static str,
    unit: &'static str,
    /// What is to be reached over `tcp`, `tls` and `quic`.
    targets: [&'static [Target]; 3],
}

use Target::{AtLeast, AtMost, RatioAtLeast, RatioAtMost};

const RTT: &[Figure] = &[Figure {
    title: "request and answer, p50",
    field: "p50_us",
    unit: "µs",
    targets: [&[RatioAtMost(1.5)], &[RatioAtMost(1.7)], &[RatioAtMost(2.8)]],
}];

const SMALL: &[Figure] = &[Figure {
    title: "one-way messages",
    field: "msgs_per_s",
    unit: "/s",
    targets: [&[AtLeast(4.5e6), RatioAtLeast(0.2)], &[RatioAtLeast(0.17)], &[]],
}];

const fn throughput(tcp: &'static [Target], tls: &'static [Target]) -> Figure {
    Figure { title: "throughput", field: "mb_per_s", unit: "MB/s", targets: [tcp, tls, &[]] }
}

const KIB: &[Figure] = &[throughput(&[RatioAtLeast(0.5)], &[RatioAtLeast(0.4)])];
const RECORD: &[Figure] = &[throughput(&[RatioAtLeast(0.7)], &[RatioAtLeast(0.62)])];
const MIB: &[Figure] = &[
    throughput(&[RatioAtLeast(0.7)], &[RatioAtLeast(0.55)]),
    Figure {
        title: "processor time, both sides",
        field: "cpu_s_per_gb",
        unit: "s/GB",
        targets: [&[AtMost(0.9)], &[AtMost(1.15)], &[]],
    },
];

const SETUP: &[Figure] = &[Figure {
    title: "dial to first answer, p50",
    field: "p50_us",
    unit: "µs",
    targets: [&[AtMost(1000.0)], &[AtMost(1400.0)], &[]],
}];

const IDLE: &[Figure] = &[Figure {
    title: "memory per idle peer",
    field: "kib_per_peer",
    unit: "KiB",
    targets: [&[AtMost(18.0)], &[AtMost(26.0)], &[]],
}];

/// Every workload, in the order of the table.
pub(crate) fn all() -> Vec<Workload> {
    let messages = |title, size, figures| Workload {
        title,
        call: "messages",
        size,
        count: None,
        pinned: false,
        fresh: false,
        figures,
    };
    vec![
        Workload {
            title: "64 B, both processes on one core",
            call: "rtt",
            size: 64,
            count: None,
            pinned: true,
            fresh: false,
            figures: RTT,
        },
        messages("64 B", 64, SMALL),
        messages("1 KiB", 1024, KIB),
        messages("16 KiB", 16 * 1024, RECORD),
        messages("1 MiB", 1024 * 1024, MIB),
        Workload {
            title: "each time a new connection",
            call: "setup",
            size: 64,
            count: Some(200),
            pinned: false,
            fresh: false,
            figures: SETUP,
        },
        Workload {
            title: "1,000 peers",
            call: "idle",
            size: 64,
            count: Some(1000),
            pinned: false,
            fresh: true,
            figures: IDLE,
        },
    ]
}

impl Workload {
    /// The call and its title, for `--only`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.call, self.title)
    }

    /// Measures every subject, in turns.
    pub(crate) fn measure(&self, programs: &Programs, runs: usize, quick: bool) -> Vec<Row> {
        let mut found: Vec<Vec<Result<Value, String>>> = SUBJECTS.map(|_| Vec::new()).to_vec();
        let serve = |subject: Subject| subject.serve(programs, self.pinned).map_err(|error| error.to_string());
        let mut servers: Vec<Result<Server, String>> = SUBJECTS.map(serve).into_iter().collect();
        for run in 0..runs {
            for ((subject, server), results) in SUBJECTS.into_iter().zip(&mut servers).zip(&mut found) {
                if self.fresh && run > 0 {
                    *server = serve(subject);
                }
                let options = self.options(quick);
                results.push(match server {
                    Ok(server) => server.call(programs, self.call, &options).map_err(|error| error.to_string()),
                    Err(error) => Err(error.clone()),
                });
            }
        }
        self.figures.iter().flat_map(|figure| self.rows(figure, &found)).collect()
    }

    fn options(&self, quick: bool) -> Vec<String> {
        let seconds = if quick { 0.5 } else { 2.0 };
        let mut options = vec!["--size".to_owned(), self.size.to_string()];
        match self.count {
            Some(count) => options.extend(["--count".to_owned(), (if quick { count / 5 } else { count }).to_string()]),
            None => options.extend(["--seconds".to_owned(), seconds.to_string()]),
        }
        options
    }

    fn rows(&self, figure: &Figure, found: &[Vec<Result<Value, String>>]) -> Vec<Row> {
        let title = format!("{}, {}", figure.title, self.title);
        let mut reference = None;
        let mut rows = Vec::new();
        for (subject, results) in SUBJECTS.into_iter().zip(found) {
            let values: Result<Vec<f64>, String> = results.iter().map(|result| figure.value(result)).collect();
            let (value, runs) = match values {
                Ok(runs) => (median(&runs).ok_or_else(|| "no run".to_owned()), runs),
                Err(error) => (Err(error), Vec::new()),
            };
            let mut row = Row::new(&title, &subject.name(), figure.unit, value);
            row.runs = runs;
            if subject == Subject::RawTls {
                reference = row.value.clone().ok();
            }
            row.ratio = reference.zip(row.value.as_ref().ok()).map(|(reference, value)| value / reference);
            row.targets = figure.targets(subject).to_vec();
            (row.note, row.broken) = complaints(results);
            rows.push(row);
        }
        rows
    }
}

impl Figure {
    fn value(&self, result: &Result<Value, String>) -> Result<f64, String> {
        let value = result.as_ref().map_err(Clone::clone)?;
        value[self.field].as_f64().ok_or_else(|| format!("no `{}` in {value}", self.field))
    }

    fn targets(&self, subject: Subject) -> &'static [Target] {
        match subject {
            Subject::Bowline("tcp") => self.targets[0],
            Subject::Bowline("tls") => self.targets[1],
            Subject::Bowline("quic") => self.targets[2],
            Subject::Bowline(_) | Subject::RawTcp | Subject::RawTls => &[],
        }
    }
}

/// What should be zero and is not.
fn complaints(results: &[Result<Value, String>]) -> (String, bool) {
    let mut complaints = Vec::new();
    for field in ["lost", "not_acknowledged", "duplicated", "out_of_order"] {
        let count: u64 = results.iter().flatten().filter_map(|value| value[field].as_u64()).sum();
        if count > 0 {
            complaints.push(format!("{field} {count}"));
        }
    }
    (complaints.join(", "), !complaints.is_empty())
}

/// The row that stands for a laboratory which should be possible here and is not: a figure missed.
#[cfg(target_os = "linux")]
pub(crate) fn no_laboratory(reason: &str) -> Vec<Row> {
    let mut row = Row::new("failover", "laboratory", "ms", Err(reason.to_owned()));
    row.targets = vec![AtMost(0.0)];
    vec![row]
}

/// One scenario of the failover laboratory, over one transport.
#[cfg(target_os = "linux")]
pub(crate) fn failover(
    programs: &Programs,
    namespaces: &bowline_tests::failover::Namespaces,
    transport: &'static str,
    fault: bowline_tests::failover::Fault,
    runs: usize,
) -> Vec<Row> {
    use bowline_tests::failover::{Fault, run};

    let title = format!("failover over {transport}, {}", fault.name());
    let runs: Result<Vec<_>, String> =
        (0..runs).map(|_| run(&programs.bowline, namespaces, transport, fault)).collect();
    let runs = match runs {
        Ok(runs) => runs,
        Err(error) => {
            let mut row = Row::new(&title, transport, "ms", Err(error));
            row.targets = vec![AtMost(fault.targets_ms().0)];
            return vec![row];
        }
    };
    let longest: Vec<f64> = runs.iter().map(|run| run.longest_ms).collect();
    let (median_target, worst_target) = fault.targets_ms();
    let sum = |of: fn(&bowline_tests::failover::Run) -> usize| runs.iter().map(of).sum::<usize>();
    let (lost, duplicated, disordered) = (sum(|run| run.lost), sum(|run| run.duplicated), sum(|run| run.out_of_order));
    let note = format!("lost {lost}, duplicated {duplicated}, out of order {disordered}");
    let row = |subject: &str, value: Option<f64>, target: Option<f64>| {
        let mut row = Row::new(&title, subject, "ms", value.ok_or_else(|| "no gaps".to_owned()));
        row.runs = longest.clone();
        row.targets = target.map(AtMost).into_iter().collect();
        row.note.clone_from(&note);
        row.broken = lost + duplicated + disordered > 0;
        row
    };
    let first = if fault == Fault::RedundantBlackHole {
        let mut gaps: Vec<f64> = runs.iter().flat_map(|run| run.gaps_ms.iter().copied()).collect();
        gaps.sort_by(f64::total_cmp);
        row("p99 of gaps", quantile(&gaps, 0.99), Some(median_target))
    } else {
        row("median", median(&longest), Some(median_target))
    };
    vec![first, row("worst", longest.iter().copied().reduce(f64::max), worst_target)]
}
