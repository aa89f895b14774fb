//! Who says whom it reaches.
//!
//! Every participant signs what it sees, under a number that grows. Views are merged by taking the newest of each: in whatever order, and however
//! often, they come, the outcome is the same. A view counts for a while and is evidence, never a decision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use serde::{Deserialize, Serialize};

use super::lease::Configuration;

/// What one participant sees, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The version of the participants that the bits belong to.
    pub version: u64,
    /// A digest of these participants.
    pub list: u64,
    /// A bit for each participant in the order of their ids, lowest bit first: whether it was heard lately.
    pub heard: Vec<u8>,
    /// Whether its sender holds the group to be split.
    pub split: bool,
    /// Which proofs its sender has, so that whoever has others can tell it: at most [`KNOWN_MAX`].
    pub known: Vec<Known>,
}

/// Participants at most of which a view says which proofs there are. There are more in no group that still works.
pub const KNOWN_MAX: usize = 64;

/// Which proofs somebody has against one participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The participant's place in the order of their ids.
    pub participant: u16,
    /// How many.
    pub count: u8,
    /// A digest of what they are about.
    pub digest: u32,
}

/// How many proofs somebody has against a participant, and a digest of what they are about.
pub type Knows = (u8, u32);

/// A number of a statement: the life of who made it, and a count in this life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Number {
    /// The life.
    pub incarnation: u64,
    /// The count.
    pub count: u64,
}

/// What became of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    /// It is the newest of its origin.
    New,
    /// It was known already, or a newer one is.
    Known,
    /// Its origin does not take part, or goes by other participants, or it has too many bits.
    Foreign,
}

impl View {
    /// The view of one who heard these and has these proofs.
    pub fn new(
        configuration: &Configuration,
        heard: &BTreeSet<PeerId>,
        split: bool,
        proofs: &BTreeMap<PeerId, Knows>,
    ) -> Self {
        let participants = configuration.participants();
        let mut bits = vec![0; participants.len().div_ceil(8)];
        for (bit, _) in participants.iter().enumerate().filter(|(_, peer)| heard.contains(peer)) {
            if let Some(byte) = bits.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
        let known = participants.iter().zip(0_u16..).filter_map(|(peer, participant)| {
            let (count, digest) = *proofs.get(peer)?;
            Some(Known { participant, count, digest })
        });
        let (version, list) = (configuration.version(), configuration.list());
        Self { version, list, heard: bits, split, known: known.take(KNOWN_MAX).collect() }
    }

    /// Which proofs its sender has; none when it names somebody who is none of the participants, or too many.
    fn proofs(&self, configuration: &Configuration) -> Option<BTreeMap<PeerId, Knows>> {
        let participants: Vec<PeerId> = configuration.participants().iter().copied().collect();
        let of = |known: &Known| {
            let peer = participants.get(usize::from(known.participant))?;
            Some((*peer, (known.count, known.digest)))
        };
        if self.known.len() > KNOWN_MAX { None } else { self.known.iter().map(of).collect() }
    }

    /// Whom it heard; none when it goes by other participants.
    fn peers(&self, configuration: &Configuration) -> Option<BTreeSet<PeerId>> {
        let participants = configuration.participants();
        let same = (self.version, self.list) == (configuration.version(), configuration.list());
        if !same || self.heard.len() != participants.len().div_ceil(8) {
            return None;
        }
        let heard = |bit: usize| self.heard.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
        Some(participants.iter().enumerate().filter(|(bit, _)| heard(*bit)).map(|(_, peer)| *peer).collect())
    }
}

/// The newest view of one participant.
#[derive(Debug, Clone)]
struct Seen {
    number: Number,
    at: Instant,
    heard: BTreeSet<PeerId>,
    split: bool,
    proofs: BTreeMap<PeerId, Knows>,
}

/// The newest views of all participants: one each, so no more than participants.
#[derive(Debug)]
pub struct Views {
    expiry: Duration,
    seen: BTreeMap<PeerId, Seen>,
}

impl Views {
    /// No views; each counts for `expiry` after it came.
    pub const fn new(expiry: Duration) -> Self {
        Self { expiry, seen: BTreeMap::new() }
    }

    /// Takes a view whose signature was checked.
    pub fn merge(
        &mut self,
        now: Instant,
        configuration: &Configuration,
        origin: PeerId,
        number: Number,
        view: &View,
    ) -> Merged {
        let Some(heard) = view.peers(configuration).filter(|_| configuration.contains(&origin)) else {
            return Merged::Foreign;
        };
        let Some(proofs) = view.proofs(configuration) else { return Merged::Foreign };
        if self.seen.get(&origin).is_some_and(|seen| seen.number >= number) {
            return Merged::Known;
        }
        self.seen.insert(origin, Seen { number, at: now, heard, split: view.split, proofs });
        Merged::New
    }

