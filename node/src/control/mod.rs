//! The control interface of a running node: HTTP on a private socket.
//!
//! | file | idea |
//! |---|---|
//! | `protocol`, `report` | what is said, both ways |
//! | `socket` | where: the only file that knows an operating system |
//! | `client` | the side of the commands |
//! | `server` | the routes |
//! | `remote` | from the server's threads to the node's |
//! | `running`, `resolve`, `seeking`, `visits`, `why`, `trust`, `transfers`, `forwards`, `renewed`, `events` | what is done there |

pub(crate) mod client;
mod events;
mod forwards;
mod group;
mod network;
pub(crate) mod protocol;
pub(crate) mod remote;
mod renewed;
pub(crate) mod report;
mod resolve;
pub(crate) mod running;
mod seeking;
pub(crate) mod server;
pub(crate) mod socket;
mod transfers;
mod trust;
mod visits;
mod why;
