//! The lease of one node: what it grants, holds and takes part in. *When* to seek a lease is decided elsewhere ([`super::contest`]); whatever is
//! decided there, at most one side is active.
//!
//! Why that is so:
//!
//! - A node grants to one candidate at a time. Its grant runs for `duration` from when it answered, on its clock. A candidate with the grants of a
//!   quorum is the holder until `duration × (1 − drift) ÷ (1 + drift)` after it *asked*, on its own clock. It asked before they answered, and
//!   no clock is off by more than the drift, so its lease ends before any of these grants does. Two quorums have a node in common.
//! - A member is active for what remained of the holder's lease when the holder confirmed it, shortened by the drift, counted from when the
//!   member *granted*: that was before, so a member is never active for longer than its holder.
//! - A term is granted to one candidate only, for good: the highest one is on disk before the answer is sent. So a term names one holder, and
//!   whoever knows a higher term refuses what is done under a lower one. A pause between looking at the lease and acting does no harm.
//! - A node that comes back does not know how long its grants run: it grants nothing for a whole `duration`. One that has lost its disk too then
//!   asks the others for the highest term, until a quorum of them has answered that remembers, or until all have answered (a group that begins). It asks when
//!   the `duration` is over and not before: until then a grant of its own may make somebody a holder, together with others that grant the term later than
//!   they answered. Afterwards, of those who made anybody a holder at any time, all have granted the term, and one of them is among those who answer. How
//!   much of what they say it takes, and when, `learning` says. More than a minority that are without at once are beyond this: that is until they know the
//!   terms again. So is a disk that is lost while the participants change.
//! - Who lost its disk may ask for a term again that it asked for before and nobody granted. So whatever is said of an asking names the life in which it was
//!   asked, and a grant runs for one life only.
//! - Participants change by one version at a time whose quorums meet those of the version before, or the node grants nothing for a whole `duration`
//!   after the change; see [`Lease::adopt`]. A term names one holder among the participants of one version: two versions that have few in common may both use
//!   a term under which nothing was committed.

#[cfg(test)]
mod inspect;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::partition::{Standing, Term, Token};

use super::super::terms::LEAP_MAX;
use super::configuration::Configuration;
use super::errors::{FenceError, VersionError};
use super::learning::Learning;
use super::message::{LeaseMessage, LeaseOutput, LeasePacket, Memory};

/// Rounds of asking that are remembered, by the one who asks and by the one who grants: at three a second, ten seconds' worth.
const ROUNDS_MAX: usize = 32;

/// How long leases last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTiming {
    /// How long a grant binds the node that gave it.
    pub duration: Duration,
    /// How far a clock may be off, in parts per million: while a second passes, it shows a second give or take this.
    pub drift_ppm: u32,
}

impl LeaseTiming {
    /// What one may count on, on one's own clock, of a time that another one's clock measures.
    pub fn shortened(&self, time: Duration) -> Duration {
        let (slow, fast) =
            (1_000_000 - u128::from(self.drift_ppm.min(999_999)), 1_000_000 + u128::from(self.drift_ppm));
        Duration::from_nanos(u64::try_from(time.as_nanos() * slow / fast).unwrap_or(u64::MAX))
    }
}

/// A grant of this node.
#[derive(Debug, Clone)]
struct Grant {
    to: PeerId,
    term: Term,
    /// The life of the candidate.
    asker: u64,
    until: Instant,
    /// When it answered each round, for members' leases; only ever the first time.
    answered: BTreeMap<u64, Instant>,
    /// The highest round that was answered.
    round: u64,
}

/// What a candidate or holder has of one participant.
#[derive(Debug, Clone, Copy)]
struct Granted {
    /// When that was asked which it granted last.
    asked: Instant,
    round: u64,
    life: u64,
}

