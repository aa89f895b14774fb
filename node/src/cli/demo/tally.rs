//! Counting what arrived, without remembering every message. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Numbers that arrived ahead of a missing one and are remembered at most. Exactly-once in order leaves none.
const AHEAD_MAX: usize = 100_000;

/// What arrived of a sequence of messages that the sender numbers from 0.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    next: u64,
    ahead: BTreeSet<u64>,
    count: Count,
}

/// The outcome of a [`Tally`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Count {
    /// Messages that arrived, each counted once.
    pub delivered: u64,
    /// Arrivals of messages that had arrived before.
    pub duplicated: u64,
    /// Messages that arrived after a later one.
    pub out_of_order: u64,
}

impl Tally {
    /// Notes an arrival.
    pub fn arrived(&mut self, number: u64) {
        if number < self.next || self.ahead.contains(&number) {
            self.count.duplicated += 1;
            return;
        }
        if self.ahead.last().is_some_and(|last| number < *last) {
            self.count.out_of_order += 1;
        }
        self.count.delivered += 1;
        if number != self.next {
            if self.ahead.len() < AHEAD_MAX {
                self.ahead.insert(number);
            }
            return;
        }
        self.next += 1;
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
    }

    /// What was counted so far.
    pub fn count(&self) -> Count {
        self.count
    }
}

/// The longest time without an arrival in `from..until`, in nanoseconds. A gap that begins before `from` counts whole; of one that
/// goes on behind `until`, where the next fault is, only what lies before: the rest is that fault's. `None` when nothing arrived before or nothing after: then it cannot be told.
pub fn longest_gap<T>(arrivals: &[T], when: impl Fn(&T) -> u64, from: u64, until: u64) -> Option<u64> {
    let first = arrivals.partition_point(|arrival| when(arrival) <= from).checked_sub(1)?;
    let pairs = arrivals[first..].windows(2).map(|pair| (when(&pair[0]), when(&pair[1])));
    pairs.take_while(|(begin, _)| *begin < until).map(|(begin, end)| end.min(until) - begin).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(numbers: &[u64]) -> (u64, u64, u64) {
        let mut tally = Tally::default();
        for number in numbers {
            tally.arrived(*number);
        }
        let Count { delivered, duplicated, out_of_order } = tally.count();
        (delivered, duplicated, out_of_order)
    }

    #[test]
    fn a_clean_sequence_has_nothing_to_complain_about() {
        assert_eq!(count(&[0, 1, 2, 3]), (4, 0, 0));
    }

    #[test]
    fn duplicates_and_disorder_are_told_apart() {
        assert_eq!(count(&[0, 0, 1]), (2, 1, 0));
        assert_eq!(count(&[0, 2, 1, 3]), (4, 0, 1));
        assert_eq!(count(&[0, 2, 2, 1, 1]), (3, 2, 1));
        assert_eq!(count(&[5, 6]), (2, 0, 0), "the missing ones show in the difference to what was sent");
    }

    #[test]
    fn a_gap_counts_where_it_overlaps() {
        let longest_gap = |arrivals: &[u64], from, until| super::longest_gap(arrivals, |at| *at, from, until);
        let arrivals = [0, 10, 20, 95, 100, 110];
        assert_eq!(longest_gap(&arrivals, 25, 105), Some(75), "it began before");
        assert_eq!(longest_gap(&arrivals, 96, 105), Some(5), "the rest lies behind");
        assert_eq!(longest_gap(&arrivals, 0, 15), Some(10));
        assert_eq!(longest_gap(&arrivals, 111, 120), None);
        assert_eq!(longest_gap(&[], 0, 1), None);
    }
}
