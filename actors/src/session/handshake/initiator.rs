//! The side that dials.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bowline_messages::wire::hello::{AnswerPayload, AttachPayload, AttachedPayload, FinishPayload};
use bowline_messages::wire::{OfferedVersions, PacketType, Refusal, Version};
use bowline_messages::{LinkId, PeerId};
use bytes::{Bytes, BytesMut};

use super::noise::{Entropy, Noise, Role};
use super::{
    Established, HandshakeConfig, HandshakeError, Outcome, ResumeTicket, framed, may_number, prologue_attach,
    prologue_full, sign, signed_bytes, split_packet, split_signature,
};
use crate::session::identity::{Identity, SigningContext};

/// What the initiator does next.
#[derive(Debug)]
pub enum InitiatorStep {
    /// Write this and wait for the next packet: the ticket was not known any more, the full handshake has begun.
    Send(Bytes),
    /// The link has keys. Write `send`, when there is something, and records right behind it: the responder of an attachment waits
    /// for the first one.
    Done {
        /// The last packet of the handshake, framed.
        send: Option<Bytes>,
        /// The link.
        established: Box<Established>,
    },
}

enum State {
    /// HELLO was sent.
    AwaitAnswer(Noise),
    /// ATTACH was sent.
    AwaitAttached(Noise, ResumeTicket),
    /// Done or failed.
    Over,
}

/// The machine of the side that dials: HELLO or ATTACH out, one packet in, done.
pub struct Initiator {
    identity: Arc<Identity>,
    config: Arc<HandshakeConfig>,
    expect: PeerId,
    link: LinkId,
    entropy: Entropy,
    state: State,
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Initiator({} to {:?})", self.link, self.expect)
    }
}

impl Initiator {
    /// Begins a full handshake with the peer `expect`; anybody else is refused. Gives the machine and the framed HELLO.
    ///
    /// # Errors
    /// [`HandshakeError::Itself`], [`HandshakeError::LinkNumber`].
    pub fn full(
        identity: Arc<Identity>,
        config: Arc<HandshakeConfig>,
        expect: PeerId,
        link: LinkId,
        entropy: Entropy,
    ) -> Result<(Self, Bytes), HandshakeError> {
        let mut machine = Self::new(identity, config, expect, link, entropy)?;
        let hello = machine.begin_full()?;
        Ok((machine, hello))
    }

    /// Begins an attachment or resumption with a ticket; falls back to the full handshake on the same connection when the other
    /// side does not know the ticket. Gives the machine and the framed ATTACH.
    ///
    /// # Errors
    /// [`HandshakeError::Itself`], [`HandshakeError::LinkNumber`].
    pub fn attach(
        identity: Arc<Identity>,
        config: Arc<HandshakeConfig>,
        ticket: ResumeTicket,
        link: LinkId,
        entropy: Entropy,
    ) -> Result<(Self, Bytes), HandshakeError> {
        let mut machine = Self::new(identity, config, ticket.peer, link, entropy)?;
        let attach = machine.begin_attach(ticket)?;
        Ok((machine, attach))
    }

    fn new(
        identity: Arc<Identity>,
        config: Arc<HandshakeConfig>,
        expect: PeerId,
        link: LinkId,
        entropy: Entropy,
    ) -> Result<Self, HandshakeError> {
        if expect == identity.peer_id() {
            return Err(HandshakeError::Itself);
        }
        if !may_number(link, &identity.peer_id(), &expect) {
            return Err(HandshakeError::LinkNumber(link));
        }
        Ok(Self { identity, config, expect, link, entropy, state: State::Over })
    }

    /// Who is called.
    pub const fn expect(&self) -> &PeerId {
        &self.expect
    }

