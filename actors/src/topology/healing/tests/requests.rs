//! Nothing that arrives makes a link or a promise that should not be.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bowline_messages::config::TopologyConfig;
use bowline_messages::topology::{HealingPurpose, HealingStep, LinkRefusal, NodeFacts};
use bowline_messages::{Incarnation, PeerId};
use bytes::Bytes;
use proptest::prelude::*;

use super::super::wire::{self, Body, Refused, Routed, Say};
use super::super::{Healing, HealingOutput};
use crate::topology::Surveyor;
use crate::topology::link_state::tests::{Cheap, peer};
use crate::topology::link_state::{Authority as _, LiveGraph};

const S: Duration = Duration::from_secs(1);

/// Nodes 0 to 10 in a row; node 2 is the one looked at, 1 and 3 are its neighbours.
fn node(config: &TopologyConfig) -> (Instant, Healing) {
    let now = Instant::now();
    let own = peer(2);
    let mut node = Healing::new(now, own, Incarnation(1), config, Rc::new(Cheap(own)), 1);
    node.on_facts(1.0, vec!["memory://2".into()]);
    node.on_neighbours(now, BTreeSet::from([peer(1), peer(3)]));
    look(&mut node, now, 11, config);
    (now, node)
}

fn look(node: &mut Healing, now: Instant, nodes: usize, config: &TopologyConfig) {
    let facts = NodeFacts { spare_links: 4, ..NodeFacts::default() };
    let all: Vec<_> = (0..nodes).map(|number| (peer(number), facts)).collect();
    let mut ordered = all.clone();
    ordered.swap(0, 2);
    let place = |number: usize| match number {
        0 => 2,
        2 => 0,
        other => other,
    };
    let graph = LiveGraph::by_hand(now, &ordered, (1..nodes).map(|number| (place(number - 1), place(number))));
    node.on_survey(now, &Surveyor::new(config).look(now, &graph));
}

fn routed(path: &[usize], stamp: (u64, u64), say: Say) -> Routed {
    let (from, to) = (peer(path[0]), peer(*path.last().unwrap()));
    let body = wire::encode_body(&Body { from: *from.as_bytes(), to: *to.as_bytes(), stamp, say });
    let signature = Cheap(from).sign(&body);
    let names = path.iter().map(|number| *peer(*number).as_bytes()).collect();
    let mut routed = Routed::new(names, body, &signature);
    routed.at = path.iter().position(|number| *number == 2).unwrap() as u8;
    routed
}

fn ask() -> Say {
    Say::Ask { purpose: wire::purpose_code(HealingPurpose::Redundancy), addresses: vec!["memory://9".into()] }
}

fn drain(node: &mut Healing) -> Vec<HealingOutput> {
    std::iter::from_fn(|| node.poll_output()).collect()
}

fn connects(outputs: &[HealingOutput]) -> Vec<PeerId> {
    let peer = |output: &HealingOutput| match output {
        HealingOutput::Connect { peer, .. } => Some(*peer),
        HealingOutput::Send { .. }
        | HealingOutput::Release { .. }
        | HealingOutput::Step { .. }
        | HealingOutput::Measured { .. } => None,
    };
    outputs.iter().filter_map(peer).collect()
}

/// What the node says in return.
fn said(outputs: &[HealingOutput]) -> Vec<Say> {
    let say = |output: &HealingOutput| match output {
        HealingOutput::Send { payload, .. } => {
            Some(wire::decode_body(&wire::decode(payload).unwrap().body).unwrap().say)
        }
        HealingOutput::Connect { .. }
        | HealingOutput::Release { .. }
        | HealingOutput::Step { .. }
        | HealingOutput::Measured { .. } => None,
    };
    outputs.iter().filter_map(say).collect()
}

fn refused(routed: &Routed, from: usize, reason: Refused) {
    let (now, mut node) = node(&TopologyConfig::default());
    node.on_packet(now, peer(from), &wire::encode(routed));
    assert_eq!(node.refused().get(&reason), Some(&1), "{:?}", node.refused());
    assert_eq!((drain(&mut node), node.peers().count()), (vec![], 0), "{reason}");
}

const WAY: [usize; 8] = [9, 8, 7, 6, 5, 4, 3, 2];

#[test]
fn a_request_for_what_is_needed_is_granted_once() {
    let (now, mut node) = node(&TopologyConfig::default());
    let request = wire::encode(&routed(&WAY, (1, 5), ask()));
    node.on_packet(now, peer(3), &request);
    let outputs = drain(&mut node);
    assert_eq!(connects(&outputs), [peer(9)]);
    assert_eq!(said(&outputs), [Say::Grant { stamp: (1, 5), addresses: vec!["memory://2".into()] }]);
    assert!(matches!(outputs[0], HealingOutput::Send { to, .. } if to == peer(3)), "back on the same way");
    node.on_packet(now, peer(3), &request);
    assert_eq!((drain(&mut node), node.refused().get(&Refused::Replayed)), (vec![], Some(&1)));
    // Nor when it was away for a moment.
    let config = TopologyConfig::default();
    look(&mut node, now, 9, &config);
    look(&mut node, now, 11, &config);
    node.on_packet(now, peer(3), &request);
    assert_eq!((drain(&mut node), node.refused().get(&Refused::Replayed)), (vec![], Some(&2)));
    // The link does not come about: it is given up, and the place is free again.
    let later = now + S * 9;
    node.on_timeout(later);
    assert!(drain(&mut node).contains(&HealingOutput::Release { peer: peer(9) }));
    assert_eq!(node.peers().count(), 0);
}

