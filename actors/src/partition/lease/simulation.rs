//! A group with clocks, delays and links that can be cut, to see how soon a side becomes active. All chance comes from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::partition::{Standing, Term, Token};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Configuration, Contest, ContestOutput, Lease, LeasePacket, LeaseTiming, Memory, Pacing};

/// What leases are by default.
pub(super) const TIMING: LeaseTiming = LeaseTiming { duration: Duration::from_secs(3), drift_ppm: 10_000 };
/// And how they are sought.
pub(super) const PACING: Pacing =
    Pacing { renew: Duration::from_millis(500), answer: Duration::from_secs(1), spread: Duration::from_secs(1) };

enum Event {
    Deliver { from: usize, to: usize, packet: LeasePacket },
    Wake(usize),
}

struct Member {
    contest: Contest,
    /// What its clock showed at the beginning, and how fast it goes.
    start: Instant,
    rate: f64,
    disk: Option<Memory>,
    said: Option<Token>,
    down: bool,
}

pub(super) struct Simulation {
    members: Vec<Member>,
    /// `links[a][b]`: what a sends comes to b.
    links: Vec<Vec<bool>>,
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
    now: Duration,
    rng: ChaCha8Rng,
    /// Shortest and longest delay of a message.
    pub(super) delay: (Duration, Duration),
    /// Who was ever active in a term.
    held: BTreeMap<Term, PeerId>,
    /// How many messages in a thousand are lost, and as many doubled.
    pub(super) loss_permille: u32,
}

pub(super) fn peer(node: usize) -> PeerId {
    PeerId::from_bytes([u8::try_from(node).unwrap() + 1; 32])
}

impl Simulation {
    /// A group that starts, with an empty disk each.
    pub(super) fn new(nodes: usize, seed: u64) -> Self {
        let configuration = Configuration::new(1, (0..nodes).map(peer).collect(), None).unwrap();
        let configuration = Arc::new(configuration);
        let base = Instant::now() + Duration::from_secs(3_600);
        let mut simulation = Self::empty(nodes, seed);
        for n in 0..nodes {
            let start = base + Duration::from_millis(simulation.rng.random_range(0..1_000_000));
            let rate = 1.0 + simulation.rng.random_range(-9_900..=9_900_i32) as f64 / 1e6;
            let seed = simulation.rng.random();
            let contest = Contest::new(peer(n), Arc::clone(&configuration), TIMING, PACING, None, seed, start);
            simulation.add(contest, start, rate);
        }
        simulation
    }

    /// A group that goes on with leases that exist, each with the time and the speed of its clock.
    pub(super) fn around(leases: Vec<(Lease, Instant, f64)>, pacing: Pacing, seed: u64) -> Self {
        let mut simulation = Self::empty(leases.len(), seed);
        simulation.delay = (Duration::from_millis(1), Duration::from_millis(20));
        for (n, (lease, start, rate)) in leases.into_iter().enumerate() {
            let contest = Contest::around(peer(n), lease, pacing, seed + n as u64, start);
            simulation.add(contest, start, rate);
        }
        simulation
    }

    fn empty(nodes: usize, seed: u64) -> Self {
        Self {
            members: Vec::new(),
            links: vec![vec![true; nodes]; nodes],
            events: BTreeMap::new(),
            count: 0,
            now: Duration::ZERO,
            rng: ChaCha8Rng::seed_from_u64(seed),
            delay: (Duration::from_millis(1), Duration::from_millis(100)),
            held: BTreeMap::new(),
            loss_permille: 0,
        }
    }

    fn add(&mut self, contest: Contest, start: Instant, rate: f64) {
        let said = contest.token(start);
        self.members.push(Member { contest, start, rate, disk: None, said, down: false });
        self.wake(self.members.len() - 1);
    }

    /// Cuts and heals links: what the first sends comes to the second when `there` says so.
    pub(super) fn connect(&mut self, there: impl Fn(usize, usize) -> bool) {
        for (from, row) in self.links.iter_mut().enumerate() {
            for (to, link) in row.iter_mut().enumerate() {
                *link = there(from, to);
            }
        }
    }

    /// Lets time pass. Panics when two sides are active at any moment.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Lets time pass until something is so, for at most this long; says how long it took.
    pub(super) fn run_until(&mut self, most: Duration, mut is: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let (start, end) = (self.now, self.now + most);
        while !is(self) {
            if !self.step(end) {
                return None;
            }
        }
        Some(self.now - start)
    }

    /// Takes a node down, and brings it back with its memory or without.
    pub(super) fn crash(&mut self, n: usize) {
        self.members[n].down = true;
        self.members[n].said = None;
    }

