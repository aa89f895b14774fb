//! What members that lie cost the others: not their sight, not their voice, not their time.

use std::cell::Cell;
use std::rc::Rc;

use bowline_messages::membership::{MembershipEvent, Offence};
use bowline_messages::{Incarnation, PeerId};
use foca::Message;

use super::super::simulation::{CheapKeys, Network, Simulation};
use super::super::wire::{Claim, Node, Packet, Statement, VERSION, to_direct, unsigned_to_direct};
use super::super::{Keys, Membership, MembershipOutput, Refusal};
use super::hostile::{Liar, node};
use super::*;

const HONEST: usize = 8;

fn is_down(event: &MembershipEvent) -> bool {
    matches!(event, MembershipEvent::Down { .. })
}

/// A group that such liars have joined.
fn infested(liars: usize, seed: u64) -> (Simulation, Vec<Liar>) {
    let mut simulation = group(HONEST, seed);
    let mut liars: Vec<Liar> = (0..liars).map(|n| Liar::new(100 + n)).collect();
    for liar in &mut liars {
        (0..HONEST).for_each(|to| liar.gives(&mut simulation, to, Message::Gossip, &[]).unwrap());
    }
    (simulation, liars)
}

fn charge(accused: Node, number: u16, accuser: PeerId) -> Statement {
    Liar::says(Claim::Accuse { accused, number, accuser })
}

/// Lets node 4 crash while something goes on; how long it takes until all others have excluded it.
fn found_after(
    simulation: &mut Simulation,
    most: u32,
    step: Duration,
    mut goes_on: impl FnMut(&mut Simulation),
) -> Duration {
    let begin = simulation.now();
    while simulation.now() < begin + SECOND * 20 {
        goes_on(simulation);
        simulation.run(step);
    }
    simulation.crash(4);
    let crashed = simulation.now();
    while count(simulation, 4, is_down) < HONEST - 1 {
        goes_on(simulation);
        simulation.run(step);
        assert!(simulation.now() < crashed + SECOND * most, "{} found it in {most} s", count(simulation, 4, is_down));
    }
    simulation.now() - crashed
}

#[test]
fn whoever_says_again_and_again_that_others_are_excluded_does_not_keep_them_from_finding_a_crash() {
    for (count, most) in [(1, 30), (8, 60)] {
        let (mut simulation, mut liars) = infested(count, 60);
        found_after(&mut simulation, most, SECOND, |simulation| {
            for liar in &mut liars {
                for to in (0..HONEST).filter(|to| *to != 4) {
                    let _ = liar.tells(simulation, to, Message::TurnUndead, &[]);
                }
            }
        });
        let told =
            |event: &MembershipEvent| matches!(event, MembershipEvent::Offended { offence: Offence::RenewalFlood, .. });
        assert!(simulation.noted.iter().any(|noted| told(&noted.event)));
    }
}

#[test]
fn accusations_by_one_member_or_by_strangers_do_not_keep_a_node_in_doubt() {
    for stranger in [false, true] {
        let (mut simulation, mut liars) = infested(1, 61);
        let liar = &mut liars[0];
        let mut doubts = Vec::new();
        for round in 0..150_usize {
            let (accused, number) = simulation.with(0, |machine| (machine.node, machine.number)).unwrap();
            let accuser = if stranger { Simulation::peer(1000 + round) } else { liar.node.peer };
            let _ = liar.tells(&mut simulation, 0, Message::Gossip, &[charge(accused, number, accuser)]);
            simulation.run(SECOND * 4 / 5);
            doubts.push(simulation.machine(0).unwrap().doubt());
        }
        let late = &doubts[50..];
        let mean = f64::from(late.iter().sum::<u32>()) / late.len() as f64;
        assert!(mean < 2.0, "stranger {stranger}: {mean}");
        assert!(simulation.machine(0).unwrap().number > 20, "every one is answered all the same, in time");
    }
}

#[test]
fn each_member_has_a_budget_and_nobody_uses_up_that_of_another() {
    let (mut simulation, mut liars) = infested(2, 62);
    let (one, other) = liars.split_at_mut(1);
    let answers = (0..5000).filter(|n| {
        if n % 500 == 0 {
            simulation.run(SECOND / 10);
        }
        one[0].tells(&mut simulation, 0, Message::Ping(1), &[]) == Ok(())
    });
    let answers = answers.count();
    assert!((500..700).contains(&answers), "{answers} of 5000 in a second");
    assert_eq!(simulation.machine(0).unwrap().refused()[&Refusal::TooMany], 5000 - answers as u64);
    assert_eq!(other[0].tells(&mut simulation, 0, Message::Ping(1), &[]), Ok(()));
    simulation.run(SECOND);
    assert_eq!(one[0].tells(&mut simulation, 0, Message::Ping(1), &[]), Ok(()));
}

#[test]
fn nobody_else_chooses_where_packets_go() {
    let (mut simulation, mut liars) = infested(1, 63);
    let mut sent_to = |message: Message<Node>, target: PeerId| {
        let dst = simulation.machine(0).unwrap().node;
        let (bytes, now) = (liars[0].packet_to(dst, message, &[]), simulation.now());
        let sent = |output| match output {
            MembershipOutput::Send { to, .. } => to == target,
            MembershipOutput::Emit(_) => false,
        };
        let count = simulation.with(0, |machine| {
            let _ = machine.on_packet(now, &bytes);
            std::iter::from_fn(|| machine.poll_output()).filter(|output| sent(output.clone())).count()
        });
        simulation.run(SECOND / 50);
        count.unwrap()
    };
    let (nobody, member) = (node(777), node(3));
    assert_eq!(sent_to(Message::PingReq { target: nobody, probe_number: 1 }, nobody.peer), 0);
    assert_eq!(sent_to(Message::IndirectAck { target: nobody, probe_number: 1 }, nobody.peer), 0);
    let asked: usize =
        (0..100).map(|_| sent_to(Message::PingReq { target: member, probe_number: 1 }, member.peer)).sum();
    assert!((8..16).contains(&asked), "{asked} of a hundred in two seconds");
}

