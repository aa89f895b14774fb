#![allow(clippy::unwrap_used)]
use std::time::Duration;

use proptest::prelude::*;

use bowline_messages::config::{self, RequirementsConfig, WeightsConfig};

use super::*;

mod needs;

const START: fn() -> Instant = Instant::now;

fn link(id: u32, delay_ms: f64) -> Candidate {
    let delay = Some(delay_ms / 1e3);
    Candidate { delay, forecast: delay, reliability: Some(1.0), room: 1, ..Candidate::unmeasured(LinkId(id)) }
}

fn chooser() -> Chooser {
    Chooser::new(Damping::default(), Needs::default(), 7)
}

fn by(policy: PolicyName) -> Wanted {
    Wanted { policy, class: MessageClass::Realtime, bytes: None, apart: false }
}

fn choose(policy: PolicyName, links: &[Candidate]) -> Option<u32> {
    chooser().choose(START(), by(policy), links).0.links[0].map(|link| link.0)
}

#[test]
fn every_policy_answers_to_its_name() {
    for name in PolicyName::ALL {
        assert_eq!(policy(name).name(), name);
    }
}

#[test]
fn a_choice_is_left_only_by_margin_and_after_its_dwell() {
    let (start, fastest) = (START(), by(PolicyName::FastestFirst));
    let mut chooser = chooser();
    let mut at = |ms: u64, links: &[Candidate]| {
        chooser.choose(start + Duration::from_millis(ms), fastest, links).0.links[0].map(|link| link.0)
    };
    assert_eq!(at(0, &[link(1, 20.0), link(2, 30.0)]), Some(1));
    assert_eq!(at(500, &[link(1, 20.0), link(2, 5.0)]), Some(1), "not before the dwell");
    assert_eq!(at(3_000, &[link(1, 20.0), link(2, 18.5)]), Some(1), "not better by the margin");
    assert_eq!(at(3_000, &[link(1, 0.5), link(2, 0.1)]), Some(1), "below a real difference");
    assert_eq!(at(3_000, &[link(1, 20.0), link(2, 10.0)]), Some(2));
}

#[test]
fn a_suspected_or_vanished_link_is_left_at_once() {
    let suspected = Candidate { suspected: true, ..link(1, 1.0) };
    for name in PolicyName::ALL {
        let (start, mut chooser) = (START(), chooser());
        let mut at = |links: &[Candidate]| chooser.choose(start, by(name), links).0.links[0].map(|link| link.0);
        assert_eq!(at(&[link(1, 1.0)]), Some(1), "{name:?}");
        assert_eq!(at(&[suspected, link(2, 500.0)]), Some(2), "{name:?}");
        assert_eq!(at(&[suspected]), Some(1), "{name:?}: better than none");
        assert_eq!(at(&[link(2, 500.0)]), Some(2), "{name:?}");
        assert_eq!(at(&[]), None, "{name:?}");
    }
}

#[test]
fn a_link_that_failed_lately_counts_as_worse_until_that_decays() {
    let (damping, start) = (Damping::default(), START());
    let mut penalty = Penalty::none(start);
    penalty.on_failure(start, &damping);
    penalty.on_failure(start, &damping);
    let flapper = |now| Candidate { failures: penalty.failures(now, &damping), ..link(1, 10.0) };
    let later = start + damping.half_life * 12;
    for name in [PolicyName::FastestFirst, PolicyName::MostReliable, PolicyName::LoadBalanced, PolicyName::Redundant] {
        assert_eq!(choose(name, &[flapper(start), link(2, 15.0)]), Some(2), "{name:?}");
        assert_eq!(choose(name, &[flapper(later), link(2, 15.0)]), Some(1), "{name:?}");
    }
}

#[test]
fn a_link_that_is_not_measured_is_not_preferred_to_one_that_is() {
    let unmeasured = Candidate { room: 1, ..Candidate::unmeasured(LinkId(1)) };
    for name in PolicyName::ALL.into_iter().filter(|name| !policy(*name).learns() && *name != PolicyName::Secure) {
        assert_eq!(choose(name, &[unmeasured, link(2, 400.0)]), Some(2), "{name:?}");
    }
    let worth = Worth::of(&unmeasured, None);
    assert!(Worth::Missing(Score::BEST) < worth && worth < Worth::Measured(Score::WORST));
}

