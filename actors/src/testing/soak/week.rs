//! The long run: traffic, conditions and failures in the order of time, on one timer.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bowline_messages::ChannelId;
use bowline_messages::MessageClass;
use bowline_messages::config::SessionConfig;
use bowline_messages::session::{Outgoing, SendError};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use super::condition::{CONDITION_EVERY, Condition, Synthetic};
use super::judge::{Choices, Sequence, Side, Truth};
use super::media::{MEDIA, MEDIA_COUNT, MediumIndex};
use super::plan::Plan;
use super::recorded::Played;
use super::report::Timeline;
use super::schedule::{Effect, Failure, FailureKind};
use super::traffic::{SORTS, Talk, Word, compose};
use super::world::World;
use super::{SoakError, draw};
use crate::session::actor::StatusQuery;
use crate::transport::memory::{Change, PathSettings};

/// Links and sessions stand by then.
const WARM_UP: Duration = Duration::from_secs(5);
/// In the end everything that was accepted has to arrive within this.
const DRAIN: Duration = Duration::from_secs(300);
/// So much is drawn before and after a failure.
const DRAWN_BEFORE: Duration = Duration::from_secs(20);
/// See [`DRAWN_BEFORE`].
const DRAWN_AFTER: Duration = Duration::from_secs(40);
/// How often a node is asked which link it would use.
const CHOICE_EVERY_MS: u64 = 1_000;

/// What is to be done at some moment.
#[derive(Debug, Clone, Copy)]
enum Task {
    /// Links change.
    Conditions,
    /// Something about a failure changes.
    Failure(usize),
    /// Somebody has something to say.
    Talk(usize),
    /// Nodes are asked which link they would use.
    Choice,
}

/// One direction of a conversation.
struct Voice {
    from: usize,
    to: usize,
    talk: Talk,
}

enum Course {
    Synthetic(Box<Synthetic>),
    Played(Box<Played>),
}

impl Course {
    fn step(&mut self) -> Condition {
        match self {
            Self::Synthetic(synthetic) => synthetic.step(),
            Self::Played(played) => played.step(),
        }
    }
}

/// A pair's links.
struct PairLinks {
    pair: (usize, usize),
    courses: Vec<Course>,
    now: Vec<Condition>,
}

/// The long run.
pub(super) struct Week {
    pub(super) world: World,
    pub(super) failures: Rc<[Failure]>,
    pub(super) choices: Choices,
    lasts: Duration,
    pairs: Vec<PairLinks>,
    voices: Vec<Voice>,
    agenda: BTreeMap<(Duration, u64), Task>,
    tasks: u64,
    active: Vec<usize>,
    random: ChaCha12Rng,
}

impl Week {
    /// Everything is drawn from the seed; nothing happens yet.
    pub(super) fn new(plan: &Plan) -> Result<Self, SoakError> {
        let pairs = plan.pairs();
        let failures = plan.injected();
        let mut voices = Vec::new();
        for (at, (first, second)) in pairs.iter().enumerate() {
            for (way, (from, to)) in [(*first, *second), (*second, *first)].into_iter().enumerate() {
                let random = draw::stream(plan.seed, super::CONCERN_TRAFFIC + (at * 2 + way) as u64);
                voices.push(Voice { from, to, talk: Talk::new(plan.rate / 2.0, random) });
            }
        }
        let mut week = Self {
            world: World::new(plan.seed, plan.nodes, &SessionConfig::default(), plan.network)?,
            failures: failures.into(),
            choices: Choices::default(),
            lasts: plan.until(),
            pairs: pairs.iter().enumerate().map(|(at, pair)| pair_links(plan, at, *pair)).collect(),
            voices,
            agenda: BTreeMap::new(),
            tasks: 0,
            active: Vec::new(),
            random: draw::stream(plan.seed, super::CONCERN_CHOICE),
        };
        week.world.shared.trail.borrow_mut().show(plan.shown);
        for voice in &mut week.voices {
            voice.talk.hold_until(WARM_UP);
        }
        week.world.shared.judge.borrow_mut().deliveries.drawn_in = week.drawn_window();
        week.plan_ahead();
        Ok(week)
    }

