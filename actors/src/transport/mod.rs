//! The contract between Bowline and whatever carries its bytes.
//!
//! A [`Transport`] listens and dials; both give a [`Link`]: one or more ordered lanes of bytes, reliable until the link fails,
//! with back-pressure. Nothing above knows a transport by its name: what differs is a capability asked of it. A transport does
//! not encrypt end to end, re-send across links or reorder; that is the session's work, once, for all of them.
//!
//! To add one: implement the three traits in a module of its own, add a row to `registry.rs`, run the conformance suite.

pub mod actor;
pub mod breaker;
pub mod conformance;
mod establish;
pub mod interfaces;
pub mod memory;
pub mod mesh;
#[cfg(feature = "quic")]
pub mod quic;
mod read_size;
mod refusal;
pub mod registry;
pub mod socket;
pub mod tcp;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "ws")]
pub mod ws;

pub use interfaces::InterfaceTable;

use std::fmt;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_messages::link::{Binding, Interface};
use bowline_messages::wire::Refusal;
use bowline_messages::{EndpointAddress, PeerId, TransportKind};
use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;

/// One ordered sequence of bytes within a link, 0-based. Lane `n % lanes` carries the messages of class number `n`, so a link
/// with one lane carries everything on lane 0, and lane 0 always exists.
pub type Lane = u8;

/// What a transport can do, asked instead of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Independent ordered lanes in each of its links, at least 1.
    pub lanes: Lane,
    /// Whether the transport itself encrypts and authenticates the peer.
    pub encrypted: bool,
    /// Whether a link can be bound to an interface or a local address.
    pub binds: bool,
    /// Whether it can accept connections.
    pub listens: bool,
}

/// How to dial.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// Who is expected at the other end; a transport that authenticates refuses anybody else.
    pub expect: PeerId,
    /// To what the link is bound on this side.
    pub binding: Binding,
    /// How long the whole attempt may take.
    pub timeout: Duration,
}

/// Why a transport could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address is not one that this transport understands. The user's or the peer's mistake.
    #[error("`{address}` is not an address of transport {kind}: {reason}")]
    Address {
        /// The transport.
        kind: TransportKind,
        /// The address.
        address: EndpointAddress,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system or the network said no.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The link could not be bound to what it was asked to: the interface or address is not there, or the process may not. The
    /// configuration's mistake.
    #[error("cannot bind to {binding:?}: {source}")]
    Binding {
        /// What was asked for.
        binding: Binding,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
    /// The other end is somebody else, or cannot prove who it is.
    #[error("the other end could not be authenticated: {0}")]
    Authentication(String),
    /// The transport's own protocol was broken by the other end.
    #[error("the other end broke the {kind} protocol: {reason}")]
    Protocol {
        /// The transport.
        kind: TransportKind,
        /// What was wrong.
        reason: String,
    },
    /// The transport cannot do this at all (bind, listen).
    #[error("transport {kind} cannot {what}")]
    Unsupported {
        /// The transport.
        kind: TransportKind,
        /// What was asked.
        what: &'static str,
    },
    /// The other end turned the connection away before any handshake, and said why.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The other end turned the connection away before any handshake; the transport has no room for the reason.
    #[error("turned away: the other end takes no more connections now, or none from here")]
    TurnedAway,
    /// The listener, the endpoint or the whole transport is closed.
    #[error("closed")]
    Closed,
}

/// A way to carry bytes.
pub trait Transport: 'static {
    /// The scheme of its addresses.
    fn kind(&self) -> TransportKind;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Opens a listener. Port 0 means any free port; [`Listener::addresses`] tells which.
    fn listen(&self, address: &EndpointAddress) -> LocalBoxFuture<'static, Result<Box<dyn Listener>, TransportError>>;

    /// Opens the adapter below anew and calibrates it, where there is one: a repair. Only listeners that are not open are opened again behind it:
    /// one that ends with its old adapter says so in [`Listener::poll_accept`]. Default: there is none.
    fn reopen(&self) {}

    /// Connects to a peer. Dropping the future gives the attempt up.
    fn dial(
        &self,
        address: &EndpointAddress,
        options: DialOptions,
    ) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>>;
}

