//! Nothing that arrives changes more than a counter unless its origin signed it and it makes sense.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::LinkStateConfig;
use bowline_messages::topology::{LinkFacts, NodeFacts};
use bytes::Bytes;
use proptest::prelude::*;

use super::super::wire::{self, Message, Signed};
use super::super::{Announcement, Authority as _, LinkState, LinkStateOutput, Refusal, Refusals, Stamp};
use super::{Cheap, machine, peer};

const S: Duration = Duration::from_secs(1);

fn config() -> LinkStateConfig {
    LinkStateConfig { nodes_max: 16, edges_max: 4, ..LinkStateConfig::default() }
}

/// Node 0 with neighbour 1, which knows of node 2 by way of it.
fn node() -> (Instant, LinkState) {
    let now = Instant::now();
    let mut node = machine(now, 0, &config());
    node.on_neighbours(now, &BTreeMap::from([(peer(1), LinkFacts::default())]));
    send(&mut node, now, &[signed(&announcement(1, 5, &[0, 2]), 90), signed(&announcement(2, 5, &[1]), 90)]);
    // Its own announcement of that is out before anything is compared.
    let now = now + S;
    node.on_timeout(now);
    drain(&mut node);
    assert_eq!((node.known().0, node.graph().nodes().count(), node.refusals().all()), (3, 3, 0));
    (now, node)
}

fn announcement(origin: usize, sequence: u64, links: &[usize]) -> Announcement {
    let mut links: Vec<_> = links.iter().map(|number| (peer(*number), LinkFacts::default())).collect();
    links.sort_by_key(|(peer, _)| *peer);
    let stamp = Stamp { incarnation: 1, sequence };
    Announcement { origin: peer(origin), stamp, lifetime: S * 100, facts: NodeFacts::default(), links }
}

fn signed(announcement: &Announcement, remaining_s: u32) -> Signed {
    let body = wire::encode_body(announcement);
    let signature = Cheap(announcement.origin).sign(&body);
    Signed::new(body, &signature, remaining_s)
}

fn send(node: &mut LinkState, now: Instant, list: &[Signed]) {
    node.on_packet(now, peer(1), &wire::encode(&Message::Announcements(list.to_vec())));
}

fn drain(node: &mut LinkState) -> Vec<LinkStateOutput> {
    std::iter::from_fn(|| node.poll_output()).collect()
}

/// What a node knows, in a form that can be compared: announcements, the graph's version, everybody's neighbours.
type Known = (Vec<(PeerId, Stamp)>, u64, Vec<Vec<(PeerId, u32)>>);

fn state(node: &LinkState) -> Known {
    let all = PeerId::from_bytes([0; 32])..=PeerId::from_bytes([255; 32]);
    let neighbours = node.graph().nodes().map(|peer| node.graph().neighbours(&peer)).collect();
    (node.database.stamps(all).collect(), node.graph().version(), neighbours)
}

/// Sends one announcement that is refused for a reason and changes nothing else.
fn refused(list: &[Signed], reason: Refusal) {
    let (now, mut node) = node();
    let before = state(&node);
    send(&mut node, now, list);
    assert_eq!(state(&node), before, "{reason}");
    assert_eq!(node.refusals().of(reason), list.len() as u64, "{:?}", node.refusals());
    assert_eq!(node.refusals().all(), list.len() as u64, "{:?}", node.refusals());
}

#[test]
fn a_newer_announcement_is_taken() {
    let (now, mut node) = node();
    send(&mut node, now + S, &[signed(&announcement(2, 6, &[]), 90)]);
    assert_eq!(node.refusals().all(), 0);
    assert!(node.graph().index(&peer(2)).is_none(), "its link is gone");
}

#[test]
fn older_ones_and_late_ones_are_refused() {
    refused(&[signed(&announcement(2, 4, &[]), 90)], Refusal::Old);
    let mut former = announcement(2, 600, &[]);
    former.stamp.incarnation = 0;
    refused(&[signed(&former, 90)], Refusal::Old);
    refused(&[signed(&announcement(2, 6, &[]), 0)], Refusal::Expired);
}

