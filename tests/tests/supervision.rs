//! The supervisor's behaviour, clause by clause as OTP's documentation and test suite give it, on real actors in virtual
//! time. The pure policy has its own tests beside it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use bowline_actors::supervision::{
    Backoff, CallError, ChildSpec, Context, Intensity, OnExceeded, RootHandle, StartChild, SupervisorActor,
    SupervisorSpec, call, call_within, notify,
};
use bowline_messages::supervision::{
    ChildCounts, ChildError, ChildKind, ChildState, CountChildren, DeleteChild, Down, EXIT_CODE_SUPERVISION,
    ExitReason, Kill, Monitor, Restart, RestartChild, ShutdownMode, Strategy, SupervisionEvent, TerminateChild, Tree,
    WhichChildren,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

// ---- starting and stopping

#[actix::test]
async fn children_start_in_order_each_when_the_one_before_runs() {
    let world = World::new();
    let root = world.root(Strategy::OneForOne, &["a", "b", "c"]);
    settle().await;
    assert_eq!(world.take(), ["a new", "a started", "b new", "b started", "c new", "c started"]);
    root.shutdown().await;
}

#[actix::test]
async fn a_child_that_cannot_start_keeps_later_ones_from_starting() {
    let world = World::new();
    let failing = world.worker("b", |worker| worker.panic_in = Some(Stage::Started));
    let root = SupervisorSpec::new("node", Strategy::OneForOne)
        .child(world.spec("a").0)
        .child(failing.0)
        .child(world.spec("c").0)
        .start_root();
    let reason = root.wait().await;
    assert_eq!(reason, ExitReason::IntensityExceeded { child: "b".into() });
    let log = world.take();
    assert_eq!(log.iter().filter(|line| *line == "b new").count(), 6, "{log:?}");
    assert!(!log.iter().any(|line| line.starts_with("c ")), "{log:?}");
    assert_eq!(log.last().unwrap(), "a stopped");
}

#[actix::test]
async fn children_stop_in_reverse_order() {
    let world = World::new();
    let root = world.root(Strategy::OneForOne, &["a", "b", "c"]);
    settle().await;
    world.take();
    assert_eq!(root.shutdown().await, ExitReason::Shutdown);
    assert_eq!(world.take(), ["c stopped", "b stopped", "a stopped"]);
    assert_eq!(ExitReason::Shutdown.exit_code(), 0);
}

#[actix::test]
async fn a_child_has_its_time_to_stop_and_the_next_waits_for_it() {
    let world = World::new();
    let slow = world.worker("b", |worker| worker.linger = Some(3 * SECOND));
    let root = SupervisorSpec::new("node", Strategy::OneForOne).child(world.spec("a").0).child(slow.0).start_root();
    settle().await;
    world.take();
    let begun = tokio::time::Instant::now();
    root.shutdown().await;
    assert!(begun.elapsed() >= 3 * SECOND && begun.elapsed() < 4 * SECOND);
    assert_eq!(world.take(), ["b lingers", "b stopped", "a stopped"]);
}

#[actix::test]
async fn a_child_that_overstays_its_deadline_is_cut_off() {
    let world = World::new();
    let (stubborn, _) = world.worker("b", |worker| worker.linger = Some(3600 * SECOND));
    let root = SupervisorSpec::new("node", Strategy::OneForOne)
        .child(world.spec("a").0)
        .child(stubborn.shutdown(ShutdownMode::Timeout(2 * SECOND)))
        .start_root();
    settle().await;
    let mut downs = world.watch(&root, "b").await;
    world.take();
    let begun = tokio::time::Instant::now();
    root.shutdown().await;
    assert!(begun.elapsed() >= 2 * SECOND && begun.elapsed() < 3 * SECOND);
    assert_eq!(world.take(), ["b lingers", "b dropped", "a stopped"]);
    assert_eq!(downs.next_reason().await, ExitReason::Killed);
}

#[actix::test]
async fn brutal_kill_asks_nobody() {
    let world = World::new();
    let (spec, _) = world.worker("a", |worker| worker.linger = Some(SECOND));
    let root =
        SupervisorSpec::new("node", Strategy::OneForOne).child(spec.shutdown(ShutdownMode::BrutalKill)).start_root();
    settle().await;
    world.take();
    root.shutdown().await;
    assert_eq!(world.take(), ["a dropped"]);
}

#[actix::test]
async fn infinity_waits_as_long_as_it_takes() {
    let world = World::new();
    let (spec, _) = world.worker("a", |worker| worker.linger = Some(7200 * SECOND));
    let root =
        SupervisorSpec::new("node", Strategy::OneForOne).child(spec.shutdown(ShutdownMode::Infinity)).start_root();
    settle().await;
    world.take();
    root.shutdown().await;
    assert_eq!(world.take(), ["a lingers", "a stopped"]);
}

#[actix::test]
async fn shutdown_while_a_child_waits_for_its_restart() {
    let world = World::new();
    let root = world.root(Strategy::OneForOne, &["a", "b"]);
    settle().await;
    world.crash(&root, "b").await;
    world.crash(&root, "b").await;
    assert_eq!(world.state(&root, "b").await, ChildState::Restarting);
    world.take();
    assert_eq!(root.shutdown().await, ExitReason::Shutdown);
    assert_eq!(world.take(), ["a stopped"]);
}

// ---- restart types

#[actix::test]
async fn a_permanent_child_is_restarted_after_any_end() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let root = one(spec.restart(Restart::Permanent));
    settle().await;
    a.do_send(Stop);
    settle().await;
    assert_eq!(world.take(), ["a new", "a started", "a stopped", "a new", "a started"]);
    a.do_send(Fault(Where::Handler));
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.take(), ["a dropped", "a new", "a started"]);
    root.shutdown().await;
}

