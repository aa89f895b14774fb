//! Whole groups: splits, healing, applications that answer, peers that lie.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::PartitionConfig;
use bowline_messages::membership::FailureKind;
use bowline_messages::partition::{EvidenceKind, PartitionEvent, PauseReason, RecoveryStep, Side, Standing, Strategy};
use bytes::Bytes;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::evidence::EvidenceSnapshot;
use super::super::lease::{Configuration, LeaseMessage, LeasePacket, Memory};
use super::super::strategy::Order;
use super::super::views::{Number, View};
use super::super::wire::tests::Cheap;
use super::super::wire::{FORMAT, Signed, Statement};
use super::{Partition, PartitionOutput, Remembered};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_group_starts_and_everybody_works() {
    let mut group = Group::new(5, 1);
    assert!(group.run_until(SECOND * 10, |group| group.working() == all(5)).is_some());
}

#[test]
fn a_split_pauses_the_minority_and_healing_brings_it_back() {
    splits_and_heals(0..8);
}

#[test]
#[ignore = "takes a minute; prints the figures of docs/partitions.md; make test-long runs it"]
fn a_split_pauses_the_minority_and_healing_brings_it_back_many_times() {
    splits_and_heals(100..400);
}

/// Three of five on one side and two on the other, and together again.
fn splits_and_heals(seeds: std::ops::Range<u64>) {
    let (mut suspected, mut acted, mut paused, mut healed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for seed in seeds {
        let mut group = Group::working_group(5, seed);
        let start = group.now;
        group.connect(|a, b| (a < 3) == (b < 3));
        let minority = group.run_until(SECOND * 3, |group| !group.working().iter().any(|n| *n >= 3));
        paused.push(minority.unwrap_or_else(|| panic!("seed {seed}: the minority works on")));
        group.run(SECOND * 10);
        for n in 0..5 {
            let at = |is: &dyn Fn(&PartitionEvent) -> bool| group.first(n, start, is).unwrap_or_else(|| panic!("{n}"));
            suspected.push(at(&|event| matches!(event, PartitionEvent::Suspected { .. })));
            let side = if n < 3 { Side::Majority } else { Side::Minority };
            acted.push(at(&|event| matches!(event, PartitionEvent::Split { side: seen, .. } if *seen == side)));
            let wanted = if n < 3 { Strategy::MajorityRule } else { Strategy::SplitBrainResolution };
            at(&|event| matches!(event, PartitionEvent::Strategy { strategy, .. } if *strategy == wanted));
        }
        assert_eq!(group.working(), BTreeSet::from([0, 1, 2]), "seed {seed}: the majority works");
        group.connect(|_, _| true);
        let all_work = group.run_until(SECOND * 5, |group| group.working() == all(5));
        healed.push(all_work.unwrap_or_else(|| panic!("seed {seed}: {:?}", group.working())));
        group.run(SECOND);
        for node in &group.nodes {
            let report = node.partition.report(node.local(group.now));
            assert_eq!((report.split, report.recovery, report.metrics.splits), (false, None, 1), "seed {seed}");
            let (attempts, successes) = report.metrics.strategies.values().copied().next().unwrap();
            assert!(attempts >= 1 && successes >= 1, "seed {seed}: {:?}", report.metrics);
        }
    }
    let longest = |times: &[Duration]| times.iter().max().copied().unwrap_or_default();
    assert!(longest(&suspected) <= SECOND * 3, "{:?}", longest(&suspected));
    assert!(longest(&acted) <= SECOND * 8, "{:?}", longest(&acted));
    for (what, mut times) in [("suspected", suspected), ("acted upon", acted), ("paused", paused), ("healed", healed)] {
        times.sort_unstable();
        println!("{what}: median {:?}, longest {:?}", times[times.len() / 2], times[times.len() - 1]);
    }
}

#[test]
fn of_two_halves_the_one_with_the_tie_breaker_works() {
    let mut group = Group::working_group(4, 3);
    group.connect(|a, b| (a < 2) == (b < 2));
    group.run(SECOND * 15);
    // The tie-breaker is the participant with the smallest id.
    assert_eq!(group.working(), BTreeSet::from([0, 1]));
}

#[test]
fn in_three_parts_nobody_works() {
    let mut group = Group::working_group(6, 3);
    group.connect(|a, b| a / 2 == b / 2);
    group.run(SECOND * 15);
    assert!(group.working().is_empty());
    group.connect(|_, _| true);
    assert!(group.run_until(SECOND * 6, |group| group.working() == all(6)).is_some(), "{:?}", group.working());
}

#[test]
fn an_application_is_told_beforehand_when_there_is_time() {
    let mut graces = Vec::new();
    for seed in 0..10 {
        let mut group = Group::working_group(5, seed);
        group.connect(|a, b| (a < 3) == (b < 3));
        group.run(SECOND * 6);
        for node in &group.nodes[3..] {
            let [(PauseReason::NoLease, grace)] = node.pauses[..] else { panic!("once: {:?}", node.pauses) };
            graces.push(grace);
        }
    }
    assert!(graces.iter().all(|grace| *grace <= SECOND * 3));
    assert!(graces.iter().any(|grace| *grace > SECOND / 4), "{graces:?}");
}

#[test]
fn an_application_that_cannot_go_on_is_asked_again() {
    let mut group = Group::new(5, 5);
    group.nodes[2].refuses = 3;
    assert!(group.run_until(SECOND * 30, |group| group.working() == all(5)).is_some());
    assert_eq!(group.nodes[2].refuses, 0);
}

#[test]
fn a_recovery_that_fails_is_tried_again() {
    let mut group = Group::new(5, 6);
    group.nodes[1].silent_steps = 1;
    let took = group.run_until(SECOND * 40, |group| group.working() == all(5)).unwrap();
    assert!(took > PartitionConfig::default().step_timeout, "the step that was not done took its time");
}

#[test]
fn who_lies_three_times_is_excluded_everywhere_and_after_a_restart() {
    let mut group = Group::working_group(5, 7);
    lie(&mut group);
    group.run(SECOND * 3);
    for n in 0..4 {
        let node = &group.nodes[n];
        let report = node.partition.report(node.local(group.now));
        assert_eq!(report.excluded, [peer(4)], "node {n}: {:?}", report.evidence);
        assert_eq!(report.strategy.map(|(strategy, _)| strategy), Some(Strategy::ByzantineExclusion));
        assert!(node.orders.contains(&Order::Exclude));
    }
    assert!(!group.working().contains(&4), "its side of the story counts nowhere");
    assert!(group.working().len() >= 4, "{:?}", group.working());
    group.restart(0);
    assert_eq!(group.nodes[0].partition.evidence().excluded(), BTreeSet::from([peer(4)]));
}

/// Three times node 4 says one thing to node 0 and another to node 1, under one number.
fn lie(group: &mut Group) {
    for count in 0..3 {
        lie_once(group, count, [1, 2], true);
        group.run(SECOND * 2);
    }
}

fn lie_once(group: &mut Group, count: u64, bits: [u8; 2], split: bool) {
    for (to, bits) in bits.into_iter().enumerate() {
        let view = Statement::View(View {
            version: 1,
            list: group.configuration.list(),
            heard: vec![bits],
            split,
            known: Vec::new(),
        });
        let number = Number { incarnation: u64::MAX, count };
        let lie = Signed::new(&Cheap(peer(4)), peer(4), number, &view).unwrap().encode().unwrap();
        group.deliver(4, to, lie.into());
    }
}

#[test]
fn who_was_cut_off_or_down_when_a_proof_was_made_learns_of_it_later() {
    let mut group = Group::working_group(5, 11);
    group.connect(|a, b| a != 3 && b != 3);
    lie(&mut group);
    group.run(SECOND * 3);
    let excluded = |group: &Group, n: usize| group.nodes[n].partition.evidence().excluded();
    assert_eq!((excluded(&group, 2), excluded(&group, 3)), (BTreeSet::from([peer(4)]), BTreeSet::new()));
    // Neither does one know that comes back with nothing.
    group.nodes[2].disk.1 = EvidenceSnapshot::default();
    group.restart(2);
    group.connect(|_, _| true);
    group.run(SECOND * 5);
    for n in 0..4 {
        assert_eq!(excluded(&group, n), BTreeSet::from([peer(4)]), "node {n}");
    }
}

#[test]
fn who_knows_of_a_misdeed_is_not_told_again() {
    let mut group = Group::working_group(5, 11);
    lie(&mut group);
    group.run(SECOND * 5);
    let now = group.nodes[0].local(group.now);
    let proofs = |outputs: Vec<PartitionOutput>| {
        let sent = outputs.into_iter().filter_map(|output| {
            let PartitionOutput::Send { payload, .. } = output else { return None };
            Signed::decode(&payload).unwrap().statement().ok()
        });
        sent.filter(|statement| matches!(statement, Statement::Proof(_))).count()
    };
    assert_eq!(proofs(group.nodes[0].partition.on_timeout(now + SECOND)), 0);
    // One that says it knows nothing is told a few with each view, whatever it says how often.
    let view = Statement::View(View {
        version: 1,
        list: group.configuration.list(),
        heard: vec![31],
        split: false,
        known: Vec::new(),
    });
    for count in 0..50 {
        let number = Number { incarnation: u64::MAX, count };
        let payload = Signed::new(&Cheap(peer(3)), peer(3), number, &view).unwrap().encode().unwrap();
        assert_eq!(proofs(group.nodes[0].partition.on_packet(now + SECOND, peer(3), &payload)), 0);
    }
    assert_eq!(proofs(group.nodes[0].partition.on_timeout(now + SECOND * 2)), 3);
}

#[test]
fn who_says_two_things_while_all_is_well_is_found_out() {
    let mut group = Group::working_group(5, 12);
    // Both say that all are heard; a bit of nobody makes the difference.
    lie_once(&mut group, 0, [0x1f, 0x9f], false);
    group.run(SECOND * 20);
    for n in 0..4 {
        let counts = group.nodes[n].partition.evidence().counts();
        assert_eq!(counts, [(peer(4), EvidenceKind::Equivocation, 1)], "node {n}");
    }
}

#[test]
fn who_grants_one_term_to_two_is_found_out_though_each_sees_one_grant_only() {
    let mut group = Group::working_group(5, 13);
    group.run(SECOND);
    let token = group.nodes[0].partition.token(group.nodes[0].local(group.now)).unwrap();
    let others: Vec<usize> = (0..5).filter(|n| peer(*n) != token.holder).collect();
    let (liar, other) = (others[0], others[1]);
    let message = LeaseMessage::Granted { term: token.term, holder: peer(other), round: 1, asker: 7, life: 9 };
    let grant = Statement::Lease {
        to: peer(other),
        packet: LeasePacket { version: 1, list: group.configuration.list(), message },
    };
    let number = Number { incarnation: u64::MAX, count: 0 };
    let payload = Signed::new(&Cheap(peer(liar)), peer(liar), number, &grant).unwrap().encode().unwrap();
    group.deliver(liar, other, payload.into());
    group.run(SECOND * 4);
    for n in 0..5 {
        let counts = group.nodes[n].partition.evidence().counts();
        assert_eq!(counts, [(peer(liar), EvidenceKind::DoubleGrant, 1)], "node {n}");
    }
}

#[test]
fn a_peer_that_crashed_is_sought_and_done_without() {
    for returns in [true, false] {
        let mut group = Group::working_group(5, 8);
        group.connect(|a, b| a != 4 && b != 4);
        group.run(SECOND * 4);
        let now = group.nodes[0].local(group.now);
        let outputs = group.nodes[0].partition.on_lost(now, peer(4), FailureKind::CrashFailure);
        assert!(outputs.contains(&PartitionOutput::Order(Order::Reconnect)), "{outputs:?}");
        group.run(SECOND * 40);
        assert_eq!(group.working(), all(4), "one of five is no partition");
        if returns {
            group.connect(|_, _| true);
            group.run(SECOND * 5);
        } else {
            group.run(SECOND * 300);
        }
        let metrics = group.nodes[0].partition.report(group.nodes[0].local(group.now)).metrics;
        let wanted = if returns {
            BTreeMap::from([(Strategy::ActiveReconnection, (2, 1))])
        } else {
            BTreeMap::from([(Strategy::ActiveReconnection, (3, 0)), (Strategy::MajorityRule, (1, 1))])
        };
        assert_eq!(metrics.strategies, wanted);
        assert!(!group.nodes[0].orders.contains(&Order::RollBack), "nothing is rolled back where all is well");
    }
}

#[test]
fn rubbish_changes_a_count_and_nothing_else() {
    let mut group = Group::working_group(3, 9);
    let now = group.nodes[0].local(group.now);
    let before = group.nodes[0].partition.report(now);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for length in 0..300 {
        let mut payload: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        if let Some(first) = payload.first_mut() {
            *first = FORMAT;
        }
        let outputs = group.nodes[0].partition.on_packet(now, peer(1), &payload);
        assert_eq!(outputs, []);
    }
    // Of who takes no part it is not even looked at.
    (0..100).for_each(|_| assert_eq!(group.nodes[0].partition.on_packet(now, peer(100), &[FORMAT; 200]), []));
    let mut after = group.nodes[0].partition.report(now);
    assert_eq!(after.metrics.refused, 300);
    after.metrics.refused = before.metrics.refused;
    assert_eq!(after, before);
}

#[test]
fn a_stranger_is_not_listened_to() {
    let mut group = Group::working_group(3, 10);
    let view = Statement::View(View {
        version: 1,
        list: group.configuration.list(),
        heard: vec![0],
        split: true,
        known: Vec::new(),
    });
    let payload = Signed::new(&Cheap(peer(9)), peer(9), Number::default(), &view).unwrap().encode().unwrap();
    group.deliver(1, 0, payload.into());
    group.run(SECOND * 3);
    assert_eq!(group.working(), all(3));
    assert!(group.nodes[0].partition.report(group.nodes[0].local(group.now)).evidence.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_happens_one_side_works_and_afterwards_all_do(
        seed in any::<u64>(), nodes in 3..6_usize, plan in prop::collection::vec((0..5_u8, any::<u64>(), 100..9_000_u64), 1..8)
    ) {
        let mut group = Group::new(nodes, seed);
        for (what, bits, millis) in plan {
            match what {
                0 => group.restart(usize::try_from(bits).unwrap_or_default() % nodes),
                1 => group.connect(|_, _| true),
                2 => group.connect(|a, b| bits >> (a * nodes + b) & 1 == 1),
                _ => group.connect(|a, b| (bits >> a & 1) == (bits >> b & 1)),
            }
            // The group looks after every step that nobody works for two holders.
            group.run(Duration::from_millis(millis));
        }
        group.connect(|_, _| true);
        let healed = group.run_until(SECOND * 30, |group| group.working() == all(nodes));
        prop_assert!(healed.is_some(), "{:?}", group.working());
    }
}

struct Node {
    partition: Partition,
    start: Instant,
    disk: (Option<Memory>, EvidenceSnapshot),
    /// Whether the application works.
    works: bool,
    /// How often the application says that it cannot go on.
    refuses: u32,
    /// How many steps of recoveries are never done.
    silent_steps: u32,
    pauses: Vec<(PauseReason, Duration)>,
    orders: BTreeSet<Order>,
    said: Vec<(Duration, PartitionEvent)>,
}

enum Event {
    Deliver { from: usize, to: usize, payload: Bytes },
    Wake(usize),
}

/// A group with one clock, delays and links that can be cut.
struct Group {
    nodes: Vec<Node>,
    links: Vec<Vec<bool>>,
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
    now: Duration,
    rng: ChaCha8Rng,
    configuration: Arc<Configuration>,
}

impl Group {
    fn new(nodes: usize, seed: u64) -> Self {
        let configuration = Configuration::new(1, (0..nodes).map(peer).collect(), Some(peer(0))).unwrap();
        let mut group = Self {
            nodes: Vec::new(),
            links: vec![vec![true; nodes]; nodes],
            events: BTreeMap::new(),
            count: 0,
            now: Duration::ZERO,
            rng: ChaCha8Rng::seed_from_u64(seed),
            configuration: Arc::new(configuration),
        };
        let base = Instant::now();
        for n in 0..nodes {
            let start = base + SECOND * group.rng.random_range(0..1_000);
            let node = group.node(n, start, (None, EvidenceSnapshot::default()));
            group.nodes.push(node);
            group.push(group.now, Event::Wake(n));
        }
        group
    }

    fn working_group(nodes: usize, seed: u64) -> Self {
        let mut group = Self::new(nodes, seed);
        group.run_until(SECOND * 15, |group| group.working() == all(nodes)).unwrap();
        group
    }

    fn node(&mut self, n: usize, start: Instant, disk: (Option<Memory>, EvidenceSnapshot)) -> Node {
        let (configuration, now) = (Arc::clone(&self.configuration), start + self.now);
        let remembered = Remembered { lease: disk.0, evidence: disk.1.clone() };
        let incarnation = u64::try_from(self.now.as_millis()).unwrap();
        let (config, signer, seed) = (PartitionConfig::default(), Rc::new(Cheap(peer(n))), self.rng.random());
        let partition = Partition::new(peer(n), config, configuration, &remembered, signer, incarnation, seed, now);
        Node {
            partition,
            start,
            disk,
            works: false,
            refuses: 0,
            silent_steps: 0,
            pauses: Vec::new(),
            orders: BTreeSet::new(),
            said: Vec::new(),
        }
    }

    fn restart(&mut self, n: usize) {
        let (start, disk) = (self.nodes[n].start, self.nodes[n].disk.clone());
        self.nodes[n] = self.node(n, start, disk);
        self.push(self.now, Event::Wake(n));
    }

    fn connect(&mut self, there: impl Fn(usize, usize) -> bool) {
        for (from, row) in self.links.iter_mut().enumerate() {
            for (to, link) in row.iter_mut().enumerate() {
                *link = there(from, to);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, payload: Bytes) {
        self.push(self.now, Event::Deliver { from, to, payload });
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    fn run_until(&mut self, most: Duration, mut is: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let (start, end) = (self.now, self.now + most);
        while !is(self) {
            if !self.step(end) {
                return None;
            }
        }
        Some(self.now - start)
    }

    /// Whose applications work, under a lease.
    fn working(&self) -> BTreeSet<usize> {
        let works = |node: &Node| node.works && node.partition.token(node.local(self.now)).is_some();
        (0..self.nodes.len()).filter(|n| works(&self.nodes[*n])).collect()
    }

    /// When a node first said something, since a moment.
    fn first(&self, n: usize, since: Duration, is: &dyn Fn(&PartitionEvent) -> bool) -> Option<Duration> {
        let mut after = self.nodes[n].said.iter().filter(|(at, _)| *at >= since);
        after.find(|(_, event)| is(event)).map(|(at, _)| *at - since)
    }

    fn step(&mut self, end: Duration) -> bool {
        let Some(((at, _), event)) = self.events.pop_first() else { return false };
        if at > end {
            self.events.insert((at, 0), event);
            self.now = end;
            return false;
        }
        self.now = at;
        let (n, outputs) = match event {
            Event::Wake(n) => {
                let now = self.nodes[n].local(self.now);
                (n, self.nodes[n].partition.on_timeout(now))
            }
            Event::Deliver { from, to, payload } => {
                let now = self.nodes[to].local(self.now);
                (to, self.nodes[to].partition.on_packet(now, peer(from), &payload))
            }
        };
        self.carry_out(n, outputs);
        self.wake(n);
        let holders: BTreeSet<PeerId> = (0..self.nodes.len()).filter_map(|n| self.holder_of(n)).collect();
        assert!(holders.len() <= 1, "two sides are active");
        true
    }

    fn holder_of(&self, n: usize) -> Option<PeerId> {
        let node = &self.nodes[n];
        let now = node.local(self.now);
        let token = node.partition.token(now);
        assert_eq!(token.is_some(), node.partition.report(now).standing != Standing::Paused);
        token.map(|token| token.holder)
    }

    fn carry_out(&mut self, n: usize, outputs: Vec<PartitionOutput>) {
        for output in outputs {
            let now = self.nodes[n].local(self.now);
            let node = &mut self.nodes[n];
            let more = match output {
                PartitionOutput::PersistLease(memory) => {
                    node.disk.0 = Some(memory);
                    Vec::new()
                }
                PartitionOutput::PersistEvidence(evidence) => {
                    node.disk.1 = evidence;
                    Vec::new()
                }
                PartitionOutput::Send { to, payload } => {
                    self.send(n, usize::from(to.as_bytes()[0]) - 1, payload);
                    Vec::new()
                }
                PartitionOutput::Emit(event) => {
                    node.said.push((self.now, event));
                    Vec::new()
                }
                PartitionOutput::Pause { reason, grace } => {
                    node.pauses.push((reason, grace));
                    node.works = false;
                    node.partition.on_paused(now)
                }
                PartitionOutput::Resume { token } => {
                    assert_eq!(node.partition.token(now), Some(token));
                    let refused = node.refuses > 0;
                    node.refuses = node.refuses.saturating_sub(1);
                    node.works = !refused;
                    node.partition.on_resumed(now, !refused)
                }
                PartitionOutput::Order(order) => {
                    node.orders.insert(order);
                    Vec::new()
                }
                PartitionOutput::Recover(_) if node.silent_steps > 0 => {
                    node.silent_steps -= 1;
                    Vec::new()
                }
                PartitionOutput::Recover(step) => {
                    assert!(matches!(step, RecoveryStep::SynchronizingState | RecoveryStep::ValidatingConsensus));
                    node.partition.on_step_done(now, step).unwrap()
                }
            };
            self.carry_out(n, more);
        }
    }

    fn send(&mut self, from: usize, to: usize, payload: Bytes) {
        if self.links[from][to] && !self.rng.random_ratio(1, 100) {
            let delay = Duration::from_millis(self.rng.random_range(1..=60));
            self.push(self.now + delay, Event::Deliver { from, to, payload });
        }
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    fn wake(&mut self, n: usize) {
        let node = &self.nodes[n];
        let now = node.local(self.now);
        let at = self.now + node.partition.deadline(now).saturating_duration_since(now) + Duration::from_nanos(1);
        let known = |(_, event): (_, &Event)| matches!(event, Event::Wake(m) if *m == n);
        if !self.events.range((at, 0)..=(at, u64::MAX)).any(known) {
            self.push(at, Event::Wake(n));
        }
    }
}

impl Node {
    fn local(&self, now: Duration) -> Instant {
        self.start + now
    }
}

fn all(nodes: usize) -> BTreeSet<usize> {
    (0..nodes).collect()
}

fn peer(n: usize) -> PeerId {
    PeerId::from_bytes([u8::try_from(n).unwrap() + 1; 32])
}
