//! What is explored: the rows of the table in docs/partitions.md, and ways to break the lease that have to be found.

use super::super::Pacing;
use super::super::simulation::Simulation;
use super::*;

/// So many as when they were counted for docs/partitions.md: none is left out unnoticed.
#[track_caller]
fn explores(bounds: Bounds, states: usize, steps: u64) {
    let explored = bounds.explore().unwrap();
    println!("{bounds:?}: {explored:?}");
    assert_eq!((explored.states, explored.steps), (states, steps));
    assert!(explored.active > 0, "nobody was ever active: nothing was tested");
}

/// Grantors have fast clocks.
const fn fast_grantors(bounds: Bounds) -> Bounds {
    Bounds { free_clocks: bounds.candidates, ..bounds }
}

#[test]
fn three_nodes_never_have_two_active_sides() {
    explores(Bounds::small(), 6_084, 47_533);
}

#[test]
#[ignore = "a row of docs/partitions.md, which takes minutes; make test-long runs it"]
fn row_three_candidates_that_act() {
    explores(Bounds { acts: true, ..Bounds::three() }, 129_280, 1_865_980);
}

#[test]
#[ignore = "a row of docs/partitions.md, which takes minutes; make test-long runs it"]
fn row_three_terms() {
    explores(Bounds { candidates: 2, terms: 3, ..Bounds::three() }, 186_996, 2_523_691);
}

#[test]
#[ignore = "a row of docs/partitions.md, which takes minutes; make test-long runs it"]
fn row_two_renewals() {
    explores(fast_grantors(Bounds { candidates: 2, rounds: 2, ..Bounds::three() }), 395_613, 3_910_861);
}

#[test]
#[ignore = "a row of docs/partitions.md, which takes a minute; make test-long runs it"]
fn row_members() {
    explores(fast_grantors(Bounds { candidates: 2, members: true, ..Bounds::three() }), 28_487, 242_210);
}

#[test]
#[ignore = "a row of docs/partitions.md, which takes minutes; make test-long runs it"]
fn row_four_nodes() {
    explores(fast_grantors(Bounds { nodes: 4, candidates: 2, ..Bounds::three() }), 71_341, 688_766);
}

#[test]
#[ignore = "a row of docs/partitions.md, which takes minutes; make test-long runs it"]
fn row_five_nodes() {
    explores(Bounds { nodes: 5, ..Bounds::small() }, 169_364, 1_907_628);
}

/// Larger groups with as little as can lead to two holders: two candidates, one term, and all clocks equally fast.
const fn reduced(nodes: usize) -> Bounds {
    Bounds { nodes, candidates: 2, terms: 1, prompt_answers: true, free_clocks: 0, ..Bounds::three() }
}

#[test]
fn row_six_nodes_reduced() {
    explores(reduced(6), 2_017, 13_744);
}

#[test]
#[ignore = "a row of docs/partitions.md, which takes a minute; make test-long runs it"]
fn row_seven_nodes_reduced() {
    explores(reduced(7), 4_293, 34_803);
}

/// Three nodes that crash, with clocks that all go equally fast.
fn crashing() -> Bounds {
    Bounds { crashes: 1, free_clocks: 0, ..Bounds::small() }
}

#[test]
fn row_one_crash() {
    explores(Bounds { terms: 1, ..crashing() }, 4_703, 22_719);
}

#[test]
#[ignore = "a row of docs/partitions.md, which takes minutes; make test-long runs it"]
fn row_one_crash_late_answers() {
    explores(Bounds { terms: 1, members: true, prompt_answers: false, ..crashing() }, 66_724, 578_193);
}

#[test]
#[ignore = "a row of docs/partitions.md, which takes minutes; make test-long runs it"]
fn row_one_crash_two_terms() {
    explores(Bounds { members: true, ..crashing() }, 318_139, 2_659_982);
}

#[test]
#[ignore = "a row of docs/partitions.md, which takes minutes; make test-long runs it"]
fn row_two_crashes() {
    explores(Bounds { terms: 1, crashes: 2, ..crashing() }, 68_735, 426_577);
}

#[test]
#[ignore = "a row of docs/partitions.md, which takes minutes; make test-long runs it"]
fn row_five_nodes_one_crash() {
    explores(Bounds { nodes: 5, terms: 1, ..crashing() }, 110_664, 987_193);
}