#[test]
fn load_is_spread_by_when_each_link_would_be_done() {
    let busy = Candidate { backlog: 0.05, ..link(1, 5.0) };
    let full = Candidate { room: 0, ..link(3, 1.0) };
    assert_eq!(choose(PolicyName::LoadBalanced, &[busy, link(2, 30.0), full]), Some(2));
}

#[test]
fn redundant_takes_the_two_best() {
    let links = [link(1, 30.0), link(2, 10.0), link(3, 20.0)];
    let choice = chooser().choose(START(), by(PolicyName::Redundant), &links).0;
    assert_eq!(choice.links, [Some(LinkId(2)), Some(LinkId(3))]);
}

#[test]
fn reliable_prefers_what_arrives_and_then_what_is_fast() {
    let lossy = Candidate { reliability: Some(0.8), ..link(1, 5.0) };
    assert_eq!(choose(PolicyName::MostReliable, &[lossy, link(2, 60.0)]), Some(2));
    assert_eq!(choose(PolicyName::MostReliable, &[link(1, 60.0), link(2, 5.0)]), Some(2));
}

#[test]
fn small_messages_go_over_bluetooth_and_larger_ones_over_wifi() {
    let over = |id, medium| Candidate { medium, ..link(id, 20.0) };
    let links =
        [over(1, Medium::Ethernet), over(2, Medium::Bluetooth), over(3, Medium::Wifi), over(4, Medium::Cellular)];
    let mut chooser = chooser();
    let mut sized = |bytes| {
        let wanted = Wanted { bytes, ..by(PolicyName::EnergyEfficient) };
        chooser.choose(START(), wanted, &links).0.links[0].map(|link| link.0)
    };
    assert_eq!([sized(Some(999)), sized(Some(1_000)), sized(None)], [Some(2), Some(3), Some(3)]);
    assert_eq!(choose(PolicyName::EnergyEfficient, &[links[0], links[3]]), Some(1), "else where a byte costs least");
}

#[test]
fn the_worked_example_of_the_weighted_score() {
    let score = |terms: [f64; 5]| {
        let terms = [Some(terms[0]), Some(terms[1]), Some(terms[2]), Some(terms[3]), Some(terms[4]), None, None];
        weighted::score(terms, &super::terms::REFERENCE_WEIGHTS, 1.0)
    };
    let (a, b) = (score([0.9, 0.8, 0.95, 0.85, 0.7]).unwrap(), score([0.7, 1.0, 0.9, 0.9, 0.9]).unwrap());
    assert!((a.value() - 0.8575).abs() < 1e-9 && (b.value() - 0.865).abs() < 1e-9, "{a:?} {b:?}");
    assert!(b > a);
}

#[test]
fn terms_are_those_of_the_specification() {
    let needs = Requirements { latency_max: 0.1, bandwidth_min: 1_000.0, reliability_min: 0.9, security_min: 0.0 };
    let rate = |bandwidth| terms::bandwidth(&Candidate { bandwidth: Some(bandwidth), ..link(1, 1.0) }, &needs);
    assert_eq!([rate(999.0), rate(1_000.0), rate(1_500.0), rate(9e9)], [Some(0.0), Some(0.5), Some(0.75), Some(1.0)]);
    let latency = |ms| terms::latency(&link(1, ms), &needs).unwrap();
    assert!((latency(25.0) - 0.75).abs() < 1e-9);
    assert_eq!([latency(100.0), latency(101.0)], [0.0, 0.0]);
    let stable = |failures| terms::stability(&Candidate { stability: Some(0.9), failures, ..link(1, 1.0) }).unwrap();
    assert!((stable(2.0) - 0.7).abs() < 1e-9 && (stable(8.0) - 0.4).abs() < 1e-9);
    assert_eq!(Health::Degraded.value(), 0.5);
    assert!((priority::score([Some(1.0), Some(0.5), Some(0.25), Some(0.0)]).value() - 0.6).abs() < 1e-9);
}

#[test]
fn a_link_that_misses_a_requirement_waits_for_one_that_meets_all() {
    let slow = Candidate { bandwidth: Some(1e9), stability: Some(1.0), medium: Medium::Ethernet, ..link(1, 600.0) };
    let poor =
        Candidate { bandwidth: Some(20_000.0), stability: Some(0.1), medium: Medium::Cellular, ..link(2, 490.0) };
    assert_eq!(choose(PolicyName::Weighted, &[slow, poor]), Some(2));
    assert_eq!(choose(PolicyName::Weighted, &[slow]), Some(1));
}

