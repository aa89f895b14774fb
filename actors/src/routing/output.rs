//! What goes into the routing and what comes out of it.

use std::time::Instant;

use bowline_messages::PeerId;
use bytes::Bytes;

use super::distance_vector::Tell;
use super::source::Source;
use super::wire::{ConnectionId, MeshPacket};

/// A packet of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom.
    pub destination: PeerId,
    /// To which link there.
    pub connection: ConnectionId,
    /// What: sealed, at most [`PAYLOAD_BYTES_MAX`](super::wire::PAYLOAD_BYTES_MAX).
    pub payload: Bytes,
    /// Which route: 0 is the best one, larger numbers go round among the others. Whoever hears nothing on one tries the next.
    pub route: u8,
    /// Whether it may be kept while the destination is away. Not for what is sent again anyway.
    pub keep: bool,
    /// The neighbour that made this node send it, if one did: whatever it brings takes nothing of what is this node's own.
    pub on_behalf_of: Option<PeerId>,
}

impl Outgoing {
    /// One that takes the best route, is not kept, and that nobody made this node send.
    pub const fn new(destination: PeerId, connection: ConnectionId, payload: Bytes) -> Self {
        Self { destination, connection, payload, route: 0, keep: false, on_behalf_of: None }
    }
}

/// A packet that is to go to a neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// The packet.
    pub packet: MeshPacket,
    /// On whose account.
    pub source: Source,
    /// When it is worth nothing any more.
    pub expires: Instant,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a packet to a neighbour, if [`Forwarder::on_send`](super::Forwarder::on_send) still says so. A carrier that does not take it says so: [`Forwarder::on_busy`](super::Forwarder::on_busy), [`Forwarder::on_failed`](super::Forwarder::on_failed).
    Send {
        /// The neighbour.
        to: PeerId,
        /// The packet.
        parting: Parting,
    },
    /// A packet for this node has arrived.
    Deliver {
        /// The neighbour that brought it; this node itself, when it is its own.
        by: PeerId,
        /// The packet.
        packet: MeshPacket,
    },
    /// Tell a neighbour distances.
    Vector(Tell),
    /// There is no way to this peer now: a packet of this node was dropped for that, or waits for one.
    Unreachable(PeerId),
}

/// What happened so far, in packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Sent on for others.
    pub relayed: u64,
    /// The same, in bytes.
    pub relayed_bytes: u64,
    /// For this node.
    pub delivered: u64,
    /// Kept for peers that are away.
    pub stored: u64,
    /// Sent to everybody.
    pub flooded: u64,
    /// Dropped: they had been here before.
    pub again: u64,
    /// Dropped: they had passed too many nodes.
    pub hops: u64,
    /// Dropped: the limits on relaying.
    pub limited: u64,
    /// Dropped: too much waits for the neighbour.
    pub queue_full: u64,
    /// Dropped: no way.
    pub no_way: u64,
    /// Dropped: kept, or waiting for a neighbour, for too long; or kept and given up for newer ones.
    pub expired: u64,
    /// Neighbours that were left alone for a while.
    pub withdrawn: u64,
    /// Messages about distances that were not looked at: their neighbour sent too many.
    pub vectors_limited: u64,
    /// Distances of peers for which there was no room.
    pub distances_refused: u64,
}
