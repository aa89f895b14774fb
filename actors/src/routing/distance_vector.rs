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

/// All the distances that a node keeps may be told to it so many times a second: at once when a session begins, and again while better ways
/// are found or it asks for numbers. What is beyond is not looked at.
pub(super) const TABLES_PER_SECOND: u32 = 4;
/// Changes are collected for this long before they are told: one message instead of many, and no storm where a link flaps.
const COLLECT: Duration = Duration::from_millis(100);
/// All distances that are kept are told so many times a second at most: half of what neighbours take, however often this node is told of
/// changes, so that they refuse nothing of it. What changes meanwhile is told together.
const TABLES_TOLD_PER_SECOND: u32 = TABLES_PER_SECOND / 2;
/// An offer that was not told again for this many intervals is none any more (RFC 8966, appendix B).
const OFFER_INTERVALS: u32 = 4;
/// What was told of a peer is remembered for this many intervals after the last offer: longer than old news can be on their way.
const MEMORY_INTERVALS: u32 = 18;
/// Peers that had to make room of which it is remembered what was told, for each one that is kept.
const RETIRED_FOR_EACH: usize = 4;
/// A peer is asked for a newer number again after this long, or a quarter of the interval where that is less. Whatever number others want
/// of it meanwhile waits until then: each request is passed on through the network and its answer told to everybody.
const ASK_AGAIN: Duration = Duration::from_millis(2_500);
/// This node gives itself a newer number no oftener, for the same reason.
const RAISE_AGAIN: Duration = Duration::from_secs(1);
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
    asked: Option<Asked>,
    forget: Instant,
}

/// A number that a peer was asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    seqno: u16,
    /// Nodes that might pass the request on.
    hops: u8,
    /// It is asked for nothing before.
    until: Instant,
    /// What was wanted meanwhile.
    next: Option<Wanted>,
}

/// A number that is wanted of a peer.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    seqno: u16,
    /// Nodes that may still pass the request on.
    hops: u8,
    /// The neighbour that wants it, if it is not this node.
    by: Option<PeerId>,
}

impl Wanted {
    /// One request for both: for the newest number, as far as either goes. So nobody keeps others from asking by a request that ends early.
    fn and(self, other: Self) -> Self {
        let newest = if newer(other.seqno, self.seqno) { other.seqno } else { self.seqno };
        let farthest = if other.hops > self.hops { other } else { self };
        // With a way of its own this node still has to pass on what others want.
        Self { seqno: newest, by: farthest.by.or(self.by).or(other.by), ..farthest }
    }
}

/// The distances of one node.
#[derive(Debug)]
pub struct DistanceVector {
    local: PeerId,
    seqno: u16,
    /// When it got that number, if others made it do so, and the one that was asked for since.
    raised: Option<Instant>,
    wanted: Option<u16>,
    peers_max: usize,
    interval: Duration,
    /// Whether others are told ways through this node.
    relays: bool,
    neighbours: BTreeMap<PeerId, u32>,
    known: BTreeMap<PeerId, Known>,
    /// By which neighbour each of them came.
    owners: Owners,
    /// What was told of those that had to make room.
    retired: Retired,
    /// Peers of which something is wanted, by when they may be asked again.
    asks: BTreeSet<(Instant, PeerId)>,
    changed: BTreeSet<PeerId>,
    flush: Option<Instant>,
    /// Until when changes are not told, after what was told last.
    told_until: Option<Instant>,
    periodic: Option<Instant>,
    refused: u64,
}

/// Whether `a` is newer than `b`, in numbers that begin again after the last (RFC 8966, section 3.2.1).
const fn newer(a: u16, b: u16) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 15
}

/// How many distances count as all that are kept, where there is room for those of so many peers: one message at least.
pub(super) fn table(peers_max: usize) -> usize {
    peers_max.max(DISTANCES_MAX)
}

