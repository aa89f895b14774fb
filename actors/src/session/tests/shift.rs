//! Traffic that moves to another link in steps.

use bowline_messages::config::{Needs, RequirementsConfig};
use bowline_messages::health::{Advice, Confidence, LinkOpinion, Outlook, Quality};
use bowline_messages::link::ShiftReason;

use super::*;

fn opinion(link: LinkId) -> LinkOpinion {
    LinkOpinion {
        link,
        advice: Advice::Leave,
        degrading: Confidence::new(0.95),
        unusable: Confidence::NONE,
        outlook: Outlook { probability: Confidence::new(0.9), seconds: Some(2.0) },
        doubt: Confidence::NONE,
        findings: Vec::new(),
        quality: Quality::default(),
    }
}

fn leave(world: &mut World, link: LinkId) {
    let now = world.now;
    world.ends[0].session.on_opinion(now, opinion(link));
    world.pump();
}

/// Rolls a second, so many for so long; says what share of the first side's messages went over the second link.
fn talk(world: &mut World, count: u64, pause: Duration, used: LinkId) -> f64 {
    let before = carried(world, used);
    for number in 0..count {
        world.roll(number);
        world.run(pause);
    }
    (carried(world, used) - before) / count as f64
}

/// Records with messages, since each message here is a record of its own.
fn carried(world: &World, link: LinkId) -> f64 {
    world.ends[0].session.paths[&link].stats.records_sent as f64
}

fn shares(world: &World) -> Vec<(f64, ShiftReason)> {
    let shifted = |event: &EventKind| {
        let EventKind::TrafficShifted { share, reason, .. } = event else { return None };
        Some((*share, *reason))
    };
    world.ends[0].events.iter().filter_map(shifted).collect()
}

fn busy(latencies: [Duration; 2]) -> (World, [LinkId; 2]) {
    let mut config = SessionConfig::default();
    config.gradual.step_max = Duration::from_secs(1);
    let mut world = World::with_config(config);
    let links = [world.link(1, "tcp", latencies[0], 0), world.link(2, "ws", latencies[1], 0)];
    talk(&mut world, 200, 10 * MS, links[1]);
    assert!(shares(&world).is_empty());
    (world, links)
}

#[test]
fn traffic_leaves_a_link_that_is_about_to_fail_in_steps() {
    let (mut world, [old, new]) = busy([5 * MS, 8 * MS]);
    leave(&mut world, old);
    assert_eq!(shares(&world), [(0.1, ShiftReason::Leaving)]);
    let first = talk(&mut world, 50, 10 * MS, new);
    assert!((0.05..0.35).contains(&first), "about a tenth, and probes: {first}");
    assert!(world.ends[0].session.carries_traffic(old));
    for _ in 0..40 {
        leave(&mut world, old);
        talk(&mut world, 10, 10 * MS, new);
    }
    let (steps, reasons): (Vec<_>, Vec<_>) = shares(&world).into_iter().unzip();
    assert_eq!(steps, [0.1, 0.3, 0.6, 1.0, 1.0]);
    assert!(reasons[1..].iter().all(|reason| matches!(reason, ShiftReason::AsGood { .. })), "{reasons:?}");
    leave(&mut world, old);
    assert!(talk(&mut world, 50, 10 * MS, old) < 0.1, "nothing goes over the old one any more");
    assert!(world.ends[0].session.gradual.is_none());
    let count = world.ends[1].got.len() as u64;
    world.assert_all_arrived(count);
}

#[test]
fn a_new_link_that_is_slow_under_load_is_left_again() {
    // What is measured of it while it is idle is fine; each message takes 250 ms.
    let mut world = World::new();
    let (old, new) = (world.link(1, "tcp", 20 * MS, 0), world.link(2, "ws", 25 * MS, 0));
    talk(&mut world, 200, 10 * MS, new);
    world.line(new).latency = 120 * MS;
    leave(&mut world, old);
    for _ in 0..20 {
        leave(&mut world, old);
        talk(&mut world, 10, 10 * MS, new);
    }
    let last = shares(&world).last().copied();
    assert!(matches!(last, Some((0.0, ShiftReason::Worse { .. }))), "{:?}", shares(&world));
    leave(&mut world, old);
    assert!(talk(&mut world, 100, 10 * MS, new) < 0.1, "but for probes nothing goes over it");
    let shown = world.ends[0].session.choices(world.now);
    assert_eq!(shown[0].links, [old], "{shown:?}");
    // Later it is tried again.
    let steps = shares(&world).len();
    for _ in 0..110 {
        leave(&mut world, old);
        talk(&mut world, 10, 10 * MS, new);
    }
    assert!(shares(&world).len() > steps, "{:?}", shares(&world));
    let count = world.ends[1].got.len() as u64;
    world.assert_all_arrived(count);
}

