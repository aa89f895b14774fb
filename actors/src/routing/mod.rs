//! The way to peers to which there is no link: through others.
//!
//! Everything here is pure. [`Forwarder`] is the machine of one node: packets of this node and of its neighbours go in, sends and
//! deliveries come out.
//!
//! | part | idea |
//! |---|---|
//! | [`Forwarder`] | what a node does with a packet: once at most, within limits, over another way where one fails |
//! | [`Routes`], [`GraphView`] | link-state routing: the cheapest route, and further ones that share no relay |
//! | [`DistanceVector`] | distances told from neighbour to neighbour, where the shape of the network is not known |
//! | [`Flood`](flood::Flood) | to everybody, where nothing is known |
//! | [`Seen`](seen::Seen), [`RelayLimits`](limits::RelayLimits), [`Store`](store::Store) | what bounds all of that |
//! | [`wire`] | packets and distances as bytes |

pub mod actor;
mod destinations;
mod disjoint;
pub mod distance_vector;
pub mod flood;
pub mod forward;
mod graph;
mod hop_limit;
pub mod limits;
pub mod output;
pub mod parcel;
pub mod routes;
pub mod seen;
mod source;
pub mod store;
#[cfg(test)]
mod tests;
mod view;
mod waiting;
mod ways;
pub mod wire;

pub use distance_vector::{DistanceVector, Tell};
pub use forward::Forwarder;
pub use graph::{GraphView, Route};
pub use output::{Counters, Outgoing, Output, Parting};
pub use routes::{OwnLinks, Routes};
pub use source::Source;
pub use wire::{ConnectionId, MeshMessage, MeshPacket, PacketId, RoutingWireError, VectorMessage};
