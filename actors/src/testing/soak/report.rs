//! The results: every measure as a number, and the table of what was to be reached. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::calm::Calm;
use super::judge::{Choices, Judge, Side, Tally, Totals};
use super::media::{MEDIA, MEDIA_COUNT, MediumIndex};
use super::plan::Plan;
use super::schedule::{Failure, FailureKind};
use super::stats::{Samples, Share, Summary};
use super::traffic::SORTS;

/// What came of failures of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindReport {
    /// How many there were.
    pub injected: u64,
    /// From the first send into the fault to the link called unusable, where messages were sent into it.
    pub detection_in_flight: Option<Summary>,
    /// The same where nothing but the session's own records was.
    pub detection_idle: Option<Summary>,
    /// Sides that the peer had told before they sent anything.
    pub told: u64,
    /// Sides that had no usable link over what faded any more when it fell silent.
    pub foreseen: u64,
    /// Sides that did not notice in time.
    pub missed: u64,
    /// Links called unusable on which nothing had vanished, which the failure explains.
    pub verdicts: u64,
    /// From the failure to the next delivery in each sequence that used what failed.
    pub failover: Option<Summary>,
    /// Sequences that stood still.
    pub stalled: u64,
    /// Failures after which traffic did not go on in time although another link remained.
    pub not_migrated: u64,
}

/// What was seen of one pair for a short time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timeline {
    /// Messages: when they arrived, over what, and how long they took.
    pub messages: Vec<(Duration, MediumIndex, Duration)>,
    /// What failed meanwhile.
    pub failures: Vec<Failure>,
    /// From when until when.
    pub window: (Duration, Duration),
}

/// What is drawn, and not printed as numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plots {
    /// Milliseconds to notice, with messages in flight.
    pub detection_in_flight: Vec<f64>,
    /// On idle links.
    pub detection_idle: Vec<f64>,
    /// Milliseconds from a failure of links to the next delivery.
    pub failover: Vec<f64>,
    /// One pair.
    pub timeline: Timeline,
}

/// The results. The same plan gives the same, to the last digit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Virtual hours under traffic.
    pub hours: f64,
    /// Nodes.
    pub nodes: usize,
    /// Failures injected.
    pub failures: u64,
    /// Messages.
    #[serde(flatten)]
    pub totals: Totals,
    /// Detection with messages in flight, milliseconds; silent, sudden kinds.
    pub detection_in_flight_ms: Option<f64>,
    /// Detection on idle links, milliseconds.
    pub detection_idle_ms: Option<f64>,
    /// The first in full.
    pub detection_in_flight: Option<Summary>,
    /// The second in full.
    pub detection_idle: Option<Summary>,
    /// Verdicts that nothing explains.
    pub false_positives: u64,
    /// Per hundred injected failures.
    pub false_positive_percent: f64,
    /// Per hour that a side of a link lived.
    pub false_positives_per_link_hour: f64,
    /// By transport.
    pub false_positives_by_transport: BTreeMap<&'static str, u64>,
    /// Sides that did not notice a fault, per hundred that had to.
    pub false_negative_percent: Option<f64>,
    /// Hours that sides of links lived.
    pub link_hours: f64,
    /// From a failure of links to the next delivery, milliseconds.
    pub failover_mean_ms: Option<f64>,
    /// 99 of a hundred are below.
    pub failover_p99_ms: Option<f64>,
    /// In full.
    pub failover: Option<Summary>,
    /// Failures after which traffic went on in time, per hundred that concerned traffic and left another link.
    pub migrated_percent: Option<f64>,
    /// The same as counts.
    pub migrated: Share,
    /// Failures that left no other link.
    pub nowhere_to_go: u64,
    /// Sessions that ended.
    pub sessions_ended: u64,
    /// Percent of the moments at which the link for the next bet was as good as the best.
    pub optimal_percent: Option<f64>,
    /// Worked and was not slow.
    pub acceptable_percent: Option<f64>,
    /// Neither.
    pub poor_percent: Option<f64>,
    /// The same as counts, with reasons.
    pub choices: Choices,
    /// Recovery from half of all transports failing, percent.
    pub half_recovered_percent: Option<f64>,
    /// The same as counts.
    pub half_recovered: Share,
    /// Failures of half of all transports during which another link was called unusable.
    pub cascades: u64,
    /// From the end of a failure to the link being usable again.
    pub restored: Option<Summary>,
    /// Without failures; `None`: not measured.
    pub calm: Option<Calm>,
    /// By kind.
    pub kinds: BTreeMap<&'static str, KindReport>,
    /// From the sending to the delivery, by kind of message.
    pub delays: BTreeMap<&'static str, Option<Summary>>,
    /// The first of what went wrong: failures by number, kind and time.
    pub examples: Vec<String>,
    /// What was to be shown of what happened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// What is drawn.
    #[serde(skip)]
    pub plots: Plots,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What is measured.
    pub measure: &'static str,
    /// What an earlier system reached.
    pub earlier: &'static str,
    /// What is to be reached.
    pub target: &'static str,
    /// What was.
    pub here: String,
    /// Whether that is enough; `None`: not measured.
    pub met: Option<bool>,
}