#[actix::test]
async fn a_transient_child_is_restarted_after_an_abnormal_end_only() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let root = one(spec.restart(Restart::Transient));
    settle().await;
    a.do_send(Fault(Where::Handler));
    settle().await;
    assert_eq!(world.take(), ["a new", "a started", "a dropped", "a new", "a started"]);
    a.do_send(Fail);
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.take(), ["a stopped", "a new", "a started"]);
    a.do_send(Stop);
    settle().await;
    assert_eq!(world.take(), ["a stopped"]);
    assert_eq!(world.state(&root, "a").await, ChildState::Down);
    root.shutdown().await;
}

#[actix::test]
async fn a_temporary_child_is_never_restarted_and_is_forgotten() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let (once, b) = ChildSpec::once("b", world.factory("b", |_| {}));
    let root =
        SupervisorSpec::new("node", Strategy::Dynamic).child(spec.restart(Restart::Temporary)).child(once).start_root();
    settle().await;
    a.do_send(Fault(Where::Handler));
    b.do_send(Stop);
    settle().await;
    assert_eq!(root.address().send(WhichChildren).await.unwrap(), vec![]);
    root.shutdown().await;
    assert!(!a.connected() && !b.connected());
}

// ---- strategies

#[actix::test]
async fn one_for_one_leaves_the_others_alone() {
    let world = World::new();
    let root = world.root(Strategy::OneForOne, &["a", "b", "c"]);
    settle().await;
    world.take();
    world.crash(&root, "b").await;
    assert_eq!(world.take(), ["b dropped", "b new", "b started"]);
    root.shutdown().await;
}

#[actix::test]
async fn one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() {
    let world = World::new();
    let root = world.root(Strategy::OneForAll, &["a", "b", "c"]);
    settle().await;
    world.take();
    world.crash(&root, "b").await;
    assert_eq!(
        world.take(),
        ["b dropped", "c stopped", "a stopped", "a new", "a started", "b new", "b started", "c new", "c started"]
    );
    root.shutdown().await;
}

#[actix::test]
async fn rest_for_one_restarts_the_one_and_those_after_it() {
    let world = World::new();
    let root = world.root(Strategy::RestForOne, &["a", "b", "c"]);
    settle().await;
    world.take();
    world.crash(&root, "b").await;
    assert_eq!(world.take(), ["b dropped", "c stopped", "b new", "b started", "c new", "c started"]);
    root.shutdown().await;
}

#[actix::test]
async fn a_group_restart_forgets_temporary_and_revives_finished_siblings() {
    let world = World::new();
    let (finished, b) = world.spec("b");
    let root = SupervisorSpec::new("node", Strategy::OneForAll)
        .child(world.spec("a").0)
        .child(finished.restart(Restart::Transient))
        .child(world.spec("c").0.restart(Restart::Temporary))
        .start_root();
    settle().await;
    b.do_send(Stop);
    settle().await;
    world.take();
    world.crash(&root, "a").await;
    assert_eq!(world.take(), ["a dropped", "c stopped", "a new", "a started", "b new", "b started"]);
    root.shutdown().await;
}

