//! Cases at the edges: full queues, links that lie, peers that overstep or start anew, duplicates that give way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bowline_messages::event::EventKind;
use bowline_messages::link::LinkStep;
use bowline_messages::session::SendError;
use bowline_messages::wire::{Refusal, frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::handle::SessionHandle;
use super::super::inbound::InboundError;
use super::super::ledger::Ledger;
use super::super::path::Path;
use super::super::stream::SessionStream;
use super::super::streams::StreamPart;
use super::super::window::WindowConfig;
use super::*;

fn ledger(config: &SessionConfig) -> Arc<Ledger> {
    let (local, peer) = (PeerId::from_bytes([2; 32]), PeerId::from_bytes([1; 32]));
    Arc::new(Ledger::new(local, peer, Incarnation(1), config))
}

fn started(end: &End) -> usize {
    end.events.iter().filter(|event| matches!(event, EventKind::FailoverStarted { .. })).count()
}

fn failed(end: &End, id: LinkId) -> bool {
    let confirmed = |event: &EventKind| matches!(event, EventKind::LinkStep { link, step: LinkStep::FailureConfirmed, .. } if *link == id);
    end.events.iter().any(confirmed)
}

fn shut_down(stream: &mut SessionStream) -> Poll<std::io::Result<()>> {
    Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()))
}

fn write(stream: &mut SessionStream, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
    Pin::new(stream).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
}

#[test]
fn streams_end_and_are_reset_although_the_queue_is_full() {
    let ledger = ledger(&SessionConfig { queue_messages: 10, ..SessionConfig::default() });
    let session = SessionHandle::new(ledger.clone());
    let mut streams: Vec<_> = (0..3).map(|_| session.open_stream("x").unwrap()).collect();
    while session.send(Outgoing::new(MessageClass::Bulk, vec![0; 8])).is_ok() {}
    let next = ledger.inbound().streams.next_own();
    assert!(matches!(session.open_stream("y"), Err(SendError::Full { .. })));
    assert_eq!(ledger.inbound().streams.next_own(), next, "a stream that could not be opened leaves no gap");
    assert!(matches!(shut_down(&mut streams[0]), Poll::Ready(Ok(()))));
    streams[1].reset("no more");
    assert_eq!(session.queued().0, 12);
    streams.clear();
    assert_eq!(session.queued().0, 13, "dropped without a word: reset as well, and none is ended twice");
}

#[test]
fn a_spare_that_dies_idle_is_no_failover_and_the_link_in_use_is() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    let two = world.link(2, "ws", 20 * MS, 0);
    world.run(Duration::from_secs(1));
    world.drip(20, 10 * MS, |_, _| {});
    world.reset(two);
    world.run(Duration::from_secs(1));
    for end in &world.ends {
        assert_eq!((started(end), end.session.failovers(), failed(end, two)), (0, 0, true), "{:?}", end.events);
    }
    world.link(3, "ws", 20 * MS, 0);
    world.run(Duration::from_secs(1));
    world.reset(one);
    world.drip(20, 10 * MS, |_, _| {});
    for end in &world.ends {
        assert_eq!((started(end), end.session.failovers()), (1, 1), "sending and receiving side: {:?}", end.events);
    }
}

#[test]
fn a_duplicate_that_the_peer_closes_first_is_no_failure() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.run(100 * MS);
    world.roll(0);
    world.pump();
    let now = world.now;
    let join = LinkJoin {
        info: info(LinkId(4), true, "tcp"),
        lanes: 1,
        handshake_rtt: 10 * MS,
        ack_delay_max: 2 * MS,
        confirmed: false,
        peer_limits: peer_limits(&world.config),
    };
    let end = &mut world.ends[0];
    end.session.on_link_up(now, end.id, join);
    end.with(|s, parts| s.on_link_down(now, one, LinkFailure::ClosedByPeer, parts));
    world.pump();
    let end = &world.ends[0];
    assert_eq!((started(end), end.session.failovers(), failed(end, one)), (0, 0, false), "{:?}", end.events);
    let closed = |e: &EventKind| matches!(e, EventKind::LinkStep { to: LinkState::Closed, .. });
    assert!(end.events.iter().any(closed));
    world.ends[0].with(|s, parts| s.on_link_down(now, LinkId(4), LinkFailure::ClosedHere("no more".into()), parts));
    world.link(3, "ws", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    world.assert_all_arrived(1);
}

