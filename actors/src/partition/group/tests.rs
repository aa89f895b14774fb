//! Whole participants, over a network that delays and cuts: what the experiment on partitions does at length, and what it leaves out.
#![allow(clippy::unwrap_used)]

mod adversary;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::partition::Standing;

use super::super::medium::{Medium, MediumError};
use super::super::state::wire::{Packet, decode};
use super::super::terms::LEAP_MAX;
use super::super::views::{Number, View};
use super::super::wire::{SIGNATURE_BYTES, Signed, Statement};
use super::*;
use crate::testing::sim::Sheet;

#[derive(Debug)]
struct Seal(PeerId);

fn seal(peer: &PeerId, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
    let mut out = [0; SIGNATURE_BYTES];
    blake3::Hasher::new_keyed(peer.as_bytes()).update(bytes).finalize_xof().fill(&mut out);
    out
}

impl Signer for Seal {
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        seal(&self.0, bytes)
    }

    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        seal(peer, bytes) == *signature
    }
}

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

struct Host {
    group: Option<Group<Sheet>>,
    durable: Durable,
    life: u64,
    answers: Vec<String>,
    lost: usize,
    pauses: usize,
}

struct Room {
    now: Instant,
    hosts: BTreeMap<u8, Host>,
    /// On their way.
    packets: BTreeMap<(Instant, u64), (u8, u8, Concern, Bytes)>,
    sent: u64,
    away: BTreeSet<u8>,
    /// Who hears nothing of partitions: neither views nor proofs.
    deaf: BTreeSet<u8>,
    /// Who hears and is not heard.
    mute: BTreeSet<u8>,
    /// Whose medium does not come to an end with what it writes.
    stuck: BTreeSet<u8>,
    /// The size of its side that each one said first, since this was cleared.
    sides: BTreeMap<u8, u16>,
    /// Not all name the same participants, so that some are strangers to others.
    strangers: bool,
}

const STEP: Duration = Duration::from_millis(10);

impl Room {
    fn new(nodes: u8) -> Self {
        let now = crate::clock::now();
        let (hosts, packets, sides) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (away, deaf, mute, stuck) = Default::default();
        let mut room = Self { now, hosts, packets, sent: 0, away, deaf, mute, stuck, sides, strangers: false };
        for n in 1..=nodes {
            let durable = Durable::new((1..=nodes).map(peer));
            room.hosts.insert(n, Host { group: None, durable, life: 0, answers: Vec::new(), lost: 0, pauses: 0 });
            room.start(n);
        }
        room
    }

