//! The actor of the mesh: packets of this node's links through others, and of others through this node, on one side; the carrier on the
//! other.
//!
//! Permanent child of the supervisor `network`, which is given up when it fails for good. A restart forgets what waits and what was seen;
//! links over the mesh send again what is missing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Addr, Handler, Message, Recipient};
use bowline_messages::config::MeshConfig;
use bowline_messages::network::{Concern, GroupPacket};
use bowline_messages::{MessageClass, PeerId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::forward::Forwarder;
use super::graph::GraphView;
use super::limits::Shares;
use super::output::{Counters, Output, Parting};
use super::parcel::{self, PARCEL};
use super::ways::Ways;
use super::wire::MeshMessage;
use crate::clock;
use crate::node::{Carrier, WayThroughOthers};
use crate::pump::{self, Pump, Pumped};
use crate::session::datagrams::DatagramError;
use crate::session::handshake::{Entropy, HandshakeError};
use crate::session::identity::Identity;
use crate::supervision::Context;

use crate::transport::mesh::{MeshCounters, MeshPort};

/// The view of the network that routes are found in, when it can be looked at.
pub type View = Rc<dyn Fn(&mut dyn FnMut(&dyn GraphView))>;

/// What the actor is made from, again after every restart.
#[derive(Clone)]
pub struct RouterParts {
    /// This node.
    pub identity: Arc<Identity>,
    /// Bounds and times.
    pub config: MeshConfig,
    /// Brings packets to neighbours.
    pub carrier: Rc<Carrier>,
    /// What is known of the network.
    pub view: View,
    /// Is told what was relayed for others so far: packets and bytes.
    pub relayed: Rc<Cell<(u64, u64)>>,
    /// Where this node's own links over the mesh end.
    pub port: MeshPort,
    /// Is told once of each neighbour to which there is a way through others as well.
    pub ways: Recipient<WayThroughOthers>,
    /// Where the randomness of keys comes from.
    pub entropy: Rc<dyn Fn() -> Result<Entropy, HandshakeError>>,
    /// Gives a seed that nobody else may know, another one for each life.
    pub seed: Rc<dyn Fn() -> [u8; 32]>,
}

/// From a link of this node's over the mesh: a packet to be sent. What finds no room is dropped; the link sends it again.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Route(pub super::Outgoing);

/// From the node: a datagram to a peer without a session, sealed and sent through others. It may be lost.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Parcel {
    /// To whom.
    pub to: PeerId,
    /// Whose concern it is there.
    pub concern: Concern,
    /// What is in it; it proves who wrote it.
    pub payload: Bytes,
}

/// From the node: peers with a usable direct link, and what it costs to send to each.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct DirectNeighbours(pub BTreeMap<PeerId, u32>);

/// From the node: the view has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct ViewChanged;

/// Asks for the ways to a peer, or to all that are known to be reachable by neighbours alone when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "RoutesReport")]
pub struct RoutesQuery(pub PeerId);

/// How a peer is reached through others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesReport {
    /// Routes that share no relay, best first: whom each passes, the peer included, and what it costs.
    pub routes: Vec<(Vec<PeerId>, u64)>,
    /// Packets relayed for others so far.
    pub relayed: u64,
    /// Packets kept so far until there was a way, its own included.
    #[serde(default)]
    pub stored: u64,
}

/// The actor of the mesh.
pub struct RouterActor {
    parts: RouterParts,
    forwarder: Forwarder,
    pump: Pump,
    /// Neighbours to which there is a way through others.
    ways: Ways,
    /// Parcels that may be opened.
    openings: Shares,
    /// What metrics were told.
    told: Told,
}

impl RouterActor {
    /// An actor that knows nobody yet.
    pub fn new(parts: RouterParts) -> Self {
        let forwarder = Forwarder::new(parts.identity.peer_id(), parts.config.clone(), (parts.seed)());
        let openings = Shares::new(parts.config.openings_per_second);
        // The port outlives this actor.
        let told = Told { links: parts.port.counters(), ..Told::default() };
        Self { parts, forwarder, pump: Pump::new(), ways: Ways::new(), openings, told }
    }

    /// The way from the mesh's links to the actor at an address.
    pub fn sink(address: Addr<Self>) -> Arc<dyn Fn(super::Outgoing) + Send + Sync> {
        Arc::new(move |outgoing| {
            // What finds no room is lost on the way, and sent again.
            let _ = address.try_send(Route(outgoing));
        })
    }

