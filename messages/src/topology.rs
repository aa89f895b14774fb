//! The shape of the network: what nodes say of themselves and their links, alerts, recommendations and the health report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::id::PeerId;

/// What kind of node one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Has power and bandwidth to spare, and passes on for others.
    #[default]
    Full,
    /// Lives on a battery or a poor line: passes on when nobody else can.
    Light,
    /// Is there to pass on.
    Relay,
}

/// What a node says of itself, besides its links.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// What kind it is.
    pub kind: NodeKind,
    /// Whether it coordinates a group of nodes.
    pub coordinator: bool,
    /// How busy it is passing on for others, 0 to 1.
    pub load: f64,
    /// Power that is left, 0 to 1. 1: it does not live on a battery.
    pub power: f64,
    /// Links that it would take on if asked.
    pub spare_links: u8,
    /// Whether it passes on anything for others. No way leads through one that does not.
    #[serde(default = "passes_on")]
    pub relays: bool,
}

/// What is told of nodes whose report is older than [`NodeFacts::relays`].
const fn passes_on() -> bool {
    true
}

impl Default for NodeFacts {
    fn default() -> Self {
        Self { kind: NodeKind::Full, coordinator: false, load: 0.0, power: 1.0, spare_links: 0, relays: passes_on() }
    }
}

/// What a node says of the link to one of its neighbours; all links of a session together are one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LinkFacts {
    /// The smoothed round trip.
    pub latency: Duration,
    /// Bytes a second that it carries; 0: not measured.
    pub bandwidth: u64,
    /// Share lost, in millionths. What is left of a million is the link's reliability.
    pub loss_ppm: u32,
    /// How long ago something last arrived over it.
    pub idle: Duration,
    /// What it costs to send over it, in the unit of routing; at least 1, lower is better.
    pub cost: u32,
    /// Whether it is there only because the network's shape needed it.
    pub healing: bool,
}

impl LinkFacts {
    /// The share that arrives, 0 to 1.
    pub fn reliability(&self) -> f64 {
        1.0 - f64::from(self.loss_ppm.min(1_000_000)) / 1e6
    }
}

impl Default for LinkFacts {
    fn default() -> Self {
        Self { latency: Duration::ZERO, bandwidth: 0, loss_ppm: 0, idle: Duration::ZERO, cost: 1, healing: false }
    }
}

/// Node → TopologyActor: all neighbours there are now, and what the links to them are like. Told when one comes or goes and, for the figures,
/// every second or so; the receiver finds the differences.
#[derive(Debug, Clone, PartialEq, Default, Message)]
#[rtype(result = "()")]
pub struct NeighboursChanged {
    /// Every peer with which there is a session that can carry traffic.
    pub neighbours: BTreeMap<PeerId, LinkFacts>,
}

/// Node → TopologyActor: what this node is like now.
#[derive(Debug, Clone, PartialEq, Message)]
#[rtype(result = "()")]
pub struct OwnFacts {
    /// All but the spare links, which the receiver knows better.
    pub facts: NodeFacts,
    /// Where this node can be reached, for peers that are asked for a link.
    pub addresses: Vec<String>,
}

/// Node → TopologyActor: the health of each transport by its name, 0 to 1, for the report.
#[derive(Debug, Clone, PartialEq, Default, Message)]
#[rtype(result = "()")]
pub struct TransportsSeen {
    /// By name, as in `tcp`.
    pub transports: BTreeMap<String, TransportHealth>,
}

/// One transport in a health report.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TransportHealth {
    /// Links over it.
    pub links: u32,
    /// Those of them that are well.
    pub well: u32,
}

/// Node → TopologyActor: who belonged to the network and is gone without a word, as the membership has it. Told every few seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Message)]
#[rtype(result = "()")]
pub struct MembersSeen {
    /// Members that are down and remembered. Those that left in good order are not among them.
    pub down: BTreeSet<PeerId>,
}

/// `bowline`, node → TopologyActor: asks for the [`HealthReport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "Box<HealthReport>")]
pub struct HealthQuery;

/// A figure that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// The largest share of pairs of nodes that one node's loss separates.
    SeparationRisk,
    /// Bridge nodes ÷ nodes × max(0, (2 − average degree) ÷ 2).
    ReferenceRisk,
    /// The longest shortest path of the largest component.
    Diameter,
    /// The mean clustering coefficient of nodes with at least two neighbours.
    Clustering,
    /// How busy a bridge node is.
    BridgeLoad,
    /// Neighbours of a node, on average.
    AverageDegree,
    /// Nodes that are known to be connected.
    Nodes,
}

