//! A network of forwarders in which everything is late: views, news of neighbours, packets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bowline_messages::config::MeshConfig;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Links, Picture, peer};
use crate::routing::{ConnectionId, Forwarder, MeshPacket, Outgoing, Output, PacketId, Parting, VectorMessage};

const MS: Duration = Duration::from_millis(1);

/// Something that will happen.
enum Coming {
    Packet {
        from: usize,
        to: usize,
        packet: MeshPacket,
    },
    Vector {
        from: usize,
        to: usize,
        message: VectorMessage,
    },
    /// A node gets to know whether it has a session with another.
    Session {
        at: usize,
        with: usize,
    },
    /// A node gets to see the network as it was a while ago.
    View {
        at: usize,
        view: Rc<Picture>,
    },
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) nodes: Vec<Forwarder>,
    pub(super) links: Links,
    views: Vec<Rc<Picture>>,
    /// Whether nodes get to see the network at all.
    shown: bool,
    version: u64,
    coming: BTreeMap<(Instant, u64), Coming>,
    order: u64,
    rng: ChaCha8Rng,
    /// Parts in a thousand of packets that get lost.
    pub(super) loss: u32,
    delivered: BTreeMap<(usize, PacketId), u32>,
    /// Who sent which packet to whom.
    sent: BTreeMap<(usize, PacketId), Vec<(usize, bool)>>,
    pub(super) payloads: VecDeque<(usize, Vec<u8>)>,
    pub(super) unreachable: BTreeSet<(usize, bowline_messages::PeerId)>,
}

impl World {
    pub(super) fn new(nodes: usize, links: &Links, config: &MeshConfig, shown: bool, seed: u64) -> Self {
        let forwarder = |n: usize| Forwarder::new(peer(n), config.clone(), [n as u8 + 1; 32]);
        let mut world = Self {
            now: Instant::now(),
            nodes: (0..nodes).map(forwarder).collect(),
            links: Links::new(),
            views: vec![Rc::default(); nodes],
            shown,
            version: 0,
            coming: BTreeMap::new(),
            order: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            loss: 0,
            delivered: BTreeMap::new(),
            sent: BTreeMap::new(),
            payloads: VecDeque::new(),
            unreachable: BTreeSet::new(),
        };
        for ((a, b), cost) in links {
            world.set_link(*a, *b, Some(*cost));
        }
        world
    }

    /// A link comes or goes; both ends and all views learn it later.
    pub(super) fn set_link(&mut self, a: usize, b: usize, cost: Option<u32>) {
        let key = (a.min(b), a.max(b));
        match cost {
            Some(cost) => self.links.insert(key, cost),
            None => self.links.remove(&key),
        };
        for (at, with) in [(a, b), (b, a)] {
            let after = self.draw(300);
            self.later(after * MS, Coming::Session { at, with });
        }
        if self.shown {
            self.version += 1;
            let view = Rc::new(Picture::of(self.version, &self.links));
            for at in 0..self.nodes.len() {
                let after = self.draw(2000);
                self.later(after * MS, Coming::View { at, view: Rc::clone(&view) });
            }
        }
    }

