//! Replays a selector: which link it picks in each second of a scenario, and how good that was. Pure.

use super::scenario::Cost;

/// A pick is as good as the best up to this many milliseconds …
const TOLERANCE_MS: f64 = 1.0;
/// … or up to this share of the best cost, whichever is more.
const TOLERANCE_SHARE: f64 = 0.1;

/// What a selector is told of past seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Feedback {
    /// The cost of every link.
    Full,
    /// The cost of the link it picked.
    Bandit,
}

/// Picks one link a second, knowing only the seconds before.
pub trait Selector {
    /// The link for this second.
    fn pick(&mut self, second: u32) -> usize;
    /// What a link cost in a second that is over.
    fn learn(&mut self, second: u32, link: usize, cost: Cost);
}

/// The costs of a scenario's links: a row per link, a column per second.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    links: Vec<Vec<Cost>>,
    seconds: usize,
}

impl Course {
    /// Of links that all have the same number of seconds; seconds that one of them lacks are left out.
    pub fn new(links: Vec<Vec<Cost>>) -> Self {
        let seconds = links.iter().map(Vec::len).min().unwrap_or(0);
        Self { links, seconds }
    }

    /// How many links there are.
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// How many seconds it has.
    pub fn seconds(&self) -> usize {
        self.seconds
    }

    /// Replays a selector over all seconds.
    pub fn replay(&self, feedback: Feedback, selector: &mut dyn Selector) -> Tally {
        let mut tally = Tally::default();
        let mut before = None;
        for second in 0..self.seconds {
            let number = u32::try_from(second).unwrap_or(u32::MAX);
            let picked = selector.pick(number).min(self.links.len().saturating_sub(1));
            let now = self.links.iter().map(|link| link[second]);
            tally.add(now.clone(), picked, before);
            before = Some(picked);
            for (link, cost) in now.enumerate() {
                match feedback {
                    Feedback::Full => selector.learn(number, link, cost),
                    Feedback::Bandit if link == picked => selector.learn(number, link, cost),
                    Feedback::Bandit => {}
                }
            }
        }
        tally
    }
}

/// Sums over the seconds of one or more replays.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    seconds: f64,
    /// Seconds in which some link delivers, and those in which moreover some link is not optimal.
    deciding: f64,
    mattering: f64,
    optimal: f64,
    exact: f64,
    optimal_mattering: f64,
    cost_ms: f64,
    regret_ms: f64,
    delivered: f64,
    switches: f64,
    /// Throughput of the picked link, over the seconds in which it was measured.
    kbps: f64,
    kbps_seconds: f64,
}

/// How good a selector was, averaged over seconds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Measures {
    /// Share of optimal picks, among the seconds in which some link delivers.
    pub accuracy: f64,
    /// The same without tolerance.
    pub accuracy_exact: f64,
    /// The same among the seconds in which some link is not optimal.
    pub accuracy_where_it_matters: f64,
    /// Mean cost in milliseconds.
    pub cost_ms: f64,
    /// Mean cost above the best link's, in milliseconds.
    pub regret_ms: f64,
    /// Changes of link in a minute.
    pub switches_per_min: f64,
    /// Share of seconds in which the picked link delivered.
    pub delivery: f64,
    /// Mean throughput of the picked link in kbit/s, over the seconds in which it was measured; `None`: in none.
    pub throughput_kbps: Option<f64>,
}

impl Tally {
    fn add(&mut self, costs: impl Iterator<Item = Cost> + Clone, picked: usize, before: Option<usize>) {
        let Some(cost) = costs.clone().nth(picked) else { return };
        let best = costs.clone().map(|cost| cost.ms).fold(f64::INFINITY, f64::min);
        let good = best + TOLERANCE_MS.max(TOLERANCE_SHARE * best);
        let count = |condition: bool| f64::from(u8::from(condition));
        self.seconds += 1.0;
        self.cost_ms += cost.ms;
        self.regret_ms += cost.ms - best;
        self.delivered += count(cost.delivered);
        self.switches += count(before.is_some_and(|before| before != picked));
        self.kbps += cost.kbps.unwrap_or_default();
        self.kbps_seconds += count(cost.kbps.is_some());
        if !costs.clone().any(|cost| cost.delivered) {
            return;
        }
        let matters = costs.clone().any(|cost| cost.ms > good);
        self.deciding += 1.0;
        self.mattering += count(matters);
        self.optimal += count(cost.ms <= good);
        self.exact += count(cost.ms <= best);
        self.optimal_mattering += count(matters && cost.ms <= good);
    }

    /// Adds the seconds of another replay.
    pub fn join(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.deciding += other.deciding;
        self.mattering += other.mattering;
        self.optimal += other.optimal;
        self.exact += other.exact;
        self.optimal_mattering += other.optimal_mattering;
        self.cost_ms += other.cost_ms;
        self.regret_ms += other.regret_ms;
        self.delivered += other.delivered;
        self.switches += other.switches;
        self.kbps += other.kbps;
        self.kbps_seconds += other.kbps_seconds;
    }

