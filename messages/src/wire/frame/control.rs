//! The small frames: padding, ping, skip, delivered, addresses, link down, close.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{ADDRESSES_MAX, CLOSE_TEXT_BYTES_MAX, Frame, types};
use crate::address::EndpointAddress;
use crate::id::{ChannelId, Incarnation, LinkId, PeerId};
use crate::link::LinkFailure;
use crate::wire::hello::SIGNATURE_BYTES;
use crate::wire::reader::{Reader, Short};
use crate::wire::varint;

/// Why a link is dead, as the other side says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LinkDownCode {
    /// The transport reported an error, or the connection was closed.
    Transport,
    /// Data on it was not acknowledged in time.
    Unacknowledged,
    /// It answers probes and carries nothing.
    Stalled,
    /// Nothing was heard on it.
    Silent,
    /// Its interface went down.
    InterfaceDown,
    /// Closed on purpose.
    Closed,
    /// Its actor failed.
    Failed,
    /// The protocol was broken on it.
    Protocol,
    /// A reason that this version does not know.
    Unknown(u16),
}

impl LinkDownCode {
    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::Transport => 1,
            Self::Unacknowledged => 2,
            Self::Stalled => 3,
            Self::Silent => 4,
            Self::InterfaceDown => 5,
            Self::Closed => 6,
            Self::Failed => 7,
            Self::Protocol => 8,
            Self::Unknown(code) => code,
        }
    }

    /// The reason with this number.
    pub const fn from_code(code: u16) -> Self {
        match code {
            1 => Self::Transport,
            2 => Self::Unacknowledged,
            3 => Self::Stalled,
            4 => Self::Silent,
            5 => Self::InterfaceDown,
            6 => Self::Closed,
            7 => Self::Failed,
            8 => Self::Protocol,
            code => Self::Unknown(code),
        }
    }
}

impl From<&LinkFailure> for LinkDownCode {
    fn from(failure: &LinkFailure) -> Self {
        match failure {
            LinkFailure::Transport(_) | LinkFailure::ClosedByPeer => Self::Transport,
            // What the peer refused it has forgotten.
            LinkFailure::ClosedHere(_) | LinkFailure::Refused(_) => Self::Closed,
            LinkFailure::Unacknowledged(_) | LinkFailure::PeerReported | LinkFailure::Worsening(..) => {
                Self::Unacknowledged
            }
            LinkFailure::Stalled(_) => Self::Stalled,
            LinkFailure::Silent(_) => Self::Silent,
            LinkFailure::InterfaceDown(_) => Self::InterfaceDown,
            LinkFailure::ActorPanicked => Self::Failed,
            LinkFailure::Protocol(_) => Self::Protocol,
        }
    }
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CloseCode {
    /// It is no longer needed.
    Done,
    /// The node stops.
    ShuttingDown,
    /// The peer broke the protocol.
    Protocol,
    /// The peer is no longer allowed here.
    NotAllowed,
    /// The node failed at it.
    Failed,
    /// A reason that this version does not know.
    Unknown(u16),
}

impl CloseCode {
    /// The number on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Self::Done => 0,
            Self::ShuttingDown => 1,
            Self::Protocol => 2,
            Self::NotAllowed => 3,
            Self::Failed => 4,
            Self::Unknown(code) => code,
        }
    }

    /// The reason with this number.
    pub const fn from_code(code: u16) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::ShuttingDown,
            2 => Self::Protocol,
            3 => Self::NotAllowed,
            4 => Self::Failed,
            code => Self::Unknown(code),
        }
    }
}

/// Where a peer says it can be reached. The content only: whoever has the peer's key can check the signature.
///
/// On the wire: `peer [32] ‖ version u64 ‖ count u8 ‖ (length u8 ‖ text)… ‖ signature [64]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAddresses {
    /// Who can be reached there.
    pub peer: PeerId,
    /// Grows with every change; a smaller one is out of date.
    pub version: u64,
    /// The addresses as the peer wrote them, up to 32 of up to 255 bytes each. Those that are not understood here are kept, because
    /// the signature covers them.
    pub addresses: Vec<String>,
    /// Ed25519 over [`SignedAddresses::signed_bytes`].
    pub signature: [u8; SIGNATURE_BYTES],
}

