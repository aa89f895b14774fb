//! Links that are silent, and when new ones are worth a try beside them.

use super::*;

fn silence(world: &mut World, link: LinkId) {
    world.line(link).hole = [true; 2];
    world.roll(99);
    world.pump();
}

/// Runs until all that counts is silent for long enough; gives when that is so.
fn until_stuck(world: &mut World) -> Instant {
    let begun = world.now;
    while !world.ends[0].session.is_stuck(world.now) {
        world.run(MS);
        assert!(world.now < begun + Duration::from_secs(4), "{:?}", world.ends[0].session.stuck_at());
    }
    world.now
}

fn ids(world: &World) -> Vec<LinkId> {
    world.ends[0].session.standing_links(world.now).map(|link| link.id).collect()
}

#[test]
fn the_moment_from_which_new_links_are_worth_a_try_is_named_beforehand() {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.run(Duration::from_secs(1));
    assert_eq!((world.ends[0].session.stuck_at(), ids(&world)), (None, vec![one]));
    silence(&mut world, one);
    let begun = world.now;
    while world.ends[0].session.stuck_at().is_none() {
        world.run(MS);
    }
    let at = world.ends[0].session.stuck_at().unwrap();
    assert!(world.now < begun + 200 * MS && at > world.now, "it is known long before");
    assert_eq!(at, begun + world.config.spare_patience);
    assert!(!world.ends[0].session.is_stuck(at - MS) && world.ends[0].session.is_stuck(at));
    assert_eq!((until_stuck(&mut world), ids(&world)), (at, Vec::new()));
    world.line(one).hole = [false; 2];
    world.run(Duration::from_secs(4));
    assert_eq!((world.ends[0].session.stuck_at(), ids(&world)), (None, vec![one]));
}

#[test]
fn a_link_through_others_that_works_does_not_hide_that_every_direct_one_is_silent() {
    let mut world = World::new();
    let direct = world.link(1, "tcp", 5 * MS, 0);
    let others = world.link(2, "mesh", 30 * MS, 0);
    world.run(Duration::from_secs(1));
    silence(&mut world, direct);
    until_stuck(&mut world);
    assert_eq!(ids(&world), [others], "the one that works is not made a second time");
    // Another direct link that works is a different matter.
    let again = world.link(3, "ws", 5 * MS, 0);
    world.run(100 * MS);
    assert_eq!((world.ends[0].session.stuck_at(), ids(&world)), (None, vec![direct, others, again]));
}

#[test]
fn where_there_are_only_links_through_others_they_count() {
    let mut world = World::new();
    let others = world.link(1, "mesh", 30 * MS, 0);
    world.run(Duration::from_secs(1));
    silence(&mut world, others);
    until_stuck(&mut world);
    assert!(ids(&world).is_empty());
}
