//! What the session actor dials and what becomes of it; the keeper decides.

use super::*;

/// A link through others is kept for so long after a direct one works again, which may be one that comes and goes.
const FALLBACK_KEPT: Duration = Duration::from_secs(60);

impl SessionActor {
    /// Dials what the keeper wants, if anything it goes by has changed or its time has come: this runs for every message.
    pub(super) fn dial(&mut self, now: Instant, ctx: &mut Context<Self>) {
        self.mind_fallback(now, ctx);
        let stuck = self.machine.is_stuck(now);
        let links_changed = self.links_seen != self.machine.links_version() || self.stuck_seen != stuck;
        let due = self.keeper_at.is_some_and(|at| at <= now);
        if self.over || !(self.keeper_changed || links_changed || due) {
            return;
        }
        self.fallback = self.fallback_link();
        self.keeper_changed = false;
        (self.links_seen, self.stuck_seen) = (self.machine.links_version(), stuck);
        let orders = {
            let links: Vec<_> = self.machine.standing_links(now).collect();
            self.group.keeper.borrow_mut().orders(now, &links)
        };
        let dialled = !orders.is_empty();
        for order in orders {
            self.machine.on_dialling(now, &order.address);
            self.dial_one(order, ctx);
        }
        if dialled {
            self.carry_out(ctx);
        }
        let links: Vec<_> = self.machine.standing_links(now).collect();
        self.keeper_at = self.group.keeper.borrow().deadline(&links);
    }

    /// Ways through others are for when no direct link works: a link that is kept there costs every node on the way.
    fn mind_fallback(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let reached = self.machine.is_reached_directly();
        if reached != self.reached_since.is_some() {
            self.reached_since = reached.then_some(now);
            self.keeper().set_reached(reached);
        }
        if self.fallback_until().is_some_and(|until| until <= now)
            && let Some(id) = self.fallback
        {
            self.with_machine(|machine, parts| machine.let_go(now, id, "a direct link works", parts));
            self.carry_out(ctx);
            // What was on it leaves with the next turn.
            self.group.ledger.wake();
        }
    }

    /// The link through others that this side made, looked for when the links or what the keeper knows have changed.
    fn fallback_link(&self) -> Option<LinkId> {
        let keeper = self.group.keeper.borrow();
        self.machine.links().find(|link| link.initiator && keeper.is_fallback(&link.remote)).map(|link| link.id)
    }

    /// Until when that is kept.
    pub(super) fn fallback_until(&self) -> Option<Instant> {
        let since = self.reached_since?;
        self.fallback.map(|_| since + FALLBACK_KEPT)
    }

    fn dial_one(&mut self, order: DialOrder, ctx: &mut Context<Self>) {
        let DialOrder { address, binding, timeout, at_once } = order;
        let peer = self.group.ledger.peer();
        let Some(dialer) = self.services().dialer(address.kind()) else {
            self.on_dial_failed(&address, false, &format!("there is no transport {}", address.kind()));
            return;
        };
        let ticket = self.services().resume.borrow().for_peer(&peer, clock::now());
        let with_ticket = ticket.is_some();
        let mode = ticket.map_or(DialMode::Full, DialMode::Attach);
        let link = self.group.ledger.next_link();
        let dial = Dial {
            peer,
            address: address.clone(),
            binding,
            link,
            mode,
            handshake: None,
            timeout: Some(timeout),
            at_once,
        };
        let attempt = dialer.send(dial).into_actor(self).map(move |answer, actor, ctx| {
            match answer {
                Ok(Ok(link)) => {
                    let (id, now) = (link.established.link, clock::now());
                    actor.keeper().on_connected(now, &address);
                    if let Err(refused) = actor.join(link, Some(&address), ctx) {
                        actor.on_dial_failed(&address, false, &refused);
                    } else if actor.machine.is_reached_directly() && actor.keeper().is_fallback(&address) {
                        // Begun while nothing else worked. What waited on the way may have come over the very link that works now.
                        actor.with_machine(|machine, parts| machine.let_go(now, id, "a direct link works", parts));
                        actor.carry_out(ctx);
                    }
                }
                // Of what it refuses to try the transport does not report; of everything else it did.
                Ok(Err(error @ (DialError::Paused(_) | DialError::TooManyConnections))) => {
                    actor.on_dial_failed(&address, false, &error.to_string());
                }
                Ok(Err(error)) => {
                    let (transport, failure) = (address.kind().clone(), error.failure(with_ticket));
                    actor.services().symptom(Symptom::DialFailed { peer, transport, failure });
                    let refused = matches!(error, DialError::Handshake(HandshakeError::Refused(_)));
                    if matches!(error, DialError::Handshake(_)) && !refused {
                        actor.observe(Behaviour::FailedHandshake);
                    }
                    let timed_out = matches!(error, DialError::TimedOut(_));
                    actor.machine.on_dial_failed(clock::now(), &address, &error.to_string());
                    actor.keeper().on_failure(clock::now(), &address, timed_out);
                }
                Err(_) => actor.on_dial_failed(&address, false, "the transport is being restarted"),
            }
            // The worker goes by messages and wakes; what became of a dial is neither.
            actor.group.ledger.wake();
        });
        ctx.spawn(attempt);
    }

    /// The peer let this side finish the handshake and refused it then: the dial was none that succeeded.
    pub(super) fn on_refused(&mut self, id: LinkId, refusal: &Refusal) {
        let dialled = self
            .group
            .links
            .borrow()
            .get(&id)
            .filter(|slot| slot.join.info.initiator)
            .map(|slot| slot.join.info.clone());
        if let Some(info) = dialled {
            self.on_dial_failed(&info.remote, false, &HandshakeError::Refused(refusal.clone()).to_string());
        }
    }

    fn on_dial_failed(&mut self, address: &EndpointAddress, timed_out: bool, error: &str) {
        let now = clock::now();
        self.machine.on_dial_failed(now, address, error);
        self.keeper().on_failure(now, address, timed_out);
        let (peer, address, error) = (self.group.ledger.peer(), address.clone(), error.to_owned());
        self.emit(EventKind::DialFailed { peer, address, error });
    }
}
