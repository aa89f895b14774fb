//! The membership as a whole: groups that form, lose members and get them back; and what others can do to them.
#![allow(clippy::unwrap_used)]

mod behaviour;
mod burden;
mod hostile;

use std::time::{Duration, Instant};

use bowline_messages::config::MembershipConfig;
use bowline_messages::membership::MembershipEvent;

use super::simulation::{Network, Simulation};

const SECOND: Duration = Duration::from_secs(1);

/// A complete group of so many.
fn group(count: usize, seed: u64) -> Simulation {
    let mut simulation = Simulation::new(Instant::now(), MembershipConfig::default(), Network::default(), seed);
    simulation.add_group(count, SECOND * 2);
    assert!(simulation.run_until(60 * SECOND, Simulation::is_complete), "the group is not complete");
    simulation.noted.clear();
    simulation
}

/// What the others noted about a node.
fn about(simulation: &Simulation, node: usize) -> Vec<MembershipEvent> {
    let peer = Simulation::peer(node);
    let subject = |event: &MembershipEvent| match event {
        MembershipEvent::Joined { peer, .. }
        | MembershipEvent::Suspected { peer, .. }
        | MembershipEvent::Cleared { peer, .. }
        | MembershipEvent::Down { peer, .. }
        | MembershipEvent::Left { peer, .. }
        | MembershipEvent::Returned { peer, .. }
        | MembershipEvent::ShutOut { peer }
        | MembershipEvent::Evicted { peer }
        | MembershipEvent::Offended { peer, .. } => Some(*peer),
        MembershipEvent::Excluded { .. } | MembershipEvent::Superseded { .. } => None,
        #[allow(clippy::wildcard_enum_match_arm, reason = "events that come later are about nobody here")]
        _ => None,
    };
    let noted = simulation.noted.iter().filter(|noted| noted.by != node);
    noted.filter(|noted| subject(&noted.event) == Some(peer)).map(|noted| noted.event.clone()).collect()
}

/// How many of what was noted about a node is of a kind.
fn count(simulation: &Simulation, node: usize, kind: impl Fn(&MembershipEvent) -> bool) -> usize {
    about(simulation, node).iter().filter(|event| kind(event)).count()
}
