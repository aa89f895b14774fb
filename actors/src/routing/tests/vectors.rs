//! Distances: no loop at any moment, whatever is late, lost or overtaken; and ways to everybody in the end.

use std::time::Duration;

use super::*;
use crate::routing::wire::Distance;
use crate::routing::{DistanceVector, Tell};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SECOND: Duration = Duration::from_secs(1);

struct Vectors {
    now: Instant,
    nodes: Vec<DistanceVector>,
    links: Links,
    coming: BTreeMap<(Instant, u64), (usize, Tell)>,
    order: u64,
    rng: ChaCha8Rng,
    loss: u32,
    /// How late some messages are, in milliseconds: others overtake them.
    late: u32,
    /// What was said so far.
    said: Vec<(usize, Tell)>,
}

impl Vectors {
    fn new(nodes: usize, seed: u64, loss: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let node = |n| DistanceVector::new(peer(n), (rng.next_u32() >> 16) as u16, 64, SECOND);
        let nodes = (0..nodes).map(node).collect();
        Self {
            now: Instant::now(),
            nodes,
            links: Links::new(),
            coming: BTreeMap::new(),
            order: 0,
            rng,
            loss,
            late: 3000,
            said: Vec::new(),
        }
    }

    fn set_link(&mut self, a: usize, b: usize, cost: Option<u32>) {
        match cost {
            Some(cost) => self.links.insert((a.min(b), a.max(b)), cost),
            None => self.links.remove(&(a.min(b), a.max(b))),
        };
        for (at, with) in [(a, b), (b, a)] {
            let tells = match cost {
                Some(cost) => self.nodes[at].on_neighbour(self.now, peer(with), cost),
                None => self.nodes[at].on_neighbour_lost(self.now, &peer(with)),
            };
            self.post(at, tells);
        }
    }