/// Small messages are acknowledged all the time, the large one never: they must not vouch for the link.
#[test]
fn a_link_that_loses_large_messages_among_small_ones_is_given_up() {
    for spare in [true, false] {
        let mut world = World::new();
        let one = world.link(1, "tcp", MS, 0);
        if spare {
            world.link(2, "ws", 20 * MS, 0);
        }
        world.run(Duration::from_secs(1));
        world.line(one).largest = 500;
        let now = world.now;
        world.ends[0].send(Outgoing::new(MessageClass::Realtime, vec![7; 2000]), now);
        let limit = if spare { world.config.failover_timeout } else { world.config.last_link_timeout };
        let gap = world.drip(200, 10 * MS, |_, _| {});
        if spare {
            assert!(gap <= 200 * MS, "{gap:?}");
            world.assert_all_arrived(201);
        }
        while world.now < now + limit + Duration::from_secs(2) {
            world.roll(1);
            world.run(50 * MS);
        }
        assert!(failed(&world.ends[0], one), "spare {spare}: {:?}", world.ends[0].events);
        assert!(world.ends[0].session.link(one).is_none());
    }
}

#[test]
fn a_stalled_link_is_acquitted_by_what_it_did_not_pass_and_by_nothing_else() {
    let mut world = World::new();
    let one = world.link(1, "tcp", MS, 0);
    world.link(2, "ws", 20 * MS, 0);
    world.run(Duration::from_secs(1));
    // Its bulk waits somewhere on the way, the rest passes.
    let now = world.now;
    world.ends[0].send(Outgoing::new(MessageClass::Realtime, vec![7; 2000]), now);
    world.pump();
    let held = std::mem::take(&mut world.flights);
    world.line(one).largest = 500;
    world.run(Duration::from_secs(1));
    let state = |world: &World| {
        world.ends[0].session.link_statuses(world.now).iter().find(|s| s.info.id == one).map(|s| s.state)
    };
    assert_eq!(
        state(&world),
        Some(LinkState::Failing),
        "answered probes do not help: {:?}",
        world.ends.iter().map(|e| &e.events).collect::<Vec<_>>()
    );
    world.line(one).largest = usize::MAX;
    for Flight(_, side, link, data) in held {
        let now = world.now;
        world.ends[side].with(|s, parts| s.on_arrived(now, link, BytesMut::from(&data[..]), parts));
    }
    world.run(100 * MS);
    assert_eq!(state(&world), Some(LinkState::Degraded));
    world.run(Duration::from_secs(10));
    assert_eq!(state(&world), Some(LinkState::Active));
    world.assert_all_arrived(1);
}

#[test]
fn a_refusal_behind_the_handshake_is_the_reason_until_a_record_has_opened() {
    let refuse = |world: &mut World, one| {
        let now = world.now;
        let packet = BytesMut::from(&Refusal::NotAllowed.framed()[..]);
        world.ends[0].with(|s, parts| s.on_arrived(now, one, packet, parts));
        world.pump_side(0);
    };
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.roll(0);
    world.pump();
    refuse(&mut world, one);
    let reason = LinkFailure::Refused(Refusal::NotAllowed);
    let said = |end: &End| {
        let refused = |event: &&EventKind| matches!(event, EventKind::LinkStep { reason: Some(r), .. } if *r == reason);
        end.events.iter().filter(refused).count()
    };
    assert!(said(&world.ends[0]) > 0 && world.ends[0].session.link(one).is_none(), "{:?}", world.ends[0].events);
    assert_eq!(world.state(0), ReceiptState::OnWire, "it may have been read");
    let up = |end: &End| end.events.iter().filter(|event| matches!(event, EventKind::LinkUp { .. })).count();
    let penalty = |world: &World| world.ends[0].session.failures(world.now, &info(one, true, "tcp"));
    assert_eq!((up(&world.ends[0]), penalty(&world)), (0, 0.0), "it was never up and has not failed");
    assert_eq!((started(&world.ends[0]), failed(&world.ends[0], one)), (0, false));

    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.run(100 * MS);
    refuse(&mut world, one);
    assert!(said(&world.ends[0]) == 0 && world.ends[0].session.link(one).is_some());
    assert_eq!((up(&world.ends[0]), up(&world.ends[1])), (1, 1));
}

