//! How long a suspicion waits: long when one says so, short when several do who know it by themselves (Lifeguard, section IV.B).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::MembershipConfig;

use super::wire::Statement;

/// Between which times a suspicion waits, in a group of a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// When enough have confirmed it.
    pub min: Duration,
    /// When nobody has.
    pub max: Duration,
    /// How many have to.
    pub needed: usize,
}

impl Limits {
    /// The limits with so many members beside this node, of whom so many are not suspected themselves and could confirm.
    ///
    /// The shortest time is `suspicion_min · probe_interval · max(1, log10(n))`, as in Lifeguard: news needs about log n rounds to get around.
    /// A node that suspects everybody waits for nobody.
    pub fn new(config: &MembershipConfig, members: usize, trusted: usize) -> Self {
        #[allow(clippy::cast_precision_loss)]
        let scale = ((members + 1) as f64).log10().max(1.0);
        let min = (config.probe_interval * config.suspicion_min).mul_f64(scale);
        Self { min, max: min * config.suspicion_max, needed: config.confirmations.min(trusted) }
    }

    /// How long a suspicion waits that so many members share.
    ///
    /// `max − (max − min) · ln(c + 1) / ln(k + 1)` with c confirmations of k that are needed.
    pub fn wait(&self, accusers: usize) -> Duration {
        let confirmed = accusers.saturating_sub(1);
        if confirmed >= self.needed {
            return self.min;
        }
        #[allow(clippy::cast_precision_loss)]
        let share = ((confirmed + 1) as f64).ln() / ((self.needed + 1) as f64).ln();
        self.max.saturating_sub((self.max.saturating_sub(self.min)).mul_f64(share.clamp(0.0, 1.0)))
    }
}

/// A suspicion of one member. It ends when the member answers, or is excluded.
#[derive(Debug, Clone)]
pub struct Suspicion {
    /// When it began here. Moves on by the time that this node was not running: it could not hear an answer then.
    pub since: Instant,
    /// What the accusers said.
    accusers: BTreeMap<PeerId, Statement>,
}

impl Suspicion {
    /// A suspicion without an accuser.
    pub const fn new(since: Instant) -> Self {
        Self { since, accusers: BTreeMap::new() }
    }

    /// Adds an accuser; false when it is one already, or enough are known.
    pub fn add(&mut self, accuser: PeerId, statement: Statement, accusers_max: usize) -> bool {
        let new = !self.accusers.contains_key(&accuser) && self.accusers.len() < accusers_max;
        if new {
            self.accusers.insert(accuser, statement);
        }
        new
    }

    /// Whether somebody is an accuser.
    pub fn is_accuser(&self, peer: &PeerId) -> bool {
        self.accusers.contains_key(peer)
    }

    /// How many there are.
    pub fn accusers(&self) -> usize {
        self.accusers.len()
    }

    /// What they said.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.accusers.values()
    }

    /// When the member is excluded if nothing else comes. One that this node has heard itself since then was there, so it has all the time again.
    pub fn deadline(&self, limits: &Limits, heard: Option<Instant>) -> Instant {
        heard.map_or(self.since, |heard| heard.max(self.since)) + limits.wait(self.accusers())
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Claim, Node, Signature};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn statement() -> Statement {
        let node = Node { peer: peer(9), life: 1, renewal: 0 };
        Statement { claim: Claim::Leave { node }, signature: Signature([0; 64]) }
    }

    #[test]
    fn every_confirmation_shortens_the_wait_until_there_are_enough() {
        let limits = Limits::new(&MembershipConfig::default(), 9, 8);
        assert_eq!((limits.min, limits.max), (5 * SECOND, 30 * SECOND));
        let waits: Vec<_> = (1..=5).map(|accusers| limits.wait(accusers).as_millis()).collect();
        assert_eq!(waits, [30_000, 17_500, 10_187, 5_000, 5_000]);
    }

    #[test]
    fn a_larger_group_waits_longer_and_a_small_one_for_those_it_has() {
        let config = MembershipConfig::default();
        assert_eq!(Limits::new(&config, 99, 98).min, 10 * SECOND);
        assert_eq!(Limits::new(&config, 2, 1).needed, 1);
        assert_eq!(Limits::new(&config, 4, 0).wait(1), 5 * SECOND);
    }

    #[test]
    fn an_accuser_counts_once_and_their_number_is_bounded() {
        let mut suspicion = Suspicion::new(Instant::now());
        assert!(suspicion.add(peer(1), statement(), 2));
        assert!(!suspicion.add(peer(1), statement(), 2));
        assert!(suspicion.add(peer(2), statement(), 2));
        assert!(!suspicion.add(peer(3), statement(), 2));
        assert_eq!(suspicion.accusers(), 2);
    }

    #[test]
    fn somebody_who_is_heard_is_not_excluded() {
        let (now, limits) = (Instant::now(), Limits { min: SECOND, max: SECOND, needed: 0 });
        let suspicion = Suspicion::new(now);
        assert_eq!(suspicion.deadline(&limits, None), now + SECOND);
        assert_eq!(suspicion.deadline(&limits, Some(now - SECOND)), now + SECOND);
        assert_eq!(suspicion.deadline(&limits, Some(now + SECOND / 2)), now + SECOND * 3 / 2);
    }
}
