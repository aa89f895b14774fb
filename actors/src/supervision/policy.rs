//! The supervision policy: who is started, stopped, restarted, when, and when to give up. A pure machine.
//!
//! ```text
//!            Start            on_started
//!   Down ──────────▶ Starting ──────────▶ Up ─────── Stop ──────▶ Stopping ── deadline: Kill ──▶ (killed)
//!    ▲                  │ on_exit          │ on_exit                  │ on_exit                      │
//!    └──────────────────┴──────────────────┴──────────────────────────┴──────────────────────────────┘
//! ```
//!
//! Every order carries the number of the life it is about, and so does every report; a report about another life than
//! the present one is late or doubled and changes nothing. Starts in a group happen one at a time in order, stops one
//! at a time in reverse order, and no group start begins before all its stops are through.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bowline_messages::supervision::{ChildError, ChildState, ExitReason, Restart, ShutdownMode, Strategy};

use super::rules::{ChildRules, Intensity, OnExceeded, Rules};

/// Longest wait for a child that was cut off; after it the child is counted as gone (it hangs in a handler).
const KILL_GRACE: Duration = Duration::from_secs(1);

/// Names a child within its supervisor; keys grow, so their order is the start order.
pub type Key = u64;

/// What the policy needs to know of the data kept with a child.
pub trait Named {
    /// The child's id, for exit reasons.
    fn id(&self) -> &str;
}

/// What the supervisor has to do now, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output<T> {
    /// Begin this life of the child.
    Start {
        /// Which child.
        key: Key,
        /// Number of the life to begin.
        life: u32,
    },
    /// Ask the child to stop.
    Stop {
        /// Which child.
        key: Key,
    },
    /// Cut the child off.
    Kill {
        /// Which child.
        key: Key,
    },
    /// The child stays down: drop its messages until it is started again.
    Park {
        /// Which child.
        key: Key,
    },
    /// The child was forgotten; close its address.
    Removed {
        /// Which child.
        key: Key,
        /// What was kept with it.
        data: T,
    },
    /// The child was cut off and did not end: it hangs in a handler, and is counted as gone.
    Abandoned {
        /// Which child.
        key: Key,
    },
    /// For the record: the child will be started again after this long.
    WillRestart {
        /// Which child.
        key: Key,
        /// The wait.
        delay: Duration,
    },
    /// For the record: the child crashed once too often.
    Exceeded {
        /// Which child.
        key: Key,
    },
    /// All children are down: end, for this reason.
    Exit(ExitReason),
}

/// Present state of one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Down,
    Starting,
    Up { since: Instant },
    Stopping { deadline: Option<Instant>, killed: bool },
}

/// What becomes of a child once it is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// It is started again.
    Up,
    /// It stays down, its specification kept.
    Down,
    /// It is forgotten.
    Gone,
}

/// One child: what the policy knows of it, and what the supervisor keeps with it.
#[derive(Debug)]
struct Entry<T> {
    rules: ChildRules,
    life: Life,
    life_number: u32,
    want: Want,
    /// It is started in turn with its group; not set for a child that restarts alone.
    in_group: bool,
    /// Earliest start, while it waits for one (or is being stopped to be started again).
    not_before: Option<Instant>,
    /// Crashes since it last lived for a whole intensity period.
    failures: u32,
    data: T,
}

/// What the machine is doing as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Running,
    Ending(ExitReason),
    Ended,
}

/// The policy of one supervisor over children that carry a `T` each.
#[derive(Debug)]
pub struct Policy<T> {
    rules: Rules,
    phase: Phase,
    next_key: Key,
    children: BTreeMap<Key, Box<Entry<T>>>,
    /// Restarts within the period, oldest first; never more than the intensity allows, and one.
    restarts: VecDeque<Instant>,
    /// Alive and to be stopped when their turn comes.
    to_stop: BTreeSet<Key>,
    /// How many are stopping.
    stopping: usize,
    /// The deadlines of those that have one.
    deadlines: BTreeSet<(Instant, Key)>,
    /// Down and to be started in order, one after the other.
    group: BTreeSet<Key>,
    /// The child of the group that is starting now.
    group_starting: Option<Key>,
    /// Down and to be started alone, by time.
    alone: BTreeSet<(Instant, Key)>,
    /// How many are not down.
    alive: usize,
}

