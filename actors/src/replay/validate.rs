//! The numbers of the policies, chosen by cross-validation over groups of recorded links. Pure.
//!
//! For each group the numbers are those that are best on all *other* groups; what they reach on the group itself is counted. So the
//! sum over groups tells what numbers chosen in this way reach on links that had no part in choosing them.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_messages::PolicyName;

use super::player::Settings;
use super::select::{Measures, Tally};
use crate::session::policy::{Damping, Hope, Likelihood, Smoothing, Tuning};

/// Regret may be this share of the baseline's at most, where every link is heard.
const REGRET_SHARE: f64 = 0.95;
/// The accuracy that a policy has to reach that hears only of the link it picked, and the regret.
const BANDIT_ACCURACY_MIN: f64 = 0.75;
const BANDIT_REGRET_MAX_MS: f64 = 9.0;

/// What being out of a bound by one costs: a thousandth more than allowed outweighs every gain.
const OUT_OF_BOUNDS: f64 = 1e5;

/// Numbers by their names. Times are in milliseconds.
pub type Numbers = BTreeMap<&'static str, f64>;

/// A policy whose numbers are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The default: the best accuracy within the bounds on changes of link, regret and delivery.
    FastestFirst,
    /// The bandit: as far as possible from the nearer of its bounds on accuracy and regret.
    Discounted,
}

/// One combination of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The numbers.
    pub numbers: Numbers,
    /// The same as policies take them; all others are the default ones.
    pub settings: Settings,
}

impl Subject {
    /// Every policy whose numbers are chosen.
    pub const ALL: [Self; 2] = [Self::FastestFirst, Self::Discounted];

    /// Its policy.
    pub const fn policy(self) -> PolicyName {
        match self {
            Self::FastestFirst => PolicyName::FastestFirst,
            Self::Discounted => PolicyName::Discounted,
        }
    }

    /// Every combination that is tried.
    pub fn trials(self) -> Vec<Trial> {
        let settings = |numbers: &Numbers| match self {
            Self::FastestFirst => fastest_first(numbers),
            Self::Discounted => discounted(numbers),
        };
        let grid = grid(match self {
            Self::FastestFirst => FASTEST_FIRST,
            Self::Discounted => DISCOUNTED,
        });
        grid.into_iter().map(|numbers| Trial { settings: settings(&numbers), numbers }).collect()
    }

    /// How good measures are: far below every other when they are out of their bounds.
    fn merit(self, measures: &Measures, baseline: &Measures, switches_max: f64) -> f64 {
        match self {
            Self::FastestFirst => {
                let over = (measures.switches_per_min - switches_max).max(0.0)
                    + (measures.regret_ms - baseline.regret_ms * REGRET_SHARE).max(0.0)
                    + (baseline.delivery - measures.delivery).max(0.0);
                measures.accuracy - over * OUT_OF_BOUNDS
            }
            Self::Discounted => {
                let accuracy = measures.accuracy / BANDIT_ACCURACY_MIN - 1.0;
                accuracy.min(1.0 - measures.regret_ms / BANDIT_REGRET_MAX_MS)
            }
        }
    }
}

/// What is tried of each number.
type Axes = &'static [(&'static str, &'static [f64])];

const FASTEST_FIRST: Axes = &[
    ("fast_ms", &[150.0, 300.0, 600.0]),
    ("slow_ms", &[1_000.0, 1_500.0, 2_000.0, 3_000.0]),
    ("share", &[0.45, 0.55, 0.65, 0.8]),
    ("margin", &[0.1, 0.15, 0.2, 0.25, 0.3, 0.4]),
    ("sigma", &[0.4, 0.6, 0.8, 1.0]),
    ("behind", &[0.06, 0.12, 0.24]),
];

const DISCOUNTED: Axes = &[
    ("fast_ms", &[1_000.0, 2_000.0, 4_000.0]),
    ("slow_ms", &[30_000.0, 100_000.0, 300_000.0]),
    ("ageing_ms", &[4_000.0, 8_000.0, 16_000.0]),
    ("relaxing_ms", &[10_000.0, 20_000.0, 40_000.0]),
    ("optimism", &[0.3, 0.45, 0.6, 0.75]),
    ("curiosity", &[0.35, 0.7]),
];

