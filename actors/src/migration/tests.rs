//! Two machines and a network that loses, repeats and damages what it carries; and whole nodes.
#![allow(clippy::unwrap_used)]

mod nodes;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::MigrationConfig;
use bowline_messages::event::EventKind;
use bowline_messages::migration::{MigrationId, RollbackReason};
use bytes::Bytes;
use proptest::prelude::*;

use super::Migrated;
use super::machine::{Key, Migrations, Next, Output, StreamId};
use super::wire::{Frame, Offer};

const SEC: Duration = Duration::from_secs(1);
const A: PeerId = PeerId::from_bytes([1; 32]);
const B: PeerId = PeerId::from_bytes([2; 32]);

fn config() -> MigrationConfig {
    MigrationConfig { piece_bytes: 1024, bytes_max: 64 * 1024, ..MigrationConfig::default() }
}

/// Content of so many bytes that compresses somewhat.
fn content(bytes: usize) -> Bytes {
    let noise = (0..bytes.div_ceil(16)).map(|n| blake3::hash(&n.to_be_bytes()).as_bytes()[0]);
    noise.flat_map(|byte| [byte; 16]).take(bytes).collect()
}

/// What the applications answer.
#[derive(Debug, Clone, Copy)]
struct Answers {
    capture: bool,
    accept: bool,
    verify: bool,
    apply: bool,
}

const ALL: Answers = Answers { capture: true, accept: true, verify: true, apply: true };

/// Both sides, the stream between them, and what became known.
struct World {
    now: Instant,
    a: Migrations,
    b: Migrations,
    answers: Answers,
    state: Bytes,
    /// The stream there is, by the same number on both sides.
    stream: Option<StreamId>,
    streams: StreamId,
    to_b: VecDeque<Frame>,
    to_a: VecDeque<Frame>,
    /// What an application was asked and has not answered.
    asked: VecDeque<Output>,
    outcome: Option<Result<Migrated, RollbackReason>>,
    /// What B's application took over.
    applied: Option<Bytes>,
    b_ended: Option<Result<(), RollbackReason>>,
    held_most: usize,
    events: Vec<EventKind>,
}