#[test]
fn forged_ones_are_refused() {
    let mut forged = signed(&announcement(2, 6, &[]), 90);
    forged.signature.1[3] ^= 1;
    refused(&[forged], Refusal::Forged);
    let mut other = signed(&announcement(3, 6, &[1]), 90);
    other.signature = signed(&announcement(4, 6, &[1]), 90).signature;
    refused(&[other], Refusal::Forged);
    // In this node's own name.
    let mut own = signed(&announcement(0, 600, &[]), 90);
    own.signature.0[0] ^= 1;
    refused(&[own], Refusal::Forged);
}

#[test]
fn contradictory_ones_are_refused() {
    refused(&[signed(&announcement(2, 6, &[1, 2]), 90)], Refusal::Contradictory);
    refused(&[signed(&announcement(2, 6, &[1, 1]), 90)], Refusal::Contradictory);
    let mut disorder = announcement(2, 6, &[1, 3]);
    disorder.links.reverse();
    refused(&[signed(&disorder, 90)], Refusal::Contradictory);
}

#[test]
fn absurd_ones_are_refused() {
    let change = |change: &dyn Fn(&mut Announcement)| {
        let mut absurd = announcement(2, 6, &[1]);
        change(&mut absurd);
        refused(&[signed(&absurd, 90)], Refusal::Absurd);
    };
    change(&|absurd| absurd.links[0].1.loss_ppm = 1_000_001);
    change(&|absurd| absurd.links[0].1.cost = 0);
    change(&|absurd| absurd.links[0].1.cost = u32::MAX);
    change(&|absurd| absurd.links[0].1.latency = Duration::from_micros(u64::MAX));
    change(&|absurd| absurd.links[0].1.idle = Duration::from_secs(u32::MAX.into()));
    change(&|absurd| absurd.lifetime = Duration::ZERO);
    change(&|absurd| absurd.lifetime = config().lifetime_max() + S);
    change(&|absurd| absurd.stamp = Stamp { incarnation: 2, sequence: 0 });
}

#[test]
fn large_ones_are_refused() {
    refused(&[signed(&announcement(2, 6, &[1, 3, 4, 5, 6]), 90)], Refusal::Oversized);
    let mut large = signed(&announcement(2, 6, &[]), 90);
    large.body = Bytes::from(vec![0; 9 << 10]);
    refused(&[large], Refusal::Oversized);
}

#[test]
fn what_does_not_come_from_a_neighbour_is_not_looked_at() {
    let (now, mut node) = node();
    let before = state(&node);
    let payload = wire::encode(&Message::Announcements(vec![signed(&announcement(2, 6, &[]), 90)]));
    node.on_packet(now, peer(2), &payload);
    assert_eq!((state(&node), node.refusals().of(Refusal::Stranger)), (before, 1));
}

#[test]
fn two_announcements_with_one_number_are_evidence_once() {
    let (now, mut node) = node();
    let before = state(&node);
    let other = signed(&announcement(2, 5, &[]), 90);
    send(&mut node, now, &[other.clone(), other]);
    assert_eq!(state(&node), before);
    assert_eq!(node.refusals().of(Refusal::TwoFaced), 2);
    let found: Vec<_> =
        drain(&mut node).into_iter().filter(|output| matches!(output, LinkStateOutput::TwoFaced { .. })).collect();
    let [LinkStateOutput::TwoFaced { origin, first, second }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*origin, peer(2));
    let proves = |one: &Signed| Cheap(peer(0)).verify(origin, &one.body, &one.signature());
    assert!(proves(first) && proves(second) && first.body != second.body);
}

#[test]
fn hasty_origins_are_slowed_down() {
    let (now, mut node) = node();
    for sequence in 6..106 {
        send(&mut node, now, &[signed(&announcement(2, sequence, &[1]), 90)]);
    }
    let taken = 100 - node.refusals().of(Refusal::Hasty);
    assert_eq!(taken, u64::from(config().hasty_burst));
    send(&mut node, now + S, &[signed(&announcement(2, 200, &[1]), 90)]);
    assert_eq!(node.database.get(&peer(2)).unwrap().stamp.sequence, 200);
}

