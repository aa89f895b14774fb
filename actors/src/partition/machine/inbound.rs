//! What comes from others, looked at before it is believed.

use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::membership::FailureKind;
use bowline_messages::partition::{EvidenceKind, PartitionEvent, Term};

use super::super::evidence::{Own, Proof, Taken};
use super::super::lease::LeaseMessage;
use super::super::strategy;
use super::super::views::{Merged, View};
use super::super::wire::{Signed, Statement, WireError};
use super::{Partition, PartitionOutput};

impl Partition {
    /// A payload that the carrier brought from a neighbour. What is not well made, not signed by its origin, or from somebody who does not take
    /// part or is excluded, changes nothing but a count.
    pub fn on_packet(&mut self, now: Instant, from: PeerId, payload: &[u8]) -> Vec<PartitionOutput> {
        // Whoever has a session may send as much as it likes; a signature is looked at only for those who have to do with it.
        if self.configuration().contains(&from) && self.take(now, from, payload).is_err() {
            self.metrics.refused += 1;
        }
        self.finish(now)
    }

    fn take(&mut self, now: Instant, from: PeerId, payload: &[u8]) -> Result<(), WireError> {
        let signed = Signed::decode(payload)?;
        signed.verify(&*self.signer)?;
        let origin = signed.origin;
        if origin == self.me || !self.configuration().contains(&origin) || self.evidence.is_excluded(&origin) {
            return Ok(());
        }
        let statement = signed.statement()?;
        if from == origin {
            self.note(origin, &statement);
        }
        if from == origin && !self.goes_by_another_list(&origin) {
            self.detector.on_heard(now, origin);
        }
        self.compare(now, &signed, &statement);
        match statement {
            Statement::Lease { to, packet } if to == self.me => {
                if let LeaseMessage::Ask { term, .. } | LeaseMessage::Confirmed { term, .. } = packet.message {
                    self.on_rival(origin, term);
                }
                let outputs = self.contest.on_packet(now, origin, packet);
                self.on_contest(now, outputs);
            }
            Statement::Lease { .. } => {}
            Statement::View(view) => self.take_view(now, signed, &view),
            Statement::Relay(inner) => self.on_relayed(now, signed, &inner)?,
            Statement::Proof(proof) => self.on_proof(now, proof),
        }
        Ok(())
    }

    /// What somebody passes on it has checked, so what its origin did not sign is its own misdeed.
    fn on_relayed(&mut self, now: Instant, relay: Signed, inner: &[u8]) -> Result<(), WireError> {
        let signed = Signed::decode(inner)?;
        if let Err(error) = signed.verify(&*self.signer) {
            self.on_proof(now, Proof { kind: EvidenceKind::Forgery, first: relay, second: None });
            return Err(error);
        }
        let origin = signed.origin;
        if origin == self.me || !self.configuration().contains(&origin) || self.evidence.is_excluded(&origin) {
            return Ok(());
        }
        let statement = signed.statement()?;
        self.compare(now, &signed, &statement);
        if let Statement::View(view) = statement {
            self.take_view(now, signed, &view);
        }
        Ok(())
    }

    /// A view, from its origin or passed on. The newest of each is kept to be passed on.
    fn take_view(&mut self, now: Instant, signed: Signed, view: &View) {
        let configuration = self.contest.lease().configuration();
        if self.views.merge(now, configuration, signed.origin, signed.number, view) == Merged::New {
            self.newest.insert(signed.origin, signed);
        }
    }

    /// By which list somebody goes, as it says itself: what others pass on may be from before.
    fn note(&mut self, origin: PeerId, statement: &Statement) {
        match statement {
            Statement::View(view) => self.note_list(origin, view.version, view.list),
            Statement::Lease { packet, .. } => self.note_list(origin, packet.version, packet.list),
            Statement::Relay(_) | Statement::Proof(_) => {}
        }
    }

    fn compare(&mut self, now: Instant, signed: &Signed, statement: &Statement) {
        let lease = self.contest.lease();
        let own = Own { me: self.me, asked: lease.asked(), reach: Term(lease.within_reach()) };
        if let Some(proof) = self.evidence.compare(signed, statement, own) {
            self.on_proof(now, proof);
        }
    }

    /// A proof, found here or brought by somebody. A new one is told to everybody, under this node's own signature.
    fn on_proof(&mut self, now: Instant, proof: Proof) {
        let (peer, kind) = (proof.accused(), proof.kind);
        // One against a stranger is nobody's concern, and would be remembered for nothing.
        if !self.configuration().contains(&peer) {
            return;
        }
        let (strikes, excluded) = match self.evidence.take(&*self.signer, proof.clone()) {
            Ok(Taken::Strike(strikes)) => (strikes, false),
            Ok(Taken::Excluded(strikes)) => (strikes, true),
            Ok(Taken::Known) => return,
            Err(_) => {
                self.metrics.refused += 1;
                return;
            }
        };
        self.outputs.push(PartitionOutput::PersistEvidence(self.evidence.snapshot()));
        self.emit(PartitionEvent::Evidence { peer, kind, strikes });
        let everybody: Vec<PeerId> = self.configuration().participants().iter().copied().collect();
        self.say(&everybody, &Statement::Proof(proof));
        if excluded {
            self.emit(PartitionEvent::Excluded { peer });
            self.side = self.side_now(now);
            self.escalate(now, strategy::choose(FailureKind::ByzantineFailure, self.side));
        }
    }
}