/// A term that this node asked for.
#[derive(Debug, Clone)]
struct Candidacy {
    term: Term,
    round: u64,
    /// When each round was asked.
    asked: BTreeMap<u64, Instant>,
    granted: BTreeMap<PeerId, Granted>,
    /// Until when the lease is held; kept when it has run out, since one that was ever held is not withdrawn.
    until: Option<Instant>,
    /// The term that the node held when it asked for this one, and until when: it goes on to act under that one meanwhile.
    before: Option<(Term, Instant)>,
}

/// Activity through a holder.
#[derive(Debug, Clone, Copy)]
struct Membership {
    holder: PeerId,
    term: Term,
    until: Instant,
}

/// The lease of one node. See the module.
#[derive(Debug, Clone)]
pub struct Lease {
    me: PeerId,
    timing: LeaseTiming,
    configuration: Arc<Configuration>,
    /// A change of the participants is in the log and not committed: nothing is granted.
    changing: bool,
    /// When the present version was adopted.
    adopted: Instant,
    memory: Memory,
    /// Terms that others mentioned: the next one asked for is higher. Nothing depends on it.
    heard: Term,
    /// The highest term under which something was committed: what is done under a lower one is passed over by everybody. It is no promise, so it is not
    /// remembered as one.
    fence: Term,
    /// A random number that no other life of this node has.
    life: u64,
    grant: Option<Grant>,
    /// Nothing is granted before this.
    hold_off: Option<Instant>,
    learning: Option<Learning>,
    candidacy: Option<Candidacy>,
    membership: Option<Membership>,
}

impl Lease {
    /// The lease of a node that starts. `memory` is what it wrote down last, `None` when there is none; `life` a random number.
    pub fn new(
        me: PeerId,
        configuration: Arc<Configuration>,
        timing: LeaseTiming,
        memory: Option<Memory>,
        life: u64,
        now: Instant,
    ) -> Self {
        let mut lease = Self {
            me,
            timing,
            configuration,
            changing: false,
            adopted: now,
            memory: memory.unwrap_or_default(),
            heard: Term::default(),
            fence: Term::default(),
            life,
            grant: None,
            hold_off: Some(now + timing.duration),
            learning: memory.is_none().then(Learning::default),
            candidacy: None,
            membership: None,
        };
        lease.finish_learning();
        lease
    }

    /// Asks everybody whether they would grant a lease, and for the highest term. Harmless at any time.
    pub fn probe(&self, nonce: u64) -> Vec<LeaseOutput> {
        self.broadcast(LeaseMessage::Probe { nonce, asker: self.life })
    }

    /// Asks everybody for the highest term, when this node has forgotten it and holds off no more ([`Lease::held_off`]). To be repeated until
    /// [`Lease::is_learning`] is over.
    pub fn probe_for_terms(&mut self, now: Instant) -> Vec<LeaseOutput> {
        let (may_learn, within) = (self.may_learn(now), self.timing.shortened(self.timing.duration));
        let Some(learning) = self.learning.as_mut().filter(|_| may_learn) else { return Vec::new() };
        let round = learning.ask(now, within);
        self.probe(self.life.wrapping_add(round))
    }

    /// Asks for a new term. Nothing happens when this node is bound to another, or may not grant. A holder stays one meanwhile: it asks for a
    /// higher term when a participant knows of one and therefore refuses the present one.
    pub fn campaign(&mut self, now: Instant) -> Vec<LeaseOutput> {
        if !self.may_grant(now) || self.is_bound_to_another(self.me, now) {
            return Vec::new();
        }
        let before = self.held(now);
        let Some(term) = self.memory.term.max(self.heard).max(self.fence).0.checked_add(1).map(Term) else {
            return Vec::new();
        };
        self.memory = Memory { term, owner: Some(self.me) };
        self.membership = None;
        let (asked, granted) = (BTreeMap::new(), BTreeMap::new());
        self.candidacy = Some(Candidacy { term, round: 0, asked, granted, until: None, before });
        let mut outputs = vec![LeaseOutput::Persist(self.memory)];
        outputs.extend(self.renew(now));
        outputs
    }

