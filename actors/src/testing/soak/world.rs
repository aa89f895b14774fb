//! The nodes and the network between them: the same actors as in a real node, each node's tasks in a process of its own that can be stopped.
//!
//! The nodes have a network, an application and an identity, as real ones do, and nothing else: schedule, conditions and judge are on this side.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Handler};
use bowline_messages::config::{SessionConfig, TrustConfig, TrustPolicy};
use bowline_messages::event::{Event, EventKind};
use bowline_messages::session::Inbox;
use bowline_messages::{PeerId, TransportKind};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio::time::Instant;

use super::SoakError;
use super::judge::{Judge, Sent, Sequence, Side};
use super::media::{MEDIA, MediumIndex, index_of};
use super::traffic::{self, MESSAGE_BYTES_MIN};
use super::trail::Trail;
use crate::node::{Application, FindSessionActor, NetworkConfig, NodeHandle, NodeParts, start};
use crate::session::actor::SessionActor;
use crate::session::handle::SessionHandle;
use crate::session::handshake::Entropy;
use crate::session::identity::Identity;
use crate::session::trust::Trust;
use crate::supervision::Context;
use crate::testing::sim::{Process, identity_of};
use crate::transport::memory::{MemoryNetwork, Path};
use crate::transport::mesh::{self, MeshTransport};
use crate::transport::registry::Registry;

/// The mailbox of an application, in hand-overs.
const APP_MAILBOX: usize = 256;
/// The mailbox of a reporter: a node does not report more than this in one moment.
const REPORTER_MAILBOX: usize = 1 << 16;

/// What everybody on this side shares.
pub(super) struct Shared {
    started: Instant,
    pub(super) network: MemoryNetwork,
    pub(super) judge: RefCell<Judge>,
    names: Vec<String>,
    peers: BTreeMap<PeerId, usize>,
    /// What is shown of what happened.
    pub(super) trail: RefCell<Trail>,
    /// A session ended: handles have to be had anew.
    pub(super) stale: Cell<bool>,
}

impl Shared {
    pub(super) fn now(&self) -> Duration {
        self.since(Instant::now())
    }

    fn since(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.started)
    }

    /// What a node reported, as text with the nodes' own names.
    fn told(&self, node: usize, event: &EventKind) -> String {
        let mut text = format!("{event:?}");
        for (id, at) in &self.peers {
            text = text.replace(&format!("{id:?}"), &self.names[*at]);
        }
        format!("{}: {text}", self.names[node])
    }

    pub(super) fn path(&self, from: usize, to: usize, medium: MediumIndex) -> Path {
        Path::new(&self.names[from], &self.names[to], &TransportKind::new(MEDIA[medium].name))
    }

    /// What one side of a link wrote since its path is watched.
    pub(super) fn sent(&self, side: Side) -> Sent {
        let written = self.network.written(&self.path(side.node, side.peer, side.medium));
        Sent {
            first: written.first.map(|at| self.since(at)),
            first_message: written.first_large.map(|at| self.since(at)),
        }
    }

    pub(super) fn watch(&self, side: Side) {
        self.network.watch(&self.path(side.node, side.peer, side.medium), MESSAGE_BYTES_MIN);
    }
}

/// The application of a node.
struct App {
    node: usize,
    shared: Rc<Shared>,
}

impl Actor for App {
    type Context = Context<Self>;
}

impl Handler<Inbox> for App {
    type Result = ();

    fn handle(&mut self, inbox: Inbox, _: &mut Self::Context) {
        let now = self.shared.now();
        let Some(from) = self.shared.peers.get(&inbox.peer).copied() else { return };
        let Some(via) = index_of(inbox.via.transport.as_str()) else { return };
        let mut judge = self.shared.judge.borrow_mut();
        for message in inbox.messages {
            let sequence = Sequence { from, to: self.node, sort: message.channel.0 as usize };
            let number = traffic::read(&message.payload);
            judge.on_delivered(now, sequence, number, message.payload.len(), via);
        }
    }
}

/// Hears what a node reports.
struct Reporter {
    node: usize,
    shared: Rc<Shared>,
}

impl Actor for Reporter {
    type Context = Context<Self>;
}

impl Handler<Event> for Reporter {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        let now = self.shared.now();
        self.shared.trail.borrow_mut().add(now, || self.shared.told(self.node, &event.kind));
        let (peer, medium) = if let EventKind::LinkUp { peer, link } = &event.kind {
            (peer, index_of(link.transport.as_str()))
        } else if let EventKind::SessionDown { peer, .. } = &event.kind {
            self.shared.stale.set(true);
            (peer, None)
        } else if let EventKind::LinkStep { peer, .. } = &event.kind {
            (peer, None)
        } else {
            // Nothing that is judged.
            return;
        };
        let Some(peer) = self.shared.peers.get(peer).copied() else { return };
        let sent = |side| self.shared.sent(side);
        self.shared.judge.borrow_mut().on_event(now, self.node, peer, &event.kind, medium, &sent);
    }
}

/// A node.
pub(super) struct SoakNode {
    pub(super) process: Process,
    pub(super) handle: NodeHandle,
    pub(super) id: PeerId,
    /// Until when it is stopped.
    pub(super) paused_until: Cell<Duration>,
    sessions: RefCell<BTreeMap<usize, (SessionHandle, Addr<SessionActor>)>>,
}

impl SoakNode {
    /// Its session with another, as the application holds it.
    pub(super) fn session(&self, peer: usize) -> Option<SessionHandle> {
        self.sessions.borrow().get(&peer).map(|(handle, _)| handle.clone())
    }

