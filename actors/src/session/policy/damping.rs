//! Hysteresis and the memory of failures: what keeps every policy from flapping. Pure.

use std::time::{Duration, Instant};

use bowline_messages::LinkId;

use super::{Candidate, Choice, Request, Worth, best};

/// Against flapping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Damping {
    /// How much better another link's score has to be, as a share of the present one's.
    pub margin: f64,
    /// Delays that differ by less than this share of the shorter one are as good as each other …
    pub tolerance: f64,
    /// … and so are those that differ by less than this.
    pub tolerance_min: Duration,
    /// How long a choice stands at least, failures aside.
    pub dwell: Duration,
    /// The time in which what a failure weighs halves.
    pub half_life: Duration,
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            margin: 0.15,
            tolerance: 0.1,
            tolerance_min: Duration::from_millis(1),
            dwell: Duration::from_secs(1),
            half_life: Duration::from_secs(20),
        }
    }
}

impl Damping {
    /// The longest delay that is as good as this one, in seconds.
    pub fn as_good_as(&self, seconds: f64) -> f64 {
        seconds + (seconds * self.tolerance).max(self.tolerance_min.as_secs_f64())
    }
}

/// The last choice for a class of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The chosen link.
    pub link: LinkId,
    /// Since when.
    pub since: Instant,
}

/// The best link, unless the standing one is to be kept: it is left for one that is better only by the margin and after its dwell, also
/// where both miss a requirement or are about to fail, and at once when it is suspected, misses a requirement that the other meets, or is
/// gone.
pub(super) fn settle(
    request: &Request<'_>,
    links: &[Candidate],
    rule: &'static str,
    worth: impl Fn(usize) -> Worth,
) -> Choice {
    let Some((best, most)) = best(links, None, &worth) else {
        return Choice { links: [None; 2], rule: "no usable link" };
    };
    let take = |at: usize, rule| Choice { links: [links.get(at).map(|c| c.link), None], rule };
    let standing = request.standing.and_then(|s| Some((s, links.iter().position(|c| c.link == s.link)?)));
    let Some((standing, present)) = standing.filter(|(_, at)| *at != best) else { return take(best, rule) };
    // While all are suspected, whichever gives hope is tried.
    match (most, worth(present)) {
        (Worth::Measured(most), Worth::Measured(mine)) | (Worth::Missing(most), Worth::Missing(mine)) => {
            let margin = if request.damping.margin.is_finite() { request.damping.margin.max(0.0) } else { 0.0 };
            if most.value() <= mine.value() * (1.0 + margin) {
                take(present, "kept: the best is not better by the margin")
            } else if request.now.saturating_duration_since(standing.since) < request.damping.dwell {
                take(present, "kept: changed too lately")
            } else {
                take(best, rule)
            }
        }
        (Worth::Suspected(_) | Worth::Missing(_) | Worth::Unmeasured | Worth::Measured(_), _) => take(best, rule),
    }
}

/// The decaying memory of the failures of a way.
#[derive(Debug, Clone, Copy)]
pub struct Penalty {
    failures: f64,
    at: Instant,
}

impl Penalty {
    /// The most: at a tenth of stability for each, more would change nothing (SPEC F4).
    pub const FAILURES_MAX: f64 = 5.0;

    /// No failure so far.
    pub fn none(now: Instant) -> Self {
        Self { failures: 0.0, at: now }
    }

    /// How many failures of just now it stands for: one that was a half-life ago counts half. 0 to [`Self::FAILURES_MAX`].
    pub fn failures(&self, now: Instant, damping: &Damping) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.failures * 0.5_f64.powf(elapsed / damping.half_life.as_secs_f64().max(1e-3))
    }

    /// Notes a failure.
    pub fn on_failure(&mut self, now: Instant, damping: &Damping) {
        self.failures = (self.failures(now, damping) + 1.0).min(Self::FAILURES_MAX);
        self.at = now;
    }
}
