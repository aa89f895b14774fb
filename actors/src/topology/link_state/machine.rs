//! The machine: neighbours and datagrams in, datagrams and a new graph out.
//!
//! What a neighbour is owed is a set of names, not of datagrams: whatever is newest when there is time and budget to send it goes out, once. A
//! neighbour that turns out to have it is owed it no more. So the memory this takes is bounded by nodes times neighbours, and a slow
//! budget makes news late, never many.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::rc::Rc;
use std::time::Instant;

use bowline_messages::config::LinkStateConfig;
use bowline_messages::topology::{LinkFacts, NodeFacts};
use bowline_messages::{Incarnation, PeerId};
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::announcement::{Announcement, Stamp};
use super::compare;
use super::database::{Acquaintance, Carried, Database};
use super::graph::LiveGraph;
use super::origination::{self, Origination, announced, refresh_interval};
use super::refusal::{Refusal, Refusals};
use super::wire::{self, Message, Signed};
use super::{Authority, IsMember};
use crate::bucket::Bucket;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkStateOutput {
    /// Send a datagram to a neighbour.
    Send {
        /// The neighbour.
        to: PeerId,
        /// The datagram.
        payload: Bytes,
    },
    /// A node signed two different announcements under one number: evidence against it that anybody can check. Said once for each number.
    TwoFaced {
        /// The node.
        origin: PeerId,
        /// The announcement that is kept.
        first: Signed,
        /// The other one.
        second: Signed,
    },
}

/// What is kept of a neighbour.
#[derive(Debug)]
pub(super) struct Neighbour {
    facts: LinkFacts,
    /// What was announced of it.
    announced: Option<LinkFacts>,
    /// Nodes of which it may lack the newest announcement.
    owed: BTreeSet<PeerId>,
    /// Whether it and this node agreed once since it came.
    agreed: bool,
    /// Until when it counts as new if they do not.
    new_until: Instant,
    /// The salt of the comparison that it has not answered.
    asked: Option<u64>,
    /// Bytes it may still send.
    intake: Bucket,
    /// Bytes that may still be sent to it because it asked: its share of the budget, so that what it asks for leaves the others theirs.
    answers: Bucket,
    /// When it was told last what this node knows.
    listed: Option<Instant>,
}

/// The gossip of one node; see the module.
pub struct LinkState {
    pub(super) own: PeerId,
    pub(super) config: LinkStateConfig,
    pub(super) authority: Rc<dyn Authority>,
    pub(super) is_member: IsMember,
    pub(super) stamp: Stamp,
    pub(super) neighbours: BTreeMap<PeerId, Neighbour>,
    pub(super) excluded: BTreeSet<PeerId>,
    pub(super) database: Database,
    pub(super) origination: Origination,
    pub(super) outputs: VecDeque<LinkStateOutput>,
    facts: NodeFacts,
    facts_announced: NodeFacts,
    /// Until when this node's announcement counts.
    own_until: Instant,
    refusals: Refusals,
    budget: Bucket,
    flush_at: Option<Instant>,
    /// Who was sent something last of what neighbours are owed.
    served: Option<PeerId>,
    compare_at: Instant,
    compared: Option<PeerId>,
    pub(super) rng: ChaCha8Rng,
}

impl LinkState {
    /// The gossip of a node that knows nobody yet.
    pub fn new(
        now: Instant,
        own: PeerId,
        incarnation: Incarnation,
        config: LinkStateConfig,
        authority: Rc<dyn Authority>,
        is_member: IsMember,
        seed: u64,
    ) -> Self {
        let facts = NodeFacts::default();
        let mut machine = Self {
            own,
            stamp: Stamp { incarnation: incarnation.0, sequence: 0 },
            neighbours: BTreeMap::new(),
            excluded: BTreeSet::new(),
            database: Database::new(own, facts, now),
            origination: Origination::new(now, &config),
            outputs: VecDeque::new(),
            facts,
            facts_announced: facts,
            own_until: now,
            refusals: Refusals::default(),
            budget: Bucket::new(now, config.send_bytes_per_second as f64, config.send_burst_bytes as f64),
            flush_at: None,
            served: None,
            compare_at: now + config.compare_interval,
            compared: None,
            rng: ChaCha8Rng::seed_from_u64(seed),
            config,
            authority,
            is_member,
        };
        machine.announce(now);
        machine
    }

    /// The graph as it is known.
    pub fn graph(&self) -> &LiveGraph {
        &self.database.graph
    }

