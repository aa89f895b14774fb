//! The life of a link beyond its death: a dial of its address is the attempt to recover it, a new link over the same way its recovery.
//! The new link has a number of its own; the record of the old one ends by naming it. Pure.

use std::collections::BTreeMap;

use bowline_messages::event::EventKind;
use bowline_messages::link::{FailedLink, LinkFailure, LinkInfo, LinkState, LinkStep};
use bowline_messages::{EndpointAddress, LinkId};

use super::machine::{Output, ROUTES_MAX, Route, Session, route};

/// Links that died and stand not again yet, by their way to the peer: one for each, the last.
pub(super) type FailedLinks = BTreeMap<Route, Box<FailedLink>>;

impl Session {
    /// A link died, by no one's will.
    pub(super) fn remember_failed(&mut self, info: &LinkInfo, reason: &LinkFailure) {
        let way = route(info);
        // Where another link stands over the same way nothing is dialled.
        let other = self.paths.values().any(|path| path.state.is_usable() && route(&path.info) == way);
        let room = self.failed.len() < ROUTES_MAX || self.failed.contains_key(&way);
        if other || !room {
            return;
        }
        let (info, reason) = (info.clone(), reason.clone());
        let failed = FailedLink { info, state: LinkState::Failed, reason, attempts: 0 };
        self.failed.insert(way, Box::new(failed));
    }

    /// An address is dialled: an attempt to recover the link that led there.
    pub fn on_dialling(&mut self, address: &EndpointAddress) {
        self.recovery_step(&way_to(address), LinkStep::RecoveryAttempt, None, None);
    }

    /// It could not be reached.
    pub fn on_dial_failed(&mut self, address: &EndpointAddress, error: &str) {
        let reason = LinkFailure::Transport(error.to_owned());
        self.recovery_step(&way_to(address), LinkStep::RecoveryFailed, Some(reason), None);
    }

    /// A link that was made is gone before it was up.
    pub(super) fn on_recovery_failed(&mut self, info: &LinkInfo, reason: &LinkFailure) {
        self.recovery_step(&route(info), LinkStep::RecoveryFailed, Some(reason.clone()), None);
    }

    /// A link is up: that which led the same way is recovered. If it was the peer that dialled, there was no attempt of this side's before.
    pub(super) fn on_recovered(&mut self, id: LinkId) {
        let Some(way) = self.paths.get(&id).map(|path| route(&path.info)) else { return };
        self.recovery_step(&way, LinkStep::RecoveryAttempt, None, None);
        self.recovery_step(&way, LinkStep::Recovered, None, Some(id));
        self.failed.remove(&way);
    }

    /// Links that died and stand not again yet.
    pub fn failed(&self) -> Vec<FailedLink> {
        self.failed.values().map(|failed| FailedLink::clone(failed)).collect()
    }

    /// Takes a step of the record of a dead link, if there is one that can take it.
    fn recovery_step(&mut self, way: &Route, step: LinkStep, reason: Option<LinkFailure>, successor: Option<LinkId>) {
        let Some(failed) = self.failed.get_mut(way) else { return };
        let from = failed.state;
        // Two addresses may lead the same way: the first attempt is the attempt, and the first failure ends it.
        let Ok(to) = from.after(step) else { return };
        failed.state = to;
        failed.attempts += u32::from(step == LinkStep::RecoveryAttempt);
        let (peer, link) = (self.peer, failed.info.id);
        let event = EventKind::LinkStep { peer, link, from, to, step, reason, evidence: None, successor };
        self.outputs.push_back(Output::Emit(event));
    }
}

fn way_to(address: &EndpointAddress) -> Route {
    (address.kind().clone(), address.host().to_owned())
}