#[test]
fn a_stream_of_a_process_that_is_gone_does_not_touch_the_one_that_gets_its_number() {
    let ledger = ledger(&SessionConfig::default());
    let session = SessionHandle::new(ledger.clone());
    let theirs = ChannelId(ChannelId::STREAM_BASE);
    let opened = |label: &'static [u8]| {
        let payload = StreamPart::Open(Bytes::from_static(label)).encode();
        ledger.inbound().on_message(theirs, 0, MessageClass::Bulk, payload).unwrap();
        assert_eq!(ledger.inbound().streams.take_opened(), Some((theirs, Bytes::from_static(label))));
        SessionStream::accepted(session.clone(), theirs)
    };
    let restart = || {
        let mut inbound = ledger.inbound();
        inbound.on_peer_restarted();
        let limits = peer_limits(&SessionConfig::default());
        ledger.outbox().on_peer_restarted(limits, |id| inbound.streams.is_theirs(id));
    };
    let mut own = session.open_stream("own").unwrap();
    let mut old = opened(b"old");
    assert!(matches!(write(&mut old, b"abc"), Poll::Ready(Ok(3))));
    restart();
    let mut new = opened(b"new");
    assert!(matches!(write(&mut new, b"de"), Poll::Ready(Ok(2))), "the old handle is not in its way");
    for gone in [&mut old, &mut own] {
        assert!(matches!(write(gone, b"x"), Poll::Ready(Err(_))));
        let (mut bytes, mut cx) = ([0; 8], Context::from_waker(Waker::noop()));
        assert!(matches!(Pin::new(gone).poll_read(&mut cx, &mut ReadBuf::new(&mut bytes)), Poll::Ready(Err(_))));
    }
    let queued = session.queued().0;
    drop((old, own));
    assert_eq!(session.queued().0, queued, "nobody is told that streams of a process that is gone were dropped");
    assert!(matches!(write(&mut new, b"fg"), Poll::Ready(Ok(2))), "and dropping it does not end the new one");
    assert!(ledger.inbound().stream(theirs).is_some());
}

#[test]
fn what_an_earlier_life_of_the_peer_sent_is_handed_over_and_moves_no_mark_of_the_new_one() {
    let world = World::new();
    let [_, mut end] = world.ends;
    let message = |inbound: &mut Inbound, channel, sequence, byte| {
        inbound.on_message(ChannelId(channel), sequence, MessageClass::Critical, Bytes::from(vec![byte; 4])).unwrap();
    };
    for sequence in 0..3 {
        message(&mut end.inbound, 0, sequence, 1);
    }
    // Behind a gap that will never close.
    message(&mut end.inbound, 0, 4, 1);
    end.inbound.on_peer_restarted();
    for sequence in 0..2 {
        message(&mut end.inbound, 0, sequence, 2);
    }
    let take = |inbound: &mut Inbound, most| {
        let mut got = Vec::new();
        inbound.deliver_with(most, |messages| {
            got = messages.iter().map(|m| (m.sequence, m.payload[0])).collect();
            Ok(())
        });
        got
    };
    assert_eq!(take(&mut end.inbound, 64), [(0, 1), (1, 1), (2, 1)], "lives are not mixed in one batch");
    assert_eq!(end.inbound.next_announcement(), None, "nothing of it concerns the new life");
    assert_eq!(take(&mut end.inbound, 1), [(0, 2)]);
    assert_eq!(take(&mut end.inbound, 64), [(1, 2)]);
    assert_eq!((end.inbound.next_announcement(), end.inbound.next_announcement()), (Some((ChannelId(0), 2)), None));
}

