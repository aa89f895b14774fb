//! A mesh inside one process: nodes that route, joined by links with latency and loss, on tokio's clock. For tests and simulations of
//! links over the mesh.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::MeshConfig;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Notify;

use super::port::MeshPort;
use crate::clock;
use crate::routing::{Counters, Forwarder, GraphView, MeshMessage, Outgoing, Output};
use crate::session::identity::Identity;

/// Neighbours and views learn so much later that a node or a link is gone.
const NOTICED_AFTER: Duration = Duration::from_millis(200);

/// How a link between two nodes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// One way.
    pub latency: Duration,
    /// Packets lost, in parts per million.
    pub loss_ppm: u32,
}

/// The nodes. A clone is the same plane.
#[derive(Clone)]
pub struct RelayPlane(Arc<Shared>);

struct Shared {
    plane: Mutex<Plane>,
    changed: Arc<Notify>,
}

struct Node {
    forwarder: Forwarder,
    port: Option<MeshPort>,
    dead: bool,
}

#[derive(Debug)]
enum Coming {
    /// A node sends a packet of its own.
    Outgoing(PeerId, Outgoing),
    /// A message arrives.
    Message { from: PeerId, to: PeerId, message: MeshMessage },
    /// A link has come or gone, as both ends and all views learn.
    Noticed(PeerId, PeerId),
}

/// What the ports are told, once the plane is free again.
enum News {
    Packet(MeshPort, PeerId, crate::routing::MeshPacket),
    Unreachable(MeshPort, PeerId),
}

struct Plane {
    nodes: BTreeMap<PeerId, Node>,
    hops: BTreeMap<(PeerId, PeerId), Hop>,
    view: Picture,
    coming: BTreeMap<(Instant, u64), Coming>,
    order: u64,
    rng: ChaCha8Rng,
}

#[derive(Debug, Default)]
struct Picture {
    version: u64,
    links: BTreeMap<PeerId, BTreeMap<PeerId, u32>>,
}

impl GraphView for Picture {
    fn version(&self) -> u64 {
        self.version
    }

    fn neighbours(&self, peer: &PeerId, each: &mut dyn FnMut(PeerId, u32)) {
        for (other, cost) in self.links.get(peer).into_iter().flatten() {
            each(*other, *cost);
        }
    }
}

impl RelayPlane {
    /// No nodes. To be called where tasks can be spawned.
    pub fn new(seed: u64) -> Self {
        let plane = Plane {
            nodes: BTreeMap::new(),
            hops: BTreeMap::new(),
            view: Picture::default(),
            coming: BTreeMap::new(),
            order: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        };
        let shared = Arc::new(Shared { plane: Mutex::new(plane), changed: Arc::default() });
        actix_rt::spawn(drive(Arc::downgrade(&shared), Arc::clone(&shared.changed)));
        Self(shared)
    }

    /// Adds a node at which links over the mesh begin and end.
    pub fn node(&self, identity: Arc<Identity>, config: MeshConfig) -> MeshPort {
        let peer = identity.peer_id();
        let mut seed = *peer.as_bytes();
        self.0.lock().rng.fill_bytes(&mut seed);
        let port = MeshPort::new(identity, config.clone(), seed);
        let shared = Arc::downgrade(&self.0);
        port.connect(Arc::new(move |outgoing| {
            if let Some(shared) = shared.upgrade() {
                shared.lock().later(clock::now(), Coming::Outgoing(peer, outgoing));
                shared.changed.notify_one();
            }
        }));
        self.add(peer, config, Some(port.clone()));
        port
    }

    /// Adds a node that only relays.
    pub fn relay(&self, peer: PeerId, config: MeshConfig) {
        self.add(peer, config, None);
    }

    fn add(&self, peer: PeerId, config: MeshConfig, port: Option<MeshPort>) {
        let mut plane = self.0.lock();
        let mut seed = [0; 32];
        plane.rng.fill_bytes(&mut seed);
        plane.nodes.insert(peer, Node { forwarder: Forwarder::new(peer, config, seed), port, dead: false });
    }

    /// Joins two nodes, or changes how they are joined.
    pub fn join(&self, a: PeerId, b: PeerId, hop: Hop) {
        let mut plane = self.0.lock();
        plane.hops.insert(key(a, b), hop);
        let news = plane.notice(clock::now(), a, b);
        drop(plane);
        self.0.tell(news);
        self.0.changed.notify_one();
    }

    /// Takes away what joins two nodes. Packets vanish at once; it is noticed a little later.
    pub fn cut(&self, a: PeerId, b: PeerId) {
        let mut plane = self.0.lock();
        plane.hops.remove(&key(a, b));
        plane.later(clock::now() + NOTICED_AFTER, Coming::Noticed(a, b));
        self.0.changed.notify_one();
    }

    /// Ends a node. Packets vanish at once; it is noticed a little later.
    pub fn kill(&self, peer: PeerId) {
        let mut plane = self.0.lock();
        if let Some(node) = plane.nodes.get_mut(&peer) {
            node.dead = true;
        }
        let joined: Vec<(PeerId, PeerId)> =
            plane.hops.keys().copied().filter(|(a, b)| *a == peer || *b == peer).collect();
        for (a, b) in joined {
            plane.hops.remove(&(a, b));
            plane.later(clock::now() + NOTICED_AFTER, Coming::Noticed(a, b));
        }
        self.0.changed.notify_one();
    }

    /// What a node has relayed, delivered and dropped.
    pub fn counters(&self, peer: &PeerId) -> Counters {
        self.0.lock().nodes.get(peer).map(|node| node.forwarder.counters()).unwrap_or_default()
    }
}

