//! A relay cannot be exhausted.

use std::time::Duration;

use bowline_messages::config::MeshConfig;

use super::*;
use crate::routing::wire::PAYLOAD_BYTES_MAX;

fn relay(config: MeshConfig) -> (Forwarder, Picture, Instant) {
    let picture = Picture::of(1, &(1..6).map(|to| ((0, to), 1)).collect());
    let mut node = Forwarder::new(peer(0), config, [1; 32]);
    let now = Instant::now();
    for (to, cost) in picture.own(0) {
        node.on_neighbour(now, &picture, to, cost);
    }
    (node, picture, now)
}

fn passing(id: u64, to: usize, bytes: usize) -> MeshPacket {
    MeshPacket {
        flood: false,
        keep: true,
        hops: 5,
        labels: Vec::new(),
        destination: peer(to),
        connection: ConnectionId([1; 8]),
        id: PacketId(id),
        payload: vec![0; bytes].into(),
    }
}

#[test]
fn a_neighbour_gets_its_share_and_no_more_and_others_get_theirs() {
    let config = MeshConfig {
        relay_packets_per_second: 150,
        neighbour_packets_per_second: 100,
        distance_vector: false,
        ..MeshConfig::default()
    };
    let (mut node, picture, now) = relay(config);
    let mut sent = |from: usize| {
        let ids = (0..500).map(|n| n + 1000 * from as u64);
        ids.filter(|id| !node.on_packet(now, &picture, peer(from), passing(*id, 5, 10)).is_empty()).count()
    };
    assert_eq!([sent(1), sent(2), sent(3)], [100, 50, 0]);
    assert_eq!(node.counters().limited, 1500 - 150);
    let later = now + Duration::from_secs(1);
    assert!(!node.on_packet(later, &picture, peer(3), passing(7, 5, 10)).is_empty());
}

#[test]
fn a_flood_to_the_relay_itself_stops_nobodys_relaying() {
    let config = MeshConfig {
        relay_packets_per_second: 100,
        seen_for: Duration::from_secs(2),
        store_for: Duration::from_secs(1),
        distance_vector: false,
        ..MeshConfig::default()
    };
    let (mut node, picture, now) = relay(config);
    let relayed = |node: &mut Forwarder, now, id| {
        matches!(node.on_packet(now, &picture, peer(2), passing(id, 5, 10))[..], [Output::Send { .. }])
    };
    // As many as a busy neighbour brings, and as many of this node's own.
    for id in 0..20_000 {
        assert_eq!(node.on_packet(now, &picture, peer(1), passing(id, 0, 0)).len(), 1);
        node.on_outgoing(now, &picture, outgoing(4));
    }
    assert!(relayed(&mut node, now, 1 << 40));
    // Nor does what is relayed for one run out of room before the limits say so, whenever it comes.
    let mut sent = 0;
    for step in 0..500 {
        let now = now + step * Duration::from_millis(10);
        sent += usize::from(relayed(&mut node, now, (1 << 41) + u64::from(step)));
    }
    assert_eq!((sent, node.counters().limited), (500, 0));
}

#[test]
fn a_packet_for_this_node_arrives_once_whoever_brings_it() {
    let (mut node, picture, now) = relay(MeshConfig { distance_vector: false, ..MeshConfig::default() });
    assert_eq!(node.on_packet(now, &picture, peer(1), passing(7, 0, 10)).len(), 1);
    for from in [1, 2, 3] {
        assert!(node.on_packet(now, &picture, peer(from), passing(7, 0, 10)).is_empty());
    }
    node.on_neighbour_lost(now, &picture, peer(1));
    assert!(node.on_packet(now, &picture, peer(2), passing(7, 0, 10)).is_empty());
}