#[actix::test]
async fn a_second_crash_during_a_group_restart_starts_it_over() {
    let world = World::new();
    let fragile = world.worker("b", |worker| worker.panic_in_life = Some((1, Stage::Started)));
    let root = SupervisorSpec::new("node", Strategy::OneForAll).child(world.spec("a").0).child(fragile.0).start_root();
    settle().await;
    world.take();
    world.crash(&root, "a").await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        world.take(),
        [
            "a dropped",
            "b stopped",
            "a new",
            "a started",
            "b new",
            "b dropped",
            "a stopped",
            "a new",
            "a started",
            "b new",
            "b started"
        ]
    );
    root.shutdown().await;
}

#[actix::test]
async fn dynamic_children_come_and_go_and_stop_all_at_once() {
    let world = World::new();
    let root = SupervisorSpec::new("peers", Strategy::Dynamic).start_root();
    for id in ["a", "b", "c"] {
        let (spec, _) = world.worker(id, |worker| worker.linger = Some(4 * SECOND));
        assert_eq!(root.address().send(StartChild::new(spec)).await.unwrap(), Ok(()));
    }
    settle().await;
    world.take();
    let ended = root.address().send(TerminateChild { id: "b".into() }).await;
    assert_eq!(ended.unwrap(), Ok(()));
    assert_eq!(ids(&root).await, ["a", "c"]);
    let begun = tokio::time::Instant::now();
    root.shutdown().await;
    assert!(begun.elapsed() < 5 * SECOND, "stopped one after the other");
}

// ---- intensity, back-off, escalation

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

// ---- orders

#[actix::test]
async fn start_child_refuses_an_id_twice() {
    let world = World::new();
    let root = world.root(Strategy::OneForOne, &["a"]);
    let again = root.address().send(StartChild::new(world.spec("a").0)).await.unwrap();
    assert_eq!(again, Err(ChildError::AlreadyPresent { id: "a".into() }));
    root.shutdown().await;
}

#[actix::test]
async fn start_child_from_another_thread() {
    let world = World::new();
    let root = world.root(Strategy::OneForOne, &[]);
    let address = root.address().clone();
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        address.do_send(StartChild::from_elsewhere(|| ChildSpec::new("far", || Plain).0));
        answer.send(()).unwrap();
    });
    answered.await.unwrap();
    settle().await;
    assert_eq!(ids(&root).await, ["far"]);
    root.shutdown().await;
}

#[actix::test]
async fn terminate_restart_and_delete_child() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let root = one(spec);
    settle().await;
    let id = || "a".to_string();
    let supervisor = root.address().clone();
    let running = Err(ChildError::Running { id: id() });
    assert_eq!(supervisor.send(RestartChild { id: id() }).await.unwrap(), running);
    assert_eq!(supervisor.send(DeleteChild { id: id() }).await.unwrap(), running);

    assert_eq!(supervisor.send(TerminateChild { id: id() }).await.unwrap(), Ok(()));
    assert_eq!(world.state(&root, "a").await, ChildState::Down);
    assert_eq!(call(&a, Ping).await, Err(CallError::Lost), "down: refused at once");
    assert_eq!(supervisor.send(TerminateChild { id: id() }).await.unwrap(), Ok(()), "twice is once");

    assert_eq!(supervisor.send(RestartChild { id: id() }).await.unwrap(), Ok(()));
    assert_eq!(call(&a, Ping).await, Ok(1), "the address it had");

    assert_eq!(supervisor.send(TerminateChild { id: id() }).await.unwrap(), Ok(()));
    assert_eq!(supervisor.send(DeleteChild { id: id() }).await.unwrap(), Ok(()));
    let unknown = Err(ChildError::NotFound { id: id() });
    assert_eq!(supervisor.send(RestartChild { id: id() }).await.unwrap(), unknown);
    assert_eq!(supervisor.send(TerminateChild { id: id() }).await.unwrap(), unknown);
    root.shutdown().await;
    assert_eq!(call(&a, Ping).await, Err(CallError::Closed));
}

#[actix::test]
async fn a_child_waiting_for_its_restart_can_be_terminated_but_not_restarted() {
    let world = World::new();
    let root = world.root(Strategy::OneForOne, &["a"]);
    settle().await;
    world.crash(&root, "a").await;
    world.crash(&root, "a").await;
    let supervisor = root.address().clone();
    let restarting = Err(ChildError::Restarting { id: "a".into() });
    assert_eq!(supervisor.send(RestartChild { id: "a".into() }).await.unwrap(), restarting);
    assert_eq!(supervisor.send(TerminateChild { id: "a".into() }).await.unwrap(), Ok(()));
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(world.state(&root, "a").await, ChildState::Down);
    root.shutdown().await;
}

