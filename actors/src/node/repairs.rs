//! The repair actor: symptoms in, repairs carried out.
//!
//! Child of the supervisor `health`, permanent; it is given up with it, and everything else goes on without repairs. A restart forgets attempts that
//! were made: the limits begin anew. Which links stand it asks the sessions.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Handler, MessageResult, WrapFuture};
use bowline_messages::config::RepairConfig;
use bowline_messages::event::EventKind;
use bowline_messages::link::{LinkFailure, LinkState, LinkStep};
use bowline_messages::repair::{Reopen, Repair, RepairPath, RepairStatus, RepairsQuery, Subject, Symptom};
use bowline_messages::session::SessionStatus;
use bowline_messages::supervision::{RestartChild, TerminateChild};
use bowline_messages::transport::TransportStatusQuery;
use bowline_messages::{LinkId, TransportKind};

use super::peers::{FindSessionActor, PeersActor, PeersQuery};
use super::services::Services;
use crate::clock;
use crate::health::repair::{RepairOutput, Repairs, StandingLink};
use crate::pump::{self, Pump, Pumped};
use crate::supervision::{Context, SupervisorActor, call_within};
use crate::transport::actor::TransportActor;

/// How long the order to restart a transport may take: its actor is given five seconds to stop.
const RESTART_TIMEOUT: Duration = Duration::from_secs(15);

/// What the actor is made from, again after every restart.
#[derive(Clone)]
pub(super) struct RepairParts {
    pub(super) config: RepairConfig,
    pub(super) services: Rc<Services>,
    pub(super) peers: Addr<PeersActor>,
    /// The supervisor of all transports.
    pub(super) supervisor: Addr<SupervisorActor>,
    pub(super) transports: Rc<BTreeMap<TransportKind, Addr<TransportActor>>>,
}

/// The repair actor.
pub struct RepairActor {
    parts: RepairParts,
    machine: Repairs,
    pump: Pump,
}

impl RepairActor {
    pub(super) fn new(parts: RepairParts) -> Self {
        Self { machine: Repairs::new(parts.config.clone()), parts, pump: Pump::new() }
    }

    fn on_symptom(&mut self, symptom: Symptom, ctx: &mut Context<Self>) {
        self.machine.on_symptom(clock::now(), symptom);
        self.carry_out(ctx);
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                RepairOutput::Emit(event) => self.parts.services.emit(event),
                RepairOutput::Make { subject, repair, link } => self.make(subject, repair, link, ctx),
            }
        }
        let deadline = self.machine.deadline();
        pump::arm(self, ctx, deadline);
    }

    fn make(&self, subject: Subject, repair: Repair, link: Option<LinkId>, ctx: &mut Context<Self>) {
        let Subject { peer, transport } = subject;
        tracing::warn!(?peer, %transport, ?repair, "repairing");
        match (repair, peer) {
            (Repair::Renegotiate | Repair::ResetConnection | Repair::TuneParameters, Some(peer)) => {
                if repair == Repair::Renegotiate {
                    self.parts.services.resume.borrow_mut().forget_peer(&peer);
                }
                let session = self.parts.peers.send(FindSessionActor(peer));
                let order = async move {
                    if let Ok(Some(session)) = session.await {
                        // A session that is gone needs no repair.
                        let _ = session.send(RepairPath { transport, repair, link }).await;
                    }
                };
                ctx.spawn(order.into_actor(self));
            }
            (Repair::ReopenAdapter, _) => {
                if let Some(actor) = self.parts.transports.get(&transport) {
                    // One that has no room for it does not answer either, which is seen.
                    let _ = actor.try_send(Reopen);
                }
            }
            (Repair::RestartTransport, _) => {
                let restarted = restart(self.parts.supervisor.clone(), transport.clone()).into_actor(self);
                ctx.spawn(restarted.map(move |(), own: &mut Self, ctx: &mut Context<Self>| {
                    // Whether it helped is asked at once.
                    if let Some(actor) = own.parts.transports.get(&transport).cloned() {
                        own.probe_one(transport, actor, false, ctx);
                    }
                }));
            }
            (Repair::Renegotiate | Repair::ResetConnection | Repair::TuneParameters, None) => {}
        }
    }

    /// After a restart: nobody says again that a link stands.
    fn ask_for_links(&mut self, ctx: &mut Context<Self>) {
        self.machine.on_asked();
        let asked = self.parts.peers.send(PeersQuery(None)).into_actor(self);
        ctx.spawn(asked.map(|answer, own: &mut Self, ctx: &mut Context<Self>| {
            let sessions = answer.unwrap_or_default();
            own.machine.on_standing(clock::now(), sessions.iter().flat_map(standing_links));
            own.carry_out(ctx);
        }));
    }

    /// Asks every transport's actor whether it is there, again and again.
    fn probe(&mut self, ctx: &mut Context<Self>) {
        for (kind, actor) in self.parts.transports.iter() {
            self.probe_one(kind.clone(), actor.clone(), true, ctx);
        }
        ctx.run_later(self.parts.config.probe, Self::probe);
    }

    fn probe_one(&self, transport: TransportKind, actor: Addr<TransportActor>, again: bool, ctx: &mut Context<Self>) {
        let limit = self.parts.config.answer;
        let asked = async move { call_within(&actor, TransportStatusQuery, limit).await.ok().map(|_| ()).ok_or(actor) };
        ctx.spawn(asked.into_actor(self).map(move |answered, own: &mut Self, ctx: &mut Context<Self>| {
            own.on_symptom(Symptom::Probed { transport: transport.clone(), answered: answered.is_ok() }, ctx);
            // One that does not answer is asked again at once: the second time tells.
            if let (Err(actor), true) = (answered, again) {
                own.probe_one(transport, actor, false, ctx);
            }
        }));
    }
}

