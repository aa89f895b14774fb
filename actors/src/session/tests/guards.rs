//! What a review of the sessions found, and what keeps it from coming back.

use std::cell::RefCell;

use bowline_messages::session::SendError;

use super::super::inbound::InboundError;
use super::super::outbox::SentItem;
use super::super::path::{Path, RecordItem};
use super::super::window::WindowConfig;
use super::*;
use crate::testing::sim::{Behaviour as App, LinkShape, NodeOptions, Simulation, run};

#[test]
fn an_honest_sender_may_give_up_every_other_message_of_a_full_queue() {
    let mut world = World::new();
    for number in 0..3000 {
        let now = world.now;
        let expires_in = (number % 2 == 1).then_some(50 * MS);
        world.ends[0].send(Outgoing { expires_in, ..Outgoing::new(MessageClass::Realtime, vec![0; 8]) }, now);
    }
    world.run(Duration::from_secs(1));
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.run(Duration::from_secs(5));
    assert_eq!(world.ends[1].got.len(), 1500);
    assert!(world.ends[1].session.link(one).is_some() && world.ends[1].observed.is_empty());
    assert!(world.ends[0].outbox.is_settled());
}

#[test]
fn what_is_skipped_ahead_is_counted_and_bounded_by_the_window() {
    const WINDOW: u64 = 3200;
    let limits =
        InboundLimits { channel_window: WINDOW, session_window: WINDOW * 4, message_bytes: 100, channels: 256 };
    let mut inbound = Inbound::new(limits, true);
    let mut skip = |channel: u32, at: u64| {
        let result = inbound.on_skip(ChannelId(channel), at * 2 + 1, at * 2 + 2);
        inbound.audit();
        (result, inbound.held())
    };
    let on_one: Vec<_> = (0..1000).map(|at| skip(0, at)).collect();
    let kept = on_one.iter().filter(|(result, _)| result.is_ok()).count() as u64;
    assert_eq!((kept, on_one[999].0), (WINDOW / 32 + 2, Err(InboundError::Window)));
    assert_eq!(on_one[999].1, kept * 32);
    let on_all = (1..200).map(|channel| (0..WINDOW / 32).map(|at| skip(channel, at).1).max()).max();
    assert!(on_all.flatten() <= Some(WINDOW * 5 + 300 * 32), "{on_all:?}");
    // What was skipped leaves nothing behind once the gaps close.
    for channel in 0..200 {
        let _ = inbound.on_skip(ChannelId(channel), 0, 5000);
    }
    assert_eq!(inbound.held(), 0);
}

#[test]
fn pieces_of_a_small_message_are_few() {
    let limits =
        InboundLimits { channel_window: 1 << 20, session_window: 4 << 20, message_bytes: 1 << 16, channels: 4 };
    let mut inbound = Inbound::new(limits, true);
    let piece = Bytes::from_static(b"x");
    let mut every_other =
        (0..200).map(|at| inbound.on_fragment(ChannelId(0), 0, MessageClass::Bulk, 400, at * 2, &piece));
    assert!(every_other.by_ref().take(10).all(|result| result.is_ok()));
    assert_eq!(every_other.last(), Some(Err(InboundError::Fragments)));
    inbound.audit();
}

#[test]
fn a_stream_that_finds_no_room_leaves_nothing_behind() {
    let limits =
        InboundLimits { channel_window: 1 << 20, session_window: 4 << 20, message_bytes: 1 << 16, channels: 2 };
    let mut inbound = Inbound::new(limits, true);
    let open = |inbound: &mut Inbound, number| {
        let payload = Bytes::from_static(b"\x01label");
        inbound.on_message(ChannelId(ChannelId::STREAM_BASE + number), 0, MessageClass::Bulk, payload)
    };
    for number in 0..100 {
        assert_eq!(open(&mut inbound, number), if number < 4 { Ok(()) } else { Err(InboundError::Channels) });
        inbound.audit();
    }
}

