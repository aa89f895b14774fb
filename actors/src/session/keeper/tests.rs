#![allow(clippy::unwrap_used)]
use super::*;
use bowline_messages::LinkId;
use rand::SeedableRng;

fn keeper(links: usize) -> Keeper {
    Keeper::new(links, false, ChaCha8Rng::seed_from_u64(1))
}

fn address(text: &str) -> EndpointAddress {
    text.parse().unwrap()
}

fn link(remote: &str, initiator: bool) -> LinkInfo {
    let remote = address(remote);
    LinkInfo {
        id: LinkId(1),
        transport: remote.kind().clone(),
        local: remote.clone(),
        remote,
        interface: None,
        initiator,
    }
}

#[test]
fn given_addresses_are_dialled_at_once_up_to_the_number_wanted() {
    let now = Instant::now();
    let mut keeper = keeper(2);
    for text in ["tcp://a:1", "quic://a:1", "ws://a:1"] {
        keeper.add(now, address(text), Source::Given, Binding::Any);
    }
    assert_eq!(keeper.orders(now, &[]).len(), 2);
    assert_eq!(keeper.orders(now, &[]), []);
}

#[test]
fn what_the_user_asks_for_is_tried_at_once_and_once() {
    let now = Instant::now();
    let mut keeper = keeper(2);
    keeper.add(now, address("tcp://a:1"), Source::Given, Binding::Any);
    for _ in 0..8 {
        keeper.on_failure(now, &address("tcp://a:1"), false);
    }
    assert_eq!(keeper.orders(now, &[]), []);
    keeper.try_at_once(now, &[address("tcp://a:1")], &[]);
    assert!(keeper.orders(now, &[])[0].at_once);
    keeper.on_failure(now, &address("tcp://a:1"), false);
    let later = keeper.deadline(&[]).unwrap();
    assert!(later > now && !keeper.orders(later, &[])[0].at_once);
    // While an attempt is under way: the next one follows when that has failed.
    keeper.try_at_once(later, &[address("tcp://a:1")], &[]);
    assert_eq!(keeper.orders(later, &[]), []);
    keeper.on_failure(later, &address("tcp://a:1"), false);
    assert!(keeper.orders(later, &[])[0].at_once);
}

#[test]
fn what_the_user_asks_for_is_forgotten_where_a_link_stands_or_comes_to_stand() {
    let now = Instant::now();
    let mut keeper = keeper(2);
    let asked = address("tcp://a:1");
    keeper.add(now, asked.clone(), Source::Given, Binding::Any);
    keeper.try_at_once(now, std::slice::from_ref(&asked), &[&link("tcp://a:1", true)]);
    assert!(!keeper.orders(now, &[])[0].at_once);
    // Asked for again while the attempt is under way, which then succeeds.
    keeper.try_at_once(now, std::slice::from_ref(&asked), &[]);
    keeper.on_connected(now, &asked);
    keeper.on_proven(now, &asked);
    assert!(!keeper.orders(now, &[])[0].at_once);
}

#[test]
fn a_way_through_others_is_dialled_only_while_no_direct_link_works() {
    let now = Instant::now();
    let mut keeper = keeper(4);
    keeper.add(now, address("mesh://a"), Source::Fallback, Binding::Any);
    keeper.set_reached(true);
    assert_eq!((keeper.orders(now, &[&link("tcp://a:1", true)]), keeper.deadline(&[])), (Vec::new(), None));
    keeper.set_reached(false);
    assert_eq!(keeper.deadline(&[]), Some(now));
    assert_eq!(keeper.orders(now, &[&link("tcp://a:1", true)])[0].address, address("mesh://a"));
    keeper.on_connected(now, &address("mesh://a"));
    keeper.on_proven(now, &address("mesh://a"));
    keeper.set_reached(true);
    assert!(keeper.is_fallback(&address("mesh://a")));
    // One that the user gave is a spare like any other.
    keeper.add(now, address("mesh://a"), Source::Given, Binding::Any);
    assert_eq!(keeper.orders(now, &[&link("tcp://a:1", true)])[0].address, address("mesh://a"));
    assert!(!keeper.is_fallback(&address("mesh://a")));
}

#[test]
fn a_way_through_others_takes_no_direct_links_place() {
    let now = Instant::now();
    let mut keeper = keeper(1);
    keeper.add(now, address("mesh://a"), Source::Fallback, Binding::Any);
    keeper.set_reached(false);
    assert_eq!(keeper.orders(now, &[]).len(), 1);
    keeper.on_connected(now, &address("mesh://a"));
    keeper.on_proven(now, &address("mesh://a"));
    keeper.add(now, address("tcp://a:1"), Source::Given, Binding::Any);
    let mesh = link("mesh://a", true);
    assert!(keeper.deadline(&[&mesh]).is_some());
    assert_eq!(keeper.orders(now, &[&mesh])[0].address, address("tcp://a:1"));
}

