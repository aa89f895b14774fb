use super::*;
use bowline_messages::health::{RoundTrip, Rule, Shared};
use bowline_messages::link::Medium;

const HALF: Duration = Duration::from_millis(500);

struct World {
    now: Instant,
    health: TransportHealth,
    correlator: Correlator<LinkName>,
    opinions: Vec<LinkOpinion>,
    events: Vec<EventKind>,
    found: Vec<Layer>,
}

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes([number; 32])
}

impl World {
    fn new() -> Self {
        let config = HealthConfig::default();
        Self {
            now: Instant::now(),
            health: TransportHealth::new(TransportKind::new("tcp"), config),
            correlator: Correlator::new(config.together, config.common_cause),
            opinions: Vec::new(),
            events: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Half a second in which these round trips were measured on link 1 of peer 1, with punctual ticks.
    fn interval(&mut self, millis: &[f64]) -> Option<LinkOpinion> {
        self.now += HALF;
        self.tick();
        let trip = |ms: &f64| RoundTrip { ago: Duration::ZERO, took: Duration::try_from_secs_f64(ms / 1e3).ok() };
        self.observe(LinkObserved { round_trips: millis.iter().map(trip).collect(), ..observed() })
    }

    fn observe(&mut self, observed: LinkObserved) -> Option<LinkOpinion> {
        let report = HealthReport { peer: peer(1), observed: vec![observed], turns: Vec::new(), reply: None };
        self.health.on_report(self.now, &report, &mut self.correlator);
        self.drain();
        self.opinions.pop()
    }

    fn tick(&mut self) {
        if self.health.deadline().is_some_and(|at| at <= self.now) {
            self.health.on_timeout(self.now, &mut self.correlator);
            self.drain();
        }
    }

    fn turn(&mut self, peer: PeerId, turn: Turn) {
        let turn = LinkTurn { link: LinkId(1), interface: Some("wlan0".into()), medium: Medium::Wifi, turn };
        let report = HealthReport { peer, observed: Vec::new(), turns: vec![turn], reply: None };
        self.health.on_report(self.now, &report, &mut self.correlator);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.health.poll_output() {
            match output {
                HealthOutput::Tell(_, opinion) => self.opinions.push(*opinion),
                HealthOutput::Emit(event) => self.events.push(event),
                HealthOutput::Found(layer) => self.found.push(layer),
            }
        }
    }
}

fn observed() -> LinkObserved {
    LinkObserved {
        link: LinkId(1),
        interface: Some("wlan0".into()),
        medium: Medium::Wifi,
        round_trips: Vec::new(),
        waiting: false,
        errors: 0,
        rate: None,
    }
}

#[test]
fn a_link_that_gets_slower_is_mistrusted_and_then_left_with_the_rules_that_say_so() {
    let mut world = World::new();
    for n in 0..40 {
        let opinion = world.interval(&[20.0 + f64::from(n % 3), 21.0, 22.0]);
        assert!(opinion.is_none_or(|opinion| opinion.advice == Advice::Keep));
    }
    assert!(world.found.is_empty(), "{:?}", world.found);
    let mut advice = Vec::new();
    let mut last = None;
    for n in 1..=12 {
        if let Some(opinion) = world.interval(&[20.0 + 50.0 * f64::from(n)]) {
            advice.push(opinion.advice);
            last = Some(opinion);
        }
    }
    let mistrusted = advice.iter().position(|a| *a == Advice::Mistrust).expect("mistrusted");
    let left = advice.iter().position(|a| *a == Advice::Leave).expect("left");
    assert!(mistrusted < left, "{advice:?}");
    let last = last.unwrap();
    assert!(
        last.findings.iter().any(|f| f.rule == Rule::TrendMeetsLimit) && last.outlook.seconds.is_some(),
        "{last:?}"
    );
    for layer in [Layer::Control, Layer::Anomaly, Layer::Trend] {
        assert_eq!(world.found.iter().filter(|found| **found == layer).count(), 1, "{layer:?}: {:?}", world.found);
    }
    // It stays slow, but does not get worse: that is how it is now.
    let calm = (0..120).filter_map(|_| world.interval(&[620.0])).last().unwrap();
    assert_eq!((calm.advice, calm.quality.latency_ms), (Advice::Keep, Some(620.0)));
}

#[test]
fn one_slow_interval_and_noise_in_microseconds_change_nothing() {
    let mut world = World::new();
    for n in 0..200_u32 {
        let micros = f64::from((n * 7_919) % 97) / 100.0;
        let sample = if n % 50 == 49 { 300.0 } else { 0.02 + micros };
        let opinion = world.interval(&[sample]);
        assert!(opinion.is_none_or(|opinion| opinion.advice == Advice::Keep), "{n}");
    }
}

#[test]
fn a_node_that_was_not_running_doubts_itself_says_so_once_and_believes_nothing_it_measured() {
    let mut world = World::new();
    for _ in 0..40 {
        world.interval(&[20.0]);
    }
    world.now += Duration::from_secs(3);
    let late = LinkObserved { waiting: true, ..observed() };
    let opinion = world.observe(late).expect("due");
    assert_eq!((opinion.doubt, opinion.unusable), (Confidence::CERTAIN, Confidence::NONE));
    world.tick();
    assert!(matches!(&world.events[..], [EventKind::LocalDoubt { late, .. }] if *late >= Duration::from_secs(2)));
    for _ in 0..6 {
        world.interval(&[20.0]);
    }
    assert_eq!(world.events.len(), 1);
    let opinion = (0..2).find_map(|_| world.interval(&[20.0])).unwrap();
    assert!(opinion.doubt.value() < 1e-9, "{opinion:?}");
}

#[test]
fn a_full_mailbox_is_a_doubt() {
    let mut world = World::new();
    world.health.on_mailbox(100, 100);
    assert_eq!(world.interval(&[20.0]).unwrap().doubt, Confidence::CERTAIN);
}

#[test]
fn links_of_several_peers_that_fall_together_are_one_event() {
    let mut world = World::new();
    for number in 1..=3 {
        world.turn(peer(number), Turn::Fell);
    }
    let [EventKind::CommonCause { shared, links, .. }] = &world.events[..] else { panic!("{:?}", world.events) };
    assert_eq!((shared, links.len()), (&Shared::Interface("wlan0".into()), 2));
    assert_eq!(world.found, [Layer::Correlation]);
}

#[test]
fn a_link_whose_neighbours_fell_with_it_says_so_until_it_stands_again() {
    let mut world = World::new();
    world.interval(&[20.0]);
    world.turn(peer(2), Turn::Fell);
    world.turn(peer(1), Turn::Fell);
    let common = |opinion: LinkOpinion| opinion.findings.iter().any(|f| f.rule == Rule::FellTogether);
    let mut next = || (0..2).find_map(|_| world.interval(&[20.0])).unwrap();
    assert!(common(next()));
    world.turn(peer(1), Turn::Rose);
    let mut next = || (0..2).find_map(|_| world.interval(&[20.0])).unwrap();
    assert!(!common(next()));
}

#[test]
fn records_are_bounded_and_forgotten() {
    let mut world = World::new();
    world.health.config.links = 3;
    for number in 0..10 {
        world.observe(LinkObserved { link: LinkId(number), ..observed() });
    }
    assert_eq!(world.health.links(), 3);
    world.turn(peer(1), Turn::Gone);
    assert_eq!(world.health.links(), 2);
    while world.health.deadline().is_some() {
        world.now += HALF;
        world.tick();
    }
    assert_eq!(world.health.links(), 0, "and without records there is no timer");
}

#[test]
fn errors_in_a_burst_are_a_failure_to_come() {
    let mut world = World::new();
    let broken = |world: &mut World| {
        world.now += HALF;
        world.tick();
        world.observe(LinkObserved { errors: 3, ..observed() })
    };
    let said: Vec<Advice> = (0..4).filter_map(|_| broken(&mut world)).map(|opinion| opinion.advice).collect();
    assert_eq!(said.last(), Some(&Advice::Leave), "{said:?}");
}

#[test]
fn idle_links_are_not_counted_among_those_that_did_not_fall() {
    let mut world = World::new();
    let report = |world: &mut World, number: u8| {
        let report = HealthReport { peer: peer(number), observed: vec![observed()], turns: Vec::new(), reply: None };
        world.health.on_report(world.now, &report, &mut world.correlator);
    };
    // Many links over one interface, of which two still carry something when the others have been forgotten.
    (1..=8).for_each(|number| report(&mut world, number));
    for _ in 0..140 {
        world.now += HALF;
        world.tick();
        (1..=2).for_each(|number| report(&mut world, number));
    }
    assert_eq!(world.health.links(), 2);
    world.turn(peer(1), Turn::Fell);
    world.turn(peer(2), Turn::Fell);
    let causes = world.events.iter().filter(|event| matches!(event, EventKind::CommonCause { .. }));
    assert_eq!(causes.count(), 1, "all that are left fell together: {:?}", world.events);
    // One that was idle and is well again takes no place either.
    world.turn(peer(3), Turn::Fell);
    world.turn(peer(3), Turn::Rose);
    assert_eq!(world.correlator.len(), 2);
}

#[test]
fn a_peer_is_known_by_its_own_links_whatever_their_numbers() {
    let mut world = World::new();
    for (number, link) in [(1, 0), (1, u32::MAX), (3, 7), (5, u32::MAX)] {
        let observed = vec![LinkObserved { link: LinkId(link), waiting: true, ..observed() }];
        let report = HealthReport { peer: peer(number), observed, turns: Vec::new(), reply: None };
        world.health.on_report(world.now, &report, &mut world.correlator);
    }
    let known: Vec<_> = (0..7).filter(|number| world.health.knows(&peer(*number))).collect();
    assert_eq!(known, [1, 3, 5]);
}
