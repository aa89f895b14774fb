//! Dials: circuit breaker and limits first, then the connection, then the handshake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{ActorFutureExt, Handler, Message, ResponseActFuture};
use bowline_messages::link::Binding;
use bowline_messages::repair::DialFailure;
use bowline_messages::wire::Refusal;
use bowline_messages::{EndpointAddress, EventKind, LinkId, PeerId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ConnectionGuard, Direction, EstablishedLink, TransportActor, TransportParts};
use crate::clock;
use crate::session::handshake::{HandshakeConfig, HandshakeError, Initiator, ResumeTicket};
use crate::transport::establish::{EstablishError, Handshaken, initiate};
use crate::transport::{DialOptions, TransportError};

/// Remote hosts whose pools are kept at most; pools nobody uses are swept out before that.
const POOLS_MAX: usize = 4096;

/// Connects to a peer and does the handshake. From a session's actor to a transport's actor.
#[derive(Debug, Message)]
#[rtype(result = "Result<EstablishedLink, DialError>")]
pub struct Dial {
    /// Who has to be there.
    pub peer: PeerId,
    /// Where.
    pub address: EndpointAddress,
    /// To what the link is bound on this side.
    pub binding: Binding,
    /// The link's number.
    pub link: LinkId,
    /// Which handshake.
    pub mode: DialMode,
    /// What this side says about itself; `None` means the same as to whoever dials it.
    pub handshake: Option<Arc<HandshakeConfig>>,
    /// How long it may take; `None` means as configured.
    pub timeout: Option<Duration>,
    /// The user asked for it: it is tried even when the host or the transport is left alone for now.
    pub at_once: bool,
}

/// Which handshake to do.
#[derive(Debug, Clone)]
pub enum DialMode {
    /// The full one, with signatures.
    Full,
    /// That of a link that joins a session or resumes one; falls back to the full one when the peer does not know the ticket.
    Attach(ResumeTicket),
}

/// Why there is no link. Nothing is kept of the attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The host or the transport failed several times in a row and is left alone for now.
    #[error("failed several times in a row, next attempt in {0:?}")]
    Paused(Duration),
    /// As many links as the transport, or as this host, may have. The configuration's limit.
    #[error("too many connections")]
    TooManyConnections,
    /// No connection. The network's fault, the peer's, or the configuration's.
    #[error(transparent)]
    Transport(TransportError),
    /// A connection, but no proof that the peer is there. The peer's fault, or somebody's between.
    #[error(transparent)]
    Handshake(HandshakeError),
    /// It took too long.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
}

impl From<EstablishError> for DialError {
    fn from(error: EstablishError) -> Self {
        match error {
            EstablishError::Transport(error) => error.into(),
            EstablishError::Handshake(error) => Self::Handshake(error),
            EstablishError::Refused(refusal) => Self::Handshake(HandshakeError::Refused(refusal)),
        }
    }
}

impl From<TransportError> for DialError {
    /// A refusal is the same whether it comes before the transport's own handshake or after.
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Refused(refusal) => Self::Handshake(HandshakeError::Refused(refusal)),
            TransportError::Address { .. }
            | TransportError::Io(_)
            | TransportError::Binding { .. }
            | TransportError::TimedOut(_)
            | TransportError::Authentication(_)
            | TransportError::Protocol { .. }
            | TransportError::Unsupported { .. }
            | TransportError::TurnedAway
            | TransportError::Closed => Self::Transport(error),
        }
    }
}

/// What a failed dial says about whom.
enum Blame {
    /// The remote host.
    Host,
    /// This side: nothing could even be tried.
    Transport,
    /// Nobody: what was asked for cannot be done.
    Request,
    /// Nobody: the remote host works, and does not take this node in, or not yet.
    Unwelcome,
}

impl DialError {
    fn blame(&self) -> Blame {
        match self {
            Self::Paused(_) | Self::TooManyConnections => Blame::Request,
            Self::TimedOut(_) => Blame::Host,
            Self::Handshake(error) => match error {
                HandshakeError::Itself
                | HandshakeError::LinkNumber(_)
                | HandshakeError::NoRandomness
                | HandshakeError::Over => Blame::Request,
                HandshakeError::Refused(Refusal::NotAllowed | Refusal::CoolDown) => Blame::Unwelcome,
                HandshakeError::Refused(_)
                | HandshakeError::Unexpected(_)
                | HandshakeError::Packet(_)
                | HandshakeError::Message(_)
                | HandshakeError::Forged
                | HandshakeError::Signature(_)
                | HandshakeError::WrongPeer { .. }
                | HandshakeError::Downgrade { .. } => Blame::Host,
            },
            Self::Transport(error) => match error {
                TransportError::Address { .. }
                | TransportError::Binding { .. }
                | TransportError::Unsupported { .. } => Blame::Request,
                TransportError::Io(error) if is_local(error) => Blame::Transport,
                TransportError::Closed
                | TransportError::Io(_)
                | TransportError::TimedOut(_)
                | TransportError::Authentication(_)
                | TransportError::Refused(_)
                | TransportError::TurnedAway
                | TransportError::Protocol { .. } => Blame::Host,
            },
        }
    }
}

