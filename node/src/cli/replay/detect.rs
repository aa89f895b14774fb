//! `bowline replay detect`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowline_actors::clock;
use bowline_actors::health::MonitorConfig;
use bowline_actors::health::arrivals::ArrivalsConfig;
use bowline_actors::health::local::LocalConfig;
use bowline_actors::replay::detect::{self, Detector, Fused, Measures, PhiAccrual, PlainTimeout, Tally};
use bowline_actors::replay::truth::{Outage, outages};
use bowline_actors::replay::{FolderError, Trace};
use serde::Serialize;

use super::super::Global;
use super::super::output::Table;
use super::{Traces, unreadable};
use crate::exit::{Exit, Failure};

/// The confidences at which the curve is drawn, in hundredths.
const CURVE: std::ops::RangeInclusive<u32> = 10..=90;
/// The plain time-outs, in milliseconds.
const TIMEOUTS_MS: [f64; 10] = [200.0, 250.0, 300.0, 340.0, 400.0, 500.0, 600.0, 750.0, 900.0, 1_000.0];
/// The thresholds of phi accrual.
const PHIS: [f64; 7] = [0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0];
/// From a report so late on, in milliseconds, the recorder is doubted and not the link. What is shorter than an outage could hide one.
const GAPS_MS: [u64; 4] = [1_000, 1_500, 2_000, 3_000];
/// How many parts cross-validation makes of the groups.
const FOLDS: usize = 5;
/// The parameters that are chosen may cost so much false-positive time on what they are chosen on: the bound is 0.7 %, and other links are not
/// to be beyond it.
const FALSE_TIME_MAX: f64 = 0.0065;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    traces: Traces,
    /// Choose the parameters anew on four fifths of the groups and measure them on the fifth, for each fifth
    #[arg(long)]
    cross_validate: bool,
}

/// A recording and its truth.
struct Link {
    trace: Trace,
    outages: Vec<Outage>,
}

/// A detector at one threshold.
#[derive(Debug, Clone, Serialize)]
struct Point {
    threshold: f64,
    #[serde(flatten)]
    measures: Measures,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    measures: Measures,
    /// The confidence from which on the alarm is up.
    threshold: f64,
    by_medium: BTreeMap<String, Measures>,
    links: usize,
    curve: Vec<Point>,
    baselines: Baselines,
    #[serde(skip_serializing_if = "Option::is_none")]
    cross_validation: Option<CrossValidation>,
}

