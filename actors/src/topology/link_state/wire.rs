//! Datagrams of this concern: `format u8 ‖ postcard(message)`.
//!
//! An announcement travels as the bytes that its origin signed, so that nobody on the way has to write it anew. Decoding is bounded by the size of
//! the datagram: every element of a list takes at least a byte of it.

use std::time::Duration;

use bowline_messages::PeerId;
use bowline_messages::topology::{LinkFacts, NodeFacts, NodeKind};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::SIGNATURE_BYTES;
use super::announcement::{Announcement, Stamp};

/// The first byte of every datagram: link state (`0x10`) of the first version.
pub const FORMAT: u8 = 0x11;

/// Parts of the range of names that a comparison has at most. A power of two up to 256.
pub const PARTS_MAX: usize = 64;

/// Bytes that are not a datagram of this concern. The sender's fault, or that of a newer version; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Another format, or none.
    #[error("unknown format {0:?}")]
    Format(Option<u8>),
    /// Not what the format has.
    #[error("not decodable: {0}")]
    Body(postcard::Error),
    /// More than the message itself.
    #[error("{0} bytes behind the message")]
    Trailing(usize),
}

/// A name on the wire.
pub type Name = [u8; 32];

/// A datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Announcements that the other side may not have.
    Announcements(Vec<Signed>),
    /// What the sender knows, as a digest of each part of the range of names: asks the receiver to tell where it differs.
    Compare {
        /// Goes into every digest, so that nobody can prepare collisions.
        salt: u64,
        /// One digest for each part; as many parts as a power of two.
        digests: Vec<u64>,
    },
    /// Nothing differs.
    Same {
        /// Of the comparison.
        salt: u64,
    },
    /// What the sender knows within a range of names: the receiver sends what is newer on its side.
    Listing {
        /// Whether the receiver should list its side too, if it lacks something.
        answer: bool,
        /// The first name of the range.
        from: Name,
        /// The last one.
        to: Name,
        /// Origin, incarnation, sequence; ascending.
        entries: Vec<(Name, u64, u64)>,
    },
}

/// An announcement as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// What the origin signed.
    pub body: Bytes,
    /// The signature, in halves.
    pub signature: ([u8; 32], [u8; 32]),
    /// Seconds it still counts at the sender: never more than the origin's lifetime.
    pub remaining_s: u32,
}

impl Signed {
    /// Puts the halves together.
    pub fn signature(&self) -> [u8; SIGNATURE_BYTES] {
        let mut whole = [0; SIGNATURE_BYTES];
        whole[..32].copy_from_slice(&self.signature.0);
        whole[32..].copy_from_slice(&self.signature.1);
        whole
    }

    /// An announcement with its signature.
    pub fn new(body: Bytes, signature: &[u8; SIGNATURE_BYTES], remaining_s: u32) -> Self {
        let mut halves = ([0; 32], [0; 32]);
        halves.0.copy_from_slice(&signature[..32]);
        halves.1.copy_from_slice(&signature[32..]);
        Self { body, signature: halves, remaining_s }
    }

    /// Bytes it takes in a datagram, at most.
    pub fn bytes(&self) -> usize {
        self.body.len() + SIGNATURE_BYTES + 8
    }
}

/// Writes a datagram.
pub fn encode(message: &Message) -> Bytes {
    // Postcard fails on lists of unknown length only, and there is none; a receiver refuses what is empty.
    postcard::to_extend(message, vec![FORMAT]).unwrap_or_default().into()
}

/// Reads a datagram.
///
/// # Errors
/// [`WireError`].
pub fn decode(payload: &[u8]) -> Result<Message, WireError> {
    match payload.split_first() {
        Some((&FORMAT, body)) => whole(body),
        other => Err(WireError::Format(other.map(|(format, _)| *format))),
    }
}

fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(WireError::Body)?;
    if rest.is_empty() { Ok(value) } else { Err(WireError::Trailing(rest.len())) }
}

