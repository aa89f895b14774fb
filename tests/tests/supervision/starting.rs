//! Starting and stopping.

use bowline_actors::supervision::SupervisorSpec;
use bowline_messages::supervision::{ChildState, ExitReason, ShutdownMode, Strategy};

use super::world::*;

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