    pub(super) fn restart(&mut self, n: usize, keeps: bool) {
        let seed = self.rng.random();
        let now = self.local(n);
        let member = &mut self.members[n];
        let disk = member.disk.filter(|_| keeps);
        let configuration = Arc::clone(member.contest.lease().configuration());
        member.contest = Contest::new(peer(n), configuration, TIMING, PACING, disk, seed, now);
        member.disk = disk;
        member.down = false;
        self.wake(n);
    }

    /// Who is active, with whom.
    pub(super) fn active(&self) -> BTreeMap<usize, Token> {
        let token = |n: usize| self.members[n].contest.token(self.local(n)).filter(|_| !self.members[n].down);
        (0..self.members.len()).filter_map(|n| token(n).map(|token| (n, token))).collect()
    }

    pub(super) fn holder(&self) -> Option<usize> {
        let holds = |n: usize| matches!(self.members[n].contest.standing(self.local(n)), Standing::Holder { .. });
        (0..self.members.len()).find(|n| holds(*n) && !self.members[*n].down)
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
            Event::Wake(n) if self.members[n].down => return true,
            Event::Wake(n) => {
                let now = self.local(n);
                (n, self.members[n].contest.on_timeout(now))
            }
            Event::Deliver { to, .. } if self.members[to].down => return true,
            Event::Deliver { from, to, packet } => {
                let now = self.local(to);
                (to, self.members[to].contest.on_packet(now, peer(from), packet))
            }
        };
        self.carry_out(n, outputs);
        self.wake(n);
        self.check();
        true
    }

    fn carry_out(&mut self, n: usize, outputs: Vec<ContestOutput>) {
        for output in outputs {
            match output {
                ContestOutput::Persist(memory) => self.members[n].disk = Some(memory),
                ContestOutput::Active(token) => self.members[n].said = Some(token),
                ContestOutput::Paused => self.members[n].said = None,
                ContestOutput::Send { to, packet } => self.send(n, usize::from(to.as_bytes()[0]) - 1, packet),
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, packet: LeasePacket) {
        let (lost, doubled) = (self.chance(), self.chance());
        if !self.links[from][to] || lost {
            return;
        }
        for _ in 0..=usize::from(doubled) {
            let delay = self.rng.random_range(self.delay.0..=self.delay.1);
            self.push(self.now + delay, Event::Deliver { from, to, packet });
        }
    }

    fn chance(&mut self) -> bool {
        self.rng.random_range(0..1_000) < self.loss_permille
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    /// Early and spurious calls do no harm, so timers are not taken back.
    fn wake(&mut self, n: usize) {
        let now = self.local(n);
        let member = &self.members[n];
        let wait = member.contest.deadline(now).saturating_duration_since(now);
        let at = self.now + wait.div_f64(member.rate) + Duration::from_nanos(1_000);
        let known =
            self.events.range((at, 0)..=(at, u64::MAX)).any(|(_, event)| matches!(event, Event::Wake(m) if *m == n));
        if !known {
            self.push(at, Event::Wake(n));
        }
    }

    fn local(&self, n: usize) -> Instant {
        self.members[n].start + self.now.mul_f64(self.members[n].rate)
    }

    /// What everybody is at, for the message of a test that fails.
    pub(super) fn show(&self) -> String {
        let of = |n: usize| {
            let (now, lease) = (self.local(n), self.members[n].contest.lease());
            let (bound, off) = (lease.bound(now), lease.held_off(now));
            format!("{n}: {:?} {:?} {bound:?} {off:?} {}", lease.memory(), lease.standing(now), lease.is_learning())
        };
        (0..self.members.len()).map(of).collect::<Vec<_>>().join("; ")
    }

    /// A message that was on its way from the beginning.
    pub(super) fn deliver(&mut self, from: usize, to: usize, packet: LeasePacket) {
        let delay = self.rng.random_range(self.delay.0..=self.delay.1);
        self.push(self.now + delay, Event::Deliver { from, to, packet });
    }

    /// Whether a node may lose its disk: no more than a minority are without at once.
    pub(super) fn may_forget(&self, n: usize) -> bool {
        let without = |m: &usize| *m != n && self.members[*m].contest.lease().is_learning();
        (0..self.members.len()).filter(without).count() < (self.members.len() - 1) / 2
    }

    fn check(&mut self) {
        for token in self.active().into_values() {
            let holder = *self.held.entry(token.term).or_insert(token.holder);
            assert_eq!(holder, token.holder, "{:?} was held by two, at {:?}", token.term, self.now);
        }
        let holders: BTreeSet<PeerId> = self.active().values().map(|token| token.holder).collect();
        assert!(holders.len() <= 1, "active at {:?}: {:?}", self.now, self.active());
    }
}
