//! Whole nodes that take part in the network, on virtual time: who is there, what the network looks like, ways through others, healing.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::time::Duration;

use bowline_actors::node::{NetworkConfig, NetworkHandle};
use bowline_actors::testing::sim::{self, Direction, LinkShape, NodeOptions, Simulation};
use bowline_actors::transport::memory::{Change, Cut, Path};
use bowline_messages::membership::{MemberInfo, MemberState};
use bowline_messages::session::Outgoing;
use bowline_messages::topology::TransportHealth;
use bowline_messages::{MessageClass, PeerId, TransportKind};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Nodes with these links between them, `ab` for one between `a` and `b`.
async fn network(seed: u64, links: &[(&str, &str)]) -> Simulation {
    let simulation = Simulation::new(seed);
    let mut names: Vec<&str> = links.iter().flat_map(|(one, other)| [*one, *other]).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let options = NodeOptions { network: Some(NetworkConfig::default()), ..NodeOptions::default() };
        simulation.add_node_with(name, options).unwrap();
    }
    for (one, other) in links {
        let shape = LinkShape { jitter: Duration::from_millis(2), ..LinkShape::rtt(Duration::from_millis(20)) };
        simulation.add_link(one, other, "tcp", shape).unwrap();
    }
    simulation.start().await.unwrap();
    simulation
}

/// Waits until something holds, for so long of virtual time at most; how long it took.
async fn until<F: Future<Output = bool>>(
    simulation: &Simulation,
    what: &str,
    most: Duration,
    mut holds: impl FnMut() -> F,
) -> Duration {
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    while !holds().await {
        assert!(waited < most, "{what}: not within {most:?}\n{}", simulation.log().text());
        simulation.run_for(step).await;
        waited += step;
    }
    waited
}

fn part(simulation: &Simulation, name: &str) -> NetworkHandle {
    simulation.handle(name).unwrap().network().unwrap().clone()
}

/// The names of those that a node thinks of in this way, in alphabetical order.
async fn who(simulation: &Simulation, by: &str, is: impl Fn(&MemberInfo) -> bool) -> Vec<String> {
    let members = part(simulation, by).members().await.unwrap();
    let mut found: Vec<String> =
        members.iter().filter(|member| is(member)).map(|m| name_of(simulation, m.peer)).collect();
    found.sort();
    found
}

async fn in_state(simulation: &Simulation, by: &str, state: MemberState) -> Vec<String> {
    who(simulation, by, |member| member.state == state).await
}

fn name_of(simulation: &Simulation, peer: PeerId) -> String {
    simulation.names().into_iter().find(|name| simulation.peer_id(name).unwrap() == peer).unwrap()
}

/// Whether each of these nodes takes all others, and nobody else, for alive, and sees all of them in one piece.
async fn is_whole(simulation: &Simulation, names: &[&str]) -> bool {
    for by in names {
        let others: Vec<&str> = names.iter().filter(|name| *name != by).copied().collect();
        let view = part(simulation, by);
        let (health, graph) = (view.health().await.unwrap(), view.graph().await.unwrap());
        let one_piece = health.topology.components == 1 && health.topology.nodes as usize == names.len();
        if in_state(simulation, by, MemberState::Alive).await != others
            || !one_piece
            || graph.nodes.len() != names.len()
        {
            return false;
        }
    }
    true
}

/// The transports over which a node reaches another at the moment.
async fn ways(simulation: &Simulation, from: &str, to: &str) -> Vec<String> {
    let handle = simulation.handle(from).unwrap();
    let sessions = handle.sessions(Some(simulation.peer_id(to).unwrap())).await.unwrap();
    let usable = sessions.into_iter().flat_map(|session| session.links).filter(|link| link.state.is_usable());
    let mut kinds: Vec<String> = usable.map(|link| link.info.transport.to_string()).collect();
    kinds.sort();
    kinds
}

async fn say(simulation: &Simulation, from: &str, to: &str, number: u32) {
    let message = Outgoing::new(MessageClass::Critical, number.to_be_bytes().to_vec());
    simulation.send(from, to, message).await.unwrap().unwrap();
}

