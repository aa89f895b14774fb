//! What is watched in the network's shape: alerts, a look ahead, advice, and the health report.
//!
//! A figure raises its alert once when it passes a limit, again when it passes a graver one, and clears it when it has come back by a share of the
//! limit. An anomaly is a figure far from its mean of the last analyses. The look ahead is a straight line through the last ten.
//!
//! All of it is about the part of the network that this node is in. Whether that is all there should be is for the membership to say: members that are
//! down and not in it are missing.

mod advice;
mod anomaly;
mod ladder;
#[cfg(test)]
mod tests;
mod trend;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::config::{TopologyConfig, WatchConfig};
use bowline_messages::topology::{
    Alert, AlertKind, AlertLevel, AlertRecord, Figure, HealthReport, OverallStatus, Recommendation, TopologySummary,
    TransportHealth,
};

use self::anomaly::Anomalies;
use self::ladder::Ladder;
use self::trend::Trend;
use super::survey::Survey;

/// Nodes that an alert or a recommendation names at most.
pub(super) const NODES_NAMED_MAX: usize = 8;
/// Bridge nodes, and missing members, that a report names at most.
const NODES_LISTED_MAX: usize = 64;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchOutput {
    /// An alert was raised, or became graver or less grave.
    Raised(Alert),
    /// An alert is over.
    Cleared(Alert),
}

/// The watch over the shape of one node's view of the network.
#[derive(Debug)]
pub struct Watch {
    config: WatchConfig,
    standing: BTreeMap<AlertKind, (Alert, Instant)>,
    over: VecDeque<(Alert, Instant, Instant)>,
    anomalies: Anomalies,
    trend: Trend,
    summary: Option<TopologySummary>,
    survey: Survey,
    /// Members that are down, as the membership has it.
    down: Arc<BTreeSet<PeerId>>,
    advice: Vec<Recommendation>,
}

impl Watch {
    /// A watch that has seen nothing yet.
    pub fn new(config: &TopologyConfig) -> Self {
        let watch = config.watch.clone();
        Self {
            anomalies: Anomalies::new(&watch),
            trend: Trend::new(&watch),
            config: watch,
            standing: BTreeMap::new(),
            over: VecDeque::new(),
            summary: None,
            survey: Survey::default(),
            down: Arc::default(),
            advice: Vec::new(),
        }
    }

    /// Takes in a new look at the graph, or once more the last one: figures are watched over time.
    pub fn on_survey(&mut self, now: Instant, survey: &Survey) -> Vec<WatchOutput> {
        self.survey = survey.clone();
        let mut summary = self.summarise(now);
        self.look_for_missing(&mut summary);
        let mut found = BTreeMap::new();
        self.limits(&summary, &mut found);
        self.strange(&summary, &mut found);
        let outputs = self.settle(now, found);
        self.advice = advice::advice(self.standing.values().map(|(alert, _)| alert), survey);
        self.summary = Some(summary);
        outputs
    }

    /// Who belonged to the network and is down. Those that left in good order are missed by nobody.
    pub fn on_members(&mut self, down: BTreeSet<PeerId>) {
        self.down = Arc::new(down);
        if let Some(mut summary) = self.summary.take() {
            self.look_for_missing(&mut summary);
            self.summary = Some(summary);
        }
    }

