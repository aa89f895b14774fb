//! Judges what the nodes did, knowing what was done to them. Pure: it is told what happened, and when.
//!
//! | file | idea |
//! |---|---|
//! | `delivery` | messages lost, twice, out of order, damaged; how long the next one took after a failure |
//! | `links` | which links there are and what each side thinks of them |
//! | `choice` | how good the chosen link is |
//! | this | failures: whether they were noticed, and what they cost; mistakes |
//!
//! The definitions are in `docs/soak.md`.

pub mod choice;
pub mod delivery;
pub mod links;
mod tally;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bowline_messages::LinkId;
use bowline_messages::event::EventKind;
use bowline_messages::link::{LinkFailure, LinkState, LinkStep};

use super::media::{MEDIA_COUNT, MediumIndex};
use super::schedule::{Failure, FailureKind, same_pair};
use super::traffic::SORTS;
use crate::transport::memory::Cut;
use bowline_messages::MessageClass;

pub use choice::{Choices, Grade, Truth};
pub use delivery::{Deliveries, Fired, Sequence, Totals};
pub use links::{Fallen, LinkBook, Side};
pub use tally::{KindTally, Tally};

/// Traffic has to go on within this time.
pub const MIGRATED_WITHIN: Duration = Duration::from_secs(5);
/// A fault that is still there so long after the first send into it has to have been noticed.
pub const NOTICED_WITHIN: Duration = Duration::from_secs(1);
/// A link on which something vanished works never again; so long after the end of the failure it has been found so.
const BROKEN_FOUND_WITHIN: Duration = Duration::from_secs(20);
/// What takes longer is kept as an example.
const SLOW: Duration = Duration::from_millis(500);
/// What a failure did may show this much later.
const AFTERMATH: Duration = Duration::from_secs(2);
/// Failures are remembered for so long after their end and aftermath: longer than any is looked at.
const REMEMBERED: Duration = Duration::from_secs(120);
/// A failure is looked at for so long after its end.
const CLOSED_AFTER: Duration = Duration::from_secs(10);
/// A link was in use when it brought a message so lately.
const IN_USE_WITHIN: Duration = Duration::from_secs(30);

/// What was written to the path of one side of a link since its failure began, as times since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Anything.
    pub first: Option<Duration>,
    /// Something that carries messages.
    pub first_message: Option<Duration>,
}

/// One side that should notice a failure.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    side: Side,
    noticed: bool,
    /// Whether it had another link to use.
    had_other: bool,
}

/// A failure that is looked at.
#[derive(Debug, Clone)]
struct Case {
    failure: Failure,
    sightings: Vec<Sighting>,
    had_other: bool,
    watched: u32,
    fired: Vec<Duration>,
    /// Traffic came back over what had failed, or the session ended.
    spoilt: bool,
    cascaded: bool,
    began: bool,
    /// A delivery waited for a stopped process.
    stopped: bool,
}

/// The judge.
pub struct Judge {
    pairs: Vec<(usize, usize)>,
    /// Messages.
    pub deliveries: Deliveries,
    /// Links.
    pub links: LinkBook,
    /// What came of it.
    pub tally: Tally,
    cases: BTreeMap<usize, Case>,
    /// Failures that may explain what is seen now, with the time until which they do.
    excuses: VecDeque<(Duration, Failure)>,
    /// When each pair's transport was last poor by recording.
    poor: BTreeMap<(usize, MediumIndex), Duration>,
    /// Sides whose link is to come back, and since when it can.
    restoring: BTreeMap<(usize, usize, MediumIndex), Duration>,
    fired: Vec<Fired>,
}

impl Judge {
    /// Nothing happened yet between these pairs of so many nodes.
    pub fn new(nodes: usize, pairs: &[(usize, usize)]) -> Self {
        Self {
            pairs: pairs.to_vec(),
            deliveries: Deliveries::new(nodes),
            links: LinkBook::default(),
            tally: Tally::default(),
            cases: BTreeMap::new(),
            excuses: VecDeque::new(),
            poor: BTreeMap::new(),
            restoring: BTreeMap::new(),
            fired: Vec::new(),
        }
    }

