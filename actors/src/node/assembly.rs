//! Puts a node together: the whole supervision tree, as `docs/architecture.md` draws it, and says what a node is made of.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, Recipient};
use bowline_messages::config::{ListenConfig, MigrationConfig, RepairConfig, SessionConfig, TransportConfig};
use bowline_messages::supervision::{Restart, Strategy, SupervisionEvent};
use bowline_messages::transport::Listen;
use bowline_messages::wire::{Features, HelloParameters, OfferedVersions};
use bowline_messages::{EndpointAddress, Incarnation, TransportKind};
use rand::Rng as _;
use rand_chacha::ChaCha20Rng;

use super::addresses::{Addresses, AddressesActor};
use super::group::{self, GroupHandle, GroupSetup};
use super::handle::{NodeError, NodeHandle};
use super::journal::{JournalActor, Subscribe, Subscribers};
use super::monitors::Monitors;
use super::network::{Network, NetworkConfig, NetworkMaking};
use super::peers::PeersActor;
use super::power::power_left;
use super::repairs::{RepairActor, RepairParts};
use super::services::{Application, Gate, Services};
use crate::clock;
use crate::migration::actor::Kept;
use crate::migration::{MigrationActor, MigrationParts};
use crate::session::handshake::{Entropy, HandshakeConfig, HandshakeError};
use crate::session::identity::Identity;
use crate::session::limits::InboundConfig;
use crate::session::seal::RotationLimits;
use crate::session::trust::Trust;
use crate::supervision::{ChildSpec, OnExceeded, SupervisorActor, SupervisorSpec};
use crate::transport::Transport;
use crate::transport::actor::{KeptListeners, TransportActor, TransportParts};
use crate::transport::interfaces::{InterfaceMonitor, InterfaceSubscribers, InterfaceTable, reachable_addresses};
use crate::transport::mesh::{self, MeshPort};
use crate::transport::registry::{Registry, TransportContext, leads_through_others};

/// The mailbox of the journal, in events.
const JOURNAL_MAILBOX: usize = 1024;
/// The mailbox of the actors that all sessions and transports talk to.
const SHARED_MAILBOX: usize = 256;

/// Everything a node is made of.
pub struct NodeParts {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// The life of this process; grows with each start.
    pub incarnation: Incarnation,
    /// How sessions behave.
    pub session: SessionConfig,
    /// How transports behave.
    pub transport: TransportConfig,
    /// When and how often something is repaired.
    pub repair: RepairConfig,
    /// Bounds and times of state that moves between nodes.
    pub migration: MigrationConfig,
    /// What strangers may cost.
    pub limits: InboundConfig,
    /// When links move on to new keys.
    pub rotation: RotationLimits,
    /// Who is let in.
    pub trust: Trust,
    /// The transports there are.
    pub registry: Registry,
    /// Where links through other peers begin; none when this node takes no part in a mesh.
    pub mesh: Option<MeshPort>,
    /// What peers are told about where this node can be reached; `None`: where it listens.
    pub advertise: Option<Vec<EndpointAddress>>,
    /// How long after a change of this machine's addresses they are told anew.
    pub advertise_after: Duration,
    /// The addresses of this machine under which others can reach it.
    pub here: Rc<dyn Fn() -> Vec<IpAddr>>,
    /// Who gets what peers send.
    pub application: Application,
    /// Where keys, and whatever no other life of a node may have, take their randomness from.
    pub entropy: Rc<dyn Fn() -> Result<Entropy, HandshakeError>>,
    /// How it takes part in the network beyond its own sessions; `None`: not at all.
    pub network: Option<NetworkConfig>,
    /// The group that it belongs to.
    pub group: Option<GroupSetup>,
    /// Says how much power is left (0 to 1), if anybody knows; `None`: nobody is asked. It may take its time: it runs beside the node's thread.
    pub power: Option<fn() -> Option<f64>>,
    /// The source of all jitter.
    pub seed: u64,
}