    /// The alerts that stand.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.standing.values().map(|(alert, _)| alert)
    }

    /// How the network is.
    pub fn report(&self, now: Instant, transports: &BTreeMap<String, TransportHealth>) -> HealthReport {
        let ago = |at: Instant| now.saturating_duration_since(at);
        let standing = self.standing.values().map(|(alert, raised)| {
            let record = AlertRecord { alert: alert.clone(), raised_ago: ago(*raised), cleared_ago: None };
            (*raised, record)
        });
        let mut standing: Vec<_> = standing.collect();
        standing.sort_by_key(|(raised, _)| std::cmp::Reverse(*raised));
        let over = self.over.iter().rev().map(|(alert, raised, cleared)| AlertRecord {
            alert: alert.clone(),
            raised_ago: ago(*raised),
            cleared_ago: Some(ago(*cleared)),
        });
        HealthReport {
            overall: self.overall(transports),
            topology: self.summary.clone().unwrap_or_default(),
            transports: transports.clone(),
            alerts: standing.into_iter().map(|(_, record)| record).chain(over).collect(),
            recommendations: self.advice.clone(),
        }
    }

    fn overall(&self, transports: &BTreeMap<String, TransportHealth>) -> OverallStatus {
        let Some(summary) = &self.summary else { return OverallStatus::Unknown };
        let dead = |transport: &TransportHealth| transport.links > 0 && transport.well == 0;
        let used = transports.values().filter(|transport| transport.links > 0).count();
        let all_dead = used > 0 && transports.values().filter(|transport| dead(transport)).count() == used;
        let pause = self.alerts().any(|alert| alert.level == AlertLevel::Pause);
        // As many are missing as are here: it is this node's part that fell off.
        let lost = summary.torn || summary.missing_all > 0 && summary.missing_all >= summary.nodes;
        match () {
            () if lost || pause || all_dead => OverallStatus::Critical,
            () if !self.standing.is_empty() || transports.values().any(dead) || summary.missing_all > 0 => {
                OverallStatus::Degraded
            }
            () => OverallStatus::Healthy,
        }
    }

    /// Members that are down and not in the graph where this node is, and whether some of them still announce themselves on another side.
    fn look_for_missing(&self, summary: &mut TopologySummary) {
        // One that is down by mistake may be a stranger here, and is there all the same.
        let strangers = &self.survey.elsewhere.strangers;
        let there = |peer: &PeerId| self.survey.outline.number(peer).is_some() || strangers.binary_search(peer).is_ok();
        let missing = self.down.iter().filter(|peer| !there(peer));
        summary.missing = missing.clone().take(NODES_LISTED_MAX).copied().collect();
        summary.missing_all = missing.count() as u32;
        summary.torn = self.survey.elsewhere.nodes.iter().any(|peer| self.down.contains(peer));
    }

    fn summarise(&mut self, now: Instant) -> TopologySummary {
        let Survey { shape, bridge_nodes, elsewhere, clusters, .. } = &self.survey;
        let risk = shape.separation_risk();
        self.trend.add(now, risk);
        TopologySummary {
            nodes: shape.nodes,
            edges: shape.edges,
            components: elsewhere.parts,
            nodes_elsewhere: elsewhere.len() as u32,
            diameter: shape.diameter_largest_component,
            average_degree: shape.average_degree(),
            clustering: shape.average_clustering_deg2(),
            clustering_all: shape.average_clustering(),
            clusters: clusters.as_ref().map(|clusters| clusters.count),
            modularity: clusters.as_ref().map(|clusters| clusters.modularity),
            separation_risk: risk,
            separation_risk_ahead: self.trend.ahead(),
            reference_risk: shape.partition_risk(),
            bridge_nodes: bridge_nodes.iter().take(NODES_LISTED_MAX).map(|node| node.peer).collect(),
            bridge_nodes_all: bridge_nodes.len() as u32,
            bridges: shape.bridges.len() as u32,
            torn: false,
            missing: Vec::new(),
            missing_all: 0,
        }
    }

    /// Figures beyond their limits.
    fn limits(&self, summary: &TopologySummary, found: &mut BTreeMap<AlertKind, Alert>) {
        let (config, shape) = (&self.config, &self.survey.shape);
        let named = |nodes: &[PeerId]| nodes.iter().take(NODES_NAMED_MAX).copied().collect::<Vec<_>>();
        let bridge_nodes = named(&summary.bridge_nodes);
        let risk = Ladder::rising(&[
            (AlertLevel::Recommend, config.separation_recommend),
            (AlertLevel::Alert, config.separation_alert),
            (AlertLevel::Pause, config.separation_pause),
        ]);
        self.climb(AlertKind::PartitionRisk, summary.separation_risk, &risk, &bridge_nodes, found);
        let ahead = Ladder::rising(&[(AlertLevel::Recommend, config.separation_alert)]);
        let predicted = summary.separation_risk_ahead.filter(|_| summary.separation_risk < config.separation_alert);
        self.climb(AlertKind::PartitionRiskAhead, predicted.unwrap_or(0.0), &ahead, &bridge_nodes, found);
        let reference = Ladder::rising(&[
            (AlertLevel::Recommend, config.reference_recommend),
            (AlertLevel::Alert, config.reference_alert),
            (AlertLevel::Pause, config.reference_pause),
        ]);
        self.climb(AlertKind::ReferencePartitionRisk, summary.reference_risk, &reference, &bridge_nodes, found);
        // "Above", so what counts is the first whole number that is; people are told the limit itself.
        let diameter = Ladder::rising(&[
            (AlertLevel::Recommend, f64::from(config.diameter_recommend) + 1.0),
            (AlertLevel::Alert, f64::from(config.diameter_alert) + 1.0),
        ]);
        self.climb(AlertKind::HighDiameter, f64::from(summary.diameter), &diameter, &[], found);
        if let Some(alert) = found.get_mut(&AlertKind::HighDiameter) {
            alert.limit -= 1.0;
        }
        let enough = shape.nodes >= config.clustering_nodes_least && shape.nodes_deg2plus > 0;
        let clustering = if enough { summary.clustering } else { f64::INFINITY };
        let low = Ladder::falling(&[(AlertLevel::Alert, config.clustering_alert)]);
        self.climb(AlertKind::LowClustering, clustering, &low, &[], found);
        let busy = Ladder::rising(&[(AlertLevel::Alert, config.load_alert)]);
        for node in self.survey.bridge_nodes.iter() {
            let kind = AlertKind::BridgeOverloaded { peer: node.peer };
            self.climb(kind, node.load, &busy, &[node.peer], found);
        }
    }

    fn climb(
        &self,
        kind: AlertKind,
        value: f64,
        ladder: &Ladder,
        nodes: &[PeerId],
        found: &mut BTreeMap<AlertKind, Alert>,
    ) {
        let standing = self.standing.get(&kind).map(|(alert, _)| alert.level);
        if let Some((level, limit)) = ladder.level(value, standing, self.config.hysteresis) {
            found.insert(kind, Alert { kind, level, value, limit, nodes: nodes.to_vec() });
        }
    }

    /// Figures far from what they usually are.
    fn strange(&mut self, summary: &TopologySummary, found: &mut BTreeMap<AlertKind, Alert>) {
        let figures = [
            (Figure::SeparationRisk, summary.separation_risk),
            (Figure::Diameter, f64::from(summary.diameter)),
            (Figure::Clustering, summary.clustering),
            (Figure::AverageDegree, summary.average_degree),
            (Figure::Nodes, f64::from(summary.nodes)),
        ];
        for (figure, value) in figures {
            if let Some(limit) = self.anomalies.add(figure, value) {
                let kind = AlertKind::AnomalyDetected { figure };
                found.insert(kind, Alert { kind, level: AlertLevel::Alert, value, limit, nodes: Vec::new() });
            }
        }
    }

    /// Compares the alerts that should stand with those that do.
    fn settle(&mut self, now: Instant, found: BTreeMap<AlertKind, Alert>) -> Vec<WatchOutput> {
        let mut outputs = Vec::new();
        let over: Vec<AlertKind> = self.standing.keys().filter(|kind| !found.contains_key(kind)).copied().collect();
        for kind in over {
            if let Some((alert, raised)) = self.standing.remove(&kind) {
                self.over.push_back((alert.clone(), raised, now));
                outputs.push(WatchOutput::Cleared(alert));
            }
        }
        while self.over.len() > self.config.alerts_kept {
            self.over.pop_front();
        }
        for (kind, alert) in found {
            let before = self.standing.get(&kind);
            let raised = before.map_or(now, |(_, raised)| *raised);
            if before.is_none_or(|(before, _)| before.level != alert.level) {
                outputs.push(WatchOutput::Raised(alert.clone()));
            }
            self.standing.insert(kind, (alert, raised));
        }
        outputs
    }
}