#[actix::test]
async fn which_and_count_children() {
    let world = World::new();
    let (inner, _) = SupervisorSpec::new("inner", Strategy::OneForAll).into_child();
    let (done, b) = world.spec("b");
    let root = SupervisorSpec::new("node", Strategy::OneForOne)
        .child(world.spec("a").0)
        .child(done.restart(Restart::Transient))
        .child(inner)
        .start_root();
    settle().await;
    b.do_send(Stop);
    settle().await;
    let children = root.address().send(WhichChildren).await.unwrap();
    let seen: Vec<_> = children.iter().map(|c| (c.id.as_str(), c.kind, c.state)).collect();
    assert_eq!(
        seen,
        [
            ("a", ChildKind::Worker, ChildState::Running),
            ("b", ChildKind::Worker, ChildState::Down),
            ("inner", ChildKind::Supervisor, ChildState::Running)
        ]
    );
    let counts = root.address().send(CountChildren).await.unwrap();
    assert_eq!(counts, ChildCounts { specs: 3, active: 2, supervisors: 1, workers: 2 });
    root.shutdown().await;
}

#[actix::test]
async fn kill_panics_a_child_anywhere_below() {
    let world = World::new();
    let (inner, _) = SupervisorSpec::new("inner", Strategy::OneForOne).child(world.spec("a").0).into_child();
    let root = one(inner);
    settle().await;
    let mut downs = world.watch(&root, "inner/a").await;
    assert_eq!(root.address().send(Kill { path: "inner/a".into() }).await.unwrap(), Ok(()));
    let reason = downs.next_reason().await;
    assert!(matches!(&reason, ExitReason::Panicked { message } if message.starts_with("killed by request")));
    for path in ["nobody", "inner/nobody", "inner/a/deeper"] {
        let refused = root.address().send(Kill { path: path.into() }).await.unwrap();
        assert!(matches!(refused, Err(ChildError::NotFound { .. })), "{path}: {refused:?}");
    }
    root.shutdown().await;
}

// ---- containment

#[actix::test]
async fn a_panic_anywhere_is_contained_and_healed() {
    tokio::time::pause();
    for place in [Where::Handler, Where::Timer, Where::Interval, Where::Stream, Where::Future, Where::Wait] {
        let world = World::default();
        let (spec, a) = world.spec("a");
        let root = SupervisorSpec::new("node", Strategy::OneForOne).child(spec).child(world.spec("b").0).start_root();
        settle().await;
        let mut downs = world.watch(&root, "a").await;
        world.take();
        a.do_send(Fault(place));
        tokio::time::sleep(100 * MS).await;
        let reason = downs.next_reason().await;
        assert!(
            matches!(&reason, ExitReason::Panicked { message } if message.contains("fault")),
            "{place:?} {reason:?}"
        );
        assert_eq!(world.take(), ["a dropped", "a new", "a started"], "{place:?}");
        assert_eq!(call(&a, Ping).await, Ok(1), "{place:?}");
        root.shutdown().await;
    }
}

#[actix::test]
async fn a_panic_while_starting_or_stopping_is_contained() {
    tokio::time::pause();
    for stage in [Stage::Factory, Stage::Started] {
        let world = World::default();
        let (spec, a) = world.worker("a", move |worker| worker.panic_in_life = Some((0, stage)));
        let root = one(spec);
        tokio::time::sleep(SECOND).await;
        assert_eq!(call(&a, Ping).await, Ok(1), "{stage:?}");
        root.shutdown().await;
    }
    for stage in [Stage::Stopping, Stage::Stopped, Stage::Drop] {
        let world = World::default();
        let (spec, a) = world.worker("a", move |worker| worker.panic_in_life = Some((0, stage)));
        let root = one(spec);
        settle().await;
        let mut downs = world.watch(&root, "a").await;
        a.do_send(Stop);
        assert_eq!(downs.next_reason().await.label(), "panicked", "{stage:?}");
        settle().await;
        assert_eq!(call(&a, Ping).await, Ok(1), "{stage:?}");
        root.shutdown().await;
    }
}

#[actix::test]
async fn timers_and_futures_of_a_former_life_are_gone() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let root = one(spec);
    settle().await;
    a.do_send(Later(Duration::from_millis(500)));
    settle().await;
    world.crash(&root, "a").await;
    world.take();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(world.take(), Vec::<String>::new());
    root.shutdown().await;
}

// ---- address, mailbox, state

