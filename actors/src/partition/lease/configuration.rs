//! Who takes part, and how many of them decide.

use std::collections::BTreeSet;

use bowline_messages::PeerId;

/// Participants at most, however the group came to be: far more than may be configured (`GroupSection::PARTICIPANTS_MAX`), so that what a list of them costs
/// has a bound.
pub const PARTICIPANTS_MAX: usize = 1024;

/// Why these participants cannot be. The caller's mistake; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// There are none, or more than [`PARTICIPANTS_MAX`].
    #[error("{0} participants, between 1 and {PARTICIPANTS_MAX} are allowed")]
    Count(usize),
    /// The tie-breaker is not one of them.
    #[error("the tie-breaker is no participant")]
    TieBreaker,
}

/// The participants of a group at one version. A new version comes through the group's committed log, never otherwise, so that one
/// version means the same participants everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    version: u64,
    participants: BTreeSet<PeerId>,
    tie_breaker: Option<PeerId>,
    list: u64,
}

impl Configuration {
    /// The participants at a version. The tie-breaker, when there is one, makes exactly half of an even number of participants a quorum.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn new(
        version: u64,
        participants: BTreeSet<PeerId>,
        tie_breaker: Option<PeerId>,
    ) -> Result<Self, ConfigurationError> {
        if participants.is_empty() || participants.len() > PARTICIPANTS_MAX {
            return Err(ConfigurationError::Count(participants.len()));
        }
        if tie_breaker.is_some_and(|peer| !participants.contains(&peer)) {
            return Err(ConfigurationError::TieBreaker);
        }
        let list = digest(&participants, tie_breaker);
        Ok(Self { version, participants, tie_breaker, list })
    }

    /// Which version this is. The next one is one more.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// A digest of who they are, and of who breaks a tie. What is said by another list does not count here, whatever its version.
    pub const fn list(&self) -> u64 {
        self.list
    }

    /// The participants, in the order of their ids.
    pub const fn participants(&self) -> &BTreeSet<PeerId> {
        &self.participants
    }

    /// The participant whose half wins when there are two halves.
    pub const fn tie_breaker(&self) -> Option<PeerId> {
        self.tie_breaker
    }

    /// Whether this peer takes part.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.participants.contains(peer)
    }

    /// What a participant counts: two, and the tie-breaker three; others nothing.
    fn weight(&self, peer: &PeerId) -> usize {
        match self.participants.contains(peer) {
            true if self.tie_breaker == Some(*peer) => 3,
            true => 2,
            false => 0,
        }
    }

    /// What all participants count together.
    fn total(&self) -> usize {
        2 * self.participants.len() + usize::from(self.tie_breaker.is_some())
    }

    /// Whether these, each named once, decide: more than half of the participants, or half with the tie-breaker. Any two quorums have a
    /// participant in common.
    pub fn is_quorum<'a>(&self, peers: impl IntoIterator<Item = &'a PeerId>) -> bool {
        let weight: usize = peers.into_iter().map(|peer| self.weight(peer)).sum();
        2 * weight > self.total()
    }

    /// Whether every quorum of this version has a participant in common with every quorum of the other one.
    pub fn quorums_meet(&self, other: &Self) -> bool {
        // Two disjoint quorums exist when the participants that both have can be divided so that each gets enough. Only tie-breakers weigh
        // otherwise than the rest, so it is enough to try how many of the rest go to one side, and each tie-breaker on either.
        let own = |a: &Self, b: &Self| a.participants.difference(&b.participants).map(|p| a.weight(p)).sum::<usize>();
        let (mine, theirs) = (own(self, other), own(other, self));
        let special: BTreeSet<PeerId> = [self.tie_breaker, other.tie_breaker].into_iter().flatten().collect();
        let common = self.participants.intersection(&other.participants);
        let (special, plain): (Vec<&PeerId>, Vec<&PeerId>) = common.partition(|peer| special.contains(peer));
        for given in 0..=plain.len() {
            for choice in 0..1_u32 << special.len() {
                let (mut here, mut there) = (mine + 2 * given, theirs + 2 * (plain.len() - given));
                for (bit, peer) in special.iter().enumerate() {
                    if choice & (1 << bit) != 0 {
                        here += self.weight(peer);
                    } else {
                        there += other.weight(peer);
                    }
                }
                if 2 * here > self.total() && 2 * there > other.total() {
                    return false;
                }
            }
        }
        true
    }
}

fn digest(participants: &BTreeSet<PeerId>, tie_breaker: Option<PeerId>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for peer in participants {
        hasher.update(peer.as_bytes()).update(&[u8::from(tie_breaker == Some(*peer))]);
    }
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_decides_only_with_the_tie_breaker() {
        let of = |n: u8, tie| Configuration::new(1, peers(0..n), tie).unwrap();
        let four = of(4, Some(peer(2)));
        assert!(four.is_quorum(&peers(2..4)) && !four.is_quorum(&peers(0..2)) && four.is_quorum(&peers([0, 1, 3])));
        assert!(!of(4, None).is_quorum(&peers(2..4)));
        let five = of(5, Some(peer(0)));
        assert!(!five.is_quorum(&peers(0..2)) && five.is_quorum(&peers(2..5)));
        let two = of(2, Some(peer(0)));
        assert!(two.is_quorum(&peers([0])) && !two.is_quorum(&peers([1])));
        assert!(!five.is_quorum(&peers([0, 1, 9, 10, 11])), "strangers do not count");
    }

    #[test]
    fn participants_are_bounded_and_the_tie_breaker_is_one_of_them() {
        assert_eq!(Configuration::new(1, BTreeSet::new(), None), Err(ConfigurationError::Count(0)));
        assert_eq!(Configuration::new(1, peers(0..2), Some(peer(2))), Err(ConfigurationError::TieBreaker));
    }

    #[test]
    fn another_list_has_another_digest() {
        let list = |nodes, tie: Option<u8>| Configuration::new(1, peers(nodes), tie.map(peer)).unwrap().list();
        let lists = [list(0..3, Some(0)), list(0..3, Some(1)), list(0..3, None), list(0..5, Some(0)), list(1..4, None)];
        assert_eq!(lists.iter().collect::<BTreeSet<_>>().len(), lists.len());
        assert_eq!(list(0..3, Some(0)), lists[0]);
    }

    proptest! {
        #[test]
        fn any_two_quorums_meet_and_meeting_is_told_as_it_is(
            one in subset(), two in subset(), tie_one in 0..6u8, tie_two in 0..6u8
        ) {
            let of = |set: BTreeSet<PeerId>, tie| {
                let tie = Some(peer(tie)).filter(|peer| set.contains(peer));
                Configuration::new(1, set, tie).unwrap()
            };
            let (one, two) = (of(one, tie_one), of(two, tie_two));
            prop_assert!(one.quorums_meet(&one));
            let apart = (0..64_u8).any(|mask| {
                let side = |bit: u8| (0..6).filter(|n| mask >> n & 1 == bit).map(peer).collect::<BTreeSet<_>>();
                one.is_quorum(&side(1)) && two.is_quorum(&side(0))
            });
            prop_assert_eq!(one.quorums_meet(&two), !apart);
        }
    }

    fn subset() -> impl Strategy<Value = BTreeSet<PeerId>> {
        (1..64_u8).prop_map(|mask| peers((0..6).filter(move |n| mask >> n & 1 == 1)))
    }

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn peers(numbers: impl IntoIterator<Item = u8>) -> BTreeSet<PeerId> {
        numbers.into_iter().map(peer).collect()
    }
}
