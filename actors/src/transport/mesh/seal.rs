//! Keys of a link over the mesh: a handshake that hides who calls, and packets of which a relay sees nothing but their length.
//!
//! `Noise_NK_25519_AESGCM_SHA256`: the first message is sealed to the destination's key (es), the second makes the keys of the link
//! (ee), so that they are gone once the link is. The caller is named inside the first message and proves nothing by it: the session's
//! handshake, which runs inside the link, is what authenticates both sides.
//!
//! ```text
//! first     Noise message 1, payload: version u8 ‖ caller [32] ‖ connection id of the caller [8]
//! second    Noise message 2, payload: version u8 ‖ connection id of the called [8]
//! packets   number, its last 32 bits, masked ‖ AES-256-GCM(frames), nonce = 0 u32 ‖ number u64, additional data = connection id
//! ```

use bowline_messages::PeerId;
use bytes::{Bytes, BytesMut};
use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey, quic};
use ring::hkdf;
use zeroize::Zeroizing;

use crate::routing::ConnectionId;
use crate::session::handshake::{Entropy, Finished, HandshakeError, Noise};
use crate::session::identity::Identity;

/// The version of the link's own protocol.
const VERSION: u8 = 1;
const PROLOGUE: &[u8] = b"bowline mesh link 1\0";
const NUMBER_BYTES: usize = 4;
const TAG_BYTES: usize = 16;
const SAMPLE_BYTES: usize = 16;
/// The length of every first message: an ephemeral key, and what is sealed.
pub(super) const FIRST_BYTES: usize = 32 + 1 + 32 + 8 + TAG_BYTES;
/// What a packet has beside its frames.
pub(super) const SEAL_BYTES: usize = NUMBER_BYTES + TAG_BYTES;
/// A key is good for so many packets of 16 KiB (RFC 9001, section 6.6 and appendix B); then the link has to be replaced.
pub(super) const PACKETS_MAX: u64 = 1 << 23;

/// A caller that waits for its answer.
pub(super) struct Caller {
    noise: Option<Noise>,
    /// The first message.
    pub(super) first: Bytes,
}

impl Caller {
    /// Seals the first message to a peer.
    pub(super) fn new(local: PeerId, to: &PeerId, own: ConnectionId, entropy: Entropy) -> Result<Self, HandshakeError> {
        let mut noise = Noise::sealed_to(to, &prologue(to), entropy)?;
        let mut first = BytesMut::new();
        noise.write(&[&[VERSION][..], local.as_bytes(), &own.0].concat(), &mut first)?;
        Ok(Self { noise: Some(noise), first: first.freeze() })
    }

    /// Reads the answer: the connection id of the other side, and the keys. One that is forged changes nothing.
    pub(super) fn on_answer(&mut self, answer: &[u8]) -> Option<(ConnectionId, Keys)> {
        let payload = self.noise.as_mut()?.read(answer).ok()?;
        let connection = match &payload[..] {
            [VERSION, id @ ..] => ConnectionId(id.try_into().ok()?),
            _ => return None,
        };
        let finished = self.noise.take()?.finish();
        Some((connection, Keys::new(&finished, true)))
    }
}

/// What the first message of a caller said.
pub(super) struct Called {
    pub(super) caller: PeerId,
    pub(super) connection: ConnectionId,
    /// The answer.
    pub(super) second: Bytes,
    pub(super) keys: Keys,
}

impl Called {
    /// Opens a first message and answers it under a connection id of this side.
    pub(super) fn new(
        identity: &Identity,
        first: &[u8],
        own: ConnectionId,
        entropy: Entropy,
    ) -> Result<Self, HandshakeError> {
        let mut noise = Noise::sealed_by_caller(identity, &prologue(&identity.peer_id()), entropy)?;
        let payload = noise.read(first)?;
        let (caller, connection) = match payload.split_first_chunk::<33>() {
            Some(([VERSION, caller @ ..], connection)) => (*caller, connection),
            Some(_) | None => return Err(HandshakeError::Forged),
        };
        let connection = connection.try_into().map_err(|_| HandshakeError::Forged)?;
        let mut second = BytesMut::new();
        noise.write(&[&[VERSION][..], &own.0].concat(), &mut second)?;
        Ok(Self {
            caller: PeerId::from_bytes(caller),
            connection: ConnectionId(connection),
            second: second.freeze(),
            keys: Keys::new(&noise.finish(), false),
        })
    }
}

