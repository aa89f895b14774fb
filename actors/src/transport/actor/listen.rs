//! Listeners: opened when asked to, and opened again when they break.
//!
//! ```text
//!   Opening ──ok──▶ Open ──broken──▶ Waiting ──back-off over──▶ Opening …
//! ```

use std::io::ErrorKind;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use actix::fut::wrap_future;
use actix::{ActorFutureExt, AsyncContext, Handler, ResponseActFuture};
use bowline_messages::repair::Reopen;
use bowline_messages::transport::{Listen, ListenAddresses, ListenCause, ListenError, ListenerStatus, Unlisten};
use bowline_messages::{EndpointAddress, EventKind};
use rand::RngExt;

use super::TransportActor;
use crate::clock;
use crate::supervision::{Backoff, Context};
use crate::transport::registry::leads_through_others;
use crate::transport::{Listener, TransportError};

/// Connections taken from one listener before the actor's messages have their turn.
const ACCEPTS_PER_TURN: usize = 32;

/// One listener that is to be open.
pub(super) struct ListenerSlot {
    /// What to open: the address asked for, its port 0 replaced by the one that was found.
    bind: EndpointAddress,
    listener: Option<Box<dyn Listener>>,
    open: Vec<EndpointAddress>,
    /// Attempts that failed since it was last open.
    failures: u32,
    /// When it is opened again. `None`: it is open, or being opened.
    retry_at: Option<Instant>,
    error: Option<String>,
}

impl ListenerSlot {
    fn new(bind: EndpointAddress) -> Self {
        Self { bind, listener: None, open: Vec::new(), failures: 0, retry_at: None, error: None }
    }

    pub(super) fn status(&self, asked: &EndpointAddress) -> ListenerStatus {
        ListenerStatus { asked: asked.clone(), open: self.open.clone(), error: self.error.clone() }
    }
}

impl TransportActor {
    /// Opens what an earlier life of the actor had open.
    pub(super) fn reopen_kept(&mut self, ctx: &mut Context<Self>) {
        let kept = self.parts.kept.0.borrow().clone();
        for (asked, bind) in kept {
            self.listeners.insert(asked.clone(), ListenerSlot::new(bind));
            self.reopen(asked, ctx);
        }
    }

    /// Accepts what has arrived on every listener.
    pub(super) fn poll_listeners(&mut self, ctx: &mut Context<Self>, cx: &mut TaskContext<'_>) {
        let mut broken = Vec::new();
        let mut arrived = Vec::new();
        for (asked, slot) in &mut self.listeners {
            let Some(listener) = &mut slot.listener else { continue };
            for taken in 1..=ACCEPTS_PER_TURN {
                match listener.poll_accept(cx) {
                    Poll::Ready(Ok(incoming)) => arrived.push(incoming),
                    Poll::Ready(Err(error)) => {
                        broken.push((asked.clone(), error));
                        break;
                    }
                    Poll::Pending => break,
                }
                if taken == ACCEPTS_PER_TURN {
                    cx.waker().wake_by_ref();
                }
            }
        }
        for incoming in arrived {
            self.on_incoming(incoming, ctx);
        }
        for (asked, error) in broken {
            self.on_listener_broken(asked, &error, ctx);
        }
    }

    fn on_listener_open(&mut self, asked: &EndpointAddress, listener: Box<dyn Listener>) -> Vec<EndpointAddress> {
        let open = listener.addresses();
        // A port that was found is kept, so that a listener that is opened again can still be dialled.
        let bind = match (asked.port(), open.first().and_then(EndpointAddress::port)) {
            (Some(0), Some(port)) => asked.with_port(port),
            _ => asked.clone(),
        };
        self.parts.kept.0.borrow_mut().insert(asked.clone(), bind.clone());
        // An address that nobody can dial is no news, unless it was missed.
        let missed = self.listeners.get(asked).is_some_and(|slot| slot.failures > 0);
        for address in open.iter().filter(|address| missed || !leads_through_others(address.kind())) {
            self.emit(EventKind::Listening { address: address.clone(), asked: asked.clone() });
        }
        let slot = ListenerSlot { listener: Some(listener), open: open.clone(), ..ListenerSlot::new(bind) };
        self.listeners.insert(asked.clone(), slot);
        self.wake_driver();
        open
    }

    fn on_listener_broken(&mut self, asked: EndpointAddress, error: &TransportError, ctx: &mut Context<Self>) {
        let Some(slot) = self.listeners.get_mut(&asked) else { return };
        slot.listener = None;
        slot.open.clear();
        slot.failures = slot.failures.saturating_add(1);
        slot.error = Some(error.to_string());
        let backoff = Backoff { min: self.parts.config.reopen_min, max: self.parts.config.reopen_max };
        let wait = backoff.delay(slot.failures, self.random.random());
        let retry_at = clock::now() + wait;
        slot.retry_at = Some(retry_at);
        self.count_error("listen");
        self.emit(EventKind::ListenFailed { address: asked.clone(), error: error.to_string() });
        tracing::warn!(address = %asked, %error, ?wait, "a listener is broken and will be opened again");
        ctx.run_later(wait, move |actor, ctx| {
            // It may have been tried meanwhile, and then waits for another time.
            if actor.listeners.get(&asked).is_some_and(|slot| slot.retry_at == Some(retry_at)) {
                actor.reopen(asked, ctx);
            }
        });
    }

