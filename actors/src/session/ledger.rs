//! What must survive the session actor: messages not final yet, duplicate marks, keys. One per peer, shared by the session actor of
//! the moment, the handles of the application and the factory from which the actor is restarted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use bowline_messages::config::SessionConfig;
use bowline_messages::network::Neighbour;
use bowline_messages::{Incarnation, LinkId, PeerId};

use super::inbound::{Inbound, InboundLimits};
use super::machine::KeyRing;
use super::outbox::{Outbox, OutboxLimits};
use crate::clock;

/// A session's window is so many channel windows. Part of the wire contract.
pub const SESSION_WINDOW_CHANNELS: u64 = 4;

/// What must survive the session actor.
pub struct Ledger {
    local: PeerId,
    peer: PeerId,
    incarnation: Incarnation,
    outbox: Mutex<Outbox>,
    inbound: Mutex<Inbound>,
    keys: Mutex<KeyRing>,
    peer_incarnation: Mutex<Option<Incarnation>>,
    next_link: AtomicU64,
    waker: Mutex<Option<Waker>>,
    woken: AtomicBool,
    /// Messages that an actor panicked over, with how often.
    strikes: Mutex<Strikes>,
    /// How the peer is reached at the moment, and when something last came from it.
    standing: Mutex<Option<(Neighbour, Instant)>>,
}

/// Remembers which message was in hand when a session actor panicked.
#[derive(Debug, Default)]
pub(crate) struct Strikes {
    /// The message in hand, if any.
    pub(crate) in_hand: Option<InHand>,
    pub(crate) counts: BTreeMap<InHand, u32>,
}

/// A message that the session actor works on: outgoing or not, its channel, its number.
pub(crate) type InHand = (bool, u32, u64);

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("peer", &self.peer)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

/// Locks a part of the ledger. A panic of a holder does not poison it: every change leaves it consistent, and the session actor
/// that panicked is replaced by one that starts from what is here.
pub(crate) fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// An empty ledger of one side of a session.
    pub fn new(local: PeerId, peer: PeerId, incarnation: Incarnation, config: &SessionConfig) -> Self {
        let channel_window = u64::from(config.channel_window);
        let inbound = InboundLimits {
            channel_window,
            session_window: channel_window * SESSION_WINDOW_CHANNELS,
            message_bytes: config.message_bytes,
            channels: config.channels,
        };
        let outbox = OutboxLimits {
            queue_bytes: config.queue_bytes,
            queue_messages: config.queue_messages,
            message_bytes: config.message_bytes,
            channels: config.channels,
            datagram_bytes: config.datagram_bytes,
        };
        Self {
            local,
            peer,
            incarnation,
            outbox: Mutex::new(Outbox::new(outbox, channel_window)),
            inbound: Mutex::new(Inbound::new(inbound, local > peer)),
            keys: Mutex::default(),
            peer_incarnation: Mutex::default(),
            next_link: AtomicU64::new(0),
            waker: Mutex::default(),
            woken: AtomicBool::new(false),
            strikes: Mutex::default(),
            standing: Mutex::default(),
        }
    }

    /// This side.
    pub fn local(&self) -> PeerId {
        self.local
    }

    /// The other side.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// The life of this side that the ledger belongs to.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The life of the peer's side, once a link stood.
    pub fn peer_incarnation(&self) -> Option<Incarnation> {
        *lock(&self.peer_incarnation)
    }

    /// A fresh number for a link that this side dials: its lowest bit says which side that is. Never given twice.
    pub fn next_link(&self) -> LinkId {
        let turn = self.next_link.fetch_add(1, Ordering::Relaxed);
        // 2^31 links in the life of a session are not reached: at one a second that is 68 years.
        LinkId(((turn as u32) << 1) | u32::from(self.local > self.peer))
    }

    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        lock(&self.outbox)
    }

    pub(crate) fn inbound(&self) -> MutexGuard<'_, Inbound> {
        lock(&self.inbound)
    }

    pub(crate) fn keys(&self) -> MutexGuard<'_, KeyRing> {
        lock(&self.keys)
    }

    pub(crate) fn strikes(&self) -> MutexGuard<'_, Strikes> {
        lock(&self.strikes)
    }

    /// How the peer is reached at the moment; `None`: it is not.
    pub(crate) fn standing(&self) -> Option<Neighbour> {
        let (neighbour, arrived) = (*lock(&self.standing))?;
        Some(Neighbour { idle: clock::now().saturating_duration_since(arrived), ..neighbour })
    }

    pub(crate) fn set_standing(&self, standing: Option<(Neighbour, Instant)>) {
        *lock(&self.standing) = standing;
    }

    pub(crate) fn set_peer_incarnation(&self, incarnation: Incarnation) {
        *lock(&self.peer_incarnation) = Some(incarnation);
    }

    /// Wakes the session actor.
    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether it was woken since this was last asked.
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::Acquire)
    }

    pub(crate) fn set_waker(&self, waker: &Waker) {
        let mut slot = lock(&self.waker);
        if slot.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// Ends the session: receipts become final, readers of streams are told.
    pub(crate) fn close(&self) {
        self.outbox().close();
        self.inbound().streams.reset();
        self.keys().clear();
        self.set_standing(None);
    }
}
