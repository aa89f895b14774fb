//! Every run of a small group: whatever messages are lost, late, doubled or out of order, whoever pauses, comes back with or without its
//! memory, however clocks go within their bound. The machine itself is driven, not a copy.
//!
//! How time is modelled: a grant lasts [`GRANT`] units and clocks may go at half or full speed, that is one or two units a step; so the bound
//! of the drift is a third, and a holder counts half of what it asked for. Small numbers, and exactly on the edge: one unit more would break it.
//!
//! How the network is modelled: a message that was sent can be delivered at any later moment, any number of times, or never. That includes
//! every partition, partial, one-way or changing. A node that is paused is one that does nothing while its clock goes on.
//!
//! What is bounded: how many terms are asked for, how often each is renewed, how many times nodes crash.

mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::partition::{Standing, Term, Token};

use super::{Configuration, Lease, LeaseMessage, LeaseOutput, LeasePacket, LeaseTiming, Memory};

/// One unit of a clock.
const UNIT: Duration = Duration::from_secs(1);
/// Units that a grant lasts.
const GRANT: u32 = 4;
/// The bound of clocks that go at one or two units a step: (1 − d) ÷ (1 + d) is just below a half.
const DRIFT_PPM: u32 = 333_334;

/// What is explored.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Participants.
    nodes: usize,
    /// The first so many of them may ask for a lease.
    candidates: usize,
    /// The highest term.
    terms: u64,
    /// Rounds of asking for one term, and for terms that were forgotten.
    rounds: u64,
    /// Crashes of all nodes together, each with the memory kept or lost; no more than a minority have lost it at once.
    crashes: u64,
    /// Whether members are active through their holder.
    members: bool,
    /// Whether those who are active do something, which the others hear of.
    acts: bool,
    /// Whether an answer arrives at once, when it does. Otherwise at any time.
    prompt_answers: bool,
    /// The clocks of the first so many nodes have either speed, and may change it with every step. Those of the others are fast: that is the worst
    /// for nodes that only grant. With none of them free, clocks are known to be exact, so that leases last as long as they may there, too.
    free_clocks: usize,
    /// What is broken on purpose.
    broken: Option<Broken>,
}

/// Ways to break the lease, each of which has to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// Clocks are believed to be exact.
    NoDrift,
    /// A node grants whoever asks, bound or not.
    GrantsTwo,
    /// Actions are taken whatever their term.
    NoFence,
    /// A node that comes back grants at once.
    NoHoldOff,
    /// A node that has lost its memory asks nobody for terms.
    NoLearning,
    /// A node writes nothing down, and says that it remembers.
    ForgetsTerms,
    /// A node that has lost its memory asks for terms, and listens, when half of the time is over for which grants of the life before may still bind.
    LearnsEarly,
    /// All lives of a node have the same number.
    OneLife,
}

/// One node and its clock.
#[derive(Clone)]
struct Node {
    lease: Lease,
    /// Units since the model began, on its own clock.
    clock: u32,
    /// What is on its disk.
    disk: Option<Memory>,
    /// The highest term it let something be done under.
    admitted: Term,
}

/// A message somewhere on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Envelope {
    /// About leases.
    Lease { from: usize, to: usize, packet: LeasePacket },
    /// Something that is done under a lease, for everybody.
    Action(Token),
}

/// All nodes and all messages.
#[derive(Clone)]
struct World {
    nodes: Vec<Arc<Node>>,
    sent: BTreeSet<Envelope>,
    crashes: u64,
    /// Who was ever active in a term.
    held: BTreeMap<Term, PeerId>,
    /// Something was done after something of a higher term was done.
    unfenced: bool,
}

/// One step.
#[derive(Debug, Clone)]
enum Step {
    /// Time passes; each clock by one unit or two.
    Tick(Vec<u32>),
    /// A node asks for a new term, above this one.
    Campaign(usize, Term),
    Renew(usize),
    Abandon(usize),
    /// A node does something under its lease.
    Act(usize),
    Deliver(Envelope),
    /// To one node.
    DeliverAction(usize, Token),
    /// A node ends and comes back, with its memory or without.
    Crash(usize, bool),
    /// A node that has forgotten its terms asks the others.
    Learn(usize),
}

/// What was explored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Explored {
    states: usize,
    steps: u64,
    /// States with an active holder: that there are any says that something was tested.
    active: usize,
}

