//! Puts a node together: the whole supervision tree, as `docs/architecture.md` draws it, and the handle on it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, MailboxError, Recipient};
use bowline_messages::config::{ListenConfig, MigrationConfig, RepairConfig, SessionConfig, TransportConfig};
use bowline_messages::event::Event;
use bowline_messages::link::Binding;
use bowline_messages::repair::{RepairStatus, RepairsQuery};
use bowline_messages::session::{Outgoing, SendError, SessionStatus};
use bowline_messages::supervision::{
    ChildError, ExitReason, Kill, Restart, Strategy, SupervisionEvent, Tree, TreeNode,
};
use bowline_messages::transport::{Listen, ListenError, TransportStatus, TransportStatusQuery};
use bowline_messages::wire::{Features, HelloParameters, OfferedVersions};
use bowline_messages::{EndpointAddress, Incarnation, PeerId, TransportKind};

use super::addresses::{Addresses, AddressesActor};
use super::group::{self, GroupHandle, GroupSetup};
use super::journal::{JournalActor, RecentEvents, Subscribe, Subscribers};
use super::monitors::Monitors;
use super::network::{Network, NetworkConfig, NetworkHandle, NetworkMaking};
use super::peers::{
    Broadcast, ConnectError, ConnectPeer, DisconnectPeer, DrainSessions, FindPeer, PeersActor, PeersQuery, SeekPeer,
};
use super::power::power_left;
use super::repairs::{RepairActor, RepairParts};
use super::services::{Application, Gate, Services};
use rand::Rng as _;
use rand_chacha::ChaCha20Rng;

use crate::clock;
use crate::migration::actor::{AbortMigration, Kept};
use crate::migration::{Migratable, Migrate, Migrated, MigrationActor, MigrationError, MigrationParts};
use crate::partition::medium::MediumError;
use crate::session::handle::{Receipt, SessionHandle};
use crate::session::handshake::{Entropy, HandshakeConfig, HandshakeError};
use crate::session::identity::Identity;
use crate::session::limits::InboundConfig;
use crate::session::seal::RotationLimits;
use crate::session::trust::Trust;
use crate::supervision::{ChildSpec, OnExceeded, RootHandle, StartChild, SupervisorActor, SupervisorSpec, call_within};
use crate::transport::actor::{KeptListeners, TransportActor, TransportParts};
use crate::transport::interfaces::{InterfaceMonitor, InterfaceSubscribers, InterfaceTable, reachable_addresses};
use crate::transport::mesh::{self, MeshPort};
use crate::transport::registry::{Registry, TransportContext, leads_through_others};
use crate::transport::{Transport, TransportError};

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
    /// Where handshakes take their randomness from.
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

/// Why a node could not be started, or could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A transport could not be made from its configuration. The user's mistake.
    #[error("transport {kind}: {source}")]
    Transport {
        /// Which.
        kind: TransportKind,
        /// Why not.
        source: TransportError,
    },
    /// There is no transport for this address. The user's mistake, or it is not compiled in.
    #[error("there is no transport for {0}")]
    NoTransport(EndpointAddress),
    /// The listener could not be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: EndpointAddress,
        /// Why not.
        source: ListenError,
    },
    /// What its part in a group must not forget cannot be read or written.
    #[error("the group's state: {0}")]
    Group(#[from] MediumError),
    /// No session.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no randomness to be had for keys. The operating system's fault.
    #[error(transparent)]
    NoRandomness(#[from] HandshakeError),
    /// The node is over.
    #[error("the node is shut down")]
    Gone,
}

impl From<MailboxError> for NodeError {
    fn from(_: MailboxError) -> Self {
        Self::Gone
    }
}

/// A running node. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct NodeHandle {
    services: Rc<Services>,
    root: RootHandle,
    journal: Addr<JournalActor>,
    peers: Addr<PeersActor>,
    app: Addr<SupervisorActor>,
    migrations: Addr<MigrationActor>,
    kept_migrations: Rc<Kept>,
    repairs: Addr<RepairActor>,
    network: Option<NetworkHandle>,
    group: Option<GroupHandle>,
    transports: Rc<BTreeMap<TransportKind, Addr<TransportActor>>>,
    pub(super) addresses: Rc<Addresses>,
}

