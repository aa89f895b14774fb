//! Which repair, when, and when to stop. Pure.
//!
//! Symptoms become a diagnosis of a *subject*: the way to one peer over one transport, or a transport as a whole. A diagnosis has a ladder of
//! repairs, the mildest first; each is given time to show that it helped before the next one is tried. What the network or the peer does is not
//! repaired here: a transport is touched only for what this side can know to be its own (listeners, its adapter, its actor).
//!
//! ```text
//!   well ──symptoms──▶ repair ──settle──▶ healed: well
//!                        ▲        └─ symptoms again: failed ──▶ next repair … attempts used up: unrepairable, breaker open
//!                        └──────────────── after the pause: one attempt (half open) ◀──────────────────────┘
//! ```
//!
//! Two limits hold at once: the circuit breaker over attempts that failed in a row, and so many attempts in a period whatever came of them, so
//! that something that heals and falls ill again is no loop either.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bowline_messages::config::RepairConfig;
use bowline_messages::event::EventKind;
use bowline_messages::repair::{
    Diagnosis, DialFailure, Repair, RepairAttempt, RepairOutcome, RepairStatus, Subject, Symptom,
};
use bowline_messages::{EndpointAddress, LinkId, PeerId, TransportKind};

use crate::transport::breaker::{Breaker, BreakerConfig};

/// Subjects with a record at most; symptoms of others are not counted.
const SUBJECTS_MAX: usize = 1024;
/// Links that are known at most.
const LINKS_MAX: usize = 65_536;
/// Symptoms of one kind that are remembered.
const SYMPTOMS_MAX: usize = 16;
/// Broken listeners of one transport that are known; more of them make no other diagnosis.
const LISTENERS_MAX: usize = 64;
/// Attempts of one subject that are shown.
const SHOWN_MAX: usize = 16;

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum RepairOutput {
    /// Make this repair.
    Make {
        /// Of what.
        subject: Subject,
        /// Which.
        repair: Repair,
        /// The link to reset.
        link: Option<LinkId>,
    },
    /// Something happened that others want to know.
    Emit(EventKind),
}

/// How many symptoms within the window make a diagnosis.
const fn enough(diagnosis: Diagnosis) -> usize {
    match diagnosis {
        // It has been waited for already.
        Diagnosis::Stuck => 1,
        Diagnosis::Slow => 3,
        Diagnosis::Protocol | Diagnosis::Wedged => 2,
        Diagnosis::Adapter => 3,
    }
}

/// The repairs for a diagnosis, in the order in which they are tried; the last one is repeated.
const fn ladder(diagnosis: Diagnosis) -> &'static [Repair] {
    match diagnosis {
        Diagnosis::Stuck => &[Repair::ResetConnection, Repair::TuneParameters, Repair::Renegotiate],
        Diagnosis::Slow => &[Repair::TuneParameters],
        Diagnosis::Protocol => &[Repair::Renegotiate, Repair::TuneParameters],
        Diagnosis::Adapter => &[Repair::ReopenAdapter, Repair::RestartTransport],
        Diagnosis::Wedged => &[Repair::RestartTransport],
    }
}

/// Diagnoses in the order in which they are looked at: the one that explains the others first.
const ORDER: [Diagnosis; 5] =
    [Diagnosis::Wedged, Diagnosis::Adapter, Diagnosis::Protocol, Diagnosis::Slow, Diagnosis::Stuck];

#[derive(Debug, Clone, Copy)]
struct Attempt {
    at: Instant,
    diagnosis: Diagnosis,
    repair: Repair,
    outcome: RepairOutcome,
}