fn updates(distances: &[Distance]) -> impl Iterator<Item = VectorMessage> {
    distances.chunks(DISTANCES_MAX).map(|part| VectorMessage::Update(part.to_vec()))
}

impl DistanceVector {
    /// A node without neighbours. `seqno` is any number; other than in its last life if that is possible.
    pub const fn new(local: PeerId, seqno: u16, peers_max: usize, interval: Duration) -> Self {
        Self {
            local,
            seqno,
            raised: None,
            wanted: None,
            peers_max,
            interval,
            relays: true,
            neighbours: BTreeMap::new(),
            known: BTreeMap::new(),
            owners: Owners::new(),
            retired: Retired::new(peers_max.saturating_mul(RETIRED_FOR_EACH)),
            asks: BTreeSet::new(),
            changed: BTreeSet::new(),
            flush: None,
            told_until: None,
            periodic: None,
            refused: 0,
        }
    }

    /// The same of a node that passes on nothing: it tells the way to itself and to nobody else.
    pub fn relaying_nothing(self) -> Self {
        Self { relays: false, ..self }
    }

    /// A neighbour has come, or its cost has changed.
    pub fn on_neighbour(&mut self, now: Instant, peer: PeerId, cost: u32) -> Vec<Tell> {
        let new = self.neighbours.insert(peer, cost.max(1)).is_none();
        self.periodic.get_or_insert(now + self.interval);
        let mut tells = self.select_all(now);
        if new {
            tells.extend(updates(&self.all_distances()).map(|message| Tell { to: peer, message }));
        }
        tells
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
        self.raise(now);
        while let Some((at, peer)) = self.asks.first().copied().filter(|(at, _)| *at <= now) {
            self.asks.remove(&(at, peer));
            let next = self.known.get_mut(&peer).and_then(|known| known.asked.as_mut()?.next.take());
            let has_way = self.known.get(&peer).is_some_and(|known| known.selected.is_some());
            let open = |wanted: &Wanted| match wanted.by {
                Some(_) => !self.is_fresh(&peer, wanted.seqno),
                None => !has_way,
            };
            if let Some(wanted) = next.filter(open) {
                tells.extend(self.ask(now, peer, wanted));
            }
        }
        if self.periodic.is_some_and(|at| at <= now) {
            self.periodic = (!self.neighbours.is_empty()).then_some(now + self.interval);
            self.forget_old(now);
            tells.extend(self.select_all(now));
            let distances = self.all_distances();
            self.changed.clear();
            self.flush = None;
            tells.extend(self.tell_all(now, &distances));
        }
        if self.flush.is_some_and(|at| at <= now) {
            self.flush = None;
            let changed = std::mem::take(&mut self.changed);
            let distances: Vec<Distance> = changed.iter().filter_map(|peer| self.distance(peer)).collect();
            tells.extend(self.tell_all(now, &distances));
        }
        tells
    }

