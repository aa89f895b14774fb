//! The parameters of the default policy, chosen by cross-validation over groups of recorded links. Pure.
//!
//! For each group the parameters are those that are best on all *other* groups; what they reach on the group itself is counted. So the
//! sum over groups tells what parameters chosen in this way reach on links that had no part in choosing them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::select::{Measures, Tally};
use crate::session::policy::{Damping, Tuning};

/// Regret may be this share of the baseline's at most.
const REGRET_SHARE: f64 = 0.95;

/// The parameters that are chosen. All others are fixed.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Parameters {
    /// Time constant of the forecast's slow mean, in milliseconds.
    pub slow_ms: u64,
    /// Share of the fast mean.
    pub share: f64,
    /// How much better another link's score has to be.
    pub margin: f64,
}

impl Parameters {
    /// Every combination that is tried.
    pub fn grid() -> Vec<Self> {
        let mut grid = Vec::new();
        for slow_ms in [1_000, 1_500, 2_000, 3_000, 5_000] {
            for share in [0.35, 0.45, 0.55, 0.65, 0.8] {
                for margin in [0.2, 0.25, 0.3, 0.35, 0.4] {
                    grid.push(Self { slow_ms, share, margin });
                }
            }
        }
        grid
    }

    /// As the policies take them.
    pub fn split(&self) -> (Damping, Tuning) {
        let damping = Damping { margin: self.margin, ..Damping::default() };
        let slow = Duration::from_millis(self.slow_ms);
        (damping, Tuning { slow, share: self.share, ..Tuning::default() })
    }
}

/// What one group's links gave: the baseline, and each combination of parameters in the order of the grid.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// The last second's best.
    pub baseline: Tally,
    /// The policy, by parameters.
    pub tried: Vec<Tally>,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Validation {
    /// Best on all groups: those to use.
    pub chosen: Parameters,
    /// What they reach on the groups that they were chosen on.
    pub inside: Measures,
    /// What parameters chosen without a group reach on it, over all groups.
    pub outside: Measures,
    /// How often each combination was the best without one group.
    pub votes: Vec<(Parameters, usize)>,
}

/// Chooses parameters. `switches_max`: changes of link a minute that are allowed; `None` when there is nothing to choose from.
pub fn validate(groups: &BTreeMap<String, Group>, switches_max: f64) -> Option<Validation> {
    let grid = Parameters::grid();
    let pool = |without: Option<&str>, of: &dyn Fn(&Group) -> Tally| {
        let mut pool = Tally::default();
        groups.iter().filter(|(name, _)| Some(name.as_str()) != without).for_each(|(_, group)| pool.join(&of(group)));
        pool
    };
    let best = |without: Option<&str>| {
        let baseline = pool(without, &|group| group.baseline).measures()?;
        let rate = |at: usize| {
            let measures = pool(without, &|group| group.tried.get(at).copied().unwrap_or_default()).measures();
            measures.map_or(f64::NEG_INFINITY, |measures| merit(&measures, &baseline, switches_max))
        };
        (0..grid.len()).map(|at| (at, rate(at))).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
    };
    let tried = |at: usize| move |group: &Group| group.tried.get(at).copied().unwrap_or_default();
    let chosen = best(None)?;
    let mut outside = Tally::default();
    let mut votes = vec![0; grid.len()];
    for (name, group) in groups {
        let at = best(Some(name))?;
        votes[at] += 1;
        outside.join(&tried(at)(group));
    }
    let votes = votes.into_iter().zip(&grid).filter(|(count, _)| *count > 0).map(|(count, at)| (*at, count));
    Some(Validation {
        chosen: grid[chosen],
        inside: pool(None, &tried(chosen)).measures()?,
        outside: outside.measures()?,
        votes: votes.collect(),
    })
}

/// Accuracy, as long as the other measures are within their bounds; far behind every other when they are not.
fn merit(measures: &Measures, baseline: &Measures, switches_max: f64) -> f64 {
    let over = (measures.switches_per_min - switches_max).max(0.0)
        + (measures.regret_ms - baseline.regret_ms * REGRET_SHARE).max(0.0)
        + (baseline.delivery - measures.delivery).max(0.0) * 1e3;
    measures.accuracy - over
}
