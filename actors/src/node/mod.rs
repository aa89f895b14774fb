//! A node: its actors assembled into one supervision tree.

mod journal;
mod services;

pub use journal::{JournalActor, Record, RecentEvents, Subscribe, Subscribers};
pub use services::{Application, EndSession, Inspector, Services};
