//! The mesh: routes through other peers, what relaying may cost, and links over it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Checks, duration, size};

/// Section `[mesh]`. A change needs a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeshConfig {
    /// Nodes that a route may have at most, its destination included. Longer ones are not used. A packet that goes by distance begins with a
    /// hop limit of up to twice this, which hides where. Default: 24.
    pub hops_max: u8,
    /// Routes to a peer that share no relay, as far as there are such. More survive more failures and take longer to find. Default: 3.
    pub routes: usize,
    /// Peers whose routes are remembered until the network changes. Default: 1,024.
    pub route_cache: usize,
    /// How long a neighbour that could not be reached is left alone. Shorter tries a neighbour that flaps again and again. Default: 2 s.
    #[serde(with = "duration")]
    pub hold_down: Duration,
    /// How long a packet is remembered, so that it is relayed once at most. Has to be longer than `store_for`. Memory for it is about
    /// 16 bytes × `relay_packets_per_second` × twice this, and as much again for 4,096 own packets a second. Default: 40 s.
    #[serde(with = "duration")]
    pub seen_for: Duration,
    /// Packets a second that this node relays for all others together. 0 relays nothing, as it does of the three rates
    /// below, and others are told so. Default: 4,000.
    pub relay_packets_per_second: u32,
    /// Bytes a second that this node relays for all others together. Default: 16 MiB.
    #[serde(with = "size")]
    pub relay_bytes_per_second: u64,
    /// Packets a second that it relays for one neighbour. Default: 2,000.
    pub neighbour_packets_per_second: u32,
    /// Bytes a second that it relays for one neighbour. Default: 8 MiB.
    #[serde(with = "size")]
    pub neighbour_bytes_per_second: u64,
    /// Bytes that wait for neighbours which take no more now, all together. Default: 2 MiB.
    #[serde(with = "size")]
    pub queue_bytes: u64,
    /// Bytes that wait for one neighbour; what comes beyond is dropped. More delays more. Default: 256 KiB.
    #[serde(with = "size")]
    pub neighbour_queue_bytes: u64,
    /// Bytes kept for peers that are away, all together. Default: 4 MiB.
    #[serde(with = "size")]
    pub store_bytes: u64,
    /// Bytes kept for one such peer; the oldest go first. Default: 256 KiB.
    #[serde(with = "size")]
    pub store_peer_bytes: u64,
    /// How long they are kept. Default: 30 s.
    #[serde(with = "duration")]
    pub store_for: Duration,
    /// Nodes that a packet passes at most when nobody knows the way and it is sent everywhere. 0 never does that. Default: 4.
    pub flood_hops: u8,
    /// Packets a second that are sent everywhere for others, and as many of its own. Neighbours share the former. Default: 50.
    pub flood_packets_per_second: u32,
    /// Whether neighbours tell each other distances, for where the shape of the network is not known. Default: yes.
    pub distance_vector: bool,
    /// Peers whose distances are kept at most. Where that is not enough, neighbours share the room. Default: 256.
    pub vector_peers: usize,
    /// How often all distances are told again; changes are told at once. It costs each neighbour 35 bytes for each node. Default: 60 s.
    #[serde(with = "duration")]
    pub vector_interval: Duration,
    /// Links over the mesh at most. Default: 1,024.
    pub links: usize,
    /// Links that are being made by others at most; beyond that the oldest gives way. Default: 128.
    pub opening_links: usize,
    /// Links a second that others may begin to make, and as many datagrams without a link that are opened; each costs two operations on a
    /// curve. Neighbours share both. Default: 200.
    pub openings_per_second: u32,
    /// Bytes on their way in one link at most. Relays are not flooded because of this. Default: 2 MiB.
    #[serde(with = "size")]
    pub link_window: u64,
    /// Bytes of one lane that wait at their reader. Default: 512 KiB.
    #[serde(with = "size")]
    pub lane_window: u64,
    /// A link on which nothing is acknowledged for this long has failed. Default: 8 s.
    #[serde(with = "duration")]
    pub link_timeout: Duration,
    /// A link to a peer without any route has failed after this long. Default: 3 s.
    #[serde(with = "duration")]
    pub unreachable_timeout: Duration,
    /// A link on which nothing arrives is probed this often. Default: 5 s.
    #[serde(with = "duration")]
    pub keep_alive: Duration,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            hops_max: 24,
            routes: 3,
            route_cache: 1024,
            hold_down: Duration::from_secs(2),
            seen_for: Duration::from_secs(40),
            relay_packets_per_second: 4_000,
            relay_bytes_per_second: 16 << 20,
            neighbour_packets_per_second: 2_000,
            neighbour_bytes_per_second: 8 << 20,
            queue_bytes: 2 << 20,
            neighbour_queue_bytes: 256 << 10,
            store_bytes: 4 << 20,
            store_peer_bytes: 256 << 10,
            store_for: Duration::from_secs(30),
            flood_hops: 4,
            flood_packets_per_second: 50,
            distance_vector: true,
            vector_peers: 256,
            vector_interval: Duration::from_secs(60),
            links: 1024,
            opening_links: 128,
            openings_per_second: 200,
            link_window: 2 << 20,
            lane_window: 512 << 10,
            link_timeout: Duration::from_secs(8),
            unreachable_timeout: Duration::from_secs(3),
            keep_alive: Duration::from_secs(5),
        }
    }
}

