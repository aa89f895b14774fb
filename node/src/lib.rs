//! A Bowline node: the command line, the control socket and the assembly of all parts.

#![cfg_attr(test, allow(clippy::disallowed_methods))] // Tests may read the clock of the machine.

pub mod cli;
pub mod config;
mod control;
pub mod exit;
mod listen;
mod metrics_server;
mod node;
mod services;
mod signal;
mod telemetry;

use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};

pub use node::{Node, NodeBuilder};

use exit::{Exit, Failure};

/// A generator seeded from the system's randomness.
fn randomness() -> Result<StdRng, Failure> {
    StdRng::try_from_rng(&mut SysRng)
        .map_err(|error| Failure::new(Exit::GaveUp, format_args!("the system gives no random numbers: {error}")))
}
