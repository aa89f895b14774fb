//! Everything that nodes tell each other beside their sessions, and what they read back from their journals.
//!
//! Input: `which u8 ‖ bytes`: which reader, and what it reads.
#![no_main]

use bowline_actors::membership::wire::Packet as MembershipPacket;
use bowline_actors::partition::wire::Signed;
use bowline_actors::partition::{group, log, state};
use bowline_actors::routing::wire::{MeshMessage, VectorMessage};
use bowline_actors::topology::EdgeList;
use bowline_actors::topology::{healing, link_state};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// The longest packet of the membership.
const PACKET_BYTES_MAX: usize = 16 * 1024;

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 12 {
        0 => {
            if let Ok(packet) = MembershipPacket::decode(bytes, PACKET_BYTES_MAX) {
                // No count in front can claim more than there is.
                assert!(packet.statements.len() <= bytes.len());
            }
        }
        1 => drop(MeshMessage::decode(Bytes::copy_from_slice(bytes))),
        2 => drop(VectorMessage::decode(bytes)),
        3 => drop(link_state::wire::decode(bytes)),
        4 => drop(link_state::wire::decode_body(bytes)),
        5 => drop(healing::wire::decode(bytes)),
        6 => drop(healing::wire::decode_body(bytes)),
        7 => drop(log::wire::decode(bytes)),
        8 => drop(log::stored::Persist::decode(bytes)),
        9 => drop(state::wire::decode(bytes)),
        10 => {
            if let Ok(signed) = Signed::decode(bytes) {
                // What was read can be written, and reads the same.
                let again = signed.encode().expect("it came from a payload that is short enough");
                assert_eq!(Signed::decode(&again), Ok(signed));
            }
        }
        _ => {
            drop(group::wire::decode(bytes));
            if let Ok(text) = std::str::from_utf8(bytes) {
                drop(EdgeList::parse(text));
            }
        }
    }
});
