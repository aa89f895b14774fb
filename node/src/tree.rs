//! The supervision tree of a running node, as one table. The parts above `app` are assembled in `bowline_actors::node`; what is
//! below `app` belongs to the program `bowline`. A test compares the table with a node that runs.

use bowline_messages::supervision::Strategy;

/// One place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Ids from the root's children down, parted by `/`; `*` stands for any number of children that come and go.
    pub path: &'static str,
    /// How it looks after its children, when it is a supervisor.
    pub strategy: Option<Strategy>,
    /// What it does, and what a restart keeps.
    pub what: &'static str,
}

const fn worker(path: &'static str, what: &'static str) -> Row {
    Row { path, strategy: None, what }
}

const fn supervisor(path: &'static str, strategy: Strategy, what: &'static str) -> Row {
    Row { path, strategy: Some(strategy), what }
}

/// Everything, in start order; the stop order is the reverse. All of it is permanent but the links, `health`,
/// `migration` and `network`, which are temporary.
pub const TREE: [Row; 34] = [
    supervisor("", Strategy::RestForOne, "the node; gives up with exit code 70"),
    worker("journal", "keeps the last events and tells subscribers; the subscribers survive a restart"),
    supervisor("transports", Strategy::OneForOne, "one actor for each transport"),
    worker("transports/mesh", "links through other peers; unless `network.enabled = false`"),
    worker("transports/quic", "listeners, accepts and dials; a restart opens the listeners again"),
    worker("transports/tcp", "the same"),
    worker("transports/tls", "the same"),
    worker("transports/ws", "the same"),
    worker("transports/wss", "the same"),
    worker(
        "transports/addresses",
        "tells peers when the machine's addresses changed; what was told last survives a restart",
    ),
    worker(
        "transports/interfaces",
        "watches the interfaces of the operating system; keeps nothing but its subscribers",
    ),
    supervisor("sessions", Strategy::OneForOne, "one group for each peer; a peer can end its group, never the node"),
    supervisor("sessions/*", Strategy::OneForOne, "one peer: its session and its links"),
    worker("sessions/*/*", "the session, whose ledger survives a restart, or a link, which dies with its socket"),
    worker("peers", "who has a session; the table of groups survives a restart"),
    supervisor("app", Strategy::OneForOne, "what the program has put on top"),
    worker("app/services", "echo, files and forwarded ports for peers"),
    worker("app/event-counter", "counts events for /metrics"),
    worker("app/control", "does what the control interface asks, on the node's thread"),
    supervisor(
        "health",
        Strategy::OneForOne,
        "a health monitor for each transport; given up alone when they fail for good",
    ),
    worker("health/mesh", "the same as the others, of links through other peers"),
    worker("health/quic", "the health of all links over it; a restart learns them anew"),
    worker("health/tcp", "the same"),
    worker("health/tls", "the same"),
    worker("health/ws", "the same"),
    worker("health/wss", "the same"),
    worker("health/repairs", "repairs what does not heal by itself; what was tried of late survives a restart"),
    supervisor("migration", Strategy::OneForOne, "given up alone when what is below fails for good"),
    worker("migration/migrations", "application state on its way; a restart goes on or rolls back"),
    supervisor(
        "network",
        Strategy::OneForOne,
        "unless `network.enabled = false`; given up alone when what is below fails for good",
    ),
    worker(
        "network/topology",
        "links of all nodes, their shape and what is to be mended; the graph survives a restart",
    ),
    worker("network/router", "packets through others; what waited is lost in a restart"),
    worker("network/membership", "who is there; what it knows survives a restart"),
    worker("network/surroundings", "looks which neighbours are reachable; keeps nothing"),
];

/// The row of a place in a live tree.
pub fn row(path: &str) -> Option<&'static Row> {
    TREE.iter().find(|row| {
        let (mut pattern, mut parts) = (row.path.split('/'), path.split('/'));
        loop {
            match (pattern.next(), parts.next()) {
                (None, None) => return true,
                (Some(wanted), Some(part)) if wanted == "*" || wanted == part => {}
                _ => return false,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Node;
    use bowline_messages::supervision::{ChildKind, ChildState, TreeNode};
    use std::time::Duration;

    fn compare(node: &TreeNode, path: &str, seen: &mut Vec<&'static str>) {
        let row = row(path).unwrap_or_else(|| panic!("`{path}` is not in the table"));
        assert_eq!(node.strategy, row.strategy, "{path}");
        assert_eq!(node.kind == ChildKind::Supervisor, row.strategy.is_some(), "{path}");
        seen.push(row.path);
        for child in &node.children {
            let below = if path.is_empty() { child.id.clone() } else { format!("{path}/{}", child.id) };
            compare(child, &below, seen);
        }
    }

    #[test]
    fn the_table_is_the_tree_of_a_running_node() {
        let tree = actix_rt::System::new().block_on(async {
            let node = Node::builder().start().await.unwrap();
            // Supervisors below the root start their own children a moment later.
            let all_run = |node: &TreeNode| node.children.iter().all(|child| child.state == ChildState::Running);
            let tree = loop {
                let tree = node.tree().await.unwrap();
                if all_run(&tree) && tree.children.iter().all(all_run) {
                    break tree;
                }
                actix_rt::task::yield_now().await;
            };
            node.shutdown(Duration::ZERO).await;
            tree
        });
        let mut seen = Vec::new();
        compare(&tree, "", &mut seen);
        let fixed = TREE.iter().map(|row| row.path).filter(|path| !path.contains('*') && !path.starts_with("app/"));
        assert_eq!(seen, fixed.collect::<Vec<_>>());
    }

    #[test]
    fn every_place_has_one_row() {
        assert_eq!(row("sessions/abc-1/link-2").map(|row| row.path), Some("sessions/*/*"));
        assert_eq!(row("sessions").map(|row| row.path), Some("sessions"));
        assert_eq!(row("nowhere"), None);
    }
}
