//! Packets of the membership: `version u8 ‖ postcard(header, sequence, after, digests) ‖ statements ‖ signature of the sender`.
//!
//! The packet is signed by its sender, addressed to one life of its receiver and numbered against replay. What it says about third parties is
//! in statements, each signed by the one who makes it: a member says itself that it is alive or leaves, an accuser accuses in its own name.
//! Whoever passes a statement on can drop it and nothing else.
//!
//! Over a session with its receiver a packet goes without the names of the two and without the signature ([`unsigned_to_direct`]): some 25 bytes instead of 153 for
//! a question.

use std::fmt;

use bowline_messages::PeerId;
use bytes::{Bytes, BytesMut};
use foca::Header;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version of this format, the first byte of every packet.
pub const VERSION: u8 = 1;
/// The first byte of a packet that goes to a neighbour: without what the session says of it already.
pub const VERSION_DIRECT: u8 = 2;
/// Bytes of a name.
const KEY_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// First byte of what is signed in a statement. No packet begins with it, so a signature of one is none of the other.
const STATEMENT_DOMAIN: u8 = 0xF1;
/// In how many parts lists of members are compared.
pub const PARTS: usize = 16;
/// One number for each part of a list of members; different ones tell that the parts are.
pub type Digests = [u32; PARTS];

/// One life of one peer, with the number of times it was excluded in it and came back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Node {
    /// Who.
    #[serde(with = "key")]
    pub peer: PeerId,
    /// Which life of its process: grows with every start. 0: not known, for the first packet to somebody.
    pub life: u64,
    /// How often it renewed its membership in this life.
    pub renewal: u32,
}

impl Node {
    /// In which part of a list it is, and what it adds to the digest of that part.
    pub fn digest(&self) -> (usize, u32) {
        // FNV-1a. Who makes two members look alike hides one of them from comparisons, not from questions or news.
        let bytes =
            self.peer.as_bytes().iter().copied().chain(self.life.to_be_bytes()).chain(self.renewal.to_be_bytes());
        let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        (usize::from(self.peer.as_bytes()[31]) % PARTS, hash)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.peer.short(), self.life, self.renewal)
    }
}

impl foca::Identity for Node {
    type Addr = PeerId;

    fn renew(&self) -> Option<Self> {
        self.renewal.checked_add(1).map(|renewal| Self { renewal, ..*self })
    }

    fn addr(&self) -> PeerId {
        self.peer
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.life, self.renewal) > (adversary.life, adversary.renewal)
    }
}

/// An Ed25519 signature, or what stands for one in a simulation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut first, mut second) = ([0; 32], [0; 32]);
        first.copy_from_slice(&self.0[..32]);
        second.copy_from_slice(&self.0[32..]);
        (first, second).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (first, second) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes[..32].copy_from_slice(&first);
        bytes[32..].copy_from_slice(&second);
        Ok(Self(bytes))
    }
}

/// What somebody says, and stands for with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Claim {
    /// I am here; every accusation with a smaller number is wrong.
    Alive {
        /// Who says so.
        node: Node,
        /// How many accusations it answered in this life and renewal.
        number: u16,
    },
    /// This one does not answer me.
    Accuse {
        /// Who.
        accused: Node,
        /// Its number; one that answers has a greater one from then on.
        number: u16,
        /// Who says so.
        #[serde(with = "key")]
        accuser: PeerId,
    },
    /// I leave.
    Leave {
        /// Who says so.
        node: Node,
    },
}

impl Claim {
    /// Who stands for it with its name.
    pub const fn author(&self) -> PeerId {
        match self {
            Self::Alive { node, .. } | Self::Leave { node } => node.peer,
            Self::Accuse { accuser, .. } => *accuser,
        }
    }

    /// About whom it is.
    pub const fn subject(&self) -> PeerId {
        match self {
            Self::Alive { node, .. } | Self::Leave { node } => node.peer,
            Self::Accuse { accused, .. } => accused.peer,
        }
    }

    /// What is signed.
    pub fn signed_bytes(&self) -> Vec<u8> {
        encode(&(STATEMENT_DOMAIN, self))
    }
}

/// A claim with the signature of its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// What is said.
    pub claim: Claim,
    /// By its author, over [`Claim::signed_bytes`].
    pub signature: Signature,
}

/// Why bytes are no packet. The sender's fault, or somebody's between; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Longer than any may be.
    #[error("a packet of {0} bytes")]
    TooLong(usize),
    /// Of a version that is not known.
    #[error("a packet of version {0}")]
    Version(u8),
    /// It ends before its content does, or has something else in it.
    #[error("a malformed packet")]
    Malformed,
}

/// What stands before the statements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    header: Header<Node>,
    sequence: u64,
    after: Option<Key>,
    digests: Option<Digests>,
}

/// A peer's name as 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Key(#[serde(with = "key")] PeerId);

