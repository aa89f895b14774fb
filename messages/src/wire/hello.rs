//! The payloads of handshake messages: what each side says about itself before and while keys are agreed on.
//!
//! Payloads may have trailing bytes, which belong to later versions: a reader ignores them, and they are authenticated all
//! the same because the signature covers the bytes and not the fields.

use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use super::packet::PacketType;
use super::reader::{Reader, Short};
use super::version::{OfferedVersions, Version};
use crate::id::{Incarnation, LinkId, PeerId};

/// Optional abilities, one bit each. Unknown bits are kept and ignored; the common ones are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Features(pub u64);

impl Features {
    /// What both have.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every bit of `wanted` is set.
    pub const fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

/// Names a resume secret that both sides hold. Carries no information about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub [u8; 16]);

impl fmt::Debug for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketId({:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2])
    }
}

/// What a side is able and willing to do on this session.
///
/// On the wire, 32 bytes: `features u64 ‖ incarnation u64 ‖ channel_window u32 ‖ message_bytes_max u32 ‖ ack_delay_max_us u32 ‖
/// channels_max u32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloParameters {
    /// Optional abilities it has.
    pub features: Features,
    /// Which life of the sender this is.
    pub incarnation: Incarnation,
    /// Bytes it takes on a channel ahead of what its application has taken.
    pub channel_window: u32,
    /// The largest message it accepts, in bytes.
    pub message_bytes_max: u32,
    /// How long it holds an acknowledgement back at most, in microseconds.
    pub ack_delay_max_us: u32,
    /// How many channels it keeps, streams included.
    pub channels_max: u32,
}

impl HelloParameters {
    /// Bytes on the wire.
    pub const BYTES: usize = 32;

    fn put(&self, into: &mut BytesMut) {
        into.put_u64(self.features.0);
        into.put_u64(self.incarnation.0);
        into.put_u32(self.channel_window);
        into.put_u32(self.message_bytes_max);
        into.put_u32(self.ack_delay_max_us);
        into.put_u32(self.channels_max);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        Ok(Self {
            features: Features(reader.u64()?),
            incarnation: Incarnation(reader.u64()?),
            channel_window: reader.u32()?,
            message_bytes_max: reader.u32()?,
            ack_delay_max_us: reader.u32()?,
            channels_max: reader.u32()?,
        })
    }
}

/// A handshake message or payload that is not what its type says. The peer's fault; the handshake is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed {0:?} message")]
pub struct HelloError(pub PacketType);

/// The bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// The clear part of HELLO: `versions ‖ noise message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloBody<'a> {
    /// Every version the initiator speaks.
    pub offered: OfferedVersions,
    /// The first Noise message.
    pub noise: &'a [u8],
}

impl<'a> HelloBody<'a> {
    /// Reads what follows the type byte.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn decode(body: &'a [u8]) -> Result<Self, HelloError> {
        let (offered, at) = OfferedVersions::parse(body).ok_or(HelloError(PacketType::Hello))?;
        Ok(Self { offered, noise: body.get(at..).unwrap_or_default() })
    }
}

/// The clear part of ATTACH: `versions ‖ ticket [16] ‖ noise message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachBody<'a> {
    /// Every version the initiator speaks.
    pub offered: OfferedVersions,
    /// The resume secret it means.
    pub ticket: TicketId,
    /// The first Noise message.
    pub noise: &'a [u8],
}

impl<'a> AttachBody<'a> {
    /// Reads what follows the type byte.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn decode(body: &'a [u8]) -> Result<Self, HelloError> {
        let mut reader = Reader::new(body, 0);
        let read = |reader: &mut Reader<'_>| -> Result<_, Short> {
            Ok((OfferedVersions::read(reader)?, TicketId(reader.array()?)))
        };
        let (offered, ticket) = read(&mut reader).map_err(|Short| HelloError(PacketType::Attach))?;
        Ok(Self { offered, ticket, noise: body.get(reader.at()..).unwrap_or_default() })
    }
}

/// What the responder says in ANSWER, encrypted: `peer [32] ‖ chosen u16 ‖ versions ‖ parameters ‖ … ‖ signature [64]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPayload {
    /// Who it is.
    pub peer: PeerId,
    /// The version it chose.
    pub chosen: Version,
    /// Every version it speaks, so that a downgrade shows.
    pub offered: OfferedVersions,
    /// Its side of the session.
    pub parameters: HelloParameters,
}

impl AnswerPayload {
    /// The signed bytes, signature not included.
    pub fn encode(&self) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(160);
        bytes.extend_from_slice(self.peer.as_bytes());
        bytes.put_u16(self.chosen.0);
        self.offered.put(&mut bytes);
        self.parameters.put(&mut bytes);
        bytes
    }

    /// Reads the signed bytes.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        let read = |reader: &mut Reader<'_>| -> Result<_, Short> {
            Ok(Self {
                peer: PeerId::from_bytes(reader.array()?),
                chosen: Version(reader.u16()?),
                offered: OfferedVersions::read(reader)?,
                parameters: HelloParameters::read(reader)?,
            })
        };
        read(&mut Reader::new(bytes, 0)).map_err(|Short| HelloError(PacketType::Answer))
    }
}

