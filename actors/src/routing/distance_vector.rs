//! Distances told from neighbour to neighbour, for where the shape of the network is not known.
//!
//! Loop-free at every moment, as DUAL and Babel are (RFC 8966, sections 2.4 and 3.5): a neighbour's offer may be used only if it is
//! better than the best this node ever told others (its *feasibility distance*), or newer. Numbers that only the destination gives
//! tell what is newer; who is left without a usable offer asks the destination for a new one.
//!
//! A neighbour that lies gets traffic, as everywhere distances are believed; so this is a fall-back behind the signed view. Peers that it
//! invents take no room from those that others tell of (`Owners`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;

use super::destinations::{Owners, Retired, Told};
use super::wire::{DISTANCES_MAX, Distance, VectorMessage};

/// Changes are collected for this long before they are told: one message instead of many, and no storm where a link flaps.
const COLLECT: Duration = Duration::from_millis(100);
/// An offer that was not told again for this many intervals is none any more (RFC 8966, appendix B).
const OFFER_INTERVALS: u32 = 4;
/// What was told of a peer is remembered for this many intervals after the last offer: longer than old news can be on their way.
const MEMORY_INTERVALS: u32 = 18;
/// Peers that had to make room of which it is remembered what was told, for each one that is kept.
const RETIRED_FOR_EACH: usize = 4;
/// A request is made again after this long at the latest.
const ASK_AGAIN: Duration = Duration::from_millis(2_500);
/// Nodes that pass a request on.
const REQUEST_HOPS: u8 = 32;

/// Something to tell a neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tell {
    /// The neighbour.
    pub to: PeerId,
    /// What.
    pub message: VectorMessage,
}

#[derive(Debug, Clone, Copy)]
struct Offer {
    seqno: u16,
    metric: u32,
    until: Instant,
}

#[derive(Debug)]
struct Known {
    told: Option<Told>,
    offers: BTreeMap<PeerId, Offer>,
    selected: Option<PeerId>,
    /// A number that was asked for, and until when the answer is waited for.
    asked: Option<(u16, Instant)>,
    forget: Instant,
}

/// The distances of one node.
#[derive(Debug)]
pub struct DistanceVector {
    local: PeerId,
    seqno: u16,
    peers_max: usize,
    interval: Duration,
    neighbours: BTreeMap<PeerId, u32>,
    known: BTreeMap<PeerId, Known>,
    /// By which neighbour each of them came.
    owners: Owners,
    /// What was told of those that had to make room.
    retired: Retired,
    changed: BTreeSet<PeerId>,
    flush: Option<Instant>,
    periodic: Option<Instant>,
    refused: u64,
}

/// Whether `a` is newer than `b`, in numbers that begin again after the last (RFC 8966, section 3.2.1).
const fn newer(a: u16, b: u16) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 15
}

impl DistanceVector {
    /// A node without neighbours. `seqno` is any number; other than in its last life if that is possible.
    pub const fn new(local: PeerId, seqno: u16, peers_max: usize, interval: Duration) -> Self {
        Self {
            local,
            seqno,
            peers_max,
            interval,
            neighbours: BTreeMap::new(),
            known: BTreeMap::new(),
            owners: Owners::new(),
            retired: Retired::new(peers_max.saturating_mul(RETIRED_FOR_EACH)),
            changed: BTreeSet::new(),
            flush: None,
            periodic: None,
            refused: 0,
        }
    }

    /// A neighbour has come, or its cost has changed.
    pub fn on_neighbour(&mut self, now: Instant, peer: PeerId, cost: u32) -> Vec<Tell> {
        let new = self.neighbours.insert(peer, cost.max(1)).is_none();
        self.periodic.get_or_insert(now + self.interval);
        self.select_all(now);
        if new { self.all_distances().map(|message| Tell { to: peer, message }).collect() } else { Vec::new() }
    }

    /// A neighbour is gone.
    pub fn on_neighbour_lost(&mut self, now: Instant, peer: &PeerId) -> Vec<Tell> {
        self.neighbours.remove(peer);
        for known in self.known.values_mut() {
            known.offers.remove(peer);
        }
        let known = &self.known;
        self.owners.on_neighbour_lost(peer, |peer| known.get(peer)?.offers.keys().next().copied());
        self.select_all(now)
    }

    /// A neighbour says something.
    pub fn on_message(&mut self, now: Instant, from: PeerId, message: VectorMessage) -> Vec<Tell> {
        if !self.neighbours.contains_key(&from) {
            return Vec::new();
        }
        match message {
            VectorMessage::Update(distances) => {
                distances.into_iter().take(DISTANCES_MAX).flat_map(|told| self.on_distance(now, from, told)).collect()
            }
            VectorMessage::Request { destination, seqno, hops } => {
                self.on_request(now, from, PeerId::from_bytes(destination), seqno, hops)
            }
        }
    }

