//! The results as text.

use std::path::Path;
use std::time::Duration;

use bowline_actors::testing::soak::stats::Summary;
use bowline_actors::testing::soak::{Reduced, Report};

use super::super::output::Table;

/// One experiment.
pub(super) fn text(report: &Report) -> String {
    let mut table = Table::new(["measure", "earlier", "to reach", "here", ""]);
    for row in report.rows() {
        let met = match row.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        table.row([row.measure.into(), row.earlier.into(), row.target.into(), row.here, met.into()]);
    }
    let mut kinds = Table::new([
        "kind",
        "injected",
        "detection in flight",
        "idle",
        "failover mean",
        "p99",
        "max ms",
        "foreseen",
        "missed",
        "not migrated",
    ]);
    for (name, kind) in &report.kinds {
        let mean =
            |summary: Option<Summary>| summary.map_or_else(String::new, |s| format!("{:.0} ({})", s.mean_ms, s.count));
        let number =
            |of: fn(&Summary) -> f64| kind.failover.as_ref().map_or_else(String::new, |s| format!("{:.0}", of(s)));
        kinds.row([
            (*name).to_owned(),
            kind.injected.to_string(),
            mean(kind.detection_in_flight),
            mean(kind.detection_idle),
            mean(kind.failover),
            number(|summary| summary.p99_ms),
            number(|summary| summary.max_ms),
            kind.foreseen.to_string(),
            kind.missed.to_string(),
            kind.not_migrated.to_string(),
        ]);
    }
    let Report { hours, failures, seed, nodes, .. } = report;
    let sent = report.totals.sent;
    let mut text = format!("{hours} hours, {failures} failures, {nodes} nodes, seed {seed}, {sent} messages\n\n");
    text.push_str(&table.print());
    text.push('\n');
    text.push_str(&kinds.print());
    for line in report.examples.iter().chain(&report.events) {
        text.push('\n');
        text.push_str(line);
    }
    text
}

/// What the run cost this process, and where the costs of a node are to be had.
pub(super) fn costs(cpu: Option<Duration>, peak: Option<u64>) -> String {
    let unknown = || "unknown".to_owned();
    let cpu = cpu.map_or_else(unknown, |time| format!("{:.1} s", time.as_secs_f64()));
    let peak = peak.map_or_else(unknown, |bytes| format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64));
    format!(
        "this run: processor time {cpu}, resident at most {peak}, for all nodes together on virtual time; `make bench` measures a node in real time"
    )
}

/// What is left of one that breaks a promise.
pub(super) fn reduced(reduced: &Reduced, failures: &[String], file: &Path) -> String {
    let mut text = format!("{} failures are left after {} runs:\n", failures.len(), reduced.runs);
    for failure in failures {
        text.push_str(&format!("  {failure}\n"));
    }
    text.push_str(&format!("as a script: bowline script {}\n", file.display()));
    text
}

/// Many, a line for each.
pub(super) fn seeds(reports: &[Report], failing: &[String]) -> String {
    let mut table = Table::new([
        "seed",
        "lost",
        "twice",
        "order",
        "damaged",
        "migrated",
        "half",
        "failover p99 ms",
        "targets missed",
    ]);
    for report in reports {
        let totals = &report.totals;
        let share = |of: u64, all: u64| format!("{of}/{all}");
        table.row([
            report.seed.to_string(),
            totals.lost.to_string(),
            totals.duplicated.to_string(),
            totals.out_of_order.to_string(),
            totals.corrupted.to_string(),
            share(report.migrated.of, report.migrated.all),
            share(report.half_recovered.of, report.half_recovered.all),
            report.failover_p99_ms.map_or_else(String::new, |ms| format!("{ms:.0}")),
            report.rows().iter().filter(|row| row.met == Some(false)).count().to_string(),
        ]);
    }
    let mut text = table.print();
    for command in failing {
        text.push_str(&format!("again: {command}\n"));
    }
    text
}
