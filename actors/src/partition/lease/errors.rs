//! Why something that has to do with leases is refused.

use bowline_messages::partition::Term;

/// Why something that was done under a lease is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// A higher term is known: the lease it was done under is over. The network's fault; the one who did it has to seek a new lease.
    #[error("term {} is over, {} is known", .found.0, .highest.0)]
    Over {
        /// Its term.
        found: Term,
        /// The highest term known here.
        highest: Term,
    },
    /// The term belongs to somebody else: one of the two lies.
    #[error("term {} is not that peer's", .0.0)]
    Foreign(Term),
    /// The term is too far above any known one. The peer's fault; nothing changed.
    #[error("term {} is out of reach", .0.0)]
    Leap(Term),
    /// The term is a higher one than is known here, and who says so is not its holder, or this node is bound to another one. The lease is not changed; it may
    /// be tried again when the holder has asked here.
    #[error("term {} is not known here", .0.0)]
    Unknown(Term),
    /// This node has forgotten its terms and does not know them again yet. Nobody's fault; it may be tried again.
    #[error("the terms are not known again yet")]
    Forgotten,
}

/// Why a version of the participants is not taken. The caller's mistake; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("version {found} of the participants does not follow {known}")]
pub struct VersionError {
    /// The one to be adopted.
    pub found: u64,
    /// The one in force.
    pub known: u64,
}
