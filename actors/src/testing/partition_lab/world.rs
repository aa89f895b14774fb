//! Nodes, the network between them, and clients, on virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::PartitionConfig;
use bowline_messages::network::Concern;
use bowline_messages::partition::PartitionEvent;
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::fault::{self, Round};
use super::figures::Figures;
use super::history::{Asked, History, Told, Violation, check};
use super::node::{Clock, Node, number, peer};
use super::table::{ACCOUNTS, Answer, Asking, Book, Command, Operation};
use super::{Plan, Sabotage};
use crate::partition::detector::needed;
use crate::partition::group::{CommandId, Group, GroupError, GroupOutput};
use crate::partition::state::RollbackReason;

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
    Deliver { from: usize, to: usize, concern: Concern, payload: Bytes },
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
    /// The numbers of what clients asked, by the names that the nodes gave it.
    asked: BTreeMap<CommandId, u64>,
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
    pub(super) fn new(plan: &'a Plan, seed: u64, epoch: Instant) -> Result<Self, GroupError> {
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
            asked: BTreeMap::new(),
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

    fn schedule(&mut self, seed: u64) -> Result<(), GroupError> {
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
            Event::Deliver { from, to, concern, payload } => self.deliver(from, to, concern, &payload),
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
                let kept = self.rng.random_range(0..=self.nodes[node].writing.len());
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
            self.figures.add(&life.report(now).partition.metrics);
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
    fn with(&mut self, node: usize, what: impl FnOnce(&mut Group<Book>, Instant)) {
        let local = self.nodes[node].clock.local(self.now);
        if let Some(life) = &mut self.nodes[node].life {
            what(life, local);
            self.pump(node);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, concern: Concern, payload: &[u8]) {
        if self.cut.contains(&(from, to)) {
            return;
        }
        let mut refused = None;
        self.with(to, |life, now| refused = life.on_packet(now, peer(from), concern, payload).err());
        if let Some(what) = refused {
            self.violations.push(Violation::Failed { node: to, what });
        }
    }

    fn wake(&mut self, node: usize) {
        if self.nodes[node].wake_at != Some(self.now) {
            return;
        }
        self.nodes[node].wake_at = None;
        self.with(node, |life, now| life.on_timeout(now));
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
        let told = self.ask(node, Asking { id, operation });
        self.history.entry(id).or_insert(Asked { operation, at: self.now, node, told });
        self.pump(node);
    }

    /// What the client is told at once.
    fn ask(&mut self, node: usize, asking: Asking) -> Told {
        let (sabotage, now) = (self.plan.sabotage, self.nodes[node].clock.local(self.now));
        let token = self.nodes[node].token(now, sabotage);
        let Some(life) = &mut self.nodes[node].life else { return Told::Refused };
        let accepted = match token.filter(|_| sabotage == Sabotage::NeverPauses) {
            Some(token) => life.submit_under(now, token, asking.encode()),
            None => life.submit(now, asking.encode()),
        };
        let Ok(name) = accepted else { return Told::Refused };
        self.asked.insert(name, asking.id);
        if sabotage == Sabotage::ReadsLocally && asking.operation == Operation::Read {
            Told::Answered(Answer::Value(life.shared().machine().register), self.now)
        } else if sabotage == Sabotage::AnswersEarly && matches!(asking.operation, Operation::Write(_)) {
            Told::Answered(Answer::Written, self.now)
        } else {
            Told::Nothing
        }
    }

    fn written(&mut self, node: usize, life: u64) {
        if self.nodes[node].lives != life {
            return;
        }
        let keeps = self.plan.sabotage != Sabotage::ForgetsWrites || self.rng.random_bool(0.5);
        self.nodes[node].keep(usize::MAX, keeps);
        self.with(node, |life, _| life.on_written());
    }

    /// Carries out what a node wants done, up to the next thing that has to be written, and sees to it that it is woken.
    fn pump(&mut self, node: usize) {
        loop {
            let now = self.nodes[node].clock.local(self.now);
            let Some(output) = self.nodes[node].life.as_mut().and_then(|life| life.poll_output(now)) else { break };
            self.carry_out(node, now, output);
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

    fn send(&mut self, from: usize, to: PeerId, concern: Concern, payload: &Bytes) {
        let to = number(to);
        let copies = if self.rng.random_bool(0.01) { 2 } else { 1 };
        for _ in 0..copies {
            if self.cut.contains(&(from, to)) || self.rng.random_bool(self.loss) {
                continue;
            }
            let late = if self.rng.random_bool(0.01) { self.rng.random_range(0..400 * MS) } else { 0 };
            let at = self.now + self.rng.random_range(3 * MS..35 * MS) + late;
            self.put(at, Event::Deliver { from, to, concern, payload: payload.clone() });
        }
    }

    fn carry_out(&mut self, node: usize, now: Instant, output: GroupOutput) {
        match output {
            GroupOutput::Write(records) => {
                let host = &mut self.nodes[node];
                let takes = u64::try_from(host.medium.takes.as_nanos()).unwrap_or(u64::MAX);
                let until = self.now + takes / 2 + self.rng.random_range(0..=takes);
                host.writing = records;
                let life = host.lives;
                self.put(until, Event::Written { node, life });
            }
            GroupOutput::WriteEvidence(evidence) => self.nodes[node].medium.durable.remembered.evidence = evidence,
            GroupOutput::Send { to, concern, payload } => self.send(node, to, concern, &payload),
            GroupOutput::Emit(event) => self.on_partition_event(node, &event),
            GroupOutput::Pause { .. } => self.application(node, |life| life.on_paused(now)),
            GroupOutput::Resume { .. } => self.application(node, |life| life.on_resumed(now, true)),
            GroupOutput::Answer { id, answer } => self.on_answer(id, &answer),
            GroupOutput::Committed { position, entry } => self.on_committed(node, position.index, position.term, entry),
            GroupOutput::Leader { term, peer: Some(leader) } => {
                if *self.leaders.entry(term).or_insert(leader) != leader {
                    self.violations.push(Violation::TwoLeaders { term });
                }
            }
            GroupOutput::Adopted => self.figures.adopted += 1,
            GroupOutput::Unresolved => self.figures.unresolved += 1,
            GroupOutput::RolledBack(reason) => {
                self.figures.rolled_back += 1;
                if matches!(reason, RollbackReason::InDoubt(_)) {
                    self.violations.push(Violation::Failed { node, what: reason.to_string() });
                }
            }
            GroupOutput::SnapshotRefused(what) => self.violations.push(Violation::Failed { node, what }),
            GroupOutput::Leader { peer: None, .. } | GroupOutput::Order(_) | GroupOutput::Lost { .. } => {}
        }
    }

    fn application(&mut self, node: usize, answers: impl FnOnce(&mut Group<Book>)) {
        if let Some(life) = &mut self.nodes[node].life {
            answers(life);
        }
    }

    fn on_answer(&mut self, id: CommandId, answer: &Bytes) {
        let (now, asked) = (self.now, self.asked.get(&id));
        let Some(asked) = asked.and_then(|id| self.history.get_mut(id)) else { return };
        if let (Told::Nothing, Ok(answer)) = (asked.told, postcard::from_bytes(answer)) {
            asked.told = Told::Answered(answer, now);
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
            PartitionEvent::Cleared { .. }
            | PartitionEvent::Healed { .. }
            | PartitionEvent::Active { .. }
            | PartitionEvent::Paused { .. }
            | PartitionEvent::Strategy { .. }
            | PartitionEvent::Exhausted
            | PartitionEvent::Recovery { .. }
            | PartitionEvent::Evidence { .. }
            | _ => {}
        }
    }

    fn on_committed(&mut self, node: usize, index: u64, term: u64, entry: Bytes) {
        self.trace.update(&self.now.to_be_bytes()).update(&[u8::try_from(node).unwrap_or(u8::MAX)]);
        let seen = self.committed.entry(index).or_insert_with(|| (term, entry.clone()));
        if *seen != (term, entry) {
            self.violations.push(Violation::TwoEntries { index });
        }
    }

    /// Never two holders at once: looked at whenever a node did something, for only then one becomes active.
    fn check_active(&mut self) {
        let sabotage = self.plan.sabotage;
        let mut active: Option<(usize, PeerId)> = None;
        for index in 0..self.nodes.len() {
            let host = &mut self.nodes[index];
            let now = host.clock.local(self.now);
            let Some(token) = host.token(now, sabotage) else { continue };
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
            let Some(life) = host.life.as_ref().filter(|life| life.is_running()) else { return };
            let Some(token) = life.token(now) else { return };
            if life.shared().position().index < self.waits.target {
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
        let total = Book::default().total();
        for node in 0..self.nodes.len() {
            self.close(node);
            let Some(life) = &self.nodes[node].life else {
                self.violations.push(Violation::NotConverged { node });
                continue;
            };
            let (shared, found) = (life.shared(), life.shared().machine());
            if found.total() != total {
                self.violations.push(Violation::NotConserved { node, found: found.total(), expected: total });
            }
            if *found != expected.book || shared.carried_out() != expected.count() || !shared.open().is_empty() {
                self.violations.push(Violation::NotConverged { node });
            }
        }
        self.figures.lasted_ns = self.now;
        self.figures.tally(&self.history);
    }
}
