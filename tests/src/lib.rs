//! What the tests and the benches across processes share.

pub mod arrivals;
#[cfg(target_os = "linux")]
pub mod failover;
#[cfg(target_os = "linux")]
pub mod partitions;
pub mod programs;
pub mod ways;
