//! How soon one side becomes active, whoever sees whom, and how one that may not be is paused.

mod lost_disk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::partition::{Term, Token};
use proptest::prelude::*;

use super::super::terms::LEAP_MAX;
use super::simulation::{Simulation, TIMING, peer};
use super::{
    Configuration, Contest, ContestOutput, FenceError, Lease, LeaseMessage, LeasePacket, Memory, Pacing, VersionError,
};

const SECOND: Duration = Duration::from_secs(1);
/// From when the old holder is lost until a new one is there: its grants run out (3 s), candidates begin one after another (1 s), probing and
/// asking (four delays), and once more when two of them met.
const TAKEOVER_MAX: Duration = Duration::from_secs(9);
/// From healing until everybody is active: the holder asks again, or those who are paused try again.
const HEAL_MAX: Duration = Duration::from_secs(5);

#[test]
fn a_group_that_starts_becomes_active_as_a_whole() {
    for seed in 0..50 {
        let mut group = Simulation::new(5, seed);
        let took = group.run_until(TAKEOVER_MAX, |group| group.active().len() == 5);
        assert!(took.is_some(), "seed {seed}");
    }
}

#[test]
fn a_lost_holder_is_followed_by_another_one() {
    for seed in 0..20 {
        let mut group = active_group(5, seed);
        let holder = group.holder().unwrap();
        group.crash(holder);
        let took = group.run_until(TAKEOVER_MAX, |group| group.holder().is_some() && group.active().len() == 4);
        assert!(took.is_some(), "seed {seed}");
        group.restart(holder, seed % 2 == 0);
        assert!(group.run_until(HEAL_MAX, |group| group.active().len() == 5).is_some(), "seed {seed}");
    }
}

#[test]
fn both_sides_of_a_partial_partition_see_a_majority_and_one_is_active() {
    for seed in 0..10 {
        let mut group = active_group(5, seed);
        group.connect(|a, b| (a <= 2 && b <= 2) || (a >= 2 && b >= 2));
        group.run(TAKEOVER_MAX);
        for _ in 0..30 {
            // Quiet, too: the one that is active stays so.
            let holder = group.holder();
            assert!(holder.is_some(), "seed {seed}");
            group.run(SECOND);
            assert_eq!(group.holder(), holder, "seed {seed}");
        }
        group.connect(|_, _| true);
        assert!(group.run_until(HEAL_MAX, |group| group.active().len() == 5).is_some(), "seed {seed}");
    }
}

/// Links are drawn each way, or both ways alike.
fn splits(seeds: std::ops::Range<u64>, nodes: usize, both_ways: bool) {
    for seed in seeds {
        let mut group = active_group(nodes, seed);
        let bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed >> 7;
        let there = |a: usize, b: usize| {
            let (a, b) = if both_ways { (a.min(b), a.max(b)) } else { (a, b) };
            a == b || bits >> ((a * nodes + b) % 63) & 1 == 1
        };
        group.connect(there);
        group.run(TAKEOVER_MAX);
        let sees = |n: usize| (0..nodes).filter(|m| there(n, *m) && there(*m, n)).count();
        let able = (0..nodes).any(|n| 2 * sees(n) > nodes);
        let most = TAKEOVER_MAX * 2;
        assert_eq!(able, group.run_until(most, |group| group.holder().is_some()).is_some(), "seed {seed}");
        if let Some(holder) = group.holder() {
            assert!(2 * sees(holder) > nodes, "seed {seed}");
            assert!(group.active().keys().all(|n| there(*n, holder) && there(holder, *n)), "seed {seed}");
        } else {
            assert!(group.active().is_empty(), "seed {seed}");
        }
        group.connect(|_, _| true);
        let healed = group.run_until(HEAL_MAX, |group| group.active().len() == nodes);
        assert!(healed.is_some(), "seed {seed}: {:?}", group.active());
    }
}

#[test]
fn whoever_sees_whom_one_side_is_active_when_one_can_be() {
    splits(0..20, 5, true);
    splits(100..120, 5, false);
    splits(200..205, 7, true);
}

