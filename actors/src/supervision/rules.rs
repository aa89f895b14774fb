//! The rules a supervisor goes by: what its specification says, as the [policy](super::policy) reads it.

use std::time::Duration;

use bowline_messages::supervision::{Restart, ShutdownMode, Strategy};

/// Restart intensity: more than `restarts` restarts within `period` and the supervisor gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts allowed within the period; zero means the first crash is one too many.
    pub restarts: u32,
    /// The period; also how long a child must live for its back-off to begin anew.
    pub period: Duration,
}

impl Default for Intensity {
    /// Five in sixty seconds: long enough for the back-off between restarts to matter.
    fn default() -> Self {
        Self { restarts: 5, period: Duration::from_secs(60) }
    }
}

/// Wait before a restart: none before the first, then drawn evenly from `min` to `min * 2^n`, `max` at most, where
/// `n` counts the child's crashes since it last lived for a whole intensity period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Shortest wait before a second restart.
    pub min: Duration,
    /// Longest wait.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_millis(100), max: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait after `failures` earlier crashes; `random` picks the place within the range.
    #[must_use]
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let ceiling =
            self.min.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(self.max).max(self.min);
        let span = (ceiling - self.min).as_nanos();
        let drawn = span * u128::from(random) / u128::from(u64::MAX);
        self.min + Duration::from_nanos(u64::try_from(drawn).unwrap_or(u64::MAX))
    }
}

/// What a supervisor does when its intensity is exceeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnExceeded {
    /// It ends with [`ExitReason::IntensityExceeded`](bowline_messages::supervision::ExitReason::IntensityExceeded), which its parent counts as a crash.
    #[default]
    Escalate,
    /// It ends with [`ExitReason::GroupEnded`](bowline_messages::supervision::ExitReason::GroupEnded), which no parent counts as a crash: a remote peer can end its own group
    /// and never spend the restarts of anything above.
    EndGroup,
}

/// The fixed part of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Who is restarted with whom.
    pub strategy: Strategy,
    /// How many restarts are too many.
    pub intensity: Intensity,
    /// How long to wait before one.
    pub backoff: Backoff,
    /// What then.
    pub on_exceeded: OnExceeded,
}

/// The part of a child's specification that the policy reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildRules {
    /// When it is restarted.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: ShutdownMode,
    /// Whether the whole group ends when this child ends for good (OTP's `significant`).
    pub significant: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn back_off_is_none_then_doubles_to_its_ceiling() {
        let backoff = Backoff::default();
        let ms = Duration::from_millis;
        assert_eq!(backoff.delay(0, u64::MAX), Duration::ZERO);
        assert_eq!(backoff.delay(1, 0), ms(100));
        assert_eq!(backoff.delay(1, u64::MAX), ms(200));
        assert_eq!(backoff.delay(3, u64::MAX), ms(800));
        for failures in 9..200 {
            assert_eq!(backoff.delay(failures, 0), ms(100));
            assert_eq!(backoff.delay(failures, u64::MAX), ms(30_000));
        }
    }
}