#[test]
fn security_comes_before_speed_and_speed_decides_among_equals() {
    let secure = |id, security, ms| Candidate { security: Some(security), ..link(id, ms) };
    assert_eq!(choose(PolicyName::Secure, &[secure(1, 0.75, 1.0), secure(2, 1.0, 200.0)]), Some(2));
    assert_eq!(choose(PolicyName::Secure, &[secure(1, 1.0, 50.0), secure(2, 1.0, 5.0)]), Some(2));
}

/// Plays a bandit for a while on links of fixed delays; gives the share of the best one.
fn play(name: PolicyName, delays_ms: &[u64], seconds: u32) -> f64 {
    let (start, mut chooser) = (START(), chooser());
    let mut forecasts = vec![Forecast::new(Smoothing::default()); delays_ms.len()];
    let mut best = 0;
    for second in 0..seconds {
        let now = start + Duration::from_secs(1) * second;
        let numbered = forecasts.iter().enumerate();
        let links: Vec<_> = numbered.map(|(id, f)| Candidate::unmeasured(LinkId(id as u32)).with_forecast(f)).collect();
        let at = chooser.choose(now, by(name), &links).0.links[0].unwrap().0 as usize;
        let end = now + Duration::from_secs(1);
        forecasts[at].on_delivered(end, Duration::from_millis(delays_ms[at]));
        best += u32::from(delays_ms.iter().all(|other| delays_ms[at] <= *other));
    }
    f64::from(best) / f64::from(seconds)
}

#[test]
fn bandits_find_the_best_link_by_trying() {
    for (name, at_least) in [(PolicyName::Ucb1, 0.5), (PolicyName::Thompson, 0.6), (PolicyName::Discounted, 0.8)] {
        let share = play(name, &[400, 5, 100], 400);
        assert!(share > at_least, "{name:?}: {share}");
    }
}

#[test]
fn the_plan_leaves_a_link_that_falls_out() {
    let (start, mut chooser) = (START(), chooser());
    let mut forecasts = [Forecast::new(Smoothing::default()); 2];
    let mut last = None;
    for second in 0..60 {
        let now = start + Duration::from_secs(second);
        forecasts[0].on_delivered(now, Duration::from_millis(20));
        if second % 6 < 3 {
            forecasts[1].on_delivered(now, Duration::from_millis(10))
        } else {
            forecasts[1].on_lost(now)
        }
        let links = [0, 1].map(|id| Candidate::unmeasured(LinkId(id)).with_forecast(&forecasts[id as usize]));
        last = chooser.choose(now, by(PolicyName::Mdp), &links).0.links[0];
    }
    assert_eq!(last, Some(LinkId(0)));
}

#[test]
fn a_forecast_follows_a_lasting_change_and_shrugs_off_a_blip() {
    let start = START();
    let mut forecast = Forecast::new(Smoothing::default());
    assert_eq!((forecast.level(), forecast.reliability()), (None, None));
    let at = |ms: u64| start + Duration::from_millis(ms);
    for step in 0..100 {
        forecast.on_delivered(at(step * 20), Duration::from_millis(10));
    }
    assert!((forecast.level().unwrap() - 0.010).abs() < 1e-6);
    forecast.on_lost(at(2_010));
    assert!(forecast.level().unwrap() < 0.015, "one sample among fifty: {:?}", forecast.level());
    for step in 0..100 {
        forecast.on_delivered(at(2_020 + step * 20), Duration::from_millis(100));
    }
    assert!(forecast.level().unwrap() > 0.06, "{:?}", forecast.level());
    assert!(forecast.reliability().unwrap() < 1.0 && forecast.stability().unwrap() < 1.0);
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(0.0),
        Just(-0.0),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        0.0..2.0
    ]
}

