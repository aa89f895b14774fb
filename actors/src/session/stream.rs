//! Streams for the application: ordered bytes both ways, as `AsyncRead` and `AsyncWrite`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix::Message;
use bowline_messages::session::{Outgoing, SendError};
use bowline_messages::{ChannelId, MessageClass, PeerId};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handle::{Receipt, SessionHandle};
use super::outbox::Pushed;
use super::streams::{StreamEnd, StreamPart, StreamRead};

/// Bytes in one message of a stream: large enough to be cheap, small enough that several are under way.
const PART_BYTES: usize = 64 * 1024;
/// Bytes that a label may have.
const LABEL_BYTES_MAX: usize = 1024;

/// A stream that the peer opened, for the application.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct IncomingStream {
    /// Who opened it.
    pub peer: PeerId,
    /// What it is for, in the words of the application over there.
    pub label: Bytes,
    /// The stream.
    pub stream: SessionStream,
}

/// One stream. Dropping it without [`AsyncWrite::poll_shutdown`] resets it.
#[derive(Debug)]
pub struct SessionStream {
    session: SessionHandle,
    id: ChannelId,
    /// Whether this side opened it: then its number is never given again.
    own: bool,
    last: Option<Receipt>,
    finished: bool,
    /// The life of the peer's process in which it was opened.
    life: u32,
    class: MessageClass,
}

impl SessionStream {
    pub(crate) fn open(session: SessionHandle, label: Bytes) -> Result<Self, SendError> {
        if label.len() > LABEL_BYTES_MAX {
            return Err(SendError::TooLarge { bytes: label.len(), limit: LABEL_BYTES_MAX });
        }
        let (id, life, pushed) = {
            let mut outbox = session.ledger().outbox();
            let mut inbound = session.ledger().inbound();
            let id = inbound.streams.next_own().ok_or(SendError::TooManyChannels { limit: 1 << 30 })?;
            let pushed = outbox.push(message(id, MessageClass::Bulk, &StreamPart::Open(label)), None)?;
            // Only now, so that a full queue leaves no gap in the numbers and nothing to be reset.
            inbound.streams.open();
            (id, inbound.streams.life(), pushed)
        };
        let mut stream = Self { session, id, own: true, last: None, finished: false, life, class: MessageClass::Bulk };
        stream.note(pushed);
        Ok(stream)
    }

    pub(crate) fn accepted(session: SessionHandle, id: ChannelId) -> Self {
        let life = session.ledger().inbound().streams.life();
        Self { session, id, own: false, last: None, finished: false, life, class: MessageClass::Bulk }
    }

    /// The class under which its bytes travel; `Bulk` unless said otherwise.
    #[must_use]
    pub fn with_class(mut self, class: MessageClass) -> Self {
        self.class = class;
        self
    }

    /// The peer.
    pub fn peer(&self) -> PeerId {
        self.session.peer()
    }

    /// Whether the peer's process is the one with which the stream was opened. Another one may use the stream's number anew.
    fn is_same_life(&self) -> bool {
        self.session.ledger().inbound().streams.life() == self.life
    }

    fn put(&mut self, part: StreamPart) -> Result<(), SendError> {
        let last = matches!(part, StreamPart::Finish | StreamPart::Reset(_));
        let message = message(self.id, self.class, &part);
        let pushed = {
            let mut outbox = self.session.ledger().outbox();
            if !self.is_same_life() {
                return Err(SendError::Closed);
            }
            if last { outbox.push_last(message)? } else { outbox.push(message, None)? }
        };
        self.note(pushed);
        Ok(())
    }

    fn note(&mut self, pushed: Pushed) {
        if pushed.wake {
            self.session.ledger().wake();
        }
        self.last = Some(self.session.receipt(self.id, pushed.sequence));
    }