/// Stops a transport's actor, by force if need be, and starts it again: its address stays, its listeners are opened again.
async fn restart(supervisor: Addr<SupervisorActor>, transport: TransportKind) {
    let id = transport.to_string();
    let stopped = call_within(&supervisor, TerminateChild { id: id.clone() }, RESTART_TIMEOUT).await;
    let started = call_within(&supervisor, RestartChild { id }, RESTART_TIMEOUT).await;
    if !matches!(started, Ok(Ok(()))) {
        tracing::error!(%transport, ?stopped, ?started, "the transport could not be restarted");
    }
}

impl Actor for RepairActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.parts.config.attempts > 0 {
            ctx.run_later(self.parts.config.probe, Self::probe);
            if ctx.restarts() > 0 {
                self.ask_for_links(ctx);
            }
        }
    }
}

/// The links of a session that are up.
fn standing_links(session: &SessionStatus) -> impl Iterator<Item = StandingLink> {
    let up = |state| matches!(state, LinkState::Active | LinkState::Degraded | LinkState::Failing);
    session.links.iter().filter(move |link| up(link.state)).map(|link| StandingLink {
        peer: session.peer,
        link: link.info.id,
        transport: link.info.transport.clone(),
        well: link.state == LinkState::Active,
    })
}

impl Pumped for RepairActor {
    fn pump(&mut self) -> &mut Pump {
        &mut self.pump
    }

    fn on_deadline(&mut self, ctx: &mut Self::Context) {
        self.machine.on_timeout(clock::now());
        self.carry_out(ctx);
    }
}

impl Handler<Symptom> for RepairActor {
    type Result = ();

    fn handle(&mut self, symptom: Symptom, ctx: &mut Self::Context) {
        self.on_symptom(symptom, ctx);
    }
}

impl Handler<RepairsQuery> for RepairActor {
    type Result = MessageResult<RepairsQuery>;

    fn handle(&mut self, _: RepairsQuery, _: &mut Self::Context) -> Self::Result {
        let status: Vec<RepairStatus> = self.machine.status(clock::now());
        MessageResult(status)
    }
}

/// What an event says about the need for repairs.
pub(super) fn symptom_of(event: &EventKind) -> Option<Symptom> {
    if let EventKind::LinkUp { peer, link } = event {
        return Some(Symptom::LinkRose { peer: *peer, transport: link.transport.clone(), link: link.id });
    }
    if let EventKind::LinkStep { peer, link, to, reason, step, .. } = event {
        if matches!(step, LinkStep::RecoveryAttempt | LinkStep::Recovered | LinkStep::RecoveryFailed) {
            // Of a link that is gone: the dials say themselves what became of them.
            return None;
        }
        let (peer, link) = (*peer, *link);
        return match to {
            LinkState::Degraded => Some(Symptom::LinkDegraded { peer, link, degraded: true }),
            LinkState::Active => Some(Symptom::LinkDegraded { peer, link, degraded: false }),
            LinkState::Failed | LinkState::Closed => {
                let protocol = matches!(reason, Some(LinkFailure::Protocol(_)));
                Some(Symptom::LinkFell { peer, link, protocol })
            }
            LinkState::Initializing | LinkState::Failing | LinkState::Recovering => None,
        };
    }
    if let EventKind::Listening { asked, .. } = event {
        return Some(Symptom::Listener { address: asked.clone(), open: true });
    }
    if let EventKind::ListenFailed { address, .. } = event {
        return Some(Symptom::Listener { address: address.clone(), open: false });
    }
    if let EventKind::SessionDown { peer, .. } = event {
        return Some(Symptom::SessionEnded { peer: *peer });
    }
    None
}

#[cfg(test)]
mod tests;