#[actix::test]
async fn only_the_message_in_hand_is_lost_and_its_sender_is_told() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let root = one(spec);
    settle().await;
    let lost = call(&a, Fault(Where::Handler));
    let (lost, first, second) = tokio::join!(lost, call(&a, Ping), call(&a, Ping));
    assert_eq!(lost, Err(CallError::Lost));
    assert_eq!((first, second), (Ok(1), Ok(2)), "queued behind it: handled by the next life");
    assert!(a.connected());
    root.shutdown().await;
    assert_eq!(call(&a, Ping).await, Err(CallError::Closed));
    assert_eq!(notify(&a, Stop), Err(CallError::Closed));
}

#[actix::test]
async fn an_answer_that_hung_on_a_future_of_the_dead_life_is_lost_too() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let root = one(spec);
    settle().await;
    let slow = actix::spawn({
        let a = a.clone();
        async move { call(&a, Slow).await }
    });
    settle().await;
    world.kill(&root, "a").await;
    assert_eq!(slow.await.unwrap(), Err(CallError::Lost));
    assert_eq!(call_within(&a, Slow, SECOND).await, Err(CallError::Timeout));
    root.shutdown().await;
}

#[actix::test]
async fn a_restart_begins_from_the_start_arguments() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let root = one(spec);
    assert_eq!(call(&a, Ping).await, Ok(1));
    assert_eq!(call(&a, Ping).await, Ok(2));
    world.crash(&root, "a").await;
    assert_eq!(call(&a, Ping).await, Ok(1));
    root.shutdown().await;
}

#[actix::test]
async fn siblings_keep_their_mailboxes_through_a_group_restart() {
    let world = World::new();
    let (spec, b) = world.spec("b");
    let (first, a) = world.spec("a");
    let root = SupervisorSpec::new("node", Strategy::OneForAll).child(first).child(spec).start_root();
    settle().await;
    b.do_send(Hold(50 * MS));
    b.do_send(Note("queued while busy"));
    settle().await;
    world.take();
    a.do_send(Fault(Where::Handler));
    settle().await;
    b.do_send(Note("queued later"));
    tokio::time::sleep(100 * MS).await;
    let log = world.take();
    let notes: Vec<_> = log.iter().filter(|line| line.starts_with("b: ")).collect();
    assert_eq!(notes, ["b: queued while busy", "b: queued later"], "{log:?}");
    assert_eq!(log[..2], ["a dropped", "b stopped"]);
    root.shutdown().await;
}

#[actix::test]
async fn the_bound_of_a_mailbox_holds_also_when_it_was_counted() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let root = one(spec.mailbox(8));
    settle().await;
    a.do_send(Hold(3600 * SECOND));
    settle().await;
    let fill = || {
        let mut taken = 0;
        while notify(&a, Note("fill")).is_ok() {
            taken += 1;
            assert!(taken < 100, "no bound");
        }
        taken
    };
    assert_eq!(fill(), 8);
    let depth = async || root.address().send(Tree).await.unwrap().children[0].mailbox;
    assert_eq!(depth().await, Some(8));
    for _ in 0..10 {
        fill();
        depth().await;
    }
    assert!(depth().await.unwrap() < 32, "counting opened the mailbox");
    root.shutdown().await;
}

// ---- seeing

#[actix::test]
async fn a_monitor_is_told_once_with_the_reason() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let root = one(spec);
    settle().await;
    for (message, label) in [(Where::Stop, "normal"), (Where::Handler, "panicked"), (Where::Fail, "failed")] {
        let mut downs = world.watch(&root, "a").await;
        a.do_send(Fault(message));
        tokio::time::sleep(SECOND).await;
        assert_eq!(downs.next_reason().await.label(), label);
        world.kill(&root, "a").await;
        tokio::time::sleep(70 * SECOND).await;
        assert!(downs.is_empty(), "told of a life that was not watched");
    }
    let mut downs = world.watch(&root, "a").await;
    root.shutdown().await;
    assert_eq!(downs.next_reason().await, ExitReason::Shutdown);
}

#[actix::test]
async fn monitoring_the_dead_answers_at_once() {
    let world = World::new();
    let (inner, _) = SupervisorSpec::new("inner", Strategy::OneForOne).into_child();
    let root = SupervisorSpec::new("node", Strategy::OneForOne).child(inner).child(world.spec("a").0).start_root();
    settle().await;
    root.address().send(TerminateChild { id: "a".into() }).await.unwrap().unwrap();
    for path in ["nobody", "inner/nobody", "a", "a/deeper"] {
        let mut downs = world.watch(&root, path).await;
        let down = downs.next().await;
        assert_eq!(down, Down { path: path.into(), reason: ExitReason::NoActor });
    }
    root.shutdown().await;
}

