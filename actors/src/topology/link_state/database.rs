//! The newest announcement of every node, within bounds, until it expires.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::topology::bucket::Bucket;

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
    /// Whether it was said already that its origin signed another one under this number.
    pub(super) two_faced: bool,
}

/// What is known of the network.
#[derive(Debug)]
pub(super) struct Database {
    own: PeerId,
    entries: BTreeMap<PeerId, Entry>,
    expiries: BTreeSet<(Instant, PeerId)>,
    /// Bytes of all announcements.
    bytes: usize,
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

    /// Whether there is room for this much of a node. Direct neighbours always find it: there is a bound on them already.
    pub(super) fn has_room(&self, config: &LinkStateConfig, peer: &PeerId, bytes: usize, neighbour: bool) -> bool {
        let known = self.entries.get(peer);
        let before = known.map_or(0, |entry| entry.body.len());
        let fits = self.bytes - before + bytes <= config.bytes_max as usize;
        neighbour || (fits && (known.is_some() || self.entries.len() < config.nodes_max))
    }

    /// Takes an announcement over, whatever was there before.
    pub(super) fn put(
        &mut self,
        now: Instant,
        announcement: Announcement,
        body: Bytes,
        signature: [u8; SIGNATURE_BYTES],
        remaining: Option<Duration>,
        pace: Bucket,
    ) {
        let Announcement { origin, stamp, facts, links, lifetime: _ } = announcement;
        let expires = remaining.map(|remaining| now + remaining);
        self.bytes += body.len();
        let entry =
            Entry { stamp, body, signature, expires, arrived: now, facts, links: Vec::new(), pace, two_faced: false };
        let before = self.entries.insert(origin, entry);
        if let Some(expires) = expires {
            self.expiries.insert((expires, origin));
        }
        let mut links_before = Vec::new();
        if let Some(before) = before {
            self.bytes -= before.body.len();
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
