//! IP sockets as every IP transport needs them: resolving addresses, binding, connecting, tuning.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_messages::link::Binding;
use bowline_messages::{EndpointAddress, TransportKind};
use bytes::{Buf, Bytes};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use super::TransportError;
use super::interfaces::InterfaceTable;

/// Connections that may wait in the operating system for a listener.
const BACKLOG: u32 = 1024;
/// A dial tries the next address of a name after at most this long, when there is a next one.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(2000);

/// How TCP sockets are tuned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketTuning {
    /// An idle connection is probed by the operating system after this long. Default: 60 s. The session probes far earlier; this
    /// only clears away sockets that nobody owns any more.
    pub keepalive: Duration,
    /// Data may stay unacknowledged by the peer's operating system this long before it gives the connection up. Default: 60 s.
    pub user_timeout: Duration,
    /// Bytes that the operating system takes and has not sent yet (`TCP_NOTSENT_LOWAT`). Little of it keeps an urgent message from
    /// waiting behind bulk; too little costs wake-ups. Default: 128 KiB.
    pub unsent_bytes_max: u32,
    /// Size of the operating system's send and receive buffers. Default: `None`, it adapts them itself.
    pub buffer_bytes: Option<usize>,
}

impl Default for SocketTuning {
    fn default() -> Self {
        Self {
            keepalive: Duration::from_secs(60),
            user_timeout: Duration::from_secs(60),
            unsent_bytes_max: 128 * 1024,
            buffer_bytes: None,
        }
    }
}

impl SocketTuning {
    /// Applies it to a connected socket. What the operating system does not know or want is left out: the connection works
    /// without, only less well.
    pub(crate) fn apply(&self, stream: &TcpStream) {
        let socket = SockRef::from(stream);
        let keepalive = TcpKeepalive::new().with_time(self.keepalive).with_interval(self.keepalive / 4);
        let mut results = vec![socket.set_tcp_nodelay(true), socket.set_tcp_keepalive(&keepalive)];
        #[cfg(target_os = "linux")]
        results.extend([
            socket.set_tcp_user_timeout(Some(self.user_timeout)),
            socket.set_tcp_notsent_lowat(self.unsent_bytes_max),
        ]);
        for error in results.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "a socket option was refused");
        }
    }
}

/// The socket addresses that an endpoint address stands for, at least one, IPv6 and IPv4 by turns in the resolver's order.
///
/// # Errors
/// [`TransportError::Address`] when no port is written and there is no default, [`TransportError::Io`] when the name is not found.
pub(crate) async fn resolve(
    address: &EndpointAddress,
    default_port: Option<u16>,
) -> Result<Vec<SocketAddr>, TransportError> {
    let port = address.port().or(default_port).ok_or_else(|| bad_address(address, "it has no port"))?;
    if let Some(ip) = address.ip() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found: Vec<SocketAddr> = tokio::net::lookup_host((address.host(), port)).await?.collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
    }
    Ok(by_turns(found))
}

/// The same addresses with the families by turns, beginning with the first one's.
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let mut other = other.into_iter();
    let mut mixed = Vec::new();
    for address in preferred {
        mixed.push(address);
        mixed.extend(other.next());
    }
    mixed.extend(other);
    mixed
}

/// Writes as much as the stream takes now. Ready with nothing more written than before only when there was nothing to write.
///
/// # Errors
/// Those of the stream.
pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    data: &mut Bytes,
) -> Poll<io::Result<()>> {
    let mut took = false;
    while !data.is_empty() {
        match Pin::new(&mut *stream).poll_write(cx, data) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => {
                data.advance(written);
                took = true;
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending if took => break,
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Ok(()))
}

/// An address error of the transport that the address names.
pub(crate) fn bad_address(address: &EndpointAddress, reason: &str) -> TransportError {
    TransportError::Address { kind: address.kind().clone(), address: address.clone(), reason: reason.into() }
}

/// Connects to the first of the addresses that answers, within `timeout` altogether.
///
/// # Errors
/// The error of the last attempt, or [`TransportError::TimedOut`].
pub(crate) async fn connect(
    address: &EndpointAddress,
    default_port: Option<u16>,
    binding: &Binding,
    timeout: Duration,
    tuning: &SocketTuning,
) -> Result<TcpStream, TransportError> {
    let deadline = Instant::now() + timeout;
    let resolved = tokio::time::timeout_at(deadline, resolve(address, default_port));
    let candidates = resolved.await.map_err(|_| TransportError::TimedOut(timeout))??;
    let mut last = TransportError::TimedOut(timeout);
    for (at, candidate) in candidates.iter().enumerate() {
        let until =
            if at + 1 == candidates.len() { deadline } else { deadline.min(Instant::now() + NEXT_ADDRESS_AFTER) };
        match tokio::time::timeout_at(until, connect_one(*candidate, binding, tuning)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = TransportError::TimedOut(timeout),
        }
    }
    Err(last)
}

async fn connect_one(to: SocketAddr, binding: &Binding, tuning: &SocketTuning) -> Result<TcpStream, TransportError> {
    let socket = if to.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    if let Some(bytes) = tuning.buffer_bytes {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        socket.set_send_buffer_size(bytes)?;
        socket.set_recv_buffer_size(bytes)?;
    }
    let bound = bind(SockRef::from(&socket), to, binding);
    bound.map_err(|source| TransportError::Binding { binding: binding.clone(), source })?;
    let stream = socket.connect(to).await?;
    tuning.apply(&stream);
    Ok(stream)
}

/// Binds a socket that is going to talk to `to`.
pub(crate) fn bind(socket: SockRef<'_>, to: SocketAddr, binding: &Binding) -> io::Result<()> {
    match binding {
        Binding::Any => Ok(()),
        Binding::Address(ip) if ip.is_ipv6() == to.is_ipv6() => socket.bind(&SocketAddr::new(*ip, 0).into()),
        Binding::Address(_) => Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "the address is of another family")),
        Binding::Interface(name) => bind_to_interface(socket, to, name),
    }
}

