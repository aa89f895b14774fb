//! The log that a majority of the participants commits: times and bounds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, duration, size};

/// Section `[partition_log]`. A change needs a restart; all participants should have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PartitionLogConfig {
    /// How often the leader lets itself be heard. Each costs one packet to every participant and one back. Default: 250 ms.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// How long a participant hears nothing of the leader before it asks whether it may stand for election; each draws up to twice this, so that
    /// they rarely stand together. A leader that hears no majority for this long steps down. At least three heartbeats. Default: 1 s.
    #[serde(with = "duration")]
    pub election_timeout: Duration,
    /// Bytes of one entry at most. It has to fit into a packet. Default: 8 KiB.
    #[serde(with = "size")]
    pub entry_bytes_max: u32,
    /// Entries kept beyond the last snapshot at most; beyond that nothing is proposed or taken until the application made a snapshot. Default: 8192.
    pub entries_max: usize,
    /// Bytes of entries kept beyond the last snapshot at most. Default: 8 MiB.
    #[serde(with = "size")]
    pub bytes_max: u64,
    /// After so many committed entries a snapshot is asked for. Default: 1024.
    pub snapshot_after: usize,
    /// Bytes of a snapshot at most. Default: 16 MiB.
    #[serde(with = "size")]
    pub snapshot_bytes_max: u64,
    /// After how long a command that is not committed yet is proposed again: it may have been lost on its way to the leader. Default: 700 ms.
    #[serde(with = "duration")]
    pub propose_again: Duration,
    /// Participants at most, learners included. Default: 64.
    pub participants_max: usize,
}

impl Default for PartitionLogConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            election_timeout: Duration::from_secs(1),
            entry_bytes_max: 8 << 10,
            entries_max: 8192,
            bytes_max: 8 << 20,
            snapshot_after: 1024,
            snapshot_bytes_max: 16 << 20,
            propose_again: Duration::from_millis(700),
            participants_max: 64,
        }
    }
}

impl PartitionLogConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let (ms, minute) = (Duration::from_millis, Duration::from_secs(60));
        checks.duration("partition_log.heartbeat", self.heartbeat, ms(10)..=minute);
        checks.duration("partition_log.election_timeout", self.election_timeout, ms(30)..=minute * 10);
        checks.duration("partition_log.propose_again", self.propose_again, ms(50)..=minute);
        checks.size("partition_log.entry_bytes_max", u64::from(self.entry_bytes_max), 64..=12 << 10);
        checks.number("partition_log.entries_max", self.entries_max, 16..=1 << 20);
        checks.size("partition_log.bytes_max", self.bytes_max, 64 << 10..=1 << 30);
        checks.number("partition_log.snapshot_after", self.snapshot_after, 1..=1 << 20);
        checks.size("partition_log.snapshot_bytes_max", self.snapshot_bytes_max, 1 << 10..=1 << 30);
        checks.number("partition_log.participants_max", self.participants_max, 1..=128);
        let calm = self.election_timeout >= self.heartbeat * 3;
        let shown = super::print_duration(self.election_timeout);
        let reason = "it has to be at least three times partition_log.heartbeat";
        checks.ensure("partition_log.election_timeout", calm, &shown, reason);
        let room = self.snapshot_after <= self.entries_max / 2;
        let reason = "it has to be at most half of partition_log.entries_max";
        checks.ensure("partition_log.snapshot_after", room, self.snapshot_after, reason);
    }
}
