//! The exact diameter without a search from every node.
//!
//! A search from one node bounds the eccentricity of all others: nobody is farther from anything than through that node (Takes and
//! Kosters, "Determining the diameter of small world networks", 2011). A node whose bound is not above the longest path found is closed; a
//! longer path, if there is one, has both ends among the open nodes, so only these count in the next bound. Seen from a centre, at least
//! one of the ends is *deep*: farther from the centre than half the longest path found (Crescenzi and others, "On computing the diameter of
//! real-world undirected graphs", 2013). When no deep node is open, the longest path found is the diameter.
//!
//! Searches from a deep node with the highest bound (at the rim) and from the node with the lowest (in the middle) take turns. Where they
//! settle less than a sweep would for the same work, up to 256 nodes are searched from at a time ([`Sweep`]): the deep ones or, where
//! these are more, a [`Net`] over them. What is known of a node of the net bounds all around it, by the same rule.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;

use super::core::Core;
use super::net::Net;
use super::sweep::Sweep;

/// Not reached.
const FAR: u32 = u32::MAX;
/// Sources of a sweep that are left to the deepest nodes when there is a net: they are the likeliest ends of longer paths.
const DEEPEST: usize = 16;
/// The longest path found is at least so many times as long as the first net is wide. A node settles what is as near as it is nearer to everything
/// than that path is long: half its length in the very middle, half of that on average.
const WIDTH_SHARE: u32 = 4;
/// A net that does not settle so many deep nodes for each source is the last one.
const NET_GAIN: usize = 2;
/// What it costs to sweep from so many nodes, in searches: a sweep carries news through every node once for each depth at which they come.
/// Measured on meshes, scale-free and small-world graphs of 100 to 100,000 nodes.
fn sweep_cost(sources: usize, longest: u32) -> f64 {
    let depths = f64::from(longest);
    if sources <= Sweep::<1>::SOURCES { 0.6 * depths } else { sources.div_ceil(Sweep::<4>::SOURCES) as f64 * depths }
}

/// The search, its buffers, and how much it had to do.
#[derive(Debug, Clone, Default)]
pub(super) struct Diameter {
    distance: Vec<u32>,
    queue: Vec<u32>,
    open: Vec<Open>,
    narrow: Sweep<1>,
    middle: Sweep<2>,
    wide: Sweep<4>,
    net: Net,
    /// Where a sweep begins.
    sources: Vec<u32>,
    /// How far the farthest end is from each of them.
    farthest: Vec<u32>,
    /// How near other nodes have to be to them to be settled with them.
    around: Vec<(u32, u32)>,
    /// The open nodes that are deep: how deep, and which.
    deep: Vec<(u32, u32)>,
    /// Searches from one node since the last [`Diameter::start`].
    pub(super) searches: u32,
    /// Sweeps since then.
    pub(super) sweeps: u32,
}

/// A node that may be an end of a longer path than those found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) node: u32,
    /// What hangs on it.
    pub(super) height: u32,
    /// Its distance from the centre.
    pub(super) depth: u32,
    /// At least as far as the farthest end of any path from here.
    high: u32,
    /// At most that far.
    low: u32,
}

impl Open {
    /// The longest path that may begin in what hangs on this node.
    fn reach(self) -> u32 {
        self.high.saturating_add(self.height)
    }

    /// Its farthest leaf's distance from the centre.
    pub(super) fn depth(self) -> u32 {
        self.depth + self.height
    }

    /// Whether a path longer than `longest` may begin here and end at a node that is no deeper.
    fn is_deep(self, longest: u32) -> bool {
        2 * self.depth() > longest
    }
}

impl Diameter {
    /// Gets ready for a graph.
    pub(super) fn start(&mut self, core: &Core) {
        self.distance.clear();
        self.distance.resize(core.rows.len(), FAR);
        self.queue.clear();
        // One more: a node that turns out to be no news is written and not counted.
        self.queue.resize(core.rows.len() + 1, 0);
        (self.searches, self.sweeps) = (0, 0);
        self.narrow.start(core.rows.len());
        self.middle.start(core.rows.len());
        self.wide.start(core.rows.len());
    }

