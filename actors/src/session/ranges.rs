//! A set of numbers kept as ranges: which records arrived, which bytes of a message are here.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of `u64`, stored as disjoint half-open ranges that never touch each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start of each range → its end.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds a range. An empty or reversed range adds nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        // In-order arrival only ever extends the last range.
        if let Some(mut last) = self.ranges.last_entry()
            && *last.get() == range.start
        {
            *last.get_mut() = range.end;
            return;
        }
        self.insert_slow(range);
    }

    fn insert_slow(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        if let Some((&before, &before_end)) = self.ranges.range(..=start).next_back()
            && before_end >= start
        {
            if before_end >= end {
                return;
            }
            start = before;
        }
        while let Some((&next, &next_end)) = self.ranges.range(start..).next() {
            if next > end {
                break;
            }
            end = end.max(next_end);
            self.ranges.remove(&next);
        }
        self.ranges.insert(start, end);
    }

    /// Whether a number is in the set.
    pub fn contains(&self, value: u64) -> bool {
        self.ranges.range(..=value).next_back().is_some_and(|(_, &end)| value < end)
    }

    /// Whether every number of a range is in the set.
    pub fn covers(&self, range: Range<u64>) -> bool {
        range.start >= range.end
            || self.ranges.range(..=range.start).next_back().is_some_and(|(_, &end)| range.end <= end)
    }

    /// The ranges, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
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
        self.ranges.last_key_value().map(|(_, &end)| end - 1)
    }

    /// Forgets the lowest range.
    pub fn remove_lowest(&mut self) {
        self.ranges.pop_first();
    }

    /// Forgets the lowest ranges until at most `most` are left.
    pub fn keep_highest(&mut self, most: usize) {
        while self.ranges.len() > most {
            self.ranges.pop_first();
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
