//! How two neighbours find out what the other lacks: digests of parts of the range of names, then listings of the parts that differ.

use std::collections::BTreeSet;
use std::time::Instant;

use bowline_messages::PeerId;

use super::database::Database;
use super::wire::{Message, Name, PARTS_MAX};

/// Nodes for each part of the range, roughly: more parts make comparisons dearer, fewer make listings longer.
const NODES_PER_PART: usize = 8;
/// Bytes of an entry of a listing at most: a name and two numbers.
const ENTRY_BYTES: usize = 32 + 2 * 10;
/// Bytes of a listing besides its entries, at most.
const LISTING_BYTES: usize = 96;

/// A comparison of all that is known.
pub(super) fn comparison(database: &Database, salt: u64) -> Message {
    let parts = (database.len() / NODES_PER_PART).next_power_of_two().min(PARTS_MAX);
    Message::Compare { salt, digests: digests(database, salt, parts) }
}

/// The names of a part, of so many; a number of parts that is a power of two up to 256.
pub(super) fn part(part: usize, parts: usize) -> (PeerId, PeerId) {
    let width = 256 / parts;
    let (mut from, mut to) = ([0; 32], [0xff; 32]);
    from[0] = (part * width) as u8;
    to[0] = (part * width + width - 1) as u8;
    (PeerId::from_bytes(from), PeerId::from_bytes(to))
}

/// A digest of each part.
pub(super) fn digests(database: &Database, salt: u64, parts: usize) -> Vec<u64> {
    let digest = |number| {
        let (from, to) = part(number, parts);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&salt.to_be_bytes());
        for (peer, stamp) in database.stamps(from..=to) {
            hasher.update(peer.as_bytes());
            hasher.update(&stamp.incarnation.to_be_bytes());
            hasher.update(&stamp.sequence.to_be_bytes());
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_be_bytes(first)
    };
    (0..parts).map(digest).collect()
}

/// Whether so many parts can be compared.
pub(super) fn possible(parts: usize) -> bool {
    parts.is_power_of_two() && parts <= PARTS_MAX
}

/// Listings of a range, as many as it takes for each to fit a datagram. One at least: that nothing is known is worth saying.
pub(super) fn listings(
    database: &Database,
    from: PeerId,
    to: PeerId,
    answer: bool,
    packet_bytes: usize,
) -> Vec<Message> {
    let most = (packet_bytes.saturating_sub(LISTING_BYTES) / ENTRY_BYTES).max(1);
    let entry = |(peer, stamp): (PeerId, super::Stamp)| (*peer.as_bytes(), stamp.incarnation, stamp.sequence);
    let entries: Vec<(Name, u64, u64)> = database.stamps(from..=to).map(entry).collect();
    let pages = entries.len().div_ceil(most).max(1);
    let mut start = *from.as_bytes();
    let mut listings = Vec::with_capacity(pages);
    for page in 0..pages {
        let end = entries.len().min((page + 1) * most);
        let entries = entries[page * most..end].to_vec();
        let last = page + 1 == pages;
        let stop = entries.last().filter(|_| !last).map_or(*to.as_bytes(), |(name, _, _)| *name);
        listings.push(Message::Listing { answer, from: start, to: stop, entries });
        start = after(stop);
    }
    listings
}

/// The name after a name; the last one has none and stays.
fn after(mut name: Name) -> Name {
    for byte in name.iter_mut().rev() {
        let (next, wrapped) = byte.overflowing_add(1);
        *byte = next;
        if !wrapped {
            return name;
        }
    }
    [0xff; 32]
}

/// What a listing of the other side means here.
pub(super) struct Difference {
    /// Nodes of which more is known here.
    pub(super) lacking_there: Vec<PeerId>,
    /// Whether the other side knows more of some node.
    pub(super) lacking_here: bool,
}

/// Compares a listing with what is known; none when it is out of order or out of its range. Of the excluded nothing is lacking.
pub(super) fn difference(
    database: &Database,
    now: Instant,
    range: (PeerId, PeerId),
    entries: &[(Name, u64, u64)],
    excluded: &BTreeSet<PeerId>,
) -> Option<Difference> {
    let (from, to) = range;
    let ordered = entries.windows(2).all(|two| two[0].0 < two[1].0);
    let inside = |(name, _, _): &(Name, u64, u64)| name >= from.as_bytes() && name <= to.as_bytes();
    if from > to || !ordered || !entries.iter().all(inside) {
        return None;
    }
    let stamp_of = |incarnation, sequence| super::Stamp { incarnation, sequence };
    let there = |peer: &PeerId| {
        let at = entries.binary_search_by(|(name, _, _)| name.cmp(peer.as_bytes())).ok()?;
        entries.get(at).map(|(_, incarnation, sequence)| stamp_of(*incarnation, *sequence))
    };
    let lacking_there =
        database.stamps(from..=to).filter(|(peer, stamp)| Some(*stamp) > there(peer)).map(|(peer, _)| peer).collect();
    let lacking_here = entries.iter().any(|(name, incarnation, sequence)| {
        let peer = PeerId::from_bytes(*name);
        Some(stamp_of(*incarnation, *sequence)) > database.newest(now, &peer) && !excluded.contains(&peer)
    });
    Some(Difference { lacking_there, lacking_here })
}
