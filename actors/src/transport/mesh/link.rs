//! A link over the mesh, its arrival at a listener, and the listener.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll};

use bowline_messages::{EndpointAddress, PeerId};
use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;

use super::connection::Failure;
use super::frame::LANES;
use super::port::MeshPort;
use super::{address, kind};
use crate::routing::ConnectionId;
use crate::transport::{Incoming, Lane, LaneBuffers, Link, LinkEnds, Listener, READ_BYTES, TransportError};

/// One end of a link. All it has is in the port; dropping it tells the other side.
pub(super) struct MeshLink {
    port: MeshPort,
    id: ConnectionId,
    ends: LinkEnds,
    released: bool,
}

impl MeshLink {
    pub(super) fn new(port: MeshPort, id: ConnectionId, peer: &PeerId) -> Self {
        let ends =
            LinkEnds { local: address(&port.local()), remote: address(peer), interface: None, lanes: LANES as Lane };
        Self { port, id, ends, released: false }
    }

    /// Waits until a call was answered.
    pub(super) fn poll_established(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        match self.port.with(|endpoint, _| endpoint.is_established(self.id, cx)) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(failure) => Poll::Ready(Err(error(failure))),
        }
    }
}

impl Link for MeshLink {
    fn ends(&self) -> &LinkEnds {
        &self.ends
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, lane: Lane, data: &mut Bytes) -> Poll<Result<(), TransportError>> {
        let id = self.id;
        self.port.with(|endpoint, _| {
            let Some(connection) = endpoint.connection(id) else { return Poll::Ready(Err(error(Failure::Reset))) };
            if let Some(failure) = connection.failure() {
                return Poll::Ready(Err(error(failure)));
            }
            if data.is_empty() || connection.write(lane, data) > 0 {
                endpoint.touch(id);
                return Poll::Ready(Ok(()));
            }
            endpoint.wait(id, cx);
            Poll::Pending
        })
    }

    /// Everything written has been handed to the routing as far as the window allows; the rest follows by itself.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut LaneBuffers) -> Poll<Result<Lane, TransportError>> {
        let id = self.id;
        self.port.with(|endpoint, _| {
            let Some(connection) = endpoint.connection(id) else { return Poll::Ready(Err(error(Failure::Reset))) };
            if let Some((lane, pieces)) = connection.read(READ_BYTES) {
                let buffer = into.lane(lane);
                buffer.reserve(pieces.iter().map(Bytes::len).sum());
                pieces.iter().for_each(|piece| buffer.extend_from_slice(piece));
                endpoint.touch(id);
                return Poll::Ready(Ok(lane));
            }
            if connection.is_read_to_the_end() {
                return Poll::Ready(Err(TransportError::Closed));
            }
            if let Some(failure) = connection.failure() {
                return Poll::Ready(Err(error(failure)));
            }
            endpoint.wait(id, cx);
            forget_buffers(into);
            Poll::Pending
        })
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let id = self.id;
        self.port.with(|endpoint, _| {
            let Some(connection) = endpoint.connection(id) else { return Poll::Ready(Ok(())) };
            if connection.close() {
                return Poll::Ready(Ok(()));
            }
            endpoint.wait(id, cx);
            endpoint.touch(id);
            Poll::Pending
        })
    }
}

impl Drop for MeshLink {
    fn drop(&mut self) {
        if !self.released {
            self.port.with(|endpoint, _| endpoint.release(self.id));
        }
    }
}

/// A link that is quiet holds no memory.
fn forget_buffers(buffers: &mut LaneBuffers) {
    for lane in 0..buffers.lanes() {
        let buffer = buffers.lane(lane);
        if buffer.is_empty() && buffer.capacity() > 0 {
            *buffer = BytesMut::new();
        }
    }
}

fn error(failure: Failure) -> TransportError {
    let io = match failure {
        Failure::Reset => io::ErrorKind::ConnectionReset,
        Failure::Silent => io::ErrorKind::TimedOut,
        Failure::NoRoute => io::ErrorKind::HostUnreachable,
        Failure::Worn => io::ErrorKind::ConnectionAborted,
        Failure::Protocol(malformed) => {
            return TransportError::Protocol { kind: kind(), reason: malformed.to_string() };
        }
    };
    io::Error::new(io, failure).into()
}

/// A link at the listener.
struct MeshIncoming {
    link: MeshLink,
    /// Who it says that it is.
    peer: PeerId,
    /// The neighbour that brought the packet by which it showed itself.
    by: Option<PeerId>,
}

impl Incoming for MeshIncoming {
    /// An address (fd00::/8) made of the peer that the caller names and the neighbour behind which it is, so that the limits on unknown
    /// sources count each peer by itself. The name alone proves nothing: a relay can call in the name of any peer whose packets pass it, and
    /// what it spoils counts against that peer behind this relay, and behind no other.
    fn source(&self) -> Option<IpAddr> {
        let mut hash = blake3::Hasher::new();
        hash.update(self.peer.as_bytes());
        hash.update(self.by.as_ref().map_or(&[][..], |by| by.as_bytes()));
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..8].copy_from_slice(&hash.finalize().as_bytes()[..7]);
        Some(Ipv6Addr::from(octets).into())
    }

    fn accept(self: Box<Self>) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        Box::pin(async move { Ok(Box::new(self.link) as Box<dyn Link>) })
    }

    fn refuse(mut self: Box<Self>, mut packet: Bytes) {
        let id = self.link.id;
        self.link.released = true;
        self.link.port.with(|endpoint, _| {
            if let Some(connection) = endpoint.connection(id) {
                connection.write(0, &mut packet);
                connection.close();
            }
            endpoint.release_after_end(id);
        });
    }
}

/// The listener of a node: there is one.
pub(super) struct MeshListener {
    pub(super) port: MeshPort,
}

impl Listener for MeshListener {
    fn addresses(&self) -> Vec<EndpointAddress> {
        vec![address(&self.port.local())]
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Incoming>, TransportError>> {
        match self.port.with(|endpoint, _| endpoint.accept(cx)) {
            Some((id, peer, by)) => {
                let link = MeshLink::new(self.port.clone(), id, &peer);
                Poll::Ready(Ok(Box::new(MeshIncoming { link, peer, by })))
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for MeshListener {
    fn drop(&mut self) {
        self.port.with(|endpoint, _| endpoint.stop_listening());
    }
}
