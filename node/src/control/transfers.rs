//! What takes longer than one question: pings and files.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_actors::clock;
use bowline_actors::session::handle::SessionHandle;
use bowline_actors::session::stream::SessionStream;
use bowline_messages::MessageClass;
use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;

use super::protocol::{PeerAsked, PingAsked, Pong, SendAsked, Sent};
use super::report::micros;
use super::running::Running;
use crate::exit::{Exit, Failure};
use crate::services::file;
use crate::services::label::Label;

/// Bytes of a ping: from its number up to what fits into one record comfortably.
const PING_BYTES: std::ops::RangeInclusive<usize> = 8..=65_536;
/// How long one ping waits for its answer when that is more than the time to the next one.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a stream that says what it is for.
///
/// # Errors
/// [`Exit::False`] when the session has ended or has no room for more.
pub(super) fn open(session: &SessionHandle, label: &Label, class: MessageClass) -> Result<SessionStream, Failure> {
    let stream = session.open_stream(label.encode()).map_err(|error| Failure::new(Exit::False, error))?;
    Ok(stream.with_class(class))
}

/// Sends pings and reports their answers, until all are sent or nobody listens any more.
///
/// # Errors
/// Those of [`Running::visit`]; [`Exit::False`] when the peer does not answer pings at all.
pub(crate) async fn ping(
    running: &Rc<Running>,
    asked: PingAsked,
    pongs: &mpsc::Sender<Result<Pong, Failure>>,
) -> Result<(), Failure> {
    let (_visit, session, report) = running.visit(&asked.peer).await?;
    let size = asked.size.clamp(*PING_BYTES.start(), *PING_BYTES.end());
    let limit = asked.peer.timeout.min(PONG_TIMEOUT).max(asked.interval);
    let mut stream = open(&session, &Label::Echo, MessageClass::Realtime)?;
    for seq in 1..=asked.count {
        let start = clock::now();
        let answered = tokio::time::timeout(limit, exchange(&mut stream, seq, size)).await;
        let rtt_us = match answered {
            Ok(Ok(())) => Some(micros(clock::now().saturating_duration_since(start))),
            Ok(Err(error)) if session.is_closed() => return Err(Failure::new(Exit::False, error)),
            Ok(Err(error)) => {
                return Err(Failure::new(Exit::False, format_args!("the peer does not answer pings: {error}")));
            }
            // Late answers to this one must not be taken for answers to the next.
            Err(_) => {
                stream = open(&session, &Label::Echo, MessageClass::Realtime)?;
                None
            }
        };
        let via = running.preferred(report.peer).await;
        if pongs.send(Ok(Pong { peer: report.peer, seq, rtt_us, via })).await.is_err() {
            return Ok(());
        }
        if seq < asked.count {
            tokio::time::sleep(asked.interval.saturating_sub(clock::now().saturating_duration_since(start))).await;
        }
    }
    Ok(())
}

async fn exchange(stream: &mut SessionStream, seq: u32, size: usize) -> io::Result<()> {
    let mut ping = vec![0; size];
    ping[..4].copy_from_slice(&seq.to_be_bytes());
    stream.write_all(&ping).await?;
    let mut pong = vec![0; size];
    stream.read_exact(&mut pong).await?;
    if ping == pong { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "the answer differs")) }
}

/// Sends what `blocks` gives as a file.
///
/// # Errors
/// Those of [`Running::visit`]; [`Exit::False`] when the peer refuses the file or the session ends.
pub(crate) async fn send(
    running: &Rc<Running>,
    peer: &PeerAsked,
    asked: SendAsked,
    blocks: mpsc::Receiver<io::Result<Bytes>>,
) -> Result<Sent, Failure> {
    let _sending = Sending::begin(running);
    let (_visit, session, report) = running.visit(peer).await?;
    let start = clock::now();
    let label = Label::File { name: asked.name, bytes: asked.bytes };
    let mut stream = open(&session, &label, MessageClass::Bulk)?;
    let mut source = BlockReader { blocks, block: Bytes::new() };
    let sent = file::send(&mut stream, &mut source, |_| {}).await;
    let (name, bytes, digest) = sent.map_err(|error| Failure::new(Exit::False, error))?;
    // The file is there; how its stream ends makes no difference to that.
    let _ = stream.shutdown().await;
    let took_us = micros(clock::now().saturating_duration_since(start));
    Ok(Sent { peer: report.peer, name, bytes, blake3: digest.to_hex().to_string(), took_us })
}

/// Counts a file for as long as it is being sent.
struct Sending(Rc<Running>);

impl Sending {
    fn begin(running: &Rc<Running>) -> Self {
        running.sending.send_modify(|sending| *sending += 1);
        Self(Rc::clone(running))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending.send_modify(|sending| *sending -= 1);
    }
}

/// Blocks from a channel as a reader.
struct BlockReader {
    blocks: mpsc::Receiver<io::Result<Bytes>>,
    block: Bytes,
}

impl AsyncRead for BlockReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.block.is_empty() {
            match self.blocks.poll_recv(cx) {
                Poll::Ready(Some(Ok(block))) => self.block = block,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        let some = self.block.len().min(into.remaining());
        into.put_slice(&self.block[..some]);
        self.block.advance(some);
        Poll::Ready(Ok(()))
    }
}