impl fmt::Debug for RelayPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RelayPlane").field(&self.0.lock().nodes.len()).finish()
    }
}

fn key(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    if a < b { (a, b) } else { (b, a) }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Plane> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: Vec<News>) {
        for news in news {
            match news {
                News::Packet(port, by, packet) => port.deliver(by, packet),
                News::Unreachable(port, peer) => port.unreachable(&peer),
            }
        }
    }

    /// Does everything that is due; when to come again.
    fn tick(&self) -> Option<Instant> {
        loop {
            let mut plane = self.lock();
            let now = clock::now();
            let news = plane.run(now);
            let next = plane.next();
            drop(plane);
            self.tell(news);
            if next.is_none_or(|next| next > now) && self.lock().next() == next {
                return next;
            }
        }
    }
}

impl Plane {
    fn later(&mut self, at: Instant, coming: Coming) {
        self.order += 1;
        self.coming.insert((at, self.order), coming);
    }

    fn next(&self) -> Option<Instant> {
        let alive = self.nodes.values().filter(|node| !node.dead);
        let timers = alive.filter_map(|node| node.forwarder.deadline());
        self.coming.keys().next().map(|(at, _)| *at).into_iter().chain(timers).min()
    }

    fn run(&mut self, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        while let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Coming::Outgoing(from, outgoing) => {
                    let view = &self.view;
                    let Some(node) = self.nodes.get_mut(&from).filter(|node| !node.dead) else { continue };
                    let outputs = node.forwarder.on_outgoing(now, view, outgoing);
                    self.carry_out(now, from, outputs, &mut news);
                }
                Coming::Message { from, to, message } => self.arrive(now, from, to, message, &mut news),
                Coming::Noticed(a, b) => news.extend(self.notice(now, a, b)),
            }
        }
        let due = |node: &Node| !node.dead && node.forwarder.deadline().is_some_and(|at| at <= now);
        let timers: Vec<PeerId> = self.nodes.iter().filter(|(_, node)| due(node)).map(|(peer, _)| *peer).collect();
        for peer in timers {
            let view = &self.view;
            let Some(node) = self.nodes.get_mut(&peer) else { continue };
            let outputs = node.forwarder.on_timeout(now, view);
            self.carry_out(now, peer, outputs, &mut news);
        }
        news
    }

    fn arrive(&mut self, now: Instant, from: PeerId, to: PeerId, message: MeshMessage, news: &mut Vec<News>) {
        let view = &self.view;
        let Some(node) = self.nodes.get_mut(&to).filter(|node| !node.dead) else { return };
        let outputs = match message {
            MeshMessage::Packet(packet) => node.forwarder.on_packet(now, view, from, packet),
            MeshMessage::Vector(message) => node.forwarder.on_vector(now, view, from, message),
        };
        self.carry_out(now, to, outputs, news);
    }

    fn carry_out(&mut self, now: Instant, at: PeerId, outputs: Vec<Output>, news: &mut Vec<News>) {
        for output in outputs {
            let port = self.nodes.get(&at).and_then(|node| node.port.clone());
            match output {
                Output::Send { to, parting } => self.transmit(now, at, to, MeshMessage::Packet(parting.packet)),
                Output::Vector(tell) => self.transmit(now, at, tell.to, MeshMessage::Vector(tell.message)),
                Output::Deliver { by, packet } => news.extend(port.map(|port| News::Packet(port, by, packet))),
                Output::Unreachable(peer) => news.extend(port.map(|port| News::Unreachable(port, peer))),
            }
        }
    }

    fn transmit(&mut self, now: Instant, from: PeerId, to: PeerId, message: MeshMessage) {
        let Some(hop) = self.hops.get(&key(from, to)).copied() else { return };
        if self.rng.next_u32() % 1_000_000 >= hop.loss_ppm {
            self.later(now + hop.latency, Coming::Message { from, to, message });
        }
    }

    /// Both ends and all views learn how two nodes are joined.
    fn notice(&mut self, now: Instant, a: PeerId, b: PeerId) -> Vec<News> {
        let cost =
            self.hops.get(&key(a, b)).map(|hop| u32::try_from(hop.latency.as_micros()).unwrap_or(u32::MAX).max(1));
        self.view.version += 1;
        let mut news = Vec::new();
        for (at, with) in [(a, b), (b, a)] {
            let known = self.view.links.entry(at).or_default();
            match cost {
                Some(cost) => known.insert(with, cost),
                None => known.remove(&with),
            };
        }
        for (at, with) in [(a, b), (b, a)] {
            let view = &self.view;
            let Some(node) = self.nodes.get_mut(&at).filter(|node| !node.dead) else { continue };
            let outputs = match cost {
                Some(cost) => node.forwarder.on_neighbour(now, view, with, cost),
                None => node.forwarder.on_neighbour_lost(now, view, with),
            };
            self.carry_out(now, at, outputs, &mut news);
        }
        let peers: Vec<PeerId> = self.nodes.keys().copied().collect();
        for peer in peers {
            let view = &self.view;
            let Some(node) = self.nodes.get_mut(&peer) else { continue };
            let outputs = node.forwarder.on_view(now, view);
            self.carry_out(now, peer, outputs, &mut news);
        }
        news
    }
}

/// Lives as long as the plane.
async fn drive(plane: Weak<Shared>, changed: Arc<Notify>) {
    while let Some(shared) = plane.upgrade() {
        let next = shared.tick();
        drop(shared);
        match next {
            Some(at) => {
                let _ = tokio::time::timeout_at(at.into(), changed.notified()).await;
            }
            None => changed.notified().await,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}
