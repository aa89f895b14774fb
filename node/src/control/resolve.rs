//! Whom the user means.

use std::collections::BTreeSet;

use bowline_messages::config::{PeerBook, suggest};
use bowline_messages::{EndpointAddress, PeerId, Ticket};

use crate::exit::{Exit, Failure};

/// Characters of an id that are enough to name a known peer by.
const PREFIX_CHARS_MIN: usize = 8;

/// A peer and where it can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The peer.
    pub(crate) peer: PeerId,
    /// From the peer book or the ticket.
    pub(crate) addresses: Vec<EndpointAddress>,
    /// Whether they are from a ticket.
    pub(crate) by_ticket: bool,
}

/// Whom a text means: a ticket, a name in the peer book, a peer id, or the beginning of the id of a peer in the book or one of `others`
/// (those with a session, say).
///
/// # Errors
/// [`Exit::Usage`] with what is wrong with the text.
pub(crate) fn resolve(
    text: &str,
    book: &PeerBook,
    others: impl IntoIterator<Item = PeerId>,
) -> Result<Resolved, Failure> {
    let text = text.trim();
    if Ticket::looks_like_one(text) {
        let ticket: Ticket = text.parse().map_err(|error| Failure::new(Exit::Usage, error))?;
        return Ok(Resolved { peer: ticket.peer, addresses: ticket.addresses, by_ticket: true });
    }
    if let Some(entry) = book.get(text) {
        return Ok(Resolved { peer: entry.id, addresses: entry.addresses.clone(), by_ticket: false });
    }
    let in_book = |peer: PeerId| {
        let entry = book.values().find(|entry| entry.id == peer);
        Resolved { peer, addresses: entry.map(|entry| entry.addresses.clone()).unwrap_or_default(), by_ticket: false }
    };
    if text.len() == PeerId::TEXT_CHARS {
        return text.parse().map(in_book).map_err(|error| Failure::new(Exit::Usage, error));
    }
    let known: BTreeSet<PeerId> = book.values().map(|entry| entry.id).chain(others).collect();
    let lowered = text.to_ascii_lowercase();
    let meant: Vec<PeerId> = known.into_iter().filter(|peer| peer.to_string().starts_with(&lowered)).collect();
    match meant[..] {
        [peer] if text.len() >= PREFIX_CHARS_MIN => Ok(in_book(peer)),
        [_, _, ..] if text.len() >= PREFIX_CHARS_MIN => {
            Err(Failure::new(Exit::Usage, format_args!("`{text}` is the beginning of {} ids", meant.len()))
                .hint("write more of it"))
        }
        _ => Err(unknown(text, book)),
    }
}

fn unknown(text: &str, book: &PeerBook) -> Failure {
    let failure = Failure::new(Exit::Usage, format_args!("no peer `{text}` is known"));
    match suggest(text, book.keys().map(String::as_str)) {
        Some(name) => failure.hint(format_args!("did you mean `{name}`?")),
        None => failure.hint(
            "a peer is its id, 8 or more first characters of the id of a known one, a name in the peer book, or a ticket",
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bowline_messages::config::{PeerEntry, PeerTrust};

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn book() -> PeerBook {
        let addresses = vec!["tcp://192.0.2.1:1".parse().unwrap()];
        let entry = PeerEntry { id: peer(1), addresses, trust: PeerTrust::Allow, connect: true };
        PeerBook::from([("laptop".to_owned(), entry)])
    }

    fn resolved(text: &str) -> Result<Resolved, Failure> {
        resolve(text, &book(), [peer(2), peer(1)])
    }

    #[test]
    fn a_peer_is_named_in_four_ways() {
        for text in
            ["laptop", &peer(1).to_string(), &peer(1).to_string()[..8], &peer(1).to_string().to_uppercase()[..12]]
        {
            let found = resolved(text).unwrap();
            assert_eq!((found.peer, found.addresses.len()), (peer(1), 1), "{text}");
        }
        assert_eq!(resolved(&peer(2).to_string()[..9]).unwrap().peer, peer(2));
        assert_eq!(resolved(&peer(3).to_string()).unwrap().peer, peer(3));
        let ticket = Ticket::new(peer(4), ["tcp://192.0.2.4:1".parse().unwrap()]);
        let found = resolved(&ticket.to_string()).unwrap();
        assert_eq!((found.peer, found.addresses), (ticket.peer, ticket.addresses));
    }

    #[test]
    fn what_names_nobody_is_a_usage_error_with_advice() {
        assert!(resolved("laptpo").unwrap_err().to_string().ends_with("did you mean `laptop`?"));
        assert!(resolved(&peer(3).to_string()[..8]).unwrap_err().to_string().contains("no peer"));
        assert!(resolved(&peer(1).to_string()[..7]).unwrap_err().to_string().contains("no peer"));
        let mistyped = peer(1).to_string().replace('a', "b");
        assert!(resolved(&mistyped).unwrap_err().to_string().contains("mistyped"));
        let ticket = Ticket::new(peer(4), []).to_string();
        assert!(resolved(&ticket[..ticket.len() - 1]).unwrap_err().to_string().contains("ticket"));
        for text in ["", " ", "x"] {
            assert_eq!(resolved(text).unwrap_err().exit, Exit::Usage);
        }
    }
}
