//! What others can do to a group: strangers with bytes, and members that lie.

use std::cell::RefCell;
use std::rc::Rc;

use bowline_messages::PeerId;
use bowline_messages::membership::{MemberState, MembershipEvent, Offence};
use bytes::Bytes;
use foca::{Header, Message};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::simulation::{CheapKeys, Network, Simulation};
use super::super::wire::{Claim, Draft, Node, Signature, Statement, to_direct};
use super::super::{Keys, Membership, MembershipOutput, Refusal};
use super::*;

/// A node with the key of one of the numbers above those in use: an insider when it has joined, an attacker at any rate.
pub(super) struct Liar {
    pub(super) node: Node,
    sequence: u64,
    number: u16,
}

impl Liar {
    pub(super) fn new(number: usize) -> Self {
        Self { node: Node { peer: Simulation::peer(number), life: 1, renewal: 0 }, sequence: 0, number: 0 }
    }

    pub(super) fn says(claim: Claim) -> Statement {
        Statement { claim, signature: Signature(CheapKeys(claim.author()).sign(&claim.signed_bytes())) }
    }

    fn packet(&mut self, to: usize, message: Message<Node>, statements: &[Statement]) -> Bytes {
        self.packet_to(Node { peer: Simulation::peer(to), life: 1, renewal: 0 }, message, statements)
    }

    pub(super) fn packet_to(&mut self, dst: Node, message: Message<Node>, statements: &[Statement]) -> Bytes {
        self.sequence += 1;
        let header = Header { src: self.node, src_incarnation: self.number, dst, message };
        let mut draft = Draft::new(header, self.sequence, None, None, 1200);
        for statement in statements {
            assert!(draft.push(statement));
        }
        let keys = CheapKeys(self.node.peer);
        draft.finish(|bytes| Signature(keys.sign(bytes)))
    }

    /// What the node answers, whatever its name is by now.
    pub(super) fn tells(
        &mut self,
        simulation: &mut Simulation,
        to: usize,
        message: Message<Node>,
        statements: &[Statement],
    ) -> Result<(), Refusal> {
        let (dst, now) = (simulation.machine(to).unwrap().node, simulation.now());
        let bytes = self.packet_to(dst, message, statements);
        simulation.with(to, |machine| machine.on_packet(now, &bytes)).unwrap()
    }

    /// What the node answers.
    pub(super) fn gives(
        &mut self,
        simulation: &mut Simulation,
        to: usize,
        message: Message<Node>,
        statements: &[Statement],
    ) -> Result<(), Refusal> {
        let (bytes, now) = (self.packet(to, message, statements), simulation.now());
        simulation.with(to, |machine| machine.on_packet(now, &bytes)).unwrap()
    }
}

pub(super) fn node(number: usize) -> Node {
    Liar::new(number).node
}

/// A machine and what it sends to somebody who says hello.
fn recorded(simulation: &Simulation) -> (Membership, Vec<Bytes>) {
    let me = Simulation::peer(50);
    let config = MembershipConfig::default();
    let life = bowline_messages::Incarnation(1);
    let mut machine = Membership::new(simulation.now(), config, me, life, Box::new(CheapKeys(me)), 1);
    machine.join(simulation.now(), Simulation::peer(0));
    let mut packets = Vec::new();
    while let Some(output) = machine.poll_output() {
        if let MembershipOutput::Send { unsigned, .. } = output {
            packets.push(machine.whole(&unsigned));
        }
    }
    (machine, packets)
}

#[test]
fn a_packet_counts_once_and_only_for_whom_it_is() {
    let mut simulation = group(3, 20);
    let (_, packets) = recorded(&simulation);
    let now = simulation.now();
    let mut give =
        |to, bytes: &[u8]| simulation.with(to, |machine: &mut Membership| machine.on_packet(now, bytes)).unwrap();
    assert_eq!(give(0, &packets[0]), Ok(()));
    assert_eq!(give(0, &packets[0]), Err(Refusal::Replayed));
    assert_eq!(give(1, &packets[0]), Err(Refusal::Misaddressed));
    let mut changed = packets[0].to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(give(2, &changed), Err(Refusal::Misaddressed));
    let mut long = packets[0].to_vec();
    long.resize(1201, 0);
    assert_eq!(give(0, &long), Err(Refusal::TooLong));
    assert_eq!(give(0, &[]), Err(Refusal::Malformed));
    let refused: u64 = simulation.machine(0).unwrap().refused().values().sum();
    assert_eq!(refused, 3);
}

