//! One node as the benches and the demonstration need it: a fresh identity, everybody welcome, no limits, on this arbiter.

use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use bowline_actors::node::{Application, NodeError, NodeHandle, NodeParts, start};
use bowline_actors::session::handle::SessionHandle;
use bowline_actors::session::identity::Identity;
use bowline_actors::session::stream::IncomingStream;
use bowline_actors::session::trust::Trust;
use bowline_messages::config::{LimitsConfig, TrustConfig, TrustPolicy};
use bowline_messages::event::Event;
use bowline_messages::session::{Inbox, SessionStatus};
use bowline_messages::supervision::TreeNode;
use bowline_messages::{EndpointAddress, LinkId, MessageClass, PeerId};
use ring::rand::SecureRandom as _;

use crate::exit::{Exit, Failure};

/// How long all links may take to stand before a call begins with those that do.
const LINKS_PATIENCE: Duration = Duration::from_secs(3);
/// How often links are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a node that stops waits for what it accepted.
const DRAIN: Duration = Duration::from_millis(500);

/// What a node is to do.
#[derive(Default)]
pub(crate) struct PeerOptions {
    /// Where it listens.
    pub(crate) listen: Vec<EndpointAddress>,
    /// Gets messages.
    pub(crate) inbox: Option<Recipient<Inbox>>,
    /// Gets streams.
    pub(crate) streams: Option<Recipient<IncomingStream>>,
    /// Gets events.
    pub(crate) events: Option<Recipient<Event>>,
    /// Whether peers are told where it listens, so that they can build spares by themselves.
    pub(crate) advertise: bool,
}

/// A running node.
#[derive(Clone)]
pub(crate) struct Peer {
    node: NodeHandle,
    addresses: Vec<EndpointAddress>,
}

fn failed(error: NodeError) -> Failure {
    Failure::new(Exit::False, error)
}

impl Peer {
    /// Starts it.
    pub(crate) async fn start(options: PeerOptions) -> Result<Self, Failure> {
        let mut seed = [0; 32];
        let no_randomness = |_| Failure::new(Exit::GaveUp, "the operating system gives no randomness");
        ring::rand::SystemRandom::new().fill(&mut seed).map_err(no_randomness)?;
        let trust = Trust::new(
            &TrustConfig { policy: TrustPolicy::Open, ..TrustConfig::default() },
            [],
            [],
            Default::default(),
        );
        let mut parts = NodeParts::new(Arc::new(Identity::from_seed(&seed)), trust);
        parts.limits = LimitsConfig::unlimited();
        parts.advertise = if options.advertise { None } else { Some(Vec::new()) };
        parts.application = Application { inbox: options.inbox, streams: options.streams, ..Application::default() };
        let node = start(parts).map_err(failed)?;
        if let Some(events) = options.events {
            node.subscribe(events);
        }
        let mut addresses = Vec::new();
        for address in options.listen {
            addresses.extend(node.listen(address).await.map_err(failed)?);
        }
        Ok(Self { node, addresses })
    }

    /// Waits until all of its actors have started.
    pub(crate) async fn started(&self) {
        // A node that is over is found to be so by whoever uses it.
        let _ = self.node.tree().await;
    }

    /// Who it is.
    pub(crate) fn id(&self) -> PeerId {
        self.node.id()
    }

    /// Where it listens, in the order in which it was asked to.
    pub(crate) fn addresses(&self) -> Vec<EndpointAddress> {
        self.addresses.clone()
    }

    /// The session with a peer at these addresses; links are made meanwhile.
    pub(crate) async fn connect(&self, peer: PeerId, to: &[EndpointAddress]) -> Result<SessionHandle, Failure> {
        self.node.connect(peer, to.iter().cloned()).await.map_err(failed)
    }

    /// The session with a peer, if there is one.
    pub(crate) async fn session(&self, peer: PeerId) -> Option<SessionHandle> {
        self.node.session(peer).await.ok().flatten()
    }

    /// Everybody there is a session with.
    pub(crate) async fn peers(&self) -> Vec<PeerId> {
        self.node.sessions(None).await.unwrap_or_default().iter().map(|session| session.peer).collect()
    }

    /// How a session is.
    pub(crate) async fn status(&self, peer: PeerId) -> Option<SessionStatus> {
        self.node.sessions(Some(peer)).await.ok()?.pop()
    }

    /// Waits until a session has so many usable links, or some seconds have passed.
    pub(crate) async fn wait_for_links(&self, peer: PeerId, count: usize) {
        let all = async {
            loop {
                let status = self.status(peer).await;
                let usable = |status: &SessionStatus| status.links.iter().filter(|link| link.state.is_usable()).count();
                if status.is_some_and(|status| usable(&status) >= count) {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // Whoever calls goes on with the links there are.
        let _ = tokio::time::timeout(LINKS_PATIENCE, all).await;
    }

    /// The link that would carry the next message of a class.
    pub(crate) async fn in_use(&self, peer: PeerId, class: MessageClass) -> Option<LinkId> {
        let status = self.status(peer).await?;
        status.choices.iter().find(|choice| choice.class == class)?.links.first().copied()
    }

    /// Makes the session's actor panic; its path in the tree.
    pub(crate) async fn kill_session(&self, peer: PeerId) -> Result<String, Failure> {
        self.kill_in_group(peer, |child| child == "session").await
    }

    /// Makes the actor of a link panic; its path in the tree.
    pub(crate) async fn kill_link(&self, peer: PeerId, link: LinkId) -> Result<String, Failure> {
        let number = format!("-{}", link.0);
        self.kill_in_group(peer, |child| child.starts_with("link-") && child.ends_with(&number)).await
    }

    /// Makes the actor of a transport panic.
    pub(crate) async fn kill_transport(&self, name: &str) -> Result<(), Failure> {
        self.kill(&format!("transports/{name}")).await
    }

    async fn kill_in_group(&self, peer: PeerId, victim: impl Fn(&str) -> bool) -> Result<String, Failure> {
        let tree = self.node.tree().await.map_err(failed)?;
        let path = path_in_group(&tree, peer, victim);
        let path = path.ok_or_else(|| Failure::new(Exit::False, "there is no such actor"))?;
        self.kill(&path).await?;
        Ok(path)
    }

    async fn kill(&self, path: &str) -> Result<(), Failure> {
        self.node.kill(path).await.map_err(|error| Failure::new(Exit::False, format_args!("{path}: {error}")))
    }

    /// Ends it in good order.
    pub(crate) async fn stop(&self) {
        self.node.shutdown(DRAIN).await;
    }
}

/// The path of an actor in the group of a peer.
fn path_in_group(tree: &TreeNode, peer: PeerId, victim: impl Fn(&str) -> bool) -> Option<String> {
    let sessions = tree.children.iter().find(|child| child.id == "sessions")?;
    let group = sessions.children.iter().find(|group| group.id.starts_with(&peer.short()))?;
    let actor = group.children.iter().find(|child| victim(&child.id))?;
    Some(format!("sessions/{}/{}", group.id, actor.id))
}

/// Waits until somebody ends this process in good order.
pub(crate) async fn told_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    // Without signals only a kill is left, and that needs nobody to wait for it.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
