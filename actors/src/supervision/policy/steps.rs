//! What the policy does inside: ends, restarts, groups, orders.

use std::time::Instant;

use bowline_messages::supervision::{ChildError, ExitReason, Restart, ShutdownMode, Strategy};

use super::*;

impl<T: Named> Policy<T> {
    /// A child ended that nobody told to: forget it, leave it down, restart it, restart its group, or give up.
    pub(super) fn ended_by_itself(
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
    pub(super) fn restart_allowed(&mut self, now: Instant) -> bool {
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
    pub(super) fn restart_with_group(&mut self, at: Instant, key: Key, outputs: &mut Vec<Output<T>>) {
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
    pub(super) fn restart_in_group(&mut self, at: Instant, key: Key, outputs: &mut Vec<Output<T>>) {
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
    pub(super) fn give_up(&mut self, key: Key, reason: &ExitReason) {
        let child = self.get(key).map(|data| data.id().to_owned());
        let child = child.unwrap_or_default();
        self.end(match self.rules.on_exceeded {
            OnExceeded::Escalate => ExitReason::IntensityExceeded { child },
            OnExceeded::EndGroup => ExitReason::GroupEnded { child, reason: Box::new(reason.clone()) },
        });
    }

    /// No more starts; everything alive is to be stopped.
    pub(super) fn end(&mut self, reason: ExitReason) {
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
    pub(super) fn settle(&mut self, now: Instant, key: Key, outputs: &mut Vec<Output<T>>) {
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
    pub(super) fn stop_overdue(&mut self, now: Instant, key: Key, outputs: &mut Vec<Output<T>>) {
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
    pub(super) fn step(&mut self, now: Instant) -> Vec<Output<T>> {
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
    pub(super) fn release_empty(&mut self) {
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
    pub(super) fn next_of_group(&self) -> Option<(Instant, Key)> {
        if self.stopping > 0 || !self.to_stop.is_empty() || self.group_starting.is_some() {
            return None;
        }
        let key = *self.group.first()?;
        let at = self.children.get(&key)?.not_before?;
        Some((at, key))
    }

    pub(super) fn order_start(&mut self, key: Key, outputs: &mut Vec<Output<T>>) {
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

    pub(super) fn order_stop(&mut self, now: Instant, key: Key, outputs: &mut Vec<Output<T>>) {
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

    pub(super) fn insert(&mut self, rules: ChildRules, data: T) -> Key {
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

    pub(super) fn enqueue_start(&mut self, key: Key, at: Instant, in_group: bool) {
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

    pub(super) fn dequeue_start(&mut self, key: Key) {
        if let Some(entry) = self.children.get_mut(&key)
            && let Some(at) = entry.not_before.take()
        {
            self.group.remove(&key);
            self.alone.remove(&(at, key));
        }
    }

    /// The child, if this report is about its present life.
    pub(super) fn current(&mut self, key: Key, life: u32) -> Option<&mut Entry<T>> {
        let entry = self.children.get_mut(&key)?;
        (entry.life_number == life).then_some(entry)
    }

    /// Marks a child as down, whatever it was.
    pub(super) fn went_down(&mut self, key: Key) {
        if let Some(entry) = self.children.get_mut(&key) {
            entry.life = Life::Down;
            self.alive -= 1;
            if self.group_starting == Some(key) {
                self.group_starting = None;
            }
        }
    }

    /// A child that lived for a whole period starts its back-off anew.
    pub(super) fn forgive(&mut self, now: Instant, key: Key, ended: Life) {
        let period = self.rules.intensity.period;
        if let Life::Up { since } = ended
            && now.saturating_duration_since(since) >= period
            && let Some(entry) = self.children.get_mut(&key)
        {
            entry.failures = 0;
        }
    }

    pub(super) fn expect_down(&self, key: Key) -> Result<(), ChildError> {
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
