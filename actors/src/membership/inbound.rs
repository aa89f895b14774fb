//! What comes in: packets that are checked before anything is concluded from them, and the statements in them.

use std::time::Instant;

use bowline_messages::membership::{MemberState, MembershipEvent, Offence};
use bowline_messages::{Incarnation, PeerId};
use foca::{Message, State};

use super::machine::Membership;
use super::roster::Pace;
use super::suspicion::Suspicion;
use super::wire::{Claim, Node, Packet, SIGNATURE_BYTES, Signature, Statement, WireError, from_direct};
use super::{Keys, Refusal};
use crate::bucket::Bucket;

/// Offences of one kind are said once, and again every so many times.
const OFFENCES_SAID: u32 = 64;

impl Membership {
    /// Takes a packet that came over a session with this peer: from itself and without its signature. What came through others is brought by this node.
    pub(super) fn take_direct(&mut self, now: Instant, from: PeerId, bytes: &[u8]) -> Result<(), Refusal> {
        if from == self.node.peer {
            return self.take_packet(now, bytes);
        }
        self.note_time(now);
        if bytes.len() > self.config.packet_bytes {
            return Err(WireError::TooLong(bytes.len()).into());
        }
        let whole = from_direct(bytes, &from, &self.node.peer).map_err(Refusal::from)?;
        let nothing = Signature([0; SIGNATURE_BYTES]);
        let packet = Packet::decode_signed(&whole, nothing).map_err(Refusal::from)?;
        self.check(now, &packet, |_| true)
    }

