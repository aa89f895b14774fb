//! The distribution that an optimiser finds: least latency under three constraints, as a linear programme over the links' shares.
//!
//! With shares `x`, expected delays `d`, bandwidths `b`, shares of delivered samples `r` and the offered load `L`: minimise `Σ x·d`
//! subject to `Σ x = 1`, `x·L ≤ 0.8·b` for each link, `Σ x·d ≤ 100 ms`, `Σ x·r ≥ 0.99`. Where no shares meet all of it, reliability is
//! given up first, then latency, then bandwidth. The plan of each class is made once a second at most; choosing reads it.
//!
//! The second constraint bounds what is minimised, so it holds at the optimum or nowhere. Of what is left only reliability couples the
//! links. With its multiplier `λ` the best shares are greedy: fill the links in the order of `d - λ·r`. The order changes only where two
//! links are equal, so trying those values in turn is exact, and it ends whatever was measured: general solvers tried here did not.

use std::cmp::Ordering;

use bowline_messages::{LinkId, PolicyName};

use super::forecast::LOST_SECONDS;
use super::{Candidate, Choice, Policy, Request, Score, Worth, measured, spread};

/// How much of a link's bandwidth is planned with.
const BANDWIDTH_USE_MAX: f64 = 0.8;
/// Longest mean time to delivery, in seconds.
const LATENCY_MAX: f64 = 0.1;
/// Least mean share of delivered samples.
const RELIABILITY_MIN: f64 = 0.99;
/// Links that are planned with.
const LINKS_MAX: usize = 32;

/// What was planned: each link's share, and which constraints hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    shares: Vec<(LinkId, f64)>,
    rule: &'static str,
}

impl Plan {
    fn share(&self, link: LinkId) -> Option<f64> {
        self.shares.iter().find(|(id, _)| *id == link).map(|(_, share)| *share)
    }
}

/// Differences below this are none.
const EQUAL: f64 = 1e-9;
/// Which constraints hold, the first all of them.
const RULES: [&str; 4] = [
    "least latency within bandwidth, latency and reliability",
    "least latency within bandwidth and latency: no shares are reliable enough",
    "least latency within bandwidth: no shares are fast enough",
    "least latency: the links are too narrow for the load",
];

/// One link as the programme sees it.
#[derive(Debug, Clone, Copy)]
struct Term {
    /// Expected delay in seconds.
    delay: f64,
    /// Share of delivered samples.
    reliability: f64,
    /// The largest share of the load.
    most: f64,
}

/// Plans for the links that are usable now; none when nothing is measured of any.
pub(super) fn plan(links: &[Candidate]) -> Option<Plan> {
    let known = links.iter().filter(|c| !c.suspected && measured(c.forecast).is_some()).take(LINKS_MAX);
    let known: Vec<&Candidate> = known.collect();
    if known.is_empty() {
        return None;
    }
    let terms: Vec<Term> = known.iter().map(|c| term(c, &known)).collect();
    let unbound: Vec<Term> = terms.iter().map(|term| Term { most: 1.0, ..*term }).collect();
    let (fast, narrow) = (fill(&terms, 0.0, Ordering::reverse), fill(&unbound, 0.0, Ordering::reverse));
    let in_time = |shares: &Vec<f64>| mean(&terms, shares, |term| term.delay) <= LATENCY_MAX;
    let found = [reliable(&terms).filter(in_time), fast.clone().filter(in_time), fast, narrow];
    let (shares, rule) = found.into_iter().zip(RULES).find_map(|(shares, rule)| Some((shares?, rule)))?;
    Some(Plan { shares: known.iter().map(|c| c.link).zip(shares).collect(), rule })
}

fn term(candidate: &Candidate, links: &[&Candidate]) -> Term {
    let delay = measured(candidate.forecast).unwrap_or(LOST_SECONDS).min(LOST_SECONDS);
    Term {
        delay: delay * candidate.setback(),
        // What is not measured has no say: it is taken for just enough.
        reliability: measured(candidate.reliability).map_or(RELIABILITY_MIN, |share| share.min(1.0)),
        most: share_max(candidate, links),
    }
}

fn mean(terms: &[Term], shares: &[f64], of: impl Fn(&Term) -> f64) -> f64 {
    terms.iter().zip(shares).map(|(term, share)| of(term) * share).sum()
}

