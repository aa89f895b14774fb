//! What is measured, of one run and of many.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_messages::partition::{PartitionMetrics, Strategy};
use serde::Serialize;

use super::fault::Kind;
use super::history::{History, Told, Violation};
use crate::testing::soak::stats::{Samples, Summary};

/// Upper bounds of the histogram of recovery times, in milliseconds.
const BOUNDS_MS: [u64; 9] = [250, 500, 1000, 1500, 2000, 3000, 4000, 5000, 8000];

/// What became of the rounds of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Rounds {
    begun: u64,
    recovered: u64,
    recover: Samples,
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    rounds: BTreeMap<Kind, Rounds>,
    kind: Option<Kind>,
    detect: Samples,
    act: Samples,
    strategies: BTreeMap<Strategy, (u64, u64)>,
    pub(super) false_partitions: u64,
    pub(super) false_suspicions: u64,
    pub(super) lasted_ns: u64,
    pub(super) crashes: u64,
    pub(super) adopted: u64,
    pub(super) rolled_back: u64,
    pub(super) unresolved: u64,
    asked: u64,
    answered: u64,
    refused: u64,
}

impl Figures {
    pub(super) fn begin(&mut self, kind: Kind) {
        self.rounds.entry(kind).or_default().begun += 1;
    }

    pub(super) fn heal(&mut self, kind: Kind) {
        self.kind = Some(kind);
    }

    pub(super) fn detected(&mut self, ns: u64) {
        self.detect.add(Duration::from_nanos(ns));
    }

    pub(super) fn acted(&mut self, ns: u64) {
        self.act.add(Duration::from_nanos(ns));
    }

    /// Adds the figures of a node's life.
    pub(super) fn add(&mut self, metrics: &PartitionMetrics) {
        for (strategy, (attempts, successes)) in &metrics.strategies {
            let here = self.strategies.entry(*strategy).or_default();
            *here = (here.0 + attempts, here.1 + successes);
        }
    }

    pub(super) fn recovered(&mut self, ns: u64) {
        if let Some(kind) = self.kind.take() {
            let rounds = self.rounds.entry(kind).or_default();
            rounds.recovered += 1;
            rounds.recover.add(Duration::from_nanos(ns));
        }
    }

    pub(super) fn tally(&mut self, history: &History) {
        for asked in history.values() {
            self.asked += 1;
            match asked.told {
                Told::Answered(..) => self.answered += 1,
                Told::Refused => self.refused += 1,
                Told::Nothing => {}
            }
        }
    }

    fn join(&mut self, other: &Self) {
        for (kind, rounds) in &other.rounds {
            let here = self.rounds.entry(*kind).or_default();
            here.begun += rounds.begun;
            here.recovered += rounds.recovered;
            here.recover.join(&rounds.recover);
        }
        self.detect.join(&other.detect);
        self.act.join(&other.act);
        for (strategy, (attempts, successes)) in &other.strategies {
            let here = self.strategies.entry(*strategy).or_default();
            *here = (here.0 + attempts, here.1 + successes);
        }
        self.false_partitions += other.false_partitions;
        self.false_suspicions += other.false_suspicions;
        self.lasted_ns += other.lasted_ns;
        self.crashes += other.crashes;
        self.adopted += other.adopted;
        self.rolled_back += other.rolled_back;
        self.unresolved += other.unresolved;
        self.asked += other.asked;
        self.answered += other.answered;
        self.refused += other.refused;
    }
}

/// What came of one seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What cannot have been.
    pub violations: Vec<Violation>,
    /// A digest of everything that happened: the same for the same seed.
    pub trace: [u8; 32],
    pub(super) figures: Figures,
}

/// What became of the rounds of one kind, as it is printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindReport {
    /// How often the network fell apart like that.
    pub rounds: u64,
    /// How often it was active again, all on one side, before the next round.
    pub recovered: u64,
    /// How long that took after healing.
    pub recover: Option<Summary>,
}

