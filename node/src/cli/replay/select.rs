//! `bowline replay select`.

use std::collections::BTreeMap;

use bowline_actors::replay::FolderError;
use bowline_actors::replay::scenario::{self, Origin};
use bowline_actors::replay::select::{Course, Ewma, Feedback, LastValue, Measures, Selector, Tally};
use serde::Serialize;

use super::super::Global;
use super::super::output::Table;
use super::{Traces, unreadable};
use crate::exit::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    traces: Traces,
}

/// One selector's measures, as printed.
#[derive(Debug, Serialize)]
struct Line {
    feedback: Feedback,
    #[serde(flatten)]
    measures: Measures,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    natural: BTreeMap<&'static str, Line>,
    all: BTreeMap<&'static str, Line>,
}

/// Makes a selector with nothing learnt yet.
type Fresh = fn() -> Box<dyn Selector>;

const BASELINES: [(&str, Fresh); 2] =
    [("last-value", || Box::<LastValue>::default()), ("ewma", || Box::<Ewma>::default())];

pub(crate) fn run(args: &Args, global: &Global) -> Result<Exit, Failure> {
    let failed = |error: FolderError| unreadable(&args.traces.traces, &error);
    let folder = args.traces.open()?;
    let mut courses = Vec::new();
    for scenario in folder.scenarios().map_err(failed)? {
        let mut links = Vec::new();
        for link in &scenario.links {
            let trace = folder.trace(&link.file).map_err(failed)?;
            links.push(scenario::costs(scenario.kind, link, scenario.duration_s, &trace));
        }
        courses.push((scenario.origin, Course::new(links)));
    }
    let mut report = Report::default();
    for (name, selector) in BASELINES {
        let (mut natural, mut all) = (Tally::default(), Tally::default());
        for (origin, course) in &courses {
            let tally = course.replay(Feedback::Full, &mut *selector());
            all.join(&tally);
            if *origin == Origin::Natural {
                natural.join(&tally);
            }
        }
        let line = |tally: Tally| Some(Line { feedback: Feedback::Full, measures: tally.measures()? });
        report.natural.extend(line(natural).map(|line| (name, line)));
        report.all.extend(line(all).map(|line| (name, line)));
    }
    global.output().result("replay.select", &report, || text(&report))?;
    Ok(Exit::Ok)
}

fn text(report: &Report) -> String {
    let mut table =
        Table::new(["scenarios", "policy", "feedback", "accuracy", "regret ms", "switches/min", "delivery"]);
    for (which, lines) in [("natural", &report.natural), ("all", &report.all)] {
        for (name, line) in lines {
            let m = &line.measures;
            table.row([
                which.to_owned(),
                (*name).to_owned(),
                format!("{:?}", line.feedback).to_lowercase(),
                format!("{:.3}", m.accuracy),
                format!("{:.2}", m.regret_ms),
                format!("{:.2}", m.switches_per_min),
                format!("{:.4}", m.delivery),
            ]);
        }
    }
    table.print()
}