/// What the initiator says in FINISH, encrypted: `peer [32] ‖ link u32 ‖ parameters ‖ … ‖ signature [64]`. The versions it
/// offered are in the transcript that the signature covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishPayload {
    /// Who it is.
    pub peer: PeerId,
    /// The name it gives the link.
    pub link: LinkId,
    /// Its side of the session.
    pub parameters: HelloParameters,
}

impl FinishPayload {
    /// The signed bytes, signature not included.
    pub fn encode(&self) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(160);
        bytes.extend_from_slice(self.peer.as_bytes());
        bytes.put_u32(self.link.0);
        self.parameters.put(&mut bytes);
        bytes
    }

    /// Reads the signed bytes.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        let read = |reader: &mut Reader<'_>| -> Result<_, Short> {
            Ok(Self {
                peer: PeerId::from_bytes(reader.array()?),
                link: LinkId(reader.u32()?),
                parameters: HelloParameters::read(reader)?,
            })
        };
        read(&mut Reader::new(bytes, 0)).map_err(|Short| HelloError(PacketType::Finish))
    }
}

/// What the initiator says in ATTACH, encrypted under the resume secret: `link u32 ‖ parameters ‖ …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachPayload {
    /// The name it gives the link.
    pub link: LinkId,
    /// Its side of the session.
    pub parameters: HelloParameters,
}

impl AttachPayload {
    /// The bytes.
    pub fn encode(&self) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u32(self.link.0);
        self.parameters.put(&mut bytes);
        bytes
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        let read = |reader: &mut Reader<'_>| -> Result<_, Short> {
            Ok(Self { link: LinkId(reader.u32()?), parameters: HelloParameters::read(reader)? })
        };
        read(&mut Reader::new(bytes, 0)).map_err(|Short| HelloError(PacketType::Attach))
    }
}

/// What the responder says in ATTACHED, encrypted: `chosen u16 ‖ versions ‖ parameters ‖ …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedPayload {
    /// The version it chose.
    pub chosen: Version,
    /// Every version it speaks.
    pub offered: OfferedVersions,
    /// Its side of the session.
    pub parameters: HelloParameters,
}

impl AttachedPayload {
    /// The bytes.
    pub fn encode(&self) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u16(self.chosen.0);
        self.offered.put(&mut bytes);
        self.parameters.put(&mut bytes);
        bytes
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        let read = |reader: &mut Reader<'_>| -> Result<_, Short> {
            Ok(Self {
                chosen: Version(reader.u16()?),
                offered: OfferedVersions::read(reader)?,
                parameters: HelloParameters::read(reader)?,
            })
        };
        read(&mut Reader::new(bytes, 0)).map_err(|Short| HelloError(PacketType::Attached))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn parameters() -> impl Strategy<Value = HelloParameters> {
        (any::<u64>(), any::<u64>(), any::<[u32; 4]>()).prop_map(|(features, incarnation, n)| HelloParameters {
            features: Features(features),
            incarnation: Incarnation(incarnation),
            channel_window: n[0],
            message_bytes_max: n[1],
            ack_delay_max_us: n[2],
            channels_max: n[3],
        })
    }

    fn offered() -> impl Strategy<Value = OfferedVersions> {
        proptest::collection::vec(any::<u16>(), 1..=16)
            .prop_map(|versions| OfferedVersions::new(versions.into_iter().map(Version)).unwrap())
    }

    proptest! {
        #[test]
        fn payloads_come_back_and_ignore_what_later_versions_append(
            peer in any::<[u8; 32]>(), chosen in any::<u16>(), offered in offered(), parameters in parameters(),
            link in any::<u32>(), tail in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let peer = PeerId::from_bytes(peer);
            let link = LinkId(link);
            let chosen = Version(chosen);
            let with_tail = |mut bytes: BytesMut| { bytes.extend_from_slice(&tail); bytes };

            let answer = AnswerPayload { peer, chosen, offered: offered.clone(), parameters };
            prop_assert_eq!(AnswerPayload::decode(&with_tail(answer.encode())).unwrap(), answer);
            let finish = FinishPayload { peer, link, parameters };
            prop_assert_eq!(FinishPayload::decode(&with_tail(finish.encode())).unwrap(), finish);
            let attach = AttachPayload { link, parameters };
            prop_assert_eq!(AttachPayload::decode(&with_tail(attach.encode())).unwrap(), attach);
            let attached = AttachedPayload { chosen, offered, parameters };
            prop_assert_eq!(AttachedPayload::decode(&with_tail(attached.encode())).unwrap(), attached);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_a_prefix_is_malformed(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = (HelloBody::decode(&bytes), AttachBody::decode(&bytes));
            let _ = (AnswerPayload::decode(&bytes), FinishPayload::decode(&bytes));
            let _ = (AttachPayload::decode(&bytes), AttachedPayload::decode(&bytes));
            let short = &bytes[..bytes.len().min(31)];
            prop_assert!(AnswerPayload::decode(short).is_err() && FinishPayload::decode(short).is_err());
            prop_assert!(AttachPayload::decode(short).is_err() && AttachedPayload::decode(&short[..short.len().min(30)]).is_err());
        }
    }
}
