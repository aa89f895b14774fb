//! How transports behave.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::Checks;

/// Section `[transport]`: the same for every transport. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransportConfig {
    /// How long a dial may take, the handshake included. Default: 30 s.
    #[serde(with = "super::duration")]
    pub connect_timeout: Duration,
    /// How long an inbound connection may take to prove who it is. Default: 10 s.
    #[serde(with = "super::duration")]
    pub handshake_timeout: Duration,
    /// Handshakes that go on at once per transport, in each direction: they are what costs. More dials wait, more inbound connections are
    /// refused as busy. Default: 64.
    pub handshakes_max: usize,
    /// Links that a transport carries at once. Dials and inbound connections beyond it are refused. Default: 10,000.
    pub connections_max: usize,
    /// Links that go to one remote host at once, dialled ones only: a pool that a peer with many addresses on one host
    /// cannot exceed. Default: 20.
    pub pool_per_host: usize,
    /// The operating system probes an idle TCP connection after this long. The session probes far earlier. Default: 60 s.
    #[serde(with = "super::duration")]
    pub keep_alive: Duration,
    /// Bytes that the operating system may take from a TCP link and not have sent. Small, so that an urgent message does not
    /// wait behind bulk; too small costs throughput. Default: 128KiB.
    #[serde(with = "super::size")]
    pub unsent_bytes_max: u32,
    /// Failures in a row after which a host, or the whole transport, is left alone for a while. Default: 5.
    pub breaker_failures: u32,
    /// For how long. Then one attempt is made. Default: 5 s.
    #[serde(with = "super::duration")]
    pub breaker_open: Duration,
    /// A listener that broke is opened again, at first after this long. Default: 100 ms.
    #[serde(with = "super::duration")]
    pub reopen_min: Duration,
    /// and at last after this long at most. Default: 30 s.
    #[serde(with = "super::duration")]
    pub reopen_max: Duration,
    /// Certificates by authorities instead of by the peer's own key.
    pub tls: TlsConfig,
}

/// Section `[transport.tls]`: for `tls`, `wss` and `quic`. Without it every node certifies itself with its identity key, which is the
/// safest there is between nodes that know each other's keys. With it a node can sit behind a name and a certificate of an
/// authority; who the peer is, is still proven by the session's own handshake.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the certificates of the authorities that are trusted on dials, beside the peer's own key; empty means
    /// none. Default: empty.
    pub roots_file: String,
    /// PEM file with the certificate chain that this node shows instead of its own; empty means its own. Default: empty.
    pub certificate_file: String,
    /// PEM file with the private key of that chain. Default: empty.
    pub key_file: String,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            handshakes_max: 64,
            connections_max: 10_000,
            pool_per_host: 20,
            keep_alive: Duration::from_secs(60),
            unsent_bytes_max: 128 * 1024,
            breaker_failures: 5,
            breaker_open: Duration::from_secs(5),
            reopen_min: Duration::from_millis(100),
            reopen_max: Duration::from_secs(30),
            tls: TlsConfig::default(),
        }
    }
}

impl TransportConfig {
    pub(super) fn check(&self, checks: &mut Checks) {
        let second = Duration::from_secs(1);
        checks.duration("transport.connect_timeout", self.connect_timeout, second / 10..=600 * second);
        checks.duration("transport.handshake_timeout", self.handshake_timeout, second / 10..=600 * second);
        checks.number("transport.handshakes_max", self.handshakes_max, 1..=100_000);
        checks.number("transport.connections_max", self.connections_max, 1..=1_000_000);
        checks.number("transport.pool_per_host", self.pool_per_host, 1..=1_000_000);
        checks.duration("transport.keep_alive", self.keep_alive, second..=86_400 * second);
        checks.size("transport.unsent_bytes_max", self.unsent_bytes_max.into(), 4096..=64 * 1024 * 1024);
        checks.number("transport.breaker_failures", self.breaker_failures, 1..=1000);
        checks.duration("transport.breaker_open", self.breaker_open, second / 100..=3600 * second);
        checks.duration("transport.reopen_min", self.reopen_min, second / 100..=self.reopen_max.max(second / 100));
        checks.duration("transport.reopen_max", self.reopen_max, second / 100..=3600 * second);
        let both = self.tls.certificate_file.is_empty() == self.tls.key_file.is_empty();
        checks.ensure(
            "transport.tls.key_file",
            both,
            &self.tls.key_file,
            "a certificate and its key are given together",
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_certificate_needs_its_key() {
        let mut config = TransportConfig::default();
        config.tls.certificate_file = "node.pem".into();
        let mut checks = Checks::default();
        config.check(&mut checks);
        assert_eq!(checks.finish().unwrap_err()[0].key(), "transport.tls.key_file");
    }
}
