//! How the peer of a session is reached at the moment, for what the node tells others of its neighbours.

use std::time::{Duration, Instant};

use bowline_messages::LinkId;
use bowline_messages::link::LinkInfo;
use bowline_messages::network::Neighbour;

use super::machine::Session;
use super::path::Path;
use crate::transport::registry::leads_through_others;

/// A link that was asked in vain so often does not answer. Once is nothing unusual where losses are.
const SUSPICIONS_BORNE: u32 = 2;

impl Session {
    /// Whether a link goes to the peer itself.
    pub(super) fn is_direct(&self, link: LinkId) -> bool {
        self.paths.get(&link).is_some_and(|path| !leads_through_others(&path.info.transport))
    }

    /// The fastest direct link. What goes through peers must not go over a link that goes through peers itself: it could be on its way
    /// for ever.
    pub(super) fn direct_link(&self) -> Option<LinkId> {
        let direct =
            self.paths.values().filter(|path| path.state.is_usable() && !leads_through_others(&path.info.transport));
        direct.min_by_key(|path| (path.suspicions, path.rtt.smoothed())).map(|path| path.info.id)
    }

    /// Whether the peer is reached without others: over a direct link that answers.
    pub(super) fn is_reached_directly(&self) -> bool {
        let answers = |path: &Path| path.state.is_usable() && path.proven && path.suspicions < SUSPICIONS_BORNE;
        self.paths.values().any(|path| answers(path) && !leads_through_others(&path.info.transport))
    }

    /// Since when a link that was asked in vain has said nothing.
    fn silent_since(path: &Path) -> Option<Instant> {
        let own = || path.missing_since().or(path.waiting_since()).filter(|_| path.suspicions >= SUSPICIONS_BORNE);
        // The peer may have said first that it is dead.
        path.failing_since.or_else(own)
    }

    /// When every direct link has been silent for so long that new ones to the same places are worth a try beside them: over a path that was dead
    /// for seconds a new connection gets through long before an old one sends its next retransmission. A link through others that works
    /// meanwhile changes nothing about that; it counts only where there is no other.
    pub fn stuck_at(&self) -> Option<Instant> {
        let goes_direct = |path: &Path| !leads_through_others(&path.info.transport);
        // As soon as one speaks there is no such moment; nearly always the first does.
        if self.paths.values().any(|path| goes_direct(path) && Self::silent_since(path).is_none()) {
            return None;
        }
        let direct = self.paths.values().any(|path| goes_direct(path));
        let counted = self.paths.values().filter(|path| !direct || goes_direct(path));
        let silent = counted.map(|path| Self::silent_since(path)).collect::<Option<Vec<_>>>()?;
        silent.into_iter().max().map(|since| since + self.config.spare_patience)
    }

    /// Whether it is so now.
    pub fn is_stuck(&self, now: Instant) -> bool {
        self.stuck_at().is_some_and(|at| at <= now)
    }

    /// The links that new ones are weighed against: all, and when that is stuck those only that still speak.
    pub fn standing_links(&self, now: Instant) -> impl Iterator<Item = &LinkInfo> + '_ {
        let stuck = self.is_stuck(now);
        let silent = move |path: &Path| {
            stuck && Self::silent_since(path).is_some_and(|since| since + self.config.spare_patience <= now)
        };
        self.paths.values().filter(move |path| !silent(path)).map(|path| &*path.info)
    }

    /// The best usable link in short, and when something last arrived over any; `None` without one.
    pub(crate) fn standing(&self) -> Option<(Neighbour, Instant)> {
        let usable = || self.paths.values().filter(|path| path.state.is_usable() && path.proven);
        let arrived = usable().map(|path| path.arrived_at).max()?;
        // A direct link stands for the peer where there is one: through others it is no neighbour.
        let best = usable()
            .min_by_key(|path| (leads_through_others(&path.info.transport), path.suspicions, path.rtt.smoothed()))?;
        let stats = best.snapshot();
        let neighbour = Neighbour {
            peer: self.peer,
            rtt: best.rtt.smoothed(),
            loss_ppm: stats.loss.map_or(0, |loss| (loss.clamp(0.0, 1.0) * 1e6) as u32),
            bandwidth: stats.delivery_rate.filter(|rate| rate.is_finite() && *rate >= 1.0).map(|rate| rate as u64),
            direct: !leads_through_others(&best.info.transport),
            idle: Duration::ZERO,
            answers: best.suspicions < SUSPICIONS_BORNE,
        };
        Some((neighbour, arrived))
    }
}
