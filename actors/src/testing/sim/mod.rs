//! Whole nodes in one process, deterministically from a seed, far faster than real time.
//!
//! A [`Simulation`] has nodes by name, links between them over the [simulated network](crate::transport::memory), applications that
//! collect what arrives, faults to inject, and one [log](crate::testing::log) of everything that happened. It lives in [`run`]: one
//! thread, tokio's paused clock. The same seed and the same calls give the same log, byte for byte.

mod app;
mod group;
mod node;
mod process;
mod shape;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use actix::Addr;
use bowline_messages::session::{Outgoing, Received, SendError};
use bowline_messages::{PeerId, TransportKind};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

#[cfg(test)]
pub(crate) use group::Sheet;
pub(crate) use node::identity_of;
pub use node::{Behaviour, NodeOptions};
pub(crate) use process::Process;
pub use shape::{Direction, LinkShape};

use self::node::SimNode;
use super::log::Log;
use crate::node::NodeHandle;
use crate::session::handle::SessionHandle;
use crate::transport::memory::{Change, MemoryNetwork, Path};

/// Runs a future on a new thread-local actix system whose clock is paused: it jumps to the next timer whenever there is nothing
/// to do.
///
/// # Panics
/// When the operating system has no resources for a runtime.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    run_on(tokio::runtime::Builder::new_current_thread().enable_io(), future)
}

/// As [`run`], for what opens no socket: the operating system need not be asked before each step of the clock.
pub(crate) fn run_without_sockets<T>(future: impl Future<Output = T>) -> T {
    run_on(&mut tokio::runtime::Builder::new_current_thread(), future)
}

fn run_on<T>(builder: &mut tokio::runtime::Builder, future: impl Future<Output = T>) -> T {
    crate::supervision::report_contained_panics_quietly();
    let runtime = builder.enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime needs an event queue of the operating system and nothing else");
    actix::System::with_tokio_rt(move || runtime).block_on(future)
}

/// Why a simulation could not do what it was asked to. Always the test's mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// There is no such node.
    #[error("there is no node `{0}`")]
    NoNode(String),
    /// The name is in use.
    #[error("there is a node `{0}` already")]
    NodeExists(String),
    /// Nodes run already: links have to be described before.
    #[error("the nodes run already")]
    Started,
    /// The node does not run.
    #[error("node `{0}` does not run")]
    NotRunning(String),
    /// There is no session between the two.
    #[error("`{node}` has no session with `{peer}`")]
    NoSession {
        /// The node.
        node: String,
        /// The other one.
        peer: String,
    },
    /// A node did not do what it was told.
    #[error("node `{node}`: {reason}")]
    Refused {
        /// The node.
        node: String,
        /// Why not.
        reason: String,
    },
}

/// A link that was described: who dials whom over what.
#[derive(Debug, Clone)]
struct Described {
    first: String,
    second: String,
    kind: TransportKind,
    shape: LinkShape,
}

struct Inner {
    seed: u64,
    network: MemoryNetwork,
    log: Rc<Log>,
    nodes: RefCell<BTreeMap<String, SimNode>>,
    links: RefCell<Vec<Described>>,
}

/// Nodes, the network between them, and what happened. A clone is the same simulation.
#[derive(Clone)]
pub struct Simulation(Rc<Inner>);

