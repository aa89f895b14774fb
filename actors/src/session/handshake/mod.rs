//! The handshake of a link, as two machines that take packets and give packets (`docs/wire.md`).
//!
//! ```text
//!   full     HELLO ──▶            attach or resume     ATTACH ──▶
//!            ◀── ANSWER                                ◀── ATTACHED       (or REFUSE unknown ticket, then full)
//!            FINISH ──▶ (records right behind)         records ──▶        (the first one confirms)
//! ```
//!
//! Full: Noise XX; each side's static key is vouched for by its Ed25519 identity with a signature that covers the transcript.
//! Attach: Noise NNpsk0 under a resume secret; fresh ephemeral keys from both sides, so a replay gains nothing.
//! The formats are in `docs/wire.md`. A machine is all that is kept for a connection before its peer is known; time limits are
//! the caller's.

mod initiator;
mod noise;
mod responder;

pub use initiator::{Initiator, InitiatorStep};
pub use noise::Entropy;
pub(crate) use noise::{Finished, Noise, public_key};
pub use responder::{Admission, Responder, ResponderStep};

use std::fmt;
use std::time::Instant;

use bowline_messages::wire::hello::HelloError;
use bowline_messages::wire::packet::{PacketError, PacketType, put_packet};
use bowline_messages::wire::{HelloParameters, OfferedVersions, Refusal, TicketId, Version};
use bowline_messages::{LinkId, PeerId};
use bytes::{Bytes, BytesMut};
use ring::hkdf;
use zeroize::Zeroizing;

use super::identity::{Identity, SIGNATURE_BYTES, SigningContext};
use super::seal::{Opener, RotationLimits, Sealer, TrafficSecret};
use noise::Role;

/// The longest handshake packet that is looked at, in bytes; ours have at most 350, the rest is room for later versions.
pub const HANDSHAKE_PACKET_BYTES_MAX: usize = 4096;

/// What this side brings to every handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeConfig {
    /// The versions it speaks.
    pub versions: OfferedVersions,
    /// What it tells the peer about itself.
    pub parameters: HelloParameters,
    /// When the link's sender moves on to the next key.
    pub rotation: RotationLimits,
}

/// Why a handshake failed. Nothing is kept; the connection is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The other side refused, and says why. Not authenticated.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// A packet that does not belong here. The peer's fault.
    #[error("a packet of type {0:#04x} does not belong here")]
    Unexpected(u8),
    /// A malformed packet. The peer's fault.
    #[error("malformed: {0}")]
    Packet(#[from] PacketError),
    /// A malformed message. The peer's fault.
    #[error("malformed: {0}")]
    Message(#[from] HelloError),
    /// A message that was forged, replayed or changed on the way, or sealed with other keys. The peer's fault, or somebody's between.
    #[error("a message that is forged, replayed or changed")]
    Forged,
    /// The identity's signature does not fit the handshake. The peer's fault, or somebody's between.
    #[error("the signature of {0} does not fit")]
    Signature(PeerId),
    /// Somebody else answered than was called.
    #[error("expected {expected}, found {found}")]
    WrongPeer {
        /// Who was called.
        expected: PeerId,
        /// Who answered.
        found: PeerId,
    },
    /// This node called itself, or was called by a copy of itself.
    #[error("the other side has this node's own identity")]
    Itself,
    /// The chosen version is not the best that both offered: somebody between tampers.
    #[error("version {chosen} was chosen although a better one was offered by both")]
    Downgrade {
        /// What was chosen.
        chosen: Version,
    },
    /// The link's number belongs to the other side's numbers. The dialler's mistake.
    #[error("{0} is not for the dialling side to give")]
    LinkNumber(LinkId),
    /// The handshake is over already. The caller's mistake.
    #[error("the handshake is over")]
    Over,
    /// The operating system has no randomness.
    #[error("the operating system has no randomness")]
    NoRandomness,
}

impl From<snow::Error> for HandshakeError {
    /// What `snow` finds wrong while it reads is always about the bytes it was given; its other complaints are about how it is used,
    /// which the tests would show.
    fn from(_: snow::Error) -> Self {
        Self::Forged
    }
}

/// The right to attach another link to a session, or to resume it, without signatures. Each link of a session makes a new one; both
/// sides have it.
#[derive(Clone)]
pub struct ResumeTicket {
    /// Its name; the only part that is sent.
    pub id: TicketId,
    /// With whom.
    pub peer: PeerId,
    pub(crate) secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for ResumeTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResumeTicket({:?} with {:?})", self.id, self.peer)
    }
}

/// What the handshake found out about the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerParameters {
    /// The version in force.
    pub version: Version,
    /// What the other side says about itself; its features are those that this side has as well.
    pub parameters: HelloParameters,
}

/// A link with keys.
#[derive(Debug)]
pub struct Established {
    /// Who is at the other end, proven.
    pub peer: PeerId,
    /// What it says about itself.
    pub parameters: PeerParameters,
    /// The link's name.
    pub link: LinkId,
    /// Whether this side dialled.
    pub initiator: bool,
    /// Whether it took a resume ticket instead of signatures.
    pub resumed: bool,
    /// Whether the other side has proven that it takes part *now*. Where this is `false` (the responder of an attachment), ATTACH may
    /// be a replay: send no application data, believe none of `parameters` and keep no ticket before a record opens.
    pub confirmed: bool,
    /// Seals what is sent.
    pub sealer: Sealer,
    /// Opens what arrives.
    pub opener: Opener,
    /// The next ticket; goes into the [`super::resume::ResumeStore`] when the first record has opened.
    pub ticket: ResumeTicket,
    /// The ticket that was used, when one was.
    pub replaces: Option<TicketId>,
}