#[test]
#[ignore = "takes minutes; make test-long runs it"]
fn whoever_sees_whom_one_side_is_active_when_one_can_be_many_times() {
    splits(1_000..9_000, 5, true);
    splits(10_000..18_000, 5, false);
    splits(20_000..24_000, 7, false);
}

#[test]
fn a_minority_is_paused_when_its_lease_is_over() {
    for seed in 0..20 {
        let mut group = active_group(5, seed);
        let holder = group.holder().unwrap();
        let other = (holder + 1) % 5;
        let minor = |n: usize| n == holder || n == other;
        group.connect(|a, b| minor(a) == minor(b));
        let paused = group.run_until(SECOND * 3, |group| !group.active().keys().any(|n| minor(*n)));
        assert!(paused.is_some(), "seed {seed}");
    }
}

#[test]
fn loss_does_not_end_activity() {
    let mut group = Simulation::new(5, 9);
    group.loss_permille = 30;
    group.run(SECOND * 20);
    let holder = group.holder();
    assert!(holder.is_some());
    group.run(SECOND * 200);
    assert_eq!(group.holder(), holder);
}

/// How the participants may change: one at a time at once, otherwise after a pause in which nobody is active for the old ones any more.
#[test]
fn a_change_of_the_participants_binds_or_waits() {
    let (now, duration) = (Instant::now(), TIMING.duration);
    let of = |version, nodes: &[usize]| {
        Arc::new(Configuration::new(version, nodes.iter().map(|n| peer(*n)).collect(), None).unwrap())
    };
    let packet = |message| LeasePacket { version: 1, list: of(1, &[0, 1, 2]).list(), message };
    let old = || {
        let mut lease = Lease::new(peer(0), of(1, &[0, 1, 2]), TIMING, Some(Memory::default()), 7, now);
        let ask = LeaseMessage::Ask { term: Term(1), round: 1, asker: 7 };
        assert!(lease.on_packet(now, peer(1), packet(ask)).len() == 1, "it just started");
        (lease, now + duration * 2)
    };
    // One more participant: any two majorities meet. The node grants at once, and only messages of the new version count.
    let (mut lease, later) = old();
    assert!(lease.adopt(later, of(2, &[0, 1, 2, 3])).is_ok());
    assert!(lease.is_willing(later, peer(3)));
    let ask = LeaseMessage::Ask { term: Term(1), round: 1, asker: 7 };
    assert_eq!(lease.on_packet(later, peer(1), packet(ask)), []);
    // The very next change comes too soon: a lease of the version before last may still be held.
    assert!(lease.adopt(later, of(3, &[0, 1, 2, 3, 4])).is_ok());
    assert!(!lease.is_willing(later, peer(3)) && lease.is_willing(later + duration, peer(3)));
    // Others than before, or a version that was left out.
    for (version, nodes) in [(2, &[0, 5, 6][..]), (4, &[0, 1, 2])] {
        let (mut lease, later) = old();
        assert!(lease.adopt(later, of(version, nodes)).is_ok());
        assert!(!lease.is_willing(later, peer(nodes[1])) && lease.is_willing(later + duration, peer(nodes[1])));
    }
    let (mut lease, later) = old();
    assert_eq!(lease.adopt(later, of(1, &[0])), Err(VersionError { found: 1, known: 1 }));
    // While a change is in the log and not committed, nothing is granted.
    lease.prepare();
    assert!(!lease.is_willing(later, peer(1)));
    lease.keep();
    assert!(lease.is_willing(later, peer(1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn crashes_losses_and_changing_links_never_make_two_sides_active(
        seed in any::<u64>(), plan in prop::collection::vec((0..8u8, any::<u64>(), 1..4_000u64), 1..30)
    ) {
        let mut group = active_group(5, seed);
        group.loss_permille = 50;
        for (what, bits, millis) in plan {
            let n = usize::try_from(bits % 5).unwrap();
            match what {
                0 => group.crash(n),
                1 => group.restart(n, true),
                2 if group.may_forget(n) => group.restart(n, false),
                3 => group.connect(|_, _| true),
                // Up to longer than a lease, so that what an earlier life said comes when the next one may grant.
                4 => group.delay.1 = Duration::from_millis(100 + bits % 4_000),
                _ => group.connect(|a, b| bits >> (a * 5 + b) & 1 == 1),
            }
            // The simulation looks after every step.
            group.run(Duration::from_millis(millis));
        }
    }
}

fn active_group(nodes: usize, seed: u64) -> Simulation {
    let mut group = Simulation::new(nodes, seed);
    group.run_until(TAKEOVER_MAX * 2, |group| group.active().len() == nodes).unwrap();
    group
}

/// Each new term is a write to the medium, and the one who holds the lease could ask for one after another.
#[test]
fn a_participant_raises_the_term_now_and_then_and_never_far() {
    let now = Instant::now();
    let configuration = Arc::new(Configuration::new(1, (0..3).map(peer).collect(), None).unwrap());
    let second = Duration::from_secs(1);
    let pacing = Pacing { renew: second / 2, answer: second, spread: second };
    let start = now - TIMING.duration * 2;
    let mut contest =
        Contest::new(peer(0), Arc::clone(&configuration), TIMING, pacing, Some(Memory::default()), 1, start);
    let mut written = 0;
    let packet = |message| LeasePacket { version: 1, list: configuration.list(), message };
    let mut ask = |contest: &mut Contest, at, term| {
        let ask = LeaseMessage::Ask { term: Term(term), round: 1, asker: 7 };
        let outputs = contest.on_packet(at, peer(1), packet(ask));
        written += outputs.iter().filter(|output| matches!(output, ContestOutput::Persist(_))).count();
        written
    };
    for n in 0..1_000_u32 {
        let term = contest.lease().memory().term.0 + 1;
        ask(&mut contest, now + second * n / 100, term);
    }
    assert!(ask(&mut contest, now, 0) <= 30, "in ten seconds");
    let before = contest.lease().memory().term.0;
    for n in 0..1_000_u32 {
        ask(&mut contest, now + second * 10 + second * n / 100, u64::MAX);
    }
    let risen = contest.lease().memory().term.0 - before;
    assert!(risen > LEAP_MAX && risen <= LEAP_MAX * 30, "whoever was left behind comes up in steps: {risen}");
}

#[test]
fn who_comes_back_hears_of_a_lease_from_its_holder_and_of_a_higher_one_from_nobody_else() {
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let configuration = Arc::new(Configuration::new(1, (0..3).map(peer).collect(), None).unwrap());
    let pacing = Pacing { renew: second / 2, answer: second, spread: second };
    let memory = Some(Memory { term: Term(5), owner: None });
    let mut contest = Contest::new(peer(0), Arc::clone(&configuration), TIMING, pacing, memory, 1, now);
    let under = |term, holder| Token { term: Term(term), holder: peer(holder) };
    for (from, token) in [(2, under(7, 1)), (2, under(7, 0)), (0, under(7, 0))] {
        assert_eq!(contest.admit(now, peer(from), token), Err(FenceError::Unknown(Term(7))), "{from}");
    }
    contest.admit(now, peer(1), under(7, 1)).unwrap();
    contest.admit(now, peer(2), under(7, 1)).unwrap();
    // Now it grants, and is bound.
    let later = now + TIMING.duration;
    let ask = LeaseMessage::Ask { term: Term(7), round: 1, asker: 7 };
    contest.on_packet(later, peer(1), LeasePacket { version: 1, list: configuration.list(), message: ask });
    assert_eq!(contest.admit(later, peer(2), under(8, 2)), Err(FenceError::Unknown(Term(8))));
    assert_eq!(contest.lease().memory(), Memory { term: Term(7), owner: Some(peer(1)) });
    // A holder takes a higher term while it holds one.
    contest.admit(later, peer(1), under(8, 1)).unwrap();
}

#[test]
fn who_has_forgotten_learns_the_highest_term_and_from_a_liar_none_that_is_out_of_reach() {
    let now = Instant::now();
    // What the first of the others says again and again, what the rest says, and what is learned.
    let cases = [
        (3, [12, 12, 12], 10, 12),
        (3, [1 << 20, 2 << 20, 1 << 32], 10, 10 + LEAP_MAX),
        (3, [1 << 31, u64::MAX, 1 << 32], 10, 10 + LEAP_MAX),
        (5, [1 << 31, (1 << 32) - 1, 1 << 32], 1 << 30, (1 << 30) + LEAP_MAX),
        (3, [1, 2, 3], 1 << 30, 3 + LEAP_MAX),
        (5, [1, 2, 3], 1 << 30, 1 << 30),
        (2, [1 << 30, 1 << 30, 1 << 30], 0, 1 << 30),
        (2, [u64::MAX, 1, 2], 0, 1 << 32),
        // A liar that holds leases has brought the others as far as this within hours.
        (3, [12, 12, 1 << 40], 1 << 40, 1 << 40),
        (3, [1, u64::MAX, 1 << 40], (1 << 40) - 5, 1 << 40),
        (5, [u64::MAX, 7, 7], 1 << 40, 1 << 40),
        (5, [7, 7, u64::MAX], 1 << 40, (1 << 40) + LEAP_MAX),
    ];
    for (nodes, lies, honest, learned) in cases {
        let configuration = Arc::new(Configuration::new(1, (0..nodes).map(peer).collect(), None).unwrap());
        let start = now - TIMING.duration;
        let mut lease = Lease::new(peer(0), Arc::clone(&configuration), TIMING, None, 6, start);
        lease.probe_for_terms(now);
        let mut answer = |from, term| {
            let message = LeaseMessage::Answer { nonce: 7, term: Term(term), willing: true, remembers: true };
            let packet = LeasePacket { version: 1, list: configuration.list(), message };
            lease.on_packet(now, peer(from), packet);
            lease.is_learning()
        };
        for lie in lies.into_iter().cycle().take(300) {
            answer(1, lie);
        }
        let still = (2..nodes).map(|from| answer(from, honest)).last();
        assert_ne!(still, Some(true), "it knows the terms again");
        assert_eq!(lease.memory(), Memory { term: Term(learned), owner: None }, "{nodes} {lies:?} {honest}");
    }
}

/// What the others say, in this order, by number; whether that is enough after each; and what is learned in the end.
fn learns(nodes: usize, said: &[(usize, u64)]) -> (Vec<bool>, Term) {
    let now = Instant::now();
    let configuration = Arc::new(Configuration::new(1, (0..nodes).map(peer).collect(), None).unwrap());
    let start = now - TIMING.duration;
    let mut lease = Lease::new(peer(0), Arc::clone(&configuration), TIMING, None, 6, start);
    lease.probe_for_terms(now);
    let mut answer = |(from, term): &(usize, u64)| {
        let message = LeaseMessage::Answer { nonce: 7, term: Term(*term), willing: true, remembers: true };
        lease.on_packet(now, peer(*from), LeasePacket { version: 1, list: configuration.list(), message });
        !lease.is_learning()
    };
    (said.iter().map(&mut answer).collect(), lease.memory().term)
}

#[test]
fn as_many_as_are_no_majority_take_nobody_out_of_reach() {
    let term = Term(10 + LEAP_MAX);
    assert_eq!(learns(3, &[(1, u64::MAX), (2, 10)]), (vec![false, true], term));
    // Two of five lie alike, and three of seven, before and after the others.
    assert_eq!(learns(5, &[(1, u64::MAX), (2, u64::MAX), (3, 10), (4, 9)]), (vec![false, false, false, true], term));
    assert_eq!(learns(5, &[(3, 10), (4, 9), (1, u64::MAX), (2, u64::MAX)]).1, term);
    // Nor do they keep it waiting for one that is down: a quorum that is within reach of each other is enough.
    assert_eq!(
        learns(7, &[(1, u64::MAX), (2, 10), (3, 10), (4, 9), (5, 10)]),
        (vec![false, false, false, false, true], term)
    );
    let lies = [(1, u64::MAX), (2, u64::MAX - 1), (3, 1 << 33)];
    assert_eq!(learns(7, &[&lies[..], &[(4, 9), (5, 9), (6, 10)]].concat()).1, term);
}

#[test]
fn what_somebody_knows_to_have_been_held_is_not_missed_since_others_say_less() {
    // Within reach of each other the answers of a quorum are enough, and the highest counts, whoever says it.
    assert_eq!(learns(5, &[(1, 0), (2, 0), (3, 900_000)]), (vec![false, false, true], Term(900_000)));
    // Where somebody is too far above what others say, all are asked: then as many as can lie beside this one, which forgot, do not keep it down.
    let high = 1 << 40;
    assert_eq!(
        learns(5, &[(1, 0), (2, high), (3, high - 3), (4, high - 9)]),
        (vec![false, false, false, true], Term(high))
    );
    assert_eq!(
        learns(7, &[(1, 0), (2, 0), (3, high), (4, high), (5, high - 3), (6, high - 9)]),
        (vec![false, false, false, false, false, true], Term(high))
    );
}

#[test]
fn by_another_list_nothing_is_granted() {
    let now = Instant::now();
    let of = |nodes: u8, tie| Arc::new(Configuration::new(1, (0..nodes.into()).map(peer).collect(), tie).unwrap());
    let start = now - TIMING.duration * 2;
    let mut lease = Lease::new(peer(0), of(3, None), TIMING, Some(Memory::default()), 7, start);
    let ask = LeaseMessage::Ask { term: Term(1), round: 1, asker: 7 };
    for list in [of(5, None), of(3, Some(peer(1)))] {
        let packet = LeasePacket { version: 1, list: list.list(), message: ask };
        assert_eq!(lease.on_packet(now, peer(1), packet), []);
    }
    let packet = LeasePacket { version: 1, list: of(3, None).list(), message: ask };
    assert_eq!(lease.on_packet(now, peer(1), packet).len(), 2, "it is written down and granted");
}

/// What was granted binds until then, whoever it takes now, and members are active as long.
#[test]
fn a_lease_is_over_no_earlier_because_a_quorum_takes_more() {
    let (now, second) = (Instant::now(), SECOND);
    let of =
        |version, nodes: usize| Arc::new(Configuration::new(version, (0..nodes).map(peer).collect(), None).unwrap());
    let lists = [of(1, 3), of(2, 4)];
    let mut lease =
        Lease::new(peer(0), Arc::clone(&lists[0]), TIMING, Some(Memory::default()), 7, now - TIMING.duration);
    let granted = |lease: &mut Lease, at, list: &Configuration, from, round| {
        let (term, holder, asker, life) = (Term(1), peer(0), 7, 1);
        let message = LeaseMessage::Granted { term, holder, round, asker, life };
        lease.on_packet(at, peer(from), LeasePacket { version: list.version(), list: list.list(), message })
    };
    lease.campaign(now);
    granted(&mut lease, now, &lists[0], 2, 1);
    lease.renew(now + second * 2);
    granted(&mut lease, now + second * 2, &lists[0], 1, 2);
    let until = lease.active_until(now + second * 2);
    assert_eq!(until, Some(now + second * 2 + TIMING.shortened(TIMING.duration)));
    lease.adopt(now + second * 2, Arc::clone(&lists[1])).unwrap();
    // Of four it takes three, and the third granted the first round only.
    lease.renew(now + second * 21 / 10);
    assert_eq!(lease.active_until(now + second * 21 / 10), until);
}

#[test]
fn what_a_holder_said_before_the_clock_stood_still_makes_nobody_active_afterwards() {
    let (now, configuration) =
        (Instant::now(), Arc::new(Configuration::new(1, (0..3).map(peer).collect(), None).unwrap()));
    let memory = Some(Memory::default());
    let mut lease = Lease::new(peer(0), Arc::clone(&configuration), TIMING, memory, 7, now - TIMING.duration);
    let packet = |message| LeasePacket { version: 1, list: configuration.list(), message };
    let ask = LeaseMessage::Ask { term: Term(1), round: 1, asker: 9 };
    lease.on_packet(now, peer(1), packet(ask));
    let confirmed = LeaseMessage::Confirmed { term: Term(1), round: 1, life: 7, remaining: SECOND * 2 };
    let mut trusting = lease.clone();
    trusting.on_packet(now, peer(1), packet(confirmed));
    assert!(trusting.token(now).is_some());
    lease.doubt_clock(now);
    lease.on_packet(now, peer(1), packet(confirmed));
    assert_eq!(lease.token(now), None);
}
