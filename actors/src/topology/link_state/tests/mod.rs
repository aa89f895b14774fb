#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod adversarial;
mod cost;
mod spreading;
pub(crate) mod world;

use std::rc::Rc;
use std::time::Instant;

use bowline_messages::config::LinkStateConfig;
use bowline_messages::{Incarnation, PeerId};

use super::{Authority, LinkState, SIGNATURE_BYTES};

/// Names spread over the whole range, in no order.
pub(crate) fn peer(number: usize) -> PeerId {
    PeerId::from_bytes(*blake3::hash(&(number as u64).to_be_bytes()).as_bytes())
}

/// Signatures that cost little: a digest that depends on the signer, which everybody could make.
pub(crate) struct Cheap(pub(crate) PeerId);

impl Cheap {
    fn signature(peer: &PeerId, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        blake3::Hasher::new_keyed(peer.as_bytes()).update(bytes).finalize_xof().fill(&mut signature);
        signature
    }
}

impl Authority for Cheap {
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        Self::signature(&self.0, bytes)
    }

    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Self::signature(peer, bytes) == *signature
    }
}

pub(crate) fn machine(now: Instant, number: usize, config: &LinkStateConfig) -> LinkState {
    let own = peer(number);
    LinkState::new(now, own, Incarnation(1), config.clone(), Rc::new(Cheap(own)), Rc::new(|_| false), number as u64)
}