    /// Takes the next packet, without its length.
    ///
    /// # Errors
    /// [`HandshakeError`]; the machine is over then.
    pub fn on_packet(&mut self, now: Instant, packet: &[u8]) -> Result<InitiatorStep, HandshakeError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let (kind, byte, body) = split_packet(packet)?;
        match (state, kind) {
            (State::Over, _) => Err(HandshakeError::Over),
            (State::AwaitAnswer(noise), Some(PacketType::Answer)) => self.on_answer(now, noise, body),
            (State::AwaitAttached(noise, ticket), Some(PacketType::Attached)) => {
                self.on_attached(now, noise, &ticket, body)
            }
            (state, Some(PacketType::Refuse)) => match (state, Refusal::decode(body)?) {
                (State::AwaitAttached(..), Refusal::UnknownTicket) => self.begin_full().map(InitiatorStep::Send),
                (_, refusal) => Err(HandshakeError::Refused(refusal)),
            },
            _ => Err(HandshakeError::Unexpected(byte)),
        }
    }

    fn begin_full(&mut self) -> Result<Bytes, HandshakeError> {
        let offered = &self.config.versions;
        let mut body = BytesMut::with_capacity(128);
        offered.put(&mut body);
        let mut noise = Noise::full(Role::Initiator, &self.identity, &prologue_full(offered), self.entropy.split())?;
        noise.write(&[], &mut body)?;
        self.state = State::AwaitAnswer(noise);
        Ok(framed(PacketType::Hello, &body))
    }

    fn begin_attach(&mut self, ticket: ResumeTicket) -> Result<Bytes, HandshakeError> {
        let offered = &self.config.versions;
        let mut body = BytesMut::with_capacity(256);
        offered.put(&mut body);
        body.extend_from_slice(&ticket.id.0);
        let prologue = prologue_attach(offered, &ticket.id, &self.identity.peer_id(), &ticket.peer);
        let mut noise = Noise::attach(Role::Initiator, &ticket.secret, &prologue, self.entropy.split())?;
        let payload = AttachPayload { link: self.link, parameters: self.config.parameters };
        noise.write(&payload.encode(), &mut body)?;
        self.state = State::AwaitAttached(noise, ticket);
        Ok(framed(PacketType::Attach, &body))
    }

    fn on_answer(&mut self, now: Instant, mut noise: Noise, body: &[u8]) -> Result<InitiatorStep, HandshakeError> {
        let hash = noise.hash();
        let payload = noise.read(body)?;
        let noise_static = noise.remote_static().ok_or(HandshakeError::Forged)?;
        let (fields, signature) = split_signature(&payload, PacketType::Answer)?;
        let answer = AnswerPayload::decode(fields)?;
        if answer.peer != self.expect {
            return Err(HandshakeError::WrongPeer { expected: self.expect, found: answer.peer });
        }
        let signed = signed_bytes(Role::Responder, &hash, &noise_static, fields);
        Identity::verify(&answer.peer, SigningContext::Handshake, &signed, signature)
            .map_err(|_| HandshakeError::Signature(answer.peer))?;
        self.check_choice(answer.chosen, &answer.offered)?;

        let finish =
            FinishPayload { peer: self.identity.peer_id(), link: self.link, parameters: self.config.parameters };
        let mut payload = finish.encode();
        sign(&self.identity, Role::Initiator, &noise.hash(), &mut payload);
        let mut body = BytesMut::with_capacity(256);
        noise.write(&payload, &mut body)?;
        let outcome = Outcome {
            peer: answer.peer,
            version: answer.chosen,
            theirs: answer.parameters,
            link: self.link,
            role: Role::Initiator,
            replaces: None,
        };
        let established = Box::new(outcome.establish(&noise.finish(), &self.config, now));
        Ok(InitiatorStep::Done { send: Some(framed(PacketType::Finish, &body)), established })
    }

    fn on_attached(
        &mut self,
        now: Instant,
        mut noise: Noise,
        ticket: &ResumeTicket,
        body: &[u8],
    ) -> Result<InitiatorStep, HandshakeError> {
        let attached = AttachedPayload::decode(&noise.read(body)?)?;
        self.check_choice(attached.chosen, &attached.offered)?;
        let outcome = Outcome {
            peer: ticket.peer,
            version: attached.chosen,
            theirs: attached.parameters,
            link: self.link,
            role: Role::Initiator,
            replaces: Some(ticket.id),
        };
        let established = Box::new(outcome.establish(&noise.finish(), &self.config, now));
        Ok(InitiatorStep::Done { send: None, established })
    }

    /// Both offers are authenticated by now, so the best common version is known and anything else is a downgrade.
    pub(super) fn check_choice(&self, chosen: Version, theirs: &OfferedVersions) -> Result<(), HandshakeError> {
        if self.config.versions.best_common(theirs) == Some(chosen) {
            Ok(())
        } else {
            Err(HandshakeError::Downgrade { chosen })
        }
    }
}
