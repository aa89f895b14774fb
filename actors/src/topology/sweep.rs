//! Breadth-first search from up to 256 nodes at once: a bit per source in every node (Then and others, "The more the merrier: efficient
//! multi-source graph traversal", 2014), until all nodes that may be ends of a path longer than those found are reached.

use std::ops::Range;

use super::core::Core;
use super::diameter::Open;

/// One in so many nodes with news, and asking costs less than telling.
const PULL_SHARE: usize = 6;

/// The sweep's buffers; a sweep has room for `64 * WORDS` sources.
#[derive(Debug, Clone, Default)]
pub(super) struct Sweep<const WORDS: usize> {
    /// Sources that have reached a node.
    seen: Vec<[u64; WORDS]>,
    /// Those that reached it in the last step.
    now: Vec<[u64; WORDS]>,
    /// Those that reach it in this step.
    next: Vec<[u64; WORDS]>,
    /// Whether something older still stands in `next`.
    stale: bool,
    /// Nodes that sources reached in the last step.
    frontier: Vec<u32>,
    /// Those that sources reach in this step.
    reached: Vec<u32>,
    /// Nodes that miss a source, or did so two steps ago.
    asking: Vec<u32>,
    arrivals: Arrivals<WORDS>,
}

/// Which sources came to the targets when.
#[derive(Debug, Clone)]
struct Arrivals<const WORDS: usize> {
    /// All sources.
    all: [u64; WORDS],
    /// Nodes that all sources have to reach before the sweep can end.
    target: Vec<bool>,
    /// How many of them miss a source.
    missing: usize,
    /// Sources by how far the end of what hangs on a target is that they came to.
    by_distance: Vec<[u64; WORDS]>,
}

impl<const WORDS: usize> Default for Arrivals<WORDS> {
    fn default() -> Self {
        Self { all: [0; WORDS], target: Vec::new(), missing: 0, by_distance: Vec::new() }
    }
}

impl<const WORDS: usize> Arrivals<WORDS> {
    /// Some sources came to a node, which now has seen so many.
    #[inline(always)]
    fn note(&mut self, node: u32, end: usize, new: [u64; WORDS], seen: [u64; WORDS]) {
        if self.target[node as usize] {
            self.missing -= usize::from(seen == self.all);
            self.by_distance[end] = or(self.by_distance[end], new);
        }
    }

    /// The longest distance at which each of so many sources came to any target.
    fn farthest(&self, sources: usize, farthest: &mut Vec<u32>) {
        farthest.clear();
        farthest.resize(sources, 0);
        let mut known = [0; WORDS];
        for (distance, came) in self.by_distance.iter().enumerate().rev() {
            for (word, mut new) in and_not(*came, known).into_iter().enumerate() {
                while new != 0 {
                    farthest[64 * word + new.trailing_zeros() as usize] = distance as u32;
                    new &= new - 1;
                }
            }
            known = or(known, *came);
        }
    }
}

impl<const WORDS: usize> Sweep<WORDS> {
    /// Sources of one sweep.
    pub(super) const SOURCES: usize = 64 * WORDS;

    /// Gets ready for a core of so many nodes.
    pub(super) fn start(&mut self, nodes: usize) {
        self.arrivals.target.clear();
        self.arrivals.target.resize(nodes, false);
    }

    /// Searches the component `part` from at most [`Sweep::SOURCES`] different `sources`. Into `farthest` goes, for each of them, how far the
    /// farthest end is of what hangs on a target but the source itself.
    pub(super) fn run(
        &mut self,
        core: &Core,
        part: Range<u32>,
        sources: &[u32],
        targets: &[Open],
        farthest: &mut Vec<u32>,
    ) {
        self.set_out(core, part.clone(), sources);
        let tallest = self.aim(targets);
        let mut depth = 0;
        while self.arrivals.missing > 0 && !self.frontier.is_empty() {
            depth += 1;
            self.arrivals.by_distance.resize(depth + tallest + 1, [0; WORDS]);
            if self.frontier.len() > part.len() / PULL_SHARE {
                self.pull(core, depth);
            } else {
                self.push(core, depth);
            }
            std::mem::swap(&mut self.now, &mut self.next);
            std::mem::swap(&mut self.frontier, &mut self.reached);
        }
        for target in targets {
            self.arrivals.target[target.node as usize] = false;
        }
        self.arrivals.farthest(sources.len(), farthest);
    }