#[test]
fn questions_without_end_do_not_have_all_news_told_to_whoever_asks() {
    let quiet = {
        let (mut simulation, _) = infested(1, 64);
        found_after(&mut simulation, 60, SECOND / 5, |_| ())
    };
    let (mut simulation, mut liars) = infested(1, 64);
    let asked = found_after(&mut simulation, 60, SECOND / 5, |simulation| {
        for to in (0..HONEST).filter(|to| *to != 4) {
            for n in 0..20 {
                let _ = liars[0].tells(simulation, to, Message::Ping(n), &[]);
            }
        }
    });
    assert!(asked < quiet + SECOND * 5, "{asked:?} instead of {quiet:?}");
}

#[test]
fn a_member_that_makes_room_is_told_of_and_nothing_more_is_told_about_it() {
    let config = MembershipConfig { members_max: 10, ..MembershipConfig::default() };
    let mut simulation = Simulation::new(Instant::now(), config, Network::default(), 65);
    simulation.add_group(2, SECOND);
    assert!(simulation.run_until(30 * SECOND, Simulation::is_complete));
    let mut liar = Liar::new(100);
    let names: Vec<Statement> = (1000..1005).map(|n| Liar::says(Claim::Alive { node: node(n), number: 0 })).collect();
    liar.gives(&mut simulation, 0, Message::Gossip, &names).unwrap();
    let told = simulation.machine(0).unwrap().news.len();
    for newcomer in 200..204 {
        Liar::new(newcomer).gives(&mut simulation, 0, Message::Gossip, &[]).unwrap();
    }
    let evicted = |event: &MembershipEvent| matches!(event, MembershipEvent::Evicted { .. });
    let gone = simulation.noted.iter().filter(|noted| noted.by == 0 && evicted(&noted.event)).count();
    let machine = simulation.machine(0).unwrap();
    assert_eq!((machine.active(), gone), (10, 1));
    assert_eq!(machine.news.len(), told - gone);
}

/// Keys that count the packets that are signed with them, and those whose signatures are checked.
struct Counted(CheapKeys, Rc<Cell<u32>>);

impl Keys for Counted {
    fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.1.set(self.1.get() + u32::from(bytes.first() == Some(&VERSION)));
        self.0.sign(bytes)
    }
    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.1.set(self.1.get() + u32::from(bytes.first() == Some(&VERSION)));
        self.0.verify(peer, bytes, signature)
    }
    fn admits(&self, _: &PeerId) -> bool {
        true
    }
}

#[test]
fn nobody_has_signatures_of_packets_checked_over_a_session() {
    let (now, me, checked) = (Instant::now(), Simulation::peer(0), Rc::new(Cell::new(0)));
    let keys = Box::new(Counted(CheapKeys(me), Rc::clone(&checked)));
    let mut machine = Membership::new(now, MembershipConfig::default(), me, Incarnation(1), keys, 1);
    let mut member = Liar::new(1);
    let hello = member.packet_to(machine.node, Message::Announce, &[]);
    // Through others: this node opened what it was sealed in.
    assert_eq!(machine.on_direct(now, me, &hello), Ok(()));
    assert_eq!((checked.replace(0), machine.is_member(&member.node.peer)), (1, true));
    // In the name of a member, and in its own: this neighbour is in no roster, so nobody would pay.
    let mut neighbour = Liar::new(2);
    for _ in 0..1000 {
        for liar in [&mut member, &mut neighbour] {
            let mut whole = liar.packet_to(machine.node, Message::Gossip, &[]).to_vec();
            *whole.last_mut().unwrap() ^= 1;
            assert_eq!(machine.on_direct(now, node(2).peer, &whole), Err(Refusal::Version));
        }
    }
    assert_eq!(checked.get(), 0);
    let own = to_direct(&neighbour.packet_to(machine.node, Message::Announce, &[])).unwrap();
    assert_eq!(machine.on_direct(now, node(2).peer, &own), Ok(()));
}

#[test]
fn what_goes_over_a_session_is_not_signed() {
    let (now, me, signed) = (Instant::now(), Simulation::peer(0), Rc::new(Cell::new(0)));
    let keys = Box::new(Counted(CheapKeys(me), Rc::clone(&signed)));
    let mut machine = Membership::new(now, MembershipConfig::default(), me, Incarnation(1), keys, 1);
    machine.join(now, Simulation::peer(1));
    let Some(MembershipOutput::Send { unsigned, .. }) = machine.poll_output() else { panic!("nothing is sent") };
    assert!(unsigned_to_direct(&unsigned).is_some());
    assert_eq!(signed.get(), 0);
    let whole = machine.whole(&unsigned);
    assert_eq!((signed.get(), to_direct(&whole)), (1, unsigned_to_direct(&unsigned)));
    assert!(Packet::decode(&whole, 1200).is_ok());
}
