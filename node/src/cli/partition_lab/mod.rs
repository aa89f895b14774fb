//! `bowline partition-lab`.

mod print;

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bowline_actors::testing::partition_lab::{self, NODES_MAX, Outcome, Plan, Report};

use super::{Global, progress};
use crate::exit::{Exit, Failure};

/// Failing seeds after which it ends: the rest would tell the same.
const FAILING_MAX: u64 = 20;

/// Let the network of a few nodes fall apart and come together again on virtual time, seed after seed, and judge what became of it
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Nodes in each run
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=NODES_MAX as u64))]
    nodes: u64,
    /// Seeds from A to B (B not included), each a run of its own
    #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "0..200")]
    seeds: (u64, u64),
    /// How often the network falls apart in a run
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
}

/// A range of seeds.
fn seeds(text: &str) -> Result<(u64, u64), String> {
    let range = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    range
        .filter(|(from, to)| from < to)
        .ok_or_else(|| "expected two numbers, the smaller first, as in 0..200".to_owned())
}

impl Args {
    fn plan(&self) -> Plan {
        Plan { nodes: self.nodes as usize, rounds: self.rounds as usize, ..Plan::default() }
    }

    /// The command that repeats one seed.
    fn command(&self, seed: u64) -> String {
        let mut command = format!("bowline partition-lab --nodes {} --seeds {seed}..{}", self.nodes, seed + 1);
        if self.rounds != Plan::default().rounds as u64 {
            command.push_str(&format!(" --rounds {}", self.rounds));
        }
        command
    }
}

/// Runs the seeds, as many at once as there are cores.
///
/// # Errors
/// What went wrong, with its exit code. A violation is no error: it is the result.
pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let output = global.output();
    let plan = args.plan();
    let (first, end) = args.seeds;
    let bar = progress::steps(output.draws(), "seeds");
    bar.set_length(end - first);
    let (next, failing, over) = (AtomicU64::new(first), AtomicU64::new(0), AtomicBool::new(false));
    let epoch = bowline_actors::clock::now();
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || over.load(Ordering::Relaxed) {
                return Ok(outcomes);
            }
            let outcome = partition_lab::run(&plan, seed, epoch)?;
            if !outcome.violations.is_empty() && failing.fetch_add(1, Ordering::Relaxed) + 1 >= FAILING_MAX {
                over.store(true, Ordering::Relaxed);
            }
            outcomes.push(outcome);
            bar.inc(1);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let ran: Result<Vec<Vec<Outcome>>, Failure> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores.min(end - first)).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(outcomes) => outcomes.map_err(|error: partition_lab::LabError| Failure::new(Exit::GaveUp, error)),
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    });
    bar.finish_and_clear();
    let report = Report::of(ran?.into_iter().flatten().collect());
    output.result("partition_lab", &report, || print::text(&report, args.nodes))?;
    for (seed, _) in &report.failing {
        output.remark(&format!("again: {}", args.command(*seed)));
    }
    Ok(if report.failing.is_empty() { Exit::Ok } else { Exit::False })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_without_its_end() {
        assert_eq!(seeds("0..10000"), Ok((0, 10_000)));
        assert!(seeds("5..5").is_err() && seeds("1").is_err() && seeds("a..b").is_err());
    }

    #[test]
    fn a_seed_is_repeated_with_what_it_ran_with() {
        let args = Args { nodes: 7, seeds: (0, 9), rounds: 5 };
        assert_eq!(args.command(8), "bowline partition-lab --nodes 7 --seeds 8..9 --rounds 5");
    }
}
