//! What a session reports of its links' health and what it does about opinions.

use bowline_messages::health::{
    Advice, Confidence, Evidence, Finding, Layer, LinkObserved, LinkOpinion, Outlook, Quality, Rule, Turn,
};
use bowline_messages::link::LinkStep;

use super::*;

fn opinion(link: LinkId, advice: Advice) -> LinkOpinion {
    LinkOpinion {
        link,
        advice,
        degrading: Confidence::new(0.95),
        unusable: Confidence::NONE,
        outlook: Outlook { probability: Confidence::new(0.9), seconds: Some(2.0) },
        doubt: Confidence::NONE,
        findings: vec![Finding::new(Layer::Trend, Rule::TrendMeetsLimit, Confidence::new(0.9), &[100.0, 1_000.0, 2.0])],
        quality: Quality::default(),
    }
}

/// A world with traffic for long enough that its links are watched.
fn busy(links: &[(&str, Duration)]) -> (World, Vec<LinkId>) {
    let mut world = World::new();
    let ids = links.iter().zip(1..).map(|((name, latency), number)| world.link(number, name, *latency, 0)).collect();
    talk(&mut world, 2_000);
    (world, ids)
}

/// A message every 10 ms for so long.
fn talk(world: &mut World, millis: u64) {
    for number in 0..millis / 10 {
        world.roll(number);
        world.run(10 * MS);
    }
}

fn observed(world: &World) -> Vec<&LinkObserved> {
    let seen = world.ends[0].health.iter().filter_map(|output| {
        let Output::Seen(seen) = output else { return None };
        Some(seen)
    });
    seen.flatten().map(|(_, observed)| observed).collect()
}

fn say(world: &mut World, opinion: LinkOpinion) {
    let now = world.now;
    world.ends[0].session.on_opinion(now, opinion);
    world.pump();
}

fn state(world: &World, id: LinkId) -> LinkState {
    let links = world.ends[0].session.link_statuses(world.now);
    links.iter().find(|link| link.info.id == id).unwrap().state
}

fn left(world: &World) -> Vec<(LinkId, LinkId, &Evidence)> {
    let event = |event| {
        let &EventKind::ProactiveFailover { from, to, ref evidence, .. } = event else { return None };
        Some((from, to, &**evidence))
    };
    world.ends[0].events.iter().filter_map(event).collect()
}

#[test]
fn traffic_is_reported_twice_a_second_in_few_samples_and_silence_not_at_all() {
    let (mut world, ids) = busy(&[("tcp", 5 * MS)]);
    let reports = observed(&world);
    assert!((1..=4).contains(&reports.len()), "{}", reports.len());
    assert!(reports.iter().all(|seen| seen.link == ids[0] && (1..=16).contains(&seen.round_trips.len())));
    assert!(reports.iter().all(|seen| seen.round_trips.iter().all(|trip| trip.took.is_some_and(|t| t >= 10 * MS))));
    world.ends[0].health.clear();
    world.run(Duration::from_secs(10));
    assert!(observed(&world).len() <= 4, "what was left to say, and then nothing");
    world.ends[0].health.clear();
    world.run(Duration::from_secs(600));
    assert!(world.ends[0].health.is_empty() && world.ends[0].session.watch.is_none());
}

#[test]
fn a_greeting_is_not_worth_a_record() {
    let mut world = World::new();
    world.link(1, "tcp", 5 * MS, 0);
    talk(&mut world, 50);
    world.run(Duration::from_secs(60));
    assert!(world.ends[0].session.watch.is_none() && world.ends[0].health.is_empty());
}

