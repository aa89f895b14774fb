//! Packets for peers that are away for a while: bounded in bytes, per peer, per neighbour that brought them, and in time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;

use super::source::Source;
use super::wire::MeshPacket;

/// What a packet costs beside its payload, in bytes: so that empty ones are bounded too.
const PACKET_COST_BYTES: usize = 256;
/// One part in so many of all bytes is the most that one neighbour's packets take, so that there is room for those of others.
const NEIGHBOUR_PARTS: usize = 2;

/// Bounds of a [`Store`].
#[derive(Debug, Clone, Copy)]
pub struct StoreBounds {
    /// Bytes of all packets.
    pub bytes: usize,
    /// Bytes of one peer's packets.
    pub peer_bytes: usize,
    /// How long one is kept.
    pub keep: Duration,
}

#[derive(Debug)]
struct Kept {
    until: Instant,
    source: Source,
    packet: MeshPacket,
}

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<Kept>,
    bytes: usize,
}

impl Waiting {
    /// When the oldest has been kept for too long.
    fn until(&self) -> Option<Instant> {
        self.packets.front().map(|kept| kept.until)
    }
}

/// The packets kept.
#[derive(Debug)]
pub struct Store {
    bounds: StoreBounds,
    peers: BTreeMap<PeerId, Waiting>,
    /// When the oldest packet for each of them has been kept for too long: neighbours may fill the store with packets for very many.
    expiries: BTreeSet<(Instant, PeerId)>,
    /// Bytes by the neighbour on whose account they are; `None` is this node.
    brought: BTreeMap<Option<PeerId>, usize>,
    bytes: usize,
    expired: u64,
}

impl Store {
    /// Nothing kept.
    pub const fn new(bounds: StoreBounds) -> Self {
        Self {
            bounds,
            peers: BTreeMap::new(),
            expiries: BTreeSet::new(),
            brought: BTreeMap::new(),
            bytes: 0,
            expired: 0,
        }
    }

    /// Keeps a packet, at the cost of older ones for the same peer. Never at the cost of other peers: false when there is no room.
    pub fn put(&mut self, now: Instant, source: Source, packet: MeshPacket) -> bool {
        self.on_timeout(now);
        let (cost, by) = (cost(&packet), source.payer());
        let brought = self.brought.get(&by).copied().unwrap_or(0);
        if brought + cost > self.bounds.bytes / NEIGHBOUR_PARTS {
            return false;
        }
        let own = self.peers.get(&packet.destination).map_or(0, |waiting| waiting.bytes);
        let freed = (own + cost).saturating_sub(self.bounds.peer_bytes).min(own);
        if cost > self.bounds.peer_bytes || self.bytes + cost > self.bounds.bytes + freed {
            return false;
        }
        let peer = packet.destination;
        let waiting = self.peers.entry(peer).or_default();
        if let Some(until) = waiting.until() {
            self.expiries.remove(&(until, peer));
        }
        while waiting.bytes + cost > self.bounds.peer_bytes {
            let Some(oldest) = waiting.packets.pop_front() else { break };
            waiting.bytes -= self::cost(&oldest.packet);
            self.bytes -= self::cost(&oldest.packet);
            settle(&mut self.brought, &oldest);
            self.expired += 1;
        }
        waiting.packets.push_back(Kept { until: now + self.bounds.keep, source, packet });
        waiting.bytes += cost;
        self.expiries.extend(waiting.until().map(|until| (until, peer)));
        self.bytes += cost;
        *self.brought.entry(by).or_default() += cost;
        true
    }

    /// Hands out everything kept for a peer, oldest first.
    pub fn take(&mut self, now: Instant, peer: &PeerId) -> Vec<(Source, MeshPacket)> {
        self.on_timeout(now);
        let Some(waiting) = self.peers.remove(peer) else { return Vec::new() };
        if let Some(until) = waiting.until() {
            self.expiries.remove(&(until, *peer));
        }
        self.bytes -= waiting.bytes;
        waiting.packets.iter().for_each(|kept| settle(&mut self.brought, kept));
        waiting.packets.into_iter().map(|kept| (kept.source, kept.packet)).collect()
    }

    /// For whom something is kept.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.peers.keys().copied()
    }

    /// Bytes kept, with what packets cost beside their payload.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packets that were kept and never sent on.
    pub const fn expired(&self) -> u64 {
        self.expired
    }

    /// Whether anything is kept for a peer.
    pub fn has(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Drops what was kept for too long.
    pub fn on_timeout(&mut self, now: Instant) {
        while let Some((until, peer)) = self.expiries.first().copied().filter(|(until, _)| *until <= now) {
            self.expiries.remove(&(until, peer));
            let Some(waiting) = self.peers.get_mut(&peer) else { continue };
            while let Some(kept) = waiting.packets.pop_front_if(|kept| kept.until <= now) {
                waiting.bytes -= cost(&kept.packet);
                self.bytes -= cost(&kept.packet);
                settle(&mut self.brought, &kept);
                self.expired += 1;
            }
            match waiting.until() {
                Some(next) => {
                    self.expiries.insert((next, peer));
                }
                None => {
                    self.peers.remove(&peer);
                }
            }
        }
    }

    /// When the next packet has been kept for too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.expiries.first().map(|(until, _)| *until)
    }
}

