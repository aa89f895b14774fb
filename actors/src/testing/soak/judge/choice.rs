//! How good the link is that a node would use now, against the best there is: the oracle knows what each link is like at this very moment. Pure.

use serde::Serialize;

use super::super::media::{MEDIA_COUNT, MediumIndex};

/// A link within this share of the best, or [`TOLERANCE_MS`], is as good (the definition of the recorded links' `SELECTION.md`).
const TOLERANCE: f64 = 0.10;
/// See [`TOLERANCE`].
const TOLERANCE_MS: f64 = 1.0;
/// A link that works and takes at most this long is acceptable.
const ACCEPTABLE_MS: f64 = 100.0;

/// What a link is like for the oracle, in one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// The time that a small message takes, in milliseconds; `None`: nothing passes.
    pub cost_ms: Option<f64>,
    /// Whether the node has a link over it that it calls usable.
    pub connected: bool,
}

/// How good a choice was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As good as the best.
    Optimal,
    /// Another would have been better; this one works and is not slow.
    Acceptable,
    /// Nothing passes, or it is slow and another is not.
    Poor,
}

/// Grades, and why those were not optimal that were not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Choices {
    /// As good as the best.
    pub optimal: u64,
    /// Works, not the best.
    pub acceptable: u64,
    /// See [`Grade::Poor`].
    pub poor: u64,
    /// Not optimal because the best link was not connected (again).
    pub not_connected: u64,
    /// Not optimal because nothing passed on the chosen one, and that was not known yet.
    pub not_noticed: u64,
    /// Not optimal although the best one was connected, and the chosen one passes.
    pub not_chosen: u64,
}

impl Choices {
    /// A node would use this link.
    pub fn on_choice(&mut self, chosen: Option<MediumIndex>, truth: &[Truth; MEDIA_COUNT]) -> Option<Grade> {
        let costs = || truth.iter().filter_map(|link| link.cost_ms);
        // A moment at which nothing passes anywhere tells nothing.
        let best = costs().min_by(f64::total_cmp)?;
        let good = |cost: f64| cost <= best + (best * TOLERANCE).max(TOLERANCE_MS);
        let cost = chosen.and_then(|medium| truth.get(medium)?.cost_ms);
        let grade = match cost {
            Some(cost) if good(cost) => Grade::Optimal,
            Some(cost) if cost <= ACCEPTABLE_MS => Grade::Acceptable,
            Some(_) | None => Grade::Poor,
        };
        match grade {
            Grade::Optimal => self.optimal += 1,
            Grade::Acceptable => self.acceptable += 1,
            Grade::Poor => self.poor += 1,
        }
        if grade != Grade::Optimal {
            let known = truth.iter().any(|link| link.connected && link.cost_ms.is_some_and(good));
            match (known, cost) {
                (false, _) => self.not_connected += 1,
                (true, None) => self.not_noticed += 1,
                (true, Some(_)) => self.not_chosen += 1,
            }
        }
        Some(grade)
    }

    /// Shares in percent: optimal, acceptable, poor. `None`: nothing was asked.
    pub fn percent(&self) -> Option<[f64; 3]> {
        let all = self.optimal + self.acceptable + self.poor;
        (all > 0).then(|| [self.optimal, self.acceptable, self.poor].map(|count| 100.0 * count as f64 / all as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_graded_against_the_best_and_its_reason_is_told() {
        let link = |cost_ms, connected| Truth { cost_ms, connected };
        let truth = [link(Some(10.0), true), link(Some(10.9), true), link(Some(30.0), true), link(Some(300.0), true)];
        let mut choices = Choices::default();
        let grades = [0, 1, 2, 3].map(|medium| choices.on_choice(Some(medium), &truth).unwrap());
        assert_eq!(grades, [Grade::Optimal, Grade::Optimal, Grade::Acceptable, Grade::Poor]);
        assert_eq!(choices.not_chosen, 2);
        let cut = [link(None, true), link(Some(10.0), true), link(None, false), link(None, false)];
        assert_eq!(choices.on_choice(Some(0), &cut), Some(Grade::Poor));
        assert_eq!(choices.on_choice(None, &cut), Some(Grade::Poor));
        assert_eq!(choices.not_noticed, 2);
        let away = [link(Some(1.0), false), link(Some(10.0), true), link(None, false), link(None, false)];
        assert_eq!(choices.on_choice(Some(1), &away), Some(Grade::Acceptable));
        assert_eq!(choices.not_connected, 1);
        assert_eq!(choices.on_choice(Some(1), &[link(None, true); 4]), None);
        assert_eq!(choices.percent().unwrap().iter().sum::<f64>().round(), 100.0);
    }
}
