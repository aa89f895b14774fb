//! A live graph as rows in breadth-first numbering.
//!
//! Neighbours get numbers close to each other, which is what makes every later pass fast: it walks memory nearly in order. Components come
//! one after another, so each is a range of numbers. Self loops and parallel edges (both sides dialled) are left out on the way.

use std::ops::Range;

use super::rows::Rows;

/// A node that has no number yet.
const UNSEEN: u32 = u32::MAX;

/// What is kept of a node of the live graph while numbers are given out.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Its number, or [`UNSEEN`].
    number: u32,
    /// The row it was last put into: a second time is a parallel edge.
    row: u32,
}

/// The graph in breadth-first numbering, and the buffers to make it.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    /// Rows of neighbours, without self loops and repetitions.
    pub(super) rows: Rows,
    /// The index in the live graph, by number.
    pub(super) index: Vec<u32>,
    /// The first number of each component, and behind the last one the number of nodes.
    pub(super) parts: Vec<u32>,
    pairs: Vec<[u32; 2]>,
    raw: Rows,
    seen: Vec<Seen>,
}

impl Layout {
    /// Takes a graph over. `bound` is above every index; `nodes` are the indexes in use, `edges` pairs of them.
    ///
    /// # Panics
    /// With 2³¹ edges or more (a live graph of that size takes 48 GiB), or an edge at an index from `bound` up.
    pub(super) fn load(
        &mut self,
        bound: usize,
        nodes: impl Iterator<Item = u32>,
        edges: impl Iterator<Item = [u32; 2]>,
    ) {
        self.gather(bound, edges);
        self.seen.clear();
        self.seen.resize(bound, Seen { number: UNSEEN, row: UNSEEN });
        self.rows.clear();
        // One more: what turns out to be no news is written and not counted.
        self.rows.to.resize(self.raw.to.len() + 1, 0);
        self.index.clear();
        self.index.resize(bound + 1, 0);
        self.parts.clear();
        let mut count = 0;
        for root in nodes {
            if self.seen[root as usize].number == UNSEEN {
                self.parts.push(count as u32);
                count = self.number_from(root, count);
            }
        }
        self.parts.push(count as u32);
        self.index.truncate(count);
        self.rows.to.truncate(self.rows.start[count] as usize);
    }

    /// How many components there are.
    pub(super) fn components(&self) -> usize {
        self.parts.len() - 1
    }

    /// The numbers of a component.
    pub(super) fn part(&self, component: usize) -> Range<u32> {
        self.parts[component]..self.parts[component + 1]
    }

    /// Sorts the half edges by the node they leave.
    fn gather(&mut self, bound: usize, edges: impl Iterator<Item = [u32; 2]>) {
        let Rows { start, to } = &mut self.raw;
        start.clear();
        start.resize(bound + 1, 0);
        self.pairs.clear();
        self.pairs.extend(edges.filter(|[u, v]| u != v));
        assert!(self.pairs.len() < 1 << 31, "fewer than 2^31 edges");
        for [u, v] in &self.pairs {
            start[*u as usize] += 1;
            start[*v as usize] += 1;
        }
        let mut sum = 0;
        for end in start.iter_mut() {
            sum += *end;
            *end = sum;
        }
        to.clear();
        to.resize(sum as usize, 0);
        // Every row is filled from its end, so what is left in `start` are the beginnings.
        for &[u, v] in &self.pairs {
            start[u as usize] -= 1;
            to[start[u as usize] as usize] = v;
            start[v as usize] -= 1;
            to[start[v as usize] as usize] = u;
        }
    }

    /// Numbers the component of `root` from `first` on, writes its rows, and returns the number after its last.
    fn number_from(&mut self, root: u32, first: usize) -> usize {
        let (mut row, mut nodes) = (first, first + 1);
        self.seen[root as usize].number = row as u32;
        self.index[first] = root;
        let (index, to, seen) = (&mut self.index[..], &mut self.rows.to[..], &mut self.seen[..]);
        let mut end = self.rows.start[first] as usize;
        while row < nodes {
            for &neighbour in self.raw.row(index[row]) {
                // Written always and counted when it is so: whether a node is new cannot be foretold, and a wrong guess costs more.
                let seen = &mut seen[neighbour as usize];
                index[nodes] = neighbour;
                let number = if seen.number == UNSEEN { nodes as u32 } else { seen.number };
                nodes += usize::from(seen.number == UNSEEN);
                to[end] = number;
                end += usize::from(seen.row != row as u32);
                *seen = Seen { number, row: row as u32 };
            }
            self.rows.start.push(end as u32);
            row += 1;
        }
        nodes
    }
}
