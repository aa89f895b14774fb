//! What tests look at: all of the state, so that two that behave the same are known as the same.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;

use super::{Granted, Lease, LeaseMessage};

impl Lease {
    /// The round of asking that this node is in.
    pub(in super::super) fn round(&self) -> Option<u64> {
        self.candidacy.as_ref().map(|own| own.round)
    }

    /// The round of asking for forgotten terms, when it may ask for them.
    pub(in super::super) fn learning_round(&self, now: Instant) -> Option<u64> {
        self.learning.as_ref().filter(|_| self.may_learn(now)).map(|learning| learning.round().0)
    }

    /// To whom this node is bound, itself included.
    pub(in super::super) fn bound_to(&self, now: Instant) -> Option<PeerId> {
        self.grant.as_ref().filter(|grant| now < grant.until).map(|grant| grant.to)
    }

    /// Whether a message can never again change anything here, as long as this node does not forget: terms and rounds only grow.
    pub(in super::super) fn is_past(&self, from: PeerId, message: &LeaseMessage) -> bool {
        match *message {
            LeaseMessage::Ask { term, round, asker } => {
                term < self.memory.term
                    || (term == self.memory.term && self.memory.owner != Some(from))
                    || self.granted(from, term).is_some_and(|grant| asker != grant.asker || round <= grant.round)
            }
            LeaseMessage::Granted { term, round, asker, .. } => self.candidacy.as_ref().is_none_or(|own| {
                own.term != term
                    || asker != self.life
                    || own.granted.get(&from).is_some_and(|before| before.round >= round)
            }),
            LeaseMessage::Withdrawn { term, asker } => {
                self.granted(from, term).map_or(term < self.memory.term, |grant| grant.asker != asker)
            }
            LeaseMessage::Confirmed { term, .. } => term < self.memory.term,
            LeaseMessage::Answer { .. } => self.learning.is_none(),
            LeaseMessage::Refused { .. } | LeaseMessage::Probe { .. } => false,
        }
    }

    /// What this node has of a participant, with times relative to `now`.
    pub(in super::super) fn granted_by(&self, peer: PeerId, now: Instant) -> Option<(Duration, u64, u64)> {
        let granted = self.candidacy.as_ref()?.granted.get(&peer)?;
        Some((self.ago(granted.asked, now), granted.round, granted.life))
    }

    /// What was longer ago than a lease lasts counts for nothing any more, however much longer.
    fn ago(&self, at: Instant, now: Instant) -> Duration {
        now.saturating_duration_since(at).min(self.timing.duration)
    }

    /// Hashes all of the state that matters for what comes, with times relative to `now` and peers under other names: two leases for which
    /// this is the same behave the same. When there are no members, the times that only they count from do not matter.
    pub(in super::super) fn hash_state(
        &self,
        now: Instant,
        members: bool,
        name: &impl Fn(PeerId) -> u8,
        hasher: &mut impl Hasher,
    ) {
        let left = |until: Instant| until.saturating_duration_since(now);
        let memory = (self.memory.term, self.memory.owner.map(name));
        (memory, self.life, self.changing, self.ago(self.adopted, now), self.hold_off.map(left).unwrap_or_default())
            .hash(hasher);
        if let Some(grant) = &self.grant {
            (1, name(grant.to), grant.term, grant.asker, left(grant.until), grant.round).hash(hasher);
            for (round, at) in grant.answered.iter().filter(|_| members) {
                (round, self.ago(*at, now)).hash(hasher);
            }
        }
        if let Some(learning) = &self.learning {
            // The terms are in the memory already; those apart from each other that are not have no place in a small model.
            let answers: BTreeMap<u8, bool> =
                learning.answers().map(|(peer, remembers)| (name(peer), remembers)).collect();
            let (round, since) = learning.round();
            (2, answers, round, since.map(|since| self.ago(since, now))).hash(hasher);
        }
        if let Some(own) = &self.candidacy {
            (3, own.term, own.round, own.until.map(left), own.before.map(|(term, until)| (term, left(until))))
                .hash(hasher);
            for (round, at) in &own.asked {
                (round, self.ago(*at, now)).hash(hasher);
            }
            let of = |of: &Granted| (self.ago(of.asked, now), of.round, of.life);
            let granted: BTreeMap<u8, _> =
                own.granted.iter().map(|(peer, granted)| (name(*peer), of(granted))).collect();
            granted.hash(hasher);
        }
        if let Some(member) = self.membership.filter(|member| now < member.until) {
            (4, name(member.holder), member.term, left(member.until)).hash(hasher);
        }
    }
}
