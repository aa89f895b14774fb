//! Forwarded ports: a local port whose connections go to a port of a peer's machine.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bowline_actors::session::handle::SessionHandle;
use bowline_actors::session::stream::SessionStream;
use bowline_messages::MessageClass;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::protocol::{ForwardAsked, ForwardEvent, PeerAsked};
use super::remote::Remote;
use super::renewed::Renewed;
use super::server::Shared;
use super::transfers::open;
use crate::exit::{Exit, Failure};
use crate::services::forward::{carry, consent};
use crate::services::label::Label;

/// Events of a forwarding that wait for a slow command.
const EVENTS_WAITING: usize = 64;
/// Connections of one forwarding that wait until they reach the port over there; further ones are left to the operating system's
/// queue. More than a browser opens at once, and few enough that a program that tries again and again while the peer is off costs
/// nothing that grows.
const CONNECTIONS_WAITING: usize = 64;

/// Listens on a local port and carries every connection over the session, until nobody takes the events any more; then
/// connections under way are cut.
///
/// # Errors
/// Those of `Running::visit`; [`Exit::False`] or [`Exit::Permission`] when the port cannot be listened on.
pub(crate) async fn forward(
    shared: &Shared,
    asked: ForwardAsked,
) -> Result<mpsc::Receiver<Result<ForwardEvent, Failure>>, Failure> {
    let listener = TcpListener::bind(asked.listen)
        .await
        .map_err(|error| Failure::at(std::path::Path::new(&asked.listen.to_string()), &error, Exit::False))?;
    let address = listener.local_addr().map_err(|error| Failure::new(Exit::False, error))?;
    let (held, ended) = oneshot::channel();
    let far = Arc::new(Far {
        session: Renewed::new(visit(shared.remote.clone(), asked.peer.clone(), ended).await?),
        _held: held,
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

/// The session with a peer, found or made from any thread. The peer is accepted until `ended` comes, or nobody can send it any more.
async fn visit(
    remote: Remote,
    peer: PeerAsked,
    ended: oneshot::Receiver<Infallible>,
) -> Result<SessionHandle, Failure> {
    let visiting = remote.run(move |running| async move {
        let (visit, session, _) = running.visit(&peer).await?;
        actix_rt::spawn(async move {
            let _ = ended.await;
            drop(visit);
        });
        Ok(session)
    });
    visiting.await
}

/// The session with a peer that is visited already.
async fn again(remote: Remote, peer: PeerAsked) -> Result<SessionHandle, Failure> {
    remote.run(move |running| async move { Ok(running.visit(&peer).await?.1) }).await
}

/// Where the connections of one forwarding go.
struct Far {
    /// The session they went over last. It may have ended since: the peer said goodbye, or was away for too long.
    session: Renewed<SessionHandle>,
    remote: Remote,
    peer: PeerAsked,
    label: Label,
    /// Dropped with the last connection: the peer is not needed any more.
    _held: oneshot::Sender<Infallible>,
}

impl Far {
    /// A stream to the port over there, over a session made anew when the last one has ended, once the peer has connected its end.
    async fn reach(&self) -> Result<SessionStream, String> {
        let again = || again(self.remote.clone(), self.peer.clone());
        let session = self.session.get(|session| !session.is_closed(), again).await;
        let session = session.map_err(|failure| failure.to_string())?;
        let stream = open(&session, &self.label, MessageClass::Critical);
        let mut stream = stream.map_err(|failure| failure.to_string())?;
        consent(&mut stream).await.map_err(|error| error.to_string())?;
        Ok(stream)
    }
}

async fn accept(listener: &TcpListener, far: &Arc<Far>, events: &mpsc::Sender<Result<ForwardEvent, Failure>>) {
    let waiting = Arc::new(Semaphore::new(CONNECTIONS_WAITING));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // Never closed.
            let place = waiting.clone().acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        tokio::select! {
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (place, accepted) = next => match accepted {
                Ok((connection, from)) => {
                    let (far, events) = (far.clone(), events.clone());
                    connections.spawn_local(async move {
                        let _ = events.send(Ok(ForwardEvent::Opened { from })).await;
                        let event = match carry_one(connection, &far, place).await {
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

/// Carries one connection. `place`: the one it takes among those that wait, until the port over there is reached.
async fn carry_one(
    mut connection: TcpStream,
    far: &Far,
    place: Option<OwnedSemaphorePermit>,
) -> Result<(u64, u64), String> {
    metrics::counter!("bowline_forwarded_connections_total", "direction" => "out").increment(1);
    connection.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut stream = tokio::select! {
        reached = far.reach() => reached?,
        () = gone(&connection) => return Err("the connection was closed here before the peer was reached".into()),
    };
    drop(place);
    carry(&mut connection, &mut stream).await.map_err(|error| error.to_string())
}

/// Waits until whoever connected here has gone: the connection was reset, or ended without a byte. One that ended after it said
/// something may be a whole question whose answer is still wanted, and cannot be told from one that was given up.
async fn gone(connection: &TcpStream) {
    if let Ok(1..) = connection.peek(&mut [0]).await {
        // It said something; from here on only an error tells.
        let _ = connection.ready(Interest::ERROR).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (local, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn an_end_without_a_byte_and_a_reset_are_noticed_and_a_question_is_not_taken_for_an_end() {
        let (local, here) = pair().await;
        assert!(gone(&here).now_or_never().is_none());
        drop(local);
        gone(&here).await;

        let (mut local, mut here) = pair().await;
        local.write_all(b"question").await.unwrap();
        local.shutdown().await.unwrap();
        here.readable().await.unwrap();
        assert!(gone(&here).now_or_never().is_none());
        let mut question = String::new();
        here.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question", "nothing of it was taken");

        let (mut local, mut here) = pair().await;
        here.write_all(b"never read").await.unwrap();
        local.write_all(b"question").await.unwrap();
        local.readable().await.unwrap();
        // Closing with something unread is a reset.
        drop(local);
        gone(&here).await;
    }
}
