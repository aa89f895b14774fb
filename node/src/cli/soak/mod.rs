//! `bowline soak`.

mod print;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_actors::replay::Folder;
use bowline_actors::testing::soak::recorded::Recordings;
use bowline_actors::testing::soak::{self, Plan, Reducing, Report, html};

use super::bench::measure::{cpu_time, resident_bytes_peak};
use super::{Global, progress};
use crate::exit::{Exit, Failure};

/// Seeds that are run at the same time, each on a thread of its own.
const AT_ONCE: u64 = 2;
/// The longest experiment, in hours.
const HOURS_MAX: f64 = 100_000.0;
/// Runs that a reduction takes at most.
const REDUCING_RUNS_MAX: usize = 500;
/// The most failures in one.
const FAILURES_MAX: u64 = 1_000_000;

/// Let whole nodes live through a week of failures on virtual time, and judge what they made of it
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Virtual hours under traffic
    #[arg(long, value_name = "HOURS", default_value_t = 168.0)]
    hours: f64,
    /// Failures injected in them
    #[arg(long, value_name = "N", default_value_t = 2847, value_parser = clap::value_parser!(u64).range(0..=FAILURES_MAX))]
    failures: u64,
    /// Source of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Run every seed from A to B (B included), two at a time, and say which broke a promise
    #[arg(long, value_name = "A..B", value_parser = seeds, conflicts_with_all = ["seed", "report", "events"])]
    seeds: Option<(u64, u64)>,
    /// Nodes, each with a session to each other one
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..=16))]
    nodes: u64,
    /// Folder with recorded links (*__*.csv) to take the behaviour of links from
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Write the report as a page with plots, too
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Print also what the nodes reported between these virtual seconds, as in 550..560
    #[arg(long, value_name = "FROM..TO", value_parser = seconds)]
    events: Option<(Duration, Duration)>,
    /// If it fails, find a small set of its failures with which it still does, and write them as a message script
    #[arg(long, value_name = "FILE.script", conflicts_with_all = ["seeds", "report", "events"])]
    reduce: Option<PathBuf>,
    /// Have the nodes take part in a network beyond their sessions (`network.enabled`)
    #[arg(long)]
    network: bool,
    /// Fail (exit code 1) when any measure misses its target, not only when a promise is broken
    #[arg(long)]
    strict: bool,
}

/// A range of seconds.
fn seconds(text: &str) -> Result<(Duration, Duration), String> {
    let second = |text: &str| text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let range = text.split_once("..").and_then(|(from, to)| Some((second(from)?, second(to)?)));
    range.ok_or_else(|| "expected two numbers of seconds, as in 550..560".to_owned())
}

/// A range of seeds.
fn seeds(text: &str) -> Result<(u64, u64), String> {
    let range = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    range.filter(|(from, to)| from <= to).ok_or_else(|| "expected two seeds, the smaller first, as in 1..20".to_owned())
}

impl Args {
    fn plan(&self) -> Result<Plan, Failure> {
        let lasts = Some(self.hours).filter(|hours| *hours > 0.0 && *hours <= HOURS_MAX);
        let lasts = lasts.ok_or_else(|| {
            Failure::new(Exit::Usage, format_args!("--hours should be above 0 and at most {HOURS_MAX}"))
        })?;
        let read = |dir| Folder::open(dir).and_then(|folder| Recordings::read(&folder));
        let recordings = self.traces.as_deref().map(read).transpose();
        let recordings = recordings.map_err(|error| {
            Failure::new(Exit::Usage, error).hint("`--traces` should name the folder of recorded links")
        })?;
        Ok(Plan {
            lasts: Duration::from_secs_f64(lasts * 3600.0),
            failures: self.failures as usize,
            seed: self.seed,
            nodes: self.nodes as usize,
            recordings: recordings.map(Arc::new),
            shown: self.events,
            network: self.network,
            ..Plan::default()
        })
    }

