//! What a node tells and learns of the network's shape, what it watches in it, and what it does about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, duration, size};

/// Section `[topology]`. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopologyConfig {
    /// How often the figures of the network are looked at when nothing changes. Default: 5 s.
    #[serde(with = "duration")]
    pub analysis_interval: Duration,
    /// The least time between two analyses however much changes. Default: 200 ms.
    #[serde(with = "duration")]
    pub analysis_pause: Duration,
    /// From how many nodes and edges together on the network is looked at (analysis, clusters, plans) beside the node's thread: below, that takes less than a
    /// few milliseconds. Default: 2000.
    pub beside_from: usize,
    /// What nodes tell each other of their links.
    pub link_state: LinkStateConfig,
    /// What is watched.
    pub watch: WatchConfig,
    /// What is done about it.
    pub healing: HealingConfig,
}

impl Default for TopologyConfig {
    fn default() -> Self {
        Self {
            analysis_interval: Duration::from_secs(5),
            analysis_pause: Duration::from_millis(200),
            beside_from: 2_000,
            link_state: LinkStateConfig::default(),
            watch: WatchConfig::default(),
            healing: HealingConfig::default(),
        }
    }
}

/// Section `[topology.link_state]`: the gossip that builds the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkStateConfig {
    /// Nodes that are remembered at most, direct neighbours apart, who always find room. Default: 4096.
    pub nodes_max: usize,
    /// Links of one node at most; what else it announces is refused, and of its own it announces the best. Default: 128.
    pub edges_max: usize,
    /// Bytes of one announcement at most. With `edges_max` links it has about 50 bytes for each. Default: 8 KiB.
    #[serde(with = "size")]
    pub announcement_bytes_max: u64,
    /// Bytes of all announcements together at most. Default: 8 MiB.
    #[serde(with = "size")]
    pub bytes_max: u64,
    /// Bytes of one datagram at most. The carrier takes 16 KiB. Default: 8 KiB.
    #[serde(with = "size")]
    pub packet_bytes_max: u64,
    /// What refreshing the network's announcements may cost each node: bytes a second. Refreshes become rarer as the network grows so that
    /// this holds. Default: 2 KiB.
    #[serde(with = "size")]
    pub refresh_bytes_per_second: u64,
    /// How often an announcement is refreshed in a small network. Default: 30 s.
    #[serde(with = "duration")]
    pub refresh_least: Duration,
    /// How often at the least, however large it is. A node that vanished together with all of its neighbours is remembered for
    /// `lifetime_refreshes` times as long. Default: 15 min.
    #[serde(with = "duration")]
    pub refresh_most: Duration,
    /// How many refreshes may get lost before an announcement expires. Default: 3.
    pub lifetime_refreshes: u32,
    /// How long it is remembered that a node's announcements expired, so that nobody brings an old one back. Default: 2 h.
    #[serde(with = "duration")]
    pub remember_expired: Duration,
    /// The least time between two announcements of one node. It doubles, up to `hold_most`, while its links go on changing. Default: 500 ms.
    #[serde(with = "duration")]
    pub hold_least: Duration,
    /// The most that a change of links waits to be announced. Default: 8 s.
    #[serde(with = "duration")]
    pub hold_most: Duration,
    /// Announcements of one node that are accepted in a row before `hold_least` is insisted on. Default: 10.
    pub hasty_burst: u32,
    /// The least time between announcements that only tell of other figures (latency, loss …). Grows with the network as refreshes do. Default: 10 s.
    #[serde(with = "duration")]
    pub figures_interval: Duration,
    /// By which share a figure has to differ from what was announced to be worth announcing. Default: 0.25.
    pub figures_change: f64,
    /// How long announcements wait for others to travel with. Default: 40 ms.
    #[serde(with = "duration")]
    pub flood_delay: Duration,
    /// How often what is known is compared with a neighbour, one after the other. Default: 5 s.
    #[serde(with = "duration")]
    pub compare_interval: Duration,
    /// How often with a neighbour that is new or returned, until it agreed once. Default: 1 s.
    #[serde(with = "duration")]
    pub compare_new_interval: Duration,
    /// Bytes a second that this concern sends at most, all neighbours together. Default: 64 KiB.
    #[serde(with = "size")]
    pub send_bytes_per_second: u64,
    /// Bytes that it may send at once after a quiet time. Default: 512 KiB.
    #[serde(with = "size")]
    pub send_burst_bytes: u64,
    /// Bytes a second that are looked at from one neighbour. Default: 128 KiB.
    #[serde(with = "size")]
    pub receive_bytes_per_second: u64,
    /// Bytes that one neighbour may send at once after a quiet time. Default: 1 MiB.
    #[serde(with = "size")]
    pub receive_burst_bytes: u64,
}

