//! Nodes, the network between them, and clients, on virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::PartitionConfig;
use bowline_messages::partition::{PartitionEvent, RecoveryFailure, RecoveryStep};
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::fault::{self, Round};
use super::figures::Figures;
use super::history::{Asked, History, Told, Violation, check};
use super::node::{Clock, Life, Node, Packet, Step, number, peer};
use super::table::{ACCOUNTS, Answer, Command, Committed, Operation};
use super::{Plan, Sabotage};
use crate::partition::detector::needed;
use crate::partition::log::{LogOutput, Position, StoredError};
use crate::partition::machine::PartitionOutput;
use crate::partition::state::{Outcome, ResolutionOutput, RollbackReason};
use crate::partition::strategy::Order;

const MS: u64 = 1_000_000;
/// Until the first round, between heal and the next, and after the last: time to find together.
const SETTLE: u64 = 9_000 * MS;
const CALM: u64 = 12_000 * MS;
const END: u64 = 15_000 * MS;
/// How often it is looked who has recovered.
const WATCH: u64 = 25 * MS;
/// For this long after something was wrong nobody is blamed for suspecting.
const GRACE: u64 = 5_000 * MS;

#[derive(Debug, Clone)]
enum Event {
    Deliver { from: usize, to: usize, packet: Packet },
    Wake(usize),
    Written { node: usize, life: u64 },
    Client(usize),
    Watch,
    Begin(usize),
    Toggle(usize),
    Heal(usize),
    Crash(usize),
    Restart(usize),
}

/// What is waited for since the last change for the worse or the better.
#[derive(Debug, Default)]
struct Waits {
    split_at: Option<u64>,
    /// Who hears too few others, and has to notice.
    bereft: BTreeSet<usize>,
    suspected: BTreeSet<usize>,
    acted: BTreeSet<usize>,
    healed_at: Option<u64>,
    target: u64,
    wrong_until: u64,
    wrong: bool,
}

impl Waits {
    /// A node suspects the split, or acts upon it. Whether it was the last one that has to.
    fn notices(&mut self, node: usize, suspects: bool) -> bool {
        let who = if suspects { &mut self.suspected } else { &mut self.acted };
        let before = self.bereft.is_subset(who);
        who.insert(node);
        !before && self.bereft.is_subset(who)
    }
}

