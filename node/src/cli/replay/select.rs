//! `bowline replay select`.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use bowline_actors::clock;
use bowline_actors::replay::player::{self, Player};
use bowline_actors::replay::scenario::{self, Kind, Origin};
use bowline_actors::replay::select::{Course, Ewma, Feedback, LastValue, Measures, Selector, Tally};
use bowline_actors::replay::validate::{self, Group, Numbers, Subject, Trial, Validation};
use bowline_actors::replay::{Folder, FolderError};
use bowline_messages::PolicyName;
use bowline_messages::config::ClassPolicies;
use bowline_messages::link::Medium;
use indicatif::ProgressBar;
use serde::Serialize;

use super::super::Global;
use super::super::output::Table;
use super::super::progress;
use super::{Traces, unreadable};
use crate::exit::{Exit, Failure};

/// Stochastic policies are the mean of so many seeds, from 0.
const SEEDS: u64 = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    traces: Traces,
    /// Choose the numbers of fastest-first and discounted by cross-validation over the groups of the natural scenarios instead: minutes
    #[arg(long)]
    cross_validate: bool,
    /// Changes of link a minute that --cross-validate allows fastest-first
    #[arg(long, value_name = "N", default_value_t = 3.8, requires = "cross_validate")]
    switches_max: f64,
}

/// One selector's measures, as printed.
#[derive(Debug, Serialize)]
struct Line {
    feedback: Feedback,
    #[serde(flatten)]
    measures: Measures,
}

#[derive(Debug, Serialize)]
struct Report {
    natural: BTreeMap<&'static str, Line>,
    all: BTreeMap<&'static str, Line>,
    default: &'static str,
}

