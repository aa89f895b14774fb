//! Who loses its disk: what it granted, asked for and gave up before counts, and what it says of it afterwards does no harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::partition::{Term, Token};

use super::super::message::LeaseOutput;
use super::super::simulation::{PACING, TIMING, peer};
use super::super::{Configuration, Contest, ContestOutput, Lease, LeaseMessage, LeasePacket, Memory};

const KEPT: Option<Memory> = Some(Memory { term: Term(0), owner: None });

fn group(nodes: usize) -> Arc<Configuration> {
    Arc::new(Configuration::new(1, (0..nodes).map(peer).collect(), None).unwrap())
}

/// The first packet among these.
fn said(outputs: &[LeaseOutput]) -> LeasePacket {
    let packet =
        |output: &LeaseOutput| if let LeaseOutput::Send { packet, .. } = output { Some(*packet) } else { None };
    outputs.iter().find_map(packet).unwrap()
}

/// A node that forgot and asks, and others that answer.
fn learn(now: Instant, lease: &mut Lease, me: usize, others: &mut [(usize, &mut Lease)]) {
    let probe = said(&lease.probe_for_terms(now));
    for (n, other) in others {
        let answer = said(&other.on_packet(now, peer(me), probe));
        lease.on_packet(now, peer(*n), answer);
    }
}

/// Answers that came at once would be of those who grant the term only then.
#[test]
fn a_term_that_was_granted_and_forgotten_is_not_granted_to_another_one() {
    let (now, configuration) = (Instant::now(), group(5));
    let node = |n, memory, life, start| Lease::new(peer(n), Arc::clone(&configuration), TIMING, memory, life, start);
    let [mut forgets, mut holder, mut late, mut idle, mut other] =
        [0, 1, 2, 3, 4].map(|n| node(n, KEPT, 10 + n as u64, now - TIMING.duration));
    let ask = said(&holder.campaign(now));
    let grant = said(&forgets.on_packet(now, peer(1), ask));
    holder.on_packet(now, peer(0), grant);

    let mut forgets = node(0, None, 20, now);
    assert_eq!(forgets.probe_for_terms(now), []);
    for n in 2..5 {
        // As if it had asked.
        let message = LeaseMessage::Answer { nonce: 21, term: Term(0), willing: true, remembers: true };
        forgets.on_packet(now, peer(n), LeasePacket { version: 1, list: configuration.list(), message });
    }
    let grant = said(&late.on_packet(now, peer(1), ask));
    holder.on_packet(now, peer(2), grant);
    assert!(holder.is_holder(now));

    let later = now + TIMING.duration;
    assert!(!holder.is_holder(later) && forgets.is_learning());
    learn(later, &mut forgets, 0, &mut [(2, &mut late), (3, &mut idle), (4, &mut other)]);
    let ask = said(&other.campaign(later));
    assert!(matches!(ask.message, LeaseMessage::Ask { term: Term(1), .. }), "it has not heard of term 1");
    let refused = said(&forgets.on_packet(later, peer(4), ask));
    assert!(matches!(refused.message, LeaseMessage::Refused { never: true, .. }), "{refused:?}");
}

/// Together they would look like those of a group that begins, of which all answered: the terms that were held would be forgotten.
#[test]
fn answers_of_those_who_forgot_one_after_another_do_not_count_together() {
    let (now, configuration) = (Instant::now(), group(5));
    let node = |n, memory, life, start| Lease::new(peer(n), Arc::clone(&configuration), TIMING, memory, life, start);
    // 0 and 1 forgot; 2 remembers a term that these two had granted, too; 3 and 4 have never heard of it.
    let held = Some(Memory { term: Term(1), owner: Some(peer(0)) });
    let [mut asks, mut first] = [1, 0].map(|n| node(n, None, 20, now - TIMING.duration));
    let [mut third, mut other] = [3, 4].map(|n| node(n, KEPT, 30, now - TIMING.duration));
    let old_answer = said(&first.on_packet(now, peer(1), said(&asks.probe_for_terms(now))));
    asks.on_packet(now, peer(0), old_answer);
    let mut second = node(2, held, 40, now - TIMING.duration);
    learn(now, &mut first, 0, &mut [(2, &mut second), (3, &mut third), (4, &mut other)]);
    assert_eq!((first.is_learning(), first.memory().term), (false, Term(1)));
    // Now 2 forgets.
    let mut second = node(2, None, 41, now);
    let soon = now + TIMING.duration / 2;
    let probe = said(&asks.probe_for_terms(soon));
    assert_eq!(second.on_packet(soon, peer(1), probe), [], "it keeps silent for a while");
    let later = now + TIMING.duration;
    learn(later, &mut asks, 1, &mut [(2, &mut second), (3, &mut third), (4, &mut other)]);
    asks.on_packet(later, peer(0), old_answer);
    assert!(asks.is_learning(), "what 0 said is of another time, and comes late once more");
    learn(later, &mut asks, 1, &mut [(0, &mut first)]);
    assert_eq!((asks.is_learning(), asks.memory().term), (false, Term(1)));
}