    /// Asks again for the term of this node, to prolong the lease or because answers were lost. Nothing happens without one.
    pub fn renew(&mut self, now: Instant) -> Vec<LeaseOutput> {
        if !self.may_grant(now) || self.is_bound_to_another(self.me, now) {
            return Vec::new();
        }
        let Some(candidacy) = self.candidacy.as_mut().filter(|own| own.term == self.memory.term) else {
            return Vec::new();
        };
        candidacy.round += 1;
        let (term, round) = (candidacy.term, candidacy.round);
        remember(&mut candidacy.asked, round, now);
        let asker = self.life;
        let mut outputs = self.broadcast(LeaseMessage::Ask { term, round, asker });
        // The own grant is one like all others; nobody has to be told.
        self.grant(now, self.me, term, round, asker);
        outputs.extend(self.on_granted(now, self.me, term, round, self.life));
        outputs
    }

    /// Gives up a term that was asked for and never held, so that those who granted it are free at once.
    pub fn abandon(&mut self, now: Instant) -> Vec<LeaseOutput> {
        // Grants for this term are all that binds others to a lease that is still held under the term before.
        let never_held = |own: &mut Candidacy| own.until.is_none() && own.before.is_none();
        let Some(candidacy) = self.candidacy.take_if(never_held) else { return Vec::new() };
        let mut outputs = self.broadcast(LeaseMessage::Withdrawn { term: candidacy.term, asker: self.life });
        outputs.extend(self.on_withdrawn(now, self.me, candidacy.term, self.life));
        outputs
    }

    /// Acts on a message. One of a stranger, or for another version of the participants, changes nothing.
    pub fn on_packet(&mut self, now: Instant, from: PeerId, packet: LeasePacket) -> Vec<LeaseOutput> {
        let same = (packet.version, packet.list) == (self.configuration.version(), self.configuration.list());
        if from == self.me || !same || !self.configuration.contains(&from) {
            return Vec::new();
        }
        match packet.message {
            // How long it has been without is part of what it would say: see `learning`.
            LeaseMessage::Probe { .. } if self.learning.is_some() && self.held_off(now).is_some() => Vec::new(),
            LeaseMessage::Probe { nonce, asker } => {
                let (term, remembers) = (self.memory.term, self.learning.is_none());
                let willing = self.may_grant(now) && !self.is_bound_elsewhere(from, asker, now);
                vec![self.to(from, LeaseMessage::Answer { nonce, term, willing, remembers })]
            }
            LeaseMessage::Answer { nonce, term, willing: _, remembers } => {
                self.on_answer(now, from, nonce, term, remembers)
            }
            LeaseMessage::Ask { term, round, asker } => self.on_ask(now, from, term, round, asker),
            LeaseMessage::Granted { term, holder, round, asker, life } if holder == self.me && asker == self.life => {
                self.on_granted(now, from, term, round, life)
            }
            LeaseMessage::Granted { .. } => Vec::new(),
            LeaseMessage::Refused { highest, .. } => {
                self.hear(highest);
                Vec::new()
            }
            LeaseMessage::Confirmed { term, round, life, remaining } => {
                self.on_confirmed(from, term, round, life, remaining);
                Vec::new()
            }
            LeaseMessage::Withdrawn { term, asker } => self.on_withdrawn(now, from, term, asker),
        }
    }

    /// Looks at something that was done under a lease, before it is acted upon: lower terms than the highest known one are refused.
    ///
    /// # Errors
    /// [`FenceError`]: it must not be acted upon.
    pub fn admit(&mut self, token: Token) -> Result<Vec<LeaseOutput>, FenceError> {
        let Token { term, holder } = token;
        if self.learning.is_some() {
            return Err(FenceError::Forgotten);
        }
        if term < self.memory.term {
            return Err(FenceError::Over { found: term, highest: self.memory.term });
        }
        if term == self.memory.term {
            return if self.memory.owner == Some(holder) { Ok(Vec::new()) } else { Err(FenceError::Foreign(term)) };
        }
        if term.0 > self.within_reach() {
            return Err(FenceError::Leap(term));
        }
        self.memory = Memory { term, owner: Some(holder) };
        self.membership = None;
        Ok(vec![LeaseOutput::Persist(self.memory)])
    }

