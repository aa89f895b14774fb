//! One TLS connection.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::failure;
use crate::transport::read_size::ReadSize;
use crate::transport::{Lane, LaneBuffers, Link, LinkEnds, READ_BYTES, TransportError, socket};

/// A TLS connection over TCP as a link.
pub(crate) struct TlsLink {
    stream: TlsStream<TcpStream>,
    ends: LinkEnds,
    read_size: ReadSize,
    closed: bool,
}

impl TlsLink {
    pub(crate) fn new(stream: TlsStream<TcpStream>, ends: LinkEnds) -> Self {
        Self { stream, ends, read_size: ReadSize::default(), closed: false }
    }

    fn failure(&self, error: io::Error) -> TransportError {
        failure(self.ends.local.kind(), error)
    }

    /// Whether reading can give anything: plaintext that is there already, or bytes in the socket.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let state = match &mut self.stream {
            TlsStream::Client(stream) => stream.get_mut().1.process_new_packets(),
            TlsStream::Server(stream) => stream.get_mut().1.process_new_packets(),
        };
        // What is broken comes out of the read.
        if !state.is_ok_and(|state| state.plaintext_bytes_to_read() == 0) {
            return Poll::Ready(Ok(()));
        }
        self.stream.get_ref().0.poll_read_ready(cx).map_err(TransportError::Io)
    }
}

impl Link for TlsLink {
    fn ends(&self) -> &LinkEnds {
        &self.ends
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, _lane: Lane, data: &mut Bytes) -> Poll<Result<(), TransportError>> {
        socket::poll_write(&mut self.stream, cx, data).map_err(|error| self.failure(error))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(|error| self.failure(error))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut LaneBuffers) -> Poll<Result<Lane, TransportError>> {
        let mut read = 0;
        while read < READ_BYTES {
            if self.poll_readable(cx)?.is_pending() {
                break;
            }
            let buffer = into.lane(0);
            self.read_size.reserve(buffer);
            let polled = pin!(self.stream.read_buf(buffer)).poll(cx);
            match polled {
                Poll::Ready(Ok(0)) if read == 0 => {
                    self.closed = true;
                    return Poll::Ready(Err(TransportError::Closed));
                }
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(bytes)) => read += bytes,
                Poll::Ready(Err(error)) if read == 0 => return Poll::Ready(Err(self.failure(error))),
                // It will come again with the next call.
                Poll::Ready(Err(_)) => break,
                // Part of a record: the socket has been asked.
                Poll::Pending => break,
            }
        }
        if read == 0 {
            self.read_size.on_idle(into.lane(0));
            return Poll::Pending;
        }
        // A read gives one record at most, so what counts is what all of them gave.
        self.read_size.on_total(read);
        Poll::Ready(Ok(0))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).map_err(|error| self.failure(error))?;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for TlsLink {
    /// As with plain TCP: what was not closed ends with a reset.
    fn drop(&mut self) {
        if !self.closed {
            // When even this fails, the connection is gone already.
            let _ = SockRef::from(self.stream.get_ref().0).set_linger(Some(Duration::ZERO));
        }
    }
}
