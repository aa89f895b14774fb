//! The last resort: a packet to which nobody knows the way goes to everybody, a few nodes far and at a bounded rate.

use std::collections::BTreeMap;
use std::time::Instant;

use bowline_messages::PeerId;

use super::limits::{Bucket, Shares};
use super::source::Source;
use super::wire::MeshPacket;

/// What this node sends everywhere. Who has seen a packet already drops it, so each node sends it on once.
#[derive(Debug)]
pub struct Flood {
    hops: u8,
    own: Bucket,
    others: Shares,
}

impl Flood {
    /// Packets go `hops` nodes far. Own packets and those of others have so many a second each, so that others cannot
    /// silence this node; neighbours share the latter, so that none silences another.
    pub const fn new(hops: u8, packets_per_second: u32) -> Self {
        Self { hops, own: Bucket::new(packets_per_second as u64), others: Shares::new(packets_per_second) }
    }

    /// To whom a packet goes; nobody when that would be too much. The packet is made ready.
    pub fn on_packet(
        &mut self,
        now: Instant,
        packet: &mut MeshPacket,
        source: Source,
        neighbours: &BTreeMap<PeerId, u32>,
    ) -> Vec<PeerId> {
        let hops = packet.hops.min(self.hops);
        let to: Vec<PeerId> = neighbours.keys().filter(|peer| Some(*peer) != source.from()).copied().collect();
        if hops == 0 || to.is_empty() || !self.admit(now, source.payer()) {
            return Vec::new();
        }
        packet.flood = true;
        packet.labels.clear();
        packet.hops = hops;
        to
    }

    fn admit(&mut self, now: Instant, payer: Option<PeerId>) -> bool {
        if let Some(payer) = payer {
            return self.others.admit(now, payer);
        }
        let has = self.own.has(now, 1);
        if has {
            self.own.take(now, 1);
        }
        has
    }
}
