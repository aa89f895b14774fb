//! Two session machines over simulated links in virtual time: the delivery contract, and each rule of `docs/sessions.md` on
//! acknowledgement and retransmission.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::config::SessionConfig;
use bowline_messages::event::EventKind;
use bowline_messages::link::{LinkFailure, LinkInfo, LinkState};
use bowline_messages::session::{Outgoing, ReceiptState, Received};
use bowline_messages::{ChannelId, Delivery, Incarnation, LinkId, MessageClass, PeerId, PolicyName};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::inbound::{Inbound, InboundLimits};
use super::machine::{KeyRing, LinkJoin, LinkKeys, Output, Parts, Session};
use super::outbox::{Outbox, OutboxLimits, PeerLimits};
use super::seal::{Opener, RotationLimits, Sealer, TrafficSecret};
use super::trust::Behaviour;

mod budget;
mod datagrams;
mod edges;
mod fuzz;
mod guards;
mod health;
mod lateness;
mod parting;
mod recovery;
mod replayed_attach;
mod shift;
mod standing;
mod verdicts;
mod world;

use world::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn messages_arrive_and_their_receipts_say_so() {
    let mut world = World::new();
    world.link(1, "tcp", 5 * MS, 0);
    let first = world.roll(1);
    assert_eq!(world.state(first), ReceiptState::Accepted);
    world.pump();
    assert_eq!(world.state(first), ReceiptState::OnWire);
    world.run(100 * MS);
    assert_eq!(world.state(first), ReceiptState::Acknowledged);
    world.assert_all_arrived(1);
}

#[test]
fn a_receipt_is_acknowledged_only_once_the_application_has_the_message() {
    let mut world = World::new();
    world.link(1, "tcp", 5 * MS, 0);
    world.ends[1].appetite = 0;
    let first = world.roll(1);
    world.run(500 * MS);
    assert_eq!(world.state(first), ReceiptState::OnWire, "it is there, but nobody has it");
    world.ends[1].appetite = usize::MAX;
    world.run(500 * MS);
    assert_eq!(world.state(first), ReceiptState::Acknowledged);
}

#[test]
fn an_idle_session_keeps_its_links_and_costs_little() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.link(2, "ws", 5 * MS, 0);
    world.run(Duration::from_secs(600));
    assert!(world.sent < 600 * 2, "{} packets in ten minutes", world.sent);
    assert!(world.ends[0].session.link(one).is_some());
    let failures = world.ends[0].events.iter().filter(|e| matches!(e, EventKind::LinkStep { .. })).count();
    assert_eq!(failures, 0);
}

#[test]
fn a_reset_is_survived_within_one_round_trip() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.link(2, "ws", 8 * MS, 0);
    world.run(Duration::from_secs(1));
    let gap = world.drip(300, 10 * MS, |world, number| {
        if number == 150 {
            world.reset(one);
        }
    });
    world.assert_all_arrived(300);
    assert!(gap <= 25 * MS, "{gap:?}");
}

#[test]
fn a_black_hole_is_found_by_unacknowledged_data() {
    for direction in [[true, true], [true, false], [false, true]] {
        let mut world = World::new();
        let one = world.link(1, "tcp", MS, 0);
        world.link(2, "ws", 2 * MS, 0);
        world.run(Duration::from_secs(1));
        let gap = world.drip(300, 10 * MS, |world, number| {
            if number == 150 {
                world.line(one).hole = direction;
            }
        });
        world.assert_all_arrived(300);
        assert!(gap <= 40 * MS, "{direction:?}: {gap:?}");
    }
}

#[test]
fn a_link_that_passes_small_frames_and_drops_large_ones_is_left() {
    let mut world = World::new();
    let one = world.link(1, "tcp", MS, 0);
    world.link(2, "ws", 20 * MS, 0);
    world.run(Duration::from_secs(1));
    world.line(one).largest = 500;
    let now = world.now;
    for number in 0..100u64 {
        world.ends[0].send(Outgoing::new(MessageClass::Critical, vec![number as u8; 2000]), now);
    }
    world.run(Duration::from_secs(3));
    world.assert_all_arrived(100);
    let stalled = world.ends[0].events.iter().any(|event| {
        matches!(event, EventKind::LinkStep { link, reason: Some(LinkFailure::Stalled(_) | LinkFailure::Unacknowledged(_)), .. } if *link == one)
    });
    assert!(stalled, "{:?}", world.ends[0].events);
}