    /// A change of the participants has come into the log, and is not committed yet: nothing is granted until it is ([`Lease::adopt`]) or
    /// until it was taken out of the log again ([`Lease::keep`]). Without this, those who do not know of the change could still
    /// make a majority of the old participants.
    pub const fn prepare(&mut self) {
        self.changing = true;
    }

    /// The change that was prepared is out of the log again.
    pub const fn keep(&mut self) {
        self.changing = false;
    }

    /// A change of the participants is committed. When it is the very next version, its quorums meet those of the present one, and that
    /// one was in force for a whole lease, then grants go on to bind, and leases to be renewed. Otherwise the node grants nothing for a whole
    /// lease: by then every lease of older versions is over.
    ///
    /// # Errors
    /// [`VersionError`] for one that is not newer.
    pub fn adopt(&mut self, now: Instant, configuration: Arc<Configuration>) -> Result<(), VersionError> {
        let (found, known) = (configuration.version(), self.configuration.version());
        if found <= known {
            return Err(VersionError { found, known });
        }
        let smooth = found == known + 1
            && self.configuration.quorums_meet(&configuration)
            && now.saturating_duration_since(self.adopted) >= self.timing.duration;
        if !smooth {
            self.hold_off(now);
        }
        self.changing = false;
        self.adopted = now;
        self.configuration = configuration;
        if let Some(learning) = &mut self.learning {
            // What is known of the version before says nothing of this one.
            learning.begin_again();
        }
        // Who is no participant any more is none of the quorum; a lease that was held runs out as it would have.
        let configuration = &self.configuration;
        if let Some(candidacy) = &mut self.candidacy {
            candidacy.granted.retain(|peer, _| configuration.contains(peer));
        }
        self.finish_learning();
        Ok(())
    }

    /// The clock cannot be trusted for what was: the machine was suspended, for example, and the clock with it. Ends all activity here, and
    /// nothing is granted for a whole lease.
    pub fn doubt_clock(&mut self, now: Instant) {
        self.membership = None;
        // Nothing counts from when this node answered either, should a holder's word come late.
        if let Some(grant) = &mut self.grant {
            grant.answered.clear();
        }
        self.candidacy = None;
        self.hold_off(now);
    }

    /// What this node may do at this moment.
    pub fn standing(&self, now: Instant) -> Standing {
        if let Some((term, until)) = self.held(now) {
            return Standing::Holder { term, remaining: until.saturating_duration_since(now) };
        }
        match self.membership.filter(|member| now < member.until) {
            Some(member) => Standing::Member {
                term: member.term,
                holder: member.holder,
                remaining: member.until.saturating_duration_since(now),
            },
            None => Standing::Paused,
        }
    }

    /// Under which lease this node may act now.
    pub fn token(&self, now: Instant) -> Option<Token> {
        match self.standing(now) {
            Standing::Holder { term, .. } => Some(Token { term, holder: self.me }),
            Standing::Member { term, holder, .. } => Some(Token { term, holder }),
            Standing::Paused => None,
        }
    }

    /// Until when this node is active, as holder or member.
    pub fn active_until(&self, now: Instant) -> Option<Instant> {
        let member = self.membership.map(|member| member.until).filter(|until| now < *until);
        self.held(now).map(|(_, until)| until).or(member)
    }

    /// Whether this node holds a lease.
    pub fn is_holder(&self, now: Instant) -> bool {
        self.held(now).is_some()
    }

    /// The term that this node asked for, when it has it not yet.
    pub fn asking(&self) -> Option<Term> {
        self.candidacy.as_ref().filter(|own| own.until.is_none() && own.term == self.memory.term).map(|own| own.term)
    }

