//! The peer book and whom to trust.

use std::collections::BTreeMap;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrustConfig {
    /// What happens to peers that are in neither list nor in the peer book. Default: allow.
    pub policy: TrustPolicy,
    /// Peers that are accepted besides those in the peer book. Default: none.
    pub allow: Vec<PeerId>,
    /// Peers that are always refused; wins over everything else. Default: none.
    pub deny: Vec<PeerId>,
    /// How many peers are accepted on first use (`tofu`); a flood of fresh keys ends there. 1 to 65,536, default: 4,096.
    pub first_use_peers: usize,
}

impl Default for TrustConfig {
    fn default() -> Self {
        Self { policy: TrustPolicy::default(), allow: Vec::new(), deny: Vec::new(), first_use_peers: 4096 }
    }
}

/// What happens to peers nobody has named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustPolicy {
    /// Everybody who proves a key is accepted.
    Open,
    /// Only peers that are named here, in the peer book or in a command are accepted.
    #[default]
    Allow,
    /// The first so many peers are accepted, and their keys are remembered in the state directory; afterwards nobody but they.
    Tofu,
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
        checks.number("trust.first_use_peers", self.first_use_peers, 1..=65_536);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
