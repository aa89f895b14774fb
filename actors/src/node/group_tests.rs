//! Whole nodes of one group, over real TCP sockets.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, Addr, Handler};
use bowline_messages::config::{PartitionConfig, TrustConfig, TrustPolicy};
use bowline_messages::network::{Concern, GroupPacket};
use bowline_messages::partition::{PauseApplication, PauseReason, ResumeApplication};
use bowline_messages::{Incarnation, MessageClass, PeerId};
use bytes::Bytes;

use super::{GroupHandle, GroupSetup, NodeHandle, NodeParts, start};
use crate::partition::actor::{CommandError, GroupActor, GroupApplication, GroupParts, GroupQuery, Submit};
use crate::partition::group::{Durable, GroupConfig, SubmitError};
use crate::partition::medium::Medium;
use crate::partition::metrics::tests::Gauges;
use crate::partition::views::{Number, View};
use crate::partition::wire::{SIGNATURE_BYTES, Signed, Signer, Statement};
use crate::session::handshake::Entropy;
use crate::session::identity::{Identity, SigningContext};
use crate::session::trust::Trust;
use crate::supervision::{Context, Intensity};
use crate::testing::sim::Sheet;

/// What the application was told, in words; it refuses to go on once when it is told to.
#[derive(Default)]
struct Listener {
    told: Rc<RefCell<Vec<String>>>,
    refuses: bool,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<PauseApplication> for Listener {
    type Result = ();

    fn handle(&mut self, pause: PauseApplication, _: &mut Self::Context) {
        let reason = pause.reason;
        self.told.borrow_mut().push(if reason == PauseReason::NoLease { "pause" } else { "other" }.to_owned());
    }
}

impl Handler<ResumeApplication> for Listener {
    type Result = bool;

    fn handle(&mut self, _: ResumeApplication, _: &mut Self::Context) -> bool {
        let goes_on = !std::mem::take(&mut self.refuses);
        self.told.borrow_mut().push(if goes_on { "resume" } else { "refused" }.to_owned());
        goes_on
    }
}

fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed(&[seed; 32]))
}

/// Times that a test can wait for.
fn quick() -> GroupConfig {
    let ms = Duration::from_millis;
    let partition = PartitionConfig {
        suspect_after: ms(600),
        stable: ms(600),
        stable_step: ms(0),
        lease: ms(900),
        renew: ms(150),
        answer: ms(300),
        spread: ms(300),
        ..PartitionConfig::default()
    };
    GroupConfig { partition, ..GroupConfig::default() }
}

struct Made {
    node: NodeHandle,
    group: GroupHandle,
    told: Rc<RefCell<Vec<String>>>,
}

fn make(seed: u8, all: &[u8], folder: Option<&std::path::Path>, refuses: bool) -> Made {
    make_with(seed, all, folder, refuses, None)
}

fn make_with(
    seed: u8,
    all: &[u8],
    folder: Option<&std::path::Path>,
    refuses: bool,
    awake: Option<fn() -> Duration>,
) -> Made {
    let trust =
        Trust::new(&TrustConfig { policy: TrustPolicy::Open, ..TrustConfig::default() }, [], [], Default::default());
    let mut parts = NodeParts::new(identity(seed), trust);
    let told = Rc::new(RefCell::new(Vec::new()));
    let listener: Addr<Listener> = Context::run(16, Listener { told: Rc::clone(&told), refuses });
    let application = GroupApplication {
        machine: Rc::new(|| Box::new(Sheet::default())),
        pause: Some(listener.clone().recipient()),
        resume: Some(listener.recipient()),
    };
    let participants: Vec<PeerId> = all.iter().map(|seed| identity(*seed).peer_id()).collect();
    let folder = folder.map(|folder| folder.join(seed.to_string()));
    parts.group = Some(GroupSetup { participants, config: quick(), application, folder, awake });
    let node = start(parts).unwrap();
    let group = node.group().unwrap().clone();
    Made { node, group, told }
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waited).await.is_ok(), "{what}");
}

async fn running(made: &Made) -> bool {
    made.group.report().await.is_ok_and(|report| report.running)
}

async fn all_run(all: &[&Made]) {
    for made in all {
        until("it works", || running(made)).await;
    }
}

