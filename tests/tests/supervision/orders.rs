//! Orders to a running supervisor.

use bowline_actors::supervision::{CallError, ChildSpec, StartChild, SupervisorSpec, call};
use bowline_messages::supervision::{
    ChildCounts, ChildError, ChildKind, ChildState, CountChildren, DeleteChild, ExitReason, Kill, Restart,
    RestartChild, Strategy, TerminateChild, WhichChildren,
};

use super::world::*;

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