fn grid(axes: Axes) -> Vec<Numbers> {
    let mut grid = vec![Numbers::new()];
    for (name, values) in axes {
        let with = |numbers: &Numbers, value: f64| {
            let mut numbers = numbers.clone();
            numbers.insert(name, value);
            numbers
        };
        grid = grid.iter().flat_map(|numbers| values.iter().map(|value| with(numbers, *value))).collect();
    }
    grid
}

fn number(numbers: &Numbers, name: &str) -> f64 {
    numbers.get(name).copied().unwrap_or_default()
}

fn time(numbers: &Numbers, name: &str) -> Duration {
    Duration::try_from_secs_f64(number(numbers, name) / 1e3).unwrap_or_default()
}

fn fastest_first(numbers: &Numbers) -> Settings {
    let number = |name| number(numbers, name);
    Settings {
        damping: Damping { margin: number("margin"), ..Damping::default() },
        smoothing: Smoothing { fast: time(numbers, "fast_ms"), slow: time(numbers, "slow_ms"), share: number("share") },
        tuning: Tuning {
            likelihood: Likelihood { sigma: number("sigma"), behind: number("behind") },
            ..Tuning::default()
        },
    }
}

fn discounted(numbers: &Numbers) -> Settings {
    let time = |name| time(numbers, name);
    let hope = Hope {
        fast: time("fast_ms"),
        slow: time("slow_ms"),
        ageing: time("ageing_ms"),
        relaxing: time("relaxing_ms"),
        optimism: number(numbers, "optimism"),
        curiosity: number(numbers, "curiosity"),
    };
    Settings { tuning: Tuning { hope, ..Tuning::default() }, ..Settings::default() }
}

/// What one group's links gave: the baseline, and each trial in the order of [`Subject::trials`].
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// The last second's best.
    pub baseline: Tally,
    /// The policy, by trial.
    pub tried: Vec<Tally>,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Validation {
    /// How many combinations were tried.
    pub tried: usize,
    /// Best on all groups: those to use.
    pub chosen: Numbers,
    /// What they reach on the groups that they were chosen on.
    pub inside: Measures,
    /// What numbers chosen without a group reach on it, over all groups.
    pub outside: Measures,
    /// Those that were the best without one group, and for how many groups; the most frequent first.
    pub votes: Vec<(Numbers, usize)>,
}

