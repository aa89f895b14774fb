//! What the machines want done, in order, and what the group does of it itself.

use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::network::Concern;
use bowline_messages::partition::{PartitionEvent, PauseReason, RecoveryFailure, RecoveryStep, Term};
use bytes::Bytes;

use super::shared::{Carried, Command, StateMachine};
use super::{Group, GroupOutput, Record};
use crate::partition::log::{LogOutput, Membership, Position, SnapshotError};
use crate::partition::machine::PartitionOutput;
use crate::partition::state::{ResolutionOutput, RollbackReason};
use crate::partition::strategy::Order;

/// Steps that wait for the medium, beyond which packets are dropped.
const WAITING_MAX: usize = 4096;

/// One thing to be done; behind something to be written it waits.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Is made durable.
    Write(Record),
    /// Is for whoever drives the group.
    Out(GroupOutput),
    /// Of the partition machine's.
    Partition(PartitionOutput),
    /// Of the log's.
    Log(LogOutput),
    /// Of the resolution's.
    State(ResolutionOutput),
}

impl Step {
    /// Whether it is to be written, and what is behind it has to wait.
    pub(super) const fn is_write(&self) -> bool {
        matches!(self, Self::Write(_))
    }
}

impl<M: StateMachine> Group<M> {
    /// The next thing to do; `None`: nothing, or something is being written.
    pub fn poll_output(&mut self, now: Instant) -> Option<GroupOutput> {
        if let Some(urgent) = self.urgent.pop_front() {
            return Some(urgent);
        }
        while self.writing == 0 && !self.in_doubt {
            if self.steps.front()?.is_write() {
                // Whatever waits to be written goes in one go.
                let records = self.steps.iter().filter_map(|step| match step {
                    Step::Write(record) => Some(record.clone()),
                    Step::Out(_) | Step::Partition(_) | Step::Log(_) | Step::State(_) => None,
                });
                let records: Vec<Record> = records.collect();
                self.writing = records.len();
                return Some(GroupOutput::Write(records));
            }
            let output = match self.steps.pop_front()? {
                Step::Write(_) => None,
                Step::Out(output) => Some(output),
                Step::Partition(output) => self.do_partition(now, output),
                Step::Log(output) => self.do_log(now, output),
                Step::State(output) => self.do_state(now, output),
            };
            if output.is_some() {
                return output;
            }
        }
        None
    }

    pub(super) fn take_partition(&mut self, outputs: Vec<PartitionOutput>) {
        for output in outputs {
            self.note_side(&output);
            self.steps.push_back(match output {
                PartitionOutput::PersistLease(memory) => Step::Write(Record::Lease(memory)),
                PartitionOutput::Send { to, payload } => {
                    self.send(to, Concern::Partition, payload);
                    continue;
                }
                PartitionOutput::Pause { reason, grace } => {
                    self.pause(reason, grace);
                    continue;
                }
                other @ (PartitionOutput::PersistEvidence(_)
                | PartitionOutput::Emit(_)
                | PartitionOutput::Resume { .. }
                | PartitionOutput::Order(_)
                | PartitionOutput::Recover(_)) => Step::Partition(other),
            });
        }
    }

    /// The choice between states asks how many were on a side: those heard when a split is acted upon. Who acts upon none hears enough: it counts all.
    fn note_side(&mut self, output: &PartitionOutput) {
        if let PartitionOutput::Emit(PartitionEvent::Split { missing, .. }) = output {
            self.resolution.on_side(self.participants().len().saturating_sub(missing.len()));
        }
    }

    pub(super) fn take_log(&mut self) {
        while let Some(output) = self.log.poll_output() {
            self.steps.push_back(match output {
                LogOutput::Persist(persist) => Step::Write(Record::Log(persist)),
                LogOutput::Send { to, payload } => {
                    self.send(to, Concern::Log, payload);
                    continue;
                }
                other @ (LogOutput::Committed { .. }
                | LogOutput::Restore { .. }
                | LogOutput::Counting(_)
                | LogOutput::Members { .. }
                | LogOutput::Leader { .. }
                | LogOutput::SnapshotWanted { .. }) => Step::Log(other),
            });
        }
    }

