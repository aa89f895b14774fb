//! Owns one connection and carries bytes between it and the session, nothing else.
//!
//! Temporary child of a peer's group: when it ends, for whatever reason, its connection is gone with it, and the session fails
//! over. A restart would have nothing to start from.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFuture, AsyncContext, Handler, Message, MessageResult, Recipient, ResponseActFuture,
    WrapFuture,
};
use bowline_messages::LinkId;
use bowline_messages::credit::Credits;
use bowline_messages::link::{Arrived, CloseLink, LinkCounters, LinkCountersQuery, LinkDown, LinkFailure, Transmit};
use bowline_messages::wire::packet::whole_packets;

use super::outgoing::{Outgoing, count_packets};
use crate::session::handshake::Established;
use crate::supervision::Context;
use crate::transport::actor::{ConnectionGuard, EstablishedLink};
use crate::transport::{LaneBuffers, Link, TransportError};

/// Deliveries that the session may not have worked on: it has one in hand while the next is read.
const OUTSTANDING_MAX: usize = 2;
/// How long an orderly end may take; a silent network must not keep a closed link alive.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Who is told what happens on a link: the session actor.
#[derive(Debug, Clone)]
pub struct LinkObserver {
    /// Gets what arrives.
    pub arrived: Recipient<Arrived>,
    /// Is told the end.
    pub down: Recipient<LinkDown>,
}

/// The actor of one link.
pub struct LinkActor {
    id: LinkId,
    link: Box<dyn Link>,
    observer: LinkObserver,
    incoming: LaneBuffers,
    outgoing: Outgoing,
    credits: Credits,
    counters: LinkCounters,
    metrics: Metrics,
    /// Counts the connection as long as this actor lives.
    _guard: Option<ConnectionGuard>,
    /// Set once the link is to be closed, with the reason.
    closing: Option<String>,
    /// Packets may be left in the buffers although nothing new was read.
    unsplit: bool,
}

/// Handles that are looked up once: a look-up per packet would cost more than the packet.
struct Metrics {
    sent: metrics::Counter,
    received: metrics::Counter,
}

impl LinkActor {
    /// An actor for an established link. `incoming` has what was read behind the handshake.
    pub fn new(id: LinkId, link: Box<dyn Link>, incoming: LaneBuffers, observer: LinkObserver) -> Self {
        let transport = link.ends().local.kind().to_string();
        let bytes = |direction: &'static str| metrics::counter!("bowline_link_bytes_total", "transport" => transport.clone(), "direction" => direction);
        Self {
            id,
            outgoing: Outgoing::new(link.ends().lanes),
            metrics: Metrics { sent: bytes("out"), received: bytes("in") },
            unsplit: !incoming.is_empty(),
            link,
            observer,
            incoming,
            credits: Credits::new(OUTSTANDING_MAX),
            counters: LinkCounters::default(),
            closing: None,
            _guard: None,
        }
    }

    /// The actor for a link that a transport's actor gave, and the keys for its session.
    pub fn of(established: EstablishedLink, observer: LinkObserver) -> (Self, Box<Established>) {
        let EstablishedLink { link, buffers, established, guard, .. } = established;
        let actor = Self { _guard: Some(guard), ..Self::new(established.link, link, buffers, observer) };
        (actor, established)
    }

    /// Moves bytes as far as they go now.
    fn drive(&mut self, cx: &mut TaskContext<'_>) -> Poll<LinkFailure> {
        let moved = match &self.closing {
            None => self.write(cx).and_then(|()| self.read(cx)),
            Some(_) => return self.close(cx),
        };
        match moved {
            Ok(()) => Poll::Pending,
            Err(failure) => Poll::Ready(failure),
        }
    }

    fn write(&mut self, cx: &mut TaskContext<'_>) -> Result<(), LinkFailure> {
        let taken = self.outgoing.write(&mut *self.link, cx).map_err(failure)?;
        if taken > 0 {
            self.counters.bytes_sent += taken as u64;
            self.metrics.sent.increment(taken as u64);
        }
        // What a transport holds back goes out even when nothing new was written; for most this is free.
        if let Poll::Ready(flushed) = self.link.poll_flush(cx) {
            flushed.map_err(failure)?;
        }
        Ok(())
    }

