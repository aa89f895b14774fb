//! Whether the group fell apart, as far as this node sees.
//!
//! *Suspected* and *split* are different things. Too few participants in reach is suspected at once when they were silent for `suspect_after`; nothing is
//! done. When it stands unchanged for a stable time, which grows with the group, it is a split and acted upon. Who may be active does not depend on
//! either: that is the lease's.
//!
//! Too few are fewer than the larger of `min_participants` and a share of the participants, rounded up; below five participants a plain
//! majority is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::PartitionConfig;
use bowline_messages::partition::{Side, SplitShape};

use super::lease::Configuration;
use super::views::Views;

/// From how many participants on the share counts instead of a plain majority.
const SHARE_FROM: usize = 5;
/// Those out of reach may change for so many stable times; then what is there is acted upon, flapping or not.
const UNSTABLE_MAX: u32 = 3;

/// What the detector says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectorOutput {
    /// Too few are in reach.
    Suspected {
        /// Who is not.
        missing: BTreeSet<PeerId>,
        /// How that looks.
        shape: SplitShape,
    },
    /// Enough are in reach again, before anything was done.
    Cleared {
        /// How long too few were.
        suspected: Duration,
    },
    /// It stood for the stable time.
    Split {
        /// Who is out of reach.
        missing: BTreeSet<PeerId>,
        /// How that looks.
        shape: SplitShape,
        /// On which side this node seems to be.
        side: Side,
    },
    /// Enough are in reach again.
    Healed {
        /// How long the split lasted, from the suspicion on.
        lasted: Duration,
        /// Whether it was none: somebody in reach heard every one of those missing, all the time.
        false_alarm: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Whole,
    Suspected { since: Instant, changed: Instant, missing: BTreeSet<PeerId> },
    Split { since: Instant, heard_throughout: bool },
}

/// The detector of one node.
#[derive(Debug)]
pub struct Detector {
    me: PeerId,
    config: PartitionConfig,
    /// When each other participant was heard last, from itself.
    heard: BTreeMap<PeerId, Instant>,
    /// Those that the membership or the transport says are gone, until they are heard again.
    lost: BTreeSet<PeerId>,
    state: State,
}

impl Detector {
    /// A detector that has heard everybody just now.
    pub fn new(me: PeerId, config: PartitionConfig, configuration: &Configuration, now: Instant) -> Self {
        let mut detector = Self { me, config, heard: BTreeMap::new(), lost: BTreeSet::new(), state: State::Whole };
        detector.adopt(now, configuration);
        detector
    }

    /// The participants changed.
    pub fn adopt(&mut self, now: Instant, configuration: &Configuration) {
        self.heard.retain(|peer, _| configuration.contains(peer));
        self.lost.retain(|peer| configuration.contains(peer));
        for peer in configuration.participants().iter().filter(|peer| **peer != self.me) {
            self.heard.entry(*peer).or_insert(now);
        }
    }

    /// Something came from this participant itself.
    pub fn on_heard(&mut self, now: Instant, peer: PeerId) {
        if let Some(at) = self.heard.get_mut(&peer) {
            *at = now;
            self.lost.remove(&peer);
        }
    }

    /// The membership, or the transport, is sure that this one is gone: its silence is not waited for.
    pub fn on_lost(&mut self, peer: PeerId) {
        if self.heard.contains_key(&peer) {
            self.lost.insert(peer);
        }
    }

