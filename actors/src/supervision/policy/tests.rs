//! The policy against a small reference model over random sequences of crashes, ends and orders, and its edge cases.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::supervision::{ChildState, ExitReason, Restart, ShutdownMode, Strategy};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::super::rules::{Backoff, ChildRules, Intensity, OnExceeded, Rules};
use super::{Key, Named, Output, Policy};

const SECOND: Duration = Duration::from_secs(1);

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// With children that obey at once, the machine does what OTP's synchronous supervisor does.
    #[test]
    fn agrees_with_the_reference_model(
        strategy in strategies(),
        restarts in prop::collection::vec(restart_types(), 1..6),
        allowed in 0_u32..6,
        steps in prop::collection::vec(steps(), 0..40),
    ) {
        let mut world = World::new(strategy, &restarts, allowed);
        let mut model = Model::new(strategy, &restarts, allowed);
        for step in steps {
            let now = world.now;
            match step {
                Step::End { child, crash } => {
                    let reason = reason(crash);
                    if let Some(life) = world.life(child) {
                        world.exit(child, life, &reason);
                        model.end(now, child, &reason);
                    }
                    world.obey();
                }
                Step::Wait(seconds) => world.wait(seconds),
                Step::Terminate(child) => {
                    if let Ok(outputs) = world.policy.on_terminate(now, child) {
                        world.take(outputs);
                        world.obey();
                        model.terminate(child);
                    }
                }
                Step::Restart(child) => {
                    if let Ok(outputs) = world.policy.on_restart(now, child) {
                        world.take(outputs);
                        world.obey();
                        model.restart(child);
                    }
                }
            }
            // The model knows no back-off: let every wait pass, then compare who runs.
            world.run_out_waits();
            prop_assert_eq!(world.running(), model.running.clone());
            prop_assert_eq!(&world.ended, &model.ended);
        }
    }

    /// Whatever the order of reports, late, doubled or never: no child ever has two lives, stops go in reverse order and
    /// starts in order within a group, and a shutdown always ends.
    #[test]
    fn holds_its_invariants_in_any_order_of_reports(
        strategy in strategies(),
        restarts in prop::collection::vec(restart_types(), 1..6),
        steps in prop::collection::vec((0_u64..6, 0_u8..8, 0_u64..4_000, any::<u64>()), 0..120),
    ) {
        let mut world = World::new(strategy, &restarts, 4);
        world.obedient = false;
        for (child, kind, wait, random) in steps {
            let now = world.now;
            let lives = world.policy.children.get(&child).map_or(0, |entry| entry.life_number);
            let outputs = match kind {
                0 => world.policy.on_started(now, child, lives),
                1 => world.policy.on_exit(now, child, lives, &reason(true), random),
                2 => world.policy.on_exit(now, child, lives, &ExitReason::Normal, random),
                3 => world.policy.on_exit(now, child, lives.wrapping_sub(1), &reason(true), random),
                4 => world.policy.on_started(now, child, lives.wrapping_add(1)),
                5 => world.policy.on_timeout(now),
                6 => world.policy.on_terminate(now, child).unwrap_or_default(),
                _ => world.policy.on_restart(now, child).unwrap_or_default(),
            };
            if kind == 3 || kind == 4 {
                let harmless = |output: &Output<Id>| !matches!(output, Output::WillRestart { .. } | Output::Exceeded { .. });
                prop_assert!(outputs.iter().all(harmless));
            }
            world.take(outputs);
            world.check();
            world.now += Duration::from_millis(wait);
        }
        let outputs = world.policy.on_shutdown(world.now, ExitReason::Shutdown);
        world.take(outputs);
        // Nobody answers any more: deadlines alone bring it to its end.
        for _ in 0..100 {
            let Some(at) = world.policy.deadline() else { break };
            world.now = world.now.max(at);
            let outputs = world.policy.on_timeout(world.now);
            world.take(outputs);
            world.check();
        }
        prop_assert!(world.ended.is_some());
        prop_assert_eq!(world.policy.alive(), 0);
    }
}

