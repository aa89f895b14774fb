//! Who this node is: its Ed25519 key, and what it signs with it.

use std::fmt;

use bowline_messages::PeerId;
use bowline_messages::wire::SignedAddresses;
use rand::CryptoRng;
use ring::hkdf;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// For what something is signed. A signature for one purpose is none for another: the name stands in front of the signed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningContext {
    /// The payloads of handshake messages.
    Handshake,
    /// The endpoint addresses of a peer.
    Addresses,
    /// What a node says of its links.
    LinkState,
    /// Links that nodes ask each other for because the network needs them.
    Healing,
    /// Packets and statements of the membership.
    Membership,
    /// What participants of a group say about leases, and whom they hear.
    Partition,
}

impl SigningContext {
    /// Ends in a zero byte, which no name has, so that no name is the beginning of another. It does not begin like what TLS signs with the
    /// same key (64 spaces) nor like a certificate (0x30).
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Handshake => b"bowline v1 handshake\0",
            Self::Addresses => b"bowline v1 addresses\0",
            Self::LinkState => b"bowline v1 link state\0",
            Self::Healing => b"bowline v1 healing\0",
            Self::Membership => b"bowline v1 membership\0",
            Self::Partition => b"bowline v1 partition\0",
        }
    }
}

/// A signature that does not fit. The peer's fault, or somebody's between; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit")]
pub struct BadSignature;

/// The key of this node. Its `Debug` shows the public half only; the seed is wiped when it is dropped (what `ring` keeps
/// expanded for signing is not, so an `Identity` is made once a process and shared).
pub struct Identity {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
    peer: PeerId,
    noise: Zeroizing<[u8; 32]>,
    noise_public: [u8; 32],
}

impl Identity {
    /// A new identity.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut seed[..]);
        Self::from_seed(&seed)
    }

    /// The identity with this secret seed (RFC 8032, "private key").
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed of 32 bytes is an Ed25519 key");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        // The Noise static key is separate from the signing key and derived from the same seed: one secret to keep, and a
        // session's transcript is the same for the same seeds.
        let mut noise = Zeroizing::new([0; 32]);
        expand_once(b"bowline v1 noise static", seed, &mut noise);
        let noise_public = super::handshake::public_key(&noise);
        Self { seed: Zeroizing::new(*seed), pair, peer: PeerId::from_bytes(public), noise, noise_public }
    }

    /// The public half: this node's name.
    pub const fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// The secret seed, for the key file.
    pub const fn seed(&self) -> &Zeroizing<[u8; 32]> {
        &self.seed
    }

    /// The key as PKCS #8 (RFC 8410), as TLS libraries want it for a certificate bound to this identity.
    pub fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        const PREFIX: [u8; 16] =
            [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        let mut der = Zeroizing::new(Vec::with_capacity(PREFIX.len() + 32));
        der.extend_from_slice(&PREFIX);
        der.extend_from_slice(&self.seed[..]);
        der
    }

    /// The X25519 key that handshakes use and that each of them vouches for with a signature.
    pub(crate) const fn noise_key(&self) -> &Zeroizing<[u8; 32]> {
        &self.noise
    }

    /// The public half of [`Identity::noise_key`].
    pub(crate) const fn noise_public(&self) -> &[u8; 32] {
        &self.noise_public
    }

    /// The X25519 form of the signing key, with which is opened what was sealed to this node's name: the scalar of RFC 8032, section 5.1.5.
    pub(crate) fn unsealing_key(&self) -> Zeroizing<[u8; 32]> {
        let hash = ring::digest::digest(&ring::digest::SHA512, &self.seed[..]);
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&hash.as_ref()[..32]);
        key
    }

    /// Signs bytes for one purpose.
    pub fn sign(&self, context: SigningContext, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.pair.sign(&labelled(context, bytes)).as_ref());
        signature
    }

    /// Checks what a peer signed.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(
        peer: &PeerId,
        context: SigningContext,
        bytes: &[u8],
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(&ED25519, peer.as_bytes())
            .verify(&labelled(context, bytes), signature)
            .map_err(|_| BadSignature)
    }

    /// Signs where this node can be reached. `version` has to grow with every change; more than 32 addresses, and longer ones
    /// than 255 bytes, are left out.
    pub fn sign_addresses(&self, version: u64, addresses: impl IntoIterator<Item = String>) -> SignedAddresses {
        let addresses = addresses
            .into_iter()
            .filter(|text| text.len() <= 255)
            .take(bowline_messages::wire::frame::ADDRESSES_MAX)
            .collect();
        let mut signed = SignedAddresses { peer: self.peer, version, addresses, signature: [0; SIGNATURE_BYTES] };
        signed.signature = self.sign(SigningContext::Addresses, &signed.signed_bytes());
        signed
    }

    /// Checks that the peer named in them signed these addresses.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify_addresses(addresses: &SignedAddresses) -> Result<(), BadSignature> {
        Self::verify(&addresses.peer, SigningContext::Addresses, &addresses.signed_bytes(), &addresses.signature)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer", &self.peer).finish_non_exhaustive()
    }
}

