//! News reach everybody, over lossy links, after splits, after restarts; what is over is forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_messages::config::LinkStateConfig;
use bowline_messages::topology::LinkFacts;

use super::super::{LinkState, Refusal};
use super::world::{World, mesh};
use super::{machine, peer};

const S: Duration = Duration::from_secs(1);

fn world(nodes: usize, edges: impl IntoIterator<Item = (usize, usize)>, seed: u64) -> World<LinkState> {
    let mut world = World::new(seed);
    for number in 0..nodes {
        world.add(peer(number), machine(world.now, number, &LinkStateConfig::default()));
    }
    for (a, b) in edges {
        world.link(peer(a), peer(b));
    }
    world
}

#[test]
fn everybody_learns_of_every_link() {
    for (nodes, degree) in [(2, 1), (3, 2), (10, 3), (100, 4)] {
        let mut world = world(nodes, mesh(nodes, degree, 1), 1);
        let took = world.until(S * 20, World::agrees);
        assert!(took.is_some(), "{nodes} nodes");
    }
}

#[test]
fn a_change_in_a_quiet_network_is_known_everywhere_within_a_second() {
    let mut world = world(50, mesh(50, 4, 2), 2);
    world.run(S * 60);
    assert!(world.agrees());
    world.link(peer(3), peer(31));
    assert!(world.until(S, World::agrees).is_some());
    world.run(S * 60);
    world.unlink(peer(3), peer(31));
    assert!(world.until(S, World::agrees).is_some());
    world.run(S * 60);
    world.kill(peer(7));
    assert!(world.until(S, World::agrees).is_some());
    let graph = world.nodes[&peer(0)].graph();
    assert!(graph.index(&peer(7)).is_none(), "nobody has a link to it");
}

#[test]
fn a_third_of_all_datagrams_may_get_lost() {
    let mut world = world(40, mesh(40, 3, 3), 3);
    world.loss = 0.33;
    assert!(world.until(S * 60, World::agrees).is_some());
}

#[test]
fn halves_that_meet_again_catch_up() {
    let halves = mesh(20, 4, 4).into_iter().chain(mesh(20, 4, 5).into_iter().map(|(a, b)| (a + 20, b + 20)));
    let mut world = world(40, halves, 4);
    world.run(S * 30);
    world.link(peer(0), peer(20));
    world.run(S * 30);
    assert!(world.agrees());
    world.unlink(peer(0), peer(20));
    world.run(S * 20);
    // Both halves change while they are apart.
    world.unlink(peer(1), peer(2));
    world.link(peer(21), peer(38));
    world.run(S * 20);
    assert!(world.agrees());
    world.link(peer(5), peer(33));
    assert!(world.until(S * 10, World::agrees).is_some());
    assert_eq!(world.nodes[&peer(9)].graph().nodes().count(), 40);
}

#[test]
fn a_node_that_forgot_everything_goes_on_from_its_former_number() {
    let mut world = world(6, (0..6).map(|number| (number, (number + 1) % 6)), 5);
    world.run(S * 300);
    let again = machine(world.now, 2, &LinkStateConfig::default());
    world.nodes.insert(peer(2), again);
    world.tell(peer(2));
    // Nobody believes in this link before node 2 announces it with a number that is new to them.
    world.link(peer(2), peer(5));
    assert!(world.until(S * 20, World::agrees).is_some());
    let found = world.nodes.values().map(|node| node.database.get(&peer(2)).unwrap().stamp).min().unwrap();
    assert!(found.sequence > 5, "{found:?}");
}

#[test]
fn a_link_counts_when_both_ends_announce_it() {
    let mut world = world(3, [(0, 1), (1, 2)], 6);
    world.run(S * 5);
    // Node 2 tells of a link to node 0 that node 0 knows nothing of.
    let mut claimed: BTreeMap<_, _> = BTreeMap::from([(peer(1), LinkFacts::default())]);
    claimed.insert(peer(0), LinkFacts::default());
    let now = world.now;
    world.nodes.get_mut(&peer(2)).unwrap().on_neighbours(now, &claimed);
    world.after(peer(2));
    world.run(S * 10);
    for number in 0..3 {
        let graph = world.nodes[&peer(number)].graph();
        assert!(graph.link(&peer(0), &peer(2)).is_none());
        assert_eq!(graph.graph().edge_count(), 2);
    }
    let stamp = world.nodes[&peer(0)].database.get(&peer(2)).unwrap().stamp;
    assert!(stamp.sequence > 1, "the claim was heard");
}

#[test]
fn a_link_is_as_bad_as_the_worse_end_says() {
    let mut world = world(2, [(0, 1)], 7);
    world.run(S * 5);
    let tell = |world: &mut World<LinkState>, number: usize, other: usize, cost, loss_ppm| {
        let facts = LinkFacts { cost, loss_ppm, bandwidth: 1000 / u64::from(cost), ..LinkFacts::default() };
        let now = world.now;
        world.nodes.get_mut(&peer(number)).unwrap().on_neighbours(now, &BTreeMap::from([(peer(other), facts)]));
        world.after(peer(number));
    };
    tell(&mut world, 0, 1, 5, 30_000);
    tell(&mut world, 1, 0, 9, 10_000);
    world.run(S * 40);
    for number in 0..2 {
        let graph = world.nodes[&peer(number)].graph();
        let link = graph.link(&peer(0), &peer(1)).unwrap();
        assert_eq!((link.cost, link.loss_ppm, link.bandwidth), (9, 30_000, 111));
        assert_eq!(graph.neighbours(&peer(number)), [(peer(1 - number), 9)]);
    }
}

#[test]
fn what_nobody_refreshes_is_forgotten_and_stays_so() {
    let mut world = world(12, mesh(12, 3, 8), 8);
    world.run(S * 60);
    let gone: Vec<_> = world.nodes.keys().skip(1).copied().collect();
    let kept = *world.nodes.keys().next().unwrap();
    for peer in gone {
        world.kill(peer);
    }
    world.run(S * 10);
    let node = &world.nodes[&kept];
    assert!(node.known().0 > 1);
    world.run(S * 200);
    let node = &world.nodes[&kept];
    assert_eq!(node.known().0, 1);
    assert_eq!(node.graph().nodes().count(), 1);
    assert_eq!(node.graph().graph().edge_count(), 0);
}

#[test]
fn versions_tell_readers_when_to_look() {
    let mut world = world(8, mesh(8, 3, 9), 9);
    world.run(S * 30);
    let look = |world: &World<LinkState>| {
        let graph = world.nodes[&peer(0)].graph();
        (graph.version(), graph.structure())
    };
    let before = look(&world);
    world.run(S * 120);
    assert_eq!(look(&world), before, "refreshes are no news");
    world.unlink(peer(4), peer(5));
    world.run(S * 5);
    assert!(look(&world).1 > before.1);
}

#[test]
fn refusals_do_not_happen_among_the_honest() {
    let mut world = world(30, mesh(30, 4, 10), 10);
    world.run(S * 400);
    for node in world.nodes.values() {
        let late = node.refusals().of(Refusal::Old);
        assert_eq!(node.refusals().all(), late, "{:?}", node.refusals());
    }
}
