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

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bowline_messages::config::RepairConfig;
use bowline_messages::event::EventKind;
use bowline_messages::repair::{
    Diagnosis, DialFailure, Repair, RepairAttempt, RepairOutcome, RepairStatus, Subject, Symptom,
};
use bowline_messages::{LinkId, PeerId, TransportKind};

use crate::transport::breaker::{Breaker, BreakerConfig};

/// Subjects with a record at most; symptoms of others are not counted.
const SUBJECTS_MAX: usize = 1024;
/// Links that are known at most.
const LINKS_MAX: usize = 65_536;
/// Symptoms of one kind that are remembered.
const SYMPTOMS_MAX: usize = 16;
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

/// Repairs of a whole node.
#[derive(Debug)]
pub struct Repairs {
    config: RepairConfig,
    records: BTreeMap<Subject, Record>,
    links: BTreeMap<(PeerId, LinkId), KnownLink>,
    outputs: VecDeque<RepairOutput>,
}

impl Repairs {
    /// Everything is well.
    pub fn new(config: RepairConfig) -> Self {
        Self { config, records: BTreeMap::new(), links: BTreeMap::new(), outputs: VecDeque::new() }
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
                let known = self.links.remove(&(peer, link));
                if let Some(known) = known.filter(|_| protocol) {
                    self.on_ill(now, path(peer, known.transport), Diagnosis::Protocol, None);
                }
            }
            Symptom::LinkDegraded { peer, link, degraded } => {
                let Some(known) = self.links.get_mut(&(peer, link)) else { return };
                known.degraded = degraded.then(|| known.degraded.unwrap_or(now));
                let transport = known.transport.clone();
                if !degraded {
                    self.on_well(&path(peer, transport));
                }
            }
            Symptom::SessionEnded { peer } => {
                self.links.retain(|(whose, _), _| *whose != peer);
                self.records.retain(|subject, _| subject.peer != Some(peer));
            }
            Symptom::Listener { transport, open: false } => {
                self.on_ill(now, whole(transport), Diagnosis::Adapter, None);
            }
            Symptom::Probed { transport, answered: false } => {
                self.on_ill(now, whole(transport), Diagnosis::Wedged, None);
            }
            Symptom::Listener { transport, open: true } => self.on_well_of(&whole(transport), Diagnosis::Adapter),
            Symptom::Probed { transport, answered: true } => self.on_well_of(&whole(transport), Diagnosis::Wedged),
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const SEC: Duration = Duration::from_secs(1);
    const PEER: PeerId = PeerId::from_bytes([1; 32]);

    fn tcp() -> TransportKind {
        TransportKind::new("tcp")
    }

    fn made(repairs: &mut Repairs) -> Vec<Repair> {
        let mut made = Vec::new();
        while let Some(output) = repairs.poll_output() {
            if let RepairOutput::Make { repair, .. } = output {
                made.push(repair);
            }
        }
        made
    }

    fn dial_failed(failure: DialFailure) -> Symptom {
        Symptom::DialFailed { peer: PEER, transport: tcp(), failure }
    }

    fn probed(answered: bool) -> Symptom {
        Symptom::Probed { transport: tcp(), answered }
    }

    fn rose(link: u32) -> Symptom {
        Symptom::LinkRose { peer: PEER, transport: tcp(), link: LinkId(link) }
    }

    /// Symptoms every second for so long; what was done, and how often it was said that nothing helps.
    fn ill_for(repairs: &mut Repairs, now: &mut Instant, time: Duration, symptom: &Symptom) -> (Vec<Repair>, usize) {
        let (mut done, mut told, end) = (Vec::new(), 0, *now + time);
        while *now < end {
            repairs.on_symptom(*now, symptom.clone());
            repairs.on_timeout(*now);
            *now += SEC;
            while let Some(output) = repairs.poll_output() {
                match output {
                    RepairOutput::Make { repair, .. } => done.push(repair),
                    RepairOutput::Emit(EventKind::Unrepairable { .. }) => told += 1,
                    RepairOutput::Emit(_) => {}
                }
            }
        }
        (done, told)
    }

    #[test]
    fn each_diagnosis_begins_with_its_own_repair_and_not_with_the_first_symptom() {
        let cases = [
            (dial_failed(DialFailure::Ticket), 2, Repair::Renegotiate),
            (dial_failed(DialFailure::Handshake), 2, Repair::Renegotiate),
            (dial_failed(DialFailure::Local), 3, Repair::ReopenAdapter),
            (dial_failed(DialFailure::TimedOut), 3, Repair::TuneParameters),
            (Symptom::Listener { transport: tcp(), open: false }, 3, Repair::ReopenAdapter),
            (probed(false), 2, Repair::RestartTransport),
        ];
        for (symptom, times, expected) in cases {
            let (mut repairs, now) = (Repairs::new(RepairConfig::default()), Instant::now());
            repairs.on_symptom(
                now,
                Symptom::LinkRose { peer: PEER, transport: TransportKind::new("ble"), link: LinkId(1) },
            );
            for _ in 1..times {
                repairs.on_symptom(now, symptom.clone());
            }
            assert_eq!(made(&mut repairs), [], "{symptom:?}");
            repairs.on_symptom(now, symptom.clone());
            assert_eq!(made(&mut repairs), [expected], "{symptom:?}");
            repairs.on_symptom(now, symptom.clone());
            assert_eq!(made(&mut repairs), [], "it is given time: {symptom:?}");
        }
    }