#[test]
fn liveness_rule_answered_probes_do_not_keep_a_link_that_carries_nothing() {
    let mut world = World::new();
    let one = world.link(1, "tcp", MS, 0);
    world.link(2, "ws", 20 * MS, 0);
    world.run(Duration::from_secs(1));
    world.line(one).largest = 90;
    let now = world.now;
    world.ends[0].send(Outgoing::new(MessageClass::Realtime, vec![0; 400]), now);
    world.run(Duration::from_secs(1));
    world.assert_all_arrived(1);
    let states: Vec<_> =
        world.ends[0].session.link_statuses(world.now).into_iter().map(|s| (s.info.id, s.state)).collect();
    assert!(!states.contains(&(one, LinkState::Active)), "{states:?}");
}

#[test]
fn a_slow_link_is_no_dead_link() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 20 * MS, 20_000);
    world.run(Duration::from_secs(1));
    let now = world.now;
    for _ in 0..100 {
        world.ends[0].send(Outgoing::new(MessageClass::Bulk, vec![7; 10_000]), now);
    }
    world.run(Duration::from_secs(70));
    world.assert_all_arrived(100);
    assert!(world.ends[0].session.link(one).is_some());
    let (_, duplicates) = world.ends[1].inbound.totals();
    assert_eq!(duplicates, 0, "nothing was sent twice on the only link");
}

#[test]
fn bulk_does_not_delay_a_dice_roll_by_more_than_60_ms_at_1_mbit() {
    for latency in [2 * MS, 20 * MS, 60 * MS] {
        let mut world = World::new();
        world.link(1, "tcp", latency, 125_000);
        world.run(Duration::from_secs(3));
        let now = world.now;
        for _ in 0..200 {
            world.ends[0].send(Outgoing::new(MessageClass::Bulk, vec![7; 16_000]).on(ChannelId(9)), now);
        }
        world.run(Duration::from_secs(3));
        let mut worst = Duration::ZERO;
        for number in 0..80 {
            let sent = world.now;
            world.roll(number);
            world.run(203 * MS);
            let arrived = world.arrivals.iter().rev().find(|(_, s)| *s == number && world.ends[1].got.len() > 1);
            worst = worst.max(
                arrived.map_or(Duration::MAX, |(at, _)| at.saturating_duration_since(sent)).min(Duration::from_secs(9)),
            );
        }
        assert!(worst <= latency + 60 * MS, "{latency:?}: {worst:?}");
    }
}

