#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use super::*;
use crate::session::resume::{ResumeLimits, ResumeStore};
use bowline_messages::wire::packet::next_packet;
use bowline_messages::wire::{Features, HelloParameters};
use bowline_messages::{Incarnation, PeerId};
use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// One node: an identity, its configuration, its tickets and whom it lets in.
struct Node {
    identity: Arc<Identity>,
    config: Arc<HandshakeConfig>,
    tickets: ResumeStore,
    refuse: Option<Refusal>,
    now: Instant,
    rng: ChaCha20Rng,
}

impl Admission for Node {
    fn ticket(&mut self, id: &TicketId) -> Option<ResumeTicket> {
        self.tickets.lookup(id, self.now)
    }

    fn admit(&mut self, _: &PeerId) -> Result<(), Refusal> {
        self.refuse.clone().map_or(Ok(()), Err)
    }
}

impl Node {
    fn new(seed: u8, versions: &[u16]) -> Self {
        let parameters = HelloParameters {
            features: Features(0b110 + u64::from(seed & 1)),
            incarnation: Incarnation(seed.into()),
            channel_window: 1 << 20,
            message_bytes_max: 1 << 20,
            ack_delay_max_us: 5_000,
            channels_max: 256,
        };
        let versions = OfferedVersions::new(versions.iter().copied().map(Version)).unwrap();
        let config = HandshakeConfig { versions, parameters, rotation: RotationLimits::default() };
        Self {
            identity: Arc::new(Identity::from_seed(&[seed; 32])),
            config: Arc::new(config),
            tickets: ResumeStore::new(ResumeLimits::default()),
            refuse: None,
            now: crate::clock::now(),
            rng: ChaCha20Rng::from_seed([seed ^ 0x55; 32]),
        }
    }

    fn id(&self) -> PeerId {
        self.identity.peer_id()
    }

    fn entropy(&mut self) -> Entropy {
        Entropy::from_rng(&mut self.rng)
    }

    /// A link number that this node may give to a link to `other`.
    fn link_to(&self, other: &PeerId) -> LinkId {
        LinkId(if self.id() < *other { 4 } else { 5 })
    }

    fn dial(&mut self, other: &PeerId) -> (Initiator, Bytes) {
        let (link, entropy) = (self.link_to(other), self.entropy());
        Initiator::full(self.identity.clone(), self.config.clone(), *other, link, entropy).unwrap()
    }

    fn attach(&mut self, ticket: ResumeTicket) -> (Initiator, Bytes) {
        let (link, entropy) = (self.link_to(&ticket.peer), self.entropy());
        Initiator::attach(self.identity.clone(), self.config.clone(), ticket, link, entropy).unwrap()
    }

    fn accept(&mut self) -> Responder {
        let entropy = self.entropy();
        Responder::new(self.identity.clone(), self.config.clone(), entropy)
    }
}

fn packet(framed: &Bytes) -> BytesMut {
    next_packet(&mut BytesMut::from(&framed[..])).unwrap().unwrap()
}

/// Runs a handshake to its end; gives both sides and every packet that was on the wire, in order.
fn run(
    a: &mut Node,
    b: &mut Node,
    dial: (Initiator, Bytes),
) -> Result<(Established, Established, Vec<BytesMut>), HandshakeError> {
    let (mut initiator, first) = dial;
    let mut responder = b.accept();
    let mut wire = vec![packet(&first)];
    let mut theirs = None;
    loop {
        let step = responder.on_packet(b.now, &wire.last().unwrap().clone(), b)?;
        let answer = match step {
            ResponderStep::Send(send) | ResponderStep::Refuse { send, .. } => send,
            ResponderStep::Done { send, established } => {
                theirs = Some(established);
                let Some(send) = send else { unreachable!("only an attachment ends on both sides at once") };
                send
            }
        };
        wire.push(packet(&answer));
        match initiator.on_packet(a.now, wire.last().unwrap())? {
            InitiatorStep::Send(send) => wire.push(packet(&send)),
            InitiatorStep::Done { send, established } => {
                if let Some(send) = send {
                    wire.push(packet(&send));
                    match responder.on_packet(b.now, &packet(&send), b)? {
                        ResponderStep::Done { established, .. } => theirs = Some(established),
                        ResponderStep::Refuse { refusal, .. } => return Err(HandshakeError::Refused(refusal)),
                        ResponderStep::Send(_) => unreachable!("FINISH is not answered"),
                    }
                }
                return Ok((*established, *theirs.unwrap(), wire));
            }
        }
    }
}

