//! The bandit by Thompson sampling.

use bowline_messages::PolicyName;

use super::{Candidate, Choice, Policy, Request, Score, Worth};

/// The link with the highest draw of Beta(1 + rewards, 1 + plays − rewards). Not damped, for the reason that UCB1 is not.
pub(super) struct Thompson;

impl Policy for Thompson {
    fn name(&self) -> PolicyName {
        PolicyName::Thompson
    }

    fn rule(&self) -> &'static str {
        "highest draw of what its reward may be"
    }

    fn learns(&self) -> bool {
        true
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let (plays, reward) = request.learned.arm(links[at].link).map_or((0.0, 0.0), |arm| (arm.plays, arm.reward));
        let mut random = Random(request.random ^ (u64::from(links[at].link.0) + 1).wrapping_mul(Random::STEP));
        let draw = beta(&mut random, 1.0 + reward, 1.0 + (plays - reward).max(0.0));
        Worth::of(&links[at], Some(Score::new(draw)))
    }

    fn choose(&self, request: &Request<'_>, links: &[Candidate]) -> Choice {
        let undamped = Request { standing: None, ..*request };
        super::damping::settle(&undamped, links, self.rule(), |at| self.worth(request, links, at))
    }
}

/// The generator SplitMix64 (Steele, Lea, Flood 2014): enough for sampling, never for keys.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Between 0 and 1, neither of them.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// By Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

fn beta(random: &mut Random, a: f64, b: f64) -> f64 {
    let (x, y) = (gamma(random, a), gamma(random, b));
    x / (x + y)
}

/// A draw of Gamma(shape, 1) for shapes of at least 1 (Marsaglia and Tsang 2000).
fn gamma(random: &mut Random, shape: f64) -> f64 {
    /// More than 95 % of the draws are taken at the first attempt: so many refusals in a row do not happen.
    const ATTEMPTS: usize = 32;
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    for _ in 0..ATTEMPTS {
        let x = random.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && random.unit().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_and_the_spread_of_the_distribution() {
        for (a, b) in [(1.0, 1.0), (3.0, 1.0), (20.0, 60.0)] {
            let mut random = Random(7);
            let draws: Vec<f64> = (0..20_000).map(|_| beta(&mut random, a, b)).collect();
            let mean = draws.iter().sum::<f64>() / 20_000.0;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
            let expected: f64 = a * b / ((a + b).powi(2) * (a + b + 1.0));
            assert!((mean - a / (a + b)).abs() < 0.01, "{a} {b}: {mean}");
            assert!((variance / expected - 1.0).abs() < 0.1, "{a} {b}: {variance} for {expected}");
        }
    }
}
