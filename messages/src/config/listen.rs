//! Where a node listens.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Checks;
use crate::address::{EndpointAddress, TransportKind};

/// The port Bowline uses unless told otherwise, for TCP and UDP.
pub const DEFAULT_PORT: u16 = 8765;

/// Section `[listen]`. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenConfig {
    /// Addresses to listen on; port 0 means any free one. Default: tcp and quic on port 8765 of every interface.
    pub addresses: Vec<EndpointAddress>,
    /// Whether to take a free port when the one that is asked for is in use, instead of doing without the listener.
    /// Default: true.
    pub port_fallback: bool,
    /// Addresses to tell peers instead of those found on the interfaces: behind a port forwarding, say. Default: none.
    pub advertise: Vec<EndpointAddress>,
    /// How long after a change of the machine's interfaces or their addresses peers are told where a listener on all interfaces can be
    /// reached now, if that differs. Longer gathers more changes into one; shorter lets peers know sooner. Default: 250 ms.
    #[serde(with = "super::duration")]
    pub advertise_after: Duration,
}

impl Default for ListenConfig {
    fn default() -> Self {
        let on_all = |scheme| EndpointAddress::new(TransportKind::new(scheme), "::", Some(DEFAULT_PORT), "");
        Self {
            addresses: vec![on_all("tcp"), on_all("quic")],
            port_fallback: true,
            advertise: Vec::new(),
            advertise_after: Duration::from_millis(250),
        }
    }
}

impl ListenConfig {
    pub(super) fn check(&self, checks: &mut Checks) {
        checks.number("listen.addresses (number of)", self.addresses.len(), 0..=32);
        checks.number("listen.advertise (number of)", self.advertise.len(), 0..=16);
        let settle = Duration::from_millis(10)..=Duration::from_secs(60);
        checks.duration("listen.advertise_after", self.advertise_after, settle);
        for address in &self.advertise {
            let reachable = address.port() != Some(0) && !address.ip().is_some_and(|ip| ip.is_unspecified());
            checks.ensure("listen.advertise", reachable, address, "peers need a real host and port to dial");
        }
    }
}