    /// The term that this node asked for last, whether it has it or not.
    pub fn asked(&self) -> Option<Term> {
        self.candidacy.as_ref().map(|own| own.term)
    }

    /// Until when this node is bound to another one, and to which.
    pub fn bound(&self, now: Instant) -> Option<(PeerId, Instant)> {
        self.grant
            .as_ref()
            .filter(|grant| grant.to != self.me && now < grant.until)
            .map(|grant| (grant.to, grant.until))
    }

    /// Until when this node grants nothing because of a start, a change or a doubt.
    pub fn held_off(&self, now: Instant) -> Option<Instant> {
        self.hold_off.filter(|until| now < *until)
    }

    /// Something was committed under this term: the next one asked for is higher, and a holder of a lower one needs another.
    pub fn on_fence(&mut self, fence: Term) {
        self.fence = self.fence.max(fence);
    }

    /// Whether nothing that is done under the term of this node is carried out any more.
    pub fn is_fenced(&self) -> bool {
        self.memory.term < self.fence
    }

    /// Whether this node still asks others for the highest term.
    pub const fn is_learning(&self) -> bool {
        self.learning.is_some()
    }

    /// Whether this node would grant a lease to a candidate that asks for a new term.
    pub fn is_willing(&self, now: Instant, candidate: PeerId) -> bool {
        self.may_grant(now) && !self.is_bound_to_another(candidate, now)
    }

    /// Whether an asking was made in this life of the node.
    pub const fn is_own(&self, asker: u64) -> bool {
        asker == self.life
    }

    /// What has to be found again after a restart.
    pub const fn memory(&self) -> Memory {
        self.memory
    }

    /// The participants.
    pub const fn configuration(&self) -> &Arc<Configuration> {
        &self.configuration
    }

    /// How long leases last.
    pub const fn timing(&self) -> LeaseTiming {
        self.timing
    }

    fn on_ask(&mut self, now: Instant, from: PeerId, term: Term, round: u64, asker: u64) -> Vec<LeaseOutput> {
        let another_life = self.granted(from, term).is_some_and(|grant| grant.asker != asker);
        let never = another_life || term <= self.memory.term && self.memory != (Memory { term, owner: Some(from) });
        let refused = self.to(from, LeaseMessage::Refused { term, asker, highest: self.memory.term, never });
        if !self.may_grant(now) || self.is_bound_elsewhere(from, asker, now) {
            return vec![refused];
        }
        let mut outputs = Vec::with_capacity(2);
        if term.0 > self.within_reach() {
            // Whoever was left behind comes up to the others in steps. The term that it comes to is nobody's here.
            self.memory = Memory { term: Term(self.within_reach()), owner: None };
            self.membership = None;
            return vec![LeaseOutput::Persist(self.memory), refused];
        }
        if term > self.memory.term {
            self.memory = Memory { term, owner: Some(from) };
            outputs.push(LeaseOutput::Persist(self.memory));
        } else if never {
            return vec![refused];
        }
        if self.grant(now, from, term, round, asker) {
            let (holder, life) = (from, self.life);
            outputs.push(self.to(from, LeaseMessage::Granted { term, holder, round, asker, life }));
        }
        outputs
    }

    /// Binds this node, and says whether it did: a round that was answered, or one before it, is not answered again. Otherwise what confirms
    /// the first answer would count from the second one.
    fn grant(&mut self, now: Instant, to: PeerId, term: Term, round: u64, asker: u64) -> bool {
        if self.granted(to, term).is_none() {
            self.grant = Some(Grant { to, term, asker, until: now, answered: BTreeMap::new(), round: 0 });
        }
        if to != self.me {
            self.candidacy = None;
        }
        self.membership = self.membership.filter(|member| member.holder == to);
        let Some(grant) = &mut self.grant else { return false };
        if round <= grant.round {
            return false;
        }
        grant.round = round;
        grant.until = now + self.timing.duration;
        remember(&mut grant.answered, round, now);
        true
    }