#[test]
fn late_doubled_and_foreign_reports_change_nothing() {
    let mut world = World::new(Strategy::OneForOne, &[Restart::Permanent; 2], 1);
    world.exit(0, 1, &reason(true));
    world.obey();
    for _ in 0..10 {
        for (key, life) in [(0, 1), (0, 9), (77, 1)] {
            let outputs = world.policy.on_exit(world.now, key, life, &reason(true), 0);
            assert!(outputs.is_empty(), "{outputs:?}");
            assert!(world.policy.on_started(world.now, key, life).is_empty());
        }
        assert!(world.policy.on_timeout(world.now).is_empty());
    }
    assert_eq!(world.running(), [0, 1]);
}

#[test]
fn a_child_that_hangs_is_cut_off_then_abandoned() {
    let mut world = World::new(Strategy::OneForOne, &[Restart::Permanent], 1);
    world.obedient = false;
    let outputs = world.policy.on_shutdown(world.now, ExitReason::Shutdown);
    assert_eq!(outputs, [Output::Stop { key: 0 }]);
    world.now += 5 * SECOND;
    assert_eq!(world.policy.on_timeout(world.now), [Output::Kill { key: 0 }]);
    world.now += SECOND;
    let outputs = world.policy.on_timeout(world.now);
    assert_eq!(outputs, [Output::Abandoned { key: 0 }, Output::Exit(ExitReason::Shutdown)]);
}

#[derive(Debug, Clone)]
enum Step {
    End { child: Key, crash: bool },
    Wait(u64),
    Terminate(Key),
    Restart(Key),
}

fn steps() -> impl proptest::strategy::Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..6, any::<bool>()).prop_map(|(child, crash)| Step::End { child, crash }),
        2 => (0_u64..90).prop_map(Step::Wait),
        1 => (0_u64..6).prop_map(Step::Terminate),
        1 => (0_u64..6).prop_map(Step::Restart),
    ]
}

fn strategies() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop_oneof![
        Just(Strategy::OneForOne),
        Just(Strategy::OneForAll),
        Just(Strategy::RestForOne),
        Just(Strategy::Dynamic)
    ]
}

fn restart_types() -> impl proptest::strategy::Strategy<Value = Restart> {
    prop_oneof![Just(Restart::Permanent), Just(Restart::Transient), Just(Restart::Temporary)]
}

fn reason(crash: bool) -> ExitReason {
    if crash { ExitReason::Panicked { message: "test".into() } } else { ExitReason::Normal }
}

/// OTP's supervisor as one would write it if children started and stopped at once and nobody waited.
struct Model {
    strategy: Strategy,
    restarts: BTreeMap<Key, Restart>,
    running: Vec<Key>,
    allowed: u32,
    window: Vec<Instant>,
    ended: Option<ExitReason>,
}

impl Model {
    fn new(strategy: Strategy, restarts: &[Restart], allowed: u32) -> Self {
        let restarts: BTreeMap<Key, Restart> = (0..).zip(restarts.iter().copied()).collect();
        Self {
            strategy,
            running: restarts.keys().copied().collect(),
            restarts,
            allowed,
            window: Vec::new(),
            ended: None,
        }
    }

    fn end(&mut self, now: Instant, child: Key, reason: &ExitReason) {
        self.running.retain(|other| *other != child);
        let again = match self.restarts[&child] {
            Restart::Permanent => true,
            Restart::Transient => reason.is_abnormal(),
            Restart::Temporary => false,
        };
        if !again {
            if self.strategy == Strategy::Dynamic || self.restarts[&child] == Restart::Temporary {
                self.restarts.remove(&child);
            }
            return;
        }
        self.window.retain(|at| now - *at <= 60 * SECOND);
        self.window.push(now);
        if self.window.len() > self.allowed as usize {
            self.running.clear();
            let child = child.to_string();
            self.ended = Some(ExitReason::IntensityExceeded { child });
            return;
        }
        let first = match self.strategy {
            Strategy::OneForOne | Strategy::Dynamic => return self.restart(child),
            Strategy::OneForAll => 0,
            Strategy::RestForOne => child,
        };
        self.restarts.retain(|other, kind| *other < first || *kind != Restart::Temporary);
        self.running.retain(|other| *other < first);
        self.running.extend(self.restarts.keys().filter(|other| **other >= first));
    }

    fn terminate(&mut self, child: Key) {
        self.running.retain(|other| *other != child);
        if self.strategy == Strategy::Dynamic || self.restarts[&child] == Restart::Temporary {
            self.restarts.remove(&child);
        }
    }

    fn restart(&mut self, child: Key) {
        self.running.push(child);
        self.running.sort_unstable();
    }
}

