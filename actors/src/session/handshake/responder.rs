//! The side that is dialled.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::wire::hello::{
    AnswerPayload, AttachBody, AttachPayload, AttachedPayload, FinishPayload, HelloBody,
};
use bowline_messages::wire::{PacketType, Refusal, TicketId, Version};
use bytes::{Bytes, BytesMut};

use super::noise::{Entropy, Noise, Role};
use super::{
    Established, HandshakeConfig, HandshakeError, Outcome, ResumeTicket, framed, may_number, prologue_attach,
    prologue_full, sign, signed_bytes, split_packet, split_signature,
};
use crate::session::identity::{Identity, SigningContext};

/// What the responder asks about a peer while a handshake goes on. Both are asked before any expensive work that they decide about.
pub trait Admission {
    /// The secret behind a ticket, while it is valid.
    fn ticket(&mut self, id: &TicketId) -> Option<ResumeTicket>;

    /// Whether this peer may have a link. It has proven who it is (full handshake), or named a ticket of that peer (attachment).
    ///
    /// # Errors
    /// Why not.
    fn admit(&mut self, peer: &PeerId) -> Result<(), Refusal>;

    /// Grows whenever peers may be let in that were not before: who was turned away for that deserves another try. Default: that never changes.
    fn acceptances(&self) -> u64 {
        0
    }
}

/// What the responder does next.
#[derive(Debug)]
pub enum ResponderStep {
    /// Write this and wait for the next packet.
    Send(Bytes),
    /// Write this. When `over` is set the connection ends; otherwise the initiator gets another try with the full handshake.
    Refuse {
        /// The refusal, framed.
        send: Bytes,
        /// Why.
        refusal: Refusal,
        /// Whether that was the end.
        over: bool,
    },
    /// The link has keys.
    Done {
        /// The last packet of the handshake, framed.
        send: Option<Bytes>,
        /// The link. Look at [`Established::confirmed`].
        established: Box<Established>,
    },
}

enum State {
    /// Nothing came yet.
    Start,
    /// ANSWER was sent, with this version.
    AwaitFinish(Noise, Version),
    /// Done, refused or failed.
    Over,
}

/// The machine of the side that is dialled: all that is kept for a connection before its peer is known.
pub struct Responder {
    identity: Arc<Identity>,
    config: Arc<HandshakeConfig>,
    entropy: Entropy,
    state: State,
    /// Whether a ticket was tried in vain; there is one try.
    ticket_tried: bool,
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Start => "Responder(start)",
            State::AwaitFinish(..) => "Responder(await finish)",
            State::Over => "Responder(over)",
        })
    }
}

impl Responder {
    /// Waits for the first packet of a connection.
    pub const fn new(identity: Arc<Identity>, config: Arc<HandshakeConfig>, entropy: Entropy) -> Self {
        Self { identity, config, entropy, state: State::Start, ticket_tried: false }
    }