fn full(a: &mut Node, b: &mut Node) -> (Established, Established, Vec<BytesMut>) {
    let dial = a.dial(&b.id());
    run(a, b, dial).unwrap()
}

/// Sends one record each way.
fn exchange(a: &mut Established, b: &mut Established) {
    for (from, to) in [(&mut a.sealer, &mut b.opener), (&mut b.sealer, &mut a.opener)] {
        let mut buffer = BytesMut::new();
        let start = from.begin(&mut buffer);
        buffer.extend_from_slice(b"frames");
        let _ = from.finish(&mut buffer, start).unwrap();
        assert_eq!(to.open(next_packet(&mut buffer).unwrap().unwrap()).unwrap().1, "frames");
    }
}

/// Both sides keep the link's ticket, as they do once a record has opened.
fn confirm(a: &mut Node, b: &mut Node, ends: (Established, Established)) {
    a.tickets.confirm(ends.0.ticket, ends.0.replaces, a.now);
    b.tickets.confirm(ends.1.ticket, ends.1.replaces, b.now);
}

#[test]
fn a_full_handshake_gives_both_sides_the_same_keys_and_each_the_others_name() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let (mut x, mut y, wire) = full(&mut a, &mut b);
    assert_eq!((x.peer, y.peer), (b.id(), a.id()));
    assert_eq!((x.link, x.initiator, x.resumed, x.confirmed), (y.link, true, false, true));
    assert_eq!((y.initiator, y.resumed, y.confirmed), (false, false, true));
    assert_eq!(x.parameters.parameters.incarnation, Incarnation(2));
    assert_eq!(y.parameters.parameters.incarnation, Incarnation(1));
    assert_eq!(x.parameters.parameters.features, Features(0b110), "only what both have");
    assert_eq!(x.ticket.id, y.ticket.id);
    assert_eq!(wire.len(), 3, "one round trip before the initiator's records");
    exchange(&mut x, &mut y);
}

#[test]
fn a_ticket_attaches_in_one_round_trip_and_ratchets() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let (x, y, _) = full(&mut a, &mut b);
    let first = x.ticket.id;
    confirm(&mut a, &mut b, (x, y));
    let ticket = a.tickets.for_peer(&b.id(), a.now).unwrap();
    let dial = a.attach(ticket);
    let (mut x, mut y, wire) = run(&mut a, &mut b, dial).unwrap();
    assert_eq!(wire.len(), 2);
    assert!(x.resumed && y.resumed && x.confirmed && !y.confirmed);
    assert_eq!((x.peer, y.peer, x.ticket.id), (b.id(), a.id(), y.ticket.id));
    assert_ne!(x.ticket.id, first);
    exchange(&mut x, &mut y);
    confirm(&mut a, &mut b, (x, y));
    // The other side may use the ticket just as well, and the newest is used.
    let ticket = b.tickets.for_peer(&a.id(), b.now).unwrap();
    let dial = b.attach(ticket);
    let (mut x, mut y, _) = run(&mut b, &mut a, dial).unwrap();
    exchange(&mut x, &mut y);
}

