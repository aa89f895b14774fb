//! Numbers of messages that will not come, ahead of where a channel is. Pure.
//!
//! The peer decides in which order they become known and how many gaps are between them, so every step costs the same however many
//! there are.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of numbers as ranges that never touch each other.
#[derive(Debug, Default)]
pub(crate) struct Skips {
    /// From the first number of a range to the one behind its last.
    ranges: BTreeMap<u64, u64>,
}

impl Skips {
    /// Adds a range. An empty or reversed one adds nothing.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        if let Some((from, until)) = self.reaching(start)
            && start <= until
        {
            start = from;
            end = end.max(until);
        }
        // Those that the new one touches become one with it: each is removed once and was added once.
        while let Some((from, until)) = self.ranges.range(start..=end).next().map(|(from, until)| (*from, *until)) {
            self.ranges.remove(&from);
            end = end.max(until);
        }
        self.ranges.insert(start, end);
    }

    /// Whether a number is in the set.
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.reaching(number).is_some_and(|(_, until)| number < until)
    }

    /// The last range that begins at a number or before it.
    fn reaching(&self, number: u64) -> Option<(u64, u64)> {
        self.ranges.range(..=number).next_back().map(|(from, until)| (*from, *until))
    }

    /// Takes the lowest range out if it begins at a number or before it; gives where it ends.
    pub(crate) fn take_from(&mut self, number: u64) -> Option<u64> {
        let first = self.ranges.first_entry().filter(|first| *first.key() <= number)?;
        Some(first.remove())
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether nothing is in the set.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The lowest number.
    #[cfg(test)]
    pub(crate) fn first(&self) -> Option<u64> {
        self.ranges.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(
            steps in prop::collection::vec((0u64..60, 0u64..12), 0..40),
            takes in prop::collection::vec(0u64..80, 0..6),
        ) {
            let (mut skips, mut model) = (Skips::default(), BTreeSet::new());
            for (start, length) in steps {
                skips.insert(start..start + length);
                model.extend(start..start + length);
            }
            for at in takes {
                let first = model.first().copied().filter(|first| *first <= at);
                let end = first.map(|first| (first..).find(|number| !model.contains(number)).unwrap_or(first));
                prop_assert_eq!(skips.take_from(at), end);
                model = end.map_or(model.clone(), |end| model.split_off(&end));
            }
            for number in 0..90 {
                prop_assert_eq!(skips.contains(number), model.contains(&number));
            }
            let runs = model.iter().filter(|number| number.checked_sub(1).is_none_or(|before| !model.contains(&before)));
            prop_assert_eq!((skips.len(), skips.first()), (runs.count(), model.first().copied()));
        }
    }
}
