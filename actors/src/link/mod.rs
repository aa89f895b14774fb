//! One actor per link: bytes between a transport's connection and the session.

mod actor;
mod outgoing;
#[cfg(test)]
mod tests;

pub(crate) use actor::AwaitEnd;
pub use actor::{LinkActor, LinkObserver};