impl Default for LinkStateConfig {
    fn default() -> Self {
        Self {
            nodes_max: 4096,
            edges_max: 128,
            announcement_bytes_max: 8 << 10,
            bytes_max: 8 << 20,
            packet_bytes_max: 8 << 10,
            refresh_bytes_per_second: 2 << 10,
            refresh_least: Duration::from_secs(30),
            refresh_most: Duration::from_secs(900),
            lifetime_refreshes: 3,
            remember_expired: Duration::from_secs(7200),
            hold_least: Duration::from_millis(500),
            hold_most: Duration::from_secs(8),
            hasty_burst: 10,
            figures_interval: Duration::from_secs(10),
            figures_change: 0.25,
            flood_delay: Duration::from_millis(40),
            compare_interval: Duration::from_secs(5),
            compare_new_interval: Duration::from_secs(1),
            send_bytes_per_second: 64 << 10,
            send_burst_bytes: 512 << 10,
            receive_bytes_per_second: 128 << 10,
            receive_burst_bytes: 1 << 20,
        }
    }
}

/// Section `[topology.watch]`: what raises an alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// A figure this many standard deviations from its mean is an anomaly. Default: 2.0.
    pub anomaly_deviations: f64,
    /// Analyses that mean and deviation are taken from; none is called an anomaly before half of them are there. Default: 60.
    pub anomaly_window: usize,
    /// Separation risk (the largest share of pairs of nodes that one node's loss separates) from which links are recommended. Default: 0.2.
    pub separation_recommend: f64,
    /// … from which there is an alert. Default: 0.25.
    pub separation_alert: f64,
    /// … from which optional work should pause. Default: 0.4.
    pub separation_pause: f64,
    /// The same for the reference's partition risk, which is above 0 in networks without a cycle only and at most 0.25. Default: 0.6.
    pub reference_recommend: f64,
    /// Default: 0.7.
    pub reference_alert: f64,
    /// Default: 0.8.
    pub reference_pause: f64,
    /// A diameter above this is one to do something about. Default: 6.
    pub diameter_recommend: u32,
    /// A diameter above this is an alert. Default: 8.
    pub diameter_alert: u32,
    /// An average clustering coefficient (of nodes with at least two neighbours) below this is an alert. Default: 0.3.
    pub clustering_alert: f64,
    /// Nodes below which clustering is not looked at: a handful of nodes has none to speak of. Default: 8.
    pub clustering_nodes_least: u32,
    /// A bridge node whose load (0 to 1) is above this is an alert. Default: 0.8.
    pub load_alert: f64,
    /// By which share of its limit a figure has to come back before its alert is cleared. Default: 0.1.
    pub hysteresis: f64,
    /// How far ahead partition risk is predicted. Default: 30 s.
    #[serde(with = "duration")]
    pub horizon: Duration,
    /// Analyses that the trend is taken from. Default: 10.
    pub trend_samples: usize,
    /// Alerts that a health report remembers. Default: 32.
    pub alerts_kept: usize,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            anomaly_deviations: 2.0,
            anomaly_window: 60,
            separation_recommend: 0.2,
            separation_alert: 0.25,
            separation_pause: 0.4,
            reference_recommend: 0.6,
            reference_alert: 0.7,
            reference_pause: 0.8,
            diameter_recommend: 6,
            diameter_alert: 8,
            clustering_alert: 0.3,
            clustering_nodes_least: 8,
            load_alert: 0.8,
            hysteresis: 0.1,
            horizon: Duration::from_secs(30),
            trend_samples: 10,
            alerts_kept: 32,
        }
    }
}

