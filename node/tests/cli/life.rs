//! How a node lives and ends: signals, reloads, its log, what watches it.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::*;

#[test]
fn a_second_signal_during_the_drain_ends_at_once() {
    for signal in ["-TERM", "-INT"] {
        let config = "trust.policy = \"open\"\n";
        let b = Node::start(config);
        let home = home_with(config);
        let mut a =
            Node::start_with(home, |command| command.args(["--listen", "tcp://127.0.0.1:0", "--drain", "10min"]));
        json(a.home(), &["connect", &b.ticket(), "--timeout", "30s"]);
        // A peer that stands still acknowledges nothing: there is something to drain.
        b.signal("-STOP");
        let sent = run(a.home(), &["broadcast", "are you there?", "--timeout", "50ms"]);
        assert_eq!(code(&sent), 1, "{}", stderr(&sent));
        a.signal(signal);
        until("it drains", || a.log().contains("stopping").then_some(()));
        assert!(a.process.try_wait().unwrap().is_none(), "{}", a.log());
        a.signal(signal);
        assert_eq!(ended(&mut a.process), 1, "{}", a.log());
        assert!(a.log().contains("stopped at once"), "{}", a.log());
        b.signal("-CONT");
    }
}

#[test]
fn a_node_that_is_told_to_stop_sends_its_file_to_the_end() {
    let (mut a, b) = two_nodes("");
    let receiver = Watcher::start(b.home(), &["receive", "--dir", "in", "--json"]);
    receiver.next();
    let mut sender = bowline(a.home())
        .args(["send", b.peer(), "-", "--name", "note", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = sender.stdin.take().unwrap();
    input.write_all(&[7; 100_000]).unwrap();
    let _ = until("the file is on its way", || fs::read_dir(b.home().join("in")).ok()?.next());
    a.signal("-TERM");
    until("it drains", || a.log().contains("stopping").then_some(()));
    input.write_all(&[8; 100_000]).unwrap();
    drop(input);
    assert_eq!((ended(&mut sender), ended(&mut a.process)), (0, 0), "{}", a.log());
    assert_eq!(fs::read(b.home().join("in/note")).unwrap(), [[7; 100_000], [8; 100_000]].concat());
}

#[test]
fn a_metrics_address_that_is_taken_leaves_no_socket_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = tempfile::tempdir().unwrap();
    let set = format!("metrics.listen={}", taken.local_addr().unwrap());
    let output = run(home.path(), &["run", "--listen", "tcp://127.0.0.1:0", "--set", &set]);
    assert_eq!(code(&output), 78, "{}", stderr(&output));
    assert!(stderr(&output).contains("metrics"), "{}", stderr(&output));
    assert!(!home.path().join("bowline.sock").exists());
}

#[test]
fn watching_the_status_shows_it_again_and_again_until_the_node_has_gone() {
    let mut node = Node::start("");
    let mut watcher = Watcher::start(node.home(), &["status", "--watch", "100ms", "--json"]);
    for _ in 0..3 {
        let status: Value = serde_json::from_str(&watcher.next()).unwrap();
        assert_eq!((&status["schema"], &status["node"]["peer"]), (&"bowline.status/v1".into(), &node.peer().into()));
    }
    node.signal("-TERM");
    assert_eq!(ended(&mut node.process), 0);
    assert_eq!(ended(&mut watcher.process), 69);
}

#[test]
fn events_are_told_as_they_happen_with_the_messages_of_peers() {
    let (a, mut b) = two_nodes("");
    let mut watcher = Watcher::start(b.home(), &["events", "--json"]);
    // Only what happens from now on is told, so it is made to happen until it was.
    let message: Value = until("a message is told", || {
        json(a.home(), &["broadcast", "seven"]);
        watcher.ready().map(|line| serde_json::from_str(&line).unwrap())
    });
    assert_eq!((&message["schema"], &message["event"]), (&"bowline.event/v1".into(), &"message".into()));
    assert_eq!((&message["peer"], &message["text"]), (&a.peer().into(), &"seven".into()));
    drop(a);
    until("the dead link is told", || watcher.next().contains("link_step").then_some(()));
    b.signal("-TERM");
    assert_eq!(ended(&mut b.process), 0);
    assert_eq!(ended(&mut watcher.process), 69);
}

#[test]
fn flags_for_the_log_win_over_the_environment_and_outlive_a_reload() {
    let config = "trust.policy = \"open\"\n";
    let listen = ["--listen", "tcp://127.0.0.1:0"];
    let loud = Node::start_with(home_with(config), |command| command.args(listen).arg("-v").env("RUST_LOG", "error"));
    let quiet = Node::start_with(home_with(config), |command| command.args(listen).arg("-q").env("RUST_LOG", "debug"));
    assert_eq!(loud.reload("trust.policy = \"open\"\nlog.filter = \"error\"\n")["changed"], true);
    assert_eq!(quiet.reload("trust.policy = \"open\"\nlog.filter = \"debug\"\n")["changed"], true);
    json(quiet.home(), &["connect", &loud.ticket(), "--timeout", "30s"]);
    json(quiet.home(), &["broadcast", "hello"]);
    until("a line of the level debug", || loud.log().contains("messages arrived").then_some(()));
    assert_eq!(quiet.log(), "");
}

#[test]
fn a_reload_keeps_who_was_named_by_a_command_and_parts_with_who_is_denied() {
    let (mut a, b) = (Node::start("trust.policy = \"open\"\n"), Node::start(""));
    // The command names the other node, whatever the configuration says.
    json(b.home(), &["connect", &a.ticket(), "--timeout", "30s"]);
    let stranger = bowline::messages::PeerId::from_bytes([7; 32]);
    assert_eq!(b.reload(&format!("trust.deny = [\"{stranger}\"]\n"))["changed"], true);
    assert!(b.session(&a).is_some_and(|session| session["connected"] == true), "{}", b.log());
    assert_eq!(code(&run(b.home(), &["ping", a.peer(), "-c", "1"])), 0);
    // It is accepted when it comes anew, too, from elsewhere.
    a.signal("-KILL");
    ended(&mut a.process);
    let home = std::mem::replace(&mut a.home, tempfile::tempdir().unwrap());
    let a = Node::start_in(home);
    json(a.home(), &["connect", &b.ticket(), "--timeout", "30s"]);

    b.reload(&format!("trust.deny = [\"{}\"]\n", a.peer()));
    until("the session has ended", || b.session(&a).is_none().then_some(()));
    assert_eq!(code(&run(b.home(), &["connect", &a.ticket(), "--timeout", "300ms"])), 77);
    // What the deny list made an end of is not there again when it is gone.
    b.reload("");
    let refused = run(a.home(), &["connect", &b.ticket(), "--timeout", "300ms"]);
    assert_eq!(code(&refused), 4, "{}", stderr(&refused));
}

#[test]
fn a_peer_that_was_removed_from_the_peer_book_has_no_session_any_more() {
    let a = Node::start("trust.policy = \"open\"\n");
    let b = Node::start("");
    let parsed = json(a.home(), &["ticket", "show"]);
    let entry = format!("[peers.a]\nid = \"{}\"\naddresses = {}\n", a.peer(), parsed["addresses"]);
    b.reload(&entry);
    until("the peer of the book is connected", || b.session(&a).filter(|session| session["connected"] == true));
    b.reload("");
    until("the session has ended", || b.session(&a).is_none().then_some(()));
}

#[test]
fn a_peer_that_a_command_named_outlives_its_entry_in_the_peer_book() {
    let a = Node::start("trust.policy = \"open\"\n");
    let b = Node::start("");
    let parsed = json(a.home(), &["ticket", "show"]);
    let entry = format!("[peers.a]\nid = \"{}\"\naddresses = {}\n", a.peer(), parsed["addresses"]);
    b.reload(&entry);
    json(b.home(), &["connect", "a", "--timeout", "30s"]);
    let before = b.session(&a).unwrap()["incarnation"].clone();
    b.reload("");
    let after = b.session(&a).unwrap_or_else(|| panic!("{}", b.log()));
    assert_eq!((&after["incarnation"], &after["connected"]), (&before, &true.into()), "{}", b.log());
    b.reload(&format!("trust.deny = [\"{}\"]\n", a.peer()));
    until("the session has ended", || b.session(&a).is_none().then_some(()));
}

#[test]
fn a_peer_that_is_in_the_peer_book_no_more_is_not_sought_whatever_the_policy() {
    let gone = bowline::messages::PeerId::from_bytes([7; 32]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for policy in ["open", "tofu"] {
        let node = Node::start(&format!("trust.policy = \"{policy}\"\n"));
        let entry = |port: u16, connect: bool| {
            let address = format!("\"tcp://127.0.0.1:{port}\"");
            format!(
                "trust.policy = \"{policy}\"\n[peers.x]\nid = \"{gone}\"\naddresses = [{address}]\nconnect = {connect}\n"
            )
        };
        let sought = || {
            let status = json(node.home(), &["status"]);
            status["sessions"].as_array().unwrap().first().map(|session| session["peer_addresses"].clone())
        };
        for end in [format!("trust.policy = \"{policy}\"\n"), entry(1, false)] {
            node.reload(&entry(closed.port(), true));
            assert_eq!(sought(), Some(serde_json::json!([format!("tcp://{closed}")])));
            // An address that is taken out is dialled no more, once the pause after the last attempt is over.
            node.reload(&entry(1, true));
            until("only the new address is left", || {
                (sought() == Some(serde_json::json!(["tcp://127.0.0.1:1"]))).then_some(())
            });
            node.reload(&end);
            until("it is sought no more", || sought().is_none().then_some(()));
        }
        assert_eq!(json(node.home(), &["trust"])["peers"], serde_json::json!([]), "nor was anybody remembered");
    }
}

/// A home folder with this configuration.
fn home_with(config: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join(".config/bowline");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.toml"), config).unwrap();
    home
}

#[test]
fn quiet_and_verbose_exclude_each_other() {
    let home = tempfile::tempdir().unwrap();
    let output = bowline(home.path()).args(["-q", "-v", "status"]).stdout(Stdio::null()).output().unwrap();
    assert_eq!(code(&output), 2);
}
