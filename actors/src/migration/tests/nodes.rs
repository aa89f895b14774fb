//! Whole nodes over the simulated network.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bowline_messages::migration::RollbackReason;
use bytes::Bytes;

use super::content;
use crate::migration::{Migratable, Migrated, Migration, MigrationError, Work};
use crate::testing::sim::{Direction, LinkShape, Simulation, run};
use crate::transport::memory::{Change, Cut};

const SEC: Duration = Duration::from_secs(1);

/// A state that one node has at a time.
#[derive(Default)]
struct Held {
    state: RefCell<Option<Bytes>>,
    paused: Cell<bool>,
    refuses: Cell<bool>,
    panics: Cell<bool>,
    rolled_back: RefCell<Vec<RollbackReason>>,
    completed: Cell<u32>,
}

impl Migratable for Held {
    fn capture(&self, _: &Migration) -> Work<Bytes> {
        self.paused.set(true);
        let state = self.state.borrow().clone();
        Box::pin(async move { state.ok_or_else(|| "it is not here".to_owned()) })
    }

    fn accept(&self, _: &Migration, _: u64) -> Result<(), String> {
        if self.state.borrow().is_none() { Ok(()) } else { Err("there is one here".into()) }
    }

    fn verify(&self, _: &Migration, _: Bytes) -> Work<()> {
        assert!(!self.panics.get(), "as the test wants it");
        Box::pin(async { Ok(()) })
    }

    fn apply(&self, _: &Migration, state: Bytes) -> Work<()> {
        *self.state.borrow_mut() = Some(state);
        let answer = if self.refuses.get() { Err("the table is full".to_owned()) } else { Ok(()) };
        Box::pin(async move { answer })
    }

    fn completed(&self, migration: &Migration) {
        self.paused.set(false);
        self.completed.set(self.completed.get() + 1);
        if migration.outgoing {
            *self.state.borrow_mut() = None;
        }
    }

    fn rolled_back(&self, migration: &Migration, reason: &RollbackReason) {
        self.paused.set(false);
        self.rolled_back.borrow_mut().push(reason.clone());
        if !migration.outgoing {
            *self.state.borrow_mut() = None;
        }
    }
}

struct World {
    simulation: Simulation,
    a: Rc<Held>,
    b: Rc<Held>,
    state: Bytes,
    outcome: Rc<RefCell<Option<Result<Migrated, MigrationError>>>>,
}

/// Two nodes with two links of 200 kB/s each, and a state of so many bytes at `a`.
async fn world(seed: u64, bytes: usize) -> World {
    let simulation = Simulation::new(seed);
    for name in ["a", "b"] {
        simulation.add_node(name).unwrap();
    }
    for (kind, millis) in [("tcp", 20), ("ble", 60)] {
        simulation.add_link("a", "b", kind, LinkShape::rtt(Duration::from_millis(millis))).unwrap();
        simulation.change("a", "b", kind, Direction::Both, &Change::Bandwidth(Some(200_000)));
    }
    simulation.start().await.unwrap();
    simulation.run_for(2 * SEC).await;
    let (a, b) = (Rc::new(Held::default()), Rc::new(Held::default()));
    let state = content(bytes);
    *a.state.borrow_mut() = Some(state.clone());
    simulation.handle("a").unwrap().migratable("table", Rc::clone(&a) as Rc<dyn Migratable>);
    simulation.handle("b").unwrap().migratable("table", Rc::clone(&b) as Rc<dyn Migratable>);
    World { simulation, a, b, state, outcome: Rc::default() }
}

impl World {
    fn begin(&self) {
        let (node, peer) = (self.simulation.handle("a").unwrap(), self.simulation.peer_id("b").unwrap());
        let outcome = Rc::clone(&self.outcome);
        actix_rt::spawn(async move {
            *outcome.borrow_mut() = Some(node.migrate(peer, "table").await.unwrap());
        });
    }

    async fn ended(&self) -> Result<Migrated, MigrationError> {
        for _ in 0..400 {
            if let Some(outcome) = self.outcome.borrow_mut().take() {
                return outcome;
            }
            self.simulation.run_for(SEC).await;
        }
        panic!("no outcome\n{}", self.simulation.log().text());
    }

    /// Bytes that the links of `a` have sent, by transport.
    async fn sent(&self) -> Vec<(u64, String)> {
        let status = self.simulation.handle("a").unwrap().sessions(None).await.unwrap();
        let links = status[0].links.iter();
        links.map(|link| (link.stats.bytes_sent, link.info.transport.to_string())).collect()
    }

    fn log(&self) -> String {
        self.simulation.log().text()
    }

    fn check_moved(&self) {
        assert_eq!(*self.b.state.borrow(), Some(self.state.clone()), "complete");
        assert_eq!(*self.a.state.borrow(), None, "and only there");
        assert_eq!((self.a.completed.get(), self.b.completed.get()), (1, 1));
        assert!(!self.a.paused.get());
    }

