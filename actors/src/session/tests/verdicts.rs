//! What is late is not dead: when a link is left, and when it is called failing.

use super::*;

fn failing(world: &World, id: LinkId) -> bool {
    let fell =
        |event: &EventKind| matches!(event, EventKind::LinkStep { link, to: LinkState::Failing, .. } if *link == id);
    world.ends.iter().any(|end| end.events.iter().any(fell))
}

fn failovers(world: &World) -> u64 {
    world.ends.iter().map(|end| end.session.failovers()).max().unwrap_or_default()
}

/// Two links, the first of which carries a message every 20 ms.
fn busy() -> (World, LinkId, LinkId) {
    let mut world = World::new();
    let (one, two) = (world.link(1, "tcp", 5 * MS, 0), world.link(2, "ws", 20 * MS, 0));
    world.run(Duration::from_secs(1));
    world.drip(50, 20 * MS, |_, _| {});
    (world, one, two)
}

fn talk(world: &mut World, count: u64) {
    for number in 0..count {
        world.roll(number);
        world.run(20 * MS);
    }
}

#[test]
fn a_spare_whose_probes_are_late_is_not_called_failing_and_a_silent_one_is_within_its_patience() {
    let (mut world, _, spare) = busy();
    world.line(spare).latency = 300 * MS;
    talk(&mut world, 100);
    assert!(!failing(&world, spare), "{:?}", world.ends[0].events);
    let (mut world, _, spare) = busy();
    world.line(spare).hole = [true; 2];
    let patience = world.config.spare_patience + world.config.probe;
    talk(&mut world, u64::try_from((patience + 100 * MS).as_millis() / 20).unwrap());
    assert!(failing(&world, spare), "{:?}", world.ends[0].events);
    assert_eq!(failovers(&world), 0);
}

#[test]
fn a_link_in_use_that_is_late_is_left_at_once_and_not_called_failing() {
    let (mut world, used, _) = busy();
    world.arrivals.clear();
    world.line(used).latency = 40 * MS;
    talk(&mut world, 25);
    let gap = world.arrivals.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    assert!(gap <= 60 * MS, "traffic waited for the verdict: {gap:?}");
    assert_eq!(failovers(&world), 1, "{:?}", world.ends[0].events);
    assert!(!failing(&world, used), "{:?}", world.ends[0].events);
    world.run(Duration::from_secs(5));
    world.assert_all_arrived(75);
}

#[test]
fn a_silent_link_in_use_is_left_and_called_failing_with_one_failover() {
    let (mut world, used, _) = busy();
    world.line(used).hole = [true; 2];
    talk(&mut world, 50);
    assert!(failing(&world, used), "{:?}", world.ends[0].events);
    assert_eq!(failovers(&world), 1, "{:?}", world.ends[0].events);
}

#[test]
fn an_acquittal_ends_the_silence_that_the_verdict_was_about() {
    let (mut world, used, _) = busy();
    world.line(used).hole = [true; 2];
    talk(&mut world, 50);
    let (now, session) = (world.now, &mut world.ends[0].session);
    let path = &session.paths[&used];
    assert!(path.state == LinkState::Failing && path.silent_since.is_some(), "{path:?}");
    // As when the peer acknowledges, over another link, everything that it was to have over this one.
    session.paths.get_mut(&used).unwrap().take_missing();
    session.on_progress(now, used, true);
    let path = &session.paths[&used];
    assert_eq!((path.state, path.is_withdrawn(), path.suspicions), (LinkState::Degraded, false, 0));
}

/// The peer has to speak first on a link that it made: what looks like it may be somebody who repeats what it once said.
#[test]
fn nothing_is_said_on_a_link_before_the_peer_has_proven_itself_and_then_it_is_closed() {
    let (mut world, _, _) = busy();
    let id = LinkId(9);
    let secret = |n: u8| TrafficSecret::new(Zeroizing::new([n; 32]));
    let sealer = Sealer::new(id, secret(1), RotationLimits::default(), world.now);
    world.ends[0].keys.insert(id, Box::new(LinkKeys { sealer, opener: Opener::new(id, secret(2)) }));
    let join = LinkJoin {
        info: info(id, false, "ble"),
        lanes: 1,
        handshake_rtt: 10 * MS,
        ack_delay_max: 2 * MS,
        confirmed: false,
        peer_limits: peer_limits(&world.config),
    };
    let (begun, end) = (world.now, &mut world.ends[0]);
    end.session.on_link_up(begun, end.id, join);
    end.session.notify_peer(LinkId(2), bowline_messages::wire::frame::LinkDownCode::Unacknowledged);
    let mut now = begun;
    while end.session.paths.contains_key(&id) {
        assert!(now - begun <= world.config.failover_timeout + MS, "{:?}", now - begun);
        let mut sent = Vec::new();
        end.with(|s, parts| s.on_timeout(now, parts));
        end.with(|s, parts| sent.extend(std::iter::from_fn(|| s.poll_transmit(now, parts))));
        assert!(sent.iter().all(|transmit| transmit.link != id), "{:?}", now - begun);
        // Nothing may be due at once for ever either.
        now = end.session.deadline(now).unwrap().max(now + MS);
    }
}

/// The links' last answers lie so far back that the next question would be seconds away.
#[test]
fn when_a_stopped_peer_speaks_again_the_last_link_is_asked_at_once() {
    let mut world = World::new();
    let only = world.link(1, "tcp", 5 * MS, 0);
    talk(&mut world, 200);
    // All that was on its way to the stopped process is gone.
    world.line(only).hole = [true; 2];
    let lost = world.roll(1_000);
    world.run(Duration::from_secs(9));
    world.line(only).hole = [false; 2];
    let now = world.now;
    let asked = world.ends[0].session.deadline(now).unwrap() - now;
    assert!(asked > 500 * MS, "{asked:?}");
    world.ends[1].send(Outgoing::new(MessageClass::Realtime, Bytes::from_static(b"here again")), now);
    world.run(100 * MS);
    assert!(world.ends[1].got.iter().any(|message| message.sequence == lost), "it arrived within 100 ms");
    assert!(world.ends[0].session.paths[&only].state.is_usable());
}

#[test]
fn a_node_that_was_stopped_asks_every_link_at_once() {
    let (mut world, used, spare) = busy();
    world.run(Duration::from_secs(1));
    let (now, session) = (world.now, &mut world.ends[0].session);
    assert!(session.on_late(now, Duration::from_secs(3)));
    world.pump();
    let session = &world.ends[0].session;
    assert!([used, spare].iter().all(|id| session.paths[id].eliciting_at == now));
}

/// How long the link in use would be borne now.
fn borne(world: &World, id: LinkId) -> Duration {
    let path = &world.ends[0].session.paths[&id];
    path.patience.verdict_after(world.now, 10 * MS, MS, Duration::from_secs(100))
}

#[test]
fn what_all_links_are_late_at_once_makes_none_of_them_a_late_one() {
    let (mut world, used, spare) = busy();
    talk(&mut world, 50);
    let before = borne(&world, used);
    // As when the peer is stopped for a moment.
    for (latency, then) in [([150 * MS; 2], 20), ([5 * MS, 20 * MS], 50)] {
        (world.line(used).latency, world.line(spare).latency) = (latency[0], latency[1]);
        talk(&mut world, then);
    }
    // A quarter of a second, counted against it, would have it borne for most of a second; there is a lone one of 24 ms afterwards.
    assert!(borne(&world, used) < before * 3, "{before:?}, {:?}", borne(&world, used));
}