    /// What was refused so far.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Announcements that are known, this node's own included, and their bytes.
    pub fn known(&self) -> (usize, usize) {
        (self.database.len(), self.database.bytes())
    }

    /// All neighbours there are now, with what the links to them are like.
    pub fn on_neighbours(&mut self, now: Instant, all: &BTreeMap<PeerId, LinkFacts>) {
        let before = self.neighbours.len();
        self.neighbours.retain(|peer, _| all.contains_key(peer));
        let mut changed = self.neighbours.len() != before;
        let mut news = changed;
        for (peer, facts) in all {
            if *peer == self.own || self.excluded.contains(peer) {
                continue;
            }
            if let Some(known) = self.neighbours.get_mut(peer) {
                let announced = known.announced.unwrap_or(known.facts);
                news |= known.facts != *facts;
                known.facts = *facts;
                if origination::drifted(&self.config, &announced, facts) {
                    self.origination.on_drift();
                }
                continue;
            }
            changed = true;
            let intake =
                Bucket::new(now, self.config.receive_bytes_per_second as f64, self.config.receive_burst_bytes as f64);
            let fresh = Neighbour {
                facts: *facts,
                announced: None,
                owed: BTreeSet::new(),
                agreed: false,
                new_until: now + self.config.compare_interval * NEW_FOR,
                asked: None,
                intake,
                answers: Bucket::new(now, 0.0, self.config.send_burst_bytes as f64),
                listed: None,
            };
            self.neighbours.insert(*peer, fresh);
            // One of the two begins; the other one would find the same.
            if self.own < *peer {
                self.compare_with(now, *peer);
            }
            let soon = now + self.config.compare_new_interval.mul_f64(0.75 + 0.5 * self.rng.random::<f64>());
            self.compare_at = self.compare_at.min(soon);
        }
        if changed {
            self.origination.on_change();
        }
        if news || changed {
            self.relink(now);
        }
        self.announce_if_due(now);
    }

    /// What this node is like.
    pub fn on_facts(&mut self, now: Instant, facts: NodeFacts) {
        let facts = NodeFacts { load: facts.load.clamp(0.0, 1.0), power: facts.power.clamp(0.0, 1.0), ..facts };
        if facts == self.facts {
            return;
        }
        self.facts = facts;
        if origination::facts_differ(&self.facts_announced, &self.facts) {
            self.origination.on_drift();
        }
        self.relink(now);
        self.announce_if_due(now);
    }

    /// Nodes that are to be ignored, whatever they sign; all others are heard (again).
    pub fn on_excluded(&mut self, now: Instant, excluded: &BTreeSet<PeerId>) {
        let excluded: BTreeSet<PeerId> = excluded.iter().filter(|peer| **peer != self.own).copied().collect();
        if excluded == self.excluded {
            return;
        }
        self.excluded = excluded;
        for peer in &self.excluded {
            self.database.remove(peer, None);
        }
        let before = self.neighbours.len();
        self.neighbours.retain(|peer, _| !self.excluded.contains(peer));
        if self.neighbours.len() != before {
            self.origination.on_change();
        }
        self.relink(now);
        self.announce_if_due(now);
    }

    /// A datagram of a neighbour.
    pub fn on_packet(&mut self, now: Instant, from: PeerId, payload: &Bytes) {
        if let Err(refusal) = self.receive(now, from, payload) {
            self.refusals.count(refusal);
        }
        self.announce_if_due(now);
    }

