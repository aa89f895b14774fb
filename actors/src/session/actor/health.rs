//! What a session actor and the health monitors tell each other.

use bowline_messages::TransportKind;
use bowline_messages::health::{HealthReport, LinkObserved, LinkOpinion, LinkTurn};

use super::*;

impl SessionActor {
    /// Reports what was seen of the links.
    pub(super) fn report_seen(&self, all: Vec<(TransportKind, LinkObserved)>, ctx: &mut Context<Self>) {
        let mut by_transport = BTreeMap::<TransportKind, Vec<LinkObserved>>::new();
        for (kind, seen) in all {
            by_transport.entry(kind).or_default().push(seen);
        }
        for (kind, observed) in by_transport {
            let reply = Some(ctx.address().recipient());
            self.tell_monitor(&kind, observed, Vec::new(), reply);
        }
    }

    /// Reports what became of a link.
    pub(super) fn report_turn(&self, kind: &TransportKind, turn: LinkTurn) {
        self.tell_monitor(kind, Vec::new(), vec![turn], None);
    }

    fn tell_monitor(
        &self,
        kind: &TransportKind,
        observed: Vec<LinkObserved>,
        turns: Vec<LinkTurn>,
        reply: Option<actix::Recipient<LinkOpinion>>,
    ) {
        if let Some(monitor) = self.services().health(kind) {
            monitor.report(HealthReport { peer: self.group.ledger.peer(), observed, turns, reply });
        }
    }

    /// A link is about to fail and there is no other: addresses that are backing off are tried now.
    pub(super) fn want_spare(&mut self) {
        self.keeper().on_network_change(clock::now());
    }

    /// A timer that fires late says that this process was not running: then the links' silence says nothing.
    pub(super) fn doubt_lateness(&mut self, now: Instant) {
        if self.machine.on_late(now, self.pump.late()) {
            metrics::counter!("bowline_late_timers_total").increment(1);
        }
    }
}

impl Handler<LinkOpinion> for SessionActor {
    type Result = ();

    fn handle(&mut self, opinion: LinkOpinion, _: &mut Self::Context) {
        self.machine.on_opinion(clock::now(), opinion);
    }
}
