//! Nodes on a simulated message plane: datagrams take a while, get lost, arrive out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::topology::LinkFacts;
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::{LinkState, LinkStateOutput, LiveGraph};

/// What a node may want of its world.
pub(crate) enum Wish {
    Send(PeerId, Bytes),
    Connect(PeerId),
    Release(PeerId),
}

/// What runs in the world.
pub(crate) trait Node {
    fn on_neighbours(&mut self, now: Instant, all: &BTreeMap<PeerId, LinkFacts>);
    fn on_packet(&mut self, now: Instant, from: PeerId, payload: &Bytes);
    fn on_timeout(&mut self, now: Instant);
    fn deadline(&self) -> Option<Instant>;
    fn poll(&mut self) -> Option<Wish>;
    fn live(&self) -> &LiveGraph;
}

impl Node for LinkState {
    fn on_neighbours(&mut self, now: Instant, all: &BTreeMap<PeerId, LinkFacts>) {
        Self::on_neighbours(self, now, all);
    }
    fn on_packet(&mut self, now: Instant, from: PeerId, payload: &Bytes) {
        Self::on_packet(self, now, from, payload);
    }
    fn on_timeout(&mut self, now: Instant) {
        Self::on_timeout(self, now);
    }
    fn deadline(&self) -> Option<Instant> {
        Self::deadline(self)
    }
    fn poll(&mut self) -> Option<Wish> {
        loop {
            match self.poll_output()? {
                LinkStateOutput::Send { to, payload } => return Some(Wish::Send(to, payload)),
                LinkStateOutput::TwoFaced { .. } => {}
            }
        }
    }
    fn live(&self) -> &LiveGraph {
        self.graph()
    }
}

/// The world.
pub(crate) struct World<N> {
    pub(crate) now: Instant,
    pub(crate) nodes: BTreeMap<PeerId, N>,
    pub(crate) links: BTreeMap<(PeerId, PeerId), LinkFacts>,
    /// Share of datagrams lost.
    pub(crate) loss: f64,
    /// Bytes sent.
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    /// Pairs that cannot be connected.
    pub(crate) unreachable: BTreeSet<(PeerId, PeerId)>,
    wakes: BTreeSet<(Instant, PeerId)>,
    wake_of: BTreeMap<PeerId, Instant>,
    flying: BTreeMap<(Instant, u64), (PeerId, PeerId, Bytes)>,
    dialling: BTreeMap<(Instant, u64), (PeerId, PeerId)>,
    count: u64,
    rng: ChaCha8Rng,
}

fn pair(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    if a < b { (a, b) } else { (b, a) }
}

impl<N: Node> World<N> {
    pub(crate) fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            loss: 0.0,
            bytes: 0,
            packets: 0,
            unreachable: BTreeSet::new(),
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            flying: BTreeMap::new(),
            dialling: BTreeMap::new(),
            count: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    pub(crate) fn add(&mut self, peer: PeerId, node: N) {
        self.nodes.insert(peer, node);
        self.after(peer);
    }

    pub(crate) fn kill(&mut self, peer: PeerId) {
        self.nodes.remove(&peer);
        let ends: Vec<_> = self.links.keys().filter(|(a, b)| *a == peer || *b == peer).copied().collect();
        for (a, b) in ends {
            self.unlink(a, b);
        }
    }

    pub(crate) fn link(&mut self, a: PeerId, b: PeerId) {
        self.link_as(a, b, LinkFacts { latency: Duration::from_millis(20), cost: 10, ..LinkFacts::default() });
    }

    pub(crate) fn link_as(&mut self, a: PeerId, b: PeerId, facts: LinkFacts) {
        self.links.insert(pair(a, b), facts);
        self.tell(a);
        self.tell(b);
    }

    pub(crate) fn unlink(&mut self, a: PeerId, b: PeerId) {
        self.links.remove(&pair(a, b));
        self.tell(a);
        self.tell(b);
    }

