//! The supervisor's behaviour, clause by clause as OTP's documentation and test suite give it, on real actors in virtual
//! time. The pure policy has its own tests beside it.
#![allow(clippy::unwrap_used, missing_docs)]

mod containment;
mod limits;
mod orders;
mod restarting;
mod seeing;
mod starting;
mod world;