/// A packet that was read. Its signature is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// From whom to whom, and what for.
    pub header: Header<Node>,
    /// Grows with every packet of a life of the sender.
    pub sequence: u64,
    /// With a question for members: those after this one. With an answer: there are more after this one.
    pub after: Option<PeerId>,
    /// With a question for members: what the sender knows already.
    pub digests: Option<Digests>,
    /// What is said about members.
    pub statements: Vec<Statement>,
    /// What the sender signed.
    pub signed: &'a [u8],
    /// Its signature.
    pub signature: Signature,
}

impl<'a> Packet<'a> {
    /// Reads a packet of at most so many bytes.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(bytes: &'a [u8], bytes_max: usize) -> Result<Self, WireError> {
        if bytes.len() > bytes_max {
            return Err(WireError::TooLong(bytes.len()));
        }
        let (signed, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(WireError::Malformed)?;
        Self::decode_signed(signed, Signature(*signature))
    }

    /// Reads what is signed in a packet.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode_signed(signed: &'a [u8], signature: Signature) -> Result<Self, WireError> {
        let (version, body) = signed.split_first().ok_or(WireError::Malformed)?;
        if *version != VERSION {
            return Err(WireError::Version(*version));
        }
        let (head, mut rest) = postcard::take_from_bytes::<Head>(body).map_err(|_| WireError::Malformed)?;
        // No count stands before the statements, so none can claim more memory than its bytes take.
        let mut statements = Vec::new();
        while !rest.is_empty() {
            let (statement, after) = postcard::take_from_bytes(rest).map_err(|_| WireError::Malformed)?;
            statements.push(statement);
            rest = after;
        }
        let Head { header, sequence, after, digests } = head;
        let after = after.map(|Key(peer)| peer);
        Ok(Self { header, sequence, after, digests, statements, signed, signature })
    }
}

/// The same for a packet with its signature.
#[cfg(test)]
pub(super) fn to_direct(packet: &[u8]) -> Option<Bytes> {
    let (signed, _) = packet.split_last_chunk::<SIGNATURE_BYTES>()?;
    unsigned_to_direct(signed)
}

