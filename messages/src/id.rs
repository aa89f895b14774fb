//! Names of peers, links and channels.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, Encoding, Specification};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::OnceLock;

/// Length of the checksum in the text form of a [`PeerId`], in bytes.
const CHECKSUM_BYTES: usize = 3;
/// Context under which the checksum is derived, so that it fits no other format by accident.
const CHECKSUM_CONTEXT: &str = "bowline 2026 peer id checksum";

/// A node's name: its Ed25519 public key.
///
/// The text form is 56 characters of lower-case base32 without padding: the 32 bytes of the key and a checksum of 3 bytes,
/// so that a mistyped name is rejected (one undetected error in 2^24) instead of naming a peer that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

/// Why a text is not a [`PeerId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerIdError {
    /// The text has the wrong number of characters. The user's mistake; nothing changed.
    #[error("a peer id has 56 characters, this has {found}")]
    Length {
        /// How many characters the text has.
        found: usize,
    },
    /// The text has a character outside `a`–`z` and `2`–`7`. The user's mistake; nothing changed.
    #[error("a peer id has only the letters a-z and the digits 2-7")]
    Alphabet,
    /// The checksum does not fit the key: a character is mistyped. The user's mistake; nothing changed.
    #[error("the peer id is mistyped: its checksum does not fit")]
    Checksum,
}

impl PeerId {
    /// Characters in the text form.
    pub const TEXT_CHARS: usize = 56;

    /// The peer with this Ed25519 public key.
    pub const fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The Ed25519 public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first ten characters of the text form: enough to tell peers apart on a screen, never to address one.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }

    fn checksum(&self) -> [u8; CHECKSUM_BYTES] {
        let mut sum = [0; CHECKSUM_BYTES];
        let digest = blake3::derive_key(CHECKSUM_CONTEXT, &self.0);
        sum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
        sum
    }
}

pub(crate) fn base32() -> &'static Encoding {
    static ENCODING: OnceLock<Encoding> = OnceLock::new();
    ENCODING.get_or_init(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        specification.translate.from.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        specification.translate.to.push_str("abcdefghijklmnopqrstuvwxyz");
        // The specification is a constant that the tests exercise; the upper-case alphabet is an equally valid fall-back.
        specification.encoding().unwrap_or(BASE32_NOPAD)
    })
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 32 + CHECKSUM_BYTES];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(&self.checksum());
        f.write_str(&base32().encode(&bytes))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.short())
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        let found = text.chars().count();
        if found != Self::TEXT_CHARS {
            return Err(PeerIdError::Length { found });
        }
        let bytes = base32().decode(text.as_bytes()).map_err(|_| PeerIdError::Alphabet)?;
        let (key, sum) = bytes.split_at_checked(32).ok_or(PeerIdError::Length { found })?;
        let peer = Self(key.try_into().map_err(|_| PeerIdError::Length { found })?);
        if sum == peer.checksum() { Ok(peer) } else { Err(PeerIdError::Checksum) }
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One link of one session. Chosen by the side that dials, so the lowest bit tells who that was (0: the smaller `PeerId`);
/// never used twice within one pair of incarnations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkId(pub u32);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link-{}", self.0)
    }
}

/// One ordered sequence of messages within a session, named by the application. Channel 0 is the default.
///
/// Numbers from 2^31 up belong to streams; [`ChannelId::is_stream`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelId(pub u32);

impl ChannelId {
    /// The lowest number that belongs to a stream.
    pub const STREAM_BASE: u32 = 1 << 31;

    /// Whether this channel carries the bytes of a stream.
    pub const fn is_stream(self) -> bool {
        self.0 >= Self::STREAM_BASE
    }
}

/// One life of one side of a session: grows each time a process (or a peer's group of actors) starts anew without the
/// memory of the one before. Duplicates are told by (sender's incarnation, channel, sequence).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_text_form_comes_back(key in any::<[u8; 32]>()) {
            let peer = PeerId::from_bytes(key);
            let text = peer.to_string();
            prop_assert_eq!(text.len(), PeerId::TEXT_CHARS);
            prop_assert_eq!(text.parse::<PeerId>().unwrap(), peer);
            prop_assert_eq!(text.to_uppercase().parse::<PeerId>().unwrap(), peer);
        }

        #[test]
        fn a_mistyped_character_is_rejected(key in any::<[u8; 32]>(), at in 0..56usize, by in 1..32u8) {
            let mut text = PeerId::from_bytes(key).to_string().into_bytes();
            let symbols = b"abcdefghijklmnopqrstuvwxyz234567";
            let old = symbols.iter().position(|s| *s == text[at]).unwrap();
            text[at] = symbols[(old + usize::from(by)) % 32];
            let mistyped = String::from_utf8(text).unwrap();
            prop_assert_eq!(mistyped.parse::<PeerId>(), Err(PeerIdError::Checksum));
        }

        #[test]
        fn any_text_is_parsed_without_a_panic(text in ".{0,80}") {
            let _ = text.parse::<PeerId>();
        }
    }
}