fn prologue(called: &PeerId) -> Vec<u8> {
    [PROLOGUE, called.as_bytes()].concat()
}

/// The keys of a link.
pub(super) struct Keys {
    send: Half,
    receive: Half,
}

struct Half {
    key: LessSafeKey,
    mask: quic::HeaderProtectionKey,
}

impl Half {
    fn new(secret: &hkdf::Prk, from_caller: bool) -> Self {
        let name: &[u8] = if from_caller { b"from caller" } else { b"from called" };
        let (mut key, mut mask) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        for (label, out) in [(&b"bowline v1 mesh key "[..], &mut key), (b"bowline v1 mesh mask ", &mut mask)] {
            secret
                .expand(&[label, name], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(&mut out[..]))
                .expect("HKDF-SHA256 gives 32 bytes");
        }
        let unbound = UnboundKey::new(&aead::AES_256_GCM, &key[..]).expect("a key of AES-256 has 32 bytes");
        let mask = quic::HeaderProtectionKey::new(&quic::AES_256, &mask[..]).expect("a key of AES-256 has 32 bytes");
        Self { key: LessSafeKey::new(unbound), mask }
    }

    fn mask(&self, sealed: &[u8]) -> Option<[u8; NUMBER_BYTES]> {
        let [a, b, c, d, _] = self.mask.new_mask(sealed.get(..SAMPLE_BYTES)?).ok()?;
        Some([a, b, c, d])
    }
}

impl Keys {
    fn new(finished: &Finished, caller: bool) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &finished.hash).extract(&finished.keys[..]);
        Self { send: Half::new(&secret, caller), receive: Half::new(&secret, !caller) }
    }

    /// Seals the frames of a packet to the connection `to`. A number is used once.
    pub(super) fn seal(&self, number: u64, to: ConnectionId, frames: &[u8]) -> Option<Bytes> {
        let mut packet = BytesMut::with_capacity(SEAL_BYTES + frames.len());
        packet.extend_from_slice(&(number as u32).to_be_bytes());
        packet.extend_from_slice(frames);
        let (head, body) = packet.split_at_mut(NUMBER_BYTES);
        let tag = self.send.key.seal_in_place_separate_tag(nonce(number), Aad::from(to.0), body).ok()?;
        // The sample is taken from what is sealed, the tag included.
        let sample: Vec<u8> = body.iter().chain(tag.as_ref()).take(SAMPLE_BYTES).copied().collect();
        xor(head, self.send.mask(&sample)?);
        packet.extend_from_slice(tag.as_ref());
        Some(packet.freeze())
    }

    /// Opens a packet that came for the connection `own`: its number and its frames. `next` is the number after the highest so far, from
    /// which the rest of the number follows (RFC 9000, appendix A.3).
    pub(super) fn open(&self, next: u64, own: ConnectionId, packet: Bytes) -> Option<(u64, Bytes)> {
        let mut packet = BytesMut::from(packet);
        if packet.len() < NUMBER_BYTES + SAMPLE_BYTES {
            return None;
        }
        let mut sealed = packet.split_off(NUMBER_BYTES);
        xor(&mut packet, self.receive.mask(&sealed)?);
        let low = u32::from_be_bytes(*packet.first_chunk()?);
        let number = whole_number(next, low);
        let opened = self.receive.key.open_in_place(nonce(number), Aad::from(own.0), &mut sealed).ok()?.len();
        sealed.truncate(opened);
        Some((number, sealed.freeze()))
    }
}

