//! What nodes say to each other about leases, and what one has to remember.

use std::time::Duration;

use bowline_messages::PeerId;
use bowline_messages::partition::Term;
use serde::{Deserialize, Serialize};

use super::super::wire::peer_bytes;

/// One message about leases, with the version of the participants it is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeasePacket {
    /// Which version of the participants its sender goes by. Another one than the receiver's is refused.
    pub version: u64,
    /// A digest of the participants that its sender goes by. Another one than the receiver's is refused, too.
    pub list: u64,
    /// What it says.
    pub message: LeaseMessage,
}

/// What a message about leases says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LeaseMessage {
    /// Would you grant me a lease, and which is the highest term you know? Changes nothing at the receiver.
    Probe {
        /// Comes back in the answer.
        nonce: u64,
        /// A number of the sender's present life, which would come with its asking.
        asker: u64,
    },
    /// To a [`LeaseMessage::Probe`].
    Answer {
        /// That of the probe.
        nonce: u64,
        /// The highest term the sender takes part in.
        term: Term,
        /// Whether it would grant a lease now.
        willing: bool,
        /// Whether it remembers all terms it ever took part in.
        remembers: bool,
    },
    /// Grant me the lease of this term, from now on.
    Ask {
        /// The term.
        term: Term,
        /// Grows with every asking for the same term in one life.
        round: u64,
        /// A number of the sender's present life: one that lost its disk may ask for a term again that it asked for before.
        asker: u64,
    },
    /// The sender grants the lease.
    Granted {
        /// The term.
        term: Term,
        /// To whom: for others to see that the sender granted a term once.
        #[serde(with = "peer_bytes")]
        holder: PeerId,
        /// The round of the asking.
        round: u64,
        /// The number that came with the asking.
        asker: u64,
        /// A number of the sender's present life, to come back in [`LeaseMessage::Confirmed`].
        life: u64,
    },
    /// The sender does not grant it.
    Refused {
        /// The term that was asked for.
        term: Term,
        /// The number that came with the asking.
        asker: u64,
        /// The highest term the sender takes part in.
        highest: Term,
        /// Whether it will never grant this term, so that only a higher one helps.
        never: bool,
    },
    /// The sender holds the lease: the receiver is active with it.
    Confirmed {
        /// The term.
        term: Term,
        /// The latest round that the receiver granted.
        round: u64,
        /// The number that came with that grant.
        life: u64,
        /// How long the sender's lease lasted on its own clock, when it sent this.
        remaining: Duration,
    },
    /// The sender never held the lease of this term and never will: the grant is free.
    Withdrawn {
        /// The term.
        term: Term,
        /// The number that came with the asking.
        asker: u64,
    },
}

/// What a node has to find again when it comes back, so that no term is ever granted twice. To be on disk before what was put out with it is
/// sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The highest term the node granted, or did something for.
    pub term: Term,
    /// Whose term that is, when it still counts.
    pub owner: Option<PeerId>,
}

/// What the lease wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOutput {
    /// Write this down before anything after it is sent.
    Persist(Memory),
    /// Send a message to a participant; it may be lost, late, doubled.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        packet: LeasePacket,
    },
}
