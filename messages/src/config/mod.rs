//! The configuration of a node: one file per concern, plain data with defaults, parsed once.
//!
//! Files, environment and flags are read in `node/`; this is what comes out of them. Every section has
//! `fn check(&self, checks: &mut Checks)`, which names what is wrong with it. No key is optional in the sense of serde: what may
//! be left open has an empty value, so that the defaults name every key there is.

mod check;
mod gradual;
mod group;
mod limits;
mod listen;
mod membership;
mod mesh;
mod migration;
mod needs;
mod network;
mod operation;
mod partition;
mod partition_log;
mod peers;
mod quantity;
mod repair;
mod resolution;
mod services;
mod session;
mod topology;
mod transport;

use serde::{Deserialize, Serialize};

pub use check::{Checks, ConfigError, suggest};
pub use gradual::GradualConfig;
pub use group::GroupSection;
pub use limits::LimitsConfig;
pub use listen::{DEFAULT_PORT, ListenConfig};
pub use membership::MembershipConfig;
pub use mesh::MeshConfig;
pub use migration::MigrationConfig;
pub use needs::{ByClass, Needs, RequirementsConfig, Weights, WeightsConfig};
pub use network::NetworkSection;
pub use operation::{ControlConfig, IdentityConfig, LogConfig, LogFormat, MetricsConfig};
pub use partition::PartitionConfig;
pub use partition_log::PartitionLogConfig;
pub use peers::{PeerBook, PeerEntry, PeerTrust, TrustConfig, TrustPolicy, is_peer_name};
pub use quantity::{
    QuantityError, duration, optional_text, parse_duration, parse_size, print_duration, print_size, size,
};
pub use repair::RepairConfig;
pub use resolution::ResolutionConfig;
pub use services::{ForwardConfig, ForwardRule, ForwardRuleError, ReceiveConfig};
pub use session::{ClassPolicies, SessionConfig};
pub use topology::{HealingConfig, LinkStateConfig, TopologyConfig, WatchConfig};
pub use transport::{TlsConfig, TransportConfig};

/// Everything that can be configured, one field per section. `docs/config.example.toml` shows it with its defaults.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Where the node keeps its key and its state.
    pub identity: IdentityConfig,
    /// Where it listens.
    pub listen: ListenConfig,
    /// The peer book.
    pub peers: PeerBook,
    /// Which peers are accepted.
    pub trust: TrustConfig,
    /// What strangers may cost.
    pub limits: LimitsConfig,
    /// How sessions behave.
    pub session: SessionConfig,
    /// How transports behave.
    pub transport: TransportConfig,
    /// Repairs of what does not heal by itself.
    pub repair: RepairConfig,
    /// Whether the node takes part in the network beyond its own sessions.
    pub network: NetworkSection,
    /// Routes and links through other peers.
    pub mesh: MeshConfig,
    /// Who is there.
    pub membership: MembershipConfig,
    /// Which group the node belongs to.
    pub group: GroupSection,
    /// What is done when part of a group is out of reach.
    pub partition: PartitionConfig,
    /// State that moves between nodes.
    pub migration: MigrationConfig,
    /// The network's shape.
    pub topology: TopologyConfig,
    /// The log that a majority commits.
    pub partition_log: PartitionLogConfig,
    /// What becomes of the states of the sides after a split.
    pub resolution: ResolutionConfig,
    /// What peers may connect to through the node.
    pub forward: ForwardConfig,
    /// Files that peers send.
    pub receive: ReceiveConfig,
    /// How the running node is reached.
    pub control: ControlConfig,
    /// Metrics and health over HTTP.
    pub metrics: MetricsConfig,
    /// The log.
    pub log: LogConfig,
}

impl NodeConfig {
    /// Names every value that is not allowed.
    ///
    /// # Errors
    /// The list, when it is not empty.
    pub fn check(&self) -> Result<(), Vec<ConfigError>> {
        let mut checks = Checks::default();
        self.listen.check(&mut checks);
        peers::check_book(&self.peers, &mut checks);
        self.trust.check(&mut checks);
        self.limits.check(&mut checks);
        self.session.check(&mut checks);
        self.transport.check(&mut checks);
        self.network.check(&mut checks);
        self.mesh.check(&mut checks);
        self.membership.check(&mut checks);
        self.group.check(&mut checks);
        self.migration.check(&mut checks);
        self.partition_log.check(&mut checks);
        self.resolution.check(&mut checks);
        self.repair.check(&mut checks);
        self.topology.check(&mut checks);
        self.partition.check(&mut checks);
        self.forward.check(&mut checks);
        for peer in self.forward.allow.keys() {
            let known = self.peers.contains_key(peer) || peer.parse::<crate::PeerId>().is_ok();
            checks.ensure("forward.allow", known, peer, "it is neither a name in [peers] nor a peer id");
        }
        self.receive.check(&mut checks);
        self.metrics.check(&mut checks);
        self.log.check(&mut checks);
        checks.finish()
    }

    /// The sections that differ from another configuration and that a running node cannot take over, by name.
    pub fn sections_needing_restart(&self, other: &Self) -> Vec<&'static str> {
        let mut sections = Vec::new();
        let mut compare = |name, same: bool| {
            if !same {
                sections.push(name);
            }
        };
        compare("identity", self.identity == other.identity);
        compare("listen", self.listen == other.listen);
        compare("limits", self.limits == other.limits);
        compare("session", self.session == other.session);
        compare("transport", self.transport == other.transport);
        compare("network", self.network == other.network);
        compare("mesh", self.mesh == other.mesh);
        compare("membership", self.membership == other.membership);
        compare("group", self.group == other.group);
        compare("migration", self.migration == other.migration);
        compare("partition_log", self.partition_log == other.partition_log);
        compare("resolution", self.resolution == other.resolution);
        compare("repair", self.repair == other.repair);
        compare("topology", self.topology == other.topology);
        compare("partition", self.partition == other.partition);
        compare("control", self.control == other.control);
        compare("metrics", self.metrics == other.metrics);
        compare("log.format", self.log.format == other.log.format);
        sections
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_defaults_are_allowed_and_come_back() {
        let config = NodeConfig::default();
        assert_eq!(config.check(), Ok(()));
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<NodeConfig>(&text).unwrap(), config);
    }

    #[test]
    fn a_forwarding_needs_a_known_peer() {
        let mut config = NodeConfig::default();
        config.forward.allow.insert("nobody".into(), vec!["22".parse().unwrap()]);
        let errors = config.check().unwrap_err();
        assert_eq!(errors[0].key(), "forward.allow");
    }

    #[test]
    fn only_sections_that_changed_need_a_restart() {
        let config = NodeConfig::default();
        let mut other = config.clone();
        other.trust.policy = TrustPolicy::Open;
        other.log.filter = "debug".into();
        assert!(config.sections_needing_restart(&other).is_empty());
        other.limits.unproven_total = 5;
        other.log.format = LogFormat::Json;
        assert_eq!(config.sections_needing_restart(&other), ["limits", "log.format"]);
    }
}
