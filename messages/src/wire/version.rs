//! Versions of the wire protocol and how two sides agree on one.

use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use super::reader::{Reader, Short};

/// A version of everything that `docs/wire.md` describes. Larger is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u16);

impl Version {
    /// The first version.
    pub const V1: Self = Self(1);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The versions a side is able to speak: 1 to 16 of them, ascending, none twice.
///
/// On the wire: `count u8 ‖ version u16 …`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OfferedVersions(Vec<Version>);

impl OfferedVersions {
    /// How many versions an offer has at most.
    pub const COUNT_MAX: usize = 16;

    /// What this build speaks.
    pub fn ours() -> Self {
        Self(vec![Version::V1])
    }

    /// An offer of these versions, sorted and without duplicates; `None` when there are none or more than
    /// [`OfferedVersions::COUNT_MAX`].
    pub fn new(versions: impl IntoIterator<Item = Version>) -> Option<Self> {
        let mut versions: Vec<Version> = versions.into_iter().take(Self::COUNT_MAX + 1).collect();
        versions.sort_unstable();
        versions.dedup();
        (!versions.is_empty() && versions.len() <= Self::COUNT_MAX).then_some(Self(versions))
    }

    /// The versions, oldest first.
    pub fn versions(&self) -> &[Version] {
        &self.0
    }

    /// The newest version that both offers have. Symmetric, so both sides come to the same result.
    pub fn best_common(&self, other: &Self) -> Option<Version> {
        self.0.iter().rev().find(|version| other.0.contains(version)).copied()
    }

    /// Appends the offer.
    pub fn put(&self, into: &mut BytesMut) {
        into.put_u8(self.0.len() as u8);
        for version in &self.0 {
            into.put_u16(version.0);
        }
    }

    /// Reads an offer; strict about its order, so that one offer has one encoding.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        let count = usize::from(reader.u8()?);
        if count == 0 || count > Self::COUNT_MAX {
            return Err(Short);
        }
        let mut versions = Vec::with_capacity(count);
        for _ in 0..count {
            let version = Version(reader.u16()?);
            if versions.last().is_some_and(|last| *last >= version) {
                return Err(Short);
            }
            versions.push(version);
        }
        Ok(Self(versions))
    }

    /// Reads an offer from the front of `data`: the offer and the bytes it took, or `None` when it is malformed.
    pub fn parse(data: &[u8]) -> Option<(Self, usize)> {
        let mut reader = Reader::new(data, 0);
        let offer = Self::read(&mut reader).ok()?;
        Some((offer, reader.at()))
    }
}

impl fmt::Display for OfferedVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, version) in self.0.iter().enumerate() {
            write!(f, "{}{version}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn offer(versions: &[u16]) -> OfferedVersions {
        OfferedVersions::new(versions.iter().copied().map(Version)).unwrap()
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        assert_eq!(offer(&[1, 2, 4]).best_common(&offer(&[1, 2, 3])), Some(Version(2)));
        assert_eq!(offer(&[1]).best_common(&offer(&[2])), None);
    }

    #[test]
    fn an_empty_an_unsorted_and_an_endless_offer_are_refused() {
        assert_eq!(OfferedVersions::parse(&[0]), None);
        assert_eq!(OfferedVersions::parse(&[2, 0, 2, 0, 1]), None);
        assert_eq!(OfferedVersions::parse(&[2, 0, 1, 0, 1]), None);
        assert_eq!(OfferedVersions::parse(&[255; 600]), None);
        assert_eq!(OfferedVersions::new((0..17).map(Version)), None);
    }

    proptest! {
        #[test]
        fn an_offer_comes_back(versions in proptest::collection::vec(any::<u16>(), 1..=16)) {
            let offer = offer(&versions);
            let mut buffer = BytesMut::new();
            offer.put(&mut buffer);
            buffer.put_u8(9);
            prop_assert_eq!(OfferedVersions::parse(&buffer).unwrap(), (offer, buffer.len() - 1));
        }
    }
}
