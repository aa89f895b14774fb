//! One QUIC connection.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll};

use bowline_messages::{EndpointAddress, TransportKind};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use quinn::{Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream, VarInt, WriteError};

use super::{LANES, QuicTransport};
use crate::transport::read_size::ReadSize;
use crate::transport::{Lane, LaneBuffers, Link, LinkEnds, READ_BYTES, TransportError, socket};

/// Told to the peer when a link ends in an orderly way.
const CLOSED: VarInt = VarInt::from_u32(0);
/// Told to the peer when a link is dropped.
const DROPPED: VarInt = VarInt::from_u32(1);
/// Told to the peer when it does not keep to the lanes.
const BROKEN: VarInt = VarInt::from_u32(2);

/// A QUIC connection as a link.
pub(super) struct QuicLink {
    connection: Connection,
    lanes: Vec<LaneStreams>,
    ends: LinkEnds,
    /// The lane that is asked first the next time, so that a busy one does not starve the others.
    next: usize,
    closing: Option<BoxFuture<'static, ()>>,
    closed: bool,
}

struct LaneStreams {
    send: SendStream,
    receive: RecvStream,
    read_size: ReadSize,
    /// The peer will send nothing more on it.
    finished: bool,
}

impl LaneStreams {
    fn new((send, receive): (SendStream, RecvStream), lane: Lane) -> Self {
        // It fails only on a stream that is closed, which shows elsewhere. Lower lanes are more urgent.
        let _ = send.set_priority(-i32::from(lane));
        Self { send, receive, read_size: ReadSize::default(), finished: false }
    }
}

/// The link of a connection that this side dialled: opens the lanes.
///
/// # Errors
/// The connection is gone.
pub(super) async fn dialled(
    connection: Connection,
    endpoint: &Endpoint,
    address: &EndpointAddress,
    transport: &QuicTransport,
) -> Result<Box<dyn Link>, TransportError> {
    let mut lanes = Vec::with_capacity(LANES.into());
    for lane in 0..LANES {
        let mut streams = connection.open_bi().await.map_err(|error| failure(&transport.kind, error))?;
        let named = streams.0.write_all(&[lane]).await;
        named.map_err(|error| write_failure(&transport.kind, error))?;
        lanes.push(LaneStreams::new(streams, lane));
    }
    let ends = ends(&connection, endpoint, Some(address), transport)?;
    Ok(Box::new(QuicLink::new(connection, lanes, ends)))
}

/// The link of a connection that arrived: waits for the lanes.
///
/// # Errors
/// The connection is gone, or the peer does not keep to the lanes.
pub(super) async fn accepted(
    connection: Connection,
    endpoint: &Endpoint,
    transport: &QuicTransport,
) -> Result<Box<dyn Link>, TransportError> {
    let mut lanes: Vec<Option<LaneStreams>> = Vec::new();
    lanes.resize_with(LANES.into(), || None);
    for _ in 0..LANES {
        let mut streams = connection.accept_bi().await.map_err(|error| failure(&transport.kind, error))?;
        let mut name = [0];
        let named = streams.1.read_exact(&mut name).await.is_ok();
        match lanes.get_mut(usize::from(name[0])) {
            Some(lane @ None) if named => *lane = Some(LaneStreams::new(streams, name[0])),
            _ => {
                connection.close(BROKEN, b"lanes");
                return Err(transport.broken("the lanes were not opened as they should"));
            }
        }
    }
    let ends = ends(&connection, endpoint, None, transport)?;
    Ok(Box::new(QuicLink::new(connection, lanes.into_iter().flatten().collect(), ends)))
}

fn ends(
    connection: &Connection,
    endpoint: &Endpoint,
    dialled: Option<&EndpointAddress>,
    transport: &QuicTransport,
) -> io::Result<LinkEnds> {
    let bound = endpoint.local_addr()?;
    let local = socket::canonical(SocketAddr::new(connection.local_ip().unwrap_or(bound.ip()), bound.port()));
    let remote = socket::canonical(connection.remote_address());
    // Dials leave the choice of the address to the system, which tells it only on what arrives.
    let ip = if local.ip().is_unspecified() { route_to(remote).unwrap_or(local.ip()) } else { local.ip() };
    Ok(LinkEnds {
        local: EndpointAddress::from_socket(transport.kind.clone(), SocketAddr::new(ip, local.port())),
        remote: dialled.cloned().unwrap_or_else(|| EndpointAddress::from_socket(transport.kind.clone(), remote)),
        interface: transport.interfaces.of_address(ip),
        lanes: LANES,
    })
}

/// The local address from which the system would reach another one. Nothing is sent for it.
fn route_to(remote: SocketAddr) -> Option<std::net::IpAddr> {
    let probe = std::net::UdpSocket::bind(socket::any_for(remote)).ok()?;
    probe.connect(remote).ok()?;
    probe.local_addr().ok().map(|address| address.ip())
}

/// Why a connection ended.
pub(super) fn failure(kind: &TransportKind, error: ConnectionError) -> TransportError {
    match error {
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSED => TransportError::Closed,
        ConnectionError::ApplicationClosed(close) if close.error_code == DROPPED => {
            TransportError::Io(io::ErrorKind::ConnectionReset.into())
        }
        ConnectionError::TransportError(error) if is_about_certificates(error.code.into()) => {
            TransportError::Authentication(error.to_string())
        }
        ConnectionError::ConnectionClosed(close) if u64::from(close.error_code) == REFUSED => {
            TransportError::TurnedAway
        }
        ConnectionError::TimedOut => TransportError::Io(io::ErrorKind::TimedOut.into()),
        ConnectionError::Reset => TransportError::Io(io::ErrorKind::ConnectionReset.into()),
        ConnectionError::LocallyClosed => TransportError::Closed,
        error @ (ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::CidsExhausted) => TransportError::Protocol { kind: kind.clone(), reason: error.to_string() },
    }
}