#[test]
fn a_mistrusted_link_is_degraded_with_the_rule_and_active_again_a_second_after_it_is_well() {
    let (mut world, ids) = busy(&[("tcp", 5 * MS), ("ws", 8 * MS)]);
    say(&mut world, opinion(ids[0], Advice::Mistrust));
    assert_eq!(state(&world, ids[0]), LinkState::Degraded);
    let reason = LinkFailure::Worsening(Layer::Trend, Rule::TrendMeetsLimit);
    let step = world.ends[0].events.iter().find_map(|event| {
        let EventKind::LinkStep { step, reason: Some(why), evidence, .. } = event else { return None };
        evidence.as_deref().filter(|_| *step == LinkStep::QualityDecline && *why == reason)
    });
    let evidence = step.expect("an event with evidence");
    assert_eq!((evidence.confidence.value(), evidence.alternatives[0].id), (0.95, ids[1]));
    assert!(evidence.alternatives[0].score.is_some());
    talk(&mut world, 3_000);
    assert_eq!(state(&world, ids[0]), LinkState::Degraded, "as long as the monitor says so");
    assert!(left(&world).is_empty());
    say(&mut world, opinion(ids[0], Advice::Keep));
    talk(&mut world, 900);
    assert_eq!(state(&world, ids[0]), LinkState::Degraded);
    talk(&mut world, 200);
    assert_eq!(state(&world, ids[0]), LinkState::Active);
}

#[test]
fn a_link_that_is_about_to_fail_is_left_once_and_nothing_is_sent_again() {
    let (mut world, ids) = busy(&[("tcp", 5 * MS), ("ws", 200 * MS)]);
    world.roll(1);
    world.pump();
    say(&mut world, opinion(ids[0], Advice::Leave));
    say(&mut world, opinion(ids[0], Advice::Leave));
    let [(from, to, evidence)] = left(&world)[..] else { panic!("{:?}", left(&world)) };
    assert_eq!((from, to, evidence.findings[0].rule), (ids[0], ids[1], Rule::TrendMeetsLimit));
    let sent = world.ends[0].session.link_statuses(world.now);
    assert!(sent.iter().all(|link| link.stats.frames_rerouted == 0 && link.stats.records_lost == 0));
    // Once everything has moved it may die: nobody has to fail over.
    for _ in 0..5 {
        talk(&mut world, 1_000);
        say(&mut world, opinion(ids[0], Advice::Leave));
    }
    world.line(ids[0]).hole = [true, true];
    talk(&mut world, 2_000);
    world.run(Duration::from_secs(5));
    let started = |event: &&EventKind| matches!(event, EventKind::FailoverStarted { .. });
    assert_eq!(world.ends[0].events.iter().filter(started).count(), 0);
    let count = world.ends[1].got.len() as u64;
    world.assert_all_arrived(count);
}

#[test]
fn without_another_link_a_spare_is_wanted_and_the_link_is_used_on() {
    let (mut world, ids) = busy(&[("tcp", 5 * MS)]);
    for _ in 0..3 {
        say(&mut world, opinion(ids[0], Advice::Leave));
    }
    assert!(left(&world).is_empty());
    let wanted = world.ends[0].health.iter().filter(|output| **output == Output::WantSpare);
    assert_eq!(wanted.count(), 1, "however often the monitor says the same");
    let before = world.ends[1].got.len();
    talk(&mut world, 100);
    world.run(100 * MS);
    assert_eq!(world.ends[1].got.len(), before + 10);
    let spare = world.link(2, "ws", 50 * MS, 0);
    talk(&mut world, 500);
    say(&mut world, opinion(ids[0], Advice::Leave));
    assert_eq!(left(&world).first().map(|(_, to, _)| *to), Some(spare), "as soon as there is one");
}

#[test]
fn an_opinion_that_is_not_renewed_counts_no_more() {
    let (mut world, ids) = busy(&[("tcp", 5 * MS), ("ws", 8 * MS)]);
    say(&mut world, opinion(ids[0], Advice::Mistrust));
    talk(&mut world, 8_000);
    assert_eq!(state(&world, ids[0]), LinkState::Active, "the monitor is gone");
}

#[test]
fn a_session_that_was_not_running_begins_its_waiting_anew() {
    for starved in [false, true] {
        let (mut world, ids) = busy(&[("tcp", 5 * MS), ("ws", 8 * MS)]);
        world.roll(1);
        world.pump();
        // Nothing runs here for a second; the answer waits to be read.
        world.now += Duration::from_secs(1);
        let now = world.now;
        if starved {
            assert!(!world.ends[0].session.on_late(now, 50 * MS), "as late as timers are");
            assert!(world.ends[0].session.on_late(now, Duration::from_secs(1)));
        }
        world.ends[0].with(|session, parts| session.on_timeout(now, parts));
        let suspected = state(&world, ids[0]) != LinkState::Active || state(&world, ids[1]) != LinkState::Active;
        assert_eq!(suspected, !starved);
    }
}