    fn start(&mut self, n: u8) {
        let host = self.hosts.get_mut(&n).unwrap();
        host.life += 1;
        let participant = Participant { me: peer(n), life: host.life, seed: host.life << 8 | u64::from(n) };
        let config = GroupConfig::default();
        let signer = Rc::new(Seal(peer(n)));
        let all = host.durable.stored.snapshot.membership.voters.clone();
        let group = Group::new(self.now, participant, all, config, &host.durable, signer, Sheet::default());
        host.group = Some(group.unwrap());
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += STEP;
            while let Some(entry) = self.packets.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (from, to, concern, payload) = entry.remove();
                let is_heard = concern != Concern::Partition || !self.deaf.contains(&to);
                if is_heard
                    && self.away.contains(&from) == self.away.contains(&to)
                    && let Some(group) = self.hosts.get_mut(&to).and_then(|host| host.group.as_mut())
                {
                    let taken = group.on_packet(self.now, peer(from), concern, &payload);
                    assert!(taken.is_ok() || self.strangers, "{taken:?}");
                }
            }
            for n in self.hosts.keys().copied().collect::<Vec<_>>() {
                self.pump(n);
            }
        }
    }

    fn pump(&mut self, n: u8) {
        let (now, host) = (self.now, self.hosts.get_mut(&n).unwrap());
        let Some(group) = &mut host.group else { return };
        if group.deadline(now) <= now {
            group.on_timeout(now);
        }
        while let Some(output) = group.poll_output(now) {
            match output {
                GroupOutput::Write(_) if self.stuck.contains(&n) => {}
                GroupOutput::Write(records) => {
                    records.into_iter().for_each(|record| host.durable.apply(record).unwrap());
                    group.on_written();
                }
                GroupOutput::WriteEvidence(evidence) => host.durable.remembered.evidence = evidence,
                GroupOutput::Send { .. } if self.mute.contains(&n) => {}
                GroupOutput::Send { to, concern, payload } => {
                    if let (Concern::State, Ok(Packet::Say(_, summary))) = (concern, decode(&payload)) {
                        self.sides.entry(n).or_insert(summary.side);
                    }
                    self.sent += 1;
                    self.packets.insert((now + STEP, self.sent), (n, to.as_bytes()[0], concern, payload));
                }
                GroupOutput::Pause { .. } => {
                    host.pauses += 1;
                    group.on_paused(now);
                }
                GroupOutput::Resume { .. } => group.on_resumed(now, true),
                GroupOutput::Answer { answer, .. } => host.answers.push(String::from_utf8(answer.to_vec()).unwrap()),
                GroupOutput::Lost { .. } => host.lost += 1,
                GroupOutput::Emit(_)
                | GroupOutput::Order(_)
                | GroupOutput::Committed { .. }
                | GroupOutput::Leader { .. }
                | GroupOutput::Adopted
                | GroupOutput::Unresolved
                | GroupOutput::SnapshotRefused(_)
                | GroupOutput::RolledBack(_) => {}
            }
        }
    }

    fn group(&mut self, n: u8) -> &mut Group<Sheet> {
        self.hosts.get_mut(&n).unwrap().group.as_mut().unwrap()
    }

    fn submit(&mut self, n: u8, what: &'static str) -> Result<CommandId, SubmitError> {
        let now = self.now;
        self.group(n).submit(now, Bytes::from_static(what.as_bytes()))
    }

    fn leader(&mut self) -> u8 {
        let hosts = self.hosts.keys().copied().collect::<Vec<_>>();
        hosts.into_iter().find(|n| self.group(*n).log.is_leader()).unwrap()
    }

    fn refused(&mut self, n: u8) -> u64 {
        let now = self.now;
        self.group(n).report(now).partition.metrics.refused
    }

    fn sheet(&mut self, n: u8) -> Vec<Bytes> {
        self.group(n).shared().machine().0.clone()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn commands_are_carried_out_once_everywhere_and_answered_where_they_were_accepted() {
    let mut room = Room::new(3);
    assert_eq!(room.submit(2, "too early"), Err(SubmitError::Paused));
    room.run(SECOND * 6);
    for (n, what) in [(1, "a"), (2, "b"), (3, "c")] {
        room.submit(n, what).unwrap();
    }
    room.run(SECOND * 3);
    let sheet = room.sheet(1);
    assert_eq!(sheet.iter().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!((room.sheet(2), room.sheet(3)), (sheet.clone(), sheet));
    let answers: BTreeSet<String> = room.hosts.values().flat_map(|host| host.answers.clone()).collect();
    assert_eq!(answers, ["1", "2", "3"].map(String::from).into());
}

#[test]
fn a_minority_takes_nothing_on_and_finds_all_again_what_was_done_meanwhile() {
    let mut room = Room::new(5);
    room.run(SECOND * 6);
    room.away = [4, 5].into();
    room.run(SECOND * 8);
    assert_eq!(room.submit(4, "alone"), Err(SubmitError::Paused));
    room.submit(1, "together").unwrap();
    room.run(SECOND * 2);
    room.away.clear();
    room.run(SECOND * 6);
    for n in 1..=5 {
        assert_eq!(room.sheet(n), ["together"], "node {n}");
        assert!(room.group(n).is_running(), "node {n}");
    }
}

#[test]
fn a_pause_does_not_wait_for_a_medium_that_hangs() {
    let mut room = Room::new(3);
    room.run(SECOND * 6);
    let before = room.hosts[&1].pauses;
    room.stuck = [1].into();
    room.submit(1, "is being written").unwrap();
    room.run(SECOND);
    room.away = [1].into();
    room.run(SECOND * 5);
    assert_eq!(room.hosts[&1].pauses, before + 1);
    assert_eq!(room.submit(1, "no"), Err(SubmitError::Paused));
}

#[test]
fn a_node_that_starts_again_has_what_was_durable() {
    let mut room = Room::new(3);
    room.run(SECOND * 6);
    room.submit(1, "kept").unwrap();
    room.run(SECOND);
    (1..=3).for_each(|n| room.start(n));
    assert_eq!(room.sheet(2), Vec::<Bytes>::new(), "the log is read when somebody leads again");
    room.run(SECOND * 10);
    for n in 1..=3 {
        assert_eq!(room.sheet(n), ["kept"], "node {n}");
    }
    room.submit(3, "more").unwrap();
    room.run(SECOND);
    assert_eq!(room.sheet(1), ["kept", "more"]);
}

/// A command as if a node had given it, in its very last life; by one who cannot sign for it.
fn forged(room: &mut Room, origin: u8, by: u8) -> (Command, PeerId) {
    let now = room.now;
    let token = room.group(by).token(now).unwrap();
    let id = CommandId { origin: peer(origin), life: u64::MAX, number: 1 };
    (Command::new(&Seal(peer(by)), token.term.0, id, Bytes::from_static(b"forged")), token.holder)
}

#[test]
fn nobody_gives_commands_in_the_name_of_another_one_or_uses_up_its_numbers() {
    let mut room = Room::new(3);
    room.run(SECOND * 6);
    let leader = room.leader();
    let others: Vec<u8> = (1..=3).filter(|n| *n != leader).collect();
    let (liar, victim) = (others[0], others[1]);
    let (command, holder) = forged(&mut room, victim, liar);
    let (now, payload) = (room.now, wire::encode(&command, &holder));
    let refused = room.refused(leader);
    room.group(leader).on_packet(now, peer(liar), Concern::Command, &payload).unwrap_err();
    assert_eq!(room.refused(leader), refused + 1, "it leaves a trace");
    room.run(SECOND * 2);
    room.submit(victim, "its own").unwrap();
    room.run(SECOND * 2);
    for n in 1..=3 {
        assert_eq!(room.sheet(n), ["its own"], "node {n}");
    }
    assert_eq!((room.hosts[&victim].answers.len(), room.hosts[&victim].lost), (1, 0));
}

#[test]
fn what_a_lying_leader_puts_into_the_log_for_another_one_is_passed_over_by_everybody() {
    let mut room = Room::new(3);
    room.run(SECOND * 6);
    let leader = room.leader();
    let victim = leader % 3 + 1;
    let (command, _) = forged(&mut room, victim, leader);
    let now = room.now;
    room.group(leader).log.propose(now, command.encode()).unwrap();
    room.group(leader).take_log();
    room.run(SECOND * 2);
    assert!((1..=3).all(|n| room.refused(n) >= 1), "everybody saw it");
    room.submit(victim, "its own").unwrap();
    room.run(SECOND * 2);
    (1..=3).for_each(|n| room.start(n));
    room.run(SECOND * 10);
    for n in 1..=3 {
        assert_eq!(room.sheet(n), ["its own"], "node {n}, now and when the log is read again");
    }
}

/// Three times node 4 says one thing to node 1 and another to node 2, under one number.
fn lie(room: &mut Room) {
    lie_to(room, 4, [1, 2]);
}

fn lie_to(room: &mut Room, liar: u8, to: [u8; 2]) {
    for count in 0..3 {
        for (to, bits) in to.into_iter().zip([1_u8, 2]) {
            let list = room.group(to).partition.configuration().list();
            let view = Statement::View(View { version: 1, list, heard: vec![bits], split: true, known: Vec::new() });
            let number = Number { incarnation: u64::MAX, count };
            let lie = Signed::new(&Seal(peer(liar)), peer(liar), number, &view).unwrap().encode().unwrap();
            let now = room.now;
            room.group(to).on_packet(now, peer(liar), Concern::Partition, &lie).unwrap();
        }
        room.run(SECOND);
    }
}

#[test]
fn who_is_proven_to_misbehave_is_taken_out_of_the_group_and_stays_out_when_everybody_starts_again() {
    let mut room = Room::new(4);
    room.run(SECOND * 6);
    room.submit(1, "before").unwrap();
    room.run(SECOND);
    lie(&mut room);
    room.run(SECOND * 20);
    let three: BTreeSet<PeerId> = (1..=3).map(peer).collect();
    for n in 1..=3 {
        let now = room.now;
        let report = room.group(n).report(now);
        assert_eq!(room.group(n).participants(), &three, "node {n}");
        assert_eq!(report.partition.excluded, [peer(4)], "node {n}");
        assert_ne!(report.partition.standing, Standing::Paused, "node {n}");
        assert_eq!(report.log.refused, 0);
    }
    (1..=3).for_each(|n| room.start(n));
    room.run(SECOND * 12);
    room.submit(2, "after").unwrap();
    room.run(SECOND);
    for n in 1..=3 {
        let now = room.now;
        assert_eq!(room.group(n).report(now).partition.excluded, [peer(4)], "node {n}");
        assert_eq!(room.group(n).participants(), &three, "node {n}");
        assert_eq!(room.sheet(n), ["before", "after"], "node {n}");
    }
}

#[test]
fn a_leader_that_was_cut_off_when_a_proof_was_made_learns_of_it_and_takes_the_liar_out() {
    let mut room = Room::new(4);
    room.run(SECOND * 6);
    let leader = room.leader();
    let others: Vec<u8> = (1..=4).filter(|n| *n != leader).collect();
    // It leads on, for it hears of the log, and of nothing else.
    room.deaf = [leader].into();
    lie_to(&mut room, others[2], [others[0], others[1]]);
    room.run(SECOND * 10);
    assert!(room.group(leader).log.is_leader() && room.group(leader).participants().contains(&peer(others[2])));
    room.deaf.clear();
    room.run(SECOND * 20);
    let honest: BTreeSet<PeerId> = [leader, others[0], others[1]].map(peer).into();
    for n in [leader, others[0], others[1]] {
        let now = room.now;
        assert_eq!(room.group(n).report(now).partition.excluded, [peer(others[2])], "node {n}");
        assert_eq!(room.group(n).participants(), &honest, "node {n}");
    }
}

#[test]
fn after_a_split_each_says_how_many_were_on_its_side() {
    let mut room = Room::new(5);
    room.run(SECOND * 6);
    room.away = [4, 5].into();
    room.run(SECOND * 10);
    room.away.clear();
    room.sides.clear();
    room.run(SECOND * 6);
    let leader = room.leader();
    let mut wanted = BTreeMap::from([(1, 3), (2, 3), (3, 3), (4, 2), (5, 2)]);
    // A leader says it to itself.
    wanted.remove(&leader);
    room.sides.remove(&leader);
    assert_eq!(room.sides, wanted);
}

/// Node 1 hears a majority, which does not hear it, and one is gone: nothing it tries helps, until it gives up what it cannot have committed.
#[test]
fn an_emergency_rollback_gives_up_what_is_open_and_nothing_that_was_committed() {
    let mut room = Room::new(3);
    room.run(SECOND * 6);
    room.submit(1, "committed").unwrap();
    room.run(SECOND);
    room.hosts.get_mut(&3).unwrap().group = None;
    room.mute = [1].into();
    room.submit(1, "open").unwrap();
    room.run(SECOND * 4);
    let now = room.now;
    room.group(1).on_lost(now, peer(3), bowline_messages::membership::FailureKind::CrashFailure);
    // Three attempts of half a minute to reach it, and three for a lease.
    room.run(SECOND * 170);
    assert_eq!((room.hosts[&1].lost, room.group(1).shared().open().len()), (0, 1));
    room.run(SECOND * 15);
    assert_eq!((room.hosts[&1].lost, room.group(1).shared().open().len()), (1, 0));
    assert_eq!(room.sheet(1), ["committed"]);
    room.mute.clear();
    room.start(3);
    room.run(SECOND * 15);
    let sheet = room.sheet(1);
    assert_eq!(sheet[0], "committed");
    assert!(sheet.iter().filter(|what| *what == "open").count() <= 1, "{sheet:?}");
    assert_eq!((room.sheet(2), room.sheet(3)), (sheet.clone(), sheet));
}

#[test]
fn a_pause_is_over_when_the_application_says_so_and_one_that_cannot_go_on_stays_paused() {
    let mut room = Room::new(3);
    room.run(SECOND * 6);
    let now = room.now;
    assert!(room.group(1).is_running());
    room.group(1).on_resumed(now, false);
    assert!(!room.group(1).is_running(), "it said that it cannot go on");
    assert_eq!(room.submit(1, "no"), Err(SubmitError::Paused));
}

#[test]
fn no_more_commands_are_under_way_than_are_remembered_and_none_is_too_large() {
    let mut room = Room::new(1);
    room.run(SECOND * 6);
    let limit = GroupConfig::default().log.entry_bytes_max as usize;
    let now = room.now;
    let large = room.group(1).submit(now, Bytes::from(vec![0; limit]));
    assert!(matches!(large, Err(SubmitError::TooLarge { .. })), "{large:?}");
    room.away = [1].into();
    let accepted = (0..2000).take_while(|_| room.submit(1, "x").is_ok()).count();
    assert_eq!(accepted as u64, Done::WINDOW);
    assert_eq!(room.submit(1, "x"), Err(SubmitError::Busy));
}

/// A leader that lies puts a command of its own into the log, under a lease that cannot be.
#[test]
fn a_fence_that_is_far_above_all_leases_does_not_end_the_group() {
    let mut room = Room::new(3);
    room.run(SECOND * 6);
    for fence in [u64::MAX, u64::MAX / 2, LEAP_MAX * 3] {
        let leader = room.leader();
        let now = room.now;
        let id = CommandId { origin: peer(leader), life: u64::MAX, number: fence };
        let lie = Command::new(&Seal(peer(leader)), fence, id, Bytes::from_static(b"lie"));
        room.group(leader).log.propose(now, lie.encode()).unwrap();
        room.group(leader).take_log();
        room.run(SECOND);
    }
    room.run(SECOND * 3);
    let victim = room.leader() % 3 + 1;
    room.submit(victim, "goes on").unwrap();
    room.run(SECOND * 5);
    for n in 1..=3 {
        assert!(room.sheet(n).iter().any(|what| what == "goes on"), "node {n}");
        let now = room.now;
        assert!(room.group(n).report(now).partition.term.0 < LEAP_MAX * 8, "node {n}");
    }
}

#[test]
fn who_was_away_when_somebody_was_taken_out_is_told_the_proofs_and_follows() {
    let mut room = Room::new(5);
    room.run(SECOND * 6);
    room.away = [5].into();
    room.run(SECOND);
    lie(&mut room);
    room.run(SECOND * 20);
    let honest: BTreeSet<PeerId> = [1, 2, 3, 5].map(peer).into();
    assert_eq!(room.group(1).participants(), &honest);
    assert!(room.group(5).participants().contains(&peer(4)));
    room.submit(1, "meanwhile").unwrap();
    room.run(SECOND);
    room.away.clear();
    // The one that was taken out is gone by now: it is nobody's witness.
    room.hosts.get_mut(&4).unwrap().group = None;
    room.run(SECOND * 15);
    assert_eq!(room.group(5).participants(), &honest);
    assert_eq!(room.sheet(5), ["meanwhile"]);
    assert!(room.group(5).is_running());
}

#[test]
fn a_state_that_says_who_takes_part_is_not_believed_without_proofs() {
    let mut room = Room::new(3);
    room.run(SECOND * 6);
    let all: BTreeSet<PeerId> = (1..=3).map(peer).collect();
    for who in [vec![3], vec![1, 2, 3, 4], vec![1, 2, 3]] {
        let (now, group) = (room.now, room.group(1));
        let position = Position { index: group.shared.position().index + 1, ..group.shared.position() };
        assert!(group.shared.on_members(position, who.into_iter().map(peer)));
        group.take_participants(now);
        assert_eq!((group.participants(), group.partition.configuration().version()), (&all, 1));
    }
}

/// Three participants at work, and then two more and the third with a list of five, while 1 and 2 still have the one of three.
fn two_lists() -> Room {
    let mut room = Room::new(3);
    room.run(SECOND * 6);
    assert!((1..=3).all(|n| room.group(n).is_running()));
    room.hosts.get_mut(&3).unwrap().group = None;
    room.strangers = true;
    for n in 4..=5 {
        let durable = Durable::new((1..=5).map(peer));
        room.hosts.insert(n, Host { group: None, durable, life: 0, answers: Vec::new(), lost: 0, pauses: 0 });
        room.start(n);
    }
    room
}

/// The network falls apart between those who have the old list and those who have the new one: a majority of each is on its side.
#[test]
fn two_lists_of_participants_never_give_two_active_sides() {
    for forgets in [false, true] {
        let mut room = two_lists();
        let folder = tempfile::tempdir().unwrap();
        drop(Medium::folder(folder.path(), Durable::new((1..=3).map(peer))).unwrap());
        let (new, mut side) = (Durable::new((1..=5).map(peer)), vec![4, 5]);
        if forgets {
            // Without its journal it begins, and asks all of the list which terms there were. Those with the other one do not answer.
            room.hosts.get_mut(&3).unwrap().durable = new;
            room.start(3);
            side.push(3);
        } else {
            // It has promised its part to the old group: it does not begin under the new list.
            let begun = Medium::folder(folder.path(), new);
            assert!(matches!(begun, Err(MediumError::Participants { .. })), "{begun:?}");
        }
        for beat in 0..150 {
            if beat == 30 {
                room.away = [1, 2].into();
            }
            room.run(SECOND / 5);
            let now = room.now;
            assert!(side.iter().all(|n| room.group(*n).token(now).is_none()), "forgets: {forgets}");
        }
        assert!([1, 2].iter().all(|n| room.group(*n).is_running()), "the old group is at work");
    }
}

#[test]
fn who_goes_by_another_list_is_shown_and_not_counted() {
    let mut room = two_lists();
    room.hosts.get_mut(&3).unwrap().durable = Durable::new((1..=5).map(peer));
    room.start(3);
    room.run(SECOND * 8);
    let now = room.now;
    assert_eq!(room.group(1).report(now).partition.others, [peer(3)]);
    assert_eq!(room.group(3).report(now).partition.others, [1, 2].map(peer));
    assert_eq!(room.group(1).report(now).partition.missing, [peer(3)]);
    // 1 and 3 hear each other, and two of three are a majority by the list of 1.
    room.hosts.get_mut(&2).unwrap().group = None;
    room.run(SECOND * 10);
    let now = room.now;
    assert_eq!(room.group(1).token(now), None);
    assert_eq!(room.group(1).report(now).log.leader, None, "nor is anything committed");
}