/// What an origin signs.
#[derive(Serialize, Deserialize)]
struct Body {
    origin: Name,
    incarnation: u64,
    sequence: u64,
    lifetime_s: u32,
    kind: u8,
    flags: u8,
    load: u8,
    power: u8,
    spare_links: u8,
    links: Vec<Link>,
}

/// One link of it. Latencies are in microseconds, idle times in seconds.
#[derive(Serialize, Deserialize)]
struct Link {
    peer: Name,
    latency_us: u64,
    bandwidth: u64,
    loss_ppm: u32,
    idle_s: u32,
    cost: u32,
    flags: u8,
}

/// The node coordinates a group; the link is there for healing.
const FLAG: u8 = 1;
/// The node passes on nothing for others. Older nodes ignore it, and none of them sets it.
const RELAYS_NOTHING: u8 = 2;
/// Shares travel in steps of 1/200, so that half a per cent is exact.
const SHARE_STEPS: f64 = 200.0;

/// Writes what an origin signs.
pub fn encode_body(announcement: &Announcement) -> Bytes {
    let share = |value: f64| (value.clamp(0.0, 1.0) * SHARE_STEPS).round() as u8;
    let facts = &announcement.facts;
    let link = |(peer, facts): &(PeerId, LinkFacts)| Link {
        peer: *peer.as_bytes(),
        latency_us: u64::try_from(facts.latency.as_micros()).unwrap_or(u64::MAX),
        bandwidth: facts.bandwidth,
        loss_ppm: facts.loss_ppm,
        idle_s: u32::try_from(facts.idle.as_secs()).unwrap_or(u32::MAX),
        cost: facts.cost,
        flags: if facts.healing { FLAG } else { 0 },
    };
    let body = Body {
        origin: *announcement.origin.as_bytes(),
        incarnation: announcement.stamp.incarnation,
        sequence: announcement.stamp.sequence,
        lifetime_s: u32::try_from(announcement.lifetime.as_secs()).unwrap_or(u32::MAX),
        kind: match facts.kind {
            NodeKind::Full => 0,
            NodeKind::Light => 1,
            NodeKind::Relay => 2,
        },
        flags: if facts.coordinator { FLAG } else { 0 } | if facts.relays { 0 } else { RELAYS_NOTHING },
        load: share(facts.load),
        power: share(facts.power),
        spare_links: facts.spare_links,
        links: announcement.links.iter().map(link).collect(),
    };
    postcard::to_extend(&body, Vec::new()).unwrap_or_default().into()
}

/// Reads what an origin signed. Unknown flags and kinds are those of later versions: flags are ignored, an unknown kind counts as a full node.
///
/// # Errors
/// [`WireError`].
pub fn decode_body(bytes: &[u8]) -> Result<Announcement, WireError> {
    let body: Body = whole(bytes)?;
    let share = |steps: u8| f64::from(steps) / SHARE_STEPS;
    let link = |link: Link| {
        let facts = LinkFacts {
            latency: Duration::from_micros(link.latency_us),
            bandwidth: link.bandwidth,
            loss_ppm: link.loss_ppm,
            idle: Duration::from_secs(link.idle_s.into()),
            cost: link.cost,
            healing: link.flags & FLAG != 0,
        };
        (PeerId::from_bytes(link.peer), facts)
    };
    Ok(Announcement {
        origin: PeerId::from_bytes(body.origin),
        stamp: Stamp { incarnation: body.incarnation, sequence: body.sequence },
        lifetime: Duration::from_secs(body.lifetime_s.into()),
        facts: NodeFacts {
            kind: match body.kind {
                1 => NodeKind::Light,
                2 => NodeKind::Relay,
                _ => NodeKind::Full,
            },
            coordinator: body.flags & FLAG != 0,
            load: share(body.load),
            power: share(body.power),
            spare_links: body.spare_links,
            relays: body.flags & RELAYS_NOTHING == 0,
        },
        links: body.links.into_iter().map(link).collect(),
    })
}
