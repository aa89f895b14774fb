//! The simulated network inside one process: links with latency, jitter, bandwidth, silent cuts, resets and refused dials, on
//! tokio's clock. For message scripts, simulation and the tests of embedders; also the template for new transports.
//!
//! ```
//! use bowline_actors::transport::Transport;
//! use bowline_actors::transport::memory::{Change, Cut, MemoryNetwork, Path};
//! use bowline_messages::TransportKind;
//!
//! let network = MemoryNetwork::new(7);
//! let ble = TransportKind::new("ble");
//! let at_a = network.transport("a", &ble);
//! let at_b = network.transport("b", &ble);
//! assert_eq!(at_a.kind(), at_b.kind());
//! network.apply_both(&Path::new("a", "b", &ble), Change::Cut(Cut::Hold));
//! ```

mod link;
mod network;
mod path;
mod pipe;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_messages::link::{Binding, Interface, Medium};
use bowline_messages::{EndpointAddress, TransportKind};
use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

pub use network::MemoryNetwork;
pub use path::{Change, Cut, Path, PathSettings, Written};

use self::link::{Connection, MemoryIncoming, MemoryLink, MemoryListener};
use self::network::ListenerKey;
use self::pipe::Pipe;
use super::{Capabilities, DialOptions, Lane, Link, LinkEnds, Listener, Transport, TransportError};

/// The scheme under which the transport is registered unless another is chosen.
pub const SCHEME: &str = "memory";

/// Connections that wait at a listener at most; more are refused.
const BACKLOG: usize = 128;
/// A dial into a cut path asks again this often whether it is healed, as TCP sends its SYN again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// One host's transport in a [`MemoryNetwork`]. Its addresses are `KIND://HOST` or `KIND://HOST:PORT`.
#[derive(Clone)]
pub struct MemoryTransport {
    network: MemoryNetwork,
    host: String,
    kind: TransportKind,
    lanes: Lane,
    medium: Medium,
}

impl MemoryNetwork {
    /// The transport of a kind at a host, with one lane in each link.
    pub fn transport(&self, host: &str, kind: &TransportKind) -> MemoryTransport {
        MemoryTransport {
            network: self.clone(),
            host: host.into(),
            kind: kind.clone(),
            lanes: 1,
            medium: Medium::Unknown,
        }
    }
}

impl MemoryTransport {
    /// The same with this many lanes, at least 1. A link has as many as the host that dials it says.
    #[must_use]
    pub fn with_lanes(mut self, lanes: Lane) -> Self {
        self.lanes = lanes.max(1);
        self
    }

    /// The same over another medium: its links say that they run over an interface with the name of the kind.
    #[must_use]
    pub fn with_medium(mut self, medium: Medium) -> Self {
        self.medium = medium;
        self
    }

    fn ends(&self, local: &str, remote: EndpointAddress) -> LinkEnds {
        LinkEnds {
            local: EndpointAddress::new(self.kind.clone(), local, None, ""),
            remote,
            interface: Some(Interface { name: self.kind.to_string(), index: 0, medium: self.medium }),
            lanes: self.lanes,
        }
    }

    /// Waits until the path is open and its latency is over.
    async fn travel(&self, path: &Path) {
        loop {
            let (settings, _) = self.network.look_at(path);
            tokio::time::sleep(settings.delay()).await;
            if self.network.look_at(path).1.is_none() {
                return;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn connect(self, address: EndpointAddress) -> Result<Box<dyn Link>, TransportError> {
        let forward = Path::new(&self.host, address.host(), &self.kind);
        let backward = forward.reversed();
        self.travel(&forward).await;
        let arrived = self.arrive(&address, &forward, &backward);
        self.travel(&backward).await;
        arrived
    }

    /// The moment at which the dial reaches the other host.
    fn arrive(
        &self,
        address: &EndpointAddress,
        forward: &Path,
        backward: &Path,
    ) -> Result<Box<dyn Link>, TransportError> {
        let refused = || TransportError::Io(io::ErrorKind::ConnectionRefused.into());
        let now = Instant::now();
        let key = ListenerKey::of(address);
        let (settings, cut) = self.network.look_at(forward);
        let (_, cut_back) = self.network.look_at(backward);
        let full = self.network.with_backlog(&key, |backlog| backlog.waiting.len() >= BACKLOG).unwrap_or(true);
        if settings.refuse_dials || full {
            return Err(refused());
        }
        let there = (forward.clone(), Pipe::new(self.lanes, cut.map(|(_, how)| (now, how))));
        let back = (backward.clone(), Pipe::new(self.lanes, cut_back.map(|(_, how)| (now, how))));
        let connection = Arc::new(Mutex::new(Connection::new(there, back)));
        self.network.register(forward, &connection);
        let here = EndpointAddress::new(self.kind.clone(), &self.host, None, "");
        let accepted =
            MemoryLink::new(self.network.clone(), Arc::clone(&connection), 1, self.ends(address.host(), here));
        let dialled = MemoryLink::new(self.network.clone(), connection, 0, self.ends(&self.host, address.clone()));
        let waits = self.network.with_backlog(&key, |backlog| {
            backlog.waiting.push_back(MemoryIncoming { link: accepted });
            if let Some(acceptor) = backlog.acceptor.take() {
                acceptor.wake();
            }
        });
        waits.ok_or_else(refused)?;
        Ok(Box::new(dialled))
    }

    fn check(&self, address: &EndpointAddress) -> Result<(), TransportError> {
        if *address.kind() == self.kind {
            return Ok(());
        }
        Err(TransportError::Address {
            kind: self.kind.clone(),
            address: address.clone(),
            reason: "it belongs to another transport".into(),
        })
    }
}

impl Transport for MemoryTransport {
    fn kind(&self) -> TransportKind {
        self.kind.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lanes: self.lanes, encrypted: false, binds: false, listens: true }
    }

    fn listen(&self, address: &EndpointAddress) -> LocalBoxFuture<'static, Result<Box<dyn Listener>, TransportError>> {
        let (transport, address) = (self.clone(), address.clone());
        Box::pin(async move {
            transport.check(&address)?;
            if address.host() != transport.host {
                return Err(TransportError::Io(io::ErrorKind::AddrNotAvailable.into()));
            }
            let key = transport.network.bind(&address)?;
            Ok(Box::new(MemoryListener { network: transport.network, key }) as Box<dyn Listener>)
        })
    }

    fn dial(
        &self,
        address: &EndpointAddress,
        options: DialOptions,
    ) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        let (transport, address) = (self.clone(), address.clone());
        Box::pin(async move {
            transport.check(&address)?;
            if options.binding != Binding::Any {
                return Err(TransportError::Unsupported { kind: transport.kind, what: "bind a link" });
            }
            let dialled = tokio::time::timeout(options.timeout, transport.connect(address)).await;
            dialled.unwrap_or(Err(TransportError::TimedOut(options.timeout)))
        })
    }
}
