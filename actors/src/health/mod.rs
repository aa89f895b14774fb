//! How each link is: detectors in layers, their fusion, the node's doubt of itself, and quality. All but [`actor`] is pure: time comes in as an
//! argument, memory is bounded, and no number that comes in makes them panic. `docs/failover.md` explains the whole.
//!
//! | file | idea |
//! |---|---|
//! | [`window`] | the last samples and their robust statistics |
//! | [`ranked`] | the same in order of size, for those that are asked for all the time |
//! | [`unacknowledged`] | data that waits for longer than a time-out |
//! | [`phi`] | phi accrual over inter-arrival times, the usual measure |
//! | [`arrivals`] | the silence against what the link loses anyway: the chance that this is an outage |
//! | [`probing`] | what probing a link may cost: its medium's budget of bytes |
//! | [`control`] | statistical process control: 3 sigma, runs of seven |
//! | [`rules`] | what a usable sample is; bursts of errors |
//! | [`anomaly`] | distance from the median in median absolute deviations |
//! | [`correlation`] | links that fall together have one cause, reported once |
//! | [`predictor`] | where a measure is heading: the trait, and the plain trend |
//! | [`local`] | a starved node doubts itself before others |
//! | [`fusion`] | one verdict from what the layers say |
//! | [`quality`] | what was measured of a link |
//! | [`monitor`] | the layers of one link, put together |
//! | [`judge`] | from a verdict to advice: keep, mistrust, leave |
//! | [`repair`] | which repair, when, and when to stop |
//! | [`machine`] | the records of all links over one transport |
//! | [`actor`] | the monitor of one transport, and the way to it |

pub mod actor;
pub mod anomaly;
pub mod arrivals;
pub mod control;
pub mod correlation;
pub mod fusion;
pub mod judge;
pub mod local;
pub mod machine;
pub mod monitor;
pub mod phi;
pub mod predictor;
pub mod probing;
pub mod quality;
pub mod ranked;
pub mod repair;
pub mod rules;
pub mod unacknowledged;
pub mod window;

pub use actor::{HealthActor, HealthParts, HealthPort};
pub use fusion::{Verdict, fuse};
pub use machine::{HealthConfig, TransportHealth};
pub use monitor::{Feed, LinkHealth, MonitorConfig, Sample};
pub use predictor::{PlainTrend, Prediction, Predictor};
pub use quality::Quality;

/// A duration in milliseconds.
pub(crate) fn millis(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