/// `CONNECTION_REFUSED` of RFC 9000, section 20.1.
const REFUSED: u64 = 0x02;

/// TLS alerts are errors from 0x100 on (RFC 9001, section 4.8); these are the ones about certificates.
fn is_about_certificates(code: u64) -> bool {
    const BAD_CERTIFICATE: u64 = 0x100 + 42;
    const UNKNOWN_CA: u64 = 0x100 + 48;
    const ACCESS_DENIED: u64 = 0x100 + 49;
    (BAD_CERTIFICATE..=BAD_CERTIFICATE + 4).contains(&code) || [UNKNOWN_CA, ACCESS_DENIED].contains(&code)
}

fn write_failure(kind: &TransportKind, error: WriteError) -> TransportError {
    match error {
        WriteError::ConnectionLost(error) => failure(kind, error),
        WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            TransportError::Io(io::ErrorKind::BrokenPipe.into())
        }
    }
}

fn read_failure(kind: &TransportKind, error: ReadError) -> TransportError {
    match error {
        ReadError::ConnectionLost(error) => failure(kind, error),
        ReadError::Reset(_) | ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            TransportError::Io(io::ErrorKind::ConnectionReset.into())
        }
    }
}

impl QuicLink {
    fn new(connection: Connection, lanes: Vec<LaneStreams>, ends: LinkEnds) -> Self {
        Self { connection, lanes, ends, next: 0, closing: None, closed: false }
    }

    fn kind(&self) -> &TransportKind {
        self.ends.local.kind()
    }

    /// Finishes every lane and waits until the peer has all of it.
    fn begin_close(&mut self) -> BoxFuture<'static, ()> {
        let mut delivered = Vec::new();
        for lane in &mut self.lanes {
            // A lane that is finished already needs no more.
            let _ = lane.send.finish();
            delivered.push(lane.send.stopped());
        }
        let connection = self.connection.clone();
        Box::pin(async move {
            for lane in delivered {
                // When the connection is lost meanwhile, nothing more can be delivered.
                let _ = lane.await;
            }
            connection.close(CLOSED, b"");
        })
    }
}

impl Link for QuicLink {
    fn ends(&self) -> &LinkEnds {
        &self.ends
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, lane: Lane, data: &mut Bytes) -> Poll<Result<(), TransportError>> {
        let last = self.lanes.len() - 1;
        let streams = &mut self.lanes[usize::from(lane).min(last)];
        let mut took = false;
        while !data.is_empty() {
            let mut chunk = [std::mem::take(data)];
            let polled = pin!(streams.send.write_chunks(&mut chunk)).poll(cx);
            let [rest] = chunk;
            *data = rest;
            match polled {
                Poll::Ready(Ok(_)) => took = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(write_failure(self.kind(), error))),
                Poll::Pending if took => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut LaneBuffers) -> Poll<Result<Lane, TransportError>> {
        let count = self.lanes.len();
        for step in 0..count {
            let at = (self.next + step) % count;
            let lane = at as Lane;
            match self.poll_lane(at, cx, into)? {
                Poll::Ready(()) => {
                    self.next = (at + 1) % count;
                    return Poll::Ready(Ok(lane));
                }
                Poll::Pending => {}
            }
        }
        if self.lanes.iter().all(|lane| lane.finished) {
            return Poll::Ready(Err(TransportError::Closed));
        }
        Poll::Pending
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if self.closing.is_none() && !self.closed {
            self.closing = Some(self.begin_close());
        }
        if let Some(closing) = &mut self.closing {
            std::task::ready!(closing.as_mut().poll(cx));
        }
        self.closing = None;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl QuicLink {
    /// Reads what one lane has. The protocol below hands out its own pieces, so room is made for what there is and no more.
    fn poll_lane(
        &mut self,
        at: usize,
        cx: &mut Context<'_>,
        into: &mut LaneBuffers,
    ) -> Result<Poll<()>, TransportError> {
        let lane = &mut self.lanes[at];
        let mut read = 0;
        while read < READ_BYTES && !lane.finished {
            match pin!(lane.receive.read_chunk(READ_BYTES, true)).poll(cx) {
                Poll::Ready(Ok(Some(chunk))) => {
                    let buffer = into.lane(at as Lane);
                    lane.read_size.reserve(buffer);
                    buffer.extend_from_slice(&chunk.bytes);
                    read += chunk.bytes.len();
                }
                Poll::Ready(Ok(None)) => lane.finished = true,
                // What was read is given first; the error comes again with the next call.
                Poll::Ready(Err(_)) if read > 0 => break,
                Poll::Ready(Err(error)) => return Err(read_failure(self.ends.local.kind(), error)),
                Poll::Pending => break,
            }
        }
        if read == 0 {
            if usize::from(into.lanes()) > at {
                lane.read_size.on_idle(into.lane(at as Lane));
            }
            return Ok(Poll::Pending);
        }
        lane.read_size.on_total(read);
        Ok(Poll::Ready(()))
    }
}

impl Drop for QuicLink {
    fn drop(&mut self) {
        if !self.closed {
            self.connection.close(DROPPED, b"");
        }
    }
}
