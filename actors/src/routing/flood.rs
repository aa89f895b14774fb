//! The last resort: a packet to which nobody knows the way goes to everybody, a few nodes far and at a bounded rate.

use std::collections::BTreeMap;
use std::time::Instant;

use bowline_messages::PeerId;

use super::limits::Bucket;
use super::wire::MeshPacket;

/// What this node sends everywhere. Who has seen a packet already drops it, so each node sends it on once.
#[derive(Debug)]
pub struct Flood {
    hops: u8,
    own: Bucket,
    others: Bucket,
}

impl Flood {
    /// Packets go `hops` nodes far. Own packets and those of others have so many a second each, so that others cannot
    /// silence this node.
    pub const fn new(hops: u8, packets_per_second: u32) -> Self {
        let bucket = Bucket::new(packets_per_second as u64);
        Self { hops, own: bucket, others: bucket }
    }

    /// To whom a packet goes that came from `from`, or from here; nobody when that would be too much. The packet is made ready.
    pub fn on_packet(
        &mut self,
        now: Instant,
        packet: &mut MeshPacket,
        from: Option<&PeerId>,
        neighbours: &BTreeMap<PeerId, u32>,
    ) -> Vec<PeerId> {
        let hops = packet.hops.min(self.hops);
        let bucket = if from.is_some() { &mut self.others } else { &mut self.own };
        let to: Vec<PeerId> = neighbours.keys().filter(|peer| Some(*peer) != from).copied().collect();
        if hops == 0 || to.is_empty() || !bucket.has(now, 1) {
            return Vec::new();
        }
        bucket.take(now, 1);
        packet.flood = true;
        packet.labels.clear();
        packet.hops = hops;
        to
    }
}