    /// The diameter of the component whose core these are; `known`: a path of this length is there.
    pub(super) fn of(&mut self, core: &Core, part: Range<u32>, known: u32) -> u32 {
        if !part.is_empty() && part.clone().all(|v| core.rows.degree(v) == 2) {
            return known.max(around(core, part.start));
        }
        let mut longest = known;
        let Some(mut from) = part.clone().max_by_key(|v| core.rows.degree(*v)) else { return longest };
        self.open.clear();
        let open = |v: u32| Open { node: v, height: core.height[v as usize], depth: FAR / 4, high: FAR, low: 0 };
        self.open.extend(part.clone().map(open));
        let (mut rim, mut searches, mut left, mut settled) = (true, 0_u32, part.len(), 0);
        loop {
            let eccentricity = self.search(core, part.clone(), from);
            longest = longest.max(eccentricity + core.height[from as usize]);
            let next = self.close(from, eccentricity, longest);
            searches += 1;
            if next.deep == 0 {
                return longest;
            }
            if searches > 2 {
                settled += left.saturating_sub(next.deep);
            }
            left = next.deep;
            // Deep nodes that a search settles. The first two open the view and do not tell; until there are more, a quarter is hoped for.
            let pace = match searches {
                1 => f64::INFINITY,
                2 => left as f64 / 4.0,
                _ => settled as f64 / f64::from(searches - 2),
            };
            if left as f64 > pace * sweep_cost(left, longest) {
                return self.sweep_deep(core, part, longest);
            }
            from = if rim { next.rim } else { next.middle };
            rim = !rim;
        }
    }

    /// Searches from many nodes at a time, from a net over the deep nodes or from these themselves, until none is left.
    fn sweep_deep(&mut self, core: &Core, part: Range<u32>, known: u32) -> u32 {
        let mut longest = known;
        let mut widest = longest / WIDTH_SHARE;
        let mut nets = widest > 0;
        loop {
            // What the deepest node can reach by no longer path is no end of one.
            let deepest = self.open.iter().map(|open| open.depth()).max().unwrap_or(0);
            self.open.retain(|open| open.depth() + deepest > longest);
            self.deep.clear();
            self.deep
                .extend(self.open.iter().filter(|open| open.is_deep(longest)).map(|open| (open.depth(), open.node)));
            let deep = self.deep.len();
            if deep == 0 {
                return longest;
            }
            self.choose_sources(core, nets, widest);
            self.sweep(core, part.clone());
            for (source, farthest) in self.sources.iter().zip(&self.farthest) {
                longest = longest.max(farthest + core.height[*source as usize]);
            }
            if deep <= self.sources.len() {
                return longest;
            }
            widest = widest.min(self.close_near_sources(core, longest));
            let left = self.open.iter().filter(|open| open.is_deep(longest)).count();
            nets = nets && widest > 0 && deep - left > NET_GAIN * self.sources.len();
        }
    }

    /// Where the next sweep begins: at all of the deep nodes, if there is room, or else at a net over them and at the deepest.
    fn choose_sources(&mut self, core: &Core, nets: bool, widest: u32) {
        const ROOM: usize = Sweep::<4>::SOURCES;
        self.sources.clear();
        if self.deep.len() > ROOM {
            self.deep.sort_unstable_by_key(|(depth, node)| (Reverse(*depth), *node));
            if nets {
                self.net.choose(core, &self.deep, ROOM - DEEPEST, widest);
                self.sources.extend(&self.net.nodes);
            }
        }
        let (room, net) = (ROOM - self.sources.len(), &self.net);
        let chosen = self.sources.len();
        let deepest = self.deep.iter().map(|(_, node)| *node).filter(|node| chosen == 0 || !net.has(*node));
        self.sources.extend(deepest.take(room));
    }

    /// Sweeps from the sources to all open nodes.
    fn sweep(&mut self, core: &Core, part: Range<u32>) {
        self.sweeps += 1;
        let (sources, open, farthest) = (&self.sources[..], &self.open[..], &mut self.farthest);
        if sources.len() <= Sweep::<1>::SOURCES {
            self.narrow.run(core, part, sources, open, farthest);
        } else if sources.len() <= Sweep::<2>::SOURCES {
            self.middle.run(core, part, sources, open, farthest);
        } else {
            self.wide.run(core, part, sources, open, farthest);
        }
    }

    /// Leaves out what cannot be an end of a longer path after a sweep: the sources, what is near enough to them, and what was open for a
    /// shorter one. Says how near that is, on average.
    fn close_near_sources(&mut self, core: &Core, longest: u32) -> u32 {
        self.around.clear();
        let mut sum = 0;
        for (source, farthest) in self.sources.iter().zip(&self.farthest) {
            // Seen from another node the source is an end, too.
            let farthest = core.height[*source as usize].max(*farthest);
            let steps = longest.saturating_sub(farthest);
            sum += steps as usize;
            if farthest <= longest {
                self.around.push((*source, steps));
            }
        }
        self.net.settle(core, &mut self.around);
        self.sources.sort_unstable();
        let (net, sources) = (&self.net, &self.sources);
        let done = |open: &Open| net.settles(open.node, open.height) || sources.binary_search(&open.node).is_ok();
        self.open.retain(|open| open.reach() > longest && !done(open));
        (sum / self.sources.len()) as u32
    }