/// The numbers that came, and the transport each came over is in the log.
fn heard(simulation: &Simulation, by: &str) -> Vec<u32> {
    let received = simulation.received(by).unwrap();
    received.iter().map(|(_, message)| u32::from_be_bytes(message.payload[..].try_into().unwrap())).collect()
}

/// What a node told of the members, as the log has it.
fn told_of_members(simulation: &Simulation, by: &str) -> Vec<String> {
    let journal = format!("{by}.journal");
    let log = simulation.log().text();
    log.lines().filter(|line| line.contains(&journal) && line.contains(" Membership ")).map(str::to_owned).collect()
}

/// Messages that came over a transport.
fn came_over(simulation: &Simulation, by: &str, transport: &str) -> usize {
    let (app, via) = (format!("{by}.app"), format!("via={transport}"));
    let log = simulation.log().text();
    log.lines().filter(|line| line.contains(&app) && line.contains("Received") && line.contains(&via)).count()
}

/// Nobody gets from one to the other directly, until [`open`].
fn close(simulation: &Simulation, one: &str, other: &str) {
    simulation.change(one, other, "tcp", Direction::Both, &Change::Cut(Cut::Vanish));
}

fn open(simulation: &Simulation, one: &str, other: &str) {
    simulation.change(one, other, "tcp", Direction::Both, &Change::Heal);
}

const ROW: [(&str, &str); 2] = [("a", "b"), ("b", "c")];

#[test]
fn three_in_a_row_know_and_reach_each_other() {
    sim::run(async {
        let simulation = network(1, &ROW).await;
        let s = &simulation;
        close(s, "a", "c");
        until(s, "the network is whole", secs(10), || is_whole(s, &["a", "b", "c"])).await;
        s.run_for(secs(6)).await;
        let health = part(s, "b").health().await.unwrap();
        assert_eq!(health.topology.bridge_nodes, [s.peer_id("b").unwrap()]);
        assert_eq!(health.transports["tcp"], TransportHealth { links: 2, well: 2 });
        assert_eq!(health.topology.separation_risk_ahead, None, "nothing changes");
        // Whether there is a way through others is for the routing to say.
        let told = s.handle("a").unwrap().services().own_addresses().unwrap();
        assert_eq!(told.addresses, ["tcp://a"]);

        s.handle("a").unwrap().connect(s.peer_id("c").unwrap(), []).await.unwrap();
        for number in 0..100 {
            say(s, "a", "c", number).await;
            s.run_for(Duration::from_millis(20)).await;
        }
        s.run_for(secs(2)).await;
        assert_eq!(heard(s, "c"), (0..100).collect::<Vec<_>>());
        assert_eq!(came_over(s, "c", "mesh"), 100);
        assert_eq!(ways(s, "a", "c").await, ["mesh"]);
    });
}

/// One side asks for the other whatever the way before the other dials: what it sent through others in vain finds the direct way, and is not needed.
#[test]
fn two_alone_have_no_link_through_others() {
    sim::run(async {
        let simulation = network(11, &[("a", "b")]).await;
        let s = &simulation;
        until(s, "the network is whole", secs(10), || is_whole(s, &["a", "b"])).await;
        let (a, b) = (s.handle("a").unwrap(), s.handle("b").unwrap());
        b.disconnect(a.id()).await.unwrap();
        a.disconnect(b.id()).await.unwrap();
        s.run_for(secs(5)).await;
        a.connect(b.id(), []).await.unwrap();
        s.run_for(Duration::from_millis(700)).await;
        b.connect(a.id(), ["tcp://a".parse().unwrap()]).await.unwrap();
        for _ in 0..200 {
            s.run_for(Duration::from_millis(50)).await;
            for (from, to) in [("a", "b"), ("b", "a")] {
                assert!(!ways(s, from, to).await.contains(&"mesh".to_owned()), "{}", s.log().text());
            }
        }
        assert_eq!(ways(s, "a", "b").await, ["tcp"]);
    });
}

