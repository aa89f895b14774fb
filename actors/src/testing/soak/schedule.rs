//! Which failures happen when: the ground truth. Pure; nothing of it reaches a node but by what it does to its links and actors.

use std::fmt;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use serde::Serialize;

use super::draw;
use super::media::{MEDIA_COUNT, MediumIndex};
use crate::transport::memory::Cut;

/// Nothing fails before this, so that links stand.
const QUIET_AT_FIRST: Duration = Duration::from_secs(30);
/// Nor in the end, so that every failure can be judged.
const QUIET_AT_LAST: Duration = Duration::from_secs(90);
/// A transport that failed is left alone for so long afterwards.
const APART: Duration = Duration::from_secs(1);
/// How often another failure is drawn when one would leave too few transports.
const DRAWS: usize = 50;
/// A fading link changes so often.
const FADE_EVERY: Duration = Duration::from_millis(250);
/// The part of a fading link's failure in which it still passes something.
const FADE_SHARE: f64 = 0.7;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Everything on one transport disappears, both ways, and nobody is told.
    BlackHole,
    /// Connections of one transport are reset, and dials refused for a while.
    Reset,
    /// A black hole in one direction.
    OneWay,
    /// One transport becomes slower and loses more, and then everything.
    Fading,
    /// One transport disappears and comes back, again and again.
    Flapping,
    /// A medium loses a quarter of everything and has a fifth of its bandwidth, for every pair.
    Interference,
    /// A transport's actor panics.
    TransportPanic,
    /// A session's actor panics.
    SessionPanic,
    /// A node's process is stopped for a while.
    Pause,
    /// Half of all transports of a pair disappear at the same moment.
    Half,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::BlackHole,
        Self::Reset,
        Self::OneWay,
        Self::Fading,
        Self::Flapping,
        Self::Interference,
        Self::TransportPanic,
        Self::SessionPanic,
        Self::Pause,
        Self::Half,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BlackHole => "black_hole",
            Self::Reset => "reset",
            Self::OneWay => "one_way",
            Self::Fading => "fading",
            Self::Flapping => "flapping",
            Self::Interference => "interference",
            Self::TransportPanic => "transport_panic",
            Self::SessionPanic => "session_panic",
            Self::Pause => "pause",
            Self::Half => "half",
        }
    }

    /// How long it lasts, in seconds: least, most; evenly on a logarithmic scale.
    const fn seconds(self) -> (f64, f64) {
        match self {
            Self::BlackHole | Self::OneWay | Self::Half => (2.0, 60.0),
            Self::Reset => (0.05, 10.0),
            Self::Fading => (10.0, 60.0),
            Self::Flapping => (5.0, 30.0),
            Self::Interference => (5.0, 60.0),
            Self::TransportPanic | Self::SessionPanic => (0.001, 0.001_1),
            Self::Pause => (0.1, 10.0),
        }
    }

    /// Whether it is sudden, silent and lasts: what detection is measured on.
    pub const fn is_sudden(self) -> bool {
        matches!(self, Self::BlackHole | Self::OneWay | Self::Half)
    }

    /// Whether transports of the pair are affected by it.
    pub const fn is_of_links(self) -> bool {
        matches!(
            self,
            Self::BlackHole
                | Self::Reset
                | Self::OneWay
                | Self::Fading
                | Self::Flapping
                | Self::Interference
                | Self::Half
        )
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One failure.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Its number, from 0, in order of time.
    pub id: usize,
    /// What goes wrong.
    pub kind: FailureKind,
    /// From when on, since the beginning.
    pub start: Duration,
    /// Until when.
    pub end: Duration,
    /// Two nodes; for a panic or a pause it is the first of them.
    pub pair: (usize, usize),
    /// The transports, in rising order; empty where it is none of links.
    pub media: Vec<MediumIndex>,
    /// What becomes of what is cut off.
    pub how: Cut,
    /// For one direction: whether it is from the first node to the second.
    pub forward: bool,
    /// When nothing passes: from, until; in order.
    pub cuts: Vec<(Duration, Duration)>,
}

/// What a failure does to one direction of a transport at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Effect {
    /// Nothing passes.
    pub cut: Option<Cut>,
    /// How far it has faded, 0 to 1.
    pub faded: f64,
    /// Something interferes.
    pub interfered: bool,
    /// Dials are refused.
    pub refuses: bool,
}

impl Failure {
    /// Whether it affects this pair's transport.
    pub fn affects(&self, pair: (usize, usize), medium: MediumIndex) -> bool {
        let everywhere = self.kind == FailureKind::Interference;
        self.media.contains(&medium) && (everywhere || same_pair(self.pair, pair))
    }