    fn reopen(&mut self, asked: EndpointAddress, ctx: &mut Context<Self>) {
        // It may have been closed, or opened again by a new request, in the meantime.
        let Some(slot) = self.listeners.get_mut(&asked).filter(|slot| slot.listener.is_none()) else { return };
        slot.retry_at = None;
        let opening = wrap_future::<_, Self>(self.parts.transport.listen(&slot.bind));
        ctx.spawn(opening.map(|opened, actor, ctx| match opened {
            Ok(listener) if actor.listeners.get(&asked).is_some_and(|slot| slot.listener.is_none()) => {
                actor.on_listener_open(&asked, listener);
            }
            // Closed while it was being opened.
            Ok(_) => {}
            Err(error) => actor.on_listener_broken(asked, &error, ctx),
        }));
    }

    /// The address under which a listener was asked for, given that or one it has.
    fn find_listener(&self, address: &EndpointAddress) -> Option<EndpointAddress> {
        let matches =
            |(asked, slot): &(&EndpointAddress, &ListenerSlot)| *asked == address || slot.open.contains(address);
        self.listeners.iter().find(matches).map(|(asked, _)| asked.clone())
    }

    pub(super) fn count_error(&self, what: &'static str) {
        metrics::counter!("bowline_transport_errors_total", "transport" => self.name.clone(), "reason" => what)
            .increment(1);
    }
}

impl Handler<Listen> for TransportActor {
    type Result = ResponseActFuture<Self, Result<Vec<EndpointAddress>, ListenError>>;

    fn handle(&mut self, Listen { address }: Listen, _: &mut Self::Context) -> Self::Result {
        // Port 0 asks for a new listener each time; anything else that is open already is that listener.
        let known = self.find_listener(&address).filter(|_| address.port() != Some(0));
        if let Some(slot) = known.and_then(|asked| self.listeners.get(&asked)).filter(|slot| slot.listener.is_some()) {
            let open = slot.open.clone();
            return Box::pin(wrap_future(std::future::ready(Ok(open))));
        }
        let opening = wrap_future::<_, Self>(self.parts.transport.listen(&address));
        Box::pin(opening.map(move |opened, actor, _| match opened {
            Ok(listener) => {
                let asked = actor.name_for(&address, &*listener);
                Ok(actor.on_listener_open(&asked, listener))
            }
            Err(error) => {
                actor.count_error("listen");
                actor.emit(EventKind::ListenFailed { address, error: error.to_string() });
                Err(ListenError { cause: cause_of(&error), reason: error.to_string() })
            }
        }))
    }
}

/// Whose fault it is, as far as the operating system tells.
fn cause_of(error: &TransportError) -> ListenCause {
    match error {
        TransportError::Io(error) if error.kind() == ErrorKind::AddrInUse => ListenCause::InUse,
        TransportError::Io(error) if error.kind() == ErrorKind::PermissionDenied => ListenCause::NotPermitted,
        TransportError::Io(error) if error.kind() == ErrorKind::AddrNotAvailable => ListenCause::NotHere,
        TransportError::Io(_)
        | TransportError::Address { .. }
        | TransportError::Binding { .. }
        | TransportError::TimedOut(_)
        | TransportError::Authentication(_)
        | TransportError::Protocol { .. }
        | TransportError::Unsupported { .. }
        | TransportError::Refused(_)
        | TransportError::TurnedAway
        | TransportError::Closed => ListenCause::Other,
    }
}

impl TransportActor {
    /// Several listeners on port 0 are told apart by the ports they found.
    fn name_for(&self, address: &EndpointAddress, listener: &dyn Listener) -> EndpointAddress {
        match listener.addresses().first().and_then(EndpointAddress::port) {
            Some(port) if address.port() == Some(0) => address.with_port(port),
            _ => address.clone(),
        }
    }
}

impl Handler<Reopen> for TransportActor {
    type Result = ();

    /// A repair: what is open or under way goes on. Whatever still fails goes on backing off.
    fn handle(&mut self, _: Reopen, ctx: &mut Self::Context) {
        self.breakers.reset();
        self.parts.transport.reopen();
        let waiting = self.listeners.iter().filter(|(_, slot)| slot.retry_at.is_some());
        let waiting: Vec<_> = waiting.map(|(asked, _)| asked.clone()).collect();
        for asked in waiting {
            self.reopen(asked, ctx);
        }
    }
}

impl Handler<Unlisten> for TransportActor {
    type Result = bool;

    fn handle(&mut self, Unlisten { address }: Unlisten, _: &mut Self::Context) -> bool {
        let Some(asked) = self.find_listener(&address) else { return false };
        self.parts.kept.0.borrow_mut().remove(&asked);
        self.listeners.remove(&asked);
        true
    }
}

impl Handler<ListenAddresses> for TransportActor {
    type Result = Vec<EndpointAddress>;

    fn handle(&mut self, _: ListenAddresses, _: &mut Self::Context) -> Vec<EndpointAddress> {
        self.listeners.values().flat_map(|slot| slot.open.iter().cloned()).collect()
    }
}
