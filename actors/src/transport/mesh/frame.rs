//! What is in a packet of a link once it is opened: frames, one behind another.
//!
//! ```text
//! 0x01 DATA    lane u8 ‖ offset u64 ‖ length u16 ‖ bytes
//! 0x02 ACK     delay in µs u32 ‖ count u8 (1–32) ‖ (first u64 ‖ last u64)…, newest first
//! 0x03 CREDIT  lane u8 ‖ until u64
//! 0x04 PING
//! 0x05 END     final offset u64 of each lane
//! 0x06 RESET
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::transport::Lane;

/// Lanes in every link: one per message class.
pub(super) const LANES: usize = 5;
/// Ranges in one acknowledgement at most.
pub(super) const RANGES_MAX: usize = 32;
/// The longest acknowledgement.
pub(super) const ACK_BYTES_MAX: usize = 6 + 16 * RANGES_MAX;
/// What DATA has in front of its bytes.
pub(super) const DATA_HEAD_BYTES: usize = 12;

const DATA: u8 = 1;
const ACK: u8 = 2;
const CREDIT: u8 = 3;
const PING: u8 = 4;
const END: u8 = 5;
const RESET: u8 = 6;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Bytes of a lane.
    Data { lane: Lane, offset: u64, bytes: Bytes },
    /// Packets that have come: ranges with both their ends, newest first; and how long the newest waited, in µs.
    Ack { delay_us: u32, ranges: Vec<(u64, u64)> },
    /// How far a lane may be written.
    Credit { lane: Lane, until: u64 },
    /// Asks for an acknowledgement.
    Ping,
    /// Nothing follows behind these offsets.
    End { finals: [u64; LANES] },
    /// The link is over at once.
    Reset,
}

/// A packet that is none of ours although it could be opened. The peer's fault; the link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed packet: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

impl Frame {
    /// Its length as bytes.
    pub(super) fn wire_bytes(&self) -> usize {
        match self {
            Self::Data { bytes, .. } => DATA_HEAD_BYTES + bytes.len(),
            Self::Ack { ranges, .. } => 6 + 16 * ranges.len(),
            Self::Credit { .. } => 10,
            Self::Ping | Self::Reset => 1,
            Self::End { .. } => 1 + 8 * LANES,
        }
    }

    pub(super) fn encode(&self, into: &mut BytesMut) {
        match self {
            Self::Data { lane, offset, bytes } => {
                into.put_slice(&[DATA, *lane]);
                into.put_u64(*offset);
                into.put_u16(bytes.len() as u16);
                into.put_slice(bytes);
            }
            Self::Ack { delay_us, ranges } => {
                into.put_u8(ACK);
                into.put_u32(*delay_us);
                into.put_u8(ranges.len() as u8);
                for (first, last) in ranges {
                    into.put_u64(*first);
                    into.put_u64(*last);
                }
            }
            Self::Credit { lane, until } => {
                into.put_slice(&[CREDIT, *lane]);
                into.put_u64(*until);
            }
            Self::Ping => into.put_u8(PING),
            Self::End { finals } => {
                into.put_u8(END);
                finals.iter().for_each(|offset| into.put_u64(*offset));
            }
            Self::Reset => into.put_u8(RESET),
        }
    }

    /// Reads the frames of a packet.
    pub(super) fn decode_all(mut packet: Bytes) -> Result<Vec<Self>, Malformed> {
        let mut frames = Vec::new();
        while packet.has_remaining() {
            frames.push(Self::decode(&mut packet)?);
        }
        Ok(frames)
    }

    fn decode(packet: &mut Bytes) -> Result<Self, Malformed> {
        let cut = |_| Malformed("cut short");
        Ok(match packet.try_get_u8().map_err(cut)? {
            DATA => {
                let lane = lane(packet)?;
                let offset = packet.try_get_u64().map_err(cut)?;
                let length = usize::from(packet.try_get_u16().map_err(cut)?);
                if length == 0 || length > packet.len() || offset > u64::MAX / 2 {
                    return Err(Malformed("length or offset"));
                }
                Self::Data { lane, offset, bytes: packet.split_to(length) }
            }
            ACK => {
                let delay_us = packet.try_get_u32().map_err(cut)?;
                let count = usize::from(packet.try_get_u8().map_err(cut)?);
                if !(1..=RANGES_MAX).contains(&count) {
                    return Err(Malformed("number of ranges"));
                }
                let mut ranges = Vec::with_capacity(count);
                let mut below = u64::MAX;
                for _ in 0..count {
                    let first = packet.try_get_u64().map_err(cut)?;
                    let last = packet.try_get_u64().map_err(cut)?;
                    if first > last || last >= below {
                        return Err(Malformed("order of ranges"));
                    }
                    ranges.push((first, last));
                    below = first;
                }
                Self::Ack { delay_us, ranges }
            }
            CREDIT => Self::Credit { lane: lane(packet)?, until: packet.try_get_u64().map_err(cut)? },
            PING => Self::Ping,
            END => {
                let mut finals = [0; LANES];
                for offset in &mut finals {
                    *offset = packet.try_get_u64().map_err(cut)?;
                }
                Self::End { finals }
            }
            RESET => Self::Reset,
            _ => return Err(Malformed("unknown frame")),
        })
    }
}

fn lane(packet: &mut Bytes) -> Result<Lane, Malformed> {
    let lane = packet.try_get_u8().map_err(|_| Malformed("cut short"))?;
    if usize::from(lane) < LANES { Ok(lane) } else { Err(Malformed("lane")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            (0..5_u8, 0..u64::MAX / 2, prop::collection::vec(any::<u8>(), 1..100))
                .prop_map(|(lane, offset, bytes)| Frame::Data { lane, offset, bytes: bytes.into() }),
            (any::<u32>(), prop::collection::btree_set(any::<u32>(), 1..20)).prop_map(|(delay_us, at)| {
                let ranges = at.into_iter().rev().map(|at| (u64::from(at) * 4, u64::from(at) * 4 + 2)).collect();
                Frame::Ack { delay_us, ranges }
            }),
            (0..5_u8, any::<u64>()).prop_map(|(lane, until)| Frame::Credit { lane, until }),
            Just(Frame::Ping),
            any::<[u64; LANES]>().prop_map(|finals| Frame::End { finals }),
            Just(Frame::Reset),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_back(frames in prop::collection::vec(frame(), 0..8)) {
            let mut bytes = BytesMut::new();
            frames.iter().for_each(|frame| frame.encode(&mut bytes));
            prop_assert_eq!(bytes.len(), frames.iter().map(Frame::wire_bytes).sum::<usize>());
            prop_assert_eq!(Frame::decode_all(bytes.freeze()).unwrap(), frames);
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 1..8_u8) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            let _ = Frame::decode_all(bytes.into());
        }
    }
}