/// Section `[topology.healing]`: links that the node asks for because the network needs them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealingConfig {
    /// Whether this node asks for links and grants them. Default: true.
    pub enabled: bool,
    /// Neighbours from which on it neither asks nor grants. Default: 12.
    pub degree_max: usize,
    /// Links of its own that are there for healing, asked for or granted, at most. Default: 4.
    pub links_max: usize,
    /// Links for healing in the whole network at most, as a share of the others (one is always allowed). Default: 0.3.
    pub links_share_max: f64,
    /// The part of these that may serve local clustering. Default: 0.5.
    pub local_share_max: f64,
    /// Power left (0 to 1; 1: mains) below which it neither asks nor grants. Default: 0.3.
    pub power_least: f64,
    /// Links that all nodes together begin at once, as a share of the nodes (one is always begun). Default: 0.05.
    pub at_once_share: f64,
    /// How long the graph has to stay as it is before links are planned from it. Default: 2 s.
    #[serde(with = "duration")]
    pub settle: Duration,
    /// How long that is waited for at most. Default: 6 s.
    #[serde(with = "duration")]
    pub settle_most: Duration,
    /// Requests that are open at once. Default: 2.
    pub requests_open: usize,
    /// How long an answer is waited for. Default: 3 s.
    #[serde(with = "duration")]
    pub answer_timeout: Duration,
    /// How long a granted link may take to appear in the graph. Default: 8 s.
    #[serde(with = "duration")]
    pub link_timeout: Duration,
    /// How long a peer that refused, did not answer or could not be reached is left alone. Default: 2 min.
    #[serde(with = "duration")]
    pub refused_pause: Duration,
    /// After how long without an improvement nodes that the plan does not name try links at random. Default: 12 s.
    #[serde(with = "duration")]
    pub patience: Duration,
    /// How long after it appeared a link's effect is measured. Default: 5 s.
    #[serde(with = "duration")]
    pub measure_after: Duration,
    /// How often links made for healing are looked at again. Default: 30 s.
    #[serde(with = "duration")]
    pub review_interval: Duration,
    /// How long a link has to be without use before it is undone. Default: 2 min.
    #[serde(with = "duration")]
    pub useless_after: Duration,
    /// How long the same link is not asked for after it was undone. Default: 30 min.
    #[serde(with = "duration")]
    pub useless_pause: Duration,
    /// A shortcut is of use when the way round it has at least this many links. Default: 4.
    pub shortcut_least: u32,
    /// Requests that are passed on for each neighbour, a second; and as many again that are looked at that it brings for this node. Default: 20.
    pub relayed_per_second: u32,
    /// Links in the way of a request at most. Default: 40.
    pub path_max: usize,
    /// Bytes of one request at most, the way included. Default: 6 KiB.
    #[serde(with = "size")]
    pub request_bytes_max: u64,
}

impl Default for HealingConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            degree_max: 12,
            links_max: 4,
            links_share_max: 0.3,
            local_share_max: 0.5,
            power_least: 0.3,
            at_once_share: 0.05,
            settle: Duration::from_secs(2),
            settle_most: Duration::from_secs(6),
            requests_open: 2,
            answer_timeout: Duration::from_secs(3),
            link_timeout: Duration::from_secs(8),
            refused_pause: Duration::from_secs(120),
            patience: Duration::from_secs(12),
            measure_after: Duration::from_secs(5),
            review_interval: Duration::from_secs(30),
            useless_after: Duration::from_secs(120),
            useless_pause: Duration::from_secs(1800),
            shortcut_least: 4,
            relayed_per_second: 20,
            path_max: 40,
            request_bytes_max: 6 << 10,
        }
    }
}

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

