//! A node for another program: put together with a few lines, and then used through its handle.

use std::ops::Deref;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use actix::Recipient;
use bowline_actors::migration::Migratable;
use bowline_actors::node::{
    Application, GroupSetup, Inspector, NetworkConfig, NodeError, NodeHandle, NodeParts, start,
};
use bowline_actors::partition::actor::GroupApplication;
use bowline_actors::partition::group::GroupConfig;
use bowline_actors::session::identity::Identity;
use bowline_actors::session::stream::IncomingStream;
use bowline_actors::session::trust::{Trust, TrustSnapshot};
use bowline_actors::supervision::ChildSpec;
use bowline_actors::transport::registry::Registry;
use bowline_messages::config::{NodeConfig, TrustPolicy};
use bowline_messages::session::Inbox;
use bowline_messages::{EndpointAddress, Incarnation, PeerId};

use crate::exit::{Exit, Failure};
use crate::notebook::Notebook;

/// A running node. It lives on the arbiter it was started on, and ends with it, or by [`NodeHandle::shutdown`]. Everything a
/// [`NodeHandle`] can do, it can.
#[derive(Clone)]
pub struct Node {
    handle: NodeHandle,
    listening: Vec<EndpointAddress>,
}

/// Puts a [`Node`] together. Whatever is left out has its default: a new identity, no listener, peers by allow list.
#[must_use = "a builder does nothing until `start`"]
pub struct NodeBuilder {
    identity: Option<Arc<Identity>>,
    incarnation: Option<Incarnation>,
    config: NodeConfig,
    known: TrustSnapshot,
    connect: Vec<(PeerId, Vec<EndpointAddress>)>,
    children: Vec<ChildSpec>,
    application: Application,
    migratable: Vec<(String, Rc<dyn Migratable>)>,
    registry: Registry,
    group: (GroupApplication, Option<PathBuf>),
}

impl Node {
    /// A builder with all defaults; it listens nowhere until told to.
    pub fn builder() -> NodeBuilder {
        let mut config = NodeConfig::default();
        config.listen.addresses.clear();
        NodeBuilder {
            identity: None,
            incarnation: None,
            config,
            known: TrustSnapshot::default(),
            connect: Vec::new(),
            children: Vec::new(),
            application: Application::default(),
            migratable: Vec::new(),
            registry: Registry::builtin(),
            group: (Notebook::application(), None),
        }
    }

    /// Where it listens; port 0 is replaced by the port that was free.
    pub fn listening(&self) -> &[EndpointAddress] {
        &self.listening
    }

    /// The handle, for parts that outlive this value.
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }
}

impl Deref for Node {
    type Target = NodeHandle;

    fn deref(&self) -> &NodeHandle {
        &self.handle
    }
}

impl NodeBuilder {
    /// Who the node is. Without it, somebody new at every start.
    pub fn identity(mut self, identity: Arc<Identity>) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The life of this identity: a number that grows with every start, from `keyfile::next_incarnation`. A peer tells by it what
    /// was sent to an earlier life. It matters only for an identity that is kept; the default
    /// is the time of the start in seconds, with which a node cannot take part in a group.
    pub fn incarnation(mut self, incarnation: Incarnation) -> Self {
        self.incarnation = Some(incarnation);
        self
    }

    /// Everything that can be configured, replacing what earlier calls set. The sections about the program `bowline` itself (control,
    /// metrics, log, receive, forward) have no effect here.
    pub fn config(mut self, config: NodeConfig) -> Self {
        self.config = config;
        self
    }

    /// Listens here as well.
    pub fn listen(mut self, address: EndpointAddress) -> Self {
        self.config.listen.addresses.push(address);
        self
    }

    /// What happens to peers that nobody has named. Default: they are refused.
    pub fn trust(mut self, policy: TrustPolicy) -> Self {
        self.config.trust.policy = policy;
        self
    }

    /// Accepts this peer.
    pub fn allow(mut self, peer: PeerId) -> Self {
        self.config.trust.allow.push(peer);
        self
    }

    /// What an earlier life of this identity knew about peers.
    pub fn known(mut self, known: TrustSnapshot) -> Self {
        self.known = known;
        self
    }

    /// Accepts this peer, and connects to it at start.
    pub fn peer(mut self, peer: PeerId, addresses: impl IntoIterator<Item = EndpointAddress>) -> Self {
        self.connect.push((peer, addresses.into_iter().collect()));
        self.allow(peer)
    }

