//! What nodes of the mesh say to each other: packets on their way to a peer, and distances.
//!
//! A [`MeshPacket`] shows a relay where it goes and nothing of where it comes from or what it holds. Its layout is fixed, so that a relay
//! changes it in place and copies nothing:
//!
//! ```text
//! version u8 ‖ kind u8 ‖ flags u8 ‖ hops u8 ‖ labels u8 ‖ label [4]… ‖ destination [32] ‖ connection [8] ‖ id [8] ‖ payload
//! ```

use std::fmt;

use bowline_messages::PeerId;
use bowline_messages::config::MeshConfig;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The version of both formats here.
const VERSION: u8 = 1;
/// The largest packet, in bytes: what a carrier takes, less 64 bytes for its own use.
pub const PACKET_BYTES_MAX: usize = 16 * 1024 - 64;
/// The largest payload, in bytes: a packet with the most labels still has room for it.
pub const PAYLOAD_BYTES_MAX: usize = PACKET_BYTES_MAX - FIXED_BYTES - LABELS_MAX * LABEL_BYTES;
/// The most nodes that a packet can name.
pub const LABELS_MAX: usize = MeshConfig::HOPS_MAX as usize;
/// The highest hop limit: a packet that goes by distance begins with up to twice what a route may have, so that it does not show where.
pub const HOP_LIMIT_MAX: u8 = 2 * MeshConfig::HOPS_MAX;
/// The most distances in one message.
pub const DISTANCES_MAX: usize = 256;

const LABEL_BYTES: usize = 4;
const HEAD_BYTES: usize = 5;
const KIND_PACKET: u8 = 0;
const KIND_VECTOR: u8 = 1;
const PEER_BYTES: usize = 32;
const ID_BYTES: usize = 8;
const FIXED_BYTES: usize = HEAD_BYTES + PEER_BYTES + 2 * ID_BYTES;
const FLAG_FLOOD: u8 = 1;
const FLAG_KEEP: u8 = 2;

/// Bytes that are no packet or message. The neighbour's fault; it is counted and nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoutingWireError {
    /// A version that this node does not speak.
    #[error("unknown version {0}")]
    Version(u8),
    /// It ends too early.
    #[error("cut short")]
    Truncated,
    /// Longer than anything may be.
    #[error("too long: {0} bytes")]
    TooLong(usize),
    /// A number or a flag that has no meaning.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// To which link of its destination a packet belongs: chosen by the destination, meaningless to everybody else. All zero: none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ConnectionId(pub [u8; ID_BYTES]);

impl ConnectionId {
    /// The packet begins a link.
    pub const NONE: Self = Self([0; ID_BYTES]);
}

/// Names a packet for duplicate suppression: random, chosen by its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub u64);

/// Names a node among the neighbours of the one before it: the first bytes of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label([u8; LABEL_BYTES]);

impl Label {
    /// The label of a peer.
    pub fn of(peer: &PeerId) -> Self {
        let [a, b, c, d, ..] = *peer.as_bytes();
        Self([a, b, c, d])
    }
}

/// A packet on its way to a peer.
#[derive(Clone, PartialEq, Eq)]
pub struct MeshPacket {
    /// Nobody knows the way: it goes to all neighbours.
    pub flood: bool,
    /// One relay may keep it while its destination is away.
    pub keep: bool,
    /// Nodes it may still pass, the one that has it not counted. At least 1 on the wire.
    pub hops: u8,
    /// Whom it is to pass from here on, without the node that has it, up to the destination; empty when that is open.
    pub labels: Vec<Label>,
    /// Where it goes.
    pub destination: PeerId,
    /// To which link there.
    pub connection: ConnectionId,
    /// Which packet it is.
    pub id: PacketId,
    /// What is in it: sealed, never more than [`PAYLOAD_BYTES_MAX`].
    pub payload: Bytes,
}

impl fmt::Debug for MeshPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flood, hops, labels, destination, connection: _, id, payload, keep: _ } = self;
        write!(f, "MeshPacket({:x} to {} hops={hops} labels={}", id.0, destination.short(), labels.len())?;
        write!(f, " bytes={}{})", payload.len(), if *flood { " flood" } else { "" })
    }
}

impl MeshPacket {
    /// Its length on the wire, in bytes.
    pub fn wire_bytes(&self) -> usize {
        FIXED_BYTES + self.labels.len() * LABEL_BYTES + self.payload.len()
    }

