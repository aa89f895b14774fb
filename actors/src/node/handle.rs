//! The handle on a running node.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::{Addr, MailboxError, Recipient};
use bowline_messages::event::Event;
use bowline_messages::link::Binding;
use bowline_messages::repair::{RepairStatus, RepairsQuery};
use bowline_messages::session::{Outgoing, SendError, SessionStatus};
use bowline_messages::supervision::{ChildError, ExitReason, Kill, Tree, TreeNode};
use bowline_messages::transport::{Listen, ListenError, TransportStatus, TransportStatusQuery};
use bowline_messages::{EndpointAddress, PeerId, TransportKind};

use super::addresses::Addresses;
use super::group::GroupHandle;
use super::journal::{JournalActor, RecentEvents, Subscribe};
use super::network::NetworkHandle;
use super::peers::{
    Broadcast, ConnectError, ConnectPeer, DisconnectPeer, DrainSessions, FindPeer, PeersActor, PeersQuery, SeekPeer,
};
use super::repairs::RepairActor;
use super::services::Services;
use crate::migration::actor::{AbortMigration, Kept};
use crate::migration::{Migratable, Migrate, Migrated, MigrationActor, MigrationError};
use crate::partition::medium::MediumError;
use crate::session::handle::{Receipt, SessionHandle};
use crate::session::handshake::HandshakeError;
use crate::supervision::{ChildSpec, RootHandle, StartChild, SupervisorActor, call_within};
use crate::transport::TransportError;
use crate::transport::actor::TransportActor;

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
    pub(super) services: Rc<Services>,
    pub(super) root: RootHandle,
    pub(super) journal: Addr<JournalActor>,
    pub(super) peers: Addr<PeersActor>,
    pub(super) app: Addr<SupervisorActor>,
    pub(super) migrations: Addr<MigrationActor>,
    pub(super) kept_migrations: Rc<Kept>,
    pub(super) repairs: Addr<RepairActor>,
    pub(super) network: Option<NetworkHandle>,
    pub(super) group: Option<GroupHandle>,
    pub(super) transports: Rc<BTreeMap<TransportKind, Addr<TransportActor>>>,
    pub(super) addresses: Rc<Addresses>,
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
