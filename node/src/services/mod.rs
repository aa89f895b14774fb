//! What a node does for its peers over streams: echo, files, ports.

pub(crate) mod actor;
pub(crate) mod file;
mod file_name;
pub(crate) mod forward;
pub(crate) mod label;
pub(crate) mod state;