#[test]
fn what_is_for_others_is_passed_on_unread() {
    let (now, mut node) = node(&TopologyConfig::default());
    let mut other = routed(&[4, 3, 2, 1, 0], (1, 5), ask());
    other.signature.0[0] ^= 1;
    node.on_packet(now, peer(3), &wire::encode(&other));
    let outputs = drain(&mut node);
    let [HealingOutput::Send { to, payload }] = &outputs[..] else { panic!("{outputs:?}") };
    let passed = wire::decode(payload).unwrap();
    assert_eq!((*to, passed.at), (peer(1), 3));
    assert_eq!((passed.body, passed.signature), (other.body, other.signature));
}

#[test]
fn what_cannot_be_is_refused() {
    let good = routed(&WAY, (1, 5), ask());
    refused(&good, 8, Refused::Stranger);
    refused(&good, 1, Refused::Contradictory);
    let change = |change: &dyn Fn(&mut Routed), reason| {
        let mut bad = good.clone();
        change(&mut bad);
        refused(&bad, 3, reason);
    };
    change(&|bad| bad.signature.1[5] ^= 4, Refused::Forged);
    change(&|bad| bad.path[0] = *peer(8).as_bytes(), Refused::Contradictory);
    change(&|bad| bad.path[1] = bad.path[4], Refused::Contradictory);
    change(&|bad| bad.at = 200, Refused::Contradictory);
    change(&|bad| bad.at = 0, Refused::Contradictory);
    change(&|bad| bad.path.push(*peer(10).as_bytes()), Refused::Broken);
    change(&|bad| bad.path.clear(), Refused::Contradictory);
    change(&|bad| bad.body = Bytes::from_static(b"nonsense"), Refused::Malformed);
    change(&|bad| bad.path = (0..90).map(|number| *peer(number).as_bytes()).collect(), Refused::Oversized);
    change(&|bad| bad.body = vec![0; 7000].into(), Refused::Oversized);
    refused(&routed(&[77, 3, 2], (1, 5), ask()), 3, Refused::Unknown);
    let many = Say::Ask { purpose: 0, addresses: vec![String::new(); wire::ADDRESSES_MAX + 1] };
    refused(&routed(&WAY, (1, 5), many), 3, Refused::Oversized);
    let unknown = Say::Ask { purpose: 200, addresses: vec![] };
    refused(&routed(&WAY, (1, 5), unknown), 3, Refused::Malformed);
    let unasked = Say::Grant { stamp: (1, 1), addresses: vec![] };
    refused(&routed(&WAY, (1, 5), unasked), 3, Refused::Unasked);
    refused(&routed(&WAY, (1, 5), Say::Refuse { stamp: (1, 1), reason: 1 }), 3, Refused::Unasked);
    refused(&routed(&WAY, (1, 5), Say::Undo), 3, Refused::Unasked);
}

#[test]
fn budgets_are_kept_and_the_reason_is_told() {
    let expect = |change: &dyn Fn(&mut TopologyConfig), reason: LinkRefusal| {
        let mut config = TopologyConfig::default();
        change(&mut config);
        let (now, mut node) = node(&config);
        node.on_packet(now, peer(3), &wire::encode(&routed(&WAY, (1, 5), ask())));
        let outputs = drain(&mut node);
        assert_eq!(said(&outputs), [Say::Refuse { stamp: (1, 5), reason: wire::refusal_code(reason) }]);
        assert_eq!(connects(&outputs), []);
        assert_eq!(wire::refusal(wire::refusal_code(reason)), reason);
    };
    expect(&|config| config.healing.enabled = false, LinkRefusal::Disabled);
    expect(&|config| config.healing.links_max = 0, LinkRefusal::Links);
    expect(&|config| config.healing.degree_max = 2, LinkRefusal::Degree);
    expect(&|config| config.watch.separation_recommend = 0.99, LinkRefusal::NotNeeded);
}

#[test]
fn a_node_that_runs_out_of_power_grants_nothing() {
    let (now, mut node) = node(&TopologyConfig::default());
    node.on_facts(0.2, vec![]);
    assert_eq!(node.spare(), 0);
    node.on_packet(now, peer(3), &wire::encode(&routed(&WAY, (1, 5), ask())));
    assert_eq!(
        said(&drain(&mut node)),
        [Say::Refuse { stamp: (1, 5), reason: wire::refusal_code(LinkRefusal::Power) }]
    );
}

