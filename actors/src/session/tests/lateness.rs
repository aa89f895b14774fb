//! Acknowledgements that come late.

use super::*;

fn rate(world: &World, link: LinkId) -> f64 {
    world.ends[0].session.paths[&link].window.rate().unwrap_or(0.0)
}

/// A link that was kept busy for a while, beside a spare.
fn measured() -> (World, LinkId) {
    let mut config = SessionConfig::default();
    // What is measured is the link in use, and nothing else is to be preferred.
    config.gradual.preferences = false;
    let mut world = World::with_config(config);
    let used = world.link(1, "tcp", 10 * MS, 1_000_000);
    world.link(2, "ws", 60 * MS, 1_000_000);
    world.run(Duration::from_secs(1));
    for _ in 0..100 {
        bulk(&mut world, 20);
        world.run(20 * MS);
    }
    world.run(500 * MS);
    assert!(rate(&world, used) > 700_000.0, "{}", rate(&world, used));
    (world, used)
}

fn bulk(world: &mut World, count: usize) {
    let now = world.now;
    for _ in 0..count {
        world.ends[0].send(Outgoing::new(MessageClass::Realtime, vec![7; 1_000]), now);
    }
    world.pump();
}

#[test]
fn a_link_that_has_become_slow_has_its_window_lowered() {
    let (mut world, used) = measured();
    let before = rate(&world, used);
    world.line(used).rate = 10_000;
    bulk(&mut world, 20);
    world.run(Duration::from_secs(5));
    let after = rate(&world, used);
    assert!(after < before / 10.0 && after > 5_000.0, "{before} {after}");
}