#[test]
fn whatever_comes_memory_stays_within_its_bounds() {
    let config = MeshConfig {
        queue_bytes: 100_000,
        neighbour_queue_bytes: 40_000,
        store_bytes: 60_000,
        store_peer_bytes: 50_000,
        relay_packets_per_second: 1_000_000,
        relay_bytes_per_second: 1 << 40,
        neighbour_packets_per_second: 1_000_000,
        neighbour_bytes_per_second: 1 << 40,
        distance_vector: false,
        ..MeshConfig::default()
    };
    let (mut node, mut picture, now) = relay(config);
    // 7 is known and away.
    picture.links.insert(peer(7), BTreeMap::from([(peer(8), 1)]));
    for id in 0..2000 {
        for output in node.on_packet(now, &picture, peer(1), passing(id, 2 + id as usize % 6, PAYLOAD_BYTES_MAX)) {
            if let Output::Send { to, parting } = output {
                node.on_busy(now, to, parting);
            }
        }
        let (stored, queued) = node.held_bytes();
        assert!(stored <= 60_000 && queued <= 100_000, "{stored} {queued}");
    }
    assert!(node.counters().queue_full > 0 && node.counters().no_way > 0);
    // What waits goes out in order once there is room.
    let outputs = node.on_timeout(node.deadline().unwrap(), &picture);
    let ids: Vec<u64> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send { to, parting } if *to == peer(2) => Some(parting.packet.id.0),
            Output::Send { .. } | Output::Deliver { .. } | Output::Vector(_) | Output::Unreachable(_) => None,
        })
        .collect();
    assert!(!ids.is_empty() && ids.is_sorted(), "{ids:?}");
    assert_eq!(node.held_bytes().1, 0);
}

#[test]
fn what_waits_for_a_busy_neighbour_is_tried_with_one_packet_in_order_and_not_for_ever() {
    let config = MeshConfig { distance_vector: false, ..MeshConfig::default() };
    let (mut node, picture, now) = relay(config);
    let mut tries = Vec::new();
    // The carrier takes nothing.
    let mut carry = |node: &mut Forwarder, now, outputs: Vec<Output>, room: usize| {
        let mut sent = Vec::new();
        tries.push(0);
        for output in outputs {
            let Output::Send { to, parting } = output else { continue };
            let Some(parting) = node.on_send(now, to, parting) else { continue };
            *tries.last_mut().unwrap() += 1;
            if sent.len() < room {
                sent.push(parting.packet.id.0);
            } else {
                node.on_busy(now, to, parting);
            }
        }
        sent
    };
    for id in 0..100 {
        let outputs = node.on_packet(now, &picture, peer(1), passing(id, 2, 10));
        carry(&mut node, now, outputs, 0);
    }
    let mut at = node.deadline().unwrap();
    for _ in 0..3 {
        let outputs = node.on_timeout(at, &picture);
        assert_eq!(outputs.len(), 100);
        carry(&mut node, at, outputs, 0);
        at = node.deadline().unwrap();
    }
    let outputs = node.on_timeout(at, &picture);
    assert_eq!(carry(&mut node, at, outputs, 30), (0..30).collect::<Vec<u64>>());
    let next = node.deadline().unwrap();
    let outputs = node.on_timeout(next, &picture);
    assert_eq!(carry(&mut node, next, outputs, 30), (30..60).collect::<Vec<u64>>());
    assert_eq!(tries[100..], [1, 1, 1, 31, 31]);
    let late = now + Duration::from_secs(1);
    assert!(node.on_timeout(late, &picture).is_empty());
    assert_eq!((node.counters().expired, node.held_bytes().1), (40, 0));
}

#[test]
fn what_waits_for_one_leaves_room_for_another_and_for_this_node() {
    // 250 packets for one neighbour, 500 for all of them.
    let bytes = passing(0, 2, 10).wire_bytes() as u64;
    let config = MeshConfig {
        neighbour_queue_bytes: 250 * bytes,
        queue_bytes: 500 * bytes,
        distance_vector: false,
        ..MeshConfig::default()
    };
    let (mut node, picture, now) = relay(config);
    let full = |node: &mut Forwarder, outputs: Vec<Output>| {
        for output in outputs {
            if let Output::Send { to, parting } = output {
                node.on_busy(now, to, parting);
            }
        }
    };
    let refused = |node: &mut Forwarder, from: usize, to: usize, first: u64, count: u64| {
        let before = node.counters().queue_full;
        for id in first..first + count {
            let outputs = node.on_packet(now, &picture, peer(from), passing(id, to, 10));
            full(node, outputs);
        }
        node.counters().queue_full - before
    };
    assert_eq!(refused(&mut node, 1, 2, 0, 400), 275, "half for one alone");
    assert_eq!(refused(&mut node, 3, 2, 1000, 62), 0, "and half of the rest for the next");
    assert!(refused(&mut node, 1, 4, 2000, 400) > 0, "nor has it more of all together");
    assert_eq!(refused(&mut node, 3, 5, 3000, 30), 0);
    let own = node.counters().queue_full;
    for to in [2, 4, 5] {
        for _ in 0..20 {
            let outputs = node.on_outgoing(now, &picture, outgoing(to));
            full(&mut node, outputs);
        }
    }
    assert_eq!(node.counters().queue_full, own, "nor is this node silenced");
}