impl<T: Named> Policy<T> {
    /// A policy without children. Keys grow from `first_key`: a supervisor that was itself restarted takes a range
    /// never used before, so that late reports from its former children name nobody.
    #[must_use]
    pub fn new(rules: Rules, first_key: Key) -> Self {
        Self {
            rules,
            phase: Phase::Running,
            next_key: first_key,
            children: BTreeMap::new(),
            restarts: VecDeque::new(),
            to_stop: BTreeSet::new(),
            stopping: 0,
            deadlines: BTreeSet::new(),
            group: BTreeSet::new(),
            group_starting: None,
            alone: BTreeSet::new(),
            alive: 0,
        }
    }

    /// The supervisor itself starts, with these children: in order, each once the one before runs.
    pub fn on_start(&mut self, now: Instant, children: impl IntoIterator<Item = (ChildRules, T)>) -> Vec<Output<T>> {
        for (rules, data) in children {
            let key = self.insert(rules, data);
            self.enqueue_start(key, now, true);
        }
        self.step(now)
    }

    /// Adds one child behind all others and starts it. `None`, and nothing added, when the supervisor is ending.
    pub fn on_add(&mut self, now: Instant, rules: ChildRules, data: T) -> Option<(Key, Vec<Output<T>>)> {
        if self.phase != Phase::Running {
            return None;
        }
        let key = self.insert(rules, data);
        self.enqueue_start(key, now, false);
        Some((key, self.step(now)))
    }

    /// The child's factory and its `started` returned.
    pub fn on_started(&mut self, now: Instant, key: Key, life: u32) -> Vec<Output<T>> {
        let Some(entry) = self.current(key, life) else {
            return Vec::new();
        };
        if entry.life == Life::Starting {
            entry.life = Life::Up { since: now };
            entry.in_group = false;
            if self.group_starting == Some(key) {
                self.group_starting = None;
            }
        }
        self.step(now)
    }

    /// The child's life ended. `random` places the wait before a restart within its range.
    pub fn on_exit(&mut self, now: Instant, key: Key, life: u32, reason: &ExitReason, random: u64) -> Vec<Output<T>> {
        let Some(entry) = self.current(key, life) else {
            return Vec::new();
        };
        let ended = entry.life;
        let mut outputs = Vec::new();
        match ended {
            Life::Down => return outputs,
            Life::Stopping { deadline, .. } => {
                self.went_down(key);
                self.stopping -= 1;
                if let Some(deadline) = deadline {
                    self.deadlines.remove(&(deadline, key));
                }
                self.settle(now, key, &mut outputs);
            }
            Life::Starting | Life::Up { .. } => {
                self.went_down(key);
                if self.to_stop.remove(&key) || self.phase != Phase::Running {
                    self.settle(now, key, &mut outputs);
                } else {
                    self.forgive(now, key, ended);
                    self.ended_by_itself(now, key, reason, random, &mut outputs);
                }
            }
        }
        outputs.extend(self.step(now));
        outputs
    }

    /// Stop this child and keep its specification; a temporary one, or one of a dynamic supervisor, is forgotten.
    ///
    /// # Errors
    /// [`ChildError::NotFound`] when there is no such child.
    pub fn on_terminate(&mut self, now: Instant, key: Key) -> Result<Vec<Output<T>>, ChildError> {
        let forget = self.rules.strategy == Strategy::Dynamic;
        let entry = self.children.get_mut(&key).ok_or_else(|| not_found(key))?;
        entry.want = if forget || entry.rules.restart == Restart::Temporary { Want::Gone } else { Want::Down };
        let mut outputs = Vec::new();
        match entry.life {
            Life::Down => {
                self.dequeue_start(key);
                self.settle(now, key, &mut outputs);
            }
            Life::Starting | Life::Up { .. } => {
                self.to_stop.insert(key);
            }
            Life::Stopping { .. } => {}
        }
        outputs.extend(self.step(now));
        Ok(outputs)
    }