#[actix::test]
async fn the_live_tree_shows_states_restarts_depth_errors_and_uptime() {
    let world = World::new();
    let (spec, a) = world.spec("a");
    let (inner, _) = SupervisorSpec::new("inner", Strategy::RestForOne).child(spec).into_child();
    let root = SupervisorSpec::new("node", Strategy::OneForOne).child(inner).start_root();
    settle().await;
    world.kill(&root, "inner/a").await;
    world.kill(&root, "inner/a").await;
    for _ in 0..3 {
        a.do_send(Note("waits"));
    }
    let (tree, again) = tokio::join!(root.address().send(Tree), root.address().send(Tree));
    let tree = tree.unwrap();
    assert_eq!(again.unwrap().children, tree.children, "two may ask at once");
    assert_eq!((tree.id.as_str(), tree.strategy), ("node", Some(Strategy::OneForOne)));
    let inner = &tree.children[0];
    assert_eq!((inner.strategy, inner.mailbox), (Some(Strategy::RestForOne), Some(0)));
    let seen = &inner.children[0];
    assert_eq!((seen.state, seen.restarts, seen.mailbox), (ChildState::Restarting, 1, Some(3)));
    assert!(seen.last_error.as_ref().unwrap().starts_with("panicked: killed by request"));
    assert_eq!(seen.uptime, None);
    tokio::time::sleep(10 * SECOND).await;
    let tree = root.address().send(Tree).await.unwrap();
    let seen = &tree.children[0].children[0];
    assert_eq!((seen.state, seen.restarts, seen.mailbox), (ChildState::Running, 2, Some(0)));
    assert!(seen.uptime.unwrap() > 9 * SECOND);
    let text = serde_json::to_string(&tree).unwrap();
    assert_eq!(serde_json::from_str::<bowline_messages::supervision::TreeNode>(&text).unwrap(), tree);
    root.shutdown().await;
}

#[actix::test]
async fn the_tree_answers_while_a_supervisor_below_waits_for_its_restart() {
    let world = World::new();
    let (inner, _) = SupervisorSpec::new("inner", Strategy::OneForOne).child(world.spec("a").0).into_child();
    let root = one(inner);
    settle().await;
    world.kill(&root, "inner").await;
    settle().await;
    world.kill(&root, "inner").await;
    let tree = root.address().send(Tree).await.unwrap();
    assert_eq!(tree.children[0].state, ChildState::Restarting);
    assert!(tree.children[0].children.is_empty());
    root.shutdown().await;
}

#[actix::test]
async fn every_start_exit_restart_and_escalation_is_an_event() {
    let world = World::new();
    let (sink, events) = Sink::start();
    let root = SupervisorSpec::new("node", Strategy::OneForOne)
        .intensity(Intensity { restarts: 1, period: SECOND })
        .backoff(Backoff::default())
        .events(sink)
        .child(world.spec("a").0)
        .start_root();
    settle().await;
    world.kill(&root, "a").await;
    settle().await;
    root.address().do_send(Kill { path: "a".into() });
    root.wait().await;
    settle().await;
    let path = || "node/a".to_string();
    let reason = || ExitReason::Panicked { message: "killed by request".into() };
    assert_eq!(
        *events.borrow(),
        [
            SupervisionEvent::ChildStarted { path: path(), restarts: 0 },
            SupervisionEvent::ChildExited { path: path(), reason: reason() },
            SupervisionEvent::ChildRestarting { path: path(), delay: Duration::ZERO },
            SupervisionEvent::ChildStarted { path: path(), restarts: 1 },
            SupervisionEvent::ChildExited { path: path(), reason: reason() },
            SupervisionEvent::IntensityExceeded { path: "node".into(), child: "a".into(), escalates: true },
        ]
    );
}

#[actix::test]
async fn a_busy_child_lets_the_others_have_their_turn() {
    let world = World::new();
    let (first, a) = world.spec("a");
    let (second, b) = world.spec("b");
    let root = SupervisorSpec::new("node", Strategy::OneForOne).child(first).child(second).start_root();
    settle().await;
    world.take();
    for _ in 0..1_000 {
        a.do_send(Note("bulk"));
    }
    b.do_send(Note("dice"));
    settle().await;
    let log = world.take();
    let place = log.iter().position(|line| line == "b: dice").unwrap();
    assert!(place <= 128, "after {place} messages of the other");
    assert_eq!(log.len(), 1_001);
    root.shutdown().await;
}