/// Chooses numbers. `switches_max`: changes of link a minute that are allowed where every link is heard; `None` when there is nothing to
/// choose from.
pub fn validate(
    subject: Subject,
    trials: &[Trial],
    groups: &BTreeMap<String, Group>,
    switches_max: f64,
) -> Option<Validation> {
    let pool = |without: Option<&str>, of: &dyn Fn(&Group) -> Tally| {
        let mut pool = Tally::default();
        groups.iter().filter(|(name, _)| Some(name.as_str()) != without).for_each(|(_, group)| pool.join(&of(group)));
        pool
    };
    let best = |without: Option<&str>| {
        let baseline = pool(without, &|group| group.baseline).measures()?;
        let rate = |at: usize| {
            let measures = pool(without, &|group| group.tried.get(at).copied().unwrap_or_default()).measures();
            measures.map_or(f64::NEG_INFINITY, |measures| subject.merit(&measures, &baseline, switches_max))
        };
        (0..trials.len()).map(|at| (at, rate(at))).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
    };
    let tried = |at: usize| move |group: &Group| group.tried.get(at).copied().unwrap_or_default();
    let chosen = best(None)?;
    let mut outside = Tally::default();
    let mut votes = vec![0; trials.len()];
    for (name, group) in groups {
        let at = best(Some(name))?;
        votes[at] += 1;
        outside.join(&tried(at)(group));
    }
    let votes = votes.into_iter().zip(trials).filter(|(count, _)| *count > 0);
    let mut votes: Vec<_> = votes.map(|(count, trial)| (trial.numbers.clone(), count)).collect();
    votes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Some(Validation {
        tried: trials.len(),
        chosen: trials[chosen].numbers.clone(),
        inside: pool(None, &tried(chosen)).measures()?,
        outside: outside.measures()?,
        votes,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::scenario::Cost;
    use super::super::select::{Course, Feedback, LastValue, Selector};
    use super::*;

    /// Takes one link all the time.
    struct Always(usize);

    impl Selector for Always {
        fn pick(&mut self, _: u32) -> usize {
            self.0
        }
        fn learn(&mut self, _: u32, _: usize, _: Cost) {}
    }

    /// Two links over ten seconds, of which the first or the second one is better; trial *n* takes link *n*.
    fn group(better: usize) -> Group {
        let link = |at: usize| (0..10).map(|_| Cost::of(if at == better { 10.0 } else { 50.0 }, true)).collect();
        let course = Course::new(vec![link(0), link(1)]);
        let tried = [0, 1].map(|at| course.replay(Feedback::Full, &mut Always(at)));
        Group { baseline: course.replay(Feedback::Full, &mut LastValue::default()), tried: tried.to_vec() }
    }

    fn trials() -> Vec<Trial> {
        let trial = |at: f64| Trial { numbers: [("link", at)].into(), settings: Settings::default() };
        vec![trial(0.0), trial(1.0)]
    }

    #[test]
    fn a_group_has_no_part_in_choosing_what_is_measured_on_it() {
        let groups: BTreeMap<String, Group> =
            [("a", 0), ("b", 0), ("c", 1)].map(|(name, better)| (name.to_owned(), group(better))).into();
        let found = validate(Subject::Discounted, &trials(), &groups, 4.0).unwrap();
        // All three say the first link. Without the third it is the first as well, and without one of the others both are as good.
        assert_eq!((found.chosen["link"], found.tried), (0.0, 2));
        assert_eq!(found.inside.accuracy, 2.0 / 3.0);
        // On the third the first link is always wrong: chosen without it, it is measured as such.
        assert!(found.outside.accuracy <= 2.0 / 3.0, "{found:?}");
        assert_eq!(found.votes.iter().map(|(_, count)| count).sum::<usize>(), 3);
        assert_eq!(validate(Subject::Discounted, &trials(), &BTreeMap::new(), 4.0), None);
    }

    #[test]
    fn what_is_out_of_its_bounds_never_wins() {
        let measures = |accuracy, switches_per_min, regret_ms| Measures {
            accuracy,
            accuracy_exact: 0.0,
            accuracy_where_it_matters: 0.0,
            cost_ms: 0.0,
            regret_ms,
            switches_per_min,
            delivery: 0.99,
            throughput_kbps: None,
        };
        let baseline = measures(0.92, 11.0, 5.0);
        let merit = |of: Measures| Subject::FastestFirst.merit(&of, &baseline, 4.0);
        let within = merit(measures(0.5, 4.0, 4.75));
        assert!(within > merit(measures(0.99, 4.001, 4.75)));
        assert!(within > merit(measures(0.99, 4.0, 4.751)));
        assert!(within > merit(Measures { delivery: 0.989, ..measures(0.99, 4.0, 4.75) }));
        let merit = |of: Measures| Subject::Discounted.merit(&of, &baseline, 4.0);
        assert!(merit(measures(0.75, 60.0, 9.0)) > merit(measures(0.749, 0.0, 1.0)));
        assert!(merit(measures(0.75, 60.0, 9.0)) > merit(measures(0.99, 0.0, 9.1)));
    }

    #[test]
    fn every_combination_is_tried_once_and_becomes_what_policies_take() {
        for subject in Subject::ALL {
            let trials = subject.trials();
            let different = |a: &Trial| trials.iter().filter(|b| b.settings == a.settings).count() == 1;
            assert!(trials.len() > 500 && trials.iter().step_by(97).all(different));
        }
        let named = Subject::FastestFirst.trials().into_iter().find(|trial| {
            trial.numbers["sigma"] == 0.8 && trial.numbers["slow_ms"] == 1_500.0 && trial.numbers["margin"] == 0.15
        });
        let settings = named.unwrap().settings;
        assert_eq!((settings.tuning.likelihood.sigma, settings.damping.margin), (0.8, 0.15));
        assert_eq!(settings.smoothing.slow, Duration::from_millis(1_500));
    }
}