    /// Puts the sources where they begin.
    fn set_out(&mut self, core: &Core, part: Range<u32>, sources: &[u32]) {
        for bits in [&mut self.seen, &mut self.now, &mut self.next] {
            bits.clear();
            bits.resize(core.rows.len(), [0; WORDS]);
        }
        self.stale = false;
        self.frontier.clear();
        self.frontier.extend(sources);
        self.asking.clear();
        self.asking.extend(part);
        self.arrivals.all = [0; WORDS];
        for (bit, source) in sources.iter().enumerate() {
            let mask = 1 << (bit % 64);
            self.arrivals.all[bit / 64] |= mask;
            self.seen[*source as usize][bit / 64] |= mask;
            self.now[*source as usize][bit / 64] |= mask;
        }
    }

    /// Marks the targets; returns the height of the tallest tree on any.
    fn aim(&mut self, targets: &[Open]) -> usize {
        let Self { seen, arrivals, .. } = self;
        arrivals.by_distance.clear();
        arrivals.missing = 0;
        let mut tallest = 0;
        for target in targets {
            arrivals.target[target.node as usize] = true;
            arrivals.missing += usize::from(seen[target.node as usize] != arrivals.all);
            tallest = tallest.max(target.height);
        }
        tallest as usize
    }

    /// Carries the bits one edge further: everybody who still misses any asks all neighbours.
    fn pull(&mut self, core: &Core, depth: usize) {
        let (seen, now, next) = (&mut self.seen[..], &self.now[..], &mut self.next[..]);
        let (reached, arrivals) = (&mut self.reached, &mut self.arrivals);
        reached.clear();
        let mut kept = 0;
        for at in 0..self.asking.len() {
            let w = self.asking[at];
            let known = seen[w as usize];
            let mut new = [0; WORDS];
            for &v in core.rows.row(w) {
                new = or(new, now[v as usize]);
            }
            new = and_not(new, known);
            next[w as usize] = new;
            if any(new) {
                let known = or(known, new);
                seen[w as usize] = known;
                reached.push(w);
                arrivals.note(w, depth + core.height[w as usize] as usize, new, known);
            }
            // A node that has all stays until nothing stands in `now` and `next`.
            self.asking[kept] = w;
            kept += usize::from(known != arrivals.all || any(now[w as usize]));
        }
        self.asking.truncate(kept);
        self.stale = true;
    }

    /// Carries the bits one edge further: those who have news tell them to their neighbours.
    fn push(&mut self, core: &Core, depth: usize) {
        if std::mem::take(&mut self.stale) {
            self.next.fill([0; WORDS]);
        }
        let (seen, now, next) = (&mut self.seen[..], &mut self.now[..], &mut self.next[..]);
        self.reached.clear();
        for &v in &self.frontier {
            let news = now[v as usize];
            for &w in core.rows.row(v) {
                let next = &mut next[w as usize];
                let new = and_not(news, seen[w as usize]);
                if !any(*next) && any(new) {
                    self.reached.push(w);
                }
                *next = or(*next, new);
            }
        }
        for &v in &self.frontier {
            now[v as usize] = [0; WORDS];
        }
        for &w in &self.reached {
            let (seen, new) = (&mut seen[w as usize], next[w as usize]);
            *seen = or(*seen, new);
            self.arrivals.note(w, depth + core.height[w as usize] as usize, new, *seen);
        }
    }
}

#[inline(always)]
fn or<const WORDS: usize>(a: [u64; WORDS], b: [u64; WORDS]) -> [u64; WORDS] {
    std::array::from_fn(|word| a[word] | b[word])
}

#[inline(always)]
fn and_not<const WORDS: usize>(a: [u64; WORDS], b: [u64; WORDS]) -> [u64; WORDS] {
    std::array::from_fn(|word| a[word] & !b[word])
}

#[inline(always)]
fn any<const WORDS: usize>(bits: [u64; WORDS]) -> bool {
    bits.into_iter().fold(0, |some, word| some | word) != 0
}
