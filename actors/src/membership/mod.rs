//! Who is there: SWIM with suspicion and Lifeguard's refinements, in signed packets.
//!
//! | file | idea |
//! |---|---|
//! | [`machine`] | the membership of one node |
//! | [`inbound`], [`verdicts`], [`outbound`] | its three halves: what comes, what is concluded, what goes |
//! | [`swim`] | whom to ask and whom to ask for help: the `foca` crate |
//! | [`wire`] | packets and signed statements |
//! | [`suspicion`] | how long a suspicion waits |
//! | [`doubt`] | how much the node trusts itself |
//! | [`news`] | what is passed on, and how often |
//! | [`roster`] | what is known about each member |
//! | `allowance` | what one member may have this node do |
//! | [`window`] | which packets have come already |
//! | [`classify`] | why a member is gone |
//! | [`actor`] | packets, time and sessions on one side, the machine on the other |
//! | [`simulation`] | many of them on a virtual network: for tests and figures |

pub mod actor;
mod allowance;
pub mod classify;
pub mod doubt;
pub mod inbound;
pub mod machine;
pub mod news;
pub mod outbound;
pub mod roster;
pub mod simulation;
pub mod suspicion;
pub mod swim;
#[cfg(test)]
mod tests;
pub mod verdicts;
pub mod window;
pub mod wire;

use bowline_messages::PeerId;

pub use actor::{MembershipActor, MembershipParts};
pub use machine::{Membership, MembershipOutput};
use wire::{SIGNATURE_BYTES, WireError};

/// The key of this node, and whom it takes in.
pub trait Keys {
    /// Signs bytes with this node's key.
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES];

    /// Whether a peer signed bytes.
    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool;

    /// Whether a peer may be a member.
    fn admits(&self, peer: &PeerId) -> bool;
}

/// Why a packet, or a statement in one, changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Longer than any may be. The sender's fault.
    #[error("too long")]
    TooLong,
    /// Of another version: nobody's fault. Or a whole packet over a session, where only direct ones are sent: the sender's.
    #[error("of another version")]
    Version,
    /// It ends early, or has something else in it. The sender's fault.
    #[error("malformed")]
    Malformed,
    /// It comes from this node, or from another with its key.
    #[error("from this node itself")]
    Own,
    /// It is for somebody else, or for an earlier life of this node. The network's fault.
    #[error("for somebody else")]
    Misaddressed,
    /// Its sender, or whom it speaks of, may not be a member.
    #[error("not admitted")]
    NotAdmitted,
    /// It came before, or is too old to tell. The network's fault, or an attack.
    #[error("it came before")]
    Replayed,
    /// It was not signed by its sender. An attack.
    #[error("forged")]
    Forged,
    /// A statement in it was not signed by its author. The sender's fault; it is an offence.
    #[error("a forged statement")]
    ForgedStatement,
    /// There is no room for one more member.
    #[error("no room")]
    Full,
    /// Its sender brings more names that are not known here than there could be.
    #[error("too many names")]
    TooManyNames,
    /// The sender knows an earlier name of this node; it was told the new one. What it says about others was taken.
    #[error("for an earlier name of this node")]
    EarlierName,
    /// More packets than an honest member sends. Its fault, or what was held up comes all at once.
    #[error("too many packets")]
    TooMany,
    /// It makes no sense here and now.
    #[error("pointless")]
    Pointless,
    /// The same accusation again, too soon.
    #[error("accused again too soon")]
    Flood,
    /// This node has left.
    #[error("this node has left")]
    Left,
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        match error {
            WireError::TooLong(_) => Self::TooLong,
            WireError::Version(_) => Self::Version,
            WireError::Malformed => Self::Malformed,
        }
    }
}
