//! What a described link is like.

use std::time::Duration;

use crate::transport::Lane;
use crate::transport::memory::PathSettings;

/// One direction of a path, or both; also who dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    Both,
    /// From the first node to the second.
    Forward,
    /// From the second node to the first.
    Backward,
}

/// What a link is like until something is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkShape {
    /// Round-trip time; half of it each way. Default: 0.
    pub rtt: Duration,
    /// Each chunk takes up to this much longer. Default: 0.
    pub jitter: Duration,
    /// Bytes a second each way; `None` is unlimited.
    pub bandwidth: Option<u64>,
    /// Lanes, at least 1.
    pub lanes: Lane,
    /// Who dials. Default: the first node.
    pub dials: Direction,
}

impl Default for LinkShape {
    fn default() -> Self {
        Self { rtt: Duration::ZERO, jitter: Duration::ZERO, bandwidth: None, lanes: 1, dials: Direction::Forward }
    }
}

impl LinkShape {
    /// A link with a round-trip time and nothing else to say of it.
    pub fn rtt(rtt: Duration) -> Self {
        Self { rtt, ..Self::default() }
    }

    /// The settings of the path each way.
    pub fn settings(&self) -> PathSettings {
        PathSettings {
            latency: self.rtt / 2,
            jitter: self.jitter,
            bandwidth: self.bandwidth,
            ..PathSettings::default()
        }
    }
}
