//! Scores that are bounded, finite and totally ordered whatever was measured. Pure.

use std::cmp::Ordering;

use bowline_messages::session::LinkRank;

use super::Candidate;

/// How good a link is: 0 (worst) to 1 (best), never anything else.
#[derive(Debug, Clone, Copy)]
pub struct Score(f64);

impl Score {
    /// The worst.
    pub const WORST: Self = Self(0.0);
    /// The best.
    pub const BEST: Self = Self(1.0);

    /// The score nearest to a number; the worst for what is no number.
    pub fn new(value: f64) -> Self {
        // Both bounds are what `clamp` gives back for the infinities; −0 becomes 0.
        if value.is_nan() { Self::WORST } else { Self(value.clamp(0.0, 1.0) + 0.0) }
    }

    /// A score that falls with a time or another cost: twice the cost is half the score. Costs below `unit` are all the best.
    pub fn of_cost(cost: f64, unit: f64) -> Self {
        if cost <= unit { Self::BEST } else { Self::new(unit / cost) }
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// What a link is worth, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// Suspected to be dead: only when there is no other.
    Suspected(Score),
    /// Misses a hard requirement, or is predicted to fail: only while no other meets all.
    Missing(Score),
    /// Not measured: not compared with others; the session measures it at once.
    Unmeasured,
    /// Measured, with its score.
    Measured(Score),
}

impl Worth {
    /// Of a link with a score, if it could be measured. Whether it is suspected, and how often it failed lately, is counted in here,
    /// for every policy alike.
    pub fn of(candidate: &Candidate, score: Option<Score>) -> Self {
        let damped = score.map(|score| Score::new(score.value() / candidate.setback()));
        match damped {
            score if candidate.suspected => Self::Suspected(score.unwrap_or(Score::WORST)),
            score if candidate.leaving => Self::Missing(score.unwrap_or(Score::WORST)),
            Some(score) => Self::Measured(score),
            None => Self::Unmeasured,
        }
    }

    /// The score, for a link that was measured.
    pub fn score(self) -> Option<f64> {
        match self {
            Self::Suspected(score) | Self::Missing(score) | Self::Measured(score) => Some(score.value()),
            Self::Unmeasured => None,
        }
    }

    /// As reports say it.
    pub fn rank(self) -> LinkRank {
        match self {
            Self::Suspected(_) => LinkRank::Suspected,
            Self::Missing(_) => LinkRank::Missing,
            Self::Unmeasured => LinkRank::Unmeasured,
            Self::Measured(_) => LinkRank::Measured,
        }
    }

    /// The same link, which misses a hard requirement: so much of it was measured.
    #[must_use]
    pub fn missing(self) -> Self {
        match self {
            Self::Measured(score) => Self::Missing(score),
            Self::Unmeasured => Self::Missing(Score::WORST),
            other @ (Self::Suspected(_) | Self::Missing(_)) => other,
        }
    }
}
