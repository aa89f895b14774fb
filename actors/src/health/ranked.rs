//! The last samples of a measure, and the same by size: for statistics by rank that are asked for with every sample.

use super::window::Window;

/// The last samples, oldest first, and in order. What is not a finite number is not taken.
#[derive(Debug, Clone, Default)]
pub struct Ranked {
    samples: Window,
    ordered: Vec<f64>,
}

impl Ranked {
    /// Takes a sample, dropping the oldest when full.
    pub fn push(&mut self, sample: f64) {
        let oldest = self.samples.oldest_if_full();
        if !self.samples.push(sample) {
            return;
        }
        if let Some(Ok(place)) = oldest.map(|oldest| self.place(oldest)) {
            self.ordered.remove(place);
        }
        let place = self.place(sample).unwrap_or_else(|place| place);
        self.ordered.insert(place, sample);
    }

    fn place(&self, sample: f64) -> Result<usize, usize> {
        self.ordered.binary_search_by(|known| known.total_cmp(&sample))
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.ordered.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }

    /// The samples, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = f64> + '_ {
        self.samples.iter()
    }

    /// The sample below which so many tenths of all lie; `None` without samples.
    pub fn tenths(&self, tenths: usize) -> Option<f64> {
        let place = self.ordered.len() * tenths / 10;
        self.ordered.get(place.min(self.ordered.len().checked_sub(1)?)).copied()
    }

    /// The median; `None` without samples.
    pub fn median(&self) -> Option<f64> {
        let upper = *self.ordered.get(self.ordered.len() / 2)?;
        Some(self.lower_half_ends(upper, |place| self.ordered.get(place).copied()))
    }

    /// The median distance from the median; `None` without samples.
    pub fn median_deviation(&self) -> Option<f64> {
        let middle = self.median()?;
        // From the middle outwards, always to the nearer of the two next ones: the distances in order.
        let above = self.ordered.partition_point(|sample| *sample < middle);
        let (below, above) = self.ordered.split_at(above);
        let mut below = below.iter().rev().map(|sample| middle - sample).peekable();
        let mut above = above.iter().map(|sample| sample - middle).peekable();
        let mut distances = std::iter::from_fn(|| match (below.peek(), above.peek()) {
            (Some(down), Some(up)) if down < up => below.next(),
            (_, Some(_)) => above.next(),
            (_, None) => below.next(),
        });
        let half = self.ordered.len() / 2;
        let lower = half.checked_sub(1).and_then(|place| distances.nth(place));
        let upper = distances.next()?;
        Some(self.lower_half_ends(upper, |_| lower))
    }

    /// The middle of an even number of values: half way between the last of the lower half and the first of the upper one, which is the
    /// middle of an odd number.
    fn lower_half_ends(&self, upper: f64, at: impl Fn(usize) -> Option<f64>) -> f64 {
        let lower =
            (self.ordered.len() / 2).checked_sub(1).filter(|_| self.ordered.len().is_multiple_of(2)).and_then(at);
        lower.unwrap_or(upper) / 2.0 + upper / 2.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_sorting_every_time(
            samples in proptest::collection::vec(prop_oneof![any::<f64>(), (-9..9_i32).prop_map(f64::from)], 0..250),
        ) {
            let (mut ranked, mut plain) = (Ranked::default(), Window::default());
            for sample in samples {
                ranked.push(sample);
                plain.push(sample);
                prop_assert!(ranked.iter().eq(plain.iter()) && ranked.len() == plain.len());
                prop_assert_eq!((ranked.median(), ranked.median_deviation()), (plain.median(), plain.median_deviation()));
                let mut sorted: Vec<f64> = plain.iter().collect();
                sorted.sort_unstable_by(f64::total_cmp);
                prop_assert_eq!(ranked.tenths(9), sorted.get(sorted.len() * 9 / 10).copied());
            }
        }
    }
}
