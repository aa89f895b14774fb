//! Groups that form, lose members and get them back.

use std::collections::BTreeSet;

use bowline_messages::membership::{FailureKind, MemberState, MembershipEvent};

use super::super::simulation::{Network, Noted, Simulation, Starvation};
use super::super::wire::{Node, PARTS};
use super::*;

const MS: Duration = Duration::from_millis(1);

fn is_down(event: &MembershipEvent) -> bool {
    matches!(event, MembershipEvent::Down { .. })
}

#[test]
fn everybody_learns_of_everybody_by_joining_one() {
    for (count, seed) in [(2, 1), (3, 2), (10, 3), (40, 4)] {
        let simulation = group(count, seed);
        assert!(simulation.is_complete());
    }
}

#[test]
fn names_fall_into_all_parts_that_lists_are_compared_in() {
    let part = |node| Node { peer: Simulation::peer(node), life: 1, renewal: 0 }.digest().0;
    assert_eq!((0..4 * PARTS).map(part).collect::<BTreeSet<_>>().len(), PARTS);
}

#[test]
fn a_list_of_many_pages_is_compared_to_its_end_though_more_come_and_pages_are_lost() {
    // Hardly any news is passed on: who is not met by chance is found by comparison.
    let config = MembershipConfig { news_max: 8, gossip_times: 1, ..MembershipConfig::default() };
    let network = Network { loss_permille: 50, ..Network::default() };
    let mut simulation = Simulation::new(Instant::now(), config, network, 18);
    simulation.add_group(120, SECOND * 2);
    assert!(simulation.run_until(30 * SECOND, Simulation::is_complete), "a page that is lost takes no 15 s");
}

#[test]
fn a_crash_is_noticed_by_everybody_and_takes_nobody_else_along() {
    let mut simulation = group(10, 5);
    simulation.run(20 * SECOND);
    simulation.noted.clear();
    simulation.crash(4);
    assert!(simulation.run_until(30 * SECOND, Simulation::is_complete));
    assert_eq!(count(&simulation, 4, is_down), 9);
    assert_eq!(simulation.noted.iter().filter(|noted| is_down(&noted.event)).count(), 9);
    for event in about(&simulation, 4) {
        if let MembershipEvent::Down { failure, accusers, .. } = event {
            assert_eq!(failure.kind, FailureKind::CrashFailure);
            assert!(accusers > 1, "{accusers}");
        }
    }
}

#[test]
fn a_good_bye_is_no_failure() {
    let mut simulation = group(10, 6);
    simulation.leave(7);
    assert!(simulation.run_until(5 * SECOND, Simulation::is_complete), "good-byes are quick");
    simulation.run(60 * SECOND);
    assert_eq!(count(&simulation, 7, |event| matches!(event, MembershipEvent::Left { .. })), 9);
    assert_eq!(count(&simulation, 7, is_down), 0);
    assert_eq!(count(&simulation, 7, |event| matches!(event, MembershipEvent::Joined { .. })), 0, "it stays away");
}

#[test]
fn one_that_crashed_returns_as_a_new_life() {
    let mut simulation = group(6, 7);
    simulation.crash(2);
    assert!(simulation.run_until(30 * SECOND, Simulation::is_complete));
    simulation.restart(2);
    simulation.join(2, 0);
    assert!(simulation.run_until(20 * SECOND, Simulation::is_complete));
    let returns: Vec<_> = about(&simulation, 2)
        .into_iter()
        .filter_map(|event| {
            let MembershipEvent::Returned { restarted, failure, .. } = event else { return None };
            Some((restarted, failure.unwrap().kind))
        })
        .collect();
    assert_eq!(returns, [(true, FailureKind::CrashFailure); 5]);
}

#[test]
fn a_restart_that_nobody_noticed_is_told() {
    let mut simulation = group(5, 8);
    simulation.restart(3);
    simulation.join(3, 0);
    assert!(simulation.run_until(20 * SECOND, Simulation::is_complete));
    simulation.run(10 * SECOND);
    let unnoticed = |event: &MembershipEvent| {
        matches!(event, MembershipEvent::Returned { restarted: true, away: Duration::ZERO, .. })
    };
    assert_eq!(count(&simulation, 3, unnoticed), 4);
    assert_eq!(count(&simulation, 3, is_down), 0);
}

#[test]
fn both_sides_of_a_split_find_each_other_again() {
    let mut simulation = group(10, 9);
    simulation.split(4);
    simulation.run(60 * SECOND);
    for node in 0..10 {
        let others = if node < 4 { 3 } else { 5 };
        assert_eq!(simulation.machine(node).unwrap().active(), others, "node {node}");
    }
    let cuts = simulation.noted.iter().filter_map(|noted| {
        let MembershipEvent::Down { failure, .. } = &noted.event else { return None };
        Some(failure.kind)
    });
    let kinds: Vec<_> = cuts.collect();
    assert!(
        kinds.iter().filter(|kind| **kind == FailureKind::NetworkPartition).count() * 10 > kinds.len() * 8,
        "{kinds:?}"
    );
    simulation.noted.clear();
    simulation.heal();
    assert!(simulation.run_until(30 * SECOND, Simulation::is_complete), "not together again");
    simulation.run(30 * SECOND);
    assert!(simulation.is_complete());
    for Noted { event, .. } in &simulation.noted {
        if let MembershipEvent::Returned { restarted, failure, .. } = event {
            assert!(!restarted);
            assert_eq!(failure.unwrap().kind, FailureKind::NetworkPartition);
        }
        assert!(!is_down(event), "{event:?}");
    }
}