#[test]
fn what_a_member_says_of_itself_is_passed_on_also_by_those_who_hear_it_first_hand() {
    let mut simulation = group(3, 28);
    let mut other = Liar::new(9);
    other.gives(&mut simulation, 0, Message::Gossip, &[]).unwrap();
    simulation.run(3 * SECOND);
    assert!(simulation.machine(0).unwrap().news.is_empty());
    other.number = 1;
    let statement = Liar::says(Claim::Alive { node: other.node, number: 1 });
    other.gives(&mut simulation, 0, Message::Gossip, &[statement]).unwrap();
    assert_eq!(simulation.machine(0).unwrap().news.len(), 1);
}

#[test]
fn an_earlier_life_cannot_speak_for_a_later_one() {
    let mut simulation = group(3, 21);
    let mut clone = Liar::new(2);
    clone.sequence = 1_000_000;
    clone.node.life = 0;
    assert_eq!(clone.gives(&mut simulation, 0, Message::Gossip, &[]), Err(Refusal::Replayed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_do_any_harm(cut in 0..400usize, at in 0..400usize, bit in 0..8u8, garbage in proptest::collection::vec(any::<u8>(), 0..1300)) {
        let mut simulation = group(2, 22);
        let (_, packets) = recorded(&simulation);
        let whole = &packets[0];
        let mut changed = whole.to_vec();
        let place = at % changed.len();
        changed[place] ^= 1 << bit;
        let now = simulation.now();
        for bytes in [&garbage[..], &whole[..cut.min(whole.len() - 1)], &changed] {
            let result = simulation.with(0, |machine| machine.on_packet(now, bytes)).unwrap();
            prop_assert!(result.is_err());
        }
        prop_assert_eq!(simulation.machine(0).unwrap().active(), 1);
        simulation.run(5 * SECOND);
        prop_assert!(simulation.is_complete());
    }

    /// Everything a member can sign, as nonsensical as it may be.
    #[test]
    fn no_member_can_make_another_panic(seed in any::<u64>()) {
        let mut simulation = group(4, 23);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut liar = Liar::new(9);
        for _ in 0..60 {
            let any_node = |rng: &mut ChaCha8Rng| Node {
                peer: Simulation::peer(rng.random_range(0..12)),
                life: [0, 1, 2, u64::MAX][rng.random_range(0..4)],
                renewal: [0, 1, u32::MAX][rng.random_range(0..3)],
            };
            let number = [0, 1, u16::MAX - 1, u16::MAX][rng.random_range(0..4)];
            let (target, probe_number) = (any_node(&mut rng), rng.random());
            let message = match rng.random_range(0..11) {
                0 => Message::Ping(probe_number),
                1 => Message::Ack(probe_number),
                2 => Message::PingReq { target, probe_number },
                3 => Message::IndirectPing { origin: target, probe_number },
                4 => Message::IndirectAck { target, probe_number },
                5 => Message::ForwardedAck { origin: target, probe_number },
                6 => Message::Announce,
                7 => Message::Feed,
                8 => Message::Broadcast,
                9 => Message::TurnUndead,
                _ => Message::Gossip,
            };
            let claims = [
                Claim::Alive { node: any_node(&mut rng), number },
                Claim::Accuse { accused: any_node(&mut rng), number, accuser: Simulation::peer(rng.random_range(0..12)) },
                Claim::Leave { node: any_node(&mut rng) },
            ];
            let statements: Vec<Statement> = claims.into_iter().filter(|_| rng.random()).map(Liar::says).collect();
            let (to, from, now) = (rng.random_range(0..4), liar.node.peer, simulation.now());
            let dst = if rng.random() { simulation.machine(to).unwrap().node } else { Node { renewal: 0, ..node(to) } };
            let whole = liar.packet_to(dst, message, &statements);
            // As neighbours send, and as it comes through others.
            let direct = to_direct(&whole).filter(|_| rng.random());
            let _ = simulation.with(to, |machine| match &direct {
                Some(direct) => machine.on_direct(now, from, direct),
                None => machine.on_packet(now, &whole),
            });
            simulation.run(Duration::from_millis(rng.random_range(0..500)));
        }
        for node in 0..4 {
            let machine = simulation.machine(node).unwrap();
            prop_assert!(machine.roster.records().len() <= 12);
            prop_assert!(machine.news.len() <= 256);
        }
    }
}

#[test]
fn one_liar_cannot_exclude_a_healthy_member() {
    let mut simulation = group(8, 24);
    let mut liar = Liar::new(9);
    for round in 0..240 {
        let accused = node(3);
        let number = simulation.machine(3).unwrap().number;
        let charge = Liar::says(Claim::Accuse { accused, number, accuser: liar.node.peer });
        for to in [0, 1, 2, 4, 5, 6, 7] {
            let _ = liar.gives(&mut simulation, to, Message::Gossip, &[charge]);
        }
        let _ = liar.gives(&mut simulation, round % 8, Message::TurnUndead, &[]);
        simulation.run(SECOND / 2);
    }
    let down = |event: &MembershipEvent| matches!(event, MembershipEvent::Down { .. });
    for honest in 0..8 {
        assert_eq!(count(&simulation, honest, down), 0, "node {honest}");
    }
}

#[test]
fn a_storm_of_accusations_is_answered_once_in_a_while() {
    let mut simulation = group(3, 29);
    let mut liar = Liar::new(9);
    for _ in 0..100 {
        let number = simulation.machine(0).unwrap().number;
        let charge = Liar::says(Claim::Accuse { accused: node(0), number, accuser: liar.node.peer });
        let _ = liar.gives(&mut simulation, 0, Message::Gossip, &[charge]);
        simulation.run(Duration::from_millis(20));
    }
    let number = simulation.machine(0).unwrap().number;
    assert!((1..=3).contains(&number), "{number}");
}

#[test]
fn those_that_come_and_go_fill_no_memory() {
    let config = MembershipConfig { members_max: 10, ..MembershipConfig::default() };
    let mut simulation = Simulation::new(Instant::now(), config, Network::default(), 30);
    simulation.add_group(3, SECOND);
    let mut liar = Liar::new(9_999);
    for invented in 1000..1200 {
        let (alive, leave) = (Claim::Alive { node: node(invented), number: 0 }, Claim::Leave { node: node(invented) });
        liar.gives(&mut simulation, 0, Message::Gossip, &[Liar::says(alive), Liar::says(leave)]).unwrap();
    }
    let machine = simulation.machine(0).unwrap();
    assert!(machine.roster.records().len() <= 20, "{}", machine.roster.records().len());
    assert_eq!(machine.swim.members().count(), machine.roster.records().len());
}

#[test]
fn nobody_speaks_in_the_name_of_another() {
    let mut simulation = group(4, 25);
    let mut liar = Liar::new(9);
    let leave = Claim::Leave { node: node(2) };
    let forged =
        Statement { claim: leave, signature: Signature(CheapKeys(liar.node.peer).sign(&leave.signed_bytes())) };
    liar.gives(&mut simulation, 0, Message::Gossip, &[forged]).unwrap();
    assert_eq!(simulation.machine(0).unwrap().refused()[&Refusal::ForgedStatement], 1);
    let told =
        |event: &MembershipEvent| matches!(event, MembershipEvent::Offended { offence: Offence::ForgedStatement, .. });
    assert_eq!(count(&simulation, 9, told), 1);
    let machine = simulation.machine(0).unwrap();
    assert_eq!(machine.roster.get(&Simulation::peer(2)).unwrap().state(), MemberState::Alive);
}

#[test]
fn a_number_that_was_never_reached_is_a_lie() {
    let mut simulation = group(3, 26);
    let mut liar = Liar::new(9);
    for accused in [node(0), Node { renewal: 5, ..node(0) }] {
        let charge = Liar::says(Claim::Accuse { accused, number: u16::MAX, accuser: liar.node.peer });
        liar.gives(&mut simulation, 0, Message::Gossip, &[charge]).unwrap();
    }
    let machine = simulation.machine(0).unwrap();
    assert_eq!((machine.number, machine.node.renewal), (0, 0), "it is not answered");
    let told = |event: &MembershipEvent| {
        matches!(event, MembershipEvent::Offended { offence: Offence::ImpossibleAccusation, .. })
    };
    assert_eq!(simulation.noted.iter().filter(|noted| told(&noted.event)).count(), 1);
}

#[test]
fn invented_members_find_half_of_the_places_at_most_and_real_ones_find_room() {
    let config = MembershipConfig { members_max: 40, ..MembershipConfig::default() };
    let mut simulation = Simulation::new(Instant::now(), config, Network::default(), 27);
    simulation.add_group(10, SECOND);
    assert!(simulation.run_until(30 * SECOND, Simulation::is_complete));
    let mut liar = Liar::new(9_999);
    for invented in (1000..5000).step_by(8) {
        let statements: Vec<Statement> =
            (invented..invented + 8).map(|number| Liar::says(Claim::Alive { node: node(number), number: 0 })).collect();
        liar.gives(&mut simulation, 0, Message::Gossip, &statements).unwrap();
    }
    let machine = simulation.machine(0).unwrap();
    assert!(machine.active() <= 40, "{}", machine.active());
    let invented = machine.roster.members().filter(|(_, record)| record.heard().is_none()).count();
    assert!(invented <= 20, "{invented}");
    assert!(machine.refused()[&Refusal::Full] > 3000);
    // A flood goes on while others come: they find room by being heard.
    for _ in 0..20 {
        let newcomer = simulation.add();
        simulation.join(newcomer, 0);
        simulation.run(SECOND);
    }
    let machine = simulation.machine(0).unwrap();
    let real = (10..30)
        .filter(|number| machine.roster.get(&Simulation::peer(*number)).is_some_and(|known| known.state().is_active()));
    assert_eq!(real.count(), 20);
    // And what never answers is excluded in time.
    simulation.run(200 * SECOND);
    let machine = simulation.machine(0).unwrap();
    let invented = |peer: &PeerId| simulation.place(peer).is_none();
    assert_eq!(machine.roster.members().filter(|(peer, _)| invented(peer)).count(), 0);
    assert!(machine.roster.records().len() <= 80);
}

/// Keys of a node whose trust changes.
struct Choosy(CheapKeys, Rc<RefCell<Vec<PeerId>>>);

impl Keys for Choosy {
    fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes)
    }
    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify(peer, bytes, signature)
    }
    fn admits(&self, peer: &PeerId) -> bool {
        !self.1.borrow().contains(peer)
    }
}

