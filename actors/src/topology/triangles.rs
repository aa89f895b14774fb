//! Triangles of every node.
//!
//! Every edge is pointed at the end with more neighbours, so that no node points at more than √(2m) others and every triangle has exactly
//! one node that points at the other two.

use super::rows::Rows;

/// The count, and the buffers for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Triangles {
    /// Triangles through each node.
    pub(super) of: Vec<u32>,
    outward: Rows,
    mark: Vec<u32>,
}

impl Triangles {
    /// Counts the triangles of a graph.
    pub(super) fn count(&mut self, rows: &Rows) {
        let nodes = rows.len();
        self.orient(rows);
        self.of.clear();
        self.of.resize(nodes, 0);
        self.mark.clear();
        self.mark.resize(nodes, u32::MAX);
        let (of, mark) = (&mut self.of[..], &mut self.mark[..]);
        for v in 0..nodes as u32 {
            let ahead = self.outward.row(v);
            if ahead.len() < 2 {
                continue;
            }
            for w in ahead {
                mark[*w as usize] = v;
            }
            let mut through_v = 0;
            for w in ahead {
                let mut through_w = 0;
                for x in self.outward.row(*w) {
                    let closed = u32::from(mark[*x as usize] == v);
                    of[*x as usize] += closed;
                    through_w += closed;
                }
                of[*w as usize] += through_w;
                through_v += through_w;
            }
            of[v as usize] += through_v;
        }
    }

    /// Points every edge at the end with more neighbours. Which one that is cannot be foretold: no branch depends on it.
    fn orient(&mut self, rows: &Rows) {
        self.outward.clear();
        self.outward.to.resize(rows.to.len() / 2 + 1, 0);
        let (to, mut end) = (&mut self.outward.to[..], 0);
        for v in 0..rows.len() as u32 {
            let row = rows.row(v);
            let rank = (u64::from(row.len() as u32) << 32) | u64::from(v);
            for &w in row {
                to[end] = w;
                end += usize::from((u64::from(rows.degree(w)) << 32) | u64::from(w) > rank);
            }
            self.outward.start.push(end as u32);
        }
    }
}
