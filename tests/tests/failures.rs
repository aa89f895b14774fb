//! The failure modes of links and processes where real sockets differ from the simulation's: two processes, the forwarder
//! between them, nothing lost, doubled or out of order. No root.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "real processes live in real time")]

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use bowline::cli::bench::measure::mono_ns;
use bowline::cli::demo::forwarder::Conditions;
use bowline_tests::arrivals::{Arrival, Tally, arrivals, settled};
use bowline_tests::programs::{Program, program};
use bowline_tests::ways::Receiver;
use serde_json::Value;

/// How long anything may take that should not take long.
const PATIENCE: Duration = Duration::from_secs(120);
/// From the start of the messages to the first fault: off the beat of the dwell time, at which a session may change its link.
const BEFORE: Duration = Duration::from_millis(1730);

fn receiver(transports: &[&str]) -> Receiver {
    Receiver::open(&program("bowline").unwrap(), transports, None).unwrap()
}

/// Waits for the sender's end, and holds the delivery contract against the receiver's log.
fn end(receiver: &Receiver, drip: Program, accepted_at_least: u64) -> (Vec<Arrival>, Value) {
    let report = drip.last(PATIENCE).unwrap();
    let accepted = report["accepted"].as_u64().unwrap();
    assert!(accepted >= accepted_at_least, "{report}");
    let arrivals = settled(&receiver.log(), accepted).unwrap();
    assert_eq!(Tally::of(&arrivals, accepted), Tally::default(), "{report}");
    for field in ["undelivered", "refused"] {
        assert_eq!(report[field], 0, "{report}");
    }
    (arrivals, report)
}

/// Which links carried messages that arrived from `from_ns` to `to_ns`.
fn carriers(arrivals: &[Arrival], from_ns: u64, to_ns: u64) -> Vec<&str> {
    let mut links: Vec<&str> = arrivals
        .iter()
        .filter(|arrival| (from_ns..to_ns).contains(&arrival.mono_ns))
        .map(|arrival| arrival.link.as_str())
        .collect();
    links.sort_unstable();
    links.dedup();
    links
}

/// The way in use turns bad in some way, for two seconds: another one takes over at once, and nothing shows.
fn one_way_turns_bad(transports: &[&str], size: u32, bad: Conditions) {
    const SECOND_NS: u64 = 1_000_000_000;
    let receiver = receiver(transports);
    let drip = receiver.drip(5.0, 10, size).unwrap();
    sleep(BEFORE);
    let hit = receiver.in_use().unwrap();
    let begun = mono_ns();
    hit.path.set(bad);
    sleep(Duration::from_secs(2));
    let healed = mono_ns();
    hit.path.set(Conditions::default());
    let (arrivals, report) = end(&receiver, drip, 300);
    assert!(report["failovers"].as_u64().unwrap() >= 1, "{report}");
    // Ten times what it takes to notice, and the rest of the fault is the other way's.
    let after = carriers(&arrivals, begun + SECOND_NS, healed);
    assert!(
        !after.is_empty() && !after.contains(&hit.leads_to.as_str()),
        "{} was hit, {after:?} carried",
        hit.leads_to
    );
}

#[test]
fn silence_on_the_way_there() {
    for transports in [["tcp", "ws"], ["quic", "tls"]] {
        one_way_turns_bad(&transports, 200, Conditions { silent_forth: true, ..Conditions::default() });
    }
}

/// What is sent arrives, and no acknowledgement comes back: everything is sent again elsewhere, and delivered once.
#[test]
fn silence_on_the_way_back() {
    for transports in [["tcp", "ws"], ["quic", "tls"]] {
        one_way_turns_bad(&transports, 200, Conditions { silent_back: true, ..Conditions::default() });
    }
}

/// Probes pass, and what carries messages does not: a link is judged by what it carries. Over TCP: QUIC looks for the
/// largest datagram of its route by itself.
#[test]
fn small_frames_pass_and_large_ones_do_not() {
    for transports in [["tcp", "ws"], ["tls", "tcp"]] {
        one_way_turns_bad(&transports, 4_000, Conditions { largest_bytes: Some(1_000), ..Conditions::default() });
    }
}

/// The better way goes silent and comes back ten times in eight seconds: the session does not follow it each time.
#[test]
fn a_flapping_way_is_left_alone() {
    let receiver = receiver(&["tcp", "tls"]);
    receiver.ways[1].path.set(Conditions { latency: Duration::from_millis(20), ..Conditions::default() });
    let drip = receiver.drip(12.0, 10, 200).unwrap();
    sleep(BEFORE);
    assert_eq!(receiver.in_use().unwrap().leads_to, receiver.ways[0].leads_to, "the better way is in use");
    for _ in 0..10 {
        receiver.ways[0].path.set(Conditions::black_hole());
        sleep(Duration::from_millis(400));
        receiver.ways[0].path.set(Conditions::default());
        sleep(Duration::from_millis(400));
    }
    let (_, report) = end(&receiver, drip, 900);
    let failovers = report["failovers"].as_u64().unwrap();
    assert!((1..=4).contains(&failovers), "{report}");
}

#[test]
fn no_way_at_all_for_a_minute() {
    let receiver = receiver(&["tcp", "quic"]);
    let drip = receiver.drip(66.0, 100, 200).unwrap();
    sleep(BEFORE);
    receiver.everywhere(Conditions::black_hole());
    let begun = mono_ns();
    sleep(Duration::from_secs(60));
    let before = arrivals(&receiver.log()).unwrap();
    // What was in flight may still have come.
    let late = carriers(&before, begun + 100_000_000, u64::MAX);
    assert!(late.is_empty(), "{late:?} carried messages through a black hole");
    receiver.everywhere(Conditions::default());
    end(&receiver, drip, 600);
}

#[cfg(unix)]
#[test]
fn a_receiver_that_is_stopped_for_ten_seconds_and_continued() {
    let signal = |receiver: &Receiver, name: &str| {
        let sent = Command::new("kill").args([name, &receiver.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    };
    let receiver = receiver(&["tcp", "quic"]);
    let drip = receiver.drip(15.0, 10, 200).unwrap();
    sleep(BEFORE);
    signal(&receiver, "-STOP");
    let stopped = arrivals(&receiver.log()).unwrap().len();
    sleep(Duration::from_secs(10));
    assert_eq!(arrivals(&receiver.log()).unwrap().len(), stopped, "a stopped process receives nothing");
    signal(&receiver, "-CONT");
    end(&receiver, drip, 1_000);
}