#[test]
fn somebody_who_is_not_admitted_is_nobody() {
    let (now, me) = (Instant::now(), Simulation::peer(0));
    let config = MembershipConfig::default();
    let life = bowline_messages::Incarnation(1);
    let refused = vec![Simulation::peer(9), Simulation::peer(10)];
    let keys = Box::new(Choosy(CheapKeys(me), Rc::new(RefCell::new(refused))));
    let mut machine = Membership::new(now, config, me, life, keys, 1);
    assert_eq!(machine.on_packet(now, &Liar::new(9).packet(0, Message::Announce, &[])), Err(Refusal::NotAdmitted));
    let hearsay = [Liar::says(Claim::Alive { node: node(10), number: 0 })];
    assert_eq!(machine.on_packet(now, &Liar::new(8).packet(0, Message::Gossip, &hearsay)), Ok(()));
    assert_eq!(machine.refused()[&Refusal::NotAdmitted], 2);
    assert_eq!(machine.active(), 1);
}

#[test]
fn a_member_that_is_refused_from_now_on_is_nobody_whatever_others_say() {
    let (mut now, me) = (Instant::now(), Simulation::peer(0));
    let refused = Rc::<RefCell<Vec<PeerId>>>::default();
    let keys = Box::new(Choosy(CheapKeys(me), Rc::clone(&refused)));
    let life = bowline_messages::Incarnation(1);
    let mut machine = Membership::new(now, MembershipConfig::default(), me, life, keys, 1);
    let (mut bad, mut good) = (Liar::new(9), Liar::new(8));
    machine.on_packet(now, &bad.packet(0, Message::Announce, &[])).unwrap();
    machine.on_packet(now, &good.packet(0, Message::Announce, &[])).unwrap();
    let accused = Liar::says(Claim::Accuse { accused: node(9), number: 0, accuser: node(8).peer });
    machine.on_packet(now, &good.packet(0, Message::Gossip, &[accused])).unwrap();
    assert_eq!((machine.active(), machine.roster.suspects().len()), (2, 1));

    refused.borrow_mut().push(node(9).peer);
    // Before anybody tells: news of one that is known still is not taken.
    let news = Liar::says(Claim::Alive { node: node(9), number: 1 });
    machine.on_packet(now, &good.packet(0, Message::Gossip, &[news])).unwrap();
    assert_eq!(machine.refused()[&Refusal::NotAdmitted], 1);
    machine.on_admission_changed(now);
    assert_eq!((machine.active(), machine.roster.suspects().len()), (1, 0));
    assert!(machine.roster.get(&node(9).peer).is_none());
    let events = |machine: &mut Membership| {
        let emitted = |output| match output {
            MembershipOutput::Emit(event) => Some(event),
            MembershipOutput::Send { .. } => None,
        };
        std::iter::from_fn(|| machine.poll_output()).filter_map(emitted).collect::<Vec<_>>()
    };
    assert_eq!(events(&mut machine).last(), Some(&MembershipEvent::ShutOut { peer: node(9).peer }));
    for number in 2..60 {
        now += SECOND;
        machine.on_timeout(now);
        let news = Liar::says(Claim::Alive { node: node(9), number });
        let accused = Liar::says(Claim::Accuse { accused: node(9), number, accuser: node(8).peer });
        machine.on_packet(now, &good.packet(0, Message::Gossip, &[news, accused])).unwrap();
    }
    assert!(machine.roster.get(&node(9).peer).is_none());
    let about =
        |event: &MembershipEvent| matches!(event, MembershipEvent::Suspected { peer, .. } if *peer == node(9).peer);
    assert!(!events(&mut machine).iter().any(about));

    refused.borrow_mut().clear();
    let news = Liar::says(Claim::Alive { node: node(9), number: 60 });
    machine.on_packet(now, &good.packet(0, Message::Gossip, &[news])).unwrap();
    assert!(machine.is_member(&node(9).peer), "let back in");
}

