//! Many memberships on a virtual network and virtual time, for tests and for figures: latency, loss, cuts, crashes, starved nodes.
//!
//! Everything follows from the seed. Signatures are a stand-in that anybody could forge; nobody here does, unless a test wants it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use bowline_messages::config::MembershipConfig;
use bowline_messages::membership::MembershipEvent;
use bowline_messages::{Incarnation, PeerId};
use bytes::Bytes;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::wire::SIGNATURE_BYTES;
use super::{Keys, Membership, MembershipOutput};

/// Packets that wait for a node that does not run, at most; more are lost.
const MAILBOX: usize = 1000;

/// A stand-in for a key: quick, and worth nothing.
#[derive(Debug, Clone, Copy)]
pub struct CheapKeys(pub PeerId);

impl CheapKeys {
    fn digest(peer: &PeerId, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        // FNV-1a, by words: enough that a changed bit is noticed.
        let mut state = 0xcbf2_9ce4_8422_2325_u64;
        for chunk in peer.as_bytes().chunks(8).chain(bytes.chunks(8)) {
            let word = chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            state = (state ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        let mut signature = [0; SIGNATURE_BYTES];
        signature[..8].copy_from_slice(&state.to_be_bytes());
        signature
    }
}

impl Keys for CheapKeys {
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        Self::digest(&self.0, bytes)
    }

    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Self::digest(peer, bytes) == *signature
    }

    fn admits(&self, _: &PeerId) -> bool {
        true
    }
}

/// How the virtual network is.
#[derive(Debug, Clone)]
pub struct Network {
    /// How long a packet takes, one way.
    pub delay: Range<Duration>,
    /// How many of a thousand packets are lost.
    pub loss_permille: u32,
}

impl Default for Network {
    fn default() -> Self {
        Self { delay: Duration::from_millis(10)..Duration::from_millis(60), loss_permille: 10 }
    }
}

/// One node.
#[derive(Debug)]
struct Station {
    peer: PeerId,
    life: u64,
    /// None when it is not running and will not by itself.
    machine: Option<Membership>,
    /// It is stopped; what comes waits.
    stopped: bool,
    waiting: VecDeque<Bytes>,
    /// The moment its timer is set to.
    timer: Option<Instant>,
}

/// Something that happens to a node.
#[derive(Debug)]
enum Happening {
    Packet(usize, Bytes),
    Timer(usize),
    Stop(usize, Starvation),
    Run(usize, Starvation),
}

/// How a node is starved: it runs and is stopped in turns, each so long, at random.
#[derive(Debug, Clone)]
pub struct Starvation {
    /// How long it runs.
    pub runs: Range<Duration>,
    /// How long it is stopped.
    pub stopped: Range<Duration>,
}

/// Something that a node noticed.
#[derive(Debug, Clone, PartialEq)]
pub struct Noted {
    /// When, since the start.
    pub at: Duration,
    /// Who.
    pub by: usize,
    /// What.
    pub event: MembershipEvent,
}

/// Nodes on a virtual network.
pub struct Simulation {
    start: Instant,
    now: Instant,
    config: MembershipConfig,
    network: Network,
    rng: ChaCha8Rng,
    stations: Vec<Station>,
    places: BTreeMap<PeerId, usize>,
    happenings: BTreeMap<(Instant, u64), Happening>,
    numbered: u64,
    cut: BTreeSet<(usize, usize)>,
    /// What was noticed, oldest first.
    pub noted: Vec<Noted>,
    /// Bytes sent by each node.
    pub bytes: Vec<u64>,
    /// Packets sent by each node.
    pub packets: Vec<u64>,
}

impl Simulation {
    /// A network without nodes; `start` is any moment.
    pub fn new(start: Instant, config: MembershipConfig, network: Network, seed: u64) -> Self {
        Self {
            start,
            now: start,
            config,
            network,
            rng: ChaCha8Rng::seed_from_u64(seed),
            stations: Vec::new(),
            places: BTreeMap::new(),
            happenings: BTreeMap::new(),
            numbered: 0,
            cut: BTreeSet::new(),
            noted: Vec::new(),
            bytes: Vec::new(),
            packets: Vec::new(),
        }
    }

