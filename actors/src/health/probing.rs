//! When to probe a link: often while it matters, slowly while it does not, and never beyond the bytes a medium may spend on it.

use std::time::{Duration, Instant};

use bowline_messages::link::Medium;

/// Why a link might be probed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// Nothing is under way.
    Idle,
    /// A spare of a session that has traffic.
    Spare,
    /// Traffic is in flight.
    Busy,
    /// The link is suspected.
    Suspected,
}

/// The pauses between probes and what they may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbingConfig {
    /// The pause while traffic is in flight, or for a spare (500 ms).
    pub busy: Duration,
    /// The shortest pause, for a suspected link: this, or its round-trip time when that is longer.
    pub suspected: Duration,
    /// The longest pause of an idle link.
    pub idle_max: Duration,
    /// Bytes that a probe and its answer cost.
    pub probe_bytes: f64,
    /// How many seconds' worth of the budget may be saved up, so that a suspicion can be looked into at once.
    pub burst: Duration,
}

impl Default for ProbingConfig {
    fn default() -> Self {
        Self {
            busy: Duration::from_millis(500),
            suspected: Duration::from_millis(50),
            idle_max: Duration::from_secs(5),
            probe_bytes: 150.0,
            burst: Duration::from_secs(10),
        }
    }
}

/// Bytes a second that probing may spend on a medium: radio costs energy, a cable does not.
pub fn budget_bytes(medium: Medium) -> f64 {
    match medium {
        Medium::Ethernet | Medium::Loopback => 4_000.0,
        Medium::Wifi | Medium::WifiDirect | Medium::Mesh | Medium::Unknown => 1_000.0,
        Medium::Cellular => 500.0,
        Medium::Bluetooth => 300.0,
    }
}

/// Decides for one link when it is probed.
#[derive(Debug, Clone)]
pub struct Probing {
    config: ProbingConfig,
    budget: f64,
    saved: f64,
    at: Instant,
    quiet: u32,
    probed_at: Option<Instant>,
}

impl Probing {
    /// A link over a medium; its budget is full.
    pub fn new(now: Instant, medium: Medium, config: ProbingConfig) -> Self {
        let budget = budget_bytes(medium);
        Self { budget, saved: budget * config.burst.as_secs_f64(), config, at: now, quiet: 0, probed_at: None }
    }

    /// When the next probe is due. `rtt`: the link's round-trip time, if it is known; `since`: when something was last sent that will
    /// be answered, which is as good as a probe.
    pub fn due(&self, need: Need, rtt: Option<Duration>, since: Instant) -> Instant {
        let pause = match need {
            Need::Suspected => self.config.suspected.max(rtt.unwrap_or_default()),
            Need::Busy | Need::Spare => self.config.busy,
            // Each quiet answer doubles the pause.
            Need::Idle => self.config.busy.saturating_mul(1 << self.quiet.min(16)).min(self.config.idle_max),
        };
        let wanted = later(self.probed_at.map_or(since, |at| at.max(since)), pause);
        wanted.max(self.affordable_at())
    }

    /// Asks for leave to probe now; a granted one is paid for.
    pub fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.saved < self.config.probe_bytes {
            return false;
        }
        self.saved -= self.config.probe_bytes;
        self.probed_at = Some(now);
        true
    }

    /// A probe was answered and nothing was amiss: an idle link may be asked less often.
    pub fn on_quiet(&mut self) {
        self.quiet = self.quiet.saturating_add(1);
    }

    /// Traffic or a suspicion: the pauses start small again.
    pub fn on_stir(&mut self) {
        self.quiet = 0;
    }

    fn affordable_at(&self) -> Instant {
        let missing = (self.config.probe_bytes - self.saved).max(0.0) / self.budget;
        later(self.at, Duration::try_from_secs_f64(missing).unwrap_or(Duration::MAX))
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.saved = (self.saved + elapsed * self.budget).min(self.budget * self.config.burst.as_secs_f64());
        self.at = self.at.max(now);
    }
}

/// A moment later; far in the future when there is no such moment.
fn later(at: Instant, pause: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    at.checked_add(pause).unwrap_or(at + FAR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEEDS: [Need; 4] = [Need::Idle, Need::Spare, Need::Busy, Need::Suspected];

    #[test]
    fn the_greater_the_need_the_sooner_the_probe() {
        let start = Instant::now();
        let mut probing = Probing::new(start, Medium::Wifi, ProbingConfig::default());
        for _ in 0..8 {
            probing.on_quiet();
        }
        let pauses = NEEDS.map(|need| probing.due(need, None, start) - start);
        assert_eq!(pauses.map(|pause| pause.as_millis()), [5_000, 500, 500, 50]);
        assert_eq!(
            probing.due(Need::Suspected, Some(Duration::from_millis(80)), start),
            start + Duration::from_millis(80)
        );
        probing.on_stir();
        assert_eq!(probing.due(Need::Idle, None, start), start + Duration::from_millis(500));
    }

    #[test]
    fn traffic_that_will_be_answered_takes_the_place_of_a_probe() {
        let start = Instant::now();
        let probing = Probing::new(start, Medium::Wifi, ProbingConfig::default());
        let sent = start + Duration::from_secs(3);
        assert_eq!(probing.due(Need::Busy, None, sent), sent + Duration::from_millis(500));
    }

    proptest! {
        #[test]
        fn no_pattern_of_needs_spends_more_than_the_budget(steps in proptest::collection::vec((0_u64..200, 0_usize..4), 1..500)) {
            let config = ProbingConfig::default();
            for medium in [Medium::Bluetooth, Medium::Cellular, Medium::Wifi, Medium::Ethernet] {
                let start = Instant::now();
                let mut now = start;
                let mut probing = Probing::new(start, medium, config);
                let mut spent = 0.0;
                for (gap, need) in &steps {
                    now += Duration::from_millis(*gap);
                    if probing.due(NEEDS[*need], None, start) <= now && probing.take(now) {
                        spent += config.probe_bytes;
                    }
                }
                let allowed = budget_bytes(medium) * ((now - start) + config.burst).as_secs_f64();
                prop_assert!(spent <= allowed + 1.0, "{:?}: {} of {}", medium, spent, allowed);
            }
        }
    }
}
