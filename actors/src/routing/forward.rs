//! What a node does with a packet, its own or another's.
//!
//! Where it goes, in this order: along the labels it has; over the best route of the view; to the best neighbour by distance; to
//! everybody, when its destination is unknown; into the store. Whoever chooses a route writes all of it into the packet, so that
//! differing views cannot send it in circles; whatever they do, a node sends a packet on once at most and never back to whom it came
//! from. A neighbour that cannot be reached is left alone for a while from the first failure on, and the packet takes another way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::MeshConfig;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::distance_vector::{DistanceVector, TABLES_PER_SECOND, table};
use super::flood::Flood;
use super::graph::{GraphView, Route};
use super::hop_limit::HopLimit;
use super::limits::{Budget, Rates, RelayLimits};
use super::output::{Counters, Outgoing, Output, Parting};
use super::routes::{OwnLinks, Routes};
use super::seen::{Arrived, Seen, Sight};
use super::source::Source;
use super::store::{Store, StoreBounds};
use super::waiting::{Bounds, Waiting};
use super::wire::{Label, MeshPacket, PacketId, VectorMessage};

/// A neighbour's cost has to change by more than one part in this many before routes are looked for anew: measured costs are never still.
const COST_PARTS: u32 = 4;
/// Own packets a second for which ids are remembered.
const OWN_PACKETS: u32 = 4096;
/// Packets for this node that are remembered of each neighbour, at about 20 bytes.
const ARRIVED_PACKETS: usize = 4096;
/// A packet waits so long for a link to its next node, here and at the carrier together: later its sender has sent it again.
const WORTH: Duration = Duration::from_secs(1);
/// The best of all routes, in their order.
const BEST: u8 = 0;

#[derive(Debug, Clone, Copy)]
struct Held {
    until: Instant,
    /// Its cost, when there is a session with it.
    cost: Option<u32>,
}

/// The routing of one node.
#[derive(Debug)]
pub struct Forwarder {
    local: PeerId,
    config: MeshConfig,
    rng: ChaCha20Rng,
    hop_limit: HopLimit,
    /// Neighbours to which packets go, with the cost of the link.
    links: BTreeMap<PeerId, u32>,
    /// Changes with `links`.
    epoch: u64,
    /// Neighbours that are left alone.
    held: BTreeMap<PeerId, Held>,
    routes: Routes,
    vector: Option<DistanceVector>,
    /// Distances that neighbours tell, and requests.
    told: Rates,
    flood: Flood,
    /// Packets of others that were sent on. The limits bound them, so there is always room.
    seen: Seen,
    /// Packets of this node, which come back where views differ.
    own: Seen,
    /// Packets for this node.
    arrived: Arrived,
    limits: RelayLimits,
    store: Store,
    waiting: Waiting,
    counters: Counters,
}

/// What has become of a packet.
enum Fate {
    /// It was handed to a carrier, or waits for one.
    Sent,
    /// It is kept until there is a way.
    Stored,
    /// It is gone.
    Dropped,
}

/// Where a packet goes.
enum Way {
    /// To a neighbour, with these labels behind it.
    To(PeerId, Vec<Label>),
    /// To all of these.
    Everywhere(Vec<PeerId>),
    /// Nowhere now.
    None,
}

