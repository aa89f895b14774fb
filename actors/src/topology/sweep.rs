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
    frontier: Vec<u32>,
    reached: Vec<u32>,
    /// Nodes that all sources have to reach before the sweep can end.
    target: Vec<bool>,
    /// Sources by how far what hangs on a target is that they reached.
    arrived: Vec<[u64; WORDS]>,
}

impl<const WORDS: usize> Sweep<WORDS> {
    /// Sources of one sweep.
    pub(super) const SOURCES: usize = 64 * WORDS;

    /// Gets ready for a core of so many nodes.
    pub(super) fn start(&mut self, nodes: usize) {
        self.target.clear();
        self.target.resize(nodes, false);
    }

    /// How far the farthest end is of what hangs on any of `targets` but the source itself, for each of at most [`Sweep::SOURCES`] `sources`
    /// in the component `part`, into `farthest`.
    pub(super) fn run(
        &mut self,
        core: &Core,
        part: Range<u32>,
        sources: &[u32],
        targets: &[Open],
        farthest: &mut Vec<u32>,
    ) {
        for bits in [&mut self.seen, &mut self.now, &mut self.next] {
            bits.clear();
            bits.resize(core.rows.len(), [0; WORDS]);
        }
        self.frontier.clear();
        self.arrived.clear();
        let mut all = [0; WORDS];
        for (bit, source) in sources.iter().enumerate() {
            let mask = 1 << (bit % 64);
            all[bit / 64] |= mask;
            self.seen[*source as usize][bit / 64] |= mask;
            self.now[*source as usize][bit / 64] |= mask;
            self.frontier.push(*source);
        }
        let (mut missing, mut tallest) = (0, 0);
        for target in targets {
            self.target[target.node as usize] = true;
            missing += usize::from(self.seen[target.node as usize] != all);
            tallest = tallest.max(target.height as usize);
        }
        let mut depth = 0;
        while missing > 0 && !self.frontier.is_empty() {
            depth += 1;
            self.arrived.resize(depth + tallest + 1, [0; WORDS]);
            self.step(core, part.clone(), all);
            for &w in &self.frontier {
                let new = self.now[w as usize];
                let seen = &mut self.seen[w as usize];
                for (seen, new) in seen.iter_mut().zip(new) {
                    *seen |= new;
                }
                if self.target[w as usize] {
                    missing -= usize::from(*seen == all);
                    let arrived = &mut self.arrived[depth + core.height[w as usize] as usize];
                    for (arrived, new) in arrived.iter_mut().zip(new) {
                        *arrived |= new;
                    }
                }
            }
        }
        for target in targets {
            self.target[target.node as usize] = false;
        }
        self.last_arrivals(sources.len(), farthest);
    }

    /// The last time that each of so many sources arrived anywhere.
    fn last_arrivals(&self, sources: usize, farthest: &mut Vec<u32>) {
        farthest.clear();
        farthest.resize(sources, 0);
        let mut known = [0; WORDS];
        for (ends, arrived) in self.arrived.iter().enumerate().rev() {
            for (word, (known, arrived)) in known.iter_mut().zip(arrived).enumerate() {
                let mut new = arrived & !*known;
                *known |= new;
                while new != 0 {
                    farthest[64 * word + new.trailing_zeros() as usize] = ends as u32;
                    new &= new - 1;
                }
            }
        }
    }

    /// Carries the bits one edge further: from those who have news to their neighbours, or, where most have some, by asking
    /// everybody who still misses any.
    fn step(&mut self, core: &Core, part: Range<u32>, all: [u64; WORDS]) {
        let (start, to) = (&core.rows.start[..], &core.rows.to[..]);
        let (seen, now, next) = (&self.seen[..], &self.now[..], &mut self.next[..]);
        self.reached.clear();
        if self.frontier.len() > part.len() / PULL_SHARE {
            for w in part {
                let row = &to[start[w as usize] as usize..start[w as usize + 1] as usize];
                let (seen, next) = (&seen[w as usize], &mut next[w as usize]);
                *next = [0; WORDS];
                if *seen == all {
                    continue;
                }
                let mut new = [0; WORDS];
                for &v in row {
                    for (new, now) in new.iter_mut().zip(now[v as usize]) {
                        *new |= now;
                    }
                }
                for (new, seen) in new.iter_mut().zip(seen) {
                    *new &= !seen;
                }
                *next = new;
                if new != [0; WORDS] {
                    self.reached.push(w);
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