impl DialError {
    /// What it says about what could be repaired here. `ticket`: whether the dial was made with one.
    pub fn failure(&self, ticket: bool) -> DialFailure {
        let handshake = if ticket { DialFailure::Ticket } else { DialFailure::Handshake };
        match self {
            Self::TimedOut(_) | Self::Transport(TransportError::TimedOut(_)) => DialFailure::TimedOut,
            Self::Handshake(HandshakeError::Refused(_)) => DialFailure::Elsewhere,
            // A peer that cannot open what the ticket sealed hangs up without a word.
            Self::Transport(TransportError::Closed) if ticket => handshake,
            Self::Transport(TransportError::Io(error)) if ticket && is_hang_up(error) => handshake,
            Self::Paused(_) | Self::TooManyConnections | Self::Handshake(_) | Self::Transport(_) => {
                match self.blame() {
                    Blame::Transport => DialFailure::Local,
                    Blame::Host if matches!(self, Self::Handshake(_)) => handshake,
                    Blame::Host | Blame::Request | Blame::Unwelcome => DialFailure::Elsewhere,
                }
            }
        }
    }
}

fn is_hang_up(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
    )
}

/// Whether the operating system refused before anything was sent: no sockets, no memory, no network.
fn is_local(error: &std::io::Error) -> bool {
    crate::transport::tcp::is_exhaustion(error)
        || matches!(error.kind(), std::io::ErrorKind::NetworkDown | std::io::ErrorKind::PermissionDenied)
}

impl Handler<Dial> for TransportActor {
    type Result = ResponseActFuture<Self, Result<EstablishedLink, DialError>>;

    fn handle(&mut self, dial: Dial, _: &mut Self::Context) -> Self::Result {
        let guard = match self.begin_dial(dial.address.host(), dial.at_once) {
            Ok(guard) => guard,
            Err(error) => return Box::pin(wrap_future(std::future::ready(Err(error)))),
        };
        self.dials += 1;
        let since = clock::now();
        let (peer, address) = (dial.peer, dial.address.clone());
        let dialling = connect(dial, self.parts.clone(), Arc::clone(&self.dial_slots));
        Box::pin(wrap_future::<_, Self>(dialling).map(move |result, actor, _| {
            actor.dials -= 1;
            actor.on_dialled(peer, &address, since, result.as_ref().err());
            result.map(|handshaken| EstablishedLink::new(handshaken, guard))
        }))
    }
}

impl TransportActor {
    fn begin_dial(&mut self, host: &str, at_once: bool) -> Result<ConnectionGuard, DialError> {
        let place = self.pool(host)?;
        // Asked last: an attempt that the breaker allows has to be made.
        if self.connections.available_permits() == 0 {
            return Err(DialError::TooManyConnections);
        }
        let allowed = self.breakers.attempt(host, clock::now());
        if !at_once {
            allowed.map_err(DialError::Paused)?;
        }
        self.guard(Direction::Outbound, Some(place)).ok_or(DialError::TooManyConnections)
    }

    /// A place in the pool of a host.
    fn pool(&mut self, host: &str) -> Result<OwnedSemaphorePermit, DialError> {
        let size = self.parts.config.pool_per_host;
        if !self.pools.contains_key(host) {
            self.pools.retain(|_, pool| pool.available_permits() < size);
            if self.pools.len() >= POOLS_MAX {
                return Err(DialError::TooManyConnections);
            }
        }
        let pool = self.pools.entry(host.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(size)));
        Arc::clone(pool).try_acquire_owned().map_err(|_| DialError::TooManyConnections)
    }

    fn on_dialled(&mut self, peer: PeerId, address: &EndpointAddress, since: Instant, error: Option<&DialError>) {
        let now = clock::now();
        let host = address.host();
        let Some(error) = error else {
            self.breakers.on_success(host);
            self.count_handshake(Direction::Outbound, "ok", now.saturating_duration_since(since));
            return;
        };
        match error.blame() {
            Blame::Host => self.breakers.on_host_failure(host, now),
            Blame::Transport => self.breakers.on_transport_failure(now),
            Blame::Unwelcome => self.breakers.on_success(host),
            Blame::Request => {}
        }
        self.count_handshake(Direction::Outbound, "failed", now.saturating_duration_since(since));
        self.count_error("dial");
        self.emit(EventKind::DialFailed { peer, address: address.clone(), error: error.to_string() });
    }
}

/// The whole attempt, within its time. Dials beyond the number that may go on at once wait for their turn, in that time too.
async fn connect(dial: Dial, parts: TransportParts, slots: Arc<Semaphore>) -> Result<Handshaken, DialError> {
    let limit = dial.timeout.unwrap_or(parts.config.connect_timeout);
    let attempt = async {
        // The semaphore is never closed.
        let _slot = slots.acquire().await.map_err(|_| DialError::Transport(TransportError::Closed))?;
        let options = DialOptions { expect: dial.peer, binding: dial.binding, timeout: limit };
        let link = parts.transport.dial(&dial.address, options).await?;
        let entropy = (parts.entropy)().map_err(DialError::Handshake)?;
        let config = dial.handshake.unwrap_or(parts.handshake);
        let machine = match dial.mode {
            DialMode::Full => Initiator::full(parts.identity, config, dial.peer, dial.link, entropy),
            DialMode::Attach(ticket) => Initiator::attach(parts.identity, config, ticket, dial.link, entropy),
        };
        initiate(link, machine.map_err(DialError::Handshake)?).await.map_err(DialError::from)
    };
    tokio::time::timeout(limit, attempt).await.unwrap_or(Err(DialError::TimedOut(limit)))
}