#[test]
fn floods_of_others_are_bounded_and_do_not_silence_this_node() {
    let config = MeshConfig { flood_packets_per_second: 10, distance_vector: false, ..MeshConfig::default() };
    let (mut node, picture, now) = relay(config);
    let others = (0..100).filter(|id| {
        let packet = MeshPacket { flood: true, ..passing(*id, 9, 10) };
        !node.on_packet(now, &picture, peer(1), packet).is_empty()
    });
    assert_eq!(others.count(), 10);
    assert_eq!(node.on_outgoing(now, &picture, outgoing(9)).len(), 5, "to all five neighbours");
}

#[test]
fn floods_that_one_neighbour_brings_do_not_silence_another() {
    let config = MeshConfig { flood_packets_per_second: 10, distance_vector: false, ..MeshConfig::default() };
    let (mut node, picture, now) = relay(config);
    let mut flooded = |from: usize, at: Duration, ids: std::ops::Range<u64>| {
        ids.filter(|id| {
            let packet = MeshPacket { flood: true, ..passing(id + 1000 * from as u64, 9, 10) };
            !node.on_packet(now + at, &picture, peer(from), packet).is_empty()
        })
        .count()
    };
    for second in 0..20 {
        let (at, id) = (Duration::from_secs(second), second * 30);
        flooded(1, at, id..id + 30);
        assert_eq!(flooded(2, at, id..id + 1), 1, "{second}");
    }
}

#[test]
fn a_neighbour_that_tells_distances_without_end_makes_this_node_say_little() {
    let (mut node, picture, now) = relay(MeshConfig::default());
    let tell = |node: &mut Forwarder, now, from: usize, seqno| {
        let told = |n| crate::routing::wire::Distance { destination: *peer(n).as_bytes(), seqno, metric: 1 };
        let message = VectorMessage::Update((1000 * from..1000 * from + 256).map(told).collect());
        node.on_vector(now, &picture, peer(from), message);
    };
    let mut said = 0;
    // Each time as if all of them had given themselves newer numbers.
    for step in 0..1000_u16 {
        let now = now + u32::from(step) * Duration::from_millis(10);
        tell(&mut node, now, 1, step);
        for output in node.on_timeout(now, &picture) {
            if let Output::Vector(crate::routing::Tell { to, message: VectorMessage::Update(all) }) = output
                && to == peer(2)
            {
                said += all.len();
            }
        }
    }
    assert!(said < 12 * 4 * 256, "ten seconds: {said}");
    assert!(node.counters().vectors_limited > 900, "{:?}", node.counters());
    // That is nobody else's.
    let limited = node.counters().vectors_limited;
    tell(&mut node, now + Duration::from_secs(10), 3, 1);
    assert_eq!(node.counters().vectors_limited, limited);
}

