//! `bowline demo`: two real nodes on real sockets whose links die all the time, and a report of what that did; or eight of them, with `--mesh`.

pub mod forwarder;
pub mod mesh;
mod node;
pub mod plan;
mod process;
pub mod protocol;
pub mod report;
pub mod screen;
mod stage;
pub mod tally;

use std::time::Duration;

use super::Global;
use super::output::line;
use crate::exit::{Exit, Failure};

/// How long the two nodes are shown when nobody says, in seconds.
const SECONDS: f64 = 30.0;

/// Watch two nodes keep their session while their links die
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long it takes, in seconds [default: 30; with --mesh 60]
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Eight nodes and a network that heals itself: the node in its middle is killed, it is cut in two and comes together again
    #[arg(long)]
    mesh: bool,
    /// Milliseconds from one fault to the next [default: 2000, less when all five kinds would not fit]
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..=3_600_000), conflicts_with = "mesh")]
    fault_interval_ms: Option<u64>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// One of the two nodes; started by the demonstration itself
    #[command(hide = true)]
    Node {
        /// Whether it is the one that listens
        #[arg(long)]
        listen: bool,
    },
    /// One of the eight nodes; started by the demonstration itself
    #[command(hide = true)]
    MeshNode,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (1.0..=86_400.0).contains(&seconds) => Ok(seconds),
        Ok(_) => Err("from 1 to 86400".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs a demonstration to its end.
fn on_stage<T>(stage: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(Exit::GaveUp, error))?.block_on(stage)
}

/// Prints what came of it.
fn close(global: &Global, closing: &impl serde::Serialize, text: String, is_good: bool) -> Result<Exit, Failure> {
    if global.json {
        line(&serde_json::to_string(closing).map_err(|error| Failure::new(Exit::GaveUp, error))?)?;
    } else {
        line(&text)?;
    }
    Ok(if is_good { Exit::Ok } else { Exit::False })
}

/// Runs the demonstration, or one of its nodes.
pub fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    match args.part {
        None if args.mesh => mesh::run(args.seconds, global),
        None => {
            let length = Duration::from_secs_f64(args.seconds.unwrap_or(SECONDS));
            let options = stage::Options {
                length,
                every: args.fault_interval_ms.map_or_else(|| plan::pace(length), Duration::from_millis),
                json: global.json,
                quiet: global.quiet,
            };
            let closing = on_stage(stage::run(options))?;
            close(global, &closing, closing.text(), closing.is_clean())
        }
        Some(Part::Node { listen }) => super::bench::inside(node::run(listen)),
        Some(Part::MeshNode) => mesh::run_node(),
    }
}
