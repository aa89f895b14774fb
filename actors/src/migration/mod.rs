//! Migration of application state from one node to another over their session: complete or not at all.
//!
//! An application implements [`Migratable`] for what it wants to be able to move, registers it under a name on both nodes, and calls
//! [`NodeHandle::migrate`](crate::node::NodeHandle::migrate). The state is captured, compressed in pieces, sent over a stream of the session (so that the
//! links below may come and go), compared with its BLAKE3 digest, looked at by the receiving application, and taken over by it. Each phase has a
//! time-out and is an event. Whatever fails before the receiving application has said yes, both sides roll back.
//!
//! ```
//! use std::cell::RefCell;
//! use std::rc::Rc;
//!
//! use bowline_actors::migration::{Migratable, Migration, Work};
//! use bowline_actors::node::{NodeError, NodeHandle};
//! use bowline_messages::PeerId;
//! use bytes::Bytes;
//!
//! /// The pot of a table, which one node holds at a time.
//! #[derive(Default)]
//! struct Pot {
//!     coins: RefCell<Option<u64>>,
//!     betting_paused: RefCell<bool>,
//! }
//!
//! impl Migratable for Pot {
//!     fn capture(&self, _: &Migration) -> Work<Bytes> {
//!         // Only what would change the state has to pause.
//!         *self.betting_paused.borrow_mut() = true;
//!         let coins = self.coins.borrow().ok_or_else(|| "the pot is not here".to_owned());
//!         Box::pin(async move { Ok(Bytes::copy_from_slice(&coins?.to_be_bytes())) })
//!     }
//!
//!     fn accept(&self, _: &Migration, bytes: u64) -> Result<(), String> {
//!         if bytes == 8 && self.coins.borrow().is_none() { Ok(()) } else { Err("not now".into()) }
//!     }
//!
//!     fn verify(&self, _: &Migration, state: Bytes) -> Work<()> {
//!         Box::pin(async move { if state.len() == 8 { Ok(()) } else { Err("not a pot".into()) } })
//!     }
//!
//!     fn apply(&self, _: &Migration, state: Bytes) -> Work<()> {
//!         let coins = <[u8; 8]>::try_from(&state[..]).map(u64::from_be_bytes).map_err(|error| error.to_string());
//!         let applied = coins.map(|coins| *self.coins.borrow_mut() = Some(coins));
//!         Box::pin(async move { applied })
//!     }
//!
//!     fn completed(&self, migration: &Migration) {
//!         *self.betting_paused.borrow_mut() = false;
//!         if migration.outgoing {
//!             *self.coins.borrow_mut() = None;
//!         }
//!     }
//!
//!     fn rolled_back(&self, migration: &Migration, _: &bowline_messages::migration::RollbackReason) {
//!         *self.betting_paused.borrow_mut() = false;
//!         if !migration.outgoing {
//!             *self.coins.borrow_mut() = None;
//!         }
//!     }
//! }
//!
//! async fn hand_over(node: &NodeHandle, host: PeerId) -> Result<(), NodeError> {
//!     node.migratable("pot", Rc::new(Pot::default()));
//!     match node.migrate(host, "pot").await? {
//!         Ok(migrated) => println!("{} bytes in {:?}", migrated.bytes, migrated.took),
//!         Err(error) => println!("the pot stays here: {error}"),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! | file | idea |
//! |---|---|
//! | [`sender`] | the side that gives its state away |
//! | [`receiver`] | the side that gets it |
//! | [`machine`] | all migrations of a node, and the streams they use |
//! | [`piece`] | compression, bounded on both sides |
//! | [`wire`] | what the two sides say to each other |
//! | [`actor`] | carries streams, time and the application's answers to the machine |

pub mod actor;
pub mod machine;
pub mod piece;
pub mod receiver;
pub mod sender;
#[cfg(test)]
mod tests;
pub mod wire;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bowline_messages::PeerId;
use bowline_messages::migration::{MigrationId, RollbackReason};
use bytes::Bytes;

pub use actor::{Migrate, MigrationActor, MigrationParts};

/// Something an application does in its own time; an error is in its words. It is dropped when the phase's time is over.
pub type Work<T> = Pin<Box<dyn Future<Output = Result<T, String>>>>;

/// One migration, as the application sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub id: MigrationId,
    /// The other side.
    pub peer: PeerId,
    /// The name under which the state is registered.
    pub name: String,
    /// Whether the state leaves this node (else it comes).
    pub outgoing: bool,
}

/// State that can move to another node. Implemented by the application; called on the node's thread. A panic in here counts as an error.
pub trait Migratable {
    /// Captures the state. From now until [`completed`](Self::completed) or [`rolled_back`](Self::rolled_back) nothing may change it: pause what
    /// would, and nothing else.
    fn capture(&self, migration: &Migration) -> Work<Bytes>;

    /// Whether this node takes a state of so many bytes from this peer, before anything of it is sent. Say no to peers that have no business
    /// with it.
    ///
    /// # Errors
    /// Why not, for the peer to read.
    fn accept(&self, migration: &Migration, bytes: u64) -> Result<(), String>;

    /// Looks at a state that has arrived, complete and intact, and changes nothing.
    fn verify(&self, migration: &Migration, state: Bytes) -> Work<()>;

    /// Takes the state over. When it answers with an error, or not in time, [`rolled_back`](Self::rolled_back) follows and has to restore what
    /// was there before.
    fn apply(&self, migration: &Migration, state: Bytes) -> Work<()>;

    /// It is done: the receiving side owns the state, the other one's copy is not the one that counts any more.
    fn completed(&self, migration: &Migration);

    /// It failed: the side that had the state still owns it and goes on; the other one has none of it. With
    /// [`RollbackReason::OutcomeUnknown`], which only the side that gave it away can see, the peer may have it all the same.
    fn rolled_back(&self, migration: &Migration, reason: &RollbackReason);
}

/// What can be moved, by name.
pub type Registered = std::collections::BTreeMap<String, Rc<dyn Migratable>>;

/// A migration from this node that was completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Its number.
    pub id: MigrationId,
    /// Bytes of the state.
    pub bytes: u64,
    /// Bytes of it as they were sent, compressed.
    pub packed_bytes: u64,
    /// How often the transfer was interrupted and went on.
    pub resumed: u32,
    /// How long it took, from the order to the peer's answer.
    pub took: Duration,
}

/// Why a state was not moved. It is where it was, but see [`RollbackReason::OutcomeUnknown`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// Nothing is registered under this name here. The application's mistake; nothing happened.
    #[error("nothing is registered as `{0}`")]
    NotRegistered(String),
    /// The name is longer than the peer would take. The application's mistake; nothing happened.
    #[error("a name may have {} bytes", wire::NAME_BYTES_MAX)]
    NameTooLong,
    /// This state is on its way already. Nothing happened.
    #[error("`{0}` is being moved already")]
    UnderWay(String),
    /// As many migrations go on as may. Nothing happened.
    #[error("{0} migrations go on already")]
    TooMany(usize),
    /// It was rolled back.
    #[error(transparent)]
    RolledBack(#[from] RollbackReason),
}
