//! Packets: what a lane of a link carries. `length u32 ‖ packet`, the first byte of a packet is its type.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::reader::{Reader, Short};
use super::version::OfferedVersions;

/// The longest packet, in bytes, its length field not counted: 16 KiB of frames and room for headers.
pub const PACKET_BYTES_MAX: usize = 16 * 1024 + 512;
/// Bytes of the length in front of every packet.
pub const LENGTH_BYTES: usize = 4;

/// The type of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketType {
    /// First message of the full handshake, by the initiator.
    Hello,
    /// Second, by the responder.
    Answer,
    /// Third, by the initiator.
    Finish,
    /// First message of an attachment or resumption, by the initiator.
    Attach,
    /// Second, by the responder.
    Attached,
    /// A typed refusal, before keys exist.
    Refuse,
    /// A sealed record.
    Record,
}

impl PacketType {
    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Hello => 0x01,
            Self::Answer => 0x02,
            Self::Finish => 0x03,
            Self::Attach => 0x04,
            Self::Attached => 0x05,
            Self::Refuse => 0x06,
            Self::Record => 0x10,
        }
    }

    /// The type with this byte.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(Self::Hello),
            0x02 => Some(Self::Answer),
            0x03 => Some(Self::Finish),
            0x04 => Some(Self::Attach),
            0x05 => Some(Self::Attached),
            0x06 => Some(Self::Refuse),
            0x10 => Some(Self::Record),
            _ => None,
        }
    }
}

/// What is wrong with a packet or with the sequence of them. The peer's fault; the link cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// A length of zero: a packet has at least its type.
    #[error("a packet without a type")]
    Empty,
    /// A length above [`PACKET_BYTES_MAX`]; nothing was buffered for it.
    #[error("a packet of {length} bytes, more than {PACKET_BYTES_MAX}")]
    TooLong {
        /// The length it claims.
        length: usize,
    },
    /// The packet ends before its content does, or has content that cannot be.
    #[error("a malformed {0:?} packet")]
    Malformed(PacketType),
}

/// The length of the packet at the front of `data`, without its length field; `None` when fewer than four bytes are there.
fn length_of_next(data: &[u8]) -> Result<Option<usize>, PacketError> {
    let Some(length) = data.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    match u32::from_be_bytes(*length) as usize {
        0 => Err(PacketError::Empty),
        length if length > PACKET_BYTES_MAX => Err(PacketError::TooLong { length }),
        length => Ok(Some(length)),
    }
}

/// Splits the next packet off, without its length. `None` when it has not arrived as a whole.
///
/// # Errors
/// [`PacketError::Empty`] and [`PacketError::TooLong`] as soon as the length has arrived; nothing was taken.
pub fn next_packet(buffer: &mut BytesMut) -> Result<Option<BytesMut>, PacketError> {
    let Some(length) = length_of_next(buffer)? else { return Ok(None) };
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    let mut packet = buffer.split_to(LENGTH_BYTES + length);
    packet.advance(LENGTH_BYTES);
    Ok(Some(packet))
}

/// Splits off everything up to the end of the last whole packet, lengths included. `None` when there is no whole packet.
///
/// Each length is checked the moment it is seen, so an endless packet is refused before any of it is waited for. What came
/// before a broken length is given out first; the call after that gives the error.
///
/// # Errors
/// [`PacketError::Empty`] and [`PacketError::TooLong`]; nothing was taken.
pub fn whole_packets(buffer: &mut BytesMut) -> Result<Option<BytesMut>, PacketError> {
    let mut whole = 0;
    loop {
        match length_of_next(&buffer[whole..]) {
            Ok(Some(length)) if buffer.len() - whole >= LENGTH_BYTES + length => whole += LENGTH_BYTES + length,
            Ok(_) => break,
            Err(error) if whole == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok((whole > 0).then(|| buffer.split_to(whole)))
}

/// Appends a packet with its length in front.
///
/// # Panics
/// When type and body together are longer than [`PACKET_BYTES_MAX`]: a mistake of the caller.
pub fn put_packet(into: &mut BytesMut, kind: PacketType, body: &[u8]) {
    let length = 1 + body.len();
    assert!(length <= PACKET_BYTES_MAX, "a packet has at most {PACKET_BYTES_MAX} bytes");
    into.reserve(LENGTH_BYTES + length);
    into.put_u32(length as u32);
    into.put_u8(kind.byte());
    into.extend_from_slice(body);
}

/// The number of a record: unique per link and direction for the whole life of the link, across key epochs. It is also the
/// counter in the nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordNumber(pub u64);

impl fmt::Display for RecordNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The header of a record: `0x10 ‖ epoch u16 ‖ counter u64`, authenticated and not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Which of the link's secrets sealed it.
    pub epoch: u16,
    /// Its number.
    pub number: RecordNumber,
}

impl RecordHeader {
    /// Bytes of the header.
    pub const BYTES: usize = 11;

    /// The header as it stands in the packet.
    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = PacketType::Record.byte();
        bytes[1..3].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[3..].copy_from_slice(&self.number.0.to_be_bytes());
        bytes
    }

    /// The header at the front of a packet; `None` when the packet is no record or too short for a header.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let [kind, e0, e1, counter @ ..] = packet.first_chunk::<{ Self::BYTES }>()?;
        (*kind == PacketType::Record.byte())
            .then(|| Self { epoch: u16::from_be_bytes([*e0, *e1]), number: RecordNumber(u64::from_be_bytes(*counter)) })
    }
}

