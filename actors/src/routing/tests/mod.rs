#![allow(clippy::unwrap_used)]

mod forwarding;
mod limits;
mod paths;
mod vectors;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bowline_messages::PeerId;
use proptest::prelude::*;

use super::wire::Label;
use super::{
    ConnectionId, Forwarder, GraphView, MeshPacket, Outgoing, Output, PacketId, Parting, Source, VectorMessage,
};

fn peer(n: usize) -> PeerId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[31] = n as u8;
    PeerId::from_bytes(key)
}

/// Links of a small network, as pairs with the smaller number first, with their costs.
type Links = BTreeMap<(usize, usize), u32>;

/// A view that is as it is.
#[derive(Debug, Clone, Default)]
struct Picture {
    version: u64,
    links: BTreeMap<PeerId, BTreeMap<PeerId, u32>>,
    /// Who relays nothing.
    ends: BTreeSet<PeerId>,
}

impl Picture {
    fn of(version: u64, links: &Links) -> Self {
        let mut picture = Self { version, ..Self::default() };
        for ((a, b), cost) in links {
            picture.links.entry(peer(*a)).or_default().insert(peer(*b), *cost);
            picture.links.entry(peer(*b)).or_default().insert(peer(*a), *cost);
        }
        picture
    }

    fn own(&self, of: usize) -> BTreeMap<PeerId, u32> {
        self.links.get(&peer(of)).cloned().unwrap_or_default()
    }
}

impl GraphView for Picture {
    fn version(&self) -> u64 {
        self.version
    }

    fn neighbours(&self, peer: &PeerId, each: &mut dyn FnMut(PeerId, u32)) {
        for (other, cost) in self.links.get(peer).into_iter().flatten() {
            each(*other, *cost);
        }
    }

    fn relays(&self, peer: &PeerId) -> bool {
        !self.ends.contains(peer)
    }
}

/// Any network of so many nodes at most.
fn network(nodes: usize) -> impl Strategy<Value = (usize, Links)> {
    (2..=nodes).prop_flat_map(|nodes| {
        let link = (0..nodes, 0..nodes, 1..20_u32);
        (Just(nodes), prop::collection::vec(link, 0..nodes * 3)).prop_map(|(nodes, links)| {
            let links = links.into_iter().filter(|(a, b, _)| a != b);
            (nodes, links.map(|(a, b, cost)| ((a.min(b), a.max(b)), cost)).collect())
        })
    })
}

/// Which nodes can be reached from one, and over how many links at least.
fn distances(nodes: usize, links: &Links, from: usize) -> Vec<Option<usize>> {
    let mut far = vec![None; nodes];
    far[from] = Some(0);
    let mut edge = BTreeSet::from([from]);
    for hops in 1..=nodes {
        let next = |at: &usize| {
            links
                .keys()
                .filter_map(|(a, b)| if a == at { Some(*b) } else { (b == at).then_some(*a) })
                .collect::<Vec<_>>()
        };
        edge = edge.iter().flat_map(next).filter(|to| far[*to].is_none()).collect();
        for to in &edge {
            far[*to] = Some(hops);
        }
    }
    far
}

fn outgoing(to: usize) -> Outgoing {
    let connection = ConnectionId([1; 8]);
    Outgoing::new(peer(to), connection, b"x"[..].into())
}

/// A packet as a carrier gives it back.
fn parting(now: Instant, packet: MeshPacket, source: Source) -> Parting {
    Parting { packet, source, expires: now + std::time::Duration::from_secs(1) }
}

fn only_send(outputs: Vec<Output>) -> (PeerId, MeshPacket) {
    match &outputs[..] {
        [Output::Send { to, parting }] => (*to, parting.packet.clone()),
        other => panic!("{other:?}"),
    }
}
