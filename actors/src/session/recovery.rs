//! The life of a link beyond its death: a dial of its address is the attempt to recover it, a new link over the same way its recovery.
//! The new link has a number of its own; the record of the old one ends by naming it. A record that nothing is done about any more ends as
//! well: a peer that roams leaves one behind wherever it was. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::event::EventKind;
use bowline_messages::link::{FailedLink, LinkFailure, LinkInfo, LinkState, LinkStep};
use bowline_messages::{EndpointAddress, LinkId};

use super::machine::{Output, Session, route};
use super::ways::{ROUTES_MAX, Route};

/// An attempt to recover a link is over after this long, whatever has become of it: a dial takes 30 s at most, and a link that came of it is closed
/// before long unless the peer speaks on it.
const ATTEMPT_MAX: Duration = Duration::from_secs(60);
/// A link that nobody has tried to recover for so long is forgotten. Addresses that are known are dialled every 30 s at least while links
/// are missing.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// A link that died.
#[derive(Debug)]
pub(super) struct Record {
    failed: FailedLink,
    /// When something happened to it last.
    since: Instant,
}

impl Record {
    /// When it is over with the state that it has.
    fn until(&self) -> Instant {
        self.since + if self.failed.state == LinkState::Recovering { ATTEMPT_MAX } else { FORGOTTEN_AFTER }
    }
}

/// Links that died and stand not again yet, by their way to the peer: one for each, the last.
pub(super) type FailedLinks = BTreeMap<Route, Box<Record>>;

impl Session {
    /// A link died, by no one's will.
    pub(super) fn remember_failed(&mut self, now: Instant, info: &LinkInfo, reason: &LinkFailure) {
        let way = route(info);
        // Where another link stands over the same way nothing is dialled.
        if self.paths.values().any(|path| path.state.is_usable() && route(&path.info) == way) {
            return;
        }
        if let Some(oldest) = self.crowded_out(&way) {
            self.forget_failed(now, &oldest);
        }
        let (info, reason) = (info.clone(), reason.clone());
        let failed = FailedLink { info, state: LinkState::Failed, reason, attempts: 0 };
        self.ways.borrow_mut().failed.insert(way, Box::new(Record { failed, since: now }));
    }

    /// The way whose record has to go for that of another.
    fn crowded_out(&self, by: &Route) -> Option<Route> {
        let failed = &self.ways.borrow().failed;
        let crowded = failed.len() >= ROUTES_MAX && !failed.contains_key(by);
        let oldest = failed.iter().filter(|_| crowded).min_by_key(|(_, record)| record.since);
        oldest.map(|(way, _)| way.clone())
    }

    /// An address is dialled: an attempt to recover the link that led there.
    pub fn on_dialling(&mut self, now: Instant, address: &EndpointAddress) {
        self.recovery_step(now, &way_to(address), LinkStep::RecoveryAttempt, None, None);
    }

    /// It could not be reached.
    pub fn on_dial_failed(&mut self, now: Instant, address: &EndpointAddress, error: &str) {
        let reason = LinkFailure::Transport(error.to_owned());
        self.recovery_step(now, &way_to(address), LinkStep::RecoveryFailed, Some(reason), None);
    }

    /// A link that was made is gone before it was up.
    pub(super) fn on_recovery_failed(&mut self, now: Instant, info: &LinkInfo, reason: &LinkFailure) {
        self.recovery_step(now, &route(info), LinkStep::RecoveryFailed, Some(reason.clone()), None);
    }

    /// A link is up: that which led the same way is recovered. If it was the peer that dialled, there was no attempt of this side's before.
    pub(super) fn on_recovered(&mut self, now: Instant, id: LinkId) {
        let Some(way) = self.paths.get(&id).map(|path| route(&path.info)) else { return };
        self.recovery_step(now, &way, LinkStep::RecoveryAttempt, None, None);
        self.recovery_step(now, &way, LinkStep::Recovered, None, Some(id));
        self.ways.borrow_mut().failed.remove(&way);
    }

    /// Links that died and stand not again yet.
    pub fn failed(&self) -> Vec<FailedLink> {
        self.ways.borrow().failed.values().map(|record| record.failed.clone()).collect()
    }

    /// When [`Session::age_failed`] wants to run.
    pub fn failed_deadline(&self) -> Option<Instant> {
        self.ways.borrow().failed.values().map(|record| record.until()).min()
    }

    /// Ends attempts of which nothing has come, and records of links that nobody has tried to recover for long. Late and spurious calls do no
    /// harm.
    pub fn age_failed(&mut self, now: Instant) {
        let over = |record: &Record| record.until() <= now;
        let due: Vec<_> = self
            .ways
            .borrow()
            .failed
            .iter()
            .filter(|(_, record)| over(record))
            .map(|(way, record)| (way.clone(), record.failed.state))
            .collect();
        for (way, state) in due {
            if state == LinkState::Recovering {
                let reason = LinkFailure::Transport("nothing came of the attempt".to_owned());
                self.recovery_step(now, &way, LinkStep::RecoveryFailed, Some(reason), None);
            } else {
                self.forget_failed(now, &way);
            }
        }
    }

    fn forget_failed(&mut self, now: Instant, way: &Route) {
        let reason = LinkFailure::ClosedHere("nobody tries to have it again".to_owned());
        self.recovery_step(now, way, LinkStep::Closed, Some(reason), None);
        self.ways.borrow_mut().failed.remove(way);
    }

    /// Takes a step of the record of a dead link, if there is one that can take it.
    fn recovery_step(
        &mut self,
        now: Instant,
        way: &Route,
        step: LinkStep,
        reason: Option<LinkFailure>,
        successor: Option<LinkId>,
    ) {
        let mut ways = self.ways.borrow_mut();
        let Some(record) = ways.failed.get_mut(way) else { return };
        let failed = &mut record.failed;
        let from = failed.state;
        // Two addresses may lead the same way: the first attempt is the attempt, and the first failure ends it.
        let Ok(to) = from.after(step) else { return };
        failed.state = to;
        failed.attempts = failed.attempts.saturating_add(u32::from(step == LinkStep::RecoveryAttempt));
        record.since = now;
        let (peer, link) = (self.peer, failed.info.id);
        let event = EventKind::LinkStep { peer, link, from, to, step, reason, evidence: None, successor };
        self.outputs.push_back(Output::Emit(event));
    }
}

fn way_to(address: &EndpointAddress) -> Route {
    (address.kind().clone(), address.host().to_owned())
}
