//! Looks who is reachable at the moment, and who is refused, and tells those whose concern that is: the topology, the routing, the membership. And,
//! more seldom, how the links over each transport do, which members are down, and what power is left.
//!
//! Permanent child of the supervisor `network`. It keeps nothing: a restart looks again.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext as _, Recipient, WrapFuture as _};
use bowline_messages::PeerId;
use bowline_messages::link::LinkState;
use bowline_messages::membership::{MemberInfo, MemberState};
use bowline_messages::network::{ExcludedChanged, Neighbour};
use bowline_messages::session::SessionStatus;
use bowline_messages::topology::{
    LinkFacts, MembersSeen, NeighboursChanged, OwnFacts, TransportHealth, TransportsSeen,
};

use super::peers::PeersQuery;
use super::services::Services;
use crate::clock;
use crate::membership::MembershipActor;
use crate::membership::actor::{Neighbours, WhichMembers};
use crate::pump::{self, Pump, Pumped};
use crate::routing::actor::DirectNeighbours;
use crate::supervision::Context;
use crate::topology::actor::TopologyActor;

/// What one link costs beside its delay, in microseconds of round trip: fewer links are better when the delay is the same.
const HOP_COST: Duration = Duration::from_millis(1);
/// How often sessions are asked how their links do, and the membership who is down: for a report that people read.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How often the power that is left is measured.
const POWER_EVERY: Duration = Duration::from_secs(60);
/// The unit of costs.
const COST_UNIT: Duration = Duration::from_micros(100);

/// What the actor is made from, again after every restart.
#[derive(Clone)]
pub(super) struct SurroundingsParts {
    pub(super) services: Rc<Services>,
    /// What this node is like.
    pub(super) own: Rc<dyn Fn() -> OwnFacts>,
    /// How often it looks.
    pub(super) every: Duration,
    pub(super) topology: Addr<TopologyActor>,
    pub(super) routing: Recipient<DirectNeighbours>,
    pub(super) membership: Addr<MembershipActor>,
    /// Reports on all sessions.
    pub(super) sessions: Recipient<PeersQuery>,
    /// Measures the power that is left, beside the node's thread: some machines take their time to say.
    pub(super) power: Option<fn() -> Option<f64>>,
    /// What it said last.
    pub(super) left: Rc<Cell<Option<f64>>>,
}

/// The actor.
pub(super) struct SurroundingsActor {
    parts: SurroundingsParts,
    pump: Pump,
    due: Instant,
    report_due: Instant,
    power_due: Instant,
    known: Vec<PeerId>,
    told: Option<OwnFacts>,
    /// Acceptances and refusals of the trust when others were told last.
    judged: Option<(u64, u64)>,
}

impl SurroundingsActor {
    pub(super) fn new(parts: SurroundingsParts) -> Self {
        let due = clock::now();
        let (pump, known) = (Pump::new(), Vec::new());
        Self { parts, pump, due, report_due: due, power_due: due, known, told: None, judged: None }
    }

    fn look_at_transports(&self, ctx: &mut Context<Self>) {
        let (sessions, topology) = (self.parts.sessions.clone(), self.parts.topology.clone());
        let asked = async move {
            if let Ok(sessions) = sessions.send(PeersQuery(None)).await {
                let _ = topology.try_send(TransportsSeen { transports: transports(&sessions) });
            }
        };
        ctx.spawn(asked.into_actor(self));
    }

    fn look_at_members(&self, ctx: &mut Context<Self>) {
        let (members, topology) = (self.parts.membership.clone(), self.parts.topology.clone());
        let asked = async move {
            if let Ok(members) = members.send(WhichMembers).await {
                let _ = topology.try_send(MembersSeen { down: down(&members) });
            }
        };
        ctx.spawn(asked.into_actor(self));
    }

    fn look_at_power(&self, ctx: &mut Context<Self>) {
        let Some(power) = self.parts.power else { return };
        let left = Rc::clone(&self.parts.left);
        let measured = async move {
            if let Ok(power) = tokio::task::spawn_blocking(power).await {
                left.set(power);
            }
        };
        ctx.spawn(measured.into_actor(self));
    }

    /// Whom the trust refuses now, if that may be somebody else than before.
    fn look_at_trust(&mut self) {
        let trust = self.parts.services.trust.borrow();
        let judged = Some((trust.acceptances(), trust.refusals()));
        if judged == self.judged {
            return;
        }
        let changed = ExcludedChanged { excluded: Arc::new(trust.shut_out()) };
        let told = self.parts.topology.try_send(changed.clone()).is_ok();
        if self.parts.membership.try_send(changed).is_ok() && told {
            self.judged = judged;
        }
    }