impl Forwarder {
    /// A node without neighbours. Packet ids come from `seed`, which nobody else may know.
    pub fn new(local: PeerId, mut config: MeshConfig, seed: [u8; 32]) -> Self {
        config.hops_max = config.hops_max.clamp(1, MeshConfig::HOPS_MAX);
        let mut rng = ChaCha20Rng::from_seed(seed);
        let seqno = (rng.next_u32() >> 16) as u16;
        let mut secret = [0; blake3::KEY_LEN];
        rng.fill_bytes(&mut secret);
        let hops = usize::from(config.hops_max);
        // What a bucket lets pass in that time, its burst of a second included.
        let most = |rate: u32| (config.seen_for.as_millis() as usize + 1000).saturating_mul(rate as usize) / 1000;
        let (seen_most, own_most) = (most(config.relay_packets_per_second), most(OWN_PACKETS));
        let total = Budget::new(config.relay_packets_per_second, config.relay_bytes_per_second);
        let each = Budget::new(config.neighbour_packets_per_second, config.neighbour_bytes_per_second);
        let bounds = StoreBounds {
            bytes: as_bytes(config.store_bytes),
            peer_bytes: as_bytes(config.store_peer_bytes),
            keep: config.store_for,
        };
        let waits = Bounds { neighbour: as_bytes(config.neighbour_queue_bytes), all: as_bytes(config.queue_bytes) };
        Self {
            local,
            rng,
            hop_limit: HopLimit::new(config.hops_max, secret),
            links: BTreeMap::new(),
            epoch: 0,
            held: BTreeMap::new(),
            routes: Routes::new(local, hops, config.routes, config.route_cache),
            vector: config
                .distance_vector
                .then(|| DistanceVector::new(local, seqno, config.vector_peers, config.vector_interval))
                .map(|vector| if config.relays() { vector } else { vector.relaying_nothing() }),
            told: Rates::new(u64::from(TABLES_PER_SECOND) * table(config.vector_peers) as u64),
            flood: Flood::new(config.flood_hops, config.flood_packets_per_second),
            seen: Seen::new(config.seen_for, seen_most),
            own: Seen::new(config.seen_for, own_most),
            arrived: Arrived::new(ARRIVED_PACKETS),
            limits: RelayLimits::new(total, each),
            store: Store::new(bounds),
            waiting: Waiting::new(waits),
            counters: Counters::default(),
            config,
        }
    }

    /// This node sends a packet.
    pub fn on_outgoing(&mut self, now: Instant, view: &dyn GraphView, outgoing: Outgoing) -> Vec<Output> {
        let Outgoing { destination, connection, payload, route, keep, on_behalf_of } = outgoing;
        let id = PacketId(self.rng.next_u64());
        let labels = Vec::new();
        let packet = MeshPacket { flood: false, keep, hops: 1, labels, destination, connection, id, payload };
        let mut outputs = Vec::new();
        if destination == self.local {
            self.counters.delivered += 1;
            return vec![Output::Deliver { by: self.local, packet }];
        }
        // Whether there is room for it or not: it comes back only where views differ, and is dropped by its hop limit then.
        self.own.on_packet(now, id);
        let source = on_behalf_of.map_or(Source::Own, Source::For);
        match self.dispatch(now, view, packet, source, route, &mut outputs) {
            Fate::Sent => {}
            Fate::Stored | Fate::Dropped => outputs.push(Output::Unreachable(destination)),
        }
        outputs
    }

    /// A packet has come from a neighbour.
    pub fn on_packet(
        &mut self,
        now: Instant,
        view: &dyn GraphView,
        from: PeerId,
        mut packet: MeshPacket,
    ) -> Vec<Output> {
        if packet.destination == self.local {
            if !self.arrived.on_packet(self.links.contains_key(&from).then_some(from), packet.id) {
                self.counters.again += 1;
                return Vec::new();
            }
            self.counters.delivered += 1;
            return vec![Output::Deliver { by: from, packet }];
        }
        packet.hops = self.hop_limit.left(&packet);
        if packet.hops == 0 {
            self.counters.hops += 1;
            return Vec::new();
        }
        let bytes = packet.wire_bytes();
        if !self.limits.admit(now, from, bytes) {
            self.counters.limited += 1;
            return Vec::new();
        }
        let sight = if self.own.knows(packet.id) { Sight::Again } else { self.seen.on_packet(now, packet.id) };
        match sight {
            Sight::New => {}
            Sight::Again => {
                self.counters.again += 1;
                return Vec::new();
            }
            Sight::Full => {
                self.counters.limited += 1;
                return Vec::new();
            }
        }
        let mut outputs = Vec::new();
        match self.dispatch(now, view, packet, Source::From(from), BEST, &mut outputs) {
            Fate::Sent | Fate::Stored => {
                self.counters.relayed += 1;
                self.counters.relayed_bytes += bytes as u64;
            }
            Fate::Dropped => {}
        }
        outputs
    }

