//! What was sent and what arrived: losses, duplicates, order, damage, and how long after a failure the next message of a sequence came. Pure.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::super::media::MediumIndex;
use super::super::stats::Histogram;
use super::super::traffic::{SORTS, SortIndex};

/// Numbers that did not come in their turn are remembered so far.
const MISSING_MAX: usize = 1 << 16;

/// No more messages than this are kept to be drawn.
const DRAWN_MAX: usize = 20_000;

/// Messages of one kind from one node to another: an ordered channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence {
    /// Who sends.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// What.
    pub sort: SortIndex,
}

/// What went wrong with messages, and how many there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Accepted by the sender's session.
    pub sent: u64,
    /// Handed to the receiver's application.
    pub delivered: u64,
    /// Refused by the sender's session because too much waited.
    pub refused: u64,
    /// Accepted and never delivered.
    pub lost: u64,
    /// Delivered again.
    pub duplicated: u64,
    /// Delivered behind a later one.
    pub out_of_order: u64,
    /// Delivered with another content.
    pub corrupted: u64,
    /// Bytes delivered.
    pub bytes: u64,
}

/// A failure of which it is asked when the next message of a sequence arrives.
#[derive(Debug, Clone, Copy)]
struct Watch {
    failure: usize,
    /// Since when a message waits; `None`: none was sent yet.
    since: Option<Duration>,
}

/// A message arrived that was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fired {
    /// The failure.
    pub failure: usize,
    /// From the later of it and the sending to the arrival.
    pub took: Duration,
    /// What brought it.
    pub via: MediumIndex,
}

#[derive(Debug, Clone, Default)]
struct Course {
    /// The number of the next message.
    next: u64,
    /// When those were sent that have not arrived, from `expected` on.
    waiting: VecDeque<Duration>,
    expected: u64,
    missing: BTreeSet<u64>,
    /// What brought the last one, and when.
    last: Option<(MediumIndex, Duration)>,
    watches: Vec<Watch>,
}

/// All sequences.
#[derive(Debug, Clone)]
pub struct Deliveries {
    nodes: usize,
    courses: Vec<Course>,
    /// What went wrong so far; `lost` is known at the end.
    pub totals: Totals,
    /// From the sending to the arrival, by kind of message.
    pub delays: Vec<Histogram>,
    /// Messages between the first two nodes are kept from then until then.
    pub drawn_in: Option<(Duration, Duration)>,
    /// Those: when they arrived, over what, and how long they took.
    pub drawn: Vec<(Duration, MediumIndex, Duration)>,
}

impl Deliveries {
    /// Nothing was sent yet among so many nodes.
    pub fn new(nodes: usize) -> Self {
        let courses = vec![Course::default(); nodes * nodes * SORTS.len()];
        Self {
            nodes,
            courses,
            totals: Totals::default(),
            delays: vec![Histogram::default(); SORTS.len()],
            drawn_in: None,
            drawn: Vec::new(),
        }
    }

    fn at(&self, sequence: Sequence) -> usize {
        (sequence.from * self.nodes + sequence.to) * SORTS.len() + sequence.sort
    }

    /// The number that the next message has.
    pub fn next(&self, sequence: Sequence) -> u64 {
        self.courses[self.at(sequence)].next
    }

    /// A message was accepted.
    pub fn on_sent(&mut self, now: Duration, sequence: Sequence) {
        let at = self.at(sequence);
        let course = &mut self.courses[at];
        course.next += 1;
        course.waiting.push_back(now);
        self.totals.sent += 1;
        for watch in &mut course.watches {
            watch.since.get_or_insert(now);
        }
    }

    /// A message was refused.
    pub fn on_refused(&mut self) {
        self.totals.refused += 1;
    }

