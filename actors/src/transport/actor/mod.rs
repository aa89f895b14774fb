//! The actor of one transport: its listeners, inbound handshakes and dials.
//!
//! Permanent child of the supervisor of all transports. A restart is made from [`TransportParts`], which the child's factory
//! captured; listeners that were open are opened again on the same ports. Links that were handed over live on elsewhere;
//! handshakes and dials that were under way are lost and tried again by whoever wanted them. What the environment does (a port in
//! use, no network, peers that lie) is a state here, never a crash.

mod accept;
mod dial;
mod listen;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use actix::{Actor, ActorFuture, AsyncContext, Handler, Message, MessageResult, Recipient};
use bowline_messages::config::TransportConfig;
use bowline_messages::link::InterfaceChanged;
use bowline_messages::repair::BreakerState;
use bowline_messages::transport::{TransportStatus, TransportStatusQuery};
use bowline_messages::{EndpointAddress, EventKind};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::listen::ListenerSlot;
use super::breaker::{BreakerConfig, Breakers};
use super::{LaneBuffers, Link, LinkEnds, Transport};
use crate::session::handshake::{Admission, Entropy, Established, HandshakeConfig, HandshakeError};
use crate::session::identity::Identity;
use crate::session::limits::{InboundConfig, InboundLimits};
use crate::supervision::Context;

pub use dial::{Dial, DialError, DialMode};

/// Everything a transport's actor is made from, again after every restart.
#[derive(Clone)]
pub struct TransportParts {
    /// The transport itself.
    pub transport: Rc<dyn Transport>,
    /// How it behaves.
    pub config: TransportConfig,
    /// What strangers may cost.
    pub limits: InboundConfig,
    /// Who this node is.
    pub identity: Arc<Identity>,
    /// What it says about itself to whoever dials it.
    pub handshake: Arc<HandshakeConfig>,
    /// Where handshakes take their randomness from: the operating system, or the seed of a simulation.
    pub entropy: Rc<dyn Fn() -> Result<Entropy, HandshakeError>>,
    /// Which tickets are valid and which peers may have a link.
    pub admission: Rc<RefCell<dyn Admission>>,
    /// Gets every inbound link: the peers' actor.
    pub established: Recipient<LinkEstablished>,
    /// Is told what happened.
    pub events: Rc<dyn Fn(EventKind)>,
    /// For the jitter of back-off.
    pub seed: u64,
    /// Listeners that are to be open. Leave it empty; it is shared by all lives of the actor.
    pub kept: KeptListeners,
}

impl fmt::Debug for TransportParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportParts").field("kind", &self.transport.kind()).finish_non_exhaustive()
    }
}

/// Listeners that are to be open, which outlives the actor: the address that was asked for, and the one to open again.
#[derive(Debug, Clone, Default)]
pub struct KeptListeners(Rc<RefCell<BTreeMap<EndpointAddress, EndpointAddress>>>);

/// An inbound link whose peer has proven who it is. From a transport's actor to the peers' actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LinkEstablished(pub EstablishedLink);

/// A connection with keys, on its way to its session.
pub struct EstablishedLink {
    /// The connection.
    pub link: Box<dyn Link>,
    /// What was read behind the handshake.
    pub buffers: LaneBuffers,
    /// Who is at the other end, and the keys.
    pub established: Box<Established>,
    /// The two ends of the connection.
    pub ends: LinkEnds,
    /// How long the peer took to answer in the handshake: a first guess of the round-trip time. `None` means not measured.
    pub handshake_rtt: Option<Duration>,
    /// To be dropped together with the connection: it counts against the limits of the transport.
    pub guard: ConnectionGuard,
}

impl fmt::Debug for EstablishedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EstablishedLink")
            .field("peer", &self.established.peer)
            .field("link", &self.established.link)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

/// Counts a connection as long as it is held.
#[derive(Debug)]
pub struct ConnectionGuard {
    _connection: OwnedSemaphorePermit,
    _pool: Option<OwnedSemaphorePermit>,
    open: GaugeStep,
}

struct GaugeStep(metrics::Gauge);

impl fmt::Debug for GaugeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GaugeStep")
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.open.0.decrement(1.0);
    }
}

/// Which side dialled, as a label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    const fn label(self) -> &'static str {
        match self {
            Self::Inbound => "in",
            Self::Outbound => "out",
        }
    }
}

