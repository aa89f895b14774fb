#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn an_hour_of_failures_loses_nothing_and_the_same_seed_gives_the_same_report() {
    let plan = Plan { lasts: Duration::from_secs(1200), failures: 40, ..Plan::default() };
    let report = run(&plan, |_| {}).unwrap();
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
    assert_eq!(report, run(&plan, |_| {}).unwrap());
}
