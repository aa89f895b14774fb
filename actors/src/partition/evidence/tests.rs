//! What counts as a proof, against whom, and how many are kept.

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
        evidence.remembered.values().all(|said| said.of.len() <= REMEMBERED_MAX && said.order.len() == said.of.len())
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
        let high = Signed::new(&Cheap(peer(1)), peer(1), Number { incarnation: u64::MAX, count: n }, &view(n)).unwrap();
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
    let message = LeaseMessage::Granted { term: Term(term), holder: peer(holder), round: 1, asker: 7, life: 9 };
    Statement::Lease { to: peer(holder), packet: LeasePacket { version: 1, list: 0, message } }
}

fn sign(n: u8, count: u64, statement: &Statement) -> Signed {
    Signed::new(&Cheap(peer(n)), peer(n), Number { incarnation: 1, count }, statement).unwrap()
}

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}