impl Figure {
    /// Its name in a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SeparationRisk => "separation risk",
            Self::ReferenceRisk => "reference partition risk",
            Self::Diameter => "diameter",
            Self::Clustering => "clustering",
            Self::BridgeLoad => "bridge node load",
            Self::AverageDegree => "average degree",
            Self::Nodes => "number of nodes",
        }
    }

    /// A value of it as people write it.
    pub fn in_words(self, value: f64) -> String {
        match self {
            Self::SeparationRisk | Self::Clustering | Self::BridgeLoad => format!("{:.0} %", value * 100.0),
            Self::Diameter | Self::AverageDegree | Self::Nodes => {
                format!("{value:.1}").trim_end_matches(".0").to_owned()
            }
            Self::ReferenceRisk => format!("{value:.2}"),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How grave an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertLevel {
    /// Something could be better; a recommendation says what.
    Recommend,
    /// Something is wrong.
    Alert,
    /// Work that can wait should wait. Which work that is only the application knows: nothing is paused by itself.
    Pause,
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "alert")]
pub enum AlertKind {
    /// A figure is far from what it usually is.
    AnomalyDetected {
        /// Which.
        figure: Figure,
    },
    /// One loss would tear much of the network apart, by the separation risk.
    PartitionRisk,
    /// The same, as the trend of the separation risk has it within the horizon.
    PartitionRiskAhead,
    /// The same, by the reference's measure.
    ReferencePartitionRisk,
    /// The network is long.
    HighDiameter,
    /// Neighbours are seldom neighbours of each other.
    LowClustering,
    /// A bridge node is busy.
    BridgeOverloaded {
        /// The node.
        peer: PeerId,
    },
}

/// Something about the network's shape that somebody should know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about.
    #[serde(flatten)]
    pub kind: AlertKind,
    /// How grave it is.
    pub level: AlertLevel,
    /// The figure.
    pub value: f64,
    /// The limit it passed.
    pub limit: f64,
    /// The nodes it is about, at most eight.
    pub nodes: Vec<PeerId>,
}

impl Alert {
    /// What it says, in one sentence with the figure, the limit and the nodes; `name` is what the reader calls a node.
    pub fn sentence(&self, name: impl Fn(&PeerId) -> String) -> String {
        let share = |share: f64| format!("{:.0} %", share * 100.0);
        let (value, limit) = (self.value, self.limit);
        let names = |introduction: &str| {
            let names: Vec<String> = self.nodes.iter().map(&name).collect();
            if names.is_empty() { String::new() } else { format!("{introduction}{}", names.join(", ")) }
        };
        match self.kind {
            AlertKind::AnomalyDetected { figure } => {
                let side = if value > limit { "more" } else { "less" };
                let (now, usual) = (figure.in_words(value), figure.in_words(limit));
                format!("the {figure} is {now}, unusually {side}: as a rule it stays within {usual}")
            }
            AlertKind::PartitionRisk => format!(
                "the loss of one node would separate {} of all pairs of nodes (limit {}){}",
                share(value),
                share(limit),
                names("; bridge nodes, the worst first: ")
            ),
            AlertKind::PartitionRiskAhead => format!(
                "as it is going, the loss of one node will soon separate {} of all pairs of nodes (limit {}){}",
                share(value),
                share(limit),
                names("; bridge nodes, the worst first: ")
            ),
            AlertKind::ReferencePartitionRisk => format!(
                "the partition risk by the reference's formula is {value:.2} (limit {limit:.2}){}",
                names("; bridge nodes, the worst first: ")
            ),
            AlertKind::HighDiameter => format!("the farthest nodes are {value:.0} links apart, more than {limit:.0}"),
            AlertKind::LowClustering => format!(
                "only {} of the pairs of a node's neighbours know each other, less than {}",
                share(value),
                share(limit)
            ),
            AlertKind::BridgeOverloaded { peer } => {
                format!(
                    "bridge node {} is {} busy passing on for others (limit {})",
                    name(&peer),
                    share(value),
                    share(limit)
                )
            }
        }
    }
}

/// What is recommended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Links around the nodes that hold the network together.
    AddRedundantConnections,
    /// Nodes that could take a bridge node's place.
    PromoteBackupBridges,
    /// Traffic away from a busy bridge node.
    RebalanceLoad,
    /// Links between far ends.
    AddShortcuts,
    /// Links among neighbours.
    AddLocalLinks,
}

/// What could be done, in plain words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Which kind of advice it is.
    pub advice: Advice,
    /// One sentence that names the nodes.
    pub text: String,
    /// Those nodes, at most eight.
    pub nodes: Vec<PeerId>,
}

