//! What a node does for its peers over streams: echo, files, ports.

mod file;
mod file_name;
mod forward;
mod label;
