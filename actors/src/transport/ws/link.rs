//! One WebSocket connection.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::failure;
use crate::transport::read_size::ReadSize;
use crate::transport::{Lane, LaneBuffers, Link, LinkEnds, READ_BYTES, TransportError};

/// Bytes put into one message at most. Each message is copied and masked on its way out, so it is kept small enough for the
/// processor's cache.
const MESSAGE_BYTES: usize = 64 * 1024;

/// A stream whose TCP connection can be reached.
pub(super) trait OverTcp: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The connection below.
    fn tcp(&self) -> &TcpStream;
}

/// A WebSocket connection as a link.
pub(super) struct WsLink<S: OverTcp> {
    stream: WebSocketStream<S>,
    ends: LinkEnds,
    read_size: ReadSize,
    closed: bool,
}

impl<S: OverTcp> WsLink<S> {
    pub(super) fn new(stream: WebSocketStream<S>, ends: LinkEnds) -> Self {
        Self { stream, ends, read_size: ReadSize::default(), closed: false }
    }

    fn failure(&self, error: WsError) -> TransportError {
        failure(self.ends.local.kind(), error)
    }

    /// The bytes of the next message, `Closed` at the orderly end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, TransportError>> {
        loop {
            let next = std::task::ready!(Pin::new(&mut self.stream).poll_next(cx));
            return Poll::Ready(match next {
                Some(Ok(Message::Binary(bytes))) => Ok(bytes),
                // Answered by the WebSocket layer.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_))) | None => {
                    self.closed = true;
                    Err(TransportError::Closed)
                }
                Some(Ok(Message::Text(_) | Message::Frame(_))) => Err(TransportError::Protocol {
                    kind: self.ends.local.kind().clone(),
                    reason: "a message that is not binary".into(),
                }),
                Some(Err(error)) => Err(self.failure(error)),
            });
        }
    }
}

impl<S: OverTcp> Link for WsLink<S> {
    fn ends(&self) -> &LinkEnds {
        &self.ends
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, _lane: Lane, data: &mut Bytes) -> Poll<Result<(), TransportError>> {
        let mut took = false;
        while !data.is_empty() {
            match Pin::new(&mut self.stream).poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    let message = data.split_to(data.len().min(MESSAGE_BYTES));
                    let sent = Pin::new(&mut self.stream).start_send(Message::Binary(message));
                    sent.map_err(|error| self.failure(error))?;
                    took = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.failure(error))),
                Poll::Pending if took => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(|error| self.failure(error))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut LaneBuffers) -> Poll<Result<Lane, TransportError>> {
        let mut read = 0;
        while read < READ_BYTES {
            match self.poll_message(cx) {
                Poll::Ready(Ok(bytes)) => {
                    let buffer = into.lane(0);
                    self.read_size.reserve(buffer);
                    buffer.extend_from_slice(&bytes);
                    read += bytes.len();
                }
                Poll::Ready(Err(error)) if read == 0 => return Poll::Ready(Err(error)),
                // What was read is given first; the end comes again with the next call.
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        if read == 0 {
            self.read_size.on_idle(into.lane(0));
            return Poll::Pending;
        }
        self.read_size.on_total(read);
        Poll::Ready(Ok(0))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let closed = std::task::ready!(Pin::new(&mut self.stream).poll_close(cx));
        self.closed = true;
        Poll::Ready(closed.map_err(|error| self.failure(error)))
    }
}

impl<S: OverTcp> Drop for WsLink<S> {
    /// As with plain TCP: what was not closed ends with a reset.
    fn drop(&mut self) {
        if !self.closed {
            // When even this fails, the connection is gone already.
            let _ = SockRef::from(self.stream.get_ref().tcp()).set_linger(Some(Duration::ZERO));
        }
    }
}
