//! Proofs that a peer misbehaved, which anybody can check, and what follows: after three a peer is excluded.
//!
//! A proof is two statements that the accused signed and that an honest node never signs both, or one in which it passes on what its origin never signed.
//! An honest one that lost its disk may grant a term again that it granted to another one and that nobody ever held: each such term is a proof against it, and
//! who lies may have had it grant several.
//! Nobody's word is believed, whoever brings it. The same proof counts once, however often and from however many it comes; and no more than a
//! few are kept of each peer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bowline_messages::PeerId;
use bowline_messages::partition::{EvidenceKind, ProofReport, StatementReport, Term};
use serde::{Deserialize, Serialize};

use super::lease::LeaseMessage;
use super::views::{KNOWN_MAX, Knows, Number};
use super::wire::{Signed, Signer, Statement};

/// Statements of each peer that are remembered to be compared with later ones, and as many grants: the latest that came. Which are forgotten must not
/// follow from what is in them, or a liar would decide it.
const REMEMBERED_MAX: usize = 64;

/// A proof, as it travels and as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// What is proven.
    pub kind: EvidenceKind,
    /// What the accused signed.
    pub first: Signed,
    /// What it signed besides; none where the first is enough.
    pub second: Option<Signed>,
}

/// Why a proof is none. The fault of who brought it; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The accused did not sign it.
    #[error("the accused did not sign it")]
    Unsigned,
    /// What was signed does not contradict itself, or is longer than what can be passed on as a proof.
    #[error("it proves nothing")]
    Nothing,
}

impl Proof {
    /// Who is accused.
    pub const fn accused(&self) -> PeerId {
        self.first.origin
    }

    /// Checks all of it. What is too long to be told to others proves nothing: a node that acted upon it would be alone in that.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self, signer: &dyn Signer) -> Result<(), ProofError> {
        for signed in [Some(&self.first), self.second.as_ref()].into_iter().flatten() {
            signed.verify(signer).map_err(|_| ProofError::Unsigned)?;
        }
        let proven = match (self.kind, &self.second) {
            (EvidenceKind::Equivocation, Some(second)) => is_equivocation(&self.first, second),
            (EvidenceKind::DoubleGrant, Some(second)) => is_double_grant(&self.first, second),
            (EvidenceKind::Forgery, None) => is_forgery(signer, &self.first),
            (EvidenceKind::Equivocation | EvidenceKind::DoubleGrant, None) | (EvidenceKind::Forgery, Some(_)) => false,
        };
        if proven { Ok(()) } else { Err(ProofError::Nothing) }
    }

    /// As it is shown to people.
    fn report(&self) -> ProofReport {
        let statements = [Some(&self.first), self.second.as_ref()].into_iter().flatten().map(show).collect();
        ProofReport { peer: self.accused(), kind: self.kind, statements }
    }

    /// What makes it this proof and no other: another pair of statements under the same number, or about the same term, is no new misdeed.
    fn about(&self) -> About {
        let term = match self.first.statement() {
            Ok(Statement::Lease { packet, .. }) if self.kind == EvidenceKind::DoubleGrant => granted(&packet.message),
            Ok(_) | Err(_) => None,
        };
        let number = if term.is_some() { Number::default() } else { self.first.number };
        (self.kind, number, term.map(|(term, _)| term))
    }
}