impl TopologyConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        checks.duration("topology.analysis_interval", self.analysis_interval, MS * 100..=HOUR);
        checks.duration("topology.analysis_pause", self.analysis_pause, MS..=HOUR);
        self.link_state.check(checks);
        self.watch.check(checks);
        self.healing.check(checks);
    }
}

impl LinkStateConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let packet: u64 = 16 << 10;
        checks.number("topology.link_state.nodes_max", self.nodes_max, 2..=1 << 20);
        checks.number("topology.link_state.edges_max", self.edges_max, 1..=256);
        let key = "topology.link_state.packet_bytes_max";
        checks.size(key, self.packet_bytes_max, 1 << 10..=packet);
        let key = "topology.link_state.announcement_bytes_max";
        checks.size(key, self.announcement_bytes_max, 256..=packet);
        let fits = self.announcement_bytes_max <= self.packet_bytes_max;
        checks.ensure(key, fits, self.announcement_bytes_max, "it has to fit topology.link_state.packet_bytes_max");
        checks.size("topology.link_state.bytes_max", self.bytes_max, 64 << 10..=1 << 30);
        let rates = [
            ("topology.link_state.refresh_bytes_per_second", self.refresh_bytes_per_second),
            ("topology.link_state.send_bytes_per_second", self.send_bytes_per_second),
            ("topology.link_state.receive_bytes_per_second", self.receive_bytes_per_second),
        ];
        for (key, rate) in rates {
            checks.size(key, rate, 64..=1 << 30);
        }
        let bursts = [
            ("topology.link_state.send_burst_bytes", self.send_burst_bytes),
            ("topology.link_state.receive_burst_bytes", self.receive_burst_bytes),
        ];
        for (key, burst) in bursts {
            checks.size(key, burst, packet..=1 << 30);
        }
        let times = [
            ("topology.link_state.refresh_least", self.refresh_least, 1000),
            ("topology.link_state.refresh_most", self.refresh_most, 1000),
            ("topology.link_state.remember_expired", self.remember_expired, 1000),
            ("topology.link_state.hold_least", self.hold_least, 10),
            ("topology.link_state.hold_most", self.hold_most, 10),
            ("topology.link_state.figures_interval", self.figures_interval, 100),
            ("topology.link_state.flood_delay", self.flood_delay, 1),
            ("topology.link_state.compare_interval", self.compare_interval, 100),
            ("topology.link_state.compare_new_interval", self.compare_new_interval, 100),
        ];
        for (key, time, least_ms) in times {
            checks.duration(key, time, MS * least_ms..=HOUR * 24);
        }
        let shown = super::print_duration(self.refresh_most);
        let ordered = self.refresh_least <= self.refresh_most;
        checks.ensure("topology.link_state.refresh_most", ordered, &shown, "it has to be at least refresh_least");
        let shown = super::print_duration(self.hold_most);
        let ordered = self.hold_least <= self.hold_most;
        checks.ensure("topology.link_state.hold_most", ordered, &shown, "it has to be at least hold_least");
        checks.number("topology.link_state.lifetime_refreshes", self.lifetime_refreshes, 2..=20);
        checks.number("topology.link_state.hasty_burst", self.hasty_burst, 1..=1000);
        checks.number("topology.link_state.figures_change", self.figures_change, 0.01..=10.0);
    }

    /// The longest lifetime that an announcement may claim.
    pub fn lifetime_max(&self) -> Duration {
        self.refresh_most * (self.lifetime_refreshes + 1)
    }
}

