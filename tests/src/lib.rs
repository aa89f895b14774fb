//! What the tests and the benches across processes share.

#[cfg(target_os = "linux")]
pub mod failover;
pub mod programs;