#[test]
fn when_the_old_link_dies_in_the_middle_everything_goes_over_at_once() {
    let (mut world, [old, new]) = busy([5 * MS, 8 * MS]);
    leave(&mut world, old);
    talk(&mut world, 10, 10 * MS, new);
    world.reset(old);
    assert_eq!(shares(&world).last(), Some(&(1.0, ShiftReason::OldDied)));
    assert!(talk(&mut world, 20, 10 * MS, new) >= 1.0);
    let count = world.ends[1].got.len() as u64;
    world.assert_all_arrived(count);
}

#[test]
fn when_the_old_link_falls_silent_in_the_middle_no_message_waits_for_the_steps() {
    let (mut world, [old, new]) = busy([5 * MS, 8 * MS]);
    leave(&mut world, old);
    talk(&mut world, 10, 10 * MS, new);
    world.line(old).hole = [true; 2];
    let begun = world.arrivals.len();
    for number in 0..100 {
        world.roll(number);
        world.run(10 * MS);
    }
    world.run(Duration::from_secs(2));
    let gap = world.arrivals[begun - 1..].windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    assert!(gap < 250 * MS, "{gap:?}");
    assert_eq!(shares(&world).last().map(|(_, reason)| *reason), Some(ShiftReason::OldDied));
    let count = world.ends[1].got.len() as u64;
    world.assert_all_arrived(count);
}

#[test]
fn a_move_whose_traffic_goes_elsewhere_meanwhile_is_not_reported_as_completed() {
    let mut config = SessionConfig::default();
    config.gradual.step_max = Duration::from_secs(1);
    // A second choice is not to wait.
    config.switch_dwell = Duration::ZERO;
    let mut world = World::with_config(config);
    let [old, new] = [world.link(1, "tcp", 20 * MS, 0), world.link(2, "ws", 30 * MS, 0)];
    talk(&mut world, 200, 10 * MS, new);
    leave(&mut world, old);
    talk(&mut world, 10, 10 * MS, new);
    let third = world.link(3, "quic", 2 * MS, 0);
    for _ in 0..60 {
        leave(&mut world, old);
        talk(&mut world, 5, 10 * MS, third);
    }
    let said: Vec<_> = shares(&world);
    let over = said.iter().position(|(_, reason)| *reason == ShiftReason::Superseded { by: third }).unwrap();
    assert_eq!(said[over].0, 0.0);
    assert!(said[..over].iter().all(|(share, _)| *share < 1.0), "{said:?}");
    assert!(talk(&mut world, 20, 10 * MS, third) >= 1.0);
    let count = world.ends[1].got.len() as u64;
    world.assert_all_arrived(count);
}

#[test]
fn a_move_whose_traffic_is_back_on_the_old_link_is_not_reported_as_going_on() {
    let (mut world, [old, new]) = busy([5 * MS, 8 * MS]);
    leave(&mut world, old);
    talk(&mut world, 10, 10 * MS, new);
    // One answer of the new link is late: it is suspected, and its traffic goes back at once.
    world.line(new).hole[1] = true;
    for _ in 0..200 {
        if world.ends[0].session.paths[&new].suspicions > 0 {
            break;
        }
        leave(&mut world, old);
        talk(&mut world, 1, 10 * MS, new);
    }
    assert!(world.ends[0].session.paths[&new].suspicions > 0);
    let class = MessageClass::Realtime;
    talk(&mut world, 1, MS, new);
    assert_eq!(world.ends[0].session.chooser.standing(class), Some(old));
    world.line(new).hole[1] = false;
    // It is not about to fail any more, so nothing goes to the new one again.
    let mut opinion = opinion(old);
    opinion.advice = Advice::Keep;
    let now = world.now;
    world.ends[0].session.on_opinion(now, opinion);
    talk(&mut world, 300, 10 * MS, old);
    assert_eq!(world.ends[0].session.chooser.standing(class), Some(old));
    assert_eq!(shares(&world), [(0.1, ShiftReason::Leaving), (0.0, ShiftReason::Returned)]);
    assert!(world.ends[0].session.gradual.is_none());
    let count = world.ends[1].got.len() as u64;
    world.assert_all_arrived(count);
}

