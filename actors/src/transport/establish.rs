//! The handshake over a connection: feeds the machines of `session::handshake` with packets until the link has keys.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use bowline_messages::wire::Refusal;
use bowline_messages::wire::packet::{PacketError, next_packet};
use bytes::{Bytes, BytesMut};

use super::{LaneBuffers, Link, READ_BYTES, TransportError};
use crate::clock;
use crate::session::handshake::{
    Admission, Established, HANDSHAKE_PACKET_BYTES_MAX, HandshakeError, Initiator, InitiatorStep, Responder,
    ResponderStep,
};

/// Bytes that are kept of a peer whose handshake is not over: one read more than a packet and the records that may be right
/// behind it.
const UNPROVEN_BYTES_MAX: usize = 2 * READ_BYTES;
/// The handshake's lane.
const LANE: u8 = 0;

/// Why a connection did not become a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EstablishError {
    /// The connection failed. The network's fault, or the peer's.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The handshake failed. The peer's fault, or somebody's between.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// This side refused.
    #[error("refused: {0}")]
    Refused(Refusal),
}

impl From<PacketError> for EstablishError {
    fn from(error: PacketError) -> Self {
        Self::Handshake(HandshakeError::Packet(error))
    }
}

/// A connection with keys.
pub(super) struct Handshaken {
    pub(super) link: Box<dyn Link>,
    /// What was read behind the handshake.
    pub(super) buffers: LaneBuffers,
    pub(super) established: Box<Established>,
    /// How long the other side took to answer.
    pub(super) rtt: Option<Duration>,
}

/// A connection on which a handshake goes on.
struct Unproven {
    link: Box<dyn Link>,
    buffers: LaneBuffers,
    /// When the last packet was written.
    asked: Option<Instant>,
    /// How long the answer to it took.
    rtt: Option<Duration>,
}

impl Unproven {
    fn new(link: Box<dyn Link>) -> Self {
        Self { link, buffers: LaneBuffers::default(), asked: None, rtt: None }
    }

    fn finish(self, established: Box<Established>) -> Handshaken {
        Handshaken { link: self.link, buffers: self.buffers, established, rtt: self.rtt }
    }

    async fn write(&mut self, mut packet: Bytes) -> Result<(), TransportError> {
        while !packet.is_empty() {
            poll_fn(|cx| self.link.poll_write(cx, LANE, &mut packet)).await?;
        }
        poll_fn(|cx| self.link.poll_flush(cx)).await?;
        self.asked = Some(clock::now());
        Ok(())
    }

    async fn packet(&mut self) -> Result<BytesMut, EstablishError> {
        loop {
            if let Some(packet) = next_packet(self.buffers.lane(LANE))? {
                self.rtt = self.asked.take().map(|at| clock::now().saturating_duration_since(at));
                return Ok(packet);
            }
            // A packet that the machine would refuse for its length need not be waited for.
            if self.buffers.lane(LANE).len() > HANDSHAKE_PACKET_BYTES_MAX || self.buffers.len() > UNPROVEN_BYTES_MAX {
                return Err(PacketError::TooLong { length: self.buffers.len() }.into());
            }
            poll_fn(|cx| self.link.poll_read(cx, &mut self.buffers)).await?;
        }
    }
}

/// Does the handshake as the side that dialled. Gives what was read behind it, too.
///
/// # Errors
/// [`EstablishError`].
pub(super) async fn initiate(
    link: Box<dyn Link>,
    (mut machine, first): (Initiator, Bytes),
) -> Result<Handshaken, EstablishError> {
    let mut unproven = Unproven::new(link);
    unproven.write(first).await?;
    loop {
        let packet = unproven.packet().await?;
        match machine.on_packet(clock::now(), &packet)? {
            InitiatorStep::Send(packet) => unproven.write(packet).await?,
            InitiatorStep::Done { send, established } => {
                if let Some(packet) = send {
                    unproven.write(packet).await?;
                }
                return Ok(unproven.finish(established));
            }
        }
    }
}

/// Does the handshake as the side that was dialled.
///
/// # Errors
/// [`EstablishError`].
pub(super) async fn respond(
    link: Box<dyn Link>,
    mut machine: Responder,
    mut admission: impl Admission,
) -> Result<Handshaken, EstablishError> {
    let mut unproven = Unproven::new(link);
    loop {
        let packet = unproven.packet().await?;
        match machine.on_packet(clock::now(), &packet, &mut admission)? {
            ResponderStep::Send(packet) => unproven.write(packet).await?,
            ResponderStep::Refuse { send, refusal, over } => {
                unproven.write(send).await?;
                if over {
                    poll_fn(|cx| unproven.link.poll_close(cx)).await?;
                    return Err(EstablishError::Refused(refusal));
                }
            }
            ResponderStep::Done { send, established } => {
                if let Some(packet) = send {
                    unproven.write(packet).await?;
                }
                return Ok(unproven.finish(established));
            }
        }
    }
}
