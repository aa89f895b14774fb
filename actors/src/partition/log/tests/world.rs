//! Some logs and a network between them, on virtual time: packets are late, lost, twice; media are slow; nodes crash.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::PartitionLogConfig;
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::super::*;

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn peer(number: u8) -> PeerId {
    PeerId::from_bytes([number; 32])
}

/// What became of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not decided yet.
    Open,
    /// It is committed.
    Committed,
    /// Another entry is committed in its place, or in a later term: it never will be.
    Lost,
    /// It is so long ago that the log does not tell any more.
    Forgotten,
}

/// What tests ask of a log, or do to it, and nobody else.
impl Log {
    /// What became of a proposal.
    pub(super) fn fate(&self, id: ProposalId) -> Fate {
        let term_at = |index| self.node.log().entries().get_term(LogIndex::new(index)).map(Term::get);
        if id.index < self.snapshot.position.index {
            Fate::Forgotten
        } else if id.index <= self.delivered {
            if term_at(id.index) == Some(id.term) { Fate::Committed } else { Fate::Lost }
        } else if term_at(self.delivered).is_some_and(|term| term > id.term) {
            Fate::Lost
        } else {
            Fate::Open
        }
    }

    /// Changes who only follows: a new participant first catches up and then becomes a voter.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub(super) fn change_learners(
        &mut self,
        now: Instant,
        learners: BTreeSet<PeerId>,
    ) -> Result<ProposalId, ProposeError> {
        let membership = Membership { learners, ..self.membership() };
        self.change(now, membership)
    }
}

/// A node: its log, its medium, and what waits for the medium.
pub(super) struct Node {
    pub(super) log: Log,
    pub(super) stored: Stored,
    waiting: VecDeque<LogOutput>,
    durable_at: Option<Instant>,
    pub(super) up: bool,
    /// What the application has: all commands in order.
    pub(super) applied: Vec<(u64, u64, Bytes)>,
    pub(super) members: Option<Membership>,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) rng: ChaCha8Rng,
    pub(super) nodes: BTreeMap<PeerId, Node>,
    packets: BTreeMap<(Instant, u64), (PeerId, PeerId, Bytes)>,
    sent: u64,
    pub(super) cut: BTreeSet<(PeerId, PeerId)>,
    pub(super) loss: f64,
    /// How much later everything arrives at these and from these.
    pub(super) slow: BTreeMap<PeerId, Duration>,
    /// Bytes sent to each.
    pub(super) bytes_to: BTreeMap<PeerId, usize>,
    pub(super) config: PartitionLogConfig,
    leaders: BTreeMap<u64, PeerId>,
    /// What anybody saw committed.
    pub(super) committed: BTreeMap<u64, (u64, Bytes)>,
    pub(super) disk: Duration,
    pub(super) trace: blake3::Hasher,
    /// Somebody lies: then nodes may be told of two leaders, and of two contents of what is not committed at a majority.
    pub(super) liar: bool,
    lives: u64,
}

impl World {
    pub(super) fn new(count: u8, seed: u64) -> Self {
        Self::with_config(count, seed, |_| {})
    }

    pub(super) fn with_config(count: u8, seed: u64, change: impl FnOnce(&mut PartitionLogConfig)) -> Self {
        let start = Instant::now();
        let mut config = PartitionLogConfig { snapshot_after: 40, entries_max: 400, ..PartitionLogConfig::default() };
        change(&mut config);
        let mut world = Self {
            now: start,
            start,
            rng: ChaCha8Rng::seed_from_u64(seed),
            nodes: BTreeMap::new(),
            packets: BTreeMap::new(),
            sent: 0,
            cut: BTreeSet::new(),
            loss: 0.0,
            slow: BTreeMap::new(),
            bytes_to: BTreeMap::new(),
            config,
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            disk: ms(1),
            trace: blake3::Hasher::new(),
            liar: false,
            lives: 0,
        };
        let membership = Membership::of((1..=count).map(peer));
        for number in 1..=count {
            world.start(peer(number), Stored::new(membership.clone()));
        }
        world
    }

