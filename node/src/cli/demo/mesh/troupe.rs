//! The eight processes, the paths between them, and where they keep what they must not forget.

use std::net::SocketAddr;
use std::path::PathBuf;

use bowline_actors::session::identity::Identity;
use bowline_messages::{EndpointAddress, PeerId, TransportKind};
use ring::rand::SecureRandom as _;
use tokio::sync::mpsc;

use super::plan::{LINKS, NAMES, NODES, apart, node_of};
use super::protocol::{Order, Report};
use crate::cli::demo::forwarder::{Conditions, Path, PathKind};
use crate::cli::demo::process::{Process, Said};
use crate::exit::{Exit, Failure};

/// Words of the processes that wait to be read.
const REPORTS_MAX: usize = 4096;

/// A folder that is gone when this is.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed stays where such things are cleaned up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that lives, and which life it is.
struct Living {
    process: Process,
    life: usize,
}

/// All of them.
pub(super) struct Troupe {
    pub(super) ids: Vec<PeerId>,
    seeds: Vec<[u8; 32]>,
    nodes: [Option<Living>; NODES],
    /// Where each of them listens, once it said so.
    addresses: [Option<EndpointAddress>; NODES],
    /// From whom, to whom.
    paths: Vec<((usize, usize), Path)>,
    pub(super) reports: mpsc::Receiver<Said<Report>>,
    says: mpsc::Sender<Said<Report>>,
    scratch: Scratch,
}

impl Troupe {
    /// Somebody new; nobody lives yet.
    pub(super) fn new() -> Result<Self, Failure> {
        let mut seeds = vec![[0; 32]; NODES];
        let random = ring::rand::SystemRandom::new();
        for seed in &mut seeds {
            let no_randomness = |_| Failure::new(Exit::GaveUp, "the operating system gives no randomness");
            random.fill(seed).map_err(no_randomness)?;
        }
        let ids: Vec<PeerId> = seeds.iter().map(|seed| Identity::from_seed(seed).peer_id()).collect();
        let name = format!("bowline-demo-{}-{}", std::process::id(), ids[0].short());
        let scratch = Scratch(std::env::temp_dir().join(name));
        let failed = |error| Failure::new(Exit::GaveUp, format_args!("{}: {error}", scratch.0.display()));
        std::fs::create_dir(&scratch.0).map_err(failed)?;
        let (says, reports) = mpsc::channel(REPORTS_MAX);
        let (nodes, addresses) = Default::default();
        Ok(Self { ids, seeds, nodes, addresses, paths: Vec::new(), reports, says, scratch })
    }

    /// Begins a life: where its node listened before, if it did.
    pub(super) async fn begin(&mut self, life: usize) -> Result<(), Failure> {
        let node = node_of(life);
        let mut process = Process::start(life, &["mesh-node"], self.says.clone())?;
        let anywhere = EndpointAddress::new(TransportKind::new("tcp"), "127.0.0.1", Some(0), "");
        let participants = self.ids.iter().zip(NAMES).map(|(peer, name)| (*peer, name.to_owned())).collect();
        let order = Order::Begin {
            seed: self.seeds[node],
            life: if life == node { 1 } else { 2 },
            participants,
            folder: self.scratch.0.join(NAMES[node]),
            listen: self.addresses[node].clone().unwrap_or(anywhere),
        };
        process.order(&order).await;
        self.nodes[node] = Some(Living { process, life });
        Ok(())
    }

    /// A node listens. When all do there are paths between them, and each is told of its own.
    pub(super) async fn on_ready(&mut self, node: usize, address: EndpointAddress) -> Result<bool, Failure> {
        self.addresses[node] = Some(address);
        let sockets: Vec<SocketAddr> = self.addresses.iter().flatten().filter_map(socket).collect();
        if sockets.len() < NODES {
            return Ok(false);
        }
        if self.paths.is_empty() {
            for from in 0..NODES {
                for to in (0..NODES).filter(|to| *to != from) {
                    let no_socket =
                        |error| Failure::new(Exit::GaveUp, format_args!("no socket for the forwarder: {error}"));
                    let path = Path::open(PathKind::Tcp, sockets[to], None).map_err(no_socket)?;
                    self.paths.push(((from, to), path));
                }
            }
            for node in 0..NODES {
                self.tell_ways(node).await;
            }
        } else {
            self.tell_ways(node).await;
        }
        Ok(true)
    }

    async fn tell_ways(&mut self, node: usize) {
        let own = self.paths.iter().filter(|((from, _), _)| *from == node);
        let ways = own.map(|((_, to), path)| (self.ids[*to], path.address())).collect();
        self.order(node, &Order::Ways { ways }).await;
    }

    /// Has the links made that a node dials at first; all of them when none is named.
    pub(super) async fn connect(&mut self, only: Option<usize>) {
        for (from, to) in LINKS.into_iter().filter(|(from, _)| only.is_none_or(|only| only == *from)) {
            if let Some(address) = self.addresses[to].clone() {
                let order = Order::Connect { peer: self.ids[to], address };
                self.order(from, &order).await;
            }
        }
    }

    /// Tells a node to do something, if it lives.
    pub(super) async fn order(&mut self, node: usize, order: &Order) {
        if let Some(living) = &mut self.nodes[node] {
            living.process.order(order).await;
        }
    }

    /// Whether this life goes on.
    pub(super) fn lives(&self, life: usize) -> bool {
        self.nodes[node_of(life)].as_ref().is_some_and(|living| living.life == life)
    }

    /// Ends the process of a node at once.
    pub(super) async fn kill(&mut self, node: usize) {
        if let Some(mut living) = self.nodes[node].take() {
            living.process.kill().await;
        }
    }

    /// Lets nothing pass between the two sides, or all again.
    pub(super) fn cut(&self, cut: bool) {
        let conditions = if cut { Conditions::black_hole() } else { Conditions::default() };
        let between = self.paths.iter().filter(|((from, to), _)| apart(*from, *to));
        between.for_each(|(_, path)| path.set(conditions));
    }

    /// Ends all processes.
    pub(super) async fn end(&mut self) {
        let living = self.nodes.iter_mut().filter_map(Option::take);
        let ends = living.map(|mut living| async move { living.process.end().await });
        futures_util::future::join_all(ends).await;
    }
}

fn socket(address: &EndpointAddress) -> Option<SocketAddr> {
    Some((address.ip()?, address.port()?).into())
}
