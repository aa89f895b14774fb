//! One participant of a group that keeps a state together through partitions: the machines of this folder's neighbours, put together.
//!
//! | what | by whom |
//! |---|---|
//! | who may act, who is out of reach, what is done about it | [`super::machine`] |
//! | commands in one order everywhere | [`super::log`] |
//! | states that came apart become one | [`super::state`] |
//! | the application's state, each command carried out once | [`shared`], [`done`] |
//!
//! Outputs are carried out in order; behind a [`GroupOutput::Write`] there is nothing until [`Group::on_written`]. So a crash at any moment loses nothing that was
//! answered, and breaks no promise.

pub mod done;
pub mod shared;
mod steps;
#[cfg(test)]
mod tests;
pub mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::{PartitionConfig, PartitionLogConfig, ResolutionConfig};
use bowline_messages::network::Concern;
use bowline_messages::partition::{PartitionEvent, PartitionReport, PauseReason, Term, Token};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use done::{CommandId, Done};
pub use shared::{Carried, Command, Shared, StateMachine};

use super::evidence::EvidenceSnapshot;
use super::lease::{Configuration, ConfigurationError, Memory};
use super::log::{Log, LogStatus, Membership, Persist, Position, ProposeError, Stored, StoredError};
use super::machine::{Partition, Remembered};
use super::state::{Outcome, Resolution, RollbackReason};
use super::strategy::Order;
use super::wire::Signer;
use steps::Step;

/// Something to be made durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Of the log.
    Log(Persist),
    /// Of the lease.
    Lease(Memory),
    /// Who takes part at the very beginning, as a digest: the medium's own note, so that a journal is not read for another group.
    Participants([u8; 32]),
}

/// What the group wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupOutput {
    /// Make these durable, in this order, and say [`Group::on_written`]. Nothing else comes before.
    Write(Vec<Record>),
    /// Make this durable, soon.
    WriteEvidence(EvidenceSnapshot),
    /// Give this packet to the carrier; it may get lost.
    Send {
        /// To whom.
        to: PeerId,
        /// Whose concern it is there.
        concern: Concern,
        /// The packet.
        payload: Bytes,
    },
    /// Tell everybody who listens.
    Emit(PartitionEvent),
    /// The application is to take on nothing new, and [`Group::on_paused`] is to be said when it has finished what it began.
    Pause {
        /// Why.
        reason: PauseReason,
        /// How long it may still act; zero when it may not.
        grace: Duration,
    },
    /// The application may go on; then [`Group::on_resumed`].
    Resume {
        /// Under this lease.
        token: Token,
    },
    /// Do what a strategy orders; what the group can do itself it has done.
    Order(Order),
    /// A command that was accepted here was carried out.
    Answer {
        /// Which.
        id: CommandId,
        /// What came of it.
        answer: Bytes,
    },
    /// A command that was accepted here was given up, or it cannot be told whether it was carried out.
    Lost {
        /// Which.
        id: CommandId,
    },
    /// An entry of the log is committed.
    Committed {
        /// Where.
        position: Position,
        /// What.
        entry: Bytes,
    },
    /// Who leads the log, as far as this node knows.
    Leader {
        /// The term.
        term: u64,
        /// The leader.
        peer: Option<PeerId>,
    },
    /// This node's state was replaced by the chosen one.
    Adopted,
    /// A resolution came to nothing.
    Unresolved,
    /// The chosen state was not kept; [`RollbackReason::InDoubt`]: begin anew from what is durable. Nothing more comes then.
    RolledBack(RollbackReason),
    /// The state is larger than a snapshot may be, so that the log cannot be made shorter: it will be full.
    SnapshotRefused(String),
}

/// Why a command was not accepted. Nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// This side has no lease, or is only coming back: later, or on another node.
    #[error("this side is paused")]
    Paused,
    /// So many are under way. Later.
    #[error("too many commands are under way")]
    Busy,
    /// The caller's mistake.
    #[error("a command of {bytes} bytes, where {limit} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why a participant could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// These cannot be participants. The user's mistake.
    #[error(transparent)]
    Participants(#[from] ConfigurationError),
    /// What was stored cannot be used.
    #[error(transparent)]
    Stored(#[from] StoredError),
}

/// What is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durable {
    /// The log.
    pub stored: Stored,
    /// Lease and proofs.
    pub remembered: Remembered,
}