    /// The time that is drawn: around the first failure of half of all transports of the first pair, or else the first failure.
    fn drawn_window(&self) -> Option<(Duration, Duration)> {
        let of_first = |failure: &&Failure| failure.pair.0 + failure.pair.1 == 1;
        let half = self.failures.iter().filter(of_first).find(|failure| failure.kind == FailureKind::Half);
        let failure = half.or(self.failures.first())?;
        Some((failure.start.saturating_sub(DRAWN_BEFORE), failure.end + DRAWN_AFTER))
    }

    /// What is drawn of the first pair.
    pub(super) fn timeline(&self) -> Timeline {
        let mut judge = self.world.shared.judge.borrow_mut();
        let Some(window) = judge.deliveries.drawn_in else { return Timeline::default() };
        let first = |failure: &&Failure| (0..MEDIA_COUNT).any(|m| failure.affects((0, 1), m)) || failure.pair.0 <= 1;
        let within = |failure: &&Failure| failure.start < window.1 && window.0 < failure.end;
        let failures = self.failures.iter().filter(first).filter(within).cloned().collect();
        Timeline { messages: std::mem::take(&mut judge.deliveries.drawn), failures, window }
    }

    fn plan_ahead(&mut self) {
        self.add(Duration::ZERO, Task::Conditions);
        self.add(WARM_UP, Task::Choice);
        for failure in Rc::clone(&self.failures).iter() {
            for moment in failure.changes() {
                self.add(moment, Task::Failure(failure.id));
            }
        }
        for at in 0..self.voices.len() {
            self.add(self.voices[at].talk.due(), Task::Talk(at));
        }
    }

    fn add(&mut self, at: Duration, task: Task) {
        self.tasks += 1;
        self.agenda.insert((at, self.tasks), task);
    }

    /// Runs it to its end. `progress` is told the time now and then.
    pub(super) async fn run(&mut self, progress: &mut dyn FnMut(Duration)) -> Result<(), SoakError> {
        // Links stand from the first moment on.
        self.on_conditions(Duration::ZERO);
        self.world.connect().await?;
        tokio::time::sleep(WARM_UP / 2).await;
        self.world.find_sessions().await;
        while let Some(((due, _), task)) = self.agenda.pop_first() {
            if due >= self.lasts {
                continue;
            }
            let now = self.world.shared.now();
            if due > now {
                tokio::time::sleep(due - now).await;
            }
            match task {
                Task::Conditions => {
                    let now = self.world.shared.now();
                    self.on_conditions(now);
                    self.add(due + CONDITION_EVERY, Task::Conditions);
                    self.world.shared.judge.borrow_mut().on_time(now);
                    if self.world.shared.stale.replace(false) {
                        self.world.find_sessions().await;
                    }
                    progress(due);
                }
                Task::Failure(id) => self.on_failure(due, id),
                Task::Talk(voice) => self.on_talk(voice),
                Task::Choice => {
                    self.on_choice().await;
                    let next = self.random.random_range(CHOICE_EVERY_MS / 2..CHOICE_EVERY_MS * 3 / 2);
                    self.add(due + Duration::from_millis(next), Task::Choice);
                }
            }
        }
        self.drain().await;
        Ok(())
    }