fn peer(node: usize) -> PeerId {
    PeerId::from_bytes([u8::try_from(node).unwrap() + 1; 32])
}

fn index(peer: PeerId) -> usize {
    usize::from(peer.as_bytes()[0]) - 1
}

impl Bounds {
    const fn three() -> Self {
        Self {
            nodes: 3,
            candidates: 3,
            terms: 2,
            rounds: 1,
            crashes: 0,
            members: false,
            acts: false,
            prompt_answers: false,
            free_clocks: 3,
            broken: None,
        }
    }

    /// What is explored with every run of the tests.
    fn small() -> Self {
        Self { candidates: 2, prompt_answers: true, free_clocks: 2, ..Self::three() }
    }

    fn timing(&self) -> LeaseTiming {
        let exact = self.free_clocks == 0 || self.broken == Some(Broken::NoDrift);
        let drift_ppm = if exact { 0 } else { DRIFT_PPM };
        LeaseTiming { duration: UNIT * GRANT, drift_ppm }
    }

    fn start(&self, base: Instant) -> World {
        let participants = (0..self.nodes).map(peer).collect();
        let configuration = Arc::new(Configuration::new(1, participants, None).unwrap());
        let node = |n| {
            let memory = Some(Memory::default());
            let early = base - UNIT * GRANT;
            let lease = Lease::new(peer(n), Arc::clone(&configuration), self.timing(), memory, 0, early);
            Arc::new(Node { lease, clock: 0, disk: memory, admitted: Term(0) })
        };
        World {
            nodes: (0..self.nodes).map(node).collect(),
            sent: BTreeSet::new(),
            crashes: 0,
            held: BTreeMap::new(),
            unfenced: false,
        }
    }

    fn rates(&self) -> Vec<Vec<u32>> {
        let free = self.free_clocks;
        let of = |mask: u32| (0..self.nodes).map(|n| if n < free && mask >> n & 1 == 1 { 1 } else { 2 }).collect();
        (0..1_u32 << free).map(of).collect()
    }

    /// All steps that may change something.
    fn steps(&self, world: &World, base: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        for (n, node) in world.nodes.iter().enumerate() {
            let now = node.now(base);
            if n < self.candidates {
                for above in node.lease.memory().term.0..self.terms {
                    steps.push(Step::Campaign(n, Term(above)));
                }
                if node.lease.round().is_some_and(|round| round < self.rounds) {
                    steps.push(Step::Renew(n));
                }
                if node.lease.asking().is_some() {
                    steps.push(Step::Abandon(n));
                }
            }
            if self.acts && node.lease.standing(now) != Standing::Paused {
                steps.push(Step::Act(n));
            }
            if node.lease.learning_round(self.when_learning(now)).is_some_and(|round| round < self.rounds) {
                steps.push(Step::Learn(n));
            }
            if world.crashes < self.crashes {
                steps.push(Step::Crash(n, true));
                let lost = (0..self.nodes).filter(|m| *m != n && world.nodes[*m].lease.is_learning());
                if lost.count() < (self.nodes - 1) / 2 {
                    steps.push(Step::Crash(n, false));
                }
            }
        }
        for envelope in &world.sent {
            match *envelope {
                Envelope::Lease { .. } => steps.push(Step::Deliver(*envelope)),
                Envelope::Action(token) => steps.extend((0..self.nodes).map(|n| Step::DeliverAction(n, token))),
            }
        }
        steps.extend(self.rates().into_iter().map(Step::Tick));
        steps
    }

