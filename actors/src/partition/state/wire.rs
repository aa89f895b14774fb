//! What participants say to each other to become one again: `version u8 ‖ postcard`, in packets of at most [`PACKET_BYTES_MAX`].

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::choice::Summary;
use super::transfer::{Piece, Want};

/// The version of this format.
const VERSION: u8 = 1;
/// Bytes of a packet at most: what the carrier takes.
pub const PACKET_BYTES_MAX: usize = 16 << 10;

/// Which resolution it is: the leader's term, which fences off leaders of old, and the leader's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
pub struct Round {
    /// The term of the leader that coordinates it.
    pub term: u64,
    /// Its number in the term, from 1.
    pub number: u32,
}

/// What became of it on one participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It had the chosen state.
    Same,
    /// It took the chosen state over.
    Adopted,
    /// The log has brought it further than the chosen state meanwhile; it was left as it is.
    Ahead,
    /// It could not take the chosen state over, and has its own.
    RolledBack,
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packet {
    /// To the leader: states may have come apart; coordinate a resolution.
    Seek,
    /// From the leader: what do you have?
    Call(Round),
    /// To the leader.
    Say(Round, Summary),
    /// From the leader: this one counts; take it over.
    Decide {
        /// The resolution.
        round: Round,
        /// The key of who has it.
        source: [u8; 32],
        /// What it is.
        chosen: Summary,
    },
    /// To the leader: it is being taken over.
    Busy(Round),
    /// To the leader: what became of it.
    Done(Round, Outcome),
    /// From the leader: it is over.
    Finish(Round),
    /// To the source: pieces of its state are wanted.
    Want(Want),
    /// A piece of a state.
    Piece(Piece),
}

/// Why bytes are no packet. The peer's fault; nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// It is empty, or longer than any may be.
    #[error("a packet of {0} bytes")]
    Length(usize),
    /// A version that is not known.
    #[error("a packet of version {0}")]
    Version(u8),
    /// It ends before its content does, or after.
    #[error("a malformed packet")]
    Malformed,
}

/// `version ‖ content`.
pub fn encode(packet: &Packet) -> Bytes {
    let body = postcard::to_allocvec(packet).unwrap_or_default();
    let mut out = BytesMut::with_capacity(1 + body.len());
    out.put_u8(VERSION);
    out.put_slice(&body);
    out.freeze()
}

/// Reads a packet.
///
/// # Errors
/// [`WireError`].
pub fn decode(bytes: &[u8]) -> Result<Packet, WireError> {
    let (version, body) = match bytes.split_first() {
        Some(split) if bytes.len() <= PACKET_BYTES_MAX => split,
        Some(_) | None => return Err(WireError::Length(bytes.len())),
    };
    if *version != VERSION {
        return Err(WireError::Version(*version));
    }
    match postcard::take_from_bytes(body) {
        Ok((packet, [])) => Ok(packet),
        Ok(_) | Err(_) => Err(WireError::Malformed),
    }
}
