//! A link with keys, on its way from the transport that made it to the session that it joins.

use std::time::Duration;

use actix::Message;
use bowline_messages::link::Binding;
use bowline_messages::{EndpointAddress, LinkId, PeerId};

use crate::handover::Handover;
use crate::session::handshake::{Established, ResumeTicket};
use crate::transport::{LaneBuffers, Link};

/// A link with keys.
#[derive(Debug)]
pub struct EstablishedLink {
    /// The connection.
    pub link: Box<dyn Link>,
    /// What was read behind the last packet of the handshake.
    pub buffers: LaneBuffers,
    /// Who is at the other end, and the keys.
    pub established: Established,
    /// How long the handshake took to be answered: the first guess of the link's round-trip time.
    pub rtt: Duration,
}

/// Dials a peer and does the handshake. From the session actor to the transport actor of the address's kind.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Handover<EstablishedLink>, DialError>")]
pub struct Dial {
    /// Who has to be at the other end.
    pub peer: PeerId,
    /// Where.
    pub address: EndpointAddress,
    /// To what the link is bound on this side.
    pub binding: Binding,
    /// How long connection and handshake may take in all.
    pub timeout: Duration,
    /// The number that the link gets.
    pub link: LinkId,
    /// The right to attach without signatures, when there is one.
    pub ticket: Option<ResumeTicket>,
}

/// Why a dial gave no link. Nothing is left of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The transport could not connect: the network, the address, or somebody else at the other end. The text says which.
    #[error("{0}")]
    Transport(String),
    /// The other side refused, or the handshake failed.
    #[error("{0}")]
    Handshake(String),
    /// Not done within the time given.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
    /// Too many failures lately: the circuit breaker of the transport or of the host is open.
    #[error("not tried: too many failures lately")]
    BreakerOpen,
    /// No transport of this kind is there, or its actor is being restarted.
    #[error("no transport for {0}")]
    NoTransport(EndpointAddress),
}

/// A peer connected and proved who it is. From a transport actor to the actor that knows all sessions.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LinkEstablished(pub Handover<EstablishedLink>);
