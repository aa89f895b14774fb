//! `make bench`: Bowline against raw TCP and raw TLS on this machine, in this hour, and how well it hides dying links.
//!
//! Everything is measured between real processes of a release build. A subject takes its turns beside the reference, run by run, so
//! that a machine that is busy for a while is busy for both; what is compared are the medians. The figures to be
//! reached are those of the first release (`docs/benchmarks.md`).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program answers on its standard output")]

mod at_work;
mod micro;
mod striping;
mod subjects;
mod table;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use table::Row;

/// Bowline against raw TCP and raw TLS, and how well it hides dying links.
#[derive(Parser)]
struct Arguments {
    /// One short run of everything, instead of the medians of five.
    #[arg(long)]
    quick: bool,
    /// Runs of everything whose median counts [default: 5; 1 with --quick]
    #[arg(long)]
    runs: Option<usize>,
    /// Runs of each failover scenario [default: 10; 2 with --quick]
    #[arg(long)]
    failover_runs: Option<usize>,
    /// Only workloads whose name contains this (`rtt`, `messages`, `cpu`, `setup`, `idle`, `striping`, `work`, `failover`, `micro`); may be
    /// repeated
    #[arg(long)]
    only: Vec<String>,
    /// Also write everything as JSON to this file
    #[arg(long, default_value = "target/bench.json")]
    output: PathBuf,
    /// Exit with 1 when a figure is missed, or was not taken (the failover laboratory needs root)
    #[arg(long)]
    strict: bool,
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runs = arguments.runs.unwrap_or(if arguments.quick { 1 } else { 5 });
    let failover_runs = arguments.failover_runs.unwrap_or(if arguments.quick { 2 } else { 10 });
    let programs = match subjects::Programs::find() {
        Ok(programs) => programs,
        Err(error) => {
            eprintln!("bench: {error}; build with `cargo build --release -p bowline -p bowline-tests --bins`");
            return ExitCode::from(69);
        }
    };
    println!("{}", subjects::machine(&programs));
    let mut rows = Vec::new();
    let mut skipped = None;
    for workload in workloads::all() {
        if arguments.wants(&workload.name()) {
            rows.extend(show(workload.measure(&programs, runs, arguments.quick)));
        }
    }
    if arguments.wants("striping") {
        rows.extend(show(striping::measure(&programs, runs, arguments.quick)));
    }
    if arguments.wants("work") {
        if cfg!(target_os = "linux") {
            rows.extend(show(at_work::measure(&programs, runs.min(3), arguments.quick)));
        } else {
            println!("\nwork: skipped, it is read from /proc");
        }
    }
    if arguments.wants("failover") {
        match failover(&programs, failover_runs) {
            Ok(measured) => rows.extend(measured),
            Err(reason) => {
                println!("\nfailover: skipped, {reason}");
                skipped = Some(format!("failover: {reason}"));
            }
        }
    }
    if arguments.wants("micro") {
        rows.extend(show(micro::measure()));
    }
    let missed = rows.iter().filter(|row| row.verdict() == Some(false)).count();
    println!("\n{missed} of {} figures missed", rows.iter().filter(|row| row.verdict().is_some()).count());
    let report = json!({
        "schema": "bowline.bench/v1",
        "machine": subjects::machine(&programs),
        "runs": runs,
        "failover_runs": failover_runs,
        "rows": rows.iter().map(Row::report).collect::<Vec<_>>(),
        "missed": missed,
        "skipped": skipped,
    });
    if let Err(error) = std::fs::write(&arguments.output, format!("{report:#}\n")) {
        eprintln!("bench: {}: {error}", arguments.output.display());
    }
    match complaint(arguments.strict, missed, skipped.as_deref()) {
        Some(complaint) => {
            eprintln!("bench: {complaint}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// Why the exit code is 1, if it is: only when it was asked to be strict.
fn complaint(strict: bool, missed: usize, skipped: Option<&str>) -> Option<String> {
    let skipped = skipped.map(|skipped| format!("not measured, which --strict demands: {skipped}"));
    let missed = (missed > 0).then(|| format!("{missed} figures missed"));
    let all: Vec<String> = missed.into_iter().chain(skipped).collect();
    (strict && !all.is_empty()).then(|| all.join("; "))
}

/// Prints rows, each group under its title.
fn show(rows: Vec<Row>) -> Vec<Row> {
    let mut title = "";
    for row in &rows {
        if row.workload != title {
            title = &row.workload;
            println!("\n{title}");
        }
        println!("{}", row.line());
    }
    rows
}

/// The failover laboratory, or why this machine cannot have one.
#[cfg(target_os = "linux")]
fn failover(programs: &subjects::Programs, runs: usize) -> Result<Vec<Row>, String> {
    use bowline_tests::failover::{Fault, Namespaces};

    let namespaces = match Namespaces::create() {
        Ok(namespaces) => namespaces,
        Err(reason) if reason.is_skip() => return Err(reason.to_string()),
        Err(reason) => return Ok(show(workloads::no_laboratory(&reason.to_string()))),
    };
    let mut rows = Vec::new();
    for transport in ["tcp", "quic"] {
        for fault in Fault::ALL.into_iter().filter(|fault| fault.applies_to(transport)) {
            rows.extend(show(workloads::failover(programs, &namespaces, transport, fault, runs)));
        }
    }
    Ok(rows)
}

/// The failover laboratory, or why this machine cannot have one.
#[cfg(not(target_os = "linux"))]
fn failover(_: &subjects::Programs, _: usize) -> Result<Vec<Row>, String> {
    Err("network namespaces are Linux's".into())
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn strict_demands_every_figure() {
        assert_eq!(complaint(true, 0, None), None);
        assert_eq!(complaint(false, 3, Some("failover: no root")), None);
        assert!(complaint(true, 1, None).is_some_and(|text| text.contains("1 figures missed")));
        assert!(complaint(true, 0, Some("failover: no root")).is_some_and(|text| text.contains("failover: no root")));
    }
}