    /// Looks at how it stands. To be called after anything above, and at [`Detector::deadline`].
    pub fn on_timeout(&mut self, now: Instant, configuration: &Configuration, views: &Views) -> Vec<DetectorOutput> {
        let missing = self.missing(now);
        let reached = configuration.participants().len() - missing.len();
        let few = !missing.is_empty() && reached < needed(&self.config, configuration.participants().len());
        let shape = self.shape(now, &missing, views);
        let bypassed = self.bypassed(now, &missing, views);
        match &mut self.state {
            State::Whole if few => {
                self.state = State::Suspected { since: now, changed: now, missing: missing.clone() };
                vec![DetectorOutput::Suspected { missing, shape }]
            }
            State::Suspected { since, .. } if !few => {
                let suspected = now.saturating_duration_since(*since);
                self.state = State::Whole;
                vec![DetectorOutput::Cleared { suspected }]
            }
            State::Suspected { since, changed, missing: before } => {
                if *before != missing {
                    *before = missing.clone();
                    *changed = now;
                }
                let (since, due) = (*since, due(&self.config, configuration, *since, *changed));
                if now < due {
                    return Vec::new();
                }
                self.state = State::Split { since, heard_throughout: bypassed };
                let reached = configuration.participants().difference(&missing);
                let side = if configuration.is_quorum(reached) { Side::Majority } else { Side::Minority };
                vec![DetectorOutput::Split { missing, shape, side }]
            }
            State::Split { since, heard_throughout } if !few => {
                let (lasted, false_alarm) = (now.saturating_duration_since(*since), *heard_throughout);
                self.state = State::Whole;
                vec![DetectorOutput::Healed { lasted, false_alarm }]
            }
            State::Split { heard_throughout, .. } => {
                *heard_throughout &= bypassed;
                Vec::new()
            }
            State::Whole => Vec::new(),
        }
    }

    /// When [`Detector::on_timeout`] may next say something without anything new; later than `now`, unless it is due.
    pub fn deadline(&self, now: Instant, configuration: &Configuration) -> Option<Instant> {
        // Those who are silent for longer are missing already.
        let heard = self.heard.iter().filter(|(peer, _)| !self.lost.contains(*peer));
        let silent = heard.map(|(_, at)| *at + self.config.suspect_after).filter(|at| *at > now).min();
        match &self.state {
            State::Whole | State::Split { .. } => silent,
            State::Suspected { since, changed, .. } => {
                let due = due(&self.config, configuration, *since, *changed);
                Some(silent.map_or(due, |silent| silent.min(due)))
            }
        }
    }

    /// Participants that are out of reach.
    pub fn missing(&self, now: Instant) -> BTreeSet<PeerId> {
        let silent = |at: &Instant| now.saturating_duration_since(*at) >= self.config.suspect_after;
        let out = self.heard.iter().filter(|(peer, at)| self.lost.contains(*peer) || silent(at));
        out.map(|(peer, _)| *peer).collect()
    }

    /// Whom this node hears, itself included.
    pub fn hears(&self, now: Instant, configuration: &Configuration) -> BTreeSet<PeerId> {
        configuration.participants().difference(&self.missing(now)).copied().collect()
    }

    /// Whether it is acted upon.
    pub const fn is_split(&self) -> bool {
        matches!(self.state, State::Split { .. })
    }

    /// Whether too few are in reach.
    pub const fn is_suspected(&self) -> bool {
        !matches!(self.state, State::Whole)
    }

    /// How the part that is out of reach looks.
    pub fn shape(&self, now: Instant, missing: &BTreeSet<PeerId>, views: &Views) -> SplitShape {
        // A missing one that says it hears this node: its words come around another way.
        let hears_me = |peer: &PeerId| views.heard_by(now, peer).is_some_and(|heard| heard.contains(&self.me));
        let deaf = |(peer, _): (&PeerId, &Instant)| {
            !missing.contains(peer) && views.heard_by(now, peer).is_some_and(|heard| !heard.contains(&self.me))
        };
        if missing.iter().any(hears_me) || self.heard.iter().any(deaf) {
            return SplitShape::OneWay;
        }
        let reaches_some = |peer: &PeerId| views.heard_by(now, peer).is_some_and(|heard| !heard.is_disjoint(missing));
        let partial = self.heard.keys().filter(|peer| !missing.contains(peer)).any(reaches_some);
        if partial { SplitShape::Partial } else { SplitShape::Clean }
    }

