//! Which link carries a message: one trait, one line of registration each. Pure.
//!
//! All policies share the damping against flapping: a link is left for a better one only when that is better by a margin and the
//! last change is some time ago, and a link that failed lately counts as slower until the penalty has decayed.

use std::time::{Duration, Instant};

use bowline_messages::{LinkId, PolicyName};

/// Against flapping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Damping {
    /// How much better another link has to be, as a share of the present one's expected delay.
    pub margin: f64,
    /// A difference below this is none, whatever its share.
    pub margin_min: Duration,
    /// How long a choice stands at least, failures aside.
    pub dwell: Duration,
    /// What each failure adds to a link's penalty.
    pub penalty: f64,
    /// The time in which a penalty halves.
    pub half_life: Duration,
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            margin: 0.25,
            margin_min: Duration::from_millis(2),
            dwell: Duration::from_secs(2),
            penalty: 1.0,
            half_life: Duration::from_secs(20),
        }
    }
}

/// The decaying memory of a link's failures.
#[derive(Debug, Clone, Copy)]
pub struct Penalty {
    value: f64,
    at: Instant,
}

impl Penalty {
    /// The greatest penalty: more failures change nothing any more.
    const MAX: f64 = 8.0;

    /// No failure so far.
    pub fn none(now: Instant) -> Self {
        Self { value: 0.0, at: now }
    }

    /// The penalty now: 0 without failures, halving with every half-life.
    pub fn value(&self, now: Instant, damping: &Damping) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.value * 0.5_f64.powf(elapsed / damping.half_life.as_secs_f64().max(1e-3))
    }

    /// Notes a failure.
    pub fn on_failure(&mut self, now: Instant, damping: &Damping) {
        self.value = (self.value(now, damping) + damping.penalty).min(Self::MAX);
        self.at = now;
    }
}

/// What a policy knows of a link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The link.
    pub link: LinkId,
    /// Expected time to delivery of a small message, in seconds; `None` as long as it is not measured.
    pub delay: Option<f64>,
    /// Time that what is already in flight on it needs, in seconds.
    pub backlog: f64,
    /// Bytes that may be put on it now.
    pub room: usize,
    /// Whether it is suspected just now.
    pub suspected: bool,
    /// The memory of its failures, 0 and up.
    pub penalty: f64,
}

impl Candidate {
    /// What the policies go by, in seconds: finite whatever was measured, suspected and unmeasured links last.
    fn cost(&self) -> f64 {
        /// What a link that was not measured is taken for; the session measures it at once.
        const UNMEASURED_SECONDS: f64 = 10.0;
        /// Longer than any delay: a suspected link is taken only when there is no other.
        const SUSPECTED_SECONDS: f64 = 1_000.0;
        let delay = self.delay.filter(|d| d.is_finite() && *d >= 0.0).unwrap_or(UNMEASURED_SECONDS);
        let penalty = if self.penalty.is_finite() { self.penalty.max(0.0) } else { 0.0 };
        let delay = (delay * (1.0 + penalty)).min(SUSPECTED_SECONDS);
        if self.suspected { SUSPECTED_SECONDS + delay } else { delay }
    }
}

/// A policy's answer: the links to use, best first, and the rule in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// At most two links; more than one means a copy on each.
    pub links: [Option<LinkId>; 2],
    /// The rule that decided.
    pub rule: &'static str,
}

/// The last choice of a policy that was subject to damping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The chosen link.
    pub link: LinkId,
    /// Since when.
    pub since: Instant,
}

/// Chooses links for messages.
pub trait Policy {
    /// Its name in configuration and reports.
    fn name(&self) -> PolicyName;

    /// Chooses among usable links; none means that the message waits.
    fn choose(&self, now: Instant, links: &[Candidate], standing: Option<Standing>, damping: &Damping) -> Choice;
}

/// The policy of this name.
pub fn policy(name: PolicyName) -> &'static dyn Policy {
    match name {
        PolicyName::FastestFirst => &FastestFirst,
        PolicyName::LoadBalanced => &LoadBalanced,
        PolicyName::Redundant => &Redundant,
    }
}

