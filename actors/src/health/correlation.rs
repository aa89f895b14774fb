//! Links that share an interface or a medium fall together: one cause, reported once.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bowline_messages::health::{Confidence, Finding, Layer, Rule, Shared};
use bowline_messages::link::Medium;

/// The most falls that are remembered.
const FALLS_MAX: usize = 256;
/// The most links that are watched; more are not correlated.
const LINKS_MAX: usize = 1_024;

/// A cause that several links share.
#[derive(Debug, Clone, PartialEq)]
pub struct CommonCause<K> {
    /// What they share.
    pub shared: Shared,
    /// Those that fell, in order of their names.
    pub links: Vec<K>,
    /// What is said of each of them.
    pub finding: Finding,
}

#[derive(Debug, Clone)]
struct Watched {
    shared: Vec<Shared>,
    down: bool,
    /// It will not come back; it counts as long as its fall is remembered.
    gone: bool,
}

#[derive(Debug, Clone)]
struct Fall<K> {
    at: Instant,
    link: K,
}

/// Watches links fall, each known by a name of type `K`.
#[derive(Debug, Clone)]
pub struct Correlator<K> {
    within: Duration,
    least: f64,
    links: BTreeMap<K, Watched>,
    falls: VecDeque<Fall<K>>,
    /// Causes that were reported, and until when the same is not reported again.
    reported: BTreeMap<Shared, Instant>,
}

impl<K: Ord + Copy> Correlator<K> {
    /// Falls `within` this of each other may have one cause; it is reported once it is as sure as `least`, 0 to 1.
    pub fn new(within: Duration, least: f64) -> Self {
        Self { within, least, links: BTreeMap::new(), falls: VecDeque::new(), reported: BTreeMap::new() }
    }

    /// A link is there.
    pub fn on_link(&mut self, link: K, interface: Option<&str>, medium: Medium) {
        if self.links.len() >= LINKS_MAX && !self.links.contains_key(&link) {
            return;
        }
        let mut shared: Vec<Shared> = interface.map(|name| Shared::Interface(name.to_owned())).into_iter().collect();
        if medium != Medium::Unknown {
            shared.push(Shared::Medium(medium));
        }
        let down = self.links.get(&link).is_some_and(|known| known.down && !known.gone);
        self.links.insert(link, Watched { shared, down, gone: false });
    }

    /// A link is gone for good. If it fell, that still counts for a while.
    pub fn on_removed(&mut self, now: Instant, link: K) {
        if let Some(watched) = self.links.get_mut(&link) {
            watched.gone = true;
        }
        self.forget_gone(now);
    }

    fn forget_gone(&mut self, now: Instant) {
        let within = self.within;
        self.falls.retain(|fall| now.saturating_duration_since(fall.at) <= within);
        let falls = &self.falls;
        self.links.retain(|link, watched| !watched.gone || falls.iter().any(|fall| fall.link == *link));
    }

    /// How many links are watched.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// A link works (again).
    pub fn on_up(&mut self, link: K) {
        if let Some(watched) = self.links.get_mut(&link) {
            watched.down = false;
        }
        self.falls.retain(|fall| fall.link != link);
        let links = &self.links;
        // Once one of them works again, another fall of theirs is another event.
        self.reported.retain(|shared, _| links.get(&link).is_none_or(|watched| !watched.shared.contains(shared)));
    }

    /// A link fell. The cause that it shares with others that just fell, once per cause; the narrower one (interface before medium)
    /// when both fit.
    pub fn on_fall(&mut self, now: Instant, link: K) -> Option<CommonCause<K>> {
        let watched = self.links.get_mut(&link)?;
        if watched.down {
            return None;
        }
        watched.down = true;
        let candidates = watched.shared.clone();
        self.falls.retain(|fall| fall.link != link);
        self.forget_gone(now);
        if self.falls.len() >= FALLS_MAX {
            self.falls.pop_front();
        }
        self.falls.push_back(Fall { at: now, link });
        self.reported.retain(|_, until| *until > now);
        if candidates.iter().any(|shared| self.reported.contains_key(shared)) {
            return None;
        }
        candidates.into_iter().find_map(|shared| self.common(now, shared))
    }

    fn common(&mut self, now: Instant, shared: Shared) -> Option<CommonCause<K>> {
        let has = |link: &K| self.links.get(link).is_some_and(|watched| watched.shared.contains(&shared));
        let mut links: Vec<K> = self.falls.iter().map(|fall| fall.link).filter(has).collect();
        links.sort_unstable();
        let fell = links.len();
        let all = self.links.values().filter(|watched| watched.shared.contains(&shared)).count();
        // All of them, or most of several: two of five have their own troubles.
        if fell < 2 || fell * 2 <= all {
            return None;
        }
        let confidence = self.confidence(fell, all, &shared);
        if confidence.value() < self.least {
            return None;
        }
        // Whatever else these links share is part of the same event.
        let until = now.checked_add(self.within)?;
        let parts = links.iter().filter_map(|link| self.links.get(link)).flat_map(|watched| watched.shared.iter());
        self.reported.extend(parts.map(|part| (part.clone(), until)));
        let finding = Finding::new(Layer::Correlation, Rule::FellTogether, confidence, &[fell as f64, all as f64]);
        Some(CommonCause { shared, links, finding })
    }

