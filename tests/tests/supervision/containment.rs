//! Containment; what survives a life and what does not.

use std::time::Duration;

use bowline_actors::supervision::{CallError, SupervisorSpec, call, call_within, notify};
use bowline_messages::supervision::{ExitReason, Strategy, Tree};

use super::world::*;

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