prop_compose! {
    fn any_candidate()(
        id in 0_u32..8,
        numbers in prop::array::uniform8(prop::option::of(any_number())),
        sample in prop::option::of((any::<u64>(), prop::option::of(any_number()))),
        backlog in any_number(),
        failures in any_number(),
        room in 0_usize..2,
        suspected in any::<bool>(),
        leaving in any::<bool>(),
        bandwidth_is_old in any::<bool>(),
    ) -> Candidate {
        let [delay, forecast, load, bandwidth, reliability, stability, security, stretch] = numbers;
        let stretch = stretch.unwrap_or(1.0);
        Candidate {
            delay, forecast, stretch, sample, backlog, room, load, suspected, leaving, failures, bandwidth, bandwidth_is_old,
            reliability, stability, security,
            ..Candidate::unmeasured(LinkId(id))
        }
    }
}

proptest! {
    #[test]
    fn whatever_was_measured_a_usable_link_is_chosen_and_scores_are_bounded_and_ordered(
        links in prop::collection::vec(any_candidate(), 1..8),
        later in prop::collection::vec(any_candidate(), 1..8),
        margin in any_number(),
        limits in prop::array::uniform4(any_number()),
    ) {
        let now = Instant::now();
        let [latency_max, bandwidth_min, reliability_min, security_min] = limits;
        let required = Requirements { latency_max, bandwidth_min, reliability_min, security_min };
        let needs = [Needs::default(), Needs::of_all(required)];
        for (name, needs) in PolicyName::ALL.into_iter().flat_map(|name| needs.clone().map(|needs| (name, needs))) {
            let mut chooser = Chooser::new(Damping { margin, ..Damping::default() }, needs, 1);
            for (links, at) in [(&links, now), (&later, now + Duration::from_secs(2)), (&links, now)] {
                let choice = chooser.choose(at, by(name), links).0;
                prop_assert!(choice.links[0].is_some() || name == PolicyName::LoadBalanced, "{:?}", name);
                prop_assert!(choice.links.iter().flatten().all(|link| links.iter().any(|c| c.link == *link)));
                prop_assert!(links.iter().all(|c| c.cost().is_finite() && c.cost() >= 0.0));
                let request = Request {
                    now: at, class: MessageClass::Bulk, bytes: Some(1), standing: None, damping: chooser.damping(),
                    tuning: &Tuning::default(), requirements: &required, weights: &terms::REFERENCE_WEIGHTS, learned: &Learned::default(), random: 3,
                    turn: 0,
                };
                for place in 0..links.len() {
                    let worth = policy(name).worth(&request, links, place);
                    if let Worth::Measured(score) | Worth::Missing(score) | Worth::Suspected(score) = worth {
                        prop_assert!((0.0..=1.0).contains(&score.value()), "{:?}: {:?}", name, score);
                    }
                    prop_assert_eq!(worth.cmp(&worth), std::cmp::Ordering::Equal);
                }
            }
        }
    }

    /// Whatever the policy, and also where all links miss what is required or are about to fail.
    #[test]
    fn noise_does_not_make_it_flap(noise in prop::collection::vec(-1.0_f64..1.0, 200), leaving in any::<bool>(), thin in any::<bool>()) {
        // Those that spread change on purpose, and the bandits of the literature try on purpose.
        let tries = [PolicyName::Ucb1, PolicyName::Thompson];
        for name in PolicyName::ALL.into_iter().filter(|name| !policy(*name).spreads() && !tries.contains(name)) {
            let (start, mut chooser) = (Instant::now(), chooser());
            let mut forecasts = [Forecast::new(Smoothing::default()); 2];
            let mut changes = 0;
            for (step, noise) in noise.iter().enumerate() {
                let now = start + Duration::from_millis(100) * step as u32;
                forecasts[0].on_delivered(now, Duration::from_secs_f64((20.0 + noise) / 1e3));
                forecasts[1].on_delivered(now, Duration::from_secs_f64((20.0 - noise) / 1e3));
                let links = [0, 1].map(|id| {
                    let bandwidth = if thin { 15_000.0 } else { 1e6 };
                    let link = Candidate { leaving, bandwidth: Some(bandwidth), ..Candidate::unmeasured(LinkId(id)) };
                    link.with_forecast(&forecasts[id as usize])
                });
                changes += u32::from(chooser.choose(now, by(name), &links).1.is_some());
            }
            // A plan is made of what was seen at each level, so it may change its mind a few times until it has seen them; in 20 seconds, in which
            // the dwell alone would allow 20 times.
            let most = if name == PolicyName::Mdp { 8 } else { 1 };
            prop_assert!(changes <= most, "{:?} changed {} times", name, changes);
        }
    }
}