impl NodeParts {
    /// Parts with default behaviour: every compiled-in transport, randomness from the operating system.
    pub fn new(identity: Arc<Identity>, trust: Trust) -> Self {
        let seed = u64::from_le_bytes(identity.peer_id().as_bytes()[..8].try_into().unwrap_or_default());
        Self {
            identity,
            incarnation: Incarnation(1),
            session: SessionConfig::default(),
            transport: TransportConfig::default(),
            repair: RepairConfig::default(),
            migration: MigrationConfig::default(),
            limits: InboundConfig::default(),
            rotation: RotationLimits::default(),
            trust,
            registry: Registry::builtin(),
            mesh: None,
            advertise: None,
            advertise_after: ListenConfig::default().advertise_after,
            here: Rc::new(reachable_addresses),
            application: Application::default(),
            entropy: Rc::new(Entropy::system),
            network: None,
            group: None,
            power: Some(power_left),
            seed,
        }
    }
}

/// Starts a node on the present arbiter; nothing listens yet.
///
/// # Errors
/// [`NodeError::Transport`], [`NodeError::Group`], [`NodeError::NoRandomness`].
pub fn start(parts: NodeParts) -> Result<NodeHandle, NodeError> {
    let (port, secret) = parts.network.as_ref().map(|network| mesh_port(&parts, network)).transpose()?.unzip();
    let (built, interfaces) = build(&parts, port.clone())?;
    let services = services(&parts);
    let (journal_spec, journal) = journal_child();
    services.set_journal(journal.clone().recipient());
    services.set_supervision_events(journal.clone().recipient());
    let watched: Recipient<SupervisionEvent> = journal.clone().recipient();
    let (sessions_spec, sessions) = supervisor("sessions", &parts, &watched).into_child();
    let (peers_spec, peers) = peers_child(&services, sessions);
    let making = Making { parts: &parts, services, peers, watched };

    let mut monitors = Monitors::new(&parts.session, &making.services);
    let (transports_spec, transports) = making.transports(&built, &mut monitors);
    let (transports_spec, addresses) = making.addresses(transports_spec, &built, interfaces, &transports);
    let (app_spec, app) = supervisor("app", &parts, &making.watched).into_child();
    let (transports_spec, restarts) = transports_spec.into_child();
    let (repair_spec, repairs) = making.repairs(restarts, &transports);
    monitors.add_child(repair_spec);
    let kept_migrations = Rc::new(Kept::new(&parts.migration));
    let (migration_spec, migrations) = making.migrations(&kept_migrations);
    let network = parts.network.as_ref().zip(port.zip(secret));
    let network = network.map(|(config, (port, secret))| making.network(config, port, secret));
    let (network_spec, network) = network.map(|network| (network.child, network.handle)).unzip();
    let (group_spec, group) = parts.group.as_ref().map(|setup| making.group(setup)).transpose()?.unzip();
    let Making { services, peers, watched, .. } = making;

    let root = SupervisorSpec::new("node", Strategy::RestForOne)
        .seed(parts.seed)
        .events(watched.clone())
        .child(journal_spec)
        .child(transports_spec)
        .child(sessions_spec)
        .child(peers_spec.mailbox(SHARED_MAILBOX))
        .child(app_spec)
        .child(monitors.into_child(parts.seed, watched))
        .child(migration_spec);
    let root = network_spec.into_iter().chain(group_spec).fold(root, SupervisorSpec::child).start_root();
    if let Some(group) = &group {
        // It hears from the membership who is gone.
        journal.do_send(Subscribe(group.actor().clone().recipient()));
    }
    if network.is_some()
        && let Some(mesh) = transports.get(&TransportKind::new(mesh::SCHEME))
    {
        // Not among the addresses that peers are told: whether there is a way through others is for the routing to say.
        mesh.do_send(Listen { address: mesh::address(&services.local()) });
    }
    Ok(NodeHandle {
        services,
        root,
        journal,
        peers,
        app,
        migrations,
        kept_migrations,
        repairs,
        network,
        group,
        transports,
        addresses,
    })
}

type Transports = Rc<BTreeMap<TransportKind, Addr<TransportActor>>>;