    pub(super) fn take_resolution(&mut self) {
        while let Some(output) = self.resolution.poll_output() {
            self.steps.push_back(match output {
                ResolutionOutput::Send { to, payload } => {
                    self.send(to, Concern::State, payload);
                    continue;
                }
                other @ (ResolutionOutput::Adopted { .. }
                | ResolutionOutput::Propose(_)
                | ResolutionOutput::RolledBack { .. }
                | ResolutionOutput::Resolved { .. }
                | ResolutionOutput::Failed { .. }) => Step::State(other),
            });
        }
    }

    /// Sends, when everything before is written. While a slow medium writes only so much waits: packets may get lost anyway.
    pub(super) fn send(&mut self, to: PeerId, concern: Concern, payload: Bytes) {
        if self.steps.len() < WAITING_MAX {
            self.steps.push_back(Step::Out(GroupOutput::Send { to, concern, payload }));
        }
    }

    /// Nothing that this says depends on what is being written, and it cannot wait: a lease runs out. A permission to go on that is still waiting is void.
    fn pause(&mut self, reason: PauseReason, grace: Duration) {
        (self.running, self.told_to_resume) = (false, false);
        self.steps.retain(|step| !matches!(step, Step::Partition(PartitionOutput::Resume { .. })));
        self.urgent.push_back(GroupOutput::Pause { reason, grace });
    }

    fn do_partition(&mut self, now: Instant, output: PartitionOutput) -> Option<GroupOutput> {
        match output {
            PartitionOutput::Emit(event) => Some(GroupOutput::Emit(event)),
            PartitionOutput::Resume { token } => {
                self.told_to_resume = true;
                Some(GroupOutput::Resume { token })
            }
            PartitionOutput::Recover(step) => {
                self.recover(now, step);
                None
            }
            PartitionOutput::Order(order) => {
                if order == Order::RollBack {
                    self.roll_back();
                }
                Some(GroupOutput::Order(order))
            }
            PartitionOutput::PersistEvidence(evidence) => Some(GroupOutput::WriteEvidence(evidence)),
            PartitionOutput::PersistLease(_) | PartitionOutput::Send { .. } | PartitionOutput::Pause { .. } => None,
        }
    }

    fn recover(&mut self, now: Instant, step: RecoveryStep) {
        match step {
            RecoveryStep::SynchronizingState => {
                self.resolution.on_log_end(self.log.status().last);
                self.resolution.seek(now, &mut self.shared);
                self.take_resolution();
            }
            RecoveryStep::ValidatingConsensus => {
                let holds = self.partition.token(now).is_some();
                self.on_step(now, step, holds.then_some(()).ok_or(RecoveryFailure::NoConsensus));
            }
            RecoveryStep::Initializing
            | RecoveryStep::DetectingPeers
            | RecoveryStep::Finalizing
            | RecoveryStep::Complete
            | RecoveryStep::Failed(_) => {}
        }
    }

    /// A step of the recovery is done, or failed. One that is not at it any more does not mind.
    fn on_step(&mut self, now: Instant, step: RecoveryStep, done: Result<(), RecoveryFailure>) {
        let outputs = match done {
            Ok(()) => self.partition.on_step_done(now, step).unwrap_or_default(),
            Err(reason) => self.partition.on_step_failed(now, reason),
        };
        self.take_partition(outputs);
    }

    /// Whatever was never committed is given up.
    fn roll_back(&mut self) {
        self.shared.roll_back();
        for id in std::mem::take(&mut self.waiting).into_keys() {
            self.lose(id);
        }
    }

