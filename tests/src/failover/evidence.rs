//! What the receiver's log and the sender's report prove about one run. Pure.
//!
//! A figure counts only when the fault is proven to have hit what carried the messages: one that hit nothing would leave a gap as
//! long as the sending interval, and look like a very good failover.

use serde::Deserialize;

use super::{Cable, Fault};
use crate::arrivals::{Arrival, Tally};

/// Messages that were on their way when the fault came may arrive over the old link for so long, in nanoseconds.
const IN_FLIGHT_NS: u64 = 100_000_000;

/// What the sender says at its end.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Report {
    /// Messages that `send` accepted.
    pub(super) accepted: u64,
    /// Failovers of its session.
    pub(super) failovers: Option<u64>,
    /// The actor that it was told to make panic.
    pub(super) killed: Option<Killed>,
}

/// An actor that was made to panic.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Killed {
    /// When, on `CLOCK_MONOTONIC`, in nanoseconds.
    pub(super) mono_ns: u64,
    /// The link whose actor it was.
    pub(super) link_id: Option<u32>,
    /// Why it ended, each time it did.
    pub(super) exits: Vec<String>,
    /// How often its supervisor restarted it.
    pub(super) restarts: u64,
}

/// When the fault was brought about, on `CLOCK_MONOTONIC`, in nanoseconds: not before `begun`, and done by `done`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Just before.
    pub(super) begun: u64,
    /// Just after.
    pub(super) done: u64,
}

/// One run.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The longest gap from the fault on, in milliseconds.
    pub longest_ms: f64,
    /// Every gap from the fault on, in milliseconds.
    pub gaps_ms: Vec<f64>,
    /// Messages that were accepted and did not arrive.
    pub lost: usize,
    /// Messages that arrived more than once.
    pub duplicated: usize,
    /// Messages that arrived after a later one.
    pub out_of_order: usize,
    /// How the fault shows, in words: `link 2 on cable 1, then link 5 on cable 2`.
    pub evidence: String,
}

/// Counts, measures, and makes sure that the fault has happened. `cable`: the one that was hit, where one was.
///
/// # Errors
/// In words, when nothing proves that the fault hit the link in use, unless something was lost, doubled or disordered: that counts
/// whatever was hit.
pub(super) fn judge(
    arrivals: &[Arrival],
    report: &Report,
    fault: Fault,
    moment: Moment,
    cable: Option<Cable>,
) -> Result<Run, String> {
    let Tally { lost, duplicated, out_of_order } = Tally::of(arrivals, report.accepted);
    let mut run = Run { lost, duplicated, out_of_order, ..Run::default() };
    for pair in arrivals.windows(2) {
        if pair[1].mono_ns >= moment.begun {
            run.gaps_ms.push(pair[1].mono_ns.saturating_sub(pair[0].mono_ns) as f64 / 1e6);
        }
    }
    run.longest_ms = run.gaps_ms.iter().copied().fold(0.0, f64::max);
    let proof = prove(arrivals, report, fault, moment, cable)
        .map_err(|missing| format!("the fault ({}) did not happen as it should: {missing}", fault.name()));
    run.evidence = match proof {
        Err(missing) if run.lost + run.duplicated + run.out_of_order > 0 => missing,
        proof => proof?,
    };
    Ok(run)
}

fn prove(
    arrivals: &[Arrival],
    report: &Report,
    fault: Fault,
    moment: Moment,
    cable: Option<Cable>,
) -> Result<String, String> {
    let at = arrivals.partition_point(|arrival| arrival.mono_ns < moment.begun);
    let (before, after) = arrivals.split_at(at);
    let last = before.last().ok_or("nothing arrived before it")?;
    if after.is_empty() {
        return Err("nothing arrived after it".into());
    }
    match fault {
        Fault::BlackHole | Fault::LinkDown => {
            left_cable(before, after, moment, cable, false)?;
            left_link(last, after, report, moment)
        }
        // A copy of every message goes over each cable: whichever is first is delivered.
        Fault::RedundantBlackHole => left_cable(before, after, moment, cable, true),
        Fault::Reset => {
            if Cable::of(&last.link) != cable {
                return Err(format!("the last message before it came over {}", last.link));
            }
            left_link(last, after, report, moment)
        }
        Fault::LinkActorPanic => {
            let killed = report.killed.as_ref().ok_or("the sender killed nobody")?;
            panicked(killed)?;
            if killed.link_id != Some(last.link_id) {
                return Err(format!("link {:?} was hit, and link {} in use", killed.link_id, last.link_id));
            }
            left_link(last, after, report, moment)
        }
        Fault::SessionActorPanic => {
            let killed = report.killed.as_ref().ok_or("the sender killed nobody")?;
            panicked(killed)?;
            if killed.restarts == 0 {
                return Err("the actor was not restarted".into());
            }
            Ok(format!("the actor ended ({}) and was restarted", killed.exits.join("; ")))
        }
    }
}