    fn read(&mut self, cx: &mut TaskContext<'_>) -> Result<(), LinkFailure> {
        if std::mem::take(&mut self.unsplit) {
            for lane in 0..self.link.ends().lanes {
                self.unsplit |= !self.hand_over(lane, cx)?;
            }
        }
        while self.credits.ready(cx.waker()) {
            let before = self.incoming.len();
            match self.link.poll_read(cx, &mut self.incoming) {
                Poll::Ready(Ok(lane)) => {
                    let read = (self.incoming.len() - before) as u64;
                    self.counters.bytes_received += read;
                    self.metrics.received.increment(read);
                    self.hand_over(lane, cx)?;
                }
                Poll::Ready(Err(error)) => return Err(failure(error)),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Hands the whole packets of a lane to the session; false when there was no room for that.
    fn hand_over(&mut self, lane: u8, cx: &mut TaskContext<'_>) -> Result<bool, LinkFailure> {
        if !self.credits.ready(cx.waker()) {
            return Ok(false);
        }
        let packets = whole_packets(self.incoming.lane(lane));
        let Some(data) = packets.map_err(|error| LinkFailure::Protocol(error.to_string()))? else { return Ok(true) };
        self.counters.packets_received += count_packets(&data);
        if !self.observer.arrived.connected() {
            return Err(LinkFailure::ClosedHere("its session is gone".into()));
        }
        // Past the mailbox's bound, which the credits make up for. A session that crashes with the packets in hand will be back, and
        // the records in them count as lost.
        self.observer.arrived.do_send(Arrived { link: self.id, lane, data, credit: self.credits.take() });
        Ok(true)
    }

    fn close(&mut self, cx: &mut TaskContext<'_>) -> Poll<LinkFailure> {
        let reason = self.closing.clone().unwrap_or_default();
        match self.outgoing.poll_close(&mut *self.link, cx) {
            Poll::Pending => Poll::Pending,
            // It was to end anyway.
            Poll::Ready(Ok(()) | Err(_)) => Poll::Ready(LinkFailure::ClosedHere(reason)),
        }
    }

    fn end(&mut self, reason: LinkFailure, ctx: &mut Context<Self>) {
        tracing::debug!(link = %self.id, ends = ?self.link.ends(), %reason, "link over");
        // Sent past the mailbox's bound: it comes once in the life of a link, and losing it would cost a time-out.
        self.observer.down.do_send(LinkDown { link: self.id, reason });
        ctx.stop();
    }
}

fn failure(error: TransportError) -> LinkFailure {
    match error {
        TransportError::Closed => LinkFailure::ClosedByPeer,
        TransportError::Protocol { reason, .. } => LinkFailure::Protocol(reason),
        TransportError::Address { .. }
        | TransportError::Io(_)
        | TransportError::Binding { .. }
        | TransportError::TimedOut(_)
        | TransportError::Authentication(_)
        | TransportError::Refused(_)
        | TransportError::TurnedAway
        | TransportError::Unsupported { .. } => LinkFailure::Transport(error.to_string()),
    }
}

/// Polled whenever the actor is: right after a `Transmit` was handled, and when the connection has news.
struct Driver;

impl ActorFuture<LinkActor> for Driver {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut LinkActor,
        ctx: &mut Context<LinkActor>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        actor.drive(cx).map(|reason| actor.end(reason, ctx))
    }
}

impl Actor for LinkActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Driver);
    }
}

impl Handler<Transmit> for LinkActor {
    type Result = ();

    fn handle(&mut self, transmit: Transmit, _: &mut Self::Context) {
        self.counters.packets_sent += count_packets(&transmit.data);
        self.outgoing.push(transmit.lane, transmit.data);
    }
}

impl Handler<CloseLink> for LinkActor {
    type Result = ();

    fn handle(&mut self, close: CloseLink, ctx: &mut Self::Context) {
        if self.closing.is_none() {
            self.closing = Some(close.reason.clone());
            ctx.run_later(CLOSE_LIMIT, |actor, ctx| actor.end(LinkFailure::ClosedHere(close.reason), ctx));
        }
    }
}

/// Asks for an answer when the link is over: it is the loss of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct AwaitEnd;

impl Handler<AwaitEnd> for LinkActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: AwaitEnd, _: &mut Self::Context) -> Self::Result {
        Box::pin(std::future::pending::<()>().into_actor(self))
    }
}

impl Handler<LinkCountersQuery> for LinkActor {
    type Result = MessageResult<LinkCountersQuery>;

    fn handle(&mut self, _: LinkCountersQuery, _: &mut Self::Context) -> Self::Result {
        MessageResult(LinkCounters { queued_bytes: self.outgoing.bytes() as u64, ..self.counters })
    }
}
