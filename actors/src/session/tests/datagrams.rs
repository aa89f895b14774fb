//! Datagrams beside messages: once, over the best link, and nobody starves.

use bowline_messages::network::Concern;

use super::world::*;
use super::*;
use crate::session::outbox::Datagram;

/// What the node asks and tells its neighbour: all of the room is for it.
const CONCERN: u8 = Concern::Membership.code();

fn push(world: &mut World, class: MessageClass, number: u64, bytes: usize) {
    let mut payload = vec![0; bytes.max(8)];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    let now = world.now;
    let datagram = Datagram { concern: CONCERN, payload: payload.into(), expires: now + Duration::from_secs(1) };
    world.ends[0].outbox.push_datagram(now, class, datagram).unwrap();
}

fn numbers(world: &World) -> Vec<u64> {
    world.ends[1].datagrams.iter().map(|(_, payload)| u64::from_be_bytes(payload[..8].try_into().unwrap())).collect()
}

#[test]
fn a_datagram_arrives_and_one_in_a_hole_is_gone() {
    let mut world = World::new();
    let link = world.link(1, "tcp", Duration::from_millis(5), 0);
    world.run(Duration::from_millis(100));
    push(&mut world, MessageClass::Realtime, 1, 8);
    push(&mut world, MessageClass::Bulk, 2, bowline_messages::network::DATAGRAM_BYTES_MAX);
    world.run(Duration::from_millis(100));
    assert_eq!(numbers(&world), [1, 2]);
    assert_eq!(world.ends[1].datagrams[0].0, CONCERN);
    world.line(link).hole = [true; 2];
    push(&mut world, MessageClass::Realtime, 3, 8);
    world.run(Duration::from_millis(5));
    world.line(link).hole = [false; 2];
    world.link(2, "ws", Duration::from_millis(5), 0);
    world.run(Duration::from_secs(10));
    push(&mut world, MessageClass::Realtime, 4, 8);
    world.run(Duration::from_secs(1));
    assert_eq!(numbers(&world), [1, 2, 4], "it is never sent again");
}

#[test]
fn datagrams_find_a_link_dead_as_messages_do() {
    let mut world = World::new();
    let dead = world.link(1, "tcp", Duration::from_millis(5), 0);
    world.link(2, "ws", Duration::from_millis(9), 0);
    world.run(Duration::from_secs(2));
    world.line(dead).hole = [true; 2];
    for number in 0..40 {
        push(&mut world, MessageClass::Realtime, number, 100);
        world.run(Duration::from_millis(20));
    }
    world.run(Duration::from_secs(1));
    let got = numbers(&world);
    assert!(got.len() >= 30 && got.contains(&39), "traffic leaves the dead link within some of its time-outs: {got:?}");
}

#[test]
fn neither_messages_nor_datagrams_of_a_class_starve() {
    let mut world = World::new();
    // 100 kB/s: what is given below takes four seconds.
    world.link(1, "tcp", Duration::from_millis(5), 100_000);
    world.run(Duration::from_millis(100));
    for number in 0..200 {
        push(&mut world, MessageClass::Bulk, number, 1000);
        let now = world.now;
        let message = Outgoing::new(MessageClass::Bulk, vec![0; 1000]).on(ChannelId(0));
        world.ends[0].send(message, now);
    }
    world.run(Duration::from_millis(900));
    let (datagrams, messages) = (world.ends[1].datagrams.len(), world.ends[1].got.len());
    assert!(datagrams >= 20 && messages >= 20, "{datagrams} datagrams, {messages} messages");
    world.run(Duration::from_secs(10));
    world.assert_all_arrived(200);
    assert!(numbers(&world).is_sorted(), "those of a class stay in order on one link");
    assert!(world.ends[0].outbox.datagrams.is_empty(), "what was too old is gone");
}

#[test]
fn a_closed_session_takes_none_and_keeps_none() {
    let mut world = World::new();
    push(&mut world, MessageClass::Realtime, 1, 8);
    let (now, outbox) = (world.now, &mut world.ends[0].outbox);
    outbox.close();
    assert!(outbox.datagrams.is_empty());
    let datagram = Datagram { concern: CONCERN, payload: Bytes::new(), expires: now + Duration::from_secs(1) };
    assert!(outbox.push_datagram(now, MessageClass::Bulk, datagram).is_err());
}