    #[test]
    fn what_is_the_peers_or_the_networks_is_left_alone() {
        for failure in [DialFailure::Elsewhere, DialFailure::TimedOut] {
            let (mut repairs, mut now) = (Repairs::new(RepairConfig::default()), Instant::now());
            let (done, told) = ill_for(&mut repairs, &mut now, 100 * SEC, &dial_failed(failure));
            assert_eq!((done, told), (vec![], 0), "{failure:?}");
        }
    }

    #[test]
    fn a_link_that_stays_degraded_is_reset_only_beside_another() {
        let (mut repairs, now) = (Repairs::new(RepairConfig::default()), Instant::now());
        let degraded = Symptom::LinkDegraded { peer: PEER, link: LinkId(1), degraded: true };
        repairs.on_symptom(now, rose(1));
        repairs.on_symptom(now, degraded);
        repairs.on_timeout(repairs.deadline().unwrap());
        assert_eq!(made(&mut repairs), []);
        repairs.on_symptom(now, rose(2));
        repairs.on_timeout(repairs.deadline().unwrap());
        assert_eq!(made(&mut repairs), [Repair::ResetConnection]);
    }

    #[test]
    fn when_nothing_helps_the_limit_is_reached_said_once_and_then_one_attempt_is_made_in_each_pause() {
        let config = RepairConfig::default();
        let (mut repairs, mut now) = (Repairs::new(config.clone()), Instant::now());
        let symptom = dial_failed(DialFailure::Local);
        let (done, told) = ill_for(&mut repairs, &mut now, 120 * SEC, &symptom);
        let mut expected = vec![Repair::ReopenAdapter];
        expected.resize(config.attempts as usize, Repair::RestartTransport);
        assert_eq!((done, told), (expected, 1));
        assert!(repairs.status(now)[0].unrepairable);
        let (done, told) = ill_for(&mut repairs, &mut now, 10 * config.pause, &symptom);
        assert!((8..=11).contains(&done.len()), "{}", done.len());
        assert_eq!(told, 0, "said already");
        repairs.on_symptom(now, Symptom::Listener { transport: tcp(), open: true });
        assert!(!repairs.status(now)[0].unrepairable);
    }

    #[test]
    fn what_heals_and_falls_ill_again_is_no_loop() {
        let config = RepairConfig::default();
        let (mut repairs, mut now, mut done) = (Repairs::new(config.clone()), Instant::now(), 0);
        let end = now + config.period;
        while now < end {
            repairs.on_symptom(now, probed(false));
            repairs.on_symptom(now, probed(false));
            done += made(&mut repairs).len();
            repairs.on_symptom(now, probed(true));
            now += SEC;
            repairs.on_timeout(now);
        }
        assert!(done <= 2 * config.attempts as usize, "{done} repairs in one period");
    }

    #[test]
    fn what_helps_is_said_and_ends_the_case() {
        let (mut repairs, now) = (Repairs::new(RepairConfig::default()), Instant::now());
        for _ in 0..2 {
            repairs.on_symptom(now, dial_failed(DialFailure::Ticket));
        }
        assert_eq!(made(&mut repairs), [Repair::Renegotiate]);
        repairs.on_symptom(now, rose(1));
        let healed = std::iter::from_fn(|| repairs.poll_output())
            .any(|o| matches!(o, RepairOutput::Emit(EventKind::RepairEnded { outcome: RepairOutcome::Healed, .. })));
        assert!(healed);
        assert_eq!(repairs.deadline(), None);
    }

    proptest! {
        #[test]
        fn no_sequence_makes_more_repairs_than_allowed(symptoms in proptest::collection::vec((0..9_u8, 0..8_u8, 0..30_u64), 0..400)) {
            let config = RepairConfig::default();
            let (mut repairs, mut now) = (Repairs::new(config.clone()), Instant::now());
            let start = now;
            let mut done = BTreeMap::<Subject, u32>::new();
            for (kind, number, seconds) in symptoms {
                let (peer, link) = (PeerId::from_bytes([number % 2; 32]), LinkId(number.into()));
                let transport = TransportKind::new(if number % 3 == 0 { "tcp" } else { "ble" });
                repairs.on_symptom(now, match kind {
                    0 => Symptom::DialFailed { peer, transport, failure: DialFailure::Local },
                    1 => Symptom::DialFailed { peer, transport, failure: DialFailure::Ticket },
                    2 => Symptom::LinkRose { peer, transport, link },
                    3 => Symptom::LinkFell { peer, link, protocol: true },
                    4 => Symptom::LinkDegraded { peer, link, degraded: number % 4 != 0 },
                    5 => Symptom::Listener { transport, open: number % 5 == 0 },
                    6 => Symptom::Probed { transport, answered: number % 4 == 0 },
                    7 => Symptom::DialFailed { peer, transport, failure: DialFailure::TimedOut },
                    _ => Symptom::LinkDegraded { peer, link, degraded: true },
                });
                now += SEC * u32::try_from(seconds).unwrap();
                repairs.on_timeout(now);
                while let Some(output) = repairs.poll_output() {
                    if let RepairOutput::Make { subject, .. } = output {
                        *done.entry(subject).or_default() += 1;
                    }
                }
            }
            let time = now.saturating_duration_since(start);
            let periods = u32::try_from(time.as_secs() / config.period.as_secs()).unwrap() + 1;
            for (subject, count) in done {
                // In each period the attempts, and those of the half-open breaker.
                prop_assert!(count <= periods * 2 * config.attempts, "{subject:?}: {count} in {time:?}");
            }
        }
    }
}