/// Takes every so many of the states that can be reached, heals all links, delivers what was on its way, and waits for all to be active.
fn heals_from_every(nth: usize, bounds: Bounds) {
    let pacing = Pacing { renew: UNIT / 4, answer: UNIT, spread: UNIT };
    let mut longest = Duration::ZERO;
    bounds
        .explore_with(|number, world, base| {
            if !number.is_multiple_of(nth) {
                return;
            }
            // As in the model: those that are known to be exact are.
            let rate = |n: usize| if bounds.free_clocks == 0 || (number >> n) & 1 == 1 { 1.0 } else { 2.0 };
            let leases = world.nodes.iter().enumerate().map(|(n, node)| (node.lease.clone(), node.now(base), rate(n)));
            let mut group = Simulation::around(leases.collect(), pacing, number as u64);
            for envelope in &world.sent {
                if let Envelope::Lease { from, to, packet } = *envelope {
                    group.deliver(from, to, packet);
                }
            }
            let took = group.run_until(UNIT * 30, |group| group.active().len() == bounds.nodes);
            longest = longest.max(took.unwrap_or_else(|| panic!("stuck: state {number}: {}", group.show())));
        })
        .unwrap();
    println!("longest: {longest:?}");
}

#[test]
fn no_state_is_a_dead_end() {
    heals_from_every(50, Bounds::small());
}

#[test]
#[ignore = "takes minutes; make test-long runs it"]
fn no_state_at_all_is_a_dead_end() {
    heals_from_every(1, Bounds { candidates: 2, ..Bounds::three() });
    heals_from_every(20, Bounds { terms: 1, crashes: 1, free_clocks: 0, ..Bounds::small() });
}

/// Explores what the environment variable says, or else runs with members and fast grantors: `nodes,candidates,terms,rounds,crashes` and any of the words `members acts prompt fast even`.
#[test]
#[ignore = "takes as long as what is asked for is large; make test-long runs it"]
fn as_asked() {
    let asked = std::env::var("BOWLINE_LEASE_MODEL").unwrap_or_else(|_| "3,2,2,1,0,members,fast".to_owned());
    let (numbers, words): (Vec<&str>, Vec<&str>) = asked.split(',').partition(|word| word.parse::<u64>().is_ok());
    let numbers: Vec<u64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
    let small = |at: usize| usize::try_from(numbers[at]).unwrap();
    let bounds = Bounds {
        nodes: small(0),
        candidates: small(1),
        terms: numbers[2],
        rounds: numbers[3],
        crashes: numbers[4],
        members: words.contains(&"members"),
        acts: words.contains(&"acts"),
        prompt_answers: words.contains(&"prompt"),
        free_clocks: match () {
            () if words.contains(&"even") => 0,
            () if words.contains(&"fast") => small(1),
            () => small(0),
        },
        broken: None,
    };
    println!("{bounds:?}: {:?}", bounds.explore().unwrap());
}

#[track_caller]
fn finds(bounds: Bounds, broken: Broken, found: &str) {
    let outcome = Bounds { broken: Some(broken), ..bounds }.explore();
    println!("{broken:?}: {outcome:?}");
    assert!(outcome.is_err_and(|why| why.contains(found)), "{broken:?}");
}

#[test]
fn what_is_broken_is_found() {
    let three = Bounds::small();
    let acts = Bounds { acts: true, ..three };
    let crash = Bounds { crashes: 1, ..three };
    for (bounds, broken, found) in [
        (three, Broken::NoDrift, "two sides are active"),
        (three, Broken::GrantsTwo, "two sides are active"),
        (acts, Broken::NoFence, "something of a higher term"),
        (crash, Broken::NoHoldOff, "two sides are active"),
        (crash, Broken::NoLearning, "was held by two"),
        (crash, Broken::ForgetsTerms, "was held by two"),
    ] {
        finds(bounds, broken, found);
    }
}

#[test]
#[ignore = "takes minutes; make test-long runs it"]
fn what_is_broken_where_disks_are_lost_is_found() {
    finds(crashing(), Broken::OneLife, "two sides are active");
    finds(Bounds { nodes: 5, terms: 1, ..crashing() }, Broken::LearnsEarly, "was held by two");
}
