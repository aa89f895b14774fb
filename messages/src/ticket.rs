//! Tickets: a peer's key and addresses in one text to paste or scan.

use std::fmt;
use std::str::FromStr;

use crate::address::EndpointAddress;
use crate::id::{PeerId, base32};

/// What every ticket starts with: its name and the version of its format.
const PREFIX: &str = "bowline1";
/// Length of the checksum, in bytes.
const CHECKSUM_BYTES: usize = 4;
/// Context under which the checksum is derived, so that it fits no other format by accident.
const CHECKSUM_CONTEXT: &str = "bowline 2026 ticket checksum";

/// A peer and where it can be reached. Nothing in it is secret.
///
/// The text form is `bowline1` and lower-case base32 of: the 32 bytes of the key, the number of addresses (1 byte), each address
/// with its length (1 byte) in front, and a checksum of 4 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The peer.
    pub peer: PeerId,
    /// Where it can be reached, best first; at most [`Ticket::ADDRESSES_MAX`].
    pub addresses: Vec<EndpointAddress>,
}

/// Why a text is no ticket. The user's mistake; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not start like one.
    #[error("a ticket starts with {PREFIX}")]
    Prefix,
    /// It was mistyped or cut off.
    #[error("the ticket is mistyped or incomplete: its checksum does not fit")]
    Checksum,
    /// Its checksum fits and its content does not: made by another version, or by mistake.
    #[error("the ticket is malformed")]
    Malformed,
}

impl Ticket {
    /// Addresses in a ticket, at most: it is to be pasted, not read.
    pub const ADDRESSES_MAX: usize = 16;

    /// A ticket with the first [`Ticket::ADDRESSES_MAX`] of the addresses.
    pub fn new(peer: PeerId, addresses: impl IntoIterator<Item = EndpointAddress>) -> Self {
        Self { peer, addresses: addresses.into_iter().take(Self::ADDRESSES_MAX).collect() }
    }

    /// Whether a text is meant to be a ticket, mistyped or not.
    pub fn looks_like_one(text: &str) -> bool {
        text.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
            && text.len() > 2 * PREFIX.len()
    }
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&blake3::derive_key(CHECKSUM_CONTEXT, content)[..CHECKSUM_BYTES]);
    sum
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.peer.as_bytes().to_vec();
        let addresses = || self.addresses.iter().take(Self::ADDRESSES_MAX);
        bytes.push(u8::try_from(addresses().count()).unwrap_or(u8::MAX));
        for address in addresses() {
            let text = address.to_string();
            let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
            bytes.push(length);
            bytes.extend(text.bytes().take(usize::from(length)));
        }
        bytes.extend(checksum(&bytes));
        write!(f, "{PREFIX}{}", base32().encode(&bytes))
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let (prefix, encoded) = text.split_at_checked(PREFIX.len()).ok_or(TicketError::Prefix)?;
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return Err(TicketError::Prefix);
        }
        let bytes = base32().decode(encoded.as_bytes()).map_err(|_| TicketError::Checksum)?;
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TicketError::Checksum)?;
        if *sum != checksum(content) {
            return Err(TicketError::Checksum);
        }
        parse_content(content).ok_or(TicketError::Malformed)
    }
}

fn parse_content(content: &[u8]) -> Option<Ticket> {
    let (key, rest) = content.split_first_chunk::<32>()?;
    let (count, mut rest) = rest.split_first()?;
    if usize::from(*count) > Ticket::ADDRESSES_MAX {
        return None;
    }
    let mut addresses = Vec::new();
    for _ in 0..*count {
        let (length, after) = rest.split_first()?;
        let (text, after) = after.split_at_checked(usize::from(*length))?;
        addresses.push(std::str::from_utf8(text).ok()?.parse().ok()?);
        rest = after;
    }
    rest.is_empty().then_some(Ticket { peer: PeerId::from_bytes(*key), addresses })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> Ticket {
        let addresses = ["tcp://192.0.2.1:8765", "quic://[2001:db8::1]:8765"];
        Ticket::new(PeerId::from_bytes([9; 32]), addresses.map(|text| text.parse().unwrap()))
    }

    #[test]
    fn a_ticket_comes_back_also_in_capitals_and_with_spaces_around() {
        let text = ticket().to_string();
        assert!(Ticket::looks_like_one(&text));
        assert_eq!(text.parse(), Ok(ticket()));
        assert_eq!(format!(" {}\n", text.to_uppercase()).parse(), Ok(ticket()));
        assert_eq!(Ticket::new(ticket().peer, []).to_string().parse(), Ok(Ticket::new(ticket().peer, [])));
    }

    #[test]
    fn what_is_no_ticket_is_refused_with_the_reason() {
        let text = ticket().to_string();
        assert_eq!("tcp://192.0.2.1".parse::<Ticket>(), Err(TicketError::Prefix));
        assert_eq!("".parse::<Ticket>(), Err(TicketError::Prefix));
        assert_eq!(text[..text.len() - 1].parse::<Ticket>(), Err(TicketError::Checksum));
        let mut content = vec![1; 32];
        content.push(200);
        content.extend(checksum(&content));
        assert_eq!(format!("{PREFIX}{}", base32().encode(&content)).parse::<Ticket>(), Err(TicketError::Malformed));
        assert!(!Ticket::looks_like_one("bowline1"));
    }

    proptest! {
        #[test]
        fn a_mistyped_character_is_refused(at in 8..150usize, by in 1..32usize) {
            let mut text = ticket().to_string().into_bytes();
            let symbols = b"abcdefghijklmnopqrstuvwxyz234567";
            let at = at.min(text.len() - 1);
            let old = symbols.iter().position(|s| *s == text[at]).unwrap();
            text[at] = symbols[(old + by) % 32];
            prop_assert!(String::from_utf8(text).unwrap().parse::<Ticket>().is_err());
        }

        #[test]
        fn any_text_and_any_content_is_parsed_without_a_panic(text in ".{0,80}", mut bytes in prop::collection::vec(any::<u8>(), 0..90)) {
            let _ = text.parse::<Ticket>();
            let sum = checksum(&bytes);
            bytes.extend(sum);
            let _ = format!("{PREFIX}{}", base32().encode(&bytes)).parse::<Ticket>();
        }
    }
}
