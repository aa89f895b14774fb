//! What each command prints and how it ends.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::Value;

use crate::support::*;

#[test]
fn exit_codes_say_what_kind_of_failure_it_is() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    assert_eq!(code(&run(home, &["--version"])), 0);
    assert_eq!(code(&run(home, &["--help"])), 0);
    assert_eq!(code(&run(home, &["dance"])), 2);
    assert_eq!(code(&run(home, &["ping"])), 2);
    assert_eq!(code(&run(home, &["ticket", "parse", "bowline1nonsense-that-is-long"])), 2);
    assert_eq!(code(&run(home, &["id", "show"])), 1);
    for command in
        [&["status"][..], &["peers"], &["ping", "x"], &["why", "x"], &["tree"], &["reload"], &["ticket", "show"]]
    {
        let output = run(home, command);
        assert_eq!(code(&output), 69, "{command:?}");
        assert_eq!(stderr(&output).lines().count(), 1, "{command:?}");
        assert!(stderr(&output).contains("bowline run"), "{command:?}");
    }
    assert_eq!(code(&run(home, &["--set", "limits.unproven_total=0", "config", "check"])), 78);
    let failure = run(home, &["status", "--json"]);
    let failure: Value = serde_json::from_slice(&failure.stderr).unwrap();
    assert_eq!((&failure["schema"], &failure["error"]["code"]), (&"bowline.error/v1".into(), &69.into()));
}

#[test]
fn a_folder_that_others_can_write_into_holds_no_state() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    fs::create_dir(&state).unwrap();
    for mode in [0o777, 0o720, 0o1777] {
        fs::set_permissions(&state, fs::Permissions::from_mode(mode)).unwrap();
        // This address cannot be listened on: a node that gets so far ends with another code, and at once.
        let refused = ["run", "--listen", "nowhere://127.0.0.1:1", "--state-dir", state.to_str().unwrap()];
        let output = run(home.path(), &refused);
        assert_eq!(code(&output), 77, "{output:?}");
        assert!(stderr(&output).contains("chmod 700"), "{output:?}");
    }
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "nothing was written there");
}

#[test]
fn a_bench_waits_for_answers_as_long_as_it_is_told() {
    let home = tempfile::tempdir().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let made = json(home.path(), &["id", "new"]);
    let to = format!("tcp://{nobody}");
    let peer = made["peer"].as_str().unwrap();
    let call = ["bench", "rtt", "--peer", peer, "--to", &to, "--seconds", "0.5", "--timeout", "400ms"];
    let output = run(home.path(), &call);
    assert_eq!(code(&output), 4);
    assert!(stderr(&output).contains("no answer within 1s"), "{output:?}");
}

#[test]
fn the_configuration_is_found_shown_and_checked() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    assert_eq!(code(&run(home, &["config", "path"])), 1);
    assert_eq!(code(&run(home, &["config", "check"])), 0);
    let file = home.join("my.toml");
    fs::write(&file, "[limits]\nunproven_totl = 5\n").unwrap();
    let output = bowline(home).args(["config", "check"]).env("BOWLINE_CONFIG", &file).output().unwrap();
    assert_eq!(code(&output), 78);
    assert!(
        stderr(&output).contains("line 2: unknown key `unproven_totl`, did you mean `unproven_total`?"),
        "{output:?}"
    );
    fs::write(&file, "[limits]\nunproven_total = 5\nunproven_per_source = 6\n").unwrap();
    let output = bowline(home)
        .args(["config", "show", "--json", "--config", "my.toml", "--set", "limits.sweep=2s"])
        .env("BOWLINE_LIMITS__UNPROVEN_PER_SOURCE", "7")
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["schema"], "bowline.config/v1");
    assert_eq!(shown["limits"]["unproven_total"], 5);
    assert_eq!(shown["limits"]["unproven_per_source"], 7);
    assert_eq!(shown["limits"]["sweep"], "2s");
    assert_eq!(code(&run(home, &["config", "check", "--config", "missing.toml"])), 78);
    let text = run(home, &["config", "show"]);
    fs::write(&file, text.stdout).unwrap();
    assert_eq!(code(&run(home, &["config", "check", "--config", "my.toml"])), 0);
}

#[test]
fn a_key_is_made_once_and_refused_when_others_can_read_it() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let made = json(home, &["id", "new"]);
    assert_eq!(made["schema"], "bowline.id/v1");
    assert_eq!(json(home, &["id", "show"])["peer"], made["peer"]);
    assert_eq!(code(&run(home, &["id", "new"])), 1);
    let ticket = stdout(&run(home, &["ticket", "new", "--to", "tcp://192.0.2.1:8765"]));
    let parsed = json(home, &["ticket", "parse", &ticket]);
    assert_eq!(parsed["peer"], made["peer"]);
    assert_eq!(parsed["addresses"][0], "tcp://192.0.2.1:8765");
    let key = made["key_file"].as_str().unwrap();
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(key, fs::Permissions::from_mode(0o640)).unwrap();
    for command in [&["id", "show"][..], &["run", "--listen", "tcp://127.0.0.1:0"]] {
        let output = run(home, command);
        assert_eq!(code(&output), 77, "{command:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("chmod 600"));
    }
}

