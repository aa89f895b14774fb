//! The way back to work: the recovery, and what the application is told.

use std::time::{Duration, Instant};

use bowline_messages::partition::{PartitionEvent, PauseReason, RecoveryFailure, RecoveryStep, Side};

use super::super::metrics;
use super::super::recovery::{Recovery, StepError};
use super::{Application, Partition, PartitionOutput};

impl Partition {
    /// A step of the recovery that was asked for by [`PartitionOutput::Recover`] is done.
    ///
    /// # Errors
    /// [`StepError`] when the recovery is not at this step: it took too long, or the group fell apart meanwhile.
    pub fn on_step_done(&mut self, now: Instant, step: RecoveryStep) -> Result<Vec<PartitionOutput>, StepError> {
        let error = StepError { done: step, step: RecoveryStep::Complete };
        let entered = self.recovery.as_mut().ok_or(error)?.on_done(now, step)?;
        self.enter(now, entered);
        Ok(self.finish(now))
    }

    /// A step of the recovery came to nothing.
    pub fn on_step_failed(&mut self, now: Instant, reason: RecoveryFailure) -> Vec<PartitionOutput> {
        self.fail_recovery(now, reason);
        self.finish(now)
    }

    /// The application has finished what it began, and takes on nothing.
    pub fn on_paused(&mut self, now: Instant) -> Vec<PartitionOutput> {
        if let Application::Pausing(reason) = self.application {
            self.application = Application::Paused(reason);
        }
        self.finish(now)
    }

    /// The application goes on; or cannot, and stays paused until the recovery is tried again.
    pub fn on_resumed(&mut self, now: Instant, goes_on: bool) -> Vec<PartitionOutput> {
        if self.application == Application::Resuming {
            if goes_on {
                self.application = Application::Running;
                self.finalize(now);
            } else {
                self.application = Application::Paused(PauseReason::Recovering);
                self.fail_recovery(now, RecoveryFailure::Refused);
            }
        }
        self.finish(now)
    }

    /// Begins a recovery, unless one is under way.
    pub(super) fn recover(&mut self, now: Instant) {
        if self.recovery.as_ref().is_some_and(|recovery| recovery.deadline().is_some()) {
            return;
        }
        self.recovery = Some(Recovery::start(now, self.config.step_timeout));
        self.emit(PartitionEvent::Recovery { step: RecoveryStep::Initializing });
        self.advance(now);
    }

    /// Goes on with the steps that need nobody else.
    fn advance(&mut self, now: Instant) {
        while let Some(recovery) = &mut self.recovery {
            let step = recovery.step();
            let by_itself = match step {
                RecoveryStep::Initializing => true,
                RecoveryStep::DetectingPeers => !self.detector.is_suspected() || self.contest.token(now).is_some(),
                RecoveryStep::Finalizing => self.application == Application::Running,
                RecoveryStep::SynchronizingState
                | RecoveryStep::ValidatingConsensus
                | RecoveryStep::Complete
                | RecoveryStep::Failed(_) => false,
            };
            if !by_itself {
                return;
            }
            let Ok(entered) = recovery.on_done(now, step) else { return };
            self.enter(now, entered);
        }
    }

    /// Tells of a step that begins, and asks for what it needs.
    fn enter(&mut self, now: Instant, step: RecoveryStep) {
        self.emit(PartitionEvent::Recovery { step });
        match step {
            RecoveryStep::SynchronizingState | RecoveryStep::ValidatingConsensus => {
                self.outputs.push(PartitionOutput::Recover(step));
            }
            RecoveryStep::Complete => {
                let took = self.recovery.take().map_or(Duration::ZERO, |recovery| recovery.took(now));
                metrics::recovered(&mut self.metrics, took);
                self.helped();
            }
            RecoveryStep::Initializing
            | RecoveryStep::DetectingPeers
            | RecoveryStep::Finalizing
            | RecoveryStep::Failed(_) => {}
        }
    }

    fn finalize(&mut self, now: Instant) {
        if self.recovery.as_ref().is_some_and(|recovery| recovery.step() == RecoveryStep::Finalizing) {
            self.advance(now);
        }
    }

    pub(super) fn recovery_timeout(&mut self, now: Instant) {
        let over = self.recovery.as_mut().and_then(|recovery| recovery.on_timeout(now));
        if let Some(step) = over {
            self.emit(PartitionEvent::Recovery { step });
            self.on_recovery_failed(now);
        }
    }

    /// The group fell apart again, as this node sees it: what was recovered from is not over.
    pub(super) fn split_again(&mut self) {
        let failed = self.recovery.as_mut().and_then(|recovery| recovery.on_failed(RecoveryFailure::SplitAgain));
        if let Some(step) = failed {
            self.recovery = None;
            self.emit(PartitionEvent::Recovery { step });
        }
    }

    fn fail_recovery(&mut self, now: Instant, reason: RecoveryFailure) {
        let failed = self.recovery.as_mut().and_then(|recovery| recovery.on_failed(reason));
        if let Some(step) = failed {
            self.emit(PartitionEvent::Recovery { step });
            self.on_recovery_failed(now);
        }
    }

    fn on_recovery_failed(&mut self, now: Instant) {
        self.recovery = None;
        if self.application == Application::Resuming {
            self.application = Application::Paused(PauseReason::Recovering);
        }
        if let Some(escalation) = &mut self.escalation {
            let outputs = escalation.on_failed(now);
            self.on_escalation(now, outputs);
        }
        // Whoever is active tries again; whoever is not begins anew when it becomes so.
        if self.contest.token(now).is_some() && self.application != Application::Running {
            self.retry_at = Some(now + self.config.answer);
        }
    }

    /// Tells the application what follows from the lease, the detector and the recovery.
    pub(super) fn steer_application(&mut self, now: Instant) {
        self.advance(now);
        let token = self.token(now);
        let excluded = self.evidence.is_excluded(&self.me);
        let loses = self.detector.is_suspected() && self.side == Side::Minority;
        match (self.application, token) {
            (Application::Running | Application::Resuming, None) => {
                let reason = if excluded { PauseReason::Excluded } else { PauseReason::NoLease };
                self.pause(reason, Duration::ZERO);
            }
            (Application::Running | Application::Resuming, Some(_)) if loses => {
                let until = self.contest.lease().active_until(now);
                let grace = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
                self.pause(PauseReason::NoLease, grace);
            }
            (Application::Paused(_) | Application::Pausing(_), Some(token)) if !loses => {
                let ready = self.recovery.as_ref().is_some_and(|of| of.step() == RecoveryStep::Finalizing);
                if ready {
                    self.application = Application::Resuming;
                    self.outputs.push(PartitionOutput::Resume { token });
                } else if self.recovery.is_none() && self.retry_at.is_none_or(|at| at <= now) {
                    self.retry_at = None;
                    self.recover(now);
                }
            }
            (Application::Running | Application::Resuming, Some(_))
            | (Application::Paused(_) | Application::Pausing(_), Some(_) | None) => {}
        }
    }

    fn pause(&mut self, reason: PauseReason, grace: Duration) {
        self.application = Application::Pausing(reason);
        self.outputs.push(PartitionOutput::Pause { reason, grace });
    }
}