    /// A message arrived; `number` is what it says it is, `None` when it is damaged.
    pub fn on_delivered(
        &mut self,
        now: Duration,
        sequence: Sequence,
        number: Option<u64>,
        bytes: usize,
        via: MediumIndex,
        fired: &mut Vec<Fired>,
    ) {
        let at = self.at(sequence);
        let course = &mut self.courses[at];
        self.totals.delivered += 1;
        self.totals.bytes += bytes as u64;
        course.last = Some((via, now));
        let Some(number) = number else {
            self.totals.corrupted += 1;
            return;
        };
        if number >= course.next {
            // Nobody sent it.
            self.totals.corrupted += 1;
            return;
        }
        if number < course.expected {
            let late = course.missing.remove(&number);
            self.totals.out_of_order += u64::from(late);
            self.totals.duplicated += u64::from(!late);
            return;
        }
        for skipped in course.expected..number {
            course.waiting.pop_front();
            if course.missing.len() < MISSING_MAX {
                course.missing.insert(skipped);
            }
        }
        course.expected = number + 1;
        if let Some(sent) = course.waiting.pop_front() {
            let took = now.saturating_sub(sent);
            self.delays[sequence.sort].add(took);
            let drawn = self.drawn_in.is_some_and(|(from, until)| from <= now && now < until);
            if drawn && sequence.from + sequence.to == 1 && self.drawn.len() < DRAWN_MAX {
                self.drawn.push((now, via, took));
            }
        }
        course.watches.retain(|watch| {
            let Some(since) = watch.since else { return true };
            fired.push(Fired { failure: watch.failure, took: now.saturating_sub(since), via });
            false
        });
    }

    /// What brought the last message of a sequence, and when.
    pub fn last(&self, sequence: Sequence) -> Option<(MediumIndex, Duration)> {
        self.courses[self.at(sequence)].last
    }

    /// From now on it is waited for the next message of a sequence. The clock runs at once when one is on its way, else from the next that is
    /// sent.
    pub fn watch(&mut self, now: Duration, sequence: Sequence, failure: usize) {
        let at = self.at(sequence);
        let course = &mut self.courses[at];
        let since = (!course.waiting.is_empty()).then_some(now);
        course.watches.push(Watch { failure, since });
    }

    /// It is not waited any more. Gives how long those waited that were sent and did not arrive.
    pub fn unwatch(&mut self, now: Duration, failure: usize) -> Vec<Duration> {
        let mut stalled = Vec::new();
        for course in &mut self.courses {
            course.watches.retain(|watch| {
                if watch.failure == failure {
                    stalled.extend(watch.since.map(|since| now.saturating_sub(since)));
                }
                watch.failure != failure
            });
        }
        stalled
    }

    /// Whether everything that was sent has arrived.
    pub fn is_settled(&self) -> bool {
        self.courses.iter().all(|course| course.waiting.is_empty())
    }

    /// It is over: what has not arrived is lost.
    pub fn finish(&mut self) -> Totals {
        let lost = self.courses.iter().map(|course| course.waiting.len() + course.missing.len()).sum::<usize>();
        self.totals.lost = lost as u64;
        self.totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Sequence = Sequence { from: 0, to: 1, sort: 2 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn deliver(deliveries: &mut Deliveries, at: u64, number: Option<u64>) -> Vec<Fired> {
        let mut fired = Vec::new();
        deliveries.on_delivered(ms(at), ONE, number, 10, 3, &mut fired);
        fired
    }

    #[test]
    fn each_way_to_break_the_promise_is_counted_as_what_it_is() {
        let mut deliveries = Deliveries::new(2);
        (0..6).for_each(|at| deliveries.on_sent(ms(at), ONE));
        for number in [Some(0), Some(0), Some(3), Some(2), None, Some(9), Some(4)] {
            deliver(&mut deliveries, 10, number);
        }
        let totals = deliveries.finish();
        assert_eq!((totals.sent, totals.delivered), (6, 7));
        // 1 and 5 never came, 0 came twice, 2 behind 3, one was damaged, and 9 was never sent.
        assert_eq!((totals.lost, totals.duplicated, totals.out_of_order, totals.corrupted), (2, 1, 1, 2));
        assert!(!deliveries.is_settled());
    }

    #[test]
    fn a_watch_runs_from_the_failure_when_something_is_on_its_way_else_from_the_next_message() {
        let mut deliveries = Deliveries::new(2);
        deliveries.on_sent(ms(1), ONE);
        deliveries.watch(ms(5), ONE, 0);
        assert_eq!(deliver(&mut deliveries, 9, Some(0)), [Fired { failure: 0, took: ms(4), via: 3 }]);
        deliveries.watch(ms(10), ONE, 1);
        deliveries.on_sent(ms(50), ONE);
        assert_eq!(deliver(&mut deliveries, 57, Some(1)), [Fired { failure: 1, took: ms(7), via: 3 }]);
        deliveries.watch(ms(60), ONE, 2);
        assert!(deliveries.unwatch(ms(99), 2).is_empty());
        deliveries.on_sent(ms(100), ONE);
        deliveries.watch(ms(100), ONE, 3);
        assert_eq!(deliveries.unwatch(ms(140), 3), [ms(40)]);
        assert!(deliver(&mut deliveries, 150, Some(2)).is_empty());
        assert!(deliveries.is_settled());
    }
}