#[test]
fn keys_rule_a_used_ticket_is_valid_until_its_successor_was_confirmed_and_a_little_longer() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let (x, y, _) = full(&mut a, &mut b);
    let old = x.ticket.clone();
    confirm(&mut a, &mut b, (x, y));
    let dial = a.attach(old.clone());
    let (x, y, _) = run(&mut a, &mut b, dial).unwrap();
    b.now += ResumeLimits::default().overlap * 2;
    assert!(b.tickets.lookup(&old.id, b.now).is_some(), "the successor is not confirmed");
    confirm(&mut a, &mut b, (x, y));
    assert!(b.tickets.lookup(&old.id, b.now).is_some(), "others may be attaching with it right now");
    b.now += ResumeLimits::default().overlap;
    assert!(b.tickets.lookup(&old.id, b.now).is_none());
}

#[test]
fn an_unknown_ticket_falls_back_to_the_full_handshake_on_the_same_connection() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let (x, _, _) = full(&mut a, &mut b);
    let dial = a.attach(x.ticket);
    let (mut x, mut y, wire) = run(&mut a, &mut b, dial).unwrap();
    assert_eq!(wire.len(), 5);
    assert!(!x.resumed && !y.resumed);
    exchange(&mut x, &mut y);
}

#[test]
fn a_second_ticket_is_not_tried_on_one_connection() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let (x, _, _) = full(&mut a, &mut b);
    let (_, attach) = a.attach(x.ticket);
    let mut responder = b.accept();
    assert!(responder.on_packet(b.now, &packet(&attach), &mut b).is_ok());
    let again = responder.on_packet(b.now, &packet(&attach), &mut b);
    assert_eq!(again.unwrap_err(), HandshakeError::Unexpected(0x04));
}

#[test]
fn keys_rule_the_wrong_peer_is_refused_by_the_initiator() {
    let (mut a, mut b, c) = (Node::new(1, &[1]), Node::new(2, &[1]), Node::new(3, &[1]));
    let dial = a.dial(&c.id());
    let error = run(&mut a, &mut b, dial).unwrap_err();
    assert_eq!(error, HandshakeError::WrongPeer { expected: c.id(), found: b.id() });
}

#[test]
fn the_trust_gate_is_asked_before_keys_exist_in_both_handshakes() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let (x, y, _) = full(&mut a, &mut b);
    let ticket = x.ticket.clone();
    confirm(&mut a, &mut b, (x, y));
    b.refuse = Some(Refusal::NotAllowed);
    let refused = HandshakeError::Refused(Refusal::NotAllowed);
    let dial = a.dial(&b.id());
    assert_eq!(run(&mut a, &mut b, dial).unwrap_err(), refused);
    let dial = a.attach(ticket);
    assert_eq!(run(&mut a, &mut b, dial).unwrap_err(), refused);
}

#[test]
fn an_unknown_future_version_is_refused_with_the_versions_there_are() {
    let (mut a, mut b) = (Node::new(1, &[7, 8]), Node::new(2, &[1, 2]));
    let dial = a.dial(&b.id());
    let versions = b.config.versions.clone();
    let refused = HandshakeError::Refused(Refusal::UnsupportedVersion { versions });
    assert_eq!(run(&mut a, &mut b, dial).unwrap_err(), refused);
}

#[test]
fn the_newest_common_version_is_in_force() {
    let (mut a, mut b) = (Node::new(1, &[1, 2, 5]), Node::new(2, &[1, 2, 9]));
    let (x, y, _) = full(&mut a, &mut b);
    assert_eq!((x.parameters.version, y.parameters.version), (Version(2), Version(2)));
}

#[test]
fn keys_rule_an_offer_changed_on_the_way_is_detected() {
    let (mut a, mut b) = (Node::new(1, &[1, 2]), Node::new(2, &[1, 2]));
    let (mut initiator, hello) = a.dial(&b.id());
    // Somebody takes version 2 out of the offer: count 2 → 1, `0001 0002` → `0001`.
    let hello = packet(&hello);
    let mut changed = BytesMut::from(&[0x01, 1, 0, 1][..]);
    changed.extend_from_slice(&hello[6..]);
    let step = b.accept().on_packet(b.now, &changed, &mut b).unwrap();
    let ResponderStep::Send(answer) = step else { panic!("{step:?}") };
    assert_eq!(initiator.on_packet(a.now, &packet(&answer)).unwrap_err(), HandshakeError::Forged);
}