/// Submits until it is accepted, and is sure that it was carried out once.
async fn submit(made: &Made, what: &'static str) -> String {
    loop {
        match made.group.submit(Bytes::from_static(what.as_bytes())).await {
            Ok(answer) => return String::from_utf8(answer.to_vec()).unwrap(),
            Err(CommandError::NotAccepted(SubmitError::Paused)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn meet(made: &[&Made]) {
    for (index, one) in made.iter().enumerate() {
        let addresses = one.node.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        for other in &made[index + 1..] {
            other.node.connect(one.node.id(), addresses.clone()).await.unwrap();
        }
    }
}

#[test]
fn the_application_is_paused_without_a_majority_and_resumed_with_one() {
    actix::System::new().block_on(async {
        let all = [31, 32, 33];
        let (a, b, c) = (make(31, &all, None, true), make(32, &all, None, false), make(33, &all, None, false));
        meet(&[&a, &b, &c]).await;
        all_run(&[&a, &b, &c]).await;
        assert_eq!(*a.told.borrow(), ["other", "refused", "resume"], "one that does not go on is asked again");
        assert_eq!(submit(&a, "one").await, "1");
        assert_eq!(submit(&b, "two").await, "2");

        let folder_less = c.node.clone();
        folder_less.shutdown(Duration::ZERO).await;
        assert_eq!(submit(&a, "three").await, "3", "two of three are enough");

        // Only a is left.
        b.node.shutdown(Duration::ZERO).await;
        until("it is paused", || async { !running(&a).await }).await;
        assert_eq!(a.told.borrow().last().unwrap(), "pause");
        let refused = a.group.submit(Bytes::from_static(b"alone")).await;
        assert_eq!(refused, Err(CommandError::NotAccepted(SubmitError::Paused)));
        a.node.shutdown(Duration::ZERO).await;
    });
}

/// A clock that goes on while the machine sleeps counts from here.
static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(crate::clock::now);
/// Seconds that the machine was asleep.
static ASLEEP: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

#[test]
fn a_machine_that_slept_does_not_trust_its_lease() {
    fn awake() -> Duration {
        let asleep = Duration::from_secs(ASLEEP.load(std::sync::atomic::Ordering::Relaxed));
        crate::clock::now().saturating_duration_since(*START) + asleep
    }
    actix::System::new().block_on(async {
        let all = [51];
        let a = make_with(51, &all, None, false, Some(awake));
        all_run(&[&a]).await;
        assert_eq!(*a.told.borrow(), ["other", "resume"]);
        ASLEEP.store(60, std::sync::atomic::Ordering::Relaxed);
        until("it is paused", || async { a.told.borrow().len() > 2 }).await;
        all_run(&[&a]).await;
        assert_eq!(*a.told.borrow(), ["other", "resume", "pause", "resume"]);
        a.node.shutdown(Duration::ZERO).await;
    });
}

#[test]
fn the_actor_of_the_group_is_restarted_and_goes_on_from_what_is_durable() {
    actix::System::new().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let all = [41, 42, 43];
        let [a, b, c] = all.map(|seed| make(seed, &all, Some(folder.path()), false));
        meet(&[&a, &b, &c]).await;
        all_run(&[&a, &b, &c]).await;
        assert_eq!(submit(&a, "one").await, "1");
        for made in [&a, &b, &c] {
            made.node.kill("group/participant").await.unwrap();
            assert!(made.group.report().await.is_ok(), "it is back, and sessions do not mind");
        }
        all_run(&[&a, &b, &c]).await;
        for made in [&a, &b, &c] {
            let told = made.told.borrow();
            assert_eq!(told[..2], ["other", "resume"]);
            // A slow machine may have it pause besides, while the others are restarted.
            assert!(told[2..].iter().any(|what| what == "other"), "what it was allowed before is over: {told:?}");
            assert_eq!(told.last().unwrap(), "resume");
        }
        assert_eq!(submit(&c, "two").await, "2", "nothing is forgotten");
        assert_eq!(submit(&b, "count").await, "2");
        for made in [a, b, c] {
            made.node.shutdown(Duration::ZERO).await;
        }
    });
}

#[test]
fn the_application_does_not_go_on_when_the_group_is_given_up() {
    actix::System::new().block_on(async {
        let gauges = Gauges::default();
        let _guard = metrics::set_default_local_recorder(&gauges);
        let a = make(71, &[71], None, false);
        all_run(&[&a]).await;
        assert_eq!(a.told.borrow().last().unwrap(), "resume");
        // Once more than its supervisor bears.
        for _ in 0..Intensity::default().restarts {
            a.node.kill("group/participant").await.unwrap();
            assert!(a.group.report().await.is_ok(), "it is back");
        }
        until("it goes on", || running(&a)).await;
        until("it is shown", || async { gauges.of("bowline_partition_active") == Some(1.0) }).await;
        a.node.kill("group/participant").await.unwrap();
        // Longer than it would wait before another start, and begin.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(a.group.report().await.is_err(), "it is given up");
        assert_eq!(gauges.of("bowline_partition_active"), Some(0.0));
        assert!(a.group.submit(Bytes::from_static(b"x")).await.is_err());
        assert_eq!(a.told.borrow().last().unwrap(), "other", "{:?}", a.told.borrow());
        a.node.shutdown(Duration::ZERO).await;
    });
}

/// Everything on the node's thread would wait with it: sessions, transports, timers.
#[test]
fn the_thread_of_a_node_does_not_wait_for_who_writes() {
    const WRITES: Duration = Duration::from_secs(3);
    actix::System::new().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::new(&TrustConfig::default(), [], [], Default::default());
        let node = start(NodeParts::new(identity(81), trust)).unwrap();
        let beginning = Durable::new([node.id()]);
        let medium = Arc::new(Mutex::new(Medium::folder(folder.path(), beginning).unwrap()));
        let application =
            GroupApplication { machine: Rc::new(|| Box::new(Sheet::default())), pause: None, resume: None };
        let asked = Rc::new(std::cell::Cell::new(0));
        let parts = GroupParts {
            identity: identity(81),
            incarnation: Incarnation(1),
            participants: vec![node.id()],
            config: quick(),
            application,
            medium: Arc::clone(&medium),
            carrier: Rc::clone(&node.services().carrier),
            seek: Rc::new(|_| {}),
            events: Rc::new(|_| {}),
            awake: None,
            entropy: {
                let asked = Rc::clone(&asked);
                Rc::new(move || {
                    asked.set(asked.get() + 1);
                    Entropy::system()
                })
            },
        };
        let group = Context::run(16, GroupActor::new(parts));
        let report = || async { group.send(GroupQuery).await.unwrap().unwrap() };
        until("it works", || async { report().await.running }).await;
        assert_eq!(asked.get(), 1, "its life has a number that cannot be known before");
        let (has, waits) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            let held = medium.lock().unwrap();
            has.send(()).unwrap();
            std::thread::sleep(WRITES);
            drop(held);
        });
        waits.recv().unwrap();
        let begun = crate::clock::now();
        let submitted = group.send(Submit(Bytes::from_static(b"one")));
        let submitted = tokio::task::spawn_local(submitted);
        until("it is accepted", || async { report().await.open == 1 }).await;
        assert!(begun.elapsed() < WRITES / 2, "{:?}", begun.elapsed());
        assert_eq!(submitted.await.unwrap().unwrap(), Ok(Bytes::from_static(b"1")), "when it is written");
        writer.join().unwrap();
        node.shutdown(Duration::ZERO).await;
    });
}