/// The transports that the parts make, and what the machine's interfaces are written into.
fn build(parts: &NodeParts, port: Option<MeshPort>) -> Result<(Vec<Rc<dyn Transport>>, InterfaceTable), NodeError> {
    let context = TransportContext {
        identity: parts.identity.clone(),
        config: parts.transport.clone(),
        interfaces: InterfaceTable::default(),
        mesh: parts.mesh.clone().or(port),
    };
    let built = parts.registry.build_all(&context);
    let mut built = built.map_err(|(kind, source)| NodeError::Transport { kind, source })?;
    // Without the network there is nothing behind it.
    built.retain(|transport| context.mesh.is_some() || !leads_through_others(&transport.kind()));
    Ok((built, context.interfaces))
}

fn services(parts: &NodeParts) -> Rc<Services> {
    let trust = parts.trust.clone();
    let services = Services::new(parts.identity.clone(), parts.incarnation, parts.session.clone(), trust, parts.seed);
    services.set_application(parts.application.clone());
    Rc::new(services)
}

fn supervisor(name: &str, parts: &NodeParts, watched: &Recipient<SupervisionEvent>) -> SupervisorSpec {
    SupervisorSpec::new(name, Strategy::OneForOne).seed(parts.seed).events(watched.clone())
}

fn peers_child(services: &Rc<Services>, sessions: Addr<SupervisorActor>) -> (ChildSpec, Addr<PeersActor>) {
    let (shared, table) = (services.clone(), Rc::default());
    services.carrier.set_table(Rc::clone(&table));
    let (spec, peers) =
        ChildSpec::new("peers", move || PeersActor::new(shared.clone(), Rc::clone(&table), sessions.clone()));
    services.set_session_ends(peers.clone().recipient());
    (spec, peers)
}

/// A node whose sessions are in place already: what the rest of the tree is made with.
struct Making<'a> {
    parts: &'a NodeParts,
    services: Rc<Services>,
    peers: Addr<PeersActor>,
    watched: Recipient<SupervisionEvent>,
}