    /// Whether somebody in reach hears every one of those missing.
    fn bypassed(&self, now: Instant, missing: &BTreeSet<PeerId>, views: &Views) -> bool {
        let in_reach = || self.heard.keys().filter(|peer| !missing.contains(peer));
        let heard_by = |peer: &PeerId, other: &PeerId| views.heard_by(now, peer).is_some_and(|of| of.contains(other));
        missing.iter().all(|lost| in_reach().any(|peer| heard_by(peer, lost)))
    }
}

/// How many participants have to be in reach.
pub fn needed(config: &PartitionConfig, participants: usize) -> usize {
    let share = if participants < SHARE_FROM {
        participants / 2 + 1
    } else {
        let percent = usize::try_from(config.reachable_percent.min(100)).unwrap_or(100);
        (participants * percent).div_ceil(100)
    };
    share.max(config.min_participants).min(participants)
}

/// How long a suspicion has to stand: longer by a step for each doubling of the group beyond two.
pub fn stable(config: &PartitionConfig, participants: usize) -> Duration {
    config.stable + config.stable_step.mul_f64((participants.max(2) as f64 / 2.0).log2())
}

fn due(config: &PartitionConfig, configuration: &Configuration, since: Instant, changed: Instant) -> Instant {
    let stable = stable(config, configuration.participants().len());
    (changed + stable).min(since + stable * UNSTABLE_MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::views::{Number, View};
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const BEAT: Duration = Duration::from_millis(500);

    #[test]
    fn below_five_a_majority_is_enough_and_above_it_is_two_thirds() {
        let config = PartitionConfig { min_participants: 1, ..PartitionConfig::default() };
        let needs: Vec<usize> = (1..=10).map(|n| needed(&config, n)).collect();
        assert_eq!(needs, [1, 2, 2, 3, 4, 5, 5, 6, 7, 7]);
        assert_eq!(needed(&PartitionConfig { min_participants: 3, ..config.clone() }, 3), 3);
        assert_eq!(needed(&PartitionConfig { min_participants: 9, ..config }, 3), 3, "all of them are enough");
    }

    #[test]
    fn a_split_is_suspected_in_three_seconds_and_acted_upon_in_eight() {
        let mut node = Node::new(5);
        let start = node.now;
        let said = node.run(40, |n, _| n >= 3);
        let [(suspected, DetectorOutput::Suspected { .. }), (split, DetectorOutput::Split { missing, shape, side })] =
            &said[..]
        else {
            panic!("{said:?}")
        };
        assert!(*suspected - start <= Duration::from_secs(3), "{:?}", *suspected - start);
        assert!(*split - start <= Duration::from_secs(8), "{:?}", *split - start);
        assert_eq!((missing.len(), *shape, *side), (2, SplitShape::Clean, Side::Majority));
        let said = node.run(4, |_, _| false);
        assert!(matches!(said[..], [(_, DetectorOutput::Healed { false_alarm: false, .. })]), "{said:?}");
    }

    #[test]
    fn a_blip_is_suspected_and_cleared() {
        let said = Node::new(5).run(30, |n, beat| n >= 2 && beat < 8);
        assert!(
            matches!(said[..], [(_, DetectorOutput::Suspected { .. }), (_, DetectorOutput::Cleared { .. })]),
            "{said:?}"
        );
    }

    #[test]
    fn one_of_five_that_is_gone_is_no_partition() {
        assert_eq!(Node::new(5).run(100, |n, _| n == 4), []);
    }

    #[test]
    fn those_that_flap_are_acted_upon_all_the_same() {
        let said = Node::new(5).run(60, |n, beat| n == 3 || n == 4 || (n == 2 && beat / 6 % 2 == 0));
        assert!(matches!(said[..], [_, (_, DetectorOutput::Split { .. })]), "{said:?}");
    }

    #[test]
    fn a_partial_and_a_one_way_partition_are_known_as_such() {
        let mut node = Node::new(5);
        node.run(12, |n, _| n >= 3);
        let missing = node.detector.missing(node.now);
        let shape = |node: &Node| node.detector.shape(node.now, &missing, &node.views);
        node.says(2, 0..5);
        assert_eq!(shape(&node), SplitShape::Partial);
        node.says(3, [0, 2, 3]);
        assert_eq!(shape(&node), SplitShape::OneWay);
        let mut node = Node::new(5);
        node.says(1, [1, 2, 3, 4]);
        assert_eq!(node.detector.shape(node.now, &BTreeSet::new(), &node.views), SplitShape::OneWay, "1 is deaf");
    }

    #[test]
    fn what_a_neighbour_heard_all_the_time_was_a_false_alarm() {
        let mut node = Node::new(5);
        let mut said = Vec::new();
        for beat in 0..40 {
            node.says(1, 0..5);
            said.extend(node.run(1, |n, _| n >= 3 && beat < 30));
        }
        assert!(matches!(said.last(), Some((_, DetectorOutput::Healed { false_alarm: true, .. }))), "{said:?}");
    }

    /// A month of a group of five over links that lose a hundredth, and every hour or so nearly everything for seconds.
    fn false_partitions(days: u64, seed: u64) -> usize {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut outage = [0_u64; 5];
        let mut node = Node::new(5);
        let said = node.run(days * 24 * 3_600 * 2, |n, beat| {
            // About 25 a day on each link; half of them shorter than 2 s, one in a hundred longer than 15 s.
            if rng.random_ratio(1, 6_900) {
                let seconds = -rng.random::<f64>().max(1e-9).ln() * 3.0;
                outage[n] = beat + (seconds * 2.0) as u64;
            }
            if beat < outage[n] { rng.random_ratio(9, 10) } else { rng.random_ratio(1, 100) }
        });
        said.iter().filter(|(_, output)| matches!(output, DetectorOutput::Split { .. })).count()
    }

    #[test]
    fn loss_makes_no_partition() {
        assert_eq!(false_partitions(1, 1), 0);
    }

    #[test]
    #[ignore = "takes a minute; make test-long runs it"]
    fn loss_makes_at_most_one_partition_a_month() {
        let months: Vec<usize> = (0..12).map(|seed| false_partitions(30, seed)).collect();
        println!("false partitions in each of twelve months: {months:?}");
        assert!(months.iter().sum::<usize>() <= 12, "{months:?}");
    }

    struct Node {
        detector: Detector,
        configuration: Configuration,
        views: Views,
        now: Instant,
        count: u64,
    }

    impl Node {
        fn new(nodes: u8) -> Self {
            let configuration = Configuration::new(1, (0..nodes).map(peer).collect(), None).unwrap();
            let (config, now) = (PartitionConfig::default(), Instant::now());
            let views = Views::new(config.view_expiry);
            let detector = Detector::new(peer(0), config, &configuration, now);
            Self { detector, configuration, views, now, count: 0 }
        }

        /// Lets so many beats of the others come, but those that are lost.
        fn run(&mut self, beats: u64, mut lost: impl FnMut(usize, u64) -> bool) -> Vec<(Instant, DetectorOutput)> {
            let mut said = Vec::new();
            for beat in 0..beats {
                self.now += BEAT;
                for n in 1..self.configuration.participants().len() {
                    if !lost(n, beat) {
                        self.detector.on_heard(self.now, peer(u8::try_from(n).unwrap()));
                    }
                }
                let outputs = self.detector.on_timeout(self.now, &self.configuration, &self.views);
                said.extend(outputs.into_iter().map(|output| (self.now, output)));
            }
            said
        }

        fn says(&mut self, n: u8, heard: impl IntoIterator<Item = u8>) {
            self.count += 1;
            let heard = heard.into_iter().map(peer).collect();
            let view = View::new(&self.configuration, &heard, false, &BTreeMap::new());
            let number = Number { incarnation: 1, count: self.count };
            self.views.merge(self.now, &self.configuration, peer(n), number, &view);
        }
    }

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }
}
