//! Restart types and strategies.

use bowline_actors::supervision::{ChildSpec, StartChild, SupervisorSpec};
use bowline_messages::supervision::{ChildState, Restart, Strategy, TerminateChild, WhichChildren};

use super::world::*;

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
