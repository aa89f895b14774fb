//! A long time of failures in minutes: whole nodes on virtual time, with traffic, changing links and injected failures, and a judge that
//! knows what was done.
//!
//! | file | idea |
//! |---|---|
//! | `plan` | what is to be done |
//! | `schedule` | which failures happen when: the ground truth; pure |
//! | `media`, `condition`, `recorded` | what links are like: models and recordings; pure |
//! | `traffic` | what is said, and how damage shows; pure |
//! | `judge` | what the nodes made of it; pure |
//! | `stats`, `draw` | numbers; pure |
//! | `world` | the nodes and their network |
//! | `week` | carries everything out in the order of time |
//! | `calm` | throughput, balance and cost when nothing fails |
//! | `reduce` | a run that breaks a promise made short, and a message script |
//! | `trail` | what happened, where somebody wants to look at it; pure |
//! | `report`, `html` | the results, as numbers and as a page; pure |
//!
//! Nothing of schedule, conditions and judge is within the nodes' reach. What the measures mean is in `docs/soak.md`.

pub mod calm;
pub mod condition;
mod draw;
pub mod html;
pub mod judge;
pub mod media;
mod plan;
pub mod recorded;
mod reduce;
pub mod report;
pub mod schedule;
pub mod stats;
pub mod traffic;
mod trail;
mod week;
mod world;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use plan::{Only, Plan};
pub use reduce::{Reduced, Reducing, reduce};
pub use report::Report;

// Numbers of the random streams; no two concerns share one.
const CONCERN_SCHEDULE: u64 = 1;
const CONCERN_CHOICE: u64 = 2;
const CONCERN_TRAFFIC: u64 = 1 << 20;
const CONCERN_LINKS: u64 = 1 << 30;

/// Why an experiment could not be made. Ours: nothing in it depends on the outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SoakError {
    /// A node or a link could not be set up.
    #[error("the simulated nodes could not be set up: {0}")]
    Setup(String),
}

impl SoakError {
    fn setup(error: impl ToString) -> Self {
        Self::Setup(error.to_string())
    }
}

/// Makes the experiment: the same plan gives the same report. `progress` is told the virtual time now and then.
///
/// # Errors
/// [`SoakError`].
pub fn run(plan: &Plan, mut progress: impl FnMut(Duration)) -> Result<Report, SoakError> {
    let mut report = super::sim::run_without_sockets(async {
        let mut week = week::Week::new(plan)?;
        week.run(&mut progress).await?;
        let now = week.world.shared.now();
        let mut judge = week.world.shared.judge.borrow_mut();
        judge.finish(now);
        let mut report = Report::new(plan, &judge, &week.choices, now);
        drop(judge);
        report.events = week.world.shared.trail.borrow_mut().take();
        report.plots.timeline = week.timeline();
        Ok(report)
    })?;
    if plan.calm > Duration::ZERO {
        report.calm = Some(calm::measure(plan.seed, plan.calm, plan.network)?);
    }
    Ok(report)
}
