//! Supervision as in OTP, on actix: who starts whom, who restarts whom, when to give up.
//!
//! An actor takes part by using this module's [`Context`] instead of actix's:
//!
//! ```
//! use actix::prelude::{Actor, Handler, Message};
//! use bowline_actors::supervision::{ChildSpec, Context, SupervisorSpec, call};
//! use bowline_messages::supervision::Strategy;
//!
//! struct Echo;
//! impl Actor for Echo {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(Message)]
//! #[rtype(result = "u32")]
//! struct Say(u32);
//!
//! impl Handler<Say> for Echo {
//!     type Result = u32;
//!     fn handle(&mut self, Say(number): Say, _: &mut Context<Self>) -> u32 {
//!         assert_ne!(number, 13, "unlucky");
//!         number
//!     }
//! }
//!
//! # actix::System::new().block_on(async {
//! let (spec, echo) = ChildSpec::new("echo", || Echo);
//! let root = SupervisorSpec::new("node", Strategy::OneForOne).child(spec).start_root();
//! assert_eq!(call(&echo, Say(1)).await, Ok(1));
//! assert!(call(&echo, Say(13)).await.is_err());
//! assert_eq!(call(&echo, Say(2)).await, Ok(2)); // the same address, a fresh actor
//! root.shutdown().await;
//! # });
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `policy`, `rules` | the pure machine: strategies, intensity, back-off, order of starts and stops |
//! | `supervisor`, `report` | the actor around it; lists, counts, the live tree |
//! | `child_spec` | what to start, and the address it will have |
//! | `context` | what an actor sees; one life of it; its mailbox |
//! | `task`, `cell`, `contain` | the task of one child, the orders it gets, the containment of panics |
//! | `call` | requests that tell "lost in a crash" from "gone" |

mod call;
mod cell;
mod child_spec;
mod contain;
mod context;
pub mod policy;
mod report;
pub mod rules;
mod supervisor;
mod supervisor_spec;
mod task;

pub use call::{CallError, call, call_within, notify};
pub use child_spec::{ChildSpec, MAILBOX_DEFAULT, SHUTDOWN_DEFAULT, StartChild};
pub use contain::report_contained_panics_quietly;
pub use context::Context;
pub use rules::{Backoff, Intensity, OnExceeded};
pub use supervisor::SupervisorActor;
pub use supervisor_spec::{RootHandle, SupervisorSpec};
