//! How the peer of a session is reached at the moment, for what the node tells others of its neighbours.

use std::time::Instant;

use bowline_messages::link::LinkInfo;
use bowline_messages::network::Neighbour;
use bowline_messages::{LinkId, TransportKind};

use super::machine::Session;
use super::path::Path;

/// The transport whose links go through other peers.
const THROUGH_PEERS: &str = "mesh";

/// A link that was asked in vain so often does not answer. Once is nothing unusual where losses are.
const SUSPICIONS_BORNE: u32 = 2;

impl Session {
    /// Whether a link goes to the peer itself.
    pub(super) fn is_direct(&self, link: LinkId) -> bool {
        self.paths.get(&link).is_some_and(|path| path.info.transport.as_str() != THROUGH_PEERS)
    }

    /// The fastest direct link. What goes through peers must not go over a link that goes through peers itself: it could be on its way
    /// for ever.
    pub(super) fn direct_link(&self) -> Option<LinkId> {
        let direct = self.paths.values().filter(|path| path.state.is_usable() && self.is_direct(path.info.id));
        direct.min_by_key(|path| (path.suspicions, path.rtt.smoothed())).map(|path| path.info.id)
    }

    /// Whether the peer is reached without others: over a direct link that answers.
    pub(super) fn is_reached_directly(&self) -> bool {
        let answers = |path: &Path| path.state.is_usable() && path.proven && path.suspicions < SUSPICIONS_BORNE;
        self.paths.values().any(|path| answers(path) && self.is_direct(path.info.id))
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
        let direct = self.paths.keys().any(|id| self.is_direct(*id));
        let counted = self.paths.values().filter(|path| !direct || self.is_direct(path.info.id));
        // As soon as one speaks there is no such moment.
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

    /// The best usable link in short; `None` without one.
    pub(crate) fn standing(&self) -> Option<Neighbour> {
        let direct = |kind: &TransportKind| kind.as_str() != THROUGH_PEERS;
        let usable = self.paths.values().filter(|path| path.state.is_usable() && path.proven);
        // A direct link stands for the peer where there is one: through others it is no neighbour.
        let best = usable.min_by_key(|path| (!direct(&path.info.transport), path.suspicions, path.rtt.smoothed()))?;
        let stats = best.snapshot();
        Some(Neighbour {
            peer: self.peer,
            rtt: best.rtt.smoothed(),
            loss_ppm: stats.loss.map_or(0, |loss| (loss.clamp(0.0, 1.0) * 1e6) as u32),
            bandwidth: stats.delivery_rate.filter(|rate| rate.is_finite() && *rate >= 1.0).map(|rate| rate as u64),
            direct: direct(&best.info.transport),
            answers: best.suspicions < SUSPICIONS_BORNE,
        })
    }
}