    /// A failure begins.
    pub fn on_failure(&mut self, now: Duration, failure: &Failure) {
        self.tally.failures += 1;
        self.tally.of(failure.kind).injected += 1;
        self.excuses.push_back((failure.end + AFTERMATH, failure.clone()));
        let mut case = Case {
            failure: failure.clone(),
            sightings: Vec::new(),
            had_other: true,
            watched: 0,
            fired: Vec::new(),
            spoilt: false,
            cascaded: false,
            began: false,
            stopped: false,
        };
        if failure.kind == FailureKind::Pause {
            self.forgive(failure);
        }
        if failure.kind.is_sudden() || matches!(failure.kind, FailureKind::Reset | FailureKind::Flapping) {
            case.sightings = self.sightings(now, failure).unwrap_or_default();
        }
        self.cases.insert(failure.id, case);
        // A fading link fails when it is silent, a paused node when it wakes.
        if !matches!(failure.kind, FailureKind::Fading | FailureKind::Pause | FailureKind::Interference) {
            self.begin_watch(now, failure.id);
        }
    }

    /// The sides that should notice a failure now; `None`: nobody is asked, because one of the processes is stopped.
    fn sightings(&self, now: Duration, failure: &Failure) -> Option<Vec<Sighting>> {
        let stopped = |(_, other): &(Duration, Failure)| {
            other.kind == FailureKind::Pause && other.end >= now && pauses(other, failure.pair)
        };
        if self.excuses.iter().any(stopped) {
            return None;
        }
        let mut sightings = Vec::new();
        for (node, peer) in [failure.pair, (failure.pair.1, failure.pair.0)] {
            let usable = self.links.usable(node, peer);
            let spared = failure.kind == FailureKind::OneWay && failure.forward != (node == failure.pair.0);
            let had_other = (0..MEDIA_COUNT).any(|medium| usable[medium] && !failure.media.contains(&medium));
            let seen = failure.media.iter().filter(|medium| usable[**medium] && !spared);
            let side = |medium: &MediumIndex| Side { node, peer, medium: *medium };
            sightings.extend(seen.map(|medium| Sighting { side: side(medium), noticed: false, had_other }));
        }
        Some(sightings)
    }

    /// A process is stopped: it notices nothing, and to its peers every link is silent. What they had still to notice is not asked for.
    fn forgive(&mut self, pause: &Failure) {
        for case in self.cases.values_mut().filter(|case| pauses(pause, case.failure.pair)) {
            let open = case.sightings.iter().filter(|sighting| !sighting.noticed).count();
            self.tally.forgiven += open as u64;
            case.sightings.clear();
        }
    }

    /// Nothing passes any more on what a failure affects.
    pub fn on_cut(&mut self, now: Duration, id: usize) {
        let Some(failure) = self.cases.get(&id).map(|case| case.failure.clone()) else { return };
        if failure.how == Cut::Vanish {
            for medium in &failure.media {
                self.links.on_vanished(failure.pair, *medium, failure.end);
            }
        }
        if failure.kind == FailureKind::Fading {
            if let Some(silent) = self.sightings(now, &failure) {
                let sides = 2 * failure.media.len() as u64;
                self.tally.of(failure.kind).foreseen += sides.saturating_sub(silent.len() as u64);
                if let Some(case) = self.cases.get_mut(&id) {
                    case.sightings = silent;
                }
            }
            self.begin_watch(now, id);
        }
    }

