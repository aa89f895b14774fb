//! A Bowline node: the command line, the control socket and the assembly of all parts.

pub mod cli;
pub mod config;
pub mod exit;
pub mod identity;