/// A statement in the name of somebody that this one did not sign.
fn forged(number: usize) -> Statement {
    Statement { signature: Signature([7; 64]), ..Liar::says(Claim::Alive { node: node(number), number: 0 }) }
}

#[test]
fn whoever_finds_no_place_has_no_signature_checked() {
    let config = MembershipConfig { members_max: 8, ..MembershipConfig::default() };
    let mut simulation = Simulation::new(Instant::now(), config, Network::default(), 31);
    simulation.add_group(2, SECOND);
    let mut liar = Liar::new(9_999);
    let names: Vec<_> = (1000..1004).map(|n| Liar::says(Claim::Alive { node: node(n), number: 0 })).collect();
    liar.gives(&mut simulation, 0, Message::Gossip, &names).unwrap();
    liar.gives(&mut simulation, 0, Message::Gossip, &[forged(2000), forged(2001)]).unwrap();
    let refused = simulation.machine(0).unwrap().refused();
    assert_eq!((refused.get(&Refusal::Full), refused.get(&Refusal::ForgedStatement)), (Some(&2), None));
}

#[test]
fn nobody_is_looked_through_for_whoever_finds_no_place() {
    let (start, me) = (Instant::now(), Simulation::peer(0));
    let config = MembershipConfig { members_max: 4, ..MembershipConfig::default() };
    let later = start + config.forget_after * 2;
    let life = bowline_messages::Incarnation(1);
    let mut machine = Membership::new(start, config, me, life, Box::new(CheapKeys(me)), 1);
    let mut members: Vec<Liar> = (1..=4).map(Liar::new).collect();
    machine.on_packet(start, &members[0].packet(0, Message::Announce, &[])).unwrap();
    for mut gone in (100..104).map(Liar::new) {
        machine.on_packet(start, &gone.packet(0, Message::Announce, &[])).unwrap();
        let leave = Liar::says(Claim::Leave { node: gone.node });
        machine.on_packet(start, &members[0].packet(0, Message::Gossip, &[leave])).unwrap();
    }
    for member in &mut members[1..] {
        machine.on_packet(later, &member.packet(0, Message::Announce, &[])).unwrap();
    }
    assert_eq!((machine.active(), machine.roster.records().len()), (4, 8));
    // Those that are gone are due to be forgotten. That is done in its turn, and not for each packet of a stranger.
    assert_eq!(machine.on_packet(later, &Liar::new(9).packet(0, Message::Announce, &[])), Err(Refusal::Full));
    assert_eq!(machine.roster.records().len(), 8);
}

