//! What was seen, as metrics.

use bowline_messages::topology::{
    Alert, AlertKind, AlertLevel, HealingPurpose, HealingStep, HealthReport, OverallStatus, TopologySummary,
};

use super::survey::Survey;

const LEVELS: [AlertLevel; 3] = [AlertLevel::Recommend, AlertLevel::Alert, AlertLevel::Pause];
const KINDS: [&str; 7] = [
    "anomaly_detected",
    "partition_risk",
    "partition_risk_ahead",
    "reference_partition_risk",
    "high_diameter",
    "low_clustering",
    "bridge_overloaded",
];

/// The figures of a look.
pub(super) fn measure(Survey { shape, elsewhere, clusters, bridge_nodes, .. }: &Survey) {
    metrics::gauge!("bowline_topology_nodes").set(f64::from(shape.nodes));
    metrics::gauge!("bowline_topology_links").set(f64::from(shape.edges));
    metrics::gauge!("bowline_topology_components").set(f64::from(elsewhere.parts));
    metrics::gauge!("bowline_topology_nodes_elsewhere").set(elsewhere.len() as f64);
    metrics::gauge!("bowline_topology_diameter").set(f64::from(shape.diameter_largest_component));
    metrics::gauge!("bowline_topology_clustering").set(shape.average_clustering_deg2());
    metrics::gauge!("bowline_topology_separation_risk").set(shape.separation_risk());
    metrics::gauge!("bowline_topology_bridge_nodes").set(bridge_nodes.len() as f64);
    if let Some(clusters) = clusters {
        metrics::gauge!("bowline_topology_clusters").set(f64::from(clusters.count));
    }
}

/// What follows from them: each alert's gauge is set, those that do not stand to 0.
pub(super) fn judge<'a>(report: &HealthReport, standing: impl Iterator<Item = &'a Alert>) {
    let TopologySummary { missing_all, .. } = report.topology;
    metrics::gauge!("bowline_topology_missing_members").set(f64::from(missing_all));
    // Nothing is said before the first look.
    let status = match report.overall {
        OverallStatus::Unknown => None,
        OverallStatus::Healthy => Some(0.0),
        OverallStatus::Degraded => Some(1.0),
        OverallStatus::Critical => Some(2.0),
    };
    if let Some(status) = status {
        metrics::gauge!("bowline_topology_status").set(status);
    }
    let standing: Vec<(&str, AlertLevel)> = standing.map(|alert| (kind(&alert.kind), alert.level)).collect();
    for name in KINDS {
        for of in LEVELS {
            let count = standing.iter().filter(|alert| **alert == (name, of)).count();
            metrics::gauge!("bowline_topology_alerts", "kind" => name, "level" => level(of)).set(count as f64);
        }
    }
}

/// Nobody looks any more: what was seen last is not how things are. There is no number for a status that is not known.
pub(super) fn tell_gone() {
    measure(&Survey::default());
    judge(&HealthReport::default(), std::iter::empty());
    metrics::gauge!("bowline_topology_clusters").set(0.0);
    metrics::gauge!("bowline_topology_status").set(f64::NAN);
}

/// One step of a link for healing.
pub(super) fn count_step(purpose: HealingPurpose, step: HealingStep) {
    let purpose = match purpose {
        HealingPurpose::Redundancy => "redundancy",
        HealingPurpose::Shortcut => "shortcut",
        HealingPurpose::Relief => "relief",
        HealingPurpose::Local => "local",
    };
    let step = match step {
        HealingStep::Asked => "asked",
        HealingStep::Granted => "granted",
        HealingStep::Refused(_) => "refused",
        HealingStep::TimedOut => "timed_out",
        HealingStep::Linked => "linked",
        HealingStep::Lost => "lost",
        HealingStep::Undone => "undone",
    };
    metrics::counter!("bowline_healing_links_total", "purpose" => purpose, "step" => step).increment(1);
}

const fn level(level: AlertLevel) -> &'static str {
    match level {
        AlertLevel::Recommend => "recommend",
        AlertLevel::Alert => "alert",
        AlertLevel::Pause => "pause",
    }
}

/// Peers are never named in labels.
const fn kind(kind: &AlertKind) -> &'static str {
    let [anomaly, risk, ahead, reference, diameter, clustering, busy] = KINDS;
    match kind {
        AlertKind::AnomalyDetected { .. } => anomaly,
        AlertKind::PartitionRisk => risk,
        AlertKind::PartitionRiskAhead => ahead,
        AlertKind::ReferencePartitionRisk => reference,
        AlertKind::HighDiameter => diameter,
        AlertKind::LowClustering => clustering,
        AlertKind::BridgeOverloaded { .. } => busy,
    }
}