#[test]
fn keys_rule_a_responder_that_chooses_less_than_the_best_is_caught() {
    let (mut a, mut b) = (Node::new(1, &[1, 2]), Node::new(2, &[1, 2]));
    let (initiator, _) = a.dial(&b.id());
    assert_eq!(initiator.check_choice(Version(2), &b.config.versions), Ok(()));
    let downgrade = HandshakeError::Downgrade { chosen: Version(1) };
    assert_eq!(initiator.check_choice(Version(1), &b.config.versions), Err(downgrade));
    assert!(full(&mut a, &mut b).0.confirmed);
}

#[test]
fn keys_rule_the_signature_covers_the_transcript_the_role_the_static_key_and_the_payload() {
    let identity = Identity::from_seed(&[1; 32]);
    let (hash, key, payload) = ([1; 32], [2; 32], &b"payload"[..]);
    let base = signed_bytes(Role::Initiator, &hash, &key, payload);
    let signature = identity.sign(SigningContext::Handshake, &base);
    let check = |bytes: &[u8]| Identity::verify(&identity.peer_id(), SigningContext::Handshake, bytes, &signature);
    assert_eq!(check(&base), Ok(()));
    for other in [
        signed_bytes(Role::Responder, &hash, &key, payload),
        signed_bytes(Role::Initiator, &[9; 32], &key, payload),
        signed_bytes(Role::Initiator, &hash, &[9; 32], payload),
        signed_bytes(Role::Initiator, &hash, &key, b"payloae"),
    ] {
        assert!(check(&other).is_err());
    }
}

#[test]
fn keys_rule_a_stolen_noise_key_without_the_identity_is_not_enough() {
    // A man in the middle speaks Noise perfectly and sends the answer of the real peer's identity signed for another transcript.
    let (mut a, mut b, mut m) = (Node::new(1, &[1]), Node::new(2, &[1]), Node::new(3, &[1]));
    let (_, hello_of_m) = m.dial(&b.id());
    let ResponderStep::Send(answer) = b.accept().on_packet(b.now, &packet(&hello_of_m), &mut b).unwrap() else {
        panic!()
    };
    let (mut initiator, _) = a.dial(&b.id());
    assert_eq!(initiator.on_packet(a.now, &packet(&answer)).unwrap_err(), HandshakeError::Forged);
}

#[test]
fn keys_rule_an_attachment_reflected_to_its_sender_is_refused() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let (x, y, _) = full(&mut a, &mut b);
    let ticket = x.ticket.clone();
    confirm(&mut a, &mut b, (x, y));
    let (_, attach) = a.attach(ticket);
    let error = a.accept().on_packet(a.now, &packet(&attach), &mut a).unwrap_err();
    assert_eq!(error, HandshakeError::Forged);
}

#[test]
fn keys_rule_a_node_does_not_talk_to_its_own_identity() {
    let (mut a, mut copy) = (Node::new(1, &[1]), Node::new(1, &[1]));
    let me = a.id();
    let entropy = a.entropy();
    let dial = Initiator::full(a.identity.clone(), a.config.clone(), me, LinkId(1), entropy);
    assert_eq!(dial.unwrap_err(), HandshakeError::Itself);
    // A copy of this node that calls somebody else and is led here.
    let other = Node::new(2, &[1]).id();
    let dial = copy.dial(&other);
    assert_eq!(run(&mut copy, &mut a, dial).unwrap_err(), HandshakeError::WrongPeer { expected: other, found: me });
}