#[test]
fn completions_exist_for_every_shell() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(home.path(), &["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("bowline"), "{shell}");
    }
}

#[test]
fn two_nodes_connect_ping_and_explain_themselves() {
    let (a, b) = two_nodes("");
    let pings = run(a.home(), &["ping", b.peer(), "-c", "3", "-i", "10ms", "--json"]);
    assert_eq!(code(&pings), 0, "{}", stderr(&pings));
    let lines: Vec<Value> = stdout(&pings).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[..3].iter().all(|pong| pong["schema"] == "bowline.ping/v1" && pong["rtt_us"].is_u64()));
    assert_eq!((&lines[3]["schema"], &lines[3]["answered"]), (&"bowline.ping-summary/v1".into(), &3.into()));

    let status = json(a.home(), &["status"]);
    assert_eq!(status["schema"], "bowline.status/v1");
    assert_eq!(status["node"]["peer"], a.peer());
    assert_eq!(status["sessions"][0]["peer"], b.peer());
    assert_eq!(status["sessions"][0]["connected"], true);
    let why = json(a.home(), &["why", &b.peer()[..10]]);
    assert_eq!(why["schema"], "bowline.why/v1");
    assert_eq!(why["choices"].as_array().unwrap().len(), 5);
    assert!(why["choices"][0]["rule"].as_str().is_some_and(|rule| !rule.is_empty()));
    assert!(stdout(&run(a.home(), &["why", b.peer()])).contains("BECAUSE"));
    let peers = json(b.home(), &["peers"]);
    assert_eq!((&peers["schema"], &peers["peers"][0]["peer"]), (&"bowline.peers/v1".into(), &a.peer().into()));
    let tree = json(a.home(), &["tree"]);
    assert_eq!((&tree["schema"], &tree["tree"]["id"]), (&"bowline.tree/v1".into(), &"node".into()));
    let sent = json(a.home(), &["broadcast", "hello"]);
    assert_eq!((&sent["schema"], &sent["reached"]), (&"bowline.broadcast/v1".into(), &1.into()));
    assert_eq!(code(&run(a.home(), &["ping", "nobody"])), 2);
    let nobody = bowline::messages::PeerId::from_bytes([7; 32]).to_string();
    assert_eq!(code(&run(a.home(), &["why", &nobody])), 1);
}

#[test]
fn a_peer_that_cannot_be_reached_is_a_time_out_with_the_reason() {
    let a = Node::start("");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = Node::start("");
    let output = run(a.home(), &["connect", other.peer(), "--to", &format!("tcp://{closed}"), "--timeout", "300ms"]);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    assert!(stderr(&output).contains("refused"), "{}", stderr(&output));
}

#[test]
fn a_stranger_is_refused_until_it_is_named() {
    let (a, b) = (Node::start(""), Node::start(""));
    let output = run(a.home(), &["connect", &b.ticket(), "--timeout", "500ms"]);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
}

