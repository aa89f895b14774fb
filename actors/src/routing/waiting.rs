//! Packets for neighbours whose carriers take no more at the moment.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;

use super::output::Parting;

/// A neighbour that took no more is tried again after this long.
const BUSY: Duration = Duration::from_millis(20);

/// How much waits at most, in bytes on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// For one neighbour.
    pub(super) neighbour: usize,
    /// For all of them.
    pub(super) all: usize,
}

/// Bytes that those share on whose account packets wait; `None` is this node. Each gets more as long as it has no more than would be left:
/// one alone half of them, n together n in n + 1, and whoever comes next finds room (dynamic thresholds, Choudhury and Hahne 1998).
#[derive(Debug)]
struct Room {
    most: usize,
    taken: usize,
    by: BTreeMap<Option<PeerId>, usize>,
}

impl Room {
    const fn new(most: usize) -> Self {
        Self { most, taken: 0, by: BTreeMap::new() }
    }

    fn has(&self, payer: Option<PeerId>, bytes: usize) -> bool {
        let own = self.by.get(&payer).copied().unwrap_or(0);
        own + bytes <= self.most.saturating_sub(self.taken)
    }

    fn take(&mut self, payer: Option<PeerId>, bytes: usize) {
        self.taken += bytes;
        *self.by.entry(payer).or_default() += bytes;
    }

    fn give_back(&mut self, waited: &Parting) {
        let (payer, bytes) = (waited.source.payer(), waited.packet.wire_bytes());
        self.taken -= bytes;
        if let Some(own) = self.by.get_mut(&payer) {
            *own -= bytes;
            if *own == 0 {
                self.by.remove(&payer);
            }
        }
    }
}

/// What waits for one neighbour, oldest first.
#[derive(Debug)]
struct Queue {
    /// When it is tried again.
    until: Instant,
    packets: VecDeque<Parting>,
    room: Room,
}

impl Queue {
    const fn new(most: usize, until: Instant) -> Self {
        Self { until, packets: VecDeque::new(), room: Room::new(most) }
    }
}

/// What waits for busy neighbours.
#[derive(Debug)]
pub(super) struct Waiting {
    neighbour_most: usize,
    queues: BTreeMap<PeerId, Queue>,
    room: Room,
    expired: u64,
}

impl Waiting {
    /// Nobody is busy.
    pub(super) const fn new(bounds: Bounds) -> Self {
        Self { neighbour_most: bounds.neighbour, queues: BTreeMap::new(), room: Room::new(bounds.all), expired: 0 }
    }

    /// A neighbour takes no more for a moment.
    pub(super) fn on_busy(&mut self, now: Instant, neighbour: PeerId) {
        let until = now + BUSY;
        self.queues.entry(neighbour).or_insert(Queue::new(self.neighbour_most, until)).until = until;
    }

    /// Whether packets for a neighbour have to wait.
    pub(super) fn is_busy(&self, neighbour: &PeerId) -> bool {
        self.queues.contains_key(neighbour)
    }

    /// Keeps a packet for a busy neighbour. Without room for those on its account, or when the neighbour is not busy, it is dropped, and the
    /// answer is no.
    pub(super) fn keep(&mut self, now: Instant, neighbour: &PeerId, parting: Parting) -> bool {
        let (payer, bytes) = (parting.source.payer(), parting.packet.wire_bytes());
        let Some(queue) = self.queues.get_mut(neighbour) else { return false };
        // Those that came first are the first that are worth nothing, or nearly.
        while let Some(old) = queue.packets.pop_front_if(|old| old.expires <= now) {
            queue.room.give_back(&old);
            self.room.give_back(&old);
            self.expired += 1;
        }
        if !queue.room.has(payer, bytes) || !self.room.has(payer, bytes) {
            return false;
        }
        queue.room.take(payer, bytes);
        self.room.take(payer, bytes);
        queue.packets.push_back(parting);
        true
    }

    /// What waited for a neighbour, which is not busy any more, as far as it is worth sending.
    pub(super) fn release(&mut self, now: Instant, neighbour: &PeerId) -> VecDeque<Parting> {
        let Some(Queue { mut packets, .. }) = self.queues.remove(neighbour) else { return VecDeque::new() };
        packets.iter().for_each(|waited| self.room.give_back(waited));
        let all = packets.len();
        packets.retain(|waiting| now < waiting.expires);
        self.expired += (all - packets.len()) as u64;
        packets
    }

    /// Packets that waited for too long.
    pub(super) const fn expired(&self) -> u64 {
        self.expired
    }

    /// Neighbours that are to be tried again.
    pub(super) fn due(&self, now: Instant) -> Vec<PeerId> {
        self.queues.iter().filter(|(_, queue)| queue.until <= now).map(|(neighbour, _)| *neighbour).collect()
    }

    /// When the first of them is.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.queues.values().map(|queue| queue.until).min()
    }

    /// What waits now, in bytes on the wire.
    pub(super) const fn bytes(&self) -> usize {
        self.room.taken
    }
}