struct Id(String);

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Named for Id {
    fn id(&self) -> &str {
        &self.0
    }
}

/// Children that do as they are told, when `obedient`.
struct World {
    policy: Policy<Id>,
    now: Instant,
    lives: BTreeMap<Key, u32>,
    todo: Vec<Output<Id>>,
    obedient: bool,
    ended: Option<ExitReason>,
}

impl World {
    fn new(strategy: Strategy, restarts: &[Restart], allowed: u32) -> Self {
        let rules = Rules {
            strategy,
            intensity: Intensity { restarts: allowed, period: 60 * SECOND },
            backoff: Backoff::default(),
            on_exceeded: OnExceeded::Escalate,
        };
        let children = restarts.iter().enumerate().map(|(number, restart)| {
            let shutdown = ShutdownMode::Timeout(5 * SECOND);
            let rules = ChildRules { restart: *restart, shutdown, significant: false };
            (rules, Id(number.to_string()))
        });
        let mut world = Self {
            policy: Policy::new(rules, 0),
            now: Instant::now(),
            lives: BTreeMap::new(),
            todo: Vec::new(),
            obedient: true,
            ended: None,
        };
        let outputs = world.policy.on_start(world.now, children);
        world.take(outputs);
        world.obey();
        world
    }

    /// The number of the child's life, if it has one.
    fn life(&self, key: Key) -> Option<u32> {
        self.lives.get(&key).copied()
    }

    fn running(&self) -> Vec<Key> {
        let up = |(key, _): (Key, &Id)| (self.policy.state(key) == Some(ChildState::Running)).then_some(key);
        self.policy.iter().filter_map(up).collect()
    }

    fn take(&mut self, outputs: Vec<Output<Id>>) {
        for output in outputs {
            if let Output::Exit(reason) = &output {
                assert!(self.ended.is_none(), "ended twice");
                self.ended = Some(reason.clone());
            }
            if self.obedient {
                self.todo.push(output);
            }
        }
    }

    fn exit(&mut self, key: Key, life: u32, reason: &ExitReason) {
        self.lives.remove(&key);
        let outputs = self.policy.on_exit(self.now, key, life, reason, 0);
        self.take(outputs);
    }

    /// Carries out all orders at once.
    fn obey(&mut self) {
        while !self.todo.is_empty() {
            match self.todo.remove(0) {
                Output::Start { key, life } => {
                    assert!(self.lives.insert(key, life).is_none(), "a second life");
                    let outputs = self.policy.on_started(self.now, key, life);
                    self.take(outputs);
                }
                Output::Stop { key } | Output::Kill { key } => {
                    let life = self.lives[&key];
                    self.exit(key, life, &ExitReason::Shutdown);
                }
                Output::Park { .. }
                | Output::Removed { .. }
                | Output::Abandoned { .. }
                | Output::WillRestart { .. }
                | Output::Exceeded { .. }
                | Output::Exit(_) => {}
            }
        }
        self.check();
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        let outputs = self.policy.on_timeout(self.now);
        self.take(outputs);
        self.obey();
    }

    /// Lets restarts that wait happen, without letting the intensity period pass.
    fn run_out_waits(&mut self) {
        while let Some(at) = self.policy.deadline() {
            self.now = self.now.max(at);
            let outputs = self.policy.on_timeout(self.now);
            self.take(outputs);
            self.obey();
        }
    }

    fn check(&self) {
        let policy = &self.policy;
        let alive = policy.children.values().filter(|entry| entry.life != super::Life::Down);
        assert_eq!(alive.count(), policy.alive());
        let stopping = |entry: &super::Entry<Id>| matches!(entry.life, super::Life::Stopping { .. });
        let count = policy.children.values().filter(|entry| stopping(entry)).count();
        assert_eq!(count, policy.stopping);
        if policy.rules.strategy != Strategy::Dynamic {
            assert!(count <= 1, "stops one at a time");
        }
        assert!(policy.restarts.len() <= policy.rules.intensity.restarts as usize + 1);
        for key in &policy.group {
            assert_eq!(policy.children[key].life, super::Life::Down);
        }
        for (_, key) in &policy.alone {
            assert_eq!(policy.children[key].life, super::Life::Down);
        }
        for key in &policy.to_stop {
            assert_ne!(policy.children[key].life, super::Life::Down);
        }
    }
}
