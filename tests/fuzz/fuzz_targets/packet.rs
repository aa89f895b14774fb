//! Cutting a stream of bytes into packets.
#![no_main]

use bowline_messages::wire::packet::{LENGTH_BYTES, PACKET_BYTES_MAX, next_packet, whole_packets};
use bowline_messages::wire::{RecordHeader, Refusal};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut one_by_one = BytesMut::from(data);
    let mut taken = 0;
    while let Ok(Some(packet)) = next_packet(&mut one_by_one) {
        assert!(!packet.is_empty() && packet.len() <= PACKET_BYTES_MAX);
        taken += LENGTH_BYTES + packet.len();
        let _ = RecordHeader::decode(&packet);
        let _ = Refusal::decode(&packet[1..]);
    }
    let mut together = BytesMut::from(data);
    let mut whole = 0;
    while let Ok(Some(packets)) = whole_packets(&mut together) {
        whole += packets.len();
    }
    assert_eq!(taken, whole);
});
