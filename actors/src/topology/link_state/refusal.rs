//! Why something that arrived was not taken.

use std::fmt;

/// Why something that arrived was not taken. It changed nothing but a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// It came from a peer that is no neighbour (any more).
    #[error("not from a neighbour")]
    Stranger,
    /// It is not in the format. The sender's fault.
    #[error("malformed")]
    Malformed,
    /// It is larger, or has more links, than allowed. The origin's fault.
    #[error("too large")]
    Oversized,
    /// The neighbour sends more than is looked at.
    #[error("more than is looked at")]
    Flooded,
    /// A node that was excluded.
    #[error("from an excluded node")]
    Excluded,
    /// It contradicts itself: the origin as its own neighbour, a neighbour twice or out of order.
    #[error("contradicts itself")]
    Contradictory,
    /// A value that cannot be: more lost than sent, a lifetime beyond the longest.
    #[error("an absurd value")]
    Absurd,
    /// Its lifetime is over.
    #[error("expired")]
    Expired,
    /// A newer one is known, or was until it expired: late, or replayed.
    #[error("older than what is known")]
    Old,
    /// The origin announces more often than allowed.
    #[error("too soon after the last")]
    Hasty,
    /// There is no room for another node.
    #[error("no room")]
    Full,
    /// The signature does not fit.
    #[error("forged")]
    Forged,
    /// The origin signed two different announcements under one number.
    #[error("two announcements with one number")]
    TwoFaced,
}

/// How often each [`Refusal`] happened.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refusals::KINDS.len()]);

impl Refusals {
    /// Every kind.
    pub const KINDS: [Refusal; 13] = [
        Refusal::Stranger,
        Refusal::Malformed,
        Refusal::Oversized,
        Refusal::Flooded,
        Refusal::Excluded,
        Refusal::Contradictory,
        Refusal::Absurd,
        Refusal::Expired,
        Refusal::Old,
        Refusal::Hasty,
        Refusal::Full,
        Refusal::Forged,
        Refusal::TwoFaced,
    ];

    /// How often it happened.
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize]
    }

    /// How often anything was refused.
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every kind with how often it happened.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Self::KINDS.into_iter().zip(self.0)
    }

    pub(super) fn count(&mut self, refusal: Refusal) {
        self.0[refusal as usize] += 1;
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, count)| *count > 0)).finish()
    }
}
