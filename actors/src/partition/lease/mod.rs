//! The right to be active, for a time, granted by a majority.
//!
//! [`Lease`] is the protocol: whatever messages are lost, late, doubled or out of order, whoever pauses or restarts, at most one side is active.
//! [`Contest`] adds when to seek a lease, so that one side becomes active soon.

mod configuration;
mod contest;
mod errors;
mod learning;
mod machine;
mod message;
#[cfg(test)]
mod model;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use configuration::{Configuration, ConfigurationError, PARTICIPANTS_MAX};
pub use contest::{Contest, ContestOutput, Pacing};
pub use errors::{FenceError, VersionError};
pub use machine::{Lease, LeaseTiming};
pub use message::{LeaseMessage, LeaseOutput, LeasePacket, Memory};
