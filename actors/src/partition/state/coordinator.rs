//! The leader's part in a resolution: asks what everybody has, chooses, and waits until all have it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::config::ResolutionConfig;

use super::super::log::Position;
use super::choice::{Summary, choose};
use super::transfer::Digest;
use super::versioned::Versioned;
use super::wire::{Outcome, Packet, Round};

/// How far it is.
#[derive(Debug, Clone)]
enum Phase {
    /// Participants say what they have, for this long.
    Collecting { until: Instant },
    /// This one counts; those that have it, or have not and say why.
    Settling { source: PeerId, chosen: Summary, done: BTreeMap<PeerId, Outcome> },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What became of it on everybody who spoke, as far as they said so.
    Settled { done: BTreeMap<PeerId, Outcome>, silent: BTreeSet<PeerId> },
    /// Not even a majority spoke.
    NoMajority,
}

/// One resolution, on the node that leads.
#[derive(Debug, Clone)]
pub(super) struct Coordinator {
    pub(super) round: Round,
    participants: BTreeSet<PeerId>,
    said: BTreeMap<PeerId, Summary>,
    /// What the log made of the leader's own state up to a place. It is looked at once for each place: saving and hashing a state takes its time.
    here: Option<(Position, Digest)>,
    /// When participants were heard last, since the choice.
    heard: BTreeMap<PeerId, Instant>,
    phase: Phase,
    retry_at: Instant,
    deadline: Instant,
}

impl Coordinator {
    pub(super) fn new(
        now: Instant,
        round: Round,
        participants: BTreeSet<PeerId>,
        deadline: Instant,
        config: &ResolutionConfig,
    ) -> Self {
        let phase = Phase::Collecting { until: now + config.collect };
        let (said, heard) = (BTreeMap::new(), BTreeMap::new());
        Self { round, participants, said, here: None, heard, phase, retry_at: now, deadline }
    }

    /// Whether a participant can still say what it has, or has said so.
    pub(super) fn asks(&self, peer: &PeerId) -> bool {
        matches!(self.phase, Phase::Collecting { .. }) && self.participants.contains(peer)
            || self.said.contains_key(peer)
    }

    /// Who takes part.
    pub(super) fn participants(&self) -> &BTreeSet<PeerId> {
        &self.participants
    }

    /// When it is over, whatever came of it.
    pub(super) fn ends(&self) -> Instant {
        self.deadline
    }

    /// What is to be said now, and to whom.
    pub(super) fn say(&mut self, now: Instant, config: &ResolutionConfig) -> Vec<(PeerId, Packet)> {
        if now < self.retry_at {
            return Vec::new();
        }
        self.retry_at = now + config.retry;
        match &self.phase {
            Phase::Collecting { .. } => {
                let missing = self.participants.iter().filter(|peer| !self.said.contains_key(peer));
                missing.map(|peer| (*peer, Packet::Call(self.round))).collect()
            }
            Phase::Settling { source, chosen, done } => {
                let open = self.said.keys().filter(|peer| !done.contains_key(peer));
                let packet = Packet::Decide { round: self.round, source: *source.as_bytes(), chosen: chosen.clone() };
                open.map(|peer| (*peer, packet.clone())).collect()
            }
        }
    }

    /// Whether a participant has yet to say what it has. What it said once stands, and what comes after the choice is too late for it.
    pub(super) fn awaits(&self, from: &PeerId) -> bool {
        matches!(self.phase, Phase::Collecting { .. })
            && self.participants.contains(from)
            && !self.said.contains_key(from)
    }

    /// Whether somebody has something else than the leader at the place up to which the leader's state goes.
    pub(super) fn contradicts(&mut self, summary: &Summary, state: &dyn Versioned) -> bool {
        let place = state.committed();
        if summary.version.committed != place {
            return false;
        }
        let here = self.here.filter(|(known, _)| *known == place);
        let (_, digest) = *self.here.insert(here.unwrap_or_else(|| (place, state.version().committed_digest)));
        summary.version.committed_digest != digest
    }

    /// A participant said what it has.
    pub(super) fn on_said(&mut self, from: PeerId, summary: Summary) {
        if self.awaits(&from) {
            self.said.insert(from, summary);
        }
    }

    /// A participant is at it.
    pub(super) fn on_busy(&mut self, now: Instant, from: PeerId) {
        if let Some(heard) = self.heard.get_mut(&from) {
            *heard = now;
        }
    }

    /// A participant said what became of it.
    pub(super) fn on_done(&mut self, from: PeerId, outcome: Outcome) {
        if let Phase::Settling { done, .. } = &mut self.phase
            && self.said.contains_key(&from)
        {
            done.insert(from, outcome);
        }
    }

    /// Goes on if it can; the verdict when it is over.
    pub(super) fn step(&mut self, now: Instant, config: &ResolutionConfig) -> Option<Verdict> {
        if let Phase::Collecting { until } = self.phase {
            let enough = self.said.len() > self.participants.len() / 2 && now >= until;
            if self.said.len() == self.participants.len() || enough {
                let source = choose(&self.said)?;
                let chosen = self.said.get(&source)?.clone();
                self.phase = Phase::Settling { source, chosen, done: BTreeMap::new() };
                self.heard = self.said.keys().map(|peer| (*peer, now)).collect();
                self.retry_at = now;
            } else if now >= self.deadline {
                return Some(Verdict::NoMajority);
            }
        }
        let away = |at: &Instant| now.saturating_duration_since(*at) > config.collect;
        let is_away = |peer: &PeerId| self.heard.get(peer).is_none_or(away);
        match &self.phase {
            // Who answered once and is silent now is away, or began anew; it seeks a resolution when it is back.
            Phase::Settling { done, .. }
                if now >= self.deadline || self.said.keys().all(|peer| done.contains_key(peer) || is_away(peer)) =>
            {
                let silent = self.participants.iter().filter(|peer| !done.contains_key(peer)).copied().collect();
                Some(Verdict::Settled { done: done.clone(), silent })
            }
            Phase::Settling { .. } | Phase::Collecting { .. } => None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.retry_at.min(self.deadline)
    }
}
