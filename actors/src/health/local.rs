//! Local health: a node that is itself starved, whose timers fire late or whose mailboxes are full, sees silence everywhere. It doubts itself
//! before others (the idea of Lifeguard, Dadgar et al. 2018).

use std::time::{Duration, Instant};

use bowline_messages::health::Confidence;

/// After a late timer the doubt is gone after so many punctual ones.
const PUNCTUAL_TICKS: f64 = 3.0;

/// How late this node may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalConfig {
    /// A timer may fire so late without any doubt.
    pub tolerance: Duration,
    /// From so late on the doubt is complete.
    pub starved: Duration,
    /// A mailbox may be so full, as a share, without any doubt.
    pub mailbox: f64,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self { tolerance: Duration::from_millis(20), starved: Duration::from_millis(200), mailbox: 0.5 }
    }
}

/// How much this node doubts itself.
#[derive(Debug, Clone)]
pub struct LocalHealth {
    config: LocalConfig,
    due: Option<Instant>,
    late: f64,
    mailbox: f64,
}

impl LocalHealth {
    /// A node that is well.
    pub fn new(config: LocalConfig) -> Self {
        Self { config, due: None, late: 0.0, mailbox: 0.0 }
    }

    /// A timer was set to fire at `due`, or something local was to happen by then.
    pub fn on_timer_set(&mut self, due: Instant) {
        self.due = Some(due);
    }

    /// The timer fired.
    pub fn on_tick(&mut self, now: Instant) {
        let late = self.due.take().map_or(0.0, |due| self.doubt_of(now.saturating_duration_since(due)));
        self.late = late.max(self.late - 1.0 / PUNCTUAL_TICKS);
    }

    /// So many of so many places of a mailbox are taken.
    pub fn on_mailbox(&mut self, taken: usize, capacity: usize) {
        let full = if capacity == 0 { 0.0 } else { taken as f64 / capacity as f64 };
        let free = self.config.mailbox;
        self.mailbox = if full > free { ((full - free) / (1.0 - free).max(1e-9)).clamp(0.0, 1.0) } else { 0.0 };
    }

    /// How much the node doubts what it sees of others: 0 when it is well, 1 when it was not running.
    pub fn doubt(&self, now: Instant) -> Confidence {
        let overdue = self.due.map_or(0.0, |due| self.doubt_of(now.saturating_duration_since(due)));
        Confidence::new(overdue.max(self.late).max(self.mailbox))
    }

    fn doubt_of(&self, late: Duration) -> f64 {
        let beyond = late.saturating_sub(self.config.tolerance).as_secs_f64();
        let span = self.config.starved.saturating_sub(self.config.tolerance).as_secs_f64().max(1e-9);
        (beyond / span).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    #[test]
    fn a_late_timer_raises_doubt_and_punctual_ones_end_it() {
        let start = Instant::now();
        let mut local = LocalHealth::new(LocalConfig::default());
        local.on_timer_set(start);
        local.on_tick(start + Duration::from_millis(10));
        assert_eq!(local.doubt(start + STEP), Confidence::NONE);
        local.on_timer_set(start + STEP);
        assert_eq!(local.doubt(start + STEP * 9), Confidence::CERTAIN, "it did not even fire");
        local.on_tick(start + STEP * 9);
        assert_eq!(local.doubt(start + STEP * 9), Confidence::CERTAIN);
        for n in 10..13 {
            local.on_timer_set(start + STEP * n);
            local.on_tick(start + STEP * n);
        }
        assert!(local.doubt(start + STEP * 13).value() < 1e-9);
    }

    #[test]
    fn a_full_mailbox_is_a_doubt_until_it_drains() {
        let now = Instant::now();
        let mut local = LocalHealth::new(LocalConfig::default());
        for (taken, doubt) in [(0, 0.0), (8, 0.0), (12, 0.5), (16, 1.0), (99, 1.0), (2, 0.0)] {
            local.on_mailbox(taken, 16);
            assert_eq!(local.doubt(now), Confidence::new(doubt), "{taken}");
        }
        local.on_mailbox(5, 0);
        assert_eq!(local.doubt(now), Confidence::NONE);
    }

    #[test]
    fn limits_without_sense_do_no_harm() {
        let now = Instant::now();
        let config = LocalConfig { tolerance: Duration::MAX, starved: Duration::ZERO, mailbox: f64::NAN };
        let mut local = LocalHealth::new(config);
        local.on_timer_set(now);
        local.on_mailbox(5, 5);
        assert_eq!(local.doubt(now + STEP), Confidence::NONE);
    }
}