#[test]
fn the_bandits_go_by_the_formulas_of_their_authors() {
    let now = START();
    let mut learned = Learned::default();
    // The first link delivers at once, three times (reward 1); the second one loses its only message (reward 0).
    let sampled = |id, number, seconds| Candidate { sample: Some((number, seconds)), ..link(id, 1.0) };
    for number in 1..=3 {
        learned.update(now, &Hope::default(), &[sampled(1, number, Some(0.0))]);
    }
    learned.update(now, &Hope::default(), &[sampled(2, 1, None)]);
    let links = [link(1, 1.0), link(2, 1.0)];
    let scores = |name, random| {
        let (damping, tuning, requirements) = (Damping::default(), Tuning::default(), Requirements::default());
        let request = Request {
            now,
            class: MessageClass::Bulk,
            bytes: None,
            standing: None,
            damping: &damping,
            tuning: &tuning,
            requirements: &requirements,
            weights: &terms::REFERENCE_WEIGHTS,
            learned: &learned,
            random,
            turn: 0,
        };
        [0, 1].map(|at| policy(name).worth(&request, &links, at).score().unwrap())
    };
    // UCB1 (Auer et al. 2002): mean + √(2 ln t / n), here by its greatest value, of a link that always delivers and was tried once.
    let widest = (2.0 * 4_f64.ln()).sqrt();
    let [first, second] = scores(PolicyName::Ucb1, 0);
    assert!((first - (1.0 + widest / 3_f64.sqrt()) / (1.0 + widest)).abs() < 1e-3, "{first}");
    assert!((second - widest / (1.0 + widest)).abs() < 1e-3, "{second}");
    // Thompson (1933): draws of Beta(1 + rewards, 1 + plays − rewards), whose means are 4/5 and 1/3 and variances 2/75 and 1/18.
    const DRAWS: u64 = 20_000;
    let draws: Vec<_> = (0..DRAWS).map(|random| scores(PolicyName::Thompson, random)).collect();
    for (at, (mean, variance)) in [(4.0 / 5.0, 2.0 / 75.0), (1.0 / 3.0, 1.0 / 18.0)].into_iter().enumerate() {
        let found = draws.iter().map(|draw| draw[at]).sum::<f64>() / DRAWS as f64;
        let spread = draws.iter().map(|draw| (draw[at] - found).powi(2)).sum::<f64>() / DRAWS as f64;
        assert!((found - mean).abs() < 0.01 && (spread - variance).abs() < 0.005, "{found} {spread}");
    }
}

#[test]
fn one_message_with_a_policy_of_its_own_changes_nothing_for_its_class() {
    let (now, mut chooser) = (START(), chooser());
    let (fast, secure) = (link(1, 10.0), Candidate { security: Some(1.0), ..link(2, 11.0) });
    let links = [Candidate { security: Some(0.1), ..fast }, secure];
    let usual = by(PolicyName::FastestFirst);
    let own = |policy| Wanted { apart: true, ..by(policy) };
    assert_eq!(chooser.choose(now, usual, &links).0.links[0], Some(LinkId(1)));
    let (choice, left) = chooser.choose(now, own(PolicyName::Secure), &links);
    assert_eq!((choice.links[0], left), (Some(LinkId(2)), None));
    assert_eq!(chooser.standing(MessageClass::Realtime), Some(LinkId(1)));
    let (choice, left) = chooser.choose(now, usual, &links);
    assert_eq!((choice.links[0], left, choice.rule), (Some(LinkId(1)), None, "smallest expected delay"));
    // Messages that ask for the same policy again and again are damped as a class is.
    let closer = [Candidate { security: Some(0.9), ..fast }, Candidate { security: Some(0.88), ..secure }];
    let again = chooser.choose(now, own(PolicyName::Secure), &closer).0;
    assert_eq!((again.links[0], again.rule), (Some(LinkId(2)), "kept: the best is not better by the margin"));
    chooser.forget(LinkId(2));
    assert_eq!(chooser.choose(now, own(PolicyName::Secure), &closer).0.links[0], Some(LinkId(1)));
}

