//! Handing what arrived over to the application, within the peer's budget.

use bytes::Bytes;

use super::*;
use crate::migration;

/// Messages handed to the application at once.
const BATCH_MESSAGES: usize = 1024;
/// How long to wait before the application's full mailbox is tried again.
const DELIVERY_RETRY: Duration = Duration::from_millis(2);
/// How long to wait before it is looked whether an application that was gone is back.
const APPLICATION_RETRY: Duration = Duration::from_secs(1);
/// How often a message may be in hand when the session actor panics.
const STRIKES: u32 = 2;

impl SessionActor {
    /// Hands over what the application and the peer's budget take. What stays has memory of its own from then on.
    pub(super) fn deliver(&mut self, now: Instant) {
        self.hand_over(now);
        self.group.ledger.inbound().own_leftovers();
    }

    fn hand_over(&mut self, now: Instant) {
        self.limit_streams(now);
        if self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        self.retry_at = None;
        let services = self.services().clone();
        let application = services.application();
        if let (Some(inbox), Some(via)) = (&application.inbox, &self.via) {
            let inspector = application.inspector.as_ref();
            let most = if inspector.is_some() { 1 } else { BATCH_MESSAGES };
            let peer = self.group.ledger.peer();
            while self.group.ledger.inbound().has_deliveries() {
                if let Some(inspector) = inspector
                    && !self.inspect(inspector.as_ref())
                {
                    continue;
                }
                let (allowed, budget) = match self.allowance(now, most) {
                    Ok(allowance) => allowance,
                    Err(wait) => {
                        self.on_limited(now, wait);
                        break;
                    }
                };
                let taken = self.group.ledger.inbound().deliver_with(allowed, |messages| {
                    let sent = inbox.try_send(Inbox { peer, messages, via: via.clone() });
                    sent.map_err(|refusal| match refusal {
                        MailboxRefusal::Full(inbox) | MailboxRefusal::Closed(inbox) => inbox.messages,
                    })
                });
                if !taken {
                    let gone = !inbox.connected();
                    if gone && !std::mem::replace(&mut self.application_gone, true) {
                        tracing::warn!(%peer, "the application's actor is gone: what arrives waits for another one");
                    }
                    self.retry_at = Some(now + if gone { APPLICATION_RETRY } else { DELIVERY_RETRY });
                    break;
                }
                self.application_gone = false;
                self.handed_over = true;
                if let Some((budgets, budget)) = self.group.budgets.as_ref().zip(budget) {
                    budgets.borrow_mut().messages = budget;
                }
            }
        }
        self.deliver_streams(application.streams.as_ref());
    }

    /// What the readers of streams took is on a budget of the same size, so that messages do not wait for it. It cannot be held back;
    /// while it is not paid for, the peer is not told of it, so that its windows close.
    fn limit_streams(&mut self, now: Instant) {
        let group = self.group.clone();
        let Some(mut budgets) = group.budgets.as_ref().map(|budgets| budgets.borrow_mut()) else { return };
        let budget = &mut budgets.streams;
        let (messages, bytes) = self.group.ledger.inbound().take_read();
        budget.charge(messages, bytes, now);
        let wait = budget.debt(now);
        let news = !wait.is_zero() && budget.limits(now);
        self.withheld_until = (!wait.is_zero()).then(|| now + wait);
        self.group.ledger.inbound().withhold_streams(!wait.is_zero());
        drop(budgets);
        if news {
            self.emit(EventKind::PeerLimited { peer: self.group.ledger.peer() });
        }
    }

    /// The peer is past its budget: the rest waits.
    fn on_limited(&mut self, now: Instant, wait: Duration) {
        let retry_at = now + wait;
        self.retry_at = Some(self.retry_at.map_or(retry_at, |at| at.max(retry_at)));
        let news = self.group.budgets.as_ref().is_some_and(|budgets| budgets.borrow_mut().messages.limits(now));
        if news {
            let peer = self.group.ledger.peer();
            self.emit(EventKind::PeerLimited { peer });
        }
    }

    /// Passes on a datagram, as far as the peer's budget goes: it is as much work as a message.
    pub(super) fn take_datagram(&self, concern: u8, payload: &Bytes) {
        let group = &self.group;
        let paid = group
            .budgets
            .as_ref()
            .is_none_or(|budgets| budgets.borrow_mut().messages.take(1, payload.len() as u64, clock::now()).is_ok());
        if paid {
            group.services.carrier.arrived(group.ledger.peer(), concern, payload);
        }
    }

    /// How many messages may be handed over now, and what is left of the peer's budget then; or how long to wait.
    fn allowance(&self, now: Instant, most: usize) -> Result<(usize, Option<PeerBudget>), Duration> {
        let budget = self.group.budgets.as_ref().map(|budgets| budgets.borrow().messages);
        let Some(mut budget) = budget else { return Ok((most, None)) };
        let config = &self.group.services.session.borrow();
        let at_once = usize::try_from(config.peer_messages_per_second).unwrap_or(most);
        let most = if at_once == 0 { most } else { most.min(at_once) };
        let bytes = if config.peer_bytes_per_second == 0 { u64::MAX } else { config.peer_bytes_per_second };
        let (messages, bytes) = self.group.ledger.inbound().next_batch(most, bytes);
        budget.take(messages as u64, bytes, now)?;
        Ok((messages, Some(budget)))
    }

    /// Shows the next message to the inspector, once. `false`: it was set aside instead.
    fn inspect(&self, inspector: &dyn Fn(bowline_messages::PeerId, &bowline_messages::session::Received)) -> bool {
        let ledger = &self.group.ledger;
        if ledger.inbound().is_shown() {
            return true;
        }
        let Some(message) = ledger.inbound().next_delivery().cloned() else { return true };
        let key: InHand = (false, message.channel.0, message.sequence);
        {
            let mut strikes = ledger.strikes();
            if strikes.counts.get(&key).is_some_and(|count| *count >= STRIKES) {
                strikes.counts.remove(&key);
                ledger.inbound().reject_next();
                let (channel, sequence) = (message.channel.0, message.sequence);
                let peer = ledger.peer();
                self.emit(EventKind::MessageQuarantined { peer, outgoing: false, channel, sequence });
                return false;
            }
            strikes.in_hand = Some(key);
        }
        inspector(ledger.peer(), &message);
        ledger.strikes().in_hand = None;
        ledger.inbound().set_shown();
        true
    }

    fn deliver_streams(&mut self, recipient: Option<&actix::Recipient<IncomingStream>>) {
        let ledger = &self.group.ledger;
        loop {
            let opened = ledger.inbound().streams.take_opened();
            let Some((id, label)) = opened else { return };
            let stream = SessionStream::accepted(SessionHandle::new(ledger.clone()), id);
            let migrations = (&label[..] == migration::wire::LABEL).then(|| self.services().migrations());
            let recipient = migrations.as_ref().map_or(recipient, Option::as_ref);
            // Without anybody to take it the stream is dropped, which resets it: the peer is told.
            if let Some(recipient) = recipient {
                let incoming = IncomingStream { peer: ledger.peer(), label, stream };
                if recipient.try_send(incoming).is_err() {
                    tracing::warn!("a stream was refused: the application's mailbox is full");
                }
            }
        }
    }
}
