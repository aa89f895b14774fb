#![allow(clippy::unwrap_used)]
use std::net::Ipv6Addr;

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn ip(n: u32) -> Option<IpAddr> {
    Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)))
}

fn limits() -> (InboundLimits, Instant) {
    (InboundLimits::new(InboundConfig::default()), crate::clock::now())
}

#[test]
fn a_hundred_unproven_connections_are_taken_and_no_more() {
    let (mut limits, now) = limits();
    let mut slots: Vec<_> = (0..100).map(|n| limits.admit(ip(n), now).unwrap()).collect();
    assert_eq!(limits.admit(ip(200), now), Err(Refusal::TooManyConnections));
    assert_eq!(limits.admit(None, now), Err(Refusal::TooManyConnections));
    limits.release(slots.pop().unwrap(), Outcome::Proven, now);
    assert!(limits.admit(ip(200), now).is_ok());
    assert_eq!(limits.turned(), Turned { total: 2, ..Turned::default() });
}

#[test]
fn three_at_once_are_taken_from_one_source() {
    let (mut limits, now) = limits();
    let slots = [(); 3].map(|()| limits.admit(ip(1), now).unwrap());
    assert_eq!(limits.admit(ip(1), now), Err(Refusal::SourceLimit));
    let other = limits.admit(ip(2), now).unwrap();
    for slot in slots.into_iter().chain([other]) {
        limits.release(slot, Outcome::Proven, now);
    }
    assert!(limits.admit(ip(1), now).is_ok());
}

#[test]
fn ten_a_minute_are_taken_from_one_source() {
    let (mut limits, mut now) = limits();
    for _ in 0..10 {
        let slot = limits.admit(ip(1), now).unwrap();
        limits.release(slot, Outcome::Proven, now);
        now += SECOND;
    }
    assert_eq!(limits.admit(ip(1), now), Err(Refusal::SourceLimit));
    now += SECOND * 49;
    assert_eq!(limits.admit(ip(1), now), Err(Refusal::SourceLimit), "59 s after the first");
    let slot = limits.admit(ip(1), now + SECOND).unwrap();
    limits.release(slot, Outcome::Proven, now);
}

#[test]
fn a_failed_attempt_cools_its_source_down_for_a_minute() {
    let (mut limits, now) = limits();
    let slot = limits.admit(ip(1), now).unwrap();
    limits.release(slot, Outcome::Failed, now);
    for second in [0, 30, 59] {
        assert_eq!(limits.admit(ip(1), now + SECOND * second), Err(Refusal::CoolDown));
    }
    assert!(limits.admit(ip(2), now).is_ok());
    assert!(limits.admit(ip(1), now + SECOND * 60).is_ok(), "asking meanwhile did not make it longer");
}

#[test]
fn a_stranger_need_not_cool_down_any_more_when_somebody_is_accepted() {
    let (mut limits, now) = limits();
    let both = [1, 2].map(|n| [(); 2].map(|()| limits.admit(ip(n), now).unwrap()));
    for (slots, last) in both.into_iter().zip([Outcome::Stranger, Outcome::Failed]) {
        let [first, second] = slots;
        limits.release(first, last, now);
        limits.release(second, Outcome::Stranger, now);
    }
    assert_eq!((limits.admit(ip(1), now), limits.admit(ip(2), now)), (Err(Refusal::CoolDown), Err(Refusal::CoolDown)));
    limits.pardon();
    assert!(limits.admit(ip(1), now).is_ok());
    assert_eq!(limits.admit(ip(2), now), Err(Refusal::CoolDown), "it had failed before");
}