/// A scenario ready to be replayed.
struct Prepared {
    origin: Origin,
    kind: Kind,
    group: String,
    media: Vec<Medium>,
    course: Course,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<Exit, Failure> {
    let folder = args.traces.open()?;
    let bar = |name| progress::steps(global.output().draws(), name);
    let scenarios = prepare(&folder, &bar("reading")).map_err(|error| unreadable(&args.traces.traces, &error))?;
    if args.cross_validate {
        let natural: Vec<_> = scenarios.iter().filter(|scenario| scenario.origin == Origin::Natural).collect();
        let none = || Failure::new(Exit::Usage, "there are no natural scenarios to choose numbers on");
        let mut chosen = BTreeMap::new();
        for subject in Subject::ALL {
            let name = subject.policy().as_str();
            let validation = cross_validate(&natural, subject, args.switches_max, &bar(name)).ok_or_else(none)?;
            chosen.insert(name, validation);
        }
        global.output().result("replay.validate", &chosen, || validation_text(&chosen))?;
    } else {
        let report = measure(&scenarios, &bar("replaying"));
        global.output().result("replay.select", &report, || text(&report))?;
    }
    Ok(Exit::Ok)
}

fn prepare(folder: &Folder, bar: &ProgressBar) -> Result<Vec<Prepared>, FolderError> {
    let scenarios = folder.scenarios()?;
    bar.set_length(scenarios.len() as u64);
    let prepare = |scenario: scenario::Scenario| {
        let (mut links, mut media, mut group) = (Vec::new(), Vec::new(), String::new());
        for link in &scenario.links {
            let trace = folder.trace(&link.file)?;
            links.push(scenario::costs(scenario.kind, link, scenario.duration_s, &trace));
            media.push(player::medium(&trace.medium));
            // The links of a natural scenario are of one group.
            group = trace.group;
        }
        bar.inc(1);
        Ok(Prepared { origin: scenario.origin, kind: scenario.kind, group, media, course: Course::new(links) })
    };
    scenarios.into_iter().map(prepare).collect()
}

fn measure(scenarios: &[Prepared], bar: &ProgressBar) -> Report {
    let default = ClassPolicies::default().critical.as_str();
    let mut report = Report { natural: BTreeMap::new(), all: BTreeMap::new(), default };
    let start = clock::now();
    bar.set_length(2 + PolicyName::ALL.len() as u64);
    add(&mut report, "last-value", Feedback::Full, scenarios, |_| vec![Box::new(LastValue::default())]);
    bar.inc(1);
    add(&mut report, "ewma", Feedback::Full, scenarios, |_| vec![Box::new(Ewma::default())]);
    bar.inc(1);
    for policy in PolicyName::ALL {
        let seeds = if player::is_stochastic(policy) { SEEDS } else { 1 };
        let fresh = |scenario: &Prepared| {
            let player = |seed| Player::new(start, policy, scenario.kind, &scenario.media, seed);
            (0..seeds).map(|seed| Box::new(player(seed)) as Box<dyn Selector>).collect()
        };
        add(&mut report, policy.as_str(), player::feedback_of(policy), scenarios, fresh);
        bar.inc(1);
    }
    bar.finish_and_clear();
    report
}

/// Replays fresh selectors (one for each seed) over every scenario.
fn add(
    report: &mut Report,
    name: &'static str,
    feedback: Feedback,
    scenarios: &[Prepared],
    fresh: impl Fn(&Prepared) -> Vec<Box<dyn Selector>>,
) {
    let (mut natural, mut all) = (Tally::default(), Tally::default());
    for scenario in scenarios {
        for mut selector in fresh(scenario) {
            let tally = scenario.course.replay(feedback, &mut *selector);
            all.join(&tally);
            match scenario.origin {
                Origin::Natural => natural.join(&tally),
                Origin::Composite => {}
            }
        }
    }
    let line = |tally: Tally| Some((name, Line { feedback, measures: tally.measures()? }));
    report.natural.extend(line(natural));
    report.all.extend(line(all));
}

/// Every combination of numbers on every scenario, on all processors.
fn cross_validate(
    scenarios: &[&Prepared],
    subject: Subject,
    switches_max: f64,
    bar: &ProgressBar,
) -> Option<Validation> {
    let start = clock::now();
    let trials = subject.trials();
    bar.set_length(trials.len() as u64);
    let try_all = |trials: &[Trial]| -> Vec<Vec<Tally>> {
        let of_one = |trial| {
            bar.inc(1);
            scenarios.iter().map(|scenario| try_on(scenario, subject, start, trial)).collect()
        };
        trials.iter().map(of_one).collect()
    };
    let share = trials.len().div_ceil(thread::available_parallelism().map_or(1, usize::from)).max(1);
    let tried: Vec<Vec<Tally>> = thread::scope(|scope| {
        let workers: Vec<_> = trials.chunks(share).map(|part| scope.spawn(|| try_all(part))).collect();
        let done = workers.into_iter().map(|worker| worker.join());
        done.flat_map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    bar.finish_and_clear();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (at, scenario) in scenarios.iter().enumerate() {
        let group = groups.entry(scenario.group.clone()).or_default();
        group.baseline.join(&scenario.course.replay(Feedback::Full, &mut LastValue::default()));
        group.tried.resize(trials.len(), Tally::default());
        for (sum, of_trial) in group.tried.iter_mut().zip(&tried) {
            sum.join(&of_trial[at]);
        }
    }
    validate::validate(subject, &trials, &groups, switches_max)
}

fn try_on(scenario: &Prepared, subject: Subject, start: Instant, trial: &Trial) -> Tally {
    let policy = subject.policy();
    let mut player = Player::with(start, policy, scenario.kind, &scenario.media, 0, &trial.settings);
    scenario.course.replay(player::feedback_of(policy), &mut player)
}

fn text(report: &Report) -> String {
    let mut table =
        Table::new(["scenarios", "policy", "feedback", "accuracy", "regret ms", "switches/min", "delivery", "Mbit/s"]);
    for (which, lines) in [("natural", &report.natural), ("all", &report.all)] {
        for (name, line) in lines {
            let [accuracy, regret, switches, delivery] = cells(&line.measures);
            let rate = line.measures.throughput_kbps.map_or_else(String::new, |kbps| format!("{:.2}", kbps / 1e3));
            let name = if *name == report.default { format!("{name} (default)") } else { (*name).to_owned() };
            let feedback = format!("{:?}", line.feedback).to_lowercase();
            table.row([which.to_owned(), name, feedback, accuracy, regret, switches, delivery, rate]);
        }
    }
    table.print()
}

fn cells(measures: &Measures) -> [String; 4] {
    [
        format!("{:.4}", measures.accuracy),
        format!("{:.2}", measures.regret_ms),
        format!("{:.2}", measures.switches_per_min),
        format!("{:.4}", measures.delivery),
    ]
}

fn validation_text(chosen: &BTreeMap<&str, Validation>) -> String {
    let list = |numbers: &Numbers| {
        let numbers: Vec<_> = numbers.iter().map(|(name, value)| format!("{name} {value}")).collect();
        numbers.join(", ")
    };
    let mut table = Table::new(["policy", "groups", "accuracy", "regret ms", "switches/min", "delivery"]);
    let mut text = String::new();
    for (name, validation) in chosen {
        for (which, measures) in [("chosen on", &validation.inside), ("left out", &validation.outside)] {
            let [accuracy, regret, switches, delivery] = cells(measures);
            table.row([(*name).to_owned(), which.to_owned(), accuracy, regret, switches, delivery]);
        }
        text.push_str(&format!("\n{name}, of {}: {}\n", validation.tried, list(&validation.chosen)));
        for (numbers, count) in &validation.votes {
            text.push_str(&format!("  best without {count} of the groups: {}\n", list(numbers)));
        }
    }
    format!("{}{text}", table.print())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use bowline_actors::replay::scenario::Cost;

    use super::*;

    #[test]
    fn every_policy_and_both_baselines_are_reported() {
        let cost = |ms: f64| Cost::of(ms, ms < 1_000.0);
        let link = |ms: [f64; 4]| ms.into_iter().cycle().take(60).map(cost).collect::<Vec<_>>();
        let prepared = |origin| Prepared {
            origin,
            kind: Kind::Throughput,
            group: "g".into(),
            media: vec![Medium::Cellular; 2],
            course: Course::new(vec![link([10.0, 12.0, 1_000.0, 10.0]), link([30.0; 4])]),
        };
        let hidden = progress::steps(false, "replaying");
        let report = measure(&[prepared(Origin::Natural), prepared(Origin::Composite)], &hidden);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["default"], "fastest-first");
        for which in ["natural", "all"] {
            assert_eq!(json[which].as_object().unwrap().len(), 2 + PolicyName::ALL.len());
            for line in json[which].as_object().unwrap().values() {
                let fields = ["accuracy", "regret_ms", "switches_per_min", "delivery"];
                assert!(fields.iter().all(|field| line[*field].is_f64()), "{line}");
            }
        }
        assert_eq!(json["natural"]["discounted"]["feedback"], "bandit");
        assert_eq!(json["natural"]["last-value"]["feedback"], "full");
        assert!(text(&report).contains("fastest-first (default)"));
    }

    /// On some of the recorded links, where they are: `$BOWLINE_TRACES`, or `shared/data/traces` beside the repository.
    #[test]
    fn on_recorded_links_the_default_regrets_less_and_changes_less_than_the_last_seconds_best() {
        let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/traces");
        let dir = std::env::var_os("BOWLINE_TRACES").map_or_else(beside, PathBuf::from);
        let Ok(folder) = Folder::open(&dir) else {
            println!("skipped: no recorded links in {}", dir.display());
            return;
        };
        let hidden = progress::steps(false, "reading");
        let mut scenarios = prepare(&folder, &hidden).unwrap();
        scenarios.retain(|scenario| scenario.origin == Origin::Natural);
        scenarios.truncate(6);
        let report = measure(&scenarios, &hidden);
        let of = |name: &str| report.natural[name].measures;
        let (ours, baseline) = (of(report.default), of("last-value"));
        assert!(ours.regret_ms < baseline.regret_ms, "{ours:?} {baseline:?}");
        assert!(ours.switches_per_min < baseline.switches_per_min / 2.0, "{ours:?} {baseline:?}");
        assert!(ours.delivery >= baseline.delivery, "{ours:?} {baseline:?}");
        assert!(of("discounted").accuracy > of("thompson").accuracy);
    }
}