fn cost(packet: &MeshPacket) -> usize {
    packet.payload.len() + PACKET_COST_BYTES
}

/// A packet is kept no more.
fn settle(brought: &mut BTreeMap<Option<PeerId>, usize>, kept: &Kept) {
    let by = kept.source.payer();
    if let Some(bytes) = brought.get_mut(&by) {
        *bytes -= cost(&kept.packet).min(*bytes);
        if *bytes == 0 {
            brought.remove(&by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::wire::{ConnectionId, PacketId};
    use proptest::prelude::*;

    const BOUNDS: StoreBounds = StoreBounds { bytes: 10_000, peer_bytes: 3_000, keep: Duration::from_secs(30) };

    fn packet(to: u8, id: u64, bytes: usize) -> MeshPacket {
        MeshPacket {
            flood: false,
            keep: true,
            hops: 3,
            labels: Vec::new(),
            destination: PeerId::from_bytes([to; 32]),
            connection: ConnectionId::NONE,
            id: PacketId(id),
            payload: vec![0; bytes].into(),
        }
    }

    #[test]
    fn the_newest_packets_for_a_peer_are_kept_in_order_until_their_time_is_over() {
        let start = Instant::now();
        let mut store = Store::new(BOUNDS);
        for id in 0..10 {
            assert!(store.put(start + Duration::from_secs(id), Source::Own, packet(1, id, 700)));
        }
        let taken = store.take(start + Duration::from_secs(38), &PeerId::from_bytes([1; 32]));
        assert_eq!(taken.iter().map(|(_, packet)| packet.id.0).collect::<Vec<_>>(), [9], "three fit, two are too old");
        assert_eq!((store.bytes(), store.deadline()), (0, None));
    }

    #[test]
    fn one_peer_takes_no_room_of_another() {
        let start = Instant::now();
        let mut store = Store::new(BOUNDS);
        for to in 0..4 {
            for id in 0..20 {
                store.put(start, Source::From(PeerId::from_bytes([to % 2; 32])), packet(to, id, 700));
            }
        }
        let kept: Vec<usize> = (0..4).map(|to| store.take(start, &PeerId::from_bytes([to; 32])).len()).collect();
        assert_eq!(kept, [3, 3, 2, 2], "whoever came first keeps what it has, and nobody gets more than half");
    }

    #[test]
    fn what_one_neighbour_brings_leaves_room_for_another() {
        let start = Instant::now();
        let [loud, quiet] = [1, 2].map(|n| Source::From(PeerId::from_bytes([n; 32])));
        let mut store = Store::new(BOUNDS);
        for step in 0..100_u64 {
            // Always to others, so that none of them has too much.
            store.put(start + Duration::from_secs(step), loud, packet(step as u8, step, 700));
            let own = store.put(start + Duration::from_secs(step), quiet, packet(200 + step as u8 % 4, step, 0));
            assert!(own || step > 10, "{step}");
        }
        let brought = |source: &Source| store.brought[&source.payer()];
        assert!(brought(&loud) <= BOUNDS.bytes / 2 && brought(&quiet) > 4_000, "{:?}", store.brought);
        store.on_timeout(start + Duration::from_secs(1000));
        assert!(store.brought.is_empty());
    }

    proptest! {
        #[test]
        fn the_bounds_hold_whatever_comes(steps in prop::collection::vec((0..5u8, 0..4_000usize, 0..20u64, any::<bool>()), 0..200)) {
            let start = Instant::now();
            let mut store = Store::new(BOUNDS);
            let mut at = start;
            for (id, (peer, bytes, wait, take)) in steps.into_iter().enumerate() {
                at += Duration::from_secs(wait);
                if take {
                    store.take(at, &PeerId::from_bytes([peer; 32]));
                } else {
                    store.put(at, Source::From(PeerId::from_bytes([id as u8 % 3; 32])), packet(peer, id as u64, bytes));
                }
                let held: usize = store.peers.values().map(|waiting| waiting.packets.iter().map(|kept| cost(&kept.packet)).sum::<usize>()).sum();
                prop_assert_eq!(store.brought.values().sum::<usize>(), held);
                prop_assert!(store.brought.values().all(|bytes| *bytes <= BOUNDS.bytes / 2));
                prop_assert_eq!(held, store.bytes());
                prop_assert!(held <= BOUNDS.bytes);
                prop_assert!(store.peers.values().all(|waiting| waiting.bytes <= BOUNDS.peer_bytes && !waiting.packets.is_empty()));
                prop_assert!(store.deadline().is_none_or(|deadline| deadline > at));
                let oldest: BTreeSet<_> = store.peers.iter().filter_map(|(peer, waiting)| Some((waiting.until()?, *peer))).collect();
                prop_assert_eq!(&store.expiries, &oldest);
            }
        }
    }
}