/// The actor of one transport.
pub struct TransportActor {
    parts: TransportParts,
    name: String,
    listeners: BTreeMap<EndpointAddress, ListenerSlot>,
    limits: InboundLimits,
    /// How often somebody had been accepted when the limits were asked last.
    acceptances: u64,
    breakers: Breakers,
    random: ChaCha12Rng,
    connections: Arc<Semaphore>,
    dial_slots: Arc<Semaphore>,
    pools: BTreeMap<String, Arc<Semaphore>>,
    handshakes: usize,
    dials: usize,
    refused: u64,
    /// Wakes the driver after the list of listeners has changed.
    driver: Option<Waker>,
}

impl TransportActor {
    /// The actor, nothing open yet; listeners that an earlier life had are opened again at its start.
    pub fn new(parts: TransportParts) -> Self {
        let config = &parts.config;
        Self {
            name: parts.transport.kind().to_string(),
            listeners: BTreeMap::new(),
            limits: InboundLimits::new(parts.limits),
            acceptances: 0,
            breakers: Breakers::new(BreakerConfig { failures: config.breaker_failures, open: config.breaker_open }),
            random: ChaCha12Rng::seed_from_u64(parts.seed),
            connections: Arc::new(Semaphore::new(config.connections_max)),
            dial_slots: Arc::new(Semaphore::new(config.handshakes_max)),
            pools: BTreeMap::new(),
            handshakes: 0,
            dials: 0,
            refused: 0,
            driver: None,
            parts,
        }
    }

    /// Counts one more connection, when there is room for it.
    fn guard(&self, direction: Direction, pool: Option<OwnedSemaphorePermit>) -> Option<ConnectionGuard> {
        let connection = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        let labels = [("transport", self.name.clone()), ("direction", direction.label().to_owned())];
        let open = metrics::gauge!("bowline_connections", &labels);
        open.increment(1.0);
        metrics::counter!("bowline_connections_total", &labels).increment(1);
        Some(ConnectionGuard { _connection: connection, _pool: pool, open: GaugeStep(open) })
    }

    fn count_handshake(&self, direction: Direction, result: &'static str, took: Duration) {
        let labels = [
            ("transport", self.name.clone()),
            ("direction", direction.label().to_owned()),
            ("result", result.to_owned()),
        ];
        metrics::counter!("bowline_handshakes_total", &labels).increment(1);
        metrics::histogram!("bowline_handshake_seconds", &labels[..2]).record(took.as_secs_f64());
    }

    fn emit(&self, event: EventKind) {
        (self.parts.events)(event);
    }

    fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }
}

/// Accepts on all listeners, whenever the actor is polled.
struct Driver;

impl ActorFuture<TransportActor> for Driver {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut TransportActor,
        ctx: &mut Context<TransportActor>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        actor.driver = Some(cx.waker().clone());
        actor.poll_listeners(ctx, cx);
        Poll::Pending
    }
}

impl Actor for TransportActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.reopen_kept(ctx);
        ctx.spawn(Driver);
    }
}

impl Handler<InterfaceChanged> for TransportActor {
    type Result = ();

    /// Another way out may be open now: what failed before deserves another try at once.
    fn handle(&mut self, change: InterfaceChanged, _: &mut Self::Context) {
        if change.up {
            self.breakers.reset();
        }
    }
}

impl Handler<TransportStatusQuery> for TransportActor {
    type Result = MessageResult<TransportStatusQuery>;

    fn handle(&mut self, _: TransportStatusQuery, _: &mut Self::Context) -> Self::Result {
        // Asked for by the repair actor every now and then, whether somebody looks at the status or not.
        let open = f64::from(u8::from(self.breakers.whole() != BreakerState::Closed));
        metrics::gauge!("bowline_breaker_open", "transport" => self.name.clone()).set(open);
        let hosts = u32::try_from(self.breakers.open_hosts().count()).unwrap_or(u32::MAX);
        metrics::gauge!("bowline_breaker_hosts_open", "transport" => self.name.clone()).set(f64::from(hosts));
        MessageResult(TransportStatus {
            kind: self.parts.transport.kind(),
            listeners: self.listeners.iter().map(|(asked, slot)| slot.status(asked)).collect(),
            connections: self.parts.config.connections_max.saturating_sub(self.connections.available_permits()),
            handshakes_inbound: self.handshakes,
            dials: self.dials,
            breaker: self.breakers.whole(),
            hosts_paused: self.breakers.open_hosts().map(str::to_owned).collect(),
            refused: self.refused,
        })
    }
}
