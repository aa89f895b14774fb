//! What is known of the ways to a peer, across the links that went over them. Kept with the peer's group: a panic of the session's actor makes no
//! way that flaps a fresh one, and the record of a link that died still ends. Pure.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use bowline_messages::TransportKind;

use super::patience::Patience;
use super::policy::{Damping, Penalty};
use super::recovery::FailedLinks;

/// Names a way to the peer across the links that were dialled over it: its transport and the peer's host.
pub(super) type Route = (TransportKind, String);

/// Ways to the peer that are remembered.
pub(super) const ROUTES_MAX: usize = 64;

/// What is left of a failure that is forgotten: less than changes any choice.
const FORGOTTEN: f64 = 0.01;

/// What is known of the ways to a peer; a clone is the same.
pub(super) type KnownWays = Rc<RefCell<Ways>>;

/// What is known of the ways to a peer.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// For failures of late.
    penalties: BTreeMap<Route, Penalty>,
    /// How late links were: a new link over the same way is as late.
    lateness: BTreeMap<Route, Patience>,
    pub(super) failed: FailedLinks,
}

impl Ways {
    /// A link over this way failed.
    pub(super) fn penalise(&mut self, now: Instant, way: Route, damping: &Damping) {
        self.penalties.retain(|_, penalty| penalty.failures(now, damping) > FORGOTTEN);
        if self.penalties.len() >= ROUTES_MAX && !self.penalties.contains_key(&way) {
            let least = |(_, one): &(_, &Penalty), (_, other): &(_, &Penalty)| {
                one.failures(now, damping).total_cmp(&other.failures(now, damping))
            };
            if let Some(least) = self.penalties.iter().min_by(least).map(|(way, _)| way.clone()) {
                self.penalties.remove(&least);
            }
        }
        self.penalties.entry(way).or_insert_with(|| Penalty::none(now)).on_failure(now, damping);
    }

    /// How often a way failed of late, the older the less.
    pub(super) fn failures(&self, now: Instant, transport: &TransportKind, host: &str, damping: &Damping) -> f64 {
        // Looked through, not looked up: this is asked for each message, and a name to look up would have to be made.
        let known = self.penalties.iter().find(|((kind, at), _)| kind == transport && at == host);
        known.map_or(0.0, |(_, penalty)| penalty.failures(now, damping))
    }

    /// How many ways failed of late.
    #[cfg(test)]
    pub(super) fn penalties(&self) -> usize {
        self.penalties.len()
    }

    /// How late a link over this way was that is gone now.
    pub(super) fn remember_lateness(&mut self, now: Instant, way: Route, patience: Patience) {
        if self.lateness.len() >= ROUTES_MAX
            && !self.lateness.contains_key(&way)
            && let Some(least) = self
                .lateness
                .iter()
                .min_by(|(_, one), (_, other)| one.weight(now).total_cmp(&other.weight(now)))
                .map(|(way, _)| way.clone())
        {
            self.lateness.remove(&least);
        }
        self.lateness.insert(way, patience);
    }

    /// How late the last link over this way was.
    pub(super) fn lateness(&self, way: &Route) -> Option<Patience> {
        self.lateness.get(way).copied()
    }
}