pub(super) struct World<'a> {
    plan: &'a Plan,
    rng: ChaCha8Rng,
    now: u64,
    counted: u64,
    events: BTreeMap<(u64, u64), Event>,
    nodes: Vec<Node>,
    rounds: Vec<Round>,
    cut: BTreeSet<(usize, usize)>,
    loss: f64,
    history: History,
    committed: BTreeMap<u64, (u64, Bytes)>,
    leaders: BTreeMap<u64, PeerId>,
    violations: Vec<Violation>,
    waits: Waits,
    clients_until: u64,
    end: u64,
    trace: blake3::Hasher,
    pub(super) figures: Figures,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan, seed: u64, epoch: Instant) -> Result<Self, StoredError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let drift = i64::from(PartitionConfig::default().clock_drift_ppm);
        let clock = |rng: &mut ChaCha8Rng| Clock {
            epoch,
            ahead_ns: rng.random_range(0..3_600_000 * MS),
            ppm: rng.random_range(-drift..=drift),
        };
        let nodes = (0..plan.nodes).map(|node| Node::new(node, plan.nodes, clock(&mut rng))).collect();
        let rounds: Vec<Round> = (0..plan.rounds).map(|_| fault::draw(plan.nodes, &mut rng)).collect();
        let mut world = Self {
            plan,
            rng,
            now: 0,
            counted: 0,
            events: BTreeMap::new(),
            nodes,
            rounds,
            cut: BTreeSet::new(),
            loss: 0.002,
            history: History::new(),
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            violations: Vec::new(),
            waits: Waits { wrong_until: SETTLE, ..Waits::default() },
            clients_until: 0,
            end: 0,
            trace: blake3::Hasher::new(),
            figures: Figures::default(),
        };
        world.schedule(seed)?;
        Ok(world)
    }

    fn schedule(&mut self, seed: u64) -> Result<(), StoredError> {
        for node in 0..self.nodes.len() {
            self.nodes[node].start(0, self.plan.nodes, seed)?;
            let client = self.rng.random_range(0..500 * MS);
            self.put(client, Event::Client(node));
            self.pump(node);
        }
        let mut at = SETTLE;
        for index in 0..self.rounds.len() {
            let round = self.rounds[index].clone();
            let ends = at + round.lasts_ms * MS;
            self.put(at, Event::Begin(index));
            for toggle in round.toggles_ms {
                self.put(at + toggle * MS, Event::Toggle(index));
            }
            for (node, down, up) in round.crashes_ms {
                self.put(at + down * MS, Event::Crash(node));
                self.put((at + up * MS).min(ends - MS), Event::Restart(node));
            }
            self.put(ends, Event::Heal(index));
            at = ends + CALM;
        }
        self.clients_until = at;
        self.end = at + END;
        self.put(WATCH, Event::Watch);
        Ok(())
    }

    fn put(&mut self, at: u64, event: Event) {
        self.counted += 1;
        self.events.insert((at, self.counted), event);
    }

    /// Runs it to its end. Gives what cannot have been, and a digest of everything that happened.
    pub(super) fn run(mut self) -> (Vec<Violation>, Figures, [u8; 32]) {
        while let Some(((at, _), event)) = self.events.pop_first() {
            if at > self.end || self.violations.len() >= super::VIOLATIONS_MAX {
                break;
            }
            self.now = at;
            self.on_event(event);
        }
        self.judge();
        let mut trace = self.trace;
        for (index, (term, bytes)) in &self.committed {
            trace.update(&index.to_be_bytes()).update(&term.to_be_bytes()).update(bytes);
        }
        (self.violations, self.figures, *trace.finalize().as_bytes())
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, packet } => self.deliver(from, to, packet),
            Event::Wake(node) => self.wake(node),
            Event::Written { node, life } => self.written(node, life),
            Event::Client(node) => self.client(node),
            Event::Watch => self.watch(),
            Event::Begin(round) => self.begin(round),
            Event::Toggle(round) => {
                if self.cut.is_empty() {
                    self.cut.clone_from(&self.rounds[round].cut)
                } else {
                    self.cut.clear()
                }
            }
            Event::Heal(round) => self.heal(round),
            Event::Crash(node) => {
                self.close(node);
                // Of what was being written, some of the first records may be there.
                let writing = self.nodes[node].life.as_ref().map_or(0, |life| life.writing);
                let kept = self.rng.random_range(0..=writing);
                self.nodes[node].keep(kept, true);
                self.nodes[node].life = None;
                self.figures.crashes += 1;
            }
            Event::Restart(node) => self.restart(node),
        }
    }

    /// Keeps the figures of a life that ends.
    fn close(&mut self, node: usize) {
        let now = self.nodes[node].clock.local(self.now);
        if let Some(life) = &self.nodes[node].life {
            self.figures.add(&life.metrics(now));
        }
    }

    fn restart(&mut self, node: usize) {
        let (now, nodes, seed) = (self.now, self.plan.nodes, self.rng.random());
        if self.nodes[node].life.is_none() {
            if let Err(error) = self.nodes[node].start(now, nodes, seed) {
                self.violations.push(Violation::Failed { node, what: error.to_string() });
            }
            self.pump(node);
        }
    }

    fn begin(&mut self, index: usize) {
        let round = self.rounds[index].clone();
        self.cut.clone_from(&round.cut);
        self.loss = round.loss;
        for (node, slow) in &round.slow_ms {
            self.nodes[*node].medium.takes = Duration::from_millis(*slow);
        }
        let clean = round.kind.is_clean() && round.crashes_ms.is_empty();
        let hears = |node: usize| (0..self.plan.nodes).filter(|from| !round.cut.contains(&(*from, node))).count();
        let needed = needed(&PartitionConfig::default(), self.plan.nodes);
        let bereft = (0..self.plan.nodes).filter(|node| hears(*node) < needed).collect();
        self.waits = Waits { split_at: clean.then_some(self.now), bereft, wrong: true, ..Waits::default() };
        self.figures.begin(round.kind);
    }

    fn heal(&mut self, index: usize) {
        self.cut.clear();
        self.loss = 0.002;
        for node in 0..self.nodes.len() {
            self.nodes[node].medium.takes = Duration::from_millis(1);
            self.restart(node);
        }
        let target = self.committed.keys().next_back().copied().unwrap_or(0);
        let healed_at = Some(self.now);
        self.waits = Waits { healed_at, target, wrong_until: self.now + GRACE, ..Waits::default() };
        self.figures.heal(self.rounds[index].kind);
    }

    /// Lets a node do something, and carries out what comes of it.
    fn with(&mut self, node: usize, what: impl FnOnce(&mut Life, Instant)) {
        let local = self.nodes[node].clock.local(self.now);
        if let Some(life) = &mut self.nodes[node].life {
            what(life, local);
            self.pump(node);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, packet: Packet) {
        if self.cut.contains(&(from, to)) {
            return;
        }
        let mut refused = None;
        self.with(to, |life, now| {
            let from = peer(from);
            match packet {
                Packet::Partition(bytes) => {
                    let outputs = life.partition.on_packet(now, from, &bytes);
                    life.take_partition(outputs);
                }
                Packet::Log(bytes) => {
                    refused = life.log.on_packet(now, from, &bytes).err().map(|error| error.to_string());
                    life.take_log();
                }
                Packet::State(bytes) => {
                    life.resolution.on_log_end(life.log.status().last);
                    // What comes late, of a leader of old, is refused as it should be.
                    let _ = life.resolution.on_packet(now, from, &bytes, &mut life.table);
                    life.take_resolution();
                }
                Packet::Propose(command, holder) => {
                    if life.log.is_leader() {
                        life.propose(now, command, holder);
                    }
                }
            }
        });
        if let Some(what) = refused {
            self.violations.push(Violation::Failed { node: to, what });
        }
    }

    fn wake(&mut self, node: usize) {
        if self.nodes[node].wake_at != Some(self.now) {
            return;
        }
        self.nodes[node].wake_at = None;
        let sabotage = self.plan.sabotage;
        self.with(node, |life, now| {
            let outputs = life.partition.on_timeout(now);
            life.take_partition(outputs);
            if life.log.deadline().is_some_and(|at| at <= now) {
                life.log.on_timeout(now);
                life.take_log();
            }
            if life.resolution.deadline().is_some_and(|at| at <= now) {
                life.resolution.on_log_end(life.log.status().last);
                life.resolution.on_timeout(now, &mut life.table);
                life.take_resolution();
            }
            let due: Vec<Command> =
                life.waiting.values().filter(|(_, at)| *at <= now).map(|(command, _)| *command).collect();
            for command in due {
                life.propose_again(now, command, sabotage);
            }
        });
    }

    fn client(&mut self, node: usize) {
        if self.now > self.clients_until {
            return;
        }
        let pause = self.rng.random_range(100 * MS..600 * MS);
        self.put(self.now + pause, Event::Client(node));
        if self.nodes[node].life.is_none() {
            return;
        }
        let id = self.history.len() as u64 + 1;
        let operation = match self.rng.random_range(0..4) {
            0 => Operation::Write(id),
            1 => Operation::Read,
            _ => Operation::Bet {
                from: self.rng.random_range(0..ACCOUNTS),
                to: self.rng.random_range(0..ACCOUNTS),
                stake: self.rng.random_range(1..300),
            },
        };
        let (sabotage, mut told, at) = (self.plan.sabotage, Told::Nothing, self.now);
        self.with(node, |life, now| {
            let working = life.running || sabotage == Sabotage::NeverPauses;
            let Some(token) = life.token(now, sabotage).filter(|_| working) else {
                told = Told::Refused;
                return;
            };
            let command = Command { fence: token.term.0, id, operation };
            if sabotage == Sabotage::ReadsLocally && operation == Operation::Read {
                told = Told::Answered(Answer::Value(life.table.committed.register), at);
            } else if sabotage == Sabotage::AnswersEarly && matches!(operation, Operation::Write(_)) {
                told = Told::Answered(Answer::Written, at);
            }
            life.accept(now, command, token.holder);
        });
        self.history.entry(id).or_insert(Asked { operation, at, node, told });
    }

    fn written(&mut self, node: usize, life: u64) {
        if self.nodes[node].lives != life {
            return;
        }
        let keeps = self.plan.sabotage != Sabotage::ForgetsWrites || self.rng.random_bool(0.5);
        self.nodes[node].keep(usize::MAX, keeps);
        self.pump(node);
    }

    /// Carries out what a node wants done, up to the next thing that has to be written, and sees to it that it is woken.
    fn pump(&mut self, node: usize) {
        loop {
            let host = &mut self.nodes[node];
            let Some(life) = host.life.as_mut().filter(|life| life.writing == 0) else { break };
            let Some(step) = life.steps.front() else { break };
            if step.is_write() {
                let takes = u64::try_from(host.medium.takes.as_nanos()).unwrap_or(u64::MAX);
                let until = self.now + takes / 2 + self.rng.random_range(0..=takes);
                // Whatever waits to be written goes in one go.
                life.writing = life.steps.iter().filter(|step| step.is_write()).count();
                let life = host.lives;
                self.put(until, Event::Written { node, life });
                break;
            }
            let Some(step) = life.steps.pop_front() else { break };
            self.carry_out(node, step);
        }
        self.plan_wake(node);
        self.check_active();
    }

    fn plan_wake(&mut self, node: usize) {
        let host = &mut self.nodes[node];
        let Some(life) = &host.life else { return };
        let local = host.clock.local(self.now);
        let at = host.clock.moment(life.deadline(local)).max(self.now + 1);
        if host.wake_at.is_none_or(|wake| at < wake || wake <= self.now) {
            host.wake_at = Some(at);
            self.put(at, Event::Wake(node));
        }
    }

    fn send(&mut self, from: usize, to: PeerId, packet: Packet) {
        let to = number(to);
        let copies = if self.rng.random_bool(0.01) { 2 } else { 1 };
        for _ in 0..copies {
            if self.cut.contains(&(from, to)) || self.rng.random_bool(self.loss) {
                continue;
            }
            let late = if self.rng.random_bool(0.01) { self.rng.random_range(0..400 * MS) } else { 0 };
            let at = self.now + self.rng.random_range(3 * MS..35 * MS) + late;
            self.put(at, Event::Deliver { from, to, packet: packet.clone() });
        }
    }

    fn carry_out(&mut self, node: usize, step: Step) {
        match step {
            Step::WriteLog(_) | Step::WriteLease(_) => {}
            Step::Send(to, packet) => self.send(node, to, packet),
            Step::Partition(output) => self.carry_out_partition(node, output),
            Step::Log(output) => self.carry_out_log(node, output),
            Step::State(output) => self.carry_out_state(node, output),
        }
    }

    fn carry_out_partition(&mut self, node: usize, output: PartitionOutput) {
        match output {
            PartitionOutput::Emit(event) => self.on_partition_event(node, &event),
            PartitionOutput::Pause { .. } => self.with_quietly(node, |life, now| {
                life.running = false;
                let outputs = life.partition.on_paused(now);
                life.take_partition(outputs);
            }),
            PartitionOutput::Resume { .. } => self.with_quietly(node, |life, now| {
                life.running = true;
                let outputs = life.partition.on_resumed(now, true);
                life.take_partition(outputs);
            }),
            PartitionOutput::Recover(step) => self.with_quietly(node, |life, now| match step {
                RecoveryStep::SynchronizingState => {
                    life.resolution.on_log_end(life.log.status().last);
                    life.resolution.seek(now, &mut life.table);
                    life.take_resolution();
                }
                RecoveryStep::ValidatingConsensus => {
                    let holds = life.partition.token(now).is_some();
                    life.on_step(now, step, holds.then_some(()).ok_or(RecoveryFailure::NoConsensus));
                }
                RecoveryStep::Initializing
                | RecoveryStep::DetectingPeers
                | RecoveryStep::Finalizing
                | RecoveryStep::Complete
                | RecoveryStep::Failed(_) => {}
            }),
            PartitionOutput::Order(Order::RollBack) => self.with_quietly(node, |life, _| life.roll_back()),
            PartitionOutput::PersistEvidence(evidence) => self.nodes[node].medium.remembered.evidence = evidence,
            PartitionOutput::Order(_)
            | PartitionOutput::PersistLease(_)
            | PartitionOutput::Send { .. }
            | PartitionOutput::Newer { .. } => {}
        }
    }

    fn on_partition_event(&mut self, node: usize, event: &PartitionEvent) {
        let blamed = !self.waits.wrong && self.now > self.waits.wrong_until;
        match event {
            PartitionEvent::Suspected { .. } => {
                self.figures.false_suspicions += u64::from(blamed);
                if let Some(at) = self.waits.split_at.filter(|_| self.waits.notices(node, true)) {
                    self.figures.detected(self.now - at);
                }
            }
            PartitionEvent::Split { .. } => {
                self.figures.false_partitions += u64::from(blamed);
                if let Some(at) = self.waits.split_at.filter(|_| self.waits.notices(node, false)) {
                    self.figures.acted(self.now - at);
                }
            }
            PartitionEvent::Excluded { peer } => {
                self.violations.push(Violation::Failed { node, what: format!("{peer:?} was excluded") });
            }
            _ => {}
        }
    }

    fn carry_out_log(&mut self, node: usize, output: LogOutput) {
        match output {
            LogOutput::Committed { index, term, bytes } => self.on_committed(node, Position { term, index }, bytes),
            LogOutput::Leader { term, peer } => {
                if let Some(leader) = peer {
                    if *self.leaders.entry(term).or_insert(leader) != leader {
                        self.violations.push(Violation::TwoLeaders { term });
                    }
                }
                self.with_quietly(node, |life, _| {
                    life.resolution.on_leader(term, peer);
                    life.take_resolution();
                });
            }
            LogOutput::Restore { state, .. } => {
                self.with_quietly(node, |life, _| {
                    life.table.load(&state);
                });
            }
            LogOutput::SnapshotWanted { .. } => self.with_quietly(node, |life, now| {
                // A state that the log is yet to reach is refused, and asked for again.
                let _ = life.log.snapshot(now, life.table.committed.position.index, life.table.save());
                life.take_log();
            }),
            LogOutput::Persist(_) | LogOutput::Send { .. } | LogOutput::Members { .. } | LogOutput::Counting(_) => {}
        }
    }

    fn with_quietly(&mut self, node: usize, what: impl FnOnce(&mut Life, Instant)) {
        let local = self.nodes[node].clock.local(self.now);
        if let Some(life) = &mut self.nodes[node].life {
            what(life, local);
        }
    }

    fn on_committed(&mut self, node: usize, position: Position, bytes: Bytes) {
        self.trace.update(&self.now.to_be_bytes()).update(&[u8::try_from(node).unwrap_or(u8::MAX)]);
        let seen = self.committed.entry(position.index).or_insert_with(|| (position.term, bytes.clone()));
        if *seen != (position.term, bytes.clone()) {
            self.violations.push(Violation::TwoEntries { index: position.index });
        }
        let mut answered = None;
        self.with_quietly(node, |life, now| {
            let Some((command, answer)) = life.table.on_committed(position, &bytes, true) else { return };
            if let (Some(answer), Some(_)) = (answer, life.waiting.get(&command.id)) {
                answered = Some((command.id, answer));
            }
            if !life.table.open.contains_key(&command.id) {
                life.waiting.remove(&command.id);
            } else if let Some((_, at)) = life.waiting.get_mut(&command.id) {
                // It was proposed under a lease that was over.
                *at = now;
            }
        });
        if let Some((id, answer)) = answered {
            let now = self.now;
            if let Some(asked) =
                self.history.get_mut(&id).filter(|asked| asked.node == node && asked.told == Told::Nothing)
            {
                asked.told = Told::Answered(answer, now);
            }
        }
    }

    fn carry_out_state(&mut self, node: usize, output: ResolutionOutput) {
        match output {
            ResolutionOutput::Adopted { .. } => {
                self.figures.adopted += 1;
                self.with_quietly(node, Life::on_adopted);
            }
            ResolutionOutput::Propose(bytes) => self.with_quietly(node, |life, now| {
                if let Some(command) = Command::decode(&bytes) {
                    life.waiting.insert(command.id, (command, now));
                }
            }),
            ResolutionOutput::RolledBack { reason, .. } => {
                self.figures.rolled_back += 1;
                if matches!(reason, RollbackReason::InDoubt(_)) {
                    self.violations.push(Violation::Failed { node, what: reason.to_string() });
                }
            }
            ResolutionOutput::Resolved { outcome, .. } => self.with_quietly(node, |life, now| {
                let done = match outcome {
                    Some(Outcome::Same | Outcome::Adopted | Outcome::Ahead) => Ok(()),
                    Some(Outcome::RolledBack) => Err(RecoveryFailure::NotSynchronized),
                    None => return,
                };
                life.on_step(now, RecoveryStep::SynchronizingState, done);
            }),
            ResolutionOutput::Failed { .. } => self.figures.unresolved += 1,
            ResolutionOutput::Send { .. } => {}
        }
    }

    /// Never two holders at once: looked at whenever a node did something, for only then one becomes active.
    fn check_active(&mut self) {
        let sabotage = self.plan.sabotage;
        let mut active: Option<(usize, PeerId)> = None;
        for index in 0..self.nodes.len() {
            let host = &mut self.nodes[index];
            let now = host.clock.local(self.now);
            let Some(token) = host.life.as_mut().and_then(|life| life.token(now, sabotage)) else { continue };
            match active {
                Some((other, holder)) if holder != token.holder => {
                    let at_ms = self.now / MS;
                    self.violations.push(Violation::DoubleActive { at_ms, nodes: (other, index) });
                    return;
                }
                Some(_) => {}
                None => active = Some((index, token.holder)),
            }
        }
    }

    /// Recovered: everybody works, under one holder, with everything that was committed when all was well again.
    fn watch(&mut self) {
        self.put(self.now + WATCH, Event::Watch);
        let Some(at) = self.waits.healed_at else { return };
        let mut holders = BTreeSet::new();
        for host in &self.nodes {
            let now = host.clock.local(self.now);
            let Some(life) = host.life.as_ref().filter(|life| life.running) else { return };
            let Some(token) = life.partition.token(now) else { return };
            if life.table.committed.position.index < self.waits.target {
                return;
            }
            holders.insert(token.holder);
        }
        if holders.len() == 1 {
            self.waits.healed_at = None;
            self.figures.recovered(self.now - at);
        }
    }

    /// Looks at the whole when everything had time to be well again.
    fn judge(&mut self) {
        if self.violations.len() >= super::VIOLATIONS_MAX {
            return;
        }
        if self.waits.healed_at.is_some() {
            self.violations.push(Violation::Stuck { waited_ms: (END + CALM) / MS });
        }
        let decode = |(index, (_, bytes)): (&u64, &(u64, Bytes))| Some((*index, Command::decode(bytes)?));
        let log: BTreeMap<u64, Command> = self.committed.iter().filter_map(decode).collect();
        let (violations, expected) = check(&self.history, &log);
        self.violations.extend(violations);
        let total = Committed::default().total();
        for node in 0..self.nodes.len() {
            self.close(node);
            let Some(life) = &self.nodes[node].life else {
                self.violations.push(Violation::NotConverged { node });
                continue;
            };
            let found = &life.table.committed;
            if found.total() != total {
                self.violations.push(Violation::NotConserved { node, found: found.total(), expected: total });
            }
            if !found.is_same(&expected) || !life.table.open.is_empty() {
                self.violations.push(Violation::NotConverged { node });
            }
        }
        self.figures.lasted_ns = self.now;
        self.figures.tally(&self.history);
    }
}
