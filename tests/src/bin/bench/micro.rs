//! The benches within one process: supervision, cryptography, choice and topology, as rows with what is to be reached
//! (`docs/supervision.md`, `docs/choice.md`, `docs/topology.md`).

use std::process::Command;

use serde_json::Value;

use crate::table::{Row, Target};

/// The benches, by the names that cargo knows.
const BENCHES: [&str; 4] = ["supervision", "crypto", "choice", "topology"];

/// What is to be reached: at most so much, in the unit that the bench reports.
const TARGETS: [(&str, &str, f64); 11] = [
    ("supervision", "one_way_ratio", 1.1),
    ("supervision", "request_ratio", 1.1),
    ("supervision", "child_idle_bytes", 1536.0),
    ("topology", "mesh-100", 12.0),
    ("topology", "mesh-1000", 550.0),
    ("topology", "mesh-10000", 10_000.0),
    ("topology", "mesh-100000", 60_000.0),
    ("topology", "scale-free-100", 12.0),
    ("topology", "scale-free-1000", 550.0),
    ("topology", "scale-free-10000", 10_000.0),
    ("topology", "scale-free-100000", 200_000.0),
];

/// What one choice may take in nanoseconds, by any policy.
const CHOICE_NS: f64 = 2000.0;

/// Runs all of them.
pub(crate) fn measure() -> Vec<Row> {
    BENCHES.into_iter().flat_map(|bench| rows(bench, run(bench))).collect()
}

/// What a bench printed, or why there is nothing.
fn run(bench: &str) -> Result<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(&cargo)
        .args(["bench", "--quiet", "--package", "bowline-actors", "--bench", bench, "--", "--json"])
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(complaint.lines().last().unwrap_or("it failed without a word").to_owned())
}

/// The figures of a bench, and one that is missed for each that it did not give.
fn rows(bench: &str, printed: Result<String, String>) -> Vec<Row> {
    let (figures, failed) = match printed {
        Ok(text) => (text.lines().flat_map(figures).collect::<Vec<_>>(), None),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    let targets = |name: &str| {
        if bench == "choice" {
            return vec![Target::AtMost(CHOICE_NS)];
        }
        let mine = TARGETS.iter().filter(|(of, figure, _)| *of == bench && *figure == name);
        mine.map(|(_, _, limit)| Target::AtMost(*limit)).collect::<Vec<_>>()
    };
    let mut rows: Vec<Row> = figures
        .iter()
        .map(|(name, value, unit)| Row { targets: targets(name), ..Row::new(bench, name, unit, Ok(*value)) })
        .collect();
    let wanted = TARGETS.iter().filter(|(of, name, _)| *of == bench && figures.iter().all(|(had, ..)| had != name));
    for (_, name, limit) in wanted {
        let reason = failed.clone().unwrap_or_else(|| "the bench does not give it".to_owned());
        rows.push(Row { targets: vec![Target::AtMost(*limit)], ..Row::new(bench, name, "", Err(reason)) });
    }
    if rows.is_empty() {
        // Nothing has to be reached, but it has to run.
        let reason = failed.unwrap_or_else(|| "it gave no figures".to_owned());
        rows.push(Row { broken: true, targets: vec![Target::AtMost(0.0)], ..Row::new(bench, "all", "", Err(reason)) });
    }
    rows
}

/// The figures on one line: a named value, a graph with the time for all of it, or an object of values whose names end with their unit.
fn figures(line: &str) -> Vec<(String, f64, &'static str)> {
    let Ok(Value::Object(object)) = serde_json::from_str(line) else { return Vec::new() };
    if let (Some(name), Some(value)) = (text(object.get("name")), object.get("value").and_then(Value::as_f64)) {
        let unit = ["us", "GB/s", "M/s", "B"].into_iter().find(|unit| object.get("unit") == Some(&Value::from(*unit)));
        return vec![(name, value, unit.unwrap_or_default())];
    }
    if let (Some(graph), Some(us)) = (text(object.get("graph")), object.get("us")) {
        return us["all of it"].as_f64().map(|value| (graph, value, "us")).into_iter().collect();
    }
    let numbers = object.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
    numbers
        .map(|(name, value)| {
            let units = [("_ns", "ns"), ("_us", "us"), ("_us_each", "us"), ("_bytes", "B"), ("_ratio", "×")];
            let unit = units.into_iter().find(|(end, _)| name.ends_with(end)).map_or("", |(_, unit)| unit);
            (name, value, unit)
        })
        .collect()
}

fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(bench: &str, printed: &str) -> Vec<(String, Option<bool>)> {
        rows(bench, Ok(printed.to_owned())).into_iter().map(|row| (row.subject.clone(), row.verdict())).collect()
    }

    #[test]
    fn figures_count_as_met_or_missed_and_those_without_a_target_do_not() {
        let printed = r#"{"child_idle_bytes":1325.0,"one_way_ratio":1.2,"request_ratio":1.0,"restart_us":7.0}"#;
        let all = verdicts("supervision", printed);
        let of = |name: &str| all.iter().find(|(had, _)| had == name).map(|(_, verdict)| *verdict);
        assert_eq!(
            [of("child_idle_bytes"), of("one_way_ratio"), of("restart_us")],
            [Some(Some(true)), Some(Some(false)), Some(None)]
        );
    }

    #[test]
    fn every_policy_has_to_choose_in_time() {
        let all = verdicts("choice", r#"{"weighted_ns":2500,"priority_ns":600}"#);
        assert_eq!(all.iter().map(|(_, verdict)| *verdict).collect::<Vec<_>>(), [Some(true), Some(false)]);
    }

    #[test]
    fn a_figure_that_is_not_given_is_missed_and_so_is_a_bench_that_does_not_run() {
        let printed = r#"{"graph":"mesh-100","nodes":100,"us":{"all of it":11.0,"one edge":0.1}}"#;
        let all = verdicts("topology", printed);
        assert_eq!(all.iter().filter(|(_, verdict)| *verdict == Some(true)).count(), 1);
        assert_eq!(all.iter().filter(|(_, verdict)| *verdict == Some(false)).count(), 7);
        let failed = rows("crypto", Err("it does not build".into()));
        assert_eq!((failed.len(), failed[0].verdict()), (1, Some(false)));
        let sealed = r#"{"bench":"crypto","name":"seal_64","value":2.5,"unit":"GB/s"}"#;
        assert_eq!(verdicts("crypto", sealed), [("seal_64".to_owned(), None)]);
    }
}
