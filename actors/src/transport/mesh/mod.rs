//! Links through other peers: `mesh://PEER`.
//!
//! A link like any other, made of packets that the routing of each node on the way sends on. They get lost, and overtake each other; here
//! they become ordered, reliable lanes again, end to end, because a relay that dies takes with it what it had acknowledged.
//! `docs/mesh.md` shows the whole.
//!
//! | part | idea |
//! |---|---|
//! | [`MeshPort`] | where the transport and the routing of a node meet |
//! | `endpoint` | all links of a node: calls, and to which link a packet belongs |
//! | `seal` | keys: a relay sees where a packet goes and how long it is |
//! | `connection`, `received`, `sent` | one end of a link, pure: order, losses, windows, liveness |
//! | `frame` | what is in a packet |

mod connection;
#[cfg(test)]
mod connection_tests;
mod endpoint;
mod frame;
mod link;
pub mod plane;
mod port;
mod received;
mod seal;
mod sent;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;

use bowline_messages::{EndpointAddress, PeerId, TransportKind};
use futures_util::future::LocalBoxFuture;

pub use endpoint::MeshCounters;
pub use port::{MeshPort, Sink};

use self::frame::LANES;
use self::link::{MeshLink, MeshListener};
use super::registry::TransportContext;
use super::{Capabilities, DialOptions, Lane, Link, Listener, Transport, TransportError};

/// The scheme of its addresses.
pub const SCHEME: &str = "mesh";

/// The transport of one node. Without a port it listens nowhere and reaches nobody.
#[derive(Debug, Clone)]
pub struct MeshTransport {
    port: Option<MeshPort>,
}

impl MeshTransport {
    /// The transport of a node whose port is in the context.
    pub fn new(context: &TransportContext) -> Self {
        Self { port: context.mesh.clone() }
    }

    fn port(&self, what: &'static str) -> Result<MeshPort, TransportError> {
        let port = self.port.clone().ok_or(TransportError::Unsupported { kind: kind(), what })?;
        port.drive();
        Ok(port)
    }
}

fn kind() -> TransportKind {
    TransportKind::new(SCHEME)
}

/// Where a peer is reached over the mesh.
pub fn address(peer: &PeerId) -> EndpointAddress {
    EndpointAddress::new(kind(), &peer.to_string(), None, "")
}

fn peer_of(address: &EndpointAddress) -> Result<PeerId, TransportError> {
    let wrong = |reason: String| TransportError::Address { kind: kind(), address: address.clone(), reason };
    if *address.kind() != kind() {
        return Err(wrong("it belongs to another transport".into()));
    }
    address.host().parse().map_err(|error: bowline_messages::PeerIdError| wrong(error.to_string()))
}

impl Transport for MeshTransport {
    fn kind(&self) -> TransportKind {
        kind()
    }

    /// It encrypts, and shows that the other end is the one that was called; who calls is for the session to prove.
    fn capabilities(&self) -> Capabilities {
        Capabilities { lanes: LANES as Lane, encrypted: true, binds: false, listens: true }
    }

    fn listen(&self, address: &EndpointAddress) -> LocalBoxFuture<'static, Result<Box<dyn Listener>, TransportError>> {
        let (transport, address) = (self.clone(), address.clone());
        Box::pin(async move {
            let port = transport.port("listen without a port")?;
            if peer_of(&address)? != port.local() {
                return Err(io::Error::from(io::ErrorKind::AddrNotAvailable).into());
            }
            if !port.with(|endpoint, _| endpoint.listen()) {
                return Err(io::Error::from(io::ErrorKind::AddrInUse).into());
            }
            Ok(Box::new(MeshListener { port }) as Box<dyn Listener>)
        })
    }

    fn dial(
        &self,
        address: &EndpointAddress,
        options: DialOptions,
    ) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        let (transport, address) = (self.clone(), address.clone());
        Box::pin(async move {
            let port = transport.port("dial without a port")?;
            let peer = peer_of(&address)?;
            if peer != options.expect {
                return Err(TransportError::Authentication(format!(
                    "{} is called, not {}",
                    peer.short(),
                    options.expect.short()
                )));
            }
            let id = (peer != port.local()).then(|| port.with(|endpoint, now| endpoint.call(now, peer))).flatten();
            let id = id.ok_or_else(|| TransportError::Io(io::ErrorKind::AddrNotAvailable.into()))?;
            let link = MeshLink::new(port, id, &peer);
            let established = poll_fn(|cx| link.poll_established(cx));
            match tokio::time::timeout(options.timeout, established).await {
                Ok(established) => established.map(|()| Box::new(link) as Box<dyn Link>),
                Err(_) => Err(TransportError::TimedOut(options.timeout)),
            }
        })
    }
}
