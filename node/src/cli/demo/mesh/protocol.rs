//! What the stage and its eight nodes say to each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use bowline_messages::{EndpointAddress, PeerId};
use serde::{Deserialize, Serialize};

/// To a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// The first one: who it is.
    Begin {
        /// The seed of its key.
        seed: [u8; 32],
        /// Which life of this key it is.
        life: u64,
        /// Everybody, and what they are called.
        participants: Vec<(PeerId, String)>,
        /// Where it keeps what it must not forget.
        folder: PathBuf,
        /// Where it listens.
        listen: EndpointAddress,
    },
    /// How the others are reached: where its connections to each of them go.
    Ways {
        /// By peer.
        ways: Vec<(PeerId, SocketAddr)>,
    },
    /// Keep a link to this peer.
    Connect {
        /// The peer.
        peer: PeerId,
        /// Where it says that it listens.
        address: EndpointAddress,
    },
    /// Write this number into the ledger under each of these names.
    Fund {
        /// The names.
        accounts: Vec<String>,
        /// The number.
        amount: u64,
    },
    /// Move one from `from` to one of `to`, again and again.
    Start {
        /// From.
        from: String,
        /// To one of these, in turn.
        to: Vec<String>,
        /// How often, in milliseconds.
        every_ms: u64,
    },
    /// Move nothing any more.
    Stop,
    /// Say what the ledger says.
    List,
}

/// From a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Report {
    /// It runs and listens.
    Ready {
        /// Where.
        address: EndpointAddress,
    },
    /// How it is, several times a second.
    Status(Status),
    /// Something happened that is worth a line.
    Event {
        /// In words.
        text: String,
    },
    /// The accounts are there.
    Funded,
    /// It asks for a move.
    Asked,
    /// What came of one that it asked for.
    Moved {
        /// When, on the machine's monotonic clock.
        mono_ns: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// What the ledger says.
    Listed {
        /// The numbers, by name.
        numbers: BTreeMap<String, u64>,
    },
    /// It cannot go on.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What came of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done.
    Done,
    /// It was not accepted: nothing happened.
    Refused,
    /// It was accepted, and nobody can tell whether it was done.
    Unknown,
    /// The ledger said no. That never happens while the accounts are as they should be.
    Denied,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// When, on the machine's monotonic clock.
    pub mono_ns: u64,
    /// Those it has a direct link to, as both say; and whether it is there for healing.
    pub neighbours: Vec<(PeerId, bool)>,
    /// Nodes in the network, as it sees it.
    pub nodes: u32,
    /// Parts of the network, as it sees it.
    pub parts: u32,
    /// Nodes that the network would fall apart without.
    pub critical: Vec<PeerId>,
    /// Whether it may act and its application does.
    pub running: bool,
    /// The term of the lease that it holds.
    pub holds: Option<u64>,
    /// Moves that it asked for and has no answer to.
    pub under_way: u64,
}
