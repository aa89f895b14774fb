//! What nodes say to each other about partitions: statements, each signed by its origin under a number that it never uses again.
//!
//! A payload is one byte that names this format, then a [`Signed`] in the `postcard` format. A statement may travel inside another one: passed on, or as
//! a proof. What is inside stays bytes until it is looked at by itself, so nothing nests deeper than one level at a time.

use std::fmt;

use bowline_messages::PeerId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::evidence::Proof;
use super::lease::LeasePacket;
use super::views::{Number, View};

/// The format, the first byte of every payload.
pub const FORMAT: u8 = 5;
/// Bytes of a payload at most: what the carrier takes.
pub const PAYLOAD_BYTES_MAX: usize = bowline_messages::network::DATAGRAM_BYTES_MAX;
/// Bytes of what a statement says at most: two of them have to fit into one that is a proof. Whoever says more is not listened to, for nobody could be told
/// of what is wrong with it.
pub const BODY_BYTES_MAX: usize = (PAYLOAD_BYTES_MAX - 512) / 4;
/// Bytes of a proof at most: with its own origin, number and signature it has to fit into a payload.
const PROOF_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 256;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Signs for this node, and checks what others signed.
pub trait Signer: fmt::Debug {
    /// This node's signature of these bytes, for partitions and nothing else.
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES];
    /// Whether this peer signed these bytes for partitions.
    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool;
}

/// Why a payload is refused. The fault of who sent it; nothing changed, and it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// It is longer than any may be, or says too much.
    #[error("{0} bytes are too many")]
    TooLong(usize),
    /// It is of a format that is not known.
    #[error("format {0} is not known")]
    Format(u8),
    /// It is no statement, or bytes follow it.
    #[error("malformed")]
    Malformed,
    /// Its origin did not sign it.
    #[error("not signed by its origin")]
    Unsigned,
}

/// A signature, as it travels: in two halves, since the serializer knows no longer arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Signature([[u8; SIGNATURE_BYTES / 2]; 2]);

impl Signature {
    /// This node's, of these bytes.
    pub fn new(signer: &dyn Signer, bytes: &[u8]) -> Self {
        let signed = signer.sign(bytes);
        let mut signature = Self::default();
        for (byte, from) in signature.0.as_flattened_mut().iter_mut().zip(signed) {
            *byte = from;
        }
        signature
    }

    /// Whether this peer gave it for these bytes.
    pub fn is_of(&self, signer: &dyn Signer, peer: &PeerId, bytes: &[u8]) -> bool {
        signer.verify(peer, bytes, &self.bytes())
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; SIGNATURE_BYTES] {
        let mut bytes = [0; SIGNATURE_BYTES];
        for (byte, from) in bytes.iter_mut().zip(self.0.as_flattened()) {
            *byte = *from;
        }
        bytes
    }
}

/// A statement with its signature, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Who made it.
    #[serde(with = "peer_bytes")]
    pub origin: PeerId,
    /// Its number, never used again by its origin.
    pub number: Number,
    /// What it says: a [`Statement`] in the `postcard` format.
    pub body: Vec<u8>,
    /// Its origin's signature of all before.
    signature: Signature,
}

/// What a node says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// To one participant, about leases.
    Lease {
        /// To whom.
        #[serde(with = "peer_bytes")]
        to: PeerId,
        /// What.
        packet: LeasePacket,
    },
    /// To everybody: whom this node hears.
    View(View),
    /// To everybody: what another one said, as its [`Signed`]. Whoever passes something on has checked it.
    Relay(Vec<u8>),
    /// To everybody: somebody misbehaved.
    Proof(Proof),
}

impl Statement {
    /// Whether it is no longer than one of its kind may be, encoded as this body.
    const fn check_length(&self, body: &[u8]) -> Result<(), WireError> {
        let limit = match self {
            Self::Proof(_) => PROOF_BYTES_MAX,
            Self::Lease { .. } | Self::View(_) | Self::Relay(_) => BODY_BYTES_MAX,
        };
        if body.len() > limit { Err(WireError::TooLong(body.len())) } else { Ok(()) }
    }
}

impl Signed {
    /// A statement of this node's.
    ///
    /// # Errors
    /// [`WireError::TooLong`] when it says too much.
    pub fn new(signer: &dyn Signer, origin: PeerId, number: Number, statement: &Statement) -> Result<Self, WireError> {
        let body = encode(statement)?;
        statement.check_length(&body)?;
        Ok(Self::of(signer, origin, number, body))
    }

    /// This node's signature, whatever it is of.
    pub(super) fn of(signer: &dyn Signer, origin: PeerId, number: Number, body: Vec<u8>) -> Self {
        let mut signed = Self { origin, number, body, signature: Signature::default() };
        signed.signature = Signature::new(signer, &signed.signed_bytes());
        signed
    }

