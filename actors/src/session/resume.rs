//! Resume tickets by their id (`docs/wire.md`, "Attaching and resuming").
//!
//! Tickets ratchet. Every link, full or attached, derives a new one on both sides, and each side keeps it only when the first record of
//! that link has opened ([`ResumeStore::confirm`]): the responder then knows that ATTACH was no replay, and the initiator that the
//! responder has the new ticket too, because the responder sends nothing before. From then on the ticket that was used is valid only for
//! [`ResumeLimits::overlap`], for links that were being attached with it at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::wire::TicketId;

use super::handshake::ResumeTicket;

/// Bounds of a [`ResumeStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumeLimits {
    /// Tickets in total; default 4,096. At the bound the one that expires first makes room.
    pub tickets: usize,
    /// Tickets per peer; default 8, so that one peer cannot push the others' out.
    pub per_peer: usize,
    /// How long a ticket is valid; default 24 hours. A stolen one is worth nothing after that.
    pub lifetime: Duration,
    /// How long a ticket stays valid after its successor was confirmed; default 30 s.
    pub overlap: Duration,
}

impl Default for ResumeLimits {
    fn default() -> Self {
        Self { tickets: 4096, per_peer: 8, lifetime: Duration::from_secs(24 * 3600), overlap: Duration::from_secs(30) }
    }
}

#[derive(Debug)]
struct Entry {
    ticket: ResumeTicket,
    expires: Instant,
    /// Order of arrival: the newest of a peer is the one to use.
    order: u64,
}

/// The tickets that are valid, for both roles.
#[derive(Debug, Default)]
pub struct ResumeStore {
    limits: ResumeLimits,
    tickets: BTreeMap<TicketId, Entry>,
    /// Few of each peer, so a vector.
    by_peer: BTreeMap<PeerId, Vec<TicketId>>,
    by_expiry: BTreeSet<(Instant, TicketId)>,
    order: u64,
}

impl ResumeStore {
    /// An empty store.
    pub fn new(limits: ResumeLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Keeps the ticket of a link whose first record has opened, and lets the one that was used for it run out.
    pub fn confirm(&mut self, ticket: ResumeTicket, replaces: Option<TicketId>, now: Instant) {
        self.expire(now);
        if let Some(old) = replaces {
            self.shorten(&old, now + self.limits.overlap);
        }
        let (id, peer) = (ticket.id, ticket.peer);
        self.remove(&id);
        while self.by_peer.get(&peer).is_some_and(|ids| ids.len() >= self.limits.per_peer.max(1)) {
            let oldest = self.of_peer(&peer).min_by_key(|entry| entry.order).map(|entry| entry.ticket.id);
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
        while self.tickets.len() >= self.limits.tickets.max(1) {
            let Some((_, first)) = self.by_expiry.first().copied() else { break };
            self.remove(&first);
        }
        let expires = now + self.limits.lifetime;
        self.order += 1;
        self.tickets.insert(id, Entry { ticket, expires, order: self.order });
        self.by_peer.entry(peer).or_default().push(id);
        self.by_expiry.insert((expires, id));
    }

    /// The ticket with this id, while it is valid.
    pub fn lookup(&self, id: &TicketId, now: Instant) -> Option<ResumeTicket> {
        self.tickets.get(id).filter(|entry| entry.expires > now).map(|entry| entry.ticket.clone())
    }

    /// The newest ticket for a peer: the one to dial with.
    pub fn for_peer(&self, peer: &PeerId, now: Instant) -> Option<ResumeTicket> {
        self.of_peer(peer)
            .filter(|entry| entry.expires > now)
            .max_by_key(|entry| entry.order)
            .map(|entry| entry.ticket.clone())
    }

    /// Forgets a ticket: the other side does not know it.
    pub fn remove(&mut self, id: &TicketId) {
        let Some(entry) = self.tickets.remove(id) else { return };
        self.by_expiry.remove(&(entry.expires, *id));
        if let Some(ids) = self.by_peer.get_mut(&entry.ticket.peer) {
            ids.retain(|known| known != id);
            if ids.is_empty() {
                self.by_peer.remove(&entry.ticket.peer);
            }
        }
    }

    /// Forgets every ticket of a peer: it is excluded.
    pub fn forget_peer(&mut self, peer: &PeerId) {
        for id in self.by_peer.get(peer).cloned().unwrap_or_default() {
            self.remove(&id);
        }
    }

    /// Forgets what has expired.
    pub fn expire(&mut self, now: Instant) {
        while let Some((at, id)) = self.by_expiry.first().copied() {
            if at > now {
                break;
            }
            self.remove(&id);
        }
    }

    /// Tickets held.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    fn of_peer(&self, peer: &PeerId) -> impl Iterator<Item = &Entry> {
        self.by_peer.get(peer).into_iter().flatten().filter_map(|id| self.tickets.get(id))
    }

    fn shorten(&mut self, id: &TicketId, until: Instant) {
        let Some(entry) = self.tickets.get_mut(id) else { return };
        if until < entry.expires {
            self.by_expiry.remove(&(entry.expires, *id));
            entry.expires = until;
            self.by_expiry.insert((until, *id));
        }
    }
}