#[test]
fn a_source_is_a_slash_64_and_an_ipv4_address_however_it_is_written() {
    let v6 = |text: &str| Source::from(IpAddr::V6(text.parse::<Ipv6Addr>().unwrap()));
    assert_eq!(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1"));
    assert_eq!(v6("::ffff:10.0.0.1"), Source::from(ip(1).unwrap()));
}

#[test]
fn attempts_are_remembered_for_five_minutes_and_swept() {
    let (mut limits, now) = limits();
    for n in 0..50 {
        let slot = limits.admit(ip(n), now).unwrap();
        limits.release(slot, Outcome::Failed, now);
    }
    let later = limits.admit(ip(99), now + SECOND * 299).unwrap();
    assert_eq!(limits.sources(), 51);
    limits.release(later, Outcome::Proven, now + SECOND * 299);
    let slot = limits.admit(None, now + SECOND * 360).unwrap();
    assert_eq!(limits.sources(), 1);
    limits.release(slot, Outcome::Proven, now);
}

#[test]
fn a_flood_from_many_sources_costs_bounded_memory_and_keeps_nobody_else_out() {
    let config = InboundConfig { sources_max: 1000, ..InboundConfig::default() };
    let mut limits = InboundLimits::new(config);
    let mut now = crate::clock::now();
    let held = limits.admit(ip(0), now).unwrap();
    for n in 1..100_000 {
        now += Duration::from_micros(1);
        let slot = limits.admit(ip(n), now).unwrap();
        limits.release(slot, Outcome::Failed, now);
        assert!(limits.sources() <= 1000 && limits.quiet.len() <= 1000);
    }
    assert!(limits.sources.contains_key(&Source::from(ip(0).unwrap())), "an open connection is never forgotten");
    limits.release(held, Outcome::Proven, now);
    assert_eq!(limits.open(), 0);
}

proptest! {
    #[test]
    fn no_bound_is_ever_exceeded_and_nothing_is_left_open(
        steps in vec((0..4u32, 0..30_000u64, any::<prop::sample::Index>(), 0..3u8), 1..300),
    ) {
        let config = InboundConfig { unproven_total: 8, sources_max: 9, ..InboundConfig::default() };
        let mut limits = InboundLimits::new(config);
        let mut now = crate::clock::now();
        let mut held: Vec<(u32, Slot)> = Vec::new();
        let mut begun: Vec<(u32, Instant)> = Vec::new();
        for (source, pause, index, what) in steps {
            now += Duration::from_millis(pause);
            if what > 0 || held.is_empty() {
                if let Ok(slot) = limits.admit(ip(source), now) {
                    held.push((source, slot));
                    begun.push((source, now));
                }
            } else {
                let outcome = [Outcome::Proven, Outcome::Failed, Outcome::Released][pause as usize % 3];
                let (_, slot) = held.swap_remove(index.index(held.len()));
                limits.release(slot, outcome, now);
            }
            prop_assert_eq!(limits.open(), held.len());
            prop_assert!(held.len() <= 8 && held.iter().filter(|(s, _)| *s == source).count() <= 3);
            let recent = begun.iter().filter(|(s, at)| *s == source && now - *at < MINUTE).count();
            prop_assert!(recent <= 10);
        }
        for (_, slot) in held {
            limits.release(slot, Outcome::Proven, now);
        }
        prop_assert_eq!(limits.open(), 0);
        prop_assert_eq!(limits.quiet.len(), limits.sources());
    }

    #[test]
    fn a_budget_lets_the_rate_and_the_burst_through_and_no_more(
        steps in vec((0..50u64, 0..5000u64, 0..200u64), 1..100),
    ) {
        let config = BudgetConfig { messages_per_second: 100, messages_burst: 50, bytes_per_second: 10_000, bytes_burst: 5_000 };
        let begin = crate::clock::now();
        let mut budget = PeerBudget::new(&config, begin);
        let (mut now, mut messages, mut bytes) = (begin, 0, 0);
        for (m, b, pause) in steps {
            now += Duration::from_millis(pause);
            match budget.take(m, b, now) {
                Ok(()) => { messages += m; bytes += b; }
                Err(wait) => {
                    prop_assert!(wait <= Duration::from_secs(1));
                    now += wait;
                    prop_assert!(budget.take(m, b, now).is_ok(), "after the wait it is granted");
                    messages += m;
                    bytes += b;
                }
            }
            let seconds = (now - begin).as_secs_f64();
            prop_assert!(messages as f64 <= 50.0 + 100.0 * seconds + 1e-6);
            prop_assert!(bytes as f64 <= 5_000.0 + 10_000.0 * seconds + 1e-6);
        }
    }
}

#[test]
fn a_wish_above_the_burst_is_granted_when_the_bucket_is_full() {
    let config = BudgetConfig { messages_per_second: 10, messages_burst: 5, bytes_per_second: 100, bytes_burst: 100 };
    let now = crate::clock::now();
    let mut budget = PeerBudget::new(&config, now);
    assert_eq!(budget.take(1, 1_000_000, now), Ok(()));
    assert_eq!(budget.take(1, 100, now), Err(SECOND * 10_000), "what was too much is paid for");
}

#[test]
fn what_cannot_be_held_back_is_taken_on_credit() {
    let config = BudgetConfig { messages_per_second: 10, messages_burst: 5, bytes_per_second: 100, bytes_burst: 100 };
    let now = crate::clock::now();
    let mut budget = PeerBudget::new(&config, now);
    budget.charge(1, 100, now);
    assert_eq!(budget.debt(now), Duration::ZERO);
    budget.charge(1, 200, now);
    assert_eq!(budget.debt(now), SECOND * 2);
    assert_eq!(budget.take(1, 0, now + SECOND), Err(SECOND));
    assert_eq!(budget.debt(now + SECOND * 2), Duration::ZERO);
    assert_eq!(budget.take(1, 0, now + SECOND * 2), Ok(()));
}

#[test]
fn limiting_is_told_when_it_begins_and_not_again_before_it_has_paused() {
    let config = BudgetConfig { messages_per_second: 10, messages_burst: 5, bytes_per_second: 100, bytes_burst: 100 };
    let now = crate::clock::now();
    let mut budget = PeerBudget::new(&config, now);
    assert!(budget.limits(now));
    for second in 1..60 {
        assert!(!budget.limits(now + SECOND * second), "it never paused");
    }
    assert!(budget.limits(now + SECOND * 59 + LIMITED_PAUSE));
}
