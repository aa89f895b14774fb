//! The experiment finds nothing wrong where nothing is, and what is wrong where something is.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Instant;

use super::history::{Asked, History, Told, Violation, check};
use super::*;

fn outcomes(plan: &Plan, seeds: std::ops::Range<u64>) -> Vec<Outcome> {
    let epoch = crate::clock::now();
    seeds.map(|seed| run(plan, seed, epoch).unwrap()).collect()
}

fn found(sabotage: Sabotage, what: fn(&Violation) -> bool) -> bool {
    let plan = Plan { sabotage, ..Plan::default() };
    outcomes(&plan, 0..6).iter().flat_map(|outcome| &outcome.violations).any(what)
}

#[test]
fn nothing_is_wrong_in_some_dozens_of_runs() {
    // A hundred rounds and two: with fewer, what one in a hundred may miss nobody may.
    let report = Report::of(outcomes(&Plan::default(), 0..34));
    assert_eq!(report.failing, []);
    assert_eq!((report.violations, report.double_active, report.lost_commits), (0, 0, 0));
    assert!(report.answered > 15_000 && report.refused > 1000, "{report:?}");
    assert!(report.adopted > 0, "states come apart, and are made one");
    for strategy in ["majority rule", "split-brain resolution"] {
        let (tried, helped) = report.strategies[strategy];
        assert!(helped > 0 && helped <= tried, "{strategy}: {helped} of {tried}");
    }
    assert!(report.detect_ms_p99.unwrap() <= 3000.0, "{report:?}");
    assert!(report.recover_ms_p99.unwrap() <= 5000.0, "{report:?}");
    assert_eq!(report.histogram.iter().map(|(_, count)| count).sum::<u64>(), 34 * 3);
}

#[test]
fn groups_of_other_sizes_are_as_safe() {
    for nodes in [1, 2, 3, 4, 7] {
        let report = Report::of(outcomes(&Plan { nodes, ..Plan::default() }, 0..4));
        assert_eq!(report.failing, [], "{nodes} nodes");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let one = outcomes(&Plan::default(), 3..5);
    let other = outcomes(&Plan::default(), 3..5);
    assert_eq!(one[0].trace, other[0].trace);
    assert_ne!(one[0].trace, one[1].trace);
    assert_eq!(Report::of(one), Report::of(other.into_iter().rev().collect()));
}

#[test]
fn a_node_that_goes_on_without_a_lease_is_found() {
    assert!(found(Sabotage::NeverPauses, |violation| matches!(violation, Violation::DoubleActive { .. })));
}

#[test]
fn media_that_forget_are_found() {
    assert!(found(Sabotage::ForgetsWrites, Violation::is_loss));
}

#[test]
fn answers_before_the_commit_are_found() {
    assert!(found(Sabotage::AnswersEarly, |violation| {
        matches!(violation, Violation::Lost { .. } | Violation::OutOfOrder { .. })
    }));
}

#[test]
fn stale_reads_are_found() {
    assert!(found(Sabotage::ReadsLocally, |violation| matches!(violation, Violation::WrongAnswer { .. })));
}

/// A log of these operations, numbered from 1, and a history in which each was asked at ten times its number and answered five later.
fn forged(operations: &[(Operation, Option<Answer>)]) -> (History, BTreeMap<u64, Command>) {
    let (mut history, mut log) = (History::new(), BTreeMap::new());
    for (id, (operation, answer)) in (1..).zip(operations) {
        let told = answer.map_or(Told::Nothing, |answer| Told::Answered(answer, id * 10 + 5));
        history.insert(id, Asked { operation: *operation, at: id * 10, node: 0, told });
        log.insert(id, Command { fence: 1, id, by: (1, 1), operation: *operation });
    }
    (history, log)
}

#[test]
fn the_judge_believes_no_forged_history() {
    let bet = Operation::Bet { from: 0, to: 1, stake: 700 };
    let sound = [
        (Operation::Write(7), Some(Answer::Written)),
        (Operation::Read, Some(Answer::Value(7))),
        (bet, Some(Answer::Moved(true))),
        (bet, Some(Answer::Moved(false))),
        (Operation::Write(8), None),
    ];
    let violations = |history: &History, log: &BTreeMap<u64, Command>| check(history, log).0;
    let (history, log) = forged(&sound);
    assert_eq!(violations(&history, &log), []);

    let (mut stale, _) = forged(&sound);
    stale.get_mut(&2).unwrap().told = Told::Answered(Answer::Value(0), 25);
    let wrong = Violation::WrongAnswer { id: 2, told: Answer::Value(0), found: Some(Answer::Value(7)) };
    assert_eq!(violations(&stale, &log), [wrong]);

    let mut lost = log.clone();
    lost.remove(&1);
    assert!(violations(&history, &lost).contains(&Violation::Lost { id: 1 }));

    let mut swapped = log.clone();
    swapped.insert(3, log[&4]);
    swapped.insert(4, log[&3]);
    assert!(violations(&history, &swapped).contains(&Violation::OutOfOrder { earlier: 3, later: 4 }));

    let mut refused = history.clone();
    refused.get_mut(&5).unwrap().told = Told::Refused;
    assert_eq!(violations(&refused, &log), [Violation::RefusedAndDone { id: 5 }]);

    let mut invented = log.clone();
    invented.insert(6, Command { fence: 1, id: 99, by: (1, 1), operation: Operation::Write(1) });
    assert_eq!(violations(&history, &invented), [Violation::Invented { id: 99 }]);

    // What was proposed twice is done once, and what was proposed under a lease that is over is not done.
    let mut twice = log.clone();
    twice.insert(6, log[&3]);
    twice.insert(7, Command { fence: 0, id: 5, by: (1, 1), operation: Operation::Write(8) });
    assert_eq!(violations(&history, &twice), []);
}

#[test]
fn operations_at_the_same_time_may_stand_in_any_order() {
    let (mut history, log) =
        forged(&[(Operation::Write(1), Some(Answer::Written)), (Operation::Read, Some(Answer::Value(1)))]);
    history.get_mut(&1).unwrap().told = Told::Answered(Answer::Written, 24);
    let swapped = BTreeMap::from([(1, log[&2]), (2, log[&1])]);
    history.get_mut(&2).unwrap().told = Told::Answered(Answer::Value(0), 25);
    assert_eq!(check(&history, &swapped).0, []);
}

#[test]
fn nothing_depends_on_the_epoch() {
    let plan = Plan { rounds: 1, ..Plan::default() };
    let epoch: Instant = crate::clock::now();
    let (one, other) = (run(&plan, 9, epoch), run(&plan, 9, epoch + std::time::Duration::from_secs(77)));
    assert_eq!(one.unwrap().trace, other.unwrap().trace);
}
