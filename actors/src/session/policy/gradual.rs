//! Traffic that moves from a link which still carries to another one: in steps, each a larger share, and back when the new link proves
//! worse. Pure.
//!
//! The chooser decides *where* traffic is to go; this says *how much* of it goes there already. One move at a time. In each step the
//! round trips and the missed answers of both links are gathered:
//!
//! * enough samples, and the new link is not worse: the next step, after the step's time;
//! * too few: the next step all the same, when the step's longest time is over, since the old link may not wait;
//! * worse: everything goes back, and stays there for a while (*held*), whatever the chooser says;
//! * the old link dies: everything goes over the new one at once; the new one dies: everything goes back.
//!
//! *Worse* is measured against the old link in the same time. A link that was chosen although it was known to be slower, because the other is about to
//! fail, is not sent back for being as slow as it was known to be.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bowline_messages::config::GradualConfig;
use bowline_messages::link::{ShiftMeasure, ShiftReason};
use bowline_messages::{LinkId, MessageClass};

use super::spread::place;

/// Round trips of a link that are remembered.
const SAMPLES_MAX: usize = 64;
/// A single missed answer is no sign of anything.
const MISSED_MIN: u32 = 2;
/// Classes of messages.
const CLASSES: usize = MessageClass::ALL.len();

/// A step of a move, to be reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shifted {
    /// The link before.
    pub from: LinkId,
    /// The link that takes over.
    pub to: LinkId,
    /// The share that goes over the new one from now on, 0 to 1.
    pub share: f64,
    /// Why.
    pub reason: ShiftReason,
}

/// A move that begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Begun {
    /// The link that is left.
    pub from: LinkId,
    /// The link that takes over.
    pub to: LinkId,
    /// The class whose choice changed.
    pub class: MessageClass,
    /// Whether the old link is about to fail (else the new one is only preferred).
    pub leaving: bool,
    /// The old link's round-trip time so far, in seconds.
    pub old: Option<f64>,
    /// The new link's.
    pub new: Option<f64>,
}

/// What was seen of one link.
#[derive(Debug, Default)]
struct Seen {
    trips: VecDeque<f64>,
    missed: u32,
}

impl Seen {
    fn on_round_trip(&mut self, seconds: f64) {
        if self.trips.len() >= SAMPLES_MAX {
            self.trips.pop_front();
        }
        self.trips.push_back(seconds);
    }

    fn measure(&self) -> ShiftMeasure {
        let mut sorted: Vec<f64> = self.trips.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let round_trip = sorted.get(sorted.len() / 2).copied();
        let samples = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
        let all = f64::from(samples) + f64::from(self.missed);
        let missed = if all > 0.0 { f64::from(self.missed) / all } else { 0.0 };
        ShiftMeasure { samples, round_trip, missed }
    }
}

#[derive(Debug)]
enum Phase {
    /// Going on, in the step of this number.
    Moving(usize),
    /// Undone.
    Held,
}

/// One move of traffic from a link to another.
#[derive(Debug)]
pub struct Gradual {
    from: LinkId,
    to: LinkId,
    phase: Phase,
    since: Instant,
    /// Classes whose choice changed from the one to the other.
    classes: [bool; CLASSES],
    old: Seen,
    new: Seen,
    /// The old link's round-trip time when the move began, and what was known of the new one.
    known: (Option<f64>, Option<f64>),
    turn: u64,
}

impl Gradual {
    /// Traffic begins to move.
    pub fn begin(now: Instant, begun: Begun, config: &GradualConfig) -> (Self, Shifted) {
        let Begun { from, to, class, leaving, old, new } = begun;
        let mut classes = [false; CLASSES];
        classes[class.index()] = true;
        let known = (old, new);
        let (old, new) = (Seen::default(), Seen::default());
        let this = Self { from, to, phase: Phase::Moving(0), since: now, classes, old, new, known, turn: 0 };
        let reason = if leaving { ShiftReason::Leaving } else { ShiftReason::Preferred };
        let shifted = this.shifted(config, reason);
        (this, shifted)
    }