impl Simulation {
    /// An empty simulation; everything random in it comes from the seed. To be called inside [`run`].
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Inner {
            seed,
            network: MemoryNetwork::new(seed),
            log: Rc::new(Log::new()),
            nodes: RefCell::default(),
            links: RefCell::default(),
        }))
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// The simulated network, for faults that have no call here.
    pub fn network(&self) -> &MemoryNetwork {
        &self.0.network
    }

    /// What happened so far.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// Adds a node with default behaviour.
    ///
    /// # Errors
    /// [`SimulationError::NodeExists`].
    pub fn add_node(&self, name: &str) -> Result<(), SimulationError> {
        self.add_node_with(name, NodeOptions::default())
    }

    /// Adds a node. It starts with [`Simulation::start`].
    ///
    /// # Errors
    /// [`SimulationError::NodeExists`].
    pub fn add_node_with(&self, name: &str, options: NodeOptions) -> Result<(), SimulationError> {
        let mut nodes = self.0.nodes.borrow_mut();
        if nodes.contains_key(name) {
            return Err(SimulationError::NodeExists(name.into()));
        }
        let node = SimNode::new(name, options, self.0.seed, nodes.len(), &self.0.log);
        self.0.log.rename(node.id().to_string(), name);
        self.0.log.rename(node.id().short(), name);
        nodes.insert(name.into(), node);
        Ok(())
    }

    /// Describes a link: the first node dials the second over a transport of this name, both listen.
    ///
    /// # Errors
    /// [`SimulationError::NoNode`], [`SimulationError::Started`].
    pub fn add_link(&self, first: &str, second: &str, kind: &str, shape: LinkShape) -> Result<(), SimulationError> {
        let kind = TransportKind::new(kind);
        for name in [first, second] {
            self.with_node(name, |node| {
                if node.is_running() && !node.has_transport(&kind) {
                    return Err(SimulationError::Started);
                }
                node.add_transport(kind.clone(), &shape);
                Ok(())
            })??;
        }
        self.0.network.apply_both(&Path::new(first, second, &kind), Change::Shape(shape.settings()));
        self.0.links.borrow_mut().push(Described { first: first.into(), second: second.into(), kind, shape });
        Ok(())
    }

    /// Starts every node that does not run, and has it listen and dial. Names of nodes come in alphabetical order.
    ///
    /// # Errors
    /// [`SimulationError::Refused`].
    pub async fn start(&self) -> Result<(), SimulationError> {
        let names: Vec<_> = {
            let nodes = self.0.nodes.borrow();
            nodes.iter().filter(|(_, node)| !node.is_running()).map(|(name, _)| name.clone()).collect()
        };
        for name in &names {
            self.start_node(name).await?;
        }
        for name in &names {
            self.dial_links_of(name).await?;
        }
        Ok(())
    }

    async fn start_node(&self, name: &str) -> Result<(), SimulationError> {
        let network = self.0.network.clone();
        let (handle, kinds) = self.with_node(name, |node| node.start(&network).map(|h| (h, node.kinds())))??;
        for kind in kinds {
            let address = format!("{kind}://{name}");
            let address = address.parse().map_err(|error| refused(name, error))?;
            handle.listen(address).await.map_err(|error| refused(name, error))?;
        }
        Ok(())
    }

    async fn dial_links_of(&self, name: &str) -> Result<(), SimulationError> {
        let links = self.0.links.borrow().clone();
        for link in links {
            let (first, second) = (&link.first, &link.second);
            let dials = link.shape.dials;
            if first == name && dials != Direction::Backward {
                self.dial(first, second, &link.kind).await?;
            }
            if second == name && dials != Direction::Forward {
                self.dial(second, first, &link.kind).await?;
            }
        }
        Ok(())
    }

    /// Has a node keep a link to another over a transport.
    ///
    /// # Errors
    /// [`SimulationError`].
    pub async fn dial(&self, from: &str, to: &str, kind: &TransportKind) -> Result<(), SimulationError> {
        let peer = self.peer_id(to)?;
        let address = format!("{kind}://{to}").parse().map_err(|error| refused(from, error))?;
        let handle = self.handle(from)?;
        match handle.connect(peer, [address]).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let fields = json!({ "peer": to, "error": error.to_string() });
                self.0.log.add_value(&format!("{from}.peers"), &format!("{from}.app"), "ConnectError", &fields);
                Ok(())
            }
        }
    }

    /// Lets virtual time pass.
    pub async fn run_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// The names of all nodes, in alphabetical order.
    pub fn names(&self) -> Vec<String> {
        self.0.nodes.borrow().keys().cloned().collect()
    }

    /// Who a node is.
    ///
    /// # Errors
    /// [`SimulationError::NoNode`].
    pub fn peer_id(&self, name: &str) -> Result<PeerId, SimulationError> {
        self.with_node(name, |node| node.id())
    }

    /// A running node.
    ///
    /// # Errors
    /// [`SimulationError::NoNode`], [`SimulationError::NotRunning`].
    pub fn handle(&self, name: &str) -> Result<NodeHandle, SimulationError> {
        self.with_node(name, |node| node.handle())?.ok_or_else(|| SimulationError::NotRunning(name.into()))
    }

    /// The session of a node with another.
    ///
    /// # Errors
    /// [`SimulationError`].
    pub async fn session(&self, node: &str, peer: &str) -> Result<SessionHandle, SimulationError> {
        let found = self.handle(node)?.session(self.peer_id(peer)?).await.map_err(|error| refused(node, error))?;
        found.ok_or_else(|| SimulationError::NoSession { node: node.into(), peer: peer.into() })
    }

    /// Sends a message, and writes to the log what becomes of it.
    ///
    /// # Errors
    /// [`SimulationError`]; a refusal by the session is `Ok(Err(_))`, and in the log as well.
    pub async fn send(
        &self,
        from: &str,
        to: &str,
        message: Outgoing,
    ) -> Result<Result<(), SendError>, SimulationError> {
        let session = self.session(from, to).await?;
        let (speaker, app) = (format!("{from}.session"), format!("{from}.app"));
        let payload = String::from_utf8_lossy(&message.payload[..message.payload.len().min(64)]).into_owned();
        let log = Rc::clone(&self.0.log);
        let sent = self.within(from, || match session.send(message) {
            Ok(receipt) => {
                actix_rt::spawn(async move {
                    let state = receipt.settled().await;
                    let fields = json!({
                        "channel": receipt.channel(), "sequence": receipt.sequence(), "payload": payload, "state": state
                    });
                    log.add_value(&speaker, &app, "Receipt", &fields);
                });
                Ok(())
            }
            Err(error) => {
                log.add(&speaker, &app, "SendError", &json!({ "payload": payload, "error": error }));
                Err(error)
            }
        })?;
        Ok(sent)
    }

    /// Opens a stream, writes so many bytes of a known pattern to it as fast as it takes them, and finishes it. The receiving
    /// application checks them and writes `StreamEnded` to the log, this one `StreamDelivered`.
    ///
    /// # Errors
    /// [`SimulationError`].
    pub async fn send_stream(&self, from: &str, to: &str, label: &str, bytes: u64) -> Result<(), SimulationError> {
        let session = self.session(from, to).await?;
        let log = Rc::clone(&self.0.log);
        let (speaker, app, label) = (format!("{from}.session"), format!("{from}.app"), label.to_owned());
        self.within(from, || {
            actix_rt::spawn(async move {
                let outcome = match session.open_stream(label.clone()) {
                    Ok(mut stream) => {
                        let content: Vec<u8> = (0..bytes).map(app::pattern).collect();
                        let written = async {
                            stream.write_all(&content).await?;
                            stream.shutdown().await?;
                            stream.delivered().await
                        };
                        written.await.map_or_else(|error| error.to_string(), |()| "delivered".to_owned())
                    }
                    Err(error) => error.to_string(),
                };
                log.add_value(&speaker, &app, "StreamDelivered", &json!({ "label": label, "outcome": outcome }));
            });
        })
    }

    /// What the application of a node received in all its lives, oldest first.
    ///
    /// # Errors
    /// [`SimulationError::NoNode`].
    pub fn received(&self, name: &str) -> Result<Vec<(PeerId, Received)>, SimulationError> {
        self.with_node(name, |node| node.shared().received.borrow().clone())
    }

    /// Messages that came twice or out of order, in words: none, as long as the promise is kept.
    pub fn violations(&self) -> Vec<String> {
        let nodes = self.0.nodes.borrow();
        nodes.values().flat_map(|node| node.shared().violations.borrow().clone()).collect()
    }

    /// Changes the network between two nodes over one transport.
    pub fn change(&self, from: &str, to: &str, kind: &str, direction: Direction, change: &Change) {
        let path = Path::new(from, to, &TransportKind::new(kind));
        match direction {
            Direction::Both => self.0.network.apply_both(&path, change.clone()),
            Direction::Forward => self.0.network.apply(&path, change.clone()),
            Direction::Backward => self.0.network.apply(&path.reversed(), change.clone()),
        }
    }

    /// The transports over which links between two nodes were described, in that order.
    pub fn kinds_between(&self, one: &str, other: &str) -> Vec<String> {
        let links = self.0.links.borrow();
        let between =
            links.iter().filter(|l| (l.first == one && l.second == other) || (l.first == other && l.second == one));
        between.map(|link| link.kind.to_string()).collect()
    }

    /// Has the application of a node stop taking messages, or go on.
    ///
    /// # Errors
    /// [`SimulationError::NoNode`].
    pub fn set_reading(&self, name: &str, reading: bool) -> Result<(), SimulationError> {
        self.with_node(name, |node| node.set_reading(reading))
    }

    /// Stops the process of a node as `SIGSTOP` does, or continues it: meanwhile nothing in it runs, and timers that are due run late.
    ///
    /// # Errors
    /// [`SimulationError::NoNode`].
    pub fn set_paused(&self, name: &str, paused: bool) -> Result<(), SimulationError> {
        self.with_node(name, |node| node.set_paused(paused))
    }

    /// Ends the process of a node at once, as `SIGKILL` does: its links are reset and its memory is gone.
    ///
    /// # Errors
    /// [`SimulationError::NoNode`].
    pub fn kill_process(&self, name: &str) -> Result<(), SimulationError> {
        self.with_node(name, SimNode::kill)
    }

    /// Starts a node again as a new process: the same identity, the next incarnation, no memory.
    ///
    /// # Errors
    /// [`SimulationError`].
    pub async fn restart(&self, name: &str) -> Result<(), SimulationError> {
        self.kill_process(name)?;
        let id = self.peer_id(name)?;
        self.with_node(name, |node| node.shared().forget_numbers(None))?;
        for node in self.0.nodes.borrow().values() {
            node.shared().forget_numbers(Some(id));
        }
        // What the old process leaves behind is gone before the new one begins.
        tokio::task::yield_now().await;
        self.start_node(name).await?;
        self.dial_links_of(name).await
    }

    /// Has a node end in good order, with so long for what is under way.
    ///
    /// # Errors
    /// [`SimulationError`].
    pub fn shut_down(&self, name: &str, drain: Duration) -> Result<(), SimulationError> {
        let handle = self.handle(name)?;
        let (log, node) = (Rc::clone(&self.0.log), name.to_owned());
        self.within(name, || {
            actix_rt::spawn(async move {
                let reason = handle.shutdown(drain).await;
                log.add_value(&format!("{node}.node"), "log", "Exited", &json!({ "reason": reason.to_string() }));
            });
        })?;
        Ok(())
    }

    /// The path of an actor in the tree of its node: `session`, `session(b)`, `link(tcp)`, `transport(tcp)`, `peers`, or a path as it
    /// is.
    ///
    /// # Errors
    /// In words, when there is no such actor.
    pub async fn path_of(&self, node: &str, role: &str) -> Result<String, SimulationError> {
        let (kind, argument) = split_role(role);
        match kind {
            "session" => Ok(format!("sessions/{}/session", self.group_of(node, argument).await?)),
            "group" => Ok(format!("sessions/{}", self.group_of(node, argument).await?)),
            "link" => self.link_path(node, argument).await,
            "transport" => Ok(format!("transports/{}", argument.unwrap_or("tcp"))),
            _ => Ok(role.to_owned()),
        }
    }

    async fn group_of(&self, node: &str, peer: Option<&str>) -> Result<String, SimulationError> {
        let tree = self.handle(node)?.tree().await.map_err(|error| refused(node, error))?;
        let start = peer.map(|peer| self.peer_id(peer)).transpose()?.map(|id| id.short());
        let sessions = tree.children.iter().find(|child| child.id == "sessions");
        let mut groups = sessions.into_iter().flat_map(|sessions| &sessions.children);
        let found = groups.find(|group| start.as_ref().is_none_or(|start| group.id.starts_with(start)));
        found.map(|group| group.id.clone()).ok_or_else(|| refused(node, "there is no session"))
    }

    async fn link_path(&self, node: &str, transport: Option<&str>) -> Result<String, SimulationError> {
        let tree = self.handle(node)?.tree().await.map_err(|error| refused(node, error))?;
        let prefix = format!("link-{}", transport.unwrap_or(""));
        let sessions = tree.children.iter().find(|child| child.id == "sessions");
        let groups = sessions.into_iter().flat_map(|sessions| &sessions.children);
        let mut links = groups.flat_map(|group| group.children.iter().map(move |child| (group, child)));
        let found = links.find(|(_, child)| child.id.starts_with(&prefix));
        found
            .map(|(group, child)| format!("sessions/{}/{}", group.id, child.id))
            .ok_or_else(|| refused(node, "there is no such link"))
    }

    /// Makes an actor of a node panic, by its role or its path (see [`Simulation::path_of`]).
    ///
    /// # Errors
    /// [`SimulationError`].
    pub async fn kill_actor(&self, node: &str, role: &str) -> Result<(), SimulationError> {
        let path = self.path_of(node, role).await?;
        self.handle(node)?.kill(&path).await.map_err(|error| refused(node, error))
    }

    /// The address of the application's actor of a node, so that tests can send it messages themselves.
    pub(crate) fn app(&self, name: &str) -> Result<Option<Addr<app::App>>, SimulationError> {
        self.with_node(name, |node| node.app())
    }

    /// Adds a line to the log, as if a part of a node had said it.
    pub fn note(&self, from: &str, to: &str, name: &str, fields: &Value) {
        self.0.log.add_value(from, to, name, fields);
    }

    fn within<T>(&self, name: &str, work: impl FnOnce() -> T) -> Result<T, SimulationError> {
        let process = self.with_node(name, |node| node.process())?;
        process.map(|process| process.enter(work)).ok_or_else(|| SimulationError::NotRunning(name.into()))
    }

    fn with_node<T>(&self, name: &str, work: impl FnOnce(&mut SimNode) -> T) -> Result<T, SimulationError> {
        let mut nodes = self.0.nodes.borrow_mut();
        nodes.get_mut(name).map(work).ok_or_else(|| SimulationError::NoNode(name.into()))
    }
}

/// `link(tcp)` is the role `link` and the argument `tcp`.
pub(crate) fn split_role(role: &str) -> (&str, Option<&str>) {
    match role.split_once('(') {
        Some((kind, rest)) => (kind, Some(rest.trim_end_matches(')'))),
        None => (role, None),
    }
}

fn refused(node: &str, reason: impl ToString) -> SimulationError {
    SimulationError::Refused { node: node.into(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
