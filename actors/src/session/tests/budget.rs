//! Idle probing keeps within what a medium may spend on it.

use bowline_messages::link::Medium;

use super::*;
use crate::health::probing::{ProbeBudget, budget_bytes};

/// Bytes a second that two idle sides write on a link over a medium, when they are told to probe it ten times a second.
fn idle_rate(medium: Medium) -> f64 {
    let config = SessionConfig { heartbeat: 100 * MS, ..SessionConfig::default() };
    let mut world = World::with_config(config);
    let id = world.link(1, "tcp", 5 * MS, 0);
    let now = world.now;
    for end in &mut world.ends {
        end.session.paths.get_mut(&id).unwrap().budget = ProbeBudget::new(now, medium);
    }
    // What was saved up is spent first.
    world.run(Duration::from_secs(60));
    let written = |world: &World| -> u64 { world.ends.iter().map(|end| end.session.paths[&id].stats.bytes_sent).sum() };
    let before = written(&world);
    world.run(Duration::from_secs(600));
    (written(&world) - before) as f64 / 600.0
}

#[test]
fn an_idle_link_is_probed_no_more_than_its_medium_may_spend() {
    // Both sides probe: twice the budget of one.
    let rates = [Medium::Bluetooth, Medium::Cellular, Medium::Wifi, Medium::Ethernet].map(|medium| {
        let rate = idle_rate(medium);
        assert!(rate <= 2.0 * budget_bytes(medium), "{medium:?}: {rate}");
        rate
    });
    assert!(rates[0] > 50.0 && rates[0] < rates[1], "{rates:?}");
    assert!(rates[1] < rates[2] * 0.9, "{rates:?}");
    assert!((rates[2] - rates[3]).abs() < rates[3] * 0.5, "ten probes a second are within what these may: {rates:?}");
}