    /// The name of the node with this number, whatever the simulation.
    pub fn peer(node: usize) -> PeerId {
        let mut name = [0x5a; 32];
        // Names in another order than numbers, which differ at both ends as keys do: lists are compared in parts by the last byte.
        let mixed = (node as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        name[..8].copy_from_slice(&mixed.to_be_bytes());
        name[24..].copy_from_slice(&mixed.to_be_bytes());
        PeerId::from_bytes(name)
    }

    /// The number of a node.
    pub fn place(&self, peer: &PeerId) -> Option<usize> {
        self.places.get(peer).copied()
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// The present moment.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Starts one more node. Its number is the answer.
    pub fn add(&mut self) -> usize {
        let node = self.stations.len();
        let peer = Self::peer(node);
        self.places.insert(peer, node);
        let timer = None;
        self.stations.push(Station { peer, life: 0, machine: None, stopped: false, waiting: VecDeque::new(), timer });
        self.bytes.push(0);
        self.packets.push(0);
        self.restart(node);
        node
    }

    /// Starts so many nodes; each joins by the first one, in the course of so long.
    pub fn add_group(&mut self, count: usize, over: Duration) {
        let pause = over / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        for _ in 0..count {
            let node = self.add();
            if node > 0 {
                self.join(node, 0);
            }
            self.run(pause);
        }
    }

    /// Starts a node anew, in its next life.
    pub fn restart(&mut self, node: usize) {
        let (now, config, seed) = (self.now, self.config.clone(), self.rng.next_u64());
        let station = &mut self.stations[node];
        station.life += 1;
        let keys = Box::new(CheapKeys(station.peer));
        let life = Incarnation(station.life);
        station.machine = Some(Membership::new(now, config, station.peer, life, keys, seed));
        station.timer = None;
        self.settle(node);
    }

    /// Has one node join by another.
    pub fn join(&mut self, node: usize, by: usize) {
        let (now, peer) = (self.now, Self::peer(by));
        self.with(node, |machine| machine.join(now, peer));
    }

    /// Does something with a node that runs.
    pub fn with<R>(&mut self, node: usize, work: impl FnOnce(&mut Membership) -> R) -> Option<R> {
        let result = self.stations[node].machine.as_mut().map(work);
        self.settle(node);
        result
    }

    /// A node that runs.
    pub fn machine(&self, node: usize) -> Option<&Membership> {
        self.stations[node].machine.as_ref()
    }

    /// Ends a node without a word.
    pub fn crash(&mut self, node: usize) {
        self.stations[node].machine = None;
        self.stations[node].waiting.clear();
    }

    /// Has a node say good-bye and end.
    pub fn leave(&mut self, node: usize) {
        let now = self.now;
        self.with(node, |machine| machine.leave(now));
        self.crash(node);
    }

    /// Cuts the way from one node to another, in that direction only.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Cuts the nodes up to a number off from the others.
    pub fn split(&mut self, first: usize) {
        for a in 0..first {
            for b in first..self.stations.len() {
                self.cut.extend([(a, b), (b, a)]);
            }
        }
    }

    /// Mends everything that was cut.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Starves a node from now on.
    pub fn starve(&mut self, node: usize, starvation: Starvation) {
        let after = self.random(&starvation.runs);
        self.schedule(self.now + after, Happening::Stop(node, starvation));
    }

    /// Brings bytes to a node as if they had come over the network.
    pub fn inject(&mut self, node: usize, bytes: Bytes) {
        self.schedule(self.now, Happening::Packet(node, bytes));
    }

    /// Lets so much time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(first) = self.happenings.first_entry().filter(|first| first.key().0 <= until) {
            self.now = self.now.max(first.key().0);
            let happening = first.remove();
            self.happen(happening);
        }
        self.now = until;
    }

