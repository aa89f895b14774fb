//! Intensity, back-off, escalation.

use std::time::Duration;

use bowline_actors::supervision::{CallError, Intensity, OnExceeded, StartChild, SupervisorSpec, call};
use bowline_messages::supervision::{
    ChildState, EXIT_CODE_SUPERVISION, ExitReason, Kill, Restart, Strategy, SupervisionEvent, Tree,
};

use super::world::*;

#[actix::test]
async fn the_first_restart_is_immediate_and_later_ones_back_off_with_jitter() {
    let world = World::new();
    let root = world.root(Strategy::OneForOne, &["a"]);
    settle().await;
    let mut waits = Vec::new();
    for _ in 0..5 {
        let lives = world.lives.get();
        world.kill(&root, "a").await;
        let begun = tokio::time::Instant::now();
        while world.lives.get() == lives {
            tokio::time::sleep(MS).await;
        }
        waits.push(begun.elapsed());
    }
    assert!(waits[0] <= 2 * MS, "{waits:?}");
    for (number, wait) in waits.iter().enumerate().skip(1) {
        let ceiling = 100 * MS * 2_u32.pow(u32::try_from(number).unwrap()) + 3 * MS;
        assert!(*wait >= 100 * MS && *wait <= ceiling, "{number}: {waits:?}");
    }
    root.shutdown().await;
}

#[actix::test]
async fn the_same_seed_gives_the_same_waits() {
    async fn waits(seed: u64) -> Vec<Duration> {
        let world = World::default();
        let (sink, events) = Sink::start();
        let root = SupervisorSpec::new("node", Strategy::OneForOne)
            .seed(seed)
            .events(sink)
            .child(world.spec("a").0)
            .start_root();
        settle().await;
        for _ in 0..5 {
            world.kill(&root, "a").await;
            tokio::time::sleep(4 * SECOND).await;
        }
        root.shutdown().await;
        let events = events.borrow();
        let waits = events.iter().filter_map(|event| match event {
            SupervisionEvent::ChildRestarting { delay, .. } => Some(*delay),
            SupervisionEvent::ChildStarted { .. }
            | SupervisionEvent::ChildExited { .. }
            | SupervisionEvent::IntensityExceeded { .. } => None,
        });
        waits.collect()
    }
    tokio::time::pause();
    let first = waits(7).await;
    assert_eq!(first.len(), 5);
    assert_eq!(first, waits(7).await);
    assert_ne!(first, waits(8).await);
}

#[actix::test]
async fn one_restart_too_many_ends_the_root_with_its_own_exit_code() {
    let world = World::new();
    let root = world.root(Strategy::OneForOne, &["a", "b"]);
    settle().await;
    for _ in 0..5 {
        world.crash(&root, "b").await;
        tokio::time::sleep(4 * SECOND).await;
    }
    world.take();
    world.crash(&root, "b").await;
    let reason = root.wait().await;
    assert_eq!(reason, ExitReason::IntensityExceeded { child: "b".into() });
    assert_eq!(reason.exit_code(), EXIT_CODE_SUPERVISION);
    assert_eq!(world.take(), ["b dropped", "a stopped"], "the others stop in good order");
    assert!(!root.address().connected());
}

#[actix::test]
async fn crashes_older_than_the_period_are_forgotten() {
    let world = World::new();
    let root = world.root(Strategy::OneForOne, &["a"]);
    settle().await;
    for _ in 0..30 {
        world.crash(&root, "a").await;
        tokio::time::sleep(13 * SECOND).await;
    }
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(world.state(&root, "a").await, ChildState::Running);
    root.shutdown().await;
}

#[actix::test]
async fn intensity_zero_allows_no_restart() {
    let world = World::new();
    let none = Intensity { restarts: 0, period: SECOND };
    let root = SupervisorSpec::new("node", Strategy::OneForOne).intensity(none).child(world.spec("a").0).start_root();
    settle().await;
    root.address().do_send(Kill { path: "a".into() });
    assert_eq!(root.wait().await, ExitReason::IntensityExceeded { child: "a".into() });
}

