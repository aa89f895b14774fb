//! Breadth-first search from up to 256 nodes at once: a bit per source in every node (Then and others, "The more the merrier: efficient
//! multi-source graph traversal", 2014), for sources that may be ends of a path longer than those found.

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
    frontier: Vec<u32>,
    reached: Vec<u32>,
    /// Nodes that all sources have to reach before the sweep can end.
    target: Vec<bool>,
}

impl<const WORDS: usize> Sweep<WORDS> {
    /// Sources of one sweep.
    pub(super) const SOURCES: usize = 64 * WORDS;

    /// Gets ready for a core of so many nodes.
    pub(super) fn start(&mut self, nodes: usize) {
        self.target.clear();
        self.target.resize(nodes, false);
    }

    /// The longest path between what hangs on the first `count` of `open` and what hangs on any of `open`, if it is longer
    /// than `known`.
    pub(super) fn run(&mut self, core: &Core, open: &[Open], count: usize, known: u32) -> u32 {
        let nodes = core.rows.len();
        for bits in [&mut self.seen, &mut self.now, &mut self.next] {
            bits.clear();
            bits.resize(nodes, [0; WORDS]);
        }
        self.frontier.clear();
        let mut all = [0; WORDS];
        let sources = &open[..count.min(Self::SOURCES)];
        let mut tallest = 0;
        for (bit, source) in sources.iter().enumerate() {
            let mask = 1 << (bit % 64);
            all[bit / 64] |= mask;
            self.seen[source.node as usize][bit / 64] |= mask;
            self.now[source.node as usize][bit / 64] |= mask;
            self.frontier.push(source.node);
            tallest = tallest.max(source.height);
        }
        let mut missing = 0;
        for target in open {
            self.target[target.node as usize] = true;
            missing += usize::from(self.seen[target.node as usize] != all);
        }
        let mut longest = known;
        let mut depth = 0;
        while missing > 0 && !self.frontier.is_empty() {
            depth += 1;
            self.step(core, all);
            for &w in &self.frontier {
                let new = self.now[w as usize];
                let seen = &mut self.seen[w as usize];
                for (seen, new) in seen.iter_mut().zip(new) {
                    *seen |= new;
                }
                missing -= usize::from(self.target[w as usize] && *seen == all);
                let ends = depth + core.height[w as usize];
                if ends + tallest > longest {
                    longest = longest.max(ends + tallest_of(new, sources));
                }
            }
        }
        for target in open {
            self.target[target.node as usize] = false;
        }
        longest
    }

    /// Carries the bits one edge further: from those who have news to their neighbours, or, where most have some, by asking
    /// everybody who still misses any.
    fn step(&mut self, core: &Core, all: [u64; WORDS]) {
        let (start, to) = (&core.rows.start[..], &core.rows.to[..]);
        let (seen, now, next) = (&self.seen[..], &self.now[..], &mut self.next[..]);
        self.reached.clear();
        if self.frontier.len() > seen.len() / PULL_SHARE {
            for (w, (seen, next)) in seen.iter().zip(next.iter_mut()).enumerate() {
                *next = [0; WORDS];
                if *seen == all {
                    continue;
                }
                let mut new = [0; WORDS];
                for &v in &to[start[w] as usize..start[w + 1] as usize] {
                    for (new, now) in new.iter_mut().zip(now[v as usize]) {
                        *new |= now;
                    }
                }
                for (new, seen) in new.iter_mut().zip(seen) {
                    *new &= !seen;
                }
                *next = new;
                if new != [0; WORDS] {
                    self.reached.push(w as u32);
                }
            }
        } else {
            for &v in &self.frontier {
                let v = v as usize;
                for &w in &to[start[v] as usize..start[v + 1] as usize] {
                    let (known, next) = (&seen[w as usize], &mut next[w as usize]);
                    let first = *next == [0; WORDS];
                    let mut some = 0;
                    for ((next, known), now) in next.iter_mut().zip(known).zip(now[v]) {
                        let new = now & !known;
                        some |= new;
                        *next |= new;
                    }
                    if first && some != 0 {
                        self.reached.push(w);
                    }
                }
            }
        }
        for &v in &self.frontier {
            self.now[v as usize] = [0; WORDS];
        }
        std::mem::swap(&mut self.now, &mut self.next);
        std::mem::swap(&mut self.frontier, &mut self.reached);
    }
}

/// The deepest tree that hangs on any of the sources named by bits.
fn tallest_of<const WORDS: usize>(bits: [u64; WORDS], sources: &[Open]) -> u32 {
    let named = |(bit, source): (usize, &Open)| (bits[bit / 64] >> (bit % 64) & 1 == 1).then_some(source.height);
    sources.iter().enumerate().filter_map(named).max().unwrap_or(0)
}