impl Durable {
    /// The beginning, for these participants.
    pub fn new(participants: impl IntoIterator<Item = PeerId>) -> Self {
        Self { stored: Stored::new(Membership::of(participants)), remembered: Remembered::default() }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`StoredError`]: it does not follow from those before.
    pub fn apply(&mut self, record: Record) -> Result<(), StoredError> {
        match record {
            Record::Log(persist) => self.stored.apply(persist)?,
            Record::Lease(memory) => self.remembered.lease = Some(memory),
            Record::Participants(_) => {}
        }
        Ok(())
    }
}

/// How a group behaves.
#[derive(Debug, Clone, Default)]
pub struct GroupConfig {
    /// Leases, suspicion, strategies.
    pub partition: PartitionConfig,
    /// The log.
    pub log: PartitionLogConfig,
    /// States that become one.
    pub resolution: ResolutionConfig,
}

/// A node that takes part, in one life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participant {
    /// Who.
    pub me: PeerId,
    /// In which life; grows with each start.
    pub life: u64,
    /// Random: no other start has the same, whatever came back with a copy of the disk.
    pub seed: u64,
}

/// How a participant stands, in a few numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    /// Leases, partitions, proofs.
    pub partition: PartitionReport,
    /// Who takes part.
    pub participants: Vec<PeerId>,
    /// Whether the application works.
    pub running: bool,
    /// The log.
    pub log: LogStatus,
    /// Commands carried out since the beginning.
    pub carried_out: u64,
    /// Commands accepted here or taken over, not committed yet.
    pub open: usize,
}

/// One participant.
pub struct Group<M> {
    me: PeerId,
    life: u64,
    config: GroupConfig,
    tie_breaker: bool,
    signer: Rc<dyn Signer>,
    partition: Partition,
    log: Log,
    resolution: Resolution,
    shared: Shared<M>,
    /// Whether the application takes on new work.
    running: bool,
    /// Whether the last thing it was told is to go on.
    told_to_resume: bool,
    /// Commands accepted here so far.
    numbered: u64,
    /// Commands to be proposed again, and when; and whether somebody here waits for the answer.
    waiting: BTreeMap<CommandId, (Command, Instant)>,
    steps: VecDeque<Step>,
    /// What does not wait for anything to be written: the application has to hear at once that it is to pause.
    urgent: VecDeque<GroupOutput>,
    /// The state is not what it should be: nothing is done with it any more.
    in_doubt: bool,
    /// So many of those that are to be written are being written, in one go.
    writing: usize,
}

impl<M> std::fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("me", &self.me).field("running", &self.running).finish_non_exhaustive()
    }
}