impl SignedAddresses {
    /// What the signature covers: everything before it.
    pub fn signed_bytes(&self) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(self.bytes());
        self.put_content(&mut bytes);
        bytes
    }

    /// The addresses that are understood here.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointAddress> + '_ {
        self.addresses.iter().filter_map(|text| text.parse().ok())
    }

    /// Bytes of the encoding, type byte not counted.
    pub fn bytes(&self) -> usize {
        32 + 8 + 1 + self.written().map(|text| 1 + text.len()).sum::<usize>() + SIGNATURE_BYTES
    }

    /// Those addresses that fit the format; the others could not be read back and are left out.
    fn written(&self) -> impl Iterator<Item = &String> {
        self.addresses.iter().filter(|text| text.len() <= 255).take(ADDRESSES_MAX)
    }

    fn put_content(&self, into: &mut BytesMut) {
        into.extend_from_slice(self.peer.as_bytes());
        into.put_u64(self.version);
        into.put_u8(self.written().count() as u8);
        for text in self.written() {
            into.put_u8(text.len() as u8);
            into.extend_from_slice(text.as_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        let peer = PeerId::from_bytes(reader.array()?);
        let version = reader.u64()?;
        let count = usize::from(reader.u8()?);
        if count > ADDRESSES_MAX {
            return Err(Short);
        }
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let length = usize::from(reader.u8()?);
            let text = std::str::from_utf8(reader.take(length)?).map_err(|_| Short)?;
            addresses.push(text.to_owned());
        }
        Ok(Self { peer, version, addresses, signature: reader.array()? })
    }
}

/// Appends `bytes` of padding.
pub fn put_padding(into: &mut BytesMut, bytes: usize) {
    into.put_bytes(types::PADDING, bytes);
}

/// Appends a PING frame: one byte.
pub fn put_ping(into: &mut BytesMut) {
    into.put_u8(types::PING);
}

/// Appends a SKIP frame: numbers from `from` up to, not including, `until` will never come.
///
/// # Panics
/// When a number is above [`varint::MAX`].
pub fn put_skip(into: &mut BytesMut, channel: ChannelId, from: u64, until: u64) {
    into.put_u8(types::SKIP);
    for number in [channel.0.into(), from, until] {
        varint::put(into, number);
    }
}

/// Appends a DELIVERED frame: the application has everything before `next` and takes `window` bytes from there on.
///
/// # Panics
/// When a number is above [`varint::MAX`].
pub fn put_delivered(into: &mut BytesMut, channel: ChannelId, next: u64, window: u64) {
    varint::put_frame(into, types::DELIVERED, [channel.0.into(), next, window]);
}

/// Appends an ADDRESSES frame.
pub fn put_addresses(into: &mut BytesMut, addresses: &SignedAddresses) {
    into.reserve(1 + addresses.bytes());
    into.put_u8(types::ADDRESSES);
    addresses.put_content(into);
    into.extend_from_slice(&addresses.signature);
}

/// Appends a LINK_DOWN frame.
pub fn put_link_down(into: &mut BytesMut, link: LinkId, reason: LinkDownCode) {
    into.put_u8(types::LINK_DOWN);
    varint::put(into, link.0.into());
    varint::put(into, reason.code().into());
}

/// Appends a SESSION frame.
pub fn put_session(into: &mut BytesMut, incarnation: Incarnation) {
    into.put_u8(types::SESSION);
    into.put_u64(incarnation.0);
}

/// Appends a QUARANTINED frame.
///
/// # Panics
/// When `sequence` is above [`varint::MAX`].
pub fn put_quarantined(into: &mut BytesMut, channel: ChannelId, sequence: u64) {
    into.put_u8(types::QUARANTINED);
    varint::put(into, channel.0.into());
    varint::put(into, sequence);
}