#[test]
fn by_energy_the_size_decides_and_among_links_for_that_size_the_present_one_stays() {
    let wanted = |bytes| Wanted { bytes: Some(bytes), ..by(PolicyName::EnergyEfficient) };
    let on = |id, medium, reliability| Candidate { medium, reliability: Some(reliability), ..link(id, 20.0) };
    let links =
        |first, second| [on(1, Medium::Wifi, first), on(2, Medium::Wifi, second), on(3, Medium::Bluetooth, 0.9)];
    let (now, mut chooser) = (START(), chooser());
    let mut pick = |bytes, first, second| chooser.choose(now, wanted(bytes), &links(first, second)).0.links[0];
    assert_eq!(pick(5_000, 0.95, 0.9), Some(LinkId(1)));
    assert_eq!(pick(5_000, 0.9, 0.95), Some(LinkId(1)));
    assert_eq!(pick(100, 0.9, 0.95), Some(LinkId(3)));
    assert_eq!(pick(5_000, 0.9, 0.95), Some(LinkId(2)), "nothing for this size stood");
}

#[test]
fn each_class_has_its_own_requirements_and_weights_and_each_transport_its_multiplier() {
    let mut requirements = RequirementsConfig::default();
    requirements.by_class.realtime = Some(config::Needs {
        latency_max: Duration::from_millis(50),
        bandwidth_min: 1,
        reliability_min: 0.0,
        security_min: 0.0,
    });
    let mut weights = WeightsConfig::default();
    let only_bandwidth = config::Weights {
        latency: 0.0,
        bandwidth: 1.0,
        reliability: 0.0,
        stability: 0.0,
        power: 0.0,
        load: 0.0,
        security: 0.0,
    };
    weights.by_class.bulk = Some(only_bandwidth);
    // Bets go over what is secured while there is such a link, and for chat security counts.
    requirements.by_class.critical = Some(config::Needs {
        security_min: 0.9,
        reliability_min: 0.0,
        ..RequirementsConfig::default().of(MessageClass::Critical)
    });
    weights.by_class.background = Some(config::Weights { bandwidth: 0.0, security: 1.0, ..only_bandwidth });
    let choose = |class, links: &[Candidate]| {
        let mut chooser = Chooser::new(Damping::default(), Needs::new(&requirements, &weights), 1);
        let wanted = Wanted { policy: PolicyName::Weighted, class, bytes: None, apart: false };
        chooser.choose(START(), wanted, links).0.links[0].map(|link| link.0)
    };
    let near = Candidate { bandwidth: Some(20_000.0), stability: Some(0.1), ..link(1, 45.0) };
    let far = Candidate { bandwidth: Some(1e6), stability: Some(1.0), ..link(2, 60.0) };
    // Better by nearly every measure, and too late for dice rolls.
    assert_eq!(choose(MessageClass::Streaming, &[near, far]), Some(2));
    assert_eq!(choose(MessageClass::Realtime, &[near, far]), Some(1));
    // For files only bandwidth counts; otherwise the faster and steadier one wins.
    let thin = Candidate { bandwidth: Some(20_000.0), stability: Some(1.0), ..link(1, 5.0) };
    let fat = Candidate { bandwidth: Some(1e6), stability: Some(0.1), ..link(2, 300.0) };
    assert_eq!(choose(MessageClass::Streaming, &[thin, fat]), Some(1));
    assert_eq!(choose(MessageClass::Bulk, &[thin, fat]), Some(2));
    // What a transport's score is multiplied by decides between equals.
    let (dear, cheap) = (Candidate { multiplier: 0.5, ..link(1, 20.0) }, link(2, 20.0));
    assert_eq!(choose(MessageClass::Streaming, &[dear, cheap]), Some(2));
    assert_eq!(choose(MessageClass::Streaming, &[link(1, 20.0), cheap]), Some(1));
    let (plain, sealed) =
        (Candidate { security: Some(0.5), ..link(1, 5.0) }, Candidate { security: Some(1.0), ..link(2, 300.0) });
    assert_eq!(choose(MessageClass::Streaming, &[plain, sealed]), Some(1));
    assert_eq!(choose(MessageClass::Critical, &[plain, sealed]), Some(2));
    assert_eq!(choose(MessageClass::Critical, &[plain]), Some(1), "required while another meets it");
    assert_eq!(choose(MessageClass::Background, &[plain, sealed]), Some(2));
}