fn panicked(killed: &Killed) -> Result<(), String> {
    if killed.exits.iter().any(|reason| reason.contains("panic")) {
        return Ok(());
    }
    Err(format!("the actor did not panic, it ended {} times: {}", killed.exits.len(), killed.exits.join("; ")))
}

/// The cable that was hit carried messages until then, and nothing afterwards.
fn left_cable(
    before: &[Arrival],
    after: &[Arrival],
    moment: Moment,
    cable: Option<Cable>,
    redundant: bool,
) -> Result<String, String> {
    let cable = cable.ok_or("no cable was hit")?;
    let on_it = |arrival: &&Arrival| Cable::of(&arrival.link) == Some(cable);
    let lately = before.iter().rev().take(if redundant { before.len() } else { 1 });
    if lately.filter(on_it).count() == 0 {
        return Err(format!("cable {} was hit, and another one in use", cable.0));
    }
    let late = after.iter().filter(on_it).filter(|arrival| arrival.mono_ns > moment.done + IN_FLIGHT_NS).count();
    if late > 0 {
        return Err(format!("{late} messages came over cable {} afterwards", cable.0));
    }
    if after.iter().all(|arrival| on_it(&arrival)) {
        return Err(format!("no message came over another cable than {} afterwards", cable.0));
    }
    Ok(format!("cable {} carried nothing afterwards", cable.0))
}