    /// From now on the next message of each sequence counts that used what failed.
    fn begin_watch(&mut self, now: Duration, id: usize) {
        let Some(case) = self.cases.get_mut(&id).filter(|case| !case.began) else { return };
        case.began = true;
        let failure = &case.failure;
        let (first, second) = failure.pair;
        for (from, to) in [(first, second), (second, first)] {
            let spared = failure.kind == FailureKind::OneWay && failure.forward != (from == first);
            let usable = self.links.usable(from, to);
            let others = (0..MEDIA_COUNT).any(|medium| usable[medium] && !failure.media.contains(&medium));
            for (sort, said) in SORTS.iter().enumerate() {
                // Bulk is spread over all links, so none of them is its own.
                if spared || said.class == MessageClass::Bulk {
                    continue;
                }
                let sequence = Sequence { from, to, sort };
                let Some((via, heard)) = self.deliveries.last(sequence) else { continue };
                let used = failure.media.is_empty() || failure.media.contains(&via);
                if used && heard + IN_USE_WITHIN >= now {
                    self.deliveries.watch(now, sequence, id);
                    case.watched += 1;
                    case.had_other &= others;
                }
            }
        }
    }

    /// A failure ends: whoever sent into it for long enough has noticed by now.
    pub fn on_healed(&mut self, now: Duration, id: usize, sent: &dyn Fn(Side) -> Sent) {
        let Some(case) = self.cases.get_mut(&id) else { return };
        let failure = case.failure.clone();
        for sighting in case.sightings.iter().filter(|sighting| !sighting.noticed) {
            let first = sent(sighting.side).first;
            if failure.kind.is_sudden() && first.is_some_and(|first| first + NOTICED_WITHIN <= failure.end) {
                if sighting.had_other {
                    self.tally.noticed.count(false);
                    self.tally.of(failure.kind).missed += 1;
                    self.tally.note_missed(&failure, sighting.side);
                } else {
                    self.tally.last_links += 1;
                }
            }
        }
        case.sightings.clear();
        if failure.kind == FailureKind::Pause {
            self.begin_watch(now, id);
        }
        if failure.kind.is_of_links() {
            for pair in self.pairs.iter().filter(|pair| (0..MEDIA_COUNT).any(|m| failure.affects(**pair, m))) {
                for (node, peer) in [*pair, (pair.1, pair.0)] {
                    let usable = self.links.usable(node, peer);
                    let away = failure.media.iter().filter(|medium| !usable[**medium]);
                    self.restoring.extend(away.map(|medium| ((node, peer, *medium), now)));
                }
            }
        }
    }

    /// A failure has ended, and on this transport something had vanished that links wait for in vain.
    pub fn on_broken(&mut self, failure: &Failure, medium: MediumIndex) {
        self.links.on_vanished(failure.pair, medium, failure.end + BROKEN_FOUND_WITHIN);
    }

    /// A message was accepted.
    pub fn on_sent(&mut self, now: Duration, sequence: Sequence) {
        self.deliveries.on_sent(now, sequence);
    }

    /// A message arrived.
    pub fn on_delivered(
        &mut self,
        now: Duration,
        sequence: Sequence,
        number: Option<u64>,
        bytes: usize,
        via: MediumIndex,
    ) {
        self.deliveries.on_delivered(now, sequence, number, bytes, via, &mut self.fired);
        for fired in self.fired.drain(..) {
            let Some(case) = self.cases.get_mut(&fired.failure) else { continue };
            let since = now.saturating_sub(fired.took);
            if self.excuses.iter().any(|(_, other)| stops(other, &case.failure, since)) {
                case.stopped = true;
                continue;
            }
            case.fired.push(fired.took);
            if fired.took > SLOW {
                self.tally.note_slow(&case.failure, fired.took);
            }
            self.tally.of(case.failure.kind).failover.add(fired.took);
        }
    }

    /// A recording shows a pair's transport worse than usual.
    pub fn on_poor(&mut self, now: Duration, pair: usize, medium: MediumIndex) {
        self.poor.insert((pair, medium), now);
    }

