//! Repairs: when, how many, how long they are left to work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, duration};

/// Section `[repair]`. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepairConfig {
    /// Repairs of one path or transport, in a row without success or in `period` whatever came of them, after which it is reported as beyond repair. `0`:
    /// nothing is repaired. Default: 5.
    pub attempts: u32,
    /// The time in which attempts are counted. Default: 10 min.
    #[serde(with = "duration")]
    pub period: Duration,
    /// How long after a failed series the next single attempt is made. Default: 5 min.
    #[serde(with = "duration")]
    pub pause: Duration,
    /// How long a repair is given to show that it helped. Default: 10 s.
    #[serde(with = "duration")]
    pub settle: Duration,
    /// How long a symptom counts. Default: 60 s.
    #[serde(with = "duration")]
    pub window: Duration,
    /// How long a link is degraded, while another is well, before it is reset. Default: 30 s.
    #[serde(with = "duration")]
    pub stuck: Duration,
    /// How often each transport's actor is asked whether it is there. Default: 30 s.
    #[serde(with = "duration")]
    pub probe: Duration,
    /// How long it may take to answer. Default: 5 s.
    #[serde(with = "duration")]
    pub answer: Duration,
}

impl Default for RepairConfig {
    fn default() -> Self {
        Self {
            attempts: 5,
            period: Duration::from_secs(600),
            pause: Duration::from_secs(300),
            settle: Duration::from_secs(10),
            window: Duration::from_secs(60),
            stuck: Duration::from_secs(30),
            probe: Duration::from_secs(30),
            answer: Duration::from_secs(5),
        }
    }
}

impl RepairConfig {
    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let (ms, hour) = (Duration::from_millis, Duration::from_secs(3600));
        checks.number("repair.attempts", self.attempts, 0..=100);
        checks.duration("repair.period", self.period, ms(1000)..=hour * 24);
        checks.duration("repair.pause", self.pause, ms(1000)..=hour * 24);
        checks.duration("repair.settle", self.settle, ms(100)..=hour);
        checks.duration("repair.window", self.window, ms(1000)..=hour);
        checks.duration("repair.stuck", self.stuck, ms(1000)..=hour);
        checks.duration("repair.probe", self.probe, ms(1000)..=hour);
        checks.duration("repair.answer", self.answer, ms(100)..=hour);
    }
}
