//! Frames: what a sealed record holds, one after another.
//!
//! Writers append to a buffer and have a `…_bytes` twin that tells the size before. [`FrameReader`] walks a record; payloads
//! are slices of it, nothing is copied. This is the hottest code there is: one message is one frame.

use bytes::{BufMut, Bytes, BytesMut};

use super::reader::{Reader, Short};
use super::varint;
use crate::class::MessageClass;
use crate::id::{ChannelId, Incarnation, LinkId};

pub mod ack;
mod control;

pub use ack::{Ack, AckRanges, put_ack};
pub use control::{
    ACK_FREQUENCY_BYTES_MAX, CloseCode, LinkDownCode, SignedAddresses, put_ack_frequency, put_addresses, put_close,
    put_delivered, put_link_down, put_padding, put_ping, put_quarantined, put_session, put_skip,
};

/// The types of frames, as they stand on the wire.
pub mod types {
    /// Nothing; makes a record longer.
    pub const PADDING: u8 = 0x00;
    /// Asks for an acknowledgement.
    pub const PING: u8 = 0x01;
    /// Acknowledges records of one link.
    pub const ACK: u8 = 0x02;
    /// Sequence numbers that will never come.
    pub const SKIP: u8 = 0x03;
    /// How far a channel was handed to the application, and the credit.
    pub const DELIVERED: u8 = 0x04;
    /// Where the sender can be reached.
    pub const ADDRESSES: u8 = 0x05;
    /// A link is dead for the sender.
    pub const LINK_DOWN: u8 = 0x06;
    /// The end of the session.
    pub const CLOSE: u8 = 0x07;
    /// Which life of the sender the session belongs to.
    pub const SESSION: u8 = 0x0d;
    /// Messages that were set aside: they are passed over and will not reach the application.
    pub const QUARANTINED: u8 = 0x0e;
    /// A whole message; the class is added.
    pub const MESSAGE: u8 = 0x08;
    /// A part of a message; the class is added.
    pub const FRAGMENT: u8 = 0x10;
    /// From here on a frame says its length and is skipped when it is not known.
    pub const SKIPPABLE: u64 = 0x40;
    /// A datagram between the nodes themselves.
    pub const DATAGRAM: u64 = 0x40;
    /// How often records of this link are to be acknowledged.
    pub const ACK_FREQUENCY: u64 = 0x41;
}

/// The longest text in a CLOSE frame, in bytes.
pub const CLOSE_TEXT_BYTES_MAX: usize = 256;
/// The most ranges in an ACK frame.
pub const ACK_RANGES_MAX: usize = 64;
/// The most addresses in an ADDRESSES frame.
pub const ADDRESSES_MAX: usize = 32;

/// What is wrong with a frame. The peer's fault (the record was authentic); the link ends with a protocol error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A type below 0x40 that this version does not know: it may not be skipped.
    #[error("an unknown frame type {0:#04x}")]
    UnknownFrame(u8),
    /// The frame ends before its content does, or has content that cannot be.
    #[error("a malformed frame of type {0:#04x}")]
    Malformed(u64),
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageFrame {
    /// Its class.
    pub class: MessageClass,
    /// Its channel.
    pub channel: ChannelId,
    /// Its number in the channel.
    pub sequence: u64,
    /// Its content.
    pub payload: Bytes,
}

/// A part of a message. `offset + payload.len() <= total` holds, and `payload` is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The message's class.
    pub class: MessageClass,
    /// Its channel.
    pub channel: ChannelId,
    /// Its number in the channel.
    pub sequence: u64,
    /// Bytes of the whole message. Not bounded here: the receiver compares it with the size it announced.
    pub total: u64,
    /// Where this part begins.
    pub offset: u64,
    /// The bytes of this part.
    pub payload: Bytes,
}

/// One frame of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A run of padding.
    Padding {
        /// How many bytes.
        bytes: usize,
    },
    /// Asks for an acknowledgement.
    Ping,
    /// Acknowledges records.
    Ack(Ack),
    /// Sequence numbers that will never come, because their messages expired or were replaced.
    Skip {
        /// The channel.
        channel: ChannelId,
        /// The first number.
        from: u64,
        /// The first number after them; larger than `from`.
        until: u64,
    },
    /// How far a channel was handed to the application.
    Delivered {
        /// The channel.
        channel: ChannelId,
        /// The first sequence number that the application does not have yet.
        next: u64,
        /// Bytes the receiver takes from there on.
        window: u64,
    },
    /// Where the sender can be reached.
    Addresses(Box<SignedAddresses>),
    /// A link is dead for the sender, whatever the receiver sees of it.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why.
        reason: LinkDownCode,
    },
    /// Which life of the sender this session belongs to. In every record of a link until one of them was acknowledged, first.
    Session {
        /// The sender's life.
        incarnation: Incarnation,
    },
    /// A message was set aside by the receiver: it does not reach the application.
    Quarantined {
        /// Its channel.
        channel: ChannelId,
        /// Its number.
        sequence: u64,
    },
    /// The end of the session.
    Close {
        /// Why.
        code: CloseCode,
        /// Why, for people; up to 256 bytes, control characters replaced.
        text: String,
    },
    /// A whole message.
    Message(MessageFrame),
    /// A part of one.
    Fragment(Fragment),
    /// A datagram between the nodes themselves: the number of whose concern it is, and its content.
    Datagram {
        /// Whose concern.
        concern: u8,
        /// Its content.
        payload: Bytes,
    },
    /// How often records of this link are to be acknowledged for the next second. A wish: nothing hangs on it.
    AckFrequency {
        /// After so many that want it; at once from 1 down.
        records: u64,
        /// After so many microseconds at the latest.
        delay_us: u64,
    },
    /// A frame of a later version that may be skipped.
    Unknown {
        /// Its type, 0x40 or more.
        kind: u64,
        /// Its content.
        content: Bytes,
    },
}

