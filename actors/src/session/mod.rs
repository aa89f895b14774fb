//! Sessions: one conversation of two peers, end to end encrypted, above all links between them.
//!
//! | file | idea |
//! |---|---|
//! | `machine`, `receive`, `transmit`, `liveness` | the pure machine: what goes over which link, which links live |
//! | `ledger`, `outbox`, `tx_channel`, `outcomes`, `inbound`, `streams` | what must survive the session actor |
//! | `path`, `acks`, `rtt`, `window`, `ranges` | one link as its session sees it |
//! | `policy`, `scheduler`, `keeper` | which link, which class next, which addresses to dial |
//! | `handle`, `stream` | what the application holds |
//! | `actor` | the actor around the machine |
//! | `handshake`, `seal`, `replay`, `identity`, `resume` | who the peer is, and sealed records |
//! | `keyfile`, `private_file`, `trust`, `limits`, `budgets` | what is kept on disk, who is let in, what strangers may cost |

mod ack_pace;
pub mod acks;
pub mod actor;
pub(crate) mod budgets;
pub mod datagrams;
mod evidence;
pub mod handle;
pub mod handshake;
pub mod identity;
pub mod inbound;
pub mod keeper;
pub mod keyfile;
pub mod ledger;
pub mod limits;
mod link_map;
mod liveness;
pub mod machine;
pub mod outbox;
mod outcomes;
mod parting;
mod path;
mod patience;
pub mod policy;
pub mod pressure;
pub mod private_file;
pub mod ranges;
mod receive;
mod recovery;
pub mod replay;
pub mod resume;
mod room;
pub mod rtt;
pub mod scheduler;
pub mod seal;
mod shift;
mod shown;
mod skips;
mod standing;
pub mod stream;
mod streams;
mod transmit;
pub mod trust;
mod tx_channel;
mod watch;
mod ways;
pub mod window;

#[cfg(test)]
mod tests;
