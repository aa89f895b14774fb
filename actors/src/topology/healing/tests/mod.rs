#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod requests;
mod world;
