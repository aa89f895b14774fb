//! Random draws from a seed: a stream of its own for everything that is random, so that one part can change without the others.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// The random numbers of one concern.
pub(super) fn stream(seed: u64, concern: u64) -> ChaCha12Rng {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    random.set_stream(concern);
    random
}

/// Normally distributed, mean 0, deviation 1 (Box and Muller).
pub(super) fn normal(random: &mut ChaCha12Rng) -> f64 {
    let (radius, angle): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Exponentially distributed with this mean.
pub(super) fn exponential(random: &mut ChaCha12Rng, mean: f64) -> f64 {
    -mean * (1.0 - random.random::<f64>()).ln()
}

/// Between two positive numbers, evenly on a logarithmic scale.
pub(super) fn log_uniform(random: &mut ChaCha12Rng, low: f64, high: f64) -> f64 {
    low * (high / low).powf(random.random())
}

/// A place in a list by weight; the last one when all weights are 0.
pub(super) fn weighted(random: &mut ChaCha12Rng, weights: &[f64]) -> usize {
    let mut left = random.random::<f64>() * weights.iter().sum::<f64>();
    for (at, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return at;
        }
    }
    weights.len().saturating_sub(1)
}