#[test]
fn the_status_tells_what_is_under_way_what_failed_and_when_it_is_tried_again() {
    let now = Instant::now();
    let mut keeper = keeper(2);
    keeper.add(now, address("tcp://a:1"), Source::Given, Binding::Any);
    let never = DialStatus { address: address("tcp://a:1"), under_way: false, failures: 0, next_in: Duration::ZERO };
    assert_eq!(keeper.status(now), std::slice::from_ref(&never));
    keeper.orders(now, &[]);
    assert_eq!(keeper.status(now), [DialStatus { under_way: true, ..never }]);
    keeper.on_failure(now, &address("tcp://a:1"), false);
    let failed = keeper.status(now).remove(0);
    assert!(!failed.under_way && failed.failures == 1 && failed.next_in > Duration::ZERO, "{failed:?}");
    assert_eq!(keeper.status(now + failed.next_in).remove(0).next_in, Duration::ZERO);
}

#[test]
fn addresses_that_are_given_no_longer_are_not_dialled_unless_the_peer_tells_them() {
    let now = Instant::now();
    let mut keeper = keeper(4);
    let given = |texts: &[&str]| texts.iter().map(|text| (address(text), Binding::Any)).collect();
    keeper.set_given(now, given(&["tcp://a:1", "tcp://b:1", "tcp://c:1"]));
    keeper.set_learnt(now, [address("tcp://b:1")].into_iter());
    assert_eq!(keeper.orders(now, &[]).len(), 3);
    for text in ["tcp://a:1", "tcp://b:1", "tcp://c:1"] {
        keeper.on_failure(now, &address(text), false);
    }
    keeper.set_given(now, given(&["tcp://c:1", "tcp://d:1"]));
    let dialled = |keeper: &mut Keeper, now| {
        keeper.orders(now, &[]).iter().map(|order| order.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(dialled(&mut keeper, now + BACKOFF_MAX), ["tcp://d:1", "tcp://b:1", "tcp://c:1"]);
    keeper.set_given(now, given(&["tcp://d:1"]));
    keeper.set_learnt(now, [].into_iter());
    assert_eq!(keeper.addresses(), [address("tcp://d:1")]);
}

#[test]
fn an_attempt_whose_end_nobody_tells_is_over_after_its_time() {
    let mut now = Instant::now();
    for wanted in [1, 2] {
        let mut keeper = keeper(wanted);
        keeper.add(now, address("tcp://a:1"), Source::Given, Binding::Any);
        let timeout = keeper.orders(now, &[])[0].timeout;
        assert_eq!(keeper.orders(now + timeout, &[]), []);
        let again = keeper.deadline(&[]).unwrap();
        assert!(again > now + timeout && again < now + timeout * 2);
        now = again;
        assert_eq!(keeper.orders(now, &[]).len(), 1);
    }
}

#[test]
fn a_spare_prefers_a_transport_that_is_not_in_use() {
    let now = Instant::now();
    let mut keeper = keeper(2);
    keeper.add(now, address("tcp://b:1"), Source::Given, Binding::Any);
    keeper.add(now, address("ws://c:1"), Source::Given, Binding::Any);
    let tcp = link("tcp://a:1", true);
    let orders = keeper.orders(now, &[&tcp]);
    assert_eq!(orders.iter().map(|o| o.address.to_string()).collect::<Vec<_>>(), ["ws://c:1"]);
}

#[test]
fn failures_back_off_without_end_and_a_network_change_starts_over() {
    let mut now = Instant::now();
    let mut keeper = keeper(1);
    let only = address("tcp://a:1");
    keeper.add(now, only.clone(), Source::Given, Binding::Any);
    let mut waits = Vec::new();
    for _ in 0..20 {
        assert_eq!(keeper.orders(now, &[]).len(), 1);
        keeper.on_failure(now, &only, false);
        let next = keeper.deadline(&[]).unwrap();
        waits.push(next - now);
        now = next;
    }
    assert!(waits[0] <= BACKOFF_FIRST && waits[19] <= BACKOFF_MAX && waits[19] >= BACKOFF_MAX / 2);
    assert_eq!(keeper.orders(now, &[]).len(), 1);
    keeper.on_failure(now, &only, true);
    assert_eq!(keeper.orders(now, &[]), []);
    keeper.on_network_change(now);
    assert_eq!(keeper.orders(now, &[]).len(), 1);
}

#[test]
fn links_that_do_not_hold_are_dialled_ever_less_often() {
    let mut now = Instant::now();
    let mut keeper = keeper(1);
    let only = address("tcp://a:1");
    keeper.add(now, only.clone(), Source::Given, Binding::Any);
    let mut dials = 0;
    let end = now + Duration::from_secs(60);
    while now < end {
        dials += keeper.orders(now, &[]).len();
        // Each succeeds, and its link is gone at once.
        keeper.on_connected(now, &only);
        keeper.on_proven(now, &only);
        now = keeper.deadline(&[]).unwrap().max(now + Duration::from_millis(20));
    }
    assert!((3..30).contains(&dials), "{dials}");
}

/// The wait before the next attempt, when each connection stands, and then `end` becomes of it.
fn waits(end: impl Fn(&mut Keeper, Instant, &EndpointAddress)) -> Vec<Duration> {
    let mut now = Instant::now();
    let mut keeper = keeper(1);
    let only = address("tcp://a:1");
    keeper.add(now, only.clone(), Source::Given, Binding::Any);
    let attempt = |_| {
        assert_eq!(keeper.orders(now, &[]).len(), 1);
        keeper.on_connected(now, &only);
        end(&mut keeper, now, &only);
        let wait = keeper.deadline(&[]).unwrap() - now;
        now += wait;
        wait
    };
    (0..12).map(attempt).collect()
}

#[test]
fn a_connection_that_the_peer_refuses_is_no_success_and_backs_off_like_any_failure() {
    let refused = waits(|keeper, now, only| keeper.on_failure(now, only, false));
    let silent = waits(|_, _, _| {});
    for waits in [refused, silent] {
        for (wait, failures) in waits.iter().zip(1..) {
            assert!(*wait >= backoff(failures) / 2 && *wait <= backoff(failures), "{waits:?}");
        }
        assert!(waits[11] >= BACKOFF_MAX / 2, "{waits:?}");
    }
}

#[test]
fn a_link_that_works_wipes_out_the_failures_before_it() {
    let now = Instant::now();
    let (mut keeper, only) = (keeper(1), address("tcp://a:1"));
    keeper.add(now, only.clone(), Source::Given, Binding::Any);
    for _ in 0..5 {
        keeper.on_failure(now, &only, false);
    }
    keeper.on_connected(now, &only);
    assert_eq!(keeper.status(now)[0].failures, 6);
    keeper.on_proven(now, &only);
    assert_eq!((keeper.status(now)[0].failures, keeper.deadline(&[])), (0, Some(now)));
    // A second record of the peer's, or the same link in another life of the session's actor, is no second success.
    keeper.on_proven(now, &only);
    assert_eq!((keeper.status(now)[0].failures, keeper.deadline(&[])), (0, Some(now)));
}

#[test]
fn what_the_peer_tells_is_not_dialled_where_its_own_link_stands() {
    let now = Instant::now();
    let mut keeper = keeper(4);
    keeper.set_learnt(now, [address("tcp://10.0.0.2:8765"), address("quic://10.0.0.2:8765")].into_iter());
    let accepted = link("tcp://10.0.0.2:51234", false);
    assert_eq!(keeper.orders(now, &[&accepted]), [], "not yet");
    let later = now + LEARNT_GRACE;
    let orders = keeper.orders(later, &[&accepted]);
    assert_eq!(orders.iter().map(|o| o.address.to_string()).collect::<Vec<_>>(), ["quic://10.0.0.2:8765"]);
}

#[test]
fn an_address_that_is_told_again_while_it_is_dialled_keeps_its_result_and_its_back_off() {
    let now = Instant::now();
    let mut keeper = keeper(1);
    let only = address("tcp://10.0.0.2:1");
    let tell = |keeper: &mut Keeper, now, told: &[&EndpointAddress]| {
        keeper.set_learnt(now, told.iter().map(|address| (*address).clone()));
    };
    tell(&mut keeper, now, &[&only]);
    let mut now = now + LEARNT_GRACE;
    for failures in 1..=6 {
        assert_eq!(keeper.orders(now, &[]).len(), 1);
        tell(&mut keeper, now, &[]);
        assert_eq!((keeper.addresses(), keeper.deadline(&[])), (Vec::new(), None));
        keeper.on_failure(now, &only, true);
        tell(&mut keeper, now, &[]);
        tell(&mut keeper, now, &[&only]);
        let next = keeper.deadline(&[]).unwrap();
        assert!(next >= now + backoff(failures) / 2, "attempt {failures} is followed after {:?}", next - now);
        now = next;
    }
    tell(&mut keeper, now + BACKOFF_MAX, &[]);
    assert!(keeper.targets.is_empty(), "once its wait is over it is forgotten");
}

#[test]
fn the_peer_cannot_make_the_list_grow() {
    let now = Instant::now();
    let mut keeper = keeper(4);
    for host in 0..10_000 {
        keeper.add(now, address(&format!("tcp://h{host}:1")), Source::Learnt, Binding::Any);
    }
    assert_eq!(keeper.addresses().len(), ADDRESSES_MAX);
    for host in 0..10_000 {
        keeper.set_learnt(now, std::iter::once(address(&format!("tcp://g{host}:1"))));
    }
    assert!(keeper.targets.len() <= ADDRESSES_MAX);
    assert_eq!(keeper.addresses(), [address("tcp://g9999:1")]);
}
