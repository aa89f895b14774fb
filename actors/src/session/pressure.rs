//! How a node gets smaller when its memory fills up: what it stops taking, in which order. Pure.

use std::cell::Cell;
use std::time::Duration;

use bowline_messages::MessageClass;

/// How soon a session that refuses messages looks again whether there is room.
pub(crate) const RECHECK: Duration = Duration::from_millis(100);

/// How full the memory for messages is. Each step takes less than the one before, and none takes back what was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Pressure {
    /// Everything is taken.
    #[default]
    Calm,
    /// From three quarters on: no session begins with a peer that has none; it is told `busy`.
    NoNewcomers,
    /// From seven eighths on: besides, background and bulk messages and streams are refused as by a full queue.
    NoPatient,
    /// From fifteen sixteenths on: besides, all but real-time and critical messages are.
    UrgentOnly,
    /// At the limit: every message is.
    Full,
}

impl Pressure {
    /// The pressure when so many bytes of so many are in use. A limit of 0 is none.
    #[must_use]
    pub fn of(used: u64, limit: u64) -> Self {
        let reached = |sixteenths: u128| limit > 0 && u128::from(used) * 16 >= u128::from(limit) * sixteenths;
        match () {
            () if reached(16) => Self::Full,
            () if reached(15) => Self::UrgentOnly,
            () if reached(14) => Self::NoPatient,
            () if reached(12) => Self::NoNewcomers,
            () => Self::Calm,
        }
    }

    /// Whether messages of a class are refused.
    #[must_use]
    pub fn refuses(self, class: MessageClass) -> bool {
        match class {
            MessageClass::Realtime | MessageClass::Critical => self >= Self::Full,
            MessageClass::Streaming => self >= Self::UrgentOnly,
            MessageClass::Background | MessageClass::Bulk => self >= Self::NoPatient,
        }
    }

    /// Whether peers without a session are refused.
    #[must_use]
    pub fn refuses_newcomers(self) -> bool {
        self >= Self::NoNewcomers
    }
}

/// What the sessions of a node hold together.
#[derive(Debug, Default)]
pub struct MemoryGauge(Cell<u64>);

impl MemoryGauge {
    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.get()
    }

    /// A session holds so many bytes now instead of those it held when it said so last.
    pub fn replace(&self, before: u64, now: u64) {
        self.0.set(self.0.get().saturating_sub(before).saturating_add(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_as_stated_and_no_limit_is_no_pressure() {
        let at = |percent: u64| Pressure::of(percent * 10, 1000);
        assert_eq!(
            [0, 74, 75, 87, 88, 93, 94, 99, 100, 200].map(at),
            [
                Pressure::Calm,
                Pressure::Calm,
                Pressure::NoNewcomers,
                Pressure::NoNewcomers,
                Pressure::NoPatient,
                Pressure::NoPatient,
                Pressure::UrgentOnly,
                Pressure::UrgentOnly,
                Pressure::Full,
                Pressure::Full,
            ]
        );
        assert_eq!(Pressure::of(u64::MAX, 0), Pressure::Calm);
        assert_eq!(Pressure::of(u64::MAX, u64::MAX), Pressure::Full);
    }

    #[test]
    fn urgent_messages_are_the_last_to_be_refused() {
        let taken = |pressure: Pressure| MessageClass::ALL.iter().filter(|class| !pressure.refuses(**class)).count();
        let steps = [Pressure::Calm, Pressure::NoNewcomers, Pressure::NoPatient, Pressure::UrgentOnly, Pressure::Full];
        assert_eq!(steps.map(taken), [5, 5, 3, 2, 0]);
        assert!(!Pressure::UrgentOnly.refuses(MessageClass::Critical));
    }
}