    /// Takes the next packet, without its length.
    ///
    /// # Errors
    /// [`HandshakeError`]; the machine is over then, and the connection is to be closed without a word.
    pub fn on_packet(
        &mut self,
        now: Instant,
        packet: &[u8],
        admission: &mut dyn Admission,
    ) -> Result<ResponderStep, HandshakeError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let (kind, byte, body) = split_packet(packet)?;
        match (state, kind) {
            (State::Over, _) => Err(HandshakeError::Over),
            (State::Start, Some(PacketType::Hello)) => self.on_hello(body),
            (State::Start, Some(PacketType::Attach)) if !self.ticket_tried => self.on_attach(now, body, admission),
            (State::AwaitFinish(noise, version), Some(PacketType::Finish)) => {
                self.on_finish(now, noise, version, body, admission)
            }
            _ => Err(HandshakeError::Unexpected(byte)),
        }
    }

    fn on_hello(&mut self, body: &[u8]) -> Result<ResponderStep, HandshakeError> {
        let hello = HelloBody::decode(body)?;
        let ours = &self.config.versions;
        let Some(chosen) = hello.offered.best_common(ours) else {
            return Ok(refuse(Refusal::UnsupportedVersion { versions: ours.clone() }));
        };
        let prologue = prologue_full(&hello.offered);
        let mut noise = Noise::full(Role::Responder, &self.identity, &prologue, self.entropy.split())?;
        noise.read(hello.noise)?;
        let answer = AnswerPayload {
            peer: self.identity.peer_id(),
            chosen,
            offered: ours.clone(),
            parameters: self.config.parameters,
        };
        let mut payload = answer.encode();
        sign(&self.identity, Role::Responder, &noise.hash(), &mut payload);
        let mut body = BytesMut::with_capacity(384);
        noise.write(&payload, &mut body)?;
        self.state = State::AwaitFinish(noise, chosen);
        Ok(ResponderStep::Send(framed(PacketType::Answer, &body)))
    }

    fn on_finish(
        &mut self,
        now: Instant,
        mut noise: Noise,
        version: Version,
        body: &[u8],
        admission: &mut dyn Admission,
    ) -> Result<ResponderStep, HandshakeError> {
        let hash = noise.hash();
        let payload = noise.read(body)?;
        let noise_static = noise.remote_static().ok_or(HandshakeError::Forged)?;
        let (fields, signature) = split_signature(&payload, PacketType::Finish)?;
        let finish = FinishPayload::decode(fields)?;
        self.check_peer(&finish.peer)?;
        let signed = signed_bytes(Role::Initiator, &hash, &noise_static, fields);
        Identity::verify(&finish.peer, SigningContext::Handshake, &signed, signature)
            .map_err(|_| HandshakeError::Signature(finish.peer))?;
        if !may_number(finish.link, &finish.peer, &self.identity.peer_id()) {
            return Err(HandshakeError::LinkNumber(finish.link));
        }
        if let Err(refusal) = admission.admit(&finish.peer) {
            return Ok(refuse(refusal));
        }
        let outcome = Outcome {
            peer: finish.peer,
            version,
            theirs: finish.parameters,
            link: finish.link,
            role: Role::Responder,
            replaces: None,
        };
        let established = Box::new(outcome.establish(&noise.finish(), &self.config, now));
        Ok(ResponderStep::Done { send: None, established })
    }

    fn on_attach(
        &mut self,
        now: Instant,
        body: &[u8],
        admission: &mut dyn Admission,
    ) -> Result<ResponderStep, HandshakeError> {
        let attach = AttachBody::decode(body)?;
        let ours = &self.config.versions;
        let Some(chosen) = attach.offered.best_common(ours) else {
            return Ok(refuse(Refusal::UnsupportedVersion { versions: ours.clone() }));
        };
        let Some(ticket) = admission.ticket(&attach.ticket) else {
            self.ticket_tried = true;
            self.state = State::Start;
            let refusal = Refusal::UnknownTicket;
            return Ok(ResponderStep::Refuse { send: refusal.framed(), refusal, over: false });
        };
        self.check_peer(&ticket.peer)?;
        if let Err(refusal) = admission.admit(&ticket.peer) {
            return Ok(refuse(refusal));
        }
        let prologue = prologue_attach(&attach.offered, &ticket.id, &ticket.peer, &self.identity.peer_id());
        let mut noise = Noise::attach(Role::Responder, &ticket.secret, &prologue, self.entropy.split())?;
        let payload = AttachPayload::decode(&noise.read(attach.noise)?)?;
        if !may_number(payload.link, &ticket.peer, &self.identity.peer_id()) {
            return Err(HandshakeError::LinkNumber(payload.link));
        }
        let attached = AttachedPayload { chosen, offered: ours.clone(), parameters: self.config.parameters };
        let mut body = BytesMut::with_capacity(128);
        noise.write(&attached.encode(), &mut body)?;
        let outcome = Outcome {
            peer: ticket.peer,
            version: chosen,
            theirs: payload.parameters,
            link: payload.link,
            role: Role::Responder,
            replaces: Some(ticket.id),
        };
        let established = Box::new(outcome.establish(&noise.finish(), &self.config, now));
        Ok(ResponderStep::Done { send: Some(framed(PacketType::Attached, &body)), established })
    }

    fn check_peer(&self, peer: &PeerId) -> Result<(), HandshakeError> {
        if *peer == self.identity.peer_id() { Err(HandshakeError::Itself) } else { Ok(()) }
    }
}

fn refuse(refusal: Refusal) -> ResponderStep {
    ResponderStep::Refuse { send: refusal.framed(), refusal, over: true }
}