#[derive(Debug)]
struct Record {
    symptoms: BTreeMap<Diagnosis, VecDeque<Instant>>,
    /// The next rung of the ladder of the present diagnosis.
    rung: usize,
    diagnosis: Option<Diagnosis>,
    /// A repair was made and is given until then.
    settles: Option<Instant>,
    attempts: VecDeque<Attempt>,
    breaker: Breaker,
    /// That nothing helps was said.
    told: bool,
    /// The link that is stuck.
    link: Option<LinkId>,
    /// Listeners that are not open, and when each failed last.
    broken: BTreeMap<EndpointAddress, Instant>,
    seen: Instant,
}

impl Record {
    fn new(now: Instant, config: &RepairConfig) -> Self {
        let breaker = BreakerConfig { failures: config.attempts.max(1), open: config.pause };
        Self {
            symptoms: BTreeMap::new(),
            rung: 0,
            diagnosis: None,
            settles: None,
            attempts: VecDeque::new(),
            breaker: Breaker::new(breaker),
            told: false,
            link: None,
            broken: BTreeMap::new(),
            seen: now,
        }
    }

    fn counted(&self, now: Instant, period: Duration) -> usize {
        self.attempts.iter().filter(|attempt| now.saturating_duration_since(attempt.at) < period).count()
    }

    /// What is wrong now; after a repair that did not help one symptom is enough.
    fn diagnose(&self) -> Option<Diagnosis> {
        let found = |diagnosis: &&Diagnosis| {
            let least = if self.diagnosis == Some(**diagnosis) { 1 } else { enough(**diagnosis) };
            self.symptoms.get(diagnosis).is_some_and(|seen| seen.len() >= least)
        };
        ORDER.iter().find(found).copied()
    }

    /// Without symptoms for as long as one counts, what was tried against them is no reason to go on where that ended.
    fn forget_old(&mut self, now: Instant, config: &RepairConfig) {
        // A link that stays degraded is looked at again after that time.
        let again = if self.diagnosis == Some(Diagnosis::Stuck) { config.stuck } else { Duration::ZERO };
        if self.settles.is_none() && now.saturating_duration_since(self.seen) > config.window + again {
            self.symptoms.clear();
            (self.rung, self.diagnosis) = (0, None);
        }
    }

    fn end_attempt(&mut self, outcome: RepairOutcome) -> Option<Repair> {
        self.settles.take()?;
        let last = self.attempts.back_mut()?;
        last.outcome = outcome;
        Some(last.repair)
    }
}

#[derive(Debug)]
struct KnownLink {
    transport: TransportKind,
    degraded: Option<Instant>,
}

/// A link that stood before anybody said so here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingLink {
    /// With whom.
    pub peer: PeerId,
    /// Its number.
    pub link: LinkId,
    /// Over what.
    pub transport: TransportKind,
    /// Whether it is well.
    pub well: bool,
}

/// What was heard of links that are not known yet: newer than the answer that names them.
#[derive(Debug, Default)]
struct Newer {
    /// Links that fell, and peers whose session ended.
    gone: BTreeSet<(PeerId, Option<LinkId>)>,
    /// Whether a link was degraded when it was last heard of.
    degraded: BTreeMap<(PeerId, LinkId), bool>,
}

/// Repairs of a whole node.
#[derive(Debug)]
pub struct Repairs {
    config: RepairConfig,
    records: BTreeMap<Subject, Record>,
    links: BTreeMap<(PeerId, LinkId), KnownLink>,
    /// What was heard of links while it is asked which ones stand. `None`: nobody asks.
    newer: Option<Newer>,
    outputs: VecDeque<RepairOutput>,
}

impl Repairs {
    /// Everything is well.
    pub fn new(config: RepairConfig) -> Self {
        Self { config, records: BTreeMap::new(), links: BTreeMap::new(), newer: None, outputs: VecDeque::new() }
    }

    /// It is asked which links stand; [`Repairs::on_standing`] has the answer.
    pub fn on_asked(&mut self) {
        self.newer = Some(Newer::default());
    }