    fn apply(&self, world: &mut World, step: &Step, base: Instant) {
        match step {
            Step::Tick(rates) => {
                for (node, rate) in world.nodes.iter_mut().zip(rates) {
                    Arc::make_mut(node).clock += rate;
                }
            }
            Step::Campaign(n, above) => {
                let hint = LeaseMessage::Refused { term: Term(0), asker: 0, highest: *above, never: true };
                let from = peer((n + 1) % self.nodes);
                self.node(world, *n, base, |node, now| {
                    node.lease.on_packet(
                        now,
                        from,
                        LeasePacket { version: 1, list: node.lease.configuration().list(), message: hint },
                    );
                    node.lease.campaign(now)
                });
            }
            Step::Renew(n) => self.node(world, *n, base, |node, now| node.lease.renew(now)),
            Step::Abandon(n) => self.node(world, *n, base, |node, now| node.lease.abandon(now)),
            Step::Act(n) => {
                let node = &world.nodes[*n];
                if let Some(token) = node.lease.token(node.now(base)) {
                    world.sent.insert(Envelope::Action(token));
                }
            }
            Step::Deliver(Envelope::Lease { from, to, packet }) => self.deliver(world, *from, *to, *packet, base),
            Step::Deliver(Envelope::Action(_)) => {}
            Step::DeliverAction(n, token) => {
                let mut unfenced = false;
                self.node(world, *n, base, |node, _| {
                    let outputs = node.lease.admit(*token);
                    if outputs.is_ok() || self.broken == Some(Broken::NoFence) {
                        unfenced = token.term < node.admitted;
                        node.admitted = token.term;
                    }
                    outputs.unwrap_or_default()
                });
                world.unfenced |= unfenced;
            }
            Step::Crash(n, keeps) => self.crash(world, *n, *keeps, base),
            Step::Learn(n) => {
                self.node(world, *n, base, |node, now| node.lease.probe_for_terms(self.when_learning(now)));
            }
        }
    }

    fn crash(&self, world: &mut World, n: usize, keeps: bool, base: Instant) {
        world.crashes += 1;
        // Far from each other, since rounds are counted on from them.
        let life = if self.broken == Some(Broken::OneLife) { 0 } else { world.crashes << 32 };
        self.node(world, n, base, |node, now| {
            let memory = match self.broken {
                Some(Broken::NoLearning) if !keeps => Some(Memory::default()),
                Some(Broken::ForgetsTerms) => Some(Memory::default()),
                Some(_) | None => node.disk.filter(|_| keeps),
            };
            let since = if self.broken == Some(Broken::NoHoldOff) { now - UNIT * GRANT } else { now };
            let configuration = Arc::clone(node.lease.configuration());
            node.lease = Lease::new(peer(n), configuration, self.timing(), memory, life, since);
            node.disk = memory;
            Vec::new()
        });
    }

    /// The time that a node goes by when it asks for terms, and when it is told.
    fn when_learning(&self, now: Instant) -> Instant {
        if self.broken == Some(Broken::LearnsEarly) { now + UNIT * (GRANT / 2) } else { now }
    }

    fn deliver(&self, world: &mut World, from: usize, to: usize, packet: LeasePacket, base: Instant) {
        self.node(world, to, base, |node, now| {
            let now = match packet.message {
                // A node whose clock is in the future for this one message believes that its grant for a lower term is over.
                LeaseMessage::Ask { term, .. } if self.broken == Some(Broken::GrantsTwo) => {
                    now + UNIT * GRANT * 2 * u32::try_from(term.0).unwrap()
                }
                LeaseMessage::Answer { .. } => self.when_learning(now),
                LeaseMessage::Probe { .. }
                | LeaseMessage::Ask { .. }
                | LeaseMessage::Granted { .. }
                | LeaseMessage::Refused { .. }
                | LeaseMessage::Confirmed { .. }
                | LeaseMessage::Withdrawn { .. } => now,
            };
            node.lease.on_packet(now, peer(from), packet)
        });
    }

    /// Lets a node do something and takes its outputs.
    fn node(
        &self,
        world: &mut World,
        n: usize,
        base: Instant,
        act: impl FnOnce(&mut Node, Instant) -> Vec<LeaseOutput>,
    ) {
        let node = Arc::make_mut(&mut world.nodes[n]);
        let now = node.now(base);
        let outputs = act(node, now);
        for output in outputs {
            match output {
                LeaseOutput::Persist(memory) => Arc::make_mut(&mut world.nodes[n]).disk = Some(memory),
                LeaseOutput::Send { to, packet } => self.send(world, n, index(to), packet, base),
            }
        }
    }

    fn send(&self, world: &mut World, from: usize, to: usize, packet: LeasePacket, base: Instant) {
        match packet.message {
            // What it would tell is in the choice of terms to ask for.
            LeaseMessage::Refused { .. } => return,
            LeaseMessage::Confirmed { .. } if !self.members => return,
            // Comes to those only who can do something with it.
            LeaseMessage::Answer { .. } if !world.nodes[to].lease.is_learning() => return,
            LeaseMessage::Granted { .. } | LeaseMessage::Answer { .. } if self.prompt_answers => {
                return self.deliver(world, from, to, packet, base);
            }
            LeaseMessage::Probe { .. }
            | LeaseMessage::Answer { .. }
            | LeaseMessage::Ask { .. }
            | LeaseMessage::Granted { .. }
            | LeaseMessage::Confirmed { .. }
            | LeaseMessage::Withdrawn { .. } => {}
        }
        world.sent.insert(Envelope::Lease { from, to, packet });
    }

