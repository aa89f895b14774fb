//! What a simulated path between two hosts does to the bytes on it, and how that is changed.

use std::time::Duration;

use bowline_messages::TransportKind;
use serde::{Deserialize, Serialize};

/// One direction between two hosts over one kind of transport. All links of that kind between them share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Path {
    /// The host that sends.
    pub from: String,
    /// The host that receives.
    pub to: String,
    /// The transport.
    pub kind: TransportKind,
}

impl Path {
    /// The path from one host to another.
    pub fn new(from: &str, to: &str, kind: &TransportKind) -> Self {
        Self { from: from.into(), to: to.into(), kind: kind.clone() }
    }

    /// The path in the other direction.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { from: self.to.clone(), to: self.from.clone(), kind: self.kind.clone() }
    }
}

/// What happens to bytes on a path that is cut. Nobody is told in either case: the links fall silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// They are kept back, and arrive once the path is healed: what a reliable link does that re-sends.
    Hold,
    /// They are gone. A reliable link cannot go on behind a gap, so it stays silent for ever in this direction, healed or
    /// not; new links work once the path is healed.
    Vanish,
}

/// What a path does to the bytes on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathSettings {
    /// From the last bit sent to its arrival. Default: 0.
    pub latency: Duration,
    /// Each chunk takes up to this much longer, evenly spread; order within a lane is kept. Default: 0.
    pub jitter: Duration,
    /// Added to the latency: a route that got worse. Default: 0.
    pub extra_delay: Duration,
    /// Chunks of a million that are lost and have to be sent again; order within a lane is kept. Default: 0.
    pub loss_ppm: u32,
    /// How much later a lost chunk arrives. Default: 0.
    pub resend_delay: Duration,
    /// Each time that it is lost again, it takes so many times as long as before. Default: 2.
    pub resend_factor: u32,
    /// Bytes a second, shared by all links on the path. Default: `None`, unlimited.
    pub bandwidth: Option<u64>,
    /// Bytes of one link that may wait to be sent while the bandwidth is used up; the writer waits beyond that. Default: 64 KiB.
    pub queue_bytes: usize,
    /// Bytes of one lane that may be written and not read yet, on their way or at the receiver; the writer waits beyond that.
    /// Default: 1 MiB.
    pub window_bytes: usize,
    /// Whether the path is cut, and how. Default: `None`, it is not.
    pub cut: Option<Cut>,
    /// Writes larger than this, in bytes, vanish as a whole, smaller ones pass: a path with a broken maximum packet size.
    /// Default: `None`, all pass.
    pub drop_larger_than: Option<usize>,
    /// Whether dials along this path are refused. Default: no.
    pub refuse_dials: bool,
}

impl Default for PathSettings {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            extra_delay: Duration::ZERO,
            loss_ppm: 0,
            resend_delay: Duration::ZERO,
            resend_factor: 2,
            bandwidth: None,
            queue_bytes: 64 * 1024,
            window_bytes: 1024 * 1024,
            cut: None,
            drop_larger_than: None,
            refuse_dials: false,
        }
    }
}

impl PathSettings {
    /// Latency and extra delay.
    pub fn delay(&self) -> Duration {
        self.latency + self.extra_delay
    }

    /// How long so many bytes occupy the path.
    pub fn occupied_by(&self, bytes: usize) -> Duration {
        match self.bandwidth {
            Some(0) | None => Duration::ZERO,
            Some(rate) => {
                let nanos = u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(1_000_000_000) / u128::from(rate);
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }
}

/// What was written to a path since [`super::MemoryNetwork::watch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Bytes.
    pub bytes: u64,
    /// Bytes of those in small chunks.
    pub small_bytes: u64,
    /// When the first chunk was written, on tokio's clock.
    pub first: Option<tokio::time::Instant>,
    /// When the first chunk that was not small was.
    pub first_large: Option<tokio::time::Instant>,
}

/// A change to one path, as plain data: given at once to [`super::MemoryNetwork::apply`] or for later to
/// [`super::MemoryNetwork::schedule`]. [`super::MemoryNetwork::apply_both`] does both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Replaces all settings. What is already on its way keeps its time of arrival, unless a cut comes or goes; what waits to be sent leaves
    /// at the new bandwidth.
    Shape(PathSettings),
    /// Sets the latency.
    Latency(Duration),
    /// Sets the jitter.
    Jitter(Duration),
    /// Sets the extra delay.
    ExtraDelay(Duration),
    /// Sets the bandwidth in bytes a second; `None` is unlimited.
    Bandwidth(Option<u64>),
    /// Cuts the path silently.
    Cut(Cut),
    /// Ends the cut.
    Heal,
    /// Lets writes larger than this vanish; `None` ends it.
    DropLargerThan(Option<usize>),
    /// Refuses dials or ends that.
    RefuseDials(bool),
    /// Resets every link that uses the path, in both directions: each side sees it at once.
    Reset,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_occupy_the_path_in_proportion() {
        let settings = PathSettings { bandwidth: Some(125_000), ..PathSettings::default() };
        assert_eq!(settings.occupied_by(12_500), Duration::from_millis(100));
        assert_eq!(PathSettings::default().occupied_by(usize::MAX), Duration::ZERO);
    }
}
