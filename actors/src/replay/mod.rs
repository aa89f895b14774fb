//! Recorded links replayed through the node's own machines.
//!
//! | part | idea |
//! |---|---|
//! | [`trace`] | one recorded link: a file of rows, parsed; pure |
//! | [`folder`] | the folder the traces lie in: the only part that reads files |
//! | [`scenario`] | links side by side, and what each costs in each second; pure |
//! | [`truth`] | the outages of a link, by definition; pure |
//! | [`detect`] | how soon and how rightly a detector finds them; pure |
//! | [`select`] | which link a selector picks in each second, and how good that was; pure |
//! | [`player`] | the session's own chooser as a selector; pure |
//! | [`validate`] | its parameters by cross-validation over groups; pure |

pub mod detect;
pub mod folder;
pub mod player;
pub mod scenario;
pub mod select;
pub mod trace;
pub mod truth;
pub mod validate;

pub use folder::{Folder, FolderError};
pub use trace::{Row, RowTime, Rule, Trace, TraceError};