    /// Another class's choice changed from one link to another: it takes part, if these are the two.
    pub fn join(&mut self, class: MessageClass, from: LinkId, to: LinkId) {
        self.classes[class.index()] |= (from, to) == (self.from, self.to);
    }

    /// The link for the next messages of a class, for which the chooser takes `chosen`. `can`: whether a link can take messages now.
    pub fn route(
        &mut self,
        class: MessageClass,
        chosen: LinkId,
        config: &GradualConfig,
        can: impl Fn(LinkId) -> bool,
    ) -> LinkId {
        if chosen != self.to || !self.classes[class.index()] || !can(self.from) {
            return chosen;
        }
        self.turn = self.turn.wrapping_add(1);
        if place(self.turn) < self.share(config) && can(self.to) { self.to } else { self.from }
    }

    /// The link over which most of a class goes now.
    pub fn mostly(&self, class: MessageClass, chosen: LinkId, config: &GradualConfig) -> LinkId {
        let taken = chosen == self.to && self.classes[class.index()] && self.share(config) < 0.5;
        if taken { self.from } else { chosen }
    }

    /// Whether a link has a part in it.
    pub fn uses(&self, link: LinkId) -> bool {
        link == self.from || link == self.to
    }

    /// The classes that take part.
    pub fn classes(&self) -> impl Iterator<Item = MessageClass> + '_ {
        MessageClass::ALL.into_iter().filter(|class| self.classes[class.index()])
    }

    /// The links: the one before, and the one that takes over.
    pub const fn links(&self) -> (LinkId, LinkId) {
        (self.from, self.to)
    }

    /// A round trip was measured on a link.
    pub fn on_round_trip(&mut self, now: Instant, link: LinkId, took: Duration, config: &GradualConfig) -> Turned {
        let Some(seen) = self.seen(link) else { return Turned::Nothing };
        seen.on_round_trip(took.as_secs_f64());
        self.look(now, config)
    }

    /// An answer did not come in time on a link.
    pub fn on_missed(&mut self, now: Instant, link: LinkId, config: &GradualConfig) -> Turned {
        let Some(seen) = self.seen(link) else { return Turned::Nothing };
        seen.missed = seen.missed.saturating_add(1);
        self.look(now, config)
    }

    /// A link is dead, or given up.
    pub fn on_died(&mut self, link: LinkId) -> Turned {
        let (share, reason) = match self.phase {
            Phase::Held if self.uses(link) => return Turned::Over(None),
            Phase::Moving(_) if link == self.from => (1.0, ShiftReason::OldDied),
            Phase::Moving(_) if link == self.to => (0.0, ShiftReason::NewDied),
            Phase::Moving(_) | Phase::Held => return Turned::Nothing,
        };
        Turned::Over(Some(Shifted { from: self.from, to: self.to, share, reason }))
    }

    /// Its deadline was reached. Late and spurious calls do no harm.
    pub fn on_timeout(&mut self, now: Instant, config: &GradualConfig) -> Turned {
        match self.phase {
            Phase::Held if now >= self.since + config.hold => Turned::Released,
            Phase::Held => Turned::Nothing,
            Phase::Moving(_) => self.look(now, config),
        }
    }

    /// When [`Gradual::on_timeout`] wants to run.
    pub fn deadline(&self, config: &GradualConfig) -> Instant {
        let wait = match self.phase {
            Phase::Held => config.hold,
            Phase::Moving(_) if self.new.trips.len() >= config.samples => config.step,
            Phase::Moving(_) => config.step_max,
        };
        self.since + wait
    }

    fn seen(&mut self, link: LinkId) -> Option<&mut Seen> {
        match self.phase {
            Phase::Moving(_) if link == self.from => Some(&mut self.old),
            Phase::Moving(_) if link == self.to => Some(&mut self.new),
            Phase::Moving(_) | Phase::Held => None,
        }
    }

    fn share(&self, config: &GradualConfig) -> f64 {
        match self.phase {
            Phase::Moving(step) => config.shares.get(step).copied().unwrap_or(1.0),
            Phase::Held => 0.0,
        }
    }

    fn shifted(&self, config: &GradualConfig, reason: ShiftReason) -> Shifted {
        Shifted { from: self.from, to: self.to, share: self.share(config), reason }
    }

    fn look(&mut self, now: Instant, config: &GradualConfig) -> Turned {
        let Phase::Moving(step) = self.phase else { return Turned::Nothing };
        let (new, old) = (self.new.measure(), self.old.measure());
        if self.is_worse(&new, &old, config) {
            (self.phase, self.since) = (Phase::Held, now);
            return Turned::Shifted(self.shifted(config, ShiftReason::Worse { new, old }));
        }
        let took = now.saturating_duration_since(self.since);
        let reason = if self.new.trips.len() >= config.samples && took >= config.step {
            ShiftReason::AsGood { new, old }
        } else if took >= config.step_max {
            ShiftReason::TimeUp { new }
        } else {
            return Turned::Nothing;
        };
        if step + 1 >= config.shares.len() {
            return Turned::Over(Some(Shifted { share: 1.0, ..self.shifted(config, reason) }));
        }
        (self.phase, self.since) = (Phase::Moving(step + 1), now);
        // The new link is judged by what it does under the larger share. The old one carries less and less: what it did before counts on.
        self.new = Seen::default();
        Turned::Shifted(self.shifted(config, reason))
    }

    fn is_worse(&self, new: &ShiftMeasure, old: &ShiftMeasure, config: &GradualConfig) -> bool {
        let missing = self.new.missed >= MISSED_MIN && new.missed > old.missed + config.loss_margin;
        let enough = self.new.trips.len() >= config.samples;
        let (was, expected) = self.known;
        let borne = old.round_trip.or(was).into_iter().chain(expected).reduce(f64::max);
        let slower = new.round_trip.zip(borne).is_some_and(|(new, borne)| {
            new > borne * (1.0 + config.worse_by) && new > borne + config.worse_min.as_secs_f64()
        });
        missing || (enough && slower)
    }
}

