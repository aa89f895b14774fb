//! What a node does when the network falls apart and comes together again.
//!
//! A view of who is reachable starts the process and never decides it: views of two nodes can contradict each other. What decides is a
//! lease. A side is *active* while its holder has the grants of a majority of the participants; every node grants one at a time, and every
//! action carries the term it was granted for. Everything here is pure: `now` is an argument, packets are returned, nothing sleeps.
//!
//! `docs/partitions.md` has the picture.

pub mod actor;
pub mod detector;
pub mod evidence;
pub mod group;
pub mod lease;
pub mod log;
pub mod machine;
pub mod medium;
pub mod metrics;
pub mod recovery;
pub mod state;
pub mod strategy;
pub mod terms;
pub mod views;
pub mod wire;
