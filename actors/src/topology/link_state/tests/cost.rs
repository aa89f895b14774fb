//! What it costs each node, against the number of nodes.

use std::time::Duration;

use bowline_messages::config::LinkStateConfig;
use bowline_messages::topology::LinkFacts;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::LinkState;
use super::world::{World, mesh};
use super::{machine, peer};

const S: Duration = Duration::from_secs(1);

/// Bytes a node and second: in the first minute, then quiet, then with a link that comes or goes somewhere each ten seconds and figures that change all
/// the time.
fn cost(nodes: usize, quiet: Duration, rounds: u32) -> [f64; 3] {
    let mut world: World<LinkState> = World::new(1);
    for number in 0..nodes {
        world.add(peer(number), machine(world.now, number, &LinkStateConfig::default()));
    }
    let edges = mesh(nodes, 4, 1);
    for (a, b) in &edges {
        world.link(peer(*a), peer(*b));
    }
    let per_second = |world: &mut World<LinkState>, time: Duration| {
        world.bytes = 0;
        world.run(time);
        world.bytes as f64 / nodes as f64 / time.as_secs_f64()
    };
    let first = per_second(&mut world, S * 60);
    assert!(world.agrees(), "{nodes}");
    // Until refreshes have found their pace.
    world.run(quiet / 3);
    let quiet = per_second(&mut world, quiet);
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    world.bytes = 0;
    let edges: Vec<_> = edges.into_iter().collect();
    for _ in 0..rounds {
        let (a, b) = edges[rng.random_range(0..edges.len())];
        if world.links.contains_key(&(peer(a).min(peer(b)), peer(a).max(peer(b)))) {
            world.unlink(peer(a), peer(b));
        } else {
            world.link(peer(a), peer(b));
        }
        for facts in world.links.values_mut() {
            let latency = Duration::from_millis(rng.random_range(5..100));
            *facts = LinkFacts { latency, cost: rng.random_range(5..100), ..*facts };
        }
        for number in 0..nodes {
            world.tell(peer(number));
        }
        world.run(S * 10);
    }
    [first, quiet, world.bytes as f64 / nodes as f64 / (10.0 * f64::from(rounds))]
}

#[test]
fn a_node_pays_no_more_in_a_large_network_than_configured() {
    let budget = LinkStateConfig::default().refresh_bytes_per_second as f64;
    for nodes in [3, 10, 40] {
        let [first, quiet, busy] = cost(nodes, S * 120, 4);
        println!("{nodes:4} nodes: first minute {first:6.0}, quiet {quiet:6.0}, busy {busy:6.0} B/s a node");
        assert!(quiet < budget * 1.5 && busy < budget * 5.0, "{nodes}: {quiet} {busy}");
    }
}

#[test]
#[ignore = "takes a minute; the figures in docs/topology.md; make test-long runs it"]
fn what_larger_networks_cost() {
    let budget = LinkStateConfig::default().refresh_bytes_per_second as f64;
    for nodes in [3, 10, 100, 500] {
        let [first, quiet, busy] = cost(nodes, S * 600, 20);
        println!("{nodes:4} nodes: first minute {first:6.0}, quiet {quiet:6.0}, busy {busy:6.0} B/s a node");
        assert!(quiet < budget * 1.5, "{nodes}: {quiet}");
    }
}
