//! The experiment on partitions: a few nodes whose network falls apart and comes together again, seed after seed.
//!
//! Every run is a small world on virtual time: nodes with the lease, the log and the resolution of a real node and an application with a register and a
//! ledger of bets; clients that write, read and bet all the time; a network that loses, delays and doubles packets; clocks that are off, within what the
//! lease allows; media that are slow. Rounds of splits (two sides, three, one way, partial, flapping) and crashes are drawn from the seed.
//! [`history`] judges what clients were told, and the world judges the rest: never two active sides, nothing committed lost, everybody the same in the
//! end, no stake made or lost. [`Sabotage`] breaks a node on purpose, to see that the judge notices.

mod fault;
mod figures;
pub mod history;
mod node;
mod table;
#[cfg(test)]
mod tests;
mod world;

use std::time::Instant;

pub use fault::Kind;
pub use figures::{KindReport, Outcome, Report};
pub use table::{Answer, Command, Operation};
use world::World;

use crate::partition::group::GroupError;

/// Violations after which a run is over: the first ones tell the story.
const VIOLATIONS_MAX: usize = 10;
/// The most nodes in an experiment.
pub const NODES_MAX: usize = 32;

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sabotage {
    /// Nothing.
    #[default]
    None,
    /// Nodes that were active once go on as if they still were.
    NeverPauses,
    /// Every second write is said to be durable and forgotten.
    ForgetsWrites,
    /// Writes are answered before they are committed.
    AnswersEarly,
    /// Reads are answered from what the node has, without asking the log.
    ReadsLocally,
}

/// An experiment.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Nodes, 1 to [`NODES_MAX`].
    pub nodes: usize,
    /// How often the network falls apart in a run.
    pub rounds: usize,
    /// What is broken on purpose.
    pub sabotage: Sabotage,
}

impl Default for Plan {
    fn default() -> Self {
        Self { nodes: 5, rounds: 3, sabotage: Sabotage::None }
    }
}

/// Why there is no experiment. The caller's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// So many nodes cannot be.
    #[error("an experiment has 1 to {NODES_MAX} nodes, not {0}")]
    Nodes(usize),
    /// Nodes could not be started.
    #[error(transparent)]
    Start(#[from] GroupError),
}

/// Runs one seed. `epoch` is any moment; nothing depends on which.
///
/// # Errors
/// [`LabError`], when so many nodes cannot be.
pub fn run(plan: &Plan, seed: u64, epoch: Instant) -> Result<Outcome, LabError> {
    if !(1..=NODES_MAX).contains(&plan.nodes) {
        return Err(LabError::Nodes(plan.nodes));
    }
    let (violations, figures, trace) = World::new(plan, seed, epoch)?.run();
    Ok(Outcome { seed, violations, trace, figures })
}
