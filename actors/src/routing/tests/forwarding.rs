//! Whatever happens to the network: no packet goes in circles, and it arrives where there is a way for long enough.

use std::time::Duration;

use bowline_messages::config::MeshConfig;

use super::world::World;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// How nodes find their ways.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    View,
    Distances,
    Flood,
}

fn config(by: By) -> MeshConfig {
    MeshConfig {
        distance_vector: by == By::Distances,
        vector_interval: SECOND,
        flood_hops: if by == By::Flood { 32 } else { 0 },
        flood_packets_per_second: 10_000,
        ..MeshConfig::default()
    }
}

/// What befalls the network: which link, whether it comes or goes, how long nothing else happens, and what is sent meanwhile.
type Step = (usize, usize, bool, u64, usize, usize, u8, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..8usize, 0..8usize, any::<bool>(), 0..1500u64, 0..8usize, 0..8usize, 0..4u8, any::<bool>());
    prop::collection::vec(step, 0..25)
}

fn storm(by: By, nodes: usize, links: &Links, steps: &[Step], seed: u64, loss: u32) -> World {
    let mut world = World::new(nodes, links, &config(by), by == By::View, seed);
    world.loss = loss;
    for (a, b, up, wait, from, to, route, keep) in steps.iter().copied() {
        let (a, b, from, to) = (a % nodes, b % nodes, from % nodes, to % nodes);
        if a != b {
            let cost = up.then(|| 1 + world.draw(20));
            world.set_link(a, b, cost);
        }
        if from != to {
            world.send(from, to, b"in the storm", keep, route);
        }
        world.run(Duration::from_millis(wait));
    }
    world.loss = 0;
    world
}

