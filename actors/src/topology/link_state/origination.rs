//! When this node announces itself: at once when a link comes or goes after a quiet time, later when changes go on, rarely when only figures
//! changed or nothing did.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::LinkStateConfig;
use bowline_messages::topology::{LinkFacts, NodeFacts};

use super::announcement::Announcement;

/// Losses that differ by less than this are the same, in millionths.
const LOSS_PPM_STEP: u32 = 10_000;
/// Latencies that differ by less than this are the same.
const LATENCY_STEP: Duration = Duration::from_millis(2);
/// Loads and powers that differ by less than this are the same.
const SHARE_STEP: f64 = 0.1;
/// Figures are announced at most this many times for each refresh.
const FIGURES_PER_REFRESH: u32 = 3;

/// The schedule of this node's announcements.
#[derive(Debug)]
pub(super) struct Origination {
    last: Option<Instant>,
    hold: Duration,
    /// A link came or went.
    changed: bool,
    /// A figure changed.
    drifted: bool,
    refresh_at: Instant,
    refresh: Duration,
}

impl Origination {
    pub(super) fn new(now: Instant, config: &LinkStateConfig) -> Self {
        Self {
            last: None,
            hold: config.hold_least,
            changed: true,
            drifted: false,
            refresh_at: now,
            refresh: config.refresh_least,
        }
    }

    pub(super) fn on_change(&mut self) {
        self.changed = true;
    }

    pub(super) fn on_drift(&mut self) {
        self.drifted = true;
    }

    /// When to announce next.
    pub(super) fn deadline(&self, config: &LinkStateConfig) -> Instant {
        let Some(last) = self.last else { return self.refresh_at };
        let figures = config.figures_interval.max(self.refresh / FIGURES_PER_REFRESH);
        let mut at = self.refresh_at;
        if self.changed {
            at = at.min(last + self.hold);
        }
        if self.drifted {
            at = at.min(last + figures);
        }
        at
    }

    /// An announcement goes out. `share` (0 to 1) is drawn at random, so that nodes that started together do not refresh together.
    pub(super) fn on_announced(&mut self, now: Instant, config: &LinkStateConfig, refresh: Duration, share: f64) {
        let quiet = self.last.is_none_or(|last| now.saturating_duration_since(last) > self.hold * 2);
        if quiet {
            self.hold = config.hold_least;
        } else if self.changed {
            self.hold = (self.hold * 2).min(config.hold_most);
        }
        (self.last, self.changed, self.drifted) = (Some(now), false, false);
        self.refresh = refresh;
        self.refresh_at = now + refresh.mul_f64(0.8 + 0.2 * share);
    }

    /// How long an announcement that is made now counts.
    pub(super) fn lifetime(refresh: Duration, config: &LinkStateConfig) -> Duration {
        let lifetime = refresh * (config.lifetime_refreshes + 1);
        Duration::from_secs(lifetime.min(config.lifetime_max()).as_secs().max(1))
    }
}

/// How often announcements are refreshed so that all of them together cost each node no more than configured: every link carries each about
/// once, so a node sends all of them to about as many neighbours as an average node has, less the one they came from.
pub(super) fn refresh_interval(config: &LinkStateConfig, bytes: usize, average_degree: f64) -> Duration {
    let once_round = bytes as f64 * (average_degree - 1.0).max(1.0);
    let needed = once_round / config.refresh_bytes_per_second as f64;
    Duration::from_secs_f64(needed.min(config.refresh_most.as_secs_f64())).max(config.refresh_least)
}

/// The links of this node as they are announced: the cheapest ones where there are more than allowed.
pub(super) fn announced(
    config: &LinkStateConfig,
    neighbours: &BTreeMap<PeerId, LinkFacts>,
) -> Vec<(PeerId, LinkFacts)> {
    let mut links: Vec<_> =
        neighbours.iter().map(|(peer, facts)| (*peer, Announcement::within_range(*facts))).collect();
    if links.len() > config.edges_max {
        links.sort_by_key(|(peer, facts)| (facts.cost, *peer));
        links.truncate(config.edges_max);
        links.sort_by_key(|(peer, _)| *peer);
    }
    links
}

/// Whether figures of a link differ enough to be worth an announcement.
pub(super) fn drifted(config: &LinkStateConfig, before: &LinkFacts, now: &LinkFacts) -> bool {
    let far = |a: f64, b: f64| (a - b).abs() > config.figures_change * a.min(b);
    let latency = now.latency.abs_diff(before.latency) > LATENCY_STEP
        && far(before.latency.as_secs_f64(), now.latency.as_secs_f64());
    latency
        || far(f64::from(before.cost), f64::from(now.cost))
        || far(before.bandwidth as f64, now.bandwidth as f64)
        || before.loss_ppm.abs_diff(now.loss_ppm) > LOSS_PPM_STEP
        || before.healing != now.healing
}

/// The same of what the node itself is like: whether it changed, and whether that cannot wait.
pub(super) fn facts_differ(before: &NodeFacts, now: &NodeFacts) -> bool {
    before.kind != now.kind
        || before.coordinator != now.coordinator
        || before.relays != now.relays
        || (before.spare_links == 0) != (now.spare_links == 0)
        || (before.load - now.load).abs() > SHARE_STEP
        || (before.power - now.power).abs() > SHARE_STEP
}