/// Fills the links in the order of `delay - λ·reliability`; `equals` turns the order by reliability of those that are equal in it. None
/// when they do not hold it all.
fn fill(terms: &[Term], multiplier: f64, equals: impl Fn(Ordering) -> Ordering) -> Option<Vec<f64>> {
    // In steps, so that what is equal but for rounding is equal: a tolerance in the comparison would be no order.
    let step = EQUAL * (1.0 + multiplier);
    let cost = |at: usize| ((terms[at].delay - multiplier * terms[at].reliability) / step).round();
    let mut order: Vec<usize> = (0..terms.len()).collect();
    order.sort_by(|a, b| {
        let by_reliability = terms[*a].reliability.total_cmp(&terms[*b].reliability);
        cost(*a).total_cmp(&cost(*b)).then_with(|| equals(by_reliability))
    });
    let (mut shares, mut left) = (vec![0.0; terms.len()], 1.0);
    for at in order {
        shares[at] = terms[at].most.min(left);
        left -= shares[at];
    }
    (left <= EQUAL).then_some(shares)
}

/// The shares of least delay that are reliable enough.
fn reliable(terms: &[Term]) -> Option<Vec<f64>> {
    let reliability = |shares: &[f64]| mean(terms, shares, |term| term.reliability);
    let mut multipliers = vec![0.0];
    for a in terms {
        for b in terms.iter().filter(|b| a.reliability > b.reliability && a.delay > b.delay) {
            multipliers.push((a.delay - b.delay) / (a.reliability - b.reliability));
        }
    }
    multipliers.retain(|multiplier: &f64| multiplier.is_finite());
    multipliers.sort_by(f64::total_cmp);
    for multiplier in multipliers {
        let more = fill(terms, multiplier, Ordering::reverse)?;
        let most = reliability(&more);
        if most + EQUAL < RELIABILITY_MIN {
            continue;
        }
        // Between the least and the most reliable of the equally good ones.
        let less = fill(terms, multiplier, |order| order)?;
        let least = reliability(&less);
        let part = if least >= RELIABILITY_MIN { 0.0 } else { (RELIABILITY_MIN - least) / (most - least) };
        return Some(less.iter().zip(&more).map(|(less, more)| less + (more - less) * part.clamp(0.0, 1.0)).collect());
    }
    None
}

/// The largest share that a link takes: the load on all links is what is offered. Without a measured bandwidth there is no bound.
fn share_max(candidate: &Candidate, links: &[&Candidate]) -> f64 {
    let used = |c: &Candidate| Some(measured(c.bandwidth)? * measured(c.load)?.min(1.0));
    let offered: f64 = links.iter().filter_map(|c| used(c)).sum();
    match measured(candidate.bandwidth) {
        Some(bandwidth) if offered > 0.0 => (BANDWIDTH_USE_MAX * bandwidth / offered).min(1.0),
        Some(_) | None => 1.0,
    }
}

/// Least latency under constraints on bandwidth, latency and reliability.
pub(super) struct PredictiveOptimal;

impl Policy for PredictiveOptimal {
    fn name(&self) -> PolicyName {
        PolicyName::PredictiveOptimal
    }