fn xor(bytes: &mut [u8], mask: [u8; NUMBER_BYTES]) {
    bytes.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// The number nearest to `next` with these last 32 bits.
fn whole_number(next: u64, low: u32) -> u64 {
    const WINDOW: u64 = 1 << 32;
    let near = (next & !(WINDOW - 1)) | u64::from(low);
    if near + WINDOW / 2 <= next {
        near + WINDOW
    } else if near > next + WINDOW / 2 && near >= WINDOW {
        near - WINDOW
    } else {
        near
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    const A: ConnectionId = ConnectionId([1; 8]);
    const B: ConnectionId = ConnectionId([2; 8]);

    fn entropy(seed: u64) -> Entropy {
        Entropy::from_rng(&mut ChaCha20Rng::seed_from_u64(seed))
    }

    fn keys() -> (Keys, Keys) {
        let called = Identity::from_seed(&[7; 32]);
        let local = PeerId::from_bytes([9; 32]);
        let mut caller = Caller::new(local, &called.peer_id(), A, entropy(1)).unwrap();
        let answer = Called::new(&called, &caller.first, B, entropy(2)).unwrap();
        assert_eq!((answer.caller, answer.connection), (local, A));
        // Somebody between tries first.
        let mut forged = answer.second.to_vec();
        forged[40] ^= 1;
        assert!(caller.on_answer(&forged).is_none());
        assert!(caller.on_answer(&[]).is_none());
        let (connection, keys) = caller.on_answer(&answer.second).unwrap();
        assert_eq!(connection, B);
        assert!(caller.on_answer(&answer.second).is_none(), "once");
        (keys, answer.keys)
    }

    #[test]
    fn a_first_message_shows_nothing_of_its_caller_and_only_the_called_can_open_it() {
        let (called, other) = (Identity::from_seed(&[7; 32]), Identity::from_seed(&[8; 32]));
        let caller = Identity::from_seed(&[9; 32]).peer_id();
        let first = Caller::new(caller, &called.peer_id(), A, entropy(1)).unwrap().first;
        assert_eq!(first.len(), FIRST_BYTES);
        assert!(!first.windows(8).any(|part| part == &caller.as_bytes()[..8] || part == A.0));
        assert!(Called::new(&other, &first, B, entropy(2)).is_err());
        for at in 0..first.len() {
            let mut changed = first.to_vec();
            changed[at] ^= 1;
            assert!(Called::new(&called, &changed, B, entropy(2)).is_err(), "{at}");
        }
    }

    #[test]
    fn only_the_called_can_answer() {
        let (called, other) = (Identity::from_seed(&[7; 32]), Identity::from_seed(&[8; 32]));
        let local = PeerId::from_bytes([9; 32]);
        let mut caller = Caller::new(local, &called.peer_id(), A, entropy(1)).unwrap();
        let elsewhere = Caller::new(local, &other.peer_id(), A, entropy(1)).unwrap();
        let answer = Called::new(&other, &elsewhere.first, B, entropy(2)).unwrap();
        assert!(caller.on_answer(&answer.second).is_none());
    }

    #[test]
    fn packets_of_a_link_look_like_noise_and_open_at_the_other_end_only() {
        let (a, b) = keys();
        let packet = a.seal(5, B, b"frames").unwrap();
        assert_eq!(packet.len(), b"frames".len() + SEAL_BYTES);
        assert_ne!(packet[..4], 5_u32.to_be_bytes(), "the number is masked");
        assert_eq!(b.open(0, B, packet.clone()).unwrap(), (5, Bytes::from_static(b"frames")));
        assert!(b.open(0, A, packet.clone()).is_none(), "for another connection");
        assert!(a.open(0, B, packet).is_none(), "reflected");
    }

    proptest! {
        #[test]
        fn what_was_changed_or_cut_does_not_open(at in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<bool>(), frames in prop::collection::vec(any::<u8>(), 0..50)) {
            let (a, b) = keys();
            let mut packet = a.seal(3, B, &frames).unwrap().to_vec();
            let at = at.index(packet.len());
            if cut { packet.truncate(at) } else { packet[at] ^= 1 << bit }
            prop_assert!(b.open(0, B, packet.into()).is_none());
        }

        #[test]
        fn a_number_is_found_from_its_last_bits(next in 0..1_u64 << 40, off in -1_000_000_i64..1_000_000) {
            let number = next.saturating_add_signed(off);
            prop_assert_eq!(whole_number(next, number as u32), number);
        }
    }
}
