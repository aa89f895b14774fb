//! Who may have a session, and what this node thinks of its peers. Pure; what has to outlive the process is a [`TrustSnapshot`].
//!
//! Asked in this order: denied or excluded → refused, always; named by the user → accepted; then the policy. The score is separate: it
//! moves with behaviour, other parts weigh it, and only what a peer has *provably* done can push it so low that the peer is excluded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bowline_messages::PeerId;
pub use bowline_messages::config::{TrustConfig, TrustPolicy};
use bowline_messages::wire::Refusal;
use serde::{Deserialize, Serialize};

use super::private_file::{self, PrivateFileError};

/// Why a peer is not accepted. What it is told is [`Refusal::NotAllowed`] in every case: a stranger learns nothing about the lists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustRefusal {
    /// The user denied it.
    #[error("{0} is on the deny list")]
    Denied(PeerId),
    /// It was excluded for what it did.
    #[error("{peer} is excluded: {reason}")]
    Excluded {
        /// Who.
        peer: PeerId,
        /// What it did.
        reason: String,
    },
    /// The policy accepts only peers that are named.
    #[error("{0} is not on the allow list")]
    NotListed(PeerId),
    /// As many peers were met on first use as may be.
    #[error("{0} peers were met on first use already, and no more are")]
    FirstUseOver(usize),
}

impl From<&TrustRefusal> for Refusal {
    fn from(_: &TrustRefusal) -> Self {
        Self::NotAllowed
    }
}

/// How many peers are excluded; beyond it one of those that the user never named makes room. Where anybody with a fresh key is let in,
/// an exclusion is worth little anyway.
pub const EXCLUDED_MAX: usize = 4096;
/// How many peers have a score; the least remarkable one makes room.
const SCORES_MAX: usize = 4096;
/// What is thought of a peer of whom nothing is known.
pub const SCORE_NEUTRAL: f64 = 0.5;
/// Behaviour that somebody between could have faked takes the score no lower than this.
pub const SCORE_UNPROVEN_MIN: f64 = 0.25;
/// Below this a peer is excluded.
pub const SCORE_EXCLUDED: f64 = 0.1;

/// What a peer did. Good steps move the score by a share of what is missing to 1, bad ones by a share of what is there, so it stays
/// within 0 and 1 and a single step never decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// A link was established: +2 % of what is missing.
    Linked,
    /// An hour of a session with links went by: +5 %.
    GoodHour,
    /// A handshake in its name failed: −10 %. Anybody can fail one.
    FailedHandshake,
    /// A record on its link was forged or replayed: −2 %. Anybody between can do that.
    BadRecord,
    /// It sent past the window that it was told: −10 %. Sealed, so it was the peer.
    Flooded,
    /// It sent a frame that breaks the protocol: −40 %. Sealed, so it was the peer.
    BrokeProtocol,
}

impl Behaviour {
    /// The share by which the score moves up, or down.
    const fn step(self) -> f64 {
        match self {
            Self::Linked => 0.02,
            Self::GoodHour => 0.05,
            Self::FailedHandshake | Self::Flooded => -0.1,
            Self::BadRecord => -0.02,
            Self::BrokeProtocol => -0.4,
        }
    }

    /// Whether nobody but the peer can have done it.
    const fn is_proven(self) -> bool {
        match self {
            Self::Linked | Self::GoodHour | Self::Flooded | Self::BrokeProtocol => true,
            Self::FailedHandshake | Self::BadRecord => false,
        }
    }
}

/// What has to outlive the process.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TrustSnapshot {
    /// Peers that were excluded, and why.
    pub excluded: BTreeMap<PeerId, String>,
    /// Peers met under trust on first use: the keys that are pinned. A peer is its key, so there is nothing else to pin.
    pub met: BTreeSet<PeerId>,
    /// What is thought of peers, where it is not neutral.
    pub scores: BTreeMap<PeerId, f64>,
}

/// Why a snapshot could not be kept or had. The user's or the system's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustFileError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is damaged. It is not ignored: that would let the excluded back in.
    #[error("{path} is damaged: {source}; restore it, or remove it to forget exclusions and who was met")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

const SNAPSHOT_BYTES_MAX: usize = 8 << 20;