/// Two groups of four, each of whose members has a link to each other one, and a node that joins the two.
const JOINED: [(&str, &str); 14] = [
    ("a1", "a2"),
    ("a1", "a3"),
    ("a1", "a4"),
    ("a2", "a3"),
    ("a2", "a4"),
    ("a3", "a4"),
    ("b1", "b2"),
    ("b1", "b3"),
    ("b1", "b4"),
    ("b2", "b3"),
    ("b2", "b4"),
    ("b3", "b4"),
    ("a1", "m"),
    ("m", "b1"),
];

#[test]
fn two_groups_joined_by_one_node_get_a_second_way_and_outlive_it() {
    sim::run(async {
        let simulation = network(2, &JOINED).await;
        let s = &simulation;
        let (all, left) = (s.names(), ["a1", "a2", "a3", "a4", "b1", "b2", "b3", "b4"]);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        until(s, "the network is whole", secs(20), || is_whole(s, &all)).await;
        let held = |risk: f64| async move { part(s, "a2").health().await.unwrap().topology.separation_risk < risk };
        until(s, "there is a second way", secs(30), || held(0.2)).await;
        s.kill_process("m").unwrap();
        // Nobody is cut off, not even for the time it takes to notice.
        for _ in 0..100 {
            s.run_for(Duration::from_millis(100)).await;
            for by in left {
                let health = part(s, by).health().await.unwrap();
                assert_eq!(health.topology.components, 1, "{by}");
            }
        }
        until(s, "the rest is whole", secs(60), || is_whole(s, &left)).await;
        for by in left {
            assert_eq!(in_state(s, by, MemberState::Down).await, ["m"], "{by}");
        }
    });
}

#[test]
fn a_session_whose_direct_link_is_cut_goes_on_over_the_mesh_and_comes_back() {
    sim::run(async {
        let simulation = network(3, &[("a", "b"), ("b", "c"), ("a", "c")]).await;
        let s = &simulation;
        until(s, "the network is whole", secs(10), || is_whole(s, &["a", "b", "c"])).await;
        let mut number = 0;
        for round in 0..3 {
            for (what, cut) in [("cut", true), ("healed", false)] {
                if cut {
                    close(s, "a", "c");
                } else {
                    open(s, "a", "c");
                }
                for sent in 0..600 {
                    say(s, "a", "c", number).await;
                    number += 1;
                    s.run_for(Duration::from_millis(50)).await;
                    // Five seconds are enough to notice and to make a link through the other.
                    if sent == 100 {
                        assert!(heard(s, "c").len() as u32 + 20 > number, "round {round}, {what}: not within 5 s");
                    }
                }
                let last = heard(s, "c").len();
                assert!(last as u32 + 20 > number, "round {round}, {what}: {last} of {number}");
                let direct = ways(s, "a", "c").await.contains(&"tcp".to_owned());
                assert_eq!(direct, !cut, "round {round}, {what}");
            }
        }
        s.run_for(secs(5)).await;
        assert_eq!(heard(s, "c"), (0..number).collect::<Vec<_>>());
        assert!(s.violations().is_empty());
        assert_eq!(came_over(s, "c", "mesh") + came_over(s, "c", "tcp"), number as usize);
        let log = s.log().text();
        assert!(!log.contains("SessionDown"), "{log}");
    });
}

/// The only way between two is gone for a moment, and then the one who says something is: what its link tried meanwhile was kept on the way, and arrives.
#[test]
fn what_a_peer_says_while_another_is_away_arrives_when_it_is_back_although_the_former_is_gone() {
    sim::run(async {
        let simulation = network(7, &ROW).await;
        let s = &simulation;
        close(s, "a", "c");
        until(s, "the network is whole", secs(10), || is_whole(s, &["a", "b", "c"])).await;
        s.handle("a").unwrap().connect(s.peer_id("c").unwrap(), []).await.unwrap();
        say(s, "a", "c", 0).await;
        until(s, "it arrives", secs(5), || async { heard(s, "c") == [0] }).await;
        s.change("b", "c", "tcp", Direction::Both, &Change::RefuseDials(true));
        s.change("b", "c", "tcp", Direction::Both, &Change::Reset);
        say(s, "a", "c", 1).await;
        s.run_for(secs(1)).await;
        let stored = part(s, "b").routes(s.peer_id("c").unwrap()).await.unwrap().stored;
        assert!(stored > 0);
        s.kill_process("a").unwrap();
        assert_eq!(heard(s, "c"), [0]);
        s.change("b", "c", "tcp", Direction::Both, &Change::RefuseDials(false));
        until(s, "it arrives", secs(8), || async { heard(s, "c") == [0, 1] }).await;
        assert_eq!(came_over(s, "c", "mesh"), 2);
    });
}