#[test]
fn nonces_rule_a_link_number_of_the_other_side_is_refused() {
    let (mut a, b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let wrong = LinkId(a.link_to(&b.id()).0 ^ 1);
    let entropy = a.entropy();
    let dial = Initiator::full(a.identity.clone(), a.config.clone(), b.id(), wrong, entropy);
    assert_eq!(dial.unwrap_err(), HandshakeError::LinkNumber(wrong));
}

#[test]
fn keys_rule_a_replayed_attachment_gains_nothing() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let (x, y, _) = full(&mut a, &mut b);
    let ticket = x.ticket.clone();
    confirm(&mut a, &mut b, (x, y));
    let dial = a.attach(ticket);
    let (mut x, y, wire) = run(&mut a, &mut b, dial).unwrap();
    let mut recorded = BytesMut::new();
    let start = x.sealer.begin(&mut recorded);
    recorded.extend_from_slice(b"bet 5");
    let _ = x.sealer.finish(&mut recorded, start).unwrap();
    let record = next_packet(&mut recorded).unwrap().unwrap();
    // The whole of it is played again to the same responder.
    let step = b.accept().on_packet(b.now, &wire[0], &mut b).unwrap();
    let ResponderStep::Done { mut established, .. } = step else { panic!("{step:?}") };
    assert!(!established.confirmed);
    assert!(established.opener.open(record).is_err(), "the responder's fresh key makes other traffic keys");
    assert_ne!(established.ticket.id, y.ticket.id);
}

#[test]
fn keys_rule_a_replayed_full_handshake_is_refused() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let (_, _, wire) = full(&mut a, &mut b);
    let mut responder = b.accept();
    assert!(matches!(responder.on_packet(b.now, &wire[0], &mut b), Ok(ResponderStep::Send(_))));
    assert_eq!(responder.on_packet(b.now, &wire[2], &mut b).unwrap_err(), HandshakeError::Forged);
    let (mut initiator, _) = a.dial(&b.id());
    assert_eq!(initiator.on_packet(a.now, &wire[1]).unwrap_err(), HandshakeError::Forged);
}

#[test]
fn the_same_seeds_give_the_same_transcript() {
    let transcript = || {
        let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
        full(&mut a, &mut b).2
    };
    assert_eq!(transcript(), transcript());
}

#[test]
fn two_handshakes_never_share_a_key() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let (mut x, y, _) = full(&mut a, &mut b);
    let (_, mut other, _) = full(&mut a, &mut b);
    let mut buffer = BytesMut::new();
    let start = x.sealer.begin(&mut buffer);
    let _ = x.sealer.finish(&mut buffer, start).unwrap();
    assert!(other.opener.open(next_packet(&mut buffer).unwrap().unwrap()).is_err());
    assert_ne!(y.ticket.id, other.ticket.id);
}

#[test]
fn a_machine_that_is_over_stays_over() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let mut responder = b.accept();
    assert_eq!(responder.on_packet(b.now, &[0x10, 1], &mut b).unwrap_err(), HandshakeError::Unexpected(0x10));
    let (mut initiator, hello) = a.dial(&b.id());
    assert_eq!(responder.on_packet(b.now, &packet(&hello), &mut b).unwrap_err(), HandshakeError::Over);
    assert!(initiator.on_packet(a.now, &[]).is_err());
    assert_eq!(initiator.on_packet(a.now, &[2]).unwrap_err(), HandshakeError::Over);
}

#[test]
fn nothing_that_is_shown_contains_a_secret() {
    let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
    let (x, _, _) = full(&mut a, &mut b);
    let shown = format!("{x:?}");
    let secret = format!("{:?}", &x.ticket.secret[..4]);
    assert!(!shown.contains(secret.trim_matches(['[', ']'])), "{shown}");
}

/// What may happen to a packet on its way.
#[derive(Debug, Clone)]
enum Tamper {
    Nothing,
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Append(Vec<u8>),
    Replace(Vec<u8>),
    /// Another packet of an earlier transcript: replays and reordering.
    Replay(prop::sample::Index),
}

