//! What the stage and the two nodes of the demonstration say to each other: JSON, one object a line, over the nodes' standard
//! streams.

use std::collections::BTreeMap;

use bowline_messages::{ChannelId, EndpointAddress, MessageClass, PeerId};
use serde::{Deserialize, Serialize};

use super::tally::Count;

/// What a message of the demonstration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A dice roll, a hundred a second.
    Dice,
    /// A bet: must arrive.
    Bet,
    /// A line of chat.
    Chat,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dice, Self::Bet, Self::Chat];

    /// The class it is sent under.
    pub const fn class(self) -> MessageClass {
        match self {
            Self::Dice => MessageClass::Realtime,
            Self::Bet => MessageClass::Critical,
            Self::Chat => MessageClass::Background,
        }
    }

    /// The channel it is ordered in.
    pub const fn channel(self) -> ChannelId {
        match self {
            Self::Dice => ChannelId(1),
            Self::Bet => ChannelId(2),
            Self::Chat => ChannelId(3),
        }
    }

    /// What belongs to a channel.
    pub fn of(channel: ChannelId) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.channel() == channel)
    }

    /// How often one is sent.
    pub const fn milliseconds(self) -> u64 {
        match self {
            Self::Dice => 10,
            Self::Bet => 200,
            Self::Chat => 500,
        }
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dice => "dice",
            Self::Bet => "bets",
            Self::Chat => "chat",
        }
    }
}

/// To a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Order {
    /// Keep a session with this peer.
    Connect {
        /// The peer.
        peer: PeerId,
        /// Where it can be reached.
        addresses: Vec<EndpointAddress>,
    },
    /// Send for so long, then report.
    Start {
        /// Milliseconds of traffic.
        milliseconds: u64,
        /// What to send.
        kinds: Vec<Kind>,
        /// Bytes of the file to send; 0 for none.
        file_bytes: u64,
    },
    /// Make an actor panic.
    Kill {
        /// Which.
        victim: Victim,
    },
    /// Report what arrived, and end.
    Finish,
}

/// An actor that is made to panic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Victim {
    /// The session's.
    Session,
    /// That of a transport, by its name.
    Transport(String),
}

/// From a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Report {
    /// It runs.
    Ready {
        /// Who it is.
        peer: PeerId,
        /// Where it listens.
        addresses: Vec<EndpointAddress>,
    },
    /// How it is, several times a second.
    Status(Status),
    /// Something happened that is worth a line.
    Event {
        /// In words.
        text: String,
    },
    /// An actor was restarted by its supervisor.
    Restarted {
        /// Its place in the tree.
        path: String,
    },
    /// Dice arrived since the last such line.
    Arrivals {
        /// In order.
        dice: Vec<Arrival>,
    },
    /// Everything it had to send is final.
    Sent(Sent),
    /// The last line: what has arrived here.
    Done {
        /// Messages, by kind.
        received: BTreeMap<Kind, Count>,
        /// The file that arrived, if one did.
        file: Option<FileReport>,
    },
    /// It cannot go on.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A dice roll that arrived: when, in nanoseconds of the machine's monotonic clock, and over a link of which transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival(pub u64, pub String);

/// How a node is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Its links to the other node.
    pub links: Vec<LinkLine>,
    /// Where the peer's end of the link that carries the dice is, when there is one.
    pub in_use: Option<EndpointAddress>,
    /// Messages accepted for sending, by kind.
    pub sent: BTreeMap<Kind, u64>,
    /// Messages that arrived, by kind.
    pub received: BTreeMap<Kind, u64>,
    /// Bytes of the file that have arrived or, at the sender, were written.
    pub file_bytes: u64,
}

/// One link on the screen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkLine {
    /// The peer's end.
    pub remote: EndpointAddress,
    /// `active`, `failing`, …
    pub state: String,
    /// Smoothed round trip, in milliseconds, when it was measured.
    pub rtt_ms: Option<f64>,
}

impl LinkLine {
    /// Whether it can carry traffic.
    pub fn is_usable(&self) -> bool {
        self.state == "active" || self.state == "degraded"
    }
}

/// What a node has sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Messages accepted, by kind.
    pub accepted: BTreeMap<Kind, u64>,
    /// Messages whose receipt says acknowledged, by kind.
    pub acknowledged: BTreeMap<Kind, u64>,
    /// The file, if it sent one.
    pub file: Option<FileReport>,
}

/// A file, at one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// Its bytes.
    pub bytes: u64,
    /// Its BLAKE3 digest in hexadecimal.
    pub digest: String,
    /// Why it is not whole, when it is not.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_line_comes_back() {
        let lines = [
            Report::Status(Status { sent: [(Kind::Dice, 3)].into(), ..Status::default() }),
            Report::Done { received: [(Kind::Bet, Count::default())].into(), file: None },
            Report::Arrivals { dice: vec![Arrival(7, "tcp".into())] },
            Report::Failed { reason: "x".into() },
        ];
        for line in lines {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), line, "{text}");
        }
        let order = Order::Kill { victim: Victim::Transport("tcp".into()) };
        assert_eq!(serde_json::from_str::<Order>(&serde_json::to_string(&order).unwrap()).unwrap(), order);
    }

    #[test]
    fn channels_tell_kinds() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.channel()), Some(kind));
        }
        assert_eq!(Kind::of(ChannelId(0)), None);
    }
}
