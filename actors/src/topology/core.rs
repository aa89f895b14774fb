//! What is left of a graph when its trees are taken off, again and again, until no node of degree one is left (the 2-core).
//!
//! A node of a tree that hangs on the core lies in no triangle, on no cycle and on no shortest path between others but through its parent. So
//! trees are weighed once, in linear time, and everything that costs more runs over the core, whose nodes know what hangs on them.

use std::ops::Range;

use super::layout::Layout;
use super::rows::Rows;

/// Not a node of the core.
const NONE: u32 = u32::MAX;

/// One component.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    /// Its numbers in the layout.
    pub(super) all: Range<u32>,
    /// Its numbers in the core; empty when it is a tree.
    pub(super) core: Range<u32>,
    /// The longest shortest path that stays within one tree and the core node it hangs on.
    pub(super) tree_diameter: u32,
}

/// The core with what hangs on it, and the buffers to find it.
#[derive(Debug, Clone, Default)]
pub(super) struct Core {
    /// Rows of the core, in its own numbering (the layout's order).
    pub(super) rows: Rows,
    /// The number in the layout, by number in the core.
    pub(super) number: Vec<u32>,
    /// How deep the deepest tree is that hangs on a node, by number in the core.
    pub(super) height: Vec<u32>,
    /// The components, in the layout's order.
    pub(super) parts: Vec<Part>,
    /// Nodes that were taken off with the neighbour they hung on, in this order, by number in the layout.
    pub(super) taken: Vec<[u32; 2]>,
    /// A node and everything that hangs on it, in nodes, by number in the layout.
    pub(super) size: Vec<u32>,
    /// The sum of the squares of the sizes of the trees that hang on a node, by number in the layout.
    pub(super) squares: Vec<u64>,
    leaves: Vec<Leaf>,
    core_number: Vec<u32>,
}

/// What is kept of a node while trees are taken off.
#[derive(Debug, Clone, Copy)]
struct Leaf {
    /// Neighbours that are left.
    degree: u32,
    /// Their numbers, combined by exclusive or: with one left, this is its number.
    mixed: u32,
    height: u32,
}

impl Core {
    /// Takes the trees off a graph.
    pub(super) fn find(&mut self, layout: &Layout) {
        let nodes = layout.index.len();
        self.leaves.clear();
        self.leaves.extend((0..nodes as u32).map(|v| {
            let row = layout.rows.row(v);
            Leaf { degree: row.len() as u32, mixed: row.iter().fold(0, |mixed, w| mixed ^ w), height: 0 }
        }));
        self.size.clear();
        self.size.resize(nodes, 1);
        self.squares.clear();
        self.squares.resize(nodes, 0);
        self.taken.clear();
        self.parts.clear();
        for component in 0..layout.components() {
            let all = layout.part(component);
            let tree_diameter = self.take_trees(all.clone());
            self.parts.push(Part { all, core: 0..0, tree_diameter });
        }
        self.compact(layout);
    }

    /// Takes the trees of one component off and returns the longest path within one of them.
    fn take_trees(&mut self, all: Range<u32>) -> u32 {
        let mut longest = 0;
        for first in all {
            let mut leaf = first;
            while self.leaves[leaf as usize].degree == 1 {
                let Leaf { mixed: parent, height, .. } = self.leaves[leaf as usize];
                self.leaves[leaf as usize].degree = 0;
                let size = self.size[leaf as usize];
                self.size[parent as usize] += size;
                self.squares[parent as usize] += u64::from(size) * u64::from(size);
                self.taken.push([leaf, parent]);
                let above = &mut self.leaves[parent as usize];
                longest = longest.max(above.height + height + 1);
                above.height = above.height.max(height + 1);
                above.degree -= 1;
                above.mixed ^= leaf;
                if parent > first {
                    break; // It gets its own turn.
                }
                leaf = parent;
            }
        }
        longest
    }

    /// Numbers what is left and writes its rows.
    fn compact(&mut self, layout: &Layout) {
        self.number.clear();
        self.height.clear();
        self.core_number.clear();
        self.core_number.resize(layout.index.len(), NONE);
        for part in &mut self.parts {
            let first = self.number.len() as u32;
            for v in part.all.clone() {
                let leaf = self.leaves[v as usize];
                if leaf.degree > 0 {
                    self.core_number[v as usize] = self.number.len() as u32;
                    self.number.push(v);
                    self.height.push(leaf.height);
                }
            }
            part.core = first..self.number.len() as u32;
        }
        self.rows.clear();
        if self.taken.is_empty() && self.number.len() == layout.index.len() {
            self.rows.start.clone_from(&layout.rows.start);
            self.rows.to.clone_from(&layout.rows.to);
            return;
        }
        // One more: a neighbour that was taken off is written and not counted.
        self.rows.to.resize(layout.rows.to.len() + 1, 0);
        let mut end = 0;
        for &v in &self.number {
            for w in layout.rows.row(v) {
                let left = self.core_number[*w as usize];
                self.rows.to[end] = left;
                end += usize::from(left != NONE);
            }
            self.rows.start.push(end as u32);
        }
        self.rows.to.truncate(end);
    }
}