#[test]
fn what_may_not_go_over_a_link_any_more_is_moved_off_it_at_once() {
    for required in [true, false] {
        let mut config = SessionConfig::default();
        config.gradual.preferences = true;
        config.requirements.by_class.realtime =
            required.then_some(Needs { security_min: 0.9, ..RequirementsConfig::default().of(MessageClass::Realtime) });
        let mut world = World::with_config(config);
        let plain = world.link(1, "tcp", 40 * MS, 0);
        talk(&mut world, 100, 10 * MS, plain);
        let sealed = world.link(2, "tls", 5 * MS, 0);
        talk(&mut world, 50, 10 * MS, sealed);
        let over_plain = talk(&mut world, 50, 10 * MS, plain);
        assert_eq!(shares(&world).is_empty(), required, "{:?}", shares(&world));
        assert_eq!(over_plain < 0.1, required, "{over_plain}");
    }
}

#[test]
fn copies_of_what_waits_on_a_suspected_link_go_over_what_meets_the_same_needs() {
    let mut config = SessionConfig::default();
    config.requirements.by_class.realtime =
        Some(Needs { security_min: 0.9, ..RequirementsConfig::default().of(MessageClass::Realtime) });
    let mut world = World::with_config(config);
    let plain = world.link(1, "tcp", 2 * MS, 0);
    let [first, second] = [world.link(2, "tls", 10 * MS, 0), world.link(3, "quic", 30 * MS, 0)];
    talk(&mut world, 100, 10 * MS, first);
    const LARGE: usize = 8_000;
    let over_plain = |world: &World| world.ends[0].session.paths[&plain].stats.bytes_sent;
    let before = over_plain(&world);
    world.line(first).hole = [true; 2];
    for _ in 0..10 {
        let (now, large) = (world.now, Outgoing::new(MessageClass::Realtime, Bytes::from(vec![7; LARGE])));
        world.ends[0].send(large, now);
        world.run(10 * MS);
    }
    world.run(Duration::from_secs(1));
    assert!(world.ends[0].session.paths[&second].stats.bytes_sent > 10 * LARGE as u64);
    let more = over_plain(&world) - before;
    assert!(more < LARGE as u64, "probes and acknowledgements only: {more}");
    let count = world.ends[1].got.len() as u64;
    world.assert_all_arrived(count);
}

#[test]
fn when_the_new_link_dies_everything_goes_back() {
    let (mut world, [old, new]) = busy([5 * MS, 8 * MS]);
    leave(&mut world, old);
    talk(&mut world, 10, 10 * MS, new);
    world.reset(new);
    assert_eq!(shares(&world).last(), Some(&(0.0, ShiftReason::NewDied)));
    assert!(talk(&mut world, 20, 10 * MS, old) >= 1.0);
    let count = world.ends[1].got.len() as u64;
    world.assert_all_arrived(count);
}

#[test]
fn what_is_only_preferred_is_moved_to_in_steps_too_unless_that_is_switched_off() {
    for preferences in [true, false] {
        let mut config = SessionConfig::default();
        config.gradual.preferences = preferences;
        let mut world = World::with_config(config);
        let old = world.link(1, "tcp", 40 * MS, 0);
        talk(&mut world, 100, 10 * MS, old);
        let new = world.link(2, "ws", 5 * MS, 0);
        talk(&mut world, 800, 10 * MS, new);
        let steps: Vec<f64> = shares(&world).into_iter().map(|(share, _)| share).collect();
        assert_eq!(steps, if preferences { vec![0.1, 0.3, 0.6, 1.0, 1.0] } else { vec![] });
        assert!(talk(&mut world, 20, 10 * MS, new) >= 1.0);
    }
}
