//! Which packets of a member have come already.

use std::fmt;

/// How far behind the newest packet an older one may arrive, in packets.
pub const WINDOW: u64 = u128::BITS as u64;

/// A sliding window over the packets of one life of one member: 24 bytes, whatever comes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    life: u64,
    newest: u64,
    /// Bit n: the packet n behind the newest has come. 0: none has.
    seen: u128,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({}.{})", self.life, self.newest)
    }
}

impl Window {
    /// Whether a packet may still come: of this life or a later one, and not twice.
    pub const fn is_new(&self, life: u64, sequence: u64) -> bool {
        if life != self.life || self.seen == 0 {
            return life >= self.life;
        }
        match self.newest.checked_sub(sequence) {
            None => true,
            Some(behind) => behind < WINDOW && self.seen >> behind & 1 == 0,
        }
    }

    /// Marks a packet as come. Only for those that [`Window::is_new`] accepts, after their signature was checked.
    pub const fn mark(&mut self, life: u64, sequence: u64) {
        if life != self.life || self.seen == 0 {
            *self = Self { life, newest: sequence, seen: 1 };
        } else if sequence > self.newest {
            let ahead = sequence - self.newest;
            self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
            self.newest = sequence;
        } else if self.newest - sequence < WINDOW {
            self.seen |= 1 << (self.newest - sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_earlier_life_is_over() {
        let mut window = Window::default();
        window.mark(2, 5);
        assert!(!window.is_new(1, 6));
        assert!(window.is_new(3, 0));
        window.mark(3, 0);
        assert!(!window.is_new(2, 6) && !window.is_new(3, 0) && window.is_new(3, 1));
    }

    proptest! {
        #[test]
        fn nothing_comes_twice_and_nothing_recent_is_refused(numbers in proptest::collection::vec(0..400u64, 0..300)) {
            let (mut window, mut seen) = (Window::default(), BTreeSet::new());
            for number in numbers {
                let new = window.is_new(1, number);
                let reach = seen.last().copied().unwrap_or(0);
                if seen.contains(&number) {
                    prop_assert!(!new);
                } else if number + WINDOW > reach {
                    prop_assert!(new);
                }
                if new {
                    window.mark(1, number);
                    seen.insert(number);
                }
            }
        }
    }
}
