//! Whether and how a node takes part in the network beyond its own sessions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, duration};

/// Section `[network]`. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSection {
    /// Whether this node tells its neighbours who is there and what the network looks like, and passes on packets of others. Without it
    /// the node has its own sessions and nothing else. Default: yes; it costs 40 to 120 bytes a second for each neighbour that is idle.
    pub enabled: bool,
    /// How often it looks which neighbours are reachable. Shorter tells the network sooner of a link that is gone. Default: 500 ms.
    #[serde(with = "duration")]
    pub look_every: Duration,
}

impl Default for NetworkSection {
    fn default() -> Self {
        Self { enabled: true, look_every: Duration::from_millis(500) }
    }
}

impl NetworkSection {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        checks.duration("network.look_every", self.look_every, Duration::from_millis(50)..=Duration::from_secs(60));
    }
}
