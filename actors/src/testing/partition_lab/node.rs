//! One node of the experiment: its machines, its clock, its medium, and what waits for the medium.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::{PartitionConfig, PartitionLogConfig, ResolutionConfig};
use bowline_messages::partition::{PartitionMetrics, RecoveryFailure, RecoveryStep, Term, Token};
use bytes::Bytes;

use super::Sabotage;
use super::table::{Command, Table};
use crate::partition::lease::{Configuration, Memory};
use crate::partition::log::{Log, LogOutput, Membership, Persist, ProposeError, Stored, StoredError};
use crate::partition::machine::{Partition, PartitionOutput, Remembered};
use crate::partition::state::{Resolution, ResolutionOutput};
use crate::partition::wire::{SIGNATURE_BYTES, Signer};

/// How long until an operation that is not committed is proposed again.
pub(super) const PROPOSE_AGAIN: Duration = Duration::from_millis(700);

/// What nodes say to each other.
#[derive(Debug, Clone)]
pub(super) enum Packet {
    /// About partitions.
    Partition(Bytes),
    /// About the log.
    Log(Bytes),
    /// About states.
    State(Bytes),
    /// To the leader of the log: propose this, under this lease.
    Propose(Command, PeerId),
}

/// What a node does, in this order; behind something to be written it waits.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Writes a record of the log.
    WriteLog(Persist),
    /// Writes what the lease remembers.
    WriteLease(Memory),
    /// Sends.
    Send(PeerId, Packet),
    /// Everything else that the partition machine gives out.
    Partition(PartitionOutput),
    /// Everything else that the log gives out.
    Log(LogOutput),
    /// Everything else that the resolution gives out.
    State(ResolutionOutput),
}

/// A clock that is off: it shows another time, and runs at another speed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) epoch: Instant,
    pub(super) ahead_ns: u64,
    pub(super) ppm: i64,
}

impl Clock {
    fn scaled(self, ns: u64) -> u64 {
        let rate = i128::from(1_000_000 + self.ppm);
        u64::try_from(i128::from(ns) * rate / 1_000_000).unwrap_or(0)
    }

    /// What it shows.
    pub(super) fn local(self, ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(self.ahead_ns + self.scaled(ns))
    }

    /// The first moment at which it shows that.
    pub(super) fn moment(self, local: Instant) -> u64 {
        let shown = local.saturating_duration_since(self.epoch).as_nanos();
        let shown = i128::try_from(shown).unwrap_or(i128::MAX) - i128::from(self.ahead_ns);
        let rate = i128::from(1_000_000 + self.ppm);
        u64::try_from((shown.max(0) * 1_000_000 + rate - 1) / rate).unwrap_or(u64::MAX)
    }
}

/// What survives a crash.
#[derive(Debug, Clone)]
pub(super) struct Medium {
    pub(super) stored: Stored,
    pub(super) remembered: Remembered,
    /// How long a write takes.
    pub(super) takes: Duration,
}

/// One life of a node.
#[derive(Debug)]
pub(super) struct Life {
    me: PeerId,
    pub(super) partition: Partition,
    /// Whether the application takes on new work.
    pub(super) running: bool,
    pub(super) log: Log,
    pub(super) resolution: Resolution,
    pub(super) table: Table,
    pub(super) steps: VecDeque<Step>,
    /// So many of those that are to be written are being written, in one go.
    pub(super) writing: usize,
    /// Operations accepted here, by number, and when they are proposed again.
    pub(super) waiting: BTreeMap<u64, (Command, Instant)>,
    /// The token that a sabotaged node goes on using.
    pub(super) kept: Option<Token>,
}

/// A node, up or down.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) me: PeerId,
    pub(super) clock: Clock,
    pub(super) medium: Medium,
    pub(super) life: Option<Life>,
    /// Counts lives, so that what was meant for an earlier one is known.
    pub(super) lives: u64,
    /// When it is to be woken next, in nanoseconds.
    pub(super) wake_at: Option<u64>,
}

/// The name of a node.
pub(super) fn peer(node: usize) -> PeerId {
    PeerId::from_bytes([u8::try_from(node + 1).unwrap_or(u8::MAX); 32])
}