/// The longest ACK_FREQUENCY frame, in bytes: its type (two bytes), its length and two numbers.
pub const ACK_FREQUENCY_BYTES_MAX: usize = 2 + 1 + 2 * 8;

/// Appends an ACK_FREQUENCY frame.
///
/// # Panics
/// When a number is above [`varint::MAX`].
pub fn put_ack_frequency(into: &mut BytesMut, records: u64, delay_us: u64) {
    varint::put(into, types::ACK_FREQUENCY);
    varint::put(into, (varint::length(records) + varint::length(delay_us)) as u64);
    varint::put(into, records);
    varint::put(into, delay_us);
}

/// Reads what an ACK_FREQUENCY frame holds: two numbers and nothing else.
pub(super) fn read_ack_frequency(content: &[u8]) -> Result<Frame, Short> {
    let mut reader = Reader::new(content, 0);
    let (records, delay_us) = (reader.varint()?, reader.varint()?);
    if reader.remaining() > 0 { Err(Short) } else { Ok(Frame::AckFrequency { records, delay_us }) }
}

/// Appends a CLOSE frame. A text above 256 bytes is cut at a character.
pub fn put_close(into: &mut BytesMut, code: CloseCode, text: &str) {
    let text = &text[..text.floor_char_boundary(CLOSE_TEXT_BYTES_MAX)];
    into.put_u8(types::CLOSE);
    varint::put(into, code.code().into());
    varint::put(into, text.len() as u64);
    into.extend_from_slice(text.as_bytes());
}

/// The type byte of the first padding byte was read already.
pub(super) fn read_padding(reader: &mut Reader<'_>, record: &Bytes) -> Frame {
    let rest = record.get(reader.at()..).unwrap_or_default();
    let more = rest.iter().take_while(|byte| **byte == types::PADDING).count();
    // `more` bytes are there: they were just counted.
    let _ = reader.take(more);
    Frame::Padding { bytes: 1 + more }
}

pub(super) fn read_quarantined(reader: &mut Reader<'_>) -> Result<Frame, Short> {
    Ok(Frame::Quarantined { channel: ChannelId(reader.varint_u32()?), sequence: reader.varint()? })
}

pub(super) fn read_skip(reader: &mut Reader<'_>) -> Result<Frame, Short> {
    let channel = ChannelId(reader.varint_u32()?);
    let (from, until) = (reader.varint()?, reader.varint()?);
    if from < until { Ok(Frame::Skip { channel, from, until }) } else { Err(Short) }
}

pub(super) fn read_delivered(reader: &mut Reader<'_>) -> Result<Frame, Short> {
    Ok(Frame::Delivered { channel: ChannelId(reader.varint_u32()?), next: reader.varint()?, window: reader.varint()? })
}

pub(super) fn read_addresses(reader: &mut Reader<'_>) -> Result<Frame, Short> {
    Ok(Frame::Addresses(Box::new(SignedAddresses::read(reader)?)))
}

fn read_code(reader: &mut Reader<'_>) -> Result<u16, Short> {
    u16::try_from(reader.varint()?).map_err(|_| Short)
}

pub(super) fn read_link_down(reader: &mut Reader<'_>) -> Result<Frame, Short> {
    let link = LinkId(reader.varint_u32()?);
    Ok(Frame::LinkDown { link, reason: LinkDownCode::from_code(read_code(reader)?) })
}

pub(super) fn read_close(reader: &mut Reader<'_>) -> Result<Frame, Short> {
    let code = CloseCode::from_code(read_code(reader)?);
    let length = reader.varint_length()?;
    if length > CLOSE_TEXT_BYTES_MAX {
        return Err(Short);
    }
    let text = std::str::from_utf8(reader.take(length)?).map_err(|_| Short)?;
    // The text reaches a terminal: no control sequences of the peer's choosing.
    let text = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    Ok(Frame::Close { code, text })
}
