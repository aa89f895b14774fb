//! Why there is no link to a peer, from what the node remembers.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_actors::session::handshake::HandshakeError;
use bowline_messages::session::{DialStatus, SessionEnd};
use bowline_messages::wire::Refusal;
use bowline_messages::{EndpointAddress, Event, EventKind, PeerId};

use super::protocol::{DialReport, WhyReport};
use super::report::{SessionReport, micros};
use super::running::{Running, way_back};
use crate::exit::{Exit, Failure};

/// Events that are searched for what happened to a peer: all that the journal keeps.
const EVENTS_SEARCHED: usize = 1024;

/// How the last dial of an address failed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LastFailure {
    at: Duration,
    error: String,
}

/// Whether a dial failed because the other side refused it for this reason.
pub(super) fn is_refusal(error: &str, reason: Refusal) -> bool {
    error == HandshakeError::Refused(reason).to_string()
}

/// Whether a dial failed only because earlier ones had: attempts pause then, here or over there. That says nothing about why they failed.
pub(super) fn only_waits(error: &str) -> bool {
    error.starts_with("failed several times") || is_refusal(error, Refusal::CoolDown)
}

/// How dials of a peer failed, the last one of each address that says why.
fn failures<'a>(events: impl IntoIterator<Item = &'a Event>, of: PeerId) -> BTreeMap<EndpointAddress, LastFailure> {
    let mut last: BTreeMap<EndpointAddress, LastFailure> = BTreeMap::new();
    for event in events {
        let EventKind::DialFailed { peer, address, error } = &event.kind else { continue };
        if *peer == of && !(only_waits(error) && last.contains_key(address)) {
            last.insert(address.clone(), LastFailure { at: event.at, error: error.clone() });
        }
    }
    last
}

/// How dials stand, with why the last one failed. `now`: since the node started.
fn dials(stand: Vec<DialStatus>, failed: &BTreeMap<EndpointAddress, LastFailure>, now: Duration) -> Vec<DialReport> {
    let report = |dial: DialStatus| {
        let last = failed.get(&dial.address);
        DialReport {
            under_way: dial.under_way,
            failures: dial.failures,
            next_in_us: (!dial.under_way).then(|| micros(dial.next_in)),
            failed_ago_us: last.map(|last| micros(now.saturating_sub(last.at))),
            error: last.map(|last| last.error.clone()),
            address: dial.address,
        }
    };
    stand.into_iter().map(report).collect()
}

/// What happened last between this node and a peer without a session, in words. `now`: since the node started.
fn history(events: &[Event], of: PeerId, now: Duration) -> String {
    let ago = |at: Duration| format!("{}s ago", now.saturating_sub(at).as_secs());
    let ended = events.iter().rev().find_map(|event| {
        let EventKind::SessionDown { peer, reason } = &event.kind else { return None };
        (*peer == of).then(|| (event.at, words(reason)))
    });
    let failed = failures(events, of);
    let mut parts = Vec::new();
    parts.extend(ended.map(|(at, reason)| format!("the last one ended {}: {reason}", ago(at))));
    let dialled = failed.iter().map(|(address, last)| format!("{address} failed {}: {}", ago(last.at), last.error));
    parts.extend(dialled);
    if parts.is_empty() { "it was not dialled, and has not dialled".to_owned() } else { parts.join(", ") }
}

fn words(end: &SessionEnd) -> String {
    match end {
        SessionEnd::ClosedHere => "it was closed here".to_owned(),
        SessionEnd::ClosedByPeer => "the peer closed it".to_owned(),
        SessionEnd::PeerLost => "no link could be had for too long".to_owned(),
        SessionEnd::PeerRestarted { .. } => "the peer was started anew".to_owned(),
        SessionEnd::Failed(why) => format!("its actors failed too often: {why}"),
        SessionEnd::Excluded(why) => format!("the peer was excluded: {why}"),
    }
}

impl Running {
    /// `GET /v1/why`.
    ///
    /// # Errors
    /// [`Exit::Usage`] when the peer is not known, [`Exit::False`] with what happened last when there is no session with it.
    pub(crate) async fn why(&self, text: &str) -> Result<WhyReport, Failure> {
        let peer = self.resolve(text).await?.peer;
        let events = self.node.recent_events(EVENTS_SEARCHED).await.unwrap_or_default();
        let Some(status) = self.node.sessions(Some(peer)).await.unwrap_or_default().pop() else {
            return Err(self.why_no_session(peer, &events));
        };
        let dials = dials(status.dials.clone(), &failures(&events, peer), self.uptime());
        let session = SessionReport::new(status, self.name_of(&peer), self.opinion(&peer).0);
        // A node without a mesh has none.
        let routes = self.routes(peer).await.unwrap_or_default();
        Ok(WhyReport { session, dials, routes })
    }

    fn why_no_session(&self, peer: PeerId, events: &[Event]) -> Failure {
        let none = format!("there is no session with {}", peer.short());
        if let Some(reason) = self.opinion(&peer).1 {
            return Failure::new(Exit::False, format_args!("{none}: it is excluded, {reason}")).hint(way_back(&peer));
        }
        let failure = Failure::new(Exit::False, format_args!("{none}: {}", history(events, peer, self.uptime())));
        let sought = !self.sought(peer, self.commanded.borrow().get(&peer)).is_empty();
        failure.hint(if sought {
            "it is sought: a new one is begun within seconds"
        } else {
            "make one with `bowline connect`"
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn address(text: &str) -> EndpointAddress {
        text.parse().unwrap()
    }

    fn failed(at: u64, of: u8, to: &str, error: &str) -> Event {
        let kind = EventKind::DialFailed { peer: peer(of), address: address(to), error: error.into() };
        Event { at: Duration::from_secs(at), kind }
    }

    #[test]
    fn every_address_tells_its_last_failure_and_a_pause_hides_none() {
        let events = [
            failed(1, 1, "tcp://a:1", "timed out"),
            failed(2, 1, "tcp://a:1", "refused"),
            failed(3, 1, "tcp://a:1", "failed several times in a row, next attempt in 4s"),
            failed(3, 1, "tcp://a:1", &HandshakeError::Refused(Refusal::CoolDown).to_string()),
            failed(4, 2, "tcp://a:1", "somebody else's"),
        ];
        let stand = |to: &str, under_way, failures| DialStatus {
            address: address(to),
            under_way,
            failures,
            next_in: Duration::from_secs(2),
        };
        let stand = vec![stand("tcp://a:1", false, 3), stand("tcp://b:1", true, 0)];
        let reports = dials(stand, &failures(&events, peer(1)), Duration::from_secs(10));
        assert_eq!((reports[0].error.as_deref(), reports[0].failed_ago_us), (Some("refused"), Some(8_000_000)));
        assert_eq!((reports[0].failures, reports[0].next_in_us), (3, Some(2_000_000)));
        assert_eq!((&reports[1].error, reports[1].under_way, reports[1].next_in_us), (&None, true, None));
    }

    #[test]
    fn without_a_session_what_happened_last_is_told() {
        let now = Duration::from_secs(10);
        assert_eq!(history(&[], peer(1), now), "it was not dialled, and has not dialled");
        let down = EventKind::SessionDown { peer: peer(1), reason: SessionEnd::ClosedHere };
        let events = [Event { at: Duration::from_secs(4), kind: down }, failed(7, 1, "tcp://a:1", "refused")];
        let told = history(&events, peer(1), now);
        assert_eq!(told, "the last one ended 6s ago: it was closed here, tcp://a:1 failed 3s ago: refused");
    }
}
