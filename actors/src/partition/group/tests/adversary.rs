//! Participants that take part by the rules as far as one sees, and lie.

use super::super::super::state::Versioned as _;
use super::*;

/// A command that a node signed itself, of its very last life.
fn own(origin: u8, fence: u64, number: u64) -> Command {
    let id = CommandId { origin: peer(origin), life: u64::MAX, number };
    Command::new(&Seal(peer(origin)), fence, id, Bytes::from_static(b"lie"))
}

/// Neither a lease that this leader is said to hold, nor one of the liar's or of the third one's: what is said of leases in a command goes no further than asking does.
#[test]
fn a_command_under_a_term_that_nobody_asked_for_ends_no_lease_and_is_not_written_down() {
    let mut room = Room::new(3);
    room.run(SECOND * 6);
    let (leader, now) = (room.leader(), room.now);
    let token = room.group(leader).token(now).unwrap();
    let liar = (1..=3).find(|n| *n != leader && peer(*n) != token.holder).unwrap();
    let pauses = |room: &Room| room.hosts.values().map(|host| host.pauses).sum::<usize>();
    let (paused, refused) = (pauses(&room), room.refused(leader));
    let memory = room.group(leader).partition.report(now).term;
    for number in 1..=60 {
        let fence = token.term.0 + if number % 2 == 0 { 1 } else { LEAP_MAX };
        let holder = peer(u8::try_from(number % 3).unwrap() + 1);
        let (now, payload) = (room.now, wire::encode(&own(liar, fence, number), &holder));
        room.group(leader).on_packet(now, peer(liar), Concern::Command, &payload).unwrap();
        room.run(SECOND / 10);
    }
    assert_eq!(room.refused(leader), refused + 60);
    assert_eq!(pauses(&room), paused, "everybody goes on");
    let now = room.now;
    assert_eq!((room.group(leader).token(now), room.group(leader).report(now).partition.term), (Some(token), memory));
    assert_eq!(room.hosts[&leader].durable.remembered.lease.unwrap().term, memory);
    room.submit(liar % 3 + 1, "goes on").unwrap();
    room.run(SECOND * 2);
    for n in 1..=3 {
        assert_eq!(room.sheet(n), ["goes on"], "node {n}");
    }
}

/// A state in which so many commands of others are open, signed by keys that nobody knows.
fn with_strangers(count: u64) -> (Shared<Sheet>, Vec<Command>) {
    let stranger = |n: u64| {
        let mut key = [0xee; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        PeerId::from_bytes(key)
    };
    let keys: BTreeSet<PeerId> = (0..count).map(stranger).collect();
    let mut state = Shared::new(Sheet::default(), keys.clone());
    let command = |origin: &PeerId| {
        let id = CommandId { origin: *origin, life: 1, number: 1 };
        Command::new(&Seal(*origin), 1, id, Bytes::from_static(b"strange"))
    };
    let commands: Vec<Command> = keys.iter().map(command).collect();
    commands.iter().for_each(|command| state.accept(command.id.origin, command.clone()));
    (state, commands)
}

fn at(index: u64) -> Position {
    Position { term: 1, index }
}

#[test]
fn nothing_is_done_for_who_never_took_part_so_that_nothing_of_the_others_is_done_twice() {
    let mut shared = Shared::new(Sheet::default(), (1..=3).map(peer).collect());
    let first = own(2, 1, 1).encode();
    assert!(matches!(shared.on_committed(at(1), &first, &Seal(peer(1))), Some((_, Carried::Out(_)))));
    let (_, commands) = with_strangers(300);
    for (index, command) in (2..).zip(commands) {
        let carried = shared.on_committed(at(index), &command.encode(), &Seal(peer(1)));
        assert_eq!(carried, Some((command, Carried::Unsigned)));
    }
    let again = shared.on_committed(at(302), &first, &Seal(peer(1)));
    assert!(matches!(again, Some((_, Carried::Before))), "{again:?}");
    assert_eq!((shared.carried_out(), shared.machine().0.len()), (1, 1));
}

#[test]
fn a_state_in_which_something_of_strangers_is_open_is_not_taken_over() {
    let mut shared = Shared::new(Sheet::default(), (1..=3).map(peer).collect());
    let (strange, _) = with_strangers(1);
    assert_eq!(shared.apply(&strange.snapshot()), Err("what is open in it cannot be".to_owned()));
    assert!(shared.open().is_empty());
}

#[test]
fn a_clock_names_nobody_who_never_took_part_and_has_room_for_all_who_did() {
    let three = || Shared::new(Sheet::default(), (1..=3).map(peer).collect());
    let (mut strange, _) = with_strangers(64);
    strange.roll_back();
    let mut shared = three();
    assert_eq!(shared.apply(&strange.snapshot()), Err("it counts changes of strangers".to_owned()));
    for n in 1..=3 {
        shared.accept(peer(n), own(n, 1, 1));
        assert_eq!(shared.version().clock.of(&peer(n)), 1);
    }
    three().apply(&shared.snapshot()).unwrap();
}

#[test]
fn what_is_open_of_one_who_takes_part_no_more_is_given_up_by_who_took_it_over() {
    let mut room = Room::new(4);
    room.run(SECOND * 6);
    lie(&mut room);
    room.run(SECOND * 20);
    assert!(!room.group(1).participants().contains(&peer(4)));
    let now = room.now;
    let group = room.group(1);
    group.shared.accept(peer(4), own(4, group.token(now).unwrap().term.0, 1));
    group.on_adopted(now);
    assert_eq!(group.waiting.len(), 1);
    room.run(SECOND * 2);
    assert!(room.group(1).waiting.is_empty() && room.group(1).shared().open().is_empty());
    for n in 1..=3 {
        assert_eq!(room.sheet(n), Vec::<Bytes>::new(), "node {n}");
    }
}
