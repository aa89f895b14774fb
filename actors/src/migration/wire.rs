//! What two nodes say to each other about a migration, on a stream of their session: `length u32 ‖ type u8 ‖ body`, big-endian.

use bowline_messages::migration::{MigrationId, RollbackReason};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The label of the streams of migrations, which are not given to the application.
pub const LABEL: &[u8] = b"bowline/migration/1";
/// Bytes of a state's name at most.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of a text that says why at most; what is longer is cut off.
const TEXT_BYTES_MAX: usize = 512;
/// Bytes of a frame beside its content: more than any head takes.
const HEAD_BYTES_MAX: usize = 1024;

/// What a state is, before it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The migration, numbered by the side that gives the state away.
    pub id: MigrationId,
    /// What the application calls the state.
    pub name: String,
    /// Bytes of the state.
    pub bytes: u64,
    /// Bytes of it in each piece but the last.
    pub piece_bytes: u32,
    /// The BLAKE3 digest of the state.
    pub digest: [u8; 32],
    /// Whether the order to take it over was given before: then a receiver that knows nothing of it has forgotten the outcome.
    pub committed: bool,
}

impl Offer {
    /// How many pieces the state has.
    pub fn pieces(&self) -> u64 {
        self.bytes.div_ceil(u64::from(self.piece_bytes.max(1)))
    }

    /// Whether another offer is of the same state.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.id, &self.name, self.bytes, self.piece_bytes, self.digest)
            == (other.id, &other.name, other.bytes, other.piece_bytes, other.digest)
    }
}

/// One message of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To the receiver: do you take this? Again on every new stream.
    Offer(Offer),
    /// To the receiver: one piece.
    Piece {
        /// Its number.
        index: u64,
        /// Bytes of state in it.
        raw_bytes: u32,
        /// Whether it is compressed.
        compressed: bool,
        /// Its content.
        data: Bytes,
    },
    /// To the receiver: take it over. From now on only the receiver knows the outcome.
    Commit,
    /// To the receiver: forget it.
    Abort(String),
    /// To the sender: send from this piece on.
    Accept {
        /// The first piece that is missing.
        from: u64,
    },
    /// To the sender: so many pieces are here. Opens the window for more.
    Got {
        /// How many.
        pieces: u64,
    },
    /// To the sender: it is complete, intact and acceptable.
    Verified,
    /// To the sender: the application has it.
    Applied,
    /// To the sender: nothing of it is here.
    Failed(RollbackReason),
    /// To the sender: whatever became of it is forgotten here.
    Forgotten,
}

/// Why bytes are no frame. The peer's fault; the migration is rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// It says that it is longer than any may be.
    #[error("a frame of {0} bytes")]
    TooLong(u32),
    /// Its type is not known.
    #[error("a frame of type {0}")]
    Type(u8),
    /// It ends before its content does, or has a text that is none.
    #[error("a malformed frame")]
    Malformed,
}

/// Bytes of a frame at most, for pieces of this size: a piece that compression would make larger is sent as it is.
pub fn frame_bytes_max(piece_bytes: u32) -> usize {
    HEAD_BYTES_MAX + piece_bytes as usize
}

impl Frame {
    /// The frame with its length in front.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u32(0);
        match self {
            Self::Offer(offer) => {
                out.put_u8(1);
                out.put_u64(offer.id.0);
                out.put_u64(offer.bytes);
                out.put_u32(offer.piece_bytes);
                out.put_slice(&offer.digest);
                out.put_u8(offer.committed.into());
                out.put_slice(cut(&offer.name, NAME_BYTES_MAX));
            }
            Self::Piece { index, raw_bytes, compressed, data } => {
                out.reserve(data.len() + 16);
                out.put_u8(2);
                out.put_u64(*index);
                out.put_u32(*raw_bytes);
                out.put_u8((*compressed).into());
                out.put_slice(data);
            }
            Self::Commit => out.put_u8(3),
            Self::Abort(why) => {
                out.put_u8(4);
                out.put_slice(cut(why, TEXT_BYTES_MAX));
            }
            Self::Accept { from } => {
                out.put_u8(5);
                out.put_u64(*from);
            }
            Self::Verified => out.put_u8(6),
            Self::Applied => out.put_u8(7),
            Self::Failed(reason) => put_reason(&mut out, reason),
            Self::Forgotten => out.put_u8(9),
            Self::Got { pieces } => {
                out.put_u8(10);
                out.put_u64(*pieces);
            }
        }
        let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
        out[..4].copy_from_slice(&length.to_be_bytes());
        out.freeze()
    }

    /// Reads a frame without its length.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(mut body: Bytes) -> Result<Self, FrameError> {
        let malformed = |_| FrameError::Malformed;
        match body.try_get_u8().map_err(malformed)? {
            1 => {
                let id = MigrationId(body.try_get_u64().map_err(malformed)?);
                let bytes = body.try_get_u64().map_err(malformed)?;
                let piece_bytes = body.try_get_u32().map_err(malformed)?;
                let mut digest = [0; 32];
                body.try_copy_to_slice(&mut digest).map_err(malformed)?;
                let committed = body.try_get_u8().map_err(malformed)? != 0;
                if body.len() > NAME_BYTES_MAX {
                    return Err(FrameError::Malformed);
                }
                Ok(Self::Offer(Offer { id, bytes, piece_bytes, digest, committed, name: text(&body)? }))
            }
            2 => {
                let index = body.try_get_u64().map_err(malformed)?;
                let raw_bytes = body.try_get_u32().map_err(malformed)?;
                let compressed = body.try_get_u8().map_err(malformed)? != 0;
                Ok(Self::Piece { index, raw_bytes, compressed, data: body })
            }
            3 => Ok(Self::Commit),
            4 => Ok(Self::Abort(text(&body)?)),
            5 => Ok(Self::Accept { from: body.try_get_u64().map_err(malformed)? }),
            6 => Ok(Self::Verified),
            7 => Ok(Self::Applied),
            8 => take_reason(body).map(Self::Failed),
            9 => Ok(Self::Forgotten),
            10 => Ok(Self::Got { pieces: body.try_get_u64().map_err(malformed)? }),
            other => Err(FrameError::Type(other)),
        }
    }
}

