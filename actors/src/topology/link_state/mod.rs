//! What nodes tell each other of their links, and the graph that each makes of it.
//!
//! Every node signs one *announcement*: who it is, what it is like, its neighbours and what the links to them are like. A newer one, by
//! (incarnation, sequence), replaces the older. Announcements are flooded; what gets lost is found when neighbours compare what they know.
//!
//! | part | idea |
//! |---|---|
//! | [`LinkState`] | the machine: neighbours and datagrams in, datagrams and a new graph out |
//! | [`Announcement`] | what a node says, and whether that makes sense |
//! | `database` | the newest announcement of every node, within bounds, until it expires |
//! | [`LiveGraph`] | the petgraph graph, edge by edge as announcements come |
//! | [`wire`] | datagrams |
//! | [`Refusal`] | why something was not taken, and how often |

mod announcement;
mod compare;
mod database;
mod graph;
mod intake;
mod machine;
mod origination;
mod refusal;
#[cfg(test)]
pub(super) mod tests;
pub mod wire;

pub use announcement::{Announcement, Stamp};
pub use graph::{LinkData, LiveGraph, NodeData};
pub use machine::{LinkState, LinkStateOutput};
pub use refusal::{Refusal, Refusals};

use std::rc::Rc;

use bowline_messages::PeerId;

/// Whether the membership knows somebody as a member: for those there is room that nobody else can take.
pub type IsMember = Rc<dyn Fn(&PeerId) -> bool>;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Signs for this node and checks what others signed. A signature for link state counts for nothing else: the implementation puts a context in
/// front of the bytes.
pub trait Authority {
    /// Signs bytes as this node.
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES];

    /// Whether that peer signed these bytes.
    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool;
}
