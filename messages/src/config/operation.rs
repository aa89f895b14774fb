//! How a node is run and looked at: its files, its control socket, its metrics and its log.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::check::Checks;

/// Section `[identity]`: where the node keeps what makes it itself. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// The state directory; empty means `$XDG_STATE_HOME/bowline`, for root `/var/lib/bowline`. Default: empty.
    pub state_dir: String,
    /// The key file, relative to the state directory; empty means `identity.key`. Default: empty.
    pub key_file: String,
}

/// Section `[control]`: how `bowline` reaches the running node. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlConfig {
    /// The control socket; empty means `$XDG_RUNTIME_DIR/bowline.sock`, for root `/run/bowline/bowline.sock`, and
    /// `control.sock` in the state directory where there is neither. Default: empty.
    pub socket: String,
}

/// Section `[metrics]`: Prometheus metrics and health over HTTP. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address and port to serve them on, as in `127.0.0.1:9765`; empty means not at all. They need no password, so choose a
    /// loopback address unless the network is yours. Default: empty.
    #[serde(with = "super::quantity::optional_text")]
    pub listen: Option<SocketAddr>,
}

/// Section `[log]`: what is written to the standard error stream. A reload takes `filter` over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// What is logged, in the syntax of `RUST_LOG`, as in `info,bowline_actors::session=debug`; `RUST_LOG` wins.
    /// Default: `info`.
    pub filter: String,
    /// How it is written. Default: auto.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise under a service manager (`$JOURNAL_STREAM` or `$INVOCATION_ID` is set), else text.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Auto }
    }
}

impl LogConfig {
    pub(super) fn check(&self, checks: &mut Checks) {
        checks.ensure("log.filter", !self.filter.trim().is_empty(), "\"\"", "write `off` to log nothing");
    }
}

impl MetricsConfig {
    pub(super) fn check(&self, checks: &mut Checks) {
        if let Some(address) = self.listen {
            checks.ensure("metrics.listen", address.port() != 0, address, "scrapers need a fixed port");
        }
    }
}
