//! Inbound connections: limits first, then the transport's own handshake, then ours.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use actix::fut::wrap_future;
use actix::{ActorFutureExt, AsyncContext};
use bowline_messages::wire::{Refusal, TicketId};
use bowline_messages::{EventKind, PeerId};

use super::{ConnectionGuard, Direction, EstablishedLink, LinkEstablished, TransportActor};
use crate::clock;
use crate::session::handshake::{Admission, HandshakeError, Responder, ResumeTicket};
use crate::session::limits::{Outcome, Slot};
use crate::supervision::Context;
use crate::transport::establish::{EstablishError, Handshaken, respond};
use crate::transport::{Incoming, TransportError};

/// What is known of a connection whose handshake goes on.
struct Visitor {
    from: Option<IpAddr>,
    slot: Slot,
    guard: ConnectionGuard,
    since: Instant,
    /// How often somebody had been accepted by then.
    acceptances: u64,
}

impl TransportActor {
    /// Nothing expensive happens here before all limits have been asked.
    pub(super) fn on_incoming(&mut self, incoming: Box<dyn Incoming>, ctx: &mut Context<Self>) {
        let from = incoming.source();
        match self.admit(from) {
            Ok(visitor) => self.begin_handshake(incoming, visitor, ctx),
            Err(refusal) => {
                incoming.refuse(refusal.framed());
                self.on_refused(from, &refusal);
            }
        }
    }

    fn admit(&mut self, from: Option<IpAddr>) -> Result<Visitor, Refusal> {
        if self.handshakes >= self.parts.config.handshakes_max {
            return Err(Refusal::Busy);
        }
        if self.connections.available_permits() == 0 {
            return Err(Refusal::TooManyConnections);
        }
        let since = clock::now();
        let acceptances = self.parts.admission.borrow().acceptances();
        if std::mem::replace(&mut self.acceptances, acceptances) != acceptances {
            self.limits.pardon();
        }
        let slot = self.limits.admit(from, since)?;
        match self.guard(Direction::Inbound, None) {
            Some(guard) => Ok(Visitor { from, slot, guard, since, acceptances }),
            None => {
                self.limits.release(slot, Outcome::Released, since);
                Err(Refusal::TooManyConnections)
            }
        }
    }

    fn on_refused(&mut self, from: Option<IpAddr>, refusal: &Refusal) {
        self.refused += 1;
        let labels = [("transport", self.name.clone()), ("reason", refusal_label(refusal).to_owned())];
        metrics::counter!("bowline_refusals_total", &labels).increment(1);
        self.emit(EventKind::ConnectionRefused { from: source_text(from), reason: refusal.to_string() });
    }

    fn begin_handshake(&mut self, incoming: Box<dyn Incoming>, visitor: Visitor, ctx: &mut Context<Self>) {
        self.handshakes += 1;
        let parts = self.parts.clone();
        let limit = parts.config.handshake_timeout;
        let handshake = async move {
            let link = incoming.accept().await?;
            let entropy = (parts.entropy)()?;
            let machine = Responder::new(parts.identity, parts.handshake, entropy);
            respond(link, machine, SharedAdmission(parts.admission)).await
        };
        let handshake = async move {
            let done = tokio::time::timeout(limit, handshake).await;
            done.unwrap_or_else(|_| Err(TransportError::TimedOut(limit).into()))
        };
        let handshake = wrap_future::<_, Self>(handshake);
        ctx.spawn(handshake.map(move |result, actor, _| actor.on_handshake_over(visitor, result)));
    }

    fn on_handshake_over(&mut self, visitor: Visitor, result: Result<Handshaken, EstablishError>) {
        self.handshakes -= 1;
        let now = clock::now();
        let outcome = match &result {
            Ok(_) => Outcome::Proven,
            // It may have been accepted while it was being turned away.
            Err(EstablishError::Refused(Refusal::NotAllowed))
                if self.parts.admission.borrow().acceptances() != visitor.acceptances =>
            {
                Outcome::Released
            }
            Err(error) => outcome_of(error),
        };
        self.limits.release(visitor.slot, outcome, now);
        let took = now.saturating_duration_since(visitor.since);
        match result {
            Ok(handshaken) => {
                self.count_handshake(Direction::Inbound, "ok", took);
                self.hand_over(handshaken, visitor.guard);
            }
            Err(error) => {
                self.count_handshake(Direction::Inbound, "failed", took);
                self.emit(EventKind::ConnectionRefused { from: source_text(visitor.from), reason: error.to_string() });
            }
        }
    }

    fn hand_over(&mut self, handshaken: Handshaken, guard: ConnectionGuard) {
        let link = EstablishedLink::new(handshaken, guard);
        // At most as many wait there as handshakes may go on, each of which has paid for its place; one that finds the mailbox full
        // must not get lost, or the peer would believe in a link that nobody has.
        self.parts.established.do_send(LinkEstablished(link));
    }
}

impl EstablishedLink {
    pub(super) fn new(handshaken: Handshaken, guard: ConnectionGuard) -> Self {
        let Handshaken { link, buffers, established, rtt } = handshaken;
        Self { ends: link.ends().clone(), link, buffers, established, handshake_rtt: rtt, guard }
    }
}

/// Whether a source is to cool down for it.
fn outcome_of(error: &EstablishError) -> Outcome {
    match error {
        // Not its fault.
        EstablishError::Handshake(HandshakeError::NoRandomness)
        | EstablishError::Refused(Refusal::Busy | Refusal::ShuttingDown | Refusal::UnsupportedVersion { .. }) => {
            Outcome::Released
        }
        EstablishError::Refused(Refusal::NotAllowed) => Outcome::Stranger,
        EstablishError::Transport(_) | EstablishError::Handshake(_) | EstablishError::Refused(_) => Outcome::Failed,
    }
}

fn source_text(from: Option<IpAddr>) -> String {
    from.map_or_else(|| "unknown".into(), |from| from.to_string())
}

/// A bounded set of values for a label.
fn refusal_label(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::UnsupportedVersion { .. } => "version",
        Refusal::TooManyConnections => "total",
        Refusal::SourceLimit => "source",
        Refusal::CoolDown => "cool_down",
        Refusal::NotAllowed => "not_allowed",
        Refusal::UnknownTicket => "ticket",
        Refusal::Busy => "busy",
        Refusal::ShuttingDown => "shutting_down",
        Refusal::Unknown(_) => "other",
    }
}

/// Asks the shared admission for one answer at a time, so that it is never held across an await.
struct SharedAdmission(Rc<RefCell<dyn Admission>>);

impl Admission for SharedAdmission {
    fn ticket(&mut self, id: &TicketId) -> Option<ResumeTicket> {
        self.0.borrow_mut().ticket(id)
    }

    fn admit(&mut self, peer: &PeerId) -> Result<(), Refusal> {
        self.0.borrow_mut().admit(peer)
    }

    fn acceptances(&self) -> u64 {
        self.0.borrow().acceptances()
    }
}
