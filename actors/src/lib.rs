//! Bowline's actors: supervision, transports, links and sessions, as modules that another actix program can embed.

#![cfg_attr(test, allow(clippy::disallowed_methods))] // Tests may read the clock of the machine.

mod bucket;
pub mod clock;
pub mod health;
pub mod link;
pub mod membership;
pub mod migration;
pub mod node;
pub mod partition;
pub mod pump;
pub mod replay;
pub mod routing;
pub mod session;
pub mod supervision;
pub mod testing;
pub mod topology;
pub mod transport;