    /// Who gets the messages of peers.
    pub fn inbox(mut self, recipient: Recipient<Inbox>) -> Self {
        self.application.inbox = Some(recipient);
        self
    }

    /// Who gets the streams that peers open.
    pub fn streams(mut self, recipient: Recipient<IncomingStream>) -> Self {
        self.application.streams = Some(recipient);
        self
    }

    /// Sees every message as it is handed over.
    pub fn inspector(mut self, inspector: Inspector) -> Self {
        self.application.inspector = Some(inspector);
        self
    }

    /// Makes a state of the application's movable under a name, from here and to here, before any peer can ask for it
    /// (`bowline_actors::migration` says how).
    pub fn migratable(mut self, name: impl Into<String>, state: Rc<dyn Migratable>) -> Self {
        self.migratable.push((name.into(), state));
        self
    }

    /// What the group of the configuration (`group.participants`) keeps together, instead of the [`crate::notebook`]; and the folder in which it keeps what it
    /// must not forget. Without a folder a node that is stopped must not come back while others of the group are stopped, too. Who takes part needs an
    /// [`NodeBuilder::incarnation`] that was never used before.
    pub fn group(mut self, application: GroupApplication, folder: Option<PathBuf>) -> Self {
        self.group = (application, folder);
        self
    }

    /// Runs an actor of the application's in the node's supervision tree, below `app`: started last, stopped first.
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// The transports there are, instead of all that are compiled in: for transports of one's own.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Starts the node on the present arbiter: its actors first, then its listeners, then its connections.
    ///
    /// # Errors
    /// [`Exit::Configuration`] for what is configured wrongly, a group without an incarnation included; when no listener can be opened also [`Exit::False`] (somebody else
    /// listens there) and [`Exit::Permission`]. The node is shut down then.
    pub async fn start(self) -> Result<Node, Failure> {
        let failed = |error: NodeError| Failure::new(Exit::Configuration, error);
        self.config.check().map_err(|errors| {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Failure::new(Exit::Configuration, texts.join("\n"))
        })?;
        if !self.config.group.participants.is_empty() && self.incarnation.is_none() {
            // Two starts within a second would sign two things under one number, which is a proof of misbehaviour.
            let missing = "a node of a group (`group.participants`) needs an incarnation that it never had before";
            let hint = "`keyfile::next_incarnation` counts the starts of an identity, for `NodeBuilder::incarnation`";
            return Err(Failure::new(Exit::Configuration, missing).hint(hint));
        }
        // An identity that is kept lives again and again; the clock tells the lives apart where nobody counts them.
        let lives = self.identity.is_some();
        let incarnation = self.incarnation.unwrap_or_else(|| if lives { life_by_the_clock() } else { Incarnation(1) });
        let identity = match self.identity {
            Some(identity) => identity,
            None => Arc::new(Identity::generate(&mut crate::randomness()?)),
        };
        let mut parts = NodeParts::new(identity, trust(&self.config, self.known));
        parts.incarnation = incarnation;
        parts.session = self.config.session.clone();
        parts.transport = self.config.transport.clone();
        parts.repair = self.config.repair.clone();
        parts.migration = self.config.migration.clone();
        parts.limits = self.config.limits;
        parts.registry = self.registry;
        parts.application = self.application;
        if self.config.network.enabled {
            parts.network = Some(NetworkConfig {
                section: self.config.network.clone(),
                mesh: self.config.mesh.clone(),
                membership: self.config.membership.clone(),
                topology: self.config.topology.clone(),
            });
        }
        if !self.config.group.participants.is_empty() {
            parts.group = Some(group(&self.config, parts.identity.peer_id(), self.group)?);
        }
        parts.advertise = Some(self.config.listen.advertise.clone()).filter(|addresses| !addresses.is_empty());
        parts.advertise_after = self.config.listen.advertise_after;
        let handle = start(parts).map_err(failed)?;
        self.migratable.into_iter().for_each(|(name, state)| handle.migratable(name, state));
        let mut node = Node { handle, listening: Vec::new() };
        match node.finish(&self.config, self.children, self.connect).await {
            Ok(()) => Ok(node),
            Err(failure) => {
                node.shutdown(std::time::Duration::ZERO).await;
                Err(failure)
            }
        }
    }
}

