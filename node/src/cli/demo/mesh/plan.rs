//! Who takes part, how they are connected at first, and what happens when. Pure.

use std::time::Duration;

/// How many nodes there are.
pub const NODES: usize = 8;
/// What they are called. The bridge node stands between two clusters.
pub const NAMES: [&str; NODES] = ["A", "B", "C", "D", "M", "X", "Y", "Z"];
/// The node between the clusters.
pub const BRIDGE: usize = 4;
/// The cluster that nothing happens to: together with the bridge node it is a majority.
pub const LEFT: [usize; 4] = [0, 1, 2, 3];
/// The other one.
pub const RIGHT: [usize; 3] = [5, 6, 7];
/// The links at first; who dials comes first. The bridge node is the only way from one cluster to the other.
pub const LINKS: [(usize, usize); 12] =
    [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (5, 6), (6, 7), (7, 5), (4, 1), (4, 2), (4, 5), (4, 7)];
/// Lives of processes: one for each node, and the second one of the bridge node.
pub const LIVES: usize = NODES + 1;

/// Whose life it is.
pub const fn node_of(life: usize) -> usize {
    if life < NODES { life } else { BRIDGE }
}

/// Whether two nodes are on different sides of the split.
pub fn apart(one: usize, other: usize) -> bool {
    RIGHT.contains(&one) != RIGHT.contains(&other)
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The nodes are told of the links to make; they become one network and one group.
    Gather,
    /// Numbers begin to move.
    Traffic,
    /// The bridge node's process is killed.
    Kill,
    /// It is started again.
    Restart,
    /// Nothing passes any more between the sides.
    Split,
    /// Everything passes again.
    Merge,
    /// No more numbers move.
    Stop,
}

impl Act {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gather => "eight nodes meet; M is the only way across",
            Self::Traffic => "numbers begin to move in the ledger",
            Self::Kill => "M is killed",
            Self::Restart => "M is started again",
            Self::Split => "the network is cut in two",
            Self::Merge => "the cut is mended",
            Self::Stop => "the numbers come to rest",
        }
    }

    /// What has to come of it before anything else happens, in words.
    pub const fn effect(self) -> &'static str {
        match self {
            Self::Gather => "all see eight nodes and may act",
            Self::Traffic => "there is a second way across",
            Self::Kill => "all know that M is gone, and nobody is cut off",
            Self::Restart => "all see eight nodes and may act again",
            Self::Split => "the smaller side is paused and the larger goes on",
            Self::Merge => "all are one network and may act again",
            Self::Stop => "nothing is under way any more",
        }
    }
}

/// Something that happens, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When, from the beginning; later when what came before it has not had its effect yet.
    pub at: Duration,
    /// What.
    pub act: Act,
}

/// What happens in a demonstration of this length.
pub fn plan(length: Duration) -> [Step; 7] {
    let step = |share: f64, act| Step { at: length.mul_f64(share), act };
    [
        step(0.0, Act::Gather),
        step(0.0, Act::Traffic),
        step(0.28, Act::Kill),
        step(0.44, Act::Restart),
        step(0.57, Act::Split),
        step(0.78, Act::Merge),
        step(1.0, Act::Stop),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::mesh::world::connected;

    #[test]
    fn the_bridge_node_is_the_only_way_across() {
        let others = |without: usize| (0..NODES).filter(move |node| *node != without);
        for (node, name) in NAMES.iter().enumerate() {
            assert_eq!(connected(others(node), &LINKS), node != BRIDGE, "without {name}");
        }
        assert!(LINKS.iter().all(|(one, other)| !apart(*one, *other) || [*one, *other].contains(&BRIDGE)));
    }

    #[test]
    fn one_side_of_the_split_is_a_majority_of_all() {
        let right = (0..NODES).filter(|node| apart(*node, LEFT[0])).count();
        assert_eq!(right, RIGHT.len());
        assert!((NODES - right) * 2 > NODES);
        assert!(!apart(BRIDGE, LEFT[0]));
    }

    #[test]
    fn what_happens_comes_in_order_and_ends_with_the_length() {
        let length = Duration::from_secs(60);
        let plan = plan(length);
        assert!(plan.windows(2).all(|pair| pair[0].at <= pair[1].at));
        assert_eq!(plan[plan.len() - 1], Step { at: length, act: Act::Stop });
    }
}
