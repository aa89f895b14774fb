//! How the peer of a session is reached at the moment, for what the node tells others of its neighbours.

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