fn show(signed: &Signed) -> StatementReport {
    let says = match signed.statement() {
        Ok(Statement::View(view)) => {
            let heard: u32 = view.heard.iter().map(|byte| byte.count_ones()).sum();
            let split = if view.split { "the group is split" } else { "the group is not split" };
            format!("hears {heard} participants ({}), {split}", hex(&view.heard))
        }
        Ok(Statement::Lease { packet, .. }) => match granted(&packet.message) {
            Some((term, holder)) => format!("grants term {term} to {holder}"),
            None => format!("{:?}", packet.message),
        },
        Ok(Statement::Relay(inner)) => match Signed::decode(&inner) {
            Ok(Signed { origin, number: Number { incarnation, count }, .. }) => {
                format!("{origin} said something as number {incarnation}.{count}")
            }
            Err(_) => "passes on what cannot be read".to_owned(),
        },
        Ok(Statement::Proof(proof)) => format!("{} misbehaved", proof.accused()),
        Err(_) => "nothing that can be read".to_owned(),
    };
    let Number { incarnation, count } = signed.number;
    let (signed, signature) = (hex(&signed.signed_bytes()), hex(&signed.signature()));
    StatementReport { incarnation, count, says, signed, signature }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a proof is about.
type About = (EvidenceKind, Number, Option<u64>);

fn is_equivocation(first: &Signed, second: &Signed) -> bool {
    let contradict = first.origin == second.origin && first.number == second.number && first.body != second.body;
    contradict && first.can_be_proof() && second.can_be_proof()
}

fn is_double_grant(first: &Signed, second: &Signed) -> bool {
    let grant = |signed: &Signed| match signed.statement() {
        Ok(Statement::Lease { packet, .. }) => granted(&packet.message),
        Ok(_) | Err(_) => None,
    };
    first.origin == second.origin
        && matches!((grant(first), grant(second)), (Some((a, to)), Some((b, other))) if a == b && to != other)
}

fn is_forgery(signer: &dyn Signer, relayed: &Signed) -> bool {
    match relayed.statement() {
        Ok(Statement::Relay(inner)) => Signed::decode(&inner).is_ok_and(|inner| inner.verify(signer).is_err()),
        Ok(_) | Err(_) => false,
    }
}

fn granted(message: &LeaseMessage) -> Option<(u64, PeerId)> {
    match *message {
        LeaseMessage::Granted { term, holder, .. } => Some((term.0, holder)),
        LeaseMessage::Probe { .. }
        | LeaseMessage::Answer { .. }
        | LeaseMessage::Ask { .. }
        | LeaseMessage::Refused { .. }
        | LeaseMessage::Confirmed { .. }
        | LeaseMessage::Withdrawn { .. } => None,
    }
}

/// What became of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is new. The peer has so many against it now.
    Strike(u32),
    /// It is new, and the one that excludes the peer.
    Excluded(u32),
    /// It was known.
    Known,
}

/// What has to be found again after a restart: all proofs that are kept, so that exclusion survives and can be shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EvidenceSnapshot {
    /// The proofs that count.
    pub proofs: Vec<Proof>,
    /// Those of which a person decided that they do not.
    pub pardoned: Vec<Proof>,
}

/// The latest statements of a peer.
#[derive(Debug)]
struct Recent<K> {
    of: BTreeMap<K, Signed>,
    /// In the order in which they came.
    order: VecDeque<K>,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self { of: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<K: Ord + Copy> Recent<K> {
    fn insert(&mut self, key: K, signed: Signed) {
        if self.of.insert(key, signed).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.of.remove(&oldest);
            }
        }
    }
}

/// What a node knows of its own lease when it looks at what others say.
#[derive(Debug, Clone, Copy)]
pub struct Own {
    /// This node.
    pub me: PeerId,
    /// The term that it asked for last.
    pub asked: Option<Term>,
    /// The highest term that it would take from others: no honest one grants a higher one.
    pub reach: Term,
}

/// All proofs that a node has.
#[derive(Debug)]
pub struct Evidence {
    /// Proofs that exclude; 0: none do.
    strikes: u32,
    /// Proofs kept of one peer.
    kept_max: usize,
    proofs: BTreeMap<PeerId, BTreeMap<About, Proof>>,
    /// Proofs that do not count any more, as a person decided: others have them still, and tell them.
    pardoned: BTreeMap<PeerId, BTreeMap<About, Proof>>,
    /// Recent statements of participants, to notice that one contradicts another.
    remembered: BTreeMap<PeerId, Recent<Number>>,
    /// Grants of participants by term.
    grants: BTreeMap<PeerId, Recent<u64>>,
    /// Their grants to this node of terms that it asked for: what else somebody grants does not drive these out.
    here: BTreeMap<PeerId, Recent<u64>>,
}

impl Evidence {
    /// No proofs; so many exclude, and so many are kept of each peer.
    pub fn new(strikes: u32, kept_max: usize) -> Self {
        let kept_max = kept_max.max(usize::try_from(strikes).unwrap_or(usize::MAX));
        let (proofs, pardoned) = (BTreeMap::new(), BTreeMap::new());
        let (remembered, grants, here) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { strikes, kept_max, proofs, pardoned, remembered, grants, here }
    }

    /// What was kept is checked again: a file is no better a witness than a peer. Says how many were proofs.
    pub fn restore(&mut self, signer: &dyn Signer, snapshot: &EvidenceSnapshot) -> usize {
        for proof in snapshot.pardoned.iter().filter(|proof| proof.verify(signer).is_ok()) {
            self.forgive(proof.accused(), [(proof.about(), proof.clone())].into());
        }
        let good = snapshot.proofs.iter().filter(|proof| proof.verify(signer).is_ok());
        good.filter(|proof| self.keep((*proof).clone()) != Taken::Known).count()
    }