impl World {
    fn new(bytes: usize, answers: Answers) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            a: Migrations::new(config()),
            b: Migrations::new(config()),
            answers,
            state: content(bytes),
            stream: None,
            streams: 0,
            to_b: VecDeque::new(),
            to_a: VecDeque::new(),
            asked: VecDeque::new(),
            outcome: None,
            applied: None,
            b_ended: None,
            held_most: 0,
            events: Vec::new(),
        };
        world.a.begin(now, B, "table", MigrationId(7)).unwrap();
        world.collect();
        world
    }

    fn collect(&mut self) {
        self.held_most = self.held_most.max(self.b.held());
        while let Some(output) = self.a.poll_output() {
            match output {
                Output::Answer(_, outcome) => {
                    assert!(self.outcome.is_none(), "answered twice");
                    self.outcome = Some(outcome);
                }
                Output::Connect(_) | Output::Capture(_) => self.asked.push_back(output),
                Output::Emit(event) => self.events.push(event),
                Output::Ended(..) | Output::Ready(_) => {}
                Output::Verify(..) | Output::Apply(..) => panic!("{output:?} at the sender"),
            }
        }
        while let Some(output) = self.b.poll_output() {
            match output {
                Output::Verify(..) | Output::Apply(..) => self.asked.push_back(output),
                Output::Ended(_, outcome) => {
                    assert!(self.b_ended.is_none(), "ended twice");
                    if outcome.is_err() {
                        self.applied = None;
                    }
                    self.b_ended = Some(outcome);
                }
                Output::Emit(_) | Output::Ready(_) => {}
                Output::Connect(_) | Output::Capture(_) | Output::Answer(..) => panic!("{output:?} at the receiver"),
            }
        }
    }

    /// The application, or the actor, does one thing it was asked for.
    fn answer(&mut self) {
        let words = |yes: bool| if yes { Ok(()) } else { Err("no".to_owned()) };
        match self.asked.pop_front() {
            Some(Output::Capture(about)) => {
                let captured = words(self.answers.capture).map(|()| self.state.clone());
                self.a.on_captured(self.now, Key::of(&about), captured);
            }
            Some(Output::Connect(key)) => {
                self.cut();
                self.streams += 1;
                self.stream = Some(self.streams);
                self.b.on_stream(self.now, A, self.streams);
                self.a.on_connected(self.now, key, self.streams);
            }
            Some(Output::Verify(about, state)) => {
                assert_eq!(state, self.state, "only the whole state is shown to the application");
                self.b.on_verified(self.now, Key::of(&about), words(self.answers.verify));
            }
            Some(Output::Apply(about, state)) => {
                // As soon as it is at it something may have been taken over, even if it fails then.
                self.applied = Some(state);
                self.b.on_applied(self.now, Key::of(&about), words(self.answers.apply));
            }
            Some(Output::Ended(..) | Output::Answer(..) | Output::Ready(_) | Output::Emit(_)) | None => {}
        }
        self.collect();
    }

    /// The writers write what they have, at most so many frames.
    fn write(&mut self, most: usize) {
        let Some(stream) = self.stream else { return };
        for _ in 0..most {
            if let Next::Write(frame) = self.a.next(stream) {
                self.to_b.push_back(frame);
            }
            if let Next::Write(frame) = self.b.next(stream) {
                self.to_a.push_back(frame);
            }
        }
        self.collect();
    }

    fn deliver_to_b(&mut self, frame: Frame) {
        let (Some(stream), accept) = (self.stream, self.answers.accept) else { return };
        let accepted = move |_: &super::Migration, _| if accept { Ok(()) } else { Err("no".to_owned()) };
        self.b.on_frame(self.now, stream, Ok(frame), accepted);
        self.collect();
    }

    fn deliver_to_a(&mut self, frame: Frame) {
        let Some(stream) = self.stream else { return };
        self.a.on_frame(self.now, stream, Ok(frame), |_, _| Ok(()));
        self.collect();
    }

    fn read(&mut self) {
        if let Some(frame) = self.to_b.pop_front() {
            self.deliver_to_b(frame);
        }
        if let Some(frame) = self.to_a.pop_front() {
            self.deliver_to_a(frame);
        }
    }

    /// The stream breaks, with everything on it.
    fn cut(&mut self) {
        self.to_a.clear();
        self.to_b.clear();
        if let Some(stream) = self.stream.take() {
            self.a.on_disconnected(self.now, stream);
            self.b.on_disconnected(self.now, stream);
        }
        self.collect();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.a.on_timeout(self.now);
        self.b.on_timeout(self.now);
        self.collect();
    }

    /// Lets everything go on undisturbed for longer than any time-out.
    fn finish(&mut self) {
        for _ in 0..2_000 {
            self.answer();
            self.write(4);
            self.read();
            self.pass(SEC);
        }
    }

    /// What has to hold once it is over, whatever happened on the way.
    fn check(&self) {
        let outcome = self.outcome.as_ref().expect("the sender knows how it ended");
        if let Some(applied) = &self.applied {
            assert_eq!(*applied, self.state, "complete or not at all");
        }
        assert!(!matches!(&self.b_ended, Some(Err(_))) || self.applied.is_none());
        match outcome {
            Ok(_) => assert!(self.applied.is_some(), "completed means that the receiver has it"),
            Err(RollbackReason::OutcomeUnknown) => {}
            Err(reason) => assert!(self.applied.is_none(), "rolled back ({reason}), and yet it is there"),
        }
        assert_eq!(self.a.under_way().0, 0);
        assert_eq!(self.b.under_way().1, 0);
        assert_eq!(self.b.held(), 0, "what is over holds no state");
        // A vector that grows by doubling, and the frozen state.
        assert!(self.held_most <= 2 * self.state.len() + 4096, "{} bytes held", self.held_most);
    }
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Answer,
    Write(usize),
    Read(usize),
    /// What comes next to B comes twice.
    Twice,
    /// The same to A.
    TwiceToA,
    /// A byte of a piece is wrong.
    Damage,
    /// B is told something that nobody sent.
    Garbage(u8),
    Cut,
    Pass(u64),
    Abort,
    RestartA,
    RestartB,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Answer),
        6 => (1..8_usize).prop_map(Step::Write),
        8 => (1..8_usize).prop_map(Step::Read),
        1 => Just(Step::Twice),
        1 => Just(Step::TwiceToA),
        1 => Just(Step::Damage),
        1 => any::<u8>().prop_map(Step::Garbage),
        2 => Just(Step::Cut),
        2 => (1..40_u64).prop_map(Step::Pass),
        1 => Just(Step::Abort),
        1 => Just(Step::RestartA),
        1 => Just(Step::RestartB),
    ]
}