    /// When [`DistanceVector::on_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let raise = self.wanted.and(self.raised).map(|raised| raised + RAISE_AGAIN);
        let ask = self.asks.first().map(|(at, _)| *at);
        [self.periodic, self.flush, raise, ask].into_iter().flatten().min()
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
            // A node that was started anew may be far behind what others remember; one step at a time would take for ever.
            if newer(seqno, self.wanted.unwrap_or(self.seqno)) {
                self.wanted = Some(seqno);
                self.raise(now);
            }
            return Vec::new();
        }
        let Some(known) = self.known.get(&peer).filter(|_| self.relays) else { return Vec::new() };
        // What this node needs itself will do as well: so nobody keeps it from asking by wanting less.
        let own = known.told.filter(|_| known.selected.is_none()).map(|told| told.seqno.wrapping_add(1));
        let seqno = own.filter(|own| newer(*own, seqno)).unwrap_or(seqno);
        if self.is_fresh(&peer, seqno) {
            let told = self.distance(&peer);
            return told
                .map(|told| Tell { to: from, message: VectorMessage::Update(vec![told]) })
                .into_iter()
                .collect();
        }
        self.ask(now, peer, Wanted { seqno, hops: hops.min(REQUEST_HOPS).saturating_sub(1), by: Some(from) })
    }

    /// Gives this node the number that others asked it for, once it may have another.
    fn raise(&mut self, now: Instant) {
        if self.raised.is_some_and(|raised| now < raised + RAISE_AGAIN) {
            return;
        }
        if let Some(seqno) = self.wanted.take() {
            (self.seqno, self.raised) = (seqno, Some(now));
            self.change(now, self.local);
        }
    }

    /// Whether the way to a peer has this number, or a newer one.
    fn is_fresh(&self, peer: &PeerId, seqno: u16) -> bool {
        let offer = self.known.get(peer).and_then(|known| known.offers.get(&known.selected?));
        offer.is_some_and(|offer| !newer(seqno, offer.seqno))
    }

    /// Asks for a newer number, once at a time.
    fn ask(&mut self, now: Instant, peer: PeerId, wanted: Wanted) -> Vec<Tell> {
        let Some(known) = self.known.get_mut(&peer).filter(|_| wanted.hops > 0) else { return Vec::new() };
        if let Some(asked) = known.asked.as_mut().filter(|asked| now < asked.until) {
            let (seqno, hops) = asked.next.map_or((asked.seqno, asked.hops), |next| (next.seqno, next.hops));
            if newer(wanted.seqno, seqno) || wanted.hops > hops {
                asked.next = Some(asked.next.map_or(wanted, |next| next.and(wanted)));
                self.asks.insert((asked.until, peer));
            }
            return Vec::new();
        }
        let wanted = known.asked.and_then(|asked| asked.next).map_or(wanted, |next| next.and(wanted));
        let via: Vec<PeerId> = match known.selected {
            Some(by) if Some(by) != wanted.by => vec![by],
            Some(_) | None => known.offers.keys().copied().filter(|by| Some(*by) != wanted.by).collect(),
        };
        if via.is_empty() {
            return Vec::new();
        }
        let Wanted { seqno, hops, .. } = wanted;
        known.asked = Some(Asked { seqno, hops, until: now + (self.interval / 4).min(ASK_AGAIN), next: None });
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
                Some(told) if left => {
                    self.ask(now, peer, Wanted { seqno: told.seqno.wrapping_add(1), hops: REQUEST_HOPS, by: None })
                }
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
        if news {
            self.change(now, peer);
        }
        Vec::new()
    }

    fn change(&mut self, now: Instant, peer: PeerId) {
        self.changed.insert(peer);
        let collected = now + COLLECT;
        self.flush.get_or_insert(self.told_until.map_or(collected, |until| until.max(collected)));
    }

    /// What this node says of a peer; nothing of others where it is no way to them.
    fn distance(&self, peer: &PeerId) -> Option<Distance> {
        let destination = *peer.as_bytes();
        if *peer == self.local {
            return Some(Distance { destination, seqno: self.seqno, metric: 0 });
        }
        if !self.relays {
            return None;
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

    fn all_distances(&self) -> Vec<Distance> {
        let made_room = self.changed.iter().filter(|peer| !self.known.contains_key(*peer) && **peer != self.local);
        let peers = std::iter::once(&self.local).chain(self.known.keys()).chain(made_room);
        peers.filter_map(|peer| self.distance(peer)).collect()
    }

    /// Tells all neighbours these, and nothing more of what changes for as long as that takes at the rate that they keep up with.
    fn tell_all(&mut self, now: Instant, distances: &[Distance]) -> Vec<Tell> {
        let most = u32::try_from(table(self.peers_max)).unwrap_or(u32::MAX);
        let count = u32::try_from(distances.len()).unwrap_or(u32::MAX);
        self.told_until = Some(now + Duration::from_secs(1) * count / most / TABLES_TOLD_PER_SECOND);
        let messages: Vec<VectorMessage> = updates(distances).collect();
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