#[test]
fn all_links_down_for_a_minute_and_back() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    let two = world.link(2, "ws", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    world.roll(0);
    world.reset(one);
    world.reset(two);
    for number in 1..50 {
        world.roll(number);
        world.run(Duration::from_secs(1));
    }
    world.run(Duration::from_secs(10));
    world.link(3, "tcp", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    world.assert_all_arrived(50);
    assert_eq!(world.state(49), ReceiptState::Acknowledged);
}

#[test]
fn a_peer_that_is_stopped_and_continued_loses_nothing() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    let two = world.link(2, "ws", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    // Stopped: nothing comes back, and what was sent to it waits in its buffers.
    world.line(one).latency = Duration::from_secs(10);
    world.line(two).latency = Duration::from_secs(10);
    for number in 0..20 {
        world.roll(number);
        world.run(500 * MS);
    }
    world.line(one).latency = 5 * MS;
    world.line(two).latency = 5 * MS;
    world.run(Duration::from_secs(30));
    world.assert_all_arrived(20);
}

#[test]
fn a_receiver_that_does_not_read_stops_the_sender_and_nothing_else() {
    let config = SessionConfig { channel_window: 64 << 10, queue_bytes: 1 << 20, ..SessionConfig::default() };
    let mut world = World::with_config(config);
    world.link(1, "tcp", MS, 0);
    world.ends[1].appetite = 0;
    let mut refused = false;
    for _ in 0..300 {
        let now = world.now;
        let message = Outgoing::new(MessageClass::Bulk, vec![1; 10_000]);
        refused |= world.ends[0].outbox.push(message, None).is_err();
        let _ = now;
        world.run(10 * MS);
    }
    assert!(refused, "the queue is bounded");
    assert!(world.ends[1].inbound.has_deliveries());
    let now = world.now;
    world.ends[1].send(Outgoing::new(MessageClass::Realtime, vec![2; 10]), now);
    world.run(100 * MS);
    assert_eq!(world.ends[0].got.len(), 1, "the other direction is not stalled");
    world.ends[1].appetite = usize::MAX;
    world.run(Duration::from_secs(5));
    let (queued, _) = world.ends[0].outbox.queued();
    assert_eq!(queued, 0);
}

#[test]
fn a_restarted_session_actor_sends_again_what_is_not_acknowledged_and_nothing_arrives_twice() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 20 * MS, 1_000_000);
    let two = world.link(2, "ws", 20 * MS, 1_000_000);
    world.run(Duration::from_secs(1));
    for number in 0..200 {
        world.roll(number);
        if number % 50 == 20 {
            restart_session(&mut world, usize::from(number % 100 == 20), &[one, two]);
        }
        world.run(3 * MS);
    }
    world.run(Duration::from_secs(5));
    world.assert_all_arrived(200);
}

/// What the actor does when it comes back after a panic.
fn restart_session(world: &mut World, side: usize, links: &[LinkId]) {
    let (now, config) = (world.now, world.config.clone());
    let end = &mut world.ends[side];
    let peer = PeerId::from_bytes([if side == 0 { 2 } else { 1 }; 32]);
    end.session = Session::new(peer, Incarnation(1), Some(Incarnation(1)), Rc::new(config.clone()));
    end.outbox.on_session_restarted();
    end.inbound.on_session_restarted();
    for (at, id) in links.iter().enumerate() {
        end.keys.get_mut(id).unwrap().sealer.rotate(now).unwrap();
        let name = if at == 0 { "tcp" } else { "ws" };
        let join = LinkJoin {
            info: info(*id, side == 0, name),
            lanes: 1,
            handshake_rtt: 40 * MS,
            ack_delay_max: config.ack_delay,
            confirmed: true,
            peer_limits: peer_limits(&config),
        };
        end.session.on_link_up(now, end.id, join);
    }
}

#[test]
fn keys_rule_a_restarted_session_seals_under_a_new_epoch() {
    let mut world = World::new();
    let one = world.link(1, "tcp", MS, 0);
    world.run(100 * MS);
    let before = world.ends[0].keys[&one].sealer.epoch();
    restart_session(&mut world, 0, &[one]);
    assert_eq!(world.ends[0].keys[&one].sealer.epoch(), before + 1);
    world.roll(1);
    world.run(200 * MS);
    world.assert_all_arrived(1);
}

#[test]
fn a_peer_that_started_anew_gets_what_was_never_sent_and_receipts_tell_the_rest() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.run(100 * MS);
    world.ends[1].appetite = 0;
    let on_wire = world.roll(0);
    world.run(50 * MS);
    world.reset(one);
    let queued = world.roll(1);
    world.ends[1] = End::new(2, 1, 2, &world.config);
    world.run(Duration::from_secs(1));
    world.link(2, "tcp", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    assert_eq!(world.state(on_wire), ReceiptState::Unknown);
    assert_eq!(world.state(queued), ReceiptState::Acknowledged);
    assert_eq!(world.ends[1].got.iter().map(|m| m.sequence).collect::<Vec<_>>(), [queued]);
}

