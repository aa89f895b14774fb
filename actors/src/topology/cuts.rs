//! Bridge nodes, bridges, and how many pairs of nodes the loss of each node separates: one depth-first pass over the core (Hopcroft and
//! Tarjan's low points), without recursion.

use super::core::Core;

/// What a loss does, and the buffers to find it.
#[derive(Debug, Clone, Default)]
pub(super) struct Cuts {
    /// Edges of the core whose loss disconnects it, by number in the layout.
    pub(super) bridges: Vec<[u32; 2]>,
    /// Pairs of other nodes that the loss of a node separates, by number in the layout; none but for bridge nodes.
    pub(super) pairs: Vec<u64>,
    /// When each node of the core was reached, from 1; 0: not yet.
    order: Vec<u32>,
    path: Vec<Step>,
}

/// A node on the way from the root.
#[derive(Debug, Clone, Copy)]
struct Step {
    node: u32,
    parent: u32,
    /// Where the next neighbour stands.
    next: u32,
    end: u32,
    /// The earliest node that is reached from here or below by one edge that is not of the tree.
    low: u32,
    order: u32,
    /// Nodes below, itself and what hangs on it included.
    size: u32,
    /// Those of them that only this node connects with the rest.
    cut: u32,
    squares: u64,
}

impl Cuts {
    /// Finds what the loss of each node does.
    pub(super) fn find(&mut self, core: &Core) {
        self.bridges.clear();
        self.pairs.clear();
        self.pairs.resize(core.size.len(), 0);
        self.order.clear();
        self.order.resize(core.rows.len(), 0);
        for part in &core.parts {
            let nodes = part.all.end - part.all.start;
            if let Some(root) = part.core.clone().next() {
                self.walk(core, root, nodes);
            }
        }
        self.trees(core);
    }

    /// Nodes of trees: everything that hangs on one is cut off, each tree for itself, and so is the rest.
    fn trees(&mut self, core: &Core) {
        let mut taken = core.taken.iter().peekable();
        for part in &core.parts {
            let nodes = part.all.end - part.all.start;
            while let Some([leaf, parent]) = taken.next_if(|[leaf, _]| part.all.contains(leaf)) {
                let rest = u64::from(nodes - core.size[*leaf as usize]);
                self.pairs[*leaf as usize] = separated(nodes, core.squares[*leaf as usize] + rest * rest);
                if part.core.is_empty() && core.size[*parent as usize] == nodes {
                    // All of the component hangs on it: there is no rest.
                    self.pairs[*parent as usize] = separated(nodes, core.squares[*parent as usize]);
                }
            }
        }
    }

    /// Walks the core of one component of so many nodes.
    fn walk(&mut self, core: &Core, root: u32, nodes: u32) {
        let (start, to) = (&core.rows.start[..], &core.rows.to[..]);
        let orders = &mut self.order[..];
        let enter = |node: u32, parent: u32, order: u32| {
            let number = core.number[node as usize] as usize;
            Step {
                node,
                parent,
                next: start[node as usize],
                end: start[node as usize + 1],
                low: order,
                order,
                size: core.size[number],
                cut: core.size[number] - 1,
                squares: core.squares[number],
            }
        };
        let mut clock = 1;
        orders[root as usize] = clock;
        let mut step = enter(root, u32::MAX, clock);
        self.path.clear();
        loop {
            if step.next < step.end {
                let neighbour = to[step.next as usize];
                step.next += 1;
                let order = orders[neighbour as usize];
                if order == 0 {
                    clock += 1;
                    orders[neighbour as usize] = clock;
                    self.path.push(step);
                    step = enter(neighbour, step.node, clock);
                } else if neighbour != step.parent {
                    step.low = step.low.min(order);
                }
                continue;
            }
            let rest = u64::from(nodes - 1 - step.cut);
            let number = core.number[step.node as usize];
            self.pairs[number as usize] = separated(nodes, step.squares + rest * rest);
            let Some(mut above) = self.path.pop() else { return };
            above.low = above.low.min(step.low);
            above.size += step.size;
            if step.low >= above.order {
                above.cut += step.size;
                above.squares += u64::from(step.size) * u64::from(step.size);
                if step.low > above.order {
                    self.bridges.push([core.number[above.node as usize], number]);
                }
            }
            step = above;
        }
    }
}

/// Pairs of the other nodes of a component that the loss of one separates, from the squares of the sizes of what it falls into.
fn separated(nodes: u32, squares: u64) -> u64 {
    let others = u64::from(nodes - 1);
    (others * others - squares) / 2
}