#[test]
fn a_channel_that_was_given_up_does_not_begin_its_numbers_anew() {
    let [mut end, _] = World::new().ends;
    let now = Instant::now();
    let message = |channel| Outgoing::new(MessageClass::Bulk, vec![0; 8]).on(ChannelId(channel));
    end.send(message(0), now);
    end.send(message(1), now);
    let (mut out, mut items) = (BytesMut::new(), Vec::new());
    end.outbox.fill(MessageClass::Bulk.index(), 1000, &mut out, &mut items);
    end.outbox.audit();
    end.outbox.set_peer_limits(PeerLimits { channel_window: 1 << 20, message_bytes: 1 << 20, channels: 1 });
    end.outbox.audit();
    end.outbox.on_delivered(ChannelId(1), 1, 1 << 20).unwrap();
    let refused = end.outbox.push(message(1), None);
    assert_eq!(refused, Err(SendError::Closed), "it would be taken for a duplicate of the first one");
}

/// A peer that acknowledges everything but one record.
#[test]
fn a_record_that_is_never_acknowledged_among_others_that_are_is_given_up() {
    let now = Instant::now();
    let mut path = Path::new(now, info(LinkId(1), true, "tcp"), 1, 10 * MS, 2 * MS, WindowConfig::default());
    let told = RecordItem::Delivered(ChannelId(3), 7);
    path.on_sent(now, 0, 0, 40, &[told], true);
    let mut left_out = Vec::new();
    for counter in 1..20_000 {
        path.on_sent(now, 0, counter, 40, &[RecordItem::Delivered(ChannelId(0), counter)], true);
        let mut outcome = Default::default();
        path.on_ack(now, std::iter::once((counter, counter)), Duration::ZERO, &mut outcome);
        left_out.append(&mut outcome.left_out);
        let (records, items) = path.remembered();
        assert!(records <= 1025 && items <= 1025, "{records} records, {items} items after {counter}");
    }
    assert_eq!(left_out, [told], "what it carried is sent again");
    assert_eq!((path.window.in_flight(), path.stats.records_lost), (0, 1));
}

#[test]
fn keys_of_an_epoch_that_is_over_are_forgotten_without_another_record() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    world.roll(0);
    world.pump();
    // The record is lost on its way, and the next one is of another epoch.
    world.flights.clear();
    let now = world.now;
    world.ends[0].keys.get_mut(&one).unwrap().sealer.rotate(now).unwrap();
    world.roll(1);
    world.run(Duration::from_secs(1));
    let kept = |world: &World| world.ends[1].keys[&one].opener.previous_epoch();
    assert_eq!(kept(&world), Some(0));
    world.line(one).hole = [true, false];
    world.run(world.config.last_link_timeout - Duration::from_secs(2));
    assert_eq!(kept(&world), Some(0));
    world.run(Duration::from_secs(2));
    let keys = world.ends[1].keys.get(&one);
    assert!(keys.is_none_or(|keys| keys.opener.previous_epoch().is_none()));
    assert!(keys.is_some(), "the link is still there");
}

#[test]
fn what_an_unproven_attachment_says_of_limits_counts_once_it_is_proven() {
    let mut world = World::new();
    world.link(1, "tcp", 5 * MS, 0);
    let two = world.link(2, "ws", 5 * MS, 0);
    let (now, all) = (world.now, peer_limits(&world.config));
    let small = PeerLimits { message_bytes: 100, ..all };
    let join = LinkJoin {
        info: info(two, true, "ws"),
        lanes: 1,
        handshake_rtt: 10 * MS,
        ack_delay_max: world.config.ack_delay,
        confirmed: false,
        peer_limits: small,
    };
    let end = &mut world.ends[0];
    end.session.on_link_up(now, end.id, join);
    world.line(two).hole = [true; 2];
    world.run(Duration::from_secs(1));
    assert_eq!(
        (world.ends[0].session.peer_limits, world.ends[0].outbox.message_bytes()),
        (Some(all), all.message_bytes)
    );
    world.line(two).hole = [false; 2];
    world.run(Duration::from_secs(1));
    assert_eq!(world.ends[0].session.peer_limits, Some(small), "once a record of the peer's opened");
}

/// Two nodes with one link; the second has these options.
async fn pair(options: NodeOptions) -> Simulation {
    let simulation = Simulation::new(1);
    simulation.add_node("a").unwrap();
    simulation.add_node_with("b", options).unwrap();
    simulation.add_link("a", "b", "tcp", LinkShape::rtt(20 * MS)).unwrap();
    simulation.start().await.unwrap();
    simulation.run_for(Duration::from_secs(2)).await;
    simulation
}

