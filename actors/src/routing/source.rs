//! On whose account a packet travels.

use bowline_messages::PeerId;

/// Where a packet comes from. It stays with the packet while that waits here, so that a later try is like the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// This node.
    Own,
    /// This node, because a neighbour made it: an answer to whoever asks through it. What it costs is that neighbour's.
    For(PeerId),
    /// A neighbour, to which it does not go back.
    From(PeerId),
}

impl Source {
    /// The neighbour that brought it.
    pub const fn from(&self) -> Option<&PeerId> {
        match self {
            Self::From(peer) => Some(peer),
            Self::Own | Self::For(_) => None,
        }
    }

    /// The neighbour whose share of what is bounded it takes; none for what this node sends of its own accord.
    pub const fn payer(&self) -> Option<PeerId> {
        match self {
            Self::From(peer) | Self::For(peer) => Some(*peer),
            Self::Own => None,
        }
    }
}