    /// Whether something goes wrong at this moment, on whatever it affects.
    pub fn is_active(&self, now: Duration) -> bool {
        self.start <= now && now < self.end
    }

    /// Whether nothing passes at this moment.
    pub fn is_cut(&self, now: Duration) -> bool {
        self.cuts.iter().any(|(from, until)| *from <= now && now < *until)
    }

    /// What it does to the direction from one node of its pair to the other.
    pub fn effect(&self, now: Duration, from: usize) -> Effect {
        if !self.is_active(now) {
            return Effect::default();
        }
        let spared = self.kind == FailureKind::OneWay && self.forward != (from == self.pair.0);
        Effect {
            cut: (self.is_cut(now) && !spared).then_some(self.how),
            faded: if self.kind == FailureKind::Fading { self.faded(now) } else { 0.0 },
            interfered: self.kind == FailureKind::Interference,
            refuses: self.kind == FailureKind::Reset,
        }
    }

    fn faded(&self, now: Duration) -> f64 {
        let whole = (self.end - self.start).as_secs_f64() * FADE_SHARE;
        ((now.saturating_sub(self.start)).as_secs_f64() / whole).clamp(0.0, 1.0)
    }

    /// The moments at which what it does changes, in order.
    pub fn changes(&self) -> Vec<Duration> {
        let mut moments = vec![self.start, self.end];
        moments.extend(self.cuts.iter().flat_map(|(from, until)| [*from, *until]));
        if self.kind == FailureKind::Fading {
            let steps = (self.end - self.start).as_millis() / FADE_EVERY.as_millis();
            moments.extend((0..steps).map(|step| self.start + FADE_EVERY * step as u32));
        }
        moments.sort_unstable();
        moments.dedup();
        moments
    }
}

/// Whether two pairs are the same.
pub fn same_pair(one: (usize, usize), other: (usize, usize)) -> bool {
    one == other || one == (other.1, other.0)
}

/// Draws so many failures over so long a time. Every kind is as likely; at no moment more than half of a pair's transports are affected.
/// There are fewer only when there is no room for more.
pub fn schedule(seed: u64, failures: usize, lasts: Duration, pairs: &[(usize, usize)]) -> Vec<Failure> {
    let mut random = draw::stream(seed, super::CONCERN_SCHEDULE);
    let last = lasts.saturating_sub(QUIET_AT_LAST).as_secs_f64();
    let first = QUIET_AT_FIRST.as_secs_f64();
    if last <= first || pairs.is_empty() {
        return Vec::new();
    }
    let mut starts: Vec<f64> = (0..failures).map(|_| random.random_range(first..last)).collect();
    starts.sort_by(f64::total_cmp);
    let mut drawn: Vec<Failure> = Vec::new();
    for start in starts {
        // On tokio's clock nothing is finer than a millisecond.
        let start = Duration::from_millis((start * 1e3) as u64);
        let fitting = (0..DRAWS).find_map(|_| {
            let failure = draw_one(&mut random, start, pairs);
            (failure.end.as_secs_f64() < last + first && has_room(&failure, &drawn, pairs)).then_some(failure)
        });
        drawn.extend(fitting.map(|failure| Failure { id: drawn.len(), ..failure }));
    }
    drawn
}

fn draw_one(random: &mut ChaCha12Rng, start: Duration, pairs: &[(usize, usize)]) -> Failure {
    let kind = FailureKind::ALL[random.random_range(0..FailureKind::ALL.len())];
    let (least, most) = kind.seconds();
    let ms = (draw::log_uniform(random, least, most) * 1e3).round() as u64;
    let end = start + Duration::from_millis(ms.max(1));
    let pair = pairs[random.random_range(0..pairs.len())];
    let pair = if random.random() { pair } else { (pair.1, pair.0) };
    let how = if random.random() { Cut::Vanish } else { Cut::Hold };
    let forward = random.random();
    let mut media: Vec<MediumIndex> = (0..MEDIA_COUNT).collect();
    let affected = match kind {
        FailureKind::Half => MEDIA_COUNT / 2,
        FailureKind::BlackHole
        | FailureKind::Reset
        | FailureKind::OneWay
        | FailureKind::Fading
        | FailureKind::Flapping
        | FailureKind::Interference
        | FailureKind::TransportPanic => 1,
        FailureKind::SessionPanic | FailureKind::Pause => 0,
    };
    while media.len() > affected {
        media.remove(random.random_range(0..media.len()));
    }
    let cuts = match kind {
        FailureKind::BlackHole | FailureKind::OneWay | FailureKind::Half => vec![(start, end)],
        FailureKind::Fading => vec![(start + (end - start).mul_f64(FADE_SHARE), end)],
        FailureKind::Flapping => flaps(random, start, end),
        FailureKind::Reset
        | FailureKind::Interference
        | FailureKind::TransportPanic
        | FailureKind::SessionPanic
        | FailureKind::Pause => Vec::new(),
    };
    Failure { id: 0, kind, start, end, pair, media, how, forward, cuts }
}

