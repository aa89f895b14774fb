//! What the session actor does with each message: hands it to the machine or to the keeper.

use super::*;

impl Handler<Arrived> for SessionActor {
    type Result = ();

    fn handle(&mut self, arrived: Arrived, ctx: &mut Self::Context) {
        let link = arrived.link;
        if self.via.as_ref().is_none_or(|via| via.id != link) {
            let via = self.group.links.borrow().get(&link).map(|slot| slot.join.info.clone());
            self.via = via.or(self.via.take());
        }
        let now = clock::now();
        self.with_machine(|machine, parts| machine.on_arrived(now, link, arrived.data, parts));
        // First what has to be remembered beside the ledger: the application's inspector may panic.
        self.carry_out(ctx);
        self.deliver(now);
    }
}

impl Handler<LinkDown> for SessionActor {
    type Result = ();

    fn handle(&mut self, down: LinkDown, _: &mut Self::Context) {
        if self.was_closed(down.link) {
            return;
        }
        self.group.links.borrow_mut().remove(&down.link);
        let now = clock::now();
        self.with_machine(|machine, parts| machine.on_link_down(now, down.link, down.reason, parts));
    }
}

impl Handler<Down> for SessionActor {
    type Result = ();

    /// A link actor ended. If it said so itself the link is gone already; if it panicked this is the news.
    fn handle(&mut self, down: Down, _: &mut Self::Context) {
        let found = self.group.links.borrow().iter().find(|(_, slot)| slot.name == down.path).map(|(id, _)| *id);
        if let Some(id) = found {
            self.group.links.borrow_mut().remove(&id);
            let now = clock::now();
            self.with_machine(|machine, parts| machine.on_link_down(now, id, LinkFailure::ActorPanicked, parts));
        }
    }
}

impl Handler<LinkEstablished> for SessionActor {
    type Result = ();

    fn handle(&mut self, LinkEstablished(link): LinkEstablished, ctx: &mut Self::Context) {
        if !self.over {
            // Whoever dialled sees that its connection ends.
            let _ = self.join(link, None, ctx);
        }
    }
}

impl Handler<AddAddresses> for SessionActor {
    type Result = ();

    fn handle(&mut self, AddAddresses(addresses): AddAddresses, _: &mut Self::Context) {
        for (address, binding) in addresses {
            self.keeper().add(clock::now(), address, Source::Given, binding);
        }
    }
}

impl Handler<TryAtOnce> for SessionActor {
    type Result = ();

    fn handle(&mut self, TryAtOnce(addresses): TryAtOnce, _: &mut Self::Context) {
        let now = clock::now();
        self.keeper_changed = true;
        let links: Vec<_> = self.machine.standing_links(now).collect();
        self.group.keeper.borrow_mut().try_at_once(now, &addresses, &links);
    }
}

impl Handler<FallbackAddress> for SessionActor {
    type Result = ();

    fn handle(&mut self, FallbackAddress(address): FallbackAddress, _: &mut Self::Context) {
        self.keeper().add(clock::now(), address, Source::Fallback, Binding::default());
    }
}

impl Handler<GivenAddresses> for SessionActor {
    type Result = ();

    fn handle(&mut self, GivenAddresses(addresses): GivenAddresses, _: &mut Self::Context) {
        self.keeper().set_given(clock::now(), addresses);
    }
}

impl Handler<OwnAddresses> for SessionActor {
    type Result = ();

    fn handle(&mut self, OwnAddresses(addresses): OwnAddresses, _: &mut Self::Context) {
        self.machine.on_own_addresses(addresses);
    }
}

impl Handler<InterfaceState> for SessionActor {
    type Result = ();

    fn handle(&mut self, change: InterfaceState, _: &mut Self::Context) {
        if change.up {
            self.keeper().on_network_change(clock::now());
        } else {
            let now = clock::now();
            self.with_machine(|machine, parts| machine.on_interface_down(now, &change.name, parts));
        }
    }
}

impl Handler<RepairPath> for SessionActor {
    type Result = ();

    fn handle(&mut self, order: RepairPath, ctx: &mut Self::Context) {
        let now = clock::now();
        match order.repair {
            Repair::ResetConnection => {
                let reset = |machine: &mut Session, parts: &mut Parts<'_>| {
                    order.link.filter(|id| machine.reset(now, *id, parts))
                };
                if let Some(id) = self.with_machine(reset) {
                    self.carry_out(ctx);
                    // One that the machine does not know, or no more.
                    self.forget_link(id, "reset as a repair");
                    self.keeper().hurry(now, &order.transport, false);
                } else {
                    tracing::info!(link = ?order.link, "a link is not reset: no other is well");
                }
            }
            Repair::TuneParameters => self.keeper().hurry(now, &order.transport, true),
            // The tickets are forgotten already.
            Repair::Renegotiate => self.keeper().hurry(now, &order.transport, false),
            Repair::ReopenAdapter | Repair::RestartTransport => {}
        }
        // Nothing else may be due for a while.
        self.group.ledger.wake();
    }
}

impl Handler<CloseSession> for SessionActor {
    type Result = ResponseFuture<()>;

    /// The answer comes when the links have said goodbye, so that whoever stops the group afterwards does not cut them short.
    fn handle(&mut self, CloseSession(code): CloseSession, ctx: &mut Self::Context) -> Self::Result {
        let ends: Vec<_> = self.group.links.borrow().values().map(|slot| slot.address.send(AwaitEnd)).collect();
        self.over = true;
        self.machine.on_close(code, "");
        self.transmit(clock::now());
        self.machine.abandon(&LinkFailure::ClosedHere("the session ends".into()));
        self.carry_out(ctx);
        Box::pin(async move {
            // Each is answered by the end of its link, which has a time limit of its own.
            let _ = futures_util::future::join_all(ends).await;
        })
    }
}

impl Handler<FindLinkActor> for SessionActor {
    type Result = Option<Addr<LinkActor>>;

    fn handle(&mut self, FindLinkActor(link): FindLinkActor, _: &mut Self::Context) -> Self::Result {
        self.group.links.borrow().get(&link).map(|slot| slot.address.clone())
    }
}

impl Handler<StatusQuery> for SessionActor {
    type Result = MessageResult<StatusQuery>;

    fn handle(&mut self, _: StatusQuery, _: &mut Self::Context) -> Self::Result {
        let ledger = self.group.ledger.clone();
        let now = clock::now();
        let (queued_messages, queued_bytes) = ledger.outbox().queued();
        let (messages_accepted, messages_acknowledged) = ledger.outbox().totals();
        let (messages_delivered, duplicates_dropped) = ledger.inbound().totals();
        MessageResult(SessionStatus {
            peer: ledger.peer(),
            incarnation: ledger.incarnation(),
            peer_incarnation: ledger.peer_incarnation(),
            links: self.machine.link_statuses(now),
            failed: self.machine.failed(),
            choices: self.machine.choices(now),
            peer_addresses: self.group.keeper.borrow().addresses(),
            dials: self.group.keeper.borrow().status(now),
            queued_messages,
            queued_bytes,
            messages_accepted,
            messages_acknowledged,
            messages_delivered,
            duplicates_dropped,
            failovers: self.machine.failovers(),
        })
    }
}
