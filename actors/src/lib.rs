//! Bowline's actors: supervision, transports, links and sessions, as modules that another actix program can embed.

pub mod clock;
pub mod pump;
pub mod session;
pub mod supervision;
pub mod transport;