fn labelled(context: SigningContext, bytes: &[u8]) -> Vec<u8> {
    [context.label(), bytes].concat()
}

/// HKDF-SHA256 with a label as salt and no info: one secret from another.
fn expand_once(label: &[u8], secret: &[u8], out: &mut [u8; 32]) {
    hkdf::Salt::new(hkdf::HKDF_SHA256, label)
        .extract(secret)
        .expand(&[], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(out))
        .expect("HKDF-SHA256 gives 32 bytes");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn the_first_test_vector_of_rfc_8032_names_the_peer() {
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49,
            0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let identity = Identity::from_seed(&seed);
        assert_eq!(identity.peer_id().as_bytes()[..4], [0xd7, 0x5a, 0x98, 0x01]);
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&identity.pkcs8()).unwrap();
        assert_eq!(pair.public_key().as_ref(), identity.peer_id().as_bytes());
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::from_seed(&[0xab; 32]);
        let shown = format!("{identity:?}");
        assert!(shown.contains(&identity.peer_id().short()));
        assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
    }

    #[test]
    fn a_signature_counts_for_its_peer_its_purpose_and_its_bytes_only() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let (a, b) = (Identity::generate(&mut rng), Identity::generate(&mut rng));
        let signature = a.sign(SigningContext::Addresses, b"bytes");
        let check = |peer: &Identity, context, bytes: &[u8]| Identity::verify(&peer.peer, context, bytes, &signature);
        assert_eq!(check(&a, SigningContext::Addresses, b"bytes"), Ok(()));
        assert_eq!(check(&b, SigningContext::Addresses, b"bytes"), Err(BadSignature));
        assert_eq!(check(&a, SigningContext::Handshake, b"bytes"), Err(BadSignature));
        assert_eq!(check(&a, SigningContext::Addresses, b"byteS"), Err(BadSignature));
    }

    proptest! {
        #[test]
        fn changed_addresses_are_refused(version in any::<u64>(), count in 0..40usize, bit in 0..8u8) {
            let identity = Identity::from_seed(&[7; 32]);
            let addresses = (0..count).map(|n| format!("tcp://192.0.2.{n}:1"));
            let signed = identity.sign_addresses(version, addresses);
            prop_assert_eq!(Identity::verify_addresses(&signed), Ok(()));
            let mut other = signed.clone();
            other.version ^= 1 << bit;
            prop_assert!(Identity::verify_addresses(&other).is_err());
            let mut other = signed.clone();
            other.addresses.push("tcp://192.0.2.99:1".into());
            prop_assert!(count >= 32 || Identity::verify_addresses(&other).is_err());
            let mut other = signed;
            other.signature[3] ^= 1 << bit;
            prop_assert!(Identity::verify_addresses(&other).is_err());
        }
    }
}
