//! `bowline soak`.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bowline_actors::replay::Folder;
use bowline_actors::testing::soak::recorded::Recordings;
use bowline_actors::testing::soak::{self, Plan};

use super::{Global, progress};
use crate::exit::{Exit, Failure};

/// Let whole nodes live through a week of failures on virtual time, and judge what they made of it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Virtual hours under traffic
    #[arg(long, value_name = "HOURS", default_value_t = 168.0)]
    hours: f64,
    /// Failures injected in them
    #[arg(long, value_name = "N", default_value_t = 2847)]
    failures: usize,
    /// Source of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Nodes, each with a session to each other one
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..=16))]
    nodes: u64,
    /// Folder with recorded links (*__*.csv) to take the behaviour of links from
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let output = global.output();
    let recordings = match &args.traces {
        Some(dir) => {
            let read = Folder::open(dir).and_then(|folder| Recordings::read(&folder));
            let unreadable = |error| Failure::new(Exit::Usage, error);
            Some(Rc::new(read.map_err(unreadable)?))
        }
        None => None,
    };
    let lasts = Duration::try_from_secs_f64(args.hours * 3600.0).ok().filter(|time| *time <= MAX);
    let lasts = lasts.ok_or_else(|| Failure::new(Exit::Usage, "--hours should be above 0 and at most 100000"))?;
    let plan = Plan {
        lasts,
        failures: args.failures,
        seed: args.seed,
        nodes: args.nodes as usize,
        recordings,
        ..Plan::default()
    };
    let bar = progress::steps(output.draws(), "virtual minutes");
    bar.set_length(lasts.as_secs() / 60);
    let report = soak::run(&plan, |time| {
        if time.as_secs().is_multiple_of(60) {
            bar.set_position(time.as_secs() / 60);
        }
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| Failure::new(Exit::GaveUp, error))?;
    output.result("soak", &report, || serde_json::to_string_pretty(&report).unwrap_or_default())?;
    Ok(Exit::Ok)
}

/// No more than this.
const MAX: Duration = Duration::from_secs(100_000 * 3600);
