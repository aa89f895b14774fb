//! Participants that take part by the rules as far as one sees, and lie.

use bowline_messages::partition::EvidenceKind;

use super::super::super::evidence::{Evidence, EvidenceSnapshot, Proof, ProofError};
use super::super::super::log::wire::NUMBER_MAX;
use super::super::super::state::{ResolutionOutput, Versioned as _};
use super::super::super::wire::BODY_BYTES_MAX;
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

/// What a node signed itself under one number, twice: once with this and once with that in it, so long that both do not fit into a proof that others could be
/// told.
fn long(liar: u8, count: u64, say: impl Fn(u8) -> Statement) -> [Signed; 2] {
    let number = Number { incarnation: u64::MAX, count };
    [1, 2].map(|fill| {
        let body = postcard::to_allocvec(&say(fill)).unwrap();
        assert!(body.len() > BODY_BYTES_MAX);
        Signed::of(&Seal(peer(liar)), peer(liar), number, body)
    })
}

/// Two statements under one number, or one that passes on what nobody signed; in the last case what is long is said to be a proof.
fn long_lies(liar: u8, count: u64) -> [[Signed; 2]; 3] {
    let number = Number { incarnation: 1, count };
    let unsigned = move |fill, bytes| Signed::of(&Seal(peer(liar)), peer(liar % 4 + 1), number, vec![fill; bytes]);
    let proof = move |fill| Proof { kind: EvidenceKind::Forgery, first: unsigned(fill, 10_000), second: None };
    [
        long(liar, count, |fill| Statement::Relay(vec![fill; 10_000])),
        long(liar, count, |fill| Statement::Relay(unsigned(fill, 15_500).encode().unwrap())),
        long(liar, count, |fill| Statement::Proof(proof(fill))),
    ]
}

/// Four nodes that work, their leader, and one of the others, which will lie.
fn room_with_a_liar() -> (Room, u8, u8) {
    let mut room = Room::new(4);
    room.run(SECOND * 6);
    room.strangers = true;
    let leader = room.leader();
    (room, leader, leader % 4 + 1)
}

/// Else a leader would exclude whom the others have no proofs against, and they would take nothing of it any more.
#[test]
fn nobody_is_excluded_for_what_others_could_not_be_told() {
    for kind in 0..3 {
        let (mut room, leader, liar) = room_with_a_liar();
        for count in 0..3 {
            for lie in &long_lies(liar, count)[kind] {
                let (now, payload) = (room.now, lie.encode().unwrap());
                room.group(leader).on_packet(now, peer(liar), Concern::Partition, &payload).unwrap();
            }
        }
        room.run(SECOND * 5);
        let now = room.now;
        assert_eq!(room.group(leader).report(now).partition.excluded, [], "kind {kind}");
        assert!(room.refused(leader) >= 3, "it leaves a trace");
        room.submit(leader, "goes on").unwrap();
        room.run(SECOND * 3);
        for n in 1..=4 {
            assert_eq!(room.sheet(n), ["goes on"], "node {n}, kind {kind}");
        }
    }
}

#[test]
fn a_proof_that_others_could_not_be_told_counts_for_nothing_and_neither_does_one_that_was_kept() {
    let signer = Seal(peer(1));
    let [two, forgery, proofs] = long_lies(4, 7);
    let equivocation =
        |[first, second]: [Signed; 2]| Proof { kind: EvidenceKind::Equivocation, first, second: Some(second) };
    let [first, _] = forgery;
    let proofs =
        vec![equivocation(two), Proof { kind: EvidenceKind::Forgery, first, second: None }, equivocation(proofs)];
    for proof in &proofs {
        assert_eq!(proof.verify(&signer), Err(ProofError::Nothing));
    }
    let kept = EvidenceSnapshot { proofs: proofs.clone(), pardoned: proofs };
    let mut evidence = Evidence::new(1, 16);
    assert_eq!(evidence.restore(&signer, &kept), 0);
    assert_eq!((evidence.excluded(), evidence.proven()), (BTreeSet::new(), BTreeSet::new()));
}

/// Two of the longest that are listened to fit into a proof that is told.
#[test]
fn who_says_two_things_as_long_as_may_be_is_excluded_by_everybody() {
    let (mut room, leader, liar) = room_with_a_liar();
    for count in 0..3 {
        for fill in [1, 2] {
            let relay = Statement::Relay(vec![fill; BODY_BYTES_MAX - 3]);
            let number = Number { incarnation: u64::MAX, count };
            let lie = Signed::new(&Seal(peer(liar)), peer(liar), number, &relay).unwrap();
            assert_eq!(lie.body.len(), BODY_BYTES_MAX);
            let (now, payload) = (room.now, lie.encode().unwrap());
            room.group(leader).on_packet(now, peer(liar), Concern::Partition, &payload).unwrap();
        }
    }
    room.run(SECOND * 20);
    for n in (1..=4).filter(|n| *n != liar) {
        let now = room.now;
        assert_eq!(room.group(n).report(now).partition.excluded, [peer(liar)], "node {n}");
        assert!(!room.group(n).participants().contains(&peer(liar)), "node {n}");
    }
}