#[derive(Debug)]
struct Key(Arc<Identity>);

impl Signer for Key {
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(SigningContext::Partition, bytes)
    }

    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Identity::verify(peer, SigningContext::Partition, bytes, signature).is_ok()
    }
}

/// Two views of a participant under one number.
fn contradiction(seed: u8, count: u64) -> [Bytes; 2] {
    let key = Key(identity(seed));
    [1, 3].map(|heard| {
        let view = Statement::View(View { version: 0, list: 0, heard: vec![heard], split: false, known: Vec::new() });
        let number = Number { incarnation: 1, count };
        Signed::new(&key, key.0.peer_id(), number, &view).unwrap().encode().unwrap().into()
    })
}

#[test]
fn who_is_excluded_by_proofs_of_the_group_loses_its_session_until_it_is_pardoned() {
    actix::System::new().block_on(async {
        let a = make(61, &[61, 62, 63], None, false);
        let trust = Trust::new(
            &TrustConfig { policy: TrustPolicy::Open, ..TrustConfig::default() },
            [],
            [],
            Default::default(),
        );
        let liar = start(NodeParts::new(identity(63), trust)).unwrap();
        let addresses = a.node.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        liar.connect(a.node.id(), addresses).await.unwrap();
        until("there is a session", || async { !liar.services().carrier.neighbours().is_empty() }).await;
        until("there is a session", || async { !a.node.services().carrier.neighbours().is_empty() }).await;
        for payload in (0..3).flat_map(|count| contradiction(63, count)) {
            let (to, worth) = (a.node.id(), Duration::from_secs(60));
            liar.services().carrier.send(&to, Concern::Partition, MessageClass::Critical, payload, worth).unwrap();
        }
        let excluded = || a.node.services().trust.borrow().exclusion(&liar.id()).is_some();
        until("three proofs exclude it", || async { excluded() }).await;
        until("it has no session", || async { a.node.session(liar.id()).await.unwrap().is_none() }).await;
        a.group.pardon(liar.id()).await.unwrap();
        assert!(!excluded());

        // What it was excluded for otherwise no pardon of the group lifts.
        a.node.services().trust.borrow_mut().exclude(liar.id(), "for a test");
        a.group.pardon(liar.id()).await.unwrap();
        assert!(excluded());

        // And nobody excludes itself, whoever has its key.
        for payload in (0..3).flat_map(|count| contradiction(61, count)) {
            let packet = GroupPacket { from: identity(62).peer_id(), concern: Concern::Partition, payload };
            a.group.actor().send(packet).await.unwrap();
        }
        assert!(a.node.services().trust.borrow().exclusion(&a.node.id()).is_none());
        a.node.shutdown(Duration::ZERO).await;
        liar.shutdown(Duration::ZERO).await;
    });
}