async fn send(simulation: &Simulation, count: u8) {
    for number in 0..count {
        let message = Outgoing::new(MessageClass::Realtime, vec![number; 8]);
        simulation.send("a", "b", message).await.unwrap().unwrap();
    }
}

#[test]
fn an_inspector_sees_a_message_once_however_often_it_is_tried_to_deliver_it() {
    run(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let sink = seen.clone();
        let inspector: crate::node::Inspector = Rc::new(move |_, message| sink.borrow_mut().push(message.sequence));
        let session = SessionConfig { peer_messages_per_second: 5, ..SessionConfig::default() };
        let application = App { inspector: Some(inspector), ..App::default() };
        let simulation = pair(NodeOptions { session, application, ..NodeOptions::default() }).await;
        send(&simulation, 20).await;
        simulation.run_for(Duration::from_secs(10)).await;
        assert_eq!(simulation.received("b").unwrap().len(), 20);
        assert_eq!(*seen.borrow(), (0..20).collect::<Vec<_>>());
    });
}

#[test]
fn a_session_actor_that_panics_gives_its_peer_no_new_budget() {
    run(async {
        let session = SessionConfig { peer_messages_per_second: 50, ..SessionConfig::default() };
        let simulation = pair(NodeOptions { session, ..NodeOptions::default() }).await;
        send(&simulation, 200).await;
        simulation.run_for(100 * MS).await;
        let before = simulation.received("b").unwrap().len();
        assert!((50..=60).contains(&before), "{before}");
        simulation.kill_actor("b", "session").await.unwrap();
        simulation.run_for(100 * MS).await;
        let after = simulation.received("b").unwrap().len();
        assert!((before..=before + 10).contains(&after), "{before}, then {after}");
        simulation.run_for(Duration::from_secs(10)).await;
        assert_eq!(simulation.received("b").unwrap().len(), 200);
    });
}

#[test]
fn what_waits_for_the_application_keeps_nothing_of_what_was_sent_beside_it() {
    run(async {
        let session = SessionConfig { peer_messages_per_second: 5, ..SessionConfig::default() };
        let simulation = pair(NodeOptions { session, ..NodeOptions::default() }).await;
        send(&simulation, 200).await;
        simulation.run_for(100 * MS).await;
        send(&simulation, 50).await;
        simulation.run_for(100 * MS).await;
        let (a, b) = (simulation.handle("a").unwrap(), simulation.handle("b").unwrap());
        let session = b.session(a.id()).await.unwrap().unwrap();
        let inbound = session.ledger().inbound();
        assert!(inbound.has_deliveries());
        assert_eq!(inbound.pinning(), 0);
    });
}

#[test]
fn a_session_that_is_made_anew_gives_its_peer_no_new_budget() {
    run(async {
        let config = SessionConfig { peer_messages_per_second: 50, ..SessionConfig::default() };
        let simulation = pair(NodeOptions { session: config.clone(), ..NodeOptions::default() }).await;
        let (a, b) = (simulation.handle("a").unwrap(), simulation.handle("b").unwrap());
        let now = crate::clock::now();
        let budgets = b.services().budgets.borrow_mut().of(a.id(), &config, now).unwrap();
        // Owed for 20 seconds.
        budgets.borrow_mut().messages.charge(1050, 0, now);
        drop(budgets);
        assert!(b.disconnect(a.id()).await.unwrap());
        simulation.run_for(Duration::from_secs(8)).await;
        send(&simulation, 10).await;
        simulation.run_for(Duration::from_secs(2)).await;
        assert!(b.session(a.id()).await.unwrap().is_some(), "they are connected again");
        assert_eq!(simulation.received("b").unwrap().len(), 0);
        simulation.run_for(Duration::from_secs(20)).await;
        assert_eq!(simulation.received("b").unwrap().len(), 10);
    });
}

