//! What is done about a failure, how often it is tried, and what comes next.
//!
//! | failure | strategy |
//! |---|---|
//! | partition, this side seems to be the minority | split-brain resolution |
//! | partition, this side seems to be the majority | majority rule |
//! | misbehaviour | Byzantine exclusion |
//! | crash, time-out | active reconnection |
//! | message loss | wait for heal |
//!
//! Attempts that fail or take too long are repeated; then the next strategy is tried: wait for heal, active reconnection, majority rule,
//! emergency rollback. No strategy makes anybody active: what they order is listed in [`Order`], and none of it is that. Majority rule *seeks* a
//! lease, which only a majority can grant.

use std::time::{Duration, Instant};

use bowline_messages::membership::FailureKind;
use bowline_messages::partition::{Side, Strategy};

/// What a strategy wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// Nothing but to wait.
    Wait,
    /// Links to those out of reach: dial again, over other transports, through other peers.
    Reconnect,
    /// A lease from a majority.
    SeekLease,
    /// Pause, and take over the state of the other side when it can be seen.
    Resolve,
    /// Back to the last state that a majority committed.
    RollBack,
    /// The excluded are taken out of the participants, through the log.
    Exclude,
}

/// What is done about a failure at first.
pub const fn choose(failure: FailureKind, side: Side) -> Strategy {
    match (failure, side) {
        (FailureKind::NetworkPartition, Side::Minority) => Strategy::SplitBrainResolution,
        (FailureKind::NetworkPartition, Side::Majority) => Strategy::MajorityRule,
        (FailureKind::ByzantineFailure, Side::Minority | Side::Majority) => Strategy::ByzantineExclusion,
        (FailureKind::CrashFailure | FailureKind::TimeoutFailure, Side::Minority | Side::Majority) => {
            Strategy::ActiveReconnection
        }
        (FailureKind::MessageLoss, Side::Minority | Side::Majority) => Strategy::WaitForHeal,
    }
}

/// What comes after a strategy that did not help.
pub const fn after(strategy: Strategy) -> Option<Strategy> {
    match strategy {
        Strategy::WaitForHeal => Some(Strategy::ActiveReconnection),
        Strategy::ActiveReconnection | Strategy::ByzantineExclusion => Some(Strategy::MajorityRule),
        Strategy::MajorityRule | Strategy::SplitBrainResolution => Some(Strategy::EmergencyRollback),
        Strategy::EmergencyRollback => None,
    }
}

/// What a strategy wants done. In the minority nobody seeks a lease or rolls anything back: it waits for the others, whatever was tried before.
pub const fn order(strategy: Strategy, side: Side) -> Order {
    match (strategy, side) {
        (Strategy::WaitForHeal, Side::Majority | Side::Minority) => Order::Wait,
        (Strategy::ActiveReconnection, Side::Majority | Side::Minority) => Order::Reconnect,
        (Strategy::MajorityRule, Side::Majority) => Order::SeekLease,
        (Strategy::MajorityRule | Strategy::EmergencyRollback, Side::Minority) => Order::Reconnect,
        (Strategy::SplitBrainResolution, Side::Majority | Side::Minority) => Order::Resolve,
        (Strategy::EmergencyRollback, Side::Majority) => Order::RollBack,
        (Strategy::ByzantineExclusion, Side::Majority | Side::Minority) => Order::Exclude,
    }
}

/// How often and how long something is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long one attempt may take.
    pub attempt: Duration,
    /// Attempts of one strategy.
    pub attempts: u32,
}

/// What an escalation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscalationOutput {
    /// An attempt begins.
    Attempt {
        /// Of this strategy.
        strategy: Strategy,
        /// From 1.
        attempt: u32,
    },
    /// An attempt failed, or took too long.
    Failed(Strategy),
    /// Nothing is left to try. It begins anew with active reconnection after the time of one attempt.
    Exhausted,
}

/// One failure being handled.
#[derive(Debug, Clone)]
pub struct Escalation {
    patience: Patience,
    strategy: Strategy,
    attempt: u32,
    until: Instant,
    exhausted: bool,
}

impl Escalation {
    /// Begins with a strategy.
    pub fn start(now: Instant, patience: Patience, strategy: Strategy) -> (Self, EscalationOutput) {
        let escalation = Self { patience, strategy, attempt: 1, until: now + patience.attempt, exhausted: false };
        let output = escalation.attempt();
        (escalation, output)
    }

