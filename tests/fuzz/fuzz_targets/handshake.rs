//! Both handshake machines against packets of the fuzzer's making and real ones it has changed.
//!
//! Input: one instruction a time, `choice u8 ‖ at u8 ‖ by u8`: which packet to deliver to which side, and one byte to change in it.
#![no_main]

use std::time::Instant;

use bowline_actors::session::handshake::{InitiatorStep, ResponderStep};
use bowline_fuzz::{linked, packet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((mode, steps)) = data.split_first() else { return };
    let (mut a, mut b, _, _, mut known) = linked();
    if mode & 1 == 0 {
        a.ticket = None;
    }
    let now = Instant::now();
    let (mut initiator, first) = a.dial(&b);
    let mut responder = b.accept();
    known.push(first);
    let (mut ours, mut theirs) = (None, None);
    for step in steps.chunks_exact(3).take(12) {
        let mut sent = known[usize::from(step[0] >> 1) % known.len()].clone();
        let at = usize::from(step[1]) * 2 % sent.len();
        sent[at] ^= step[2];
        let answer = if step[0] & 1 == 0 {
            match responder.on_packet(now, &sent, &mut b) {
                Ok(ResponderStep::Send(send) | ResponderStep::Refuse { send, .. }) => Some(send),
                Ok(ResponderStep::Done { send, established }) => {
                    assert_eq!(established.peer, a.identity.peer_id());
                    theirs = Some(established);
                    send
                }
                Err(_) => None,
            }
        } else {
            match initiator.on_packet(now, &sent) {
                Ok(InitiatorStep::Send(send)) => Some(send),
                Ok(InitiatorStep::Done { send, established }) => {
                    assert_eq!(established.peer, b.identity.peer_id());
                    ours = Some(established);
                    send
                }
                Err(_) => None,
            }
        };
        known.extend(answer.map(|framed| packet(&framed)));
    }
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        assert_eq!(ours.ticket.id, theirs.ticket.id, "both came to an end, so with each other");
    }
    let _ = responder.on_packet(now, steps, &mut b);
    let _ = initiator.on_packet(now, steps);
});