    fn look(&mut self) {
        self.look_at_trust();
        let neighbours = self.parts.services.carrier.neighbours();
        let direct: Vec<&Neighbour> = neighbours.iter().filter(|neighbour| neighbour.direct).collect();
        let facts: BTreeMap<_, _> = direct.iter().map(|neighbour| (neighbour.peer, facts(neighbour))).collect();
        let costs = direct.iter().map(|neighbour| (neighbour.peer, cost(neighbour))).collect();
        // What finds no room is told the next time.
        let _ = self.parts.topology.try_send(NeighboursChanged { neighbours: facts });
        let _ = self.parts.routing.try_send(DirectNeighbours(costs));
        let own = (self.parts.own)();
        if self.told.as_ref() != Some(&own) && self.parts.topology.try_send(own.clone()).is_ok() {
            self.told = Some(own);
        }
        let known: Vec<PeerId> = neighbours.iter().map(|neighbour| neighbour.peer).collect();
        if known != self.known {
            let told = Neighbours { reached: known.clone(), silent: self.parts.services.carrier.silent() };
            if self.parts.membership.try_send(told).is_ok() {
                self.known = known;
            }
        }
    }
}

/// How many links there are over each transport, and how many of them are well.
fn transports(sessions: &[SessionStatus]) -> BTreeMap<String, TransportHealth> {
    let mut seen = BTreeMap::new();
    for link in sessions.iter().flat_map(|session| &session.links) {
        let nothing = TransportHealth { links: 0, well: 0 };
        let health = seen.entry(link.info.transport.to_string()).or_insert(nothing);
        health.links += 1;
        health.well += u32::from(link.state == LinkState::Active);
    }
    seen
}

/// Members that are gone without a word.
fn down(members: &[MemberInfo]) -> BTreeSet<PeerId> {
    members.iter().filter(|member| member.state == MemberState::Down).map(|member| member.peer).collect()
}

/// What a link to a neighbour is like, for others.
fn facts(neighbour: &Neighbour) -> LinkFacts {
    LinkFacts {
        latency: neighbour.rtt,
        bandwidth: neighbour.bandwidth.unwrap_or(0),
        loss_ppm: neighbour.loss_ppm,
        // Others are told in seconds: less is no news.
        idle: Duration::from_secs(neighbour.idle.as_secs()),
        cost: cost(neighbour),
        // Only the topology knows.
        healing: false,
    }
}

/// The expected time to get across, what is lost being sent again: (round trip + a constant) ÷ share that arrives, in tenths of a
/// millisecond; at least 1. As the expected transmission time of De Couto et al. (MobiCom 2003), by delay instead of airtime.
fn cost(neighbour: &Neighbour) -> u32 {
    let arrives = (1.0 - f64::from(neighbour.loss_ppm) / 1e6).max(0.01);
    let time = (neighbour.rtt + HOP_COST).as_secs_f64() / arrives;
    ((time / COST_UNIT.as_secs_f64()) as u32).max(1)
}

impl Actor for SurroundingsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.on_deadline(ctx);
    }
}

impl Pumped for SurroundingsActor {
    fn pump(&mut self) -> &mut Pump {
        &mut self.pump
    }

    fn on_deadline(&mut self, ctx: &mut Self::Context) {
        let now = clock::now();
        if now >= self.due {
            self.look();
            self.due = now + self.parts.every;
            // With the others: one wake-up.
            if now >= self.report_due {
                self.look_at_transports(ctx);
                self.look_at_members(ctx);
                self.report_due = now + REPORT_EVERY;
            }
            if now >= self.power_due {
                self.look_at_power(ctx);
                self.power_due = now + POWER_EVERY;
            }
        }
        let due = self.due;
        pump::arm(self, ctx, Some(due));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(ms: u64, loss_ppm: u32) -> Neighbour {
        let peer = PeerId::from_bytes([1; 32]);
        let rtt = Duration::from_millis(ms);
        Neighbour { peer, rtt, loss_ppm, idle: Duration::ZERO, bandwidth: None, direct: true, answers: true }
    }

    #[test]
    fn how_long_a_link_has_been_quiet_is_told() {
        let quiet = Neighbour { idle: Duration::from_secs(7), ..neighbour(9, 0) };
        assert_eq!(facts(&quiet).idle, Duration::from_secs(7));
    }

    #[test]
    fn what_is_slower_loses_more_or_takes_more_links_costs_more() {
        assert_eq!(cost(&neighbour(9, 0)), 100);
        assert_eq!(cost(&neighbour(9, 500_000)), 200);
        assert!(cost(&neighbour(10, 0)) < cost(&neighbour(5, 0)) * 2, "one link of 10 ms beats two of 5 ms");
        assert!(cost(&neighbour(0, 1_000_000)) >= 1);
    }
}
