//! The results as numbers: the rows of the table. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::judge::{Choices, Judge, Totals};
use super::plan::Plan;
use super::schedule::FailureKind;
use super::stats::{Samples, Share, Summary};

/// What came of failures of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindReport {
    /// How many there were.
    pub injected: u64,
    /// Time to notice with messages sent into the fault.
    pub detection_busy: Option<Summary>,
    /// The same without.
    pub detection_idle: Option<Summary>,
    /// Sides that the peer had told before they sent anything.
    pub told: u64,
    /// Sides that did not notice.
    pub missed: u64,
    /// Verdicts on links on which nothing had vanished.
    pub verdicts: u64,
    /// From the failure to the next delivery.
    pub failover: Option<Summary>,
    /// Sequences that stood still.
    pub stalled: u64,
    /// Failures after which traffic did not go on in time.
    pub not_migrated: u64,
}

/// The results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Virtual hours.
    pub hours: f64,
    /// Failures injected.
    pub failures: u64,
    /// Messages.
    #[serde(flatten)]
    pub totals: Totals,
    /// Detection with messages in flight, all sudden silent kinds.
    pub detection_busy: Option<Summary>,
    /// Detection on idle links.
    pub detection_idle: Option<Summary>,
    /// Verdicts that nothing explains.
    pub false_verdicts: u64,
    /// Those by transport.
    pub false_by_medium: [u64; 4],
    /// When.
    pub false_examples: Vec<String>,
    /// Verdicts that nothing explains, per injected failure.
    pub false_positive_percent: f64,
    /// The same per hour that a side of a link lived.
    pub false_positives_per_link_hour: f64,
    /// Hours that sides of links lived.
    pub link_hours: f64,
    /// Sides that did not notice, of those that had to.
    pub false_negative_percent: Option<f64>,
    /// From the failure to the next delivery.
    pub failover: Option<Summary>,
    /// Failures that were migrated from, of those that had to be.
    pub migrated: Share,
    /// In percent.
    pub migrated_percent: Option<f64>,
    /// Half of all transports.
    pub half_recovered: Share,
    /// In percent.
    pub half_recovered_percent: Option<f64>,
    /// Cascades.
    pub cascades: u64,
    /// Sessions that ended.
    pub sessions_ended: u64,
    /// Failures that left no other link.
    pub nowhere_to_go: u64,
    /// Choices.
    pub choices: Choices,
    /// In percent: optimal, acceptable, poor.
    pub choices_percent: Option<[f64; 3]>,
    /// From the end of a failure to the link being usable.
    pub restored: Option<Summary>,
    /// By kind.
    pub kinds: BTreeMap<&'static str, KindReport>,
    /// Failures after which traffic did not go on in time.
    pub failed_examples: Vec<String>,
    /// From the sending to the delivery, by kind of message.
    pub delays: BTreeMap<&'static str, Option<Summary>>,
}

impl Report {
    /// Sums up.
    pub(super) fn new(plan: &Plan, judge: &Judge, choices: &Choices, now: Duration) -> Self {
        let tally = &judge.tally;
        let pooled = |of: &dyn Fn(&super::judge::KindTally) -> &Samples, which: &dyn Fn(FailureKind) -> bool| {
            let mut all = Samples::default();
            tally.kinds.iter().filter(|(kind, _)| which(**kind)).for_each(|(_, kind)| all.join(of(kind)));
            all.summary()
        };
        let kind = |kind: FailureKind| {
            let tally = tally.kinds.get(&kind).cloned().unwrap_or_default();
            let report = KindReport {
                injected: tally.injected,
                detection_busy: tally.noticed_busy.summary(),
                detection_idle: tally.noticed_idle.summary(),
                told: tally.told,
                missed: tally.missed,
                verdicts: tally.verdicts,
                failover: tally.failover.summary(),
                stalled: tally.stalled,
                not_migrated: tally.not_migrated,
            };
            (kind.name(), report)
        };
        let link_hours = judge.links.hours(now);
        Self {
            seed: plan.seed,
            hours: plan.lasts.as_secs_f64() / 3600.0,
            failures: tally.failures,
            totals: judge.deliveries.totals,
            detection_busy: pooled(&|kind| &kind.noticed_busy, &FailureKind::is_sudden),
            detection_idle: pooled(&|kind| &kind.noticed_idle, &FailureKind::is_sudden),
            false_verdicts: tally.false_verdicts,
            false_by_medium: tally.false_by_medium,
            false_examples: tally.false_examples.iter().map(|e| format!("{e:?}")).collect(),
            false_positive_percent: 100.0 * tally.false_verdicts as f64 / tally.failures.max(1) as f64,
            false_positives_per_link_hour: tally.false_verdicts as f64 / link_hours.max(1e-9),
            link_hours,
            false_negative_percent: tally.noticed.percent().map(|noticed| 100.0 - noticed),
            failover: pooled(&|kind| &kind.failover, &|_| true),
            migrated: tally.migrated,
            migrated_percent: tally.migrated.percent(),
            half_recovered: tally.half_recovered,
            half_recovered_percent: tally.half_recovered.percent(),
            cascades: tally.cascades,
            sessions_ended: tally.sessions_ended,
            nowhere_to_go: tally.nowhere_to_go,
            choices: *choices,
            choices_percent: choices.percent(),
            restored: tally.restored.summary(),
            kinds: FailureKind::ALL.into_iter().map(kind).collect(),
            failed_examples: tally.failed_examples.iter().map(|e| format!("{e:?}")).collect(),
            delays: super::traffic::SORTS
                .iter()
                .zip(&judge.deliveries.delays)
                .map(|(sort, delays)| (sort.name, delays.summary()))
                .collect(),
        }
    }
}