#[test]
fn neighbours_that_tell_distances_without_end_silence_nobody_for_those_behind_this_node() {
    use crate::routing::wire::Distance;
    const STEP: Duration = Duration::from_millis(125);
    let view = Picture::default();
    let (mut node, _, start) = relay(MeshConfig::default());
    let mut hearer = Forwarder::new(peer(4), MeshConfig::default(), [4; 32]);
    hearer.on_neighbour(start, &view, peer(0), 1);
    let told = |n, seqno, metric| Distance { destination: *peer(n).as_bytes(), seqno, metric };
    let mut late = Vec::new();
    for step in 0..320_u16 {
        let now = start + u32::from(step) * STEP;
        // 1 and 2 take turns and tell all they may, each time as if all of them had given themselves newer numbers and come nearer.
        let lies = (100..350).map(|n| told(n, step, 1000 - u32::from(step))).collect();
        node.on_vector(now, &view, peer(1 + usize::from(step % 2)), VectorMessage::Update(lies));
        // 5 has a way to 77 for a second, and none for the next.
        let (second, there) = (step / 8, step / 8 % 2 == 0);
        if step % 8 == 0 {
            let metric = if there { 1 } else { Distance::UNREACHABLE };
            node.on_vector(now, &view, peer(5), VectorMessage::Update(vec![told(77, second, metric)]));
        }
        while let Some(at) = node.deadline().filter(|at| *at < now + STEP) {
            for output in node.on_timeout(at, &view) {
                if let Output::Vector(tell) = output
                    && tell.to == peer(4)
                {
                    hearer.on_vector(at, &view, peer(0), tell.message);
                }
            }
        }
        if step % 8 == 7 && hearer.reaches(&view, &peer(77)) != there {
            late.push(second);
        }
    }
    assert_eq!(node.counters().vectors_limited, 0, "they keep to their limit");
    assert_eq!((hearer.counters().vectors_limited, late), (0, vec![]));
}

#[test]
fn what_a_neighbour_says_of_distances_costs_no_search_for_every_peer_for_which_something_is_kept() {
    /// Counts the searches.
    #[derive(Default)]
    struct Counting(std::cell::Cell<u64>);
    impl GraphView for Counting {
        fn version(&self) -> u64 {
            self.0.set(self.0.get() + 1);
            1
        }
        fn neighbours(&self, _: &PeerId, _: &mut dyn FnMut(PeerId, u32)) {}
    }
    let (view, now) = (Counting::default(), Instant::now());
    let config = MeshConfig { flood_hops: 0, ..MeshConfig::default() };
    let mut node = Forwarder::new(peer(0), config, [1; 32]);
    for to in [1, 2] {
        node.on_neighbour(now, &view, peer(to), 1);
    }
    for id in 0..1_500 {
        node.on_packet(now, &view, peer(1), passing(id, 100 + id as usize, 0));
    }
    assert_eq!(node.counters().stored, 1_500);
    let mut searches = |message| {
        let before = view.0.get();
        let outputs = node.on_vector(now, &view, peer(2), message);
        let sent = outputs.iter().filter(|output| matches!(output, Output::Send { .. })).count();
        (view.0.get() - before, sent)
    };
    let request = VectorMessage::Request { destination: *peer(100).as_bytes(), seqno: 1, hops: 9 };
    assert_eq!(searches(request), (0, 0));
    let told = |n| crate::routing::wire::Distance { destination: *peer(n).as_bytes(), seqno: 1, metric: 1 };
    let (count, sent) = searches(VectorMessage::Update([99, 100, 101].map(told).to_vec()));
    assert_eq!(sent, 2, "what was kept for those that it tells of goes on");
    assert!(count <= 10, "{count}");
}

#[test]
fn a_packet_that_has_passed_too_many_nodes_ends() {
    let (mut node, picture, now) = relay(MeshConfig::default());
    let last = MeshPacket { hops: 1, ..passing(1, 5, 10) };
    assert!(node.on_packet(now, &picture, peer(1), last).is_empty());
    assert_eq!(node.counters().hops, 1);
    let (_, sent) = only_send(node.on_packet(now, &picture, peer(1), MeshPacket { hops: 2, ..passing(2, 5, 10) }));
    assert_eq!(sent.hops, 1);
}

#[test]
fn a_node_that_relays_nothing_still_sends_and_receives() {
    let config = MeshConfig { relay_packets_per_second: 0, ..MeshConfig::default() };
    let (mut node, picture, now) = relay(config);
    assert!(node.on_packet(now, &picture, peer(1), passing(1, 5, 10)).is_empty());
    assert_eq!(node.on_packet(now, &picture, peer(1), passing(2, 0, 10)).len(), 1);
    assert!(matches!(node.on_outgoing(now, &picture, outgoing(5))[..], [Output::Send { .. }]));
}