fn garbage(which: u8) -> Frame {
    match which % 6 {
        0 => Frame::Piece { index: u64::MAX, raw_bytes: u32::MAX, compressed: true, data: Bytes::from_static(b"x") },
        1 => Frame::Accept { from: u64::MAX },
        2 => Frame::Applied,
        3 => Frame::Abort("x".into()),
        4 => Frame::Offer(Offer {
            id: MigrationId(7),
            name: "other".into(),
            bytes: u64::MAX,
            piece_bytes: u32::MAX,
            digest: [0; 32],
            committed: which > 128,
        }),
        _ => Frame::Piece { index: 0, raw_bytes: 1024, compressed: true, data: Bytes::from_static(b"garbage") },
    }
}

fn act(world: &mut World, step: Step) {
    match step {
        Step::Answer => world.answer(),
        Step::Write(most) => world.write(most),
        Step::Read(count) => (0..count).for_each(|_| world.read()),
        Step::Twice => {
            if let Some(frame) = world.to_b.pop_front() {
                world.deliver_to_b(frame.clone());
                world.deliver_to_b(frame);
            }
        }
        Step::TwiceToA => {
            if let Some(frame) = world.to_a.pop_front() {
                world.deliver_to_a(frame.clone());
                world.deliver_to_a(frame);
            }
        }
        Step::Damage => {
            if let Some(Frame::Piece { data, .. }) = world.to_b.front_mut() {
                let mut bytes = data.to_vec();
                if let Some(byte) = bytes.last_mut() {
                    *byte ^= 0x55;
                }
                *data = bytes.into();
            }
        }
        Step::Garbage(which) => world.deliver_to_b(garbage(which)),
        Step::Cut => world.cut(),
        Step::Pass(seconds) => world.pass(SEC * u32::try_from(seconds).unwrap()),
        Step::Abort => {
            world.a.abort(world.now, "table", "changed my mind");
            world.collect();
        }
        Step::RestartA => {
            world.cut();
            // What it had asked for is forgotten with it.
            world.asked.retain(|asked| matches!(asked, Output::Verify(..) | Output::Apply(..)));
            world.a.on_restarted(world.now);
            world.collect();
        }
        Step::RestartB => {
            world.cut();
            world.asked.retain(|asked| !matches!(asked, Output::Verify(..) | Output::Apply(..)));
            world.b.on_restarted(world.now);
            world.collect();
        }
    }
}

#[test]
fn an_undisturbed_migration_is_complete() {
    for bytes in [0, 1, 1023, 1024, 1025, 20_000] {
        let mut world = World::new(bytes, ALL);
        world.finish();
        world.check();
        assert!(matches!(&world.outcome, Some(Ok(done)) if done.bytes == bytes as u64 && done.resumed == 0), "{bytes}");
    }
}

#[test]
fn whoever_says_no_rolls_both_sides_back() {
    let cases = [
        (Answers { capture: false, ..ALL }, RollbackReason::CaptureFailed("no".into())),
        (Answers { accept: false, ..ALL }, RollbackReason::Refused("no".into())),
        (Answers { verify: false, ..ALL }, RollbackReason::VerificationFailed("no".into())),
        (Answers { apply: false, ..ALL }, RollbackReason::ApplyFailed("no".into())),
    ];
    for (answers, reason) in cases {
        let mut world = World::new(5_000, answers);
        world.finish();
        world.check();
        assert_eq!(world.outcome, Some(Err(reason)));
        assert_eq!(world.applied, None);
    }
}

#[test]
fn a_transfer_goes_on_where_it_was() {
    let mut world = World::new(20_000, ALL);
    for _ in 0..8 {
        world.answer();
        world.write(1);
        world.read();
    }
    let held = world.b.held();
    assert!(held > 1024 && held < 20_000, "in the middle: {held}");
    world.cut();
    assert_eq!(world.b.held(), held);
    world.finish();
    world.check();
    let Some(Ok(done)) = &world.outcome else { panic!("{:?}", world.outcome) };
    assert_eq!(done.resumed, 1);
    let mut undisturbed = World::new(20_000, ALL);
    undisturbed.finish();
    let Some(Ok(once)) = &undisturbed.outcome else { panic!("{:?}", undisturbed.outcome) };
    let again = done.packed_bytes - once.packed_bytes;
    assert!(again <= once.packed_bytes / 10, "only what was on its way is sent again: {again}");
}

#[test]
fn damage_is_noticed_and_nothing_of_it_taken_over() {
    for nth in 0..5 {
        let mut world = World::new(5_000, ALL);
        let mut pieces = 0;
        while world.outcome.is_none() && pieces <= nth {
            world.answer();
            world.write(1);
            if let Some(Frame::Piece { .. }) = world.to_b.front() {
                if pieces == nth {
                    act(&mut world, Step::Damage);
                }
                pieces += 1;
            }
            world.read();
        }
        world.finish();
        world.check();
        assert_eq!(world.outcome, Some(Err(RollbackReason::Checksum)), "piece {nth}");
    }
}

