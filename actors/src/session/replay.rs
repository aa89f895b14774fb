//! Which record numbers of one link have been opened already.

use bowline_messages::wire::RecordNumber;

/// Words of the bitmap; a power of two.
const WORDS: usize = 128;
const WORD_BITS: u64 = u64::BITS as u64;
/// How far behind the newest record an older one may arrive, in records: one word less than the bitmap holds, because the newest
/// word is only partly used (RFC 6479). Lanes of one link may reorder by as much as is in flight on it.
pub const WINDOW: u64 = (WORDS as u64 - 1) * WORD_BITS;

/// Why a number is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// It was opened before.
    Seen,
    /// It is further behind the newest than the window reaches, so it cannot be told.
    TooOld,
}

/// A sliding window over record numbers. Numbers are checked before the cryptography and marked after it, so a forgery moves
/// nothing. Over a link that keeps their order it takes no more than two words; the bitmap comes with the first gap.
#[derive(Debug, Clone, Default)]
pub struct ReplayWindow {
    /// None as long as everything below `next` was marked.
    bits: Option<Box<[u64; WORDS]>>,
    /// The first number that is newer than everything marked.
    next: u64,
}

impl ReplayWindow {
    /// Whether a number may still come.
    ///
    /// # Errors
    /// [`Replay`].
    #[inline]
    pub fn check(&self, number: RecordNumber) -> Result<(), Replay> {
        if number.0 >= self.next {
            Ok(())
        } else if self.next - number.0 > WINDOW {
            Err(Replay::TooOld)
        } else {
            match &self.bits {
                Some(bits) if bits[word(number.0)] & bit(number.0) == 0 => Ok(()),
                Some(_) | None => Err(Replay::Seen),
            }
        }
    }

    /// Marks a number as opened. Call it only for numbers that [`ReplayWindow::check`] accepted.
    #[inline]
    pub fn mark(&mut self, number: RecordNumber) {
        let number = number.0;
        if self.bits.is_none() && number == self.next {
            self.next = number.saturating_add(1);
            return;
        }
        let bits = self.bits.get_or_insert_with(|| Box::new(all_below(self.next)));
        if number >= self.next {
            // Words that the window moves onto held numbers that are too old now.
            let (old, new) = (self.next.wrapping_sub(1) / WORD_BITS, number / WORD_BITS);
            let stale = if self.next == 0 { WORDS as u64 } else { (new - old).min(WORDS as u64) };
            for step in 0..stale {
                bits[((new - step.min(new)) % WORDS as u64) as usize] = 0;
            }
            self.next = number.saturating_add(1);
        }
        bits[word(number)] |= bit(number);
    }

    /// Whether every number below this one was marked, and no other: nothing with a lower number can still come.
    pub fn is_complete_below(&self, number: RecordNumber) -> bool {
        self.bits.is_none() && self.next == number.0
    }

    /// The first number newer than everything that was marked.
    pub const fn next(&self) -> RecordNumber {
        RecordNumber(self.next)
    }
}

/// The bitmap of a window in which everything below a number is marked and nothing else.
fn all_below(next: u64) -> [u64; WORDS] {
    let mut bits = [u64::MAX; WORDS];
    bits[word(next)] = bit(next) - 1;
    bits
}

#[inline]
const fn word(number: u64) -> usize {
    (number / WORD_BITS % WORDS as u64) as usize
}

#[inline]
const fn bit(number: u64) -> u64 {
    1 << (number % WORD_BITS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_window_reaches_back_at_least_4096_records() {
        const { assert!(WINDOW >= 4096) };
        let mut window = ReplayWindow::default();
        window.mark(RecordNumber(10_000));
        assert_eq!(window.check(RecordNumber(10_001 - WINDOW)), Ok(()));
        assert_eq!(window.check(RecordNumber(10_000 - WINDOW)), Err(Replay::TooOld));
    }

    #[test]
    fn the_largest_number_does_not_overflow() {
        let mut window = ReplayWindow::default();
        window.mark(RecordNumber(u64::MAX - 1));
        assert_eq!(window.check(RecordNumber(u64::MAX - 1)), Err(Replay::Seen));
        assert_eq!(window.check(RecordNumber(5)), Err(Replay::TooOld));
    }

    /// A jump forward of one of the sizes at which a bitmap goes wrong, or a step back.
    fn step() -> impl Strategy<Value = i64> {
        prop_oneof![-9000..9000i64, -70..70i64, Just(64), Just(WINDOW as i64), Just(1 << 40), 8000..8300i64]
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_everything_seen(steps in proptest::collection::vec(step(), 1..400)) {
            let mut window = ReplayWindow::default();
            let mut seen = BTreeSet::new();
            let mut at = 0i64;
            for step in steps {
                at = (at + step).max(0);
                let number = at as u64;
                let next = seen.last().map_or(0, |newest| newest + 1);
                let expected = if number < next && next - number > WINDOW {
                    Err(Replay::TooOld)
                } else if seen.contains(&number) {
                    Err(Replay::Seen)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.check(RecordNumber(number)), expected, "number {}", number);
                if expected.is_ok() {
                    window.mark(RecordNumber(number));
                    seen.insert(number);
                }
            }
        }
    }
}
