//! The record of a link that died: dialled again, recovered by another one, or not.

use bowline_messages::link::LinkStep;

use bowline_messages::EndpointAddress;

use super::*;
use crate::testing::sim::{Direction, LinkShape, Simulation, run};
use crate::transport::memory::Change;

/// The steps of a link, with the link that stands for it where one is named.
fn steps(world: &World, id: LinkId) -> Vec<(LinkState, LinkStep, LinkState, Option<LinkId>)> {
    let step = |event: &EventKind| {
        let EventKind::LinkStep { link, from, to, step, successor, .. } = event else { return None };
        (*link == id).then_some((*from, *step, *to, *successor))
    };
    world.ends[0].events.iter().filter_map(step).collect()
}

fn dead() -> (World, LinkId) {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.link(2, "ws", 8 * MS, 0);
    world.run(50 * MS);
    world.reset(one);
    (world, one)
}

fn address(text: &str) -> EndpointAddress {
    text.parse().unwrap()
}

#[test]
fn a_dial_of_its_address_is_the_attempt_and_a_new_link_the_recovery() {
    let (mut world, one) = dead();
    let failed = world.ends[0].session.failed();
    assert_eq!((failed[0].info.id, failed[0].state, failed[0].attempts), (one, LinkState::Failed, 0));
    for _ in 0..2 {
        world.ends[0].session.on_dialling(world.now, &address("tcp://b"));
        world.ends[0].session.on_dialling(world.now, &address("tcp://b"));
        assert_eq!(world.ends[0].session.failed()[0].state, LinkState::Recovering);
        world.ends[0].session.on_dial_failed(world.now, &address("tcp://b"), "refused");
    }
    assert_eq!(world.ends[0].session.failed()[0].attempts, 2);
    world.ends[0].session.on_dialling(world.now, &address("ws://b"));
    world.ends[0].session.on_dialling(world.now, &address("tcp://elsewhere"));
    assert_eq!(world.ends[0].session.failed()[0].state, LinkState::Failed, "these lead elsewhere");
    world.ends[0].session.on_dialling(world.now, &address("tcp://b"));
    let again = world.link(3, "tcp", 5 * MS, 0);
    world.pump();
    let attempt = (LinkState::Failed, LinkStep::RecoveryAttempt, LinkState::Recovering, None);
    let missed = (LinkState::Recovering, LinkStep::RecoveryFailed, LinkState::Failed, None);
    let recovered = (LinkState::Recovering, LinkStep::Recovered, LinkState::Active, Some(again));
    assert_eq!(steps(&world, one)[2..], [attempt, missed, attempt, missed, attempt, recovered]);
    assert!(world.ends[0].session.failed().is_empty());
}

#[test]
fn the_side_that_is_dialled_sees_the_recovery_too() {
    let (mut world, one) = dead();
    let again = world.link(3, "tcp", 5 * MS, 0);
    world.pump();
    world.run(50 * MS);
    let recovered = |event: &EventKind| {
        matches!(event, EventKind::LinkStep { link, step: LinkStep::Recovered, successor, .. }
            if *link == one && *successor == Some(again))
    };
    assert!(world.ends.iter().all(|end| end.events.iter().any(recovered)));
}

#[test]
fn what_was_closed_on_purpose_or_stands_over_another_link_has_no_record() {
    let mut world = World::new();
    let (one, two) = (world.link(1, "tcp", 5 * MS, 0), world.link(2, "ws", 8 * MS, 0));
    world.run(50 * MS);
    let now = world.now;
    let on_purpose = LinkFailure::ClosedHere("by hand".into());
    world.ends[0].with(|s, parts| s.on_link_down(now, two, on_purpose, parts));
    assert!(world.ends[0].session.failed().is_empty());
    let failed = LinkFailure::Transport("reset".into());
    world.ends[0].with(|s, parts| s.on_link_down(now, one, failed, parts));
    assert_eq!(world.ends[0].session.failed().len(), 1);
}

/// Whether the record of a link ended without a successor.
fn forgotten(world: &World, id: LinkId) -> bool {
    steps(world, id).last() == Some(&(LinkState::Failed, LinkStep::Closed, LinkState::Closed, None))
}