#[test]
fn an_expired_message_leaves_its_channel_free() {
    let mut world = World::new();
    let now = world.now;
    let expires = Outgoing { expires_in: Some(50 * MS), ..Outgoing::new(MessageClass::Realtime, vec![0; 8]) };
    let first = world.ends[0].send(expires, now);
    let second = world.roll(1);
    world.run(Duration::from_secs(1));
    world.link(1, "tcp", MS, 0);
    world.run(Duration::from_secs(1));
    assert_eq!(world.state(first), ReceiptState::Expired);
    assert_eq!(world.state(second), ReceiptState::Acknowledged);
    assert_eq!(world.ends[1].got.len(), 1);
}

#[test]
fn latest_only_replaces_what_waits_and_at_most_once_is_never_sent_again() {
    let mut world = World::new();
    let now = world.now;
    let latest = Outgoing { delivery: Delivery::LatestOnly, ..Outgoing::new(MessageClass::Realtime, vec![0; 8]) };
    let old: Vec<_> = (0..5).map(|_| world.ends[0].send(latest.clone(), now)).collect();
    let one = world.link(1, "tcp", 20 * MS, 0);
    world.run(500 * MS);
    assert_eq!(old.iter().map(|s| world.state(*s)).filter(|s| *s == ReceiptState::NotSent).count(), 4);
    assert_eq!(world.ends[1].got.len(), 1);
    let once = Outgoing { delivery: Delivery::AtMostOnce, ..Outgoing::new(MessageClass::Realtime, vec![0; 8]) };
    let now = world.now;
    let lost = world.ends[0].send(once, now);
    world.pump();
    world.reset(one);
    let after = world.roll(9);
    world.link(2, "ws", 20 * MS, 0);
    world.run(Duration::from_secs(1));
    assert_eq!(world.state(lost), ReceiptState::Unknown);
    assert_eq!(world.state(after), ReceiptState::Acknowledged);
    assert_eq!(world.ends[1].got.len(), 2);
}

#[test]
fn redundant_messages_go_over_two_links_and_arrive_once() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.link(2, "ws", 6 * MS, 0);
    world.run(Duration::from_secs(1));
    let mut worst = Duration::ZERO;
    for number in 0..200 {
        if number == 100 {
            world.line(one).hole = [true; 2];
        }
        let now = world.now;
        let message =
            Outgoing { policy: Some(PolicyName::Redundant), ..Outgoing::new(MessageClass::Realtime, vec![0; 8]) };
        world.ends[0].send(message, now);
        world.run(10 * MS);
        let arrived = world.arrivals.last().map_or(Duration::MAX, |(at, _)| at.saturating_duration_since(now));
        worst = worst.max(arrived);
    }
    world.run(Duration::from_secs(1));
    world.assert_all_arrived(200);
    assert!(worst <= 8 * MS, "{worst:?}");
}

#[test]
fn bulk_is_striped_over_two_links_of_the_same_rate() {
    let transfer = |links: u32| {
        let mut world = World::new();
        for number in 1..=links {
            world.link(number, if number == 1 { "tcp" } else { "ws" }, 10 * MS, 1_000_000);
        }
        world.run(Duration::from_secs(1));
        let start = world.now;
        for _ in 0..300 {
            world.ends[0].send(Outgoing::new(MessageClass::Bulk, vec![7; 16_000]), start);
        }
        while world.ends[1].got.len() < 300 {
            world.run(10 * MS);
        }
        (world.now - start).as_secs_f64()
    };
    let (one, two) = (transfer(1), transfer(2));
    assert!(one / two >= 1.7, "{one} s over one link, {two} s over two");
}

#[test]
fn a_flapping_link_is_avoided_and_traffic_does_not_flap_with_it() {
    let mut world = World::new();
    let flapper = world.link(1, "tcp", MS, 0);
    world.link(2, "ws", 6 * MS, 0);
    world.run(Duration::from_secs(1));
    for number in 0..600u64 {
        let down = number / 25 % 2 == 1;
        world.line(flapper).hole = [down; 2];
        world.roll(number);
        world.run(20 * MS);
    }
    world.run(Duration::from_secs(10));
    world.assert_all_arrived(600);
    let switches = world.ends[0].events.iter().filter(|e| matches!(e, EventKind::LinkPreferred { .. })).count();
    assert!(switches <= 8, "{switches} changes of the preferred link");
}

