//! Bytes in pieces over a carrier that loses and reorders: the side that wants them asks, the side that has them only answers.
//!
//! Who answers keeps nothing per transfer. Who asks decides what is missing and when to ask again; it holds what has arrived and no more, and gives
//! the bytes out only when they are whole and have the BLAKE3 digest that was promised.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::migration::piece;

/// A BLAKE3 digest.
pub type Digest = [u8; 32];

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    *blake3::hash(bytes).as_bytes()
}

/// Retries without anything that arrives, after which a transfer is stuck: with a third of all packets lost, once in 10,000 times by chance.
const STUCK_RETRIES: u32 = 6;

/// To the side that has the bytes: send these pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The digest of all the bytes.
    pub digest: Digest,
    /// Bytes in each piece but the last.
    pub piece_bytes: u32,
    /// The numbers of the pieces.
    pub pieces: Vec<u32>,
}

/// To the side that asked: one piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The digest of all the bytes.
    pub digest: Digest,
    /// Its number, from 0.
    pub index: u32,
    /// Whether `data` is compressed.
    pub compressed: bool,
    /// Its content.
    pub data: Bytes,
}

/// How transfers go, whoever wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole at most.
    pub bytes_max: u64,
    /// Bytes in each piece but the last.
    pub piece_bytes: u32,
    /// Pieces asked for at once.
    pub window: u32,
    /// How long until a piece is asked for again.
    pub retry: Duration,
    /// How long the whole may take.
    pub timeout: Duration,
}

/// Why nothing came of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// More bytes than are taken. The other side's fault or a matter of configuration; nothing was asked for.
    #[error("{bytes} bytes, where {limit} are taken")]
    TooLarge {
        /// Bytes promised.
        bytes: u64,
        /// Bytes taken.
        limit: u64,
    },
    /// What came is not what was promised. The other side's fault, or of what lies between; nothing of it is kept.
    #[error("what arrived is not what was promised")]
    Damaged,
    /// It took too long. The network's fault; nothing of it is kept.
    #[error("the transfer took too long")]
    TimedOut,
}

/// Answers a question for pieces of `bytes`: at most a window of them, and none that does not exist.
pub fn answer(bytes: &Bytes, of: Digest, want: &Want, limits: &Limits) -> Vec<Piece> {
    if want.piece_bytes == 0 || want.piece_bytes > limits.piece_bytes {
        return Vec::new();
    }
    let wanted = want.pieces.iter().take(limits.window as usize);
    wanted
        .filter_map(|index| {
            let from = usize::try_from(u64::from(*index) * u64::from(want.piece_bytes)).ok()?;
            let to = from.saturating_add(want.piece_bytes as usize).min(bytes.len());
            if from >= to {
                return None;
            }
            let (compressed, data) = piece::pack(&bytes.slice(from..to));
            Some(Piece { digest: of, index: *index, compressed, data })
        })
        .collect()
}

/// One transfer, on the side that wants it.
#[derive(Debug, Clone)]
pub struct Fetch {
    source: PeerId,
    digest: Digest,
    bytes: u64,
    limits: Limits,
    arrived: BTreeMap<u32, Bytes>,
    /// Pieces asked for, and when to ask again.
    asked: BTreeMap<u32, Instant>,
    deadline: Instant,
    progress_at: Instant,
}

impl Fetch {
    /// A transfer of so many bytes from `source`.
    ///
    /// # Errors
    /// [`TransferError::TooLarge`].
    pub fn new(now: Instant, source: PeerId, of: Digest, bytes: u64, limits: Limits) -> Result<Self, TransferError> {
        if bytes > limits.bytes_max {
            return Err(TransferError::TooLarge { bytes, limit: limits.bytes_max });
        }
        let (arrived, asked) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { source, digest: of, bytes, limits, arrived, asked, deadline: now + limits.timeout, progress_at: now })
    }

    /// Where it comes from.
    pub fn source(&self) -> PeerId {
        self.source
    }

    /// What is fetched.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether nothing has arrived for so many retries that it is better begun anew, or somewhere else.
    pub fn is_stuck(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.progress_at) > self.limits.retry * STUCK_RETRIES
    }

    fn pieces(&self) -> u32 {
        u32::try_from(self.bytes.div_ceil(u64::from(self.limits.piece_bytes.max(1)))).unwrap_or(u32::MAX)
    }

    /// What to ask for now, if anything.
    pub fn ask(&mut self, now: Instant) -> Option<Want> {
        self.asked.retain(|_, again| *again > now);
        let room = (self.limits.window as usize).saturating_sub(self.asked.len());
        let missing =
            (0..self.pieces()).filter(|index| !self.arrived.contains_key(index) && !self.asked.contains_key(index));
        let pieces: Vec<u32> = missing.take(room).collect();
        for index in &pieces {
            self.asked.insert(*index, now + self.limits.retry);
        }
        (!pieces.is_empty()).then_some(Want { digest: self.digest, piece_bytes: self.limits.piece_bytes, pieces })
    }

    /// A piece arrived. Gives all the bytes once they are there.
    ///
    /// # Errors
    /// [`TransferError::Damaged`]: the transfer is over. What was not asked for is passed over.
    pub fn on_piece(&mut self, now: Instant, from: PeerId, piece: &Piece) -> Result<Option<Bytes>, TransferError> {
        let due = from == self.source && piece.digest == self.digest && piece.index < self.pieces();
        if !due || self.arrived.contains_key(&piece.index) {
            return Ok(None);
        }
        let before = u64::from(piece.index) * u64::from(self.limits.piece_bytes);
        let raw = self.bytes.saturating_sub(before).min(u64::from(self.limits.piece_bytes));
        let mut data = Vec::new();
        let raw = usize::try_from(raw).map_err(|_| TransferError::Damaged)?;
        piece::unpack(piece.compressed, raw, &piece.data, &mut data).map_err(|_| TransferError::Damaged)?;
        self.asked.remove(&piece.index);
        self.arrived.insert(piece.index, data.into());
        self.progress_at = now;
        self.whole()
    }

    /// All the bytes, if they are there; right away for a state of none.
    ///
    /// # Errors
    /// [`TransferError::Damaged`].
    pub fn whole(&mut self) -> Result<Option<Bytes>, TransferError> {
        if self.arrived.len() < self.pieces() as usize {
            return Ok(None);
        }
        let mut all = Vec::new();
        for piece in std::mem::take(&mut self.arrived).into_values() {
            all.extend_from_slice(&piece);
        }
        if digest(&all) == self.digest { Ok(Some(all.into())) } else { Err(TransferError::Damaged) }
    }

    /// Whether it took too long.
    pub fn is_late(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// When [`Fetch::ask`] has something to say, or it is late.
    pub fn deadline(&self) -> Instant {
        self.asked.values().copied().min().map_or(self.deadline, |at| at.min(self.deadline))
    }
}
