//! The failure modes of links and processes where real sockets differ from the simulation's: two processes, the forwarder
//! between them, nothing lost, doubled or out of order. No root.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "real processes live in real time")]

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bowline::cli::bench::measure::mono_ns;
use bowline::cli::demo::forwarder::Conditions;
use bowline_tests::arrivals::{Arrival, Tally, arrivals, settled};
use bowline_tests::programs::{Program, program};
use bowline_tests::ways::{Receiver, Way};
use serde_json::Value;

/// How long anything may take that should not take long.
const PATIENCE: Duration = Duration::from_secs(120);
/// From the start of the messages to a fault that hits all ways.
const BEFORE: Duration = Duration::from_millis(1730);

fn receiver(transports: &[&str]) -> Receiver {
    Receiver::open(&program("bowline").unwrap(), transports, None).unwrap()
}

/// The same with a second way that is so much slower that the session keeps to the first one as long as that is good.
fn uneven(transports: &[&str]) -> Receiver {
    let receiver = receiver(transports);
    receiver.ways[1].path.set(Conditions { latency: Duration::from_millis(20), ..Conditions::default() });
    receiver
}

/// Waits until the better one of two uneven ways is in use.
fn better(receiver: &Receiver) -> &Way {
    let deadline = Instant::now() + Duration::from_secs(5);
    let better = &receiver.ways[0];
    // Twice in a row: a session may begin with the link that stood first and change after its dwell time.
    let mut seen = 0;
    while seen < 2 {
        assert!(Instant::now() < deadline, "the better way is not in use: {:?}", receiver.in_use());
        sleep(Duration::from_millis(200));
        seen = if receiver.in_use().is_ok_and(|way| way.leads_to == better.leads_to) { seen + 1 } else { 0 };
    }
    better
}

/// Waits for the sender's end, and holds the delivery contract against the receiver's log. A sender that is starved of the processor skips what it is late
/// with, so `accepted_at_least` is a tenth of what it was asked for.
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

/// How many messages arrived from `from_ns` to `to_ns` in all, and how many of them over a link.
fn carried(arrivals: &[Arrival], from_ns: u64, to_ns: u64, link: &str) -> (usize, usize) {
    let within = arrivals.iter().filter(|arrival| (from_ns..to_ns).contains(&arrival.mono_ns));
    (within.clone().count(), within.filter(|arrival| arrival.link == link).count())
}

/// The way in use turns bad in some way, for two seconds: another one takes over at once, and nothing shows.
fn one_way_turns_bad(transports: &[&str], size: u32, bad: Conditions) {
    const SECOND_NS: u64 = 1_000_000_000;
    let receiver = uneven(transports);
    let drip = receiver.drip(9.0, 10, size).unwrap();
    let hit = better(&receiver);
    let begun = mono_ns();
    hit.path.set(bad);
    sleep(Duration::from_secs(2));
    let healed = mono_ns();
    hit.path.set(Conditions::default());
    let (arrivals, report) = end(&receiver, drip, 90);
    assert!(report["failovers"].as_u64().unwrap() >= 1, "{report}");
    // Ten times what it takes to notice; from then on it is the other way's. Where only the way back is silent, the other way brings
    // back what acknowledges it, and it may stay in use.
    let (all, over) = carried(&arrivals, begun + SECOND_NS, healed, &hit.leads_to);
    let leaves = !bad.silent_back;
    assert!(all > 10 && (!leaves || over == 0), "{} was hit, {over} of {all} came over it", hit.leads_to);
}

#[test]
fn silence_on_the_way_there() {
    for transports in [["tcp", "ws"], ["quic", "tls"]] {
        one_way_turns_bad(&transports, 200, Conditions { silent_forth: true, ..Conditions::default() });
    }
}

/// What is sent arrives, and no acknowledgement comes back: it is sent again elsewhere, and delivered once.
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
    let receiver = uneven(&["tcp", "tls"]);
    let drip = receiver.drip(15.0, 10, 200).unwrap();
    let better = better(&receiver);
    for _ in 0..10 {
        better.path.set(Conditions::black_hole());
        sleep(Duration::from_millis(400));
        better.path.set(Conditions::default());
        sleep(Duration::from_millis(400));
    }
    let (_, report) = end(&receiver, drip, 150);
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
    let late = before.iter().filter(|arrival| arrival.mono_ns > begun + 100_000_000).count();
    assert_eq!(late, 0, "came through a black hole");
    receiver.everywhere(Conditions::default());
    end(&receiver, drip, 66);
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
    end(&receiver, drip, 150);
}
