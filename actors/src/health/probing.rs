//! What probing a link may cost: never more bytes a second than its medium may spend on it. When a link is probed is its session's matter
//! (`session/liveness.rs`): often while it matters, slowly while it does not.

use std::time::{Duration, Instant};

use bowline_messages::link::Medium;

/// Bytes that a probe and its answer cost, headers of the transport included.
const PROBE_BYTES: f64 = 150.0;
/// How many seconds' worth of the budget may be saved up, so that a suspicion can be looked into at once. As much may be owed.
const BURST_SECONDS: f64 = 10.0;

/// Bytes a second that probing may spend on a medium: radio costs energy, a cable does not.
pub fn budget_bytes(medium: Medium) -> f64 {
    match medium {
        Medium::Ethernet | Medium::Loopback => 4_000.0,
        Medium::Wifi | Medium::WifiDirect | Medium::Mesh | Medium::Unknown => 1_000.0,
        Medium::Cellular => 500.0,
        Medium::Bluetooth => 300.0,
    }
}

/// What one link may still spend on probes.
#[derive(Debug, Clone, Copy)]
pub struct ProbeBudget {
    per_second: f64,
    saved: f64,
    at: Instant,
}

impl ProbeBudget {
    /// A link over a medium; its budget is full.
    pub fn new(now: Instant, medium: Medium) -> Self {
        let per_second = budget_bytes(medium);
        Self { per_second, saved: per_second * BURST_SECONDS, at: now }
    }

    /// From when on a probe that can wait may be sent.
    pub fn affordable_at(&self) -> Instant {
        let missing = (PROBE_BYTES - self.saved).max(0.0) / self.per_second;
        self.at + Duration::from_secs_f64(missing)
    }

    /// A probe is sent. One that cannot wait may be owed: then those that can wait for longer.
    pub fn on_probe(&mut self, now: Instant) {
        let most = self.per_second * BURST_SECONDS;
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.saved = ((self.saved + elapsed * self.per_second).min(most) - PROBE_BYTES).max(-most);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MEDIA: [Medium; 4] = [Medium::Bluetooth, Medium::Cellular, Medium::Wifi, Medium::Ethernet];

    #[test]
    fn what_was_saved_up_may_be_spent_at_once_and_then_probes_wait() {
        let start = Instant::now();
        let mut budget = ProbeBudget::new(start, Medium::Bluetooth);
        for _ in 0..20 {
            assert_eq!(budget.affordable_at(), start);
            budget.on_probe(start);
        }
        assert_eq!(budget.affordable_at(), start + Duration::from_millis(500));
        // One that could not wait is owed.
        budget.on_probe(start);
        assert_eq!(budget.affordable_at(), start + Duration::from_secs(1));
        for _ in 0..1_000 {
            budget.on_probe(start);
        }
        assert!(budget.affordable_at() < start + Duration::from_secs(11), "what is owed has a bound");
    }

    proptest! {
        #[test]
        fn no_pattern_of_probes_that_can_wait_spends_more_than_the_budget(gaps in proptest::collection::vec(0_u64..200, 1..500)) {
            for medium in MEDIA {
                let start = Instant::now();
                let (mut now, mut spent) = (start, 0.0);
                let mut budget = ProbeBudget::new(start, medium);
                for gap in &gaps {
                    now += Duration::from_millis(*gap);
                    if budget.affordable_at() <= now {
                        budget.on_probe(now);
                        spent += PROBE_BYTES;
                    }
                }
                let allowed = budget_bytes(medium) * ((now - start).as_secs_f64() + BURST_SECONDS);
                prop_assert!(spent <= allowed + 1.0, "{:?}: {} of {}", medium, spent, allowed);
            }
        }
    }
}
