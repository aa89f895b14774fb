//! State that moves from one node to another: bounds and times.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, duration, size};

/// Section `[migration]`. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MigrationConfig {
    /// Bytes of one state at most, sent or received. A node may hold this much for each migration. Default: 16 MiB.
    #[serde(with = "size")]
    pub bytes_max: u64,
    /// Bytes of state in one piece, before compression. Larger pieces compress better; each is packed at one go on the node's thread.
    /// Default: 64 KiB.
    #[serde(with = "size")]
    pub piece_bytes: u32,
    /// Migrations to this node at once, one from each peer; more are refused as busy. Default: 4.
    pub incoming: usize,
    /// Migrations from this node at once. Default: 16.
    pub outgoing: usize,
    /// How long the application may take to capture its state. Default: 10 s.
    #[serde(with = "duration")]
    pub capture_timeout: Duration,
    /// How long the peer may take to say whether it takes the state. Default: 15 s.
    #[serde(with = "duration")]
    pub offer_timeout: Duration,
    /// How long all pieces together may take, interruptions included. Default: 5 min.
    #[serde(with = "duration")]
    pub transfer_timeout: Duration,
    /// How long the receiving application may take to look at the state. Default: 30 s.
    #[serde(with = "duration")]
    pub verify_timeout: Duration,
    /// How long the receiving application may take to take the state over. Default: 30 s.
    #[serde(with = "duration")]
    pub apply_timeout: Duration,
    /// How long after the order to take it over the outcome is waited for. Beyond that it is unknown; so this has to be longer than
    /// `apply_timeout`. Default: 2 min.
    #[serde(with = "duration")]
    pub outcome_timeout: Duration,
}

impl Default for MigrationConfig {
    fn default() -> Self {
        Self {
            bytes_max: 16 << 20,
            piece_bytes: 64 << 10,
            incoming: 4,
            outgoing: 16,
            capture_timeout: Duration::from_secs(10),
            offer_timeout: Duration::from_secs(15),
            transfer_timeout: Duration::from_secs(300),
            verify_timeout: Duration::from_secs(30),
            apply_timeout: Duration::from_secs(30),
            outcome_timeout: Duration::from_secs(120),
        }
    }
}

impl MigrationConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let (ms, hour) = (Duration::from_millis, Duration::from_secs(3600));
        checks.size("migration.bytes_max", self.bytes_max, 1 << 10..=1 << 30);
        checks.size("migration.piece_bytes", u64::from(self.piece_bytes), 1 << 10..=1 << 20);
        checks.number("migration.incoming", self.incoming, 0..=1024);
        checks.number("migration.outgoing", self.outgoing, 0..=1024);
        checks.duration("migration.capture_timeout", self.capture_timeout, ms(10)..=hour);
        checks.duration("migration.offer_timeout", self.offer_timeout, ms(100)..=hour);
        checks.duration("migration.transfer_timeout", self.transfer_timeout, ms(100)..=hour * 24);
        checks.duration("migration.verify_timeout", self.verify_timeout, ms(10)..=hour);
        checks.duration("migration.apply_timeout", self.apply_timeout, ms(10)..=hour);
        checks.duration("migration.outcome_timeout", self.outcome_timeout, ms(100)..=hour * 24);
        let longer = self.outcome_timeout > self.apply_timeout;
        let shown = super::print_duration(self.outcome_timeout);
        checks.ensure("migration.outcome_timeout", longer, &shown, "it has to be longer than migration.apply_timeout");
    }
}
