//! Sessions: one conversation of two peers, end to end encrypted, above all links between them.

pub mod handshake;
pub mod identity;
pub mod replay;
pub mod resume;
pub mod seal;