    /// The command that repeats the experiment with a seed.
    fn command(&self, seed: u64) -> String {
        let mut command = format!("bowline soak --hours {} --failures {} --seed {seed}", self.hours, self.failures);
        if self.nodes != 2 {
            command.push_str(&format!(" --nodes {}", self.nodes));
        }
        if self.network {
            command.push_str(" --network");
        }
        if let Some(dir) = &self.traces {
            command.push_str(&format!(" --traces {}", quoted(&dir.display().to_string())));
        }
        if self.strict {
            command.push_str(" --strict");
        }
        command
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Runs the experiment, or one for each seed.
///
/// # Errors
/// What went wrong, with its exit code. A broken promise is no error: it is the result.
pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let plan = args.plan()?;
    match args.seeds {
        Some((first, last)) => run_seeds(&args, &plan, first, last, global),
        None => match &args.reduce {
            Some(file) => run_reduced(&args, &plan, file, global),
            None => run_one(&args, &plan, global),
        },
    }
}

fn run_one(args: &Args, plan: &Plan, global: &Global) -> Result<Exit, Failure> {
    let output = global.output();
    let bar = progress::steps(output.draws(), "virtual minutes");
    bar.set_length(plan.lasts.as_secs() / 60);
    let report = soak::run(plan, |time| bar.set_position(time.as_secs() / 60));
    bar.finish_and_clear();
    let report = report.map_err(|error| Failure::new(Exit::GaveUp, error))?;
    if let Some(file) = &args.report {
        let page = html::page(&report, &args.command(plan.seed));
        std::fs::write(file, page).map_err(|error| Failure::at(file, &error, Exit::False))?;
    }
    output.result("soak", &report, || print::text(&report))?;
    // Real time and its costs differ from run to run, so they are no part of the report.
    output.remark(&print::costs(cpu_time(), resident_bytes_peak()));
    if fails(args, &report) {
        output.remark(&format!("again: {}", args.command(plan.seed)));
        return Ok(Exit::False);
    }
    Ok(Exit::Ok)
}

fn run_reduced(args: &Args, plan: &Plan, file: &Path, global: &Global) -> Result<Exit, Failure> {
    let output = global.output();
    let bar = progress::steps(output.draws(), "runs");
    bar.set_length(REDUCING_RUNS_MAX as u64);
    let told = |state: Reducing| {
        bar.set_position(state.runs as u64);
        bar.set_message(format!("{} failures left", state.failures));
    };
    let reduced = soak::reduce(plan, REDUCING_RUNS_MAX, |report| fails(args, report), told);
    bar.finish_and_clear();
    let Some(reduced) = reduced.map_err(|error| Failure::new(Exit::GaveUp, error))? else {
        let result = serde_json::json!({ "failures": null });
        output.result("soak.reduced", &result, || "nothing is broken: there is nothing to reduce\n".to_owned())?;
        return Ok(Exit::Ok);
    };
    std::fs::write(file, &reduced.script).map_err(|error| Failure::at(file, &error, Exit::False))?;
    let failures: Vec<String> = reduced
        .failures
        .iter()
        .map(|failure| {
            format!("{} at {:.3} s for {:?}", failure.kind, failure.start.as_secs_f64(), failure.end - failure.start)
        })
        .collect();
    let result = serde_json::json!({ "failures": failures, "numbers": reduced.numbers, "runs": reduced.runs, "report": reduced.report });
    output.result("soak.reduced", &result, || print::reduced(&reduced, &failures, file))?;
    Ok(Exit::False)
}

fn fails(args: &Args, report: &Report) -> bool {
    report.is_broken() || (args.strict && report.rows().iter().any(|row| row.met == Some(false)))
}

fn run_seeds(args: &Args, plan: &Plan, first: u64, last: u64, global: &Global) -> Result<Exit, Failure> {
    let output = global.output();
    let bar = progress::steps(output.draws(), "seeds");
    bar.set_length(last - first + 1);
    let next = AtomicU64::new(first);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return Ok(reports);
            }
            reports.push(soak::run(&Plan { seed, ..plan.clone() }, |_| {})?);
            bar.inc(1);
        }
    };
    let ran: Result<Vec<Vec<Report>>, Failure> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE.min(last - first + 1)).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Vec<Report>, soak::SoakError>>| match thread.join()
        {
            Ok(reports) => reports.map_err(|error| Failure::new(Exit::GaveUp, error)),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    });
    bar.finish_and_clear();
    let mut reports: Vec<Report> = ran?.into_iter().flatten().collect();
    reports.sort_by_key(|report| report.seed);
    let failing: Vec<String> =
        reports.iter().filter(|report| fails(args, report)).map(|report| args.command(report.seed)).collect();
    let result = serde_json::json!({ "seeds": reports, "failing": failing });
    output.result("soak.seeds", &result, || print::seeds(&reports, &failing))?;
    Ok(if failing.is_empty() { Exit::Ok } else { Exit::False })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_two_numbers_in_order() {
        assert_eq!(seeds("1..20"), Ok((1, 20)));
        assert!(seeds("20..1").is_err() && seeds("1").is_err() && seeds("a..b").is_err());
        assert_eq!(seconds("1.5..2"), Ok((Duration::from_millis(1500), Duration::from_secs(2))));
        assert!(seconds("-1..2").is_err() && seconds("NaN..2").is_err());
    }
}