    pub(super) fn start(&mut self, me: PeerId, stored: Stored) {
        self.lives += 1;
        let seed = self.lives;
        let log = Log::new(self.now, me, stored.clone(), self.config.clone(), seed).unwrap();
        let node = Node {
            log,
            stored,
            waiting: VecDeque::new(),
            durable_at: None,
            up: true,
            applied: Vec::new(),
            members: None,
        };
        self.nodes.insert(me, node);
        self.pump(me);
    }

    /// Whatever was not durable is lost, and everything behind it never happened.
    pub(super) fn crash(&mut self, me: PeerId) {
        let node = self.nodes.get_mut(&me).unwrap();
        node.up = false;
        node.waiting.clear();
    }

    pub(super) fn restart(&mut self, me: PeerId) {
        let stored = self.nodes[&me].stored.clone();
        self.start(me, stored);
    }

    pub(super) fn cut_off(&mut self, side: &[u8]) {
        let side: BTreeSet<PeerId> = side.iter().map(|number| peer(*number)).collect();
        let all: Vec<PeerId> = self.nodes.keys().copied().collect();
        for a in &all {
            for b in &all {
                if side.contains(a) != side.contains(b) {
                    self.cut.insert((*a, *b));
                }
            }
        }
    }

    pub(super) fn propose(&mut self, to: PeerId, text: &str) -> Result<ProposalId, ProposeError> {
        let id = self.nodes.get_mut(&to).unwrap().log.propose(self.now, Bytes::copy_from_slice(text.as_bytes()));
        self.pump(to);
        id
    }

    pub(super) fn leader(&self) -> Option<PeerId> {
        let leads = |(_, node): &(&PeerId, &Node)| node.up && node.log.is_leader();
        let of = |(peer, node): (&PeerId, &Node)| (node.log.status().term, *peer);
        self.nodes.iter().filter(leads).map(of).max().map(|(_, peer)| peer)
    }

    pub(super) fn with<T>(&mut self, me: PeerId, what: impl FnOnce(&mut Log, Instant) -> T) -> T {
        let now = self.now;
        let done = what(&mut self.nodes.get_mut(&me).unwrap().log, now);
        self.pump(me);
        done
    }

    fn pump(&mut self, me: PeerId) {
        let node = self.nodes.get_mut(&me).unwrap();
        while let Some(output) = node.log.poll_output() {
            node.waiting.push_back(output);
        }
        self.drain(me);
    }

    fn drain(&mut self, me: PeerId) {
        loop {
            let now = self.now;
            let disk = self.disk;
            let node = self.nodes.get_mut(&me).unwrap();
            if node.durable_at.is_some_and(|at| at > now) {
                return;
            }
            let Some(output) = node.waiting.front().cloned() else { return };
            if let LogOutput::Persist(persist) = &output {
                if node.durable_at.take().is_none() {
                    node.durable_at = Some(now + disk);
                    return;
                }
                let record = Persist::decode(&persist.encode()).unwrap();
                node.stored.apply(record).unwrap();
            }
            node.waiting.pop_front();
            self.carry_out(me, output);
        }
    }

