//! Sessions: one conversation of two peers, end to end encrypted, above all links between them.
//!
//! | file | idea |
//! |---|---|
//! | `machine`, `receive`, `transmit`, `liveness` | the pure machine: what goes over which link, which links live |
//! | `ledger`, `outbox`, `tx_channel`, `outcomes`, `inbound`, `streams` | what must survive the session actor |
//! | `path`, `acks`, `rtt`, `window`, `ranges` | one link as its session sees it |
//! | `policy`, `scheduler` | which link, which class next |
//! | `handle`, `stream` | what the application holds |
//! | `actor` | the actor around the machine |
//! | `handshake`, `seal`, `replay`, `identity`, `resume` | who the peer is, and sealed records |

pub mod acks;
pub mod handle;
pub mod handshake;
pub mod identity;
pub mod inbound;
pub mod ledger;
mod liveness;
pub mod machine;
mod outcomes;
pub mod outbox;
mod path;
pub mod policy;
pub mod ranges;
mod receive;
pub mod replay;
pub mod resume;
pub mod rtt;
pub mod scheduler;
pub mod seal;
pub mod stream;
mod streams;
mod transmit;
mod tx_channel;
pub mod window;