// ---- helpers

/// Where a worker is told to go wrong, or to end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Where {
    Handler,
    Timer,
    Interval,
    Stream,
    Future,
    Wait,
    Stop,
    Fail,
}

/// A stage of a life in which a worker panics.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Factory,
    Started,
    Stopping,
    Stopped,
    Drop,
}

/// What happened, in order, and the workers that write it.
#[derive(Clone, Default)]
struct World {
    log: Rc<RefCell<Vec<String>>>,
    lives: Rc<Cell<u32>>,
}

impl World {
    fn new() -> Self {
        tokio::time::pause();
        Self::default()
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.log.borrow_mut())
    }

    fn root(&self, strategy: Strategy, ids: &[&'static str]) -> RootHandle {
        let spec = SupervisorSpec::new("node", strategy);
        ids.iter().fold(spec, |spec, id| spec.child(self.spec(id).0)).start_root()
    }

    fn spec(&self, id: &'static str) -> (ChildSpec, Addr<Worker>) {
        self.worker(id, |_| {})
    }

    fn worker(&self, id: &'static str, change: impl Fn(&mut Worker) + 'static) -> (ChildSpec, Addr<Worker>) {
        ChildSpec::new(id, self.factory(id, change))
    }

    fn factory<F: Fn(&mut Worker) + 'static>(&self, id: &'static str, change: F) -> impl FnMut() -> Worker + use<F> {
        let world = self.clone();
        let mut life = 0;
        move || {
            world.lives.set(world.lives.get() + 1);
            let mut worker = Worker {
                id,
                world: world.clone(),
                life,
                pings: 0,
                linger: None,
                panic_in: None,
                panic_in_life: None,
                stopped: false,
            };
            change(&mut worker);
            life += 1;
            worker.log("new");
            if worker.fails(Stage::Factory) {
                worker.stopped = true;
                panic!("fault in the factory");
            }
            worker
        }
    }

    /// Kills a child and lets what follows at once happen.
    async fn crash(&self, root: &RootHandle, path: &str) {
        self.kill(root, path).await;
        settle().await;
    }

    async fn kill(&self, root: &RootHandle, path: &str) {
        while root.address().send(Kill { path: path.into() }).await.unwrap().is_err() {
            tokio::time::sleep(5 * MS).await;
        }
        // The child panics, and its supervisor hears of it.
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }

    async fn state(&self, root: &RootHandle, id: &str) -> ChildState {
        let children = root.address().send(WhichChildren).await.unwrap();
        children.iter().find(|child| child.id == id).unwrap().state
    }

    async fn watch(&self, root: &RootHandle, path: &str) -> Downs {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let recipient = Context::run(16, Watcher(sender)).recipient();
        let path = path.to_string();
        root.address().send(Monitor { path, recipient }).await.unwrap();
        Downs(receiver)
    }
}

async fn settle() {
    tokio::time::sleep(2 * MS).await;
}

async fn ids(root: &RootHandle) -> Vec<String> {
    let children = root.address().send(WhichChildren).await.unwrap();
    children.into_iter().map(|child| child.id).collect()
}

fn one(child: ChildSpec) -> RootHandle {
    SupervisorSpec::new("node", Strategy::OneForOne).child(child).start_root()
}

struct Downs(tokio::sync::mpsc::Receiver<Down>);

impl Downs {
    async fn next(&mut self) -> Down {
        self.0.recv().await.unwrap()
    }