    /// A node reported an event about its session with a peer. `medium` tells what a new link runs over, `sent` what was written where.
    pub fn on_event(
        &mut self,
        now: Duration,
        node: usize,
        peer: usize,
        event: &EventKind,
        medium: Option<MediumIndex>,
        sent: &dyn Fn(Side) -> Sent,
    ) {
        // What other events there are says nothing about links or sessions that is judged.
        if let EventKind::LinkUp { link, .. } = event
            && let Some(medium) = medium
        {
            self.on_link_up(now, node, peer, link.id, medium);
        } else if let EventKind::LinkStep {
            step: LinkStep::RecoveryAttempt | LinkStep::Recovered | LinkStep::RecoveryFailed,
            ..
        } = event
        {
            // Of a link that is gone; the one that stands for it is judged by itself.
        } else if let EventKind::LinkStep { link, to, reason, .. } = event {
            let gone = matches!(to, LinkState::Failed | LinkState::Closed);
            let fallen = self.links.on_state(now, node, peer, *link, to.is_usable(), gone);
            if let Some(fallen) = fallen {
                self.on_fallen(now, fallen, reason.as_ref(), sent);
            } else if to.is_usable()
                && let Some(medium) = self.links.medium(node, peer, *link)
            {
                self.on_restored(now, Side { node, peer, medium });
            }
        } else if let EventKind::SessionDown { .. } = event {
            self.tally.sessions_ended += 1;
            self.links.on_session_down(now, node, peer);
            for case in self.cases.values_mut().filter(|case| same_pair(case.failure.pair, (node, peer))) {
                case.spoilt = true;
            }
        }
    }

    fn on_link_up(&mut self, now: Duration, node: usize, peer: usize, link: LinkId, medium: MediumIndex) {
        let cut = |case: &&Case| {
            let failure = &case.failure;
            failure.how == Cut::Vanish && failure.is_cut(now) && failure.affects((node, peer), medium)
        };
        let broken = self.cases.values().find(cut).map(|case| case.failure.end);
        self.links.on_up(now, node, peer, link, medium, broken.unwrap_or_default());
        self.on_restored(now, Side { node, peer, medium });
    }

    fn on_restored(&mut self, now: Duration, side: Side) {
        if let Some(since) = self.restoring.remove(&(side.node, side.peer, side.medium)) {
            self.tally.restored.add(now.saturating_sub(since));
        }
    }

    fn on_fallen(&mut self, now: Duration, fallen: Fallen, reason: Option<&LinkFailure>, sent: &dyn Fn(Side) -> Sent) {
        let side = fallen.side;
        let verdict = match reason {
            // Nobody thinks that anything is wrong with it.
            Some(LinkFailure::ClosedHere(_) | LinkFailure::ClosedByPeer) | None => return,
            Some(LinkFailure::PeerReported) => false,
            Some(_) => true,
        };
        for case in self.cases.values_mut() {
            let failure = &case.failure;
            let Some(sighting) = case.sightings.iter_mut().find(|s| s.side == side && !s.noticed) else { continue };
            if !failure.is_active(now) {
                continue;
            }
            sighting.noticed = true;
            let sent = sent(side);
            let tally = self.tally.kinds.entry(failure.kind).or_default();
            if failure.kind == FailureKind::Reset {
                tally.noticed_busy.add(now.saturating_sub(failure.start));
            } else if let Some(first) = sent.first.filter(|first| *first <= now) {
                // What fades is silent from its end on only.
                let silent = failure.cuts.first().map_or(failure.start, |(from, _)| *from);
                let took = now.saturating_sub(first.max(silent));
                let busy = sent.first_message.is_some_and(|first| first <= now);
                if busy { &mut tally.noticed_busy } else { &mut tally.noticed_idle }.add(took);
                if failure.kind.is_sudden() {
                    self.tally.noticed.count(true);
                }
            } else {
                tally.told += 1;
            }
        }
        if verdict && !fallen.broken {
            self.on_verdict(now, side);
        }
    }

