//! What a node does beside its own sessions: it tells its neighbours who is there and what the network looks like, and passes packets on.
//!
//! All of it stands under one supervisor, `network`, which is given up when it fails for good: sessions do without it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, Recipient};
use bowline_messages::config::{MembershipConfig, MeshConfig, NetworkSection, TopologyConfig};
use bowline_messages::event::EventKind;
use bowline_messages::membership::MemberInfo;
use bowline_messages::network::Concern;
use bowline_messages::supervision::{Restart, Strategy, SupervisionEvent};
use bowline_messages::topology::{
    GraphQuery, HealingRequest, HealthQuery, HealthReport, NetworkGraph, NodeFacts, NodeKind, OwnFacts,
};
use bowline_messages::{MessageClass, PeerId};
use rand::Rng as _;
use rand_chacha::ChaCha20Rng;

use super::NodeError;
use super::carrier::PORT_MAILBOX;
use super::peers::{PeersQuery, WayThroughOthers};
use super::services::Services;
use super::surroundings::{SurroundingsActor, SurroundingsParts};
use crate::clock;
use crate::membership::MembershipActor;
use crate::membership::actor::{Kept as KeptMembership, LeaveGroup, MembershipParts, WhichMembers};
use crate::routing::actor::{Parcel, RouterActor, RouterParts, RoutesQuery, RoutesReport, View, ViewChanged};
use crate::session::datagrams::DatagramError;
use crate::session::handshake::{Entropy, HandshakeError};
use crate::supervision::{ChildSpec, OnExceeded, SupervisorSpec};
use crate::topology::actor::{TopologyActor, TopologyParts, TopologyState};
use crate::transport::mesh::MeshPort;

/// How long a datagram of the membership is worth waiting for a link: longer, and the answer comes too late.
const PROBE_WORTH: Duration = Duration::from_millis(500);

/// How long what the gossip says is worth waiting for one.
const GOSSIP_WORTH: Duration = Duration::from_secs(5);

/// The load that others are told is the mean over this long.
const LOAD_OVER: Duration = Duration::from_secs(5);

/// How a node takes part in the network beyond its own sessions.
#[derive(Debug, Clone, Default)]
pub struct NetworkConfig {
    /// How often it looks around.
    pub section: NetworkSection,
    /// Routes and links through other peers.
    pub mesh: MeshConfig,
    /// Who is there.
    pub membership: MembershipConfig,
    /// The network's shape.
    pub topology: TopologyConfig,
}

/// What a running node knows of the network. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct NetworkHandle {
    topology: Addr<TopologyActor>,
    membership: Addr<MembershipActor>,
    router: Addr<RouterActor>,
}

impl NetworkHandle {
    /// How the network is, as this node sees it.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn health(&self) -> Result<HealthReport, NodeError> {
        Ok(*self.topology.send(HealthQuery).await?)
    }

    /// Who is connected to whom, as this node sees it.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn graph(&self) -> Result<NetworkGraph, NodeError> {
        Ok(*self.topology.send(GraphQuery).await?)
    }

    /// Who belongs to the network, and who is gone; not this node itself.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn members(&self) -> Result<Vec<MemberInfo>, NodeError> {
        Ok(self.membership.send(WhichMembers).await?)
    }

    /// The ways to a peer through others.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn routes(&self, peer: PeerId) -> Result<RoutesReport, NodeError> {
        Ok(self.router.send(RoutesQuery(peer)).await?)
    }

    /// Says good-bye to the others, who would take this node for failed otherwise. The answer comes when the sessions have it.
    pub(super) async fn leave(&self) {
        // Without the actor there is nobody who could say it.
        let _ = self.membership.send(LeaveGroup).await;
    }

    /// The actors, for scripts and embedders that go deeper.
    pub fn actors(&self) -> (&Addr<TopologyActor>, &Addr<MembershipActor>, &Addr<RouterActor>) {
        (&self.topology, &self.membership, &self.router)
    }
}

/// The router, once it is there.
type RouterAddress = RefCell<Option<Addr<RouterActor>>>;

/// The actors of the network, put together.
pub(super) struct Network {
    /// The supervisor over all of them.
    pub(super) child: ChildSpec,
    /// The way to them.
    pub(super) handle: NetworkHandle,
}

