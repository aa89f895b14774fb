//! Whole nodes in one process, on virtual time: for Bowline's own tests and for those of embedders.
//!
//! | part | idea |
//! |---|---|
//! | [`sim`] | nodes by name, links between them, faults, and one log of everything that happened |
//! | [`script`] | the same as a text file that one can read aloud |
//! | [`partition_lab`] | a few nodes whose network falls apart and comes together again, judged |
//! | [`log`] | what happened, as text and as fields to match |
//!
//! ```
//! use std::time::Duration;
//! use bowline_actors::testing::sim::{self, LinkShape, Simulation};
//! use bowline_messages::session::{Outgoing, ReceiptState};
//! use bowline_messages::MessageClass;
//!
//! sim::run(async {
//!     let simulation = Simulation::new(7);
//!     simulation.add_node("a").unwrap();
//!     simulation.add_node("b").unwrap();
//!     simulation.add_link("a", "b", "tcp", LinkShape::rtt(Duration::from_millis(20))).unwrap();
//!     simulation.start().await.unwrap();
//!     simulation.run_for(Duration::from_secs(1)).await;
//!     let session = simulation.session("a", "b").await.unwrap();
//!     let receipt = session.send(Outgoing::new(MessageClass::Critical, "a bet")).unwrap();
//!     simulation.run_for(Duration::from_secs(1)).await;
//!     assert_eq!(receipt.state(), ReceiptState::Acknowledged);
//! });
//! ```

pub mod log;
pub mod partition_lab;
pub mod script;
pub mod sim;
pub mod soak;
