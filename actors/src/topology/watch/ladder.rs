//! Limits of one figure, from the least grave to the gravest.

use bowline_messages::topology::AlertLevel;

/// Limits of one figure.
#[derive(Debug, Clone)]
pub(super) struct Ladder {
    steps: Vec<(AlertLevel, f64)>,
    falling: bool,
}

impl Ladder {
    /// A figure that is bad when it is high: at a limit and above.
    pub(super) fn rising(steps: &[(AlertLevel, f64)]) -> Self {
        Self { steps: steps.to_vec(), falling: false }
    }

    /// A figure that is bad when it is low: below a limit.
    pub(super) fn falling(steps: &[(AlertLevel, f64)]) -> Self {
        Self { steps: steps.to_vec(), falling: true }
    }

    /// The gravest level that holds, with its limit. One that stands holds until the figure is back by a share of the limit.
    pub(super) fn level(&self, value: f64, standing: Option<AlertLevel>, hysteresis: f64) -> Option<(AlertLevel, f64)> {
        let holds = |(level, limit): &&(AlertLevel, f64)| {
            let stands = standing.is_some_and(|standing| standing >= *level);
            match (self.falling, stands) {
                (false, false) => value >= *limit,
                (false, true) => value > limit * (1.0 - hysteresis),
                (true, false) => value < *limit,
                (true, true) => value < limit * (1.0 + hysteresis),
            }
        };
        self.steps.iter().rev().find(holds).copied()
    }
}