/// A command in the name of a node, of its present life, that it never said.
fn made_up(room: &mut Room, victim: u8, number: u64) -> Command {
    let (now, life) = (room.now, room.hosts[&victim].life);
    let fence = room.group(victim).token(now).unwrap().term.0;
    let id = CommandId { origin: peer(victim), life, number };
    Command::new(&Seal(peer(victim % 3 + 1)), fence, id, Bytes::from_static(b"made up"))
}

#[test]
fn what_a_state_says_that_a_node_itself_has_open_is_proposed_only_if_it_signed_it() {
    for (numbers, leads) in [(&[u64::MAX][..], false), (&[1, 2, 3, u64::MAX], false), (&[2, 3], true)] {
        let mut room = Room::new(3);
        room.run(SECOND * 6);
        let victim = if leads { room.leader() } else { room.leader() % 3 + 1 };
        // What is committed in it is true, so that nothing speaks against it.
        let mut lie = Shared::new(Sheet::default(), (1..=3).map(peer).collect());
        lie.apply(&room.group(victim).shared.snapshot()).unwrap();
        for number in numbers {
            lie.accept(peer(victim), made_up(&mut room, victim, *number));
        }
        let (now, refused) = (room.now, room.refused(victim));
        room.group(victim).shared.apply(&lie.snapshot()).unwrap();
        room.group(victim).on_adopted(now);
        assert_eq!(room.group(victim).waiting.len(), numbers.len());
        // The first of its own takes the place of the one that was made up under its number.
        let made_up = numbers.iter().filter(|number| **number != 1).count();
        room.submit(victim, "its own").unwrap();
        room.run(SECOND * 2);
        assert!(room.group(victim).waiting.is_empty() && room.group(victim).shared().open().is_empty());
        assert_eq!(room.refused(victim), refused + made_up as u64, "it leaves a trace");
        for n in 1..=3 {
            assert_eq!(room.sheet(n), ["its own"], "node {n}");
        }
        assert_eq!((room.hosts[&victim].answers.len(), room.hosts[&victim].lost), (1, made_up));
    }
}

#[test]
fn what_is_proposed_again_of_a_state_takes_the_place_of_nothing_that_was_accepted_here() {
    let mut room = Room::new(3);
    room.run(SECOND * 6);
    let victim = room.leader() % 3 + 1;
    room.away = [victim].into();
    let id = room.submit(victim, "its own").unwrap();
    let (now, lie) = (room.now, made_up(&mut room, victim, id.number).encode());
    room.group(victim).do_state(now, ResolutionOutput::Propose(lie));
    room.run(SECOND);
    room.away.clear();
    room.run(SECOND * 3);
    assert_eq!(room.sheet(victim), ["its own"]);
    assert_eq!((room.hosts[&victim].answers.len(), room.hosts[&victim].lost), (1, 0));
}

/// A state without commands, in the words in which it travels, that says how many were carried out.
fn with_count(count: u64) -> Bytes {
    let (position, fence, rows, version, participants) = ((1_u64, 1_u64), 1_u64, 0_u8, 0_u64, 0_u8);
    let ledger = (position, fence, (rows, count), version, participants);
    let (open, clock) = (0_u8, 0_u8);
    postcard::to_allocvec(&((ledger, Sheet::default().save()), open, clock)).unwrap().into()
}

#[test]
fn a_state_with_a_count_that_nothing_can_follow_is_not_taken_over() {
    let mut shared = Shared::new(Sheet::default(), (1..=3).map(peer).collect());
    for count in [NUMBER_MAX, u64::MAX] {
        assert_eq!(shared.apply(&with_count(count)), Err("a number in it cannot be".to_owned()));
    }
    assert_eq!(shared.carried_out(), 0);
    shared.apply(&with_count(NUMBER_MAX - 1)).unwrap();
    let position = Position { term: 1, index: 2 };
    let carried = shared.on_committed(position, &own(2, 1, 1).encode(), &Seal(peer(1)));
    assert!(matches!(carried, Some((_, Carried::Out(_)))), "{carried:?}");
    assert_eq!((shared.carried_out(), shared.version().sequence), (NUMBER_MAX, NUMBER_MAX));
}