#[test]
fn one_way_loss_between_two_excludes_nobody() {
    let mut simulation = group(6, 10);
    simulation.cut_one_way(1, 2);
    simulation.cut_one_way(3, 2);
    simulation.run(600 * SECOND);
    assert_eq!(simulation.noted.iter().filter(|noted| is_down(&noted.event)).count(), 0);
}

#[test]
fn a_node_that_is_stopped_accuses_nobody_when_it_goes_on() {
    let mut simulation = group(8, 11);
    for node in [1, 5] {
        simulation.starve(node, Starvation { runs: 2000 * MS..6000 * MS, stopped: 100 * MS..5000 * MS });
    }
    simulation.run(600 * SECOND);
    let wrongly = simulation.noted.iter().filter(|noted| is_down(&noted.event)).count();
    assert_eq!(wrongly, 0);
    let starved = [Simulation::peer(1), Simulation::peer(5)];
    let by_them = |noted: &&Noted| {
        let MembershipEvent::Suspected { peer, by } = noted.event else { return false };
        starved.contains(&by) && !starved.contains(&peer)
    };
    assert_eq!(simulation.noted.iter().filter(by_them).count(), 0);
}

#[test]
fn sessions_that_end_tell_at_once() {
    let mut simulation = group(5, 12);
    simulation.run(20 * SECOND);
    let now = simulation.now();
    simulation.crash(4);
    simulation.run(1100 * MS);
    simulation.noted.clear();
    for node in 0..4 {
        let now = simulation.now();
        simulation.with(node, |machine| machine.on_unreachable(now, Simulation::peer(4)));
    }
    simulation.run(500 * MS);
    assert_eq!(
        simulation
            .machine(0)
            .unwrap()
            .members(simulation.now())
            .filter(|member| member.state == MemberState::Suspect)
            .count(),
        1
    );
    assert!(simulation.run_until(6 * SECOND, Simulation::is_complete));
    assert!(simulation.now() - now < 8 * SECOND);
}

#[test]
fn honest_members_commit_no_offence_however_much_is_lost_and_late() {
    for (seed, loss_permille) in [(40, 50), (41, 200), (42, 350)] {
        let network = Network { delay: 5 * MS..700 * MS, loss_permille };
        let mut simulation = Simulation::new(Instant::now(), MembershipConfig::default(), network, seed);
        // So few that each asks the same one every other second: what they accuse each other of comes to the third one all at once.
        simulation.add_group(3, SECOND);
        simulation.starve(0, Starvation { runs: 100 * MS..1000 * MS, stopped: 2000 * MS..5000 * MS });
        simulation.run(900 * SECOND);
        let count = |kind: &dyn Fn(&MembershipEvent) -> bool| {
            simulation.noted.iter().filter(|noted| kind(&noted.event)).count()
        };
        let accused = count(&|event| matches!(event, MembershipEvent::Suspected { .. }));
        assert!(accused > 100, "{accused} accusations are no trial");
        assert_eq!(count(&|event| matches!(event, MembershipEvent::Offended { .. })), 0, "of {accused} accusations");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut simulation = group(12, 13);
        simulation.crash(3);
        simulation.run(40 * SECOND);
        (simulation.noted, simulation.bytes, simulation.packets)
    };
    assert_eq!(run(), run());
}

#[test]
fn what_the_protocol_knows_is_what_the_roster_says() {
    let mut simulation = group(10, 14);
    simulation.crash(1);
    simulation.split(5);
    simulation.run(15 * SECOND);
    simulation.heal();
    simulation.run(25 * SECOND);
    simulation.leave(2);
    for _ in 0..40 {
        simulation.run(SECOND);
        for node in 3..10 {
            let machine = simulation.machine(node).unwrap();
            for member in machine.swim.members() {
                let record = machine.roster.get(&member.id().peer).unwrap();
                let state = match member.state() {
                    foca::State::Alive => record.state() == MemberState::Alive,
                    foca::State::Suspect => record.state() == MemberState::Suspect,
                    foca::State::Down => !record.state().is_active(),
                };
                assert!(state, "{member:?} {record:?}");
                assert_eq!(member.id(), &record.node);
            }
            assert_eq!(machine.swim.members().count(), machine.roster.records().len());
        }
    }
}

#[test]
fn nobody_answers_for_a_group_that_is_lost_in_noise() {
    let network = Network { loss_permille: 200, ..Network::default() };
    let mut simulation = Simulation::new(Instant::now(), MembershipConfig::default(), network, 15);
    simulation.add_group(8, SECOND);
    assert!(simulation.run_until(60 * SECOND, Simulation::is_complete));
    simulation.noted.clear();
    simulation.run(600 * SECOND);
    assert_eq!(simulation.noted.iter().filter(|noted| is_down(&noted.event)).count(), 0);
}

#[test]
fn a_larger_group_costs_each_node_no_more() {
    let cost = |count: usize| {
        let mut simulation = group(count, 17);
        simulation.run(40 * SECOND);
        let before: u64 = simulation.bytes.iter().sum();
        simulation.run(60 * SECOND);
        (simulation.bytes.iter().sum::<u64>() - before) / (60 * count as u64)
    };
    let (small, large) = (cost(8), cost(64));
    assert!(small < 500 && large < small + small / 5, "{small} and {large} bytes a second");
}
