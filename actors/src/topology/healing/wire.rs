//! Requests between nodes that have no link yet: `format u8 ‖ postcard(routed)`.
//!
//! A request goes along a way that its sender took from its graph, from neighbour to neighbour, and its answer comes back on the same way. Who
//! passes it on looks at nothing but the way; the ends check the signature.

use bowline_messages::PeerId;
use bowline_messages::config::HealingConfig;
use bowline_messages::topology::{HealingPurpose, LinkRefusal};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::topology::link_state::SIGNATURE_BYTES;
use crate::topology::link_state::wire::{Name, WireError};

/// The first byte of every datagram: healing (`0x20`) of the first version.
pub const FORMAT: u8 = 0x21;
/// Addresses of a node that travel at most.
pub const ADDRESSES_MAX: usize = 8;
/// Bytes of one address at most.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// Something on its way from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed {
    /// The nodes on the way, both ends included.
    pub path: Vec<Name>,
    /// The place in it of the node that receives it now.
    pub at: u8,
    /// What the first of them signed.
    pub body: Bytes,
    /// The signature, in halves.
    pub signature: ([u8; 32], [u8; 32]),
}

/// What one node says to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Who says it.
    pub from: Name,
    /// To whom.
    pub to: Name,
    /// Grows with everything that the node says: its incarnation, then a number.
    pub stamp: (u64, u64),
    /// What.
    pub say: Say,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Say {
    /// Asks for a link.
    Ask {
        /// See [`purpose`].
        purpose: u8,
        /// Where the asker can be reached.
        addresses: Vec<String>,
    },
    /// Agrees to what was asked with this stamp.
    Grant {
        /// Of the request.
        stamp: (u64, u64),
        /// Where the granter can be reached.
        addresses: Vec<String>,
    },
    /// Does not agree.
    Refuse {
        /// Of the request.
        stamp: (u64, u64),
        /// See [`refusal`].
        reason: u8,
    },
    /// The link is of no use any more: both ends let it go.
    Undo,
}

/// Why a datagram of this concern was not taken. It changed nothing but a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refused {
    /// It came from a peer that is no neighbour.
    #[error("not from a neighbour")]
    Stranger,
    /// It is not in the format.
    #[error("malformed")]
    Malformed,
    /// It, its way or its addresses are too large.
    #[error("too large")]
    Oversized,
    /// Its way contradicts itself or who sent it, or ends elsewhere than its content.
    #[error("contradicts itself")]
    Contradictory,
    /// The next node of its way is no neighbour (any more).
    #[error("the way is broken")]
    Broken,
    /// More than is passed on for others.
    #[error("more than is passed on")]
    Flooded,
    /// It comes from a node that is not in the graph.
    #[error("from an unknown node")]
    Unknown,
    /// The signature does not fit.
    #[error("forged")]
    Forged,
    /// It was heard already, or something newer was.
    #[error("heard before")]
    Replayed,
    /// It answers nothing that was asked.
    #[error("not asked for")]
    Unasked,
}

impl Refused {
    /// Every kind.
    pub const KINDS: [Self; 10] = [
        Self::Stranger,
        Self::Malformed,
        Self::Oversized,
        Self::Contradictory,
        Self::Broken,
        Self::Flooded,
        Self::Unknown,
        Self::Forged,
        Self::Replayed,
        Self::Unasked,
    ];
}

/// Writes a datagram.
pub fn encode(routed: &Routed) -> Bytes {
    postcard::to_extend(routed, vec![FORMAT]).unwrap_or_default().into()
}

/// Reads a datagram.
///
/// # Errors
/// [`WireError`].
pub fn decode(payload: &[u8]) -> Result<Routed, WireError> {
    match payload.split_first() {
        Some((&FORMAT, body)) => whole(body),
        other => Err(WireError::Format(other.map(|(format, _)| *format))),
    }
}

/// Writes what is signed.
pub fn encode_body(body: &Body) -> Bytes {
    postcard::to_extend(body, Vec::new()).unwrap_or_default().into()
}

/// Reads what was signed.
///
/// # Errors
/// [`WireError`].
pub fn decode_body(bytes: &[u8]) -> Result<Body, WireError> {
    whole(bytes)
}

fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(WireError::Body)?;
    if rest.is_empty() { Ok(value) } else { Err(WireError::Trailing(rest.len())) }
}

impl Routed {
    /// Whether the way makes sense for the node that received it from a neighbour; the node before and the one after, if there is one.
    ///
    /// # Errors
    /// [`Refused::Contradictory`], [`Refused::Oversized`].
    pub fn check(&self, own: &PeerId, from: &PeerId, config: &HealingConfig) -> Result<Option<PeerId>, Refused> {
        if self.path.len() > config.path_max {
            return Err(Refused::Oversized);
        }
        let at = usize::from(self.at);
        let before = at.checked_sub(1).and_then(|before| self.path.get(before));
        let mut names = self.path.clone();
        names.sort_unstable();
        let each_once = names.windows(2).all(|two| two[0] != two[1]);
        let fits = self.path.get(at) == Some(own.as_bytes()) && before == Some(from.as_bytes());
        if !fits || !each_once {
            return Err(Refused::Contradictory);
        }
        Ok(self.path.get(at + 1).map(|next| PeerId::from_bytes(*next)))
    }

    /// The signature as one.
    pub fn signature(&self) -> [u8; SIGNATURE_BYTES] {
        let mut whole = [0; SIGNATURE_BYTES];
        whole[..32].copy_from_slice(&self.signature.0);
        whole[32..].copy_from_slice(&self.signature.1);
        whole
    }

    /// Something at the beginning of its way, for the second node of it.
    pub fn new(path: Vec<Name>, body: Bytes, signature: &[u8; SIGNATURE_BYTES]) -> Self {
        let mut halves = ([0; 32], [0; 32]);
        halves.0.copy_from_slice(&signature[..32]);
        halves.1.copy_from_slice(&signature[32..]);
        Self { path, at: 1, body, signature: halves }
    }
}

/// A purpose as a number.
pub const fn purpose_code(purpose: HealingPurpose) -> u8 {
    match purpose {
        HealingPurpose::Redundancy => 0,
        HealingPurpose::Shortcut => 1,
        HealingPurpose::Relief => 2,
        HealingPurpose::Local => 3,
    }
}

/// A number as a purpose; none of a later version.
pub const fn purpose(code: u8) -> Option<HealingPurpose> {
    match code {
        0 => Some(HealingPurpose::Redundancy),
        1 => Some(HealingPurpose::Shortcut),
        2 => Some(HealingPurpose::Relief),
        3 => Some(HealingPurpose::Local),
        _ => None,
    }
}

/// A refusal as a number.
pub const fn refusal_code(refusal: LinkRefusal) -> u8 {
    match refusal {
        LinkRefusal::Disabled => 0,
        LinkRefusal::Degree => 1,
        LinkRefusal::Links => 2,
        LinkRefusal::Power => 3,
        LinkRefusal::Linked => 4,
        LinkRefusal::Busy => 5,
        LinkRefusal::Useless => 6,
        LinkRefusal::NotNeeded => 7,
    }
}

/// A number as a refusal; one of a later version counts as busy.
pub const fn refusal(code: u8) -> LinkRefusal {
    match code {
        0 => LinkRefusal::Disabled,
        1 => LinkRefusal::Degree,
        2 => LinkRefusal::Links,
        3 => LinkRefusal::Power,
        4 => LinkRefusal::Linked,
        6 => LinkRefusal::Useless,
        7 => LinkRefusal::NotNeeded,
        _ => LinkRefusal::Busy,
    }
}
