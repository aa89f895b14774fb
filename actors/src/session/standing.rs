//! How the peer of a session is reached at the moment, for what the node tells others of its neighbours.

use bowline_messages::TransportKind;
use bowline_messages::network::Neighbour;

use super::machine::Session;

/// The transport whose links go through other peers.
const THROUGH_PEERS: &str = "mesh";

impl Session {
    /// The best usable link in short; `None` without one.
    pub(crate) fn standing(&self) -> Option<Neighbour> {
        let direct = |kind: &TransportKind| kind.as_str() != THROUGH_PEERS;
        let usable = self.paths.values().filter(|path| path.state.is_usable() && path.proven && path.suspicions == 0);
        // A direct link stands for the peer where there is one: through others it is no neighbour.
        let best = usable.min_by_key(|path| (!direct(&path.info.transport), path.rtt.smoothed()))?;
        let stats = best.snapshot();
        Some(Neighbour {
            peer: self.peer,
            rtt: best.rtt.smoothed(),
            loss_ppm: stats.loss.map_or(0, |loss| (loss.clamp(0.0, 1.0) * 1e6) as u32),
            bandwidth: stats.delivery_rate.filter(|rate| rate.is_finite() && *rate >= 1.0).map(|rate| rate as u64),
            direct: direct(&best.info.transport),
        })
    }
}
