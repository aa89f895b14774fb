//! Link-state routes against what a slow and simple search finds.

use super::*;
use crate::routing::{OwnLinks, Route, Routes};

/// Every route without a circle.
fn every_route(links: &Links, nodes: usize, from: usize, to: usize) -> Vec<(u64, Vec<usize>)> {
    fn walk(
        links: &Links,
        nodes: usize,
        to: usize,
        path: &mut Vec<usize>,
        cost: u64,
        all: &mut Vec<(u64, Vec<usize>)>,
    ) {
        let at = path[path.len() - 1];
        if at == to {
            all.push((cost, path[1..].to_vec()));
            return;
        }
        for next in (0..nodes).filter(|next| !path.contains(next)).collect::<Vec<_>>() {
            if let Some(weight) = links.get(&(at.min(next), at.max(next))) {
                path.push(next);
                walk(links, nodes, to, path, cost + u64::from(*weight), all);
                path.pop();
            }
        }
    }
    let mut all = Vec::new();
    walk(links, nodes, to, &mut vec![from], 0, &mut all);
    all.sort();
    all
}

fn share_a_relay(a: &[usize], b: &[usize]) -> bool {
    let relays = |route: &[usize]| route[..route.len() - 1].iter().copied().collect::<BTreeSet<_>>();
    a == b || !relays(a).is_disjoint(&relays(b))
}

/// The least sum of so many routes that share no relay.
fn cheapest_set(all: &[(u64, Vec<usize>)], chosen: &mut Vec<Vec<usize>>, left: usize, from: usize) -> Option<u64> {
    if left == 0 {
        return Some(0);
    }
    let mut best = None;
    for (at, (cost, route)) in all.iter().enumerate().skip(from) {
        if chosen.iter().any(|other| share_a_relay(other, route)) {
            continue;
        }
        chosen.push(route.clone());
        if let Some(rest) = cheapest_set(all, chosen, left - 1, at + 1) {
            best = Some(best.map_or(cost + rest, |best: u64| best.min(cost + rest)));
        }
        chosen.pop();
    }
    best
}

fn numbers(route: &Route) -> Vec<usize> {
    route.hops.iter().map(|hop| usize::from(hop.as_bytes()[31])).collect()
}

fn all_routes(picture: &Picture, hops: usize, most: usize, to: usize) -> Vec<Route> {
    let own = picture.own(0);
    let mut routes = Routes::new(peer(0), hops, most, 10);
    routes.all(OwnLinks { costs: &own, epoch: 1 }, picture, &peer(to)).to_vec()
}

proptest! {
    #[test]
    fn the_best_route_costs_the_least_and_keeps_the_hop_limit((nodes, links) in network(7), hops in 1..7usize) {
        let picture = Picture::of(1, &links);
        let own = picture.own(0);
        let mut routes = Routes::new(peer(0), hops, 3, 10);
        for to in 1..nodes {
            let all = every_route(&links, nodes, 0, to);
            let best = routes.best(OwnLinks { costs: &own, epoch: 1 }, &picture, &peer(to));
            let fits = all.iter().any(|(_, route)| route.len() <= hops);
            prop_assert_eq!(best.is_some(), fits, "{:?}", all);
            let Some(best) = best else { continue };
            prop_assert!(best.hops.len() <= hops);
            prop_assert!(all.contains(&(best.cost, numbers(&best))), "{:?} is no route", best);
            if all[0].1.len() <= hops && all.iter().filter(|(cost, _)| *cost == all[0].0).all(|(_, route)| route.len() <= hops) {
                prop_assert_eq!(best.cost, all[0].0);
            }
        }
    }

    #[test]
    fn the_further_routes_are_as_many_as_there_are_and_the_cheapest_such_set((nodes, links) in network(6), most in 1..4usize) {
        let picture = Picture::of(1, &links);
        for to in 1..nodes {
            let all = every_route(&links, nodes, 0, to);
            let found = all_routes(&picture, 32, most, to);
            let count = (0..=most).rev().find(|count| cheapest_set(&all, &mut Vec::new(), *count, 0).is_some()).unwrap();
            if count == 0 {
                prop_assert!(found.is_empty());
                continue;
            }
            let set: Vec<Vec<usize>> = found.iter().map(numbers).collect();
            for route in &found {
                prop_assert!(all.contains(&(route.cost, numbers(route))));
            }
            // The best one stands in front, whether it is one of the set or not.
            let with_best = if set.len() > count { &set[1..] } else { &set[..] };
            prop_assert_eq!(with_best.len(), count, "{:?}", found);
            for (at, route) in with_best.iter().enumerate() {
                prop_assert!(with_best[at + 1..].iter().all(|other| !share_a_relay(route, other)), "{:?}", found);
            }
            let cost: u64 = found[found.len() - count..].iter().map(|route| route.cost).sum();
            prop_assert_eq!(Some(cost), cheapest_set(&all, &mut Vec::new(), count, 0));
        }
    }
}