impl MeshConfig {
    /// The most relays that a route can have on the wire, and one for the destination.
    pub const HOPS_MAX: u8 = 32;

    /// Whether this node passes on anything for others: not where one of the rates for that is 0.
    pub const fn relays(&self) -> bool {
        self.relay_packets_per_second > 0
            && self.relay_bytes_per_second > 0
            && self.neighbour_packets_per_second > 0
            && self.neighbour_bytes_per_second > 0
    }

    /// Names what is wrong with it.
    pub fn check(&self, checks: &mut Checks) {
        let (ms, hour) = (Duration::from_millis, Duration::from_secs(3600));
        checks.number("mesh.hops_max", self.hops_max, 1..=Self::HOPS_MAX);
        checks.number("mesh.routes", self.routes, 1..=8);
        checks.number("mesh.route_cache", self.route_cache, 1..=1 << 20);
        checks.duration("mesh.hold_down", self.hold_down, ms(10)..=hour);
        checks.duration("mesh.seen_for", self.seen_for, ms(100)..=hour);
        checks.number("mesh.relay_packets_per_second", self.relay_packets_per_second, 0..=1_000_000);
        checks.size("mesh.relay_bytes_per_second", self.relay_bytes_per_second, 0..=1 << 40);
        checks.number("mesh.neighbour_packets_per_second", self.neighbour_packets_per_second, 0..=1_000_000);
        checks.size("mesh.neighbour_bytes_per_second", self.neighbour_bytes_per_second, 0..=1 << 40);
        checks.size("mesh.queue_bytes", self.queue_bytes, 0..=1 << 30);
        checks.size("mesh.neighbour_queue_bytes", self.neighbour_queue_bytes, 0..=1 << 30);
        checks.size("mesh.store_bytes", self.store_bytes, 0..=1 << 30);
        checks.size("mesh.store_peer_bytes", self.store_peer_bytes, 0..=1 << 30);
        checks.duration("mesh.store_for", self.store_for, ms(10)..=hour);
        checks.number("mesh.flood_hops", self.flood_hops, 0..=Self::HOPS_MAX);
        checks.number("mesh.flood_packets_per_second", self.flood_packets_per_second, 0..=100_000);
        checks.number("mesh.vector_peers", self.vector_peers, 1..=1 << 16);
        checks.duration("mesh.vector_interval", self.vector_interval, ms(100)..=hour);
        checks.number("mesh.links", self.links, 0..=1 << 20);
        checks.number("mesh.opening_links", self.opening_links, 1..=1 << 16);
        checks.number("mesh.openings_per_second", self.openings_per_second, 1..=1_000_000);
        checks.size("mesh.link_window", self.link_window, 64 << 10..=1 << 30);
        checks.size("mesh.lane_window", self.lane_window, 32 << 10..=1 << 30);
        checks.duration("mesh.link_timeout", self.link_timeout, ms(100)..=hour);
        checks.duration("mesh.unreachable_timeout", self.unreachable_timeout, ms(10)..=hour);
        checks.duration("mesh.keep_alive", self.keep_alive, ms(100)..=hour);
        checks.ensure(
            "mesh.seen_for",
            self.seen_for > self.store_for,
            super::quantity::print_duration(self.seen_for),
            "a packet has to be remembered for longer than it can be kept, so longer than mesh.store_for",
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_packet_is_remembered_for_longer_than_it_is_kept() {
        let mut checks = Checks::default();
        MeshConfig::default().check(&mut checks);
        assert_eq!(checks.finish(), Ok(()));
        let mut checks = Checks::default();
        MeshConfig { store_for: Duration::from_secs(60), ..MeshConfig::default() }.check(&mut checks);
        assert_eq!(checks.finish().unwrap_err()[0].key(), "mesh.seen_for");
    }
}