#[test]
fn a_way_back_is_no_way() {
    // The only way to 2 by this view leads back to where the packet comes from.
    let picture = Picture::of(1, &Links::from([((0, 1), 1), ((1, 2), 1)]));
    let mut node = Forwarder::new(peer(0), MeshConfig::default(), [1; 32]);
    let now = Instant::now();
    node.on_neighbour(now, &picture, peer(1), 1);
    let packet = MeshPacket { keep: false, ..passing(1, 2, 10) };
    assert!(node.on_packet(now, &picture, peer(1), packet).is_empty());
}

#[test]
fn the_label_of_two_neighbours_names_none_and_the_view_decides() {
    let mut twin = *peer(1).as_bytes();
    twin[30] = 99;
    let twin = PeerId::from_bytes(twin);
    let picture = Picture::of(1, &Links::from([((0, 1), 1), ((0, 2), 1), ((1, 3), 9), ((2, 3), 1)]));
    let mut node = Forwarder::new(peer(0), MeshConfig::default(), [1; 32]);
    let now = Instant::now();
    for (to, cost) in [(peer(1), 1), (peer(2), 1), (twin, 1)] {
        node.on_neighbour(now, &picture, to, cost);
    }
    let labels = vec![Label::of(&peer(1)), Label::of(&peer(3))];
    let packet = MeshPacket { labels, ..passing(1, 3, 10) };
    assert_eq!(only_send(node.on_packet(now, &picture, peer(2), packet)).0, peer(1), "2 is where it comes from");
    let labels = vec![Label::of(&peer(1)), Label::of(&peer(3))];
    let packet = MeshPacket { labels, ..passing(2, 3, 10) };
    assert_eq!(only_send(node.on_packet(now, &picture, twin, packet)).0, peer(2));
}

#[test]
fn what_waited_here_does_not_go_back_to_whom_it_came_from_and_stays_on_its_account() {
    let config = MeshConfig { flood_packets_per_second: 10, distance_vector: false, ..MeshConfig::default() };
    let (mut node, mut picture, now) = relay(config);
    // 9 is known and away: its packet is kept.
    picture.links.insert(peer(9), BTreeMap::from([(peer(8), 1)]));
    assert!(node.on_packet(now, &picture, peer(1), passing(1, 9, 10)).is_empty());
    assert_eq!(node.counters().stored, 1);
    // It is back behind whoever brought the packet, and behind another by a longer way.
    for (by, cost) in [(1, 1), (2, 5)] {
        picture.links.entry(peer(by)).or_default().insert(peer(9), cost);
        picture.links.entry(peer(9)).or_default().insert(peer(by), cost);
    }
    picture.version += 1;
    assert_eq!(only_send(node.on_view(now, &picture)).0, peer(2));

    // One that a neighbour did not take neither.
    let (to, packet) = only_send(node.on_packet(now, &picture, peer(1), passing(2, 9, 10)));
    assert_eq!(to, peer(2));
    let again = node.on_failed(now, &picture, to, parting(now, packet, Source::From(peer(1))));
    assert!(again.is_empty(), "1 is the only way left, and has had it: {again:?}");

    // Packets of others that found no way are floods of others, not this node's own.
    let nothing = Picture::of(2, &Links::new());
    let floods = (100..200).filter(|id| {
        let packet = MeshPacket { keep: false, ..passing(*id, 5, 10) };
        !node.on_failed(now, &nothing, peer(5), parting(now, packet, Source::From(peer(1)))).is_empty()
    });
    assert_eq!(floods.count(), 10);
    assert!(matches!(node.on_outgoing(now, &nothing, outgoing(7))[..], [Output::Send { .. }, ..]));
}

#[test]
fn what_a_neighbour_makes_this_node_send_takes_nothing_of_its_own() {
    let config = MeshConfig { flood_packets_per_second: 10, distance_vector: false, ..MeshConfig::default() };
    let (mut node, picture, now) = relay(config);
    let answers = (0..100).filter(|_| {
        let answer = Outgoing { on_behalf_of: Some(peer(1)), ..outgoing(9) };
        matches!(node.on_outgoing(now, &picture, answer)[..], [Output::Send { .. }, ..])
    });
    assert_eq!(answers.count(), 10);
    assert_eq!(node.on_outgoing(now, &picture, outgoing(9)).len(), 5, "to all five neighbours");
}