/// What came of all seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How many runs.
    pub seeds: u64,
    /// What cannot have been, in all of them.
    pub violations: u64,
    /// Of these: two active sides.
    pub double_active: u64,
    /// Of these: something committed, or answered, that is lost.
    pub lost_commits: u64,
    /// How long until every node suspected a clean split, in milliseconds: half are below.
    pub detect_ms_p50: Option<f64>,
    /// 99 of a hundred are below.
    pub detect_ms_p99: Option<f64>,
    /// How long until every node acted upon a clean split, in milliseconds: half are below.
    pub act_ms_p50: Option<f64>,
    /// 99 of a hundred are below.
    pub act_ms_p99: Option<f64>,
    /// How long after healing until everybody worked on one side, with everything committed, in milliseconds: half are below.
    pub recover_ms_p50: Option<f64>,
    /// 99 of a hundred are below.
    pub recover_ms_p99: Option<f64>,
    /// How often a node acted upon a partition where there was none.
    pub false_partitions: u64,
    /// How often one merely suspected one.
    pub false_suspicions: u64,
    /// Attempts of each strategy, over all nodes, and how many of them helped.
    pub strategies: BTreeMap<String, (u64, u64)>,
    /// Virtual hours that all runs lasted.
    pub hours: f64,
    /// By how the network fell apart.
    pub kinds: BTreeMap<&'static str, KindReport>,
    /// How many recoveries took how long: the upper bound in milliseconds (`None`: longer), and how many.
    pub histogram: Vec<(Option<u64>, u64)>,
    /// Operations clients asked for.
    pub asked: u64,
    /// Operations that were answered.
    pub answered: u64,
    /// Operations refused because the side was paused.
    pub refused: u64,
    /// Crashes of nodes.
    pub crashes: u64,
    /// States taken over from another node.
    pub adopted: u64,
    /// States given up again.
    pub rolled_back: u64,
    /// Seeds with violations, and the first violation of each.
    pub failing: Vec<(u64, String)>,
}

impl Report {
    /// Adds the outcomes up. They come in any order; the report is the same.
    pub fn of(mut outcomes: Vec<Outcome>) -> Self {
        outcomes.sort_by_key(|outcome| outcome.seed);
        let mut all = Figures::default();
        outcomes.iter().for_each(|outcome| all.join(&outcome.figures));
        let violations = || outcomes.iter().flat_map(|outcome| &outcome.violations);
        let count = |of: fn(&Violation) -> bool| violations().filter(|violation| of(violation)).count() as u64;
        let mut recover = Samples::default();
        all.rounds.values().for_each(|rounds| recover.join(&rounds.recover));
        let (detect, act, recovered) = (all.detect.summary(), all.act.summary(), recover.summary());
        let kinds = all.rounds.iter().map(|(kind, rounds)| {
            let report =
                KindReport { rounds: rounds.begun, recovered: rounds.recovered, recover: rounds.recover.summary() };
            (kind.name(), report)
        });
        let failing =
            outcomes.iter().filter_map(|outcome| Some((outcome.seed, outcome.violations.first()?.to_string())));
        Self {
            seeds: outcomes.len() as u64,
            violations: violations().count() as u64,
            double_active: count(|violation| matches!(violation, Violation::DoubleActive { .. })),
            lost_commits: count(Violation::is_loss),
            detect_ms_p50: detect.map(|summary| summary.p50_ms),
            detect_ms_p99: detect.map(|summary| summary.p99_ms),
            recover_ms_p50: recovered.map(|summary| summary.p50_ms),
            recover_ms_p99: recovered.map(|summary| summary.p99_ms),
            act_ms_p50: act.map(|summary| summary.p50_ms),
            act_ms_p99: act.map(|summary| summary.p99_ms),
            false_partitions: all.false_partitions,
            false_suspicions: all.false_suspicions,
            strategies: all.strategies.iter().map(|(strategy, counts)| (strategy.to_string(), *counts)).collect(),
            hours: Duration::from_nanos(all.lasted_ns).as_secs_f64() / 3600.0,
            kinds: kinds.collect(),
            histogram: histogram(recover.values()),
            asked: all.asked,
            answered: all.answered,
            refused: all.refused,
            crashes: all.crashes,
            adopted: all.adopted,
            rolled_back: all.rolled_back,
            failing: failing.collect(),
        }
    }
}

fn histogram(values: &[f64]) -> Vec<(Option<u64>, u64)> {
    let mut counts = vec![0; BOUNDS_MS.len() + 1];
    for value in values {
        counts[BOUNDS_MS.iter().take_while(|bound| **bound as f64 <= *value).count()] += 1;
    }
    BOUNDS_MS.iter().map(|bound| Some(*bound)).chain([None]).zip(counts).collect()
}
