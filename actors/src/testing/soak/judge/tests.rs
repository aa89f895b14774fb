#![allow(clippy::unwrap_used)]
use bowline_messages::link::{LinkInfo, LinkStep};
use bowline_messages::{EndpointAddress, PeerId, TransportKind};

use super::super::media::MEDIA;
use super::super::stats::Share;
use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn failure(id: usize, kind: FailureKind, media: &[MediumIndex], start: u64, end: u64) -> Failure {
    let cuts = if kind.is_sudden() { vec![(ms(start), ms(end))] } else { Vec::new() };
    let media = media.to_vec();
    Failure { id, kind, start: ms(start), end: ms(end), pair: (0, 1), media, how: Cut::Hold, forward: true, cuts }
}

fn peer() -> PeerId {
    crate::testing::sim::identity_of("x").peer_id()
}

/// A judge of two nodes with all links; link `n` runs over medium `n`.
fn judge() -> Judge {
    let mut judge = Judge::new(2, &[(0, 1)]);
    for (node, peer) in [(0, 1), (1, 0)] {
        for medium in 0..MEDIA_COUNT {
            up(&mut judge, 0, node, peer, medium);
        }
    }
    judge
}

fn up(judge: &mut Judge, at: u64, node: usize, with: usize, medium: MediumIndex) {
    let kind = TransportKind::new(MEDIA[medium].name);
    let address = EndpointAddress::new(kind.clone(), "x", None, "");
    let (local, remote) = (address.clone(), address);
    let id = LinkId(medium as u32);
    let link = LinkInfo { id, transport: kind, local, remote, interface: None, initiator: true };
    let event = EventKind::LinkUp { peer: peer(), link };
    judge.on_event(ms(at), node, with, &event, Some(medium), &|_| Sent::default());
}

fn fall(judge: &mut Judge, at: u64, node: usize, medium: MediumIndex, sent: Sent) {
    let event = EventKind::LinkStep {
        peer: peer(),
        link: LinkId(medium as u32),
        from: LinkState::Active,
        to: LinkState::Failing,
        step: LinkStep::CriticalError,
        reason: Some(LinkFailure::Unacknowledged(ms(1))),
        evidence: None,
        successor: None,
    };
    judge.on_event(ms(at), node, 1 - node, &event, None, &|_| sent);
}

fn say(judge: &mut Judge, sent: u64, arrives: Option<u64>, via: MediumIndex) {
    let sequence = Sequence { from: 0, to: 1, sort: 0 };
    let number = judge.deliveries.next(sequence);
    judge.on_sent(ms(sent), sequence);
    if let Some(arrives) = arrives {
        judge.on_delivered(ms(arrives), sequence, Some(number), 1, via);
    }
}

#[test]
fn detection_counts_from_the_first_send_into_the_fault_and_tells_idle_links_from_busy_ones() {
    let mut judge = judge();
    judge.on_failure(ms(1_000), &failure(0, FailureKind::BlackHole, &[2], 1_000, 9_000));
    let messages = Sent { first: Some(ms(1_100)), first_message: Some(ms(1_120)) };
    fall(&mut judge, 1_150, 0, 2, messages);
    fall(&mut judge, 1_900, 1, 2, Sent { first: Some(ms(1_600)), first_message: None });
    let kind = &judge.tally.kinds[&FailureKind::BlackHole];
    assert_eq!((kind.noticed_busy.values(), kind.noticed_idle.values()), (&[50.0][..], &[300.0][..]));
    assert_eq!((judge.tally.false_verdicts, kind.verdicts), (0, 2));
    judge.on_healed(ms(9_000), 0, &|_| Sent::default());
    assert_eq!(judge.tally.noticed, Share { of: 2, all: 2 });
}

