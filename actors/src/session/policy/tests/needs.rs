//! What messages need of a link holds whatever the policy, and is measured in the units that configuration states.

use super::*;

/// Choosing for bets that need this, and for everything else as usual.
fn for_bets(needs: config::Needs) -> Chooser {
    let mut requirements = RequirementsConfig::default();
    requirements.by_class.critical = Some(needs);
    Chooser::new(Damping::default(), Needs::new(&requirements, &WeightsConfig::default()), 7)
}

fn usual() -> config::Needs {
    RequirementsConfig::default().of(MessageClass::Critical)
}

fn sealed_only() -> Chooser {
    for_bets(config::Needs { security_min: 0.9, ..usual() })
}

fn bet(policy: PolicyName) -> Wanted {
    Wanted { policy, class: MessageClass::Critical, bytes: Some(100), apart: false }
}

/// Every link that so many bets go over, copies included, a moment apart; the links' samples go on meanwhile.
fn used(chooser: &mut Chooser, name: PolicyName, links: &[Candidate]) -> Vec<u32> {
    let start = START();
    let mut used = Vec::new();
    for step in 0..200_u32 {
        let sampled = |c: &Candidate| Candidate { sample: c.forecast.map(|f| (step.into(), Some(f))), ..*c };
        let links: Vec<_> = links.iter().map(sampled).collect();
        let choice = chooser.choose(start + Duration::from_millis(50) * step, bet(name), &links).0;
        used.extend(choice.links.into_iter().flatten().map(|link| link.0));
    }
    used.sort_unstable();
    used.dedup();
    used
}

const PLAIN: u32 = 1;

/// Plain and better by every measure, against two that are secured.
fn plain_and_sealed() -> [Candidate; 3] {
    let link = |id, ms, security| Candidate { security: Some(security), bandwidth: Some(1e6), ..link(id, ms) };
    let plain = Candidate { bandwidth: Some(1e9), load: Some(0.0), stability: Some(1.0), ..link(PLAIN, 5.0, 0.5) };
    let sealed = |id, ms| Candidate { load: Some(0.5), backlog: 0.2, medium: Medium::Cellular, ..link(id, ms, 1.0) };
    [plain, sealed(2, 200.0), sealed(3, 220.0)]
}

#[test]
fn bets_that_need_security_go_over_no_other_link_whatever_the_policy() {
    let [plain, sealed, other] = plain_and_sealed();
    for name in PolicyName::ALL {
        let used_of = |links: &[Candidate]| used(&mut sealed_only(), name, links);
        let both = used_of(&[plain, sealed, other]);
        assert!(!both.is_empty() && !both.contains(&PLAIN), "{name:?}: {both:?}");
        assert_eq!(used_of(&[plain, sealed]), [2], "{name:?}: not even a copy");
        let leaving = Candidate { leaving: true, ..sealed };
        assert_eq!(used_of(&[plain, leaving]), [2], "{name:?}: it carries as long as it stands");
        let full = Candidate { room: 0, ..sealed };
        assert!(!used_of(&[plain, full]).contains(&PLAIN), "{name:?}: it waits");
        let suspected = Candidate { suspected: true, ..sealed };
        assert_eq!(used_of(&[plain, suspected])[0], PLAIN, "{name:?}: what may be dead is no alternative");
        assert_eq!(used_of(&[plain]), [PLAIN], "{name:?}: better than none");
    }
}

#[test]
fn each_requirement_holds_for_every_policy() {
    // All other than the reference: what was left as it is binds only those that go by requirements.
    let set = config::Needs {
        latency_max: Duration::from_millis(550),
        bandwidth_min: 18_000,
        reliability_min: 0.45,
        security_min: 0.3,
    };
    let good = Candidate { bandwidth: Some(20_000.0), reliability: Some(0.6), security: Some(0.5), ..link(2, 490.0) };
    let best = Candidate { bandwidth: Some(1e9), reliability: Some(1.0), security: Some(1.0), ..link(1, 1.0) };
    let late = Candidate { forecast: Some(0.6), ..best };
    let thin = Candidate { bandwidth: Some(15_000.0), ..best };
    let lossy = Candidate { reliability: Some(0.4), ..best };
    let open = Candidate { security: Some(0.2), ..best };
    for name in PolicyName::ALL {
        for missing in [late, thin, lossy, open] {
            let used = used(&mut for_bets(set), name, &[missing, good]);
            assert_eq!(used, [2], "{name:?}: {missing:?}");
        }
        // A bandwidth of long ago keeps nobody away: unused, the link could never show another.
        let was_thin = Candidate { bandwidth_is_old: true, ..thin };
        assert!(for_bets(set).bars(bet(name), thin.link, &[thin, good]));
        assert!(!for_bets(set).bars(bet(name), was_thin.link, &[was_thin, good]));
        for missing in [late, thin, lossy] {
            let bars = chooser().bars(bet(name), missing.link, &[missing, good]);
            assert_eq!(bars, policy(name).goes_by_requirements(), "{name:?}: {missing:?}");
        }
    }
}