#[test]
fn numbers_beyond_those_that_can_be_written_are_refused() {
    let end_of_numbers = 1 << 61;
    let [mut end, _] = World::new().ends;
    let payload = || Bytes::from_static(b"x");
    let mut message = |sequence| end.inbound.on_message(ChannelId(0), sequence, MessageClass::Bulk, payload());
    assert_eq!(message(end_of_numbers), Err(InboundError::Sequence));
    assert_eq!(message(u64::MAX), Err(InboundError::Sequence));
    assert_eq!(message(end_of_numbers - 1), Ok(()));
    let fragment = end.inbound.on_fragment(ChannelId(0), end_of_numbers, MessageClass::Bulk, 2, 0, &payload());
    assert_eq!(fragment, Err(InboundError::Sequence));
    assert_eq!(end.inbound.on_skip(ChannelId(0), 0, end_of_numbers + 1), Err(InboundError::Sequence));
    assert_eq!(end.inbound.on_skip(ChannelId(0), 0, end_of_numbers - 1), Ok(()));
    assert_eq!(end.inbound.on_skip(ChannelId(0), 5, 5), Err(InboundError::Skip));
    assert_eq!(end.inbound.next_delivery().map(|m| m.sequence), Some(end_of_numbers - 1));
}

#[test]
fn a_peer_that_asks_and_does_not_read_is_answered_a_bounded_number_of_times() {
    let now = Instant::now();
    let mut path = Path::new(now, info(LinkId(1), true, "tcp"), 1, 10 * MS, 2 * MS, WindowConfig::default());
    path.probe_due = false;
    let (mut answers, mut asked) = (0u64, 0);
    for counter in 0..100_000 {
        path.acks.on_record(now, counter, 40, true, MS);
        if path.ack_deadline().is_some() {
            path.acks.take(now);
            path.on_sent(now, 0, answers, 40, &[], false);
            answers += 1;
            asked += u32::from(std::mem::take(&mut path.probe_due));
        }
    }
    assert!((1..=1024).contains(&answers), "{answers} answers wait for a peer that does not read");
    assert!(asked > 0, "it was asked now and then whether it reads");
    // What it does acknowledge opens the way again.
    path.on_sent(now, 0, answers, 40, &[], true);
    let mut outcome = Default::default();
    path.on_ack(now, std::iter::once((answers, answers)), Duration::ZERO, &mut outcome);
    path.acks.on_record(now, 100_000, 40, true, MS);
    assert!(path.ack_deadline().is_some());
}

/// Has side 0 send side 1 a record with these frames.
fn inject(world: &mut World, link: LinkId, frames: impl FnOnce(&mut BytesMut)) {
    let mut data = BytesMut::new();
    let sealer = &mut world.ends[0].keys.get_mut(&link).unwrap().sealer;
    let start = sealer.begin(&mut data);
    frames(&mut data);
    sealer.finish(&mut data, start).unwrap();
    let now = world.now;
    world.ends[1].with(|s, parts| s.on_arrived(now, link, data, parts));
    world.pump_side(1);
}

#[test]
fn only_what_no_honest_peer_sends_counts_against_it() {
    type Frames = fn(&mut BytesMut);
    let malice: [Frames; 4] = [
        |data| data.extend_from_slice(&[0x3f]),
        |data| {
            frame::put_session(data, Incarnation(1));
            frame::put_session(data, Incarnation(2));
        },
        |data| frame::put_skip(data, ChannelId(0), 5, 5),
        |data| frame::put_message(data, MessageClass::Bulk, ChannelId(0), 1 << 61, b"x"),
    ];
    let difference: [Frames; 2] = [
        |data| frame::put_message(data, MessageClass::Bulk, ChannelId(0), 0, &[0; 3000]),
        |data| frame::put_delivered(data, ChannelId(0), 1000, 1 << 20),
    ];
    let cases = malice.iter().map(|case| (case, true)).chain(difference.iter().map(|case| (case, false)));
    for (at, (frames, counts)) in cases.enumerate() {
        let mut world = World::with_config(SessionConfig { message_bytes: 2000, ..SessionConfig::default() });
        let one = world.link(1, "tcp", 5 * MS, 0);
        let now = world.now;
        world.ends[1].send(Outgoing::new(MessageClass::Bulk, vec![0; 8]), now);
        world.run(100 * MS);
        inject(&mut world, one, frames);
        let end = &world.ends[1];
        assert!(end.session.link(one).is_none(), "case {at} costs the link: {:?}", end.events);
        assert_eq!(end.observed.contains(&Behaviour::BrokeProtocol), counts, "case {at}");
    }
}