    fn check_rolled_back(&self) {
        assert_eq!(*self.a.state.borrow(), Some(self.state.clone()), "it is where it was");
        assert_eq!(*self.b.state.borrow(), None, "and nowhere else");
        assert_eq!((self.a.completed.get(), self.b.completed.get()), (0, 0));
        assert!(!self.a.paused.get(), "and goes on there");
    }
}

#[test]
fn the_link_in_use_is_cut_in_the_middle_and_the_state_arrives_complete() {
    run(async {
        let world = world(1, 4_000_000).await;
        let before = world.sent().await;
        world.begin();
        world.simulation.run_for(SEC).await;
        assert!(world.outcome.borrow().is_none());
        let after = world.sent().await;
        let grown = |kind: &String| {
            let of = |all: &[(u64, String)]| all.iter().find(|(_, k)| k == kind).map_or(0, |(bytes, _)| *bytes);
            of(&after) - of(&before)
        };
        let used = after.iter().map(|(_, kind)| kind).max_by_key(|kind| grown(kind)).unwrap();
        assert!(grown(used) > 50_000, "the state is on its way over {used}");
        world.simulation.change("a", "b", used, Direction::Both, &Change::Cut(Cut::Hold));
        let migrated = world.ended().await.unwrap();
        assert_eq!(migrated.bytes, 4_000_000);
        assert!(migrated.packed_bytes < migrated.bytes);
        world.check_moved();
        for event in
            ["MigrationStarted", "MigrationCaptured", "MigrationTransferred", "MigrationVerified", "MigrationCompleted"]
        {
            assert!(world.log().contains(event), "{event}\n{}", world.log());
        }
        assert!(world.log().contains("FailoverCompleted"), "{}", world.log());
    });
}

#[test]
fn an_application_that_refuses_at_the_end_rolls_both_sides_back() {
    run(async {
        let world = world(2, 300_000).await;
        world.b.refuses.set(true);
        world.begin();
        let reason = RollbackReason::ApplyFailed("the table is full".into());
        assert_eq!(world.ended().await, Err(MigrationError::RolledBack(reason.clone())));
        world.simulation.run_for(SEC).await;
        world.check_rolled_back();
        assert_eq!(*world.a.rolled_back.borrow(), std::slice::from_ref(&reason));
        assert_eq!(*world.b.rolled_back.borrow(), [reason]);
        // And nothing is in the way of the next attempt.
        world.b.refuses.set(false);
        world.begin();
        world.ended().await.unwrap();
        world.check_moved();
    });
}

#[test]
fn an_application_that_panics_is_one_that_says_no() {
    run(async {
        let world = world(3, 1000).await;
        world.b.panics.set(true);
        world.begin();
        let outcome = world.ended().await;
        assert!(
            matches!(outcome, Err(MigrationError::RolledBack(RollbackReason::VerificationFailed(_)))),
            "{outcome:?}"
        );
        world.check_rolled_back();
        assert!(!world.log().contains("ChildExited"), "{}", world.log());
    });
}

#[test]
fn a_restart_of_either_actor_in_the_middle_resumes() {
    for side in ["a", "b"] {
        run(async move {
            let world = world(4, 3_000_000).await;
            world.begin();
            world.simulation.run_for(SEC).await;
            world.simulation.kill_actor(side, "migration/migrations").await.unwrap();
            let migrated = world.ended().await.unwrap();
            assert!(migrated.resumed >= 1, "{migrated:?}");
            world.check_moved();
        });
    }
}

#[test]
fn a_peer_whose_process_ends_leaves_the_state_where_it_was() {
    run(async {
        let world = world(5, 3_000_000).await;
        world.begin();
        world.simulation.run_for(SEC).await;
        world.simulation.kill_process("b").unwrap();
        assert_eq!(
            world.ended().await,
            Err(MigrationError::RolledBack(RollbackReason::TimedOut(
                bowline_messages::migration::MigrationPhase::Transferring
            )))
        );
        world.check_rolled_back();
    });
}

#[test]
fn what_is_not_registered_is_refused_on_either_side() {
    run(async {
        let world = world(6, 10).await;
        let (node, b) = (world.simulation.handle("a").unwrap(), world.simulation.peer_id("b").unwrap());
        let unknown = node.migrate(b, "nothing").await.unwrap();
        assert_eq!(unknown, Err(MigrationError::NotRegistered("nothing".into())));
        node.migratable("chips", Rc::clone(&world.a) as Rc<dyn Migratable>);
        let refused = node.migrate(b, "chips").await.unwrap();
        assert!(matches!(refused, Err(MigrationError::RolledBack(RollbackReason::Refused(_)))), "{refused:?}");
        world.check_rolled_back();
    });
}