#[test]
fn reports_say_which_links_miss_something_whatever_the_policy() {
    let [plain, sealed, other] = plain_and_sealed();
    for name in PolicyName::ALL {
        let chooser = sealed_only();
        let worths = chooser.worths(START(), bet(name), &[sealed, plain, other]);
        assert!(worths[1] < worths[0] && worths[1] < worths[2], "{name:?}: {worths:?}");
        let alone = chooser.worths(START(), bet(name), &[sealed, other]);
        assert_eq!([worths[0], worths[2]], alone[..], "{name:?}: the others are compared with each other");
    }
}

#[test]
fn a_class_without_that_need_is_not_kept_from_the_link_and_plans_are_made_for_each() {
    let (now, mut chooser) = (START(), sealed_only());
    let [plain, sealed, other] = plain_and_sealed();
    let sealed = Candidate { load: Some(0.1), ..sealed };
    let slow = Candidate { forecast: Some(0.45), load: Some(0.1), ..other };
    let links = [plain, sealed, slow];
    assert_eq!(chooser.choose(now, by(PolicyName::FastestFirst), &links).0.links[0], Some(LinkId(PLAIN)));
    // Within one second, so that a plan for one class that is used for another shows.
    for step in 0..50 {
        let now = now + Duration::from_millis(10) * step;
        let roll = chooser.choose(now, by(PolicyName::PredictiveOptimal), &links).0.links[0];
        assert_eq!(roll, Some(LinkId(PLAIN)));
        let bet = chooser.choose(now, bet(PolicyName::PredictiveOptimal), &links).0.links[0];
        assert_eq!(bet, Some(sealed.link), "the sooner of those in question");
    }
}

#[test]
fn a_failure_costs_a_tenth_of_stability_and_halves_the_score_again() {
    let (now, damping) = (START(), Damping::default());
    let mut penalty = Penalty::none(now);
    for failures in 1..=6_u32 {
        penalty.on_failure(now, &damping);
        let failures = failures.min(5);
        let failed = Candidate { stability: Some(0.9), failures: penalty.failures(now, &damping), ..link(1, 1.0) };
        let stability = terms::stability(&failed).unwrap();
        assert!((stability - (0.9 - 0.1 * f64::from(failures))).abs() < 1e-9, "{failures}: {stability}");
        assert!((failed.setback() - (1.0 + 0.5 * f64::from(failures))).abs() < 1e-9, "{failures}");
    }
    let mut penalty = Penalty::none(now);
    penalty.on_failure(now, &damping);
    assert_eq!(penalty.failures(now + damping.half_life, &damping), 0.5);
}

#[test]
fn limits_of_some_seconds_are_missed_by_what_takes_longer_and_choices_see_no_difference() {
    let start = START();
    let forecast = |delays: &[Option<u64>]| {
        let mut forecast = Forecast::new(Smoothing::default());
        for (step, delay) in delays.iter().enumerate() {
            let now = start + Duration::from_millis(500) * step as u32;
            match delay {
                Some(seconds) => forecast.on_delivered(now, Duration::from_secs(*seconds)),
                None => forecast.on_lost(now),
            }
        }
        forecast
    };
    let candidate = |forecast: &Forecast| Candidate::unmeasured(LinkId(1)).with_forecast(forecast);
    let needs = |latency_max| Requirements { latency_max, reliability_min: 0.0, ..Requirements::REFERENCE };
    let slow = candidate(&forecast(&[Some(30); 20]));
    assert!(needs(5.0).missed_by(&slow) && needs(29.9).missed_by(&slow) && !needs(31.0).missed_by(&slow));
    assert_eq!(terms::latency(&slow, &needs(5.0)), Some(0.0));
    assert!((terms::latency(&slow, &needs(60.0)).unwrap() - 0.5).abs() < 1e-6);
    // Losses say nothing of how long the others take, and nothing but losses is a second.
    let lossy = forecast(&[Some(30), None, None, Some(30), None, None]);
    assert!(needs(29.0).missed_by(&candidate(&lossy)));
    let lost = candidate(&forecast(&[None; 5]));
    assert!(needs(0.5).missed_by(&lost) && !needs(5.0).missed_by(&lost));
    // A choice tells no delays beyond a second apart.
    assert!((slow.forecast.unwrap() - forecast::LOST_SECONDS).abs() < 1e-9, "{slow:?}");
    assert_eq!(forecast(&[Some(2), Some(40)]).level(), forecast(&[Some(1), None]).level());
}