fn best(links: &[Candidate], not: Option<LinkId>) -> Option<&Candidate> {
    links
        .iter()
        .filter(|candidate| Some(candidate.link) != not)
        .min_by(|a, b| a.cost().total_cmp(&b.cost()).then(a.link.cmp(&b.link)))
}

/// The link with the smallest expected time to delivery.
struct FastestFirst;

impl Policy for FastestFirst {
    fn name(&self) -> PolicyName {
        PolicyName::FastestFirst
    }

    fn choose(&self, now: Instant, links: &[Candidate], standing: Option<Standing>, damping: &Damping) -> Choice {
        let Some(best) = best(links, None) else { return Choice { links: [None; 2], rule: "no usable link" } };
        let present = standing.and_then(|s| Some((s, links.iter().find(|c| c.link == s.link)?)));
        let Some((standing, present)) = present.filter(|(_, c)| c.link != best.link && !c.suspected) else {
            return Choice { links: [Some(best.link), None], rule: "smallest expected delay" };
        };
        let stay = |rule| Choice { links: [Some(present.link), None], rule };
        let gain = present.cost() - best.cost();
        if gain < present.cost() * damping.margin || gain < damping.margin_min.as_secs_f64() {
            return stay("kept: the best is not better by the margin");
        }
        if present.delay.is_some() && now.saturating_duration_since(standing.since) < damping.dwell {
            return stay("kept: changed too lately");
        }
        Choice { links: [Some(best.link), None], rule: "smallest expected delay, by more than the margin" }
    }
}

/// Spread over all links with room, so that all become free at the same time.
struct LoadBalanced;

impl Policy for LoadBalanced {
    fn name(&self) -> PolicyName {
        PolicyName::LoadBalanced
    }

    fn choose(&self, _: Instant, links: &[Candidate], _: Option<Standing>, _: &Damping) -> Choice {
        let finish = |c: &Candidate| c.cost() + if c.backlog.is_finite() { c.backlog.max(0.0) } else { 0.0 };
        let trusted = |c: &&Candidate| c.room > 0 && (!c.suspected || links.iter().all(|other| other.suspected));
        let chosen =
            links.iter().filter(trusted).min_by(|a, b| finish(a).total_cmp(&finish(b)).then(a.link.cmp(&b.link)));
        match chosen {
            Some(candidate) => {
                Choice { links: [Some(candidate.link), None], rule: "earliest expected arrival with room" }
            }
            None => Choice { links: [None; 2], rule: "no link has room" },
        }
    }
}

/// A copy on each of the two best links.
struct Redundant;

impl Policy for Redundant {
    fn name(&self) -> PolicyName {
        PolicyName::Redundant
    }