impl WatchConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        checks.number("topology.watch.anomaly_deviations", self.anomaly_deviations, 0.5..=100.0);
        checks.number("topology.watch.anomaly_window", self.anomaly_window, 4..=10_000);
        let shares = [
            ("topology.watch.separation_recommend", self.separation_recommend),
            ("topology.watch.separation_alert", self.separation_alert),
            ("topology.watch.separation_pause", self.separation_pause),
            ("topology.watch.reference_recommend", self.reference_recommend),
            ("topology.watch.reference_alert", self.reference_alert),
            ("topology.watch.reference_pause", self.reference_pause),
            ("topology.watch.clustering_alert", self.clustering_alert),
            ("topology.watch.load_alert", self.load_alert),
            ("topology.watch.hysteresis", self.hysteresis),
        ];
        for (key, share) in shares {
            checks.number(key, share, 0.0..=1.0);
        }
        let reason = "recommend, alert and pause have to be in ascending order";
        let ordered =
            self.separation_recommend <= self.separation_alert && self.separation_alert <= self.separation_pause;
        checks.ensure("topology.watch.separation_alert", ordered, self.separation_alert, reason);
        let ordered = self.reference_recommend <= self.reference_alert && self.reference_alert <= self.reference_pause;
        checks.ensure("topology.watch.reference_alert", ordered, self.reference_alert, reason);
        let ordered = self.diameter_recommend <= self.diameter_alert;
        checks.ensure(
            "topology.watch.diameter_alert",
            ordered,
            self.diameter_alert,
            "it has to be at least diameter_recommend",
        );
        checks.number("topology.watch.diameter_recommend", self.diameter_recommend, 1..=100_000);
        checks.duration("topology.watch.horizon", self.horizon, MS * 1000..=HOUR);
        checks.number("topology.watch.trend_samples", self.trend_samples, 3..=1000);
        checks.number("topology.watch.alerts_kept", self.alerts_kept, 1..=1000);
    }
}

impl HealingConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        checks.number("topology.healing.degree_max", self.degree_max, 1..=1000);
        checks.number("topology.healing.links_max", self.links_max, 0..=100);
        let shares = [
            ("topology.healing.links_share_max", self.links_share_max),
            ("topology.healing.local_share_max", self.local_share_max),
            ("topology.healing.power_least", self.power_least),
            ("topology.healing.at_once_share", self.at_once_share),
        ];
        for (key, share) in shares {
            checks.number(key, share, 0.0..=1.0);
        }
        let times = [
            ("topology.healing.settle", self.settle),
            ("topology.healing.settle_most", self.settle_most),
            ("topology.healing.answer_timeout", self.answer_timeout),
            ("topology.healing.link_timeout", self.link_timeout),
            ("topology.healing.refused_pause", self.refused_pause),
            ("topology.healing.patience", self.patience),
            ("topology.healing.measure_after", self.measure_after),
            ("topology.healing.review_interval", self.review_interval),
            ("topology.healing.useless_after", self.useless_after),
            ("topology.healing.useless_pause", self.useless_pause),
        ];
        for (key, time) in times {
            checks.duration(key, time, MS * 100..=HOUR * 24);
        }
        checks.number("topology.healing.requests_open", self.requests_open, 1..=100);
        checks.number("topology.healing.shortcut_least", self.shortcut_least, 2..=1000);
        checks.number("topology.healing.relayed_per_second", self.relayed_per_second, 1..=10_000);
        checks.number("topology.healing.path_max", self.path_max, 2..=128);
        checks.size("topology.healing.request_bytes_max", self.request_bytes_max, 1 << 10..=16 << 10);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn thresholds_out_of_order_are_named() {
        let mut config = TopologyConfig::default();
        config.watch.separation_alert = 0.1;
        config.link_state.announcement_bytes_max = 12 << 10;
        let mut checks = Checks::default();
        config.check(&mut checks);
        let errors = checks.finish().unwrap_err();
        let keys: Vec<&str> = errors.iter().map(super::super::ConfigError::key).collect();
        assert_eq!(keys, ["topology.link_state.announcement_bytes_max", "topology.watch.separation_alert"]);
    }
}