#[test]
fn names_without_number_find_half_of_the_room_and_members_find_the_rest() {
    let (now, mut node) = node();
    node.is_member = Rc::new(|member| (100..120).any(|number| peer(number) == *member));
    let many: Vec<_> = (10..60).map(|number| signed(&announcement(number, 1, &[1]), 90)).collect();
    send(&mut node, now, &many);
    // Eight strangers, this node and its neighbour.
    assert_eq!(node.known().0, config().nodes_max / 2 + 2);
    assert_eq!(node.refusals().of(Refusal::Full), 43);
    // One that is known stays, and says something else.
    send(&mut node, now, &[signed(&announcement(10, 2, &[1, 2]), 90)]);
    assert_eq!(node.refusals().of(Refusal::Full), 43);
    // Members find room, in the end at the cost of strangers, and nobody beyond the bound.
    let members: Vec<_> = (100..120).map(|number| signed(&announcement(number, 1, &[1]), 90)).collect();
    send(&mut node, now, &members);
    let there = (100..120).filter(|number| node.database.get(&peer(*number)).is_some()).count();
    assert_eq!((there, node.known().0), (14, config().nodes_max), "all places but this node's and its neighbour's");
    send(&mut node, now, &many);
    assert_eq!(node.known().0, config().nodes_max);
    // A direct neighbour finds room all the same.
    let neighbours = BTreeMap::from([(peer(1), LinkFacts::default()), (peer(70), LinkFacts::default())]);
    node.on_neighbours(now, &neighbours);
    send(&mut node, now, &[signed(&announcement(70, 1, &[0]), 90)]);
    assert!(node.graph().link(&peer(0), &peer(70)).is_some());
}

#[test]
fn bytes_of_strangers_find_half_of_the_room() {
    let now = Instant::now();
    let bytes = wire::encode_body(&announcement(10, 1, &[1, 2, 3])).len();
    let config = LinkStateConfig { nodes_max: 1000, bytes_max: 20 * bytes as u64, ..config() };
    let mut node = machine(now, 0, &config);
    node.is_member = Rc::new(|member| (100..200).any(|number| peer(number) == *member));
    node.on_neighbours(now, &BTreeMap::from([(peer(1), LinkFacts::default())]));
    let many = |numbers: std::ops::Range<usize>| {
        numbers.map(|number| signed(&announcement(number, 1, &[1, 2, 3]), 90)).collect::<Vec<_>>()
    };
    send(&mut node, now, &many(10..40));
    assert_eq!(node.known().0, 1 + 10);
    send(&mut node, now, &many(100..130));
    assert!(node.known().1 <= 20 * bytes, "{:?}", node.known());
    let there = (100..130).filter(|number| node.database.get(&peer(*number)).is_some()).count();
    assert_eq!(there, 19, "beside the few bytes of this node's own");
}

#[test]
fn one_end_alone_cannot_say_that_a_link_is_there_for_healing() {
    let (now, mut node) = node();
    let says = |origin, sequence, link, healing| {
        let mut one = announcement(origin, sequence, &[link]);
        one.links[0].1.healing = healing;
        signed(&one, 90)
    };
    send(&mut node, now, &[says(1, 6, 2, true), says(2, 6, 1, false)]);
    assert_eq!(node.graph().healing_links(), 0);
    send(&mut node, now, &[says(2, 7, 1, true)]);
    assert_eq!(node.graph().healing_links(), 1);
    send(&mut node, now, &[says(1, 7, 2, false)]);
    assert_eq!(node.graph().healing_links(), 0);
}

#[test]
fn a_neighbour_that_never_agrees_is_not_new_for_ever() {
    let (begin, mut node) = node();
    let mut compared = Vec::new();
    while let Some(at) = node.deadline().filter(|at| *at < begin + S * 600) {
        node.on_timeout(at);
        let asks = |output: &LinkStateOutput| match output {
            LinkStateOutput::Send { payload, .. } => matches!(wire::decode(payload), Ok(Message::Compare { .. })),
            LinkStateOutput::TwoFaced { .. } => false,
        };
        compared.extend(drain(&mut node).iter().filter(|output| asks(output)).map(|_| at));
    }
    let late = compared.iter().filter(|at| **at > begin + S * 120).count();
    assert!((80..120).contains(&late), "{late} in 480 s at one in 5 s");
}