    /// Everything that was accepted gets time to arrive.
    async fn drain(&mut self) {
        let until = self.world.shared.now() + DRAIN;
        loop {
            let now = self.world.shared.now();
            if self.world.shared.judge.borrow().deliveries.is_settled() || now >= until {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn on_conditions(&mut self, now: Duration) {
        for at in 0..self.pairs.len() {
            for medium in 0..MEDIA_COUNT {
                let links = &mut self.pairs[at];
                links.now[medium] = links.courses[medium].step();
                if links.now[medium].poor {
                    self.world.shared.judge.borrow_mut().on_poor(now, at, medium);
                }
                self.refresh(now, at, medium);
            }
        }
    }

    /// What a transport is like in one direction, everything that is wrong with it included.
    fn effective(&self, now: Duration, pair: usize, medium: MediumIndex, from: usize) -> (Condition, Effect) {
        let links = &self.pairs[pair];
        let (mut condition, mut all) = (links.now[medium], Effect::default());
        for id in &self.active {
            let failure = &self.failures[*id];
            if !failure.affects(links.pair, medium) {
                continue;
            }
            let effect = failure.effect(now, from);
            condition = condition.faded(effect.faded);
            if effect.interfered {
                condition = condition.interfered();
            }
            all.cut = all.cut.or(effect.cut);
            all.refuses |= effect.refuses;
        }
        (condition, all)
    }

    /// Tells the network what a transport is like now.
    fn refresh(&self, now: Duration, pair: usize, medium: MediumIndex) {
        let (first, second) = self.pairs[pair].pair;
        for (from, to) in [(first, second), (second, first)] {
            let (condition, effect) = self.effective(now, pair, medium, from);
            let base = condition.settings();
            let settings = PathSettings { cut: effect.cut.or(base.cut), refuse_dials: effect.refuses, ..base };
            let path = self.world.shared.path(from, to, medium);
            self.world.shared.network.apply(&path, Change::Shape(settings));
        }
    }

    fn on_failure(&mut self, now: Duration, id: usize) {
        let failures = Rc::clone(&self.failures);
        let failure = &failures[id];
        if now == failure.start {
            self.begin(now, failure);
        }
        if failure.cuts.iter().any(|(from, _)| *from == now) {
            if failure.kind == FailureKind::Fading {
                self.watch(failure);
            }
            self.world.shared.judge.borrow_mut().on_cut(now, id);
        }
        let ends = now == failure.end;
        if now == failure.start || ends {
            let what = if ends { "ends" } else { "begins" };
            self.world.shared.trail.borrow_mut().add(now, || format!("{what}: {failure:?}"));
        }
        if ends {
            self.active.retain(|active| *active != id);
            let shared = &self.world.shared;
            shared.judge.borrow_mut().on_healed(now, id, &|side| shared.sent(side));
            if failure.kind == FailureKind::Pause {
                self.wake(failure.pair.0);
            }
        }
        for pair in 0..self.pairs.len() {
            for medium in (0..MEDIA_COUNT).filter(|medium| failure.affects(self.pairs[pair].pair, *medium)) {
                self.refresh(now, pair, medium);
            }
        }
        if ends {
            self.note_broken(failure);
        }
    }

    /// Tells the judge where something vanished. Whether it did shows when the path is open again.
    fn note_broken(&self, failure: &Failure) {
        let (first, second) = failure.pair;
        let shared = &self.world.shared;
        for medium in &failure.media {
            let ways = [(first, second), (second, first)];
            if ways.iter().any(|(from, to)| shared.network.is_broken(&shared.path(*from, *to, *medium))) {
                shared.judge.borrow_mut().on_broken(failure, *medium);
            }
        }
    }

    /// A process goes on when the last of its pauses is over.
    fn wake(&self, node: usize) {
        let pauses = self.active.iter().map(|id| &self.failures[*id]);
        let own = pauses.filter(|failure| failure.kind == FailureKind::Pause && failure.pair.0 == node);
        self.world.set_paused(node, own.map(|failure| failure.end).max());
    }

    fn begin(&mut self, now: Duration, failure: &Failure) {
        let (node, peer) = failure.pair;
        let shared = &self.world.shared;
        self.watch(failure);
        shared.judge.borrow_mut().on_failure(now, failure);
        self.active.push(failure.id);
        match failure.kind {
            FailureKind::Reset => {
                for medium in &failure.media {
                    shared.network.apply(&shared.path(node, peer, *medium), Change::Reset);
                }
            }
            FailureKind::TransportPanic => {
                for medium in &failure.media {
                    self.kill(node, format!("transports/{}", MEDIA[*medium].name));
                }
            }
            FailureKind::SessionPanic => self.kill_session(node, peer),
            FailureKind::Pause => self.wake(node),
            FailureKind::BlackHole
            | FailureKind::OneWay
            | FailureKind::Fading
            | FailureKind::Flapping
            | FailureKind::Interference
            | FailureKind::Half => {}
        }
    }

    /// From now on what is written to what fails is looked at.
    fn watch(&self, failure: &Failure) {
        let (first, second) = failure.pair;
        for medium in &failure.media {
            for (node, peer) in [(first, second), (second, first)] {
                self.world.shared.watch(Side { node, peer, medium: *medium });
            }
        }
    }

    /// Makes an actor panic; of a node that is stopped when it goes on.
    fn kill(&self, node: usize, path: String) {
        let handle = self.world.nodes[node].handle.clone();
        actix_rt::spawn(async move {
            // One that is just being restarted has panicked already.
            let _ = handle.kill(&path).await;
        });
    }

    fn kill_session(&self, node: usize, peer: usize) {
        let handle = self.world.nodes[node].handle.clone();
        let start = self.world.nodes[peer].id.short();
        actix_rt::spawn(async move {
            let Ok(tree) = handle.tree().await else { return };
            let sessions = tree.children.iter().find(|child| child.id == "sessions");
            let group =
                sessions.and_then(|sessions| sessions.children.iter().find(|group| group.id.starts_with(&start)));
            if let Some(group) = group {
                let _ = handle.kill(&format!("sessions/{}/session", group.id)).await;
            }
        });
    }

    fn on_talk(&mut self, at: usize) {
        let now = self.world.shared.now();
        let voice = &mut self.voices[at];
        let (from, to) = (voice.from, voice.to);
        let paused = self.world.nodes[from].paused_until.get();
        if paused > now {
            // A stopped process says nothing.
            voice.talk.hold_until(paused + Duration::from_millis(1));
        } else {
            let mut words = Vec::new();
            voice.talk.speak(&mut words);
            words.into_iter().for_each(|word| self.say(now, from, to, word));
        }
        let due = self.voices[at].talk.due();
        self.add(due, Task::Talk(at));
    }

    fn say(&self, now: Duration, from: usize, to: usize, word: Word) {
        let shared = &self.world.shared;
        let sequence = Sequence { from, to, sort: word.sort };
        let number = shared.judge.borrow().deliveries.next(sequence);
        let class: MessageClass = SORTS[word.sort].class;
        let message = Outgoing::new(class, compose(number, word.bytes)).on(ChannelId(word.sort as u32));
        let node = &self.world.nodes[from];
        let sent = node.session(to).ok_or(SendError::Closed).and_then(|session| session.send(message));
        let mut judge = shared.judge.borrow_mut();
        match sent {
            Ok(_) => judge.on_sent(now, sequence),
            Err(error) => {
                judge.deliveries.on_refused();
                shared.stale.set(shared.stale.get() | (error == SendError::Closed));
            }
        }
    }

    /// Asks every session which link the next bet would take.
    async fn on_choice(&mut self) {
        for pair in 0..self.pairs.len() {
            let (first, second) = self.pairs[pair].pair;
            for (node, peer) in [(first, second), (second, first)] {
                if self.world.is_paused(node) || self.world.is_paused(peer) {
                    continue;
                }
                let Some(actor) = self.world.nodes[node].session_actor(peer) else { continue };
                let asked = self.world.shared.now();
                // Nothing takes time there; an actor that just panicked answers later or never, and then nothing was chosen.
                let answer = tokio::time::timeout(Duration::from_millis(1), actor.send(StatusQuery)).await;
                let Ok(Ok(status)) = answer else { continue };
                let choice = status.choices.iter().find(|choice| choice.class == MessageClass::Critical);
                let link = choice.and_then(|choice| choice.links.first());
                let shared = &self.world.shared;
                let judge = shared.judge.borrow();
                let chosen = link.and_then(|link| judge.links.medium(node, peer, *link));
                let connected = judge.links.usable(node, peer);
                let truth = std::array::from_fn(|medium| {
                    let (condition, effect) = self.effective(asked, pair, medium, node);
                    let (_, back) = self.effective(asked, pair, medium, peer);
                    let open = effect.cut.is_none() && back.cut.is_none() && !effect.refuses;
                    Truth { cost_ms: condition.cost_ms().filter(|_| open), connected: connected[medium] }
                });
                drop(judge);
                self.choices.on_choice(chosen, &truth);
            }
        }
    }
}

fn pair_links(plan: &Plan, at: usize, pair: (usize, usize)) -> PairLinks {
    let course = |medium: MediumIndex| {
        let concern = super::CONCERN_LINKS + (at * MEDIA_COUNT + medium) as u64 * 2;
        let base = Synthetic::new(MEDIA[medium], draw::stream(plan.seed, concern));
        match &plan.recordings {
            Some(recordings) if recordings.count(medium) > 0 => {
                let random = draw::stream(plan.seed, concern + 1);
                Course::Played(Box::new(Played::new(Arc::clone(recordings), medium, random, base)))
            }
            Some(_) | None => Course::Synthetic(Box::new(base)),
        }
    };
    let mut courses: Vec<Course> = (0..MEDIA_COUNT).map(course).collect();
    let now = courses.iter_mut().map(Course::step).collect();
    PairLinks { pair, courses, now }
}
