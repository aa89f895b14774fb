//! Which requests are new.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::LinkStateConfig;

/// The life and number of a node's request: later ones are greater.
pub(super) type Stamp = (u64, u64);

#[derive(Debug, Clone, Copy)]
struct Newest {
    stamp: Stamp,
    /// Since when the node is not in the graph.
    absent: Option<Instant>,
}

/// The newest stamp of each node that said something. Those of nodes that left the graph are kept for a while, so that what was heard from
/// one is not heard again when it is back.
#[derive(Debug)]
pub(super) struct Stamps {
    newest: BTreeMap<PeerId, Newest>,
    keep: Duration,
    absent_most: usize,
}

impl Stamps {
    /// Nobody said anything. Whoever is absent is remembered as its announcements are.
    pub(super) const fn new(config: &LinkStateConfig) -> Self {
        Self { newest: BTreeMap::new(), keep: config.remember_expired, absent_most: config.nodes_max }
    }

    /// Whether a node has not said this, nor anything later.
    pub(super) fn is_new(&self, peer: &PeerId, stamp: Stamp) -> bool {
        self.newest.get(peer).is_none_or(|newest| newest.stamp < stamp)
    }

    /// A node of the graph has said this.
    pub(super) fn note(&mut self, peer: PeerId, stamp: Stamp) {
        self.newest.insert(peer, Newest { stamp, absent: None });
    }

    /// The graph is another one, with these nodes in it.
    pub(super) fn on_graph(&mut self, now: Instant, present: impl Fn(&PeerId) -> bool) {
        for (peer, newest) in &mut self.newest {
            newest.absent = if present(peer) { None } else { newest.absent.or(Some(now)) };
        }
        let keep = self.keep;
        self.newest.retain(|_, newest| newest.absent.is_none_or(|since| now < since + keep));
        let absent = |(peer, newest): (&PeerId, &Newest)| Some((newest.absent?, *peer));
        let mut absent: Vec<(Instant, PeerId)> = self.newest.iter().filter_map(absent).collect();
        absent.sort_unstable();
        let beyond = absent.len().saturating_sub(self.absent_most);
        for (_, peer) in &absent[..beyond] {
            self.newest.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    #[test]
    fn whoever_is_away_for_a_while_is_not_heard_again_with_the_same() {
        let config = LinkStateConfig { remember_expired: Duration::from_secs(10), nodes_max: 2, ..Default::default() };
        let (mut stamps, now) = (Stamps::new(&config), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        (1..=3).for_each(|n| stamps.note(peer(n), (1, 5)));
        assert!(!stamps.is_new(&peer(1), (1, 5)) && stamps.is_new(&peer(1), (1, 6)) && stamps.is_new(&peer(1), (2, 0)));
        stamps.on_graph(at(0), |other| *other != peer(1));
        stamps.on_graph(at(1), |_| true);
        assert!(!stamps.is_new(&peer(1), (1, 5)), "it is back");
        stamps.on_graph(at(2), |_| false);
        assert_eq!(stamps.newest.len(), 2, "as many as there is room for");
        stamps.on_graph(at(11), |_| false);
        assert_eq!(stamps.newest.len(), 2);
        stamps.on_graph(at(12), |_| false);
        assert_eq!(stamps.newest.len(), 0);
    }
}
