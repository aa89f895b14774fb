//! Commands that need a peer only while they run: what naming it changed is undone when the last of them has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bowline_actors::node::{DisconnectPeer, SeekPeer};
use bowline_actors::session::handle::SessionHandle;
use bowline_messages::link::Binding;
use bowline_messages::{EndpointAddress, PeerId};

use super::protocol::PeerAsked;
use super::report::SessionReport;
use super::running::Running;
use super::seeking::sought;
use crate::exit::Failure;

/// Peers that commands visit now. Pure.
#[derive(Debug, Default)]
pub(super) struct Visits {
    open: BTreeMap<PeerId, Visited>,
}

/// How things stood before the first of the commands that visit a peer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Before {
    /// Whether a command had accepted the peer.
    pub(super) named: bool,
    /// Whether there was a session with it.
    pub(super) session: bool,
}

#[derive(Debug)]
struct Visited {
    before: Before,
    commands: usize,
    /// Whether a link stood meanwhile.
    linked: bool,
}

/// What is left to do about a peer that nobody visits any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parting {
    /// Nothing: it stays as it is.
    Stay,
    /// It is to be sought there and nowhere else; a session goes on. Nowhere: as if the peer had made it.
    At(Vec<EndpointAddress>),
    /// The session ends.
    Disconnect,
}

/// What decides about the parting, besides how the visit went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lasting {
    /// Whether a command connected to the peer for good.
    pub(super) commanded: bool,
    /// Whether the peer may have a session without the visit.
    pub(super) admitted: bool,
    /// Where the peer book and commands want it to be sought.
    pub(super) sought: Vec<EndpointAddress>,
}

/// The end of the last visit of a peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    before: Before,
    linked: bool,
}

impl Ended {
    /// Whether it was the visit that had the peer accepted.
    pub(super) fn accepted_it(&self, commanded: bool) -> bool {
        !self.before.named && !commanded
    }

    /// What is to be done now.
    pub(super) fn parting(&self, lasting: Lasting) -> Parting {
        if !lasting.sought.is_empty() {
            return if lasting.admitted { Parting::At(lasting.sought) } else { Parting::Disconnect };
        }
        match (lasting.commanded, lasting.admitted && (self.before.session || self.linked)) {
            (true, _) => Parting::Stay,
            (false, true) => Parting::At(Vec::new()),
            (false, false) => Parting::Disconnect,
        }
    }
}

impl Visits {
    /// A command begins to visit a peer. `before` counts when it is the first one.
    pub(super) fn begin(&mut self, peer: PeerId, before: Before) {
        let visited = self.open.entry(peer).or_insert(Visited { before, commands: 0, linked: false });
        visited.commands += 1;
    }

    /// A link to the peer stands.
    pub(super) fn linked(&mut self, peer: &PeerId) {
        if let Some(visited) = self.open.get_mut(peer) {
            visited.linked = true;
        }
    }

    /// A command has ended. Gives something when it was the last one.
    pub(super) fn end(&mut self, peer: &PeerId) -> Option<Ended> {
        let visited = self.open.get_mut(peer)?;
        visited.commands -= 1;
        if visited.commands > 0 {
            return None;
        }
        let Visited { before, linked, .. } = self.open.remove(peer)?;
        Some(Ended { before, linked })
    }
}

/// One command's visit of a peer: as long as it is held, the peer is accepted.
pub(crate) struct Visit {
    running: Rc<Running>,
    peer: PeerId,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.running.end_visit(self.peer);
    }
}

impl Running {
    /// Finds or makes the session with a peer and waits until a link carries it, for a command that needs it as long as it runs.
    ///
    /// # Errors
    /// [`Exit::Usage`](crate::exit::Exit::Usage) when the peer is not known, and those of [`Running::linked_at_once`] and [`Running::begin`].
    pub(crate) async fn visit(
        self: &Rc<Self>,
        asked: &PeerAsked,
    ) -> Result<(Visit, SessionHandle, SessionReport), Failure> {
        let target = self.target(asked).await?;
        let session = self.node.session(target.peer).await.is_ok_and(|session| session.is_some());
        let named = self.node.services().trust.borrow().is_named(&target.peer);
        self.visits.borrow_mut().begin(target.peer, Before { named, session });
        let visit = Visit { running: Rc::clone(self), peer: target.peer };
        let begun = self.begin(&target).await?;
        let report = self.linked_at_once(&begun, asked.timeout).await?;
        self.visits.borrow_mut().linked(&target.peer);
        Ok((visit, begun.session, report))
    }