    /// The payload.
    ///
    /// # Errors
    /// [`WireError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut payload = vec![FORMAT];
        payload.extend(encode(self)?);
        if payload.len() > PAYLOAD_BYTES_MAX { Err(WireError::TooLong(payload.len())) } else { Ok(payload) }
    }

    /// Reads a payload. The signature is not checked yet.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(WireError::TooLong(payload.len()));
        }
        match payload.split_first() {
            Some((&FORMAT, rest)) => decode(rest),
            Some((&other, _)) => Err(WireError::Format(other)),
            None => Err(WireError::Malformed),
        }
    }

    /// Checks that its origin signed it.
    ///
    /// # Errors
    /// [`WireError::Unsigned`].
    pub fn verify(&self, signer: &dyn Signer) -> Result<(), WireError> {
        if self.signature.is_of(signer, &self.origin, &self.signed_bytes()) { Ok(()) } else { Err(WireError::Unsigned) }
    }

    /// Its origin's signature of its origin, number and body.
    pub fn signature(&self) -> [u8; SIGNATURE_BYTES] {
        self.signature.bytes()
    }

    /// What it says.
    ///
    /// # Errors
    /// [`WireError::Malformed`], and [`WireError::TooLong`] when it says too much, as no honest one does.
    pub fn statement(&self) -> Result<Statement, WireError> {
        let statement: Statement = decode(&self.body)?;
        statement.check_length(&self.body)?;
        Ok(statement)
    }

    /// Whether it is short enough to be one of the two in a proof. All are, but for those that are proofs themselves.
    pub const fn can_be_proof(&self) -> bool {
        self.body.len() <= BODY_BYTES_MAX
    }

    /// What its signature is of.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(self.origin.as_bytes());
        bytes.extend_from_slice(&self.number.incarnation.to_be_bytes());
        bytes.extend_from_slice(&self.number.count.to_be_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    // Writing to memory fails for no value of these types.
    postcard::to_allocvec(value).map_err(|_| WireError::Malformed)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(WireError::Malformed),
    }
}

/// Peers as their 32 bytes instead of the text that people read, for `#[serde(with = "peer_bytes")]`.
pub(crate) mod peer_bytes {
    use bowline_messages::PeerId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the key.
    pub(crate) fn serialize<S: Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
        peer.as_bytes().serialize(serializer)
    }

    /// Reads a key.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
        <[u8; 32]>::deserialize(deserializer).map(PeerId::from_bytes)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// A signature anybody could make, for simulations: a hash of who signed what.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Cheap(pub(in super::super) PeerId);

    impl Signer for Cheap {
        fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
            cheap(&self.0, bytes)
        }

        fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
            cheap(peer, bytes) == *signature
        }
    }

    fn cheap(peer: &PeerId, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        let mut hasher = blake3::Hasher::new();
        hasher.update(peer.as_bytes()).update(bytes).finalize_xof().fill(&mut signature);
        signature
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(payload in prop::collection::vec(any::<u8>(), 0..400)) {
            for payload in [payload.clone(), [vec![FORMAT], payload].concat()] {
                if let Ok(signed) = Signed::decode(&payload) {
                    let _ = signed.statement();
                    prop_assert!(signed.verify(&Cheap(PeerId::from_bytes([1; 32]))).is_err());
                }
            }
        }

        #[test]
        fn a_changed_statement_is_refused(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let me = PeerId::from_bytes([1; 32]);
            let view = View { version: 1, list: 8, heard: vec![7, 9], split: true, known: Vec::new() };
            let number = Number { incarnation: 3, count: 4 };
            let signed = Signed::new(&Cheap(me), me, number, &Statement::View(view.clone())).unwrap();
            let mut payload = signed.encode().unwrap();
            let back = Signed::decode(&payload).unwrap();
            prop_assert_eq!(back.verify(&Cheap(me)), Ok(()));
            prop_assert_eq!(back.statement(), Ok(Statement::View(view)));
            let at = at.index(payload.len());
            payload[at] ^= 1 << bit;
            let verified = Signed::decode(&payload).and_then(|signed| signed.verify(&Cheap(me)));
            prop_assert!(verified.is_err());
        }
    }

    #[test]
    fn what_is_too_long_or_of_another_format_is_refused() {
        assert_eq!(Signed::decode(&[]), Err(WireError::Malformed));
        assert_eq!(Signed::decode(&[9, 1, 2]), Err(WireError::Format(9)));
        let long = vec![FORMAT; PAYLOAD_BYTES_MAX + 1];
        assert_eq!(Signed::decode(&long), Err(WireError::TooLong(long.len())));
        let me = PeerId::from_bytes([1; 32]);
        let large = Statement::Relay(vec![0; BODY_BYTES_MAX]);
        assert!(matches!(Signed::new(&Cheap(me), me, Number::default(), &large), Err(WireError::TooLong(_))));
        // Nor does anybody listen to it.
        let signed = Signed::of(&Cheap(me), me, Number::default(), encode(&large).unwrap());
        let back = Signed::decode(&signed.encode().unwrap()).unwrap();
        assert_eq!((back.verify(&Cheap(me)), back.can_be_proof()), (Ok(()), false));
        assert!(matches!(back.statement(), Err(WireError::TooLong(_))));
    }
}
