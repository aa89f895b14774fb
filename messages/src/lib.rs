//! Everything Bowline's parts say to each other: identities, endpoint addresses, configuration, the frames that cross the
//! network and the messages that cross between actors. No I/O, no clock, no sockets.
//!
//! Who sends what to whom is written down in `docs/architecture.md`; a module here is named like the concern it serves.

#![cfg_attr(test, allow(clippy::disallowed_methods))] // Tests may read the clock of the machine.

pub mod address;
pub mod class;
pub mod config;
pub mod credit;
pub mod event;
pub mod health;
pub mod id;
pub mod link;
pub mod membership;
pub mod migration;
pub mod network;
pub mod partition;
pub mod repair;
pub mod session;
pub mod supervision;
pub mod ticket;
pub mod topology;
pub mod transport;
pub mod wire;

pub use address::{AddressError, EndpointAddress, TransportKind};
pub use class::{Delivery, MessageClass, PolicyName, UnknownPolicy};
pub use event::{Event, EventKind};
pub use id::{ChannelId, Incarnation, LinkId, PeerId, PeerIdError};
pub use ticket::{Ticket, TicketError};