    /// A node called a link unusable on which nothing had vanished: was it right?
    fn on_verdict(&mut self, now: Duration, side: Side) {
        let pair = (side.node, side.peer);
        let of_node = |node| node == side.node || node == side.peer;
        let explains = |failure: &Failure| match failure.kind {
            FailureKind::Pause => of_node(failure.pair.0),
            FailureKind::SessionPanic => same_pair(failure.pair, pair),
            FailureKind::TransportPanic => of_node(failure.pair.0) && failure.media.contains(&side.medium),
            FailureKind::BlackHole
            | FailureKind::Reset
            | FailureKind::OneWay
            | FailureKind::Fading
            | FailureKind::Flapping
            | FailureKind::Interference
            | FailureKind::Half => failure.affects(pair, side.medium),
        };
        let at = self.pairs.iter().position(|known| same_pair(*known, pair));
        let poor = at.and_then(|at| self.poor.get(&(at, side.medium))).is_some_and(|at| *at + AFTERMATH >= now);
        let explained = self.excuses.iter().find(|(until, failure)| *until >= now && explains(failure));
        if let Some((_, failure)) = explained {
            self.tally.of(failure.kind).verdicts += 1;
        } else if poor {
            self.tally.verdicts_by_recording += 1;
        } else {
            self.tally.false_verdicts += 1;
            self.tally.false_by_medium[side.medium] += 1;
            if self.tally.false_examples.len() < Tally::EXAMPLES_MAX {
                self.tally.false_examples.push((now, side));
            }
            let half = |case: &&mut Case| {
                let failure = &case.failure;
                failure.kind == FailureKind::Half
                    && same_pair(failure.pair, pair)
                    && now < failure.end + MIGRATED_WITHIN
            };
            self.cases.values_mut().filter(half).for_each(|case| case.cascaded = true);
        }
    }

    /// Time has passed: what has been looked at for long enough is closed.
    pub fn on_time(&mut self, now: Duration) {
        self.excuses.retain(|(until, _)| *until + REMEMBERED >= now);
        while let Some((id, case)) = self.cases.first_key_value() {
            // In order of beginnings; a short one behind a long one waits a little longer.
            if case.failure.end + CLOSED_AFTER > now {
                return;
            }
            let id = *id;
            self.close(now, id);
        }
    }

    /// It is over: everything is closed.
    pub fn finish(&mut self, now: Duration) -> Totals {
        let open: Vec<usize> = self.cases.keys().copied().collect();
        open.into_iter().for_each(|id| self.close(now, id));
        self.deliveries.finish()
    }

    fn close(&mut self, now: Duration, id: usize) {
        let mut stalled = self.deliveries.unwatch(now, id);
        let Some(case) = self.cases.remove(&id) else { return };
        self.tally.waited_for_process += u64::from(case.stopped);
        stalled.retain(|waited| {
            let since = now.saturating_sub(*waited);
            !self.excuses.iter().any(|(_, other)| stops(other, &case.failure, since))
        });
        let kind = case.failure.kind;
        let waited = stalled.iter().filter(|waited| **waited > MIGRATED_WITHIN).count();
        let asked = !case.fired.is_empty() || waited > 0;
        let in_time = waited == 0 && case.fired.iter().all(|took| *took <= MIGRATED_WITHIN) && !case.spoilt;
        self.tally.of(kind).stalled += waited as u64;
        if asked && case.had_other {
            self.tally.migrated.count(in_time);
            if !in_time {
                self.tally.of(kind).not_migrated += 1;
                self.tally.note_failed(&case.failure);
            }
            if kind == FailureKind::Half {
                self.tally.half_recovered.count(in_time);
            }
        } else if asked {
            self.tally.nowhere_to_go += 1;
        }
        if kind == FailureKind::Half && case.cascaded {
            self.tally.cascades += 1;
        }
    }
}

/// Whether another failure than this stopped one of its processes since then.
fn stops(other: &Failure, failure: &Failure, since: Duration) -> bool {
    other.kind == FailureKind::Pause && other.id != failure.id && pauses(other, failure.pair) && other.end >= since
}

/// Whether a pause stops one of a pair.
fn pauses(pause: &Failure, pair: (usize, usize)) -> bool {
    pause.pair.0 == pair.0 || pause.pair.0 == pair.1
}

#[cfg(test)]
mod tests;