    /// These links stood when it was asked for them: as if each had risen, and was degraded since now.
    pub fn on_standing(&mut self, now: Instant, standing: impl IntoIterator<Item = StandingLink>) {
        let newer = self.newer.take().unwrap_or_default();
        for StandingLink { peer, link, transport, well } in standing {
            let gone = newer.gone.contains(&(peer, Some(link))) || newer.gone.contains(&(peer, None));
            if !gone && self.links.len() < LINKS_MAX {
                let degraded = newer.degraded.get(&(peer, link)).copied().unwrap_or(!well).then_some(now);
                self.links.entry((peer, link)).or_insert(KnownLink { transport, degraded });
            }
        }
    }

    fn note_gone(&mut self, peer: PeerId, link: Option<LinkId>) {
        if let Some(newer) = self.newer.as_mut().filter(|newer| newer.gone.len() < LINKS_MAX) {
            newer.gone.insert((peer, link));
        }
    }

    fn note_degraded(&mut self, peer: PeerId, link: LinkId, degraded: bool) {
        if let Some(newer) = self.newer.as_mut().filter(|newer| newer.degraded.len() < LINKS_MAX) {
            newer.degraded.insert((peer, link), degraded);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<RepairOutput> {
        self.outputs.pop_front()
    }

    /// When [`Repairs::on_timeout`] wants to run.
    pub fn deadline(&self) -> Option<Instant> {
        let settles = self.records.values().filter_map(|record| record.settles);
        let stuck = self.links.values().filter_map(|link| link.degraded.map(|since| since + self.config.stuck));
        settles.chain(stuck).min()
    }

    /// Somebody saw something.
    pub fn on_symptom(&mut self, now: Instant, symptom: Symptom) {
        if self.config.attempts == 0 {
            return;
        }
        match symptom {
            Symptom::DialFailed { peer, transport, failure } => self.on_dial_failed(now, peer, transport, failure),
            Symptom::LinkRose { peer, transport, link } => {
                if self.links.len() < LINKS_MAX {
                    let known = KnownLink { transport: transport.clone(), degraded: None };
                    self.links.insert((peer, link), known);
                }
                self.on_well(&path(peer, transport));
            }
            Symptom::LinkFell { peer, link, protocol } => {
                self.note_gone(peer, Some(link));
                let known = self.links.remove(&(peer, link));
                if let Some(known) = known.filter(|_| protocol) {
                    self.on_ill(now, path(peer, known.transport), Diagnosis::Protocol, None);
                }
            }
            Symptom::LinkDegraded { peer, link, degraded } => {
                let Some(known) = self.links.get_mut(&(peer, link)) else {
                    return self.note_degraded(peer, link, degraded);
                };
                known.degraded = degraded.then(|| known.degraded.unwrap_or(now));
                let transport = known.transport.clone();
                if !degraded {
                    self.on_well(&path(peer, transport));
                }
            }
            Symptom::SessionEnded { peer } => {
                self.note_gone(peer, None);
                self.links.retain(|(whose, _), _| *whose != peer);
                self.records.retain(|subject, _| subject.peer != Some(peer));
            }
            Symptom::Listener { address, open } => self.on_listener(now, address, open),
            Symptom::Probed { transport, answered: false } => {
                self.on_ill(now, whole(transport), Diagnosis::Wedged, None);
            }
            Symptom::Probed { transport, answered: true } => self.on_well_of(&whole(transport), Diagnosis::Wedged),
        }
    }

    /// One listener that is open says nothing of others that are not.
    fn on_listener(&mut self, now: Instant, address: EndpointAddress, open: bool) {
        let (subject, window) = (whole(address.kind().clone()), self.config.window);
        if !open {
            self.on_ill(now, subject.clone(), Diagnosis::Adapter, None);
        }
        let Some(record) = self.records.get_mut(&subject) else { return };
        // One that is not wanted any more fails no more.
        record.broken.retain(|_, at| now.saturating_duration_since(*at) <= window);
        if open {
            record.broken.remove(&address);
            if record.broken.is_empty() {
                self.on_well_of(&subject, Diagnosis::Adapter);
            }
        } else if record.broken.len() < LISTENERS_MAX || record.broken.contains_key(&address) {
            record.broken.insert(address, now);
        }
    }

    fn on_dial_failed(&mut self, now: Instant, peer: PeerId, transport: TransportKind, failure: DialFailure) {
        match failure {
            // Without another link nobody knows whether the peer is there at all.
            DialFailure::TimedOut if self.has_link(peer, None) => {
                self.on_ill(now, path(peer, transport), Diagnosis::Slow, None);
            }
            DialFailure::Ticket | DialFailure::Handshake => {
                self.on_ill(now, path(peer, transport), Diagnosis::Protocol, None);
            }
            DialFailure::Local => self.on_ill(now, whole(transport), Diagnosis::Adapter, None),
            DialFailure::TimedOut | DialFailure::Elsewhere => {}
        }
    }

    /// Whether the peer has a link that is well, besides one.
    fn has_link(&self, peer: PeerId, besides: Option<LinkId>) -> bool {
        let of_peer = self.links.range((peer, LinkId(0))..=(peer, LinkId(u32::MAX)));
        of_peer.into_iter().any(|((_, link), known)| Some(*link) != besides && known.degraded.is_none())
    }

    fn on_ill(&mut self, now: Instant, subject: Subject, diagnosis: Diagnosis, link: Option<LinkId>) {
        if !self.records.contains_key(&subject) {
            let period = self.config.period;
            if self.records.len() >= SUBJECTS_MAX {
                self.records.retain(|_, record| now.saturating_duration_since(record.seen) < period);
            }
            if self.records.len() >= SUBJECTS_MAX {
                return;
            }
        }
        let config = &self.config;
        let record = self.records.entry(subject.clone()).or_insert_with(|| Record::new(now, config));
        record.forget_old(now, config);
        record.seen = now;
        record.link = link.or(record.link);
        let seen = record.symptoms.entry(diagnosis).or_default();
        seen.push_back(now);
        while seen.len() > SYMPTOMS_MAX
            || seen.front().is_some_and(|at| now.saturating_duration_since(*at) > config.window)
        {
            seen.pop_front();
        }
        self.consider(now, subject);
    }

    /// Nothing is wrong with it any more.
    fn on_well(&mut self, subject: &Subject) {
        let Some(record) = self.records.get_mut(subject) else { return };
        let made = record.end_attempt(RepairOutcome::Healed);
        record.symptoms.clear();
        (record.rung, record.diagnosis, record.link, record.told) = (0, None, None, false);
        record.breaker.on_success();
        if let Some(repair) = made {
            self.tell_ended(subject.clone(), repair, RepairOutcome::Healed);
        }
    }

    /// One of the things that can be wrong with it is not.
    fn on_well_of(&mut self, subject: &Subject, diagnosis: Diagnosis) {
        let Some(record) = self.records.get_mut(subject) else { return };
        record.symptoms.remove(&diagnosis);
        let other = record.diagnosis.is_some_and(|present| present != diagnosis);
        if !other && record.symptoms.is_empty() {
            self.on_well(subject);
        }
    }

    /// Makes the next repair, if there is enough of a reason, nothing is being waited for and the limits allow it.
    fn consider(&mut self, now: Instant, subject: Subject) {
        let config = self.config.clone();
        let Some(record) = self.records.get_mut(&subject) else { return };
        let Some(diagnosis) = record.diagnose().filter(|_| record.settles.is_none()) else { return };
        let counted = record.counted(now, config.period);
        // Once it was reported, only the breaker's single attempts remain.
        let spent = counted >= config.attempts as usize && !record.told;
        if spent || record.breaker.attempt(now).is_err() {
            if !std::mem::replace(&mut record.told, true) {
                // Attempts that helped for a moment close the breaker each time; the pause holds for them as well.
                (0..config.attempts).for_each(|_| record.breaker.on_failure(now));
                let attempts = u32::try_from(counted).unwrap_or(u32::MAX);
                self.outputs.push_back(RepairOutput::Emit(EventKind::Unrepairable { subject, diagnosis, attempts }));
            }
            return;
        }
        if record.diagnosis != Some(diagnosis) {
            (record.diagnosis, record.rung) = (Some(diagnosis), 0);
        }
        let steps = ladder(diagnosis);
        let repair = steps[record.rung.min(steps.len() - 1)];
        record.rung += 1;
        record.symptoms.clear();
        record.settles = Some(now + config.settle);
        record.attempts.push_back(Attempt { at: now, diagnosis, repair, outcome: RepairOutcome::Pending });
        while record.attempts.len() > SHOWN_MAX.max(config.attempts as usize) {
            record.attempts.pop_front();
        }
        let (link, attempt) = (record.link, u32::try_from(counted + 1).unwrap_or(u32::MAX));
        let begun = EventKind::RepairStarted { subject: subject.clone(), diagnosis, repair, attempt };
        self.outputs.push_back(RepairOutput::Emit(begun));
        self.outputs.push_back(RepairOutput::Make { subject, repair, link });
    }

    fn tell_ended(&mut self, subject: Subject, repair: Repair, outcome: RepairOutcome) {
        self.outputs.push_back(RepairOutput::Emit(EventKind::RepairEnded { subject, repair, outcome }));
    }

    /// A deadline was reached.
    pub fn on_timeout(&mut self, now: Instant) {
        let due = |record: &Record| record.settles.is_some_and(|at| at <= now);
        let settled: Vec<Subject> = self.records.iter().filter(|(_, r)| due(r)).map(|(s, _)| s.clone()).collect();
        for subject in settled {
            let Some(record) = self.records.get_mut(&subject) else { continue };
            let outcome = if record.symptoms.is_empty() { RepairOutcome::Unclear } else { RepairOutcome::Failed };
            if outcome == RepairOutcome::Failed {
                record.breaker.on_failure(now);
            }
            let made = record.end_attempt(outcome);
            if let Some(repair) = made {
                self.tell_ended(subject.clone(), repair, outcome);
            }
            self.consider(now, subject);
        }
        let stuck = self.config.stuck;
        let long = |link: &KnownLink| link.degraded.is_some_and(|since| now.saturating_duration_since(since) >= stuck);
        let found: Vec<_> = self.links.iter().filter(|(_, link)| long(link)).map(|(name, _)| *name).collect();
        for (peer, link) in found {
            let other = self.has_link(peer, Some(link));
            let Some(known) = self.links.get_mut(&(peer, link)) else { continue };
            // Looked at again after as long a time: another link may be there then.
            known.degraded = Some(now);
            let transport = known.transport.clone();
            if other {
                self.on_ill(now, path(peer, transport), Diagnosis::Stuck, Some(link));
            }
        }
    }

    /// What was done lately, by subject.
    pub fn status(&self, now: Instant) -> Vec<RepairStatus> {
        let told = self.records.iter().filter(|(_, record)| !record.attempts.is_empty());
        told.map(|(subject, record)| RepairStatus {
            subject: subject.clone(),
            breaker: record.breaker.state(),
            unrepairable: record.told,
            attempts: record.attempts.iter().map(|attempt| attempt.shown(now)).collect(),
        })
        .collect()
    }
}

impl Attempt {
    fn shown(&self, now: Instant) -> RepairAttempt {
        let Self { at, diagnosis, repair, outcome } = *self;
        RepairAttempt { diagnosis, repair, ago: now.saturating_duration_since(at), outcome }
    }
}

fn path(peer: PeerId, transport: TransportKind) -> Subject {
    Subject { peer: Some(peer), transport }
}

fn whole(transport: TransportKind) -> Subject {
    Subject { peer: None, transport }
}

#[cfg(test)]
mod tests;