    pub(crate) fn tell(&mut self, peer: PeerId) {
        let end = |((a, b), facts): (&(PeerId, PeerId), &LinkFacts)| match () {
            () if *a == peer => Some((*b, *facts)),
            () if *b == peer => Some((*a, *facts)),
            () => None,
        };
        let neighbours: BTreeMap<_, _> = self.links.iter().filter_map(end).collect();
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&peer) {
            node.on_neighbours(now, &neighbours);
            self.after(peer);
        }
    }

    /// Carries out what a node wants, and moves its timer.
    pub(crate) fn after(&mut self, peer: PeerId) {
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        let mut wishes = Vec::new();
        while let Some(wish) = node.poll() {
            wishes.push(wish);
        }
        let deadline = node.deadline();
        if let Some(before) = self.wake_of.remove(&peer) {
            self.wakes.remove(&(before, peer));
        }
        if let Some(at) = deadline {
            self.wake_of.insert(peer, at);
            self.wakes.insert((at, peer));
        }
        for wish in wishes {
            self.count += 1;
            match wish {
                Wish::Send(to, payload) => {
                    assert!(payload.len() <= 16 << 10, "the carrier takes no more");
                    self.bytes += payload.len() as u64;
                    self.packets += 1;
                    if self.links.contains_key(&pair(peer, to)) && !self.rng.random_bool(self.loss) {
                        let delay = Duration::from_micros(self.rng.random_range(5_000..30_000));
                        self.flying.insert((self.now + delay, self.count), (peer, to, payload));
                    }
                }
                Wish::Connect(to) => {
                    if !self.unreachable.contains(&pair(peer, to)) {
                        let delay = Duration::from_millis(self.rng.random_range(100..400));
                        self.dialling.insert((self.now + delay, self.count), pair(peer, to));
                    }
                }
                Wish::Release(to) => self.unlink(peer, to),
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let wake = self.wakes.first().map(|(at, _)| *at);
            let packet = self.flying.first_key_value().map(|((at, _), _)| *at);
            let dial = self.dialling.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = [wake, packet, dial].into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            if packet == Some(next) {
                let (_, (from, to, payload)) = self.flying.pop_first().unwrap();
                if self.links.contains_key(&pair(from, to))
                    && let Some(node) = self.nodes.get_mut(&to)
                {
                    node.on_packet(self.now, from, &payload);
                    self.after(to);
                }
            } else if dial == Some(next) {
                let (_, (a, b)) = self.dialling.pop_first().unwrap();
                if self.nodes.contains_key(&a) && self.nodes.contains_key(&b) && !self.links.contains_key(&(a, b)) {
                    let facts = LinkFacts { latency: Duration::from_millis(20), cost: 10, ..LinkFacts::default() };
                    self.link_as(a, b, facts);
                }
            } else {
                let (_, peer) = self.wakes.pop_first().unwrap();
                self.wake_of.remove(&peer);
                if let Some(node) = self.nodes.get_mut(&peer) {
                    node.on_timeout(self.now);
                    assert!(node.deadline().is_none_or(|at| at > self.now), "the timer would spin");
                    self.after(peer);
                }
            }
        }
        self.now = end;
    }

    /// Runs until something holds; how long that took.
    pub(crate) fn until(&mut self, most: Duration, mut holds: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let begin = self.now;
        while self.now < begin + most {
            if holds(self) {
                return Some(self.now - begin);
            }
            self.run(Duration::from_millis(50));
        }
        holds(self).then(|| self.now - begin)
    }

    /// Whether every node sees the component it is in, and of other nodes nothing that is not there.
    pub(crate) fn agrees(&self) -> bool {
        let mut neighbours: BTreeMap<PeerId, Vec<PeerId>> = self.nodes.keys().map(|peer| (*peer, Vec::new())).collect();
        for (a, b) in self.links.keys() {
            neighbours.get_mut(a).unwrap().push(*b);
            neighbours.get_mut(b).unwrap().push(*a);
        }
        for list in neighbours.values_mut() {
            list.sort_unstable();
        }
        self.nodes.iter().all(|(own, node)| {
            let mut seen = BTreeSet::from([*own]);
            let mut open = vec![*own];
            while let Some(next) = open.pop() {
                let there: Vec<_> = node.live().neighbours(&next).into_iter().map(|(peer, _)| peer).collect();
                if there != neighbours[&next] {
                    return false;
                }
                open.extend(there.into_iter().filter(|peer| seen.insert(*peer)));
            }
            true
        })
    }
}

/// A connected graph of so many nodes: a ring, and chords up to an average degree.
pub(crate) fn mesh(nodes: usize, average_degree: usize, seed: u64) -> BTreeSet<(usize, usize)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut edges: BTreeSet<_> = (0..nodes).map(|n| (n.min((n + 1) % nodes), n.max((n + 1) % nodes))).collect();
    let wanted = (nodes * average_degree / 2).min(nodes * (nodes - 1) / 2);
    while edges.len() < wanted {
        let (a, b) = (rng.random_range(0..nodes), rng.random_range(0..nodes));
        if a != b {
            edges.insert((a.min(b), a.max(b)));
        }
    }
    edges
}
