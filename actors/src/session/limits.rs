//! Limits on what strangers and peers may cost. Pure: time comes in with every call.
//!
//! [`InboundLimits`] is asked for every connection before anything expensive is done for it, and told how it ended.
//! [`PeerBudget`] is a pair of token buckets for one known peer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

pub use bowline_messages::config::LimitsConfig as InboundConfig;
use bowline_messages::config::SessionConfig;
use bowline_messages::wire::Refusal;

const MINUTE: Duration = Duration::from_secs(60);

/// Whom a connection counts against: an IPv4 address, or the /64 of an IPv6 address, which is what one customer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// An IPv4 address, also one written as IPv6.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(mapped) => Self::V4(mapped),
                None => Self::V6((address.to_bits() >> 64) as u64),
            },
        }
    }
}

/// How a connection that was admitted has ended being unproven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The peer has proven who it is; it counts no longer.
    Proven,
    /// The handshake failed, timed out or was refused for a reason that lies with the other side: its source cools down.
    Failed,
    /// The peer has proven who it is, and may not have a session: its source cools down until somebody is accepted ([`InboundLimits::pardon`]).
    Stranger,
    /// It ended for no fault of the other side.
    Released,
}

/// The right of one connection to be unproven. Give it back with [`InboundLimits::release`] whatever becomes of it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slot that is not released counts for ever"]
pub struct Slot {
    source: Option<Source>,
}

#[derive(Debug)]
struct Attempts {
    open: usize,
    /// When the latest connections began, oldest first; as many as are allowed a minute.
    begun: VecDeque<Instant>,
    cool_until: Option<Instant>,
    /// It cools down for nothing but being a stranger.
    stranger: bool,
    last: Instant,
}

/// What was turned away, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turned {
    /// Too many unproven connections in total.
    pub total: u64,
    /// Too many of one source, at once or a minute.
    pub source: u64,
    /// A source that cools down.
    pub cooling: u64,
}

/// The limits on inbound connections that have not proven who they are.
#[derive(Debug)]
pub struct InboundLimits {
    config: InboundConfig,
    open: usize,
    sources: BTreeMap<Source, Attempts>,
    /// Sources without an open connection, the one that was quiet for longest first: those that may be forgotten.
    quiet: BTreeSet<(Instant, Source)>,
    next_sweep: Option<Instant>,
    turned: Turned,
}

impl InboundLimits {
    /// Limits with nothing open.
    pub fn new(config: InboundConfig) -> Self {
        Self {
            config,
            open: 0,
            sources: BTreeMap::new(),
            quiet: BTreeSet::new(),
            next_sweep: None,
            turned: Turned::default(),
        }
    }

    /// Asks for a connection. `source` is `None` where the transport has no such notion; only the total counts then.
    ///
    /// # Errors
    /// [`Refusal::TooManyConnections`], [`Refusal::SourceLimit`], [`Refusal::CoolDown`]; being refused does not make it worse.
    pub fn admit(&mut self, source: Option<IpAddr>, now: Instant) -> Result<Slot, Refusal> {
        self.sweep(now);
        if self.open >= self.config.unproven_total {
            self.turned.total += 1;
            return Err(Refusal::TooManyConnections);
        }
        let source = source.map(Source::from);
        if let Some(source) = source {
            self.check(&source, now)?;
            self.begin(source, now);
        }
        self.open += 1;
        Ok(Slot { source })
    }

    fn check(&mut self, source: &Source, now: Instant) -> Result<(), Refusal> {
        let Some(attempts) = self.sources.get(source) else { return Ok(()) };
        if attempts.cool_until.is_some_and(|until| now < until) {
            self.turned.cooling += 1;
            return Err(Refusal::CoolDown);
        }
        let recent = attempts.begun.iter().filter(|at| now.saturating_duration_since(**at) < MINUTE).count();
        if attempts.open >= self.config.unproven_per_source || recent >= self.config.per_source_per_minute {
            self.turned.source += 1;
            return Err(Refusal::SourceLimit);
        }
        Ok(())
    }

    fn begin(&mut self, source: Source, now: Instant) {
        let full = self.sources.len() >= self.config.sources_max && !self.sources.contains_key(&source);
        if let Some((_, quietest)) = full.then(|| self.quiet.pop_first()).flatten() {
            self.sources.remove(&quietest);
        }
        let attempts = self.sources.entry(source).or_insert_with(|| Attempts {
            open: 0,
            begun: VecDeque::new(),
            cool_until: None,
            stranger: false,
            last: now,
        });
        self.quiet.remove(&(attempts.last, source));
        attempts.open += 1;
        attempts.last = now;
        while attempts.begun.front().is_some_and(|at| now.saturating_duration_since(*at) >= MINUTE) {
            attempts.begun.pop_front();
        }
        attempts.begun.push_back(now);
    }

    /// Gives a slot back.
    pub fn release(&mut self, slot: Slot, outcome: Outcome, now: Instant) {
        self.open = self.open.saturating_sub(1);
        let Some(source) = slot.source else { return };
        let Some(attempts) = self.sources.get_mut(&source) else { return };
        attempts.open = attempts.open.saturating_sub(1);
        attempts.last = now;
        match outcome {
            Outcome::Failed | Outcome::Stranger => {
                let failed = attempts.cool_until.is_some_and(|until| now < until) && !attempts.stranger;
                attempts.stranger = outcome == Outcome::Stranger && !failed;
                attempts.cool_until = Some(now + self.config.cool_down);
            }
            Outcome::Proven | Outcome::Released => {}
        }
        if attempts.open == 0 {
            self.quiet.insert((now, source));
        }
    }