#[test]
fn acknowledgement_rule_a_dead_link_gets_no_credit_for_what_its_spare_delivered() {
    let mut world = World::new();
    let one = world.link(1, "tcp", MS, 0);
    world.link(2, "ws", MS, 0);
    world.run(Duration::from_secs(1));
    world.line(one).hole = [true; 2];
    world.drip(20, 10 * MS, |_, _| {});
    world.assert_all_arrived(20);
    let status = world.ends[0].session.link_statuses(world.now);
    let dead = status.iter().find(|s| s.info.id == one);
    assert!(dead.is_none_or(|s| !s.state.is_usable()), "{status:?}");
}

#[test]
fn forged_and_replayed_records_change_nothing_but_a_counter() {
    let mut world = World::new();
    let one = world.link(1, "tcp", MS, 0);
    world.run(100 * MS);
    world.roll(0);
    world.pump();
    let Some(Flight(_, side, link, data)) = world.flights.pop() else { panic!("nothing was sent") };
    let now = world.now;
    let mut forged = data.clone();
    *forged.last_mut().unwrap() ^= 1;
    for packet in [&forged, &data, &data] {
        world.ends[side].with(|s, parts| s.on_arrived(now, link, BytesMut::from(&packet[..]), parts));
    }
    world.run(100 * MS);
    world.assert_all_arrived(1);
    let stats = world.ends[1].session.link_statuses(world.now).into_iter().find(|s| s.info.id == one).unwrap().stats;
    assert_eq!(stats.records_rejected, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// For any sequence of cuts, what arrives is what was accepted: once, in order.
    #[test]
    fn any_sequence_of_faults_loses_and_duplicates_nothing(
        faults in prop::collection::vec((0u8..7, 0u32..3, 1u64..400), 1..25),
        sizes in prop::collection::vec(prop_oneof![3 => 0usize..200, 1 => 10_000usize..60_000], 30),
    ) {
        let mut world = World::new();
        let mut links: Vec<LinkId> = (1..=3).map(|n| world.link(n, ["tcp", "tls", "ws"][n as usize - 1], MS * n * 4, 500_000)).collect();
        let mut next = 4;
        let mut sent = 0;
        let mut sizes = sizes.into_iter().cycle();
        for (kind, which, wait) in faults {
            let id = links[which as usize];
            let name = ["tcp", "tls", "ws"][which as usize];
            match kind {
                0 => world.reset(id),
                1 => world.line(id).hole = [true, true],
                2 => world.line(id).hole = [true, false],
                3 => world.line(id).hole = [false, true],
                4 => world.line(id).hole = [false, false],
                5 => {
                    let live: Vec<_> = [0usize, 1].into_iter().filter(|s| world.ends[*s].keys.contains_key(&id)).collect();
                    if live.len() == 2 && world.lines[&id].up {
                        world.reset(id);
                    }
                    links[which as usize] = world.link(next, name, MS * (next % 30) + MS, 500_000);
                    next += 1;
                }
                _ => world.line(id).largest = if wait % 2 == 0 { 300 } else { usize::MAX },
            }
            for _ in 0..3 {
                let now = world.now;
                let class = MessageClass::ALL[sent % 5];
                world.ends[0].send(Outgoing::new(class, vec![sent as u8; sizes.next().unwrap_or(0)]), now);
                sent += 1;
            }
            world.run(MS * wait as u32);
        }
        // A good link at the end, as long as it takes.
        world.link(next, "memory", 5 * MS, 0);
        world.run(Duration::from_secs(60));
        world.assert_all_arrived(sent as u64);
        for (at, message) in world.ends[1].got.iter().enumerate() {
            prop_assert!(message.payload.iter().all(|b| *b == at as u8));
        }
    }
}