fn tamper() -> impl Strategy<Value = Tamper> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => Just(Tamper::Nothing),
        3 => (index(), 1..=255u8).prop_map(|(at, by)| Tamper::Flip(at, by)),
        1 => index().prop_map(Tamper::Cut),
        1 => vec(any::<u8>(), 1..40).prop_map(Tamper::Append),
        1 => vec(any::<u8>(), 0..200).prop_map(Tamper::Replace),
        2 => index().prop_map(Tamper::Replay),
    ]
}

fn tampered(packet: &BytesMut, tamper: &Tamper, old: &[BytesMut]) -> BytesMut {
    let mut packet = packet.clone();
    match tamper {
        Tamper::Nothing => {}
        Tamper::Flip(at, by) => {
            let at = at.index(packet.len());
            packet[at] ^= by;
        }
        Tamper::Cut(at) => packet.truncate(at.index(packet.len())),
        Tamper::Append(tail) => packet.extend_from_slice(tail),
        Tamper::Replace(bytes) => packet = BytesMut::from(&bytes[..]),
        Tamper::Replay(index) => packet = index.get(old).clone(),
    }
    packet
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The structured fuzz test of both machines: real transcripts with bytes flipped, cut, appended, replaced and replayed.
    /// If both sides come to an end nothing was tampered with; no side ever comes to an end with anybody but the other.
    #[test]
    fn tampering_never_ends_in_a_link_on_both_sides(
        resume in any::<bool>(), tampers in vec(tamper(), 3..4),
    ) {
        let (mut a, mut b) = (Node::new(1, &[1, 2]), Node::new(2, &[1, 2]));
        let (x, y, mut old) = full(&mut a, &mut b);
        let ticket = x.ticket.clone();
        confirm(&mut a, &mut b, (x, y));
        let dial = a.attach(ticket.clone());
        old.extend(run(&mut a, &mut b, dial).unwrap().2);

        let (mut initiator, first) = if resume { a.attach(ticket) } else { let id = b.id(); a.dial(&id) };
        let mut responder = b.accept();
        let mut ends = (None, None);
        let mut next = packet(&first);
        let mut changed = false;
        for (n, tamper) in tampers.iter().enumerate() {
            let sent = tampered(&next, tamper, &old);
            changed |= sent != next;
            let answer = if n % 2 == 0 {
                match responder.on_packet(b.now, &sent, &mut b) {
                    Ok(ResponderStep::Send(send) | ResponderStep::Refuse { send, .. }) => Some(send),
                    Ok(ResponderStep::Done { send, established }) => {
                        prop_assert_eq!(established.peer, a.id());
                        ends.1 = Some(established);
                        send
                    }
                    Err(_) => None,
                }
            } else {
                match initiator.on_packet(a.now, &sent) {
                    Ok(InitiatorStep::Send(send)) => Some(send),
                    Ok(InitiatorStep::Done { send, established }) => {
                        prop_assert_eq!(established.peer, b.id());
                        ends.0 = Some(established);
                        send
                    }
                    Err(_) => None,
                }
            };
            let Some(answer) = answer else { break };
            next = packet(&answer);
        }
        if let (Some(mut x), Some(mut y)) = ends {
            prop_assert!(!changed);
            exchange(&mut x, &mut y);
        }
    }

    #[test]
    fn any_packets_are_taken_without_a_panic(packets in vec((0..8u8, vec(any::<u8>(), 0..300)), 1..6)) {
        let (mut a, mut b) = (Node::new(1, &[1]), Node::new(2, &[1]));
        let (mut initiator, _) = a.dial(&b.id());
        let mut responder = b.accept();
        for (kind, body) in packets {
            let packet = [&[kind][..], &body].concat();
            let _ = responder.on_packet(b.now, &packet, &mut b);
            prop_assert!(initiator.on_packet(a.now, &packet).is_err());
        }
    }
}