#[test]
fn what_expired_cannot_be_brought_back() {
    let (now, mut node) = node();
    let old = signed(&announcement(2, 5, &[1]), 90);
    let later = now + S * 95;
    node.on_timeout(later);
    assert!(node.database.get(&peer(2)).is_none());
    send(&mut node, later, &[old]);
    assert!(node.database.get(&peer(2)).is_none());
    assert_eq!(node.refusals().of(Refusal::Old), 1);
    send(&mut node, later, &[signed(&announcement(2, 6, &[1]), 90)]);
    assert!(node.database.get(&peer(2)).is_some(), "a new one is welcome");
}

#[test]
fn a_neighbour_that_sends_without_end_is_not_listened_to() {
    let (now, mut node) = node();
    let junk = Bytes::from(vec![7; 8 << 10]);
    for _ in 0..1000 {
        node.on_packet(now, peer(1), &junk);
    }
    let looked_at = node.refusals().of(Refusal::Malformed) * (8 << 10);
    assert!(looked_at <= config().receive_burst_bytes);
    assert_eq!(node.refusals().of(Refusal::Flooded) + node.refusals().of(Refusal::Malformed), 1000);
}

#[test]
fn answers_stay_within_the_budget() {
    let (now, mut node) = node();
    let all = Message::Listing { answer: true, from: [0; 32], to: [255; 32], entries: vec![([1; 32], 9, 9)] };
    let payload = wire::encode(&all);
    for _ in 0..10_000 {
        node.on_packet(now, peer(1), &payload);
    }
    let bytes: usize = drain(&mut node)
        .iter()
        .map(|output| match output {
            LinkStateOutput::Send { payload, .. } => payload.len(),
            LinkStateOutput::TwoFaced { .. } => 0,
        })
        .sum();
    assert!(bytes as u64 <= config().send_burst_bytes, "{bytes}");
}

#[test]
fn a_neighbour_that_asks_without_end_leaves_the_others_their_news() {
    let begin = Instant::now();
    let mut node = machine(begin, 0, &LinkStateConfig::default());
    let links = |count: usize| (1..count).map(|number| (peer(number), LinkFacts::default())).collect();
    node.on_neighbours(begin, &links(10));
    let all: Vec<_> = (1..10).map(|number| signed(&announcement(number, 5, &[0]), 90)).collect();
    send(&mut node, begin, &all);
    let ms = Duration::from_millis(1);
    // Asks as much as it may, each time for everything, and counts how long a change takes to reach a neighbour.
    let changed = begin + S * 12;
    let mut heard = None;
    for tick in 0..13_000_u32 {
        let now = begin + ms * tick;
        if now == changed {
            node.on_neighbours(now, &links(11));
        }
        let asks = wire::encode(&Message::Compare { salt: tick.into(), digests: vec![1] });
        node.on_packet(now, peer(1), &asks);
        if node.deadline().is_some_and(|at| at <= now) {
            node.on_timeout(now);
        }
        for output in drain(&mut node) {
            let LinkStateOutput::Send { to, payload } = output else { continue };
            let Ok(Message::Announcements(list)) = wire::decode(&payload) else { continue };
            let own = |signed: &Signed| {
                wire::decode_body(&signed.body).is_ok_and(|said| said.origin == peer(0) && said.links.len() == 10)
            };
            if to == peer(2) && list.iter().any(own) {
                heard.get_or_insert(now - changed);
            }
        }
    }
    assert!(heard.is_some_and(|after| after < S), "{heard:?}");
}

