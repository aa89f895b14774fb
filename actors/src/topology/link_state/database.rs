//! The newest announcement of every node, within bounds, until it expires.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::LinkStateConfig;
use bowline_messages::topology::{LinkFacts, NodeFacts};
use bytes::Bytes;

use super::SIGNATURE_BYTES;
use super::announcement::{Announcement, Stamp, find};
use super::graph::{LinkData, LiveGraph, NodeData};
use super::wire::Signed;
use crate::bucket::Bucket;

/// What is kept of a node.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    pub(super) body: Bytes,
    pub(super) signature: [u8; SIGNATURE_BYTES],
    /// None: this node's own.
    expires: Option<Instant>,
    arrived: Instant,
    facts: NodeFacts,
    links: Vec<(PeerId, LinkFacts)>,
    /// How often it may be replaced.
    pub(super) pace: Bucket,
    /// Whether nobody here knows it: neither a neighbour nor a member.
    stranger: bool,
    /// Whether it was said already that its origin signed another one under this number.
    pub(super) two_faced: bool,
}

/// What comes with an announcement.
#[derive(Debug)]
pub(super) struct Carried {
    /// The bytes that its origin signed.
    pub(super) body: Bytes,
    pub(super) signature: [u8; SIGNATURE_BYTES],
    /// How long it still counts; none: as long as it is not replaced.
    pub(super) remaining: Option<Duration>,
    /// How often it may be replaced.
    pub(super) pace: Bucket,
    /// How its origin is known.
    pub(super) as_a: Acquaintance,
}

/// How this node knows another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acquaintance {
    /// There is a link to it.
    Neighbour,
    /// It is a member.
    Member,
    /// From its announcements only, which anybody can make who makes up a key.
    Stranger,
}

/// What is known of the network.
#[derive(Debug)]
pub(super) struct Database {
    own: PeerId,
    entries: BTreeMap<PeerId, Entry>,
    expiries: BTreeSet<(Instant, PeerId)>,
    /// Bytes of all announcements.
    bytes: usize,
    /// Those that are strangers, and their bytes.
    strangers: BTreeSet<PeerId>,
    stranger_bytes: usize,
    /// The last numbers of nodes whose announcements expired, and until when they are remembered.
    tombs: BTreeMap<PeerId, (Stamp, Instant)>,
    tomb_order: BTreeSet<(Instant, PeerId)>,
    pub(super) graph: LiveGraph,
}

