//! Noise through `snow`, with the randomness passed in and `ring` for hashing and AES-GCM.

use bowline_messages::PeerId;
use bytes::BytesMut;
use curve25519_dalek::MontgomeryPoint;
use curve25519_dalek::edwards::CompressedEdwardsY;
use rand::{CryptoRng, Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use ring::rand::{SecureRandom, SystemRandom};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::HandshakeError;
use crate::session::identity::Identity;

const FULL: &str = "Noise_XX_25519_AESGCM_SHA256";
const ATTACH: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";
const SEALED: &str = "Noise_NK_25519_AESGCM_SHA256";
/// What a Noise message adds to its payload at most: an ephemeral key, an encrypted static key, two tags.
const MESSAGE_OVERHEAD_BYTES: usize = 32 + 48 + 16;

/// The randomness of one handshake, used once: two handshakes with the same randomness would share their ephemeral keys. A real
/// node takes it from the operating system, a simulation from its seed, which makes the whole transcript repeatable.
pub struct Entropy(Zeroizing<[u8; 32]>);

impl Entropy {
    /// From a generator fit for cryptography.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut seed[..]);
        Self(seed)
    }

    /// From the operating system.
    ///
    /// # Errors
    /// [`HandshakeError::NoRandomness`] when it has none.
    pub fn system() -> Result<Self, HandshakeError> {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut seed[..]).map_err(|_| HandshakeError::NoRandomness)?;
        Ok(Self(seed))
    }

    /// The seed of a generator fit for cryptography.
    pub(crate) fn into_rng(self) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(*self.0)
    }

    /// One part of it, for one Noise state.
    pub(super) fn split(&mut self) -> Self {
        let mut rng = ChaCha20Rng::from_seed(*self.0);
        let mut part = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut part[..]);
        rng.fill_bytes(&mut self.0[..]);
        Self(part)
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}

/// Gives `snow` the randomness that was passed in, `ring` for hashing and AES-GCM, and X25519 as below.
struct Resolver {
    entropy: Entropy,
    /// The public half of the static key, which is the same in every handshake.
    known: Option<[u8; 32]>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Seeded(ChaCha20Rng::from_seed(*self.entropy.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519 { known: self.known, ..X25519::default() })),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        RingResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        RingResolver.resolve_cipher(choice)
    }
}

struct Seeded(ChaCha20Rng);

impl Random for Seeded {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(out);
        Ok(())
    }
}

/// X25519 by `curve25519-dalek`, as in `snow` itself, but with its tables for making keys (a quarter of the time), without making the public half
/// of the static key anew in every handshake, wiped when dropped, and refusing points of low order.
#[derive(Default)]
struct X25519 {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
    known: Option<[u8; 32]>,
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    /// Only static keys are set, ephemeral ones are generated.
    fn set(&mut self, secret: &[u8]) {
        self.secret.copy_from_slice(secret);
        self.public = self.known.unwrap_or_else(|| public_key(&self.secret));
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        rng.try_fill_bytes(&mut self.secret[..])?;
        self.public = public_key(&self.secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.secret[..]
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let point = MontgomeryPoint(*public.first_chunk().ok_or(snow::Error::Dh)?);
        let shared = Zeroizing::new(point.mul_clamped(*self.secret).to_bytes());
        if *shared == [0; 32] {
            return Err(snow::Error::Dh);
        }
        out.get_mut(..32).ok_or(snow::Error::Dh)?.copy_from_slice(&shared[..]);
        Ok(())
    }
}

/// The X25519 public key of a secret one.
pub(crate) fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    MontgomeryPoint::mul_base_clamped(*secret).to_bytes()
}

/// The X25519 key to which one can seal knowing nothing but a peer's name: its Ed25519 key, in Montgomery form. `None` when the name is
/// no key. One key for signatures and for this is safe (Thormarker 2021, "On using the same key pair for Ed25519 and an X25519 based KEM").
fn sealing_key(peer: &PeerId) -> Option<[u8; 32]> {
    Some(CompressedEdwardsY(*peer.as_bytes()).decompress()?.to_montgomery().to_bytes())
}

/// Which side of a handshake this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Initiator,
    Responder,
}

/// One Noise handshake under way. Boxed inside, because most of the life of its owner it is not there.
pub(crate) struct Noise(Box<HandshakeState>);

/// What a finished handshake leaves: the two keys of its split, and the hash of the whole transcript.
pub(crate) struct Finished {
    pub(crate) keys: Zeroizing<[u8; 64]>,
    pub(crate) hash: [u8; 32],
}

