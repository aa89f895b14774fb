//! Measuring a link's smallest round-trip time afresh, now and then.

use std::time::{Duration, Instant};

use super::Path;

/// A pause in which hardly anything is in flight, so that the round-trip time without our own queue shows (BBR's ProbeRTT).
#[derive(Debug)]
pub(super) struct Drain {
    /// When it was begun.
    since: Instant,
    /// Smallest sample of the pause.
    best: Option<Duration>,
    /// When it ends; none before the queue is drained.
    until: Option<Instant>,
}

/// How long a pause lasts at least once the queue is drained.
const DRAIN_MIN: Duration = Duration::from_millis(10);

impl Path {
    /// An acknowledgement brought a sample of the round-trip time.
    pub(super) fn drain_step(&mut self, now: Instant, sample: Duration) {
        match &mut self.drain {
            None if self.rtt.is_min_stale(now) => {
                self.drain = Some(Box::new(Drain { since: now, best: None, until: None }));
            }
            None => {}
            Some(drain) => match drain.until {
                None if self.window.in_flight() <= self.window.min_bytes() => {
                    drain.until = Some(now + self.rtt.smoothed().max(DRAIN_MIN));
                }
                // Urgent traffic keeps the queue filled: not now, then.
                None if now >= drain.since + self.rtt.smoothed() * 2 + DRAIN_MIN => {
                    self.rtt.set_min(now, self.rtt.min());
                    self.drain = None;
                }
                None => {}
                Some(until) => {
                    let best = drain.best.map_or(sample, |best| best.min(sample));
                    drain.best = Some(best);
                    if now >= until {
                        self.rtt.set_min(now, best);
                        self.drain = None;
                    }
                }
            },
        }
    }
}
