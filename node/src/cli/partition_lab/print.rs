//! The result as text.

use bowline_actors::testing::partition_lab::Report;

use super::super::output::Table;

/// Width of the bars of the histogram, in characters.
const BAR: u64 = 40;

fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |ms| format!("{ms:.0}"))
}

/// What came of all seeds.
pub(super) fn text(report: &Report, nodes: u64) -> String {
    let Report { seeds, hours, asked, answered, refused, crashes, adopted, rolled_back, .. } = report;
    let mut text = format!(
        "{seeds} runs of {nodes} nodes, {hours:.1} virtual hours, {crashes} crashes\n\
         {asked} operations: {answered} answered, {refused} refused by a paused side; {adopted} states taken over, {rolled_back} rolled back\n\n"
    );
    let mut table = Table::new(["what", "count"]);
    let counts = [
        ("violations", report.violations),
        ("  two active sides", report.double_active),
        ("  lost commits", report.lost_commits),
        ("partitions acted upon where there was none", report.false_partitions),
        ("partitions merely suspected where there was none", report.false_suspicions),
    ];
    for (what, count) in counts {
        table.row([what.into(), count.to_string()]);
    }
    text.push_str(&table.print());
    let mut times = Table::new(["milliseconds", "p50", "p99"]);
    times.row(["clean split, until all suspect it".into(), ms(report.detect_ms_p50), ms(report.detect_ms_p99)]);
    times.row(["clean split, until all act upon it".into(), ms(report.act_ms_p50), ms(report.act_ms_p99)]);
    times.row(["healed, until all work again".into(), ms(report.recover_ms_p50), ms(report.recover_ms_p99)]);
    let mut kinds = Table::new(["kind", "rounds", "recovered", "p50 ms", "p99 ms", "max ms"]);
    for (name, kind) in &report.kinds {
        let of =
            |value: fn(&bowline_actors::testing::soak::stats::Summary) -> f64| ms(kind.recover.as_ref().map(value));
        let (rounds, recovered) = (kind.rounds.to_string(), kind.recovered.to_string());
        kinds.row([(*name).into(), rounds, recovered, of(|s| s.p50_ms), of(|s| s.p99_ms), of(|s| s.max_ms)]);
    }
    let mut strategies = Table::new(["strategy", "attempts", "helped"]);
    for (name, (attempts, helped)) in &report.strategies {
        strategies.row([name.clone(), attempts.to_string(), helped.to_string()]);
    }
    for table in [times, kinds, strategies] {
        text.push('\n');
        text.push_str(&table.print());
    }
    text.push_str("\nRecovery after healing\n");
    text.push_str(&histogram(report));
    for (seed, first) in &report.failing {
        text.push_str(&format!("seed {seed}: {first}\n"));
    }
    text
}

fn histogram(report: &Report) -> String {
    let most = report.histogram.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let line = |(bound, count): &(Option<u64>, u64)| {
        let class = bound.map_or_else(|| "longer".to_owned(), |ms| format!("up to {ms} ms"));
        let bar = "█".repeat(usize::try_from((count * BAR).div_ceil(most)).unwrap_or(0));
        format!("{class:>14} {count:>7} {bar}").trim_end().to_owned() + "\n"
    };
    report.histogram.iter().map(line).collect()
}