/// Kinds after which another link has to take over.
fn takes_over(kind: FailureKind) -> bool {
    kind.is_of_links() && kind != FailureKind::Interference
}

impl Report {
    /// Sums up.
    pub(super) fn new(plan: &Plan, judge: &Judge, choices: &Choices, now: Duration) -> Self {
        let tally = &judge.tally;
        let in_flight = pooled(tally, FailureKind::is_sudden, |kind| &kind.noticed_busy);
        let idle = pooled(tally, FailureKind::is_sudden, |kind| &kind.noticed_idle);
        let failover = pooled(tally, takes_over, |kind| &kind.failover);
        let link_hours = judge.links.hours(now);
        let [optimal, acceptable, poor] = choices.percent().map_or([None; 3], |percent| percent.map(Some));
        let mean = |samples: &Samples| samples.summary().map(|summary| summary.mean_ms);
        Self {
            seed: plan.seed,
            hours: plan.lasts.as_secs_f64() / 3600.0,
            nodes: plan.nodes,
            failures: tally.failures,
            totals: judge.deliveries.totals,
            detection_in_flight_ms: mean(&in_flight),
            detection_idle_ms: mean(&idle),
            detection_in_flight: in_flight.summary(),
            detection_idle: idle.summary(),
            false_positives: tally.false_verdicts,
            false_positive_percent: 100.0 * tally.false_verdicts as f64 / tally.failures.max(1) as f64,
            false_positives_per_link_hour: tally.false_verdicts as f64 / link_hours.max(f64::MIN_POSITIVE),
            false_positives_by_transport: (0..MEDIA_COUNT).map(|m| (MEDIA[m].name, tally.false_by_medium[m])).collect(),
            false_negative_percent: tally.noticed.percent().map(|noticed| 100.0 - noticed),
            link_hours,
            failover_mean_ms: mean(&failover),
            failover_p99_ms: failover.summary().map(|summary| summary.p99_ms),
            failover: failover.summary(),
            migrated_percent: tally.migrated.percent(),
            migrated: tally.migrated,
            nowhere_to_go: tally.nowhere_to_go,
            sessions_ended: tally.sessions_ended,
            optimal_percent: optimal,
            acceptable_percent: acceptable,
            poor_percent: poor,
            choices: *choices,
            half_recovered_percent: tally.half_recovered.percent(),
            half_recovered: tally.half_recovered,
            cascades: tally.cascades,
            restored: tally.restored.summary(),
            calm: None,
            kinds: FailureKind::ALL.into_iter().map(|kind| (kind.name(), of_kind(tally, kind))).collect(),
            delays: SORTS.iter().zip(&judge.deliveries.delays).map(|(sort, of)| (sort.name, of.summary())).collect(),
            examples: examples(tally),
            events: Vec::new(),
            plots: Plots {
                detection_in_flight: in_flight.values().to_vec(),
                detection_idle: idle.values().to_vec(),
                failover: failover.values().to_vec(),
                timeline: Timeline::default(),
            },
        }
    }

