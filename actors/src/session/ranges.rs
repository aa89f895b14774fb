//! A set of numbers kept as ranges: which records arrived, which bytes of a message are here.

use std::ops::Range;

/// A set of `u64`, stored as disjoint half-open ranges that never touch each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// In ascending order. There are few, nearly always one: a vector beats a tree in time and in memory.
    ranges: Vec<Range<u64>>,
}

impl RangeSet {
    /// Adds a range. An empty or reversed range adds nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        match self.ranges.last_mut() {
            // In-order arrival only ever extends the last range.
            Some(last) if last.end == range.start => last.end = range.end,
            Some(last) if last.end > range.start => self.insert_slow(range),
            Some(_) | None => self.ranges.push(range),
        }
    }

    fn insert_slow(&mut self, range: Range<u64>) {
        // Those that the new one touches become one with it.
        let from = self.ranges.partition_point(|known| known.end < range.start);
        let until = self.ranges.partition_point(|known| known.start <= range.end);
        let touched = &self.ranges[from..until];
        let start = touched.first().map_or(range.start, |first| first.start.min(range.start));
        let end = touched.last().map_or(range.end, |last| last.end.max(range.end));
        self.ranges.splice(from..until, std::iter::once(start..end));
    }

    /// Whether a number is in the set.
    pub fn contains(&self, value: u64) -> bool {
        self.reaching(value).is_some_and(|range| value < range.end)
    }

    /// Whether every number of a range is in the set.
    pub fn covers(&self, range: Range<u64>) -> bool {
        range.start >= range.end || self.reaching(range.start).is_some_and(|known| range.end <= known.end)
    }

    /// The last range that begins at a number or before it.
    fn reaching(&self, value: u64) -> Option<&Range<u64>> {
        let behind = self.ranges.partition_point(|range| range.start <= value);
        self.ranges.get(behind.checked_sub(1)?)
    }

    /// The ranges, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
        self.ranges.iter().cloned()
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The greatest number in the set.
    pub fn max(&self) -> Option<u64> {
        self.ranges.last().map(|range| range.end - 1)
    }

    /// Forgets the lowest ranges until at most `most` are left.
    pub fn keep_highest(&mut self, most: usize) {
        let surplus = self.ranges.len().saturating_sub(most);
        if surplus > 0 {
            self.ranges.drain(..surplus);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(steps in prop::collection::vec((0u64..60, 0u64..12), 0..40)) {
            let mut set = RangeSet::default();
            let mut model = BTreeSet::new();
            for (start, length) in steps {
                set.insert(start..start + length);
                model.extend(start..start + length);
            }
            for value in 0..80 {
                prop_assert_eq!(set.contains(value), model.contains(&value));
                for end in value..80 {
                    prop_assert_eq!(set.covers(value..end), (value..end).all(|v| model.contains(&v)));
                }
            }
            prop_assert_eq!(set.max(), model.last().copied());
            let ranges: Vec<_> = set.iter().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(ranges.iter().map(|r| r.end - r.start).sum::<u64>(), model.len() as u64);
        }
    }
}
