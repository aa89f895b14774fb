//! A Markov decision process, solved by value iteration.
//!
//! Each link is a chain of quality levels, whose steps are counted as they are seen. Being on a link is worth what its next levels
//! bring, each followed by the better of staying and of leaving, at the price of a change, for the best of the others as it is on
//! average. The plan is made when samples come, once a second at most; choosing reads it.

use bowline_messages::PolicyName;

use super::{Candidate, Choice, Damping, Policy, Request, Score, Worth};

/// Levels of quality: seven from fast to slow, and lost.
const LEVELS: usize = 8;
const LOST: usize = LEVELS - 1;
/// What the reward of the next second counts for against that of this one.
const DISCOUNT: f64 = 0.8;
/// Price of a change of link, in rewards of one second.
const CHANGE: f64 = 0.08;
/// The iteration ends when no value moves by more than this.
const PRECISION: f64 = 1e-6;
/// An end for certain: the error shrinks by the discount with each round, so a hundred are enough for the precision.
const ROUNDS_MAX: usize = 200;
/// What is assumed before anything was counted: a level mostly stays as it is.
const STAY: f64 = 2.0;
const ANYWHERE: f64 = 0.02;
/// When so many steps from one level were counted, all are halved: old ones count less.
const STEPS_MAX: f64 = 200.0;

/// One link's levels: the last one seen, the steps counted between them, and what each is worth.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    level: Option<usize>,
    steps: [[f64; LEVELS]; LEVELS],
    values: [f64; LEVELS],
}

impl Default for Chain {
    fn default() -> Self {
        let mut steps = [[ANYWHERE; LEVELS]; LEVELS];
        for (at, row) in steps.iter_mut().enumerate() {
            row[at] += STAY;
        }
        Self { level: None, steps, values: [0.0; LEVELS] }
    }
}

impl Chain {
    pub(super) fn on_sample(&mut self, seconds: Option<f64>) {
        let level = level(seconds);
        if let Some(before) = self.level.replace(level) {
            let row = &mut self.steps[before];
            row[level] += 1.0;
            if row.iter().sum::<f64>() > STEPS_MAX {
                row.iter_mut().for_each(|count| *count /= 2.0);
            }
        }
    }

    /// The value of the level that was seen last, per second: 0 to 1.
    fn worth(&self) -> Option<f64> {
        self.level.map(|level| self.values[level] * (1.0 - DISCOUNT))
    }

    fn probabilities(&self) -> [[f64; LEVELS]; LEVELS] {
        self.steps.map(|row| {
            let sum: f64 = row.iter().sum();
            row.map(|count| count / sum)
        })
    }
}

/// Seven levels between 1 ms and 1 s, in equal steps of the logarithm.
fn level(seconds: Option<f64>) -> usize {
    match seconds {
        Some(seconds) if seconds < 1.0 => {
            let share = (seconds.max(1e-3) * 1e3).ln() / 1e3_f64.ln();
            ((share * LOST as f64) as usize).min(LOST - 1)
        }
        Some(_) | None => LOST,
    }
}

/// The reward of a second at a level.
fn reward(level: usize) -> f64 {
    1.0 - level as f64 / LOST as f64
}

/// Value iteration over all links.
pub(super) fn plan<'a>(chains: impl Iterator<Item = &'a mut Chain>) {
    let mut chains: Vec<&mut Chain> = chains.collect();
    let steps: Vec<_> = chains.iter().map(|chain| chain.probabilities()).collect();
    let usual: Vec<_> = steps.iter().map(in_the_long_run).collect();
    for _ in 0..ROUNDS_MAX {
        let average = |at: usize| usual[at].iter().zip(&chains[at].values).map(|(share, value)| share * value).sum();
        let averages: Vec<f64> = (0..chains.len()).map(average).collect();
        let mut moved = 0.0_f64;
        for (at, chain) in chains.iter_mut().enumerate() {
            let others = averages.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, value)| *value);
            let elsewhere = others.fold(f64::NEG_INFINITY, f64::max) - CHANGE;
            let before = chain.values;
            for (level, row) in steps[at].iter().enumerate() {
                let next = |to: usize| reward(to) + DISCOUNT * before[to].max(elsewhere);
                let value: f64 = row.iter().enumerate().map(|(to, chance)| chance * next(to)).sum();
                moved = moved.max((value - chain.values[level]).abs());
                chain.values[level] = value;
            }
        }
        if moved < PRECISION {
            return;
        }
    }
}

/// How often a chain is at each level.
fn in_the_long_run(steps: &[[f64; LEVELS]; LEVELS]) -> [f64; LEVELS] {
    /// The levels mix within a few steps, the prior sees to that.
    const STEPS: usize = 64;
    let mut shares = [1.0 / LEVELS as f64; LEVELS];
    for _ in 0..STEPS {
        let mut next = [0.0; LEVELS];
        for (row, share) in steps.iter().zip(shares) {
            for (to, chance) in row.iter().enumerate() {
                next[to] += share * chance;
            }
        }
        shares = next;
    }
    shares
}

/// The link whose future is worth most, the price of a change included.
pub(super) struct Mdp;

impl Policy for Mdp {
    fn name(&self) -> PolicyName {
        PolicyName::Mdp
    }

    fn rule(&self) -> &'static str {
        "highest value of what is to come"
    }

    fn learns(&self) -> bool {
        true
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let link = links[at].link;
        let stays = request.standing.is_some_and(|standing| standing.link == link);
        let price = if stays { 0.0 } else { CHANGE * (1.0 - DISCOUNT) };
        let value = request.learned.arm(link).and_then(|arm| arm.chain.worth());
        Worth::of(&links[at], value.map(|value| Score::new(value - price)))
    }

    fn choose(&self, request: &Request<'_>, links: &[Candidate]) -> Choice {
        // The price of a change is in the values: a margin on top would count it twice.
        let damping = Damping { margin: 0.0, ..*request.damping };
        let request = Request { damping: &damping, ..*request };
        super::damping::settle(&request, links, self.rule(), |at| self.worth(&request, links, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_solve_the_equation_of_optimality() {
        let mut chains = [Chain::default(), Chain::default()];
        for step in 0..100 {
            chains[0].on_sample(Some(0.005));
            chains[1].on_sample(if step % 10 < 5 { Some(0.002) } else { None });
        }
        plan(chains.iter_mut());
        let steps = chains.each_ref().map(Chain::probabilities);
        let usual = steps.each_ref().map(in_the_long_run);
        let average = |at: usize| usual[at].iter().zip(chains[at].values).map(|(s, v)| s * v).sum::<f64>();
        for at in 0..2 {
            for (level, row) in steps[at].iter().enumerate() {
                let next = |to: usize| reward(to) + DISCOUNT * chains[at].values[to].max(average(1 - at) - CHANGE);
                let value: f64 = row.iter().enumerate().map(|(to, chance)| chance * next(to)).sum();
                assert!((value - chains[at].values[level]).abs() < 1e-5, "link {at}, level {level}");
            }
        }
        assert!(chains[0].worth().unwrap() > chains[1].worth().unwrap(), "the one that does not fall out");
        assert!((0.0..=1.0).contains(&chains[0].worth().unwrap()));
    }

    #[test]
    fn levels_cover_every_delay() {
        assert_eq!(
            [Some(0.0), Some(1e-9), Some(0.001), Some(0.999), Some(1.0), Some(1e9), None].map(level),
            [0, 0, 0, 6, 7, 7, 7]
        );
        assert_eq!(level(Some(f64::NAN)), LOST);
    }
}
