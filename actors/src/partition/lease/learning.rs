//! What a node that has forgotten its terms learns of them from the others.
//!
//! Two things are to be kept apart that look alike: a term that was held, which this node may have granted and must not grant again, and one that is made up,
//! below which it could grant nothing ever again.
//!
//! - *Never too far.* As few as are no majority may lie, so of one more than that the lowest is no higher than what an honest one says. That is the measure: no
//!   more is taken than is within reach of it ([`LEAP_MAX`]). It is no fixed number, since whoever may hold leases brings terms above each in some hours.
//! - *Never too low.* Whoever says something low, or nothing, moves the measure down. So learning is over with the answers of a quorum only when all that
//!   these said was taken: then the highest term that any of them knows is known here, and one of them knows every term that was ever held. When all others have
//!   answered, it is over in any case. Then the measure is no lower than the lowest of the honest ones, if those who lie and this node, which lost its memory,
//!   are no majority together; and honest ones that hear each other are within reach of each other.
//!
//! - *At one time.* Where fewer than a quorum remember, all have to say so at one time: of answers from different times, those of a group of which one and then
//!   another one forgot look like those of a group that begins. So answers count together for less than the time in which who forgot keeps silent: then
//!   all who say that they forgot were without at once.
//!
//! A term that nobody else of such a quorum knows of may be kept from it by one who lies: where somebody lies *and* a disk is lost, it may be held twice. It
//! would take the answers of all others to know better, and then nobody could ever learn while a single one is down.
//!
//! Beyond this is a group in which more are at fault than that, or in which honest ones were apart until their terms were out of each other's reach.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::partition::Term;

use super::super::terms::LEAP_MAX;
use super::configuration::Configuration;

/// Where a single other one is all there is to go by, no term above this is learned from it: at an attempt each second it takes 136 years to get there.
const LEARNED_ALONE_MAX: u64 = 1 << 32;

/// The answers so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Learning {
    answers: BTreeMap<PeerId, Told>,
    /// How often it began to ask, and when it did last.
    round: u64,
    since: Option<Instant>,
}

/// What one of them told last.
#[derive(Debug, Clone, Copy)]
struct Told {
    term: Term,
    /// Whether it has forgotten nothing itself.
    remembers: bool,
}

impl Learning {
    /// Asks, and says in which round. Answers count together with those that come less than `within` after the first asking of their round.
    pub(super) fn ask(&mut self, now: Instant, within: Duration) -> u64 {
        if !self.is_open(self.round, now, within) {
            self.begin_again();
            self.round += 1;
            self.since = Some(now);
        }
        self.round
    }

    /// Whether an answer to an asking of this round still counts.
    pub(super) fn is_open(&self, round: u64, now: Instant, within: Duration) -> bool {
        round == self.round && self.since.is_some_and(|since| now < since + within)
    }

    /// An answer; it takes the place of the one before from the same peer.
    pub(super) fn on_answer(&mut self, from: PeerId, term: Term, remembers: bool) {
        self.answers.insert(from, Told { term, remembers });
    }

    /// Nobody has answered yet.
    pub(super) fn begin_again(&mut self) {
        self.answers.clear();
        self.since = None;
    }

    /// The round of asking, and when it began.
    #[cfg(test)]
    pub(super) const fn round(&self) -> (u64, Option<Instant>) {
        (self.round, self.since)
    }

    /// Who answered, and whether it remembers.
    #[cfg(test)]
    pub(super) fn answers(&self) -> impl Iterator<Item = (PeerId, bool)> {
        self.answers.iter().map(|(peer, told)| (*peer, told.remembers))
    }

    /// The highest term that the others told, but none that is out of reach.
    pub(super) fn learned(&self, configuration: &Configuration) -> Term {
        self.highest().min(self.reach(configuration))
    }

    /// Whether that is enough: all others answered, or a quorum that has forgotten nothing and says nothing that is out of reach.
    pub(super) fn is_over(&self, me: PeerId, configuration: &Configuration) -> bool {
        let reach = self.reach(configuration);
        let told = self.answers.iter().filter(|(_, told)| told.remembers && told.term <= reach);
        let remembering = told.map(|(peer, _)| peer);
        let mut others = configuration.participants().iter().filter(|peer| **peer != me);
        others.all(|peer| self.answers.contains_key(peer)) || configuration.is_quorum(remembering)
    }

    fn highest(&self) -> Term {
        self.answers.values().map(|told| told.term).max().unwrap_or_default()
    }

    /// The highest term that is taken: so far above the lowest of the highest answers, of which one is an honest one's. While there are too few, so far above
    /// none.
    fn reach(&self, configuration: &Configuration) -> Term {
        let liars = configuration.participants().len().saturating_sub(1) / 2;
        if liars == 0 {
            return Term(LEARNED_ALONE_MAX);
        }
        let mut terms: Vec<u64> = self.answers.values().map(|told| told.term.0).collect();
        terms.sort_unstable_by(|a, b| b.cmp(a));
        Term(terms.get(liars).copied().unwrap_or_default().saturating_add(LEAP_MAX))
    }
}
