//! Links that nodes ask each other for because the network needs them.
//!
//! Every node that sees the same graph makes the same plan of the links that the network needs most; each acts on those of its own. The other end is
//! asked, through the network, and agrees within its budgets. What a link changed is measured; one without which the network does as well is undone.
//!
//! ```text
//!  planned ──▶ asked ──▶ granted ──▶ linked ──▶ measured ──▶ useless for a while ──▶ undone
//!                │           │          │
//!                ▼           ▼          ▼
//!             refused    timed out     lost        → that peer is left alone for a while
//! ```

mod machine;
pub(super) mod outline;
pub(super) mod plan;
mod review;
mod stamps;
mod talk;
#[cfg(test)]
mod tests;
pub mod wire;

pub use machine::{Healing, HealingOutput};
pub use plan::Planned;