#[test]
fn a_record_that_nothing_is_done_about_is_forgotten() {
    let (mut world, one) = dead();
    let session = &mut world.ends[0].session;
    let mut now = world.now;
    // As long as somebody tries, it stays.
    for _ in 0..50 {
        now += Duration::from_secs(30);
        session.age_failed(now);
        session.on_dialling(now, &address("tcp://b"));
        session.on_dial_failed(now, &address("tcp://b"), "refused");
    }
    assert_eq!(session.failed()[0].attempts, 50);
    let until = session.failed_deadline().unwrap();
    assert_eq!(until, now + Duration::from_secs(600));
    session.age_failed(until - MS);
    assert_eq!(session.failed().len(), 1);
    session.age_failed(until);
    assert_eq!((session.failed(), session.failed_deadline()), (Vec::new(), None));
    world.pump();
    assert!(forgotten(&world, one), "{:?}", steps(&world, one));
}

#[test]
fn an_attempt_of_which_nothing_is_heard_has_failed_in_the_end() {
    let (mut world, one) = dead();
    let session = &mut world.ends[0].session;
    session.on_dialling(world.now, &address("tcp://b"));
    assert_eq!(session.failed()[0].state, LinkState::Recovering);
    let until = session.failed_deadline().unwrap();
    assert_eq!(until, world.now + Duration::from_secs(60));
    session.age_failed(until);
    assert_eq!(session.failed()[0].state, LinkState::Failed);
    world.pump();
    let missed = (LinkState::Recovering, LinkStep::RecoveryFailed, LinkState::Failed, None);
    assert_eq!(steps(&world, one).last(), Some(&missed));
}

#[test]
fn of_the_links_of_a_peer_that_roams_the_last_are_remembered() {
    let mut world = World::new();
    let mut ids = Vec::new();
    for number in 1..=100 {
        let id = world.link(number, &format!("t{number}"), 5 * MS, 0);
        world.run(100 * MS);
        world.reset(id);
        ids.push(id);
    }
    let mut known: Vec<_> = world.ends[0].session.failed().into_iter().map(|failed| failed.info.id).collect();
    known.sort();
    assert_eq!(known, ids[36..]);
    assert!(ids[..36].iter().all(|id| forgotten(&world, *id)));
}

#[test]
fn links_that_die_again_and_again_leave_a_bounded_number_of_records() {
    let mut world = World::new();
    for number in 1..200 {
        let id = world.link(number, &format!("t{number}"), 5 * MS, 0);
        world.pump();
        world.reset(id);
    }
    assert_eq!(world.ends[0].session.failed().len(), 64);
}

#[test]
fn what_is_known_of_a_way_outlives_a_panic_of_the_sessions_actor() {
    run(async {
        let simulation = Simulation::new(7);
        for name in ["a", "b"] {
            simulation.add_node(name).unwrap();
        }
        for kind in ["tcp", "ble"] {
            simulation.add_link("a", "b", kind, LinkShape::rtt(20 * MS)).unwrap();
        }
        simulation.start().await.unwrap();
        simulation.run_for(Duration::from_secs(2)).await;
        let tcp = |change| simulation.change("a", "b", "tcp", Direction::Both, &change);
        let status = async || simulation.handle("a").unwrap().sessions(None).await.unwrap().remove(0);
        tcp(Change::RefuseDials(true));
        tcp(Change::Reset);
        simulation.run_for(Duration::from_secs(1)).await;
        let dead = status().await.failed.remove(0).info.id;
        simulation.kill_actor("a", "session").await.unwrap();
        simulation.run_for(Duration::from_secs(1)).await;
        let failed = status().await.failed;
        assert_eq!(failed.iter().map(|failed| failed.info.id).collect::<Vec<_>>(), [dead]);
        tcp(Change::RefuseDials(false));
        simulation.run_for(Duration::from_secs(60)).await;
        let status = status().await;
        assert!(status.failed.is_empty(), "{:?}", status.failed);
        let again = status.links.iter().find(|link| link.info.transport.as_str() == "tcp").unwrap();
        assert!(again.flap_penalty > 0.0, "{again:?}");
    });
}
