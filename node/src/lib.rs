//! placeholder

pub mod cli;