/// How many classes there are: as many types of MESSAGE and of FRAGMENT frames.
const CLASSES: u8 = MessageClass::ALL.len() as u8;
const FRAGMENT_END: u8 = types::FRAGMENT + CLASSES;

/// The longest header of a MESSAGE or FRAGMENT frame, in bytes: type, channel, sequence, total, offset, length.
const HEADER_BYTES_MAX: usize = 1 + 8 + 8 + 8 + 8 + 8;

/// Bytes that [`put_message`] appends.
#[inline]
pub fn message_bytes(channel: ChannelId, sequence: u64, payload: usize) -> usize {
    1 + varint::length(channel.0.into()) + varint::length(sequence) + varint::length(payload as u64) + payload
}

/// Appends a MESSAGE frame.
///
/// # Panics
/// When `sequence` is above [`varint::MAX`].
#[inline]
pub fn put_message(into: &mut BytesMut, class: MessageClass, channel: ChannelId, sequence: u64, payload: &[u8]) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = types::MESSAGE + class.index() as u8;
    let mut at = 1 + varint::write(&mut header[1..], channel.0.into());
    at += varint::write(&mut header[at..], sequence);
    at += varint::write(&mut header[at..], payload.len() as u64);
    into.reserve(at + payload.len());
    into.extend_from_slice(&header[..at]);
    into.extend_from_slice(payload);
}

/// Bytes that [`put_fragment`] appends.
pub fn fragment_bytes(channel: ChannelId, sequence: u64, total: u64, offset: u64, payload: usize) -> usize {
    message_bytes(channel, sequence, payload) + varint::length(total) + varint::length(offset)
}

/// Appends a FRAGMENT frame: the part of a message of `total` bytes that begins at `offset`.
///
/// # Panics
/// When a number is above [`varint::MAX`].
pub fn put_fragment(
    into: &mut BytesMut,
    class: MessageClass,
    channel: ChannelId,
    sequence: u64,
    total: u64,
    offset: u64,
    payload: &[u8],
) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = types::FRAGMENT + class.index() as u8;
    let mut at = 1 + varint::write(&mut header[1..], channel.0.into());
    for number in [sequence, total, offset, payload.len() as u64] {
        at += varint::write(&mut header[at..], number);
    }
    into.reserve(at + payload.len());
    into.extend_from_slice(&header[..at]);
    into.extend_from_slice(payload);
}

/// Appends a frame of a type that receivers may not know and then skip.
///
/// # Panics
/// When `kind` is below [`types::SKIPPABLE`] or above [`varint::MAX`].
pub fn put_skippable(into: &mut BytesMut, kind: u64, content: &[u8]) {
    assert!(kind >= types::SKIPPABLE, "a frame type below 0x40 cannot be skipped");
    varint::put(into, kind);
    varint::put(into, content.len() as u64);
    into.put_slice(content);
}

/// Bytes that [`put_datagram`] appends.
pub fn datagram_bytes(payload: usize) -> usize {
    varint::length(types::DATAGRAM) + varint::length(payload as u64 + 1) + 1 + payload
}

/// Appends a DATAGRAM frame.
pub fn put_datagram(into: &mut BytesMut, concern: u8, payload: &[u8]) {
    varint::put(into, types::DATAGRAM);
    varint::put(into, payload.len() as u64 + 1);
    into.put_u8(concern);
    into.put_slice(payload);
}

/// Walks the frames of a record.
#[derive(Debug)]
pub struct FrameReader {
    record: Bytes,
    at: usize,
}

impl FrameReader {
    /// Walks the opened content of a record.
    pub const fn new(record: Bytes) -> Self {
        Self { record, at: 0 }
    }

