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

use bowline_messages::supervision::{ChildError, ChildState, ExitReason, Restart, Strategy};

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
}

fn not_found(key: Key) -> ChildError {
    ChildError::NotFound { id: key.to_string() }
}

mod steps;

#[cfg(test)]
mod tests;