    /// A deadline was reached.
    pub fn on_timeout(&mut self, now: Instant) {
        self.database.expire(now, &self.config);
        self.announce_if_due(now);
        if now >= self.compare_at {
            self.compare_with_next(now);
        }
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush(now);
        }
    }

    /// The next moment at which something is due.
    pub fn deadline(&self) -> Option<Instant> {
        let announce = self.origination.deadline(&self.config);
        let compare = (!self.neighbours.is_empty()).then_some(self.compare_at);
        [Some(announce), compare, self.flush_at, self.database.next_expiry()].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<LinkStateOutput> {
        self.outputs.pop_front()
    }

    fn receive(&mut self, now: Instant, from: PeerId, payload: &Bytes) -> Result<(), Refusal> {
        let neighbour = self.neighbours.get_mut(&from).ok_or(Refusal::Stranger)?;
        if payload.len() as u64 > self.config.packet_bytes_max.max(PACKET_BYTES_MAX) {
            return Err(Refusal::Oversized);
        }
        if !neighbour.intake.take(now, payload.len() as f64) {
            return Err(Refusal::Flooded);
        }
        match wire::decode(payload).map_err(|_| Refusal::Malformed)? {
            Message::Announcements(list) => {
                for signed in &list {
                    if let Err(refusal) = self.on_announcement(now, from, signed) {
                        self.refusals.count(refusal);
                    }
                }
                Ok(())
            }
            Message::Compare { salt, digests } => self.on_compare(now, from, salt, &digests),
            Message::Same { salt } => {
                neighbour.agreed |= neighbour.asked == Some(salt);
                Ok(())
            }
            Message::Listing { answer, from: first, to: last, entries } => {
                let range = (PeerId::from_bytes(first), PeerId::from_bytes(last));
                self.on_listing(now, from, answer, range, &entries)
            }
        }
    }

    fn on_compare(&mut self, now: Instant, from: PeerId, salt: u64, digests: &[u64]) -> Result<(), Refusal> {
        let parts = digests.len();
        if !compare::possible(parts) {
            return Err(Refusal::Malformed);
        }
        self.pay_for(now, from, self.database.len())?;
        let own = compare::digests(&self.database, salt, parts);
        let differing: Vec<usize> = (0..parts).filter(|part| own[*part] != digests[*part]).collect();
        if differing.is_empty() {
            self.answer(now, from, &Message::Same { salt });
            if let Some(neighbour) = self.neighbours.get_mut(&from) {
                neighbour.agreed = true;
            }
        }
        // Parts that lie side by side are listed together.
        for run in differing.chunk_by(|one, next| one + 1 == *next) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let (begin, end) = (compare::part(*first, parts).0, compare::part(*last, parts).1);
            self.list(now, from, begin, end, true);
        }
        Ok(())
    }

    fn on_listing(
        &mut self,
        now: Instant,
        from: PeerId,
        answer: bool,
        range: (PeerId, PeerId),
        entries: &[(wire::Name, u64, u64)],
    ) -> Result<(), Refusal> {
        let nodes = if range.0 <= range.1 { self.database.stamps(range.0..=range.1).count() } else { 0 };
        self.pay_for(now, from, nodes)?;
        let difference = compare::difference(&self.database, now, range, entries, &self.excluded);
        let difference = difference.ok_or(Refusal::Contradictory)?;
        for peer in difference.lacking_there {
            self.owe(now, from, peer);
        }
        if answer && difference.lacking_here {
            self.list(now, from, range.0, range.1, false);
        }
        Ok(())
    }

    /// Looking through so many nodes for a neighbour is work as well: it is paid for as if it had sent some bytes for each.
    fn pay_for(&mut self, now: Instant, from: PeerId, nodes: usize) -> Result<(), Refusal> {
        let neighbour = self.neighbours.get_mut(&from).ok_or(Refusal::Stranger)?;
        let paid = neighbour.intake.take(now, (nodes * BYTES_PER_NODE) as f64);
        if paid { Ok(()) } else { Err(Refusal::Flooded) }
    }

    fn list(&mut self, now: Instant, to: PeerId, from: PeerId, until: PeerId, answer: bool) {
        let packet = self.config.packet_bytes_max as usize;
        if let Some(neighbour) = self.neighbours.get_mut(&to) {
            neighbour.listed = Some(now);
        }
        for listing in compare::listings(&self.database, from, until, answer, packet) {
            self.answer(now, to, &listing);
        }
    }

    /// Compares with the next neighbour: with those that are new until they agreed once, then with one after the other.
    fn compare_with_next(&mut self, now: Instant) {
        let after = |from: Option<PeerId>, wanted: &dyn Fn(&Neighbour) -> bool| {
            let later = self.neighbours.iter().filter(|(peer, _)| Some(**peer) > from);
            let mut round = later.chain(self.neighbours.iter()).filter(|(_, neighbour)| wanted(neighbour));
            round.next().map(|(peer, _)| *peer)
        };
        let new = after(self.compared, &|neighbour| !neighbour.agreed && now < neighbour.new_until);
        let next = new.or_else(|| after(self.compared, &|_| true));
        self.compared = next;
        if let Some(peer) = next {
            self.compare_with(now, peer);
        }
        let wait = if new.is_some() { self.config.compare_new_interval } else { self.config.compare_interval };
        self.compare_at = now + wait.mul_f64(0.75 + 0.5 * self.rng.random::<f64>());
    }

    fn compare_with(&mut self, now: Instant, peer: PeerId) {
        let salt = self.rng.random();
        let comparison = compare::comparison(&self.database, salt);
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.asked = Some(salt);
        }
        self.send(now, peer, &comparison);
    }

    /// Takes over what this node's links are like, before that is announced.
    fn relink(&mut self, now: Instant) {
        let links: BTreeMap<_, _> = self.neighbours.iter().map(|(peer, neighbour)| (*peer, neighbour.facts)).collect();
        self.database.relink_own(now, self.facts, announced(&self.config, &links));
    }

    fn announce_if_due(&mut self, now: Instant) {
        if self.origination.deadline(&self.config) <= now {
            self.announce(now);
        }
    }

    fn announce(&mut self, now: Instant) {
        self.stamp = self.stamp.next();
        let graph = self.database.graph.graph();
        let average_degree = 2.0 * graph.edge_count() as f64 / graph.node_count().max(1) as f64;
        let refresh = refresh_interval(&self.config, self.database.bytes(), average_degree);
        let links: BTreeMap<_, _> = self.neighbours.iter().map(|(peer, neighbour)| (*peer, neighbour.facts)).collect();
        let mut announcement = Announcement {
            origin: self.own,
            stamp: self.stamp,
            lifetime: Origination::lifetime(refresh, &self.config),
            facts: self.facts,
            links: announced(&self.config, &links),
        };
        let mut body = wire::encode_body(&announcement);
        while body.len() as u64 > self.config.announcement_bytes_max && announcement.links.pop().is_some() {
            body = wire::encode_body(&announcement);
        }
        for (peer, neighbour) in &mut self.neighbours {
            neighbour.announced = announcement.link(peer).copied();
        }
        self.facts_announced = self.facts;
        self.own_until = now + announcement.lifetime;
        let signature = self.authority.sign(&body);
        let pace = Bucket::new(now, 1.0, 1.0);
        let carried = Carried { body, signature, remaining: None, pace, as_a: Acquaintance::Neighbour };
        self.database.put(now, announcement, carried);
        self.origination.on_announced(now, &self.config, refresh, self.rng.random());
        self.flood(now, self.own, None);
    }

    /// Owes an announcement that names no other links than the last one to neighbours that have it neither from its origin nor from whom it came
    /// from: these tell all of theirs. When one of them has lost it, a comparison finds that.
    pub(super) fn refresh(&mut self, now: Instant, origin: PeerId, from: PeerId) {
        self.flood(now, origin, Some(from));
        let graph = &self.database.graph;
        for (peer, neighbour) in &mut self.neighbours {
            if graph.link(&origin, peer).is_some() || graph.link(&from, peer).is_some() {
                neighbour.owed.remove(&origin);
            }
        }
    }

    /// Owes a node's announcement to every neighbour but the one that it came from.
    pub(super) fn flood(&mut self, now: Instant, origin: PeerId, from: Option<PeerId>) {
        for (peer, neighbour) in &mut self.neighbours {
            if Some(*peer) == from || *peer == origin {
                neighbour.owed.remove(&origin);
            } else {
                neighbour.owed.insert(origin);
            }
        }
        self.flush_soon(now);
    }

    /// A neighbour showed that it has a node's newest announcement.
    pub(super) fn is_known_by(&mut self, neighbour: &PeerId, origin: &PeerId) {
        if let Some(neighbour) = self.neighbours.get_mut(neighbour) {
            neighbour.owed.remove(origin);
        }
    }

    /// Owes a node's announcement to a neighbour; nobody is owed their own but as a reminder of a former life.
    pub(super) fn owe(&mut self, now: Instant, to: PeerId, origin: PeerId) {
        if let Some(neighbour) = self.neighbours.get_mut(&to) {
            neighbour.owed.insert(origin);
            self.flush_soon(now);
        }
    }

    fn flush_soon(&mut self, now: Instant) {
        if self.flush_at.is_none() && self.neighbours.values().any(|neighbour| !neighbour.owed.is_empty()) {
            let delay = self.config.flood_delay.mul_f64(0.5 + self.rng.random::<f64>());
            self.flush_at = Some(now + delay);
        }
    }

    /// Sends what neighbours are owed, as far as the budget goes: one datagram to each in turn, so that nobody who is owed much, and can see to it that it
    /// always is, keeps the others waiting.
    fn flush(&mut self, now: Instant) {
        self.flush_at = None;
        let packet = self.config.packet_bytes_max as usize;
        while let Some(peer) = self.next_in_turn() {
            let Some(list) = self.next_owed(now, &peer, packet) else { continue };
            let bytes: usize = list.iter().map(|(_, signed)| signed.bytes()).sum();
            let ready = self.budget.ready(now, (bytes + PACKET_BYTES_BESIDES) as f64);
            if ready > now {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.owed.extend(list.into_iter().map(|(origin, _)| origin));
                }
                self.flush_at = Some(ready);
                return;
            }
            self.served = Some(peer);
            let list = list.into_iter().map(|(_, signed)| signed).collect();
            self.send(now, peer, &Message::Announcements(list));
        }
    }

    /// The next neighbour after the one served last that is owed something.
    fn next_in_turn(&self) -> Option<PeerId> {
        let waits = |(peer, of): (&PeerId, &Neighbour)| (!of.owed.is_empty()).then_some(*peer);
        let after = self.served.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.neighbours.range((after, Bound::Unbounded)).find_map(waits);
        later.or_else(|| self.neighbours.iter().find_map(waits))
    }

    /// As much of what a neighbour is owed as fits a datagram; none when it is owed nothing.
    fn next_owed(&mut self, now: Instant, peer: &PeerId, packet: usize) -> Option<Vec<(PeerId, Signed)>> {
        let (mut list, mut bytes) = (Vec::new(), PACKET_BYTES_BESIDES);
        let neighbour = self.neighbours.get_mut(peer)?;
        while let Some(origin) = neighbour.owed.first().copied() {
            if let Some(signed) = self.database.signed(now, &origin, self.own_until) {
                if !list.is_empty() && bytes + signed.bytes() > packet {
                    break;
                }
                bytes += signed.bytes();
                list.push((origin, signed));
            }
            neighbour.owed.remove(&origin);
        }
        (!list.is_empty()).then_some(list)
    }

    /// What part of the budget answers to one neighbour may take: of a certain part the share of one of those that compared lately and found
    /// a difference, so that who comes to a node with many links catches up soon; no less than if all of them asked.
    fn answers_share(&self, now: Instant) -> f64 {
        let lately = |at: Instant| now.saturating_duration_since(at) < self.config.compare_interval;
        let asking = self.neighbours.values().filter(|neighbour| neighbour.listed.is_some_and(lately)).count();
        (ANSWERS_SHARE / asking.max(1) as f64).max(1.0 / self.neighbours.len().max(1) as f64)
    }

    /// Sends what a neighbour asked for, as far as its share goes.
    fn answer(&mut self, now: Instant, to: PeerId, message: &Message) {
        let payload = wire::encode(message);
        let (bytes, share) = (payload.len() as f64, self.answers_share(now));
        let per_second = self.config.send_bytes_per_second as f64 * share;
        // One whole datagram at least, else it would never go.
        let burst = (self.config.send_burst_bytes as f64 * share).max(self.config.packet_bytes_max as f64);
        let Some(neighbour) = self.neighbours.get_mut(&to) else { return };
        neighbour.answers.resize(now, per_second, burst);
        if neighbour.answers.take(now, bytes) && self.budget.take(now, bytes) {
            self.outputs.push_back(LinkStateOutput::Send { to, payload });
        }
    }

    /// Sends a datagram and pays for it; what is beyond the budget is not sent, since everything is said again later.
    fn send(&mut self, now: Instant, to: PeerId, message: &Message) {
        let payload = wire::encode(message);
        if self.budget.take(now, payload.len() as f64) {
            self.outputs.push_back(LinkStateOutput::Send { to, payload });
        }
    }
}

/// For so many of the intervals between comparisons a neighbour is new with which no comparison ends in agreement: one that excluded a node
/// which is known here never agrees.
const NEW_FOR: u32 = 12;
/// What part of the budget answers take when few neighbours ask: news has the rest.
const ANSWERS_SHARE: f64 = 0.5;
/// What the carrier takes at most.
const PACKET_BYTES_MAX: u64 = 16 << 10;
/// What a neighbour pays for each node that is looked through for it, in bytes.
const BYTES_PER_NODE: usize = 16;
/// Bytes of a datagram besides the announcements in it, at most.
const PACKET_BYTES_BESIDES: usize = 8;

impl std::fmt::Debug for LinkState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkState")
            .field("own", &self.own)
            .field("stamp", &self.stamp)
            .field("neighbours", &self.neighbours.len())
            .field("known", &self.known())
            .field("refusals", &self.refusals)
            .finish_non_exhaustive()
    }
}