#[test]
fn lateness_is_forgiven_now_and_then_so_that_a_node_that_is_always_late_still_judges_its_links() {
    let (mut world, ids) = busy(&[("tcp", 5 * MS), ("ws", 8 * MS)]);
    world.line(ids[0]).hole = [true, true];
    let began = world.now;
    while state(&world, ids[0]).is_usable() && world.now < began + Duration::from_secs(10) {
        let now = world.now;
        // Neither side is ever in time, so that none tells the other.
        for end in &mut world.ends {
            end.session.on_late(now, 60 * MS);
        }
        talk(&mut world, 10);
    }
    assert!(world.now < began + Duration::from_secs(2), "{:?}", world.now - began);
}

#[test]
fn a_session_that_ends_leaves_no_record_of_its_links_with_the_monitors() {
    let (mut world, ids) = busy(&[("tcp", 5 * MS), ("ws", 8 * MS)]);
    world.ends[0].health.clear();
    world.ends[0].session.abandon(&LinkFailure::ClosedHere("the session ends".into()));
    world.pump_side(0);
    let gone = |id: LinkId| {
        world.ends[0]
            .health
            .iter()
            .any(|output| matches!(output, Output::Turned(_, turn) if turn.link == id && turn.turn == Turn::Gone))
    };
    assert!(ids.into_iter().all(gone), "{:?}", world.ends[0].health);
}

#[test]
fn records_that_were_rejected_before_a_link_was_watched_are_no_errors_of_now() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.run(100 * MS);
    let forge = |world: &mut World, count: usize| {
        let mut packet = BytesMut::new();
        for _ in 0..count {
            packet.extend_from_slice(&[0, 0, 0, 40]);
            packet.extend_from_slice(&[0x10; 40]);
        }
        let now = world.now;
        world.ends[0].with(|session, parts| session.on_arrived(now, one, packet, parts));
    };
    let errors = |world: &World| observed(world).iter().map(|seen| seen.errors).sum::<u32>();
    forge(&mut world, 7);
    talk(&mut world, 2_000);
    assert!(!observed(&world).is_empty());
    assert_eq!(errors(&world), 0, "nobody knows when they came");
    forge(&mut world, 3);
    talk(&mut world, 1_000);
    assert_eq!(errors(&world), 3);
}

#[test]
fn one_failure_is_one_penalty_whether_it_was_concluded_first_or_not() {
    let (mut world, ids) = busy(&[("tcp", 5 * MS), ("ws", 8 * MS)]);
    let penalty = |world: &World| world.ends[0].session.failures(world.now, &info(ids[0], true, "tcp"));
    world.line(ids[0]).hole = [true, true];
    while state(&world, ids[0]).is_usable() {
        talk(&mut world, 10);
    }
    let concluded = penalty(&world);
    assert!(concluded > 0.0);
    while world.ends[0].session.link(ids[0]).is_some() {
        talk(&mut world, 50);
    }
    assert!(penalty(&world) > 0.0 && penalty(&world) <= concluded, "{} after {concluded}", penalty(&world));
}

#[test]
fn monitors_are_told_which_links_fell_and_which_were_closed() {
    let (mut world, ids) = busy(&[("tcp", 5 * MS), ("ws", 8 * MS)]);
    world.reset(ids[0]);
    let turns = |world: &World| -> Vec<(LinkId, Turn)> {
        let turn = |output: &Output| {
            let Output::Turned(_, turn) = output else { return None };
            Some((turn.link, turn.turn))
        };
        world.ends[0].health.iter().filter_map(turn).collect()
    };
    assert_eq!(turns(&world), [(ids[0], Turn::Fell), (ids[0], Turn::Gone)]);
    world.ends[0].health.clear();
    let now = world.now;
    let closed = LinkFailure::ClosedHere("no longer needed".into());
    world.ends[0].with(|session, parts| session.on_link_down(now, ids[1], closed, parts));
    world.pump();
    assert_eq!(turns(&world), [(ids[1], Turn::Gone)]);
}
