//! What becomes of the states of the sides after a split: times and bounds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, duration, size};

/// Section `[resolution]`. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResolutionConfig {
    /// How long the leader waits for all participants to say what they have; then a majority is enough. Default: 1 s.
    #[serde(with = "duration")]
    pub collect: Duration,
    /// How long until something that was not answered is said or asked for again. Default: 250 ms.
    #[serde(with = "duration")]
    pub retry: Duration,
    /// How long one transfer may take. Default: 10 s.
    #[serde(with = "duration")]
    pub transfer_timeout: Duration,
    /// How long a whole resolution may take. Default: 30 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How often a participant tries to take the chosen state over before it says that it cannot. Default: 3.
    pub attempts: u32,
    /// Bytes of one state at most. A node may hold three times this: its own, the one that comes, and the snapshot to go back to. Default: 16 MiB.
    #[serde(with = "size")]
    pub bytes_max: u64,
    /// Bytes of state in one piece. It has to fit into a packet. Default: 8 KiB.
    #[serde(with = "size")]
    pub piece_bytes: u32,
    /// Pieces asked for at once. Default: 16.
    pub window: u32,
    /// Participants at most, and entries of a vector clock. Default: 64.
    pub participants_max: usize,
}

impl Default for ResolutionConfig {
    fn default() -> Self {
        Self {
            collect: Duration::from_secs(1),
            retry: Duration::from_millis(250),
            transfer_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            attempts: 3,
            bytes_max: 16 << 20,
            piece_bytes: 8 << 10,
            window: 16,
            participants_max: 64,
        }
    }
}

impl ResolutionConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let (ms, hour) = (Duration::from_millis, Duration::from_secs(3600));
        checks.duration("resolution.collect", self.collect, ms(10)..=hour);
        checks.duration("resolution.retry", self.retry, ms(10)..=hour);
        checks.duration("resolution.transfer_timeout", self.transfer_timeout, ms(100)..=hour);
        checks.duration("resolution.timeout", self.timeout, ms(100)..=hour * 24);
        checks.number("resolution.attempts", self.attempts, 1..=100);
        checks.size("resolution.bytes_max", self.bytes_max, 1 << 10..=1 << 30);
        checks.size("resolution.piece_bytes", u64::from(self.piece_bytes), 256..=12 << 10);
        checks.number("resolution.window", self.window, 1..=256);
        checks.number("resolution.participants_max", self.participants_max, 1..=128);
        let longer = self.timeout > self.collect;
        let shown = super::print_duration(self.timeout);
        checks.ensure("resolution.timeout", longer, &shown, "it has to be longer than resolution.collect");
    }
}
