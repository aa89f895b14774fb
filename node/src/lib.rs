//! A Bowline node: the command line, the control socket and the assembly of all parts.

#![cfg_attr(test, allow(clippy::disallowed_methods))] // Tests may read the clock of the machine.

pub mod cli;
pub mod config;
mod control;
pub mod exit;
mod services;