/// After the storm: everybody reaches whomever there is a way to, by any of its routes.
fn calm(mut world: World, settle: Duration, tries: usize) -> Result<(), TestCaseError> {
    let nodes = world.nodes.len();
    world.run(settle);
    for from in 0..nodes {
        let far = distances(nodes, &world.links, from);
        for to in (0..nodes).filter(|to| *to != from) {
            for route in 0..3_u8 {
                let text = format!("{from} to {to} by {route}");
                for _ in 0..tries {
                    world.send(from, to, text.as_bytes(), false, route);
                    world.run(SECOND);
                    if world.got(to, text.as_bytes()) > 0 {
                        break;
                    }
                }
                prop_assert_eq!(world.got(to, text.as_bytes()), usize::from(far[to].is_some()), "{}", text);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn by_the_view_nothing_loops_and_everything_arrives((nodes, links) in network(8), steps in steps(), seed in any::<u64>(), loss in 0..300u32) {
        // Views are at most 2 s old, neighbours are left alone for 2 s.
        calm(storm(By::View, nodes, &links, &steps, seed, loss), 5 * SECOND, 1)?;
    }

    #[test]
    fn by_distances_nothing_loops_and_everything_arrives((nodes, links) in network(8), steps in steps(), seed in any::<u64>(), loss in 0..300u32) {
        calm(storm(By::Distances, nodes, &links, &steps, seed, loss), 30 * SECOND, 1)?;
    }

    #[test]
    fn by_flooding_nothing_loops_and_everything_arrives((nodes, links) in network(6), steps in steps(), seed in any::<u64>(), loss in 0..300u32) {
        calm(storm(By::Flood, nodes, &links, &steps, seed, loss), 5 * SECOND, 1)?;
    }
}

/// 0 and 3 with two ways between them, by 1 and by 2.
fn diamond() -> Links {
    Links::from([((0, 1), 1), ((1, 3), 1), ((0, 2), 5), ((2, 3), 5)])
}

#[test]
fn the_first_failed_use_withdraws_a_way_and_the_packet_takes_another() {
    let picture = Picture::of(1, &diamond());
    let mut node = Forwarder::new(peer(0), config(By::View), [1; 32]);
    let now = Instant::now();
    for (to, cost) in picture.own(0) {
        node.on_neighbour(now, &picture, to, cost);
    }
    let (to, packet) = only_send(node.on_outgoing(now, &picture, outgoing(3)));
    assert_eq!(to, peer(1));
    let (to, again) = only_send(node.on_failed(now, &picture, to, parting(now, packet.clone(), Source::Own)));
    assert_eq!((to, again.id), (peer(2), packet.id));
    assert_eq!(only_send(node.on_outgoing(now, &picture, outgoing(3))).0, peer(2), "the way is withdrawn");
    node.on_neighbour(now, &picture, peer(1), 1);
    assert_eq!(
        only_send(node.on_outgoing(now, &picture, outgoing(3))).0,
        peer(2),
        "news of a session do not shorten the hold-down"
    );
    let over = node.deadline().unwrap();
    assert_eq!(over, now + MeshConfig::default().hold_down);
    node.on_timeout(over, &picture);
    assert_eq!(only_send(node.on_outgoing(over, &picture, outgoing(3))).0, peer(1));
}

#[test]
fn whoever_hears_nothing_chooses_a_route_without_the_same_relays() {
    let picture = Picture::of(1, &diamond());
    let mut node = Forwarder::new(peer(0), config(By::View), [1; 32]);
    let now = Instant::now();
    for (to, cost) in picture.own(0) {
        node.on_neighbour(now, &picture, to, cost);
    }
    let by =
        |node: &mut Forwarder, route| only_send(node.on_outgoing(now, &picture, Outgoing { route, ..outgoing(3) })).0;
    assert_eq!([0, 1, 2, 3].map(|route| by(&mut node, route)), [peer(1), peer(2), peer(1), peer(2)]);
}

#[test]
fn the_hop_limit_does_not_tell_where_a_packet_begins_and_is_never_too_small() {
    let links = Links::from([((0, 1), 1), ((1, 2), 1), ((2, 3), 1), ((3, 4), 1)]);
    let picture = Picture::of(1, &links);
    let mut node = Forwarder::new(peer(0), config(By::View), [1; 32]);
    let now = Instant::now();
    node.on_neighbour(now, &picture, peer(1), 1);
    // With the labels that are left it is the same all the way.
    let (_, first) = only_send(node.on_outgoing(now, &picture, outgoing(4)));
    let mut relay = Forwarder::new(peer(1), config(By::View), [2; 32]);
    relay.on_neighbour(now, &picture, peer(0), 1);
    relay.on_neighbour(now, &picture, peer(2), 1);
    let (_, second) = only_send(relay.on_packet(now, &picture, peer(0), first.clone()));
    assert_eq!((spare(&first), spare(&second)), (4, 4));
}

/// How far the hop limit is above the number of labels.
fn spare(packet: &MeshPacket) -> usize {
    usize::from(packet.hops) - packet.labels.len()
}

/// 0 and 9 with two ways between them, a short one by 1 and a much longer one by 2.
fn detour() -> (Forwarder, Picture, Instant) {
    let row = [(0, 1), (1, 9), (0, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 9)];
    let picture = Picture::of(1, &row.map(|link| (link, 1)).into());
    let mut node = Forwarder::new(peer(0), config(By::View), [1; 32]);
    let now = Instant::now();
    for (to, cost) in picture.own(0) {
        node.on_neighbour(now, &picture, to, cost);
    }
    (node, picture, now)
}

#[test]
fn a_packet_of_this_node_whose_way_fails_takes_a_much_longer_one_as_if_for_the_first_time() {
    for on_behalf_of in [None, Some(peer(2))] {
        let (mut node, picture, now) = detour();
        let (to, packet) = only_send(node.on_outgoing(now, &picture, Outgoing { on_behalf_of, ..outgoing(9) }));
        assert_eq!((to, packet.labels.len(), spare(&packet)), (peer(1), 1, 4));
        let source = on_behalf_of.map_or(Source::Own, Source::For);
        let (to, packet) = only_send(node.on_failed(now, &picture, to, parting(now, packet, source)));
        assert_eq!((to, packet.labels.len(), spare(&packet)), (peer(2), 6, 4));
    }
}

#[test]
fn the_hop_limit_of_a_packet_of_this_node_does_not_tell_that_it_waited() {
    let (mut node, picture, now) = detour();
    let away = Picture::of(2, &Links::from([((0, 1), 1), ((8, 9), 1)]));
    let waits = Outgoing { keep: true, ..outgoing(9) };
    assert!(matches!(node.on_outgoing(now, &away, waits)[..], [Output::Unreachable(_)]));
    let back = Picture { version: 3, ..picture };
    let (to, packet) = only_send(node.on_view(now, &back));
    assert_eq!((to, packet.labels.len(), spare(&packet)), (peer(1), 1, 4));
}

#[test]
fn by_distance_the_hop_limit_is_one_for_each_link_and_none_can_only_be_of_the_neighbour() {
    let (view, now) = (Picture::default(), Instant::now());
    let config = MeshConfig { flood_hops: 0, ..config(By::Distances) };
    let row = |n: usize, seed: u8| {
        let mut node = Forwarder::new(peer(n), config.clone(), [seed; 32]);
        for next in [n.wrapping_sub(1), n + 1] {
            node.on_neighbour(now, &view, peer(next), 1);
        }
        let told = crate::routing::wire::Distance { destination: *peer(9).as_bytes(), seqno: 1, metric: 1 };
        node.on_vector(now, &view, peer(n + 1), VectorMessage::Update(vec![told]));
        node
    };
    let (mut origin, mut relay) = (row(1, 1), row(2, 2));
    let (mut limits, mut highest) = (BTreeMap::<u8, usize>::new(), [0, 0]);
    for link in 0..1800_u64 {
        let connection = ConnectionId(link.to_be_bytes());
        let mut send = || only_send(origin.on_outgoing(now, &view, Outgoing { connection, ..outgoing(9) })).1;
        let (one, another) = (send(), send());
        assert_eq!(one.hops, another.hops, "a few packets of a link tell no more than one");
        assert_eq!(MeshPacket::decode(one.encode().unwrap()).unwrap(), one);
        *limits.entry(one.hops).or_default() += 1;
        let (_, passed) = only_send(relay.on_packet(now, &view, peer(1), one.clone()));
        if one.hops == 47 {
            highest[usize::from(passed.hops == 47)] += 1;
        } else {
            assert_eq!(passed.hops, one.hops - 1);
        }
    }
    assert!(limits.keys().copied().eq(24..48), "never fewer than a route may have: {limits:?}");
    assert!(limits.values().all(|links| (40..120).contains(links)), "{limits:?}");
    assert!(highest.iter().all(|links| *links > 20), "{highest:?}");
}

#[test]
fn a_relay_with_another_view_follows_the_labels_of_the_packet() {
    // 1 believes that the way to 3 leads over 0.
    let truth = Picture::of(1, &Links::from([((0, 1), 1), ((1, 2), 1), ((2, 3), 1)]));
    let stale = Picture::of(1, &Links::from([((0, 1), 1), ((0, 3), 1), ((1, 2), 1)]));
    let now = Instant::now();
    let mut origin = Forwarder::new(peer(0), config(By::View), [1; 32]);
    origin.on_neighbour(now, &truth, peer(1), 1);
    let mut relay = Forwarder::new(peer(1), config(By::View), [2; 32]);
    relay.on_neighbour(now, &stale, peer(0), 1);
    relay.on_neighbour(now, &stale, peer(2), 1);
    let (_, packet) = only_send(origin.on_outgoing(now, &truth, outgoing(3)));
    assert_eq!(packet.labels.len(), 2, "2 and 3");
    let (to, packet) = only_send(relay.on_packet(now, &stale, peer(0), packet));
    assert_eq!((to, packet.labels.len()), (peer(2), 1));
}

#[test]
fn a_packet_for_a_peer_that_is_away_arrives_when_it_is_back_and_not_after_its_time() {
    for (away, arrives) in [(20, 1), (40, 0)] {
        let links = Links::from([((0, 1), 1), ((1, 2), 1)]);
        let mut world = World::new(3, &links, &config(By::View), true, 3);
        world.run(5 * SECOND);
        world.set_link(1, 2, None);
        world.run(5 * SECOND);
        world.send(0, 2, b"kept", true, 0);
        world.send(0, 2, b"not kept", false, 0);
        world.run(away * SECOND);
        assert!(world.unreachable.contains(&(0, peer(2))));
        world.set_link(1, 2, Some(1));
        world.run(5 * SECOND);
        assert_eq!((world.got(2, b"kept"), world.got(2, b"not kept")), (arrives, 0));
    }
}

#[test]
fn a_relay_keeps_what_it_may_when_the_last_link_is_gone() {
    let links = Links::from([((0, 1), 1), ((1, 2), 1)]);
    let mut world = World::new(3, &links, &config(By::View), true, 3);
    world.run(5 * SECOND);
    world.set_link(1, 2, None);
    // Before anybody has noticed, so that the relay finds out; silently lost packets are lost.
    for _ in 0..8 {
        world.send(0, 2, b"kept", true, 0);
    }
    world.run(10 * SECOND);
    let before = world.got(2, b"kept");
    assert!(world.nodes[1].counters().stored > 0);
    world.set_link(1, 2, Some(1));
    world.run(5 * SECOND);
    assert!(world.got(2, b"kept") > before);
}