    /// A neighbour said something about distances.
    pub fn on_vector(
        &mut self,
        now: Instant,
        view: &dyn GraphView,
        from: PeerId,
        message: VectorMessage,
    ) -> Vec<Output> {
        let Some(vector) = self.vector.as_mut().filter(|_| self.links.contains_key(&from)) else { return Vec::new() };
        // Only to these a way may be found by it; to whom one is asked for, none.
        let told: Vec<PeerId> = match &message {
            VectorMessage::Update(distances) => {
                distances.iter().map(|told| PeerId::from_bytes(told.destination)).collect()
            }
            VectorMessage::Request { .. } => Vec::new(),
        };
        let amount = told.len().max(1) as u64;
        if !self.told.admit(now, from, amount) {
            self.counters.vectors_limited += 1;
            return Vec::new();
        }
        let mut outputs: Vec<Output> = vector.on_message(now, from, message).into_iter().map(Output::Vector).collect();
        for peer in told {
            self.release_for(now, view, &peer, &mut outputs);
        }
        outputs
    }

    /// There is a session with a neighbour, or the cost of the best link to it has changed.
    pub fn on_neighbour(&mut self, now: Instant, view: &dyn GraphView, peer: PeerId, cost: u32) -> Vec<Output> {
        if peer == self.local {
            return Vec::new();
        }
        if let Some(held) = self.held.get_mut(&peer) {
            held.cost = Some(cost);
            return Vec::new();
        }
        self.link(now, view, peer, cost)
    }

    /// There is no session with a neighbour any more.
    pub fn on_neighbour_lost(&mut self, now: Instant, view: &dyn GraphView, peer: PeerId) -> Vec<Output> {
        if let Some(held) = self.held.get_mut(&peer) {
            held.cost = None;
        }
        let mut outputs = Vec::new();
        self.unlink(now, view, peer, &mut outputs);
        outputs
    }

    /// The carrier could not send a packet to a neighbour at all: the neighbour is left alone for a while, and the packet takes
    /// another way.
    pub fn on_failed(&mut self, now: Instant, view: &dyn GraphView, to: PeerId, parting: Parting) -> Vec<Output> {
        let mut outputs = Vec::new();
        if let Some(cost) = self.links.get(&to).copied() {
            self.held.insert(to, Held { until: now + self.config.hold_down, cost: Some(cost) });
            self.counters.withdrawn += 1;
            self.unlink(now, view, to, &mut outputs);
        }
        self.resend(now, view, parting.packet, parting.source, &mut outputs);
        outputs
    }

    /// The carrier takes no more for a neighbour now; the packet waits, if there is room, and the neighbour is tried again a moment later.
    pub fn on_busy(&mut self, now: Instant, to: PeerId, parting: Parting) {
        self.waiting.on_busy(now, to);
        self.wait(now, to, parting);
    }

    /// Whether a packet may be offered to the carrier. Behind one that the carrier did not take it may not, and waits, in order; so what
    /// waits for a busy neighbour is not tried whole.
    pub fn on_send(&mut self, now: Instant, to: PeerId, parting: Parting) -> Option<Parting> {
        if !self.waiting.is_busy(&to) {
            return Some(parting);
        }
        self.wait(now, to, parting);
        None
    }

