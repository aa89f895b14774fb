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
    /// While nodes tell: those that reach it in this step. While they ask: those that had reached it before the last step.
    next: Vec<[u64; WORDS]>,
    /// While nodes tell: those that reached it in the last step.
    now: Vec<[u64; WORDS]>,
    /// While nodes tell: who has news.
    frontier: Vec<u32>,
    /// While they tell: who will have.
    reached: Vec<u32>,
    /// While they ask: who missed a source one step ago.
    asking: Vec<Asking>,
    arrivals: Arrivals<WORDS>,
}

/// A node that asks, and whom.
#[derive(Debug, Clone, Copy)]
struct Asking {
    node: u32,
    /// The first of its neighbours, and itself where there are fewer.
    first: [u32; 4],
    /// Where the others begin in the rows.
    more: u32,
    /// Where they end.
    end: u32,
}

impl Asking {
    fn of(core: &Core, node: u32) -> Self {
        let (start, row) = (core.rows.start[node as usize], core.rows.row(node));
        let count = row.len().min(4);
        let mut first = [node; 4];
        first[..count].copy_from_slice(&row[..count]);
        Self { node, first, more: start + count as u32, end: start + row.len() as u32 }
    }
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
    /// Some sources came to a node: those that it has seen and did not know.
    #[inline(always)]
    fn note(&mut self, node: u32, end: usize, known: &[u64; WORDS], seen: &[u64; WORDS]) {
        if self.target[node as usize] {
            self.missing -= usize::from(!differ(seen, &self.all));
            for ((came, known), seen) in self.by_distance[end].iter_mut().zip(known).zip(seen) {
                *came |= seen & !known;
            }
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
        self.set_out(core, sources);
        let tallest = self.aim(targets);
        // How many nodes have news, and whether they are telling.
        let (mut news, mut telling) = (sources.len(), true);
        let mut depth = 0;
        while self.arrivals.missing > 0 && news > 0 {
            depth += 1;
            self.arrivals.by_distance.resize(depth + tallest + 1, [0; WORDS]);
            if news > part.len() / PULL_SHARE {
                if std::mem::take(&mut telling) {
                    self.asking.clear();
                    self.asking.extend(part.clone().map(|node| Asking::of(core, node)));
                }
                news = self.ask(core, depth);
            } else {
                if !std::mem::replace(&mut telling, true) {
                    self.gather_news(part.clone());
                }
                news = self.tell(core, depth);
            }
        }
        for target in targets {
            self.arrivals.target[target.node as usize] = false;
        }
        self.arrivals.farthest(sources.len(), farthest);
    }

    /// Puts the sources where they begin.
    fn set_out(&mut self, core: &Core, sources: &[u32]) {
        for bits in [&mut self.seen, &mut self.now, &mut self.next] {
            bits.clear();
            bits.resize(core.rows.len(), [0; WORDS]);
        }
        self.frontier.clear();
        self.frontier.extend(sources);
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

    /// Carries the bits one edge further: everybody who misses any asks all neighbours. Says how many have news then.
    fn ask(&mut self, core: &Core, depth: usize) -> usize {
        let (seen, next, arrivals) = (&self.seen[..], &mut self.next[..], &mut self.arrivals);
        let (mut news, mut kept) = (0, 0);
        for at in 0..self.asking.len() {
            let asking = self.asking[at];
            let w = asking.node as usize;
            let known = seen[w];
            let [a, b, c, d] = asking.first.map(|v| &seen[v as usize]);
            let mut all: [u64; WORDS] =
                std::array::from_fn(|word| known[word] | (a[word] | b[word]) | (c[word] | d[word]));
            for &v in &core.rows.to[asking.more as usize..asking.end as usize] {
                all = or(all, seen[v as usize]);
            }
            next[w] = all;
            // Who has all now still has to write it into the other buffer.
            self.asking[kept] = asking;
            kept += usize::from(differ(&known, &arrivals.all));
            if differ(&known, &all) {
                news += 1;
                arrivals.note(asking.node, depth + core.height[w] as usize, &known, &all);
            }
        }
        self.asking.truncate(kept);
        std::mem::swap(&mut self.seen, &mut self.next);
        news
    }

    /// Finds out who has news, after asking.
    fn gather_news(&mut self, part: Range<u32>) {
        self.frontier.clear();
        for w in part {
            let (seen, next) = (self.seen[w as usize], &mut self.next[w as usize]);
            let new = and_not(seen, *next);
            *next = [0; WORDS];
            self.now[w as usize] = new;
            if any(new) {
                self.frontier.push(w);
            }
        }
    }

    /// Carries the bits one edge further: those who have news tell them to their neighbours. Says how many have news then.
    fn tell(&mut self, core: &Core, depth: usize) -> usize {
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
            let seen = &mut seen[w as usize];
            let known = *seen;
            *seen = or(known, next[w as usize]);
            self.arrivals.note(w, depth + core.height[w as usize] as usize, &known, seen);
        }
        std::mem::swap(&mut self.now, &mut self.next);
        std::mem::swap(&mut self.frontier, &mut self.reached);
        self.frontier.len()
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

/// Whether any bit differs.
#[inline(always)]
fn differ<const WORDS: usize>(a: &[u64; WORDS], b: &[u64; WORDS]) -> bool {
    a.iter().zip(b).fold(0, |some, (a, b)| some | (a ^ b)) != 0
}

#[inline(always)]
fn any<const WORDS: usize>(bits: [u64; WORDS]) -> bool {
    bits.into_iter().fold(0, |some, word| some | word) != 0
}