    /// Forgets those who do not take part any more. What others heard is read anew with the next views.
    pub fn adopt(&mut self, configuration: &Configuration) {
        self.seen.retain(|peer, _| configuration.contains(peer));
    }

    /// Whom a participant heard lately, by its own word.
    pub fn heard_by(&self, now: Instant, peer: &PeerId) -> Option<&BTreeSet<PeerId>> {
        self.fresh(now, peer).map(|seen| &seen.heard)
    }

    /// Which proofs a participant had lately, by its own word.
    pub fn proofs_of(&self, now: Instant, peer: &PeerId) -> Option<&BTreeMap<PeerId, Knows>> {
        self.fresh(now, peer).map(|seen| &seen.proofs)
    }

    /// Participants that hold the group to be split.
    pub fn reporters(&self, now: Instant) -> impl Iterator<Item = &PeerId> {
        self.seen.keys().filter(move |peer| self.fresh(now, peer).is_some_and(|seen| seen.split))
    }

    fn fresh(&self, now: Instant, peer: &PeerId) -> Option<&Seen> {
        self.seen.get(peer).filter(|seen| now.saturating_duration_since(seen.at) < self.expiry)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const EXPIRY: Duration = Duration::from_secs(10);

    proptest! {
        #[test]
        fn order_and_repetition_make_no_difference(
            news in prop::collection::vec((0..9_u8, 0..4_u64, 0..6_u64), 1..40), shuffle in any::<u64>()
        ) {
            let (now, configuration) = (Instant::now(), nine());
            let view = |origin: u8, number: Number| {
                let bits = (u64::from(origin) * 31 + number.incarnation * 7 + number.count * 13) as u16 & 0x1ff;
                let (heard, list) = (bits.to_le_bytes().to_vec(), configuration.list());
                View { version: 1, list, heard, split: bits & 1 == 1, known: Vec::new() }
            };
            let take = |order: &[(u8, u64, u64)]| {
                let mut views = Views::new(EXPIRY);
                for (origin, incarnation, count) in order {
                    let number = Number { incarnation: *incarnation, count: *count };
                    views.merge(now, &configuration, peer(*origin), number, &view(*origin, number));
                }
                (0..9).map(|n| views.heard_by(now, &peer(n)).cloned()).collect::<Vec<_>>()
            };
            let mut other = news.clone();
            other.extend(news.iter().copied().take(7));
            other.sort_by_key(|(a, b, c)| (u64::from(*a) * 97 + b * 31 + c).wrapping_mul(shuffle | 1));
            prop_assert_eq!(take(&news), take(&other));
        }

        #[test]
        fn any_bits_are_read_without_a_panic(
            version in 0..3_u64, heard in prop::collection::vec(any::<u8>(), 0..5), known in prop::collection::vec(0..12_u16, 0..70)
        ) {
            let mut views = Views::new(EXPIRY);
            let foreign = known.len() > KNOWN_MAX || known.iter().any(|participant| *participant >= 9);
            let right = version == 1 && heard.len() == 2 && !foreign;
            let known = known.into_iter().map(|participant| Known { participant, count: 1, digest: 7 }).collect();
            let view = View { version, list: nine().list(), heard, split: true, known };
            let merged = views.merge(Instant::now(), &nine(), peer(1), Number::default(), &view);
            prop_assert_eq!(merged, if right { Merged::New } else { Merged::Foreign });
        }
    }

    #[test]
    fn a_view_counts_for_a_while() {
        let (now, configuration) = (Instant::now(), nine());
        let heard = BTreeSet::from([peer(2), peer(8)]);
        let mut views = Views::new(EXPIRY);
        let view = View::new(&configuration, &heard, true, &BTreeMap::from([(peer(3), (2, 9))]));
        assert_eq!(views.merge(now, &configuration, peer(1), Number::default(), &view), Merged::New);
        assert_eq!(views.heard_by(now, &peer(1)), Some(&heard));
        assert_eq!(views.proofs_of(now, &peer(1)), Some(&BTreeMap::from([(peer(3), (2, 9))])));
        assert_eq!(views.reporters(now).collect::<Vec<_>>(), [&peer(1)]);
        assert_eq!(views.heard_by(now + EXPIRY, &peer(1)), None);
        assert_eq!(views.reporters(now + EXPIRY).count(), 0);
        assert_eq!(views.merge(now, &configuration, peer(9), Number::default(), &view), Merged::Foreign);
    }

    fn nine() -> Configuration {
        Configuration::new(1, (0..9).map(peer).collect(), None).unwrap()
    }

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }
}