    /// Tells what is due.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<Tell> {
        let mut tells = Vec::new();
        if self.periodic.is_some_and(|at| at <= now) {
            self.periodic = (!self.neighbours.is_empty()).then_some(now + self.interval);
            self.forget_old(now);
            tells.extend(self.select_all(now));
            let messages: Vec<VectorMessage> = self.all_distances().collect();
            self.changed.clear();
            self.flush = None;
            tells.extend(self.to_all(messages));
        }
        if self.flush.is_some_and(|at| at <= now) {
            self.flush = None;
            let changed = std::mem::take(&mut self.changed);
            let distances: Vec<Distance> = changed.iter().filter_map(|peer| self.distance(peer)).collect();
            let messages = distances.chunks(DISTANCES_MAX).map(|part| VectorMessage::Update(part.to_vec())).collect();
            tells.extend(self.to_all(messages));
        }
        tells
    }

    /// When [`DistanceVector::on_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.periodic.into_iter().chain(self.flush).min()
    }

    /// The neighbour to which packets for a peer go: the best of those that cannot lead back, `except` left out.
    pub fn next_hop(&self, to: &PeerId, except: Option<&PeerId>) -> Option<PeerId> {
        let known = self.known.get(to)?;
        if known.selected.is_some() && known.selected.as_ref() != except {
            return known.selected;
        }
        self.usable(known).filter(|(_, peer)| Some(peer) != except).min().map(|(_, peer)| peer)
    }

    /// Peers of which anything is remembered.
    pub fn peers(&self) -> usize {
        self.known.len()
    }

    /// Distances of peers for which there was no room.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn on_distance(&mut self, now: Instant, from: PeerId, distance: Distance) -> Vec<Tell> {
        let peer = PeerId::from_bytes(distance.destination);
        if peer == self.local {
            return Vec::new();
        }
        if !self.known.contains_key(&peer) {
            if distance.metric == Distance::UNREACHABLE {
                return Vec::new();
            }
            if self.known.len() >= self.peers_max && !self.make_room(now, from) {
                self.refused += 1;
                return Vec::new();
            }
        }
        let told = self.retired.take(&peer);
        let forget = now + self.interval * MEMORY_INTERVALS;
        let known = self.known.entry(peer).or_insert_with(|| Known {
            told,
            offers: BTreeMap::new(),
            selected: None,
            asked: None,
            forget,
        });
        known.forget = forget;
        // Numbers of one neighbour never fall as long as it remembers: this was overtaken on its way.
        let overtaken = known.offers.get(&from).is_some_and(|offer| newer(offer.seqno, distance.seqno));
        if overtaken {
            return Vec::new();
        }
        if distance.metric == Distance::UNREACHABLE {
            known.offers.remove(&from);
        } else {
            let until = now + self.interval * OFFER_INTERVALS;
            if self.owners.of(&peer).is_none_or(|owner| !known.offers.contains_key(&owner)) {
                self.owners.give(peer, Some(from));
            }
            known.offers.insert(from, Offer { seqno: distance.seqno, metric: distance.metric, until });
        }
        self.select(now, peer)
    }

    /// Forgets a peer that nobody tells of any more, or one of the neighbour that told of the most, so that another has room for as many;
    /// false when that is the one that wants room.
    fn make_room(&mut self, now: Instant, from: PeerId) -> bool {
        let Some(peer) = self.owners.give_way(&from) else { return false };
        if let Some(Known { told: Some(told), .. }) = self.known.remove(&peer) {
            self.retired.put(peer, told, now + self.interval * MEMORY_INTERVALS);
            self.change(now, peer);
        }
        true
    }

    fn on_request(&mut self, now: Instant, from: PeerId, peer: PeerId, seqno: u16, hops: u8) -> Vec<Tell> {
        if peer == self.local {
            if newer(seqno, self.seqno) {
                // A node that was started anew may be far behind what others remember; one step at a time would take for ever.
                self.seqno = seqno;
                self.change(now, peer);
            }
            return Vec::new();
        }
        let Some(known) = self.known.get_mut(&peer) else { return Vec::new() };
        let fresh = known.selected.and_then(|by| known.offers.get(&by)).is_some_and(|offer| !newer(seqno, offer.seqno));
        if fresh {
            let told = self.distance(&peer);
            return told
                .map(|told| Tell { to: from, message: VectorMessage::Update(vec![told]) })
                .into_iter()
                .collect();
        }
        self.ask(now, peer, seqno, hops.min(REQUEST_HOPS).saturating_sub(1), Some(from))
    }

    /// Asks for a newer number, once at a time.
    fn ask(&mut self, now: Instant, peer: PeerId, seqno: u16, hops: u8, except: Option<PeerId>) -> Vec<Tell> {
        let Some(known) = self.known.get_mut(&peer) else { return Vec::new() };
        if hops == 0 || known.asked.is_some_and(|(asked, until)| now < until && !newer(seqno, asked)) {
            return Vec::new();
        }
        let via: Vec<PeerId> = match known.selected {
            Some(by) if Some(by) != except => vec![by],
            Some(_) | None => known.offers.keys().copied().filter(|by| Some(*by) != except).collect(),
        };
        if via.is_empty() {
            return Vec::new();
        }
        known.asked = Some((seqno, now + (self.interval / 4).min(ASK_AGAIN)));
        let message = VectorMessage::Request { destination: *peer.as_bytes(), seqno, hops };
        via.into_iter().map(|to| Tell { to, message: message.clone() }).collect()
    }

    fn select_all(&mut self, now: Instant) -> Vec<Tell> {
        let peers: Vec<PeerId> = self.known.keys().copied().collect();
        peers.into_iter().flat_map(|peer| self.select(now, peer)).collect()
    }

    /// Offers that cannot lead back here, with the cost of the route over each.
    fn usable<'a>(&'a self, known: &'a Known) -> impl Iterator<Item = (u32, PeerId)> + 'a {
        known.offers.iter().filter_map(|(by, offer)| {
            let cost = self.neighbours.get(by)?;
            let metric = offer.metric.checked_add(*cost).filter(|metric| *metric < Distance::UNREACHABLE)?;
            let feasible = known.told.is_none_or(|told| {
                newer(offer.seqno, told.seqno) || (offer.seqno == told.seqno && offer.metric < told.metric)
            });
            feasible.then_some((metric, *by))
        })
    }

    fn select(&mut self, now: Instant, peer: PeerId) -> Vec<Tell> {
        let Some(known) = self.known.get(&peer) else { return Vec::new() };
        let best = self.usable(known).min();
        let before = known.selected;
        let Some(known) = self.known.get_mut(&peer) else { return Vec::new() };
        known.selected = best.map(|(_, by)| by);
        let Some((metric, by)) = best else {
            let (told, left) = (known.told, !known.offers.is_empty());
            if before.is_some() {
                self.change(now, peer);
            }
            return match told {
                Some(told) if left => self.ask(now, peer, told.seqno.wrapping_add(1), REQUEST_HOPS, None),
                Some(_) | None => Vec::new(),
            };
        };
        let seqno = known.offers.get(&by).map_or(0, |offer| offer.seqno);
        // From now on others may count on this distance, so nothing longer is usable under the same number.
        let told = Told { seqno, metric };
        let better =
            known.told.is_none_or(|old| newer(seqno, old.seqno) || (seqno == old.seqno && metric < old.metric));
        let news = better || before != Some(by);
        if better {
            known.told = Some(told);
        }
        if known.asked.is_some_and(|(asked, _)| !newer(asked, seqno)) {
            known.asked = None;
        }
        if news {
            self.change(now, peer);
        }
        Vec::new()
    }

    fn change(&mut self, now: Instant, peer: PeerId) {
        self.changed.insert(peer);
        self.flush.get_or_insert(now + COLLECT);
    }

    /// What this node says of a peer.
    fn distance(&self, peer: &PeerId) -> Option<Distance> {
        let destination = *peer.as_bytes();
        if *peer == self.local {
            return Some(Distance { destination, seqno: self.seqno, metric: 0 });
        }
        let Some(known) = self.known.get(peer) else {
            let told = self.retired.told(peer)?;
            return Some(Distance { destination, seqno: told.seqno, metric: Distance::UNREACHABLE });
        };
        let offer = known.selected.and_then(|by| Some((known.offers.get(&by)?, self.neighbours.get(&by)?)));
        Some(match offer {
            Some((offer, cost)) => {
                Distance { destination, seqno: offer.seqno, metric: offer.metric.saturating_add(*cost) }
            }
            None => {
                Distance { destination, seqno: known.told.map_or(0, |told| told.seqno), metric: Distance::UNREACHABLE }
            }
        })
    }

    fn all_distances(&self) -> impl Iterator<Item = VectorMessage> {
        let made_room = self.changed.iter().filter(|peer| !self.known.contains_key(*peer) && **peer != self.local);
        let peers = std::iter::once(&self.local).chain(self.known.keys()).chain(made_room);
        let all: Vec<Distance> = peers.filter_map(|peer| self.distance(peer)).collect();
        let parts: Vec<VectorMessage> =
            all.chunks(DISTANCES_MAX).map(|part| VectorMessage::Update(part.to_vec())).collect();
        parts.into_iter()
    }

    fn to_all(&self, messages: Vec<VectorMessage>) -> Vec<Tell> {
        let tell =
            |to: &PeerId| messages.iter().map(|message| Tell { to: *to, message: message.clone() }).collect::<Vec<_>>();
        self.neighbours.keys().flat_map(tell).collect()
    }

    fn forget_old(&mut self, now: Instant) {
        for known in self.known.values_mut() {
            known.offers.retain(|_, offer| now < offer.until);
        }
        self.known.retain(|_, known| !known.offers.is_empty() || now < known.forget);
        let known = &self.known;
        self.owners.retain(|peer| known.contains_key(peer));
        self.retired.forget_old(now);
    }
}
