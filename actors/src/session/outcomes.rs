//! How messages that are no longer queued ended, where it was not by acknowledgement: kept as ranges, bounded.

use std::collections::BTreeMap;

use bowline_messages::session::ReceiptState;

/// Ranges kept per channel; the lowest are forgotten first, and what is forgotten reads as unknown.
const RANGES_MAX: usize = 1024;

/// Final states other than `Acknowledged`, by sequence.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    ranges: BTreeMap<u64, (u64, ReceiptState)>,
    forgotten_below: u64,
}

impl Outcomes {
    /// Notes how a message ended, unless that was noted before: what is final does not change.
    pub(crate) fn insert(&mut self, sequence: u64, state: ReceiptState) {
        if self.get(sequence).is_some() {
            return;
        }
        let range = sequence..sequence + 1;
        if let Some((_, (end, before))) = self.ranges.range_mut(..range.start).next_back()
            && *end == range.start
            && *before == state
        {
            *end = range.end;
            return;
        }
        self.ranges.insert(range.start, (range.end, state));
        if self.ranges.len() > RANGES_MAX
            && let Some((_, (end, _))) = self.ranges.pop_first()
        {
            self.forgotten_below = end;
        }
    }

    /// How a message ended, if not by acknowledgement as far as is remembered.
    pub(crate) fn get(&self, sequence: u64) -> Option<ReceiptState> {
        let noted = self.ranges.range(..=sequence).next_back();
        match noted.filter(|(_, (end, _))| sequence < *end) {
            Some((_, (_, state))) => Some(*state),
            None if sequence < self.forgotten_below => Some(ReceiptState::Unknown),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_with_one_fate_share_a_range() {
        let mut outcomes = Outcomes::default();
        for sequence in 0..10_000 {
            outcomes.insert(sequence, ReceiptState::NotSent);
        }
        assert_eq!(outcomes.ranges.len(), 1);
        assert_eq!(outcomes.get(9_999), Some(ReceiptState::NotSent));
        assert_eq!(outcomes.get(10_000), None);
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_is_unknown() {
        let mut outcomes = Outcomes::default();
        for sequence in (0..10_000).step_by(2) {
            outcomes.insert(sequence, ReceiptState::Expired);
        }
        assert_eq!(outcomes.ranges.len(), RANGES_MAX);
        assert_eq!(outcomes.get(0), Some(ReceiptState::Unknown));
        assert_eq!(outcomes.get(9_998), Some(ReceiptState::Expired));
        assert_eq!(outcomes.get(9_999), None);
    }
}