    pub(super) fn send(&mut self, from: usize, to: usize, text: &[u8], keep: bool, route: u8) {
        let outgoing = Outgoing { route, keep, ..Outgoing::new(peer(to), ConnectionId([9; 8]), text.to_vec().into()) };
        let view = Rc::clone(&self.views[from]);
        let outputs = self.nodes[from].on_outgoing(self.now, &*view, outgoing);
        self.carry_out(from, outputs);
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timer = (0..self.nodes.len()).filter_map(|n| Some((self.nodes[n].deadline()?, n))).min();
            let coming = self.coming.keys().next().copied();
            match (coming, timer) {
                (Some(key), timer) if key.0 <= end && timer.is_none_or(|(at, _)| key.0 <= at) => {
                    self.now = self.now.max(key.0);
                    let what = self.coming.remove(&key).unwrap();
                    self.happen(what);
                }
                (_, Some((at, n))) if at <= end => {
                    self.now = self.now.max(at);
                    let view = Rc::clone(&self.views[n]);
                    let outputs = self.nodes[n].on_timeout(self.now, &*view);
                    assert!(
                        self.nodes[n].deadline().is_none_or(|deadline| deadline > self.now),
                        "a timer that is never off"
                    );
                    self.carry_out(n, outputs);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    pub(super) fn got(&self, at: usize, text: &[u8]) -> usize {
        self.payloads.iter().filter(|(to, payload)| *to == at && payload == text).count()
    }

    fn happen(&mut self, what: Coming) {
        let outputs = match what {
            Coming::Packet { from, to, packet } => {
                let lost = !self.linked(from, to) || self.draw(1000) < self.loss;
                if lost {
                    return;
                }
                let read = MeshPacket::decode(packet.encode().unwrap()).unwrap();
                assert_eq!(read, packet);
                let view = Rc::clone(&self.views[to]);
                (to, self.nodes[to].on_packet(self.now, &*view, peer(from), read))
            }
            Coming::Vector { from, to, message } => {
                let view = Rc::clone(&self.views[to]);
                (to, self.nodes[to].on_vector(self.now, &*view, peer(from), message))
            }
            Coming::Session { at, with } => {
                let view = Rc::clone(&self.views[at]);
                let cost = self.links.get(&(at.min(with), at.max(with))).copied();
                let node = &mut self.nodes[at];
                (
                    at,
                    match cost {
                        Some(cost) => node.on_neighbour(self.now, &*view, peer(with), cost),
                        None => node.on_neighbour_lost(self.now, &*view, peer(with)),
                    },
                )
            }
            Coming::View { at, view } => {
                // News overtake each other; what is older than what is known is no news.
                if view.version > self.views[at].version {
                    self.views[at] = view;
                }
                let view = Rc::clone(&self.views[at]);
                (at, self.nodes[at].on_view(self.now, &*view))
            }
        };
        self.carry_out(outputs.0, outputs.1);
    }

    fn carry_out(&mut self, at: usize, outputs: Vec<Output>) {
        let mut outputs = VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Send { to, parting } => {
                    if let Some(parting) = self.nodes[at].on_send(self.now, to, parting) {
                        outputs.extend(self.transmit(at, to, parting));
                    }
                }
                Output::Deliver { packet, .. } => {
                    assert_eq!(packet.destination, peer(at));
                    *self.delivered.entry((at, packet.id)).or_default() += 1;
                    assert_eq!(self.delivered[&(at, packet.id)], 1, "delivered twice");
                    self.payloads.push_back((at, packet.payload.to_vec()));
                }
                Output::Vector(tell) => {
                    let to = usize::from(tell.to.as_bytes()[31]);
                    let after = 1 + self.draw(80);
                    self.later(after * MS, Coming::Vector { from: at, to, message: tell.message });
                }
                Output::Unreachable(peer) => {
                    self.unreachable.insert((at, peer));
                }
            }
        }
    }

    /// The carrier of a node: it may know that a link is gone, or not; it may have no room.
    fn transmit(&mut self, at: usize, to: bowline_messages::PeerId, parting: Parting) -> Vec<Output> {
        let with = usize::from(to.as_bytes()[31]);
        let knows = self.draw(2) == 0;
        if !self.linked(at, with) && knows {
            let view = Rc::clone(&self.views[at]);
            return self.nodes[at].on_failed(self.now, &*view, to, parting);
        }
        if self.draw(20) == 0 {
            self.nodes[at].on_busy(self.now, to, parting);
            return Vec::new();
        }
        let packet = parting.packet;
        let sent = self.sent.entry((at, packet.id)).or_default();
        let again = sent.iter().any(|(before, flood)| *before == with || !flood || !packet.flood);
        assert!(!again, "node {at} sends {packet:?} to {with} after {sent:?}");
        sent.push((with, packet.flood));
        let after = 1 + self.draw(40);
        self.later(after * MS, Coming::Packet { from: at, to: with, packet });
        Vec::new()
    }

    fn linked(&self, a: usize, b: usize) -> bool {
        self.links.contains_key(&(a.min(b), a.max(b)))
    }

    fn later(&mut self, after: Duration, what: Coming) {
        self.order += 1;
        self.coming.insert((self.now + after, self.order), what);
    }

    pub(super) fn draw(&mut self, below: u32) -> u32 {
        self.rng.next_u32() % below
    }
}