/// Collects bytes of a stream and gives whole frames. Holds one frame at most, and never more than arrived.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: BytesMut,
    limit: usize,
}

impl FrameBuffer {
    /// A buffer for frames of at most so many bytes.
    pub fn new(limit: usize) -> Self {
        Self { bytes: BytesMut::new(), limit }
    }

    /// Adds what arrived. Take all frames out before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, if it is complete.
    ///
    /// # Errors
    /// [`FrameError`]; nothing more can be read then.
    pub fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(length) = self.bytes.first_chunk::<4>().map(|length| u32::from_be_bytes(*length)) else {
            return Ok(None);
        };
        if length as usize > self.limit {
            return Err(FrameError::TooLong(length));
        }
        let whole = 4 + length as usize;
        if self.bytes.len() < whole {
            return Ok(None);
        }
        let mut frame = self.bytes.split_to(whole).freeze();
        frame.advance(4);
        Frame::decode(frame).map(Some)
    }
}

/// The beginning of a text, at most so many bytes of whole characters.
fn cut(text: &str, most: usize) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(most)]
}

fn text(bytes: &[u8]) -> Result<String, FrameError> {
    let text = std::str::from_utf8(bytes).map_err(|_| FrameError::Malformed)?;
    Ok(text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned())
}

/// Reasons that come from the receiver, each with a code; the numbers of `TooLarge` travel, everything else in words.
fn put_reason(out: &mut BytesMut, reason: &RollbackReason) {
    out.put_u8(8);
    let (code, words) = match reason {
        RollbackReason::TooLarge { bytes, limit } => {
            out.put_u8(1);
            out.put_u64(*bytes);
            out.put_u64(*limit);
            return;
        }
        RollbackReason::Busy => (2, String::new()),
        RollbackReason::Refused(why) => (3, why.clone()),
        RollbackReason::Checksum => (4, String::new()),
        RollbackReason::VerificationFailed(why) => (5, why.clone()),
        RollbackReason::ApplyFailed(why) => (6, why.clone()),
        RollbackReason::Protocol(why) => (7, why.clone()),
        // What happened to the receiver is, to the sender, that it was called off there.
        RollbackReason::CaptureFailed(_)
        | RollbackReason::TimedOut(_)
        | RollbackReason::Aborted(_)
        | RollbackReason::Interrupted
        | RollbackReason::OutcomeUnknown => (8, reason.to_string()),
        #[allow(clippy::wildcard_enum_match_arm, reason = "reasons that come later travel in words")]
        _ => (8, reason.to_string()),
    };
    out.put_u8(code);
    out.put_slice(cut(&words, TEXT_BYTES_MAX));
}

fn take_reason(mut body: Bytes) -> Result<RollbackReason, FrameError> {
    let malformed = |_| FrameError::Malformed;
    Ok(match body.try_get_u8().map_err(malformed)? {
        1 => RollbackReason::TooLarge {
            bytes: body.try_get_u64().map_err(malformed)?,
            limit: body.try_get_u64().map_err(malformed)?,
        },
        2 => RollbackReason::Busy,
        3 => RollbackReason::Refused(text(&body)?),
        4 => RollbackReason::Checksum,
        5 => RollbackReason::VerificationFailed(text(&body)?),
        6 => RollbackReason::ApplyFailed(text(&body)?),
        7 => RollbackReason::Protocol(text(&body)?),
        _ => RollbackReason::Aborted(text(&body)?),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn frames() -> Vec<Frame> {
        let offer = Offer {
            id: MigrationId(7),
            name: "table".into(),
            bytes: 100_000,
            piece_bytes: 65_536,
            digest: [3; 32],
            committed: true,
        };
        let piece = Frame::Piece { index: 1, raw_bytes: 34_464, compressed: true, data: Bytes::from_static(b"data") };
        vec![
            Frame::Offer(offer),
            piece,
            Frame::Commit,
            Frame::Abort("no".into()),
            Frame::Accept { from: 9 },
            Frame::Verified,
            Frame::Applied,
            Frame::Failed(RollbackReason::TooLarge { bytes: 5, limit: 4 }),
            Frame::Failed(RollbackReason::ApplyFailed("full".into())),
            Frame::Forgotten,
            Frame::Got { pieces: 3 },
        ]
    }

    #[test]
    fn frames_come_back_however_they_are_cut() {
        let bytes: Vec<u8> = frames().iter().flat_map(|frame| frame.encode().to_vec()).collect();
        for step in [1, 3, 1000] {
            let (mut buffer, mut found) = (FrameBuffer::new(frame_bytes_max(1024)), Vec::new());
            for part in bytes.chunks(step) {
                buffer.push(part);
                while let Some(frame) = buffer.take().unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames());
        }
    }

    #[test]
    fn a_claimed_length_is_refused_before_it_is_waited_for() {
        let mut buffer = FrameBuffer::new(2048);
        buffer.push(&u32::MAX.to_be_bytes());
        assert_eq!(buffer.take(), Err(FrameError::TooLong(u32::MAX)));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_nothing_worse(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut buffer = FrameBuffer::new(4096);
            buffer.push(&bytes);
            while let Ok(Some(frame)) = buffer.take() {
                let again = frame.encode();
                prop_assert_eq!(Frame::decode(again.slice(4..)), Ok(frame));
            }
        }
    }
}
