//! A Bowline node: [`Node::builder`] puts one into a program, [`cli`] is the program `bowline`.
//!
//! `examples/embed.rs` shows two nodes in one program. What nodes say to each other and to an application is in [`messages`], the
//! actors and handles are in [`actors`].

#![cfg_attr(test, allow(clippy::disallowed_methods))] // Tests may read the clock of the machine.

pub mod cli;
pub mod config;
mod control;
pub mod exit;
mod listen;
mod metrics_server;
mod node;
pub mod notebook;
mod services;
mod signal;
mod telemetry;
pub mod tree;

use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};

pub use bowline_actors as actors;
pub use bowline_messages as messages;
pub use exit::{Exit, Failure};
pub use node::{Node, NodeBuilder};

/// A generator seeded from the system's randomness.
fn randomness() -> Result<StdRng, Failure> {
    StdRng::try_from_rng(&mut SysRng)
        .map_err(|error| Failure::new(Exit::GaveUp, format_args!("the system gives no random numbers: {error}")))
}