/// The number behind a name.
pub(super) fn number(peer: PeerId) -> usize {
    usize::from(peer.as_bytes()[0]) - 1
}

/// Signatures that cost little: a digest that only who knows a key could give, were keys not known to all here.
#[derive(Debug)]
struct Seal(PeerId);

impl Seal {
    fn of(peer: &PeerId, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut out = [0; SIGNATURE_BYTES];
        blake3::Hasher::new_keyed(peer.as_bytes()).update(bytes).finalize_xof().fill(&mut out);
        out
    }
}

impl Signer for Seal {
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        Self::of(&self.0, bytes)
    }

    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Self::of(peer, bytes) == *signature
    }
}

impl Life {
    fn new(
        now: Instant,
        me: PeerId,
        medium: &Medium,
        nodes: usize,
        (life, seed): (u64, u64),
    ) -> Result<Self, StoredError> {
        let participants = || (0..nodes).map(peer).collect();
        // So many nodes are allowed. There is no tie-breaker: half of the participants cannot commit anything.
        let configuration = Configuration::new(1, participants(), None).map_err(|_| StoredError::Unsound)?;
        let config = PartitionConfig::default();
        let (configuration, signer) = (Arc::new(configuration), Rc::new(Seal(me)));
        let partition = Partition::new(me, config, configuration, &medium.remembered, signer, life, seed, now);
        let config = PartitionLogConfig { snapshot_after: 200, ..PartitionLogConfig::default() };
        let log = Log::new(now, me, medium.stored.clone(), config, seed)?;
        let mut resolution = Resolution::new(me, ResolutionConfig::default());
        resolution.on_participants(participants()).map_err(|_| StoredError::Unsound)?;
        Ok(Self {
            me,
            partition,
            running: false,
            log,
            resolution,
            table: Table::default(),
            steps: VecDeque::new(),
            writing: 0,
            waiting: BTreeMap::new(),
            kept: None,
        })
    }

    /// Under which lease it acts now.
    pub(super) fn token(&mut self, now: Instant, sabotage: Sabotage) -> Option<Token> {
        let token = self.partition.token(now);
        if token.is_some() {
            self.kept = token;
        }
        if sabotage == Sabotage::NeverPauses { self.kept } else { token }
    }

    pub(super) fn take_partition(&mut self, outputs: Vec<PartitionOutput>) {
        for output in outputs {
            self.steps.push_back(match output {
                PartitionOutput::PersistLease(memory) => Step::WriteLease(memory),
                PartitionOutput::Send { to, payload } => Step::Send(to, Packet::Partition(payload)),
                other @ (PartitionOutput::PersistEvidence(_)
                | PartitionOutput::Emit(_)
                | PartitionOutput::Pause { .. }
                | PartitionOutput::Resume { .. }
                | PartitionOutput::Order(_)
                | PartitionOutput::Recover(_)
                | PartitionOutput::Newer { .. }) => Step::Partition(other),
            });
        }
    }

    pub(super) fn take_log(&mut self) {
        while let Some(output) = self.log.poll_output() {
            self.steps.push_back(match output {
                LogOutput::Persist(persist) => Step::WriteLog(persist),
                LogOutput::Send { to, payload } => Step::Send(to, Packet::Log(payload)),
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
                ResolutionOutput::Send { to, payload } => Step::Send(to, Packet::State(payload)),
                other @ (ResolutionOutput::Adopted { .. }
                | ResolutionOutput::Propose(_)
                | ResolutionOutput::RolledBack { .. }
                | ResolutionOutput::Resolved { .. }
                | ResolutionOutput::Failed { .. }) => Step::State(other),
            });
        }
    }

    /// Proposes a command under a lease, here or at the leader, if there is one. Proposed twice it is done once.
    pub(super) fn propose(&mut self, now: Instant, command: Command, holder: PeerId) {
        if self.log.is_leader() {
            let token = Token { term: Term(command.fence), holder };
            let Ok(outputs) = self.partition.admit(now, token) else { return };
            self.take_partition(outputs);
            // A full log takes it later: whoever accepted it proposes it again.
            let _: Result<_, ProposeError> = self.log.propose(now, command.encode());
            self.take_log();
        } else if let Some(leader) = self.log.leader() {
            self.steps.push_back(Step::Send(leader, Packet::Propose(command, holder)));
        }
    }