    fn carry_out(&mut self, me: PeerId, output: LogOutput) {
        self.trace.update(format!("{:?} {me} {output:?}", self.now - self.start).as_bytes());
        match output {
            LogOutput::Persist(_) => {}
            LogOutput::Send { to, payload } => {
                assert!(payload.len() <= wire::PACKET_BYTES_MAX);
                *self.bytes_to.entry(to).or_default() += payload.len();
                let slow = [me, to].iter().filter_map(|peer| self.slow.get(peer)).sum::<Duration>();
                let copies = if self.rng.random_bool(0.02) { 2 } else { 1 };
                for _ in 0..copies {
                    if !self.cut.contains(&(me, to)) && !self.rng.random_bool(self.loss) {
                        self.sent += 1;
                        let late = if self.rng.random_bool(0.02) { ms(400) } else { ms(0) };
                        let at = self.now + ms(self.rng.random_range(5..30)) + late + slow;
                        self.packets.insert((at, self.sent), (me, to, payload.clone()));
                    }
                }
            }
            LogOutput::Committed { index, term, bytes } => {
                let seen = self.committed.entry(index).or_insert((term, bytes.clone()));
                assert!(self.liar || seen == &(term, bytes.clone()), "two entries committed at {index}");
                let node = self.nodes.get_mut(&me).unwrap();
                assert!(node.applied.last().is_none_or(|last| last.0 < index));
                node.applied.push((index, term, bytes));
            }
            LogOutput::Restore { position, state } => {
                let node = self.nodes.get_mut(&me).unwrap();
                node.applied = serde_json::from_slice(&state).unwrap();
                assert!(node.applied.last().is_none_or(|last| last.0 <= position.index));
            }
            LogOutput::Members { membership, .. } => self.nodes.get_mut(&me).unwrap().members = Some(membership),
            LogOutput::Leader { term, peer: Some(leader) } => {
                assert!(
                    self.liar || *self.leaders.entry(term).or_insert(leader) == leader,
                    "two leaders in term {term}"
                );
            }
            LogOutput::Leader { peer: None, .. } | LogOutput::Counting(_) => {}
            LogOutput::SnapshotWanted { .. } => {
                let node = self.nodes.get_mut(&me).unwrap();
                // As far as the application is, which may be less than the log by now.
                let index = node.applied.last().map_or(0, |last| last.0);
                let state = serde_json::to_vec(&node.applied).unwrap();
                let _ = node.log.snapshot(self.now, index, state.into());
                while let Some(output) = node.log.poll_output() {
                    node.waiting.push_back(output);
                }
            }
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timer = |(peer, node): (&PeerId, &Node)| node.log.deadline().filter(|_| node.up).map(|at| (at, *peer));
            let next_timer = self.nodes.iter().filter_map(timer).min();
            let disk = |(peer, node): (&PeerId, &Node)| node.durable_at.filter(|_| node.up).map(|at| (at, *peer));
            let next_disk = self.nodes.iter().filter_map(disk).min();
            let next_packet = self.packets.keys().next().copied();
            let times = [next_timer.map(|(at, _)| at), next_disk.map(|(at, _)| at), next_packet.map(|(at, _)| at)];
            let Some(at) = times.into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            if let Some((_, me)) = next_disk.filter(|(disk, _)| *disk == at) {
                // Durable; what waited goes on.
                self.nodes.get_mut(&me).unwrap().durable_at = Some(at);
                self.drain(me);
                let node = self.nodes.get_mut(&me).unwrap();
                if node.durable_at == Some(at) {
                    node.durable_at = None;
                }
            } else if let Some(key) = next_packet.filter(|(packet, _)| *packet == at) {
                let (from, to, payload) = self.packets.remove(&key).unwrap();
                if self.nodes.get(&to).is_some_and(|node| node.up) && !self.cut.contains(&(from, to)) {
                    let taken = self.with(to, |log, now| log.on_packet(now, from, &payload));
                    // What a liar made of an honest node may be refused by others.
                    assert!(self.liar || taken.is_ok(), "{taken:?}");
                }
            } else if let Some((_, me)) = next_timer {
                self.with(me, |log, now| log.on_timeout(now));
            }
            self.check_bounds();
        }
        self.now = end;
    }

    fn check_bounds(&self) {
        for node in self.nodes.values() {
            let status = node.log.status();
            // Twice as many for the beginnings of terms, which only a liar makes that many.
            let most = self.config.entries_max * if self.liar { 2 } else { 1 };
            assert!(status.last.index - status.snapshot.index <= most as u64);
        }
    }

    /// Everybody who is up has everything that anybody saw committed.
    pub(super) fn assert_converged(&self) {
        let all: Vec<_> = self.committed.iter().map(|(index, (term, bytes))| (*index, *term, bytes.clone())).collect();
        for (peer, node) in self.nodes.iter().filter(|(_, node)| node.up) {
            assert_eq!(node.applied, all, "{peer:?} lacks something");
        }
    }
}