    fn do_log(&mut self, now: Instant, output: LogOutput) -> Option<GroupOutput> {
        match output {
            LogOutput::Committed { index, term, bytes } => {
                let position = Position { term, index };
                self.on_committed(now, position, &bytes);
                return Some(GroupOutput::Committed { position, entry: bytes });
            }
            LogOutput::Leader { term, peer } => {
                self.resolution.on_leader(term, peer);
                self.take_resolution();
                return Some(GroupOutput::Leader { term, peer });
            }
            LogOutput::Restore { state, .. } => {
                if let Err(why) = self.shared.load(&state) {
                    self.in_doubt = true;
                    return Some(GroupOutput::RolledBack(RollbackReason::InDoubt(why)));
                }
                self.partition.on_fence(Term(self.shared.fence()));
                self.forget_done();
                self.take_participants(now);
            }
            LogOutput::SnapshotWanted { .. } => {
                // A state that the log is yet to reach is refused, and asked for again.
                let taken = self.log.snapshot(now, self.shared.position().index, self.shared.save());
                self.take_log();
                if let Err(error @ SnapshotError::TooLarge { .. }) = taken {
                    return Some(GroupOutput::SnapshotRefused(error.to_string()));
                }
            }
            LogOutput::Counting(Membership { voters, next_voters, .. }) => {
                if next_voters.is_empty() && &voters == self.partition.configuration().participants() {
                    self.partition.keep();
                } else {
                    self.partition.prepare();
                }
            }
            LogOutput::Members { position, membership } => {
                if membership.next_voters.is_empty() && self.shared.on_members(position, membership.voters.into_iter())
                {
                    self.take_participants(now);
                }
            }
            LogOutput::Persist(_) | LogOutput::Send { .. } => {}
        }
        None
    }

    fn on_committed(&mut self, now: Instant, position: Position, bytes: &Bytes) {
        let Some((command, carried)) = self.shared.on_committed(position, bytes, &*self.signer) else { return };
        let id = command.id;
        self.partition.on_fence(Term(self.shared.fence()));
        match carried {
            Carried::Out(answer) => {
                if self.waiting.remove(&id).is_some() && id.origin == self.me && id.life == self.life {
                    self.steps.push_back(Step::Out(GroupOutput::Answer { id, answer }));
                }
            }
            Carried::Before => {
                if self.waiting.remove(&id).is_some() {
                    self.lose(id);
                }
            }
            // It was proposed under a lease that was over.
            Carried::Fenced => {
                if let Some((_, at)) = self.waiting.get_mut(&id) {
                    *at = now;
                }
            }
            // A leader that lies put it there. What this node itself has of that name, if anything, waits on and is proposed again.
            Carried::Unsigned => self.partition.count_refused(),
            // Its term is too far above all before. If it is this node's, it waits on and is proposed again.
            Carried::Leap => self.partition.count_refused(),
        }
    }

    pub(super) fn do_state(&mut self, now: Instant, output: ResolutionOutput) -> Option<GroupOutput> {
        match output {
            ResolutionOutput::Adopted { .. } => {
                self.on_adopted(now);
                Some(GroupOutput::Adopted)
            }
            ResolutionOutput::Propose(bytes) => {
                // What waits already was accepted here, while this one may come from a state of another node's.
                if let Some(command) = Command::decode(&bytes) {
                    self.waiting.entry(command.id).or_insert_with(|| (command, now)).1 = now;
                }
                None
            }
            ResolutionOutput::RolledBack { reason, .. } => {
                self.in_doubt |= matches!(reason, RollbackReason::InDoubt(_));
                Some(GroupOutput::RolledBack(reason))
            }
            ResolutionOutput::Resolved { outcome, .. } => {
                if let Some(outcome) = outcome {
                    if !self.partition.is_split() {
                        // The states are one again: there are no sides any more.
                        self.resolution.on_side(self.participants().len());
                    }
                    self.on_step(now, RecoveryStep::SynchronizingState, Self::outcome_of(outcome));
                }
                None
            }
            ResolutionOutput::Failed { .. } => Some(GroupOutput::Unresolved),
            ResolutionOutput::Send { .. } => None,
        }
    }
}