/// Whether the side `dialler` may give this number to a link to `other`: the lowest bit is 0 exactly for the smaller peer, so that
/// both sides never choose the same.
pub fn may_number(link: LinkId, dialler: &PeerId, other: &PeerId) -> bool {
    (link.0 & 1 == 0) == (dialler < other)
}

/// What a finished handshake is made into.
struct Outcome {
    peer: PeerId,
    version: Version,
    theirs: HelloParameters,
    link: LinkId,
    role: Role,
    replaces: Option<TicketId>,
}

impl Outcome {
    /// The key schedule: one extraction over both keys of the split, salted with the hash of the transcript, then one expansion
    /// for each purpose (`docs/wire.md`, "Key schedule").
    fn establish(self, finished: &Finished, config: &HandshakeConfig, now: Instant) -> Established {
        let secrets = hkdf::Salt::new(hkdf::HKDF_SHA256, &finished.hash).extract(&finished.keys[..]);
        let from_initiator = TrafficSecret::new(expand(&secrets, b"bowline v1 from initiator"));
        let from_responder = TrafficSecret::new(expand(&secrets, b"bowline v1 from responder"));
        let mut id = [0; 16];
        id.copy_from_slice(&expand(&secrets, b"bowline v1 ticket id")[..16]);
        let ticket =
            ResumeTicket { id: TicketId(id), peer: self.peer, secret: expand(&secrets, b"bowline v1 resume secret") };
        let initiator = self.role == Role::Initiator;
        let (send, receive) = match self.role {
            Role::Initiator => (from_initiator, from_responder),
            Role::Responder => (from_responder, from_initiator),
        };
        let mut parameters = self.theirs;
        parameters.features = parameters.features.common(config.parameters.features);
        Established {
            peer: self.peer,
            parameters: PeerParameters { version: self.version, parameters },
            link: self.link,
            initiator,
            resumed: self.replaces.is_some(),
            confirmed: initiator || self.replaces.is_none(),
            sealer: Sealer::new(self.link, send, config.rotation, now),
            opener: Opener::new(self.link, receive),
            ticket,
            replaces: self.replaces,
        }
    }
}

fn expand(secrets: &hkdf::Prk, label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    secrets
        .expand(&[label], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut out[..]))
        .expect("HKDF-SHA256 gives 32 bytes");
    out
}

fn prologue_full(offered: &OfferedVersions) -> BytesMut {
    let mut prologue = BytesMut::from(&b"bowline full handshake\0"[..]);
    offered.put(&mut prologue);
    prologue
}

/// Names both sides in their roles: without that, an ATTACH could be reflected to the side that sent it, which has the secret too.
fn prologue_attach(offered: &OfferedVersions, ticket: &TicketId, initiator: &PeerId, responder: &PeerId) -> BytesMut {
    let mut prologue = BytesMut::from(&b"bowline attach handshake\0"[..]);
    offered.put(&mut prologue);
    prologue.extend_from_slice(&ticket.0);
    prologue.extend_from_slice(initiator.as_bytes());
    prologue.extend_from_slice(responder.as_bytes());
    prologue
}

/// What an identity signs: `role ‖ hash of the transcript so far ‖ own Noise static key ‖ own payload`.
fn signed_bytes(role: Role, hash: &[u8; 32], noise_static: &[u8; 32], payload: &[u8]) -> Vec<u8> {
    let role = match role {
        Role::Initiator => b'i',
        Role::Responder => b'r',
    };
    [&[role][..], hash, noise_static, payload].concat()
}

/// Appends the identity's signature to a payload.
fn sign(identity: &Identity, role: Role, hash: &[u8; 32], payload: &mut BytesMut) {
    let bytes = signed_bytes(role, hash, identity.noise_public(), payload);
    payload.extend_from_slice(&identity.sign(SigningContext::Handshake, &bytes));
}

/// Splits the signature, the last 64 bytes, off a payload.
fn split_signature(payload: &[u8], kind: PacketType) -> Result<(&[u8], &[u8; SIGNATURE_BYTES]), HandshakeError> {
    payload.split_last_chunk::<SIGNATURE_BYTES>().ok_or(HandshakeError::Message(HelloError(kind)))
}

/// Splits a packet into its type and what follows, unless it is too long for a handshake.
fn split_packet(packet: &[u8]) -> Result<(Option<PacketType>, u8, &[u8]), HandshakeError> {
    let (kind, body) = packet.split_first().ok_or(HandshakeError::Packet(PacketError::Empty))?;
    if packet.len() > HANDSHAKE_PACKET_BYTES_MAX {
        return Err(HandshakeError::Packet(PacketError::TooLong { length: packet.len() }));
    }
    Ok((PacketType::from_byte(*kind), *kind, body))
}

fn framed(kind: PacketType, body: &[u8]) -> Bytes {
    let mut packet = BytesMut::with_capacity(body.len() + 5);
    put_packet(&mut packet, kind, body);
    packet.freeze()
}

#[cfg(test)]
mod tests;