    /// Lets time pass until something is so, at most so long; whether it is.
    pub fn run_until(&mut self, most: Duration, so: impl Fn(&Self) -> bool) -> bool {
        let until = self.now + most;
        while !so(self) {
            if self.now >= until {
                return false;
            }
            self.run(Duration::from_millis(50));
        }
        true
    }

    /// Whether every node that runs has all others that run as members, and nobody else.
    pub fn is_complete(&self) -> bool {
        let running = self.stations.iter().filter(|station| station.machine.is_some()).count();
        self.stations
            .iter()
            .filter_map(|station| station.machine.as_ref())
            .all(|machine| machine.active() + 1 == running)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Packet(node, bytes) => {
                let now = self.now;
                let station = &mut self.stations[node];
                if station.stopped {
                    if station.waiting.len() < MAILBOX {
                        station.waiting.push_back(bytes);
                    }
                } else if let Some(machine) = station.machine.as_mut() {
                    // What is refused is counted by the machine.
                    let _ = machine.on_packet(now, &bytes);
                    self.settle(node);
                }
            }
            Happening::Timer(node) => self.fire(node),
            Happening::Stop(node, starvation) => {
                self.stations[node].stopped = true;
                let time = self.random(&starvation.stopped);
                self.schedule(self.now + time, Happening::Run(node, starvation));
            }
            Happening::Run(node, starvation) => {
                self.stations[node].stopped = false;
                // The timer before the mailbox: the worse order.
                self.fire(node);
                for bytes in std::mem::take(&mut self.stations[node].waiting) {
                    self.happen(Happening::Packet(node, bytes));
                }
                let time = self.random(&starvation.runs);
                self.schedule(self.now + time, Happening::Stop(node, starvation));
            }
        }
    }

    fn fire(&mut self, node: usize) {
        let now = self.now;
        let station = &mut self.stations[node];
        if station.stopped || station.timer.is_none_or(|at| at > now) {
            return;
        }
        station.timer = None;
        if let Some(machine) = station.machine.as_mut() {
            machine.on_timeout(now);
        }
        self.settle(node);
    }

    /// Carries out what a node wants and sets its timer.
    fn settle(&mut self, node: usize) {
        let at = self.elapsed();
        while let Some(output) = self.stations[node].machine.as_mut().and_then(Membership::poll_output) {
            match output {
                MembershipOutput::Emit(event) => self.noted.push(Noted { at, by: node, event }),
                MembershipOutput::Send { to, unsigned } => {
                    let Some(machine) = &self.stations[node].machine else { continue };
                    let payload = machine.whole(&unsigned);
                    self.bytes[node] += payload.len() as u64;
                    self.packets[node] += 1;
                    let Some(to) = self.place(&to) else { continue };
                    let lost = self.rng.random_range(0..1000) < self.network.loss_permille;
                    if !lost && !self.cut.contains(&(node, to)) {
                        let delay = self.random(&self.network.delay.clone());
                        self.schedule(self.now + delay, Happening::Packet(to, payload));
                    }
                }
            }
        }
        let deadline = self.stations[node].machine.as_ref().and_then(Membership::deadline);
        if let Some(deadline) = deadline.map(|deadline| deadline.max(self.now))
            && self.stations[node].timer.is_none_or(|at| at > deadline)
        {
            self.stations[node].timer = Some(deadline);
            self.schedule(deadline, Happening::Timer(node));
        }
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.numbered += 1;
        self.happenings.insert((at, self.numbered), happening);
    }

    fn random(&mut self, range: &Range<Duration>) -> Duration {
        if range.is_empty() { range.start } else { self.rng.random_range(range.clone()) }
    }
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("elapsed", &self.elapsed()).field("nodes", &self.stations.len()).finish()
    }
}
