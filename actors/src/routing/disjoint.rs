//! Routes that share no relay: the cheapest set of them.
//!
//! A flow of least cost through the network in which every node but the two ends may be passed once (each is split into an
//! entry and an exit). Every round finds the cheapest way to enlarge the set by one route, re-arranging those it has where that
//! helps (Suurballe 1974; with potentials, as Edmonds and Karp 1972). Taking the next shortest path instead misses routes that exist.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::graph::Graph;

#[derive(Debug, Clone, Copy)]
struct Arc {
    to: u32,
    cost: i64,
    /// The same arc in the other direction.
    back: u32,
    free: bool,
}

/// The split network, made once per graph.
#[derive(Debug)]
pub(super) struct Flow {
    arcs: Vec<Arc>,
    /// By split node: its arcs.
    from: Vec<Vec<u32>>,
    potential: Vec<i64>,
    /// Arcs whose state differs from the beginning.
    touched: Vec<u32>,
}

const UNREACHED: i64 = i64::MAX;

fn entry(node: u32) -> u32 {
    2 * node
}

fn exit(node: u32) -> u32 {
    2 * node + 1
}

impl Flow {
    pub(super) fn new(graph: &Graph) -> Self {
        let nodes = graph.ids.len();
        let mut flow = Self {
            arcs: Vec::new(),
            from: vec![Vec::new(); 2 * nodes],
            potential: vec![0; 2 * nodes],
            touched: Vec::new(),
        };
        for (node, edges) in (0_u32..).zip(&graph.edges) {
            flow.connect(entry(node), exit(node), 0);
            for (to, cost) in edges {
                flow.connect(exit(node), entry(*to), i64::from(*cost));
            }
        }
        flow
    }

    fn connect(&mut self, from: u32, to: u32, cost: i64) {
        let at = self.arcs.len() as u32;
        self.arcs.push(Arc { to, cost, back: at + 1, free: true });
        self.arcs.push(Arc { to: from, cost: -cost, back: at, free: false });
        self.from[from as usize].push(at);
        self.from[to as usize].push(at + 1);
    }

    /// The cheapest set of at most `most` routes from node 0 to another, each as its nodes without node 0.
    pub(super) fn routes(&mut self, to: u32, most: usize) -> Vec<Vec<u32>> {
        let mut found = 0;
        while found < most && self.augment(exit(0), entry(to)) {
            found += 1;
        }
        let routes = self.trace(to);
        for at in std::mem::take(&mut self.touched) {
            // The even arcs are those of the network, the odd ones their backs.
            self.arcs[at as usize].free = at.is_multiple_of(2);
        }
        self.potential.fill(0);
        routes
    }

    fn augment(&mut self, source: u32, sink: u32) -> bool {
        let nodes = self.from.len();
        let mut best = vec![UNREACHED; nodes];
        let mut by: Vec<Option<u32>> = vec![None; nodes];
        let mut heap = BinaryHeap::from([Reverse((0_i64, source))]);
        best[source as usize] = 0;
        while let Some(Reverse((cost, at))) = heap.pop() {
            if cost > best[at as usize] {
                continue;
            }
            if at == sink {
                break;
            }
            for number in &self.from[at as usize] {
                let arc = self.arcs[*number as usize];
                let reduced = arc.cost + self.potential[at as usize] - self.potential[arc.to as usize];
                if arc.free && cost + reduced < best[arc.to as usize] {
                    best[arc.to as usize] = cost + reduced;
                    by[arc.to as usize] = Some(*number);
                    heap.push(Reverse((cost + reduced, arc.to)));
                }
            }
        }
        let total = best[sink as usize];
        if total == UNREACHED {
            return false;
        }
        for (potential, best) in self.potential.iter_mut().zip(&best) {
            *potential += (*best).min(total);
        }
        let mut at = sink;
        while let Some(number) = by[at as usize] {
            let back = self.arcs[number as usize].back;
            self.arcs[number as usize].free = false;
            self.arcs[back as usize].free = true;
            self.touched.extend([number, back]);
            at = self.arcs[back as usize].to;
        }
        true
    }

    /// Follows the flow from node 0.
    fn trace(&self, to: u32) -> Vec<Vec<u32>> {
        let carries = |number: &&u32| number.is_multiple_of(2) && !self.arcs[**number as usize].free;
        let starts = self.from[exit(0) as usize].iter().filter(carries);
        let mut routes = Vec::new();
        for start in starts {
            let mut route = Vec::new();
            let mut arc = self.arcs[*start as usize];
            loop {
                let node = arc.to / 2;
                route.push(node);
                if node == to || route.len() > self.from.len() {
                    break;
                }
                let Some(next) = self.from[exit(node) as usize].iter().find(carries) else { break };
                arc = self.arcs[*next as usize];
            }
            if route.last() == Some(&to) {
                routes.push(route);
            }
        }
        routes
    }
}
