//! The right to be active, for a time, granted by a majority.

mod configuration;

pub use configuration::{Configuration, ConfigurationError, PARTICIPANTS_MAX};