/// Why a connection was turned away before keys existed. It is not authenticated: it explains, and decides nothing that a
/// cut connection would not decide as well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// None of the versions offered is known here.
    #[error("no common version, the other side speaks {versions}")]
    UnsupportedVersion {
        /// The versions of the side that refuses.
        versions: OfferedVersions,
    },
    /// Too many connections that have not proven who they are.
    #[error("too many connections")]
    TooManyConnections,
    /// Too many connections from the same source, at once or a minute.
    #[error("too many connections from this address")]
    SourceLimit,
    /// An attempt from the same source failed a short while ago.
    #[error("cooling down after a failed attempt from this address")]
    CoolDown,
    /// The peer is not trusted here.
    #[error("not allowed here")]
    NotAllowed,
    /// The resume ticket is not known (any more): do the full handshake.
    #[error("unknown resume ticket")]
    UnknownTicket,
    /// The node has too much to do.
    #[error("busy")]
    Busy,
    /// The node is about to stop.
    #[error("shutting down")]
    ShuttingDown,
    /// A reason that this version does not know.
    #[error("refused with code {0}")]
    Unknown(u16),
}

impl Refusal {
    /// The number on the wire.
    pub const fn code(&self) -> u16 {
        match self {
            Self::UnsupportedVersion { .. } => 1,
            Self::TooManyConnections => 2,
            Self::SourceLimit => 3,
            Self::CoolDown => 4,
            Self::NotAllowed => 5,
            Self::UnknownTicket => 6,
            Self::Busy => 7,
            Self::ShuttingDown => 8,
            Self::Unknown(code) => *code,
        }
    }

    /// The whole packet with its length in front, ready to be written.
    pub fn framed(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(48);
        body.put_u16(self.code());
        if let Self::UnsupportedVersion { versions } = self {
            versions.put(&mut body);
        }
        let mut packet = BytesMut::with_capacity(LENGTH_BYTES + 1 + body.len());
        put_packet(&mut packet, PacketType::Refuse, &body);
        packet.freeze()
    }

    /// Reads the body of a REFUSE packet (what follows the type). Trailing bytes belong to later versions and are ignored.
    ///
    /// # Errors
    /// [`PacketError::Malformed`].
    pub fn decode(body: &[u8]) -> Result<Self, PacketError> {
        Self::read(&mut Reader::new(body, 0)).map_err(|Short| PacketError::Malformed(PacketType::Refuse))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        Ok(match reader.u16()? {
            1 => Self::UnsupportedVersion { versions: OfferedVersions::read(reader)? },
            2 => Self::TooManyConnections,
            3 => Self::SourceLimit,
            4 => Self::CoolDown,
            5 => Self::NotAllowed,
            6 => Self::UnknownTicket,
            7 => Self::Busy,
            8 => Self::ShuttingDown,
            code => Self::Unknown(code),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wire::Version;
    use proptest::prelude::*;

    fn framed(packets: &[Vec<u8>]) -> BytesMut {
        let mut buffer = BytesMut::new();
        for packet in packets {
            buffer.put_u32(packet.len() as u32);
            buffer.extend_from_slice(packet);
        }
        buffer
    }

    #[test]
    fn an_endless_length_is_refused_with_only_its_four_bytes_there() {
        let mut buffer = BytesMut::from(&[0x7f, 0xff, 0xff, 0xff][..]);
        assert_eq!(next_packet(&mut buffer), Err(PacketError::TooLong { length: 0x7fff_ffff }));
        assert_eq!(whole_packets(&mut buffer), Err(PacketError::TooLong { length: 0x7fff_ffff }));
    }

    #[test]
    fn packets_before_a_broken_length_are_given_out_first() {
        let mut buffer = framed(&[vec![1, 2, 3]]);
        buffer.put_u32(0);
        assert_eq!(whole_packets(&mut buffer).unwrap().unwrap().len(), 7);
        assert_eq!(whole_packets(&mut buffer), Err(PacketError::Empty));
    }

    #[test]
    fn every_refusal_comes_back() {
        let versions = OfferedVersions::new([Version(1), Version(7)]).unwrap();
        for code in 0..20 {
            let refusal = match code {
                1 => Refusal::UnsupportedVersion { versions: versions.clone() },
                code => Refusal::decode(&[0, code]).unwrap(),
            };
            assert_eq!(refusal.code(), u16::from(code));
            let mut framed = BytesMut::from(&refusal.framed()[..]);
            let packet = next_packet(&mut framed).unwrap().unwrap();
            assert_eq!(packet[0], PacketType::Refuse.byte());
            assert_eq!(Refusal::decode(&packet[1..]).unwrap(), refusal);
        }
        assert!(Refusal::decode(&[0]).is_err());
        assert!(Refusal::decode(&[0, 1, 3, 0, 1]).is_err());
    }

    proptest! {
        #[test]
        fn packets_come_out_whole_however_the_bytes_are_cut(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..12),
            cuts in proptest::collection::vec(1..200usize, 1..40),
            together in any::<bool>(),
        ) {
            let stream = framed(&packets);
            let (mut rest, mut buffer, mut out, mut n) = (&stream[..], BytesMut::new(), Vec::new(), 0);
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts[n % cuts.len()].min(rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
                n += 1;
                if together {
                    while let Some(mut whole) = whole_packets(&mut buffer).unwrap() {
                        while let Some(packet) = next_packet(&mut whole).unwrap() {
                            out.push(packet.to_vec());
                        }
                        prop_assert!(whole.is_empty());
                    }
                } else {
                    while let Some(packet) = next_packet(&mut buffer).unwrap() {
                        out.push(packet.to_vec());
                    }
                }
            }
            prop_assert_eq!(out, packets);
        }

        #[test]
        fn any_bytes_are_cut_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(whole)) = whole_packets(&mut buffer) {
                prop_assert!(whole.len() > LENGTH_BYTES);
            }
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(packet)) = next_packet(&mut buffer) {
                let _ = RecordHeader::decode(&packet);
                let _ = Refusal::decode(&packet);
            }
        }
    }
}
