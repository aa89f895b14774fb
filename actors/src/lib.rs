//! Bowline's actors: supervision, transports, links and sessions, as modules that another actix program can embed.

pub mod transport;