impl TrustSnapshot {
    /// Reads what an earlier process wrote; empty when there is no such file.
    ///
    /// # Errors
    /// [`TrustFileError`].
    pub fn load(path: &Path) -> Result<Self, TrustFileError> {
        match private_file::read(path, SNAPSHOT_BYTES_MAX) {
            Err(error) if error.is_missing() => Ok(Self::default()),
            content => serde_json::from_slice(&content?)
                .map_err(|source| TrustFileError::Malformed { path: path.display().to_string(), source }),
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`TrustFileError`].
    pub fn save(&self, path: &Path) -> Result<(), TrustFileError> {
        let content = serde_json::to_vec_pretty(self)
            .map_err(|source| TrustFileError::Malformed { path: path.display().to_string(), source })?;
        Ok(private_file::replace(path, &content)?)
    }
}

/// How a peer stands that may have a session.
enum Standing {
    /// It is accepted.
    Accepted,
    /// It is, and remembered.
    FirstUse,
}

/// Whom a node accepts and what it thinks of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trust {
    policy: TrustPolicy,
    first_use_peers: usize,
    /// From the configuration.
    allowed: BTreeSet<PeerId>,
    /// From the configuration.
    denied: BTreeSet<PeerId>,
    /// Accepted by a command of this process's life, and not by the configuration.
    named: BTreeSet<PeerId>,
    /// Refused by a command of this process's life.
    shunned: BTreeSet<PeerId>,
    kept: TrustSnapshot,
    /// How often peers came to be accepted that were not before.
    acceptances: u64,
    /// How often peers came to be refused that were not before.
    refusals: u64,
    /// Whether `kept` changed in a way that has to be written soon: exclusions and peers met, not every step of a score.
    unsaved: bool,
    /// Whether a score moved since the snapshot was last taken to be saved.
    moved: bool,
}

impl Trust {
    /// From the configuration and what an earlier process kept. Peers of the book in `allowed` and `denied` beside those that the
    /// configuration lists itself.
    pub fn new(
        config: &TrustConfig,
        allowed: impl IntoIterator<Item = PeerId>,
        denied: impl IntoIterator<Item = PeerId>,
        mut kept: TrustSnapshot,
    ) -> Self {
        // The file may have been edited by hand.
        kept.scores.retain(|_, score| (0.0..=1.0).contains(score));
        Self {
            policy: config.policy,
            first_use_peers: config.first_use_peers,
            allowed: config.allow.iter().copied().chain(allowed).collect(),
            denied: config.deny.iter().copied().chain(denied).collect(),
            named: BTreeSet::new(),
            shunned: BTreeSet::new(),
            kept,
            acceptances: 0,
            refusals: 0,
            unsaved: false,
            moved: false,
        }
    }

    /// Takes a changed configuration over. What was learnt (exclusions, peers met, scores, saved or not) and what was commanded stays, but a
    /// peer that is denied now is forgotten as one that a command named.
    pub fn reconfigure(
        &mut self,
        config: &TrustConfig,
        allowed: impl IntoIterator<Item = PeerId>,
        denied: impl IntoIterator<Item = PeerId>,
    ) {
        (self.policy, self.first_use_peers) = (config.policy, config.first_use_peers);
        self.allowed = config.allow.iter().copied().chain(allowed).collect();
        self.denied = config.deny.iter().copied().chain(denied).collect();
        self.named.retain(|peer| !self.denied.contains(peer));
        self.acceptances += 1;
        self.refusals += 1;
    }

    /// Accepts a peer from now on: the user named it. A deny list and an exclusion still win; for one that is denied the command has no
    /// effect, now or later.
    pub fn allow(&mut self, peer: PeerId) {
        if !self.is_denied(&peer) && self.named.insert(peer) {
            self.acceptances += 1;
        }
    }

    /// How often peers came to be accepted that may not have been before.
    pub const fn acceptances(&self) -> u64 {
        self.acceptances
    }

    /// How often peers came to be refused that may not have been before.
    pub const fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Peers that are refused whatever the policy says: denied, or excluded for what they did.
    pub fn shut_out(&self) -> BTreeSet<PeerId> {
        self.denied.iter().chain(&self.shunned).chain(self.kept.excluded.keys()).copied().collect()
    }

    /// Takes back that a command accepted a peer; what the configuration says about it stays.
    pub fn withdraw(&mut self, peer: &PeerId) {
        self.refusals += u64::from(self.named.remove(peer));
    }

    /// Peers that commands of this process's life accepted.
    pub fn named(&self) -> impl Iterator<Item = &PeerId> {
        self.named.iter()
    }

    /// Whether a command of this process's life accepted a peer.
    pub fn is_named(&self, peer: &PeerId) -> bool {
        self.named.contains(peer)
    }

    fn is_denied(&self, peer: &PeerId) -> bool {
        self.denied.contains(peer) || self.shunned.contains(peer)
    }

    /// Refuses a peer from now on, whatever else is said about it.
    pub fn deny(&mut self, peer: PeerId) {
        self.refusals += u64::from(self.shunned.insert(peer));
    }

    /// Whether a peer that has proven its key may have a session. Under trust on first use it is remembered.
    ///
    /// # Errors
    /// [`TrustRefusal`].
    pub fn admit(&mut self, peer: &PeerId) -> Result<(), TrustRefusal> {
        if let Standing::FirstUse = self.judge(peer)? {
            self.kept.met.insert(*peer);
            self.unsaved = true;
            // The last place: whoever was not met yet is refused now.
            self.refusals += u64::from(self.kept.met.len() >= self.first_use_peers);
        }
        Ok(())
    }

    /// Whether [`Trust::admit`] would let a peer in. A question: nobody is remembered for it.
    ///
    /// # Errors
    /// [`TrustRefusal`].
    pub fn standing(&self, peer: &PeerId) -> Result<(), TrustRefusal> {
        self.judge(peer).map(drop)
    }