#[test]
fn what_the_peer_would_not_take_is_given_up_and_refused_from_then_on() {
    let mut end = World::new().ends.into_iter().next().unwrap();
    let message =
        |channel, bytes| Outgoing { channel: ChannelId(channel), ..Outgoing::new(MessageClass::Bulk, vec![0; bytes]) };
    for (channel, bytes) in [(0, 3000), (0, 10), (1, 10), (2, 10)] {
        end.outbox.push(message(channel, bytes), None).unwrap();
    }
    end.outbox.set_peer_limits(PeerLimits { channel_window: 1 << 20, message_bytes: 2000, channels: 2 });
    let states = [(0, 0), (0, 1), (1, 0), (2, 0)].map(|(id, sequence)| end.outbox.state(ChannelId(id), sequence));
    assert_eq!(states, [ReceiptState::NotSent, ReceiptState::Accepted, ReceiptState::Accepted, ReceiptState::NotSent]);
    assert_eq!(end.outbox.queued(), (3, 20), "with the gap, of which the peer is to be told");
    assert_eq!(end.outbox.push(message(0, 2001), None), Err(SendError::TooLarge { bytes: 2001, limit: 2000 }));
    assert_eq!(end.outbox.push(message(7, 1), None), Err(SendError::TooManyChannels { limit: 2 }));
    assert!(end.outbox.push(message(0, 2000), None).is_ok());
}

#[test]
fn a_flood_of_records_that_bring_nothing_costs_the_link_and_honest_traffic_does_not() {
    const MOST: u64 = 50;
    let config = SessionConfig { peer_idle_records_per_second: MOST, ..SessionConfig::default() };
    let mut world = World::with_config(config);
    let link = world.link(1, "tcp", MS, 0);
    world.run(Duration::from_secs(2));
    // As many messages, each in a record of its own, with their acknowledgements and what is said of their delivery.
    for n in 0..MOST * 4 {
        let now = world.now;
        world.ends[0].send(Outgoing { payload: Bytes::from(n.to_string()), ..Outgoing::default() }, now);
        world.run(MS);
    }
    assert!(!failed(&world.ends[0], link) && !failed(&world.ends[1], link));
    world.run(Duration::from_secs(2));
    for _ in 0..MOST - 5 {
        inject(&mut world, link, frame::put_ping);
    }
    assert!(!failed(&world.ends[1], link), "an honest peer probes too");
    for _ in 0..10 {
        inject(&mut world, link, frame::put_ping);
    }
    assert!(failed(&world.ends[1], link));
    assert!(world.ends[1].observed.contains(&Behaviour::Flooded));
}

#[test]
fn a_record_with_everything_that_can_be_due_is_no_longer_than_a_record_may_be() {
    let mut world = World::with_config(SessionConfig { channel_window: 1 << 30, ..SessionConfig::default() });
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    // The link is known to be fast, so that records are as long as they get.
    let now = world.now;
    world.ends[1].send(Outgoing::new(MessageClass::Bulk, vec![7; 1 << 20]), now);
    world.run(Duration::from_secs(2));
    // More channels were read here than one record announces, with names and windows as long as they get …
    for n in 0..64 {
        let now = world.now;
        let channel = ChannelId((1 << 31) - 1 - n);
        world.ends[0].send(Outgoing::new(MessageClass::Bulk, vec![0; 8]).on(channel), now);
    }
    world.ends[1].appetite = 0;
    world.run(100 * MS);
    // … a stream was sent that leaves the window empty, and now there is more to send than a record holds, in pieces that leave no gap.
    let now = world.now;
    let path = world.ends[1].session.paths.get_mut(&one).unwrap();
    for n in 0..400_u32 {
        path.ack_pace.on_sent(now + MS * n, 1000);
    }
    path.introduced = false;
    world.now += 400 * MS;
    world.ends[1].appetite = usize::MAX;
    let now = world.now;
    for _ in 0..3000 {
        world.ends[1].send(Outgoing::new(MessageClass::Bulk, vec![0; 8]), now);
    }
    world.run(Duration::from_secs(2));
    for (side, end) in world.ends.iter().enumerate() {
        assert!(!failed(end, one), "side {side}: {:?}", end.events);
        assert!(end.session.link(one).is_some(), "side {side}: {:?}", end.events);
    }
    assert_eq!((world.ends[0].got.len(), world.ends[1].got.len()), (3001, 64));
}
