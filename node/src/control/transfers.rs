//! What takes longer than one question: pings, files, forwarded ports.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_actors::clock;
use bowline_actors::session::handle::SessionHandle;
use bowline_actors::session::stream::SessionStream;
use bowline_messages::MessageClass;
use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::protocol::{ForwardAsked, ForwardEvent, PeerAsked, PingAsked, Pong, SendAsked, Sent};
use super::remote::Remote;
use super::report::micros;
use super::running::Running;
use super::server::Shared;
use crate::exit::{Exit, Failure};
use crate::services::file;
use crate::services::forward::carry;
use crate::services::label::Label;

/// Bytes of a ping: from its number up to what fits into one record comfortably.
const PING_BYTES: std::ops::RangeInclusive<usize> = 8..=65_536;
/// How long one ping waits for its answer when that is more than the time to the next one.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);
/// Events of a forwarding that wait for a slow command.
const EVENTS_WAITING: usize = 64;

fn open(session: &SessionHandle, label: &Label, class: MessageClass) -> Result<SessionStream, Failure> {
    let stream = session.open_stream(label.encode()).map_err(|error| Failure::new(Exit::False, error))?;
    Ok(stream.with_class(class))
}

/// Sends pings and reports their answers, until all are sent or nobody listens any more.
///
/// # Errors
/// Those of [`Running::connect`]; [`Exit::False`] when the peer does not answer pings at all.
pub(crate) async fn ping(
    running: &Running,
    asked: PingAsked,
    pongs: &mpsc::Sender<Result<Pong, Failure>>,
) -> Result<(), Failure> {
    let (session, report) = running.connect(&asked.peer).await?;
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
/// Those of [`Running::connect`]; [`Exit::False`] when the peer refuses the file or the session ends.
pub(crate) async fn send(
    running: &Running,
    peer: &PeerAsked,
    asked: SendAsked,
    blocks: mpsc::Receiver<io::Result<Bytes>>,
) -> Result<Sent, Failure> {
    let (session, report) = running.connect(peer).await?;
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

/// Listens on a local port and carries every connection over the session, until nobody takes the events any more; then
/// connections under way are cut.
///
/// # Errors
/// Those of [`Running::connect`]; [`Exit::False`] or [`Exit::Permission`] when the port cannot be listened on.
pub(crate) async fn forward(
    shared: &Shared,
    asked: ForwardAsked,
) -> Result<mpsc::Receiver<Result<ForwardEvent, Failure>>, Failure> {
    let listener = TcpListener::bind(asked.listen)
        .await
        .map_err(|error| Failure::at(std::path::Path::new(&asked.listen.to_string()), &error, Exit::False))?;
    let address = listener.local_addr().map_err(|error| Failure::new(Exit::False, error))?;
    let far = Arc::new(Far {
        session: tokio::sync::Mutex::new(connect(&shared.remote, &asked.peer).await?),
        remote: shared.remote.clone(),
        peer: asked.peer,
        label: Label::Forward { port: asked.port },
    });
    let (events, receiver) = mpsc::channel(EVENTS_WAITING);
    actix_rt::spawn(async move {
        // The command may have gone already.
        let _ = events.send(Ok(ForwardEvent::Listening { address })).await;
        tokio::select! {
            () = accept(&listener, &far, &events) => {}
            () = events.closed() => {}
        }
    });
    Ok(receiver)
}

/// The session with a peer, found or made from any thread.
async fn connect(remote: &Remote, peer: &PeerAsked) -> Result<SessionHandle, Failure> {
    let peer = peer.clone();
    remote.run(move |running| async move { Ok(running.connect(&peer).await?.0) }).await
}

/// Where the connections of one forwarding go.
struct Far {
    /// The session they went over last. It may have ended since: the peer said goodbye, or was away for too long.
    session: tokio::sync::Mutex<SessionHandle>,
    remote: Remote,
    peer: PeerAsked,
    label: Label,
}

impl Far {
    /// A stream to the port over there, over a session made anew when the last one has ended.
    async fn open(&self) -> Result<SessionStream, Failure> {
        // Held while a session is made: connections that come meanwhile wait for the same one.
        let mut session = self.session.lock().await;
        if !session.is_closed() {
            match open(&session, &self.label, MessageClass::Critical) {
                // It ended between the two looks at it.
                Err(_) if session.is_closed() => {}
                opened => return opened,
            }
        }
        *session = connect(&self.remote, &self.peer).await?;
        open(&session, &self.label, MessageClass::Critical)
    }
}

async fn accept(listener: &TcpListener, far: &Arc<Far>, events: &mpsc::Sender<Result<ForwardEvent, Failure>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((connection, from)) => {
                    let (far, events) = (far.clone(), events.clone());
                    connections.spawn(async move {
                        let _ = events.send(Ok(ForwardEvent::Opened { from })).await;
                        let event = match carry_one(connection, &far).await {
                            Ok((sent, received)) => ForwardEvent::Closed { from, sent, received },
                            Err(reason) => ForwardEvent::Failed { from, reason },
                        };
                        let _ = events.send(Ok(event)).await;
                    });
                }
                // Out of file descriptors, say: it passes, and a busy loop would not help.
                Err(error) => {
                    tracing::warn!(%error, "a forwarded port cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn carry_one(mut connection: TcpStream, far: &Far) -> Result<(u64, u64), String> {
    metrics::counter!("bowline_forwarded_connections_total", "direction" => "out").increment(1);
    connection.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut stream = far.open().await.map_err(|failure| failure.to_string())?;
    carry(&mut connection, &mut stream).await.map_err(|error| error.to_string())
}