#[test]
fn what_the_receiver_did_not_say_is_unknown_and_what_it_remembers_is_not() {
    for forgets in [false, true] {
        let mut world = World::new(100, ALL);
        while world.applied.is_none() {
            world.write(1);
            world.read();
            world.answer();
        }
        world.cut();
        if forgets {
            world.b = Migrations::new(config());
        }
        world.finish();
        let unknown = matches!(world.outcome, Some(Err(RollbackReason::OutcomeUnknown)));
        assert_eq!((unknown, matches!(world.outcome, Some(Ok(_)))), (forgets, !forgets), "{:?}", world.outcome);
    }
}

#[test]
fn one_peer_has_one_place_and_a_claim_of_size_takes_no_memory() {
    let mut b = Migrations::new(config());
    let (now, piece_bytes) = (Instant::now(), 1024);
    let offer = |id, bytes| {
        let (name, digest) = ("table".to_owned(), [0; 32]);
        Ok(Frame::Offer(Offer { id: MigrationId(id), name, bytes, piece_bytes, digest, committed: false }))
    };
    for stream in 1..=3 {
        b.on_stream(now, A, stream);
    }
    assert_eq!(b.next(3), Next::Finish, "of streams that say nothing a peer has two");
    b.on_frame(now, 1, offer(1, u64::MAX), |_, _| Ok(()));
    assert!(matches!(b.next(1), Next::Write(Frame::Failed(RollbackReason::TooLarge { .. }))));
    b.on_stream(now, A, 4);
    b.on_frame(now, 2, offer(2, 64 * 1024), |_, _| Ok(()));
    assert_eq!(b.next(2), Next::Write(Frame::Accept { from: 0 }));
    assert_eq!(b.held(), 0);
    b.on_frame(now, 4, offer(3, 10), |_, _| Ok(()));
    assert_eq!(b.next(4), Next::Write(Frame::Failed(RollbackReason::Busy)));
    assert_eq!(b.next(4), Next::Finish);
}

#[test]
fn a_stream_that_says_nothing_is_closed() {
    let (mut b, now) = (Migrations::new(config()), Instant::now());
    b.on_stream(now, A, 1);
    assert_eq!(b.next(1), Next::Wait);
    b.on_timeout(b.deadline().unwrap());
    assert_eq!(b.next(1), Next::Finish);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_the_state_arrives_complete_or_not_at_all(
        bytes in 0..12_000_usize,
        said in prop_oneof![6 => Just(ALL), 1 => (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(capture, accept, verify, apply)| Answers { capture, accept, verify, apply })],
        steps in proptest::collection::vec(steps(), 0..120),
    ) {
        let mut world = World::new(bytes, said);
        for step in steps {
            act(&mut world, step);
        }
        world.finish();
        world.check();
    }

    /// A peer that says anything at any time: no panic, and no more memory than was configured.
    #[test]
    fn nothing_a_peer_says_does_harm(frames in proptest::collection::vec((0..4_u64, any::<u8>(), any::<u8>()), 0..200)) {
        let now = Instant::now();
        let (mut a, mut b) = (Migrations::new(config()), Migrations::new(config()));
        let key = a.begin(now, B, "table", MigrationId(7)).unwrap();
        a.on_captured(now, key, Ok(content(3000)));
        a.on_connected(now, key, 0);
        for (stream, kind, which) in frames {
            let frame = match kind % 12 {
                0 => Frame::Accept { from: u64::from(which % 5) },
                1 => Frame::Verified,
                2 => Frame::Commit,
                3 => Frame::Forgotten,
                9 => Frame::Got { pieces: u64::from(which % 5) },
                4 => Frame::Failed(RollbackReason::Busy),
                5 | 6 => Frame::Offer(Offer {
                    id: MigrationId(u64::from(which % 3)), name: "table".into(), bytes: u64::from(which) * 1000,
                    piece_bytes: 1024, digest: *blake3::hash(&[]).as_bytes(), committed: which == 200,
                }),
                7 | 8 => Frame::Piece { index: u64::from(which % 4), raw_bytes: 1024, compressed: false, data: content(1024) },
                _ => garbage(which),
            };
            b.on_stream(now, A, stream);
            b.on_frame(now, stream, Ok(frame.clone()), |_, _| Ok(()));
            let _ = (b.next(stream), a.next(0));
            a.on_frame(now, 0, Ok(frame), |_, _| Ok(()));
            prop_assert!(b.held() <= 4 * 2 * 64 * 1024);
        }
    }
}