/// How the network is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverallStatus {
    /// Nothing has been looked at yet.
    #[default]
    Unknown,
    /// No alert.
    Healthy,
    /// Recommendations, or an alert that is no danger yet.
    Degraded,
    /// The network has fallen apart, is about to at the next loss, or no transport works.
    Critical,
}

/// The network's shape in figures: of the part of it that this node is in, unless something else is said.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TopologySummary {
    /// Nodes.
    pub nodes: u32,
    /// Links, each counted once.
    pub edges: u32,
    /// Parts without a path between them of everything that is announced, this node's own included. Nodes that hang on one node alone, and that the
    /// membership does not know, make none.
    pub components: u32,
    /// Nodes in the other parts, and those that hang on one node alone and that the membership does not know. Anybody can announce nodes that nobody has met, so these alone are no alert.
    pub nodes_elsewhere: u32,
    /// Whether members of the network are in another part: it has fallen apart.
    pub torn: bool,
    /// Members that are down, did not leave in good order, and are not in this node's part; at most 64.
    pub missing: Vec<PeerId>,
    /// How many there are.
    pub missing_all: u32,
    /// The longest shortest path.
    pub diameter: u32,
    /// Neighbours of a node, on average.
    pub average_degree: f64,
    /// The mean clustering coefficient of nodes with at least two neighbours.
    pub clustering: f64,
    /// The same over all nodes.
    pub clustering_all: f64,
    /// Clusters (communities): groups of nodes with more links inside than between them. None: not looked for yet, or too many nodes.
    pub clusters: Option<u32>,
    /// How clear the clusters are: the share of links inside them less what it would be at random.
    pub modularity: Option<f64>,
    /// The largest share of pairs of nodes that one node's loss separates.
    pub separation_risk: f64,
    /// Where the trend takes that within the horizon; none without a trend.
    pub separation_risk_ahead: Option<f64>,
    /// The reference's partition risk.
    pub reference_risk: f64,
    /// Nodes that the network falls apart without, those that separate most first, at most 64. They are critical: whoever sheds load should spare them.
    pub bridge_nodes: Vec<PeerId>,
    /// How many there are.
    pub bridge_nodes_all: u32,
    /// Links that the network falls apart without.
    pub bridges: u32,
}

/// An alert and how long ago it was raised or cleared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// How long ago it was raised.
    pub raised_ago: Duration,
    /// How long ago it was cleared; none while it stands.
    pub cleared_ago: Option<Duration>,
}

/// How the network is, as this node sees it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HealthReport {
    /// In one word.
    pub overall: OverallStatus,
    /// The shape.
    pub topology: TopologySummary,
    /// This node's transports by name.
    pub transports: BTreeMap<String, TransportHealth>,
    /// Alerts that stand, then those that were cleared lately, newest first.
    pub alerts: Vec<AlertRecord>,
    /// What could be done.
    pub recommendations: Vec<Recommendation>,
}

/// Why a node asks for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealingPurpose {
    /// A second way around a bridge node.
    Redundancy,
    /// A shortcut between far ends.
    Shortcut,
    /// A way past a busy bridge node.
    Relief,
    /// A link among neighbours.
    Local,
}

/// Why a node does not take on a link it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkRefusal {
    /// It makes no links for healing.
    #[error("it makes no links for healing")]
    Disabled,
    /// It has as many neighbours as it wants.
    #[error("it has as many neighbours as it wants")]
    Degree,
    /// It has as many links for healing as it wants.
    #[error("it has as many links for healing as it wants")]
    Links,
    /// It has too little power.
    #[error("it has too little power")]
    Power,
    /// It is a neighbour already.
    #[error("it is a neighbour already")]
    Linked,
    /// It is at work for another request.
    #[error("it is at work for another request")]
    Busy,
    /// It undid such a link a short while ago.
    #[error("it undid such a link a short while ago")]
    Useless,
    /// As it sees the network, no such link is needed.
    #[error("it does not see what the link is needed for")]
    NotNeeded,
}

/// What became of a link for healing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealingStep {
    /// The other end is asked.
    Asked,
    /// The other end agreed; one of both dials.
    Granted,
    /// The other end did not agree.
    Refused(LinkRefusal),
    /// No answer came, or no link.
    TimedOut,
    /// The link is there.
    Linked,
    /// It broke.
    Lost,
    /// It is undone: the network does as well without it.
    Undone,
}

/// TopologyActor → PeersActor: links that the network needs.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "healing")]
#[rtype(result = "()")]
pub enum HealingRequest {
    /// Keep a session with this peer until it is released.
    Connect {
        /// The peer.
        peer: PeerId,
        /// Where it says it can be reached; what is known of it besides counts as well.
        addresses: Vec<String>,
    },
    /// The session is not needed for the network any more: it ends unless somebody else has use for it.
    Release {
        /// The peer.
        peer: PeerId,
    },
}