#[test]
fn what_was_answered_before_the_clock_stood_still_is_asked_for_again() {
    let (now, configuration) = (Instant::now(), group(3));
    let mut asks = Lease::new(peer(0), Arc::clone(&configuration), TIMING, None, 20, now - TIMING.duration);
    let mut others =
        [1, 2].map(|n| Lease::new(peer(n), Arc::clone(&configuration), TIMING, KEPT, 30, now - TIMING.duration));
    let probe = said(&asks.probe_for_terms(now));
    asks.doubt_clock(now);
    for at in [now, now + TIMING.duration / 2] {
        for (n, other) in others.iter_mut().enumerate() {
            asks.on_packet(at, peer(n + 1), said(&other.on_packet(at, peer(0), probe)));
        }
        assert!(asks.is_learning());
    }
    let [one, other] = &mut others;
    learn(now + TIMING.duration, &mut asks, 0, &mut [(1, one), (2, other)]);
    assert!(!asks.is_learning());
}

/// A candidate may ask for a term that it asked for before it lost its disk, when nobody granted that one.
#[test]
fn what_was_said_before_a_disk_was_lost_neither_grants_nor_frees_what_is_asked_for_afterwards() {
    let (now, configuration) = (Instant::now(), group(3));
    let node =
        |n, memory, life| Lease::new(peer(n), Arc::clone(&configuration), TIMING, memory, life, now - TIMING.duration);
    let mut before = node(1, KEPT, 1);
    let old_ask = said(&before.campaign(now));
    let older_asks = [old_ask, said(&before.renew(now))];
    let old_withdrawn = said(&before.abandon(now));

    let mut after = node(1, None, 2);
    let [mut one, mut other] = [node(0, KEPT, 3), node(2, KEPT, 4)];
    learn(now, &mut after, 1, &mut [(0, &mut one), (2, &mut other)]);
    let ask = said(&after.campaign(now));
    assert_eq!(after.memory().term, before.memory().term, "nobody has granted it");

    // A grant of what was asked before is none of what is asked now.
    let old_grant = said(&other.on_packet(now, peer(1), old_ask));
    assert!(matches!(old_grant.message, LeaseMessage::Granted { .. }), "{old_grant:?}");
    after.on_packet(now, peer(2), old_grant);
    assert!(!after.is_holder(now));
    // Who granted it then does not grant it now: only a higher term helps.
    let refused = said(&other.on_packet(now, peer(1), ask));
    assert!(matches!(refused.message, LeaseMessage::Refused { never: true, asker: 2, .. }), "{refused:?}");
    // And what is granted now is not free because it was given up then, nor does it last longer because it was asked for then.
    let grant = said(&one.on_packet(now, peer(1), ask));
    after.on_packet(now, peer(0), grant);
    assert!(after.is_holder(now));
    let bound = one.bound(now);
    one.on_packet(now, peer(1), old_withdrawn);
    assert_eq!(one.bound(now), bound);
    let later = now + TIMING.duration / 2;
    for old in older_asks {
        let refused = said(&one.on_packet(later, peer(1), old));
        assert!(matches!(refused.message, LeaseMessage::Refused { never: true, asker: 1, .. }), "{refused:?}");
    }
    assert_eq!(one.bound(later), bound);
}