    /// The attempt came to nothing before its time was over.
    pub fn on_failed(&mut self, now: Instant) -> Vec<EscalationOutput> {
        if self.exhausted { Vec::new() } else { self.next(now) }
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<EscalationOutput> {
        if now < self.until {
            return Vec::new();
        }
        if self.exhausted {
            self.exhausted = false;
            self.begin(now, Strategy::ActiveReconnection);
            return vec![self.attempt()];
        }
        self.next(now)
    }

    /// When [`Escalation::on_timeout`] is next due.
    pub const fn deadline(&self) -> Instant {
        self.until
    }

    /// What is tried, and which attempt this is; none while nothing is.
    pub fn current(&self) -> Option<(Strategy, u32)> {
        (!self.exhausted).then_some((self.strategy, self.attempt))
    }

    fn next(&mut self, now: Instant) -> Vec<EscalationOutput> {
        let failed = EscalationOutput::Failed(self.strategy);
        self.until = now + self.patience.attempt;
        if self.attempt < self.patience.attempts {
            self.attempt += 1;
            return vec![failed, self.attempt()];
        }
        match after(self.strategy) {
            Some(strategy) => {
                self.begin(now, strategy);
                vec![failed, self.attempt()]
            }
            None => {
                self.exhausted = true;
                vec![failed, EscalationOutput::Exhausted]
            }
        }
    }

    fn begin(&mut self, now: Instant, strategy: Strategy) {
        self.strategy = strategy;
        self.attempt = 1;
        self.until = now + self.patience.attempt;
    }

    const fn attempt(&self) -> EscalationOutput {
        EscalationOutput::Attempt { strategy: self.strategy, attempt: self.attempt }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { attempt: Duration::from_secs(30), attempts: 3 };
    const ALL: [Strategy; 6] = [
        Strategy::WaitForHeal,
        Strategy::ActiveReconnection,
        Strategy::MajorityRule,
        Strategy::SplitBrainResolution,
        Strategy::EmergencyRollback,
        Strategy::ByzantineExclusion,
    ];

    #[test]
    fn the_choice_is_that_of_the_table() {
        let both = [Side::Majority, Side::Minority];
        assert_eq!(choose(FailureKind::NetworkPartition, Side::Minority), Strategy::SplitBrainResolution);
        assert_eq!(choose(FailureKind::NetworkPartition, Side::Majority), Strategy::MajorityRule);
        for side in both {
            assert_eq!(choose(FailureKind::ByzantineFailure, side), Strategy::ByzantineExclusion);
            assert_eq!(choose(FailureKind::CrashFailure, side), Strategy::ActiveReconnection);
            assert_eq!(choose(FailureKind::TimeoutFailure, side), Strategy::ActiveReconnection);
            assert_eq!(choose(FailureKind::MessageLoss, side), Strategy::WaitForHeal);
        }
    }

    #[test]
    fn in_the_minority_nobody_seeks_a_lease_or_rolls_back() {
        for strategy in ALL {
            let order = order(strategy, Side::Minority);
            assert!(!matches!(order, Order::SeekLease | Order::RollBack), "{strategy}");
        }
    }

    #[test]
    fn three_attempts_of_thirty_seconds_then_the_next_strategy() {
        let start = Instant::now();
        let (mut escalation, first) = Escalation::start(start, PATIENCE, Strategy::WaitForHeal);
        let mut said = vec![(0, first)];
        let mut now = start;
        while !said.iter().any(|(_, output)| *output == EscalationOutput::Exhausted) {
            assert!(escalation.on_timeout(escalation.deadline() - Duration::from_nanos(1)).is_empty(), "too early");
            now = escalation.deadline();
            said.extend(escalation.on_timeout(now).into_iter().map(|output| ((now - start).as_secs(), output)));
        }
        let began: Vec<_> = said
            .iter()
            .filter_map(|(at, output)| match output {
                EscalationOutput::Attempt { strategy, attempt } => Some((*at, *strategy, *attempt)),
                EscalationOutput::Failed(_) | EscalationOutput::Exhausted => None,
            })
            .collect();
        let order =
            [Strategy::WaitForHeal, Strategy::ActiveReconnection, Strategy::MajorityRule, Strategy::EmergencyRollback];
        let wanted: Vec<_> = (0..12).map(|n| (30 * n, order[n as usize / 3], n as u32 % 3 + 1)).collect();
        assert_eq!(began, wanted);
        // And not for ever: what is out of reach may be back.
        assert_eq!(escalation.current(), None);
        now += PATIENCE.attempt;
        let anew = EscalationOutput::Attempt { strategy: Strategy::ActiveReconnection, attempt: 1 };
        assert_eq!(escalation.on_timeout(now), [anew]);
    }

    #[test]
    fn a_failed_attempt_is_repeated_at_once() {
        let now = Instant::now();
        let (mut escalation, _) = Escalation::start(now, PATIENCE, Strategy::SplitBrainResolution);
        for attempt in 2..=3 {
            let again = EscalationOutput::Attempt { strategy: Strategy::SplitBrainResolution, attempt };
            let failed = EscalationOutput::Failed(Strategy::SplitBrainResolution);
            assert_eq!(escalation.on_failed(now), [failed, again]);
        }
        escalation.on_failed(now);
        assert_eq!(escalation.current(), Some((Strategy::EmergencyRollback, 1)));
    }
}
