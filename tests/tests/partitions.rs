//! Five real nodes on hosts of their own whose network falls apart. Needs root and nftables; says so otherwise. `BOWLINE_PARTITION_ROUNDS` sets how often, once
//! in each way when nothing is said.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use bowline_tests::partitions::{Hosts, Kind, run};
use bowline_tests::programs::program;

#[test]
fn real_nodes_keep_one_state_while_their_network_falls_apart() {
    let hosts = match Hosts::create(5) {
        Ok(hosts) => hosts,
        Err(reason) if reason.is_skip() => {
            println!("skipped: {reason}");
            return;
        }
        Err(reason) => panic!("{reason}"),
    };
    let rounds =
        std::env::var("BOWLINE_PARTITION_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(Kind::ALL.len());
    let bowline = program("bowline").unwrap();
    let report = run(&bowline, &hosts, 5, rounds, |round| println!("{}", serde_json::to_string(round).unwrap()));
    let report = report.unwrap();
    println!("{}", serde_json::json!({ "done": report.done, "refused": report.refused, "unknown": report.unknown }));
    assert_eq!(report.violations, Vec::<String>::new());
    assert_eq!(report.rounds.len(), rounds);
    // How fast it has to be is measured in the experiment on virtual time; here times have generous bounds, which count as violations, and somebody worked all along.
    assert!(report.done > rounds * 5, "{report:?}");
}