impl<M: StateMachine> Group<M> {
    /// A participant that begins, or goes on from what is durable. `participants`: those of the very beginning, the same on all nodes and in every life; changes
    /// since then are in the log.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn new(
        now: Instant,
        participant: Participant,
        participants: impl IntoIterator<Item = PeerId>,
        config: GroupConfig,
        durable: &Durable,
        signer: Rc<dyn Signer>,
        machine: M,
    ) -> Result<Self, GroupError> {
        let Participant { me, life, seed } = participant;
        let participants: std::collections::BTreeSet<PeerId> = participants.into_iter().collect();
        let tie_breaker = config.partition.tie_breaker;
        let breaks = participants.first().copied().filter(|_| tie_breaker);
        let configuration = Arc::new(Configuration::new(1, participants.clone(), breaks)?);
        let remembered = &durable.remembered;
        let of_partition = Rc::clone(&signer);
        let partition =
            Partition::new(me, config.partition.clone(), configuration, remembered, of_partition, life, seed, now);
        let log = Log::new(now, me, durable.stored.clone(), config.log.clone(), seed)?;
        let mut resolution = Resolution::new(me, config.resolution.clone());
        let count = participants.len();
        let shared = Shared::new(machine, participants.clone());
        resolution.on_participants(participants).map_err(|_| ConfigurationError::Count(count))?;
        resolution.on_side(count);
        let mut group = Self {
            me,
            life,
            tie_breaker,
            signer,
            partition,
            log,
            resolution,
            shared,
            running: false,
            told_to_resume: false,
            numbered: 0,
            waiting: BTreeMap::new(),
            steps: VecDeque::new(),
            urgent: VecDeque::new(),
            in_doubt: false,
            writing: 0,
            config,
        };
        group.take_log();
        Ok(group)
    }

    /// A packet came from this node, authenticated.
    pub fn on_packet(&mut self, now: Instant, from: PeerId, concern: Concern, payload: &[u8]) -> Result<(), String> {
        let takes_part = self.partition.configuration().contains(&from);
        if self.in_doubt || !takes_part || self.partition.evidence().is_excluded(&from) {
            return Ok(());
        }
        if concern != Concern::Partition && self.partition.goes_by_another_list(&from) {
            return Ok(());
        }
        match concern {
            Concern::Partition => {
                let outputs = self.partition.on_packet(now, from, payload);
                self.take_partition(outputs);
            }
            Concern::Log => {
                self.log.loses_only(self.partition.evidence().proven());
                let taken = self.log.on_packet(now, from, payload);
                self.take_log();
                taken.map_err(|error| error.to_string())?;
            }
            Concern::State => {
                self.resolution.on_log_end(self.log.status().last);
                // What comes late, of a leader of old, is refused as it should be.
                let _ = self.resolution.on_packet(now, from, payload, &mut self.shared);
                self.take_resolution();
            }
            Concern::Command => {
                let (command, holder) = wire::decode(payload).map_err(|error| error.to_string())?;
                let known = |peer: &PeerId| self.partition.configuration().contains(peer);
                if self.log.is_leader() && known(&holder) && known(&command.id.origin) {
                    if !command.is_signed(&*self.signer) {
                        self.partition.count_refused();
                        return Err("a command that its origin did not sign".to_owned());
                    }
                    self.propose(now, from, &command, holder);
                }
            }
            Concern::LinkState | Concern::Healing | Concern::Membership | Concern::Mesh => {}
        }
        Ok(())
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Instant) {
        let outputs = self.partition.on_timeout(now);
        self.take_partition(outputs);
        if self.log.deadline().is_some_and(|at| at <= now) {
            self.log.on_timeout(now);
            self.take_log();
        }
        if self.resolution.deadline().is_some_and(|at| at <= now) {
            self.resolution.on_log_end(self.log.status().last);
            self.resolution.on_timeout(now, &mut self.shared);
            self.take_resolution();
        }
        let due: Vec<CommandId> = self.waiting.iter().filter(|(_, (_, at))| *at <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.propose_again(now, id);
        }
        self.exclude(now);
        // What could not be adopted before, for want of proofs.
        self.take_participants(now);
    }

    /// When [`Group::on_timeout`] is next due.
    pub fn deadline(&self, now: Instant) -> Instant {
        let again = self.waiting.values().map(|(_, at)| *at).min();
        let others = [again, self.log.deadline(), self.resolution.deadline()];
        others.into_iter().flatten().fold(self.partition.deadline(now), Instant::min)
    }

    /// What was to be written is durable.
    pub fn on_written(&mut self) {
        for _ in 0..std::mem::take(&mut self.writing) {
            if let Some(place) = self.steps.iter().position(Step::is_write) {
                self.steps.remove(place);
            }
        }
    }

    /// Accepts a command: it is carried out once on every participant, or [`GroupOutput::Lost`] is said.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn submit(&mut self, now: Instant, content: Bytes) -> Result<CommandId, SubmitError> {
        let token = self.token(now).filter(|_| self.running).ok_or(SubmitError::Paused)?;
        self.submit_under(now, token, content)
    }

    /// Accepts a command under a given lease, whatever is known of it.
    ///
    /// # Errors
    /// [`SubmitError`], but not that it is paused.
    pub(crate) fn submit_under(
        &mut self,
        now: Instant,
        token: Token,
        content: Bytes,
    ) -> Result<CommandId, SubmitError> {
        let limit = (self.config.log.entry_bytes_max as usize).saturating_sub(wire::ENVELOPE_BYTES);
        if content.len() > limit {
            return Err(SubmitError::TooLarge { bytes: content.len(), limit });
        }
        // What is older than the window counts as done, so none may fall out of it.
        let mine = self.waiting.keys().filter(|id| id.origin == self.me && id.life == self.life);
        let oldest = mine.map(|id| id.number).min().unwrap_or(self.numbered);
        if self.numbered + 1 >= oldest.saturating_add(Done::WINDOW) {
            return Err(SubmitError::Busy);
        }
        self.numbered += 1;
        let id = CommandId { origin: self.me, life: self.life, number: self.numbered };
        let command = Command::new(&*self.signer, token.term.0, id, content);
        self.shared.accept(self.me, command.clone());
        self.propose(now, self.me, &command, token.holder);
        self.waiting.insert(id, (command, now + self.config.log.propose_again));
        Ok(id)
    }

    /// The application has finished what it began, and takes on nothing.
    pub fn on_paused(&mut self, now: Instant) {
        let outputs = self.partition.on_paused(now);
        self.take_partition(outputs);
    }

    /// The application goes on, or cannot.
    pub fn on_resumed(&mut self, now: Instant, goes_on: bool) {
        self.running = self.told_to_resume && goes_on;
        let outputs = self.partition.on_resumed(now, goes_on);
        self.take_partition(outputs);
    }

    /// The membership, or a transport, is sure that a participant is gone.
    pub fn on_lost(&mut self, now: Instant, peer: PeerId, kind: bowline_messages::membership::FailureKind) {
        let outputs = self.partition.on_lost(now, peer, kind);
        self.take_partition(outputs);
    }

    /// The machine was suspended, or its clock cannot be trusted for what was.
    pub fn doubt_clock(&mut self, now: Instant) {
        let outputs = self.partition.doubt_clock(now);
        self.take_partition(outputs);
    }

    /// Forgets the proofs against a peer: the decision of a person.
    pub fn pardon(&mut self, now: Instant, peer: &PeerId) {
        let outputs = self.partition.pardon(now, peer);
        self.take_partition(outputs);
    }

    /// Under which lease this node may act now.
    pub fn token(&self, now: Instant) -> Option<Token> {
        self.partition.token(now)
    }

    /// Whether the application takes on new work.
    pub const fn is_running(&self) -> bool {
        self.running
    }

    /// The application's state.
    pub const fn shared(&self) -> &Shared<M> {
        &self.shared
    }

    /// The participants, as far as this node knows.
    pub fn participants(&self) -> &std::collections::BTreeSet<PeerId> {
        self.partition.configuration().participants()
    }

    /// How it stands.
    pub fn report(&self, now: Instant) -> GroupReport {
        GroupReport {
            partition: self.partition.report(now),
            participants: self.participants().iter().copied().collect(),
            running: self.running,
            log: self.log.status(),
            carried_out: self.shared.carried_out(),
            open: self.shared.open().len(),
        }
    }

    /// Proposes a command under a lease of which `from` says that it is in force, here or at the leader, if there is one. Proposed twice it is carried out
    /// once.
    fn propose(&mut self, now: Instant, from: PeerId, command: &Command, holder: PeerId) {
        if self.log.is_leader() {
            let token = Token { term: Term(command.fence), holder };
            // Whoever accepted it proposes it again.
            let Ok(outputs) = self.partition.admit(now, from, token) else { return };
            self.take_partition(outputs);
            // A full log takes it later: whoever accepted it proposes it again.
            let _: Result<_, ProposeError> = self.log.propose(now, command.encode());
            self.take_log();
        } else if let Some(leader) = self.log.leader() {
            let payload = wire::encode(command, &holder);
            self.send(leader, Concern::Command, payload);
        }
    }

    /// Proposes again what is not committed yet, under the lease of this moment, or later if there is none.
    fn propose_again(&mut self, now: Instant, id: CommandId) {
        let token = self.token(now);
        let Some((command, at)) = self.waiting.get_mut(&id) else { return };
        // It came with a state taken over from another node, which can say what it likes of what was never committed, this node's own commands included; or its
        // origin takes part no more.
        let stands = self.partition.configuration().contains(&id.origin) && command.is_signed(&*self.signer);
        if !stands {
            self.waiting.remove(&id);
            self.shared.give_up(&id);
            self.lose(id);
            return self.partition.count_refused();
        }
        *at = now + self.config.log.propose_again;
        if let Some(token) = token {
            command.fence = token.term.0;
            let command = command.clone();
            self.propose(now, self.me, &command, token.holder);
        }
    }

    /// Whoever was proven to misbehave too often takes part no more: the leader takes it out, through the log.
    fn exclude(&mut self, now: Instant) {
        if !self.log.is_leader() {
            return;
        }
        let voters = self.log.membership().voters;
        let excluded = self.partition.evidence().excluded();
        let kept: std::collections::BTreeSet<PeerId> =
            voters.iter().filter(|peer| !excluded.contains(*peer)).copied().collect();
        if kept.len() < voters.len() && !kept.is_empty() {
            // While the last change is not through, the next look does it.
            let _: Result<_, ProposeError> = self.log.change_voters(now, kept);
            self.take_log();
        }
    }

    /// The participants may have changed: the other machines learn of it.
    fn take_participants(&mut self, now: Instant) {
        let (changes, participants) = self.shared.participants();
        let (version, before) = (changes.saturating_add(1), self.partition.configuration());
        if version <= before.version() {
            return;
        }
        let participants = participants.collect::<std::collections::BTreeSet<_>>();
        // Each version before has lost somebody, too; and against each of these this node has to have proofs itself, whoever says that it is committed.
        let gone: Vec<&PeerId> = before.participants().difference(&participants).collect();
        let (proven, versions) = (self.partition.evidence().proven(), version - before.version());
        let lawful = participants.is_subset(before.participants()) && gone.iter().all(|peer| proven.contains(*peer));
        if !lawful || versions > gone.len() as u64 {
            return;
        }
        let breaks = participants.first().copied().filter(|_| self.tie_breaker);
        let Ok(configuration) = Configuration::new(version, participants.clone(), breaks) else { return };
        // An earlier version was ruled out, and the log bounds how many there may be.
        if let Ok(outputs) = self.partition.adopt(now, Arc::new(configuration)) {
            self.take_partition(outputs);
        }
        let _ = self.resolution.on_participants(participants);
    }

    /// The state is another one: what is open in it is to be committed, whoever accepted it.
    fn on_adopted(&mut self, now: Instant) {
        self.partition.on_fence(Term(self.shared.fence()));
        self.forget_done();
        for (id, command) in self.shared.open() {
            self.waiting.entry(*id).or_insert_with(|| (command.clone(), now + self.config.log.propose_again));
        }
        self.take_participants(now);
    }

    /// Commands of which the state says that they are done, though nobody here saw what came of them.
    fn forget_done(&mut self) {
        let shared = &self.shared;
        let gone: Vec<CommandId> = self.waiting.keys().filter(|id| shared.is_done(id)).copied().collect();
        for id in gone {
            self.waiting.remove(&id);
            self.lose(id);
        }
    }

    fn lose(&mut self, id: CommandId) {
        if id.origin == self.me && id.life == self.life {
            self.steps.push_back(Step::Out(GroupOutput::Lost { id }));
        }
    }

    fn outcome_of(outcome: Outcome) -> Result<(), bowline_messages::partition::RecoveryFailure> {
        match outcome {
            Outcome::Same | Outcome::Adopted | Outcome::Ahead => Ok(()),
            Outcome::RolledBack => Err(bowline_messages::partition::RecoveryFailure::NotSynchronized),
        }
    }
}