    /// The grant of a term to a candidate, the last one of this node; it may have run out.
    fn granted(&self, to: PeerId, term: Term) -> Option<&Grant> {
        self.grant.as_ref().filter(|grant| (grant.to, grant.term) == (to, term))
    }

    fn on_granted(&mut self, now: Instant, from: PeerId, term: Term, round: u64, life: u64) -> Vec<LeaseOutput> {
        let Some(candidacy) = self.candidacy.as_mut().filter(|own| own.term == term) else { return Vec::new() };
        let Some(&asked) = candidacy.asked.get(&round) else { return Vec::new() };
        if candidacy.granted.get(&from).is_some_and(|before| before.round >= round) {
            return Vec::new();
        }
        candidacy.granted.insert(from, Granted { asked, round, life });
        let Some(until) = self.quorum_until().filter(|until| now < *until) else { return Vec::new() };
        let Some(candidacy) = self.candidacy.as_mut() else { return Vec::new() };
        // Never earlier: when the participants change and a quorum takes more of them, those who granted are bound as long as before, and members count on it.
        let grew = candidacy.until.is_none_or(|before| before < until);
        candidacy.until = candidacy.until.max(Some(until));
        if grew { self.confirm_all(now) } else { self.confirm(now, from).into_iter().collect() }
    }

    /// Until when the grants of a quorum last: as long as the oldest of the newest ones that make a quorum.
    fn quorum_until(&self) -> Option<Instant> {
        let candidacy = self.candidacy.as_ref()?;
        let mut newest: Vec<(Instant, &PeerId)> = candidacy.granted.iter().map(|(peer, of)| (of.asked, peer)).collect();
        newest.sort_unstable_by(|a, b| b.cmp(a));
        let enough = (1..=newest.len())
            .find(|count| self.configuration.is_quorum(newest.iter().take(*count).map(|(_, peer)| *peer)))?;
        let (asked, _) = newest.get(enough - 1)?;
        Some(*asked + self.timing.shortened(self.timing.duration))
    }

    fn confirm_all(&self, now: Instant) -> Vec<LeaseOutput> {
        let Some(candidacy) = &self.candidacy else { return Vec::new() };
        candidacy.granted.keys().filter_map(|peer| self.confirm(now, *peer)).collect()
    }

    fn confirm(&self, now: Instant, to: PeerId) -> Option<LeaseOutput> {
        let candidacy = self.candidacy.as_ref()?;
        let (term, until) = self.held(now).filter(|(term, _)| to != self.me && *term == candidacy.term)?;
        let &Granted { round, life, .. } = candidacy.granted.get(&to)?;
        let remaining = until.saturating_duration_since(now);
        Some(self.to(to, LeaseMessage::Confirmed { term, round, life, remaining }))
    }

    fn on_confirmed(&mut self, from: PeerId, term: Term, round: u64, life: u64, remaining: Duration) {
        let Some(grant) = self.granted(from, term) else { return };
        if life != self.life || self.memory.term != term {
            return;
        }
        let Some(&granted) = grant.answered.get(&round) else { return };
        let until = granted + self.timing.shortened(remaining.min(self.timing.duration));
        let before = self.membership.filter(|member| member.term == term).map(|member| member.until);
        let until = before.map_or(until, |before| before.max(until));
        self.membership = Some(Membership { holder: from, term, until });
    }

    /// A grant is free again. That is not written down: after a restart the node would at worst grant the same term to the same peer again,
    /// who has no use for it.
    fn on_withdrawn(&mut self, now: Instant, from: PeerId, term: Term, asker: u64) -> Vec<LeaseOutput> {
        let given_up = |grant: &&mut Grant| (grant.to, grant.term, grant.asker) == (from, term, asker);
        let Some(grant) = self.grant.as_mut().filter(given_up) else { return Vec::new() };
        grant.until = grant.until.min(now);
        self.membership = None;
        if (Memory { term, owner: Some(from) }) == self.memory {
            self.memory.owner = None;
        }
        Vec::new()
    }

