//! Two nodes and what they do for each other: the way of the README, files that are refused, ports that outlive a restart.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::Value;

use crate::support::*;

/// Nobody is accepted who was not named: the policy without any configuration.
#[test]
fn two_strangers_name_each_other_as_the_readme_says() {
    let (a, b) = (Node::start(""), Node::start(""));
    let (here, there) = (a.ticket(), b.ticket());
    let mut connecting = bowline(a.home())
        .args(["connect", &there, "--timeout", "50s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Whoever runs the other node is told who knocked.
    until("the stranger is named", || {
        b.log().contains(&format!("{} is not on the allow list", a.peer())).then_some(())
    });
    let connected = json(b.home(), &["connect", &here, "--timeout", "30s"]);
    assert_eq!(connected["peer"], a.peer());
    assert_eq!(ended(&mut connecting), 0, "the first one waits until the other side names it");

    for (node, other) in [(&a, &there), (&b, &here)] {
        let pings = run(node.home(), &["ping", other, "-c", "2", "-i", "10ms"]);
        assert_eq!(code(&pings), 0, "{}", stderr(&pings));
        assert!(stdout(&pings).contains("2 of 2 answered"), "{}", stdout(&pings));
    }
    let receiving = Watcher::start(b.home(), &["receive", "--dir", "Downloads", "--json"]);
    assert!(receiving.next().contains("ready"));
    let photo: Vec<u8> = (0..300_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    fs::write(a.home().join("holiday.jpg"), &photo).unwrap();
    let sent = run(a.home(), &["send", &there, "holiday.jpg"]);
    assert_eq!(code(&sent), 0, "{}", stderr(&sent));
    assert!(stdout(&sent).starts_with("sent holiday.jpg to "), "{}", stdout(&sent));
    assert_eq!(fs::read(b.home().join("Downloads/holiday.jpg")).unwrap(), photo);
    assert_eq!(code(&run(a.home(), &["why", &there])), 0);
}

#[test]
fn a_stranger_that_is_not_named_is_told_what_to_do() {
    let (a, b) = (Node::start(""), Node::start(""));
    let output = run(a.home(), &["connect", &b.ticket(), "--timeout", "2s"]);
    assert_eq!(code(&output), 4);
    let said = stderr(&output);
    assert!(b.session(&a).is_none());

    // What it is told works, word for word.
    let advice = said.split('`').nth(1).unwrap_or_else(|| panic!("no command in {said}"));
    let words: Vec<&str> = advice.split(' ').skip(1).collect();
    assert_eq!(words, ["connect", &a.ticket()]);
    let accepted = run(b.home(), &[&words[..], &["--timeout", "50s"]].concat());
    assert_eq!(code(&accepted), 0, "{}", stderr(&accepted));
    assert!(stdout(&accepted).starts_with(&format!("connected to {}", a.peer())), "{}", stdout(&accepted));
}

#[test]
fn naming_a_peer_that_has_to_dial_succeeds_where_peers_have_to_be_named() {
    let nobody = bowline::messages::PeerId::from_bytes([7; 32]).to_string();
    for policy in ["allow", "tofu"] {
        let node = Node::start(&format!("trust.policy = \"{policy}\"\n"));
        let accepted = json(node.home(), &["connect", &nobody, "--timeout", "50ms"]);
        assert_eq!((&accepted["peer"], &accepted["links"]), (&nobody.clone().into(), &serde_json::json!([])));
        let again = run(node.home(), &["connect", &nobody[..10], "--timeout", "50ms"]);
        assert!(stdout(&again).contains("waiting for it to dial"), "{again:?}");
        // What needs a link needs an address.
        assert_eq!(code(&run(node.home(), &["ping", &nobody, "-c", "1"])), 1);
    }
    let open = Node::start("trust.policy = \"open\"\n");
    let useless = run(open.home(), &["connect", &nobody]);
    assert_eq!(code(&useless), 1, "everybody is accepted anyway");
    assert!(stderr(&useless).contains("--to"), "{}", stderr(&useless));
}

#[test]
fn an_excluded_peer_is_shown_and_can_be_let_back_in() {
    let (mut a, b) = (Node::start(""), Node::start("trust.policy = \"open\"\n"));
    let state = json(a.home(), &["status"])["node"]["state_dir"].as_str().unwrap().to_owned();
    a.signal("-TERM");
    ended(&mut a.process);
    let file = std::path::Path::new(&state).join("peers.json");
    fs::write(&file, format!(r#"{{"excluded":{{"{0}":"it lied"}},"scores":{{"{0}":0.06}}}}"#, b.peer())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let a = Node::start_in(std::mem::replace(&mut a.home, tempfile::tempdir().unwrap()));
    // The peer book does not help, nor does a command.
    let parsed = json(b.home(), &["ticket", "show"]);
    a.reload(&format!("[peers.b]\nid = \"{}\"\naddresses = {}\n", b.peer(), parsed["addresses"]));
    let refused = run(a.home(), &["connect", "b"]);
    assert_eq!(code(&refused), 77);
    assert!(stderr(&refused).contains("it lied"), "{}", stderr(&refused));
    let advice = format!("bowline trust readmit {}", b.peer());
    assert!(stderr(&refused).contains(&advice), "{}", stderr(&refused));
    assert!(stderr(&run(a.home(), &["why", "b"])).contains(&advice));
    let peers = json(a.home(), &["peers"]);
    assert_eq!((&peers["peers"][0]["excluded"], &peers["peers"][0]["score"]), (&"it lied".into(), &0.06.into()));
    let trust = json(a.home(), &["trust"]);
    assert_eq!((&trust["schema"], &trust["policy"]), (&"bowline.trust/v1".into(), &"allow".into()));
    let known = &trust["peers"][0];
    assert_eq!((&known["peer"], &known["accepted"]), (&b.peer().into(), &false.into()));
    assert!(stdout(&run(a.home(), &["trust", "list"])).contains("excluded: it lied"));

    let words: Vec<&str> = advice.split(' ').skip(1).collect();
    let readmitted = json(a.home(), &words);
    assert_eq!((&readmitted["accepted"], &readmitted["score"]), (&true.into(), &0.5.into()));
    // It is in the peer book: nothing more has to be said.
    until("the peer is connected", || a.session(&b).filter(|session| session["connected"] == true));
    assert!(stdout(&run(a.home(), &["why", "b"])).contains("the peer's score is 0.5"));
    assert_eq!(code(&run(a.home(), &words)), 1, "it is not excluded");
    assert_eq!(code(&run(a.home(), &["trust", "forget", "b"])), 1, "nobody was met");
    until("it is saved", || (!fs::read_to_string(&file).unwrap().contains("it lied")).then_some(()));
}

#[test]
fn a_refused_standard_input_ends_at_once_however_little_it_has_to_say() {
    let (a, b) = two_nodes("");
    let mut sending = bowline(a.home())
        .args(["send", b.peer(), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Held open, without a byte.
    let idle = sending.stdin.take();
    assert_eq!(ended(&mut sending), 1);
    let mut said = String::new();
    sending.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("does not receive"), "{said}");
    drop(idle);

    // Nor does one that has much to say drown the reason.
    fs::write(a.home().join("large"), vec![1; 30_000_000]).unwrap();
    let refused = run(a.home(), &["send", b.peer(), "large"]);
    assert_eq!(code(&refused), 1, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("does not receive"), "{}", stderr(&refused));
    json(a.home(), &["status"]);
}

/// Answers every connection with what it was asked.
fn answering() -> u16 {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = target.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in target.incoming() {
            let mut connection = connection.unwrap();
            let mut question = String::new();
            // A connection may be cut in mid-question when a node goes away.
            if connection.read_to_string(&mut question).is_ok() {
                let _ = connection.write_all(format!("{question} answered").as_bytes());
            }
        }
    });
    port
}

#[test]
fn a_forwarded_port_works_again_after_the_peer_was_restarted() {
    let port = answering();
    let a = Node::start("");
    let rule = format!("trust.policy = \"open\"\nforward.allow.{} = [{port}]\n", a.peer());
    let mut b = Node::start(&rule);
    let place = b.ready["addresses"][0].as_str().unwrap().to_owned();
    let target = format!("{}:{port}", b.peer());
    let forwarding = Watcher::start(a.home(), &["forward", "0", &target, "--to", &place, "--json"]);
    let listening: Value = serde_json::from_str(&forwarding.next()).unwrap();
    let ask = || {
        let mut local = TcpStream::connect(listening["address"].as_str().unwrap()).unwrap();
        local.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        local.write_all(b"question").unwrap();
        local.shutdown(std::net::Shutdown::Write).unwrap();
        // A connection that finds nobody may also end in a reset.
        let _ = local.read_to_string(&mut answer);
        answer
    };
    assert_eq!(ask(), "question answered");
    for signal in ["-TERM", "-KILL"] {
        b.signal(signal);
        ended(&mut b.process);
        if signal == "-TERM" {
            // It said goodbye: the session is over, not only without a link.
            until("the session has ended", || {
                let connected = a.session(&b).is_some_and(|session| session["connected"] == true);
                (!connected).then_some(())
            });
        }
        let home = std::mem::replace(&mut b.home, tempfile::tempdir().unwrap());
        b = Node::start_with(home, |command| command.args(["--listen", &place]));
        until(&format!("answers after {signal}"), || (ask() == "question answered").then_some(()));
    }
}

#[test]
fn connections_that_wait_for_a_peer_that_is_off_are_bounded_and_those_given_up_make_room() {
    let (a, mut b) = two_nodes("");
    let forwarding =
        Watcher::start(a.home(), &["forward", "0", &format!("{}:1", b.peer()), "--timeout", "10min", "--json"]);
    let listening: Value = serde_json::from_str(&forwarding.next()).unwrap();
    b.signal("-TERM");
    ended(&mut b.process);
    until("the session has ended", || a.session(&b).is_none().then_some(()));
    let address = listening["address"].as_str().unwrap();
    let waiting: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    for _ in 0..64 {
        assert!(forwarding.next().contains("opened"));
    }
    drop(waiting);
    let first = forwarding.next();
    assert!(first.contains("failed") && first.contains("closed here"), "no more than those wait at once: {first}");
    let mut failed = 1;
    while failed < 100 {
        failed += usize::from(forwarding.next().contains("failed"));
    }
}

#[test]
fn forwarding_waits_for_its_peer_as_long_as_it_is_told() {
    let a = Node::start("");
    let nobody = bowline::messages::PeerId::from_bytes([7; 32]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = format!("{nobody}:22");
    // A little longer than any command waits for an answer of its node by itself.
    let to = format!("tcp://{closed}");
    let output = run(a.home(), &["forward", "0", &target, "--to", &to, "--timeout", "10500ms"]);
    assert_eq!(code(&output), 4);
    assert!(stderr(&output).contains("within 10.5s"), "{}", stderr(&output));
}