impl Node {
    async fn finish(
        &mut self,
        config: &NodeConfig,
        children: Vec<ChildSpec>,
        connect: Vec<(PeerId, Vec<EndpointAddress>)>,
    ) -> Result<(), Failure> {
        for child in children {
            let started = self.handle.start_child(child).await;
            started.map_err(|error| Failure::new(Exit::Configuration, error))?;
        }
        self.listening = crate::listen::open(&self.handle, &config.listen).await?;
        for (peer, addresses) in connect {
            let connected = self.handle.connect(peer, addresses).await;
            connected.map_err(|error| Failure::new(Exit::Configuration, format_args!("peer {peer}: {error}")))?;
        }
        Ok(())
    }
}

/// The clock on the wall, which goes on while the machine sleeps. One that is set forward looks like a sleep, and costs a lease.
#[allow(clippy::disallowed_methods, reason = "it is compared with the time that everything else goes by")]
fn wall_clock() -> std::time::Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970. Two starts within one second, or a clock that is set back, make two lives look like one.
#[allow(
    clippy::disallowed_methods,
    reason = "a number that grows from process to process, not a time that anything waits for"
)]
fn life_by_the_clock() -> Incarnation {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Incarnation(since.map_or(1, |since| since.as_secs().max(1)))
}

/// This node's part in the group of its configuration.
fn group(
    config: &NodeConfig,
    me: PeerId,
    (application, folder): (GroupApplication, Option<PathBuf>),
) -> Result<GroupSetup, Failure> {
    let participants = config.group.participants.clone();
    if !participants.contains(&me) {
        let not = format!("group.participants: this node, {me}, is not among them");
        return Err(Failure::new(Exit::Configuration, not));
    }
    let behaviour = GroupConfig {
        partition: config.partition.clone(),
        log: config.partition_log.clone(),
        resolution: config.resolution.clone(),
    };
    Ok(GroupSetup { participants, config: behaviour, application, folder, awake: Some(wall_clock) })
}

/// Whom a configuration accepts, together with what is known of earlier lives.
fn trust(config: &NodeConfig, known: TrustSnapshot) -> Trust {
    let (allowed, denied) = trust_lists(config);
    Trust::new(&config.trust, allowed, denied, known)
}

/// Whom a configuration accepts and whom it refuses, by its lists and its peer book.
pub(crate) fn trust_lists(config: &NodeConfig) -> (Vec<PeerId>, Vec<PeerId>) {
    use bowline_messages::config::PeerTrust;
    let of = |wanted: PeerTrust| config.peers.values().filter(move |entry| entry.trust == wanted).map(|entry| entry.id);
    let allowed = config.trust.allow.iter().copied().chain(of(PeerTrust::Allow));
    let denied = config.trust.deny.iter().copied().chain(of(PeerTrust::Deny));
    (allowed.collect(), denied.collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn life(builder: NodeBuilder) -> Incarnation {
        actix::System::new().block_on(async {
            let node = builder.start().await.unwrap_or_else(|failure| panic!("{failure:?}"));
            let life = node.services().incarnation;
            node.shutdown(std::time::Duration::ZERO).await;
            life
        })
    }

    #[test]
    fn an_identity_that_is_kept_gets_its_life_from_the_clock_unless_it_is_told() {
        let kept = || Node::builder().identity(Arc::new(Identity::from_seed(&[7; 32])));
        // September 2020: no process and no machine has been running for that long.
        assert!(life(kept()) > Incarnation(1_600_000_000));
        assert_eq!(life(kept().incarnation(Incarnation(5))), Incarnation(5));
        assert_eq!(life(Node::builder()), Incarnation(1), "somebody new has one life");
    }

    /// Otherwise its statements would be numbered by the clock's seconds, and two starts within one be a proof against it.
    #[test]
    fn who_takes_part_in_a_group_says_which_life_it_is() {
        let mut config = NodeConfig::default();
        config.listen.addresses.clear();
        let identity = Arc::new(Identity::from_seed(&[8; 32]));
        config.group.participants = vec![identity.peer_id()];
        let builder = || Node::builder().identity(Arc::clone(&identity)).config(config.clone());
        actix::System::new().block_on(async {
            let refused = builder().start().await.err().unwrap();
            assert_eq!(refused.exit, Exit::Configuration);
            assert!(refused.message.contains("incarnation"), "{refused:?}");
        });
        assert_eq!(life(builder().incarnation(Incarnation(5))), Incarnation(5));
    }
}
