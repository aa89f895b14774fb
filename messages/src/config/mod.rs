//! The configuration of a node: one file per concern, plain data with defaults, parsed once.
//!
//! Files, environment and flags are read in `node/`; this is what comes out of them. Every section has
//! `fn check(&self, checks: &mut Checks)`, which names what is wrong with it.

mod check;
mod quantity;

pub use check::{Checks, ConfigError, suggest};
pub use quantity::{QuantityError, duration, parse_duration, parse_size, print_duration, print_size, size};
