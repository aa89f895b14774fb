//! How soon one side becomes active, whoever sees whom, and how one that may not be is paused.

use std::time::Duration;

use proptest::prelude::*;

use super::simulation::Simulation;

const SECOND: Duration = Duration::from_secs(1);
/// From when the old holder is lost until a new one is there: its grants run out (3 s), candidates begin one after another (1 s), probing and
/// asking (four delays), and once more when two of them met.
const TAKEOVER_MAX: Duration = Duration::from_secs(9);
/// From healing until everybody is active: the holder asks again, or those who are paused try again.
const HEAL_MAX: Duration = Duration::from_secs(5);

#[test]
fn a_group_that_starts_becomes_active_as_a_whole() {
    for seed in 0..20 {
        let mut group = Simulation::new(5, seed);
        let took = group.run_until(TAKEOVER_MAX, |group| group.active().len() == 5);
        assert!(took.is_some(), "seed {seed}");
    }
}

#[test]
fn a_lost_holder_is_followed_by_another_one() {
    for seed in 0..20 {
        let mut group = active_group(5, seed);
        let holder = group.holder().unwrap();
        group.crash(holder);
        let took = group.run_until(TAKEOVER_MAX, |group| group.holder().is_some() && group.active().len() == 4);
        assert!(took.is_some(), "seed {seed}");
        group.restart(holder, seed % 2 == 0);
        assert!(group.run_until(HEAL_MAX, |group| group.active().len() == 5).is_some(), "seed {seed}");
    }
}

#[test]
fn both_sides_of_a_partial_partition_see_a_majority_and_one_is_active() {
    for seed in 0..10 {
        let mut group = active_group(5, seed);
        group.connect(|a, b| (a <= 2 && b <= 2) || (a >= 2 && b >= 2));
        group.run(TAKEOVER_MAX);
        for _ in 0..30 {
            // Quiet, too: the one that is active stays so.
            let holder = group.holder();
            assert!(holder.is_some(), "seed {seed}");
            group.run(SECOND);
            assert_eq!(group.holder(), holder, "seed {seed}");
        }
        group.connect(|_, _| true);
        assert!(group.run_until(HEAL_MAX, |group| group.active().len() == 5).is_some(), "seed {seed}");
    }
}

/// Links are drawn each way, or both ways alike.
fn splits(seeds: std::ops::Range<u64>, nodes: usize, both_ways: bool) {
    for seed in seeds {
        let mut group = active_group(nodes, seed);
        let bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed >> 7;
        let there = |a: usize, b: usize| {
            let (a, b) = if both_ways { (a.min(b), a.max(b)) } else { (a, b) };
            a == b || bits >> ((a * nodes + b) % 63) & 1 == 1
        };
        group.connect(there);
        group.run(TAKEOVER_MAX);
        let sees = |n: usize| (0..nodes).filter(|m| there(n, *m) && there(*m, n)).count();
        let able = (0..nodes).any(|n| 2 * sees(n) > nodes);
        let most = TAKEOVER_MAX * 2;
        assert_eq!(able, group.run_until(most, |group| group.holder().is_some()).is_some(), "seed {seed}");
        if let Some(holder) = group.holder() {
            assert!(2 * sees(holder) > nodes, "seed {seed}");
            assert!(group.active().keys().all(|n| there(*n, holder) && there(holder, *n)), "seed {seed}");
        } else {
            assert!(group.active().is_empty(), "seed {seed}");
        }
        group.connect(|_, _| true);
        let healed = group.run_until(HEAL_MAX, |group| group.active().len() == nodes);
        assert!(healed.is_some(), "seed {seed}: {:?}", group.active());
    }
}

#[test]
fn whoever_sees_whom_one_side_is_active_when_one_can_be() {
    splits(0..20, 5, true);
    splits(100..120, 5, false);
    splits(200..205, 7, true);
}

#[test]
#[ignore = "takes minutes"]
fn whoever_sees_whom_one_side_is_active_when_one_can_be_many_times() {
    splits(1_000..9_000, 5, true);
    splits(10_000..18_000, 5, false);
    splits(20_000..24_000, 7, false);
}

#[test]
fn a_minority_is_paused_when_its_lease_is_over() {
    for seed in 0..20 {
        let mut group = active_group(5, seed);
        let holder = group.holder().unwrap();
        let other = (holder + 1) % 5;
        let minor = |n: usize| n == holder || n == other;
        group.connect(|a, b| minor(a) == minor(b));
        let paused = group.run_until(SECOND * 3, |group| !group.active().keys().any(|n| minor(*n)));
        assert!(paused.is_some(), "seed {seed}");
    }
}

#[test]
fn loss_does_not_end_activity() {
    let mut group = Simulation::new(5, 9);
    group.loss_permille = 30;
    group.run(SECOND * 20);
    let holder = group.holder();
    assert!(holder.is_some());
    group.run(SECOND * 200);
    assert_eq!(group.holder(), holder);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn crashes_losses_and_changing_links_never_make_two_sides_active(
        seed in any::<u64>(), plan in prop::collection::vec((0..8u8, any::<u64>(), 1..4_000u64), 1..30)
    ) {
        let mut group = Simulation::new(5, seed);
        group.loss_permille = 50;
        group.delay.1 = Duration::from_millis(900);
        for (what, bits, millis) in plan {
            let n = usize::try_from(bits % 5).unwrap();
            match what {
                0 => group.crash(n),
                1 => group.restart(n, true),
                2 => group.restart(n, false),
                3 => group.connect(|_, _| true),
                _ => group.connect(|a, b| bits >> (a * 5 + b) & 1 == 1),
            }
            // The simulation looks after every step.
            group.run(Duration::from_millis(millis));
        }
    }
}

fn active_group(nodes: usize, seed: u64) -> Simulation {
    let mut group = Simulation::new(nodes, seed);
    group.run_until(TAKEOVER_MAX * 2, |group| group.active().len() == nodes).unwrap();
    group
}
