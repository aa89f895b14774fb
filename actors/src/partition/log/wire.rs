//! What the participants' logs say to each other: `version u8 ‖ postcard`, in packets of at most [`PACKET_BYTES_MAX`].
//!
//! Decoding is total and bounded; what it gives is well-formed, nothing more. Whether it can be true is for `guard` to judge.

use std::collections::BTreeSet;

use bowline_messages::PeerId;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::super::state::transfer::{Digest, Piece, Want};

/// The version of this format.
const VERSION: u8 = 1;
/// Bytes of a packet at most: what the carrier takes.
pub const PACKET_BYTES_MAX: usize = 16 << 10;
/// Bytes of a packet that are not entries: more than any head takes.
pub const HEAD_BYTES_MAX: usize = 256;
/// Terms and indexes are below this, so that adding to them never overflows. At a million entries a second it lasts 146,000 years.
pub const NUMBER_MAX: u64 = 1 << 62;

/// A place in the log: the term in which an entry was made, and its number. Ordered as logs are compared: by term, then by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The term.
    pub term: u64,
    /// The number of the entry, from 1; 0 is before the first.
    pub index: u64,
}

/// Who takes part: whose votes count, and who only follows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Rows", into = "Rows")]
pub struct Membership {
    /// Whose majority decides.
    pub voters: BTreeSet<PeerId>,
    /// While voters change: those to come. Until the change is through, a majority of both is needed. Else empty.
    pub next_voters: BTreeSet<PeerId>,
    /// Who gets the log and has no vote.
    pub learners: BTreeSet<PeerId>,
}

/// A membership as it travels: keys as bytes.
#[derive(Serialize, Deserialize)]
struct Rows(Vec<[u8; 32]>, Vec<[u8; 32]>, Vec<[u8; 32]>);

impl From<Rows> for Membership {
    fn from(rows: Rows) -> Self {
        let set = |keys: Vec<[u8; 32]>| keys.into_iter().map(PeerId::from_bytes).collect();
        Self { voters: set(rows.0), next_voters: set(rows.1), learners: set(rows.2) }
    }
}

impl From<Membership> for Rows {
    fn from(membership: Membership) -> Self {
        let list = |peers: &BTreeSet<PeerId>| peers.iter().map(|peer| *peer.as_bytes()).collect();
        Self(list(&membership.voters), list(&membership.next_voters), list(&membership.learners))
    }
}

impl Membership {
    /// These voters and nobody else.
    pub fn of(voters: impl IntoIterator<Item = PeerId>) -> Self {
        Self { voters: voters.into_iter().collect(), ..Self::default() }
    }

    /// Everybody in it, each once.
    pub fn everybody(&self) -> BTreeSet<PeerId> {
        self.voters.iter().chain(&self.next_voters).chain(&self.learners).copied().collect()
    }

    /// Whether these make a majority of the voters, and of those to come too.
    pub fn is_majority(&self, of: impl Fn(&PeerId) -> bool) -> bool {
        let majority = |voters: &BTreeSet<PeerId>| {
            voters.is_empty() || voters.iter().filter(|peer| of(peer)).count() > voters.len() / 2
        };
        !self.voters.is_empty() && majority(&self.voters) && majority(&self.next_voters)
    }

    /// Whether a peer has a vote, now or after the change.
    pub fn votes(&self, peer: &PeerId) -> bool {
        self.voters.contains(peer) || self.next_voters.contains(peer)
    }

    /// Whether it is one that a log can work with: somebody votes, nobody is both voter and learner, and not too many.
    pub fn is_sound(&self, participants_max: usize) -> bool {
        !self.voters.is_empty()
            && self.learners.is_disjoint(&self.voters)
            && self.learners.is_disjoint(&self.next_voters)
            && self.everybody().len() <= participants_max
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A leader began this term here.
    Term(u64),
    /// From here on these take part.
    Membership(Membership),
    /// What the application proposed.
    Command(Bytes),
}

impl Entry {
    /// Bytes it takes in a packet at most.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Term(_) => 11,
            Self::Membership(of) => 11 + 32 * (of.voters.len() + of.next_voters.len() + of.learners.len()),
            Self::Command(bytes) => 6 + bytes.len(),
        }
    }
}

/// A snapshot, described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What it includes, up to here.
    pub position: Position,
    /// Who took part there.
    pub membership: Membership,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub digest: Digest,
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packet {
    /// To all voters: would you vote for me in this term, with my log ending here? Nothing follows from the question itself.
    Ask {
        /// The term in which the sender would stand.
        term: u64,
        /// Where its log ends.
        last: Position,
    },
    /// To one who asked.
    Answer {
        /// The term asked about.
        term: u64,
        /// Whether the sender would.
        granted: bool,
        /// The term the sender is in.
        current: u64,
    },
    /// To all voters: vote for me.
    Stand {
        /// The term in which the sender stands.
        term: u64,
        /// Where its log ends.
        last: Position,
    },
    /// To one who stands.
    Vote {
        /// The term the sender is in.
        term: u64,
        /// Whether it votes for the one who asked.
        granted: bool,
    },
    /// From the leader: entries, or none to be heard.
    Append {
        /// The leader's term.
        term: u64,
        /// How far entries are committed.
        commit: u64,
        /// The entry before the first one.
        prev: Position,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// To the leader: how far the log goes here.
    Appended {
        /// The term the sender is in.
        term: u64,
        /// Where its log ends.
        last: Position,
    },
    /// From the leader: what you lack is gone from my log; fetch this.
    Offer {
        /// The leader's term.
        term: u64,
        /// The snapshot.
        offer: Offer,
    },
    /// To the leader: pieces of a snapshot are wanted.
    Want(Want),
    /// A piece of a snapshot.
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

/// `version ‖ content`. Content that cannot be written does not exist among ours; it would give a packet that nobody takes.
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