    /// The more of those that share it fell, and the fewer others did, the surer.
    fn confidence(&self, fell: usize, all: usize, shared: &Shared) -> Confidence {
        let others = self
            .falls
            .iter()
            .filter(|fall| self.links.get(&fall.link).is_some_and(|watched| !watched.shared.contains(shared)));
        let (fell, all, others) = (fell as f64, all as f64, others.count() as f64);
        Confidence::new(fell / all * (1.0 - 0.5_f64.powf(fell)) * fell / (fell + others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_messages::LinkId;

    const WITHIN: Duration = Duration::from_millis(500);

    /// Links 1 to 3 over `wlan0`, 4 over `wlan1`, 5 over `eth0`.
    fn correlator() -> Correlator<LinkId> {
        let mut correlator = Correlator::new(WITHIN, 0.3);
        for (number, interface, medium) in [
            (1, "wlan0", Medium::Wifi),
            (2, "wlan0", Medium::Wifi),
            (3, "wlan0", Medium::Wifi),
            (4, "wlan1", Medium::Wifi),
            (5, "eth0", Medium::Ethernet),
        ] {
            correlator.on_link(LinkId(number), Some(interface), medium);
        }
        correlator
    }

    #[test]
    fn links_over_one_interface_that_fall_together_are_reported_once() {
        let now = Instant::now();
        let mut correlator = correlator();
        assert_eq!(correlator.on_fall(now, LinkId(1)), None);
        let cause = correlator.on_fall(now + WITHIN / 2, LinkId(3)).unwrap();
        assert_eq!((cause.shared, cause.links), (Shared::Interface("wlan0".into()), vec![LinkId(1), LinkId(3)]));
        assert_eq!(correlator.on_fall(now + WITHIN / 2, LinkId(2)), None, "the same cause");
        assert_eq!(correlator.on_fall(now + WITHIN / 2, LinkId(2)), None, "it is down already");
        assert_eq!(correlator.on_fall(now + WITHIN / 2, LinkId(4)), None, "the medium is part of it");
    }

    #[test]
    fn a_medium_that_falls_over_several_interfaces_is_one_cause() {
        let now = Instant::now();
        let mut correlator = correlator();
        correlator.on_removed(now, LinkId(2));
        correlator.on_removed(now, LinkId(3));
        assert_eq!(correlator.on_fall(now, LinkId(1)), None);
        assert_eq!(correlator.on_fall(now, LinkId(4)).unwrap().shared, Shared::Medium(Medium::Wifi));
    }

    #[test]
    fn a_link_that_is_closed_when_it_falls_counts_for_a_moment_and_not_longer() {
        let now = Instant::now();
        let mut correlator = correlator();
        assert_eq!(correlator.on_fall(now, LinkId(1)), None);
        correlator.on_removed(now, LinkId(1));
        assert_eq!(correlator.on_fall(now + WITHIN / 2, LinkId(2)).unwrap().links, vec![LinkId(1), LinkId(2)]);
        correlator.on_removed(now + WITHIN / 2, LinkId(2));
        correlator.on_removed(now + WITHIN * 3, LinkId(5));
        assert_eq!(correlator.links.keys().copied().collect::<Vec<_>>(), vec![LinkId(3), LinkId(4)]);
    }

    #[test]
    fn links_that_fall_apart_or_have_nothing_in_common_have_their_own_causes() {
        let now = Instant::now();
        let mut correlator = correlator();
        assert_eq!(correlator.on_fall(now, LinkId(1)), None);
        assert_eq!(correlator.on_fall(now, LinkId(5)), None);
        assert_eq!(correlator.on_fall(now + WITHIN * 2, LinkId(2)), None);
        assert_eq!(correlator.on_fall(now, LinkId(77)), None, "not watched");
    }

    #[test]
    fn after_a_recovery_the_next_common_fall_is_reported_again() {
        let now = Instant::now();
        let mut correlator = correlator();
        correlator.on_fall(now, LinkId(1));
        assert!(correlator.on_fall(now, LinkId(2)).is_some());
        correlator.on_up(LinkId(1));
        correlator.on_up(LinkId(2));
        assert_eq!(correlator.on_fall(now, LinkId(1)), None);
        assert!(correlator.on_fall(now, LinkId(2)).is_some());
    }

    #[test]
    fn a_cause_is_reported_once_it_is_sure_enough() {
        let now = Instant::now();
        let mut correlator = Correlator { least: 0.6, ..correlator() };
        assert_eq!(correlator.on_fall(now, LinkId(1)), None);
        assert_eq!(correlator.on_fall(now, LinkId(2)), None, "two of three");
        assert_eq!(correlator.on_fall(now, LinkId(3)).unwrap().links.len(), 3);
    }

    #[test]
    fn the_more_fell_the_surer_and_falls_elsewhere_make_less_sure() {
        let now = Instant::now();
        let mut first = correlator();
        let mut second = correlator();
        second.on_fall(now, LinkId(5));
        for correlator in [&mut first, &mut second] {
            correlator.on_fall(now, LinkId(1));
        }
        let (alone, beside) = (first.on_fall(now, LinkId(2)).unwrap(), second.on_fall(now, LinkId(2)).unwrap());
        assert!(alone.finding.confidence > beside.finding.confidence);
    }
}
