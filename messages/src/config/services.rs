//! What a node does for its peers: receive files, connect them to ports. Nothing unless it is told to.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::Checks;

/// Section `[forward]`: what peers may connect to through this node (`bowline forward` on their side). A reload takes it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForwardConfig {
    /// For each peer, by its name in the peer book or its id, the ports it may reach: `22` is port 22 of this machine,
    /// `"8080=192.0.2.7:80"` makes port 8080 lead to another one. Default: none.
    pub allow: BTreeMap<String, Vec<ForwardRule>>,
    /// Connections a peer may have open through this node at once. Default: 64.
    pub connections_max: usize,
}

impl Default for ForwardConfig {
    fn default() -> Self {
        Self { allow: BTreeMap::new(), connections_max: 64 }
    }
}

/// One port a peer may reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForwardRule {
    /// The port the peer asks for.
    pub port: u16,
    /// Host and port it leads to, when that is not this machine's port of the same number.
    pub target: Option<(String, u16)>,
}

/// Why a text is no forwarding rule. The user's mistake; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no forwarding rule: write a port, as in 22, or a port and where it leads, as in \"8080=192.0.2.7:80\""
)]
pub struct ForwardRuleError(String);

impl ForwardRule {
    /// The host to connect to: loopback unless the rule says otherwise.
    pub fn host(&self) -> &str {
        self.target.as_ref().map_or("127.0.0.1", |(host, _)| host)
    }

    /// The port to connect to on [`ForwardRule::host`].
    pub fn target_port(&self) -> u16 {
        self.target.as_ref().map_or(self.port, |(_, port)| *port)
    }
}

impl FromStr for ForwardRule {
    type Err = ForwardRuleError;

    fn from_str(text: &str) -> Result<Self, ForwardRuleError> {
        let error = || ForwardRuleError(text.into());
        let port = |digits: &str| digits.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(error);
        let Some((asked, target)) = text.split_once('=') else {
            return Ok(Self { port: port(text)?, target: None });
        };
        let (host, target_port) = target.rsplit_once(':').ok_or_else(error)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(error());
        }
        Ok(Self { port: port(asked)?, target: Some((host.to_owned(), port(target_port)?)) })
    }
}

impl fmt::Display for ForwardRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            None => write!(f, "{}", self.port),
            Some((host, port)) if host.contains(':') => write!(f, "{}=[{host}]:{port}", self.port),
            Some((host, port)) => write!(f, "{}={host}:{port}", self.port),
        }
    }
}

impl Serialize for ForwardRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ForwardRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RuleVisitor)
    }
}

struct RuleVisitor;

impl Visitor<'_> for RuleVisitor {
    type Value = ForwardRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port, or text as in \"8080=192.0.2.7:80\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ForwardRule, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, port: i64) -> Result<ForwardRule, E> {
        port.to_string().parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, port: u64) -> Result<ForwardRule, E> {
        port.to_string().parse().map_err(E::custom)
    }
}

impl ForwardConfig {
    pub(super) fn check(&self, checks: &mut Checks) {
        checks.number("forward.connections_max", self.connections_max, 1..=10_000);
        for (peer, rules) in &self.allow {
            let key = format!("forward.allow.{peer}");
            checks.number(&format!("{key} (number of)"), rules.len(), 0..=256);
            for (at, rule) in rules.iter().enumerate() {
                let again = rules[..at].iter().any(|earlier| earlier.port == rule.port);
                checks.ensure(&key, !again, rule, "the port is named twice");
            }
        }
    }
}

/// Section `[receive]`: files that peers send. A reload takes it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiveConfig {
    /// The folder that files are received into at any time; empty means only while `bowline receive` runs. Default: empty.
    pub dir: String,
    /// The largest file that is accepted. Default: 4 GiB.
    #[serde(with = "super::size")]
    pub bytes_max: u64,
    /// Whether a file may replace one of the same name; otherwise it gets another name. Default: false.
    pub overwrite: bool,
    /// Files that are received at once; further ones are refused. Default: 8.
    pub files_max: usize,
    /// Of these, files of one peer. Less leaves more room for others. Default: 4.
    pub files_per_peer: usize,
    /// How long a file may bring no byte before it is given up and its place is free again. Longer bears with links that are gone for a
    /// while and with senders that have nothing to say; shorter frees the place of one that never goes on. Not below `session.peer_lost_after`, or an outage that
    /// a session survives ends a transfer. Default: 10 min.
    #[serde(with = "super::duration")]
    pub stall_timeout: Duration,
}

impl Default for ReceiveConfig {
    fn default() -> Self {
        Self {
            dir: String::new(),
            bytes_max: 4 << 30,
            overwrite: false,
            files_max: 8,
            files_per_peer: 4,
            stall_timeout: Duration::from_secs(600),
        }
    }
}

impl ReceiveConfig {
    pub(super) fn check(&self, checks: &mut Checks) {
        checks.size("receive.bytes_max", self.bytes_max, 1..=1 << 50);
        checks.number("receive.files_max", self.files_max, 1..=1_000);
        checks.number("receive.files_per_peer", self.files_per_peer, 1..=1_000);
        let stall = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
        checks.duration("receive.stall_timeout", self.stall_timeout, stall);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fewer_files_at_once_need_no_other_key() {
        let mut checks = Checks::default();
        ReceiveConfig { files_max: 1, ..ReceiveConfig::default() }.check(&mut checks);
        assert_eq!(checks.finish(), Ok(()));
    }

    #[test]
    fn rules_lead_to_this_machine_unless_they_say_otherwise() {
        let rule: ForwardRule = "22".parse().unwrap();
        assert_eq!((rule.host(), rule.target_port()), ("127.0.0.1", 22));
        for text in ["22", "8080=192.0.2.7:80", "1=host:2", "1=[::1]:2"] {
            assert_eq!(text.parse::<ForwardRule>().unwrap().to_string(), text);
        }
        assert_eq!("1=[::1]:2".parse::<ForwardRule>().unwrap().host(), "::1");
        for text in ["", "0", "65536", "ssh", "1=", "1=:2", "1=host", "1=host:0", "=host:1", "1=a b:2"] {
            assert_eq!(text.parse::<ForwardRule>(), Err(ForwardRuleError(text.into())), "{text}");
        }
    }

    #[test]
    fn ports_are_written_as_numbers_or_text() {
        let rules: Vec<ForwardRule> = serde_json::from_str(r#"[22, "23", "24=a:25"]"#).unwrap();
        assert_eq!(rules.iter().map(|r| r.port).collect::<Vec<_>>(), [22, 23, 24]);
        assert!(serde_json::from_str::<ForwardRule>("-1").is_err());
        assert!(serde_json::from_str::<ForwardRule>("70000").is_err());
    }
}