#[test]
fn who_leaves_who_fails_and_who_comes_back_are_told_apart() {
    sim::run(async {
        let pairs = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "a")];
        let simulation = network(4, &pairs).await;
        let s = &simulation;
        until(s, "the network is whole", secs(20), || is_whole(s, &["a", "b", "c", "d", "e"])).await;

        s.shut_down("d", secs(1)).unwrap();
        let rest = ["a", "b", "c", "e"];
        until(s, "d has left", secs(5), || async {
            for by in rest {
                if in_state(s, by, MemberState::Left).await != ["d"] {
                    return false;
                }
            }
            true
        })
        .await;

        s.kill_process("c").unwrap();
        until(s, "c is down", secs(60), || async {
            for by in ["a", "b", "e"] {
                if in_state(s, by, MemberState::Down).await != ["c"] {
                    return false;
                }
            }
            true
        })
        .await;
        for by in ["a", "b", "e"] {
            assert_eq!(in_state(s, by, MemberState::Left).await, ["d"], "{by}");
        }

        s.restart("c").await.unwrap();
        s.restart("d").await.unwrap();
        until(s, "the network is whole again", secs(60), || is_whole(s, &["a", "b", "c", "d", "e"])).await;
        for by in ["a", "b", "e"] {
            let told = told_of_members(s, by);
            let of = |peer: &str, words: &[&str]| {
                told.iter()
                    .filter(|told| {
                        told.contains(&format!("peer={peer}")) && words.iter().all(|word| told.contains(word))
                    })
                    .count()
            };
            assert_eq!((of("d", &["left"]), of("d", &["membership=down"])), (1, 0), "{by}: {told:?}");
            assert_eq!((of("c", &["left"]), of("c", &["membership=down", "crash_failure"])), (0, 1), "{by}: {told:?}");
            assert_eq!(of("c", &["returned", "restarted=true", "crash_failure"]), 1, "{by}: {told:?}");
            assert_eq!(of("d", &["returned", "restarted=true"]), 1, "{by}: {told:?}");
        }
    });
}
/// Bytes a second that one node sends when nothing happens: with so many neighbours, each of which has all the others.
async fn idle(neighbours: usize, on: bool) -> f64 {
    let names: Vec<String> = (0..=neighbours).map(|n| format!("n{n}")).collect();
    let simulation = Simulation::new(5);
    for name in &names {
        let options = NodeOptions { network: on.then(NetworkConfig::default), ..NodeOptions::default() };
        simulation.add_node_with(name, options).unwrap();
    }
    for (at, one) in names.iter().enumerate() {
        for other in &names[at + 1..] {
            let shape = LinkShape { jitter: Duration::from_millis(2), ..LinkShape::rtt(Duration::from_millis(20)) };
            simulation.add_link(one, other, "tcp", shape).unwrap();
        }
    }
    simulation.start().await.unwrap();
    simulation.run_for(secs(120)).await;
    let paths: Vec<Path> = names[1..].iter().map(|other| Path::new("n0", other, &TransportKind::new("tcp"))).collect();
    paths.iter().for_each(|path| simulation.network().watch(path, 0));
    simulation.run_for(secs(600)).await;
    paths.iter().map(|path| simulation.network().written(path).bytes as f64).sum::<f64>() / 600.0
}

#[test]
fn what_the_network_costs_when_nothing_happens_is_little() {
    for (neighbours, most) in [(1, 130.0), (4, 60.0), (8, 60.0)] {
        let (with, without) = (sim::run(idle(neighbours, true)), sim::run(idle(neighbours, false)));
        let each = (with - without) / neighbours as f64;
        assert!(
            each < most,
            "{neighbours} neighbours: {with:.0} bytes a second with, {without:.0} without, {each:.0} each"
        );
    }
}