    fn rule(&self) -> &'static str {
        RULES[0]
    }

    fn spreads(&self) -> bool {
        true
    }

    fn learns(&self) -> bool {
        true
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let share = request.learned.plan(request.class).and_then(|plan| plan.share(links[at].link));
        Worth::of(&links[at], share.map(Score::new))
    }

    fn choose(&self, request: &Request<'_>, links: &[Candidate]) -> Choice {
        let plan = request.learned.plan(request.class);
        let rule = plan.map_or("one after the other: nothing is measured", |plan| plan.rule);
        spread::by_share(request.turn, links, rule, |c| plan.and_then(|plan| plan.share(c.link)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(id: u32, ms: f64, bandwidth: f64, load: f64, reliability: f64) -> Candidate {
        Candidate {
            forecast: Some(ms / 1e3),
            bandwidth: Some(bandwidth),
            load: Some(load),
            reliability: Some(reliability),
            ..Candidate::unmeasured(LinkId(id))
        }
    }

    fn shares(links: &[Candidate]) -> Vec<f64> {
        let plan = plan(links).unwrap_or_default();
        links.iter().map(|c| plan.share(c.link).unwrap_or(-1.0)).collect()
    }

    #[track_caller]
    fn close(found: &[f64], wanted: &[f64]) {
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} instead of {wanted:?}");
    }

    #[test]
    fn the_fastest_takes_all_until_four_fifths_of_its_bandwidth() {
        let (fast, slow) = (link(1, 5.0, 1e6, 0.2, 1.0), link(2, 50.0, 1e6, 0.0, 1.0));
        close(&shares(&[fast, slow]), &[1.0, 0.0]);
        // A load of 1.6 MB/s: no more than 0.8 of it fit on each.
        let full = |c: Candidate| Candidate { load: Some(0.8), ..c };
        close(&shares(&[full(fast), full(slow)]), &[0.5, 0.5]);
        let narrow = Candidate { bandwidth: Some(2e5), load: Some(0.8), ..fast };
        close(&shares(&[narrow, full(slow)]), &[0.16 / 0.96, 0.8 / 0.96]);
    }

    #[test]
    fn reliability_and_latency_bind_the_mean() {
        // 0.95 on one and 1 on the other: a fifth at most may go over the first.
        let links = [link(1, 5.0, 1e6, 0.1, 0.95), link(2, 50.0, 1e6, 0.1, 1.0)];
        close(&shares(&links), &[0.2, 0.8]);
        // The reliable one is so slow that 100 ms leave it a third: both cannot be had, and latency wins.
        let links = [link(1, 50.0, 1e6, 0.1, 0.95), link(2, 200.0, 1e6, 0.1, 1.0)];
        let plan = plan(&links).unwrap_or_default();
        assert_eq!(plan.rule, RULES[1]);
        close(&shares(&links), &[1.0, 0.0]);
    }

    #[test]
    fn no_other_shares_are_better() {
        // Every twentieth, against the optimum.
        let grid = |a: u32, b: u32| [f64::from(a) / 20.0, f64::from(b) / 20.0, 1.0 - f64::from(a + b) / 20.0];
        let reliabilities = [0.9, 0.97, 0.985, 0.992, 1.0];
        for seed in 0..200_usize {
            let pick = |at: usize, of: usize| (seed * (7 + at * 4) + at * 13) % of;
            let terms: Vec<Term> = (0..3)
                .map(|at| Term {
                    delay: 0.005 + pick(at, 17) as f64 * 0.005,
                    reliability: reliabilities[pick(at + 3, 5)],
                    most: [0.4, 0.7, 1.0][pick(at + 6, 3)],
                })
                .collect();
            let found = reliable(&terms);
            let meets = |shares: &[f64]| {
                mean(&terms, shares, |term| term.reliability) >= RELIABILITY_MIN - 1e-9
                    && shares.iter().zip(&terms).all(|(share, term)| *share <= term.most + 1e-9)
            };
            let all = (0..=20).flat_map(|a| (0..=20 - a).map(move |b| grid(a, b))).filter(|shares| meets(shares));
            let best = all.map(|shares| mean(&terms, &shares, |term| term.delay)).fold(f64::INFINITY, f64::min);
            match found {
                Some(shares) => {
                    assert!(meets(&shares), "{terms:?} {shares:?}");
                    assert!(mean(&terms, &shares, |term| term.delay) <= best + 1e-9, "{terms:?} {shares:?} {best}");
                }
                None => assert_eq!(best, f64::INFINITY, "{terms:?}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_met_is_given_up_and_said() {
        let rule = |links: &[Candidate]| plan(links).map(|plan| plan.rule);
        assert_eq!(rule(&[link(1, 300.0, 1e6, 0.1, 1.0)]), Some(RULES[2]));
        let overloaded = [link(1, 5.0, 1e6, 1.0, 1.0), link(2, 6.0, 1e6, 1.0, 1.0)];
        assert_eq!(rule(&overloaded), Some(RULES[3]));
        assert_eq!(rule(&[Candidate::unmeasured(LinkId(1))]), None);
        assert_eq!(rule(&[]), None);
    }

    #[test]
    fn shares_add_up_whatever_was_measured() {
        let odd = [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300, 1e300, 0.5];
        for a in odd {
            for b in odd {
                let links = [link(1, a, b, a, b), link(2, b, a, b, a), link(3, 10.0, 1e6, 0.5, 1.0)];
                let sum: f64 = shares(&links).iter().filter(|share| **share > 0.0).sum();
                assert!((sum - 1.0).abs() < 1e-6, "{a} {b}: {sum}");
            }
        }
    }
}
