//! What is to be done: how long, how many failures, which seed.

use std::sync::Arc;
use std::time::Duration;

use super::recorded::Recordings;
use super::schedule::{Failure, schedule};

/// A part of an experiment.
#[derive(Debug, Clone)]
pub struct Only {
    /// Numbers of the failures that are injected, of those that the whole one draws.
    pub failures: Arc<[usize]>,
    /// Until when there is traffic.
    pub until: Duration,
}

/// An experiment.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Virtual time under traffic.
    pub lasts: Duration,
    /// Failures injected in it.
    pub failures: usize,
    /// The source of everything random.
    pub seed: u64,
    /// Nodes, each with a session to each other one; at least 2.
    pub nodes: usize,
    /// Messages a second between each two nodes, both directions together.
    pub rate: f64,
    /// Recorded links instead of the synthetic model where there are such.
    pub recordings: Option<Arc<Recordings>>,
    /// How long throughput and balance are measured without failures; sixty times as long what an idle pair sends. Zero: not at all.
    pub calm: Duration,
    /// What the nodes reported from then until then is kept, as text.
    pub shown: Option<(Duration, Duration)>,
    /// Only a part of it.
    pub only: Option<Only>,
    /// Whether the nodes take part in a network beyond their sessions.
    pub network: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            lasts: Duration::from_secs(168 * 3600),
            failures: 2847,
            seed: 1,
            nodes: 2,
            rate: 10.0,
            recordings: None,
            calm: Duration::from_secs(10),
            shown: None,
            only: None,
            network: false,
        }
    }
}

impl Plan {
    /// The failures that are injected, numbered from 0.
    pub fn injected(&self) -> Vec<Failure> {
        let all = schedule(self.seed, self.failures, self.lasts, &self.pairs());
        let Some(only) = &self.only else { return all };
        let kept = all.into_iter().filter(|failure| only.failures.contains(&failure.id));
        kept.enumerate().map(|(id, failure)| Failure { id, ..failure }).collect()
    }

    /// Until when there is traffic.
    pub fn until(&self) -> Duration {
        self.only.as_ref().map_or(self.lasts, |only| only.until.min(self.lasts))
    }

    /// All pairs of nodes, the smaller number first.
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        (0..self.nodes).flat_map(|one| (one + 1..self.nodes).map(move |other| (one, other))).collect()
    }
}