    fn on_answer(&mut self, now: Instant, from: PeerId, nonce: u64, term: Term, remembers: bool) -> Vec<LeaseOutput> {
        self.hear(term);
        // Only what was said in this life tells what was granted in the one before.
        let (round, within) = (nonce.wrapping_sub(self.life), self.timing.shortened(self.timing.duration));
        let counts = |learning: &&mut Learning| learning.is_open(round, now, within);
        let Some(learning) = self.learning.as_mut().filter(counts) else { return Vec::new() };
        learning.on_answer(from, term, remembers);
        let learned = learning.learned(&self.configuration);
        if learned > self.memory.term {
            self.memory = Memory { term: learned, owner: None };
        }
        if self.finish_learning() { vec![LeaseOutput::Persist(self.memory)] } else { Vec::new() }
    }

    /// While grants of the life before may still bind, the others do not know yet all that comes of them.
    fn may_learn(&self, now: Instant) -> bool {
        self.learning.is_some() && self.held_off(now).is_none()
    }

    fn finish_learning(&mut self) -> bool {
        let finished = self.learning.as_ref().is_some_and(|learning| learning.is_over(self.me, &self.configuration));
        if finished {
            self.learning = None;
        }
        finished
    }

    fn may_grant(&self, now: Instant) -> bool {
        self.learning.is_none()
            && !self.changing
            && self.held_off(now).is_none()
            && self.configuration.contains(&self.me)
    }

    /// Whether a candidate is refused since somebody else has the grant of this node.
    pub fn is_bound_to_another(&self, candidate: PeerId, now: Instant) -> bool {
        self.grant.as_ref().is_some_and(|grant| grant.to != candidate && now < grant.until)
    }

    /// Whether an asking is refused since somebody else has the grant of this node, or another life of the same one: nobody here can tell which of the two
    /// is the later one, and what is asked for in an earlier one may be given up at any time.
    fn is_bound_elsewhere(&self, candidate: PeerId, asker: u64, now: Instant) -> bool {
        self.grant.as_ref().is_some_and(|grant| (grant.to, grant.asker) != (candidate, asker) && now < grant.until)
    }

    fn held(&self, now: Instant) -> Option<(Term, Instant)> {
        // When somebody else's term came up since, this one is over, whatever the clock says.
        let candidacy = self.candidacy.as_ref().filter(|own| own.term == self.memory.term)?;
        let present = candidacy.until.map(|until| (candidacy.term, until));
        present.or(candidacy.before).filter(|(_, until)| now < *until)
    }

    fn hold_off(&mut self, now: Instant) {
        self.hold_off = self.hold_off.max(Some(now + self.timing.duration));
        if let Some(learning) = &mut self.learning {
            learning.begin_again();
        }
    }

    fn hear(&mut self, term: Term) {
        // The next one asked for is one more, and has to be within the others' reach.
        self.heard = self.heard.max(term.min(Term(self.within_reach() - 1)));
    }

    /// The highest term that is taken from others.
    pub fn within_reach(&self) -> u64 {
        self.memory.term.max(self.fence).0.saturating_add(LEAP_MAX)
    }

    fn to(&self, to: PeerId, message: LeaseMessage) -> LeaseOutput {
        let (version, list) = (self.configuration.version(), self.configuration.list());
        LeaseOutput::Send { to, packet: LeasePacket { version, list, message } }
    }

    fn broadcast(&self, message: LeaseMessage) -> Vec<LeaseOutput> {
        let others = self.configuration.participants().iter().filter(|peer| **peer != self.me);
        others.map(|peer| self.to(*peer, message)).collect()
    }
}

/// Notes when a round was, and forgets the oldest of too many.
fn remember(rounds: &mut BTreeMap<u64, Instant>, round: u64, now: Instant) {
    rounds.insert(round, now);
    while rounds.len() > ROUNDS_MAX {
        rounds.pop_first();
    }
}
