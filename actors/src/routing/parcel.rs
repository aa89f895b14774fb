//! A datagram to a node to which there is neither a link nor a session: sealed to its name, so that relays see neither what is in it nor
//! who sent it. It proves nothing of its sender; what is in it has to (members sign what they say).
//!
//! ```text
//! Noise_NK_25519_AESGCM_SHA256, message 1, payload: version u8 ‖ concern u8 ‖ content
//! ```

use bowline_messages::PeerId;
use bowline_messages::network::Concern;
use bytes::{Bytes, BytesMut};

use super::wire::ConnectionId;
use crate::session::handshake::{Entropy, HandshakeError, Noise};
use crate::session::identity::Identity;

const VERSION: u8 = 1;
const PROLOGUE: &[u8] = b"bowline parcel 1\0";
/// To no link: links choose their numbers at random, and this one not.
pub const PARCEL: ConnectionId = ConnectionId([0xff; 8]);

/// Seals a datagram to a node.
///
/// # Errors
/// The name is no key, or the content does not fit.
pub fn seal(to: &PeerId, concern: Concern, content: &[u8], entropy: Entropy) -> Result<Bytes, HandshakeError> {
    let mut noise = Noise::sealed_to(to, &prologue(to), entropy)?;
    let mut sealed = BytesMut::new();
    noise.write(&[&[VERSION, concern.code()][..], content].concat(), &mut sealed)?;
    Ok(sealed.freeze())
}

/// Opens one that is for this node. `None`: forged, damaged, or of a later version.
pub fn open(identity: &Identity, sealed: &[u8], entropy: Entropy) -> Option<(Concern, Bytes)> {
    let mut noise = Noise::sealed_by_caller(identity, &prologue(&identity.peer_id()), entropy).ok()?;
    let mut content = Bytes::from(noise.read(sealed).ok()?);
    let &[VERSION, concern, ..] = &content[..] else { return None };
    Some((Concern::from_code(concern)?, content.split_off(2)))
}

fn prologue(to: &PeerId) -> Vec<u8> {
    [PROLOGUE, to.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_whom_it_is_for_opens_it_and_it_shows_nothing() {
        let (to, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let entropy = || Entropy::system().unwrap();
        let sealed = seal(&to.peer_id(), Concern::Membership, b"is anybody there?", entropy()).unwrap();
        assert!(!sealed.windows(7).any(|bytes| bytes == b"anybody"));
        let opened = open(&to, &sealed, entropy()).unwrap();
        assert_eq!(opened, (Concern::Membership, Bytes::from_static(b"is anybody there?")));
        assert!(open(&other, &sealed, entropy()).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert!(open(&to, &changed, entropy()).is_none(), "{at}");
            assert!(open(&to, &sealed[..at], entropy()).is_none(), "{at}");
        }
    }

    #[test]
    fn a_name_that_is_no_key_is_an_error() {
        let mut none = (0..=255u8).map(|byte| PeerId::from_bytes([byte; 32]));
        assert!(none.any(|peer| seal(&peer, Concern::Membership, b"", Entropy::system().unwrap()).is_err()));
    }
}
