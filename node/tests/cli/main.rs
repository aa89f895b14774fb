//! The binary, as processes: exit codes, JSON, and two nodes over loopback.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, unreachable_pub)]

mod answers;
mod commands;
mod experiments;
mod life;
mod network;
mod peers;
mod support;