    /// The averages; `None` when there was no second in which a choice could be right.
    pub fn measures(&self) -> Option<Measures> {
        (self.deciding > 0.0).then(|| Measures {
            accuracy: self.optimal / self.deciding,
            accuracy_exact: self.exact / self.deciding,
            accuracy_where_it_matters: if self.mattering > 0.0 { self.optimal_mattering / self.mattering } else { 1.0 },
            cost_ms: self.cost_ms / self.seconds,
            regret_ms: self.regret_ms / self.seconds,
            switches_per_min: self.switches * 60.0 / self.seconds,
            delivery: self.delivered / self.seconds,
            throughput_kbps: (self.kbps_seconds > 0.0).then(|| self.kbps / self.kbps_seconds),
        })
    }
}

/// The baseline that repeats the last second's best link. It stays where it is among equals.
#[derive(Debug, Clone, Default)]
pub struct LastValue(Baseline);

/// The baseline that goes by an exponentially weighted mean of each link's costs.
#[derive(Debug, Clone, Default)]
pub struct Ewma(Baseline);

impl Ewma {
    /// The weight of the last second.
    pub const WEIGHT: f64 = 0.3;
}

impl Selector for LastValue {
    fn pick(&mut self, _: u32) -> usize {
        self.0.best()
    }

    fn learn(&mut self, _: u32, link: usize, cost: Cost) {
        self.0.mix(link, cost.ms, 1.0);
    }
}

impl Selector for Ewma {
    fn pick(&mut self, _: u32) -> usize {
        self.0.best()
    }

    fn learn(&mut self, _: u32, link: usize, cost: Cost) {
        self.0.mix(link, cost.ms, Self::WEIGHT);
    }
}

#[derive(Debug, Clone, Default)]
struct Baseline {
    means: Vec<f64>,
}

impl Baseline {
    fn mix(&mut self, link: usize, ms: f64, weight: f64) {
        while self.means.len() <= link {
            self.means.push(ms);
        }
        self.means[link] += (ms - self.means[link]) * weight;
    }

    fn best(&self) -> usize {
        let numbered = self.means.iter().enumerate();
        numbered.min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(link, _)| link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(ms: f64) -> Cost {
        Cost::of(ms, ms < 1_000.0)
    }

    fn course(links: &[&[f64]]) -> Course {
        Course::new(links.iter().map(|link| link.iter().map(|ms| cost(*ms)).collect()).collect())
    }

    #[test]
    fn the_last_seconds_best_is_measured_as_the_definitions_say() {
        let course = course(&[&[10.0, 20.0, 1000.0, 10.0, 1000.0], &[20.0, 10.0, 10.5, 11.0, 1000.0]]);
        let tally = course.replay(Feedback::Full, &mut LastValue::default());
        let measures = tally.measures().unwrap();
        // Picks: 0 (nothing known), 0 (was best), 1, 1, 0. Nothing delivers in the last second.
        assert_eq!(measures.accuracy, 3.0 / 4.0);
        assert_eq!(measures.accuracy_exact, 2.0 / 4.0);
        assert_eq!(measures.accuracy_where_it_matters, 2.0 / 3.0);
        assert_eq!(measures.regret_ms, (10.0 + 1.0) / 5.0);
        assert_eq!(measures.cost_ms, (10.0 + 20.0 + 10.5 + 11.0 + 1000.0) / 5.0);
        assert_eq!(measures.delivery, 4.0 / 5.0);
        assert_eq!(measures.switches_per_min, 2.0 * 60.0 / 5.0);
        assert_eq!(measures.throughput_kbps, None);
    }

    #[test]
    fn throughput_is_that_of_the_picked_link_where_it_was_measured() {
        let second = |kbps| Cost { kbps, ..cost(10.0) };
        let course = Course::new(vec![vec![second(Some(100.0)), second(None), second(Some(300.0))]]);
        let measures = course.replay(Feedback::Full, &mut LastValue::default()).measures().unwrap();
        assert_eq!(measures.throughput_kbps, Some(200.0));
    }

    #[test]
    fn bandit_feedback_tells_only_what_was_picked() {
        struct Spy(Vec<(u32, usize)>);
        impl Selector for Spy {
            fn pick(&mut self, second: u32) -> usize {
                second as usize % 2
            }
            fn learn(&mut self, second: u32, link: usize, _: Cost) {
                self.0.push((second, link));
            }
        }
        let course = course(&[&[1.0; 3], &[2.0; 3]]);
        let mut spy = Spy(Vec::new());
        course.replay(Feedback::Bandit, &mut spy);
        assert_eq!(spy.0, [(0, 0), (1, 1), (2, 0)]);
        let mut spy = Spy(Vec::new());
        course.replay(Feedback::Full, &mut spy);
        assert_eq!(spy.0.len(), 6);
    }
}