/// Starts a node on the present arbiter; nothing listens yet.
///
/// # Errors
/// [`NodeError::Transport`].
pub fn start(parts: NodeParts) -> Result<NodeHandle, NodeError> {
    let mesh = parts.network.as_ref().map(|network| mesh_port(&parts, network)).transpose()?;
    let (port, secret) = mesh.unzip();
    let context = TransportContext {
        identity: parts.identity.clone(),
        config: parts.transport.clone(),
        interfaces: InterfaceTable::default(),
        mesh: parts.mesh.clone().or_else(|| port.clone()),
    };
    let mut built =
        parts.registry.build_all(&context).map_err(|(kind, source)| NodeError::Transport { kind, source })?;
    // Without the network there is nothing behind it.
    built.retain(|transport| context.mesh.is_some() || !leads_through_others(&transport.kind()));
    let runs_over_interfaces = built.iter().any(|transport| transport.capabilities().binds);
    let handshake = Arc::new(handshake_config(&parts));
    let services = Rc::new(Services::new(
        parts.identity.clone(),
        parts.incarnation,
        parts.session.clone(),
        parts.trust,
        parts.seed,
    ));
    services.set_application(parts.application);

    let (journal_spec, journal) = journal_child();
    services.set_journal(journal.clone().recipient());
    services.set_supervision_events(journal.clone().recipient());
    let watched: Recipient<SupervisionEvent> = journal.clone().recipient();
    let (sessions_spec, sessions) =
        SupervisorSpec::new("sessions", Strategy::OneForOne).seed(parts.seed).events(watched.clone()).into_child();
    let (peers_spec, peers) = {
        let (services, table) = (services.clone(), Rc::default());
        services.carrier.set_table(Rc::clone(&table));
        ChildSpec::new("peers", move || PeersActor::new(services.clone(), Rc::clone(&table), sessions.clone()))
    };
    services.set_session_ends(peers.clone().recipient());
    let make = |transport: Rc<dyn Transport>| {
        let services = services.clone();
        let events = services.clone();
        TransportParts {
            transport,
            config: parts.transport.clone(),
            limits: parts.limits,
            identity: parts.identity.clone(),
            handshake: handshake.clone(),
            entropy: parts.entropy.clone(),
            admission: Rc::new(std::cell::RefCell::new(Gate(services))),
            established: peers.clone().recipient(),
            events: Rc::new(move |event| events.emit(event)),
            seed: parts.seed,
            kept: KeptListeners::default(),
        }
    };
    let mut transports_spec =
        SupervisorSpec::new("transports", Strategy::OneForOne).seed(parts.seed).events(watched.clone());
    let mut transports = BTreeMap::new();
    let mut monitors = Monitors::new(&parts.session, &services);
    for transport in built {
        let kind = transport.kind();
        monitors.add(&kind);
        let parts = make(transport);
        let (spec, address) = ChildSpec::new(kind.as_str(), move || TransportActor::new(parts.clone()));
        services.add_dialer(kind.clone(), address.clone().recipient());
        transports_spec = transports_spec.child(spec.mailbox(SHARED_MAILBOX));
        transports.insert(kind, address);
    }
    let transports = Rc::new(transports);
    let addresses = Rc::new(Addresses {
        services: services.clone(),
        transports: Rc::clone(&transports),
        peers: peers.clone(),
        fixed: parts.advertise,
        here: parts.here,
        listening: RefCell::default(),
        told: RefCell::default(),
    });
    // A simulated network has no interfaces that the operating system could say anything about.
    if runs_over_interfaces {
        let (shared, settle) = (Rc::clone(&addresses), parts.advertise_after);
        let (spec, follower) = ChildSpec::new("addresses", move || AddressesActor::new(Rc::clone(&shared), settle));
        transports_spec = transports_spec.child(spec);
        let (table, subscribers) = (context.interfaces.clone(), InterfaceSubscribers::default());
        subscribers.add(peers.clone().recipient());
        subscribers.add_to_addresses(follower.recipient());
        transports.values().for_each(|transport| subscribers.add(transport.clone().recipient()));
        let monitor = move || InterfaceMonitor::new(table.clone(), subscribers.clone());
        transports_spec = transports_spec.child(ChildSpec::new("interfaces", monitor).0);
    }
    let (app_spec, app) =
        SupervisorSpec::new("app", Strategy::OneForOne).seed(parts.seed).events(watched.clone()).into_child();
    let (transports_spec, supervisor) = transports_spec.into_child();
    let repair_parts = RepairParts {
        config: parts.repair.clone(),
        services: services.clone(),
        peers: peers.clone(),
        supervisor,
        transports: Rc::clone(&transports),
    };
    let (repair_spec, repairs) = ChildSpec::new("repairs", move || RepairActor::new(repair_parts.clone()));
    services.set_repairs(repairs.clone().recipient());
    monitors.add_child(repair_spec);
    let kept_migrations = Rc::new(Kept::new(&parts.migration));
    let (migration_spec, migrations) =
        migration_child(&services, &kept_migrations, peers.clone().recipient(), parts.seed);
    let network = parts.network.as_ref().zip(port.zip(secret)).map(|(config, (port, secret))| {
        services.set_mesh();
        Network::new(NetworkMaking {
            config,
            services: &services,
            port,
            healing: peers.clone().recipient(),
            ways: peers.clone().recipient(),
            entropy: parts.entropy.clone(),
            secret,
            seed: parts.seed,
            events: watched.clone(),
            sessions: peers.clone().recipient(),
            power: parts.power,
        })
    });
    let group = parts
        .group
        .as_ref()
        .map(|setup| group::make(setup, &services, peers.clone().recipient(), parts.seed, watched.clone()));
    let (group_spec, group) = group.transpose()?.unzip();
    let root = SupervisorSpec::new("node", Strategy::RestForOne)
        .seed(parts.seed)
        .events(watched.clone())
        .child(journal_spec)
        .child(transports_spec)
        .child(sessions_spec)
        .child(peers_spec.mailbox(SHARED_MAILBOX))
        .child(app_spec)
        .child(monitors.into_child(parts.seed, watched.clone()))
        .child(migration_spec);
    let (network_spec, network) = network.map(|network| (network.child, network.handle)).unzip();
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

/// The actor of migrations, under a supervisor of its own: whatever applications do in there ends nothing else.
fn migration_child(
    services: &Rc<Services>,
    kept: &Rc<Kept>,
    sessions: Recipient<FindPeer>,
    seed: u64,
) -> (ChildSpec, Addr<MigrationActor>) {
    let events = Rc::clone(services);
    let parts = MigrationParts {
        kept: Rc::clone(kept),
        incarnation: services.incarnation,
        sessions,
        events: Rc::new(move |event| events.emit(event)),
    };
    let (spec, migrations) = ChildSpec::new("migrations", move || MigrationActor::new(parts.clone()));
    services.set_migrations(migrations.clone().recipient());
    let mut supervisor = SupervisorSpec::new("migration", Strategy::OneForOne).seed(seed);
    if let Some(events) = services.supervision_events() {
        supervisor = supervisor.events(events);
    }
    let supervisor = supervisor.on_exceeded(OnExceeded::EndGroup).child(spec.mailbox(SHARED_MAILBOX));
    (supervisor.into_child().0.restart(Restart::Temporary), migrations)
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

impl NodeHandle {
    /// The node's name.
    pub fn id(&self) -> PeerId {
        self.services.local()
    }

    /// The actor that knows all sessions; for scripts and embedders that go deeper.
    pub fn peers(&self) -> &Addr<PeersActor> {
        &self.peers
    }

    /// The actor of a transport, if the node has it.
    pub fn transport(&self, kind: &TransportKind) -> Option<&Addr<TransportActor>> {
        self.transports.get(kind)
    }

    /// What it knows of the network; `None` when it takes no part in it.
    pub fn network(&self) -> Option<&NetworkHandle> {
        self.network.as_ref()
    }

    /// Its part in a group; `None` when it belongs to none.
    pub fn group(&self) -> Option<&GroupHandle> {
        self.group.as_ref()
    }

    /// The journal.
    pub fn journal(&self) -> &Addr<JournalActor> {
        &self.journal
    }

    /// What its actors share; for embedders that go deeper.
    pub fn services(&self) -> &Rc<Services> {
        &self.services
    }

    /// Listens, and tells every peer. Gives where: port 0 is replaced by the one that was free.
    ///
    /// # Errors
    /// [`NodeError::NoTransport`], [`NodeError::Listen`], [`NodeError::Gone`].
    pub async fn listen(&self, address: EndpointAddress) -> Result<Vec<EndpointAddress>, NodeError> {
        let transport = self.transports.get(address.kind()).ok_or_else(|| NodeError::NoTransport(address.clone()))?;
        let opened = transport.send(Listen { address: address.clone() }).await?;
        let opened = opened.map_err(|source| NodeError::Listen { address, source })?;
        self.addresses.advertise().await?;
        Ok(opened)
    }

    /// Where the node listens for whoever dials it directly. A transport that does not answer within a second counts with what it said last.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn addresses(&self) -> Result<Vec<EndpointAddress>, NodeError> {
        self.addresses.listening().await
    }

    /// The transports there are.
    pub fn transport_kinds(&self) -> impl Iterator<Item = &TransportKind> {
        self.transports.keys()
    }

    /// Finds or makes the session with a peer and keeps links to these addresses.
    ///
    /// # Errors
    /// [`NodeError::Connect`], [`NodeError::Gone`].
    pub async fn connect(
        &self,
        peer: PeerId,
        addresses: impl IntoIterator<Item = EndpointAddress>,
    ) -> Result<SessionHandle, NodeError> {
        self.connect_bound(peer, addresses.into_iter().map(|address| (address, Binding::Any)).collect()).await
    }

    /// The same, with what each link is to be bound to on this side.
    ///
    /// # Errors
    /// [`NodeError::Connect`], [`NodeError::Gone`].
    pub async fn connect_bound(
        &self,
        peer: PeerId,
        addresses: Vec<(EndpointAddress, Binding)>,
    ) -> Result<SessionHandle, NodeError> {
        Ok(self.peers.send(ConnectPeer { peer, addresses }).await??)
    }

    /// Seeks a peer at these addresses and at no others, as a configuration says: nobody is accepted by it who is not anyway. Without
    /// addresses the peer is not sought any more; a session with it goes on.
    ///
    /// # Errors
    /// [`NodeError::Connect`], [`NodeError::Gone`].
    pub async fn seek(
        &self,
        peer: PeerId,
        addresses: impl IntoIterator<Item = EndpointAddress>,
    ) -> Result<(), NodeError> {
        let addresses = addresses.into_iter().map(|address| (address, Binding::Any)).collect();
        Ok(self.peers.send(SeekPeer { peer, addresses }).await??)
    }

    /// The session with a peer, if there is one.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn session(&self, peer: PeerId) -> Result<Option<SessionHandle>, NodeError> {
        Ok(self.peers.send(FindPeer(peer)).await?)
    }

    /// Ends the session with a peer. Says whether there was one.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn disconnect(&self, peer: PeerId) -> Result<bool, NodeError> {
        Ok(self.peers.send(DisconnectPeer(peer)).await?)
    }

    /// Reports on all sessions, or on one.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn sessions(&self, only: Option<PeerId>) -> Result<Vec<SessionStatus>, NodeError> {
        Ok(self.peers.send(PeersQuery(only)).await?)
    }

    /// Reports on all transports.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn transports(&self) -> Result<Vec<TransportStatus>, NodeError> {
        let mut all = Vec::new();
        for transport in self.transports.values() {
            all.push(transport.send(TransportStatusQuery).await?);
        }
        Ok(all)
    }

    /// Makes a state of the application's movable under a name, from here and to here. See [`crate::migration`].
    pub fn migratable(&self, name: impl Into<String>, state: Rc<dyn Migratable>) {
        self.kept_migrations.register(name.into(), state);
    }

    /// Moves a registered state to a peer with a session: complete or not at all. The answer comes when it is over, and whether it was moved is in it.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn migrate(
        &self,
        peer: PeerId,
        name: impl Into<String>,
    ) -> Result<Result<Migrated, MigrationError>, NodeError> {
        Ok(self.migrations.send(Migrate { peer, name: name.into() }).await?)
    }

    /// Calls the move of a state off. Says whether that was possible: not once the peer was told to take it over.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn abort_migration(&self, name: &str, why: &str) -> Result<bool, NodeError> {
        Ok(self.migrations.send(AbortMigration { name: name.to_owned(), why: why.to_owned() }).await?)
    }

    /// Reports on the transports that answer within a time.
    pub async fn responsive_transports(&self, limit: Duration) -> Vec<TransportStatus> {
        let asked = self.transports.values().map(|transport| call_within(transport, TransportStatusQuery, limit));
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// What was repaired lately, by path and transport.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn repairs(&self) -> Result<Vec<RepairStatus>, NodeError> {
        Ok(self.repairs.send(RepairsQuery).await?)
    }

    /// Sends one message to every peer; what fails is reported and stops nothing.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn broadcast(&self, message: Outgoing) -> Result<Vec<(PeerId, Result<Receipt, SendError>)>, NodeError> {
        Ok(self.peers.send(Broadcast(message)).await?)
    }

    /// The last events, oldest first.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn recent_events(&self, most: usize) -> Result<Vec<Event>, NodeError> {
        Ok(self.journal.send(RecentEvents(most)).await?)
    }

    /// Has every event sent to a recipient from now on.
    pub fn subscribe(&self, recipient: Recipient<Event>) {
        self.journal.do_send(Subscribe(recipient));
    }

    /// The live supervision tree.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn tree(&self) -> Result<TreeNode, NodeError> {
        Ok(self.root.address().send(Tree).await?)
    }

    /// Makes an actor panic, for tests and demonstrations: `transports/tcp`, `sessions/<group>/session`.
    ///
    /// # Errors
    /// [`ChildError`].
    pub async fn kill(&self, path: &str) -> Result<(), ChildError> {
        let killed = self.root.address().send(Kill { path: path.to_owned() }).await;
        killed.unwrap_or(Err(ChildError::ShuttingDown))
    }

    /// Starts an actor of the application's below the node's own tree.
    ///
    /// # Errors
    /// [`ChildError`].
    pub async fn start_child(&self, child: ChildSpec) -> Result<(), ChildError> {
        self.app.send(StartChild::new(child)).await.unwrap_or(Err(ChildError::ShuttingDown))
    }

    /// The root of the tree.
    pub fn root(&self) -> &RootHandle {
        &self.root
    }

    /// Waits until the node is over.
    pub async fn wait(&self) -> ExitReason {
        self.root.wait().await
    }

    /// Ends in good order: what was accepted is given so long to be delivered, then sessions and the tree are closed.
    pub async fn shutdown(&self, drain: Duration) -> ExitReason {
        if let Some(network) = &self.network {
            network.leave().await;
        }
        // A node that is over already has nothing to drain.
        let _ = self.peers.send(DrainSessions(drain)).await;
        self.root.shutdown().await
    }
}