fn flaps(random: &mut ChaCha12Rng, start: Duration, end: Duration) -> Vec<(Duration, Duration)> {
    let (mut cuts, mut at) = (Vec::new(), start);
    while at < end {
        let mut next = |from| from + Duration::from_millis((draw::log_uniform(random, 0.3, 3.0) * 1e3) as u64);
        let until = next(at);
        cuts.push((at, until.min(end)));
        at = next(until);
    }
    cuts
}

/// Whether no transport would be affected twice, and half of every pair's stay untouched.
fn has_room(failure: &Failure, before: &[Failure], pairs: &[(usize, usize)]) -> bool {
    if !failure.kind.is_of_links() {
        return true;
    }
    let overlapping: Vec<&Failure> = before
        .iter()
        .rev()
        // Failures last a minute at most, and are in order of their starts.
        .take_while(|other| other.start + Duration::from_secs(70) > failure.start)
        .filter(|other| other.kind.is_of_links() && other.end + APART > failure.start)
        .collect();
    pairs.iter().all(|pair| {
        let taken = |medium| overlapping.iter().any(|other| other.affects(*pair, medium));
        let affected = (0..MEDIA_COUNT).filter(|medium| taken(*medium) || failure.affects(*pair, *medium)).count();
        let twice = (0..MEDIA_COUNT).any(|medium| taken(medium) && failure.affects(*pair, medium));
        affected <= MEDIA_COUNT / 2 && !twice
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_secs(168 * 3600);

    #[test]
    fn a_week_has_all_kinds_and_never_affects_more_than_half_of_a_pair() {
        let pairs = [(0, 1), (0, 2), (1, 2)];
        let failures = schedule(1, 2847, WEEK, &pairs);
        assert_eq!(failures.len(), 2847);
        assert!(failures.is_sorted_by_key(|failure| failure.start));
        for kind in FailureKind::ALL {
            let count = failures.iter().filter(|failure| failure.kind == kind).count();
            assert!((200..400).contains(&count), "{kind}: {count}");
        }
        for failure in &failures {
            for pair in pairs {
                let at_once = failures.iter().filter(|other| other.is_active(failure.start));
                let of = |medium| {
                    at_once.clone().filter(move |other| other.kind.is_of_links() && other.affects(pair, medium))
                };
                let affected: Vec<usize> = (0..MEDIA_COUNT).map(|medium| of(medium).count()).collect();
                assert!(
                    affected.iter().sum::<usize>() <= 2 && affected.iter().all(|count| *count <= 1),
                    "{affected:?}"
                );
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_failures_and_another_others() {
        let pairs = [(0, 1)];
        assert_eq!(schedule(5, 100, WEEK, &pairs), schedule(5, 100, WEEK, &pairs));
        assert_ne!(schedule(5, 100, WEEK, &pairs), schedule(6, 100, WEEK, &pairs));
        assert!(schedule(5, 100, Duration::from_secs(60), &pairs).is_empty());
    }

    #[test]
    fn a_one_way_failure_spares_the_other_direction_and_a_fading_link_ends_in_silence() {
        let failures = schedule(2, 400, WEEK, &[(0, 1)]);
        let one_way = failures.iter().find(|failure| failure.kind == FailureKind::OneWay).unwrap();
        let cut = [0, 1].map(|from| one_way.effect(one_way.start, from).cut.is_some());
        assert_eq!(cut.iter().filter(|cut| **cut).count(), 1);
        let fading = failures.iter().find(|failure| failure.kind == FailureKind::Fading).unwrap();
        assert_eq!(fading.effect(fading.start, 0), Effect::default());
        let last = fading.effect(fading.end - Duration::from_millis(1), 0);
        assert!(last.faded == 1.0 && last.cut.is_some());
        assert_eq!(fading.effect(fading.end, 0), Effect::default());
        assert!(fading.changes().len() > 30);
        let flapping = failures.iter().find(|failure| failure.kind == FailureKind::Flapping).unwrap();
        assert!(flapping.cuts.len() > 1 && flapping.cuts.is_sorted(), "{:?}", flapping.cuts);
    }
}
