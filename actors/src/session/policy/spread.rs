//! Messages spread over several links by shares: the distributions.
//!
//! Which link gets a message is read off the golden-ratio sequence: the fraction of `turn / φ` falls into each link's share as often as
//! the share says, and more evenly than any draw would (van der Corput's idea, with the irrational number that is hardest to
//! approximate). So no policy keeps counters.

use bowline_messages::{LinkId, PolicyName};

use super::{Candidate, Choice, Policy, Request, Score, Worth, measured, weighted};

/// 1 / φ.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Where in 0 to 1 a turn falls.
pub(super) fn place(turn: u64) -> f64 {
    (turn as f64 * GOLDEN).fract()
}

/// Those among which load is spread: links with room that are not suspected, or else all.
fn eligible<'a>(links: &'a [Candidate]) -> impl Iterator<Item = &'a Candidate> + Clone + 'a {
    let any = links.iter().any(|c| !c.suspected);
    let roomy = links.iter().any(|c| c.room > 0 && (!c.suspected || !any));
    let leave = links.iter().any(|c| c.room > 0 && !c.suspected && !c.leaving);
    links.iter().filter(move |c| (!any || !c.suspected) && (!roomy || c.room > 0) && (!leave || !c.leaving))
}

/// The link whose share the turn falls into. Links without a share get none as long as another has one; failures of late make a share
/// smaller.
pub(super) fn by_share(
    turn: u64,
    links: &[Candidate],
    rule: &'static str,
    share: impl Fn(&Candidate) -> Option<f64>,
) -> Choice {
    let share = |c: &Candidate| measured(share(c)).unwrap_or(0.0).min(1e18) / c.setback();
    let sum: f64 = eligible(links).map(&share).sum();
    let share = |c: &Candidate| if sum > 0.0 { share(c) / sum } else { 1.0 };
    let sum = if sum > 0.0 { 1.0 } else { eligible(links).count() as f64 };
    let mut left = place(turn) * sum;
    let mut chosen: Option<LinkId> = None;
    for candidate in eligible(links) {
        let part = share(candidate);
        if part > 0.0 {
            // The last one with a share, should rounding leave something over.
            chosen = Some(candidate.link);
            if left < part {
                break;
            }
        }
        left -= part;
    }
    Choice { links: [chosen, None], rule: if chosen.is_some() { rule } else { "no usable link" } }
}

/// One after the other.
pub(super) struct RoundRobin;

impl Policy for RoundRobin {
    fn name(&self) -> PolicyName {
        PolicyName::RoundRobin
    }

    fn rule(&self) -> &'static str {
        "one after the other"
    }

    fn spreads(&self) -> bool {
        true
    }

    fn worth(&self, _: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        Worth::of(&links[at], measured(links[at].forecast).map(|_| Score::BEST))
    }

    fn choose(&self, request: &Request<'_>, links: &[Candidate]) -> Choice {
        let count = eligible(links).count().max(1) as u64;
        let chosen = eligible(links).nth((request.turn % count) as usize);
        Choice { links: [chosen.map(|c| c.link), None], rule: self.rule() }
    }
}

/// In proportion to what each link can carry.
pub(super) struct WeightedRoundRobin;

impl Policy for WeightedRoundRobin {
    fn name(&self) -> PolicyName {
        PolicyName::WeightedRoundRobin
    }

    fn rule(&self) -> &'static str {
        "in proportion to bandwidth"
    }

    fn spreads(&self) -> bool {
        true
    }

    fn worth(&self, _: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let most = links.iter().filter_map(|c| measured(c.bandwidth)).fold(0.0, f64::max);
        Worth::of(&links[at], measured(links[at].bandwidth).map(|rate| Score::new(rate / most.max(1.0))))
    }

    fn choose(&self, request: &Request<'_>, links: &[Candidate]) -> Choice {
        by_share(request.turn, links, self.rule(), |c| c.bandwidth)
    }
}

/// The link on which least is under way, by its share of what may be.
pub(super) struct LeastConnections;

impl Policy for LeastConnections {
    fn name(&self) -> PolicyName {
        PolicyName::LeastConnections
    }

    fn rule(&self) -> &'static str {
        "least under way"
    }

    fn spreads(&self) -> bool {
        true
    }

    fn worth(&self, _: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        Worth::of(&links[at], measured(links[at].load).map(|load| Score::new(1.0 - load)))
    }

    fn choose(&self, request: &Request<'_>, links: &[Candidate]) -> Choice {
        let load = |c: &Candidate| measured(c.load).unwrap_or(f64::MAX);
        let least = eligible(links).map(load).fold(f64::INFINITY, f64::min);
        // Links that are as empty as each other take turns.
        by_share(request.turn, links, self.rule(), |c| (load(c) <= least).then_some(1.0))
    }
}

/// In proportion to the score by requirements.
pub(super) struct QualityBased;

impl Policy for QualityBased {
    fn name(&self) -> PolicyName {
        PolicyName::QualityBased
    }

    fn rule(&self) -> &'static str {
        "in proportion to quality"
    }

    fn spreads(&self) -> bool {
        true
    }

    fn goes_by_requirements(&self) -> bool {
        true
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        weighted::Weighted.worth(request, links, at)
    }

    fn choose(&self, request: &Request<'_>, links: &[Candidate]) -> Choice {
        by_share(request.turn, links, self.rule(), |c| {
            weighted::quality(c, request.requirements, request.weights).map(Score::value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(id: u32, bandwidth: f64) -> Candidate {
        Candidate { bandwidth: Some(bandwidth), room: 1, ..Candidate::unmeasured(LinkId(id)) }
    }

    #[test]
    fn shares_are_kept_and_nobody_waits_long() {
        let links = [link(1, 1.0), link(2, 2.0), link(3, 5.0)];
        let mut counts = [0_i32; 3];
        for turn in 0..800_u32 {
            let choice = by_share(turn.into(), &links, "", |c| c.bandwidth);
            counts[choice.links[0].map_or(0, |id| id.0) as usize - 1] += 1;
            let expected = [1, 2, 5].map(|share| (turn as i32 + 1) * share / 8);
            for (count, expected) in counts.iter().zip(expected) {
                assert!((count - expected).abs() <= 3, "{counts:?} after {turn}");
            }
        }
        assert!((99..=101).contains(&counts[0]) && (499..=501).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn a_link_without_a_share_gets_messages_only_when_none_has_one() {
        let (known, unknown) = (link(1, 5.0), Candidate { bandwidth: None, ..link(2, 0.0) });
        let chosen = |links: &[Candidate], turn| by_share(turn, links, "", |c| c.bandwidth).links[0].map(|id| id.0);
        assert!((0..50).all(|turn| chosen(&[known, unknown], turn) == Some(1)));
        let others: Vec<_> =
            (0..50).map(|turn| chosen(&[unknown, Candidate { link: LinkId(3), ..unknown }], turn)).collect();
        assert!(others.contains(&Some(2)) && others.contains(&Some(3)));
        assert!(chosen(&[link(1, f64::NAN), link(2, f64::INFINITY)], 3).is_some());
    }
}