/// What it takes to put them together.
pub(super) struct NetworkMaking<'a> {
    pub(super) config: &'a NetworkConfig,
    pub(super) services: &'a Rc<Services>,
    /// The mesh transport's port.
    pub(super) port: MeshPort,
    /// Begins and ends sessions for the sake of the network.
    pub(super) healing: Recipient<HealingRequest>,
    /// Is told of ways through others.
    pub(super) ways: Recipient<WayThroughOthers>,
    /// Where the randomness of keys comes from.
    pub(super) entropy: Rc<dyn Fn() -> Result<Entropy, HandshakeError>>,
    /// What nobody else may know, for the names of packets.
    pub(super) secret: ChaCha20Rng,
    pub(super) seed: u64,
    pub(super) events: Recipient<SupervisionEvent>,
    /// Reports on all sessions.
    pub(super) sessions: Recipient<PeersQuery>,
    /// How much power is left, if anybody knows.
    pub(super) power: Option<fn() -> Option<f64>>,
}

impl Network {
    /// Makes the actors; they start with the supervisor.
    pub(super) fn new(making: NetworkMaking<'_>) -> Self {
        let NetworkMaking { config, services, port, healing, ways, entropy, secret, seed, events, sessions, power } =
            making;
        let carrier = Rc::clone(&services.carrier);
        let router_address: Rc<RouterAddress> = Rc::default();
        let members = Rc::new(kept_membership(config, services, seed));
        let is_member = {
            let members = Rc::clone(&members);
            Rc::new(move |peer: &PeerId| members.is_member(peer))
        };
        let identity = Arc::clone(&services.identity);
        let state = Rc::new(TopologyState::new(&config.topology, identity, services.incarnation, is_member, seed));
        let topology_parts = TopologyParts {
            config: config.topology.clone(),
            state: Rc::clone(&state),
            send: {
                let carrier = Rc::clone(&carrier);
                Rc::new(move |to, concern, payload| {
                    // What finds no room is lost, and found missing when both sides compare.
                    let _ = carrier.send(&to, concern, MessageClass::Background, payload, GOSSIP_WORTH);
                })
            },
            links: healing,
            changed: {
                let router = Rc::clone(&router_address);
                Rc::new(move || {
                    if let Some(router) = &*router.borrow() {
                        let _ = router.try_send(ViewChanged);
                    }
                })
            },
            events: emitter(services),
        };
        let (topology_spec, topology) = ChildSpec::new("topology", move || TopologyActor::new(topology_parts.clone()));
        let view: View = {
            let state = Rc::clone(&state);
            Rc::new(move |look| state.graph(|graph| look(graph)))
        };
        let (relayed, left) = (Rc::<Cell<(u64, u64)>>::default(), Rc::<Cell<Option<f64>>>::default());
        let rng = Rc::new(RefCell::new(secret));
        let router_parts = RouterParts {
            identity: Arc::clone(&services.identity),
            config: config.mesh.clone(),
            carrier: Rc::clone(&carrier),
            view,
            relayed: Rc::clone(&relayed),
            port: port.clone(),
            ways,
            entropy,
            seed: Rc::new(move || {
                let mut seed = [0; 32];
                rng.borrow_mut().fill_bytes(&mut seed);
                seed
            }),
        };
        let (router_spec, router) = ChildSpec::new("router", move || RouterActor::new(router_parts.clone()));
        port.connect(RouterActor::sink(router.clone()));
        *router_address.borrow_mut() = Some(router.clone());
        let (membership_spec, membership) = membership_child(members, services, Rc::clone(&router_address));
        let surroundings = SurroundingsParts {
            services: Rc::clone(services),
            own: own_facts(services, &config.mesh, relayed, Rc::clone(&left)),
            sessions,
            power,
            left,
            every: config.section.look_every,
            topology: topology.clone(),
            routing: router.clone().recipient(),
            membership: membership.clone(),
        };
        let (surroundings_spec, _) =
            ChildSpec::new("surroundings", move || SurroundingsActor::new(surroundings.clone()));
        carrier.set_port(&[Concern::LinkState, Concern::Healing], topology.clone().recipient());
        carrier.set_port(&[Concern::Mesh], router.clone().recipient());
        carrier.set_port(&[Concern::Membership], membership.clone().recipient());
        let empty = SupervisorSpec::new("network", Strategy::OneForOne).seed(seed).events(events);
        let specs = [topology_spec, router_spec, membership_spec, surroundings_spec];
        let supervisor = specs.into_iter().fold(empty, |all, spec| all.child(spec.mailbox(PORT_MAILBOX)));
        let child = supervisor.on_exceeded(OnExceeded::EndGroup).into_child().0.restart(Restart::Temporary);
        Self { child, handle: NetworkHandle { topology, membership, router } }
    }
}