#[test]
fn a_file_and_the_standard_input_arrive_complete() {
    let (a, b) = two_nodes("");
    let refused = run(a.home(), &["send", b.peer(), "log"]);
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("does not receive"), "{}", stderr(&refused));

    let inbox = b.home().join("in");
    let mut receiving = bowline(b.home())
        .args(["receive", "--dir", "in", "--count", "3", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut events = BufReader::new(receiving.stdout.take().unwrap()).lines();
    assert!(events.next().unwrap().unwrap().contains("ready"));
    let content: Vec<u8> = (0..5_000_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    fs::write(a.home().join("file.bin"), &content).unwrap();
    for name in ["file.bin", "file (1).bin"] {
        let sent = json(a.home(), &["send", b.peer(), "file.bin"]);
        assert_eq!((&sent["schema"], &sent["bytes"]), (&"bowline.send/v1".into(), &5_000_000.into()));
        assert_eq!(sent["name"], name);
        assert_eq!(fs::read(inbox.join(name)).unwrap(), content);
    }
    let mut sending = bowline(a.home())
        .args(["send", b.peer(), "-", "--name", "../../note.txt"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    sending.stdin.take().unwrap().write_all(b"from a pipe").unwrap();
    assert!(sending.wait().unwrap().success());
    assert_eq!(fs::read_to_string(inbox.join("note.txt")).unwrap(), "from a pipe");
    assert!(receiving.wait().unwrap().success());
    let stored = events.map(|line| line.unwrap()).filter(|line| line.contains("\"stored\"")).count();
    assert_eq!(stored, 3);
    assert_eq!(fs::read_dir(&inbox).unwrap().count(), 3);
}

#[test]
fn a_port_is_reached_only_by_a_peer_that_may() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = target.local_addr().unwrap().port();
    let (a, b) = two_nodes("");
    let asked = format!("{}:{port}", b.peer());
    let talk = |allowed: bool| {
        let mut forwarding =
            bowline(a.home()).args(["forward", "0", &asked, "--json"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut events = BufReader::new(forwarding.stdout.take().unwrap()).lines();
        let listening: Value = serde_json::from_str(&events.next().unwrap().unwrap()).unwrap();
        let mut local = TcpStream::connect(listening["address"].as_str().unwrap()).unwrap();
        local.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        if allowed {
            local.write_all(b"question").unwrap();
            local.shutdown(std::net::Shutdown::Write).unwrap();
            let (mut connection, _) = target.accept().unwrap();
            let mut question = String::new();
            connection.read_to_string(&mut question).unwrap();
            connection.write_all(format!("{question} answered").as_bytes()).unwrap();
            drop(connection);
        }
        // A connection that is refused may also end in a reset.
        let _ = local.read_to_string(&mut answer);
        forwarding.kill().unwrap();
        forwarding.wait().unwrap();
        answer
    };
    assert_eq!(talk(false), "");
    let rule = format!("trust.policy = \"open\"\nforward.allow.{} = [{port}]\n", a.peer());
    fs::write(b.home().join(".config/bowline/config.toml"), rule).unwrap();
    let reloaded = json(b.home(), &["reload"]);
    assert_eq!((&reloaded["schema"], &reloaded["changed"]), (&"bowline.reload/v1".into(), &true.into()));
    assert_eq!(talk(true), "question answered");
}

#[test]
fn a_reload_names_what_waits_for_a_restart_and_keeps_the_old_when_the_new_is_wrong() {
    let node = Node::start("");
    let file = node.home().join(".config/bowline/config.toml");
    assert_eq!(json(node.home(), &["reload"])["changed"], false);
    fs::write(&file, "limits.unproven_total = 7\nlog.filter = \"debug\"\n").unwrap();
    assert_eq!(json(node.home(), &["reload"])["needs_restart"], serde_json::json!(["limits"]));
    fs::write(&file, "limits.unproven_total = 0\n").unwrap();
    assert_eq!(code(&run(node.home(), &["reload"])), 78);
    node.signal("-HUP");
    until("the log tells of the reload", || {
        fs::read_to_string(node.home().join("log")).unwrap().contains("was not taken over").then_some(())
    });
    fs::write(&file, "").unwrap();
    json(node.home(), &["status"]);
}

#[test]
fn a_second_node_finds_the_first_and_a_socket_left_behind_is_replaced() {
    let mut node = Node::start("");
    let second = run(node.home(), &["run", "--listen", "tcp://127.0.0.1:0"]);
    assert_eq!(code(&second), 1);
    assert!(stderr(&second).contains(&format!("pid {}", node.process.id())), "{}", stderr(&second));
    let elsewhere = run(node.home(), &["run", "--listen", "tcp://127.0.0.1:0", "--socket", "other.sock"]);
    assert_eq!(code(&elsewhere), 1);
    assert!(stderr(&elsewhere).contains(&format!("pid {}", node.process.id())), "{}", stderr(&elsewhere));
    let socket = node.home().join("bowline.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    node.process.kill().unwrap();
    node.process.wait().unwrap();
    assert!(socket.exists());
    let peer = node.peer().to_owned();
    let home = std::mem::replace(&mut node.home, tempfile::tempdir().unwrap());
    let again = Node::start_in(home);
    assert_eq!(again.peer(), peer);
    json(again.home(), &["status"]);
}

#[test]
fn a_ticket_of_a_node_that_listens_everywhere_has_addresses_that_can_be_dialled() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["run", "--json", "--listen", "tcp://[::]:0"];
    let mut process =
        bowline(home.path()).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let ticket = json(home.path(), &["ticket", "show"]);
    let addresses: Vec<&str> = ticket["addresses"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(!addresses.is_empty());
    assert!(addresses.iter().all(|address| !address.contains("[::]") && !address.contains("0.0.0.0")), "{addresses:?}");
}

#[test]
fn a_node_ends_in_good_order_when_it_is_told_to() {
    for signal in ["-TERM", "-INT"] {
        let (mut a, b) = two_nodes("");
        a.signal(signal);
        assert_eq!(a.process.wait().unwrap().code(), Some(0));
        assert!(!a.home().join("bowline.sock").exists());
        assert_eq!(code(&run(a.home(), &["status"])), 69);
        json(b.home(), &["status"]);
    }
}

#[test]
fn metrics_and_health_are_served_where_they_are_configured() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (a, _b) = {
        let a = Node::start(&format!("trust.policy = \"open\"\nmetrics.listen = \"127.0.0.1:{port}\"\n"));
        let b = Node::start("trust.policy = \"open\"\n");
        json(a.home(), &["connect", &b.ticket(), "--timeout", "30s"]);
        (a, b)
    };
    let get = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for path in ["/livez", "/readyz", "/healthz"] {
        assert!(get(path).starts_with("HTTP/1.1 200"), "{path}");
    }
    assert!(get("/healthz?verbose=1").contains("\"components\""));
    let metrics = get("/metrics");
    assert!(metrics.contains("bowline_sessions{state=\"connected\"} 1"), "{metrics}");
    assert!(metrics.contains("bowline_links_up_total"), "{metrics}");
    assert!(!metrics.contains(&a.peer()[..10]), "peers are not named in metrics");
}
