//! Monitors, the live tree, events.

use std::time::Duration;

use bowline_actors::supervision::{Backoff, Intensity, SupervisorSpec};
use bowline_messages::supervision::{
    ChildState, Down, ExitReason, Kill, Strategy, SupervisionEvent, TerminateChild, Tree,
};

use super::world::*;

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