#[test]
fn a_neighbour_that_always_lacks_everything_leaves_the_others_their_news() {
    let begin = Instant::now();
    let mut node = machine(begin, 0, &LinkStateConfig::default());
    node.on_neighbours(begin, &(1..10).map(|number| (peer(number), LinkFacts::default())).collect());
    let near = (1..10).map(|number| signed(&announcement(number, 5, &[0]), 90));
    let far = (10..400).map(|number| signed(&announcement(number, 5, &[1]), 90));
    for some in near.chain(far).collect::<Vec<_>>().chunks(50) {
        send(&mut node, begin, some);
    }
    assert_eq!(node.known().0, 400);
    let lacks = wire::encode(&Message::Listing { answer: false, from: [0; 32], to: [255; 32], entries: Vec::new() });
    // Neighbour 2 has another link each second. How long it takes until each of the others knows.
    let at = |sequence: u64| begin + S * 6 + S * sequence as u32;
    let mut heard = BTreeMap::new();
    for tick in 0..2_300_u32 {
        let now = begin + Duration::from_millis(10) * tick;
        for sequence in (6..16).filter(|sequence| at(*sequence) == now) {
            let news = signed(&announcement(2, sequence, &[0, 500 + sequence as usize]), 90);
            node.on_packet(now, peer(2), &wire::encode(&Message::Announcements(vec![news])));
        }
        node.on_packet(now, peer(1), &lacks);
        if node.deadline().is_some_and(|at| at <= now) {
            node.on_timeout(now);
        }
        for output in drain(&mut node) {
            let LinkStateOutput::Send { to, payload } = output else { continue };
            let Ok(Message::Announcements(list)) = wire::decode(&payload) else { continue };
            for said in list.iter().filter_map(|signed| wire::decode_body(&signed.body).ok()) {
                let sequence = said.stamp.sequence;
                if said.origin == peer(2) && sequence > 5 {
                    heard.entry((to, sequence)).or_insert(now - at(sequence));
                }
            }
        }
    }
    for (other, sequence) in (3..10).flat_map(|other| (6..16).map(move |sequence| (other, sequence))) {
        let after = heard.get(&(peer(other), sequence));
        assert!(after.is_some_and(|after| *after < S), "{other} {sequence}: {after:?}");
    }
}

#[test]
fn a_newcomer_at_a_node_with_many_neighbours_that_ask_nothing_catches_up_in_seconds() {
    let ms = Duration::from_millis(1);
    let (mut now, mut hub) = (Instant::now(), machine(Instant::now(), 0, &LinkStateConfig::default()));
    let links = |others: usize| (2000..2000 + others).chain([1]).map(|number| (peer(number), LinkFacts::default()));
    hub.on_neighbours(now, &links(0).collect());
    let all: Vec<_> =
        (1..1000).map(|number| signed(&announcement(number, 5, &[usize::from(number > 1)]), 90)).collect();
    for some in all.chunks(50) {
        now += S / 5;
        send(&mut hub, now, some);
    }
    assert_eq!(hub.known().0, 1000);
    let mut newcomer = machine(now, 2099, &LinkStateConfig::default());
    let mut came = None;
    for tick in 0..8_000 {
        now += ms * 10;
        match tick {
            0 => hub.on_neighbours(now, &links(99).collect()),
            // When it is quiet.
            2_000 => {
                hub.on_neighbours(now, &links(100).collect());
                newcomer.on_neighbours(now, &BTreeMap::from([(peer(0), LinkFacts::default())]));
                came = Some(now);
            }
            _ => {}
        }
        for node in [&mut hub, &mut newcomer] {
            if node.deadline().is_some_and(|at| at <= now) {
                node.on_timeout(now);
            }
        }
        let (from_hub, from_newcomer) = (drain(&mut hub), drain(&mut newcomer));
        for output in from_hub {
            match output {
                LinkStateOutput::Send { to, payload } if to == peer(2099) => newcomer.on_packet(now, peer(0), &payload),
                LinkStateOutput::Send { .. } | LinkStateOutput::TwoFaced { .. } => {}
            }
        }
        for output in from_newcomer {
            if let LinkStateOutput::Send { payload, .. } = output {
                hub.on_packet(now, peer(2099), &payload);
            }
        }
        if newcomer.known().0 > 1000 {
            break;
        }
    }
    let took = came.map(|came| now - came);
    assert!(newcomer.known().0 > 1000 && took.is_some_and(|took| took < S * 20), "{took:?}: {:?}", newcomer.known());
}

#[test]
fn comparisons_without_end_are_not_answered() {
    let (now, mut node) = node();
    for salt in 0..100_000 {
        node.on_packet(now, peer(1), &wire::encode(&Message::Compare { salt, digests: vec![1] }));
    }
    // Three nodes are 48 bytes of work, beside the few bytes of the question.
    let answered = 100_000 - node.refusals().of(Refusal::Flooded);
    assert!(answered <= config().receive_burst_bytes / 48, "{answered}");
}