    /// The view has changed: what was kept may go on.
    pub fn on_view(&mut self, now: Instant, view: &dyn GraphView) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.release(now, view, &mut outputs);
        outputs
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Instant, view: &dyn GraphView) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.store.on_timeout(now);
        let over: Vec<PeerId> = self.held.iter().filter(|(_, held)| held.until <= now).map(|(peer, _)| *peer).collect();
        for peer in over {
            if let Some(Held { cost: Some(cost), .. }) = self.held.remove(&peer) {
                outputs.extend(self.link(now, view, peer, cost));
            }
        }
        outputs.extend(self.waiting.due(now).into_iter().flat_map(|peer| self.try_again(now, peer)));
        if let Some(vector) = &mut self.vector {
            outputs.extend(vector.on_timeout(now).into_iter().map(Output::Vector));
        }
        outputs
    }

    /// When [`Forwarder::on_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let held = self.held.values().map(|held| held.until);
        let vector = self.vector.as_ref().and_then(DistanceVector::deadline);
        held.chain([self.waiting.deadline(), self.store.deadline(), vector].into_iter().flatten()).min()
    }

    /// Whether there is a way to a peer now, other than to ask everybody.
    pub fn reaches(&mut self, view: &dyn GraphView, peer: &PeerId) -> bool {
        *peer == self.local || self.route(view, peer).is_some() || self.vector_hop(peer, None).is_some()
    }

    /// The best route to a peer by the view.
    pub fn route(&mut self, view: &dyn GraphView, peer: &PeerId) -> Option<Route> {
        let own = OwnLinks { costs: &self.links, epoch: self.epoch };
        self.routes.best(own, view, peer)
    }

    /// All routes to a peer by the view, for those who want to look at them.
    pub fn all_routes(&mut self, view: &dyn GraphView, peer: &PeerId) -> Vec<Route> {
        let own = OwnLinks { costs: &self.links, epoch: self.epoch };
        self.routes.all(own, view, peer).to_vec()
    }

    /// Neighbours to which packets go now, with the cost of the link.
    pub const fn neighbours(&self) -> &BTreeMap<PeerId, u32> {
        &self.links
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        let distances_refused = self.vector.as_ref().map_or(0, DistanceVector::refused);
        Counters { expired: self.store.expired() + self.waiting.expired(), distances_refused, ..self.counters }
    }

    /// Bytes held: kept for peers that are away, and waiting for neighbours.
    pub const fn held_bytes(&self) -> (usize, usize) {
        (self.store.bytes(), self.waiting.bytes())
    }

    /// Sends a packet where it has to go, by this one of its routes. One of this node's leaves as if for the first time, even when it was
    /// to take another way before, or waited: its hop limit is for the way that it takes now, and tells nobody of the other.
    fn dispatch(
        &mut self,
        now: Instant,
        view: &dyn GraphView,
        mut packet: MeshPacket,
        source: Source,
        route: u8,
        outputs: &mut Vec<Output>,
    ) -> Fate {
        let begins = source.from().is_none();
        if begins {
            packet.hops = self.hop_limit.first(&packet, 0);
        }
        match self.way(now, view, &mut packet, source, route) {
            Way::To(to, labels) => {
                if begins {
                    packet.hops = self.hop_limit.first(&packet, labels.len());
                }
                packet.labels = labels;
                packet.flood = false;
                self.send(now, to, packet, source, outputs);
                Fate::Sent
            }
            Way::Everywhere(neighbours) => {
                self.counters.flooded += 1;
                for to in neighbours {
                    self.send(now, to, packet.clone(), source, outputs);
                }
                Fate::Sent
            }
            Way::None if packet.keep => {
                // By one node only: how long a packet can be under way stays bounded, and with it how long it has to be remembered.
                packet.keep = false;
                packet.flood = false;
                packet.labels.clear();
                let stored = self.store.put(now, source, packet);
                *(if stored { &mut self.counters.stored } else { &mut self.counters.no_way }) += 1;
                if stored { Fate::Stored } else { Fate::Dropped }
            }
            Way::None => {
                self.counters.no_way += 1;
                Fate::Dropped
            }
        }
    }

    fn way(&mut self, now: Instant, view: &dyn GraphView, packet: &mut MeshPacket, source: Source, route: u8) -> Way {
        let from = source.from();
        if let Some(to) = self.labelled(packet, from) {
            return Way::To(to, packet.labels.drain(..).skip(1).collect());
        }
        let to = packet.destination;
        if packet.flood {
            if self.links.contains_key(&to) {
                return Way::To(to, Vec::new());
            }
        } else if let Some(way) = self.routed(view, packet, from, route) {
            return way;
        } else if let Some(next) = self.vector_hop(&to, from) {
            return Way::To(next, Vec::new());
        } else if view.contains(&to) {
            return Way::None;
        }
        let to = self.flood.on_packet(now, packet, source, &self.links);
        if to.is_empty() { Way::None } else { Way::Everywhere(to) }
    }

    /// The neighbour that the packet names as the next; none when it is not there, or when two neighbours have that label.
    fn labelled(&self, packet: &MeshPacket, from: Option<&PeerId>) -> Option<PeerId> {
        let label = packet.labels.first()?;
        let mut fits = self.links.keys().filter(|peer| Label::of(peer) == *label);
        let (first, second) = (fits.next()?, fits.next());
        (second.is_none() && Some(first) != from).then_some(*first)
    }

    fn routed(&mut self, view: &dyn GraphView, packet: &MeshPacket, from: Option<&PeerId>, route: u8) -> Option<Way> {
        let own = OwnLinks { costs: &self.links, epoch: self.epoch };
        let fits = |route: &Route| {
            route.hops.len() <= usize::from(packet.hops) && route.hops.first().is_some_and(|first| Some(first) != from)
        };
        let best = self.routes.best(own, view, &packet.destination)?;
        if route == BEST && fits(&best) {
            return way_along(&best);
        }
        let all = self.routes.all(own, view, &packet.destination);
        let usable: Vec<&Route> = all.iter().filter(|route| fits(route)).collect();
        let at = usize::from(route).checked_rem(usable.len())?;
        way_along(usable[at])
    }

    fn vector_hop(&self, to: &PeerId, except: Option<&PeerId>) -> Option<PeerId> {
        let next = self.vector.as_ref()?.next_hop(to, except)?;
        self.links.contains_key(&next).then_some(next)
    }

    fn send(&mut self, now: Instant, to: PeerId, packet: MeshPacket, source: Source, outputs: &mut Vec<Output>) {
        let parting = Parting { packet, source, expires: now + WORTH };
        outputs.extend(self.on_send(now, to, parting).map(|parting| Output::Send { to, parting }));
    }

    /// Tries a busy neighbour again with all that waited for it, in order.
    fn try_again(&mut self, now: Instant, to: PeerId) -> Vec<Output> {
        self.waiting.release(now, &to).into_iter().map(|parting| Output::Send { to, parting }).collect()
    }

    fn wait(&mut self, now: Instant, to: PeerId, parting: Parting) {
        if !self.waiting.keep(now, &to, parting) {
            self.counters.queue_full += 1;
        }
    }

    fn link(&mut self, now: Instant, view: &dyn GraphView, peer: PeerId, cost: u32) -> Vec<Output> {
        let old = self.links.get(&peer).copied();
        if old.is_some_and(|old| old.abs_diff(cost) <= old / COST_PARTS) {
            return Vec::new();
        }
        self.links.insert(peer, cost);
        self.epoch += 1;
        let told = self.vector.as_mut().map(|vector| vector.on_neighbour(now, peer, cost)).unwrap_or_default();
        let mut outputs: Vec<Output> = told.into_iter().map(Output::Vector).collect();
        self.release(now, view, &mut outputs);
        outputs
    }

    fn unlink(&mut self, now: Instant, view: &dyn GraphView, peer: PeerId, outputs: &mut Vec<Output>) {
        if self.links.remove(&peer).is_none() {
            return;
        }
        self.epoch += 1;
        self.arrived.on_neighbour_lost(peer);
        let links = &self.links;
        self.limits.retain(|peer| links.contains_key(peer));
        self.told.retain(now, |peer| links.contains_key(peer));
        if let Some(vector) = &mut self.vector {
            outputs.extend(vector.on_neighbour_lost(now, &peer).into_iter().map(Output::Vector));
        }
        for parting in self.waiting.release(now, &peer) {
            self.resend(now, view, parting.packet, parting.source, outputs);
        }
    }

    /// A packet that did not leave takes another way, unless it goes to everybody: it has left for the others. What its labels say is no longer of use.
    fn resend(
        &mut self,
        now: Instant,
        view: &dyn GraphView,
        mut packet: MeshPacket,
        source: Source,
        outputs: &mut Vec<Output>,
    ) {
        if !packet.flood {
            packet.labels.clear();
            self.dispatch(now, view, packet, source, BEST, outputs);
        }
    }

    /// Sends what was kept for peers that can be reached again.
    fn release(&mut self, now: Instant, view: &dyn GraphView, outputs: &mut Vec<Output>) {
        let peers: Vec<PeerId> = self.store.peers().collect();
        for peer in peers {
            self.release_for(now, view, &peer, outputs);
        }
    }

    /// Sends what was kept for a peer, if it can be reached again.
    fn release_for(&mut self, now: Instant, view: &dyn GraphView, peer: &PeerId, outputs: &mut Vec<Output>) {
        if self.store.has(peer) && self.reaches(view, peer) {
            for (source, packet) in self.store.take(now, peer) {
                self.resend(now, view, packet, source, outputs);
            }
        }
    }
}

fn way_along(route: &Route) -> Option<Way> {
    let (to, behind) = route.hops.split_first()?;
    Some(Way::To(*to, behind.iter().map(Label::of).collect()))
}

fn as_bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