    /// Checks a packet that came through others, cheapest first, and takes it.
    pub(super) fn take_packet(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Refusal> {
        self.note_time(now);
        let packet = Packet::decode(bytes, self.config.packet_bytes).map_err(Refusal::from)?;
        let author = packet.header.src.peer;
        self.check(now, &packet, |keys| keys.verify(&author, packet.signed, &packet.signature.0))
    }

    /// The author pays for its packet, as soon as that is certain.
    fn check(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        is_genuine: impl FnOnce(&dyn Keys) -> bool,
    ) -> Result<(), Refusal> {
        let (from, to) = (packet.header.src, packet.header.dst);
        if from.peer == self.node.peer {
            return Err(Refusal::Own);
        }
        let announced = matches!(packet.header.message, Message::Announce);
        if to.peer != self.node.peer || !(announced || to.life == self.node.life) {
            return Err(Refusal::Misaddressed);
        }
        if !self.keys.admits(&from.peer) {
            return Err(Refusal::NotAdmitted);
        }
        if self.roster.get(&from.peer).is_some_and(|known| !known.window.is_new(from.life, packet.sequence)) {
            return Err(Refusal::Replayed);
        }
        // What costs most last: nobody can have signatures checked of those who would find no place.
        if !self.finds_place(now, &from.peer, true) {
            return Err(Refusal::Full);
        }
        if !is_genuine(&*self.keys) {
            return Err(Refusal::Forged);
        }
        if !self.can_pay(now, &from.peer) {
            return Err(Refusal::TooMany);
        }
        if !self.meet(now, from, packet.header.src_incarnation, None, true) {
            return Err(Refusal::Full);
        }
        self.roster.hear(now, &from.peer);
        if let Some(record) = self.roster.get_mut(&from.peer) {
            record.window.mark(from.life, packet.sequence);
        }
        self.take_statements(now, from.peer, &packet.statements);
        self.take_message(now, packet)
    }

    /// Whether somebody may have one more packet looked at. Who is not known here pays nothing: it has to find a place first.
    fn can_pay(&mut self, now: Instant, peer: &PeerId) -> bool {
        self.allowance(now, peer).is_none_or(|allowance| allowance.takes_packet(now))
    }

    /// Whether this node asks somebody for a member. Only members are asked, so nobody else chooses where its packets go.
    fn may_help(&mut self, now: Instant, by: &PeerId, target: &PeerId) -> bool {
        self.is_member(target) && self.allowance(now, by).is_some_and(|allowance| allowance.gets_help(now))
    }

    /// What the packet is for, now that its sender is known.
    fn take_message(&mut self, now: Instant, packet: &Packet<'_>) -> Result<(), Refusal> {
        let (from, message) = (packet.header.src, &packet.header.message);
        self.note_answer(now, from.peer, message);
        self.remind(now, from);
        if !matches!(message, Message::Announce) && packet.header.dst != self.node {
            // It knows an earlier name of this node.
            self.introduce(now, from);
            return Err(Refusal::EarlierName);
        }
        match message {
            Message::TurnUndead if !self.may_renew(now, from.peer) => return Err(Refusal::Pointless),
            Message::PingReq { target, .. } if !self.may_help(now, &from.peer, &target.peer) => {
                return Err(Refusal::Pointless);
            }
            Message::IndirectAck { target, .. } if !self.is_member(&target.peer) => return Err(Refusal::Pointless),
            Message::Announce => self.asked = (packet.after, packet.digests),
            Message::Feed => self.on_page(now, from, packet.after),
            Message::Ping(_)
            | Message::Ack(_)
            | Message::PingReq { .. }
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::ForwardedAck { .. }
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => {}
        }
        let wants = self.swim.on_message(&packet.header).map_err(|_| Refusal::Pointless)?;
        self.process(now, wants, Some(from.peer));
        self.asked = (None, None);
        Ok(())
    }

    /// A member answered a question; or too late.
    pub(super) fn note_answer(&mut self, now: Instant, from: PeerId, message: &Message<Node>) {
        let (memory, sure) = (self.config.forget_after, self.doubt.times() == 1);
        let (peer, number, helped) = match message {
            Message::Ack(number) => (from, *number, false),
            Message::ForwardedAck { origin, probe_number } => (origin.peer, *probe_number, true),
            Message::Ping(_)
            | Message::PingReq { .. }
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::Announce
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => return,
        };
        let fits = |probe: &&mut super::machine::Probe| (probe.peer, probe.number) == (peer, number);
        let open = self.probe.as_mut().filter(fits);
        let Some(record) = self.roster.get_mut(&peer) else { return };
        let history = record.history.recent(now, memory);
        match open {
            Some(probe) if probe.answered => {}
            Some(probe) => {
                probe.answered = true;
                history.helped_answers += u32::from(helped);
            }
            // Unless it is this node that is late.
            None => history.late_answers += u32::from(!helped && sure),
        }
    }

    /// Takes what is said in a packet.
    fn take_statements(&mut self, now: Instant, from: PeerId, statements: &[Statement]) {
        let answered =
            statements.iter().filter_map(|statement| self.known_answer(&statement.claim)).collect::<Vec<_>>();
        for statement in statements {
            match self.take_statement(now, from, statement) {
                Ok(()) => {}
                Err(Refusal::ForgedStatement) => {
                    // Who passes one on has not checked it, or made it: the rest is not worth the time.
                    self.refuse(Refusal::ForgedStatement);
                    self.on_offence(now, from, Offence::ForgedStatement);
                    break;
                }
                Err(refusal) => self.refuse(refusal),
            }
        }
        if let Some(to) = self.roster.get(&from).map(|record| record.node).filter(|_| !answered.is_empty()) {
            self.correct(now, to, answered);
        }
    }

    /// What answers an accusation, when that is known here already.
    fn known_answer(&self, claim: &Claim) -> Option<Statement> {
        let Claim::Accuse { accused, number, .. } = *claim else { return None };
        if accused.peer == self.node.peer {
            return ((accused, number) < (self.node, self.number)).then_some(self.own);
        }
        let record = self.roster.get(&accused.peer).filter(|record| record.state().is_active())?;
        if (accused, number) < (record.node, record.number) { record.statement() } else { None }
    }

    fn take_statement(&mut self, now: Instant, from: PeerId, statement: &Statement) -> Result<(), Refusal> {
        match statement.claim {
            Claim::Alive { node, number } => self.take_alive(now, from, node, number, statement),
            Claim::Accuse { accused, number, accuser } => {
                self.take_accusation(now, from, accused, number, accuser, statement)
            }
            Claim::Leave { node } => self.take_leave(now, node, statement),
        }
    }

    fn is_signed(&self, statement: &Statement) -> Result<(), Refusal> {
        let Statement { claim, signature } = statement;
        let good = self.keys.verify(&claim.author(), &claim.signed_bytes(), &signature.0);
        if good { Ok(()) } else { Err(Refusal::ForgedStatement) }
    }

    fn take_alive(
        &mut self,
        now: Instant,
        from: PeerId,
        node: Node,
        number: u16,
        statement: &Statement,
    ) -> Result<(), Refusal> {
        if node.peer == self.node.peer {
            return self.take_own(node, statement);
        }
        if !self.keys.admits(&node.peer) {
            return Err(Refusal::NotAdmitted);
        }
        if let Some(known) = self.roster.get(&node.peer) {
            let news = (node, number) > (known.node, known.number);
            let proves = known.proof.is_none() && (node, number) == (known.node, known.number);
            if !news && !proves {
                return Ok(());
            }
            self.is_signed(statement)?;
        } else {
            if !self.finds_place(now, &node.peer, false) {
                return Err(Refusal::Full);
            }
            if !self.may_name(now, &from) {
                return Err(Refusal::TooManyNames);
            }
            self.is_signed(statement)?;
        }
        if !self.meet(now, node, number, Some(statement.signature), false) {
            return Err(Refusal::Full);
        }
        // Also when the number was known from a packet of the member itself: others know neither.
        self.tell(now, *statement);
        Ok(())
    }

    /// Whether there is a place for somebody, known or not.
    fn finds_place(&mut self, now: Instant, peer: &PeerId, heard: bool) -> bool {
        if self.roster.get(peer).is_some() {
            return true;
        }
        // First: whoever finds none pays nothing, so nobody is looked through for it. Those that are gone take no room.
        let room = self.roster.has_room(heard);
        if room && self.roster.records().len() >= self.config.members_max * 2 {
            self.forget_gone(now);
        }
        room
    }

    /// Whether somebody may bring one more name that is not known here: as many as there are places for such, then as many as one node that asks
    /// them all can find silent.
    fn may_name(&mut self, now: Instant, from: &PeerId) -> bool {
        let (places, interval) = (self.config.members_max / 2, self.config.probe_interval);
        #[allow(clippy::cast_precision_loss)]
        let full = || Bucket::new(now, 1.0 / interval.as_secs_f64(), places.max(1) as f64);
        let record = self.roster.get_mut(from);
        record.is_some_and(|record| record.names.get_or_insert_with(full).take(now, 1.0))
    }

    /// Something that this node is said to have said of itself.
    fn take_own(&mut self, node: Node, statement: &Statement) -> Result<(), Refusal> {
        if node.life > self.node.life && !self.superseded {
            self.is_signed(statement)?;
            self.superseded = true;
            self.emit(MembershipEvent::Superseded { incarnation: Incarnation(node.life) });
        }
        Ok(())
    }

    fn take_accusation(
        &mut self,
        now: Instant,
        from: PeerId,
        accused: Node,
        number: u16,
        accuser: PeerId,
        statement: &Statement,
    ) -> Result<(), Refusal> {
        if accused.peer == self.node.peer {
            return self.take_charge(now, from, accused, number, accuser, statement);
        }
        if accuser == self.node.peer || accused.peer == accuser {
            return Ok(());
        }
        let accusers_max = self.config.confirmations + 1;
        let limits = self.accusing(false);
        let counts = self.roster.get(&accuser).is_some_and(|known| known.state().is_active());
        let Some(record) = self.roster.get_mut(&accused.peer).filter(|known| known.state().is_active()) else {
            return Ok(());
        };
        // One that it has answered, or about a name that is not known here (yet).
        if !counts || (accused, number) != (record.node, record.number) {
            return Ok(());
        }
        let full = |known: &Suspicion| known.is_accuser(&accuser) || known.accusers() >= accusers_max;
        if record.suspicion.as_ref().is_some_and(full) {
            return Ok(());
        }
        if record.accusers.is_repeated(&accuser, (accused, number), now, limits.pause) {
            return Err(Refusal::Flood);
        }
        self.is_signed(statement)?;
        let Some(record) = self.roster.get_mut(&accused.peer) else { return Ok(()) };
        match record.accusers.may_accuse(accuser, (accused, number), now, limits) {
            Pace::Fit => {}
            Pace::TooSoon => return Err(Refusal::Flood),
            Pace::Flood => {
                self.on_offence(now, accuser, Offence::AccusationFlood);
                return Err(Refusal::Flood);
            }
        }
        self.suspect(now, accused.peer, accuser, *statement);
        self.tell(now, *statement);
        Ok(())
    }

    /// This node is accused itself: it answers, first to those who say so.
    fn take_charge(
        &mut self,
        now: Instant,
        from: PeerId,
        accused: Node,
        number: u16,
        accuser: PeerId,
        statement: &Statement,
    ) -> Result<(), Refusal> {
        if (accused, number) < (self.node, self.number) {
            return Ok(());
        }
        // Every accusation is answered, since others may count it: at the latest in half of the shortest time that a suspicion waits. An answer is on
        // its way to everybody, so nobody who accuses again already can have asked since.
        let counts = self.roster.get(&accuser).is_some_and(|known| known.state().is_active());
        let pressing = counts && !self.accusers.is_spent(&accuser, now);
        let pause = if pressing { self.accusation_pause() } else { self.limits().min / 2 };
        if self.raised.is_some_and(|raised| now.saturating_duration_since(raised) < pause) {
            return Err(Refusal::Flood);
        }
        self.is_signed(statement)?;
        if (accused, number) > (self.node, self.number) {
            self.on_offence(now, accuser, Offence::ImpossibleAccusation);
            return Err(Refusal::Pointless);
        }
        let doubted = counts && self.is_reason_for_doubt(now, accuser, (accused, number));
        self.answer_charge(now, from, accuser, doubted);
        Ok(())
    }

    /// Whether this node should doubt itself because a member accuses it. Once in the longest wait for each of them: by then answers have taken away what
    /// one accuser alone brought about, however slowly this node asks.
    fn is_reason_for_doubt(&mut self, now: Instant, accuser: PeerId, about: (Node, u16)) -> bool {
        let limits = self.accusing(false);
        if self.accusers.may_accuse(accuser, about, now, limits) == Pace::Flood {
            self.on_offence(now, accuser, Offence::AccusationFlood);
            return false;
        }
        let pause = self.limits().max;
        self.allowance(now, &accuser).is_some_and(|allowance| allowance.raises_doubt(now, pause))
    }

    fn take_leave(&mut self, now: Instant, node: Node, statement: &Statement) -> Result<(), Refusal> {
        let Some(record) = self.roster.get(&node.peer) else { return Ok(()) };
        if node < record.node || record.state() == MemberState::Left {
            return Ok(());
        }
        self.is_signed(statement)?;
        self.on_left(now, node);
        self.tell(now, *statement);
        Ok(())
    }

    /// Somebody is there, under this name and number. False when there is no room.
    pub(super) fn meet(
        &mut self,
        now: Instant,
        node: Node,
        number: u16,
        proof: Option<Signature>,
        heard: bool,
    ) -> bool {
        let peer = node.peer;
        let Some(known) = self.roster.get(&peer).map(|known| (known.node, known.number)) else {
            let Some(evicted) = self.roster.take_up(node, number, heard) else { return false };
            if let Some(evicted) = evicted {
                self.on_evicted(now, &evicted);
            }
            self.set_proof(peer, proof);
            let wants = self.swim.learn(node, number, State::Alive);
            self.process(now, wants, None);
            return true;
        };
        if known == (node, number) {
            self.set_proof(peer, proof);
        } else if known < (node, number) {
            if known.0 == node {
                self.on_answered(now, &peer, number);
            }
            if let Some(record) = self.roster.get_mut(&peer) {
                (record.number, record.proof) = (number, proof);
            }
            let wants = self.swim.learn(node, number, State::Alive);
            self.process(now, wants, None);
        }
        true
    }

    fn set_proof(&mut self, peer: PeerId, proof: Option<Signature>) {
        if let Some(record) = self.roster.get_mut(&peer).filter(|_| proof.is_some()) {
            record.proof = proof;
        }
    }

    pub(super) fn on_offence(&mut self, now: Instant, peer: PeerId, offence: Offence) {
        let memory = self.config.forget_after;
        let record = self.roster.get_mut(&peer);
        let Some(times) = record.map(|record| record.history.recent(now, memory).offend(offence)) else { return };
        if times % OFFENCES_SAID == 1 {
            self.emit(MembershipEvent::Offended { peer, offence, times });
        }
    }
}