#[test]
fn who_sent_into_a_fault_for_a_second_and_noticed_nothing_missed_it_unless_it_was_the_last_link() {
    let sent = |at| Sent { first: Some(ms(at)), first_message: None };
    let mut judge = judge();
    judge.on_failure(ms(1_000), &failure(0, FailureKind::OneWay, &[2], 1_000, 9_000));
    // Only the sending side of a one-way fault can notice it, and does not.
    judge.on_healed(ms(9_000), 0, &|_| sent(7_000));
    assert_eq!((judge.tally.noticed, judge.tally.of(FailureKind::OneWay).missed), (Share { of: 0, all: 1 }, 1));
    judge.on_failure(ms(20_000), &failure(1, FailureKind::BlackHole, &[2], 20_000, 29_000));
    judge.on_healed(ms(29_000), 1, &|_| sent(28_500));
    assert_eq!(judge.tally.noticed.all, 1, "there was no time to notice");
    for medium in [0, 1, 3] {
        fall(&mut judge, 40_000, 0, medium, Sent::default());
        fall(&mut judge, 40_000, 1, medium, Sent::default());
    }
    judge.on_failure(ms(50_000), &failure(2, FailureKind::BlackHole, &[2], 50_000, 59_000));
    judge.on_healed(ms(59_000), 2, &|_| sent(50_100));
    assert_eq!((judge.tally.noticed.all, judge.tally.last_links), (1, 2));
}

#[test]
fn nobody_has_to_notice_anything_while_a_process_is_stopped() {
    let sent = Sent { first: Some(ms(1_100)), first_message: None };
    for paused_first in [true, false] {
        let mut judge = judge();
        let fault = failure(0, FailureKind::BlackHole, &[2], 1_000, 9_000);
        let pause = failure(1, FailureKind::Pause, &[], 1_000, 5_000);
        let both = if paused_first { [&pause, &fault] } else { [&fault, &pause] };
        both.into_iter().for_each(|failure| judge.on_failure(ms(1_000), failure));
        judge.on_healed(ms(9_000), 0, &|_| sent);
        assert_eq!(judge.tally.noticed.all, 0);
    }
}

#[test]
fn a_verdict_that_nothing_explains_is_false_and_one_beside_half_a_failure_is_a_cascade() {
    let mut judge = judge();
    fall(&mut judge, 500, 0, 1, Sent::default());
    assert_eq!(judge.tally.false_verdicts, 1);
    judge.on_failure(ms(1_000), &failure(0, FailureKind::Half, &[0, 2], 1_000, 3_000));
    fall(&mut judge, 1_100, 0, 2, Sent::default());
    assert_eq!(judge.tally.false_verdicts, 1);
    fall(&mut judge, 1_200, 0, 3, Sent::default());
    assert_eq!(judge.tally.false_verdicts, 2);
    judge.on_healed(ms(3_000), 0, &|_| Sent::default());
    judge.finish(ms(60_000));
    assert_eq!(judge.tally.cascades, 1);
    // What is explained no longer is a while after the end.
    let mut judge = self::judge();
    judge.on_failure(ms(1_000), &failure(0, FailureKind::Interference, &[2], 1_000, 3_000));
    fall(&mut judge, 4_900, 0, 2, Sent::default());
    fall(&mut judge, 5_100, 1, 2, Sent::default());
    assert_eq!(judge.tally.false_verdicts, 1);
}

#[test]
fn a_link_on_which_something_vanished_is_rightly_dead_for_a_while_afterwards() {
    let mut judge = judge();
    let vanish = Failure { how: Cut::Vanish, ..failure(0, FailureKind::BlackHole, &[2], 1_000, 3_000) };
    judge.on_failure(ms(1_000), &vanish);
    judge.on_cut(ms(1_000), 0);
    judge.on_healed(ms(3_000), 0, &|_| Sent::default());
    judge.on_broken(&vanish, 2);
    fall(&mut judge, 22_000, 0, 2, Sent::default());
    assert_eq!(judge.tally.false_verdicts, 0);
    fall(&mut judge, 24_000, 1, 2, Sent::default());
    assert_eq!(judge.tally.false_verdicts, 1);
}

#[test]
fn a_link_that_lost_nothing_in_a_failure_is_not_excused_by_it_for_longer_than_others() {
    let mut judge = judge();
    let vanish = Failure { how: Cut::Vanish, ..failure(0, FailureKind::BlackHole, &[2], 1_000, 3_000) };
    judge.on_failure(ms(1_000), &vanish);
    judge.on_cut(ms(1_000), 0);
    judge.on_healed(ms(3_000), 0, &|_| Sent::default());
    fall(&mut judge, 22_000, 0, 2, Sent::default());
    assert_eq!(judge.tally.false_verdicts, 1);
}