/// The link that carried the last message before the fault carried nothing afterwards, and another one did.
fn left_link(last: &Arrival, after: &[Arrival], report: &Report, moment: Moment) -> Result<String, String> {
    let same = |arrival: &&Arrival| arrival.link_id == last.link_id;
    let late = after.iter().filter(same).filter(|arrival| arrival.mono_ns > moment.done + IN_FLIGHT_NS).count();
    if late > 0 {
        return Err(format!("{late} messages came over link {} afterwards", last.link_id));
    }
    let next = after.iter().find(|arrival| !same(arrival));
    let next = next.ok_or_else(|| format!("no message came over another link than {}", last.link_id))?;
    if report.failovers.unwrap_or(0) == 0 {
        return Err("the sender knows of no failover".into());
    }
    Ok(format!("link {} ({}), then link {} ({})", last.link_id, last.link, next.link_id, next.link))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: u64 = 1_000_000;
    /// Something happens a second after the start and takes four milliseconds to be brought about.
    const MOMENT: Moment = Moment { begun: 1000 * MS, done: 1004 * MS };

    fn arrival(seq: u64, ms: u64, link_id: u32) -> Arrival {
        let cable = if link_id.is_multiple_of(2) { 2 } else { 1 };
        Arrival { seq, mono_ns: ms * MS, link: format!("tcp://10.77.{cable}.2:7000"), link_id }
    }

    /// A message every ten milliseconds for two seconds, over the links that `link` names for each moment.
    fn arrivals(link: impl Fn(u64) -> u32) -> Vec<Arrival> {
        (0..200).map(|seq| arrival(seq, seq * 10, link(seq * 10))).collect()
    }

    fn report(failovers: u64) -> Report {
        Report { accepted: 200, failovers: Some(failovers), killed: None }
    }

    fn killed(link_id: Option<u32>, exits: &[&str], restarts: u64) -> Report {
        let exits = exits.iter().map(|reason| (*reason).to_owned()).collect();
        Report { killed: Some(Killed { mono_ns: MOMENT.begun, link_id, exits, restarts }), ..report(1) }
    }

    fn judged(arrivals: &[Arrival], report: &Report, fault: Fault) -> Result<Run, String> {
        let cable = match fault {
            Fault::BlackHole | Fault::LinkDown | Fault::Reset | Fault::RedundantBlackHole => Some(Cable(1)),
            Fault::LinkActorPanic | Fault::SessionActorPanic => None,
        };
        judge(arrivals, report, fault, MOMENT, cable)
    }

    #[test]
    fn losses_duplicates_and_gaps_are_found() {
        let mut list = arrivals(|ms| if ms < 1000 { 1 } else { 2 });
        list.remove(150);
        list[120].mono_ns += 35 * MS;
        list[121].mono_ns += 30 * MS;
        list[122].mono_ns += 25 * MS;
        let again = arrival(10, 1995, 2);
        list.push(again);
        let run = judged(&list, &report(1), Fault::BlackHole).unwrap();
        assert_eq!((run.lost, run.duplicated, run.out_of_order), (1, 1, 0));
        assert_eq!(run.longest_ms, 45.0);
        list.swap(180, 181);
        assert_eq!(judged(&list, &report(1), Fault::BlackHole).unwrap().out_of_order, 1);
    }

    #[test]
    fn a_fault_that_hit_nothing_is_an_error_and_no_figure() {
        let unmoved = arrivals(|_| 1);
        for fault in [Fault::BlackHole, Fault::LinkDown, Fault::Reset, Fault::RedundantBlackHole] {
            let error = judged(&unmoved, &report(1), fault).unwrap_err();
            assert!(error.contains("did not happen"), "{error}");
        }
        assert!(judged(&unmoved, &killed(Some(1), &["panicked: x"], 0), Fault::LinkActorPanic).is_err());
        let nothing = &arrivals(|_| 1)[..50];
        let all_there = Report { accepted: 50, ..report(1) };
        assert!(judged(nothing, &all_there, Fault::BlackHole).unwrap_err().contains("nothing arrived after"));
        // What is missing is told whatever was hit.
        let run = judged(nothing, &report(1), Fault::BlackHole).unwrap();
        assert_eq!(run.lost, 150);
        assert!(run.evidence.contains("nothing arrived after"), "{}", run.evidence);
    }

    #[test]
    fn a_fault_that_hit_another_link_is_an_error() {
        let other_way = arrivals(|ms| if ms < 1000 { 2 } else { 1 });
        for fault in [Fault::BlackHole, Fault::LinkDown, Fault::Reset] {
            assert!(judged(&other_way, &report(1), fault).is_err(), "{fault:?}");
        }
        let moved = arrivals(|ms| if ms < 1000 { 1 } else { 2 });
        assert!(judged(&moved, &killed(Some(2), &["panicked: x"], 0), Fault::LinkActorPanic).is_err());
    }

    #[test]
    fn a_link_that_comes_back_after_its_death_was_not_hit() {
        let back = arrivals(|ms| if (1000..1500).contains(&ms) { 2 } else { 1 });
        for fault in [Fault::BlackHole, Fault::LinkDown, Fault::Reset, Fault::RedundantBlackHole] {
            assert!(judged(&back, &report(1), fault).unwrap_err().contains("afterwards"), "{fault:?}");
        }
        // A new connection over the same cable is another link: after a reset that is as it should be.
        let redialled = arrivals(|ms| if ms < 1000 { 1 } else { if ms < 1500 { 2 } else { 3 } });
        assert!(judged(&redialled, &report(1), Fault::Reset).is_ok());
        assert!(judged(&redialled, &report(1), Fault::BlackHole).is_err());
        // What was in flight may still come.
        let late = arrivals(|ms| if ms <= 1020 { 1 } else { 2 });
        assert!(judged(&late, &report(1), Fault::BlackHole).is_ok());
    }

    #[test]
    fn a_change_of_link_without_a_failover_was_a_preference() {
        let moved = arrivals(|ms| if ms < 1000 { 1 } else { 2 });
        assert!(judged(&moved, &report(0), Fault::LinkDown).unwrap_err().contains("no failover"));
    }

    #[test]
    fn an_actor_has_to_have_panicked_and_the_session_to_have_been_restarted() {
        let moved = arrivals(|ms| if ms < 1000 { 1 } else { 2 });
        assert!(judged(&moved, &killed(Some(1), &["panicked: killed"], 0), Fault::LinkActorPanic).is_ok());
        assert!(judged(&moved, &killed(Some(1), &["normal"], 0), Fault::LinkActorPanic).is_err());
        assert!(judged(&moved, &killed(Some(1), &[], 0), Fault::LinkActorPanic).is_err());
        let unmoved = arrivals(|_| 1);
        assert!(judged(&unmoved, &killed(None, &["panicked: killed"], 1), Fault::SessionActorPanic).is_ok());
        assert!(judged(&unmoved, &killed(None, &["panicked: killed"], 0), Fault::SessionActorPanic).is_err());
        assert!(judged(&unmoved, &killed(None, &[], 1), Fault::SessionActorPanic).is_err());
        assert!(judged(&unmoved, &report(0), Fault::SessionActorPanic).is_err());
    }

    #[test]
    fn a_redundant_run_may_use_both_cables_until_one_is_hit() {
        let both = |ms: u64| u32::from(ms.is_multiple_of(20)) + 1;
        let good = arrivals(|ms| if ms < 1000 { both(ms) } else { 2 });
        assert!(judged(&good, &report(0), Fault::RedundantBlackHole).is_ok());
        assert!(judged(&arrivals(both), &report(0), Fault::RedundantBlackHole).is_err());
    }
}
