//! Reading the frames of a record.
#![no_main]

use bowline_messages::wire::frame::{ACK_RANGES_MAX, Frame, FrameReader};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut reader = FrameReader::new(Bytes::copy_from_slice(data));
    let mut frames = 0;
    while let Ok(Some(frame)) = reader.next() {
        frames += 1;
        assert!(frames <= data.len());
        match frame {
            Frame::Ack(ack) => {
                let mut below = u64::MAX;
                let count = ack.ranges.inspect(|range| {
                    assert!(range.start() <= range.end() && *range.end() < below);
                    below = *range.start();
                });
                assert!(count.count() <= ACK_RANGES_MAX);
            }
            Frame::Fragment(part) => assert!(part.offset + part.payload.len() as u64 <= part.total),
            Frame::Addresses(addresses) => drop(addresses.endpoints().count()),
            _ => {}
        }
    }
    assert_eq!(reader.next(), Ok(None));
});
