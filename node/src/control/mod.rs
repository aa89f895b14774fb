//! The control interface of a running node: HTTP on a private socket.

pub(crate) mod client;
pub(crate) mod protocol;
pub(crate) mod report;
mod socket;
