//! What goes wrong, drawn from a seed.

use std::collections::BTreeSet;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// How a network falls apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Into two sides.
    TwoWay,
    /// Into three sides.
    ThreeWay,
    /// One side hears the other, which does not hear it.
    OneWay,
    /// Some pairs of nodes do not hear each other, or one does not hear the other; sides overlap.
    Partial,
    /// Two sides, again and again, for moments.
    Flapping,
    /// It does not; nodes crash.
    Crash,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::TwoWay, Self::ThreeWay, Self::OneWay, Self::Partial, Self::Flapping, Self::Crash];

    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TwoWay => "two sides",
            Self::ThreeWay => "three sides",
            Self::OneWay => "one way",
            Self::Partial => "partial",
            Self::Flapping => "flapping",
            Self::Crash => "crashes",
        }
    }

    /// Whether it divides the nodes into sides that hear nothing of each other, at once and for as long as it lasts.
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::TwoWay | Self::ThreeWay)
    }
}

/// One round of the experiment: something goes wrong, and is well again.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) kind: Kind,
    /// Who does not hear whom: `(from, to)`.
    pub(super) cut: BTreeSet<(usize, usize)>,
    /// How long it lasts, in milliseconds.
    pub(super) lasts_ms: u64,
    /// When it goes off and on again, for those that flap.
    pub(super) toggles_ms: Vec<u64>,
    /// Who crashes, when, and when it is back.
    pub(super) crashes_ms: Vec<(usize, u64, u64)>,
    /// Nodes with slow media, and how slow.
    pub(super) slow_ms: Vec<(usize, u64)>,
    /// The share of packets lost meanwhile.
    pub(super) loss: f64,
}

fn sides(nodes: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..nodes).collect();
    order.shuffle(rng);
    let mut side = vec![0; nodes];
    for (place, node) in order.into_iter().enumerate() {
        // Each side has at least one.
        side[node] = if place < count { place } else { rng.random_range(0..count) };
    }
    side
}

fn between(side: &[usize], cut: impl Fn(usize, usize) -> bool) -> BTreeSet<(usize, usize)> {
    let pairs = (0..side.len()).flat_map(|from| (0..side.len()).map(move |to| (from, to)));
    pairs.filter(|(from, to)| side[*from] != side[*to] && cut(side[*from], side[*to])).collect()
}

/// Draws a round among so many nodes.
pub(super) fn draw(nodes: usize, rng: &mut ChaCha8Rng) -> Round {
    let kind = Kind::ALL[rng.random_range(0..Kind::ALL.len())];
    let cut = match kind {
        Kind::TwoWay | Kind::Flapping => between(&sides(nodes, 2, rng), |_, _| true),
        Kind::ThreeWay => between(&sides(nodes, 3.min(nodes), rng), |_, _| true),
        Kind::OneWay => between(&sides(nodes, 2, rng), |from, to| from < to),
        Kind::Partial => partial(nodes, rng),
        Kind::Crash => BTreeSet::new(),
    };
    let lasts_ms = rng.random_range(5_000..16_000);
    let mut toggles_ms = Vec::new();
    if kind == Kind::Flapping {
        let mut at = 0;
        while at < lasts_ms {
            at += rng.random_range(200..2500);
            toggles_ms.push(at.min(lasts_ms));
        }
    }
    let crash = |rng: &mut ChaCha8Rng| {
        let at = rng.random_range(0..lasts_ms);
        (rng.random_range(0..nodes), at, at + rng.random_range(300..10_000))
    };
    let crashes = match kind {
        Kind::Crash => rng.random_range(1..=nodes.div_ceil(2)),
        Kind::TwoWay | Kind::ThreeWay | Kind::OneWay | Kind::Partial | Kind::Flapping => {
            if rng.random_bool(0.25) {
                rng.random_range(1..=2)
            } else {
                0
            }
        }
    };
    let mut crashes_ms: Vec<_> = (0..crashes).map(|_| crash(rng)).collect();
    crashes_ms.sort_by_key(|crash| crash.0);
    crashes_ms.dedup_by_key(|crash| crash.0);
    let slow = if rng.random_bool(0.3) { rng.random_range(1..=2) } else { 0 };
    let slow_ms = (0..slow).map(|_| (rng.random_range(0..nodes), rng.random_range(30..300))).collect();
    let loss = if rng.random_bool(0.2) { rng.random_range(0.01..0.1) } else { 0.002 };
    Round { kind, cut, lasts_ms, toggles_ms, crashes_ms, slow_ms, loss }
}

/// Two sides that have a node in common, or pairs at random.
fn partial(nodes: usize, rng: &mut ChaCha8Rng) -> BTreeSet<(usize, usize)> {
    if rng.random_bool(0.5) {
        let common = rng.random_range(0..nodes);
        let mut cut = between(&sides(nodes, 2, rng), |_, _| true);
        cut.retain(|(from, to)| *from != common && *to != common);
        return cut;
    }
    let mut cut = BTreeSet::new();
    for from in 0..nodes {
        for to in 0..nodes {
            if from != to && rng.random_bool(0.3) {
                cut.insert((from, to));
                if rng.random_bool(0.7) {
                    cut.insert((to, from));
                }
            }
        }
    }
    cut
}