#[test]
fn a_second_route_is_found_where_the_shortest_stands_in_its_way() {
    // The shortest route 0-1-2-5 uses a relay of each of the two others.
    let links =
        Links::from([((0, 1), 1), ((1, 2), 1), ((2, 5), 1), ((0, 3), 3), ((2, 3), 3), ((1, 4), 3), ((4, 5), 3)]);
    let routes: Vec<Vec<usize>> = all_routes(&Picture::of(1, &links), 10, 2, 5).iter().map(numbers).collect();
    assert_eq!(routes, [vec![1, 2, 5], vec![1, 4, 5], vec![3, 2, 5]]);
}

#[test]
fn a_link_that_one_end_does_not_name_is_not_used() {
    let mut picture = Picture::of(1, &Links::from([((0, 1), 1), ((0, 2), 1), ((2, 3), 10)]));
    picture.links.entry(peer(1)).or_default().insert(peer(3), 1);
    let routes = all_routes(&picture, 10, 3, 3);
    assert_eq!(routes.iter().map(numbers).collect::<Vec<_>>(), [vec![2, 3]], "1 claims a link to 3");
}

#[test]
fn routes_are_made_anew_when_the_view_or_the_own_links_change() {
    let mut routes = Routes::new(peer(0), 10, 2, 10);
    let picture = Picture::of(1, &Links::from([((0, 1), 1), ((1, 2), 1)]));
    let own = picture.own(0);
    assert!(routes.best(OwnLinks { costs: &own, epoch: 1 }, &picture, &peer(2)).is_some());
    let none = BTreeMap::new();
    assert!(routes.best(OwnLinks { costs: &none, epoch: 2 }, &picture, &peer(2)).is_none());
    assert!(routes.best(OwnLinks { costs: &own, epoch: 3 }, &picture, &peer(2)).is_some());
    let cut = Picture::of(2, &Links::from([((0, 1), 1)]));
    assert!(routes.best(OwnLinks { costs: &own, epoch: 3 }, &cut, &peer(2)).is_none());
}

#[test]
fn no_more_routes_are_remembered_than_allowed() {
    let links: Links = (1..20).map(|to| ((0, to), 1)).collect();
    let picture = Picture::of(1, &links);
    let own = picture.own(0);
    let mut routes = Routes::new(peer(0), 10, 2, 3);
    for to in 1..20 {
        assert_eq!(routes.all(OwnLinks { costs: &own, epoch: 1 }, &picture, &peer(to)).len(), 1);
        assert!(routes.remembered() <= 3);
    }
}

#[test]
fn no_route_leads_through_a_node_that_relays_nothing_and_some_lead_to_it() {
    // 1 is by far the cheapest way to 3, and the only one to 4.
    let links = Links::from([((0, 1), 1), ((1, 3), 1), ((0, 2), 50), ((2, 3), 50), ((1, 4), 1), ((2, 1), 1)]);
    let mut picture = Picture::of(1, &links);
    let ways = |picture: &Picture, to| all_routes(picture, 24, 3, to).iter().map(numbers).collect::<Vec<_>>();
    assert_eq!(ways(&picture, 3), [vec![1, 3], vec![2, 3]]);
    assert_eq!(ways(&picture, 4), [vec![1, 4]]);
    picture.ends.insert(peer(1));
    assert_eq!(ways(&picture, 3), [vec![2, 3]]);
    assert!(ways(&picture, 4).is_empty());
    assert_eq!(ways(&picture, 1), [vec![1], vec![2, 1]], "it is an end all the same");
    // Whoever relays nothing sends what is its own.
    picture.ends.insert(peer(0));
    assert_eq!(ways(&picture, 3), [vec![2, 3]]);
}