    /// Start a child that is down.
    ///
    /// # Errors
    /// When it is running, about to be started anyway, unknown, or the supervisor is ending.
    pub fn on_restart(&mut self, now: Instant, key: Key) -> Result<Vec<Output<T>>, ChildError> {
        self.expect_down(key)?;
        if self.phase != Phase::Running {
            return Err(ChildError::ShuttingDown);
        }
        self.enqueue_start(key, now, false);
        Ok(self.step(now))
    }

    /// Forget a child that is down.
    ///
    /// # Errors
    /// When it is running, about to be started again, or unknown.
    pub fn on_delete(&mut self, key: Key) -> Result<Vec<Output<T>>, ChildError> {
        self.expect_down(key)?;
        let entry = self.children.remove(&key).ok_or_else(|| not_found(key))?;
        Ok(vec![Output::Removed { key, data: entry.data }])
    }

    /// Stop all children in reverse order, then end for this reason.
    pub fn on_shutdown(&mut self, now: Instant, reason: ExitReason) -> Vec<Output<T>> {
        if self.phase == Phase::Running {
            self.end(reason);
        }
        self.step(now)
    }

    /// A deadline was reached; late and spurious calls do no harm.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<Output<T>> {
        let mut outputs = Vec::new();
        while let Some(&(deadline, key)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            self.stop_overdue(now, key, &mut outputs);
        }
        outputs.extend(self.step(now));
        outputs
    }

    /// When [`Policy::on_timeout`] wants to run next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let kill = self.deadlines.first().map(|(at, _)| *at);
        if self.phase != Phase::Running {
            return kill;
        }
        let alone = self.alone.first().map(|(at, _)| *at);
        let group = self.next_of_group().map(|(at, _)| at);
        [kill, alone, group].into_iter().flatten().min()
    }

    /// Whether the supervisor is shutting down, or done.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.phase != Phase::Running
    }

    /// Whether this is the present life of a child that is not down.
    #[must_use]
    pub fn is_alive(&self, key: Key, life: u32) -> bool {
        let entry = self.children.get(&key);
        entry.is_some_and(|entry| entry.life_number == life && entry.life != Life::Down)
    }

    /// What is kept with the child.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        self.children.get(&key).map(|entry| &entry.data)
    }

    /// What is kept with the child.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.children.get_mut(&key).map(|entry| &mut entry.data)
    }

    /// All children in start order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.children.iter().map(|(key, entry)| (*key, &entry.data))
    }

    /// Number of children known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether no children are known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// Number of children that are not down.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.alive
    }

    /// The fixed part.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What the child is doing.
    #[must_use]
    pub fn state(&self, key: Key) -> Option<ChildState> {
        let entry = self.children.get(&key)?;
        Some(match entry.life {
            Life::Down if entry.not_before.is_none() => ChildState::Down,
            Life::Down if entry.life_number > 0 => ChildState::Restarting,
            Life::Stopping { .. } => ChildState::Stopping,
            Life::Starting | Life::Up { .. } if self.to_stop.contains(&key) => ChildState::Stopping,
            Life::Down | Life::Starting => ChildState::Starting,
            Life::Up { .. } => ChildState::Running,
        })
    }

    /// When the child's present life began to run.
    #[must_use]
    pub fn up_since(&self, key: Key) -> Option<Instant> {
        match self.children.get(&key)?.life {
            Life::Up { since } => Some(since),
            Life::Down | Life::Starting | Life::Stopping { .. } => None,
        }
    }

    /// A child ended that nobody told to: forget it, leave it down, restart it, restart its group, or give up.
    fn ended_by_itself(
        &mut self,
        now: Instant,
        key: Key,
        reason: &ExitReason,
        random: u64,
        outputs: &mut Vec<Output<T>>,
    ) {
        let Some(entry) = self.children.get_mut(&key) else {
            return;
        };
        let again = match entry.rules.restart {
            Restart::Permanent => true,
            Restart::Transient => reason.is_abnormal(),
            Restart::Temporary => false,
        };
        if !again {
            let forget = entry.rules.restart == Restart::Temporary || self.rules.strategy == Strategy::Dynamic;
            entry.want = if forget { Want::Gone } else { Want::Down };
            if entry.rules.significant {
                let child = entry.data.id().to_owned();
                let reason = Box::new(reason.clone());
                self.end(ExitReason::GroupEnded { child, reason });
            }
            self.settle(now, key, outputs);
        } else if self.restart_allowed(now) {
            let Some(entry) = self.children.get_mut(&key) else {
                return;
            };
            let delay = self.rules.backoff.delay(entry.failures, random);
            entry.failures = entry.failures.saturating_add(1);
            outputs.push(Output::WillRestart { key, delay });
            self.restart_with_group(now + delay, key, outputs);
        } else {
            outputs.push(Output::Exceeded { key });
            self.give_up(key, reason);
        }
    }

    /// Counts one restart; false when it is one too many.
    fn restart_allowed(&mut self, now: Instant) -> bool {
        let Intensity { restarts, period } = self.rules.intensity;
        while let Some(&oldest) = self.restarts.front()
            && now.saturating_duration_since(oldest) > period
        {
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        self.restarts.len() <= restarts as usize
    }

    /// Schedules the restart of the child and, by strategy, of others.
    fn restart_with_group(&mut self, at: Instant, key: Key, outputs: &mut Vec<Output<T>>) {
        let first = match self.rules.strategy {
            Strategy::OneForOne | Strategy::Dynamic => {
                let in_group = self.children.get(&key).is_some_and(|entry| entry.in_group);
                self.enqueue_start(key, at, in_group);
                return;
            }
            Strategy::OneForAll => Key::MIN,
            Strategy::RestForOne => key,
        };
        let affected: Vec<Key> = self.children.range(first..).map(|(key, _)| *key).collect();
        for other in affected {
            self.restart_in_group(at, other, outputs);
        }
    }

    /// One member of a group that restarts: stop it if it runs, and start it in its turn; forget a temporary one.
    fn restart_in_group(&mut self, at: Instant, key: Key, outputs: &mut Vec<Output<T>>) {
        let Some(entry) = self.children.get_mut(&key) else {
            return;
        };
        let temporary = entry.rules.restart == Restart::Temporary;
        let ordered_down = entry.want != Want::Up;
        match entry.life {
            Life::Down if temporary => {
                entry.want = Want::Gone;
                self.settle(at, key, outputs);
            }
            Life::Down => {
                self.dequeue_start(key);
                self.enqueue_start(key, at, true);
            }
            Life::Starting | Life::Up { .. } | Life::Stopping { .. } => {
                let stopping = matches!(entry.life, Life::Stopping { .. });
                if !ordered_down {
                    entry.want = if temporary { Want::Gone } else { Want::Up };
                    entry.in_group = true;
                    entry.not_before = Some(at);
                }
                if !stopping {
                    self.to_stop.insert(key);
                }
            }
        }
    }

    /// The intensity is exceeded: end as the rules say.
    fn give_up(&mut self, key: Key, reason: &ExitReason) {
        let child = self.get(key).map(|data| data.id().to_owned());
        let child = child.unwrap_or_default();
        self.end(match self.rules.on_exceeded {
            OnExceeded::Escalate => ExitReason::IntensityExceeded { child },
            OnExceeded::EndGroup => ExitReason::GroupEnded { child, reason: Box::new(reason.clone()) },
        });
    }

    /// No more starts; everything alive is to be stopped.
    fn end(&mut self, reason: ExitReason) {
        self.phase = Phase::Ending(reason);
        self.group = BTreeSet::new();
        self.group_starting = None;
        self.alone = BTreeSet::new();
        for (key, entry) in &mut self.children {
            entry.not_before = None;
            match entry.life {
                Life::Starting | Life::Up { .. } => {
                    self.to_stop.insert(*key);
                }
                Life::Down | Life::Stopping { .. } => {}
            }
        }
    }

    /// A child that is down becomes what it is meant to be.
    fn settle(&mut self, now: Instant, key: Key, outputs: &mut Vec<Output<T>>) {
        let Some(entry) = self.children.get(&key) else {
            return;
        };
        match entry.want {
            Want::Gone => {
                if let Some(entry) = self.children.remove(&key) {
                    let data = entry.data;
                    outputs.push(Output::Removed { key, data });
                }
            }
            Want::Up | Want::Down if self.phase != Phase::Running => {}
            Want::Up => {
                let at = entry.not_before.unwrap_or(now);
                self.enqueue_start(key, at, entry.in_group);
            }
            Want::Down => outputs.push(Output::Park { key }),
        }
    }

    /// A stop took too long: cut it off, or, when it was cut off and hangs, count it as gone.
    fn stop_overdue(&mut self, now: Instant, key: Key, outputs: &mut Vec<Output<T>>) {
        let Some(entry) = self.children.get_mut(&key) else {
            return;
        };
        match entry.life {
            Life::Stopping { killed: false, .. } => {
                let deadline = now + KILL_GRACE;
                entry.life = Life::Stopping { deadline: Some(deadline), killed: true };
                self.deadlines.insert((deadline, key));
                outputs.push(Output::Kill { key });
            }
            Life::Stopping { killed: true, .. } => {
                self.went_down(key);
                self.stopping -= 1;
                outputs.push(Output::Abandoned { key });
                self.settle(now, key, outputs);
            }
            Life::Down | Life::Starting | Life::Up { .. } => {}
        }
    }

    /// Orders whatever may happen now: stops first, then starts, then the supervisor's own end.
    fn step(&mut self, now: Instant) -> Vec<Output<T>> {
        let mut outputs = Vec::new();
        let at_once = self.rules.strategy == Strategy::Dynamic;
        while (at_once || self.stopping == 0)
            && let Some(key) = self.to_stop.pop_last()
        {
            self.order_stop(now, key, &mut outputs);
        }
        while let Some(&(at, key)) = self.alone.first()
            && at <= now
        {
            self.alone.pop_first();
            self.order_start(key, &mut outputs);
        }
        if let Some((at, key)) = self.next_of_group()
            && at <= now
        {
            self.group.remove(&key);
            self.group_starting = Some(key);
            self.order_start(key, &mut outputs);
        }
        if self.alive == 0
            && let Phase::Ending(reason) = &self.phase
        {
            outputs.push(Output::Exit(reason.clone()));
            self.phase = Phase::Ended;
        }
        self.release_empty();
        outputs
    }

    /// Gives back the memory of empty queues: there is a supervisor per peer, and nearly all are at rest.
    fn release_empty(&mut self) {
        for queue in [&mut self.group, &mut self.to_stop] {
            if queue.is_empty() {
                *queue = BTreeSet::new();
            }
        }
        for queue in [&mut self.alone, &mut self.deadlines] {
            if queue.is_empty() {
                *queue = BTreeSet::new();
            }
        }
    }

    /// The next child of the group and its earliest start, unless the group has to wait for something else.
    fn next_of_group(&self) -> Option<(Instant, Key)> {
        if self.stopping > 0 || !self.to_stop.is_empty() || self.group_starting.is_some() {
            return None;
        }
        let key = *self.group.first()?;
        let at = self.children.get(&key)?.not_before?;
        Some((at, key))
    }

    fn order_start(&mut self, key: Key, outputs: &mut Vec<Output<T>>) {
        if let Some(entry) = self.children.get_mut(&key) {
            entry.life = Life::Starting;
            entry.life_number = entry.life_number.wrapping_add(1);
            entry.want = Want::Up;
            entry.not_before = None;
            self.alive += 1;
            let life = entry.life_number;
            outputs.push(Output::Start { key, life });
        }
    }

    fn order_stop(&mut self, now: Instant, key: Key, outputs: &mut Vec<Output<T>>) {
        let Some(entry) = self.children.get_mut(&key) else {
            return;
        };
        let (deadline, killed) = match entry.rules.shutdown {
            ShutdownMode::Timeout(limit) => (now.checked_add(limit), false),
            ShutdownMode::BrutalKill => (now.checked_add(KILL_GRACE), true),
            ShutdownMode::Infinity => (None, false),
        };
        if self.group_starting == Some(key) {
            self.group_starting = None;
        }
        entry.life = Life::Stopping { deadline, killed };
        self.stopping += 1;
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, key));
        }
        outputs.push(if killed { Output::Kill { key } } else { Output::Stop { key } });
    }

    fn insert(&mut self, rules: ChildRules, data: T) -> Key {
        let key = self.next_key;
        self.next_key += 1;
        let entry = Entry {
            rules,
            life: Life::Down,
            life_number: 0,
            want: Want::Up,
            in_group: false,
            not_before: None,
            failures: 0,
            data,
        };
        self.children.insert(key, Box::new(entry));
        key
    }

    fn enqueue_start(&mut self, key: Key, at: Instant, in_group: bool) {
        if let Some(entry) = self.children.get_mut(&key) {
            entry.want = Want::Up;
            entry.in_group = in_group;
            entry.not_before = Some(at);
            if in_group {
                self.group.insert(key);
            } else {
                self.alone.insert((at, key));
            }
        }
    }

    fn dequeue_start(&mut self, key: Key) {
        if let Some(entry) = self.children.get_mut(&key)
            && let Some(at) = entry.not_before.take()
        {
            self.group.remove(&key);
            self.alone.remove(&(at, key));
        }
    }

    /// The child, if this report is about its present life.
    fn current(&mut self, key: Key, life: u32) -> Option<&mut Entry<T>> {
        let entry = self.children.get_mut(&key)?;
        (entry.life_number == life).then_some(entry)
    }

    /// Marks a child as down, whatever it was.
    fn went_down(&mut self, key: Key) {
        if let Some(entry) = self.children.get_mut(&key) {
            entry.life = Life::Down;
            self.alive -= 1;
            if self.group_starting == Some(key) {
                self.group_starting = None;
            }
        }
    }

    /// A child that lived for a whole period starts its back-off anew.
    fn forgive(&mut self, now: Instant, key: Key, ended: Life) {
        let period = self.rules.intensity.period;
        if let Life::Up { since } = ended
            && now.saturating_duration_since(since) >= period
            && let Some(entry) = self.children.get_mut(&key)
        {
            entry.failures = 0;
        }
    }

    fn expect_down(&self, key: Key) -> Result<(), ChildError> {
        let entry = self.children.get(&key).ok_or_else(|| not_found(key))?;
        let id = || entry.data.id().to_owned();
        match self.state(key) {
            Some(ChildState::Down) => Ok(()),
            Some(ChildState::Restarting) => Err(ChildError::Restarting { id: id() }),
            Some(ChildState::Starting | ChildState::Running | ChildState::Stopping) | None => {
                Err(ChildError::Running { id: id() })
            }
        }
    }
}

fn not_found(key: Key) -> ChildError {
    ChildError::NotFound { id: key.to_string() }
}

#[cfg(test)]
mod tests;
