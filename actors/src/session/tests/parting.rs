//! Links that are closed on purpose: neither side takes it for a failure.

use bowline_messages::link::LinkStep;

use super::*;

fn failures(end: &End, id: LinkId) -> Vec<&EventKind> {
    let step = |event: &EventKind| matches!(event, EventKind::LinkStep { link, step: LinkStep::CriticalError | LinkStep::FailureConfirmed, .. } if *link == id);
    let failover =
        |event: &EventKind| matches!(event, EventKind::FailoverStarted { .. } | EventKind::FailoverStalled { .. });
    let bad = |event: &&EventKind| step(event) || failover(event);
    end.events.iter().filter(bad).collect()
}

/// Neither side counts it as a failure, for nobody and nothing.
fn assert_intended(world: &World, id: LinkId) {
    for (side, end) in world.ends.iter().enumerate() {
        assert!(failures(end, id).is_empty(), "side {side}: {:?}", end.events);
        let closed = |event: &EventKind| matches!(event, EventKind::LinkStep { link, to: LinkState::Closed, evidence: None, .. } if *link == id);
        assert_eq!(end.events.iter().filter(|event| closed(event)).count(), 1, "side {side}: {:?}", end.events);
        assert_eq!(end.session.failovers(), 0);
        assert!(end.session.failed().is_empty(), "side {side}: {:?}", end.session.failed());
        assert_eq!(end.session.ways.borrow().penalties(), 0, "side {side}: {:?}", end.session.ways.borrow());
        assert!(end.session.link(id).is_none());
    }
}

fn let_go(world: &mut World, side: usize, id: LinkId) {
    let now = world.now;
    world.ends[side].with(|s, parts| s.let_go(now, id, "a direct link works", parts));
    world.pump();
}

#[test]
fn a_link_that_is_closed_on_purpose_has_failed_for_neither_side_and_loses_nothing() {
    // The other link is faster, or slower, so that the end of the connection comes first or last; or what it is told there is lost.
    for (latency, deaf) in [(2 * MS, false), (50 * MS, false), (2 * MS, true)] {
        for side in [0, 1] {
            let mut world = World::new();
            world.closes = true;
            let used = world.link(1, "mesh", 10 * MS, 0);
            world.run(Duration::from_secs(1));
            world.drip(20, 10 * MS, |_, _| {});
            let other = world.link(2, "tcp", latency, 0);
            world.run(20 * MS);
            for number in 20..40 {
                world.roll(number);
            }
            world.pump();
            world.line(other).hole[side] = deaf;
            let_go(&mut world, side, used);
            world.run(30 * MS);
            world.line(other).hole[side] = false;
            for number in 40..60 {
                world.roll(number);
                world.run(10 * MS);
            }
            world.run(Duration::from_secs(2));
            world.assert_all_arrived(60);
            if !deaf {
                assert_intended(&world, used);
            }
            assert!(world.ends.iter().all(|end| end.session.failed().is_empty()));
        }
    }
}

#[test]
fn the_only_link_that_is_reset_on_purpose_has_not_failed_either() {
    let mut world = World::new();
    world.closes = true;
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    world.drip(10, 10 * MS, |_, _| {});
    world.roll(10);
    world.pump();
    let_go(&mut world, 0, one);
    world.run(50 * MS);
    assert_intended(&world, one);
    world.link(2, "tcp", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    world.assert_all_arrived(11);
}

#[test]
fn a_link_is_reset_only_while_another_is_well() {
    let mut world = World::new();
    world.closes = true;
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    let reset = |world: &mut World| {
        let now = world.now;
        world.ends[0].with(|s, parts| s.reset(now, one, parts))
    };
    assert!(!reset(&mut world), "it is the only one");
    let two = world.link(2, "ws", 8 * MS, 0);
    assert!(!reset(&mut world), "nothing has come over the other");
    world.run(Duration::from_secs(1));
    world.line(two).hole = [true; 2];
    while world.ends[0].session.paths[&two].suspicions == 0 {
        world.run(100 * MS);
    }
    assert!(world.ends[0].session.paths[&two].state.is_usable());
    assert!(!reset(&mut world), "the other does not answer");
    assert!(world.ends[0].session.link(one).is_some());
    world.link(3, "ble", 8 * MS, 0);
    world.run(Duration::from_secs(1));
    assert!(reset(&mut world));
    world.run(50 * MS);
    assert!(world.ends.iter().all(|end| end.session.link(one).is_none() && failures(end, one).is_empty()));
}

#[test]
fn a_duplicate_is_closed_by_one_side_and_the_other_takes_it_for_nothing_else() {
    // Behind a translator of addresses the other side cannot see that they are the same way.
    let mut world = World::new();
    world.closes = true;
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    world.drip(10, 10 * MS, |_, _| {});
    let now = world.now;
    let secret = |direction: u8| TrafficSecret::new(Zeroizing::new([direction ^ 9; 32]));
    let twin = LinkId(18);
    for (side, end) in world.ends.iter_mut().enumerate() {
        let (own, other) = if side == 0 { (1, 2) } else { (2, 1) };
        let sealer = Sealer::new(twin, secret(own), RotationLimits::default(), now);
        end.keys.insert(twin, Box::new(LinkKeys { sealer, opener: Opener::new(twin, secret(other)) }));
        let mut info = LinkInfo::clone(&info(twin, side == 0, "tcp"));
        if side == 1 {
            info.remote = "tcp://translated".parse().unwrap();
        }
        let join = LinkJoin {
            info: Arc::new(info),
            lanes: 1,
            handshake_rtt: 10 * MS,
            ack_delay_max: 2 * MS,
            confirmed: true,
            peer_limits: peer_limits(&world.config),
        };
        end.session.on_link_up(now, end.id, join);
    }
    let line = *world.line(one);
    world.lines.insert(twin, line);
    for number in 10..40 {
        world.roll(number);
        world.run(10 * MS);
    }
    world.run(Duration::from_secs(1));
    assert_intended(&world, one);
    world.assert_all_arrived(40);
}

#[test]
fn a_connection_that_ends_without_a_word_is_a_failure_as_before() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.link(2, "ws", 8 * MS, 0);
    world.run(Duration::from_secs(1));
    world.drip(10, 10 * MS, |_, _| {});
    let now = world.now;
    world.ends[0].with(|s, parts| s.on_link_down(now, one, LinkFailure::ClosedByPeer, parts));
    world.pump();
    assert!(!failures(&world.ends[0], one).is_empty());
    assert_eq!(world.ends[0].session.failed().len(), 1);
}
