//! Circuit breakers: what failed several times in a row is left alone for a while. Pure.
//!
//! ```text
//!             failures reach the limit            time is over
//!   Closed ──────────────────────────▶ Open ──────────────────▶ HalfOpen (one attempt)
//!     ▲  └─ success: count starts anew  ▲                          │   │
//!     │                                 └──────── failure ─────────┘   │
//!     └──────────────────────────── success ───────────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::repair::BreakerState;

/// Hosts that are remembered at most; the one that failed longest ago is forgotten for a new one.
const HOSTS_MAX: usize = 1024;

/// Where a breaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Attempts are made; this many failed in a row.
    Closed(u32),
    /// No attempts until then.
    Open { until: Instant },
    /// One attempt is under way, and counts as lost when nothing is heard of it until then.
    HalfOpen { until: Instant },
}

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row, at least 1.
    pub failures: u32,
    /// How long it stays open.
    pub open: Duration,
}

/// One breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    last: Option<Instant>,
}

impl Breaker {
    /// A closed breaker.
    pub const fn new(config: BreakerConfig) -> Self {
        Self { config, state: State::Closed(0), last: None }
    }

    /// Asks to make an attempt. When it is allowed, [`Breaker::on_success`] or [`Breaker::on_failure`] should follow.
    ///
    /// # Errors
    /// How long to wait at least.
    pub fn attempt(&mut self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Closed(_) => Ok(()),
            State::Open { until } | State::HalfOpen { until } if now < until => Err(until - now),
            State::Open { .. } | State::HalfOpen { .. } => {
                self.state = State::HalfOpen { until: now + self.config.open };
                Ok(())
            }
        }
    }

    /// An attempt succeeded.
    pub fn on_success(&mut self) {
        self.state = State::Closed(0);
    }

    /// An attempt failed.
    pub fn on_failure(&mut self, now: Instant) {
        self.last = Some(now);
        let open = State::Open { until: now + self.config.open };
        self.state = match self.state {
            State::Closed(failures) if failures + 1 < self.config.failures => State::Closed(failures + 1),
            State::Closed(_) | State::HalfOpen { .. } => open,
            // An attempt from before it opened: the time it stays open does not grow.
            State::Open { until } => State::Open { until },
        };
    }

    /// Where it is: open too when its time is over and nobody has tried since.
    pub fn state(&self) -> BreakerState {
        match self.state {
            State::Closed(_) => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether it lets attempts through without asking.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }
}

/// One breaker for a transport as a whole and one for each remote host.
#[derive(Debug)]
pub struct Breakers {
    config: BreakerConfig,
    whole: Breaker,
    hosts: BTreeMap<String, Breaker>,
}

impl Breakers {
    /// All closed.
    pub fn new(config: BreakerConfig) -> Self {
        Self { config, whole: Breaker::new(config), hosts: BTreeMap::new() }
    }

    /// Asks to dial a host.
    ///
    /// # Errors
    /// How long to wait at least.
    pub fn attempt(&mut self, host: &str, now: Instant) -> Result<(), Duration> {
        if let Some(breaker) = self.hosts.get_mut(host) {
            breaker.attempt(now)?;
        }
        self.whole.attempt(now)
    }

    /// A dial succeeded.
    pub fn on_success(&mut self, host: &str) {
        self.hosts.remove(host);
        self.whole.on_success();
    }

    /// The host did not answer, or not as it should. That says nothing about the transport.
    pub fn on_host_failure(&mut self, host: &str, now: Instant) {
        // Something answered for or against the host, so the transport as such works.
        self.whole.on_success();
        if !self.hosts.contains_key(host) && self.hosts.len() >= HOSTS_MAX {
            let oldest = self.hosts.iter().min_by_key(|(_, breaker)| breaker.last).map(|(host, _)| host.clone());
            if let Some(oldest) = oldest {
                self.hosts.remove(&oldest);
            }
        }
        let config = self.config;
        self.hosts.entry(host.to_owned()).or_insert_with(|| Breaker::new(config)).on_failure(now);
    }

