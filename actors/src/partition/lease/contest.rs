//! When a node seeks a lease, and when it lets others go first. Nothing here is needed for safety; it is what makes one side active soon.
//!
//! - A node that is bound to a holder waits until its grant has run out without being renewed.
//! - Before it asks, it probes: only with a quorum that would grant does it ask, so that a node which sees a minority, or whose neighbours have
//!   a holder, disturbs nobody. That is what keeps partial partitions quiet: `{A, B, C}` and `{C, D, E}` both have three of five, and C
//!   is bound to one of them.
//! - Candidates begin one after another, in the order of their ids, spread over `spread`, with a random part of their place on top.
//! - A candidate that cannot win any more takes its asking back at once, so that those who granted it are free for another one.
//! - A holder that is refused because somebody knows a higher term takes a higher one, and goes on meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::partition::{Standing, Term, Token};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::terms::Rises;
use super::configuration::Configuration;
use super::errors::{FenceError, VersionError};
use super::machine::{Lease, LeaseTiming};
use super::message::{LeaseMessage, LeaseOutput, LeasePacket, Memory};

/// After failures in a row, a node waits for up to twice as long, no longer: after healing, one of them has to try soon.
const BACKOFF_MAX: u32 = 2;

/// How fast leases are sought and renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// How often a holder asks again.
    pub renew: Duration,
    /// How long answers are waited for.
    pub answer: Duration,
    /// Over which time candidates begin, one after another.
    pub spread: Duration,
}

/// What the contest wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContestOutput {
    /// Write this down before anything after it is sent.
    Persist(Memory),
    /// Send a message to a participant.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        packet: LeasePacket,
    },
    /// This node is active from now on, under this lease, or goes on under another one.
    Active(Token),
    /// This node is not active any more.
    Paused,
}

/// What the node is at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Nothing until then.
    Waiting(Instant),
    /// Asking whether others would grant.
    Probing { until: Instant, nonce: u64, willing: BTreeSet<PeerId> },
    /// Asking for a term.
    Asking { until: Instant, again: Instant, refused: BTreeSet<PeerId> },
    /// Holding the lease.
    Holding { renew: Instant },
}

/// The lease of a node with its timing.
#[derive(Debug)]
pub struct Contest {
    me: PeerId,
    lease: Lease,
    pacing: Pacing,
    rng: ChaCha8Rng,
    stage: Stage,
    /// Failures in a row.
    failures: u32,
    nonce: u64,
    /// When the next probe for forgotten terms is sent.
    learn: Option<Instant>,
    /// What was said last.
    said: Option<Token>,
    /// When a holder took a higher term last.
    raised: Option<Instant>,
    /// How often each participant may raise the term here.
    rises: BTreeMap<PeerId, Rises>,
}

impl Contest {
    /// The contest of a node that starts. `memory` is what it wrote down last; `seed` is random, and so is the life of the lease
    /// that is drawn from it.
    pub fn new(
        me: PeerId,
        configuration: Arc<Configuration>,
        timing: LeaseTiming,
        pacing: Pacing,
        memory: Option<Memory>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let life = ChaCha8Rng::seed_from_u64(!seed).random();
        Self::around(me, Lease::new(me, configuration, timing, memory, life, now), pacing, seed, now)
    }

