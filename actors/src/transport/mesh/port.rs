//! Where the transport and the routing of a node meet.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::config::MeshConfig;
use tokio::sync::Notify;

use super::endpoint::{Endpoint, MeshCounters};
use crate::clock;
use crate::routing::{MeshPacket, Outgoing};
use crate::session::identity::Identity;

/// Packets that are handed over at one go, so that reading is not kept waiting by a long burst.
const BURST: usize = 64;

/// Takes packets that are to be routed. It must not call back into the port before it returns.
pub type Sink = Arc<dyn Fn(Outgoing) + Send + Sync>;

/// The mesh as the transport of a node sees it. Whoever assembles a node makes one, gives it to the transports
/// ([`TransportContext::mesh`](crate::transport::registry::TransportContext::mesh)) and joins it to the routing:
///
/// - [`MeshPort::connect`]: where packets go: to `Forwarder::on_outgoing` of the same node. What finds no room there is dropped; the link
///   sends it again.
/// - [`MeshPort::deliver`]: what `Output::Deliver` gives.
/// - [`MeshPort::unreachable`]: what `Output::Unreachable` gives.
///
/// A clone is the same port.
#[derive(Clone)]
pub struct MeshPort(Arc<Shared>);

struct Shared {
    endpoint: Mutex<Endpoint>,
    sink: Mutex<Option<Sink>>,
    /// For when the driver was to wake, and the deadline is earlier now.
    changed: Arc<Notify>,
    armed: Mutex<Option<Instant>>,
    driven: AtomicBool,
}

impl MeshPort {
    /// A port of this node. Connection ids and keys come from `seed`, which nobody else may know.
    pub fn new(identity: Arc<Identity>, config: MeshConfig, seed: [u8; 32]) -> Self {
        Self(Arc::new(Shared {
            endpoint: Mutex::new(Endpoint::new(identity, config, seed)),
            sink: Mutex::new(None),
            changed: Arc::new(Notify::new()),
            armed: Mutex::new(None),
            driven: AtomicBool::new(false),
        }))
    }

    /// Says where packets go from now on.
    pub fn connect(&self, sink: Sink) {
        *lock(&self.0.sink) = Some(sink);
        self.0.pump();
    }

    /// A packet for this node has come; this neighbour brought it.
    pub fn deliver(&self, by: PeerId, packet: MeshPacket) {
        lock(&self.0.endpoint).on_packet(clock::now(), by, packet.connection, packet.payload);
        self.0.pump();
    }

    /// There is no route to a peer now.
    pub fn unreachable(&self, peer: &PeerId) {
        lock(&self.0.endpoint).on_unreachable(clock::now(), peer);
        self.0.pump();
    }

    /// Who this node is.
    pub fn local(&self) -> PeerId {
        lock(&self.0.endpoint).local()
    }

    /// Links over the mesh, those that are being made or forgotten included.
    pub fn links(&self) -> usize {
        lock(&self.0.endpoint).links()
    }

    /// What was dropped so far.
    pub fn counters(&self) -> MeshCounters {
        lock(&self.0.endpoint).counters()
    }

    /// Does something with the links and sends what comes of it.
    pub(super) fn with<T>(&self, what: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        let result = what(&mut lock(&self.0.endpoint), clock::now());
        self.0.pump();
        result
    }

    /// Sees to timers from now on. To be called where tasks can be spawned.
    pub(super) fn drive(&self) {
        if !self.0.driven.swap(true, Ordering::Relaxed) {
            actix_rt::spawn(drive(Arc::downgrade(&self.0), Arc::clone(&self.0.changed)));
        }
    }
}

impl fmt::Debug for MeshPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MeshPort").field(&self.local()).finish()
    }
}

impl Shared {
    /// Hands over what is to be sent. No lock is held while it is.
    fn pump(&self) {
        loop {
            let mut endpoint = lock(&self.endpoint);
            let now = clock::now();
            let packets: Vec<Outgoing> = std::iter::from_fn(|| endpoint.poll_transmit(now)).take(BURST).collect();
            let deadline = endpoint.deadline();
            drop(endpoint);
            if packets.is_empty() {
                return self.wake_driver(deadline);
            }
            let sink = lock(&self.sink).clone();
            if let Some(sink) = sink {
                packets.into_iter().for_each(|packet| sink(packet));
            }
        }
    }

    fn wake_driver(&self, deadline: Option<Instant>) {
        let armed = *lock(&self.armed);
        if deadline.is_some_and(|deadline| armed.is_none_or(|armed| deadline < armed)) {
            self.changed.notify_one();
        }
    }

    /// Does what is due; when to come again.
    fn tick(&self) -> Option<Instant> {
        lock(&self.endpoint).on_timeout(clock::now());
        self.pump();
        let deadline = lock(&self.endpoint).deadline();
        *lock(&self.armed) = deadline;
        deadline
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

/// Lives as long as the port.
async fn drive(port: Weak<Shared>, changed: Arc<Notify>) {
    while let Some(shared) = port.upgrade() {
        let deadline = shared.tick();
        drop(shared);
        match deadline {
            Some(at) => {
                let _ = tokio::time::timeout_at(at.into(), changed.notified()).await;
            }
            None => changed.notified().await,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