impl Noise {
    pub(super) fn full(
        role: Role,
        identity: &Identity,
        prologue: &[u8],
        entropy: Entropy,
    ) -> Result<Self, HandshakeError> {
        let resolver = Resolver { entropy, known: Some(*identity.noise_public()) };
        let builder = Builder::with_resolver(FULL.parse()?, Box::new(resolver))
            .prologue(prologue)?
            .local_private_key(&identity.noise_key()[..])?;
        Self::build(role, builder)
    }

    pub(super) fn attach(
        role: Role,
        secret: &[u8; 32],
        prologue: &[u8],
        entropy: Entropy,
    ) -> Result<Self, HandshakeError> {
        let resolver = Resolver { entropy, known: None };
        let builder = Builder::with_resolver(ATTACH.parse()?, Box::new(resolver)).prologue(prologue)?.psk(0, secret)?;
        Self::build(role, builder)
    }

    /// The first message is sealed to a peer of which nothing but the name is known, and hides who writes it.
    pub(crate) fn sealed_to(peer: &PeerId, prologue: &[u8], entropy: Entropy) -> Result<Self, HandshakeError> {
        let key = sealing_key(peer).ok_or(HandshakeError::Forged)?;
        let resolver = Resolver { entropy, known: None };
        let builder = Builder::with_resolver(SEALED.parse()?, Box::new(resolver)).prologue(prologue)?;
        Self::build(Role::Initiator, builder.remote_public_key(&key)?)
    }

    /// The side to which such a message was sealed.
    pub(crate) fn sealed_by_caller(
        identity: &Identity,
        prologue: &[u8],
        entropy: Entropy,
    ) -> Result<Self, HandshakeError> {
        let known = sealing_key(&identity.peer_id());
        let builder =
            Builder::with_resolver(SEALED.parse()?, Box::new(Resolver { entropy, known })).prologue(prologue)?;
        Self::build(Role::Responder, builder.local_private_key(&identity.unsealing_key()[..])?)
    }

    fn build(role: Role, builder: Builder<'_>) -> Result<Self, HandshakeError> {
        let state = match role {
            Role::Initiator => builder.build_initiator(),
            Role::Responder => builder.build_responder(),
        };
        Ok(Self(Box::new(state?)))
    }

    /// The hash of everything so far: prologue and both sides' messages.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.get_handshake_hash());
        hash
    }

    /// The other side's static key, once it was received.
    pub(super) fn remote_static(&self) -> Option<[u8; 32]> {
        self.0.get_remote_static()?.try_into().ok()
    }

    /// Appends the next message.
    pub(crate) fn write(&mut self, payload: &[u8], into: &mut BytesMut) -> Result<(), HandshakeError> {
        let at = into.len();
        into.resize(at + payload.len() + MESSAGE_OVERHEAD_BYTES, 0);
        let written = self.0.write_message(payload, &mut into[at..])?;
        into.truncate(at + written);
        Ok(())
    }

    /// Reads the next message: its payload.
    pub(crate) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut payload = vec![0; message.len()];
        let read = self.0.read_message(message, &mut payload)?;
        payload.truncate(read);
        Ok(payload)
    }

    /// The result, once the last message was written or read.
    pub(crate) fn finish(mut self) -> Finished {
        let (mut from_initiator, mut from_responder) = self.0.dangerously_get_raw_split();
        let mut keys = Zeroizing::new([0; 64]);
        keys[..32].copy_from_slice(&from_initiator);
        keys[32..].copy_from_slice(&from_responder);
        zeroize::Zeroize::zeroize(&mut from_initiator);
        zeroize::Zeroize::zeroize(&mut from_responder);
        Finished { keys, hash: self.hash() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whoever_knows_the_name_can_seal_to_it_and_its_owner_can_open() {
        for seed in 0..50 {
            let identity = Identity::from_seed(&[seed; 32]);
            assert_eq!(sealing_key(&identity.peer_id()).unwrap(), public_key(&identity.unsealing_key()), "{seed}");
        }
    }

    #[test]
    fn a_name_that_is_no_key_cannot_be_sealed_to() {
        // Not on the curve; the neutral element, with which everybody would share the same secret.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        for name in [[2; 32], neutral] {
            let noise = Noise::sealed_to(&PeerId::from_bytes(name), b"", Entropy(Zeroizing::new([1; 32])));
            let sealed = noise.and_then(|mut noise| noise.write(b"secret", &mut BytesMut::new()));
            assert!(sealed.is_err(), "{name:?}");
        }
    }
}