/// A packet that was not signed yet as it goes over a session with its receiver: without the names of the two, which that session stands for, as it does
/// for the signature. None when it is no packet of ours.
pub fn unsigned_to_direct(unsigned: &[u8]) -> Option<Bytes> {
    let (version, body) = unsigned.split_first()?;
    let (_, rest) = body.split_first_chunk::<KEY_BYTES>()?;
    let (numbers, rest) = rest.split_at_checked(numbers_length(rest)?)?;
    let (_, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
    (*version == VERSION).then(|| Bytes::from([&[VERSION_DIRECT], numbers, rest].concat()))
}

/// The other way round, for a packet that came over a session: all but the signature.
///
/// # Errors
/// [`WireError`] when it is no such packet. A whole one is of another version: nobody sends one over a session with its receiver.
pub fn from_direct(packet: &[u8], from: &PeerId, to: &PeerId) -> Result<Vec<u8>, WireError> {
    let (version, body) = packet.split_first().ok_or(WireError::Malformed)?;
    if *version != VERSION_DIRECT {
        return Err(WireError::Version(*version));
    }
    let numbers = numbers_length(body).and_then(|length| body.split_at_checked(length));
    let (numbers, rest) = numbers.ok_or(WireError::Malformed)?;
    Ok([&[VERSION], &from.as_bytes()[..], numbers, &to.as_bytes()[..], rest].concat())
}

/// How many bytes the three numbers take that stand between the two names: life and renewal of the sender, and its number.
fn numbers_length(bytes: &[u8]) -> Option<usize> {
    let (_, rest) = postcard::take_from_bytes::<(u64, u32, u16)>(bytes).ok()?;
    Some(bytes.len() - rest.len())
}

/// A packet that is being written.
#[derive(Debug)]
pub struct Draft {
    bytes: BytesMut,
    limit: usize,
}

impl Draft {
    /// A packet without statements that will have at most so many bytes.
    pub fn new(
        header: Header<Node>,
        sequence: u64,
        after: Option<PeerId>,
        digests: Option<Digests>,
        bytes_max: usize,
    ) -> Self {
        let head = Head { header, sequence, after: after.map(Key), digests };
        let mut bytes = BytesMut::with_capacity(bytes_max);
        bytes.extend_from_slice(&[VERSION]);
        bytes.extend_from_slice(&encode(&head));
        Self { bytes, limit: bytes_max.saturating_sub(SIGNATURE_BYTES) }
    }

    /// Adds a statement; false when there is no room left for it.
    pub fn push(&mut self, statement: &Statement) -> bool {
        let encoded = encode(statement);
        let fits = self.bytes.len() + encoded.len() <= self.limit;
        if fits {
            self.bytes.extend_from_slice(&encoded);
        }
        fits
    }

    /// Signs it.
    #[cfg(test)]
    pub(super) fn finish(self, sign: impl FnOnce(&[u8]) -> Signature) -> Bytes {
        signed(&self.bytes, sign)
    }

    /// Leaves the signature to [`signed`], since most packets go without.
    pub fn unsigned(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// A packet with its signature.
pub fn signed(unsigned: &[u8], sign: impl FnOnce(&[u8]) -> Signature) -> Bytes {
    Bytes::from([unsigned, &sign(unsigned).0].concat())
}

/// Nothing here fails to be encoded; if it ever did, what comes out would be refused by its receiver.
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).unwrap_or_default()
}

/// A peer's name as its 32 bytes.
mod key {
    use bowline_messages::PeerId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
        peer.as_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
        <[u8; 32]>::deserialize(deserializer).map(PeerId::from_bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foca::Message;
    use proptest::prelude::*;

    use super::*;

    fn node(n: u8) -> Node {
        Node { peer: PeerId::from_bytes([n; 32]), life: 3, renewal: 1 }
    }

    fn statements() -> Vec<Statement> {
        let claims = [
            Claim::Alive { node: node(3), number: 300 },
            Claim::Accuse { accused: node(4), number: 0, accuser: node(5).peer },
            Claim::Leave { node: node(6) },
        ];
        claims.into_iter().map(|claim| Statement { claim, signature: Signature([9; 64]) }).collect()
    }

    fn packet(limit: usize) -> Bytes {
        let header = Header { src: node(1), src_incarnation: 7, dst: node(2), message: Message::Ping(5) };
        let mut draft = Draft::new(header, 99, Some(node(8).peer), Some([u32::MAX; PARTS]), limit);
        for statement in statements() {
            draft.push(&statement);
        }
        draft.finish(|bytes| Signature([bytes[0]; 64]))
    }

    #[test]
    fn a_packet_comes_back() {
        let bytes = packet(1200);
        let packet = Packet::decode(&bytes, 1200).unwrap();
        assert_eq!((packet.sequence, packet.after), (99, Some(node(8).peer)));
        assert_eq!(packet.digests, Some([u32::MAX; PARTS]));
        assert_eq!(packet.header.src, node(1));
        assert_eq!(packet.statements, statements());
        assert_eq!(packet.signature, Signature([VERSION; 64]));
        assert_eq!(packet.signed.len() + 64, bytes.len());
    }

    #[test]
    fn a_packet_takes_what_fits_and_is_never_longer_than_it_may_be() {
        let bytes = packet(450);
        assert!(bytes.len() <= 450);
        assert_eq!(Packet::decode(&bytes, 450).unwrap().statements.len(), 1);
        assert_eq!(Packet::decode(&bytes, bytes.len() - 1), Err(WireError::TooLong(bytes.len())));
    }

    #[test]
    fn what_the_session_says_already_is_left_out_and_put_back() {
        let whole = packet(1200);
        let direct = to_direct(&whole).unwrap();
        assert_eq!(direct.len(), whole.len() - 2 * KEY_BYTES - SIGNATURE_BYTES);
        let back = from_direct(&direct, &node(1).peer, &node(2).peer).unwrap();
        assert_eq!(back, whole[..whole.len() - SIGNATURE_BYTES]);
        let by_another = from_direct(&direct, &node(5).peer, &node(2).peer).unwrap();
        let packet = Packet::decode_signed(&by_another, Signature([0; 64])).unwrap();
        assert_eq!(packet.header.src.peer, node(5).peer, "it speaks for whoever the session is with");
        assert_eq!(to_direct(&direct), None);
        assert_eq!(from_direct(&whole, &node(1).peer, &node(2).peer), Err(WireError::Version(VERSION)));
        assert_eq!(from_direct(&[], &node(1).peer, &node(2).peer), Err(WireError::Malformed));
    }

    #[test]
    fn another_version_is_told() {
        let mut bytes = packet(1200).to_vec();
        bytes[0] = 2;
        assert_eq!(Packet::decode(&bytes, 1200), Err(WireError::Version(2)));
    }

    #[test]
    fn a_claim_and_a_packet_are_never_signed_alike() {
        for statement in statements() {
            assert_ne!(statement.claim.signed_bytes()[0], VERSION);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_cut_or_changed_is_an_error_or_another_packet(cut in 0..600usize, at in 0..600usize, bit in 0..8u8) {
            let whole = packet(1200);
            let mut bytes = whole[..cut.min(whole.len())].to_vec();
            let _ = Packet::decode(&bytes, 1200);
            bytes = whole.to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(packet) = Packet::decode(&bytes, 1200) {
                prop_assert!(packet.signed != &whole[..whole.len() - 64] || packet.signature != Signature([VERSION; 64]));
            }
        }

        #[test]
        fn garbage_of_a_neighbour_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = bytes;
            let _ = to_direct(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = VERSION_DIRECT;
            }
            if let Ok(whole) = from_direct(&bytes, &node(1).peer, &node(2).peer) {
                let _ = Packet::decode_signed(&whole, Signature([0; 64]));
            }
        }

        #[test]
        fn garbage_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Ok(packet) = Packet::decode(&bytes, 1200) {
                prop_assert!(packet.statements.len() * 66 <= bytes.len());
            }
        }
    }
}