    /// All proofs, to be kept.
    pub fn snapshot(&self) -> EvidenceSnapshot {
        let all =
            |of: &BTreeMap<PeerId, BTreeMap<About, Proof>>| of.values().flat_map(BTreeMap::values).cloned().collect();
        EvidenceSnapshot { proofs: all(&self.proofs), pardoned: all(&self.pardoned) }
    }

    /// What this node has against each peer, in a few bytes: for its views. What was pardoned is known, too: it need not be told again.
    pub fn known(&self) -> BTreeMap<PeerId, Knows> {
        let mut about: BTreeMap<PeerId, BTreeSet<&About>> = BTreeMap::new();
        for (peer, of) in self.proofs.iter().chain(&self.pardoned) {
            about.entry(*peer).or_default().extend(of.keys());
        }
        let knows = |of: &BTreeSet<&About>| {
            let mut digest = [0; 4];
            let bytes = postcard::to_allocvec(of).unwrap_or_default();
            blake3::Hasher::new().update(&bytes).finalize_xof().fill(&mut digest);
            (u8::try_from(of.len()).unwrap_or(u8::MAX), u32::from_le_bytes(digest))
        };
        about.iter().map(|(peer, of)| (*peer, knows(of))).collect()
    }

    /// Proofs that somebody lacks who has `theirs`, against those who still take part. Whom it knows to be excluded it needs no more of; and where nobody is
    /// excluded for any number of proofs, none are owed.
    pub fn lacked(&self, theirs: &BTreeMap<PeerId, Knows>, takes_part: impl Fn(&PeerId) -> bool) -> Vec<&Proof> {
        let enough = u8::try_from(self.strikes).unwrap_or(u8::MAX);
        let (known, mut lacked) = (self.known(), Vec::new());
        for (peer, of) in self.proofs.iter().filter(|(peer, _)| takes_part(peer)) {
            // Of those that did not fit into a view it is not known what its sender has.
            let (count, seen) = match theirs.get(peer) {
                Some((count, digest)) => (*count, Some(*digest)),
                None if theirs.len() < KNOWN_MAX => (0, None),
                None => continue,
            };
            if count < enough && seen != known.get(peer).map(|(_, digest)| *digest) {
                lacked.extend(of.values().take(usize::from(enough)));
            }
        }
        lacked
    }

    /// Grants of this term to this peer, as others signed them.
    pub fn grants_to(&self, holder: PeerId, term: Term) -> impl Iterator<Item = &Signed> {
        let is_to_it = move |signed: &&Signed| match signed.statement() {
            Ok(Statement::Lease { packet, .. }) => granted(&packet.message).is_some_and(|(_, to)| to == holder),
            Ok(_) | Err(_) => false,
        };
        let all = self.here.values().chain(self.grants.values());
        all.filter_map(move |of| of.of.get(&term.0)).filter(is_to_it)
    }

    /// Compares a statement, whose signature was checked, with what its origin said before. A proof is the outcome when they contradict each other. One that
    /// is too long to be part of a proof is neither compared nor remembered.
    pub fn compare(&mut self, signed: &Signed, statement: &Statement, own: Own) -> Option<Proof> {
        if !signed.can_be_proof() {
            return None;
        }
        let said = self.remembered.entry(signed.origin).or_default();
        if let Some(before) = said.of.get(&signed.number).filter(|before| before.body != signed.body) {
            let (first, second) = (before.clone(), Some(signed.clone()));
            return Some(Proof { kind: EvidenceKind::Equivocation, first, second });
        }
        said.insert(signed.number, signed.clone());
        let Statement::Lease { packet, .. } = statement else { return None };
        let (term, holder) = granted(&packet.message).filter(|(term, _)| *term <= own.reach.0)?;
        let grants = self.grants.entry(signed.origin).or_default();
        let here = self.here.entry(signed.origin).or_default();
        let before = [grants.of.get(&term), here.of.get(&term)];
        let other = before.into_iter().flatten().find(|before| is_double_grant(before, signed)).cloned();
        if let Some(first) = other {
            let second = Some(signed.clone());
            return Some(Proof { kind: EvidenceKind::DoubleGrant, first, second });
        }
        let is_own = holder == own.me && own.asked == Some(Term(term));
        let kept = if is_own { here } else { grants };
        if !kept.of.contains_key(&term) {
            kept.insert(term, signed.clone());
        }
        None
    }