/// On Linux a socket can belong to an interface, whatever the routing table says.
#[cfg(target_os = "linux")]
fn bind_to_interface(socket: SockRef<'_>, _to: SocketAddr, name: &str) -> io::Result<()> {
    socket.bind_device(Some(name.as_bytes()))
}

/// Elsewhere the interface's own address is what can be had; the routing table still has a say.
#[cfg(not(target_os = "linux"))]
fn bind_to_interface(socket: SockRef<'_>, to: SocketAddr, name: &str) -> io::Result<()> {
    let ip = super::interfaces::address_of(name, to.is_ipv6())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the interface has no address of this family"))?;
    socket.bind(&SocketAddr::new(ip, 0).into())
}

/// Opens a TCP listener. `[::]` takes IPv4 connections as well, where the system can.
///
/// # Errors
/// [`TransportError::Address`] or what the operating system says.
pub(crate) async fn listen(
    address: &EndpointAddress,
    default_port: Option<u16>,
) -> Result<TcpListener, TransportError> {
    let mut last = bad_address(address, "it has no IP address");
    for candidate in resolve(address, default_port).await? {
        match listen_one(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn listen_one(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified())?;
    }
    // A listener that is restarted must not wait for the old connections' TIME_WAIT. (On Windows the option means another
    // thing, and is not needed.)
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Whether an accept failed because of the one connection, so that the next may do better.
pub(crate) fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
            | io::ErrorKind::PermissionDenied
    )
}

/// An IPv4 address that came through an IPv6 socket, as IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The two ends of a connected TCP socket. `dialled` is the address as it was asked for, when this side dialled.
///
/// # Errors
/// When the connection is already gone.
pub(crate) fn ends(
    stream: &TcpStream,
    kind: &TransportKind,
    dialled: Option<&EndpointAddress>,
    interfaces: &InterfaceTable,
) -> io::Result<super::LinkEnds> {
    let local = canonical(stream.local_addr()?);
    let remote = canonical(stream.peer_addr()?);
    Ok(super::LinkEnds {
        local: EndpointAddress::from_socket(kind.clone(), local),
        remote: dialled.cloned().unwrap_or_else(|| EndpointAddress::from_socket(kind.clone(), remote)),
        interface: interfaces.of_address(local.ip()),
        lanes: 1,
    })
}

/// The unspecified address of the family of `to`, any port.
#[cfg(feature = "quic")]
pub(crate) fn any_for(to: SocketAddr) -> SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    let ip = if to.is_ipv6() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    SocketAddr::new(ip, 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn families_take_turns_in_the_resolvers_order() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mixed = by_turns(vec![
            parse("[::1]:1"),
            parse("[::2]:1"),
            parse("10.0.0.1:1"),
            parse("10.0.0.2:1"),
            parse("10.0.0.3:1"),
        ]);
        let order: Vec<String> = mixed.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "10.0.0.3:1"]);
    }

    #[tokio::test]
    async fn an_address_without_a_port_is_refused_with_a_reason() {
        let address: EndpointAddress = "tcp://127.0.0.1".parse().unwrap();
        assert!(matches!(resolve(&address, None).await, Err(TransportError::Address { .. })));
        assert_eq!(resolve(&address, Some(80)).await.unwrap()[0].port(), 80);
    }

    #[tokio::test]
    async fn binding_to_an_address_of_another_family_or_a_missing_interface_is_a_typed_error() {
        let to: EndpointAddress = "tcp://127.0.0.1:9".parse().unwrap();
        for binding in [Binding::Address("::1".parse().unwrap()), Binding::Interface("no-such-if".into())] {
            let result = connect(&to, None, &binding, Duration::from_secs(5), &SocketTuning::default()).await;
            assert!(matches!(result, Err(TransportError::Binding { .. })), "{result:?}");
        }
    }
}
