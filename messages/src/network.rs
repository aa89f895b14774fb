//! What nodes tell each other beside their sessions: who is there, what the network looks like, how to get to those without a link.
//! Carried by datagrams of sessions, each to the actor whose concern it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::PeerId;

/// The most bytes in one datagram.
pub const DATAGRAM_BYTES_MAX: usize = 16 * 1024;

/// Which part of a node a datagram is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Concern {
    /// Who is connected to whom.
    LinkState,
    /// Links that are asked for, for the sake of the network.
    Healing,
    /// Who is there.
    Membership,
    /// Packets that go through other nodes.
    Mesh,
    /// Who may act when the network fell apart.
    Partition,
    /// What a majority commits.
    Log,
    /// State that is brought together again.
    State,
    /// What is to be proposed to the leader of the log.
    Command,
}

impl Concern {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::LinkState,
        Self::Healing,
        Self::Membership,
        Self::Mesh,
        Self::Partition,
        Self::Log,
        Self::State,
        Self::Command,
    ];

    /// Its number on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::LinkState => 1,
            Self::Healing => 2,
            Self::Membership => 3,
            Self::Mesh => 4,
            Self::Partition => 5,
            Self::Log => 6,
            Self::State => 7,
            Self::Command => 8,
        }
    }

    /// The one with this number; `None`: of a later version.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|concern| concern.code() == code)
    }

    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LinkState => "link_state",
            Self::Healing => "healing",
            Self::Membership => "membership",
            Self::Mesh => "mesh",
            Self::Partition => "partition",
            Self::Log => "log",
            Self::State => "state",
            Self::Command => "command",
        }
    }
}

/// SurroundingsActor → TopologyActor, MembershipActor: whom this node's trust refuses has changed. Whoever is among the excluded counts for nobody
/// any more; whoever is not, again.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct ExcludedChanged {
    /// All peers that the user denies or that were excluded for what they did.
    pub excluded: Arc<BTreeSet<PeerId>>,
}

/// From a session to the actor whose concern it is: a datagram came. Best effort: one that finds no room is dropped and counted.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct GroupPacket {
    /// The neighbour that sent it, authenticated; who wrote it is for the content to prove.
    pub from: PeerId,
    /// Whose concern it is.
    pub concern: Concern,
    /// Its content, memory of its own.
    pub payload: Bytes,
}

/// A peer with which there is a session over at least one usable link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Who.
    pub peer: PeerId,
    /// Smoothed round-trip time of the best link.
    pub rtt: Duration,
    /// Share of records lost on that link, in parts per million.
    pub loss_ppm: u32,
    /// What that link carries, in bytes a second; `None`: not measured.
    pub bandwidth: Option<u64>,
    /// How long ago something last arrived over any of its links.
    pub idle: Duration,
    /// Whether any link is direct. `false`: all of them go through other peers.
    pub direct: bool,
    /// Whether that link answers. One that was asked twice in vain may be dead, and is no way for packets of others.
    pub answers: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_one_concern_each() {
        for concern in Concern::ALL {
            assert_eq!(Concern::from_code(concern.code()), Some(concern));
        }
        assert_eq!(Concern::from_code(0), None);
    }
}