    /// The contest of a lease that exists.
    pub(super) fn around(me: PeerId, lease: Lease, pacing: Pacing, seed: u64, now: Instant) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (nonce, said) = (rng.random(), lease.token(now));
        let learn = lease.is_learning().then(|| lease.held_off(now).unwrap_or(now));
        let (stage, failures, raised, rises) = (Stage::Waiting(now), 0, None, BTreeMap::new());
        let mut contest = Self { me, lease, pacing, rng, stage, failures, nonce, learn, said, raised, rises };
        contest.wait_from(contest.lease.held_off(now).unwrap_or(now));
        contest
    }

    /// The lease itself.
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Acts on a message of a participant.
    pub fn on_packet(&mut self, now: Instant, from: PeerId, packet: LeasePacket) -> Vec<ContestOutput> {
        let version = self.lease.configuration().version();
        // Who goes by a newer one tells nothing here: the leader brings the log to whoever is behind, without being asked.
        if packet.version != version || packet.list != self.lease.configuration().list() {
            return Vec::new();
        }
        if let LeaseMessage::Ask { term, .. } = packet.message
            && !self.may_raise(now, from, term)
        {
            return Vec::new();
        }
        let was_learning = self.lease.is_learning();
        let mut outputs = carry(self.lease.on_packet(now, from, packet));
        if was_learning && !self.lease.is_learning() {
            self.wait_from(now);
        }
        if self.lease.configuration().contains(&from) {
            outputs.extend(self.take_note(now, from, &packet.message));
        }
        outputs.extend(self.settle(now));
        outputs
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<ContestOutput> {
        let mut outputs = Vec::new();
        if self.lease.is_learning() && self.learn.is_some_and(|at| at <= now) {
            outputs.extend(carry(self.lease.probe_for_terms(now)));
            // What is lost is asked for again while the answers to the first asking still count.
            let timing = self.lease.timing();
            self.learn = Some(now + (self.pacing.answer / 2).min(timing.shortened(timing.duration) / 4));
        }
        outputs.extend(match &self.stage {
            Stage::Waiting(at) if *at <= now => self.seek(now),
            Stage::Probing { until, .. } if *until <= now => self.fail(now),
            Stage::Asking { until, .. } if *until <= now => self.fail(now),
            Stage::Asking { again, .. } if *again <= now => {
                self.ask_again(now);
                carry(self.lease.renew(now))
            }
            Stage::Holding { renew } if *renew <= now => {
                self.stage = Stage::Holding { renew: now + self.pacing.renew };
                // What is done under a term below that of something committed is passed over: it needs a higher one.
                carry(if self.lease.is_fenced() { self.lease.campaign(now) } else { self.lease.renew(now) })
            }
            Stage::Waiting(_) | Stage::Probing { .. } | Stage::Asking { .. } | Stage::Holding { .. } => Vec::new(),
        });
        outputs.extend(self.settle(now));
        outputs
    }

    /// When [`Contest::on_timeout`] is next due.
    pub fn deadline(&self, now: Instant) -> Instant {
        let stage = match &self.stage {
            Stage::Waiting(at) => *at,
            Stage::Probing { until, .. } => *until,
            Stage::Asking { until, again, .. } => *until.min(again),
            Stage::Holding { renew } => *renew,
        };
        let learn = self.learn.filter(|_| self.lease.is_learning());
        [learn, self.lease.active_until(now)].into_iter().flatten().fold(stage, Instant::min)
    }

    /// Under which lease this node may act now.
    pub fn token(&self, now: Instant) -> Option<Token> {
        self.lease.token(now)
    }

    /// What this node may do now.
    pub fn standing(&self, now: Instant) -> Standing {
        self.lease.standing(now)
    }

    /// Looks at something that was done under a lease, before it is acted upon; `from` says that it was. A term that is not known here is taken from nobody
    /// but its holder, and only where that one could be granted it: nobody ends the lease of another one by naming a higher term. Whoever only takes part in
    /// a new lease comes later, when its holder has asked here, too.
    ///
    /// # Errors
    /// [`FenceError`]: it must not be acted upon.
    pub fn admit(&mut self, now: Instant, from: PeerId, token: Token) -> Result<Vec<ContestOutput>, FenceError> {
        if token.term > self.lease.memory().term {
            let may_tell = from == token.holder && from != self.me && !self.lease.is_bound_to_another(from, now);
            if !may_tell {
                return Err(FenceError::Unknown(token.term));
            }
            if !self.may_raise(now, from, token.term) {
                return Err(FenceError::Leap(token.term));
            }
        }
        let mut outputs = carry(self.lease.admit(token)?);
        outputs.extend(self.settle(now));
        Ok(outputs)
    }

    /// See [`Lease::on_fence`]. A holder takes a higher term when it next renews.
    pub fn on_fence(&mut self, fence: Term) {
        self.lease.on_fence(fence);
    }

    /// Whether a participant may raise the term here, now: each new one is a write, and whoever holds the lease could ask for one after another.
    fn may_raise(&mut self, now: Instant, peer: PeerId, term: Term) -> bool {
        if term <= self.lease.memory().term {
            return true;
        }
        let takes_part = self.lease.configuration().contains(&peer);
        takes_part && self.rises.entry(peer).or_insert_with(|| Rises::new(now, self.pacing.answer)).take(now)
    }

    /// See [`Lease::prepare`].
    pub const fn prepare(&mut self) {
        self.lease.prepare();
    }

    /// See [`Lease::keep`].
    pub const fn keep(&mut self) {
        self.lease.keep();
    }

    /// See [`Lease::adopt`].
    ///
    /// # Errors
    /// [`VersionError`] for a version that is not newer.
    pub fn adopt(&mut self, now: Instant, to: Arc<Configuration>) -> Result<Vec<ContestOutput>, VersionError> {
        self.rises.retain(|peer, _| to.contains(peer));
        self.lease.adopt(now, to)?;
        if self.lease.is_holder(now) {
            // New participants become members at once.
            self.stage = Stage::Holding { renew: now };
        }
        Ok(self.settle(now))
    }

    /// See [`Lease::doubt_clock`].
    pub fn doubt_clock(&mut self, now: Instant) -> Vec<ContestOutput> {
        self.lease.doubt_clock(now);
        self.wait_from(now + self.lease.timing().duration);
        self.settle(now)
    }

    /// What a message means for the timing.
    fn take_note(&mut self, now: Instant, from: PeerId, message: &LeaseMessage) -> Vec<ContestOutput> {
        match *message {
            LeaseMessage::Answer { nonce, willing: true, .. } => self.on_willing(now, from, nonce),
            LeaseMessage::Refused { term, asker, never, .. } if self.lease.is_own(asker) => {
                self.on_refused(now, from, term, never)
            }
            LeaseMessage::Granted { term, asker, .. }
                if self.lease.is_own(asker) && self.lease.asking() == Some(term) =>
            {
                // It is not one that refuses any more, should it have been.
                if let Stage::Asking { refused, .. } = &mut self.stage {
                    refused.remove(&from);
                }
                Vec::new()
            }
            LeaseMessage::Answer { .. }
            | LeaseMessage::Granted { .. }
            | LeaseMessage::Refused { .. }
            | LeaseMessage::Probe { .. }
            | LeaseMessage::Ask { .. }
            | LeaseMessage::Confirmed { .. }
            | LeaseMessage::Withdrawn { .. } => Vec::new(),
        }
    }

    fn on_willing(&mut self, now: Instant, from: PeerId, answered: u64) -> Vec<ContestOutput> {
        let Stage::Probing { nonce, willing, .. } = &mut self.stage else { return Vec::new() };
        if *nonce != answered {
            return Vec::new();
        }
        willing.insert(from);
        self.ask_when_enough(now)
    }

    fn on_refused(&mut self, now: Instant, from: PeerId, term: Term, never: bool) -> Vec<ContestOutput> {
        match &mut self.stage {
            Stage::Asking { refused, .. } if self.lease.asking() == Some(term) => {
                refused.insert(from);
                let configuration = self.lease.configuration();
                let left = configuration.participants().iter().filter(|peer| !refused.contains(peer));
                if configuration.is_quorum(left) { Vec::new() } else { self.fail(now) }
            }
            Stage::Holding { .. } if never => self.raise(now, term),
            Stage::Waiting(_) | Stage::Probing { .. } | Stage::Asking { .. } | Stage::Holding { .. } => Vec::new(),
        }
    }

    /// A participant that never grants the holder's term would be left out for as long as that one lasts. Once in a lease's time at
    /// most: refusals that are made up do not keep a side busy.
    fn raise(&mut self, now: Instant, refused: Term) -> Vec<ContestOutput> {
        let lately = self.raised.is_some_and(|at| now < at + self.lease.timing().duration);
        if refused != self.lease.memory().term || lately {
            return Vec::new();
        }
        self.raised = Some(now);
        carry(self.lease.campaign(now))
    }

    fn seek(&mut self, now: Instant) -> Vec<ContestOutput> {
        if let Some((_, until)) = self.lease.bound(now) {
            self.wait_from(until);
            return Vec::new();
        }
        if !self.lease.is_willing(now, self.me) {
            self.wait_from(self.lease.held_off(now).unwrap_or(now + self.pacing.answer));
            return Vec::new();
        }
        self.nonce = self.nonce.wrapping_add(1);
        let (nonce, until) = (self.nonce, now + self.pacing.answer);
        self.stage = Stage::Probing { until, nonce, willing: BTreeSet::from([self.me]) };
        let mut outputs = carry(self.lease.probe(nonce));
        outputs.extend(self.ask_when_enough(now));
        outputs
    }

    fn ask_when_enough(&mut self, now: Instant) -> Vec<ContestOutput> {
        let Stage::Probing { willing, .. } = &self.stage else { return Vec::new() };
        if !self.lease.configuration().is_quorum(willing) {
            return Vec::new();
        }
        let outputs = carry(self.lease.campaign(now));
        if outputs.is_empty() {
            return self.fail(now);
        }
        let until = now + self.pacing.answer;
        self.stage = Stage::Asking { until, again: now, refused: BTreeSet::new() };
        self.ask_again(now);
        outputs
    }

    /// Asks a second time, in case something was lost, before it gives up.
    fn ask_again(&mut self, now: Instant) {
        let half = self.pacing.answer / 2;
        if let Stage::Asking { again, .. } = &mut self.stage {
            *again = now + half;
        }
    }

    fn fail(&mut self, now: Instant) -> Vec<ContestOutput> {
        self.failures = self.failures.saturating_add(1);
        self.wait_from(now);
        carry(self.lease.abandon(now))
    }

    /// Waits for this node's turn after a moment.
    fn wait_from(&mut self, from: Instant) {
        let participants = self.lease.configuration().participants();
        let rank = participants.iter().take_while(|peer| **peer < self.me).count();
        let place = (rank as f64 + self.rng.random::<f64>()) / participants.len() as f64;
        let spread = self.pacing.spread * self.failures.clamp(1, BACKOFF_MAX);
        self.stage = Stage::Waiting(from + spread.mul_f64(place));
    }

    /// Brings the stage in line with the lease, and says what changed.
    fn settle(&mut self, now: Instant) -> Vec<ContestOutput> {
        let holding = matches!(self.stage, Stage::Holding { .. });
        if self.lease.is_holder(now) {
            if !holding {
                self.stage = Stage::Holding { renew: now + self.pacing.renew };
            }
            self.failures = 0;
        } else if holding {
            self.wait_from(now);
        } else if let Some((_, until)) = self.lease.bound(now) {
            // Whoever has a holder is at nothing else; its turn comes when the grant has run out.
            if !matches!(self.stage, Stage::Waiting(at) if at >= until) {
                self.wait_from(until);
            }
        }
        let token = self.lease.token(now);
        if token == self.said {
            return Vec::new();
        }
        self.said = token;
        match token {
            Some(token) => {
                self.failures = 0;
                vec![ContestOutput::Active(token)]
            }
            None => vec![ContestOutput::Paused],
        }
    }
}

fn carry(outputs: Vec<LeaseOutput>) -> Vec<ContestOutput> {
    let carry = |output| match output {
        LeaseOutput::Persist(memory) => ContestOutput::Persist(memory),
        LeaseOutput::Send { to, packet } => ContestOutput::Send { to, packet },
    };
    outputs.into_iter().map(carry).collect()
}
