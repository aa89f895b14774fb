//! Processor time of one analysis.

use std::hint::black_box;

use bowline_actors::topology::Analyser;
use petgraph::stable_graph::StableUnGraph;

/// Rounds that are measured, and in how much time at least each is: the clock itself takes part of a microsecond.
const ROUNDS: usize = 7;
const ROUND_NS_MIN: u64 = 200_000;

/// Microseconds of one analysis with buffers from an earlier one, the median of several rounds. As it is in a node: it analyses the same
/// network again and again.
pub(super) fn analysis_us(analyser: &mut Analyser, graph: &StableUnGraph<(), ()>) -> f64 {
    let mut round = |count: u64| {
        let began = thread_ns();
        for _ in 0..count {
            black_box(analyser.analyse(black_box(graph)));
        }
        thread_ns().saturating_sub(began)
    };
    round(1);
    let once = round(1).max(1);
    let count = ROUND_NS_MIN.div_ceil(once);
    let mut rounds: Vec<u64> = (0..ROUNDS).map(|_| round(count)).collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2] as f64 / count as f64 / 1e3
}

/// Processor time of this thread.
#[cfg(unix)]
fn thread_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Where there is no such clock, time as it passes.
#[cfg(not(unix))]
fn thread_ns() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(bowline_actors::clock::now);
    u64::try_from((bowline_actors::clock::now() - start).as_nanos()).unwrap_or(u64::MAX)
}