    /// Takes a proof.
    ///
    /// # Errors
    /// [`ProofError`] when it is none.
    pub fn take(&mut self, signer: &dyn Signer, proof: Proof) -> Result<Taken, ProofError> {
        let has = |all: &BTreeMap<PeerId, BTreeMap<About, Proof>>| {
            all.get(&proof.accused()).is_some_and(|of| of.contains_key(&proof.about()))
        };
        if has(&self.proofs) || has(&self.pardoned) {
            return Ok(Taken::Known);
        }
        proof.verify(signer)?;
        Ok(self.keep(proof))
    }

    /// Whether a peer is excluded.
    pub fn is_excluded(&self, peer: &PeerId) -> bool {
        self.strikes > 0 && self.count(peer) >= self.strikes
    }

    /// Peers that are excluded.
    pub fn excluded(&self) -> BTreeSet<PeerId> {
        self.proofs.keys().filter(|peer| self.is_excluded(peer)).copied().collect()
    }

    /// Proofs of each peer that has any, by kind.
    pub fn counts(&self) -> Vec<(PeerId, EvidenceKind, u32)> {
        let mut counts: BTreeMap<(PeerId, EvidenceKind), u32> = BTreeMap::new();
        for (peer, of) in &self.proofs {
            for proof in of.values() {
                *counts.entry((*peer, proof.kind)).or_default() += 1;
            }
        }
        counts.into_iter().map(|((peer, kind), count)| (peer, kind, count)).collect()
    }

    /// All proofs, as they are shown to people.
    pub fn report(&self) -> Vec<ProofReport> {
        let proofs = self.proofs.keys().flat_map(|peer| self.against(peer));
        proofs.map(Proof::report).collect()
    }

    /// Against whom this node has as many proofs as exclude, those included that a person pardoned: its leader may take them out all the same.
    pub fn proven(&self) -> BTreeSet<PeerId> {
        let count = |peer: &&PeerId| {
            [&self.proofs, &self.pardoned].iter().filter_map(|all| all.get(*peer)).map(BTreeMap::len).sum::<usize>()
        };
        let enough = usize::try_from(self.strikes).unwrap_or(usize::MAX);
        let accused = self.proofs.keys().chain(self.pardoned.keys());
        accused.filter(|peer| enough > 0 && count(peer) >= enough).copied().collect()
    }

    /// The proofs against a peer.
    pub fn against(&self, peer: &PeerId) -> impl Iterator<Item = &Proof> {
        self.proofs.get(peer).into_iter().flat_map(BTreeMap::values)
    }

    /// Holds the proofs against a peer against it no more: the decision of a person. New ones count.
    pub fn pardon(&mut self, peer: &PeerId) -> bool {
        self.remembered.remove(peer);
        self.grants.remove(peer);
        self.here.remove(peer);
        let proofs = self.proofs.remove(peer);
        proofs.map(|proofs| self.forgive(*peer, proofs)).is_some()
    }

    /// Forgets what those said who do not take part any more. Proofs stay.
    pub fn retain(&mut self, takes_part: impl Fn(&PeerId) -> bool) {
        self.remembered.retain(|peer, _| takes_part(peer));
        self.grants.retain(|peer, _| takes_part(peer));
        self.here.retain(|peer, _| takes_part(peer));
    }

    fn forgive(&mut self, peer: PeerId, proofs: BTreeMap<About, Proof>) {
        let of = self.pardoned.entry(peer).or_default();
        of.extend(proofs);
        while of.len() > self.kept_max {
            of.pop_first();
        }
    }

    fn count(&self, peer: &PeerId) -> u32 {
        self.proofs.get(peer).map_or(0, |of| u32::try_from(of.len()).unwrap_or(u32::MAX))
    }

    fn keep(&mut self, proof: Proof) -> Taken {
        let peer = proof.accused();
        let before = self.is_excluded(&peer);
        let of = self.proofs.entry(peer).or_default();
        if of.len() >= self.kept_max || of.insert(proof.about(), proof).is_some() {
            return Taken::Known;
        }
        let count = self.count(&peer);
        if self.is_excluded(&peer) && !before { Taken::Excluded(count) } else { Taken::Strike(count) }
    }
}

#[cfg(test)]
mod tests;