impl Database {
    pub(super) fn new(own: PeerId, facts: NodeFacts, now: Instant) -> Self {
        Self {
            own,
            entries: BTreeMap::new(),
            expiries: BTreeSet::new(),
            bytes: 0,
            strangers: BTreeSet::new(),
            stranger_bytes: 0,
            tombs: BTreeMap::new(),
            tomb_order: BTreeSet::new(),
            graph: LiveGraph::new(own, facts, now),
        }
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<&Entry> {
        self.entries.get(peer)
    }

    pub(super) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Entry> {
        self.entries.get_mut(peer)
    }

    /// Announcements, the own one included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all announcements.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest number that is or was known of a node.
    pub(super) fn newest(&self, now: Instant, peer: &PeerId) -> Option<Stamp> {
        let tomb = self.tombs.get(peer).filter(|(_, until)| *until > now).map(|(stamp, _)| *stamp);
        self.entries.get(peer).map(|entry| entry.stamp).max(tomb)
    }

    /// Whether an announcement names the same links as the one that is known, for the same purpose: plans for healing count those.
    pub(super) fn has_links_of(&self, announcement: &Announcement) -> bool {
        let names = |links: &[(PeerId, LinkFacts)]| {
            links.iter().map(|(peer, facts)| (*peer, facts.healing)).collect::<Vec<_>>()
        };
        self.entries.get(&announcement.origin).is_some_and(|known| names(&known.links) == names(&announcement.links))
    }

    /// Whether there is room for this much of a node.
    ///
    /// Strangers get half of the places and of the bytes at most: anybody can invent them. A member takes the place of strangers where need be.
    /// Direct neighbours always find room: there is a bound on them already.
    pub(super) fn has_room(&self, config: &LinkStateConfig, peer: &PeerId, bytes: usize, as_a: Acquaintance) -> bool {
        let (nodes_max, bytes_max) = (config.nodes_max, config.bytes_max as usize);
        let others = self.all_but(peer);
        let strangers = self.strangers_but(peer);
        match as_a {
            Acquaintance::Neighbour => true,
            Acquaintance::Member => {
                let known = self.entries.contains_key(peer);
                let others = (others.0 - strangers.0, others.1 - strangers.1);
                (known || others.0 < nodes_max) && others.1 + bytes <= bytes_max
            }
            Acquaintance::Stranger => {
                // One that was a neighbour or a member stays.
                let fits = others.0 < nodes_max && strangers.0 < nodes_max / 2 || self.entries.contains_key(peer);
                fits && others.1 + bytes <= bytes_max && strangers.1 + bytes <= bytes_max / 2
            }
        }
    }

    /// Lets strangers go until there is room for this much of a node: from a name on that is drawn at random, so that nobody can choose a safe one.
    pub(super) fn make_room(&mut self, config: &LinkStateConfig, peer: &PeerId, bytes: usize, from: PeerId) {
        loop {
            let others = self.all_but(peer);
            if others.0 < config.nodes_max && others.1 + bytes <= config.bytes_max as usize {
                return;
            }
            let next = |range| self.strangers.range::<PeerId, _>(range).find(|stranger| *stranger != peer).copied();
            let Some(stranger) = next((Included(from), Unbounded)).or_else(|| next((Unbounded, Unbounded))) else {
                return;
            };
            self.remove(&stranger, None);
        }
    }

    /// Nodes and bytes without this one.
    fn all_but(&self, peer: &PeerId) -> (usize, usize) {
        let known = self.entries.get(peer);
        (self.entries.len() - usize::from(known.is_some()), self.bytes - known.map_or(0, |entry| entry.body.len()))
    }

    /// Strangers and their bytes without this one.
    fn strangers_but(&self, peer: &PeerId) -> (usize, usize) {
        let known = self.entries.get(peer).filter(|entry| entry.stranger);
        let bytes = known.map_or(0, |entry| entry.body.len());
        (self.strangers.len() - usize::from(known.is_some()), self.stranger_bytes - bytes)
    }

    /// Takes an announcement over, whatever was there before.
    pub(super) fn put(&mut self, now: Instant, announcement: Announcement, carried: Carried) {
        let Announcement { origin, stamp, facts, links, lifetime: _ } = announcement;
        let Carried { body, signature, remaining, pace, as_a } = carried;
        let expires = remaining.map(|remaining| now + remaining);
        let stranger = as_a == Acquaintance::Stranger;
        self.bytes += body.len();
        if stranger {
            self.strangers.insert(origin);
            self.stranger_bytes += body.len();
        }
        let entry = Entry {
            stamp,
            body,
            signature,
            expires,
            arrived: now,
            facts,
            links: Vec::new(),
            pace,
            stranger,
            two_faced: false,
        };
        let before = self.entries.insert(origin, entry);
        if let Some(expires) = expires {
            self.expiries.insert((expires, origin));
        }
        let mut links_before = Vec::new();
        if let Some(before) = before {
            self.bytes -= before.body.len();
            if before.stranger {
                self.stranger_bytes -= before.body.len();
            }
            if !stranger {
                self.strangers.remove(&origin);
            }
            if let Some(expires) = before.expires.filter(|before| Some(*before) != expires) {
                self.expiries.remove(&(expires, origin));
            }
            links_before = before.links;
        }
        if let Some((_, until)) = self.tombs.remove(&origin) {
            self.tomb_order.remove(&(until, origin));
        }
        self.graph.describe(origin, facts, now);
        self.relink(now, origin, links_before, links);
    }

    /// Takes over which links this node has now, before it announces them.
    pub(super) fn relink_own(&mut self, now: Instant, facts: NodeFacts, links: Vec<(PeerId, LinkFacts)>) {
        let own = self.own;
        let Some(entry) = self.entries.get_mut(&own) else { return };
        (entry.facts, entry.arrived) = (facts, now);
        let before = std::mem::take(&mut entry.links);
        self.graph.describe(own, facts, now);
        self.relink(now, own, before, links);
    }

    /// Removes a node's announcement, and remembers its number for a while if that is wanted.
    pub(super) fn remove(&mut self, peer: &PeerId, tomb: Option<(Instant, usize)>) {
        let Some(mut entry) = self.entries.remove(peer) else { return };
        self.bytes -= entry.body.len();
        if self.strangers.remove(peer) {
            self.stranger_bytes -= entry.body.len();
        }
        if let Some(expires) = entry.expires {
            self.expiries.remove(&(expires, *peer));
        }
        for (other, _) in std::mem::take(&mut entry.links) {
            self.graph.disconnect([*peer, other]);
        }
        if let Some((until, most)) = tomb {
            if let Some((_, before)) = self.tombs.insert(*peer, (entry.stamp, until)) {
                self.tomb_order.remove(&(before, *peer));
            }
            self.tomb_order.insert((until, *peer));
            if self.tombs.len() > most
                && let Some((_, oldest)) = self.tomb_order.pop_first()
            {
                self.tombs.remove(&oldest);
            }
        }
    }

    /// When the next announcement expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Removes everything whose time is over.
    pub(super) fn expire(&mut self, now: Instant, config: &LinkStateConfig) {
        while let Some((_, peer)) = self.expiries.first().copied().filter(|(at, _)| *at <= now) {
            self.remove(&peer, Some((now + config.remember_expired, config.nodes_max)));
        }
        while let Some((until, peer)) = self.tomb_order.first().copied().filter(|(until, _)| *until <= now) {
            self.tomb_order.remove(&(until, peer));
            self.tombs.remove(&peer);
        }
    }

    /// A node's announcement for the wire; none when it has less than a second left.
    pub(super) fn signed(&self, now: Instant, peer: &PeerId, own_until: Instant) -> Option<Signed> {
        let entry = self.entries.get(peer)?;
        let remaining = entry.expires.unwrap_or(own_until).saturating_duration_since(now).as_secs();
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
        (remaining > 0).then(|| Signed::new(entry.body.clone(), &entry.signature, remaining))
    }

    /// Numbers of all nodes within a range of names.
    pub(super) fn stamps(&self, range: RangeInclusive<PeerId>) -> impl Iterator<Item = (PeerId, Stamp)> + '_ {
        self.entries.range(range).map(|(peer, entry)| (*peer, entry.stamp))
    }

    /// Replaces the links that a node claims, and changes the graph where both ends do.
    fn relink(
        &mut self,
        now: Instant,
        peer: PeerId,
        before: Vec<(PeerId, LinkFacts)>,
        links: Vec<(PeerId, LinkFacts)>,
    ) {
        for (other, _) in before.iter().filter(|(other, _)| find(&links, other).is_none()) {
            self.graph.disconnect([peer, *other]);
        }
        let Self { entries, graph, .. } = self;
        for (other, facts) in &links {
            let Some(there) = entries.get(other) else { continue };
            let Some(back) = find(&there.links, &peer) else { continue };
            let about = |peer: &PeerId| {
                let entry = entries.get(peer)?;
                Some(NodeData { peer: *peer, facts: entry.facts, last_seen: entry.arrived })
            };
            graph.connect([peer, *other], LinkData::of_both((facts, now), (back, there.arrived)), about);
        }
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.links = links;
        }
    }
}
