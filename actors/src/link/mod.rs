//! One actor per link: bytes between a transport's connection and the session.

mod actor;
mod established;
mod outgoing;
#[cfg(test)]
mod tests;

pub use actor::{LinkActor, LinkObserver};
pub use established::{Dial, DialError, EstablishedLink, LinkEstablished};