    /// As it goes over the wire.
    ///
    /// # Errors
    /// [`RoutingWireError`] when it has more labels or payload than a packet can.
    pub fn encode(&self) -> Result<Bytes, RoutingWireError> {
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(RoutingWireError::TooLong(self.payload.len()));
        }
        let labels = u8::try_from(self.labels.len()).unwrap_or(u8::MAX);
        if usize::from(labels) > LABELS_MAX {
            return Err(RoutingWireError::Malformed("too many labels"));
        }
        let mut bytes = BytesMut::with_capacity(self.wire_bytes());
        let flags = if self.flood { FLAG_FLOOD } else { 0 } | if self.keep { FLAG_KEEP } else { 0 };
        bytes.put_slice(&[VERSION, KIND_PACKET, flags, self.hops, labels]);
        for label in &self.labels {
            bytes.put_slice(&label.0);
        }
        bytes.put_slice(self.destination.as_bytes());
        bytes.put_slice(&self.connection.0);
        bytes.put_u64(self.id.0);
        bytes.put_slice(&self.payload);
        Ok(bytes.freeze())
    }

    /// Reads a packet; its payload is a part of `bytes`.
    ///
    /// # Errors
    /// [`RoutingWireError`].
    pub fn decode(mut bytes: Bytes) -> Result<Self, RoutingWireError> {
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(RoutingWireError::TooLong(bytes.len()));
        }
        let [version, kind, flags, hops, labels] = take(&mut bytes)?;
        check_head([version, kind], KIND_PACKET)?;
        if flags & !(FLAG_FLOOD | FLAG_KEEP) != 0 {
            return Err(RoutingWireError::Malformed("unknown flags"));
        }
        if hops == 0 || hops > HOP_LIMIT_MAX {
            return Err(RoutingWireError::Malformed("hop limit"));
        }
        if usize::from(labels) > LABELS_MAX {
            return Err(RoutingWireError::Malformed("too many labels"));
        }
        let labels = (0..labels).map(|_| take(&mut bytes).map(Label)).collect::<Result<_, _>>()?;
        let destination = PeerId::from_bytes(take(&mut bytes)?);
        let connection = ConnectionId(take(&mut bytes)?);
        let id = PacketId(u64::from_be_bytes(take(&mut bytes)?));
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(RoutingWireError::TooLong(bytes.len()));
        }
        let (flood, keep) = (flags & FLAG_FLOOD != 0, flags & FLAG_KEEP != 0);
        Ok(Self { flood, keep, hops, labels, destination, connection, id, payload: bytes })
    }
}

fn check_head([version, kind]: [u8; 2], wanted: u8) -> Result<(), RoutingWireError> {
    if version != VERSION {
        return Err(RoutingWireError::Version(version));
    }
    if kind == wanted { Ok(()) } else { Err(RoutingWireError::Malformed("another kind of message")) }
}

/// What neighbours send each other for the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshMessage {
    /// A packet on its way.
    Packet(MeshPacket),
    /// Distances.
    Vector(VectorMessage),
}

impl MeshMessage {
    /// As it goes over the wire.
    ///
    /// # Errors
    /// [`RoutingWireError`].
    pub fn encode(&self) -> Result<Bytes, RoutingWireError> {
        match self {
            Self::Packet(packet) => packet.encode(),
            Self::Vector(message) => message.encode(),
        }
    }

    /// Reads either.
    ///
    /// # Errors
    /// [`RoutingWireError`].
    pub fn decode(bytes: Bytes) -> Result<Self, RoutingWireError> {
        match bytes.get(1) {
            Some(&KIND_VECTOR) => VectorMessage::decode(&bytes).map(Self::Vector),
            Some(_) | None => MeshPacket::decode(bytes).map(Self::Packet),
        }
    }
}

fn take<const N: usize>(bytes: &mut Bytes) -> Result<[u8; N], RoutingWireError> {
    let Some(head) = bytes.first_chunk::<N>().copied() else { return Err(RoutingWireError::Truncated) };
    let _ = bytes.split_to(N);
    Ok(head)
}

/// How far away a neighbour says that a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distance {
    /// The peer, as the bytes of its key.
    pub destination: [u8; PEER_BYTES],
    /// The number that the peer gave its newest announcement.
    pub seqno: u16,
    /// The cost of the neighbour's route there; [`Distance::UNREACHABLE`] when it has none any more.
    pub metric: u32,
}

impl Distance {
    /// No route.
    pub const UNREACHABLE: u32 = u32::MAX;
}

/// What neighbours tell each other about distances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VectorMessage {
    /// Distances of the sender; at most [`DISTANCES_MAX`].
    Update(Vec<Distance>),
    /// Asks a peer to announce itself under a newer number, by way of whoever has a route to it.
    Request {
        /// The peer.
        destination: [u8; PEER_BYTES],
        /// The number that would do.
        seqno: u16,
        /// Nodes that may still pass this on.
        hops: u8,
    },
}

