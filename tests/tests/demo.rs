//! The demonstration as a user starts it: what it promises, and that it leaves no process behind.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::process::Command;
use std::time::Duration;

use bowline_tests::programs::{Program, ProgramError, program, run};

const PATIENCE: Duration = Duration::from_secs(120);
/// What happens waits for what came before it, on a busy machine for a minute each time.
const MESH_PATIENCE: Duration = Duration::from_secs(300);

fn demo(seconds: &str) -> Command {
    let mut command = Command::new(program("bowline").unwrap());
    command.args(["demo", "--json", "--seconds", seconds]);
    command
}

#[test]
fn a_short_demonstration_loses_nothing_whatever_dies() {
    // Its pace follows from its length: every kind of fault comes once.
    let closing = run(demo("9"), PATIENCE).unwrap();
    for field in ["lost", "duplicated", "out_of_order"] {
        assert_eq!(closing[field], 0, "{closing}");
    }
    assert_eq!(closing["digest_ok"], true, "{closing}");
    let failovers = closing["failovers"].as_array().unwrap();
    let faults: Vec<&str> = failovers.iter().filter_map(|failover| failover["fault"].as_str()).collect();
    assert_eq!(faults, ["reset", "black_hole", "session_actor", "all_but_one", "transport_actor"], "{closing}");
    // And they did happen: where links died the dice went elsewhere, and dead actors were restarted.
    for failover in failovers {
        assert!(failover["from"].is_string() && failover["to"].is_string(), "{closing}");
        let killed = match failover["fault"].as_str().unwrap() {
            // There is no reset in QUIC: its link survives what stands for one.
            "reset" => failover["from"] != "quic",
            "black_hole" | "all_but_one" => true,
            _ => false,
        };
        assert!(!killed || failover["from"] != failover["to"], "{closing}");
    }
    assert_eq!(closing["restarts"], 2, "{closing}");
    assert_eq!(closing["sent"], closing["delivered"]);
    assert!(closing["sent"].as_u64().unwrap() > 500, "{closing}");
}

/// Eight processes, a node lost, a split and a merge: everything that is told of it came about, and the ledger is what it was.
#[test]
fn the_ledger_of_eight_nodes_is_intact_after_a_loss_a_split_and_a_merge() {
    let mut command = Command::new(program("bowline").unwrap());
    command.args(["demo", "--mesh", "--json", "--seconds", "30"]);
    let mut demo = Program::start(command).unwrap();
    let mut closing = demo.next(MESH_PATIENCE).unwrap();
    while closing["event"].is_object() {
        closing = demo.next(MESH_PATIENCE).unwrap();
    }
    assert_eq!(closing["violations"], serde_json::json!([]), "{closing}");
    assert!(closing["failure"].is_null(), "{closing}");
    assert_eq!(closing["sum_before"], closing["sum_after"], "{closing}");
    assert_eq!(closing["double_active"], 0, "{closing}");
    let steps = closing["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 7, "{closing}");
    assert!(steps.iter().all(|step| step["effect_ms"].is_number()), "{closing}");
    let links = closing["healing_links"].as_array().unwrap();
    assert!(!links.is_empty(), "the network made itself a second way: {closing}");
    assert!(closing["answered"].as_u64().unwrap() > 200, "{closing}");
    assert!(closing["refused"].as_u64().unwrap() > 0, "the smaller side did not go on: {closing}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_demonstration_leaves_nothing_behind() {
    let mut demo = Program::start(demo("60")).unwrap();
    // The first line comes with the second fault, after four seconds: by then both nodes run.
    let first = demo.next(PATIENCE).unwrap();
    assert!(first["failover"].is_object(), "{first}");
    let children = children(demo.id());
    assert_eq!(children.len(), 2, "two nodes");

    let interrupted = Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let ended = demo.last(PATIENCE);
    assert!(matches!(ended, Err(ProgramError::Ended { .. })), "it says that it was not complete: {ended:?}");
    for child in children {
        assert!(!std::path::Path::new(&format!("/proc/{child}")).exists(), "process {child} is still there");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_demonstration_leaves_nothing_behind() {
    let mut demo = Program::start(demo("60")).unwrap();
    demo.next(PATIENCE).unwrap();
    let children = children(demo.id());
    assert_eq!(children.len(), 2, "two nodes");
    drop(demo);
    let deadline = std::time::Instant::now() + PATIENCE;
    while children.iter().any(|child| is_running(*child)) {
        assert!(std::time::Instant::now() < deadline, "the nodes outlive their parent");
        std::thread::yield_now();
    }
}

/// Processes whose parent is this one.
#[cfg(target_os = "linux")]
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|process| stat(*process).is_some_and(|(_, of)| of == parent)).collect()
}

/// Whether a process exists and is no zombie that its new parent has not noticed yet.
#[cfg(target_os = "linux")]
fn is_running(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != "Z")
}

/// State and parent of a process.
#[cfg(target_os = "linux")]
fn stat(process: u32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = text.rsplit(')').next()?.split_ascii_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