    /// A client's operation is accepted: it is proposed until it is committed.
    pub(super) fn accept(&mut self, now: Instant, command: Command, holder: PeerId) {
        self.table.accept(self.me, command);
        self.waiting.insert(command.id, (command, now + PROPOSE_AGAIN));
        self.propose(now, command, holder);
    }

    /// Proposes again what is not committed yet, under the lease of this moment, or later if there is none.
    pub(super) fn propose_again(&mut self, now: Instant, command: Command, sabotage: Sabotage) {
        let token = self.token(now, sabotage);
        let fence = token.map_or(command.fence, |token| token.term.0);
        let command = Command { fence, ..command };
        self.waiting.insert(command.id, (command, now + PROPOSE_AGAIN));
        if let Some(token) = token {
            self.propose(now, command, token.holder);
        }
    }

    /// The state is another one: what is open in it is to be committed, whoever accepted it.
    pub(super) fn on_adopted(&mut self, now: Instant) {
        let table = &self.table;
        self.waiting.retain(|id, _| !table.is_done(*id));
        for (id, command) in &table.open {
            self.waiting.entry(*id).or_insert((*command, now + PROPOSE_AGAIN));
        }
    }

    /// A step of the recovery is done, or failed. One that is not at it any more does not mind.
    pub(super) fn on_step(&mut self, now: Instant, step: RecoveryStep, done: Result<(), RecoveryFailure>) {
        let outputs = match done {
            Ok(()) => self.partition.on_step_done(now, step).unwrap_or_default(),
            Err(reason) => self.partition.on_step_failed(now, reason),
        };
        self.take_partition(outputs);
    }

    /// Whatever was never committed is given up.
    pub(super) fn roll_back(&mut self) {
        self.table.open.clear();
        self.waiting.clear();
    }

    /// Figures of the partition machine in this life.
    pub(super) fn metrics(&self, now: Instant) -> PartitionMetrics {
        self.partition.report(now).metrics
    }

    /// When one of its machines wants to be woken, on its clock.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let again = self.waiting.values().map(|(_, at)| *at).min();
        let log = self.log.deadline();
        let state = self.resolution.deadline();
        [again, log, state].into_iter().flatten().fold(self.partition.deadline(now), Instant::min)
    }
}

impl Step {
    /// Whether it is to be written, and what is behind it has to wait.
    pub(super) const fn is_write(&self) -> bool {
        matches!(self, Self::WriteLog(_) | Self::WriteLease(_))
    }
}

impl Node {
    /// So many of the records that are being written are durable; if the medium keeps what it is given. They are done with.
    pub(super) fn keep(&mut self, count: usize, keeps: bool) {
        let Some(life) = &mut self.life else { return };
        for _ in 0..count.min(life.writing) {
            let place = life.steps.iter().position(Step::is_write);
            match place.and_then(|place| life.steps.remove(place)) {
                Some(Step::WriteLog(persist)) if keeps => {
                    // A medium that forgets has gaps.
                    let _ = self.medium.stored.apply(persist);
                }
                Some(Step::WriteLease(memory)) if keeps => self.medium.remembered.lease = Some(memory),
                Some(_) | None => {}
            }
        }
        life.writing = 0;
    }

    /// A node that has never run.
    pub(super) fn new(node: usize, nodes: usize, clock: Clock) -> Self {
        let stored = Stored::new(Membership::of((0..nodes).map(peer)));
        let medium = Medium { stored, remembered: Remembered::default(), takes: Duration::from_millis(1) };
        Self { me: peer(node), clock, medium, life: None, lives: 0, wake_at: None }
    }

    /// Starts it, or starts it again.
    pub(super) fn start(&mut self, at: u64, nodes: usize, seed: u64) -> Result<(), StoredError> {
        self.lives += 1;
        self.wake_at = None;
        let mut life = Life::new(self.clock.local(at), self.me, &self.medium, nodes, (self.lives, seed))?;
        life.take_log();
        self.life = Some(life);
        Ok(())
    }
}