    /// This side could not even try: out of sockets, no network, no adapter.
    pub fn on_transport_failure(&mut self, now: Instant) {
        self.whole.on_failure(now);
    }

    /// The network changed: everything deserves another try.
    pub fn reset(&mut self) {
        self.hosts.clear();
        self.whole = Breaker::new(self.config);
    }

    /// Where the one of the transport as a whole is.
    pub fn whole(&self) -> BreakerState {
        self.whole.state()
    }

    /// Hosts that are left alone now.
    pub fn open_hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().filter(|(_, breaker)| !breaker.is_closed()).map(|(host, _)| host.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BreakerConfig = BreakerConfig { failures: 5, open: Duration::from_secs(10) };

    fn failed(times: u32, now: Instant) -> Breaker {
        let mut breaker = Breaker::new(CONFIG);
        for _ in 0..times {
            breaker.on_failure(now);
        }
        breaker
    }

    #[test]
    fn it_opens_with_the_fifth_failure_in_a_row_and_not_before() {
        let now = Instant::now();
        assert_eq!(failed(4, now).attempt(now), Ok(()));
        assert_eq!(failed(5, now).attempt(now), Err(CONFIG.open));
        let mut breaker = failed(4, now);
        breaker.on_success();
        breaker.on_failure(now);
        assert!(breaker.is_closed());
    }

    #[test]
    fn after_its_time_one_attempt_decides() {
        let now = Instant::now();
        let later = now + CONFIG.open;
        let mut breaker = failed(5, now);
        assert_eq!(breaker.attempt(later), Ok(()));
        assert!(breaker.attempt(later).is_err(), "one at a time");
        breaker.on_failure(later);
        assert_eq!(breaker.attempt(later), Err(CONFIG.open));
        assert_eq!(breaker.attempt(later + CONFIG.open), Ok(()));
        breaker.on_success();
        assert!(breaker.is_closed());
    }

    #[test]
    fn an_attempt_that_was_given_up_does_not_keep_it_half_open_for_ever() {
        let now = Instant::now();
        let mut breaker = failed(5, now);
        assert_eq!(breaker.attempt(now + CONFIG.open), Ok(()));
        assert_eq!(breaker.attempt(now + 2 * CONFIG.open), Ok(()));
    }

    #[test]
    fn failures_that_come_late_do_not_prolong_the_pause() {
        let now = Instant::now();
        let mut breaker = failed(5, now);
        breaker.on_failure(now + CONFIG.open / 2);
        assert_eq!(breaker.attempt(now + CONFIG.open), Ok(()));
    }

    #[test]
    fn one_host_does_not_stop_the_others_and_the_transport_stops_all() {
        let now = Instant::now();
        let mut breakers = Breakers::new(CONFIG);
        for _ in 0..5 {
            breakers.on_host_failure("a", now);
        }
        assert!(breakers.attempt("a", now).is_err());
        assert_eq!(breakers.attempt("b", now), Ok(()));
        assert_eq!(breakers.open_hosts().collect::<Vec<_>>(), ["a"]);
        for _ in 0..5 {
            breakers.on_transport_failure(now);
        }
        assert!(breakers.attempt("b", now).is_err());
        breakers.reset();
        assert_eq!(breakers.attempt("a", now), Ok(()));
    }

    #[test]
    fn hosts_beyond_the_limit_push_out_the_oldest() {
        let now = Instant::now();
        let mut breakers = Breakers::new(CONFIG);
        for n in 0..2 * HOSTS_MAX as u64 {
            breakers.on_host_failure(&n.to_string(), now + Duration::from_millis(n));
        }
        assert_eq!(breakers.hosts.len(), HOSTS_MAX);
        assert!(!breakers.hosts.contains_key("0"));
    }
}