    fn end_visit(&self, peer: PeerId) {
        let Some(ended) = self.visits.borrow_mut().end(&peer) else { return };
        let commanded = self.commanded.borrow().get(&peer).cloned();
        let services = self.node.services();
        if ended.accepted_it(commanded.is_some()) {
            services.trust.borrow_mut().withdraw(&peer);
        }
        let lasting = Lasting {
            commanded: commanded.is_some(),
            admitted: services.admits(&peer),
            sought: self.sought(peer, commanded.as_ref()),
        };
        // One message for each command, whatever became of it.
        match ended.parting(lasting) {
            Parting::Stay => {}
            Parting::At(addresses) => {
                let addresses = addresses.into_iter().map(|address| (address, Binding::Any)).collect();
                self.node.peers().do_send(SeekPeer { peer, addresses });
            }
            Parting::Disconnect => self.node.peers().do_send(DisconnectPeer(peer)),
        }
    }

    /// Where a peer is sought without any visit.
    pub(super) fn sought(&self, peer: PeerId, commanded: Option<&BTreeSet<EndpointAddress>>) -> Vec<EndpointAddress> {
        let loaded = self.loaded.borrow();
        sought(loaded.config.peers.values().find(|entry| entry.id == peer), commanded)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer() -> PeerId {
        PeerId::from_bytes([1; 32])
    }

    fn lasting(commanded: bool, admitted: bool, sought: &[&str]) -> Lasting {
        Lasting { commanded, admitted, sought: sought.iter().map(|text| text.parse().unwrap()).collect() }
    }

    fn visit(before: Before, linked: bool) -> Ended {
        let mut visits = Visits::default();
        visits.begin(peer(), before);
        if linked {
            visits.linked(&peer());
        }
        visits.end(&peer()).unwrap()
    }

    #[test]
    fn the_last_of_several_commands_parts_and_what_was_before_the_first_counts() {
        let mut visits = Visits::default();
        visits.begin(peer(), Before::default());
        visits.begin(peer(), Before { named: true, session: true });
        assert_eq!(visits.end(&peer()), None);
        let ended = visits.end(&peer()).unwrap();
        assert!(ended.accepted_it(false), "it was the first one that accepted the peer");
        assert!(!ended.accepted_it(true), "a command connected to it for good meanwhile");
        assert_eq!(visits.end(&peer()), None);
    }

    #[test]
    fn a_peer_that_only_the_visit_accepted_loses_its_session() {
        for linked in [false, true] {
            let ended = visit(Before::default(), linked);
            assert_eq!(ended.parting(lasting(false, false, &[])), Parting::Disconnect);
        }
    }

    #[test]
    fn what_others_want_goes_on_as_they_want_it() {
        let at_a = || vec!["tcp://a:1".parse().unwrap()];
        let ended = visit(Before { named: true, session: true }, true);
        assert_eq!(ended.parting(lasting(true, true, &["tcp://a:1"])), Parting::At(at_a()));
        assert_eq!(ended.parting(lasting(true, true, &[])), Parting::Stay);
        let ended = visit(Before::default(), false);
        assert_eq!(ended.parting(lasting(false, true, &["tcp://a:1"])), Parting::At(at_a()));
    }

    #[test]
    fn where_everybody_is_accepted_a_link_stays_and_an_attempt_does_not() {
        assert_eq!(visit(Before::default(), true).parting(lasting(false, true, &[])), Parting::At(Vec::new()));
        assert_eq!(visit(Before::default(), false).parting(lasting(false, true, &[])), Parting::Disconnect);
        let had_one = Before { named: false, session: true };
        assert_eq!(visit(had_one, false).parting(lasting(false, true, &[])), Parting::At(Vec::new()));
    }
}