    fn choose(&self, _: Instant, links: &[Candidate], _: Option<Standing>, _: &Damping) -> Choice {
        let first = best(links, None).map(|c| c.link);
        let second = first.and_then(|first| best(links, Some(first))).map(|c| c.link);
        let rule = if second.is_some() { "a copy on each of the two best" } else { "only one link is usable" };
        Choice { links: [first, second], rule }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn link(id: u32, delay_ms: f64) -> Candidate {
        let delay = Some(delay_ms / 1e3);
        Candidate { link: LinkId(id), delay, backlog: 0.0, room: 1, suspected: false, penalty: 0.0 }
    }

    fn fastest(now: Instant, links: &[Candidate], standing: Option<Standing>) -> Option<LinkId> {
        policy(PolicyName::FastestFirst).choose(now, links, standing, &Damping::default()).links[0]
    }

    #[test]
    fn a_choice_is_left_only_by_margin_and_after_its_dwell() {
        let start = Instant::now();
        let standing = Some(Standing { link: LinkId(1), since: start });
        let later = start + Duration::from_secs(3);
        assert_eq!(fastest(later, &[link(1, 20.0), link(2, 18.0)], standing), Some(LinkId(1)));
        assert_eq!(fastest(later, &[link(1, 20.0), link(2, 10.0)], standing), Some(LinkId(2)));
        assert_eq!(fastest(start, &[link(1, 20.0), link(2, 10.0)], standing), Some(LinkId(1)));
        assert_eq!(fastest(later, &[link(1, 1.0), link(2, 0.1)], standing), Some(LinkId(1)), "below a real difference");
    }

    #[test]
    fn a_suspected_or_vanished_link_is_left_at_once() {
        let now = Instant::now();
        let standing = Some(Standing { link: LinkId(1), since: now });
        let suspected = Candidate { suspected: true, ..link(1, 1.0) };
        assert_eq!(fastest(now, &[suspected, link(2, 500.0)], standing), Some(LinkId(2)));
        assert_eq!(fastest(now, &[link(2, 500.0)], standing), Some(LinkId(2)));
        assert_eq!(fastest(now, &[suspected], standing), Some(LinkId(1)), "better than none");
    }

    #[test]
    fn a_link_that_failed_lately_counts_as_slower_until_that_decays() {
        let damping = Damping::default();
        let start = Instant::now();
        let mut penalty = Penalty::none(start);
        penalty.on_failure(start, &damping);
        penalty.on_failure(start, &damping);
        let flapper = |now| Candidate { penalty: penalty.value(now, &damping), ..link(1, 10.0) };
        assert_eq!(fastest(start, &[flapper(start), link(2, 20.0)], None), Some(LinkId(2)));
        let later = start + damping.half_life * 6;
        assert_eq!(fastest(later, &[flapper(later), link(2, 20.0)], None), Some(LinkId(1)));
    }

    #[test]
    fn load_is_spread_by_when_each_link_would_be_done() {
        let now = Instant::now();
        let busy = Candidate { backlog: 0.05, ..link(1, 5.0) };
        let full = Candidate { room: 0, ..link(3, 1.0) };
        let choice =
            policy(PolicyName::LoadBalanced).choose(now, &[busy, link(2, 30.0), full], None, &Damping::default());
        assert_eq!(choice.links, [Some(LinkId(2)), None]);
    }

    #[test]
    fn redundant_takes_the_two_best() {
        let links = [link(1, 30.0), link(2, 10.0), link(3, 20.0)];
        let choice = policy(PolicyName::Redundant).choose(Instant::now(), &links, None, &Damping::default());
        assert_eq!(choice.links, [Some(LinkId(2)), Some(LinkId(3))]);
    }

    prop_compose! {
        fn any_candidate()(
            id in 0u32..8,
            delay in prop::option::of(any::<f64>()),
            backlog in any::<f64>(),
            room in 0usize..2,
            suspected in any::<bool>(),
            penalty in any::<f64>(),
        ) -> Candidate {
            Candidate { link: LinkId(id), delay, backlog, room, suspected, penalty }
        }
    }

    proptest! {
        #[test]
        fn whatever_was_measured_a_usable_link_is_chosen_and_the_cost_is_finite(
            links in prop::collection::vec(any_candidate(), 1..8),
            standing in 0u32..8,
        ) {
            let now = Instant::now();
            prop_assert!(links.iter().all(|c| c.cost().is_finite() && c.cost() >= 0.0));
            let standing = Some(Standing { link: LinkId(standing), since: now });
            prop_assert!(fastest(now, &links, standing).is_some());
            let two = policy(PolicyName::Redundant).choose(now, &links, None, &Damping::default());
            prop_assert!(two.links[0].is_some());
            prop_assert!(two.links[1].is_none() || two.links[0] != two.links[1]);
            policy(PolicyName::LoadBalanced).choose(now, &links, None, &Damping::default());
        }

        #[test]
        fn noise_does_not_make_it_flap(noise in prop::collection::vec(-2.0f64..2.0, 200)) {
            let start = Instant::now();
            let mut standing: Option<Standing> = None;
            let mut changes = 0;
            for (step, noise) in noise.iter().enumerate() {
                let now = start + Duration::from_millis(100) * step as u32;
                let chosen = fastest(now, &[link(1, 20.0 + noise), link(2, 20.0 - noise)], standing).unwrap();
                if standing.is_none_or(|s| s.link != chosen) {
                    standing = Some(Standing { link: chosen, since: now });
                    changes += 1;
                }
            }
            prop_assert_eq!(changes, 1);
        }
    }
}