#[derive(Debug, Serialize)]
struct Baselines {
    /// Thresholds in milliseconds.
    timeout: Vec<Point>,
    /// Thresholds of phi.
    phi_accrual: Vec<Point>,
    /// The monitor, told each link's share of losses beforehand: no detector can know it.
    losses_foreknown: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct CrossValidation {
    /// Each fold's links, judged with what was chosen on the other folds.
    held_out: Measures,
    by_medium: BTreeMap<String, Measures>,
    folds: Vec<Choice>,
    /// What is chosen on all links.
    chosen: Choice,
}

/// Parameters, and what they came to on the links that they were chosen on.
#[derive(Debug, Clone, Serialize)]
struct Choice {
    stall_share: f64,
    stall_tail: f64,
    prior: f64,
    /// From a report so late on, in milliseconds, the recorder is doubted and not the link.
    gap_ms: f64,
    threshold: f64,
    #[serde(flatten)]
    measures: Measures,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<Exit, Failure> {
    let links = load(args)?;
    let config = MonitorConfig::default();
    let curve: Vec<f64> = CURVE.map(|percent| f64::from(percent) / 100.0).collect();
    let fused = |link: &Link, config| -> Box<dyn Detector> { Box::new(Fused::new(&link.trace, clock::now(), config)) };
    let ours = tallies(&links, &[config.alarm], |link| fused(link, config));
    let fine = tallies(&links, &curve, |link| fused(link, config));
    let known = MonitorConfig { arrivals: ArrivalsConfig { stall_share: 1e-3, ..config.arrivals }, ..config };
    let report = Report {
        measures: pooled(&ours, 0, |_| true).measures(),
        threshold: config.alarm,
        by_medium: by_medium(&links, &ours),
        links: links.len(),
        curve: every_fifth(points(&fine, &curve)),
        baselines: Baselines {
            timeout: baseline(&links, &TIMEOUTS_MS, |link| Box::new(PlainTimeout::new(&link.trace, clock::now()))),
            phi_accrual: baseline(&links, &PHIS, |link| Box::new(PhiAccrual::new(&link.trace))),
            losses_foreknown: every_fifth(baseline(&links, &curve, |link| {
                Box::new(Fused::foreknowing(&link.trace, clock::now(), known))
            })),
        },
        cross_validation: args.cross_validate.then(|| cross_validate(&links, &curve)),
    };
    global.output().result("replay.detect", &report, || text(&report))?;
    Ok(Exit::Ok)
}

fn load(args: &Args) -> Result<Vec<Link>, Failure> {
    let failed = |error: FolderError| unreadable(&args.traces.traces, &error);
    let folder = args.traces.open()?;
    let mut links = Vec::new();
    for name in folder.names() {
        let trace = folder.trace(name).map_err(failed)?;
        if detect::takes_part(&trace) {
            links.push(Link { outages: outages(&trace), trace });
        }
    }
    if links.is_empty() {
        let limit = detect::SPACING_MAX_MS;
        return Err(Failure::new(Exit::Usage, format!("none of the links has rows every {limit} ms or more often")));
    }
    Ok(links)
}

/// Every link through a detector of its own: for each link, a tally for each threshold.
fn tallies(links: &[Link], thresholds: &[f64], detector: impl Fn(&Link) -> Box<dyn Detector>) -> Vec<Vec<Tally>> {
    let start = clock::now();
    let one = |link: &Link| detect::replay(&link.trace, &link.outages, start, &mut *detector(link), thresholds);
    links.iter().map(one).collect()
}

/// The tally of some links together, at one threshold.
fn pooled(tallies: &[Vec<Tally>], threshold: usize, include: impl Fn(usize) -> bool) -> Tally {
    let mut sum = Tally::default();
    let included = tallies.iter().enumerate().filter(|(link, _)| include(*link));
    for tally in included.filter_map(|(_, tallies)| tallies.get(threshold)) {
        sum.join(tally);
    }
    sum
}

fn points(tallies: &[Vec<Tally>], thresholds: &[f64]) -> Vec<Point> {
    let point = |(n, threshold): (usize, &f64)| Point {
        threshold: *threshold,
        measures: pooled(tallies, n, |_| true).measures(),
    };
    thresholds.iter().enumerate().map(point).collect()
}

fn baseline(links: &[Link], thresholds: &[f64], detector: impl Fn(&Link) -> Box<dyn Detector>) -> Vec<Point> {
    points(&tallies(links, thresholds, detector), thresholds)
}

fn every_fifth(points: Vec<Point>) -> Vec<Point> {
    points.into_iter().step_by(5).collect()
}

/// By medium, at the first threshold.
fn by_medium(links: &[Link], tallies: &[Vec<Tally>]) -> BTreeMap<String, Measures> {
    let media: BTreeSet<&String> = links.iter().map(|link| &link.trace.medium).collect();
    let of = |medium: &String| {
        pooled(tallies, 0, |n| links.get(n).is_some_and(|link| link.trace.medium == *medium)).measures()
    };
    media.into_iter().map(|medium| (medium.clone(), of(medium))).collect()
}

/// The parameters that cross-validation chooses from.
fn candidates() -> Vec<MonitorConfig> {
    let mut candidates = Vec::new();
    for stall_share in [0.02, 0.05, 0.1, 0.2] {
        for stall_tail in [0.5, 0.7, 1.0, 1.4] {
            for prior in [0.5, 1.0] {
                for gap_ms in GAPS_MS {
                    let default = MonitorConfig::default();
                    let arrivals = ArrivalsConfig {
                        stall_share,
                        stall_tail,
                        prior_lost: prior,
                        prior_arrived: prior,
                        ..default.arrivals
                    };
                    let span = default.local.starved - default.local.tolerance;
                    let tolerance = Duration::from_millis(gap_ms);
                    let local = LocalConfig { tolerance, starved: tolerance + span, ..default.local };
                    candidates.push(MonitorConfig { arrivals, local, ..default });
                }
            }
        }
    }
    candidates
}

/// Groups are dealt to the folds in the order of their names, so that each fold has some of every source.
fn cross_validate(links: &[Link], thresholds: &[f64]) -> CrossValidation {
    let groups: BTreeSet<&String> = links.iter().map(|link| &link.trace.group).collect();
    let folds: BTreeMap<&String, usize> = groups.into_iter().enumerate().map(|(n, group)| (group, n % FOLDS)).collect();
    let fold_of = |link: usize| links.get(link).and_then(|link| folds.get(&link.trace.group).copied());
    let tried: Vec<(MonitorConfig, Vec<Vec<Tally>>)> = candidates()
        .into_iter()
        .map(|config| {
            let tallies = tallies(links, thresholds, |link| Box::new(Fused::new(&link.trace, clock::now(), config)));
            (config, tallies)
        })
        .collect();
    let mut chosen = Vec::new();
    let mut held_out: Vec<Vec<Tally>> = vec![Vec::new(); links.len()];
    for fold in 0..FOLDS {
        let Some((choice, which, threshold)) = choose(&tried, thresholds, |link| fold_of(link) != Some(fold)) else {
            continue;
        };
        chosen.push(choice);
        for (link, tallies) in held_out.iter_mut().enumerate().filter(|(link, _)| fold_of(*link) == Some(fold)) {
            let all = tried.get(which).and_then(|(_, of_links)| of_links.get(link));
            tallies.extend(all.and_then(|of_link| of_link.get(threshold)));
        }
    }
    let none = || Choice {
        stall_share: 0.0,
        stall_tail: 0.0,
        prior: 0.0,
        gap_ms: 0.0,
        threshold: 1.0,
        measures: Tally::default().measures(),
    };
    CrossValidation {
        held_out: pooled(&held_out, 0, |_| true).measures(),
        by_medium: by_medium(links, &held_out),
        folds: chosen,
        chosen: choose(&tried, thresholds, |_| true).map_or_else(none, |(choice, _, _)| choice),
    }
}

/// The smallest mean delay on the included links among what misses nothing and keeps to the false-positive time; with the places
/// of the parameters and of the threshold.
fn choose(
    tried: &[(MonitorConfig, Vec<Vec<Tally>>)],
    thresholds: &[f64],
    include: impl Fn(usize) -> bool,
) -> Option<(Choice, usize, usize)> {
    let mut best: Option<(Choice, usize, usize)> = None;
    for (which, (config, tallies)) in tried.iter().enumerate() {
        for (n, threshold) in thresholds.iter().enumerate() {
            let measures = pooled(tallies, n, &include).measures();
            let delay = measures.mean_delay_ms.unwrap_or(f64::INFINITY);
            let allowed = measures.missed == 0 && measures.false_positive_time <= FALSE_TIME_MAX;
            let better =
                |(best, _, _): &(Choice, usize, usize)| best.measures.mean_delay_ms.is_none_or(|best| delay < best);
            if allowed && best.as_ref().is_none_or(better) {
                let choice = Choice {
                    stall_share: config.arrivals.stall_share,
                    stall_tail: config.arrivals.stall_tail,
                    prior: config.arrivals.prior_lost,
                    gap_ms: config.local.tolerance.as_secs_f64() * 1e3,
                    threshold: *threshold,
                    measures,
                };
                best = Some((choice, which, n));
            }
        }
    }
    best
}

fn text(report: &Report) -> String {
    let mut table =
        Table::new(["detector", "threshold", "links", "mean delay ms", "false-positive time", "missed", "outages"]);
    let mut row = |detector: &str, threshold: Option<f64>, links: &str, m: &Measures| {
        table.row([
            detector.to_owned(),
            threshold.map_or_else(|| "-".to_owned(), |threshold| threshold.to_string()),
            links.to_owned(),
            m.mean_delay_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}")),
            format!("{:.2} %", m.false_positive_time * 100.0),
            m.missed.to_string(),
            m.outages.to_string(),
        ]);
    };
    row("monitor", Some(report.threshold), "all", &report.measures);
    for (medium, measures) in &report.by_medium {
        row("monitor", Some(report.threshold), medium, measures);
    }
    let curves = [
        ("monitor", &report.curve),
        ("time-out, ms", &report.baselines.timeout),
        ("phi accrual", &report.baselines.phi_accrual),
        ("losses foreknown", &report.baselines.losses_foreknown),
    ];
    for (detector, points) in curves {
        for point in points {
            row(detector, Some(point.threshold), "all", &point.measures);
        }
    }
    if let Some(cross) = &report.cross_validation {
        for choice in cross.folds.iter().chain([&cross.chosen]) {
            let Choice { stall_share, stall_tail, prior, gap_ms, .. } = choice;
            let parameters = format!("{stall_share}/{stall_tail}/{prior}/{gap_ms}");
            row(&format!("chosen {parameters}"), Some(choice.threshold), "chosen on", &choice.measures);
        }
        row("cross-validated", None, "held out", &cross.held_out);
        for (medium, measures) in &cross.by_medium {
            row("cross-validated", None, medium, measures);
        }
    }
    table.print()
}
