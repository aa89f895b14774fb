//! Proofs that a peer misbehaved, which anybody can check, and what follows: after three a peer is excluded.
//!
//! A proof is two statements that the accused signed and that an honest node never signs both, or one in which it passes on what its origin never signed.
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
    /// What was signed does not contradict itself.
    #[error("it proves nothing")]
    Nothing,
}

impl Proof {
    /// Who is accused.
    pub const fn accused(&self) -> PeerId {
        self.first.origin
    }

    /// Checks all of it.
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
    first.origin == second.origin && first.number == second.number && first.body != second.body
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

    /// Compares a statement, whose signature was checked, with what its origin said before. A proof is the outcome when they contradict each other.
    pub fn compare(&mut self, signed: &Signed, statement: &Statement, own: Own) -> Option<Proof> {
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::lease::LeasePacket;
    use super::super::views::View;
    use super::super::wire::tests::Cheap;
    use super::*;

    #[test]
    fn what_an_honest_node_says_is_no_evidence() {
        let mut evidence = Evidence::new(3, 16);
        for count in 0..200 {
            let statement = if count % 2 == 0 { view(count) } else { grant(count, 2) };
            let signed = sign(1, count, &statement);
            assert_eq!(evidence.compare(&signed, &statement, own()), None);
            assert_eq!(evidence.compare(&signed, &statement, own()), None, "the same once more");
        }
        assert!(
            evidence
                .remembered
                .values()
                .all(|said| said.of.len() <= REMEMBERED_MAX && said.order.len() == said.of.len())
        );
    }

    #[test]
    fn two_statements_under_one_number_are_a_proof_for_everybody() {
        let (one, other) = (sign(1, 7, &view(1)), sign(1, 7, &view(2)));
        let mut evidence = Evidence::new(3, 16);
        assert_eq!(evidence.compare(&one, &view(1), own()), None);
        let proof = evidence.compare(&other, &view(2), own()).unwrap();
        assert_eq!((proof.kind, proof.accused()), (EvidenceKind::Equivocation, peer(1)));
        let mut elsewhere = Evidence::new(3, 16);
        assert_eq!(elsewhere.take(&Cheap(peer(5)), proof.clone()), Ok(Taken::Strike(1)));
        assert_eq!(elsewhere.take(&Cheap(peer(5)), proof), Ok(Taken::Known));
    }

    #[test]
    fn one_term_granted_to_two_is_a_proof() {
        let mut evidence = Evidence::new(3, 16);
        for (count, term, holder) in [(1, 4, 2), (2, 5, 3), (3, 4, 2)] {
            assert_eq!(evidence.compare(&sign(1, count, &grant(term, holder)), &grant(term, holder), own()), None);
        }
        let proof = evidence.compare(&sign(1, 4, &grant(4, 3)), &grant(4, 3), own()).unwrap();
        assert_eq!(proof.kind, EvidenceKind::DoubleGrant);
        assert_eq!(proof.verify(&Cheap(peer(9))), Ok(()));
    }

    #[test]
    fn what_is_passed_on_and_was_never_signed_is_a_proof_against_who_passed_it_on() {
        let mut inner = sign(2, 1, &view(1));
        inner.number.count = 99;
        let relayed = sign(1, 5, &Statement::Relay(inner.encode().unwrap()));
        let proof = Proof { kind: EvidenceKind::Forgery, first: relayed, second: None };
        assert_eq!(proof.verify(&Cheap(peer(9))), Ok(()));
        let honest = sign(1, 6, &Statement::Relay(sign(2, 1, &view(1)).encode().unwrap()));
        let proof = Proof { kind: EvidenceKind::Forgery, first: honest, second: None };
        assert_eq!(proof.verify(&Cheap(peer(9))), Err(ProofError::Nothing));
    }

    #[test]
    fn nobody_is_accused_by_what_he_did_not_sign() {
        let (one, other) = (sign(1, 7, &view(1)), sign(1, 7, &view(2)));
        let mut framed = other.clone();
        framed.origin = peer(2);
        let mut first = one.clone();
        first.origin = peer(2);
        let proof =
            |kind, first: &Signed, second: &Signed| Proof { kind, first: first.clone(), second: Some(second.clone()) };
        let mut evidence = Evidence::new(1, 16);
        let signer = Cheap(peer(5));
        for (proof, why) in [
            (proof(EvidenceKind::Equivocation, &first, &framed), ProofError::Unsigned),
            (proof(EvidenceKind::Equivocation, &one, &one), ProofError::Nothing),
            (proof(EvidenceKind::Equivocation, &one, &sign(2, 7, &view(2))), ProofError::Nothing),
            (proof(EvidenceKind::Equivocation, &one, &sign(1, 8, &view(2))), ProofError::Nothing),
            (proof(EvidenceKind::DoubleGrant, &one, &other), ProofError::Nothing),
            (proof(EvidenceKind::Forgery, &one, &other), ProofError::Nothing),
        ] {
            assert_eq!(evidence.take(&signer, proof), Err(why));
        }
        assert!(evidence.excluded().is_empty());
    }

    /// Whatever it fills the memory of others with, it decides nothing about what they remember.
    #[test]
    fn who_says_much_of_high_numbers_is_found_out_all_the_same() {
        let mut evidence = Evidence::new(3, 16);
        for n in 0..64 {
            let high =
                Signed::new(&Cheap(peer(1)), peer(1), Number { incarnation: u64::MAX, count: n }, &view(n)).unwrap();
            assert_eq!(evidence.compare(&high, &view(n), own()), None);
            let grant = grant(u64::MAX - n, 2);
            assert_eq!(evidence.compare(&sign(1, 1000 + n, &grant), &grant, own()), None);
        }
        assert_eq!(evidence.compare(&sign(1, 7, &view(1)), &view(1), own()), None);
        let proof = evidence.compare(&sign(1, 7, &view(2)), &view(2), own()).unwrap();
        assert_eq!(proof.kind, EvidenceKind::Equivocation);
        assert_eq!(evidence.compare(&sign(1, 8, &grant(4, 2)), &grant(4, 2), own()), None);
        let proof = evidence.compare(&sign(1, 9, &grant(4, 3)), &grant(4, 3), own()).unwrap();
        assert_eq!(proof.kind, EvidenceKind::DoubleGrant);
    }

    #[test]
    fn grants_of_terms_that_this_node_asked_for_are_not_driven_out_by_others() {
        let mut evidence = Evidence::new(3, 16);
        let own = Own { me: peer(9), asked: Some(Term(5)), ..own() };
        assert_eq!(evidence.compare(&sign(1, 1, &grant(5, 9)), &grant(5, 9), own), None);
        for n in 0..200 {
            // Some of them to this node, of terms that it never asked for.
            let grant = grant(100 + n, if n % 2 == 0 { 9 } else { 3 });
            assert_eq!(evidence.compare(&sign(1, 10 + n, &grant), &grant, own), None);
        }
        assert_eq!(evidence.grants_to(peer(9), Term(5)).count(), 1);
        let proof = evidence.compare(&sign(1, 999, &grant(5, 3)), &grant(5, 3), own).unwrap();
        assert_eq!(proof.kind, EvidenceKind::DoubleGrant);
    }

    #[test]
    fn three_strikes_exclude_and_a_restart_changes_nothing() {
        let signer = Cheap(peer(5));
        let mut evidence = Evidence::new(3, 16);
        let taken: Vec<Taken> = (0..4).map(|count| evidence.take(&signer, equivocation(1, count)).unwrap()).collect();
        assert_eq!(taken, [Taken::Strike(1), Taken::Strike(2), Taken::Excluded(3), Taken::Strike(4)]);
        let text = serde_json::to_string(&evidence.snapshot()).unwrap();
        let mut snapshot: EvidenceSnapshot = serde_json::from_str(&text).unwrap();
        let mut restarted = Evidence::new(3, 16);
        assert_eq!(restarted.restore(&signer, &snapshot), 4);
        assert_eq!(restarted.excluded(), BTreeSet::from([peer(1)]));
        assert_eq!(restarted.counts(), [(peer(1), EvidenceKind::Equivocation, 4)]);
        // A file that somebody wrote into excludes nobody.
        for proof in &mut snapshot.proofs {
            proof.first.origin = peer(2);
        }
        assert_eq!(Evidence::new(3, 16).restore(&signer, &snapshot), 0);
        assert!(restarted.pardon(&peer(1)) && restarted.excluded().is_empty());
        // Nobody's telling it again undoes that, nor does another restart; and it says that it need not be told.
        let mut again = Evidence::new(3, 16);
        again.restore(&signer, &restarted.snapshot());
        assert_eq!(again.take(&signer, equivocation(1, 2)), Ok(Taken::Known));
        assert!(again.excluded().is_empty() && evidence.lacked(&again.known(), |_| true).is_empty());
        assert_eq!(again.take(&signer, equivocation(1, 9)), Ok(Taken::Strike(1)), "what it does now counts");
    }

    #[test]
    fn proofs_are_bounded() {
        let mut evidence = Evidence::new(3, 16);
        for count in 0..100 {
            evidence.take(&Cheap(peer(5)), equivocation(1, count)).unwrap();
        }
        assert_eq!(evidence.against(&peer(1)).count(), 16);
    }

    #[test]
    fn who_lacks_a_proof_is_owed_it_until_it_has_what_excludes() {
        let signer = Cheap(peer(5));
        let (mut one, mut other) = (Evidence::new(3, 16), Evidence::new(3, 16));
        let lacked = |of: &Evidence, by: &Evidence| of.lacked(&by.known(), |_| true).len();
        for count in 0..2 {
            one.take(&signer, equivocation(1, count)).unwrap();
        }
        other.take(&signer, equivocation(1, 9)).unwrap();
        assert_eq!((lacked(&one, &other), lacked(&other, &one)), (2, 1), "each has what the other one lacks");
        let owed: Vec<Proof> = one.lacked(&other.known(), |_| true).into_iter().cloned().collect();
        owed.into_iter().for_each(|proof| assert!(other.take(&signer, proof).is_ok()));
        assert_eq!((lacked(&one, &other), lacked(&other, &one)), (0, 3));
        one.take(&signer, equivocation(1, 9)).unwrap();
        assert_eq!((one.known(), lacked(&other, &one)), (other.known(), 0));
        one.take(&signer, equivocation(1, 10)).unwrap();
        assert_eq!((lacked(&one, &other), lacked(&other, &one)), (0, 0), "it is excluded by both");
        assert_eq!(lacked(&one, &Evidence::new(3, 16)), 3, "no more than are needed");
        assert!(one.lacked(&BTreeMap::new(), |_| false).is_empty(), "nobody is told of strangers");
    }

    #[test]
    fn a_proof_that_is_shown_can_be_checked_by_whoever_reads_it() {
        let mut evidence = Evidence::new(3, 16);
        evidence.take(&Cheap(peer(5)), equivocation(1, 7)).unwrap();
        let [proof] = &evidence.report()[..] else { panic!("one proof") };
        assert_eq!((proof.peer, proof.kind), (peer(1), EvidenceKind::Equivocation));
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
        };
        for statement in &proof.statements {
            assert_eq!((statement.incarnation, statement.count), (1, 7));
            let signature = bytes(&statement.signature).try_into().unwrap();
            assert!(Cheap(peer(5)).verify(&peer(1), &bytes(&statement.signed), &signature));
        }
        assert_ne!(proof.statements[0].signed, proof.statements[1].signed);
    }

    fn equivocation(n: u8, count: u64) -> Proof {
        let (first, second) = (sign(n, count, &view(1)), Some(sign(n, count, &view(2))));
        Proof { kind: EvidenceKind::Equivocation, first, second }
    }

    fn own() -> Own {
        Own { me: peer(77), asked: None, reach: Term(1 << 20) }
    }

    fn view(n: u64) -> Statement {
        Statement::View(View { version: n, list: 0, heard: vec![1], split: false, known: Vec::new() })
    }

    fn grant(term: u64, holder: u8) -> Statement {
        let message = LeaseMessage::Granted { term: Term(term), holder: peer(holder), round: 1, life: 9 };
        Statement::Lease { to: peer(holder), packet: LeasePacket { version: 1, list: 0, message } }
    }

    fn sign(n: u8, count: u64, statement: &Statement) -> Signed {
        Signed::new(&Cheap(peer(n)), peer(n), Number { incarnation: 1, count }, statement).unwrap()
    }

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }
}
