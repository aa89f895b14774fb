//! How a group that is together again gets back to work.
//!
//! ```text
//! Initializing ─▶ DetectingPeers ─▶ SynchronizingState ─▶ ValidatingConsensus ─▶ Finalizing ─▶ Complete
//!       └──────────────┴───────────────────┴──────────────────────┴──────────────────┴───────▶ Failed(reason)
//! ```
//!
//! Each step has its time. The steps that may follow each other are in one table, [`RecoveryTable`]; nothing else is taken.

use std::time::{Duration, Instant};

use bowline_messages::partition::{RecoveryFailure, RecoveryStep};

/// Which step may follow which. Every step that is not over may fail.
pub struct RecoveryTable;

impl RecoveryTable {
    /// The step after this one, when all goes well.
    pub const fn next(step: RecoveryStep) -> Option<RecoveryStep> {
        match step {
            RecoveryStep::Initializing => Some(RecoveryStep::DetectingPeers),
            RecoveryStep::DetectingPeers => Some(RecoveryStep::SynchronizingState),
            RecoveryStep::SynchronizingState => Some(RecoveryStep::ValidatingConsensus),
            RecoveryStep::ValidatingConsensus => Some(RecoveryStep::Finalizing),
            RecoveryStep::Finalizing => Some(RecoveryStep::Complete),
            RecoveryStep::Complete | RecoveryStep::Failed(_) => None,
        }
    }

    /// Whether a recovery in this step is over.
    pub const fn is_over(step: RecoveryStep) -> bool {
        Self::next(step).is_none()
    }
}

/// A step that may not be taken. The caller's mistake; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{done:?} is not what the recovery is at, which is {step:?}")]
pub struct StepError {
    /// What was said to be done.
    pub done: RecoveryStep,
    /// What the recovery is at.
    pub step: RecoveryStep,
}

/// One recovery.
#[derive(Debug, Clone)]
pub struct Recovery {
    step: RecoveryStep,
    began: Instant,
    until: Instant,
    step_timeout: Duration,
}

impl Recovery {
    /// Begins.
    pub fn start(now: Instant, step_timeout: Duration) -> Self {
        Self { step: RecoveryStep::Initializing, began: now, until: now + step_timeout, step_timeout }
    }

    /// A step is done; the next one begins, and is returned.
    ///
    /// # Errors
    /// [`StepError`] when it is at another step: news of one that timed out may come late.
    pub fn on_done(&mut self, now: Instant, done: RecoveryStep) -> Result<RecoveryStep, StepError> {
        let next = RecoveryTable::next(self.step).filter(|_| done == self.step);
        let next = next.ok_or(StepError { done, step: self.step })?;
        self.step = next;
        self.until = now + self.step_timeout;
        Ok(next)
    }

    /// It comes to nothing. Says so, unless it is over.
    pub fn on_failed(&mut self, reason: RecoveryFailure) -> Option<RecoveryStep> {
        if RecoveryTable::is_over(self.step) {
            return None;
        }
        self.step = RecoveryStep::Failed(reason);
        Some(self.step)
    }

    /// Does what is due: a step that took too long ends it.
    pub fn on_timeout(&mut self, now: Instant) -> Option<RecoveryStep> {
        if now < self.until { None } else { self.on_failed(RecoveryFailure::TimedOut) }
    }

    /// When [`Recovery::on_timeout`] is next due.
    pub fn deadline(&self) -> Option<Instant> {
        (!RecoveryTable::is_over(self.step)).then_some(self.until)
    }

    /// What it is at.
    pub const fn step(&self) -> RecoveryStep {
        self.step
    }

    /// How long it has taken by now.
    pub fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const STEP: Duration = Duration::from_secs(10);
    const ORDER: [RecoveryStep; 6] = [
        RecoveryStep::Initializing,
        RecoveryStep::DetectingPeers,
        RecoveryStep::SynchronizingState,
        RecoveryStep::ValidatingConsensus,
        RecoveryStep::Finalizing,
        RecoveryStep::Complete,
    ];

    #[test]
    fn steps_follow_each_other_in_order() {
        let now = Instant::now();
        let mut recovery = Recovery::start(now, STEP);
        for pair in ORDER.windows(2) {
            assert_eq!(recovery.step(), pair[0]);
            assert_eq!(recovery.on_done(now, pair[0]), Ok(pair[1]));
        }
        assert_eq!(recovery.deadline(), None);
        assert!(recovery.on_done(now, RecoveryStep::Complete).is_err());
        assert_eq!(recovery.on_failed(RecoveryFailure::Refused), None, "what is over does not fail");
    }

    #[test]
    fn every_step_has_its_time() {
        for (steps, late) in ORDER.iter().enumerate().take(5) {
            let mut now = Instant::now();
            let mut recovery = Recovery::start(now, STEP);
            for done in ORDER.iter().take(steps) {
                now += STEP - Duration::from_millis(1);
                assert_eq!(recovery.on_timeout(now), None);
                recovery.on_done(now, *done).unwrap();
            }
            let due = recovery.deadline().unwrap();
            assert_eq!(due, now + STEP);
            assert_eq!(recovery.on_timeout(due), Some(RecoveryStep::Failed(RecoveryFailure::TimedOut)));
            assert!(recovery.on_done(due, *late).is_err(), "too late");
        }
    }

    proptest! {
        #[test]
        fn no_step_is_left_out(news in prop::collection::vec(0..6_usize, 0..40)) {
            let now = Instant::now();
            let mut recovery = Recovery::start(now, STEP);
            let mut at = 0;
            for done in news {
                let taken = recovery.on_done(now, ORDER[done]).is_ok();
                prop_assert_eq!(taken, done == at && at < 5);
                at += usize::from(taken);
                prop_assert_eq!(recovery.step(), ORDER[at]);
            }
        }
    }
}