    /// Whether a promise was broken: something lost, twice, out of order or damaged; a session that ended, or stood still although it had
    /// another link.
    pub fn is_broken(&self) -> bool {
        let totals = &self.totals;
        let migrated = self.migrated.of == self.migrated.all && self.half_recovered.of == self.half_recovered.all;
        totals.lost + totals.duplicated + totals.out_of_order + totals.corrupted + self.sessions_ended > 0 || !migrated
    }

    /// The table.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = self.rows_of_failures();
        rows.extend(self.rows_of_messages());
        rows.extend(self.rows_of_calm());
        let real = "in real time: `make bench`, a node at work";
        rows.push(row("memory per node", "15 MB", "≤ 8 MB", real.into(), None));
        rows.push(row("CPU normal / during failover", "2–5 % / 15–20 %", "≤ 1 % / ≤ 5 %", real.into(), None));
        rows
    }

    fn rows_of_failures(&self) -> Vec<Row> {
        vec![
            at_most("detection, in flight, mean", "340 ms", "≤ 120 ms", self.detection_in_flight_ms, 120.0, "ms"),
            at_most("detection, idle, mean", "340 ms", "≤ 1 s", self.detection_idle_ms, 1_000.0, "ms"),
            row(
                "false positives, per failure",
                "0.8 %",
                "≤ 0.1 %",
                format!(
                    "{:.2} % ({:.3} per link-hour)",
                    self.false_positive_percent, self.false_positives_per_link_hour
                ),
                Some(self.false_positive_percent <= 0.1),
            ),
            at_most("false negatives, per side", "0.2 %", "0", self.false_negative_percent, 0.0, "%"),
            at_most("failover, mean", "2.1 s", "≤ 250 ms", self.failover_mean_ms, 250.0, "ms"),
            at_most("failover, p99", "", "≤ 1 s", self.failover_p99_ms, 1_000.0, "ms"),
            at_least("sessions migrated", "99.7 %", "100 %", self.migrated_percent, 100.0),
            at_least("recovery, half of all transports", "97.8 %", "100 %", self.half_recovered_percent, 100.0),
            row("cascades", "0", "0", self.cascades.to_string(), Some(self.cascades == 0)),
        ]
    }

    fn rows_of_messages(&self) -> Vec<Row> {
        let Totals { lost, duplicated, out_of_order, corrupted, .. } = self.totals;
        let sum = lost + duplicated + out_of_order + corrupted;
        vec![
            row(
                "corrupted / lost / duplicated / out of order",
                "0",
                "0",
                format!("{corrupted} / {lost} / {duplicated} / {out_of_order}"),
                Some(sum == 0),
            ),
            at_least("optimal link chosen", "94.2 %", "≥ 97 %", self.optimal_percent, 97.0),
            row("acceptable link chosen", "5.1 %", "", percent(self.acceptable_percent), None),
            at_most("poor link chosen", "0.7 %", "≤ 0.3 %", self.poor_percent, 0.3, "%"),
        ]
    }

    fn rows_of_calm(&self) -> Vec<Row> {
        let Some(calm) = &self.calm else { return Vec::new() };
        let (throughput, steady, spread, even) = (&calm.throughput, &calm.steady, &calm.spread, &calm.even);
        let all_used = calm.at_once.bytes_by_transport.iter().all(|count| *count > 0);
        let [idle, budget] = [calm.idle.bytes_per_second, calm.idle.budget_per_second];
        let within = idle.iter().zip(&budget).all(|(bytes, budget)| bytes <= budget);
        let avoided = spread.uncongested.percent();
        vec![
            at_most("load variance, least connections", "12 %", "≤ 8 %", Some(even.load_variance_percent), 8.0, "%"),
            at_least("congestion avoided, least connections", "96.3 %", "≥ 98 %", even.uncongested.percent(), 98.0),
            at_most("load variance, earliest arrival", "12 %", "≤ 8 %", Some(spread.load_variance_percent), 8.0, "%"),
            at_least("congestion avoided, earliest arrival", "96.3 %", "≥ 98 %", avoided, 98.0),
            at_least("throughput, of the sum of the links", "", "≥ 85 %", Some(throughput.percent_of_sum), 85.0),
            row(
                "throughput, over the best link",
                "+23 %",
                "",
                format!("+{:.0} %", throughput.percent_over_best),
                Some(throughput.percent_over_best >= 23.0),
            ),
            at_most("monitoring, of bytes", "< 1 %", "< 0.5 %", Some(throughput.overhead_percent), 0.5, "%"),
            at_most("monitoring, 1 MB/s of 1 kB messages", "< 1 %", "< 0.5 %", Some(steady.overhead_percent), 0.5, "%"),
            row(
                "monitoring, idle, bytes/s (ble cellular ethernet wifi)",
                "",
                "≤ 600 1000 8000 2000",
                idle.map(|bytes| format!("{bytes:.0}")).join(" "),
                Some(within),
            ),
            row(
                "1,000 at once",
                "≥ 95 %, every transport",
                "100 %, every transport",
                format!("{}, bytes by transport {:?}", calm.at_once.delivered.of, calm.at_once.bytes_by_transport),
                Some(all_used && calm.at_once.delivered.of == calm.at_once.delivered.all),
            ),
        ]
    }
}

