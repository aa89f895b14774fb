//! The peer book and whom to trust.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::check::Checks;
use crate::address::EndpointAddress;
use crate::id::PeerId;

/// Section `[peers]`: peers by the name the user gave them. A reload takes additions and removals over.
pub type PeerBook = BTreeMap<String, PeerEntry>;

/// Characters a name in the peer book may have.
const NAME_CHARS_MAX: usize = 40;

/// Section `[peers.NAME]`: one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerEntry {
    /// Its id; required.
    pub id: PeerId,
    /// Where it can be reached. Without any, it has to connect by itself. Default: none.
    #[serde(default)]
    pub addresses: Vec<EndpointAddress>,
    /// Whether it may connect at all. Default: allow.
    #[serde(default)]
    pub trust: PeerTrust,
    /// Whether the node connects to it at start and keeps trying. Default: true; without addresses it has no effect.
    #[serde(default = "yes")]
    pub connect: bool,
}

fn yes() -> bool {
    true
}

/// What the peer book says about a peer's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerTrust {
    /// Accepted.
    #[default]
    Allow,
    /// Refused, whatever the policy.
    Deny,
}

/// Section `[trust]`: which peers are accepted. A reload takes it over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrustConfig {
    /// What happens to peers that are in neither list nor in the peer book. Default: allow.
    pub policy: TrustPolicy,
    /// Peers that are accepted besides those in the peer book. Default: none.
    pub allow: Vec<PeerId>,
    /// Peers that are always refused; wins over everything else. Default: none.
    pub deny: Vec<PeerId>,
}

/// What happens to peers nobody has named (SPEC I5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustPolicy {
    /// Everybody who proves a key is accepted.
    Open,
    /// Only peers that are named here, in the peer book or in a command are accepted.
    #[default]
    Allow,
    /// Everybody is accepted once, and the key is remembered in the state directory: `config show` and the peers file tell
    /// whom the node has met, and a key that was removed from there is met anew.
    Tofu,
}

/// Whom a node accepts: the policy and all lists, put together. Pure; it is asked for every handshake.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustRules {
    policy: TrustPolicy,
    allowed: BTreeSet<PeerId>,
    denied: BTreeSet<PeerId>,
}

/// What [`TrustRules`] say about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TrustVerdict {
    /// Known or welcome.
    Accepted,
    /// Accepted for the first time under trust on first use: to be remembered.
    FirstUse,
    /// On a deny list.
    Denied,
    /// Unknown, and the policy accepts only known peers.
    Unknown,
}

impl TrustVerdict {
    /// Whether the peer may have a session.
    pub const fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted | Self::FirstUse)
    }
}

impl TrustRules {
    /// Rules from the configuration and the peers that were met before under trust on first use.
    pub fn new(trust: &TrustConfig, book: &PeerBook, met: impl IntoIterator<Item = PeerId>) -> Self {
        let of = |wanted: PeerTrust| book.values().filter(move |entry| entry.trust == wanted).map(|entry| entry.id);
        Self {
            policy: trust.policy,
            allowed: trust.allow.iter().copied().chain(of(PeerTrust::Allow)).chain(met).collect(),
            denied: trust.deny.iter().copied().chain(of(PeerTrust::Deny)).collect(),
        }
    }

    /// Rules that accept everybody.
    pub fn open() -> Self {
        Self { policy: TrustPolicy::Open, ..Self::default() }
    }

    /// Accepts a peer from now on, unless it is denied: the user named it in a command, or it was met.
    pub fn allow(&mut self, peer: PeerId) {
        self.allowed.insert(peer);
    }

    /// What happens to a peer that has proven its key.
    pub fn verdict(&self, peer: &PeerId) -> TrustVerdict {
        if self.denied.contains(peer) {
            return TrustVerdict::Denied;
        }
        match self.policy {
            TrustPolicy::Open => TrustVerdict::Accepted,
            TrustPolicy::Allow | TrustPolicy::Tofu if self.allowed.contains(peer) => TrustVerdict::Accepted,
            TrustPolicy::Tofu => TrustVerdict::FirstUse,
            TrustPolicy::Allow => TrustVerdict::Unknown,
        }
    }
}

/// Whether a text can be a name in the peer book: 1 to 40 letters, digits, `.`, `_` or `-`, the first a letter or digit.
pub fn is_peer_name(name: &str) -> bool {
    name.len() <= NAME_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

pub(super) fn check_book(book: &PeerBook, checks: &mut Checks) {
    let mut seen = BTreeMap::new();
    for (name, entry) in book {
        let key = format!("peers.{name}");
        let reason = "a name has 1 to 40 letters, digits, `.`, `_` or `-` and starts with a letter or digit";
        checks.ensure(&key, is_peer_name(name), name, reason);
        if let Some(other) = seen.insert(entry.id, name) {
            let reason = format!("`{other}` has the same id; a peer has one entry, with all its addresses");
            checks.ensure(&format!("{key}.id"), false, entry.id, &reason);
        }
        checks.number(&format!("{key}.addresses (number of)"), entry.addresses.len(), 0..=16);
    }
}

impl TrustConfig {
    pub(super) fn check(&self, checks: &mut Checks) {
        for peer in self.allow.iter().filter(|peer| self.deny.contains(peer)) {
            checks.ensure("trust.allow", false, peer, "it is on trust.deny as well");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn entry(n: u8, trust: PeerTrust) -> PeerEntry {
        PeerEntry { id: peer(n), addresses: Vec::new(), trust, connect: true }
    }

    fn rules(policy: TrustPolicy) -> TrustRules {
        let book = PeerBook::from([
            ("friend".to_owned(), entry(1, PeerTrust::Allow)),
            ("foe".to_owned(), entry(2, PeerTrust::Deny)),
        ]);
        let trust = TrustConfig { policy, allow: vec![peer(3)], deny: vec![peer(4)] };
        TrustRules::new(&trust, &book, [peer(4), peer(5)])
    }

    #[test]
    fn every_policy_refuses_the_denied_and_accepts_the_named() {
        for policy in [TrustPolicy::Open, TrustPolicy::Allow, TrustPolicy::Tofu] {
            let rules = rules(policy);
            for (n, verdict) in [(1, true), (2, false), (3, true), (4, false), (5, true)] {
                assert_eq!(rules.verdict(&peer(n)).is_accepted(), verdict, "peer {n} under {policy:?}");
            }
        }
    }

    #[test]
    fn strangers_are_judged_by_the_policy() {
        assert_eq!(rules(TrustPolicy::Open).verdict(&peer(9)), TrustVerdict::Accepted);
        assert_eq!(rules(TrustPolicy::Allow).verdict(&peer(9)), TrustVerdict::Unknown);
        let mut tofu = rules(TrustPolicy::Tofu);
        assert_eq!(tofu.verdict(&peer(9)), TrustVerdict::FirstUse);
        tofu.allow(peer(9));
        assert_eq!(tofu.verdict(&peer(9)), TrustVerdict::Accepted);
    }

    #[test]
    fn a_denied_peer_stays_denied_when_it_is_named_in_a_command() {
        let mut rules = rules(TrustPolicy::Open);
        rules.allow(peer(2));
        assert_eq!(rules.verdict(&peer(2)), TrustVerdict::Denied);
    }

    #[test]
    fn names_are_plain() {
        for good in ["a", "laptop", "Lap.top-2_x"] {
            assert!(is_peer_name(good), "{good}");
        }
        for bad in ["", "-a", "a b", "a:1", "ü", &"a".repeat(41)] {
            assert!(!is_peer_name(bad), "{bad}");
        }
    }
}
