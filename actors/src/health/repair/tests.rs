//! Which repair is made when, and that it ends.
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

fn listener(host: &str, open: bool) -> Symptom {
    Symptom::Listener { address: EndpointAddress::new(tcp(), host, None, ""), open }
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
        (listener("a", false), 3, Repair::ReopenAdapter),
        (probed(false), 2, Repair::RestartTransport),
    ];
    for (symptom, times, expected) in cases {
        let (mut repairs, now) = (Repairs::new(RepairConfig::default()), Instant::now());
        repairs
            .on_symptom(now, Symptom::LinkRose { peer: PEER, transport: TransportKind::new("ble"), link: LinkId(1) });
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
fn links_that_stood_before_are_known_unless_they_fell_meanwhile() {
    let standing = |link, well| StandingLink { peer: PEER, link: LinkId(link), transport: tcp(), well };
    for fallen in [None, Some(1), Some(2)] {
        let (mut repairs, now) = (Repairs::new(RepairConfig::default()), Instant::now());
        repairs.on_asked();
        if let Some(link) = fallen {
            let fell = Symptom::LinkFell { peer: PEER, link: LinkId(link), protocol: false };
            repairs.on_symptom(now, fell);
        }
        repairs.on_standing(now, [standing(1, false), standing(2, true)]);
        assert_eq!(repairs.deadline().is_some(), fallen != Some(1));
        repairs.on_timeout(now + RepairConfig::default().stuck);
        let expected: &[Repair] = if fallen.is_none() { &[Repair::ResetConnection] } else { &[] };
        assert_eq!(made(&mut repairs), expected, "{fallen:?}");
    }
}

#[test]
fn what_links_did_while_they_were_asked_for_is_newer_than_the_answer() {
    for (said, later, repaired) in [(false, true, true), (true, false, false)] {
        let (mut repairs, now) = (Repairs::new(RepairConfig::default()), Instant::now());
        repairs.on_asked();
        repairs.on_symptom(now, Symptom::LinkDegraded { peer: PEER, link: LinkId(1), degraded: later });
        let one = StandingLink { peer: PEER, link: LinkId(1), transport: tcp(), well: !said };
        let other = StandingLink { link: LinkId(2), well: true, ..one.clone() };
        repairs.on_standing(now, [one, other]);
        repairs.on_timeout(now + RepairConfig::default().stuck);
        assert_eq!(made(&mut repairs) == [Repair::ResetConnection], repaired, "it said {said}, then {later}");
    }
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
    repairs.on_symptom(now, listener("a", true));
    assert!(!repairs.status(now)[0].unrepairable);
}

#[test]
fn a_listener_that_opens_does_not_heal_another_that_does_not() {
    let config = RepairConfig::default();
    let (mut repairs, mut now) = (Repairs::new(config.clone()), Instant::now());
    let (mut done, mut told) = (Vec::new(), 0);
    for _ in 0..600 {
        let (more, again) = ill_for(&mut repairs, &mut now, SEC, &listener("gone", false));
        // A restart opens the other one again.
        if more.contains(&Repair::RestartTransport) {
            repairs.on_symptom(now, listener("here", true));
        }
        done.extend(more);
        told += again;
    }
    let mut expected = vec![Repair::ReopenAdapter];
    expected.resize(done.len(), Repair::RestartTransport);
    assert_eq!((done, told), (expected, 1));
    repairs.on_symptom(now, listener("gone", true));
    assert!(!repairs.status(now)[0].unrepairable);
}

#[test]
fn a_listener_that_is_wanted_no_more_keeps_its_transport_ill_no_longer_than_symptoms_count() {
    let config = RepairConfig::default();
    let (mut repairs, now) = (Repairs::new(config.clone()), Instant::now());
    repairs.on_symptom(now, listener("closed", false));
    let later = now + config.window + SEC;
    for _ in 0..3 {
        repairs.on_symptom(later, listener("other", false));
    }
    assert_eq!(made(&mut repairs), [Repair::ReopenAdapter]);
    repairs.on_symptom(later, listener("other", true));
    assert_eq!(repairs.records[&whole(tcp())].diagnosis, None);
}

#[test]
fn what_was_tried_against_symptoms_of_long_ago_does_not_count() {
    let config = RepairConfig::default();
    let (mut repairs, mut now) = (Repairs::new(config.clone()), Instant::now());
    for _ in 0..3 {
        for _ in 0..3 {
            repairs.on_symptom(now, dial_failed(DialFailure::Local));
        }
        assert_eq!(made(&mut repairs), [Repair::ReopenAdapter]);
        // Nobody says that it helped: there is no listener.
        repairs.on_timeout(repairs.deadline().unwrap());
        now += config.period;
        repairs.on_symptom(now, dial_failed(DialFailure::Local));
        assert_eq!(made(&mut repairs), [], "one dial that failed");
        now += config.period;
    }
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
                5 => Symptom::Listener { address: EndpointAddress::new(transport, "a", None, ""), open: number % 5 == 0 },
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
