//! The listener of every transport over TCP, and what arrives at it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_messages::{EndpointAddress, TransportKind};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::{TcpLink, TcpTransport};
use crate::transport::{Incoming, Link, Listener, TransportError, socket};

/// When the process is out of file descriptors, accepting pauses this long: connections wait in the operating system.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Refused connections that are kept open until the peer has read why; more are dropped at once.
const LINGERING_MAX: usize = 32;
/// How long a refused connection is kept open at most.
const LINGER: Duration = Duration::from_secs(1);

/// Accepts with a pause when the system is exhausted. Shared by all transports over TCP.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: TcpListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, pause: None }
    }

    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(TcpStream, SocketAddr), TransportError>> {
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, from))) => return Poll::Ready(Ok((stream, socket::canonical(from)))),
                Poll::Ready(Err(error)) if socket::is_about_one_connection(&error) => {
                    tracing::debug!(%error, "a connection was gone before it was accepted");
                }
                Poll::Ready(Err(error)) if is_exhaustion(&error) => {
                    tracing::warn!(%error, "no resources for more connections, accepting pauses");
                    self.pause = Some(Box::pin(tokio::time::sleep(EXHAUSTED_PAUSE)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Out of file descriptors (this process or all) or of memory for sockets. The numbers of the errors are those of POSIX
/// systems; `std` has kinds for none of them but the last.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS)) || error.kind() == io::ErrorKind::OutOfMemory
}

/// A transport over TCP, as far as its listener is concerned.
pub(crate) trait AcceptsTcp: Clone + 'static {
    /// Its name.
    fn kind(&self) -> &TransportKind;

    /// Makes a link of a connection that was accepted.
    ///
    /// # Errors
    /// [`TransportError`].
    fn accept(self, stream: TcpStream) -> impl Future<Output = Result<Box<dyn Link>, TransportError>>;

    /// Turns a connection away for the reason in this packet.
    fn refuse(self, stream: TcpStream, packet: Bytes);
}

/// Connections that are turned away, each kept open a moment so that the peer can read why. A clone counts as the same.
#[derive(Debug, Clone)]
pub(crate) struct Refusals(Arc<Semaphore>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LINGERING_MAX)))
    }
}

impl Refusals {
    /// Writes these words and closes; drops the connection at once when too many are being told already.
    pub(crate) fn say(&self, stream: TcpStream, words: Bytes) {
        let Ok(permit) = self.0.clone().try_acquire_owned() else { return };
        actix_rt::spawn(tell_and_close(stream, words, permit));
    }
}

/// An open listener of a transport over TCP.
pub(crate) struct StreamListener<T> {
    acceptor: Acceptor,
    address: EndpointAddress,
    transport: T,
}

impl<T: AcceptsTcp> StreamListener<T> {
    pub(crate) fn new(listener: TcpListener, transport: T) -> io::Result<Self> {
        let address = EndpointAddress::from_socket(transport.kind().clone(), listener.local_addr()?);
        Ok(Self { acceptor: Acceptor::new(listener), address, transport })
    }
}

impl<T: AcceptsTcp> Listener for StreamListener<T> {
    fn addresses(&self) -> Vec<EndpointAddress> {
        vec![self.address.clone()]
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Incoming>, TransportError>> {
        self.acceptor.poll_accept(cx).map_ok(|(stream, from)| {
            Box::new(Arrival { stream, from, transport: self.transport.clone() }) as Box<dyn Incoming>
        })
    }
}

/// A connection that was accepted by the operating system.
struct Arrival<T> {
    stream: TcpStream,
    from: SocketAddr,
    transport: T,
}

impl<T: AcceptsTcp> Incoming for Arrival<T> {
    fn source(&self) -> Option<IpAddr> {
        Some(self.from.ip())
    }

    fn accept(self: Box<Self>) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        Box::pin(self.transport.accept(self.stream))
    }

    fn refuse(self: Box<Self>, packet: Bytes) {
        self.transport.refuse(self.stream, packet);
    }
}

impl AcceptsTcp for TcpTransport {
    fn kind(&self) -> &TransportKind {
        &self.kind
    }

    async fn accept(self, stream: TcpStream) -> Result<Box<dyn Link>, TransportError> {
        self.tuning.apply(&stream);
        let ends = socket::ends(&stream, &self.kind, None, &self.interfaces)?;
        Ok(Box::new(TcpLink::new(stream, ends)))
    }

    fn refuse(self, stream: TcpStream, packet: Bytes) {
        self.refusals.say(stream, packet);
    }
}

/// Writes the refusal and waits a moment until the peer has read it: closing at once, with the peer's first packet unread,
/// would reset the connection and take the refusal with it.
async fn tell_and_close(mut stream: TcpStream, packet: Bytes, _permit: OwnedSemaphorePermit) {
    let told = async {
        stream.write_all(&packet).await?;
        stream.shutdown().await?;
        let mut sink = [0; 512];
        while stream.read(&mut sink).await? > 0 {}
        io::Result::Ok(())
    };
    // What goes wrong here concerns a connection that nobody wants.
    let _ = tokio::time::timeout(LINGER, told).await;
}