#[test]
fn many_requests_get_no_more_than_the_places_there_are() {
    let (now, mut node) = node(&TopologyConfig::default());
    for from in 5..11 {
        let way: Vec<usize> = (2..=from).rev().collect();
        node.on_packet(now, peer(3), &wire::encode(&routed(&way, (1, 5), ask())));
    }
    assert_eq!(connects(&drain(&mut node)).len(), TopologyConfig::default().healing.requests_open);
    for round in 0..100 {
        node.on_packet(now, peer(3), &wire::encode(&routed(&WAY, (2, round), ask())));
    }
    assert!(node.refused()[&Refused::Flooded] > 80);
}

#[test]
fn one_neighbour_cannot_stop_what_others_send_nor_what_is_passed_on_what_is_heard() {
    let (now, mut node) = node(&TopologyConfig::default());
    let (others, back) = (routed(&[4, 3, 2, 1, 0], (1, 5), ask()), routed(&[0, 1, 2, 3, 4], (1, 5), ask()));
    for _ in 0..100 {
        node.on_packet(now, peer(3), &wire::encode(&others));
    }
    assert_eq!(drain(&mut node).len(), TopologyConfig::default().healing.relayed_per_second as usize);
    assert_eq!(node.refused()[&Refused::Flooded], 80);
    node.on_packet(now, peer(1), &wire::encode(&back));
    assert_eq!(drain(&mut node).len(), 1, "from the other neighbour");
    node.on_packet(now, peer(3), &wire::encode(&routed(&WAY, (1, 5), ask())));
    assert_eq!(connects(&drain(&mut node)), [peer(9)], "for this node itself");
}

#[test]
fn who_asks_for_a_link_and_does_not_make_it_is_granted_none_for_a_while() {
    let (now, mut node) = node(&TopologyConfig::default());
    let grants = |node: &mut Healing, at, number| {
        node.on_packet(at, peer(3), &wire::encode(&routed(&WAY, (1, number), ask())));
        matches!(said(&drain(node))[..], [Say::Grant { .. }])
    };
    assert!(grants(&mut node, now, 5));
    let later = now + S * 9;
    node.on_timeout(later);
    drain(&mut node);
    assert!(!grants(&mut node, later, 6));
    assert_eq!(node.peers().count(), 0);
    assert!(grants(&mut node, later + TopologyConfig::default().healing.refused_pause, 7));
}

#[test]
fn an_answer_counts_for_its_question_only() {
    let (now, mut node) = node(&TopologyConfig::default());
    node.ask(now, peer(9), HealingPurpose::Redundancy);
    let asked = drain(&mut node);
    assert_eq!(said(&asked).len(), 1);
    let grant = |stamp| Say::Grant { stamp, addresses: vec!["memory://9".into()] };
    node.on_packet(now, peer(3), &wire::encode(&routed(&WAY, (1, 5), grant((1, 9)))));
    assert_eq!(drain(&mut node), []);
    node.on_packet(now, peer(3), &wire::encode(&routed(&WAY, (1, 6), grant((1, 1)))));
    assert_eq!(connects(&drain(&mut node)), [peer(9)]);
}

#[test]
fn a_peer_that_refused_is_left_alone_for_a_while() {
    let (now, mut node) = node(&TopologyConfig::default());
    node.ask(now, peer(9), HealingPurpose::Redundancy);
    drain(&mut node);
    node.on_packet(now, peer(3), &wire::encode(&routed(&WAY, (1, 6), Say::Refuse { stamp: (1, 1), reason: 1 })));
    let step = HealingStep::Refused(LinkRefusal::Degree);
    assert_eq!(drain(&mut node), [HealingOutput::Step { peer: peer(9), purpose: HealingPurpose::Redundancy, step }]);
    node.ask(now, peer(9), HealingPurpose::Redundancy);
    assert_eq!(drain(&mut node), []);
}

proptest! {
    #[test]
    fn garbage_does_nothing(bytes in prop::collection::vec(any::<u8>(), 0..400), format in any::<bool>()) {
        let (now, mut node) = node(&TopologyConfig::default());
        let mut payload = bytes;
        if format {
            payload.insert(0, wire::FORMAT);
        }
        node.on_packet(now, peer(3), &payload.into());
        prop_assert_eq!((drain(&mut node), node.peers().count()), (vec![], 0));
    }

    #[test]
    fn a_changed_byte_makes_no_link(at in any::<prop::sample::Index>(), by in 1..=255_u8) {
        let (now, mut node) = node(&TopologyConfig::default());
        let mut payload = wire::encode(&routed(&WAY, (1, 5), ask())).to_vec();
        let at = at.index(payload.len());
        payload[at] ^= by;
        let way_changed = wire::decode(&payload).is_ok_and(|changed| {
            let good = routed(&WAY, (1, 5), ask());
            changed.body == good.body && changed.signature == good.signature
        });
        node.on_packet(now, peer(3), &payload.into());
        // Who passes it on may change the way, which only decides where the answer goes.
        prop_assert!(way_changed || node.peers().count() == 0);
    }
}
