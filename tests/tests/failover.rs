//! The failover laboratory, one run of each fault, on real sockets between two network namespaces. Needs root; says so otherwise.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use bowline_tests::failover::{Fault, Namespaces, run};
use bowline_tests::programs::program;

#[test]
fn nothing_is_lost_whatever_happens_to_one_of_two_cables() {
    let namespaces = match Namespaces::create() {
        Ok(namespaces) => namespaces,
        Err(reason) if reason.is_skip() => {
            println!("skipped: {reason}");
            return;
        }
        Err(reason) => panic!("{reason}"),
    };
    let bowline = program("bowline").unwrap();
    let transports = ["tcp", "quic"].into_iter().cycle();
    for (fault, transport) in Fault::ALL.into_iter().zip(transports) {
        let transport = if fault.applies_to(transport) { transport } else { "tcp" };
        // A fault that did not hit what was in use is an error.
        let run = run(&bowline, &namespaces, transport, fault).unwrap();
        let what = format!("{} over {transport}: {:.0} ms; {}", fault.name(), run.longest_ms, run.evidence);
        println!("{what}");
        assert_eq!((run.lost, run.duplicated, run.out_of_order), (0, 0, 0), "{what}");
        // How long it may take is the benches' to say; here it is only that somebody took over.
        assert!(run.longest_ms < 5_000.0, "{what}");
    }
}