impl VectorMessage {
    /// As it goes over the wire.
    ///
    /// # Errors
    /// [`RoutingWireError`] when it has more distances than a message can.
    pub fn encode(&self) -> Result<Bytes, RoutingWireError> {
        self.check()?;
        let bytes = postcard::to_extend(self, vec![VERSION, KIND_VECTOR])
            .map_err(|_| RoutingWireError::Malformed("cannot be written"))?;
        Ok(bytes.into())
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`RoutingWireError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RoutingWireError> {
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(RoutingWireError::TooLong(bytes.len()));
        }
        let (head, rest) = bytes.split_first_chunk::<2>().ok_or(RoutingWireError::Truncated)?;
        check_head(*head, KIND_VECTOR)?;
        let (message, rest) =
            postcard::take_from_bytes::<Self>(rest).map_err(|_| RoutingWireError::Malformed("not a message"))?;
        if !rest.is_empty() {
            return Err(RoutingWireError::Malformed("something follows the message"));
        }
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), RoutingWireError> {
        match self {
            Self::Update(distances) if distances.len() > DISTANCES_MAX => {
                Err(RoutingWireError::Malformed("too many distances"))
            }
            Self::Update(_) | Self::Request { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn packet() -> impl Strategy<Value = MeshPacket> {
        let labels = prop::collection::vec(any::<[u8; 4]>().prop_map(Label), 0..=LABELS_MAX);
        let payload = prop::collection::vec(any::<u8>(), 0..200);
        (any::<(bool, bool)>(), 1..=HOP_LIMIT_MAX, labels, any::<[u8; 32]>(), any::<([u8; 8], u64)>(), payload)
            .prop_map(|((flood, keep), hops, labels, destination, (connection, id), payload)| MeshPacket {
                flood,
                keep,
                hops,
                labels,
                destination: PeerId::from_bytes(destination),
                connection: ConnectionId(connection),
                id: PacketId(id),
                payload: payload.into(),
            })
    }

    fn message() -> impl Strategy<Value = VectorMessage> {
        let distance = any::<([u8; 32], u16, u32)>().prop_map(|(destination, seqno, metric)| Distance {
            destination,
            seqno,
            metric,
        });
        prop_oneof![
            prop::collection::vec(distance, 0..20).prop_map(VectorMessage::Update),
            any::<([u8; 32], u16, u8)>().prop_map(|(destination, seqno, hops)| VectorMessage::Request {
                destination,
                seqno,
                hops
            }),
        ]
    }

    #[test]
    fn the_largest_packet_fits_and_a_larger_payload_does_not() {
        let mut packet = MeshPacket {
            flood: false,
            keep: false,
            hops: 1,
            labels: vec![Label([0; 4]); LABELS_MAX],
            destination: PeerId::from_bytes([1; 32]),
            connection: ConnectionId::NONE,
            id: PacketId(1),
            payload: vec![0; PAYLOAD_BYTES_MAX].into(),
        };
        assert_eq!(packet.encode().unwrap().len(), PACKET_BYTES_MAX);
        packet.payload = vec![0; PAYLOAD_BYTES_MAX + 1].into();
        assert!(packet.encode().is_err());
    }

    #[test]
    fn a_message_with_too_many_distances_is_refused() {
        let distance = Distance { destination: [0; 32], seqno: 1, metric: 1 };
        let message = VectorMessage::Update(vec![distance; DISTANCES_MAX + 1]);
        assert!(message.encode().is_err());
        let bytes = postcard::to_extend(&message, vec![VERSION, KIND_VECTOR]).unwrap();
        assert!(VectorMessage::decode(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn packets_come_back(packet in packet()) {
            let bytes = packet.encode().unwrap();
            prop_assert_eq!(bytes.len(), packet.wire_bytes());
            prop_assert_eq!(MeshMessage::decode(bytes).unwrap(), MeshMessage::Packet(packet));
        }

        #[test]
        fn messages_come_back(message in message()) {
            let message = MeshMessage::Vector(message);
            prop_assert_eq!(MeshMessage::decode(message.encode().unwrap()).unwrap(), message);
        }

        #[test]
        fn changed_and_cut_bytes_are_read_or_refused(packet in packet(), message in message(), at in any::<prop::sample::Index>(), bit in 0..8u8, cut in any::<bool>()) {
            for bytes in [packet.encode().unwrap(), message.encode().unwrap()] {
                let mut bytes = bytes.to_vec();
                let at = at.index(bytes.len());
                if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
                if let Ok(packet) = MeshPacket::decode(bytes.clone().into()) {
                    prop_assert_eq!(packet.encode().unwrap(), bytes.clone());
                }
                let _ = VectorMessage::decode(&bytes);
                let _ = MeshMessage::decode(bytes.into());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = MeshPacket::decode(bytes.clone().into());
            let _ = VectorMessage::decode(&bytes);
        }
    }
}
