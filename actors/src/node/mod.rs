//! A node: its actors assembled into one supervision tree.
//!
//! | file | idea |
//! |---|---|
//! | `assembly` | what a node is made of, and the tree |
//! | `handle` | the handle on a running node |
//! | `addresses` | where peers are told that the node can be reached |
//! | `carrier` | what nodes tell each other beside messages |
//! | `services` | what the actors of one node share |
//! | `peers` | who has a session; groups of actors, one per peer |
//! | `repairs` | carries out what is done about paths and transports that do not heal by themselves |
//! | `network`, `surroundings` | what the node does beside its own sessions |
//! | `group` | its part in a group that keeps a state together |
//! | `power` | what the machine lives on |
//! | `journal` | what happened |

mod addresses;
mod assembly;
mod carrier;
mod group;
mod handle;
mod journal;
mod monitors;
mod network;
mod peers;
mod places;
mod power;
mod repairs;
mod services;
mod surroundings;

pub use assembly::{NodeParts, start};
pub use carrier::{Carried, Carrier};
pub use group::{GroupHandle, GroupSetup};
pub use handle::{NodeError, NodeHandle};
pub use journal::{JournalActor, RecentEvents, Record, Subscribe, Subscribers};
pub use network::{NetworkConfig, NetworkHandle};
pub use peers::{
    Advertise, Broadcast, ConnectError, ConnectPeer, DisconnectPeer, DrainSessions, FindPeer, FindSessionActor,
    PeerTable, PeersActor, PeersQuery, SeekPeer, WayThroughOthers,
};
pub use repairs::RepairActor;
pub use services::{Application, EndSession, Inspector, Services};

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod tests;
