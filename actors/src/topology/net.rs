//! A net over the nodes that may be ends of a longer path: a few nodes near all of them. What is known of a node of the net bounds all that is
//! near it: nobody is farther from anything than by way of the net.

use super::core::Core;

/// Chooses nets and tells what they settle; its buffers.
#[derive(Debug, Clone, Default)]
pub(super) struct Net {
    /// Walks from a node of as many steps as the net is wide.
    ways: Vec<u64>,
    /// Walks of one step more.
    longer: Vec<u64>,
    /// How many steps more a node's surroundings are covered, plus one; 0: not covered.
    left: Vec<u32>,
    /// How wide the net is: every node that it covers is within so many steps.
    width: u32,
    /// Nodes whose neighbours are to be covered next.
    layer: Vec<u32>,
    /// The neighbours that were.
    next: Vec<u32>,
    /// The nodes that were chosen.
    pub(super) nodes: Vec<u32>,
}

impl Net {
    /// Chooses at most `room` nodes, such that one is near every one of `deep` (how deep, and which; the deepest first), as near as so many
    /// nodes allow. Where even `widest` steps are too near for so few, only the deepest have one near.
    pub(super) fn choose(&mut self, core: &Core, deep: &[(u32, u32)], room: usize, widest: u32) {
        self.ways.clear();
        self.ways.resize(core.rows.len(), 1);
        for width in 1..=widest {
            self.lengthen(core);
            if self.cover(core, deep, room, width) {
                return;
            }
        }
    }

    /// Counts walks that are one step longer; a node may stay where it is.
    fn lengthen(&mut self, core: &Core) {
        self.longer.clear();
        let ways = &self.ways[..];
        self.longer.extend((0..core.rows.len() as u32).map(|v| {
            let row = core.rows.row(v).iter();
            row.fold(ways[v as usize], |sum, w| sum.saturating_add(ways[*w as usize]))
        }));
        std::mem::swap(&mut self.ways, &mut self.longer);
    }

    /// Covers the nodes one after another, each by the node that is reached from it by climbing so many steps to where most ways lead. Says
    /// whether there was room.
    fn cover(&mut self, core: &Core, deep: &[(u32, u32)], room: usize, width: u32) -> bool {
        self.left.clear();
        self.left.resize(core.rows.len(), 0);
        self.nodes.clear();
        self.width = width;
        for &(_, end) in deep {
            if self.left[end as usize] > 0 {
                continue;
            }
            if self.nodes.len() == room {
                return false;
            }
            let mut top = end;
            for _ in 0..width {
                let better = core.rows.row(top).iter().max_by_key(|w| self.ways[**w as usize]);
                match better {
                    Some(w) if self.ways[*w as usize] > self.ways[top as usize] => top = *w,
                    _ => break,
                }
            }
            self.nodes.push(top);
            self.layer.clear();
            self.layer.push(top);
            self.left[top as usize] = width + 1;
            for left in (1..=width).rev() {
                self.advance(core, left);
            }
        }
        true
    }

    /// Covers the neighbours of the layer, so that `left - 1` steps more are covered around them; they are the next layer.
    fn advance(&mut self, core: &Core, left: u32) {
        self.next.clear();
        for v in &self.layer {
            for &w in core.rows.row(*v) {
                if self.left[w as usize] < left {
                    self.left[w as usize] = left;
                    self.next.push(w);
                }
            }
        }
        std::mem::swap(&mut self.layer, &mut self.next);
    }

    /// Whether a node was chosen, after [`Net::choose`].
    pub(super) fn has(&self, node: u32) -> bool {
        self.left[node as usize] > self.width
    }

    /// Nobody within `steps` of a node is an end of a longer path, for each of `around`: remembers how far that goes from every node.
    pub(super) fn settle(&mut self, core: &Core, around: &mut [(u32, u32)]) {
        self.left.clear();
        self.left.resize(core.rows.len(), 0);
        around.sort_unstable_by_key(|(node, steps)| (std::cmp::Reverse(*steps), *node));
        let mut around = around.iter().peekable();
        self.layer.clear();
        let mut left = around.peek().map_or(0, |(_, steps)| steps + 1);
        while left > 0 {
            while let Some((node, _)) = around.next_if(|(_, steps)| steps + 1 == left) {
                if self.left[*node as usize] < left {
                    self.left[*node as usize] = left;
                    self.layer.push(*node);
                }
            }
            left -= 1;
            self.advance(core, left);
        }
    }

    /// Whether [`Net::settle`] said that nobody is an end of a longer path who is `height` from a node.
    pub(super) fn settles(&self, node: u32, height: u32) -> bool {
        self.left[node as usize] > height
    }
}