    /// Somebody is accepted from now on: strangers that cool down may try again.
    pub fn pardon(&mut self) {
        for attempts in self.sources.values_mut().filter(|attempts| attempts.stranger) {
            (attempts.cool_until, attempts.stranger) = (None, false);
        }
    }

    /// Forgets sources that were quiet for long enough. Runs by itself at most once per [`InboundConfig::sweep`].
    fn sweep(&mut self, now: Instant) {
        if self.next_sweep.is_some_and(|at| now < at) {
            return;
        }
        self.next_sweep = Some(now + self.config.sweep);
        let keep = self.config.remember.max(self.config.cool_down).max(MINUTE);
        while let Some((last, source)) = self.quiet.first().copied() {
            if now.saturating_duration_since(last) < keep {
                break;
            }
            self.quiet.pop_first();
            self.sources.remove(&source);
        }
    }

    /// Connections that are unproven now.
    pub const fn open(&self) -> usize {
        self.open
    }

    /// Sources that are remembered.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// What was turned away.
    pub const fn turned(&self) -> Turned {
        self.turned
    }
}

/// What a known peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Messages a second, in the long run.
    pub messages_per_second: u64,
    /// Messages at once after a quiet time.
    pub messages_burst: u64,
    /// Bytes a second, in the long run.
    pub bytes_per_second: u64,
    /// Bytes at once after a quiet time.
    pub bytes_burst: u64,
}

/// Tokens that come at a steady rate up to a bound, counted in billionths so that nothing is lost to rounding.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    rate: u64,
    bound: i128,
    /// Below nothing: what was taken on credit.
    filled: i128,
}

const BILLION: i128 = 1_000_000_000;

impl Bucket {
    fn full(rate: u64, burst: u64) -> Self {
        let bound = i128::from(burst) * BILLION;
        Self { rate, bound, filled: bound }
    }

    fn fill(&mut self, elapsed: Duration) {
        let nanos = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX);
        let come = i128::from(self.rate).saturating_mul(nanos);
        self.filled = self.filled.saturating_add(come).min(self.bound);
    }

    /// How long until `tokens` are there. A wish above the bound is granted when the bucket is full, or it never would be.
    fn wait(&self, tokens: u64) -> Duration {
        let wanted = (i128::from(tokens) * BILLION).min(self.bound);
        let missing = wanted.saturating_sub(self.filled).max(0).unsigned_abs();
        let nanos = missing.div_ceil(u128::from(self.rate.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn take(&mut self, tokens: u64) {
        self.filled = self.filled.saturating_sub(i128::from(tokens) * BILLION);
    }
}

/// The token buckets of one known peer.
#[derive(Debug, Clone, Copy)]
pub struct PeerBudget {
    messages: Bucket,
    bytes: Bucket,
    at: Instant,
    /// When it was last limited.
    limited_at: Option<Instant>,
}

/// After so long without being limited, a peer that is limited again is news.
const LIMITED_PAUSE: Duration = Duration::from_secs(10);

impl BudgetConfig {
    /// What the configuration allows a peer; none when it sets no limit.
    pub fn of(config: &SessionConfig) -> Option<Self> {
        // Beyond any machine, and far from where the arithmetic ends.
        const NO_LIMIT: u64 = 1 << 50;
        let or_none = |rate: u64| if rate == 0 { NO_LIMIT } else { rate };
        let (messages, bytes) = (config.peer_messages_per_second, config.peer_bytes_per_second);
        (messages > 0 || bytes > 0).then(|| Self {
            messages_per_second: or_none(messages),
            messages_burst: or_none(messages),
            bytes_per_second: or_none(bytes),
            bytes_burst: or_none(bytes),
        })
    }
}

impl PeerBudget {
    /// Full buckets.
    pub fn new(config: &BudgetConfig, now: Instant) -> Self {
        Self {
            messages: Bucket::full(config.messages_per_second, config.messages_burst),
            bytes: Bucket::full(config.bytes_per_second, config.bytes_burst),
            at: now,
            limited_at: None,
        }
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at);
        self.messages.fill(elapsed);
        self.bytes.fill(elapsed);
        self.at = self.at.max(now);
    }

    /// Takes what has arrived, all or nothing.
    ///
    /// # Errors
    /// How long to stop reading from this peer; nothing was taken.
    pub fn take(&mut self, messages: u64, bytes: u64, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        let wait = self.messages.wait(messages).max(self.bytes.wait(bytes));
        if !wait.is_zero() {
            return Err(wait);
        }
        self.messages.take(messages);
        self.bytes.take(bytes);
        Ok(())
    }

    /// Takes what could not be held back, on credit where there is not enough.
    pub fn charge(&mut self, messages: u64, bytes: u64, now: Instant) {
        self.fill(now);
        self.messages.take(messages);
        self.bytes.take(bytes);
    }

    /// Whether nothing is owed and nothing was taken lately: it is as good as a new one.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.messages.filled == self.messages.bound && self.bytes.filled == self.bytes.bound
    }

    /// How long until what was taken on credit is paid.
    pub fn debt(&mut self, now: Instant) -> Duration {
        self.fill(now);
        self.messages.wait(0).max(self.bytes.wait(0))
    }

    /// Notes that the peer is being limited. Says whether that is news.
    pub fn limits(&mut self, now: Instant) -> bool {
        let before = self.limited_at.replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) >= LIMITED_PAUSE)
    }
}

#[cfg(test)]
mod tests;
