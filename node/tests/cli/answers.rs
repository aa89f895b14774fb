//! What commands say and leave behind when there is nothing, nobody or no time.

use std::net::TcpListener;

use crate::support::{Node, bowline, code, json, run, stderr, stdout, until};

#[test]
fn a_ping_that_nobody_answers_leaves_nobody_accepted() {
    let (a, b) = (Node::start(""), Node::start(""));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = format!("tcp://{closed}");
    let output = run(a.home(), &["ping", b.peer(), "--to", &nowhere, "--timeout", "300ms"]);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    until("the peer is a stranger again", || accepted(&a, &b).is_none().then_some(()));
    until("its session is over", || a.session(&b).is_none().then_some(()));
}

#[test]
fn a_ping_accepts_its_peer_only_while_it_runs_and_a_connect_for_good() {
    let (a, b) = (Node::start(""), Node::start(""));
    json(b.home(), &["connect", a.peer(), "--timeout", "10ms"]);
    let ping = || run(a.home(), &["ping", &b.ticket(), "-c", "1", "--timeout", "30s"]);
    let output = ping();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    until("the peer is a stranger again", || accepted(&a, &b).is_none().then_some(()));
    until("its session is over", || a.session(&b).is_none().then_some(()));

    json(a.home(), &["connect", &b.ticket(), "--timeout", "30s"]);
    assert_eq!(code(&ping()), 0);
    assert_eq!(accepted(&a, &b), Some(true), "a command that ends takes nothing from one before it");
    assert!(a.session(&b).is_some());
}

/// Whether `node` thinks that a command named `other`; `None` when it knows nothing of it, or that it is a stranger.
fn accepted(node: &Node, other: &Node) -> Option<bool> {
    let trust = json(node.home(), &["trust"]);
    let known = trust["peers"].as_array().unwrap().iter().find(|peer| peer["peer"] == other.peer()).cloned();
    known.and_then(|peer| peer["named"].as_bool()).filter(|named| *named)
}

#[test]
fn why_there_is_no_link_is_told_for_every_address() {
    let (a, b) = (Node::start(""), Node::start(""));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = format!("tcp://{closed}");
    assert_eq!(code(&run(a.home(), &["connect", b.peer(), "--to", &nowhere, "--timeout", "300ms"])), 4);
    let output = run(a.home(), &["why", b.peer()]);
    assert_eq!(code(&output), 1);
    let text = stdout(&output);
    let line = text.lines().find(|line| line.contains(&nowhere)).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("failed") && line.contains("refused") && line.contains("attempt"), "{line}");
    assert!(!text.contains("BECAUSE"), "a table of nothing: {text}");
    let dials = serde_json::from_slice::<serde_json::Value>(&run(a.home(), &["why", b.peer(), "--json"]).stdout);
    let dial = &dials.unwrap()["dials"][0];
    assert!(dial["failures"].as_u64().is_some_and(|failures| failures > 0), "{dial}");

    let stranger = run(b.home(), &["why", a.peer()]);
    assert_eq!(code(&stranger), 1);
    assert!(stderr(&stranger).contains("was not dialled"), "{}", stderr(&stranger));
}

#[test]
fn events_are_watched_for_as_long_as_asked() {
    let node = Node::start("");
    let mut watched = bowline(node.home()).args(["events", "--timeout", "200ms"]).spawn().unwrap();
    assert_eq!(crate::support::ended(&mut watched), 0);
}

#[test]
fn what_a_killed_receiver_left_is_removed_by_the_next_one() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let left = dirs.each_ref().map(|dir| dir.path().join(".bowline-00112233445566aa.part"));
    for file in &left {
        std::fs::write(file, "half").unwrap();
    }
    let node = Node::start(&format!("receive.dir = {:?}", dirs[0].path()));
    until("the folder of the configuration is tidy", || (!left[0].exists()).then_some(()));
    let dir = dirs[1].path().to_str().unwrap();
    assert_eq!(code(&run(node.home(), &["receive", "--dir", dir, "--timeout", "100ms"])), 4);
    assert!(!left[1].exists());
}

#[test]
fn a_folder_without_a_script_is_a_mistake() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("notes.txt"), "").unwrap();
    let output = run(home.path(), &["script", "."]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("no *.script file in ."), "{}", stderr(&output));
}

#[test]
fn a_listener_that_cannot_be_had_is_one_line_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(code(&run(home.path(), &["id", "new"])), 0);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = format!("tcp://{}", taken.local_addr().unwrap());
    for (address, exit, hint) in [
        (in_use.as_str(), 1, "something listens there already"),
        ("tcp://192.0.2.77:8765", 78, "no interface of this machine has that address"),
        ("ble://x:1", 78, "there is no transport for ble"),
    ] {
        let output = run(home.path(), &["run", "--set", "listen.port_fallback=false", "--listen", address]);
        let said = stderr(&output);
        assert_eq!(code(&output), exit, "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(address) && said.contains(hint), "{said}");
        assert!(!home.path().join("bowline.sock").exists());
    }
}