    /// The actor of that session.
    pub(super) fn session_actor(&self, peer: usize) -> Option<Addr<SessionActor>> {
        self.sessions.borrow().get(&peer).map(|(_, actor)| actor.clone())
    }
}

/// All nodes.
pub(super) struct World {
    pub(super) nodes: Vec<SoakNode>,
    pub(super) shared: Rc<Shared>,
}

impl World {
    /// Starts nodes that know nothing of each other yet. `network`: whether they take part in one beyond their sessions.
    pub(super) fn new(seed: u64, count: usize, session: &SessionConfig, network: bool) -> Result<Self, SoakError> {
        let names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
        let identities: Vec<Arc<Identity>> = names.iter().map(|name| Arc::new(identity_of(name))).collect();
        let peers = identities.iter().enumerate().map(|(at, identity)| (identity.peer_id(), at)).collect();
        let pairs: Vec<_> = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect();
        let shared = Rc::new(Shared {
            started: Instant::now(),
            network: MemoryNetwork::new(seed),
            judge: RefCell::new(Judge::new(count, &pairs)),
            names,
            peers,
            trail: RefCell::default(),
            stale: Cell::new(false),
        });
        let start = |(at, identity)| start_node(at, identity, seed, session, network, &shared);
        let nodes = identities.into_iter().enumerate().map(start).collect::<Result<_, _>>()?;
        Ok(Self { nodes, shared })
    }

    /// Has every node listen on every transport, and the first of each pair dial the other.
    pub(super) async fn connect(&self) -> Result<(), SoakError> {
        let address = |node: usize, medium: usize| format!("{}://{}", MEDIA[medium].name, self.shared.names[node]);
        for (at, node) in self.nodes.iter().enumerate() {
            for medium in 0..MEDIA.len() {
                let address = address(at, medium).parse().map_err(SoakError::setup)?;
                node.handle.listen(address).await.map_err(SoakError::setup)?;
            }
        }
        for first in 0..self.nodes.len() {
            for second in first + 1..self.nodes.len() {
                let addresses = (0..MEDIA.len()).map(|medium| address(second, medium).parse());
                let addresses = addresses.collect::<Result<Vec<_>, _>>().map_err(SoakError::setup)?;
                let handle = &self.nodes[first].handle;
                handle.connect(self.nodes[second].id, addresses).await.map_err(SoakError::setup)?;
            }
        }
        Ok(())
    }

    /// Looks up the sessions, which the applications hold. Those that are not there are left out.
    pub(super) async fn find_sessions(&self) {
        for (at, node) in self.nodes.iter().enumerate() {
            for (other, peer) in self.nodes.iter().enumerate().filter(|(other, _)| *other != at) {
                let session = node.handle.session(peer.id).await.ok().flatten();
                let actor = node.handle.peers().send(FindSessionActor(peer.id)).await.ok().flatten();
                let mut sessions = node.sessions.borrow_mut();
                match session.zip(actor) {
                    Some(found) => {
                        sessions.insert(other, found);
                    }
                    None => {
                        sessions.remove(&other);
                    }
                }
            }
        }
    }

    /// Stops the process of a node, or lets it go on.
    pub(super) fn set_paused(&self, node: usize, until: Option<Duration>) {
        self.nodes[node].process.set_paused(until.is_some());
        self.nodes[node].paused_until.set(until.unwrap_or_default());
    }

    /// Whether a node is stopped.
    pub(super) fn is_paused(&self, node: usize) -> bool {
        self.nodes[node].paused_until.get() > Duration::ZERO
    }
}

fn start_node(
    at: usize,
    identity: Arc<Identity>,
    seed: u64,
    session: &SessionConfig,
    network: bool,
    shared: &Rc<Shared>,
) -> Result<SoakNode, SoakError> {
    let mut registry = Registry::empty();
    for model in &MEDIA {
        let kind = TransportKind::new(model.name);
        let transport = shared.network.transport(&shared.names[at], &kind).with_medium(model.medium);
        registry.register(model.name, move |_| Ok(Rc::new(transport.clone())));
    }
    let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(at as u64);
    let random = RefCell::new(ChaCha12Rng::seed_from_u64(seed));
    let id = identity.peer_id();
    let trust = Trust::new(
        &TrustConfig { policy: TrustPolicy::Open, ..TrustConfig::default() },
        Vec::new(),
        Vec::new(),
        Default::default(),
    );
    let mut parts = NodeParts::new(identity, trust);
    parts.session = session.clone();
    if network {
        registry.register(mesh::SCHEME, |context| Ok(Rc::new(MeshTransport::new(context))));
        parts.network = Some(NetworkConfig::default());
    }
    parts.registry = registry;
    parts.power = None;
    parts.seed = seed;
    parts.entropy = Rc::new(move || Ok(Entropy::from_rng(&mut *random.borrow_mut())));
    let reporter = Context::run(REPORTER_MAILBOX, Reporter { node: at, shared: Rc::clone(shared) });
    let process = Process::spawn();
    let handle = process.enter(|| {
        let app = Context::run(APP_MAILBOX, App { node: at, shared: Rc::clone(shared) });
        parts.application = Application { inbox: Some(app.recipient()), streams: None, inspector: None };
        let handle = start(parts)?;
        handle.subscribe(reporter.recipient());
        Ok::<_, crate::node::NodeError>(handle)
    });
    Ok(SoakNode {
        process,
        handle: handle.map_err(SoakError::setup)?,
        id,
        paused_until: Cell::default(),
        sessions: RefCell::default(),
    })
}