/// What this node is like and where it can be reached, as it is told to others: what it relays against what it may, and the power that is
/// left. Without a battery, or where that cannot be measured, it is full.
fn own_facts(
    services: &Rc<Services>,
    mesh: &MeshConfig,
    relayed: Rc<Cell<(u64, u64)>>,
    left: Rc<Cell<Option<f64>>>,
) -> Rc<dyn Fn() -> OwnFacts> {
    let services = Rc::clone(services);
    let relays = mesh.relays();
    let most = (f64::from(mesh.relay_packets_per_second.max(1)), mesh.relay_bytes_per_second.max(1) as f64);
    let looked = Cell::new((clock::now(), relayed.get(), 0.0));
    Rc::new(move || {
        let (now, so_far) = (clock::now(), relayed.get());
        let (since, before, mut load) = looked.get();
        let time = now.saturating_duration_since(since);
        if time >= LOAD_OVER {
            let share = |more: u64, most: f64| more as f64 / time.as_secs_f64() / most;
            load = share(so_far.0 - before.0, most.0).max(share(so_far.1 - before.1, most.1)).min(1.0);
            looked.set((now, so_far, load));
        }
        let addresses = services.own_addresses().map(|told| told.addresses).unwrap_or_default();
        let power = left.get().unwrap_or(1.0);
        let kind = if power < 1.0 || !relays { NodeKind::Light } else { NodeKind::Full };
        OwnFacts { facts: NodeFacts { kind, load, power, relays, ..NodeFacts::default() }, addresses }
    })
}

/// Events of the network are events of the node.
fn emitter(services: &Rc<Services>) -> Rc<dyn Fn(EventKind)> {
    let services = Rc::clone(services);
    Rc::new(move |event| services.emit(event))
}

/// What outlives the actor of the membership.
fn kept_membership(config: &NetworkConfig, services: &Rc<Services>, seed: u64) -> KeptMembership {
    let admits = {
        let services = Rc::clone(services);
        Rc::new(move |peer: &PeerId| services.admits(peer))
    };
    let identity = Arc::clone(&services.identity);
    KeptMembership::new(clock::now(), config.membership.clone(), identity, services.incarnation, admits, seed)
}

/// Who is there: the actor of the membership. What it says to members without a session goes through others, sealed.
fn membership_child(
    kept: Rc<KeptMembership>,
    services: &Rc<Services>,
    router: Rc<RouterAddress>,
) -> (ChildSpec, Addr<MembershipActor>) {
    let (carrier, events) = (Rc::clone(&services.carrier), Rc::clone(services));
    let parts = MembershipParts {
        kept,
        carry: Rc::new(move |to, packet| {
            let class = MessageClass::Realtime;
            // The session stands for who wrote it; what goes through others is signed.
            let direct = packet.direct();
            let bytes = direct.len();
            match carrier.send(&to, Concern::Membership, class, direct, PROBE_WORTH) {
                Ok(()) => bytes,
                Err(DatagramError::NoSession | DatagramError::NoLink) => {
                    let Some(router) = &*router.borrow() else { return 0 };
                    let payload = packet.whole();
                    let bytes = payload.len();
                    router.try_send(Parcel { to, concern: Concern::Membership, payload }).map_or(0, |()| bytes)
                }
                // What finds no room is a probe without an answer.
                Err(DatagramError::Full | DatagramError::TooLarge) => 0,
            }
        }),
        events: Rc::new(move |what| events.emit(EventKind::Membership { what })),
    };
    ChildSpec::new("membership", move || MembershipActor::new(parts.clone()))
}