/// `bowline`, node → TopologyActor: asks for the graph as it is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "Box<NetworkGraph>")]
pub struct GraphQuery;

/// The network as a node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkGraph {
    /// The node that sees it so.
    pub own: PeerId,
    /// Every node that is known to be connected to somebody, and this one, in ascending order.
    pub nodes: Vec<GraphNode>,
    /// Every link that both of its ends announce.
    pub links: Vec<GraphLink>,
    /// Nodes that signed two different announcements under one number, each with the proof. The last sixteen.
    #[serde(default)]
    pub two_faced: Vec<Equivocation>,
}

/// Proof that a node told some one thing and others another: both announcements carry one number, and its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equivocation {
    /// The node.
    pub peer: PeerId,
    /// The announcement that came first.
    pub first: SignedBytes,
    /// The other one.
    pub second: SignedBytes,
}

/// An announcement and its signature, as hexadecimal digits. Signed are the words `bowline v1 link state`, a zero byte and the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedBytes {
    /// What was signed.
    pub body: String,
    /// The signature.
    pub signature: String,
}

/// A node in the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphNode {
    /// Who.
    pub peer: PeerId,
    /// What it says of itself.
    #[serde(flatten)]
    pub facts: NodeFacts,
    /// How long ago its last announcement came.
    #[serde(with = "crate::config::duration")]
    pub last_seen: Duration,
    /// Links that it has.
    pub connections: u32,
    /// The share of pairs of its neighbours that are neighbours of each other; 0 with fewer than two neighbours.
    pub clustering: f64,
    /// Its cluster, a number that means something within one report only; none before the first look at clusters, and in another part of the network.
    pub cluster: Option<u32>,
}

/// A link in the graph, as bad as the worse of its ends says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphLink {
    /// Its ends.
    pub ends: [PeerId; 2],
    /// The smoothed round trip.
    #[serde(with = "crate::config::duration")]
    pub latency: Duration,
    /// Bytes a second; 0: not measured.
    pub bandwidth: u64,
    /// Share lost, in millionths.
    pub loss_ppm: u32,
    /// How long ago something last arrived over it, by the end that waited longer, as of what that end said last.
    #[serde(with = "crate::config::duration")]
    pub last_active: Duration,
    /// What it costs to send over it.
    pub cost: u32,
    /// Whether it is there only because the network's shape needed it.
    pub healing: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: AlertKind, value: f64, limit: f64, nodes: &[u8]) -> String {
        let nodes = nodes.iter().map(|number| PeerId::from_bytes([*number; 32])).collect();
        let alert = Alert { kind, level: AlertLevel::Alert, value, limit, nodes };
        alert.sentence(|peer| format!("n{}", peer.as_bytes()[0]))
    }

    #[test]
    fn every_alert_is_a_sentence_with_its_figure_its_limit_and_its_nodes() {
        let peer = PeerId::from_bytes([7; 32]);
        let strange = |figure| AlertKind::AnomalyDetected { figure };
        let all = [
            (
                said(strange(Figure::Nodes), 20.0, 28.5, &[]),
                "the number of nodes is 20, unusually less: as a rule it stays within 28.5",
            ),
            (
                said(strange(Figure::Clustering), 0.9, 0.52, &[]),
                "the clustering is 90 %, unusually more: as a rule it stays within 52 %",
            ),
            (
                said(AlertKind::PartitionRisk, 0.53, 0.4, &[1, 2]),
                "the loss of one node would separate 53 % of all pairs of nodes (limit 40 %); bridge nodes, the worst first: n1, n2",
            ),
            (
                said(AlertKind::PartitionRiskAhead, 0.3, 0.25, &[]),
                "as it is going, the loss of one node will soon separate 30 % of all pairs of nodes (limit 25 %)",
            ),
            (
                said(AlertKind::ReferencePartitionRisk, 0.21, 0.2, &[3]),
                "the partition risk by the reference's formula is 0.21 (limit 0.20); bridge nodes, the worst first: n3",
            ),
            (said(AlertKind::HighDiameter, 9.0, 8.0, &[]), "the farthest nodes are 9 links apart, more than 8"),
            (
                said(AlertKind::LowClustering, 0.12, 0.3, &[]),
                "only 12 % of the pairs of a node's neighbours know each other, less than 30 %",
            ),
            (
                said(AlertKind::BridgeOverloaded { peer }, 0.9, 0.8, &[7]),
                "bridge node n7 is 90 % busy passing on for others (limit 80 %)",
            ),
        ];
        for (said, wanted) in all {
            assert_eq!(said, wanted);
        }
    }
}