impl Making<'_> {
    /// The transports under their supervisor, each with a monitor of its links' health.
    fn transports(&self, built: &[Rc<dyn Transport>], monitors: &mut Monitors) -> (SupervisorSpec, Transports) {
        let handshake = Arc::new(handshake_config(self.parts));
        let mut spec = supervisor("transports", self.parts, &self.watched);
        let mut transports = BTreeMap::new();
        for transport in built {
            let kind = transport.kind();
            monitors.add(&kind);
            let parts = self.transport(transport, &handshake);
            let (child, address) = ChildSpec::new(kind.as_str(), move || TransportActor::new(parts.clone()));
            self.services.add_dialer(kind.clone(), address.clone().recipient());
            spec = spec.child(child.mailbox(SHARED_MAILBOX));
            transports.insert(kind, address);
        }
        (spec, Rc::new(transports))
    }

    fn transport(&self, transport: &Rc<dyn Transport>, handshake: &Arc<HandshakeConfig>) -> TransportParts {
        let (parts, events) = (self.parts, self.services.clone());
        TransportParts {
            transport: Rc::clone(transport),
            config: parts.transport.clone(),
            limits: parts.limits,
            identity: parts.identity.clone(),
            handshake: handshake.clone(),
            entropy: parts.entropy.clone(),
            admission: Rc::new(RefCell::new(Gate(self.services.clone()))),
            established: self.peers.clone().recipient(),
            events: Rc::new(move |event| events.emit(event)),
            seed: parts.seed,
            kept: KeptListeners::default(),
        }
    }

    /// Where peers are told that the node can be reached, and beside the transports the actors that follow the machine's interfaces.
    fn addresses(
        &self,
        spec: SupervisorSpec,
        built: &[Rc<dyn Transport>],
        interfaces: InterfaceTable,
        transports: &Transports,
    ) -> (SupervisorSpec, Rc<Addresses>) {
        let addresses = Rc::new(Addresses {
            services: self.services.clone(),
            transports: Rc::clone(transports),
            peers: self.peers.clone(),
            fixed: self.parts.advertise.clone(),
            here: self.parts.here.clone(),
            listening: RefCell::default(),
            told: RefCell::default(),
        });
        // A simulated network has no interfaces that the operating system could say anything about.
        if !built.iter().any(|transport| transport.capabilities().binds) {
            return (spec, addresses);
        }
        let (shared, settle) = (Rc::clone(&addresses), self.parts.advertise_after);
        let (follower_spec, follower) =
            ChildSpec::new("addresses", move || AddressesActor::new(Rc::clone(&shared), settle));
        let subscribers = InterfaceSubscribers::default();
        subscribers.add(self.peers.clone().recipient());
        subscribers.add_to_addresses(follower.recipient());
        transports.values().for_each(|transport| subscribers.add(transport.clone().recipient()));
        let monitor = move || InterfaceMonitor::new(interfaces.clone(), subscribers.clone());
        (spec.child(follower_spec).child(ChildSpec::new("interfaces", monitor).0), addresses)
    }

    fn repairs(&self, supervisor: Addr<SupervisorActor>, transports: &Transports) -> (ChildSpec, Addr<RepairActor>) {
        let parts = RepairParts {
            config: self.parts.repair.clone(),
            services: self.services.clone(),
            peers: self.peers.clone(),
            supervisor,
            transports: Rc::clone(transports),
        };
        let (spec, repairs) = ChildSpec::new("repairs", move || RepairActor::new(parts.clone()));
        self.services.set_repairs(repairs.clone().recipient());
        (spec, repairs)
    }

    /// The actor of migrations, under a supervisor of its own: whatever applications do in there ends nothing else.
    fn migrations(&self, kept: &Rc<Kept>) -> (ChildSpec, Addr<MigrationActor>) {
        let events = Rc::clone(&self.services);
        let parts = MigrationParts {
            kept: Rc::clone(kept),
            incarnation: self.services.incarnation,
            sessions: self.peers.clone().recipient(),
            events: Rc::new(move |event| events.emit(event)),
        };
        let (spec, migrations) = ChildSpec::new("migrations", move || MigrationActor::new(parts.clone()));
        self.services.set_migrations(migrations.clone().recipient());
        let supervisor = supervisor("migration", self.parts, &self.watched).on_exceeded(OnExceeded::EndGroup);
        (supervisor.child(spec.mailbox(SHARED_MAILBOX)).into_child().0.restart(Restart::Temporary), migrations)
    }

    fn network(&self, config: &NetworkConfig, port: MeshPort, secret: ChaCha20Rng) -> Network {
        self.services.set_mesh();
        Network::new(NetworkMaking {
            config,
            services: &self.services,
            port,
            healing: self.peers.clone().recipient(),
            ways: self.peers.clone().recipient(),
            entropy: self.parts.entropy.clone(),
            secret,
            seed: self.parts.seed,
            events: self.watched.clone(),
            sessions: self.peers.clone().recipient(),
            power: self.parts.power,
        })
    }

    fn group(&self, setup: &GroupSetup) -> Result<(ChildSpec, GroupHandle), NodeError> {
        group::make(setup, &self.services, self.peers.clone().recipient(), self.parts, self.watched.clone())
    }
}

/// Where links through other peers begin, and a generator that nobody else knows the seed of.
fn mesh_port(parts: &NodeParts, network: &NetworkConfig) -> Result<(MeshPort, ChaCha20Rng), NodeError> {
    let mut secret = (parts.entropy)()?.into_rng();
    let mut seed = [0; 32];
    secret.fill_bytes(&mut seed);
    Ok((MeshPort::new(parts.identity.clone(), network.mesh.clone(), seed), secret))
}

fn journal_child() -> (ChildSpec, Addr<JournalActor>) {
    let (started, subscribers) = (clock::now(), Subscribers::default());
    let (spec, address) = ChildSpec::new("journal", move || JournalActor::new(started, subscribers.clone()));
    (spec.mailbox(JOURNAL_MAILBOX), address)
}

fn handshake_config(parts: &NodeParts) -> HandshakeConfig {
    let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    HandshakeConfig {
        versions: OfferedVersions::ours(),
        parameters: HelloParameters {
            features: Features::default(),
            incarnation: parts.incarnation,
            channel_window: parts.session.channel_window,
            message_bytes_max: u32::try_from(parts.session.message_bytes).unwrap_or(u32::MAX),
            ack_delay_max_us: micros(parts.session.ack_delay),
            channels_max: u32::try_from(parts.session.channels).unwrap_or(u32::MAX),
        },
        rotation: parts.rotation,
    }
}