    /// What has to hold in every state. Says whether anybody holds a lease.
    fn check(&self, world: &mut World, base: Instant) -> Result<bool, String> {
        if world.unfenced {
            return Err("something was done after something of a higher term was done".into());
        }
        let mut active: Option<Token> = None;
        let mut holder = false;
        for n in 0..self.nodes {
            let node = Arc::clone(&world.nodes[n]);
            let now = node.now(base);
            let Some(token) = node.lease.token(now) else { continue };
            // A holder that takes a higher term may be active with that one while its members are with the one before.
            if let Some(other) = active.replace(token).filter(|other| other.holder != token.holder) {
                return Err(format!("two sides are active: {other:?} and {token:?}"));
            }
            if *world.held.entry(token.term).or_insert(token.holder) != token.holder {
                return Err(format!("{:?} was held by two", token.term));
            }
            if node.lease.is_holder(now) {
                holder = true;
                // What is broken on purpose has to be found by what it leads to.
                if self.broken.is_none() {
                    self.check_quorum(world, token, base)?;
                }
            }
        }
        Ok(holder)
    }

    /// A minority is paused: whoever holds a lease is granted it by a quorum at this very moment, where nodes that came back and hold off
    /// count as bound.
    fn check_quorum(&self, world: &World, token: Token, base: Instant) -> Result<(), String> {
        let bound = |node: &Node| {
            let now = node.now(base);
            let bound = node.lease.bound_to(now) == Some(token.holder);
            bound || node.lease.is_learning() || node.lease.held_off(now).is_some()
        };
        let peers: Vec<PeerId> = (0..self.nodes).filter(|n| bound(&world.nodes[*n])).map(peer).collect();
        let quorum = world.nodes[0].lease.configuration().is_quorum(&peers);
        if quorum { Ok(()) } else { Err(format!("{token:?} is held by the grants of {peers:?} only")) }
    }

    /// Looks at every state that can be reached. What is broken is looked for in the order of how many steps it takes; otherwise the deepest
    /// states are next, so that few have to be kept.
    fn explore(&self) -> Result<Explored, String> {
        self.explore_with(|_, _, _| ())
    }

    /// The same, and calls `visit` with every state and its number.
    fn explore_with(&self, mut visit: impl FnMut(usize, &World, Instant)) -> Result<Explored, String> {
        let base = Instant::now() + UNIT * 1_000;
        let mut explored = Explored { states: 1, ..Explored::default() };
        let start = self.start(base);
        let mut seen: HashSet<u128> = HashSet::from([self.fingerprint(&start, base)]);
        let mut came: Vec<(usize, Option<Step>)> = vec![(0, None)];
        let mut open: VecDeque<(World, usize)> = VecDeque::from([(start, 0)]);
        while let Some((world, from)) = if self.broken.is_some() { open.pop_front() } else { open.pop_back() } {
            for step in self.steps(&world, base) {
                explored.steps += 1;
                let mut next = world.clone();
                self.apply(&mut next, &step, base);
                if next.crashes == self.crashes {
                    next.forget_what_is_past();
                }
                let holds = match self.check(&mut next, base) {
                    Ok(holds) => holds,
                    Err(why) => return Err(story(&came, from, &step, &why)),
                };
                if seen.insert(self.fingerprint(&next, base)) {
                    visit(explored.states, &next, base);
                    explored.states += 1;
                    explored.active += usize::from(holds);
                    if explored.states.is_multiple_of(1_000_000) {
                        println!("{explored:?}, {} open", open.len());
                    }
                    came.push((from, Some(step)));
                    open.push_back((next, came.len() - 1));
                }
            }
        }
        Ok(explored)
    }

    /// A state's fingerprint, the same for states that differ in when they are, or in the names of nodes.
    fn fingerprint(&self, world: &World, base: Instant) -> u128 {
        let orders = permutations(self.candidates);
        orders.into_iter().map(|order| self.fingerprint_under(world, base, &order)).min().unwrap_or_default()
    }