fn pooled(
    tally: &Tally,
    which: impl Fn(FailureKind) -> bool,
    of: impl Fn(&super::judge::KindTally) -> &Samples,
) -> Samples {
    let mut all = Samples::default();
    tally.kinds.iter().filter(|(kind, _)| which(**kind)).for_each(|(_, kind)| all.join(of(kind)));
    all
}

fn of_kind(tally: &Tally, kind: FailureKind) -> KindReport {
    let tally = tally.kinds.get(&kind).cloned().unwrap_or_default();
    KindReport {
        injected: tally.injected,
        detection_in_flight: tally.noticed_busy.summary(),
        detection_idle: tally.noticed_idle.summary(),
        told: tally.told,
        foreseen: tally.foreseen,
        missed: tally.missed,
        verdicts: tally.verdicts,
        failover: tally.failover.summary(),
        stalled: tally.stalled,
        not_migrated: tally.not_migrated,
    }
}

fn examples(tally: &Tally) -> Vec<String> {
    let side = |side: &Side| format!("{} on n{}, to n{}", MEDIA[side.medium].name, side.node, side.peer);
    let false_verdict =
        |(at, of): &(Duration, Side)| format!("false positive at {:.3} s: {}", at.as_secs_f64(), side(of));
    let missed = |(id, kind, at, of): &(usize, FailureKind, Duration, Side)| {
        format!("not noticed: failure {id} ({kind}) at {:.3} s: {}", at.as_secs_f64(), side(of))
    };
    let failed = |(id, kind, at): &(usize, FailureKind, Duration)| {
        format!("not migrated in time: failure {id} ({kind}) at {:.3} s", at.as_secs_f64())
    };
    let mut examples: Vec<String> = tally.failed_examples.iter().map(failed).collect();
    let slow = |(id, kind, at, took): &(usize, FailureKind, Duration, Duration)| {
        format!("slow: failure {id} ({kind}) at {:.3} s, {} ms", at.as_secs_f64(), took.as_millis())
    };
    examples.extend(tally.slow_examples.iter().map(slow));
    examples.extend(tally.missed_examples.iter().map(missed));
    examples.extend(tally.false_examples.iter().map(false_verdict));
    examples
}

fn row(measure: &'static str, earlier: &'static str, target: &'static str, here: String, met: Option<bool>) -> Row {
    Row { measure, earlier, target, here, met }
}

fn at_most(
    measure: &'static str,
    earlier: &'static str,
    target: &'static str,
    value: Option<f64>,
    most: f64,
    unit: &str,
) -> Row {
    let here = value.map_or_else(|| "nothing to measure".to_owned(), |value| format!("{value:.2} {unit}"));
    row(measure, earlier, target, here, value.map(|value| value <= most))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "nothing to measure".to_owned(), |value| format!("{value:.2} %"))
}

fn at_least(measure: &'static str, earlier: &'static str, target: &'static str, value: Option<f64>, least: f64) -> Row {
    row(measure, earlier, target, percent(value), value.map(|value| value >= least))
}