/// What became of a move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turned {
    /// It goes on as before.
    Nothing,
    /// The share changed.
    Shifted(Shifted),
    /// It is over, and this is to be said.
    Over(Option<Shifted>),
    /// It was undone and may be tried again: it is over, and the choices of its classes go back to the old link.
    Released,
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: LinkId = LinkId(1);
    const NEW: LinkId = LinkId(2);
    const CLASS: MessageClass = MessageClass::Realtime;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    struct Bench {
        now: Instant,
        config: GradualConfig,
        gradual: Gradual,
        said: Vec<Turned>,
    }

    impl Bench {
        fn new(leaving: bool, old: u64, new: u64) -> Self {
            let (now, config) = (Instant::now(), GradualConfig { step_max: ms(1_000), ..GradualConfig::default() });
            let known = |millis| Some(ms(millis).as_secs_f64());
            let begun = Begun { from: OLD, to: NEW, class: CLASS, leaving, old: known(old), new: known(new) };
            let (gradual, shifted) = Gradual::begin(now, begun, &config);
            Self { now, config, gradual, said: vec![Turned::Shifted(shifted)] }
        }

        fn note(&mut self, turned: Turned) {
            if turned != Turned::Nothing {
                self.said.push(turned);
            }
        }

        /// So many messages, 10 ms apart, each answered within the time of the link that carries it. Gives how many the new one carried.
        fn talk(&mut self, count: u32, old: u64, new: u64) -> u32 {
            let mut over_new = 0;
            for _ in 0..count {
                self.now += ms(10);
                let link = self.gradual.route(CLASS, NEW, &self.config, |_| true);
                over_new += u32::from(link == NEW);
                let took = ms(if link == NEW { new } else { old });
                let turned = self.gradual.on_round_trip(self.now, link, took, &self.config);
                self.note(turned);
                let over = matches!(turned, Turned::Over(_));
                if !over && self.gradual.deadline(&self.config) <= self.now {
                    let turned = self.gradual.on_timeout(self.now, &self.config);
                    self.note(turned);
                }
                if matches!(self.said.last(), Some(Turned::Over(_))) {
                    break;
                }
            }
            over_new
        }

        fn shares(&self) -> Vec<f64> {
            let share = |turned: &Turned| match turned {
                Turned::Shifted(shifted) | Turned::Over(Some(shifted)) => Some(shifted.share),
                Turned::Nothing | Turned::Over(None) | Turned::Released => None,
            };
            self.said.iter().filter_map(share).collect()
        }

        fn last_reason(&self) -> Option<ShiftReason> {
            match self.said.last() {
                Some(Turned::Shifted(shifted) | Turned::Over(Some(shifted))) => Some(shifted.reason),
                Some(Turned::Nothing | Turned::Over(None) | Turned::Released) | None => None,
            }
        }
    }

    #[test]
    fn shares_rise_step_by_step_to_the_whole_when_the_new_link_is_as_good() {
        let mut bench = Bench::new(true, 40, 40);
        // 8 samples at a tenth of the traffic are 80 messages: less than the second that a step takes at most.
        assert!((6..=10).contains(&bench.talk(70, 40, 40)));
        assert_eq!(bench.shares(), [0.1]);
        bench.talk(1_000, 40, 42);
        assert_eq!(bench.shares(), [0.1, 0.3, 0.6, 1.0, 1.0]);
        assert!(matches!(bench.last_reason(), Some(ShiftReason::AsGood { .. })), "{:?}", bench.said);
        assert!(matches!(bench.said.last(), Some(Turned::Over(Some(_)))));
    }

    #[test]
    fn each_step_takes_its_time_and_its_share() {
        let mut bench = Bench::new(true, 40, 40);
        while bench.shares().len() < 3 {
            bench.talk(1, 40, 40);
        }
        let begun = bench.now;
        let over_new = bench.talk(20, 40, 40);
        assert!((11..=13).contains(&over_new), "six of ten: {over_new}");
        assert_eq!(bench.shares().len(), 3, "not before its time, however many samples");
        while bench.shares().len() < 4 {
            bench.talk(1, 40, 40);
        }
        assert!(bench.now - begun >= bench.config.step && bench.now - begun < bench.config.step + ms(20));
    }

    #[test]
    fn a_new_link_that_is_slower_under_load_is_left_again_and_not_tried_for_a_while() {
        let mut bench = Bench::new(false, 40, 20);
        bench.talk(300, 40, 90);
        assert!(bench.said.len() == 2 && bench.shares()[1] == 0.0, "{:?}", bench.said);
        let Some(ShiftReason::Worse { new, old }) = bench.last_reason() else { panic!("{:?}", bench.said) };
        assert_eq!((new.samples, new.round_trip, old.round_trip), (8, Some(0.09), Some(0.04)));
        assert_eq!(bench.talk(200, 40, 90), 0, "everything goes back");
        assert_eq!(bench.gradual.mostly(CLASS, NEW, &bench.config), OLD);
        let until = bench.gradual.deadline(&bench.config);
        assert_eq!(bench.gradual.on_timeout(until - ms(1), &bench.config), Turned::Nothing);
        assert_eq!(bench.gradual.on_timeout(until, &bench.config), Turned::Released);
    }

    #[test]
    fn it_is_undone_in_a_later_step_too() {
        let mut bench = Bench::new(false, 40, 20);
        while bench.shares().len() < 4 {
            bench.talk(1, 40, 30);
        }
        bench.talk(100, 40, 200);
        assert_eq!(bench.shares(), [0.1, 0.3, 0.6, 1.0, 0.0], "the old link's samples are remembered");
    }

    #[test]
    fn a_link_that_was_known_to_be_slower_is_not_sent_back_for_that() {
        let mut bench = Bench::new(true, 100, 900);
        bench.talk(1_000, 100, 950);
        assert_eq!(bench.shares(), [0.1, 0.3, 0.6, 1.0, 1.0], "{:?}", bench.said);
        let mut bench = Bench::new(true, 100, 900);
        bench.talk(1_000, 100, 1_500);
        assert_eq!(bench.shares(), [0.1, 0.0], "but for being much slower than that it is");
    }

    #[test]
    fn a_new_link_that_loses_more_is_left_again_and_one_miss_is_nothing() {
        let mut bench = Bench::new(true, 40, 40);
        bench.talk(20, 40, 40);
        assert_eq!(bench.gradual.on_missed(bench.now, NEW, &bench.config), Turned::Nothing);
        let turned = bench.gradual.on_missed(bench.now, NEW, &bench.config);
        let Turned::Shifted(Shifted { share: 0.0, reason: ShiftReason::Worse { new, .. }, .. }) = turned else {
            panic!("{turned:?}")
        };
        assert!(new.missed > 0.4, "{new:?}");
        // The same on both says nothing against the new one.
        let mut bench = Bench::new(true, 40, 40);
        for _ in 0..3 {
            assert_eq!(bench.gradual.on_missed(bench.now, OLD, &bench.config), Turned::Nothing);
            assert_eq!(bench.gradual.on_missed(bench.now, NEW, &bench.config), Turned::Nothing);
        }
    }

    #[test]
    fn when_the_old_link_dies_in_the_middle_everything_goes_over_the_new_one_at_once() {
        let mut bench = Bench::new(true, 40, 40);
        bench.talk(20, 40, 40);
        let over = Shifted { from: OLD, to: NEW, share: 1.0, reason: ShiftReason::OldDied };
        assert_eq!(bench.gradual.on_died(OLD), Turned::Over(Some(over)));
        assert_eq!(bench.gradual.on_died(LinkId(3)), Turned::Nothing);
    }

    #[test]
    fn when_the_new_link_dies_everything_goes_back() {
        let mut bench = Bench::new(true, 40, 40);
        let over = Shifted { from: OLD, to: NEW, share: 0.0, reason: ShiftReason::NewDied };
        assert_eq!(bench.gradual.on_died(NEW), Turned::Over(Some(over)));
    }

    #[test]
    fn a_move_that_was_undone_is_over_without_a_word_when_either_link_dies() {
        for dead in [OLD, NEW] {
            let mut bench = Bench::new(false, 40, 20);
            bench.talk(300, 40, 90);
            assert_eq!(bench.gradual.on_died(dead), Turned::Over(None));
        }
    }

    #[test]
    fn without_enough_samples_it_goes_on_when_the_step_is_over() {
        let mut bench = Bench::new(true, 40, 40);
        for _ in 0..4 {
            bench.now = bench.gradual.deadline(&bench.config);
            let turned = bench.gradual.on_timeout(bench.now, &bench.config);
            bench.note(turned);
        }
        assert_eq!(bench.shares(), [0.1, 0.3, 0.6, 1.0, 1.0]);
        assert!(matches!(bench.last_reason(), Some(ShiftReason::TimeUp { .. })));
    }

    #[test]
    fn other_classes_and_other_links_are_left_alone_and_what_cannot_be_used_is_not() {
        let mut bench = Bench::new(true, 40, 40);
        let mut route = |class, chosen, open: LinkId| {
            (0..50).map(|_| bench.gradual.route(class, chosen, &bench.config, |link| link == open)).collect::<Vec<_>>()
        };
        assert!(route(MessageClass::Bulk, NEW, OLD).iter().all(|link| *link == NEW), "it was there before");
        assert!(route(CLASS, LinkId(3), OLD).iter().all(|link| *link == LinkId(3)));
        assert!(route(CLASS, NEW, NEW).iter().all(|link| *link == NEW), "the old one is full or suspected");
        assert!(route(CLASS, NEW, OLD).iter().all(|link| *link == OLD), "the new one is");
        bench.gradual.join(MessageClass::Bulk, LinkId(3), NEW);
        assert_eq!(bench.gradual.classes().collect::<Vec<_>>(), [CLASS]);
        bench.gradual.join(MessageClass::Bulk, OLD, NEW);
        assert_eq!(bench.gradual.classes().count(), 2);
    }
}
