//! The failure modes of links and processes where real sockets differ from the simulation's: two processes, the forwarder
//! between them, nothing lost, doubled or out of order. No root.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "real processes live in real time")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use bowline::cli::demo::forwarder::{Conditions, Path, PathKind};
use bowline_tests::arrivals::{Arrival, Tally, arrivals, last_link, settled};
use bowline_tests::programs::{Program, program};
use serde_json::Value;

/// How long anything may take that should not take long.
const PATIENCE: Duration = Duration::from_secs(60);
/// From the start of the messages to the first fault: off the beat of the dwell time, at which a session may change its link.
const BEFORE: Duration = Duration::from_millis(1730);

/// A path through the forwarder, and the address that it leads to.
struct Way {
    path: Path,
    to: String,
    leads_to: String,
}

/// A receiving process, and paths to it.
struct World {
    serve: Program,
    peer: String,
    ways: Vec<Way>,
    folder: tempfile::TempDir,
    // Keeps the paths running.
    _runtime: tokio::runtime::Runtime,
}

impl World {
    /// A receiver that listens by these transports, with a path to each.
    fn open(transports: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program("bowline").unwrap());
        command.args(["bench", "serve", "--json", "--no-advertise", "--log"]).arg(folder.path().join("log"));
        for transport in transports {
            command.args(["--listen", &format!("{transport}://127.0.0.1:0")]);
        }
        let mut serve = Program::start(command).unwrap();
        let ready = serve.next(PATIENCE).unwrap();
        let _entered = runtime.enter();
        let ways = ready["addresses"].as_array().unwrap().iter().map(|address| way(address.as_str().unwrap()));
        let (peer, ways) = (ready["peer"].as_str().unwrap().to_owned(), ways.collect());
        Self { serve, peer, ways, folder, _runtime: runtime }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Starts numbered messages to the receiver.
    fn drip(&self, seconds: f64, interval_ms: u32, size: u32) -> Program {
        let mut command = Command::new(program("bowline").unwrap());
        command.args(["bench", "drip", "--json", "--peer", &self.peer, "--seconds", &seconds.to_string()]);
        command.args(["--interval-ms", &interval_ms.to_string(), "--size", &size.to_string()]);
        for way in &self.ways {
            command.args(["--to", &way.to]);
        }
        let mut drip = Program::start(command).unwrap();
        let started = drip.next(PATIENCE).unwrap();
        assert!(started["start_mono_ns"].is_u64(), "{started}");
        drip
    }

    /// The way that the newest message came.
    fn in_use(&self) -> &Way {
        let link = last_link(&self.log()).unwrap();
        self.ways.iter().find(|way| way.leads_to == link).unwrap_or_else(|| panic!("no way leads to {link}"))
    }

    fn everywhere(&self, conditions: Conditions) {
        self.ways.iter().for_each(|way| way.path.set(conditions));
    }

    /// Waits for the sender's end, and holds the delivery contract against the receiver's log.
    fn end(&self, drip: Program, accepted_at_least: u64) -> (Vec<Arrival>, Value) {
        let report = drip.last(PATIENCE * 2).unwrap();
        let accepted = report["accepted"].as_u64().unwrap();
        assert!(accepted >= accepted_at_least, "{report}");
        let arrivals = settled(&self.log(), accepted).unwrap();
        assert_eq!(Tally::of(&arrivals, accepted), Tally::default(), "{report}");
        for field in ["undelivered", "refused"] {
            assert_eq!(report[field], 0, "{report}");
        }
        (arrivals, report)
    }
}

fn way(leads_to: &str) -> Way {
    let (transport, target) = leads_to.split_once("://").unwrap();
    let target: SocketAddr = target.parse().unwrap();
    let kind = if transport == "quic" { PathKind::Udp } else { PathKind::Tcp };
    let path = Path::open(kind, target, None).unwrap();
    Way { to: format!("{transport}://{}", path.address()), leads_to: leads_to.to_owned(), path }
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

fn mono_ns() -> u64 {
    bowline::cli::bench::measure::mono_ns()
}

/// The way in use turns bad in some way, for two seconds: another one takes over at once, and nothing shows.
fn one_way_turns_bad(transports: &[&str], size: u32, bad: Conditions) {
    const SECOND_NS: u64 = 1_000_000_000;
    let world = World::open(transports);
    let drip = world.drip(5.0, 10, size);
    sleep(BEFORE);
    let hit = world.in_use();
    let begun = mono_ns();
    hit.path.set(bad);
    sleep(Duration::from_secs(2));
    let healed = mono_ns();
    hit.path.set(Conditions::default());
    let (arrivals, report) = world.end(drip, 300);
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
    let world = World::open(&["tcp", "tls"]);
    world.ways[1].path.set(Conditions { latency: Duration::from_millis(20), ..Conditions::default() });
    let drip = world.drip(12.0, 10, 200);
    sleep(BEFORE);
    assert_eq!(world.in_use().leads_to, world.ways[0].leads_to, "the better way is in use");
    for _ in 0..10 {
        world.ways[0].path.set(Conditions::black_hole());
        sleep(Duration::from_millis(400));
        world.ways[0].path.set(Conditions::default());
        sleep(Duration::from_millis(400));
    }
    let (_, report) = world.end(drip, 900);
    let failovers = report["failovers"].as_u64().unwrap();
    assert!((1..=4).contains(&failovers), "{report}");
}

#[test]
fn no_way_at_all_for_a_minute() {
    let world = World::open(&["tcp", "quic"]);
    let drip = world.drip(66.0, 100, 200);
    sleep(BEFORE);
    world.everywhere(Conditions::black_hole());
    let begun = mono_ns();
    sleep(Duration::from_secs(60));
    let before = arrivals(&world.log()).unwrap();
    // What was in flight may still have come.
    let late = carriers(&before, begun + 100_000_000, u64::MAX);
    assert!(late.is_empty(), "{late:?} carried messages through a black hole");
    world.everywhere(Conditions::default());
    world.end(drip, 600);
}

#[cfg(unix)]
#[test]
fn a_receiver_that_is_stopped_for_ten_seconds_and_continued() {
    let signal = |world: &World, name: &str| {
        let sent = Command::new("kill").args([name, &world.serve.id().to_string()]).status().unwrap();
        assert!(sent.success());
    };
    let world = World::open(&["tcp", "quic"]);
    let drip = world.drip(15.0, 10, 200);
    sleep(BEFORE);
    signal(&world, "-STOP");
    let stopped = arrivals(&world.log()).unwrap().len();
    sleep(Duration::from_secs(10));
    assert_eq!(arrivals(&world.log()).unwrap().len(), stopped, "a stopped process receives nothing");
    signal(&world, "-CONT");
    world.end(drip, 1_000);
}
