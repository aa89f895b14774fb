//! What this node thinks of its peers, and letting an excluded one back in.

use std::collections::BTreeSet;

use bowline_actors::session::trust::SCORE_NEUTRAL;
use bowline_messages::PeerId;

use super::protocol::{TrustReport, TrustedPeer};
use super::running::Running;
use crate::exit::{Exit, Failure};

impl Running {
    /// `GET /v1/trust`: everybody of whom something is known, besides who is in the configuration.
    pub(crate) fn trust(&self) -> TrustReport {
        let peers = self.remembered().into_iter().map(|peer| self.trusted(peer)).collect();
        TrustReport { policy: self.node.services().trust.borrow().policy(), peers }
    }

    /// Peers of whom something is known that the configuration does not say.
    pub(super) fn remembered(&self) -> BTreeSet<PeerId> {
        let trust = self.node.services().trust.borrow();
        let kept = trust.snapshot();
        let mut peers: BTreeSet<PeerId> = kept.excluded.keys().chain(kept.scores.keys()).copied().collect();
        peers.extend(kept.met.iter());
        peers.extend(trust.named());
        peers
    }

    fn trusted(&self, peer: PeerId) -> TrustedPeer {
        let trust = self.node.services().trust.borrow();
        let kept = trust.snapshot();
        TrustedPeer {
            peer,
            name: self.name_of(&peer),
            score: trust.score(&peer),
            accepted: trust.standing(&peer).is_ok(),
            excluded: trust.exclusion(&peer).map(str::to_owned),
            named: trust.is_named(&peer),
            met: kept.met.contains(&peer),
        }
    }

    /// What is thought of a peer, and why it is excluded if it is.
    pub(super) fn opinion(&self, peer: &PeerId) -> (f64, Option<String>) {
        let trust = self.node.services().trust.borrow();
        (trust.score(peer), trust.exclusion(peer).map(str::to_owned))
    }

    /// `POST /v1/trust/readmit`: lets a peer back in and seeks it again if the peer book or a command says so.
    ///
    /// # Errors
    /// [`Exit::Usage`] when the peer is not known, [`Exit::False`] when it is not excluded.
    pub(crate) async fn readmit(&self, text: &str) -> Result<TrustedPeer, Failure> {
        let peer = self.resolve(text).await?.peer;
        if !self.node.services().trust.borrow_mut().readmit(&peer) {
            return Err(Failure::new(Exit::False, format_args!("{} is not excluded", peer.short())));
        }
        tracing::info!(%peer, score = SCORE_NEUTRAL, "let back in by a command");
        self.seek_again(peer).await;
        Ok(self.trusted(peer))
    }

    /// `POST /v1/trust/forget`: forgets that a peer was met on first use.
    ///
    /// # Errors
    /// [`Exit::Usage`] when the peer is not known, [`Exit::False`] when there is nothing to forget.
    pub(crate) async fn forget(&self, text: &str) -> Result<TrustedPeer, Failure> {
        let peer = self.resolve(text).await?.peer;
        if !self.node.services().trust.borrow_mut().forget_peer(&peer) {
            return Err(Failure::new(Exit::False, format_args!("{} was not met on first use", peer.short())));
        }
        Ok(self.trusted(peer))
    }
}