/// Otherwise it could be freed of it by what that life gave up, while this one holds the lease.
#[test]
fn who_is_bound_to_one_life_of_a_candidate_grants_nothing_to_another_one() {
    let (now, configuration) = (Instant::now(), group(3));
    let start = now - TIMING.duration;
    let mut lease = Lease::new(peer(0), Arc::clone(&configuration), TIMING, KEPT, 7, start);
    let packet = |message| LeasePacket { version: 1, list: configuration.list(), message };
    let ask = |term, asker| packet(LeaseMessage::Ask { term: Term(term), round: 1, asker });
    lease.on_packet(now, peer(1), ask(1, 2));
    let bound = lease.bound(now);
    let mut is_willing = |asker| {
        let answer = said(&lease.on_packet(now, peer(1), packet(LeaseMessage::Probe { nonce: 5, asker })));
        matches!(answer.message, LeaseMessage::Answer { nonce: 5, willing: true, .. })
    };
    assert_eq!((is_willing(1), is_willing(2)), (false, true));
    let refused = said(&lease.on_packet(now, peer(1), ask(2, 1)));
    assert!(matches!(refused.message, LeaseMessage::Refused { never: false, asker: 1, .. }), "{refused:?}");
    lease.on_packet(now, peer(1), packet(LeaseMessage::Withdrawn { term: Term(2), asker: 1 }));
    assert!(bound.is_some());
    assert_eq!(lease.bound(now), bound);
    // The same life takes a higher one while it holds the lease, and another one when that is over.
    lease.on_packet(now, peer(1), ask(3, 2));
    assert_eq!(lease.memory().term, Term(3));
    lease.on_packet(now + TIMING.duration, peer(1), ask(4, 3));
    assert_eq!(lease.memory().term, Term(4));
}

#[test]
fn what_an_earlier_life_gave_up_is_still_a_term_of_its_owner() {
    let (now, configuration) = (Instant::now(), group(3));
    let memory = Memory { term: Term(4), owner: Some(peer(1)) };
    let mut lease = Lease::new(peer(0), Arc::clone(&configuration), TIMING, Some(memory), 7, now);
    let message = LeaseMessage::Withdrawn { term: Term(4), asker: 1 };
    lease.on_packet(now, peer(1), LeasePacket { version: 1, list: configuration.list(), message });
    assert_eq!(lease.admit(Token { term: Term(4), holder: peer(1) }), Ok(Vec::new()));
}

#[test]
fn what_an_earlier_life_is_refused_does_not_end_what_this_one_asks_for() {
    let (now, configuration) = (Instant::now(), group(3));
    let start = now - TIMING.duration - PACING.spread;
    let mut contest = Contest::new(peer(0), Arc::clone(&configuration), TIMING, PACING, KEPT, 1, start);
    let packet = |message| LeasePacket { version: 1, list: configuration.list(), message };
    let message_in = |outputs: Vec<ContestOutput>| {
        let sent = |output| if let ContestOutput::Send { packet, .. } = output { Some(packet.message) } else { None };
        outputs.into_iter().find_map(sent).unwrap()
    };
    let LeaseMessage::Probe { nonce, .. } = message_in(contest.on_timeout(now)) else { panic!("it probes first") };
    let willing = LeaseMessage::Answer { nonce, term: Term(0), willing: true, remembers: true };
    let asked = message_in(contest.on_packet(now, peer(1), packet(willing)));
    let LeaseMessage::Ask { term, asker, .. } = asked else { panic!("{asked:?}") };
    let mut told = |n, message| {
        contest.on_packet(now + Duration::from_millis(1), peer(n), packet(message));
        contest.lease().asking()
    };
    let refused = |asker| LeaseMessage::Refused { term, asker, highest: term, never: true };
    for n in [1, 2] {
        assert_eq!(told(n, refused(asker.wrapping_add(1))), Some(term));
    }
    // Nor does what an earlier life was granted, or an earlier term, make up for a refusal.
    assert_eq!(told(1, refused(asker)), Some(term));
    let granted = |term, asker| LeaseMessage::Granted { term, holder: peer(0), round: 1, asker, life: 3 };
    assert_eq!(told(1, granted(term, asker.wrapping_add(1))), Some(term));
    assert_eq!(told(1, granted(Term(0), asker)), Some(term));
    assert_eq!(told(2, refused(asker)), None);
}