    /// Lets the machine work with the view as it is, and carries out what it wants.
    fn work(
        &mut self,
        ctx: &mut Context<Self>,
        work: impl FnOnce(&mut Forwarder, Instant, &dyn GraphView) -> Vec<Output>,
    ) {
        let view = Rc::clone(&self.parts.view);
        let mut work = Some(work);
        view(&mut |view| {
            let now = clock::now();
            if let Some(work) = work.take() {
                let outputs = work(&mut self.forwarder, now, view);
                self.carry_out(now, view, outputs);
            }
        });
        self.count();
        let deadline = self.forwarder.deadline();
        pump::arm(self, ctx, deadline);
    }

    fn carry_out(&mut self, now: Instant, view: &dyn GraphView, outputs: Vec<Output>) {
        let mut outputs = std::collections::VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                // Each neighbour fails once: it is left alone from then on.
                Output::Send { to, parting } => outputs.extend(self.send(now, view, to, parting)),
                Output::Deliver { by, packet } if packet.connection == PARCEL => self.open(now, by, &packet.payload),
                Output::Deliver { by, packet } => self.parts.port.deliver(by, packet),
                Output::Unreachable(peer) => self.parts.port.unreachable(&peer),
                Output::Vector(tell) => {
                    if let Ok(payload) = MeshMessage::Vector(tell.message).encode() {
                        let _ = self.parts.carrier.send(
                            &tell.to,
                            Concern::Mesh,
                            MessageClass::Background,
                            payload,
                            self.parts.config.vector_interval,
                        );
                    }
                }
            }
        }
    }

    fn send(&mut self, now: Instant, view: &dyn GraphView, to: PeerId, parting: Parting) -> Vec<Output> {
        let Some(parting) = self.forwarder.on_send(now, to, parting) else { return Vec::new() };
        let Ok(payload) = parting.packet.encode() else { return Vec::new() };
        let worth = parting.expires.saturating_duration_since(now);
        match self.parts.carrier.send(&to, Concern::Mesh, MessageClass::Streaming, payload, worth) {
            Ok(()) => Vec::new(),
            Err(DatagramError::Full) => {
                self.forwarder.on_busy(now, to, parting);
                Vec::new()
            }
            Err(DatagramError::NoSession | DatagramError::NoLink) => self.forwarder.on_failed(now, view, to, parting),
            Err(DatagramError::TooLarge) => Vec::new(),
        }
    }

    /// A parcel for this node. Opening one costs two operations on a curve, so only so many of those that a neighbour brings are.
    fn open(&mut self, now: Instant, by: PeerId, sealed: &[u8]) {
        if !self.openings.admit(now, by) {
            return tell("parcel_refused", 1);
        }
        let opened =
            (self.parts.entropy)().ok().and_then(|entropy| parcel::open(&self.parts.identity, sealed, entropy));
        match opened {
            // What is signed says itself who it is from.
            Some((concern @ Concern::Membership, payload)) => {
                self.parts.carrier.arrived(self.parts.identity.peer_id(), concern.code(), &payload);
            }
            Some(_) | None => tell("no_parcel", 1),
        }
    }

    /// Tells of neighbours that could be reached through others as well.
    fn tell_ways(&mut self, view: &dyn GraphView) {
        for peer in self.ways.next(self.forwarder.neighbours()) {
            let through_others = self.forwarder.all_routes(view, &peer).iter().any(|route| route.hops.len() > 1);
            if through_others && self.parts.ways.try_send(WayThroughOthers(peer)).is_ok() {
                self.ways.on_told(peer);
            }
        }
    }

    fn count(&mut self) {
        let told = Told { packets: self.forwarder.counters(), links: self.parts.port.counters() };
        let before = std::mem::replace(&mut self.told, told);
        let (now, links) = (told.packets, told.links);
        let (before, links_before) = (before.packets, before.links);
        let (packets, bytes) = self.parts.relayed.get();
        let more = (now.relayed - before.relayed, now.relayed_bytes - before.relayed_bytes);
        self.parts.relayed.set((packets + more.0, bytes + more.1));
        let fates = [
            ("relayed", now.relayed - before.relayed),
            ("delivered", now.delivered - before.delivered),
            ("stored", now.stored - before.stored),
            ("flooded", now.flooded - before.flooded),
            ("again", now.again - before.again),
            ("hops", now.hops - before.hops),
            ("limited", now.limited - before.limited),
            ("queue_full", now.queue_full - before.queue_full),
            ("no_way", now.no_way - before.no_way),
            ("expired", now.expired - before.expired),
            ("stray", links.stray - links_before.stray),
            ("call_refused", links.calls_refused - links_before.calls_refused),
            ("call_malformed", links.calls_malformed - links_before.calls_malformed),
        ];
        fates.into_iter().filter(|(_, count)| *count > 0).for_each(|(fate, count)| tell(fate, count));
        for (what, count) in [
            ("neighbours_withdrawn", now.withdrawn - before.withdrawn),
            ("vectors_limited", now.vectors_limited - before.vectors_limited),
            ("distances_refused", now.distances_refused - before.distances_refused),
        ] {
            if count > 0 {
                metrics::counter!("bowline_mesh_ways_total", "what" => what).increment(count);
            }
        }
        if now.relayed_bytes > before.relayed_bytes {
            metrics::counter!("bowline_mesh_relayed_bytes_total").increment(now.relayed_bytes - before.relayed_bytes);
        }
    }
}