/// An open listener; dropping it closes it.
pub trait Listener {
    /// Where it can be reached: never port 0; an unspecified IP address where it listens on all of them.
    fn addresses(&self) -> Vec<EndpointAddress>;

    /// Waits for the next connection, before anything expensive was done for it.
    ///
    /// # Errors
    /// [`TransportError`] when the listener is broken and has to be opened again; what goes wrong with a single connection is no
    /// error here.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Incoming>, TransportError>>;
}

/// A connection that has arrived and for which nothing was spent yet.
pub trait Incoming {
    /// Where it comes from, for the limits on unknown sources. `None` when the transport has no such notion.
    fn source(&self) -> Option<IpAddr>;

    /// Does the transport's own handshake.
    fn accept(self: Box<Self>) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>>;

    /// Turns it away as cheaply as the transport can. `packet` is a framed refusal that is what the other end is told, as
    /// well as the transport can say it without a handshake of its own.
    fn refuse(self: Box<Self>, packet: Bytes);
}

/// What a transport knows about one of its links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEnds {
    /// This side's end.
    pub local: EndpointAddress,
    /// The peer's end.
    pub remote: EndpointAddress,
    /// The interface it runs over, when it is known.
    pub interface: Option<Interface>,
    /// Lanes it has, at least 1.
    pub lanes: Lane,
}

/// One established connection. Polled by exactly one task; dropping it closes it abruptly. It is `Send` because it travels in an
/// actor message, from the transport's actor to its own.
pub trait Link: Send {
    /// Its two ends.
    fn ends(&self) -> &LinkEnds;

    /// Takes bytes from the front of `data` (by advancing it) until it is empty or the transport can take no more now.
    /// `Ready(Ok)` means that at least one byte was taken; bytes taken on one lane arrive on the same lane in order.
    ///
    /// # Errors
    /// The link is dead.
    fn poll_write(&mut self, cx: &mut Context<'_>, lane: Lane, data: &mut Bytes) -> Poll<Result<(), TransportError>>;

    /// Pushes out what was taken and is still held in user space. Called after a batch of writes.
    ///
    /// # Errors
    /// The link is dead.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>>;

    /// Appends bytes that have arrived to the buffer of their lane and tells which lane it was. Reads as much as is at hand,
    /// up to about [`READ_BYTES`], and reserves room itself, only once there is something to read: an idle link holds none.
    ///
    /// # Errors
    /// The link is dead; [`TransportError::Closed`] when the peer closed it in an orderly way.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut LaneBuffers) -> Poll<Result<Lane, TransportError>>;

    /// Closes it in an orderly way: what was taken is delivered first where the transport can tell.
    ///
    /// # Errors
    /// The link is dead anyway.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>>;
}

/// How much one call to [`Link::poll_read`] reads at most, in bytes: large enough that system calls do not dominate, small
/// enough that a busy link does not starve others on its arbiter.
pub const READ_BYTES: usize = 256 * 1024;

/// Received bytes that do not make a whole packet yet, one buffer per lane.
#[derive(Debug, Default)]
pub struct LaneBuffers {
    lanes: Vec<BytesMut>,
}

impl LaneBuffers {
    /// The buffer of a lane; it comes into being on first use. Lanes beyond those of the link share the last one.
    pub fn lane(&mut self, lane: Lane) -> &mut BytesMut {
        let at = usize::from(lane);
        if self.lanes.len() <= at {
            self.lanes.resize_with(at + 1, BytesMut::new);
        }
        &mut self.lanes[at]
    }

    /// How many lanes have a buffer.
    pub fn lanes(&self) -> Lane {
        Lane::try_from(self.lanes.len()).unwrap_or(Lane::MAX)
    }

    /// Bytes held in all lanes.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(BytesMut::len).sum()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for dyn Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(self.ends()).finish()
    }
}
