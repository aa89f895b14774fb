//! How far and how fast terms rise by what others say.
//!
//! Terms only ever grow, and what is stored of them is never taken back. So whoever could raise them as it likes would use them up: beyond the last one nobody
//! is ever elected again. Honest ones rise by one with each attempt, which takes some part of a second.

use std::time::{Duration, Instant};

/// A term may be so far above the one that is known here: twelve days of failed attempts, one each second. Whoever was left behind by more comes up in steps
/// of this size. A step each 10 ms, the shortest heartbeat, uses up all terms in a thousand years; each 250 ms, as it is by default, in thirty thousand.
pub const LEAP_MAX: u64 = 1 << 20;
/// Rises at once: candidates that stand together raise the term a few times within a moment, and who hears nothing of an end asks for a resolution again.
const AT_ONCE: u32 = 16;

/// How often something may happen because others say so that costs more than saying it: a term that rises is a write to the medium, and a resolution has all
/// participants hash their states.
#[derive(Debug, Clone)]
pub(super) struct Rises {
    every: Duration,
    left: u32,
    /// Since when the next one is earned.
    since: Instant,
}

impl Rises {
    /// Some at once, and then one more in each `every`.
    pub(super) const fn new(now: Instant, every: Duration) -> Self {
        Self { every, left: AT_ONCE, since: now }
    }

    /// Takes one, if one is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_nanos() / self.every.as_nanos().max(1);
        let earned = u32::try_from(passed).unwrap_or(u32::MAX).min(AT_ONCE);
        if self.left.saturating_add(earned) >= AT_ONCE {
            (self.left, self.since) = (AT_ONCE, now);
        } else {
            self.left += earned;
            self.since += self.every * earned;
        }
        let taken = self.left.checked_sub(1);
        self.left = taken.unwrap_or(0);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_at_once_and_then_one_each_time() {
        let (start, every) = (Instant::now(), Duration::from_millis(250));
        let mut rises = Rises::new(start, every);
        let within = |rises: &mut Rises, from: u32, to: u32| {
            // Asked for a hundred times in each of these quarters of a second.
            let times = (from * 100..to * 100).map(|n| start + every * n / 100);
            times.filter(|now| rises.take(*now)).count()
        };
        assert_eq!(within(&mut rises, 0, 40), AT_ONCE as usize + 39);
        assert!(rises.take(start + every * 1000));
        assert_eq!(within(&mut rises, 1000, 1001), AT_ONCE as usize - 1, "no more are saved up");
    }
}
