//! `bowline demo --mesh`: eight real nodes on real sockets, a network that heals itself, the loss of the node in its middle, a split and a merge; and
//! a ledger that all of them keep together, which is intact in the end.

pub mod books;
pub mod chronicle;
mod detour;
mod node;
pub mod plan;
pub mod protocol;
mod remarks;
pub mod screen;
mod stage;
mod troupe;
pub mod world;

use std::time::Duration;

use crate::cli::Global;
use crate::exit::{Exit, Failure};

/// How long it takes when nobody says, in seconds.
const SECONDS: f64 = 60.0;

/// Runs the demonstration.
pub(super) fn run(seconds: Option<f64>, global: &Global) -> Result<Exit, Failure> {
    let length = Duration::from_secs_f64(seconds.unwrap_or(SECONDS));
    let options = stage::Options { length, json: global.json, quiet: global.quiet };
    let closing = super::on_stage(stage::run(options))?;
    super::close(global, &closing, closing.text(), closing.is_intact())
}

/// Runs one of its nodes.
pub(super) fn run_node() -> Result<Exit, Failure> {
    crate::cli::bench::inside(node::run())
}
