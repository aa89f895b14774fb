//! Whole nodes in virtual time: what the network makes of peers that this node parts with.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bowline_messages::PeerId;
use bowline_messages::event::EventKind;
use bowline_messages::membership::{MemberState, MembershipEvent};
use bowline_messages::session::SessionEnd;

use super::{NetworkConfig, NodeHandle};
use crate::session::trust::Behaviour;
use crate::testing::sim::{LinkShape, NodeOptions, Simulation, run};

const S: Duration = Duration::from_secs(1);

/// Nodes in the network, with these links.
async fn simulation(names: &[&str], links: &[(&str, &str)], seed: u64) -> Simulation {
    let simulation = Simulation::new(seed);
    for name in names {
        let options = NodeOptions { network: Some(NetworkConfig::default()), ..NodeOptions::default() };
        simulation.add_node_with(name, options).unwrap();
    }
    for (one, other) in links {
        simulation.add_link(one, other, "tcp", LinkShape::rtt(Duration::from_millis(20))).unwrap();
    }
    simulation.start().await.unwrap();
    simulation.run_for(S * 8).await;
    simulation
}

async fn graph(node: &NodeHandle) -> Vec<PeerId> {
    node.network().unwrap().graph().await.unwrap().nodes.iter().map(|node| node.peer).collect()
}

async fn members(node: &NodeHandle) -> Vec<PeerId> {
    let members = node.network().unwrap().members().await.unwrap();
    let active = |state: MemberState| state.is_active();
    members.into_iter().filter(|member| active(member.state)).map(|member| member.peer).collect()
}

async fn events(node: &NodeHandle, wanted: impl Fn(&MembershipEvent) -> bool) -> usize {
    let all = node.recent_events(1_000).await.unwrap();
    let wanted = |kind: &EventKind| matches!(kind, EventKind::Membership { what } if wanted(what));
    all.iter().filter(|event| wanted(&event.kind)).count()
}

/// a – b – c – d, and d – e – a round the other side.
#[test]
fn who_is_excluded_is_nobody_in_the_network_of_this_node_and_who_is_readmitted_is_somebody_again() {
    run(async {
        let links = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "a")];
        let simulation = simulation(&["a", "b", "c", "d", "e"], &links, 11).await;
        let (a, c, d) =
            (simulation.handle("a").unwrap(), simulation.peer_id("c").unwrap(), simulation.peer_id("d").unwrap());
        assert_eq!((graph(&a).await.len(), members(&a).await.len()), (5, 4));

        // It has no session with a: what excludes it is a proof from elsewhere, or the user.
        a.services().trust.borrow_mut().exclude(c, "for a test");
        simulation.run_for(S).await;
        assert!(!graph(&a).await.contains(&c) && !members(&a).await.contains(&c));
        let routes = a.network().unwrap().routes(d).await.unwrap();
        assert!(routes.routes.iter().all(|(path, _)| !path.contains(&c)), "{routes:?}");
        // Others go on to speak of it.
        for _ in 0..120 {
            simulation.run_for(S).await;
            assert!(!graph(&a).await.contains(&c) && !members(&a).await.contains(&c));
        }
        assert_eq!(graph(&a).await.len(), 4, "whoever can be reached without it is there");
        assert_eq!(events(&a, |event| *event == MembershipEvent::ShutOut { peer: c }).await, 1);
        let accused = |event: &MembershipEvent| matches!(event, MembershipEvent::Suspected { peer, .. } if *peer == c);
        assert_eq!(events(&a, accused).await, 0);

        assert!(a.services().trust.borrow_mut().readmit(&c));
        simulation.run_for(S * 60).await;
        assert!(graph(&a).await.contains(&c) && members(&a).await.contains(&c));
    });
}

#[test]
fn a_neighbour_that_is_excluded_for_what_it_did_is_gone_from_the_graph_and_from_the_members() {
    run(async {
        let simulation = simulation(&["a", "b", "c"], &[("a", "b"), ("b", "c"), ("c", "a")], 12).await;
        let (a, c) = (simulation.handle("a").unwrap(), simulation.peer_id("c").unwrap());
        let incarnation = a.session(c).await.unwrap().unwrap().ledger().incarnation();
        for _ in 0..8 {
            a.services().observe(c, incarnation, Behaviour::BrokeProtocol);
        }
        simulation.run_for(S).await;
        let ended = |kind: &EventKind| matches!(kind, EventKind::SessionDown { reason: SessionEnd::Excluded(_), .. });
        assert!(a.recent_events(1_000).await.unwrap().iter().any(|event| ended(&event.kind)));
        for _ in 0..60 {
            assert!(!graph(&a).await.contains(&c) && !members(&a).await.contains(&c));
            simulation.run_for(S).await;
        }
    });
}

#[test]
fn a_session_that_is_ended_on_purpose_accuses_nobody() {
    run(async {
        let simulation = simulation(&["a", "b", "c"], &[("a", "b"), ("b", "c"), ("c", "a")], 13).await;
        let (a, c) = (simulation.handle("a").unwrap(), simulation.handle("c").unwrap());
        assert!(a.disconnect(c.id()).await.unwrap());
        simulation.run_for(S * 2).await;
        for node in ["a", "b", "c"] {
            let suspected = |event: &MembershipEvent| matches!(event, MembershipEvent::Suspected { .. });
            assert_eq!(events(&simulation.handle(node).unwrap(), suspected).await, 0, "{node}");
        }
        assert!(members(&a).await.contains(&c.id()), "it is a member all the same");
    });
}