    /// The next frame, or `None` at the end. After an error the rest of the record is not read: every further call gives `None`.
    ///
    /// # Errors
    /// [`FrameError`].
    #[inline]
    #[allow(clippy::should_implement_trait)] // An iterator of results would hide that the first error is the end.
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(&kind) = self.record.get(self.at) else { return Ok(None) };
        // Messages are nearly all there is, so they come first and stay in line.
        if (types::MESSAGE..types::MESSAGE + CLASSES).contains(&kind) {
            if let Some(message) = self.message(kind) {
                return Ok(Some(Frame::Message(message)));
            }
            return Err(self.malformed(types::MESSAGE.into()));
        }
        self.rare(kind).map(Some)
    }

    /// The next frame if it is a whole MESSAGE; everything else is left to [`FrameReader::next`]. Nearly all frames are messages, and a
    /// value of the type [`Frame`] costs more than the reading of one.
    #[inline]
    pub fn next_message(&mut self) -> Option<MessageFrame> {
        let kind = *self.record.get(self.at)?;
        if !(types::MESSAGE..types::MESSAGE + CLASSES).contains(&kind) {
            return None;
        }
        self.message(kind)
    }

    /// Ends the reading.
    #[cold]
    fn malformed(&mut self, kind: u64) -> FrameError {
        self.at = self.record.len();
        FrameError::Malformed(kind)
    }

    #[inline]
    fn message(&mut self, kind: u8) -> Option<MessageFrame> {
        let class = MessageClass::from_index((kind - types::MESSAGE).into())?;
        let mut reader = Reader::new(&self.record, self.at + 1);
        let channel = ChannelId(reader.varint_u32().ok()?);
        let sequence = reader.varint().ok()?;
        let length = reader.varint_length().ok()?;
        let begin = reader.at();
        self.at = begin + length;
        Some(MessageFrame { class, channel, sequence, payload: self.record.slice(begin..begin + length) })
    }

    #[inline(never)]
    fn rare(&mut self, kind: u8) -> Result<Frame, FrameError> {
        let read = match kind {
            types::FRAGMENT..FRAGMENT_END => self.fragment((kind - types::FRAGMENT).into()),
            _ => self.other(kind),
        };
        let (frame, at) = read.inspect_err(|_| self.at = self.record.len())?;
        self.at = at;
        Ok(frame)
    }

    fn fragment(&self, class: usize) -> Result<(Frame, usize), FrameError> {
        let mut reader = Reader::new(&self.record, self.at + 1);
        let mut read = || -> Result<(Fragment, usize), Short> {
            let class = MessageClass::from_index(class).ok_or(Short)?;
            let channel = ChannelId(reader.varint_u32()?);
            let (sequence, total, offset) = (reader.varint()?, reader.varint()?, reader.varint()?);
            let length = reader.varint_length()?;
            // Both are below 2^62 and 2^63, so the sum cannot overflow.
            if length == 0 || offset + length as u64 > total {
                return Err(Short);
            }
            let begin = reader.at();
            let payload = self.record.slice(begin..begin + length);
            Ok((Fragment { class, channel, sequence, total, offset, payload }, begin + length))
        };
        match read() {
            Ok((fragment, at)) => Ok((Frame::Fragment(fragment), at)),
            Err(Short) => Err(FrameError::Malformed(types::FRAGMENT.into())),
        }
    }

    fn other(&self, kind: u8) -> Result<(Frame, usize), FrameError> {
        let mut reader = Reader::new(&self.record, self.at + 1);
        let frame = match kind {
            types::PADDING => Ok(control::read_padding(&mut reader, &self.record)),
            types::PING => Ok(Frame::Ping),
            types::ACK => ack::read_ack(&mut reader, &self.record).map(Frame::Ack),
            types::SKIP => control::read_skip(&mut reader),
            types::DELIVERED => control::read_delivered(&mut reader),
            types::ADDRESSES => control::read_addresses(&mut reader),
            types::LINK_DOWN => control::read_link_down(&mut reader),
            types::CLOSE => control::read_close(&mut reader),
            types::SESSION => reader.u64().map(|life| Frame::Session { incarnation: Incarnation(life) }),
            types::QUARANTINED => control::read_quarantined(&mut reader),
            0x40.. => return self.skippable(),
            _ => return Err(FrameError::UnknownFrame(kind)),
        };
        match frame {
            Ok(frame) => Ok((frame, reader.at())),
            Err(Short) => Err(FrameError::Malformed(kind.into())),
        }
    }

    fn skippable(&self) -> Result<(Frame, usize), FrameError> {
        let mut reader = Reader::new(&self.record, self.at);
        let malformed = |Short| FrameError::Malformed(types::SKIPPABLE);
        let kind = reader.varint().map_err(malformed)?;
        // A short type in a long encoding would be a second way to write it.
        if kind < types::SKIPPABLE {
            return Err(FrameError::Malformed(kind));
        }
        let length = reader.varint_length().map_err(malformed)?;
        let begin = reader.at();
        let content = self.record.slice(begin..begin + length);
        if kind == types::ACK_FREQUENCY {
            let frame = control::read_ack_frequency(&content).map_err(|Short| FrameError::Malformed(kind))?;
            return Ok((frame, begin + length));
        }
        let frame = match (kind, content.first()) {
            (types::DATAGRAM, Some(&concern)) => Frame::Datagram { concern, payload: content.slice(1..) },
            (types::DATAGRAM, None) => return Err(FrameError::Malformed(kind)),
            _ => Frame::Unknown { kind, content },
        };
        Ok((frame, begin + length))
    }
}

#[cfg(test)]
mod tests;