    fn post(&mut self, from: usize, tells: Vec<Tell>) {
        for tell in tells {
            self.said.push((from, tell.clone()));
            if self.rng.next_u32() % 1000 >= self.loss {
                let late = if self.rng.next_u32().is_multiple_of(8) { self.late } else { 60 };
                let after = Duration::from_millis(u64::from(1 + self.rng.next_u32() % late));
                self.order += 1;
                self.coming.insert((self.now + after, self.order), (from, tell));
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timer = (0..self.nodes.len()).filter_map(|n| Some((self.nodes[n].deadline()?, n))).min();
            let coming = self.coming.keys().next().copied();
            match (coming, timer) {
                (Some(key), timer) if key.0 <= end && timer.is_none_or(|(at, _)| key.0 <= at) => {
                    self.now = key.0;
                    let (from, tell) = self.coming.remove(&key).unwrap();
                    let to = usize::from(tell.to.as_bytes()[31]);
                    let message = VectorMessage::decode(&tell.message.encode().unwrap()).unwrap();
                    let tells = self.nodes[to].on_message(self.now, peer(from), message);
                    self.post(to, tells);
                }
                (_, Some((at, n))) if at <= end => {
                    self.now = self.now.max(at);
                    let tells = self.nodes[n].on_timeout(self.now);
                    self.post(n, tells);
                }
                _ => break,
            }
            self.assert_no_loop();
        }
        self.now = end;
    }

    /// Links with their costs, and then, step by step: between whom one comes or goes, and how long that is watched.
    fn live(&mut self, links: impl IntoIterator<Item = ((usize, usize), u32)>, steps: Vec<(usize, usize, bool, u64)>) {
        for ((a, b), cost) in links {
            self.set_link(a, b, Some(cost));
        }
        let nodes = self.nodes.len();
        for (a, b, up, wait) in steps {
            let (a, b) = (a % nodes, b % nodes);
            if a != b {
                self.set_link(a, b, up.then_some(1 + (wait as u32 % 20)));
            }
            self.run(Duration::from_millis(wait));
        }
    }

    fn assert_no_loop(&self) {
        for to in 0..self.nodes.len() {
            for from in (0..self.nodes.len()).filter(|from| *from != to) {
                let mut path = vec![from];
                while let Some(next) = self.nodes[path[path.len() - 1]].next_hop(&peer(to), None) {
                    let next = usize::from(next.as_bytes()[31]);
                    assert!(!path.contains(&next), "to {to}: {path:?} and back to {next}");
                    path.push(next);
                    if next == to {
                        break;
                    }
                }
            }
        }
    }

    fn assert_ways(&self) -> Result<(), TestCaseError> {
        let nodes = self.nodes.len();
        for from in 0..nodes {
            let far = distances(nodes, &self.links, from);
            for to in (0..nodes).filter(|to| *to != from) {
                let way = self.nodes[from].next_hop(&peer(to), None);
                prop_assert_eq!(way.is_some(), far[to].is_some(), "from {} to {}", from, to);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_moment_has_a_loop_and_in_the_end_there_are_ways_to_all((nodes, links) in network(8), steps in prop::collection::vec((0..8usize, 0..8usize, any::<bool>(), 0..1500u64), 0..30), seed in any::<u64>(), loss in 0..300u32) {
        let mut world = Vectors::new(nodes, seed, loss);
        world.live(links, steps);
        (world.loss, world.late) = (0, 60);
        world.run(30 * SECOND);
        world.assert_ways()?;
    }
}

#[test]
fn a_node_that_is_started_anew_is_found_again_whatever_number_it_begins_with() {
    for seed in 0..20 {
        let mut world = Vectors::new(3, seed, 0);
        world.set_link(0, 1, Some(1));
        world.set_link(1, 2, Some(1));
        world.run(10 * SECOND);
        assert_eq!(world.nodes[0].next_hop(&peer(2), None), Some(peer(1)));
        world.set_link(1, 2, None);
        world.nodes[2] = DistanceVector::new(peer(2), (seed * 3277) as u16, 64, SECOND);
        world.run(SECOND);
        world.set_link(1, 2, Some(1));
        world.run(10 * SECOND);
        assert_eq!(world.nodes[0].next_hop(&peer(2), None), Some(peer(1)), "{seed}");
    }
}

#[test]
fn what_neighbours_can_make_it_remember_is_bounded() {
    let now = Instant::now();
    let mut node = DistanceVector::new(peer(0), 1, 10, SECOND);
    node.on_neighbour(now, peer(1), 1);
    let distances = (2..100).map(|n| Distance { destination: *peer(n).as_bytes(), seqno: 1, metric: 1 }).collect();
    node.on_message(now, peer(1), VectorMessage::Update(distances));
    assert_eq!((node.peers(), node.refused()), (10, 88));
    node.on_message(now, peer(5), VectorMessage::Update(vec![]));
    for second in 1..40 {
        node.on_timeout(now + second * SECOND);
    }
    assert_eq!(node.peers(), 0, "what is not told again is forgotten");
}

#[test]
fn peers_that_one_neighbour_invents_take_no_room_from_those_of_another() {
    let now = Instant::now();
    let mut node = DistanceVector::new(peer(0), 1, 10, 3600 * SECOND);
    for neighbour in [1, 2, 3] {
        node.on_neighbour(now, peer(neighbour), 1);
    }
    let tell = |node: &mut DistanceVector, from, seqno, which: std::ops::Range<usize>| {
        let distances = which.map(|n| Distance { destination: *peer(n).as_bytes(), seqno, metric: 1 }).collect();
        node.on_message(now, peer(from), VectorMessage::Update(distances));
        node.peers()
    };
    let reached = |node: &DistanceVector, which: std::ops::Range<usize>| {
        which.filter(|n| node.next_hop(&peer(*n), None).is_some()).count()
    };
    assert_eq!(tell(&mut node, 1, 1, 20..120), 10);
    node.on_timeout(now + SECOND);
    // It tells of them and of others again and again, between what the others tell.
    for round in 2..5 {
        for (from, first) in [(2, 120), (3, 130)] {
            assert_eq!(tell(&mut node, from, round, first..first + 3), 10);
            assert_eq!(tell(&mut node, 1, round, 20..120), 10);
        }
        assert_eq!((reached(&node, 120..123), reached(&node, 130..133)), (3, 3));
    }
    // What made room is told to be out of reach.
    let tells = node.on_timeout(now + 2 * SECOND);
    let gone = |tell: &Tell| match &tell.message {
        VectorMessage::Update(all) => all.iter().filter(|told| told.metric == Distance::UNREACHABLE).count(),
        VectorMessage::Request { .. } => 0,
    };
    assert!(tells.iter().filter(|tell| tell.to == peer(2)).map(gone).sum::<usize>() >= 6);
    // And what a neighbour leaves behind goes first.
    node.on_neighbour_lost(now, &peer(1));
    assert_eq!(tell(&mut node, 2, 5, 120..130), 10);
    assert_eq!((reached(&node, 120..130), reached(&node, 130..133)), (7, 3));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_moment_has_a_loop_where_peers_have_to_make_room((nodes, links) in network(8), room in 1..6_usize, steps in prop::collection::vec((0..8usize, 0..8usize, any::<bool>(), 0..1500u64), 0..30), seed in any::<u64>(), loss in 0..300u32) {
        let mut world = Vectors::new(nodes, seed, loss);
        for node in 0..nodes {
            world.nodes[node] = DistanceVector::new(peer(node), seed as u16, room, SECOND);
        }
        world.live(links, steps);
        world.run(10 * SECOND);
        for node in &world.nodes {
            prop_assert!(node.peers() <= room);
        }
    }
}

#[test]
fn no_way_leads_through_a_node_that_relays_nothing_and_some_lead_to_it() {
    // 1 is by far the cheapest way to 3, and the only one to 4.
    let mut world = Vectors::new(5, 1, 0);
    world.nodes[1] = DistanceVector::new(peer(1), 1, 64, SECOND).relaying_nothing();
    world.live([((0, 1), 1), ((1, 3), 1), ((0, 2), 50), ((2, 3), 50), ((1, 4), 1)], Vec::new());
    world.run(10 * SECOND);
    let next = |world: &Vectors, from: usize, to| world.nodes[from].next_hop(&peer(to), None);
    assert_eq!(next(&world, 0, 3), Some(peer(2)));
    assert_eq!(next(&world, 0, 4), None);
    assert_eq!(next(&world, 0, 1), Some(peer(1)));
    assert!(next(&world, 2, 1).is_some(), "by 0 or by 3");
    assert_eq!([0, 2, 3, 4].map(|to| next(&world, 1, to).is_some()), [true; 4], "it reaches all others");
    // Nor when the other way is gone, and 0 asks for one.
    world.set_link(0, 2, None);
    world.run(10 * SECOND);
    assert_eq!(next(&world, 0, 3), None);
}

#[test]
fn whoever_asks_for_newer_numbers_without_end_makes_others_say_little() {
    const SECONDS: u32 = 30;
    let mut world = Vectors::new(6, 3, 0);
    world.late = 60;
    let interval = 60 * SECOND;
    world.nodes = (0..6).map(|n| DistanceVector::new(peer(n), 1, 64, interval)).collect();
    // 0 is hostile.
    world.live([((0, 1), 1), ((1, 2), 1), ((2, 3), 1), ((3, 4), 1), ((3, 5), 1)], Vec::new());
    world.run(3 * SECOND);
    world.said.clear();
    for step in 0..10 * SECONDS as u16 {
        for to in 1..6 {
            let message = VectorMessage::Request { destination: *peer(to).as_bytes(), seqno: 2 + step, hops: 32 };
            let now = world.now;
            let tells = world.nodes[1].on_message(now, peer(0), message);
            world.post(1, tells);
        }
        world.run(Duration::from_millis(100));
    }
    let asked = |from: usize, of: usize| {
        let of = *peer(of).as_bytes();
        let is = |tell: &Tell| matches!(tell.message, VectorMessage::Request { destination, .. } if destination == of);
        world.said.iter().filter(|(by, tell)| *by == from && is(tell)).count()
    };
    let told = |from: usize, to: usize, of: usize| {
        let told = |tell: &Tell| match &tell.message {
            VectorMessage::Update(all) if tell.to == peer(to) => {
                all.iter().filter(|told| told.destination == *peer(of).as_bytes()).count()
            }
            VectorMessage::Update(_) | VectorMessage::Request { .. } => 0,
        };
        world.said.iter().filter(|(by, _)| *by == from).map(|(_, tell)| told(tell)).sum::<usize>()
    };
    // Its neighbour is asked directly, the others through it.
    let direct = told(1, 2, 1);
    assert!((20..=SECONDS as usize + 2).contains(&direct), "{direct}");
    for of in 2..6 {
        assert!((8..=13).contains(&asked(1, of)), "{of}: {}", asked(1, of));
        assert!((8..=14).contains(&told(3, 4, of)) || of == 4, "{of}: {}", told(3, 4, of));
    }
    // Nobody is kept from finding a way that is needed.
    world.set_link(2, 5, Some(1));
    world.run(SECOND);
    world.set_link(3, 5, None);
    world.run(6 * SECOND);
    world.assert_ways().unwrap();
}

#[test]
fn whoever_asks_for_far_numbers_by_requests_that_end_early_keeps_nobody_from_asking_further() {
    let mut world = Vectors::new(10, 3, 0);
    world.late = 60;
    world.nodes = (0..10).map(|n| DistanceVector::new(peer(n), 1, 64, 60 * SECOND)).collect();
    // 0 is hostile. 1 reaches 5 by 2 and 3, and by a longer way that it may not use before 5 has given itself a newer number.
    let row = [(0, 1), (1, 2), (2, 3), (3, 5), (1, 6), (6, 7), (7, 8), (8, 9), (5, 9)];
    world.live(row.map(|link| (link, 1)), Vec::new());
    world.run(3 * SECOND);
    assert_eq!(world.nodes[1].next_hop(&peer(5), None), Some(peer(2)));
    world.said.clear();
    for step in 0..100_u16 {
        if step == 30 {
            world.set_link(2, 3, None);
        }
        // Each ends at the node behind 1.
        let message = VectorMessage::Request { destination: *peer(5).as_bytes(), seqno: 1000 + step, hops: 2 };
        let now = world.now;
        let tells = world.nodes[1].on_message(now, peer(0), message);
        world.post(1, tells);
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.nodes[1].next_hop(&peer(5), None), Some(peer(6)));
    assert_eq!(world.nodes[2].next_hop(&peer(5), None), Some(peer(1)), "nor who asks through it");
    for to in [2, 6] {
        let of = *peer(5).as_bytes();
        let is = |tell: &Tell| matches!(tell.message, VectorMessage::Request { destination, .. } if destination == of);
        let asked = world.said.iter().filter(|(by, tell)| *by == 1 && tell.to == peer(to) && is(tell)).count();
        assert!((1..=5).contains(&asked), "once in 2.5 s, no oftener for that: {asked}");
    }
}

/// A node with three neighbours, of which the first has told of a way to the ninth.
fn on_the_way_to_nine() -> (DistanceVector, Instant) {
    let now = Instant::now();
    let mut node = DistanceVector::new(peer(0), 1, 10, 60 * SECOND);
    for neighbour in 1..4 {
        node.on_neighbour(now, peer(neighbour), 1);
    }
    let told = Distance { destination: *peer(9).as_bytes(), seqno: 7, metric: 1 };
    node.on_message(now, peer(1), VectorMessage::Update(vec![told]));
    (node, now)
}

/// Asks for a way to the ninth.
fn request(seqno: u16, hops: u8) -> VectorMessage {
    VectorMessage::Request { destination: *peer(9).as_bytes(), seqno, hops }
}

#[test]
fn a_request_that_goes_further_is_open_after_one_that_does_not() {
    let (mut node, now) = on_the_way_to_nine();
    let asks = node.on_message(now, peer(2), request(100, 2));
    assert_eq!(asks, [Tell { to: peer(1), message: request(100, 1) }]);
    // The newest number of these, and the most hops, whoever comes first.
    for (from, seqno, hops) in [(2, 101, 2), (3, 8, 20), (2, 102, 2)] {
        assert!(node.on_message(now, peer(from), request(seqno, hops)).is_empty());
    }
    let asks = node.on_timeout(now + Duration::from_millis(2_500));
    assert!(asks.contains(&Tell { to: peer(1), message: request(102, 19) }), "{asks:?}");
}

#[test]
fn what_is_wanted_while_an_answer_is_waited_for_is_asked_for_afterwards() {
    let (mut node, now) = on_the_way_to_nine();
    let asks = |tells: Vec<Tell>| {
        tells.into_iter().filter(|tell| matches!(tell.message, VectorMessage::Request { .. })).collect::<Vec<_>>()
    };
    assert_eq!(asks(node.on_message(now, peer(2), request(8, 9))), [Tell { to: peer(1), message: request(8, 8) }]);
    assert!(asks(node.on_message(now, peer(3), request(10, 9))).is_empty());
    assert!(asks(node.on_message(now, peer(2), request(9, 9))).is_empty(), "the newest will do");
    let mut asked = Vec::new();
    while let Some(at) = node.deadline().filter(|at| *at < now + 10 * SECOND) {
        asked.extend(asks(node.on_timeout(at)).into_iter().map(|tell| (at - now, tell)));
    }
    assert_eq!(asked, [(Duration::from_millis(2_500), Tell { to: peer(1), message: request(10, 8) })]);
}

#[test]
fn a_number_that_is_still_needed_when_a_neighbour_comes_or_changes_is_asked_for() {
    let start = Instant::now();
    let needs = || {
        let mut node = DistanceVector::new(peer(0), 1, 10, 60 * SECOND);
        for (neighbour, metric) in [(1, 1), (2, 4)] {
            node.on_neighbour(start, peer(neighbour), 1);
            let distance = Distance { destination: *peer(9).as_bytes(), seqno: 7, metric };
            node.on_message(start, peer(neighbour), VectorMessage::Update(vec![distance]));
        }
        assert_eq!(node.on_neighbour_lost(start, &peer(1)).len(), 1);
        node
    };
    let message = VectorMessage::Request { destination: *peer(9).as_bytes(), seqno: 8, hops: 32 };
    let request = Tell { to: peer(2), message };
    // The first request, or its answer, was lost.
    let later = start + 3 * SECOND;
    assert_eq!(needs().on_neighbour(later, peer(2), 2), std::slice::from_ref(&request));
    let tells = needs().on_neighbour(later, peer(3), 1);
    assert!(tells.contains(&request), "{tells:?}");
    let told = |tell: &Tell| tell.to == peer(3) && matches!(tell.message, VectorMessage::Update(_));
    assert!(tells.iter().any(told), "and the new one is told all: {tells:?}");
}

#[test]
fn a_longer_way_is_not_used_before_its_destination_has_vouched_for_it() {
    // 1 told this node distance 1 and then 5; the way over 2 with 4 could lead back here.
    let now = Instant::now();
    let mut node = DistanceVector::new(peer(0), 1, 10, SECOND);
    node.on_neighbour(now, peer(1), 1);
    node.on_neighbour(now, peer(2), 1);
    let say = |node: &mut DistanceVector, from, seqno, metric| {
        let distance = Distance { destination: *peer(9).as_bytes(), seqno, metric };
        node.on_message(now, peer(from), VectorMessage::Update(vec![distance]))
    };
    say(&mut node, 1, 7, 1);
    say(&mut node, 2, 7, 4);
    assert_eq!(node.next_hop(&peer(9), None), Some(peer(1)));
    let asks = node.on_neighbour_lost(now, &peer(1));
    assert_eq!(node.next_hop(&peer(9), None), None);
    let request = VectorMessage::Request { destination: *peer(9).as_bytes(), seqno: 8, hops: 32 };
    assert_eq!(asks, [Tell { to: peer(2), message: request }]);
    say(&mut node, 2, 8, 4);
    assert_eq!(node.next_hop(&peer(9), None), Some(peer(2)));
}