#[test]
fn what_fades_is_detected_from_its_silence_on_unless_it_was_left_before() {
    let mut judge = judge();
    let fading = |id, start: u64| {
        let cuts = vec![(ms(start + 7_000), ms(start + 10_000))];
        Failure { cuts, ..failure(id, FailureKind::Fading, &[2], start, start + 10_000) }
    };
    judge.on_failure(ms(1_000), &fading(0, 1_000));
    fall(&mut judge, 5_000, 0, 2, Sent::default());
    judge.on_cut(ms(8_000), 0);
    fall(&mut judge, 8_400, 1, 2, Sent { first: Some(ms(8_100)), first_message: None });
    judge.on_healed(ms(11_000), 0, &|_| Sent::default());
    let kind = &judge.tally.kinds[&FailureKind::Fading];
    assert_eq!((kind.foreseen, kind.noticed_idle.values()), (1, &[300.0][..]));
    assert_eq!((kind.missed, judge.tally.noticed.all), (0, 0), "fading is reported by itself");
}

#[test]
fn a_link_that_flaps_is_detected_from_its_first_silence_on() {
    let mut judge = judge();
    let cuts = vec![(ms(1_000), ms(2_000)), (ms(3_000), ms(4_000))];
    judge.on_failure(ms(1_000), &Failure { cuts, ..failure(0, FailureKind::Flapping, &[2], 1_000, 4_000) });
    let sent = Sent { first: Some(ms(1_100)), first_message: Some(ms(1_100)) };
    fall(&mut judge, 3_300, 0, 2, sent);
    judge.on_healed(ms(4_000), 0, &|_| sent);
    let kind = &judge.tally.kinds[&FailureKind::Flapping];
    assert_eq!((kind.noticed_busy.values(), kind.missed, judge.tally.noticed.all), (&[2_200.0][..], 0, 0));
}

#[test]
fn traffic_that_goes_on_late_or_not_at_all_was_not_migrated() {
    let mut judge = judge();
    for (id, (begin, arrives)) in [(1_000, Some(1_300)), (20_000, Some(26_000)), (40_000, None)].into_iter().enumerate()
    {
        say(&mut judge, begin - 100, Some(begin - 90), 2);
        judge.on_failure(ms(begin), &failure(id, FailureKind::Half, &[2, 3], begin, begin + 3_000));
        say(&mut judge, begin + 100, arrives, 0);
        judge.on_healed(ms(begin + 3_000), id, &|_| Sent::default());
        judge.on_time(ms(begin + 15_000));
    }
    judge.finish(ms(80_000));
    let kind = &judge.tally.kinds[&FailureKind::Half];
    assert_eq!(kind.failover.values(), [200.0, 5_900.0]);
    assert_eq!((judge.tally.migrated, judge.tally.half_recovered), (Share { of: 1, all: 3 }, Share { of: 1, all: 3 }));
    assert_eq!((kind.stalled, kind.not_migrated), (1, 2));
}

#[test]
fn a_delivery_that_waited_for_a_stopped_process_says_nothing_about_another_failure() {
    let mut judge = judge();
    say(&mut judge, 900, Some(910), 2);
    judge.on_failure(ms(1_000), &failure(0, FailureKind::BlackHole, &[2], 1_000, 3_000));
    judge.on_failure(ms(1_050), &failure(1, FailureKind::Pause, &[], 1_050, 9_000));
    say(&mut judge, 1_100, Some(9_010), 1);
    judge.finish(ms(80_000));
    assert!(judge.tally.kinds[&FailureKind::BlackHole].failover.values().is_empty());
    assert_eq!((judge.tally.migrated.all, judge.tally.waited_for_process), (0, 1));
}

#[test]
fn a_failure_of_a_link_that_carries_nothing_is_no_failover() {
    let mut judge = judge();
    say(&mut judge, 900, Some(910), 1);
    judge.on_failure(ms(1_000), &failure(0, FailureKind::BlackHole, &[2], 1_000, 3_000));
    say(&mut judge, 1_100, Some(1_110), 1);
    judge.finish(ms(80_000));
    assert_eq!(judge.tally.migrated.all, 0);
}