/// What metrics were told so far.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    packets: Counters,
    links: MeshCounters,
}

fn tell(fate: &'static str, count: u64) {
    metrics::counter!("bowline_mesh_packets_total", "fate" => fate).increment(count);
}

impl fmt::Debug for RouterActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterActor").field("forwarder", &self.forwarder).finish_non_exhaustive()
    }
}

impl Actor for RouterActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.work(ctx, |_, _, _| Vec::new());
    }
}

impl Pumped for RouterActor {
    fn pump(&mut self) -> &mut Pump {
        &mut self.pump
    }

    fn on_deadline(&mut self, ctx: &mut Self::Context) {
        self.work(ctx, |forwarder, now, view| forwarder.on_timeout(now, view));
    }
}

impl Handler<Route> for RouterActor {
    type Result = ();

    fn handle(&mut self, Route(outgoing): Route, ctx: &mut Self::Context) {
        self.work(ctx, |forwarder, now, view| forwarder.on_outgoing(now, view, outgoing));
    }
}

impl Handler<Parcel> for RouterActor {
    type Result = ();

    fn handle(&mut self, Parcel { to, concern, payload }: Parcel, ctx: &mut Self::Context) {
        let sealed = (self.parts.entropy)().and_then(|entropy| parcel::seal(&to, concern, &payload, entropy));
        let Ok(payload) = sealed else { return };
        let outgoing = super::Outgoing::new(to, PARCEL, payload);
        self.work(ctx, |forwarder, now, view| forwarder.on_outgoing(now, view, outgoing));
    }
}

impl Handler<GroupPacket> for RouterActor {
    type Result = ();

    fn handle(&mut self, GroupPacket { from, payload, .. }: GroupPacket, ctx: &mut Self::Context) {
        match MeshMessage::decode(payload) {
            Ok(MeshMessage::Packet(packet)) => {
                self.work(ctx, |forwarder, now, view| forwarder.on_packet(now, view, from, packet));
            }
            Ok(MeshMessage::Vector(message)) => {
                self.work(ctx, |forwarder, now, view| forwarder.on_vector(now, view, from, message));
            }
            Err(_) => tell("malformed", 1),
        }
    }
}

impl Handler<DirectNeighbours> for RouterActor {
    type Result = ();

    fn handle(&mut self, DirectNeighbours(all): DirectNeighbours, ctx: &mut Self::Context) {
        self.work(ctx, |forwarder, now, view| {
            let gone: Vec<_> = forwarder.neighbours().keys().filter(|peer| !all.contains_key(*peer)).copied().collect();
            let mut outputs: Vec<Output> =
                gone.into_iter().flat_map(|peer| forwarder.on_neighbour_lost(now, view, peer)).collect();
            outputs.extend(all.into_iter().flat_map(|(peer, cost)| forwarder.on_neighbour(now, view, peer, cost)));
            outputs
        });
        let view = Rc::clone(&self.parts.view);
        view(&mut |view| self.tell_ways(view));
    }
}

impl Handler<ViewChanged> for RouterActor {
    type Result = ();

    fn handle(&mut self, _: ViewChanged, ctx: &mut Self::Context) {
        self.work(ctx, |forwarder, now, view| forwarder.on_view(now, view));
    }
}

impl Handler<RoutesQuery> for RouterActor {
    type Result = actix::MessageResult<RoutesQuery>;

    fn handle(&mut self, RoutesQuery(peer): RoutesQuery, _: &mut Self::Context) -> Self::Result {
        let mut routes = Vec::new();
        let view = Rc::clone(&self.parts.view);
        view(&mut |view| {
            let found = self.forwarder.all_routes(view, &peer);
            routes = found.into_iter().map(|route| (route.hops, route.cost)).collect();
        });
        let Counters { relayed, stored, .. } = self.forwarder.counters();
        actix::MessageResult(RoutesReport { routes, relayed, stored })
    }
}
