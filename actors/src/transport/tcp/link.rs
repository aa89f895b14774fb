//! One TCP connection.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use crate::transport::read_size::ReadSize;
use crate::transport::{Lane, LaneBuffers, Link, LinkEnds, TransportError, socket};

/// A connected TCP socket as a link.
#[derive(Debug)]
pub(crate) struct TcpLink {
    stream: TcpStream,
    ends: LinkEnds,
    read_size: ReadSize,
    closed: bool,
}

impl TcpLink {
    pub(crate) fn new(stream: TcpStream, ends: LinkEnds) -> Self {
        Self { stream, ends, read_size: ReadSize::default(), closed: false }
    }
}

impl Link for TcpLink {
    fn ends(&self) -> &LinkEnds {
        &self.ends
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, _lane: Lane, data: &mut Bytes) -> Poll<Result<(), TransportError>> {
        socket::poll_write(&mut self.stream, cx, data).map_err(TransportError::Io)
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut LaneBuffers) -> Poll<Result<Lane, TransportError>> {
        loop {
            // Asking first costs no system call, and room is only made when there is something for it.
            if self.stream.poll_read_ready(cx)?.is_pending() {
                self.read_size.on_idle(into.lane(0));
                return Poll::Pending;
            }
            let buffer = into.lane(0);
            self.read_size.reserve(buffer);
            let room = buffer.capacity() - buffer.len();
            // `read_buf` and not `try_read_buf`: after a short read it knows that the socket is empty without asking again.
            let read = {
                match pin!(self.stream.read_buf(buffer)).poll(cx) {
                    Poll::Ready(read) => read?,
                    Poll::Pending => continue,
                }
            };
            if read == 0 {
                self.closed = true;
                return Poll::Ready(Err(TransportError::Closed));
            }
            self.read_size.on_read(read, room);
            return Poll::Ready(Ok(0));
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for TcpLink {
    /// A link that was not closed ends with a reset, so that the peer can tell an accident from an orderly end.
    fn drop(&mut self) {
        if !self.closed {
            // When even this fails, the connection is gone already.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}