#[actix::test]
async fn escalation_restarts_the_supervisor_and_its_children_keep_their_addresses() {
    let world = World::new();
    let (spec, worker) = world.spec("worker");
    let (inner, _) = SupervisorSpec::new("inner", Strategy::OneForOne)
        .intensity(Intensity { restarts: 0, period: SECOND })
        .child(spec)
        .child(world.spec("sibling").0)
        .into_child();
    let root = one(inner);
    settle().await;
    world.take();
    worker.do_send(Fault(Where::Handler));
    worker.do_send(Note("kept"));
    settle().await;
    assert_eq!(
        world.take(),
        [
            "worker dropped",
            "sibling stopped",
            "worker new",
            "worker started",
            "worker: kept",
            "sibling new",
            "sibling started"
        ]
    );
    let tree = root.address().send(Tree).await.unwrap();
    assert_eq!(tree.children[0].restarts, 1);
    assert_eq!(tree.children[0].last_error.as_deref(), Some("restart intensity exceeded by worker"));
    root.shutdown().await;
}

#[actix::test]
async fn limits_multiply_up_the_tree_to_the_exit_of_the_node() {
    let world = World::new();
    let limit = |spec: SupervisorSpec| spec.intensity(Intensity { restarts: 2, period: 3600 * SECOND });
    let (worker, _) = world.worker("worker", |worker| worker.panic_in = Some(Stage::Started));
    let (inner, _) = limit(SupervisorSpec::new("inner", Strategy::OneForOne).child(worker)).into_child();
    let root = limit(SupervisorSpec::new("node", Strategy::OneForOne).child(inner)).start_root();
    let reason = root.wait().await;
    assert_eq!(reason, ExitReason::IntensityExceeded { child: "inner".into() });
    assert_eq!(world.lives.get(), 3 * 3);
}

#[actix::test]
async fn a_peers_group_ends_and_costs_nobody_a_restart() {
    let world = World::new();
    let root = SupervisorSpec::new("sessions", Strategy::Dynamic)
        .intensity(Intensity { restarts: 0, period: 3600 * SECOND })
        .start_root();
    for peer in 0..20 {
        let (group, _) = SupervisorSpec::new(format!("peer-{peer}"), Strategy::OneForOne)
            .on_exceeded(OnExceeded::EndGroup)
            .child(world.spec("session").0)
            .child(world.spec("link").0)
            .into_child();
        let group = group.restart(Restart::Temporary);
        root.address().send(StartChild::new(group)).await.unwrap().unwrap();
        settle().await;
        let mut downs = world.watch(&root, &format!("peer-{peer}")).await;
        for _ in 0..6 {
            world.kill(&root, &format!("peer-{peer}/session")).await;
            tokio::time::sleep(4 * SECOND).await;
        }
        let ExitReason::GroupEnded { child, reason } = downs.next_reason().await else {
            panic!("wrong reason");
        };
        assert_eq!(child, "session");
        assert_eq!(reason.label(), "panicked");
    }
    assert_eq!(ids(&root).await, Vec::<String>::new());
    assert_eq!(root.shutdown().await, ExitReason::Shutdown);
}

#[actix::test]
async fn a_significant_child_takes_its_group_with_it_when_it_is_done() {
    let world = World::new();
    let (spec, session) = world.spec("session");
    let root = SupervisorSpec::new("peer", Strategy::OneForOne)
        .child(spec.restart(Restart::Transient).significant())
        .child(world.spec("link").0)
        .start_root();
    settle().await;
    world.take();
    session.do_send(Stop);
    let reason = root.wait().await;
    let ended = ExitReason::GroupEnded { child: "session".into(), reason: Box::new(ExitReason::Normal) };
    assert_eq!(reason, ended);
    assert_eq!(reason.exit_code(), 0);
    assert_eq!(world.take(), ["session stopped", "link stopped"]);
}

#[actix::test]
async fn a_supervisor_that_crashes_takes_its_children_along_and_gets_them_back() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let (inner, inner_address) = SupervisorSpec::new("inner", Strategy::OneForOne).child(spec).into_child();
    let root = one(inner);
    settle().await;
    let (added, b) = world.spec("b");
    inner_address.send(StartChild::new(added)).await.unwrap().unwrap();
    settle().await;
    world.take();
    world.kill(&root, "inner").await;
    tokio::time::sleep(MS).await;
    let mut log = world.take();
    log[..2].sort();
    assert_eq!(log, ["a dropped", "b dropped", "a new", "a started"]);
    assert_eq!(call(&a, Ping).await, Ok(1));
    assert_eq!(call(&b, Ping).await, Err(CallError::Closed), "added at run time: gone");
    root.shutdown().await;
}
