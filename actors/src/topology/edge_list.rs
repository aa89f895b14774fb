//! Graphs as text: `# key: value` lines, then one edge `u v` a line.

use std::collections::BTreeMap;

use petgraph::graph::NodeIndex;
use petgraph::stable_graph::StableUnGraph;

/// The most nodes a list may have: what it is analysed with takes about 200 bytes a node.
const NODES_MAX: u32 = 1 << 24;

/// A graph as it is written in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeList {
    /// What the lines `# key: value` say.
    pub headers: BTreeMap<String, String>,
    /// How many nodes there are, numbered from 0.
    pub nodes: u32,
    /// Pairs of different nodes, as they stand in the text; a pair may come twice.
    pub edges: Vec<[u32; 2]>,
    /// Edges from a node to itself, which are left out.
    pub self_loops: usize,
}

/// Why a text is no graph. Whoever gave the text is at fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EdgeListError {
    /// A line is neither a comment nor two numbers.
    #[error("line {line}: expected two node numbers, as in `0 1`, and found `{text}`")]
    NotAnEdge {
        /// From 1.
        line: usize,
        /// The line, shortened.
        text: String,
    },
    /// `# nodes:` is not a number.
    #[error("line {line}: `# nodes:` must be a number")]
    NotACount {
        /// From 1.
        line: usize,
    },
    /// An edge names a node that `# nodes:` does not allow.
    #[error("line {line}: there is no node {node}: the file says `# nodes: {nodes}`, so the last is one less")]
    NoSuchNode {
        /// From 1.
        line: usize,
        /// The node.
        node: u32,
        /// What the head says.
        nodes: u32,
    },
    /// There are more nodes than can be analysed.
    #[error("line {line}: a graph may have {NODES_MAX} nodes at most")]
    TooLarge {
        /// From 1.
        line: usize,
    },
}

impl EdgeList {
    /// Reads a graph. Without a line `# nodes:` there are as many nodes as the largest number asks for.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, EdgeListError> {
        let mut list = Self::default();
        let mut declared = None;
        let mut largest = (0, None);
        for (at, row) in text.lines().enumerate() {
            let (line, row) = (at + 1, row.trim());
            if let Some(comment) = row.strip_prefix('#') {
                if let Some((key, value)) = comment.split_once(':') {
                    let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                    if key == "nodes" {
                        declared = Some(value.parse::<u32>().map_err(|_| EdgeListError::NotACount { line })?);
                        if declared > Some(NODES_MAX) {
                            return Err(EdgeListError::TooLarge { line });
                        }
                    }
                    list.headers.insert(key, value);
                }
            } else if !row.is_empty() {
                let [u, v] = edge(row).ok_or_else(|| not_an_edge(line, row))?;
                if u.max(v) >= NODES_MAX {
                    return Err(EdgeListError::TooLarge { line });
                }
                if largest.1.is_none_or(|known| u.max(v) > known) {
                    largest = (line, Some(u.max(v)));
                }
                if u == v {
                    list.self_loops += 1;
                } else {
                    list.edges.push([u, v]);
                }
            }
        }
        list.nodes = declared.unwrap_or_else(|| largest.1.map_or(0, |node| node + 1));
        match largest {
            (line, Some(node)) if node >= list.nodes => {
                Err(EdgeListError::NoSuchNode { line, node, nodes: list.nodes })
            }
            (_, Some(_) | None) => Ok(list),
        }
    }

    /// The graph as it would live in an actor.
    pub fn graph(&self) -> StableUnGraph<(), ()> {
        let mut graph = StableUnGraph::with_capacity(self.nodes as usize, self.edges.len());
        for _ in 0..self.nodes {
            graph.add_node(());
        }
        for [u, v] in &self.edges {
            graph.add_edge(NodeIndex::new(*u as usize), NodeIndex::new(*v as usize), ());
        }
        graph
    }
}

/// Two numbers, with anything behind them (such as a weight) left out.
fn edge(row: &str) -> Option<[u32; 2]> {
    let mut words = row.split([' ', '\t', ',']).filter(|word| !word.is_empty());
    Some([words.next()?.parse().ok()?, words.next()?.parse().ok()?])
}

fn not_an_edge(line: usize, row: &str) -> EdgeListError {
    EdgeListError::NotAnEdge { line, text: row.chars().filter(|c| !c.is_control()).take(40).collect() }
}
