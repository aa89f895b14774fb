//! Neighbours of every node, row after row in one array: what every search here runs over.

/// Rows of node numbers: row `v` is `to[start[v]..start[v + 1]]`.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// Where each row begins, and behind the last one the end of all.
    pub(super) start: Vec<u32>,
    /// The rows.
    pub(super) to: Vec<u32>,
}

impl Rows {
    /// No row at all; what was allocated stays.
    pub(super) fn clear(&mut self) {
        self.start.clear();
        self.start.push(0);
        self.to.clear();
    }

    /// How many rows there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.start.len().saturating_sub(1)
    }

    /// The neighbours of a node.
    #[inline]
    pub(super) fn row(&self, v: u32) -> &[u32] {
        let v = v as usize;
        &self.to[self.start[v] as usize..self.start[v + 1] as usize]
    }

    /// How many neighbours a node has.
    #[inline]
    pub(super) fn degree(&self, v: u32) -> u32 {
        let v = v as usize;
        self.start[v + 1] - self.start[v]
    }
}