#[test]
fn excluded_nodes_are_gone_and_stay_so() {
    let (now, mut node) = node();
    node.on_excluded(now, &BTreeSet::from([peer(2)]));
    assert!(node.graph().index(&peer(2)).is_none());
    send(&mut node, now, &[signed(&announcement(2, 6, &[1]), 90)]);
    assert_eq!((node.known().0, node.refusals().of(Refusal::Excluded)), (2, 1));
    node.on_excluded(now, &BTreeSet::new());
    send(&mut node, now, &[signed(&announcement(2, 6, &[1]), 90)]);
    assert!(node.graph().index(&peer(2)).is_some());
}

#[test]
fn every_kind_of_refusal_has_its_counter() {
    for (at, refusal) in Refusals::KINDS.into_iter().enumerate() {
        assert_eq!(refusal as usize, at);
    }
}

proptest! {
    #[test]
    fn garbage_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..600), format in any::<bool>()) {
        let (now, mut node) = node();
        let before = state(&node);
        let mut payload = bytes;
        if format {
            payload.insert(0, wire::FORMAT);
        }
        node.on_packet(now, peer(1), &payload.into());
        prop_assert_eq!(state(&node), before);
    }

    #[test]
    fn a_changed_byte_changes_nothing(at in any::<prop::sample::Index>(), by in 1..=255_u8) {
        let (now, mut node) = node();
        let before = state(&node);
        let news = Message::Announcements(vec![signed(&announcement(3, 6, &[1, 2]), 90)]);
        let mut payload = wire::encode(&news).to_vec();
        let at = at.index(payload.len());
        payload[at] ^= by;
        let decoded = wire::decode(&payload);
        node.on_packet(now, peer(1), &payload.into());
        // All that nobody signed is how long it still counts, and that only shortens it.
        let signed_part_is_whole = matches!((&decoded, &news), (Ok(Message::Announcements(one)), Message::Announcements(other))
            if one.len() == 1 && one[0].body == other[0].body && one[0].signature == other[0].signature);
        prop_assert!(state(&node) == before || signed_part_is_whole);
    }

    #[test]
    fn what_is_written_is_read_again(sequence in 1..u64::MAX, load in 0..=200_u8, links in prop::collection::btree_set(0..50_usize, 0..20), cost in 1..1000_u32) {
        let links: Vec<_> = links.into_iter().collect();
        let mut one = announcement(60, sequence, &links);
        one.facts.load = f64::from(load) / 200.0;
        (one.facts.coordinator, one.facts.relays) = (load % 2 == 0, load % 3 == 0);
        for (_, facts) in &mut one.links {
            facts.cost = cost;
            facts.healing = cost % 2 == 0;
            facts.latency = Duration::from_micros(cost.into());
        }
        prop_assert_eq!(wire::decode_body(&wire::encode_body(&one)), Ok(one.clone()));
        let message = Message::Announcements(vec![signed(&one, 7)]);
        prop_assert_eq!(wire::decode(&wire::encode(&message)), Ok(message));
    }

    #[test]
    fn the_graph_is_what_the_announcements_say(changes in prop::collection::vec((3..8_usize, prop::collection::btree_set(1..8_usize, 0..4)), 0..20)) {
        let (mut now, mut node) = node();
        let mut claims: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::from([(0, [1].into()), (1, [0, 2].into()), (2, [1].into())]);
        for (at, (origin, mut links)) in changes.into_iter().enumerate() {
            links.remove(&origin);
            now += S;
            let list: Vec<_> = links.iter().copied().collect();
            send(&mut node, now, &[signed(&announcement(origin, 10 + at as u64, &list), 90)]);
            claims.insert(origin, links);
        }
        prop_assert_eq!(node.refusals().all(), 0);
        let mut linked: BTreeSet<PeerId> = BTreeSet::from([peer(0)]);
        let mut edges = 0;
        for (a, to) in &claims {
            for b in to.iter().filter(|b| claims.get(b).is_some_and(|back| back.contains(a))) {
                linked.extend([peer(*a), peer(*b)]);
                edges += 1;
                prop_assert!(node.graph().link(&peer(*a), &peer(*b)).is_some());
            }
        }
        prop_assert_eq!(node.graph().graph().edge_count() * 2, edges);
        prop_assert_eq!(node.graph().nodes().collect::<BTreeSet<_>>(), linked);
    }
}