#[test]
fn a_receipt_that_is_final_stays_as_it_is_and_so_do_its_neighbours() {
    let [mut end, _] = World::new().ends;
    let now = Instant::now();
    for _ in 0..6 {
        end.send(Outgoing::new(MessageClass::Bulk, vec![0; 8]), now);
    }
    let (mut out, mut items) = (BytesMut::new(), Vec::new());
    end.outbox.fill(MessageClass::Bulk.index(), 1000, &mut out, &mut items);
    // Their time runs out while the peer sets one of them aside.
    (0..4).for_each(|sequence| end.outbox.skip(ChannelId(0), sequence, ReceiptState::Unknown));
    end.outbox.on_quarantined(ChannelId(0), 2);
    end.outbox.on_quarantined(ChannelId(0), 4);
    end.outbox.on_delivered(ChannelId(0), 4, 1 << 20).unwrap();
    end.outbox.close();
    let states: Vec<_> = (0..6).map(|sequence| end.outbox.state(ChannelId(0), sequence)).collect();
    let [unknown, aside] = [ReceiptState::Unknown, ReceiptState::Quarantined];
    assert_eq!(states, [unknown, unknown, unknown, unknown, aside, unknown]);
}

/// A peer that acknowledges everything on one lane and nothing on another.
#[test]
fn what_is_remembered_of_a_link_is_bounded_over_its_lanes() {
    let now = Instant::now();
    let mut path = Path::new(now, info(LinkId(1), true, "quic"), 2, 10 * MS, 2 * MS, WindowConfig::default());
    let told = RecordItem::Delivered(ChannelId(3), 7);
    path.on_sent(now, 0, 0, 40, &[told], true);
    let mut left_out = Vec::new();
    for counter in 1..20_000 {
        path.on_sent(now, 1, counter, 40, &[RecordItem::Delivered(ChannelId(0), counter)], true);
        let mut outcome = Default::default();
        path.on_ack(now, std::iter::once((counter, counter)), Duration::ZERO, &mut outcome);
        left_out.append(&mut outcome.left_out);
        let (records, items) = path.remembered();
        assert!(records <= 4098 && items <= 4098, "{records} records, {items} items after {counter}");
    }
    assert_eq!(left_out, [told], "what it carried is sent again");
    assert_eq!(path.window.in_flight(), 0);
}

/// A link that was fast, and over which everything is given up before it is acknowledged.
#[test]
fn late_acknowledgements_show_that_a_link_has_become_slow() {
    let mut now = Instant::now();
    let mut path = Path::new(now, info(LinkId(1), true, "tcp"), 1, 10 * MS, 2 * MS, WindowConfig::default());
    let item = |sequence| RecordItem::Data(SentItem::Messages { channel: ChannelId(1), first: sequence, count: 1 });
    let acknowledge = |path: &mut Path, now, from, to| {
        path.on_ack(now, std::iter::once((from, to)), Duration::ZERO, &mut Default::default());
    };
    for counter in 0..20 {
        path.on_sent(now, 0, counter, 10_000, &[item(counter)], true);
        now += 10 * MS;
        acknowledge(&mut path, now, counter, counter);
    }
    assert!(path.window.rate().unwrap() > 900_000.0 && path.window_bytes() > 15_000);
    path.on_sent(now, 0, 20, 10_000, &[item(20)], true);
    path.on_sent(now, 0, 21, 10_000, &[item(21)], true);
    path.lose_all();
    acknowledge(&mut path, now + 1000 * MS, 20, 20);
    acknowledge(&mut path, now + 2000 * MS, 21, 21);
    assert!((path.window.rate().unwrap() - 10_000.0).abs() < 100.0, "{:?}", path.window.rate());
    assert_eq!(path.window_bytes(), path.window.min_bytes());
}

#[test]
fn a_record_acknowledges_as_many_links_as_there_can_be_and_no_more() {
    for (count, stays) in [(64, true), (65, false)] {
        let mut world = World::new();
        let one = world.link(1, "tcp", 5 * MS, 0);
        world.run(Duration::from_secs(1));
        let (now, mut data) = (world.now, BytesMut::new());
        let sealer = &mut world.ends[0].keys.get_mut(&one).unwrap().sealer;
        let start = sealer.begin(&mut data);
        for _ in 0..count {
            bowline_messages::wire::frame::put_ack(&mut data, one, 0, std::iter::once(0..=0));
        }
        sealer.finish(&mut data, start).unwrap();
        world.ends[1].with(|session, parts| session.on_arrived(now, one, data, parts));
        assert_eq!(world.ends[1].session.link(one).is_some(), stays, "{count} acknowledgements");
    }
}