    /// Distances from a node to all of its component; returns how far the farthest end is in what hangs on another node.
    fn search(&mut self, core: &Core, part: Range<u32>, from: u32) -> u32 {
        self.searches += 1;
        let (start, to, height) = (&core.rows.start[..], &core.rows.to[..], &core.height[..]);
        let (distance, queue) = (&mut self.distance[..], &mut self.queue[..]);
        distance[part.start as usize..part.end as usize].fill(FAR);
        distance[from as usize] = 0;
        queue[0] = from;
        let mut others = 0;
        let (mut head, mut tail, mut depth) = (0, 1, 0);
        while head < tail {
            let level_end = tail;
            depth += 1;
            for at in head..level_end {
                let v = queue[at] as usize;
                for &w in &to[start[v] as usize..start[v + 1] as usize] {
                    let known = distance[w as usize];
                    queue[tail] = w;
                    tail += usize::from(known == FAR);
                    distance[w as usize] = known.min(depth);
                }
            }
            for &w in &queue[level_end..tail] {
                others = others.max(depth + height[w as usize]);
            }
            head = level_end;
        }
        others
    }

    /// Uses what a search told, leaves out the nodes that are done and says what may come next.
    ///
    /// A path that is still looked for has both ends among the open nodes: what is farther than all of these is no concern.
    fn close(&mut self, from: u32, eccentricity: u32, longest: u32) -> Next {
        let distance = &self.distance[..];
        let (mut farthest, mut deepest) = (0, 0);
        for open in &self.open {
            farthest = farthest.max(distance[open.node as usize] + open.height);
            deepest = deepest.max(open.depth());
        }
        let (mut deep, mut deep_here) = (0, 0);
        self.open.retain_mut(|open| {
            let away = distance[open.node as usize];
            open.high = open.high.min(farthest + away).min(deepest + open.depth);
            open.low = open.low.max(away).max(eccentricity.saturating_sub(away));
            let keep = open.reach() > longest && open.node != from;
            deep += usize::from(keep && open.is_deep(longest));
            deep_here += usize::from(keep && 2 * (away + open.height) > longest);
            keep
        });
        let moves = deep_here < deep;
        let mut next = Next { deep: deep.min(deep_here), ..Next::default() };
        let (mut highest, mut lowest) = (0, u32::MAX);
        for open in &mut self.open {
            if moves {
                open.depth = distance[open.node as usize];
            }
            if open.is_deep(longest) && open.reach() > highest {
                (highest, next.rim) = (open.reach(), open.node);
            }
            if open.low < lowest {
                (lowest, next.middle) = (open.low, open.node);
            }
        }
        next
    }
}

/// The longest path between what hangs on different nodes of a ring. All of a ring looks alike: searches would settle one node each.
fn around(core: &Core, first: u32) -> u32 {
    let mut heights = vec![i64::from(core.height[first as usize])];
    let (mut before, mut here) = (first, core.rows.row(first)[0]);
    while here != first {
        heights.push(i64::from(core.height[here as usize]));
        let &[a, b] = core.rows.row(here) else { break };
        (before, here) = (here, if a == before { b } else { a });
    }
    // Twice around, each node with those up to half a ring before it. Of these only such are kept as no later one surpasses.
    let nodes = heights.len() as i64;
    let mut kept: VecDeque<(i64, i64)> = VecDeque::new();
    let mut longest = 0;
    for at in 0..2 * nodes {
        let height = heights[(at % nodes) as usize];
        while kept.front().is_some_and(|(place, _)| at - place > nodes / 2) {
            kept.pop_front();
        }
        longest = kept.front().map_or(longest, |(_, lead)| longest.max(lead + at + height));
        while kept.back().is_some_and(|(_, lead)| *lead <= height - at) {
            kept.pop_back();
        }
        kept.push_back((at, height - at));
    }
    u32::try_from(longest).unwrap_or(u32::MAX)
}

/// What may come after a search.
#[derive(Debug, Default)]
struct Next {
    /// The open nodes that are deep, seen from the best centre so far: every path that is still looked for has one at an end.
    deep: usize,
    /// The deep node that may have the longest path.
    rim: u32,
    /// The open node that may be nearest to all others.
    middle: u32,
}
