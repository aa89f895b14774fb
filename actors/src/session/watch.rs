//! What a session tells the health monitors and what it knows from them. Pure, and there only while the session has traffic: an idle one
//! pays for a null pointer.
//!
//! Round trips are thinned out where they occur, so that a message costs a comparison here and nothing else; what is left goes to the
//! monitors at the pace of metrics.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::LinkId;
use bowline_messages::health::{Advice, LinkObserved, LinkOpinion, RoundTrip};

use super::path::Path;

/// The pace of reports while there is traffic.
pub(super) const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Round trips of a link in one report at most.
const SAMPLES_MAX: usize = 16;
/// A session without traffic for this long tells nothing and forgets what it was told.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// An opinion that is not renewed for this long counts no more: the monitor is gone.
const OPINION_HOLDS: Duration = Duration::from_secs(5);
/// A link is watched once it has carried this many records: a handshake and a greeting are not worth it.
const RECORDS_MIN: u64 = 64;

/// What is gathered of one link, and what is thought of it.
#[derive(Debug, Default)]
struct Watched {
    samples: Vec<(Instant, Option<Duration>)>,
    next_sample: Option<Instant>,
    /// Rejected records at the last report; before the first one nothing is known of when they came.
    rejected: Option<u64>,
    opinion: Option<(Instant, Box<LinkOpinion>)>,
}

/// What a session with traffic knows of its links' health.
#[derive(Debug)]
pub(super) struct Watch {
    links: BTreeMap<LinkId, Watched>,
    report_at: Instant,
    busy_at: Instant,
}

impl Watch {
    /// Whether a link is worth watching.
    pub(super) fn is_worth(path: &Path) -> bool {
        path.stats.records_sent >= RECORDS_MIN
    }

    /// A session that has traffic.
    pub(super) fn new(now: Instant) -> Self {
        Self { links: BTreeMap::new(), report_at: now + REPORT_EVERY, busy_at: now }
    }

    /// A round trip was measured while the session had traffic.
    #[inline]
    pub(super) fn on_round_trip(&mut self, now: Instant, id: LinkId, took: Duration) {
        let watched = self.links.entry(id).or_default();
        if watched.next_sample.is_some_and(|next| now < next) {
            return;
        }
        watched.next_sample = Some(now + REPORT_EVERY / SAMPLES_MAX as u32);
        self.keep(now, id, Some(took));
    }

    /// An answer did not come in time.
    pub(super) fn on_missed(&mut self, now: Instant, id: LinkId) {
        self.keep(now, id, None);
    }

    #[cold]
    fn keep(&mut self, now: Instant, id: LinkId, took: Option<Duration>) {
        let samples = &mut self.links.entry(id).or_default().samples;
        if samples.len() >= SAMPLES_MAX {
            samples.remove(0);
        }
        samples.push((now, took));
        self.busy_at = now;
        self.report_at = self.report_at.min(now + REPORT_EVERY);
    }

    /// When it wants to be looked at.
    pub(super) fn deadline(&self) -> Instant {
        self.report_at
    }

    /// Whether it can be dropped.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.busy_at) >= FORGET_AFTER
    }

    /// What was seen since the last time, once that is due.
    pub(super) fn take(&mut self, now: Instant, path: &Path) -> Option<LinkObserved> {
        let waiting = path.has_outstanding_data();
        let watched = self.links.get_mut(&path.info.id)?;
        let errors =
            path.stats.records_rejected.saturating_sub(watched.rejected.unwrap_or(path.stats.records_rejected));
        if watched.samples.is_empty() && errors == 0 && !waiting {
            return None;
        }
        watched.rejected = Some(path.stats.records_rejected);
        let trip = |(at, took)| RoundTrip { ago: now.saturating_duration_since(at), took };
        let interface = path.info.interface.as_ref();
        Some(LinkObserved {
            link: path.info.id,
            interface: interface.map(|interface| interface.name.clone()),
            medium: interface.map(|interface| interface.medium).unwrap_or_default(),
            round_trips: std::mem::take(&mut watched.samples).into_iter().map(trip).collect(),
            waiting,
            errors: u32::try_from(errors).unwrap_or(u32::MAX),
            rate: path.window.bandwidth().filter(|_| waiting),
        })
    }

    /// Everything was taken: when to look again. Nothing new comes by itself; a sample moves it forward.
    pub(super) fn rest(&mut self, now: Instant, busy: bool) {
        self.report_at = if busy { now + REPORT_EVERY } else { (self.busy_at + FORGET_AFTER).max(now + REPORT_EVERY) };
    }

    /// A monitor said what it thinks of a link.
    pub(super) fn on_opinion(&mut self, now: Instant, opinion: LinkOpinion) {
        if let Some(watched) = self.links.get_mut(&opinion.link) {
            watched.opinion = Some((now, Box::new(opinion)));
        }
    }

    /// What is thought of a link.
    pub(super) fn opinion(&self, id: LinkId) -> Option<&LinkOpinion> {
        self.links.get(&id)?.opinion.as_ref().map(|(_, opinion)| &**opinion)
    }

    /// What to do about a link as things stand.
    pub(super) fn advice(&self, now: Instant, id: LinkId) -> Advice {
        let said = self.links.get(&id).and_then(|watched| watched.opinion.as_ref());
        let fresh = said.filter(|(at, _)| now.saturating_duration_since(*at) < OPINION_HOLDS);
        fresh.map_or(Advice::Keep, |(_, opinion)| opinion.advice)
    }

    /// A link is gone.
    pub(super) fn forget(&mut self, id: LinkId) {
        self.links.remove(&id);
    }
}