#[test]
fn nobody_has_signatures_of_names_without_number_checked() {
    let config = MembershipConfig { members_max: 40, ..MembershipConfig::default() };
    let mut simulation = Simulation::new(Instant::now(), config, Network::default(), 32);
    simulation.add_group(2, SECOND);
    let mut liar = Liar::new(9_999);
    for number in 1000..1200 {
        liar.gives(&mut simulation, 0, Message::Gossip, &[forged(number)]).unwrap();
    }
    let refused = simulation.machine(0).unwrap().refused();
    assert_eq!((refused[&Refusal::ForgedStatement], refused[&Refusal::TooManyNames]), (20, 180));
    // Others may bring names all the same.
    let news = Liar::says(Claim::Alive { node: node(1500), number: 0 });
    Liar::new(9).gives(&mut simulation, 0, Message::Gossip, &[news]).unwrap();
    assert!(simulation.machine(0).unwrap().is_member(&node(1500).peer));
}

#[test]
fn offences_are_forgotten_with_the_rest_of_the_history() {
    let config = MembershipConfig { forget_after: SECOND * 60, ..MembershipConfig::default() };
    let mut simulation = Simulation::new(Instant::now(), config, Network::default(), 33);
    simulation.add_group(2, SECOND);
    let mut liar = Liar::new(9_999);
    let offended = |simulation: &Simulation| {
        let told = |event: &MembershipEvent| matches!(event, MembershipEvent::Offended { times: 1, .. });
        simulation.noted.iter().filter(|noted| told(&noted.event)).count()
    };
    for round in 1..4 {
        liar.gives(&mut simulation, 0, Message::Gossip, &[forged(1000)]).unwrap();
        liar.gives(&mut simulation, 0, Message::Gossip, &[forged(1000)]).unwrap();
        assert_eq!(offended(&simulation), round, "the first one, again after each pause");
        for _ in 0..35 {
            // So that it stays a member.
            simulation.run(SECOND * 2);
            liar.gives(&mut simulation, 0, Message::Gossip, &[]).unwrap();
        }
    }
}

#[test]
fn a_list_without_end_is_left_for_those_of_others_and_pages_leave_no_timers_behind() {
    let mut simulation = Simulation::new(Instant::now(), MembershipConfig::default(), Network::default(), 3);
    simulation.add_group(3, SECOND);
    simulation.run(5 * SECOND);
    let (start, liar) = (simulation.now(), node(1));
    let name = |part: u32| {
        let mut name = [0; 32];
        name[..4].copy_from_slice(&part.to_be_bytes());
        PeerId::from_bytes(name)
    };
    let held = simulation.with(0, |machine| {
        machine.sync_with = None;
        machine.on_page(start, liar, Some(name(1)));
        assert_eq!(machine.sync_with, None, "nobody asked for it");
        machine.announce(start, liar);
        let parts = (1..=200).filter(|part| {
            machine.on_page(start + SECOND * *part / 2, liar, Some(name(*part)));
            machine.sync_with == Some(liar.peer)
        });
        let held = parts.count();
        assert!(machine.timers.len() < 20, "{} timers", machine.timers.len());
        held
    });
    assert!((110..130).contains(&held.unwrap()), "{held:?} of 200 half seconds");
}