    async fn next_reason(&mut self) -> ExitReason {
        self.next().await.reason
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

struct Watcher(tokio::sync::mpsc::Sender<Down>);

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<Down> for Watcher {
    type Result = ();

    fn handle(&mut self, down: Down, _: &mut Context<Self>) {
        self.0.try_send(down).unwrap();
    }
}

struct Sink(Rc<RefCell<Vec<SupervisionEvent>>>);

impl Sink {
    fn start() -> (Recipient<SupervisionEvent>, Rc<RefCell<Vec<SupervisionEvent>>>) {
        let events = Rc::default();
        (Context::run(64, Self(Rc::clone(&events))).recipient(), events)
    }
}

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<SupervisionEvent> for Sink {
    type Result = ();

    fn handle(&mut self, event: SupervisionEvent, _: &mut Context<Self>) {
        self.0.borrow_mut().push(event);
    }
}

struct Plain;

impl Actor for Plain {
    type Context = Context<Self>;
}

/// An actor that writes down what happens to it.
struct Worker {
    id: &'static str,
    world: World,
    life: u32,
    pings: u32,
    linger: Option<Duration>,
    panic_in: Option<Stage>,
    panic_in_life: Option<(u32, Stage)>,
    stopped: bool,
}

impl Worker {
    fn log(&self, what: &str) {
        self.world.log.borrow_mut().push(format!("{} {what}", self.id));
    }

    fn fails(&self, stage: Stage) -> bool {
        self.panic_in == Some(stage) || self.panic_in_life == Some((self.life, stage))
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        assert!(!self.fails(Stage::Started), "fault in started");
        self.log("started");
    }

    fn stopping(&mut self, ctx: &mut Context<Self>) -> Running {
        assert!(!self.fails(Stage::Stopping), "fault in stopping");
        match self.linger.take() {
            Some(time) => {
                self.log("lingers");
                ctx.run_later(time, |_, ctx| ctx.stop());
                Running::Continue
            }
            None => Running::Stop,
        }
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        assert!(!self.fails(Stage::Stopped), "fault in stopped");
        self.stopped = true;
        self.log("stopped");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.stopped {
            self.log("dropped");
        }
        if !std::thread::panicking() {
            assert!(!self.fails(Stage::Drop), "fault in drop");
        }
    }
}

#[derive(Message)]
#[rtype(result = "u32")]
struct Ping;

impl Handler<Ping> for Worker {
    type Result = u32;

    fn handle(&mut self, _: Ping, _: &mut Context<Self>) -> u32 {
        self.pings += 1;
        self.pings
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Worker {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Fail;

impl Handler<Fail> for Worker {
    type Result = ();

    fn handle(&mut self, _: Fail, ctx: &mut Context<Self>) {
        ctx.stop_with(ExitReason::Failed { message: "no luck".into() });
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Note(&'static str);

impl Handler<Note> for Worker {
    type Result = ();

    fn handle(&mut self, Note(text): Note, _: &mut Context<Self>) {
        self.world.log.borrow_mut().push(format!("{}: {text}", self.id));
    }
}

/// Handle nothing else for this long.
#[derive(Message)]
#[rtype(result = "()")]
struct Hold(Duration);

impl Handler<Hold> for Worker {
    type Result = ();

    fn handle(&mut self, Hold(time): Hold, ctx: &mut Context<Self>) {
        ctx.wait(tokio::time::sleep(time).into_actor(self));
    }
}

/// Write something down later.
#[derive(Message)]
#[rtype(result = "()")]
struct Later(Duration);

impl Handler<Later> for Worker {
    type Result = ();

    fn handle(&mut self, Later(time): Later, ctx: &mut Context<Self>) {
        ctx.run_later(time, |worker, _| worker.log("timer"));
        ctx.run_interval(time, |worker, _| worker.log("interval"));
        ctx.spawn(tokio::time::sleep(time).into_actor(self).map(|(), worker, _| worker.log("future")));
    }
}

/// Answer in an hour.
#[derive(Message)]
#[rtype(result = "()")]
struct Slow;

impl Handler<Slow> for Worker {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Slow, _: &mut Context<Self>) -> Self::Result {
        Box::pin(tokio::time::sleep(3600 * SECOND).into_actor(self))
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Fault(Where);

impl Handler<Fault> for Worker {
    type Result = ();

    fn handle(&mut self, Fault(place): Fault, ctx: &mut Context<Self>) {
        match place {
            Where::Handler => panic!("fault in a handler"),
            Where::Timer => {
                ctx.run_later(MS, |_, _| panic!("fault in a timer"));
            }
            Where::Interval => {
                ctx.run_interval(MS, |_, _| panic!("fault in an interval"));
            }
            Where::Stream => {
                ctx.add_stream(futures_util::stream::iter([1]));
            }
            Where::Future => {
                ctx.spawn(async { panic!("fault in a future") }.into_actor(self));
            }
            Where::Wait => ctx.wait(async { panic!("fault in a wait future") }.into_actor(self)),
            Where::Stop => ctx.stop(),
            Where::Fail => ctx.stop_with(ExitReason::Failed { message: "told to".into() }),
        }
    }
}

impl StreamHandler<i32> for Worker {
    fn handle(&mut self, _: i32, _: &mut Context<Self>) {
        panic!("fault in a stream");
    }
}

/// The addresses of supervisors can be kept and sent anywhere.
#[allow(dead_code)]
fn addresses_are_send(address: Addr<SupervisorActor>, root: RootHandle) -> impl Send {
    (address, root)
}