    fn judge(&self, peer: &PeerId) -> Result<Standing, TrustRefusal> {
        if self.is_denied(peer) {
            return Err(TrustRefusal::Denied(*peer));
        }
        if let Some(reason) = self.kept.excluded.get(peer) {
            return Err(TrustRefusal::Excluded { peer: *peer, reason: reason.clone() });
        }
        match self.policy {
            TrustPolicy::Open => Ok(Standing::Accepted),
            TrustPolicy::Allow | TrustPolicy::Tofu if self.allowed.contains(peer) || self.named.contains(peer) => {
                Ok(Standing::Accepted)
            }
            TrustPolicy::Allow => Err(TrustRefusal::NotListed(*peer)),
            TrustPolicy::Tofu if self.kept.met.contains(peer) => Ok(Standing::Accepted),
            TrustPolicy::Tofu if self.kept.met.len() >= self.first_use_peers => {
                Err(TrustRefusal::FirstUseOver(self.first_use_peers))
            }
            TrustPolicy::Tofu => Ok(Standing::FirstUse),
        }
    }

    /// Excludes a peer, also for later processes.
    pub fn exclude(&mut self, peer: PeerId, reason: &str) {
        if self.kept.excluded.len() >= EXCLUDED_MAX {
            let stranger = |peer: &&PeerId| !self.allowed.contains(*peer) && !self.named.contains(*peer);
            let first = self.kept.excluded.keys().find(stranger).or_else(|| self.kept.excluded.keys().next()).copied();
            first.map(|first| self.kept.excluded.remove(&first));
        }
        let new = self.kept.excluded.insert(peer, reason.into()).is_none();
        self.unsaved |= new;
        self.refusals += u64::from(new);
    }

    /// Lets a peer back in: the user says so. Its score starts anew. Says whether it was excluded.
    pub fn readmit(&mut self, peer: &PeerId) -> bool {
        let excluded = self.kept.excluded.remove(peer).is_some();
        self.unsaved |= excluded;
        self.kept.scores.remove(peer);
        self.acceptances += 1;
        excluded
    }

    /// Forgets that a peer was met on first use. Says whether there was something to forget.
    pub fn forget_peer(&mut self, peer: &PeerId) -> bool {
        let known = self.kept.met.remove(peer);
        self.unsaved |= known;
        self.refusals += u64::from(known);
        // Its place is free for another.
        self.acceptances += u64::from(known);
        known
    }

    /// What happens to peers that nobody has named.
    pub const fn policy(&self) -> TrustPolicy {
        self.policy
    }

    /// What is thought of a peer, 0 (the worst) to 1.
    pub fn score(&self, peer: &PeerId) -> f64 {
        self.kept.scores.get(peer).copied().unwrap_or(SCORE_NEUTRAL)
    }

    /// Takes note of what a peer did: its new score. When that falls below [`SCORE_EXCLUDED`] the peer is excluded.
    pub fn observe(&mut self, peer: &PeerId, behaviour: Behaviour) -> f64 {
        let before = self.score(peer);
        let step = behaviour.step();
        let moved = if step > 0.0 { before + step * (1.0 - before) } else { before + step * before };
        let after =
            if behaviour.is_proven() || moved >= SCORE_UNPROVEN_MIN { moved } else { before.min(SCORE_UNPROVEN_MIN) };
        self.make_room(peer);
        self.kept.scores.insert(*peer, after);
        self.moved |= after != before;
        if after < SCORE_EXCLUDED && !self.kept.excluded.contains_key(peer) {
            self.exclude(*peer, &format!("its score fell to {after:.2}, last for {behaviour:?}"));
        }
        after
    }

    /// At the bound the score nearest to neutral goes: it says the least.
    fn make_room(&mut self, peer: &PeerId) {
        if self.kept.scores.len() < SCORES_MAX || self.kept.scores.contains_key(peer) {
            return;
        }
        let distance = |score: &f64| (score - SCORE_NEUTRAL).abs();
        let dullest = self.kept.scores.iter().min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b)));
        if let Some(dullest) = dullest.map(|(peer, _)| *peer) {
            self.kept.scores.remove(&dullest);
        }
    }

    /// Why a peer is excluded, if it is.
    pub fn exclusion(&self, peer: &PeerId) -> Option<&str> {
        self.kept.excluded.get(peer).map(String::as_str)
    }

    /// What has to outlive the process.
    pub const fn snapshot(&self) -> &TrustSnapshot {
        &self.kept
    }

    /// Whether exclusions or the peers met changed since this was last asked: the snapshot has to be saved.
    pub fn take_unsaved(&mut self) -> bool {
        std::mem::take(&mut self.unsaved)
    }

    /// Whether anything at all changed since then, scores included: what is asked at the end of a process.
    pub fn take_changed(&mut self) -> bool {
        self.take_unsaved() | std::mem::take(&mut self.moved)
    }

    /// The snapshot could not be saved: it is still to be.
    pub fn keep_unsaved(&mut self) {
        self.unsaved = true;
    }
}

#[cfg(test)]
mod tests;
