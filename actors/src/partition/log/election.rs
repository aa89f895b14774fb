//! Who stands for election when, beside what the consensus crate has: the question before the vote, and the leader's look at its majority.
//!
//! Both are of Ongaro's thesis (2014, sections 9.6 and 6.4, 4.2.3). A participant that does not hear the leader first asks whether a majority would
//! vote for it, and does not raise its term for nothing; who hears a leader says no. A leader that hears no majority steps down, so that one that is heard by
//! all and hears nobody does not hold everybody up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::wire::Membership;

/// A question that is out.
#[derive(Debug, Clone)]
struct Asked {
    term: u64,
    granted: BTreeSet<PeerId>,
}

/// When what happens next.
#[derive(Debug, Clone)]
pub(super) struct Election {
    timeout: Duration,
    heartbeat: Duration,
    /// When a follower asks.
    pub(super) ask_at: Instant,
    /// When a leader lets itself be heard.
    pub(super) heartbeat_at: Instant,
    heard_leader: Option<Instant>,
    heard: BTreeMap<PeerId, Instant>,
    asked: Option<Asked>,
}

impl Election {
    pub(super) fn new(now: Instant, timeout: Duration, heartbeat: Duration) -> Self {
        let heard = BTreeMap::new();
        Self { timeout, heartbeat, ask_at: now, heartbeat_at: now, heard_leader: None, heard, asked: None }
    }

    /// Waits once more: between one and two time-outs.
    pub(super) fn wait(&mut self, now: Instant, rng: &mut ChaCha8Rng) {
        self.ask_at = now + self.timeout + rng.random_range(Duration::ZERO..self.timeout);
    }

    /// The leader of this term, or of a later one, was heard.
    pub(super) fn on_leader(&mut self, now: Instant) {
        self.heard_leader = Some(now);
        self.asked = None;
    }

    /// Whether a leader was heard lately: then nobody else is needed.
    pub(super) fn has_leader(&self, now: Instant) -> bool {
        self.heard_leader.is_some_and(|at| now.saturating_duration_since(at) < self.timeout)
    }

    /// Asks the voters; again soon, for it costs nobody anything.
    pub(super) fn ask(&mut self, now: Instant, me: PeerId, term: u64, rng: &mut ChaCha8Rng) {
        self.asked = Some(Asked { term, granted: BTreeSet::from([me]) });
        self.heard_leader = None;
        self.ask_at = now + self.timeout / 2 + rng.random_range(Duration::ZERO..self.timeout / 2);
    }

    /// Whether this is the question that is out.
    pub(super) fn is_asked(&self, term: u64) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.term == term)
    }

    /// A yes. `true` once there are enough; then the question is closed.
    pub(super) fn on_granted(&mut self, from: PeerId, term: u64, membership: &Membership) -> bool {
        let Some(asked) = self.asked.as_mut().filter(|asked| asked.term == term) else { return false };
        asked.granted.insert(from);
        let enough = membership.is_majority(|peer| asked.granted.contains(peer));
        if enough {
            self.asked = None;
        }
        enough
    }

    /// This node leads from now on: everybody gets a time-out's time to be heard.
    pub(super) fn lead(&mut self, now: Instant, membership: &Membership) {
        (self.asked, self.heard_leader) = (None, None);
        self.heard = membership.everybody().into_iter().map(|peer| (peer, now)).collect();
    }

    /// The next heartbeat after one.
    pub(super) fn beat(&mut self, now: Instant) {
        self.heartbeat_at = now + self.heartbeat;
    }

    /// A follower answered its leader.
    pub(super) fn on_follower(&mut self, now: Instant, from: PeerId, membership: &Membership) {
        if membership.votes(&from) {
            self.heard.insert(from, now);
        }
    }

    /// Whether a majority was heard lately, this node included.
    pub(super) fn has_majority(&mut self, now: Instant, me: PeerId, membership: &Membership) -> bool {
        self.heard.retain(|peer, _| membership.votes(peer));
        let lately = |at: &Instant| now.saturating_duration_since(*at) <= self.timeout;
        membership.is_majority(|peer| *peer == me || self.heard.get(peer).is_some_and(lately))
    }
}