    /// The fingerprint with candidates in this order, and the others in that of what they do.
    fn fingerprint_under(&self, world: &World, base: Instant, order: &[usize]) -> u128 {
        let mut name = vec![u8::MAX; self.nodes];
        for (new, old) in order.iter().enumerate() {
            name[*old] = u8::try_from(new).unwrap();
        }
        let state_of = |n: usize, name: &[u8], salt: u8| {
            let node = &world.nodes[n];
            let mut hasher = DefaultHasher::new();
            node.lease.hash_state(node.now(base), self.members, &|peer| name[index(peer)], &mut hasher);
            (salt, node.disk.map(|disk| (disk.term, disk.owner.map(|peer| name[index(peer)]))), node.admitted)
                .hash(&mut hasher);
            hasher.finish()
        };
        let mut others: Vec<usize> = (0..self.nodes).filter(|n| name[*n] == u8::MAX).collect();
        if others.len() > 1 {
            // Equal keys are no proof that it makes no difference; then states are told apart that need not be, which does no harm.
            others.sort_by_cached_key(|n| {
                let seen_by = |c: &usize| {
                    let node = &world.nodes[*c];
                    node.lease.granted_by(peer(*n), node.now(base))
                };
                let mut messages: Vec<_> = world.sent.iter().filter_map(|envelope| envelope.with(*n, &name)).collect();
                messages.sort_unstable();
                (state_of(*n, &name, 0), order.iter().map(seen_by).collect::<Vec<_>>(), messages)
            });
        }
        let all: Vec<usize> = order.iter().copied().chain(others).collect();
        for (new, old) in all.iter().enumerate() {
            name[*old] = u8::try_from(new).unwrap();
        }
        let mut sent: Vec<_> = world.sent.iter().map(|envelope| envelope.under(&name)).collect();
        sent.sort_unstable();
        let held: Vec<(Term, u8)> = world.held.iter().map(|(term, peer)| (*term, name[index(*peer)])).collect();
        let of = |salt: u8| {
            let states: Vec<u64> = all.iter().map(|n| state_of(*n, &name, salt)).collect();
            hash(&(salt, states, &sent, world.crashes, &held))
        };
        u128::from(of(1)) << 64 | u128::from(of(2))
    }
}

/// A message under other names: from, to, about whom, what, which term.
type Renamed = (u8, u8, Option<u8>, Option<LeaseMessage>, Option<Term>);

impl Envelope {
    /// The message with other names.
    fn under(&self, name: &[u8]) -> Renamed {
        match *self {
            Self::Lease { from, to, packet } => {
                let mut message = packet.message;
                let mut whose = None;
                if let LeaseMessage::Granted { holder, .. } = &mut message {
                    whose = Some(name[index(*holder)]);
                    *holder = peer(0);
                }
                (name[from], name[to], whose, Some(message), None)
            }
            Self::Action(token) => (0, 0, Some(name[index(token.holder)]), None, Some(token.term)),
        }
    }

    /// The message with other names, when it is to or from this node.
    fn with(&self, n: usize, name: &[u8]) -> Option<Renamed> {
        match self {
            Self::Lease { from, to, .. } if *from == n || *to == n => Some(self.under(name)),
            Self::Lease { .. } | Self::Action(_) => None,
        }
    }
}

/// All orders of the first so many numbers.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for n in 0..count {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<usize>| {
                (0..=n).map(move |at| {
                    let mut order = order.clone();
                    order.insert(at, n);
                    order
                })
            })
            .collect();
    }
    orders
}

impl World {
    /// Drops messages that can change nothing any more, when nobody forgets any more.
    fn forget_what_is_past(&mut self) {
        let nodes = &self.nodes;
        self.sent.retain(|envelope| match envelope {
            Envelope::Lease { from, packet: LeasePacket { message: LeaseMessage::Probe { .. }, .. }, .. } => {
                nodes[*from].lease.is_learning()
            }
            Envelope::Lease { from, to, packet } => !nodes[*to].lease.is_past(peer(*from), &packet.message),
            Envelope::Action(_) => true,
        });
    }
}

impl Node {
    fn now(&self, base: Instant) -> Instant {
        base + UNIT * self.clock
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What happened, from the beginning.
fn story(came: &[(usize, Option<Step>)], mut at: usize, last: &Step, why: &str) -> String {
    let mut steps = vec![last];
    while let (from, Some(step)) = &came[at] {
        steps.push(step);
        at = *from;
    }
    let mut text = format!("{why}, after:\n");
    for step in steps.iter().rev() {
        let _ = writeln!(text, "  {step:?}");
    }
    text
}
