//! Whom the peer book and commands want to be connected to, and what a changed peer book changes about it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bowline_messages::config::{PeerBook, PeerEntry, PeerTrust};
use bowline_messages::{EndpointAddress, PeerId};

/// Peers that commands connected to since the node started, and the addresses these gave, besides those of the peer book.
pub(super) type Commanded = BTreeMap<PeerId, BTreeSet<EndpointAddress>>;

/// What is to be done about one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seeking {
    /// It is to be sought there and nowhere else.
    At(Vec<EndpointAddress>),
    /// It is not to be sought any more.
    NoMore,
}

/// Where a peer is to be sought: at the addresses of its entry, if that says so or a command named the peer, and where commands said.
pub(super) fn sought(entry: Option<&PeerEntry>, commanded: Option<&BTreeSet<EndpointAddress>>) -> Vec<EndpointAddress> {
    let entry = entry.filter(|entry| entry.trust == PeerTrust::Allow && (entry.connect || commanded.is_some()));
    let mut addresses = entry.map(|entry| entry.addresses.clone()).unwrap_or_default();
    let more = commanded.into_iter().flatten().filter(|address| !addresses.contains(address));
    let more: Vec<_> = more.cloned().collect();
    addresses.extend(more);
    addresses
}

/// What follows from a peer book that was `before` and is `after` now. A peer that a command connected to and that is not in the book
/// any more is left alone: the command holds until the node ends.
pub(super) fn plan(before: &PeerBook, after: &PeerBook, commanded: &Commanded) -> Vec<(PeerId, Seeking)> {
    let entry_of = |book: &'_ PeerBook, peer: &PeerId| book.values().find(|entry| entry.id == *peer).cloned();
    let peers: BTreeSet<PeerId> = before.values().chain(after.values()).map(|entry| entry.id).collect();
    let step = |peer: PeerId| {
        let (old, new, by_command) = (entry_of(before, &peer), entry_of(after, &peer), commanded.get(&peer));
        if new.is_none() && by_command.is_some() {
            return None;
        }
        let now = sought(new.as_ref(), by_command);
        match now.is_empty() {
            false => Some((peer, Seeking::At(now))),
            true => (!sought(old.as_ref(), by_command).is_empty()).then_some((peer, Seeking::NoMore)),
        }
    };
    peers.into_iter().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn at(texts: &[&str]) -> Vec<EndpointAddress> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn entry(addresses: &[&str]) -> PeerEntry {
        PeerEntry { id: peer(1), addresses: at(addresses), trust: PeerTrust::Allow, connect: true }
    }

    fn book(entry: PeerEntry) -> PeerBook {
        PeerBook::from([("laptop".to_owned(), entry)])
    }

    #[test]
    fn an_entry_that_is_gone_or_says_no_more_ends_the_seeking() {
        let (full, none) = (book(entry(&["tcp://a:1", "tcp://b:1"])), Commanded::new());
        let at_both = vec![(peer(1), Seeking::At(at(&["tcp://a:1", "tcp://b:1"])))];
        assert_eq!(plan(&PeerBook::new(), &full, &none), at_both);
        let smaller = book(entry(&["tcp://b:1"]));
        assert_eq!(plan(&full, &smaller, &none), [(peer(1), Seeking::At(at(&["tcp://b:1"])))]);
        let silent = book(PeerEntry { connect: false, ..entry(&["tcp://a:1"]) });
        let denied = book(PeerEntry { trust: PeerTrust::Deny, ..entry(&["tcp://a:1"]) });
        for after in [PeerBook::new(), silent.clone(), denied, book(entry(&[]))] {
            assert_eq!(plan(&full, &after, &none), [(peer(1), Seeking::NoMore)]);
        }
        // One that was never sought is left alone: it may be between two of its own links.
        assert_eq!(plan(&silent, &PeerBook::new(), &none), []);
        assert_eq!(plan(&silent, &full, &none), at_both);
    }

    #[test]
    fn what_a_command_said_holds_whatever_becomes_of_the_book() {
        let full = book(entry(&["tcp://a:1"]));
        let by_name = Commanded::from([(peer(1), BTreeSet::new())]);
        assert_eq!(plan(&full, &PeerBook::new(), &by_name), []);
        let silent = book(PeerEntry { connect: false, ..entry(&["tcp://b:1"]) });
        assert_eq!(plan(&full, &silent, &by_name), [(peer(1), Seeking::At(at(&["tcp://b:1"])))]);
        let elsewhere = Commanded::from([(peer(1), at(&["tcp://c:1"]).into_iter().collect())]);
        assert_eq!(plan(&full, &silent, &elsewhere), [(peer(1), Seeking::At(at(&["tcp://b:1", "tcp://c:1"])))]);
    }
}
