//! `soak` and `replay`: what they print, and how they end.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{code, json, run, stderr, stdout};

const SHORT: [&str; 7] = ["soak", "--hours", "0.1", "--failures", "6", "--seed", "3"];

#[test]
fn a_short_soak_keeps_its_promises_and_says_the_same_again() {
    let home = TempDir::new().unwrap();
    let page = home.path().join("page.html");
    let with_page = [&SHORT[..], &["--report", page.to_str().unwrap()]].concat();
    let [one, other] = [with_page.as_slice(), SHORT.as_slice()].map(|arguments| json(home.path(), arguments));
    assert_eq!(one, other);
    for promise in ["lost", "duplicated", "out_of_order", "corrupted", "sessions_ended"] {
        assert_eq!(one[promise], 0, "{promise}");
    }
    assert_eq!((one["failures"].as_u64(), one["seed"].as_u64()), (Some(6), Some(3)));
    let rows = [
        "detection_in_flight_ms",
        "detection_idle_ms",
        "false_positive_percent",
        "failover_mean_ms",
        "optimal_percent",
    ];
    assert!(rows.iter().all(|row| one.get(row).is_some_and(|value| value.is_number() || value.is_null())), "{one}");
    assert!(fs::read_to_string(page).unwrap().contains("<svg"));
}

#[test]
fn many_seeds_are_run_and_what_makes_no_sense_is_refused() {
    let home = TempDir::new().unwrap();
    let seeds = ["soak", "--hours", "0.05", "--failures", "2", "--seeds", "4..5", "--json"];
    let output = run(home.path(), &seeds);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains('4') && stdout(&output).contains('5'), "{}", stdout(&output));
    for wrong in [&["--hours", "0"][..], &["--nodes", "1"], &["--seeds", "5..4"], &["--traces", "/nowhere"]] {
        let output = run(home.path(), &[&["soak"], wrong].concat());
        assert_eq!(code(&output), 2, "{wrong:?}: {}", stderr(&output));
    }
}

/// A recording of rows every so many milliseconds.
fn recording(dir: &Path, name: &str, rules: &str, rows: impl Iterator<Item = String>) {
    let mut text =
        format!("# medium: wifi\n# group: {name}\n# row_time: interval_end\n# rules: {rules}\n# outage_min_ms: 1000\n");
    text.push_str("t_ms,latency_ms,loss,signal_dbm,throughput_kbps\n");
    for row in rows {
        writeln!(text, "{row}").unwrap();
    }
    fs::write(dir.join(name), text).unwrap();
}

/// A folder with a link of ten rows a second with one outage of two seconds, and a scenario of two links of which one is slow for a while.
fn recordings() -> TempDir {
    let dir = TempDir::new().unwrap();
    let lost = |n: u32| u8::from((300..320).contains(&n));
    recording(dir.path(), "wifi__outage.csv", "loss", (0..600).map(|n| format!("{},,{},,", n * 100, lost(n))));
    let kbps = |second: u32, slow: bool| if slow && (20..40).contains(&second) { 1_000 } else { 20_000 };
    for (name, slow) in [("wifi__one.csv", true), ("wifi__other.csv", false)] {
        let rows = (0..90).map(|second| format!("{},,,,{}", second * 1_000, kbps(second, slow) - u32::from(!slow)));
        recording(dir.path(), name, "throughput", rows);
    }
    let link = |file: &str| serde_json::json!({"file": file, "offset_s": 0});
    let scenario = serde_json::json!([{
        "name": "natural-test", "kind": "throughput", "origin": "natural", "start_s": 0, "duration_s": 89,
        "links": [link("wifi__one.csv"), link("wifi__other.csv")],
    }]);
    fs::write(dir.path().join("scenarios.json"), scenario.to_string()).unwrap();
    dir
}

#[test]
fn recorded_outages_are_found_and_reported() {
    let dir = recordings();
    let report = json(dir.path(), &["replay", "detect", "--traces", "."]);
    assert_eq!((report["outages"].as_u64(), report["missed"].as_u64()), (Some(1), Some(0)));
    let delay = report["mean_delay_ms"].as_f64().unwrap();
    assert!(delay > 0.0 && delay <= 1_000.0, "{report}");
    assert_eq!(report["false_positive_time"], 0.0);
    assert_eq!(report["by_medium"]["wifi"]["missed"], 0);
    assert!(report["curve"].as_array().is_some_and(|points| points.len() > 10));
    let chosen = json(dir.path(), &["replay", "detect", "--traces", ".", "--cross-validate"]);
    assert_eq!(chosen["cross_validation"]["held_out"]["missed"], 0, "{chosen}");
}

#[test]
fn every_policy_is_measured_on_recorded_links() {
    let dir = recordings();
    let report = json(dir.path(), &["replay", "select", "--traces", "."]);
    assert_eq!(report["default"], "fastest-first");
    for which in ["natural", "all"] {
        let ours = &report[which]["fastest-first"];
        assert_eq!(ours["feedback"], "full");
        // It hears of the slow second when that is over, twice.
        assert!(ours["accuracy"].as_f64().is_some_and(|accuracy| accuracy > 0.95), "{ours}");
        assert!(ours["switches_per_min"].as_f64().is_some_and(|rate| rate < 3.0), "{ours}");
        assert!(["regret_ms", "delivery"].iter().all(|field| ours[*field].is_f64()), "{ours}");
    }
    assert_eq!(report["natural"]["discounted"]["feedback"], "bandit");
}

#[test]
fn a_folder_without_recordings_is_a_mistake() {
    let home = TempDir::new().unwrap();
    for which in ["detect", "select"] {
        let output = run(home.path(), &["replay", which, "--traces", "."]);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(stderr(&output).contains("no traces"), "{}", stderr(&output));
        let Value::Null = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null) else {
            panic!("{}", stdout(&output))
        };
    }
}
