//! Opening records that the fuzzer made, changed, cut or repeated.
//!
//! Input: one instruction a time, `what u8 ‖ which u8 ‖ at u8 ‖ by u8`, then a packet of the fuzzer's own.
#![no_main]

use std::collections::BTreeSet;
use std::time::Instant;

use bowline_fuzz::linked;
use bowline_messages::wire::packet::next_packet;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (_, _, mut a, mut b, _) = linked();
    let mut sealed: Vec<BytesMut> = Vec::new();
    let mut opened = BTreeSet::new();
    let mut rest = data;
    while let Some((step, tail)) = rest.split_first_chunk::<4>() {
        rest = tail;
        let [what, which, at, by] = *step;
        match what % 5 {
            0 => {
                let mut buffer = BytesMut::new();
                let start = a.sealer.begin(&mut buffer);
                buffer.extend_from_slice(step);
                let _ = a.sealer.finish(&mut buffer, start).expect("small");
                sealed.extend(next_packet(&mut buffer).expect("ours"));
            }
            1 if a.sealer.epoch() < b.opener.epoch() + 8 => drop(a.sealer.rotate(Instant::now())),
            2 => b.opener.forget_previous(),
            _ if sealed.is_empty() => {}
            _ => {
                let n = usize::from(which) % sealed.len();
                let mut packet = sealed[n].clone();
                let at = usize::from(at) % packet.len();
                packet[at] ^= by;
                if b.opener.open(packet).is_ok() {
                    assert!(by == 0 && opened.insert(n), "changed, or opened twice");
                }
            }
        }
    }
    assert!(b.opener.open(BytesMut::from(data)).is_err());
});