    /// Waits until the peer's application has read everything that was written, or it is known that it will not.
    ///
    /// # Errors
    /// `ConnectionAborted` when the session ended first or the peer's process did.
    pub async fn delivered(&mut self) -> io::Result<()> {
        use bowline_messages::session::ReceiptState;
        let Some(last) = self.last.clone() else { return Ok(()) };
        match last.settled().await {
            // What was written to a process that is gone, on a number that may be used anew, has left no trace.
            ReceiptState::Acknowledged if !self.own && !self.is_same_life() => Err(lost()),
            ReceiptState::Acknowledged => Ok(()),
            ReceiptState::Accepted
            | ReceiptState::OnWire
            | ReceiptState::NotSent
            | ReceiptState::Unknown
            | ReceiptState::Expired
            | ReceiptState::Quarantined => Err(lost()),
        }
    }

    /// Registers for room, and looks once more: it may have come while nobody held the lock.
    fn wait_room(&self, cx: &Context<'_>) {
        let mut outbox = self.session.ledger().outbox();
        outbox.wait_room(cx.waker());
        if outbox.is_closed() || outbox.has_room(self.class, PART_BYTES) {
            cx.waker().wake_by_ref();
        }
    }

    /// Resets the stream: what is under way may or may not arrive, and the peer is told why.
    pub fn reset(&mut self, why: &str) {
        if !self.finished {
            self.finished = true;
            // A session that has ended, or the peer's process, needs no reset.
            let why = Bytes::copy_from_slice(&why.as_bytes()[..why.floor_char_boundary(LABEL_BYTES_MAX - 1)]);
            let _ = self.put(StreamPart::Reset(why));
        }
    }
}

fn message(channel: ChannelId, class: MessageClass, part: &StreamPart) -> Outgoing {
    Outgoing { channel, class, payload: part.encode(), ..Outgoing::default() }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the session ended before the stream did")
}

impl AsyncRead for SessionStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let id = self.id;
        let (read, wake) = {
            let mut inbound = self.session.ledger().inbound();
            let same_life = inbound.streams.life() == self.life;
            let Some(stream) = inbound.stream(id).filter(|_| same_life) else { return Poll::Ready(Err(lost())) };
            let (read, consumed) = stream.read(into.remaining(), cx.waker());
            inbound.on_stream_consumed(id, consumed);
            (read, inbound.has_announcements())
        };
        if wake {
            self.session.ledger().wake();
        }
        match read {
            StreamRead::Bytes(bytes) => {
                into.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
            StreamRead::Empty => Poll::Pending,
            StreamRead::End(end) => match end {
                StreamEnd::Finished => Poll::Ready(Ok(())),
                StreamEnd::Reset(why) => {
                    let why = String::from_utf8_lossy(&why).into_owned();
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, why)))
                }
            },
        }
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let most = PART_BYTES.min(self.session.ledger().outbox().message_bytes().saturating_sub(1));
        let part = &bytes[..bytes.len().min(most.max(1))];
        {
            let mut outbox = self.session.ledger().outbox();
            if !outbox.is_closed() && !outbox.has_room(self.class, part.len() + 1) {
                outbox.wait_room(cx.waker());
                return Poll::Pending;
            }
        }
        match self.put(StreamPart::Data(Bytes::copy_from_slice(part))) {
            Ok(()) => Poll::Ready(Ok(part.len())),
            // Another writer was faster; room will be announced.
            Err(SendError::Full { .. }) => {
                self.wait_room(cx);
                Poll::Pending
            }
            Err(_) => Poll::Ready(Err(lost())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        match self.put(StreamPart::Finish) {
            Ok(()) => {
                self.finished = true;
                Poll::Ready(Ok(()))
            }
            Err(_) => Poll::Ready(Err(lost())),
        }
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        if !self.finished {
            self.reset("dropped");
        }
        let ledger = self.session.ledger();
        let mut outbox = ledger.outbox();
        let mut inbound = ledger.inbound();
        let same_life = inbound.streams.life() == self.life;
        if self.own || same_life {
            outbox.finish_channel(self.id);
        }
        drop(outbox);
        if same_life {
            inbound.close_stream(self.id);
        }
        let wake = inbound.has_announcements();
        drop(inbound);
        if wake {
            ledger.wake();
        }
    }
}
