//! The membership of one node: who is there, as far as it can tell.
//!
//! ```text
//!            own statement, or heard                   said good-bye
//!   unknown ────────────────────────▶ alive ─────────────────────────────▶ left
//!                                     │   ▲                                 ▲
//!                an accusation        ▼   │ a greater number                │
//!                                    suspect ──────────────────────▶ down ──┘
//!                                           nothing in time           │
//!                                                                     └──▶ alive, under a new name (renewal, or life)
//! ```
//!
//! SWIM's questions and answers come from `foca` ([`super::swim`]); what members say is in signed statements ([`super::wire`]), each passed on a
//! bounded number of times ([`super::news`]). A suspicion waits the longer the fewer share it ([`super::suspicion`]); a node that has reason to
//! doubt itself asks more slowly ([`super::doubt`]); who is accused is told first.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bowline_messages::config::MembershipConfig;
use bowline_messages::membership::{MemberInfo, MembershipEvent};
use bowline_messages::{Incarnation, PeerId};
use bytes::Bytes;
use foca::{Header, Message, Timer};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::allowance::Allowance;
use super::doubt::Doubt;
use super::news::News;
use super::roster::{Accusers, Accusing, Roster};
use super::suspicion::Limits;
use super::swim::{Swim, Want};
use super::wire::{self, Claim, Digests, Node, Signature, Statement};
use super::{Keys, Refusal};

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum MembershipOutput {
    /// A packet is to be brought to a peer, over a session or through others. It may be lost.
    Send {
        /// To whom.
        to: PeerId,
        /// The packet without its signature: [`Membership::whole`] adds that, where it does not go over a session with its receiver.
        unsigned: Bytes,
    },
    /// Something happened.
    Emit(MembershipEvent),
}

/// Something to be done at a certain time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// A timer of the protocol.
    Swim(Timer<Node>),
    /// News is passed on.
    Gossip,
    /// A part of the list of members is asked for.
    Sync,
    /// Peers that are to be joined, and excluded members, are tried.
    Retry,
    /// Others are asked whether they know better than those who suspect.
    Question,
}

/// A member that was asked whether it is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    pub(super) peer: PeerId,
    pub(super) number: u8,
    pub(super) answered: bool,
}

/// A peer that is to be joined.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed {
    pub(super) next: Instant,
    pub(super) wait: Duration,
}

/// The membership of one node.
pub struct Membership {
    pub(super) config: MembershipConfig,
    pub(super) keys: Box<dyn Keys>,
    pub(super) swim: Swim,
    pub(super) rng: ChaCha8Rng,
    /// This node's name at present, and how many accusations it answered under it.
    pub(super) node: Node,
    pub(super) number: u16,
    /// What it says of itself.
    pub(super) own: Statement,
    pub(super) sequence: u64,
    pub(super) roster: Roster,
    pub(super) doubt: Doubt,
    pub(super) news: News,
    pub(super) probe: Option<Probe>,
    pub(super) seeds: BTreeMap<PeerId, Seed>,
    /// After whom the next part of the list is asked for, and whom it was asked for last.
    pub(super) sync_after: Option<PeerId>,
    pub(super) sync_with: Option<PeerId>,
    /// When the comparison with that one began.
    pub(super) sync_since: Instant,
    /// Whom this node asked last to take it in: such a one may send the beginning of its list.
    pub(super) invited: VecDeque<PeerId>,
    /// Lists are to be compared again soon after this comparison.
    pub(super) sync_again: bool,
    /// After whom the packet that is being handled asks for members, and what its sender knows.
    pub(super) asked: (Option<PeerId>, Option<Digests>),
    pub(super) renewed: Option<Instant>,
    /// Whether a question was brought to its end since then.
    pub(super) concluded: bool,
    /// Who accused this node lately.
    pub(super) accusers: Accusers,
    /// When its number grew last.
    pub(super) raised: Option<Instant>,
    pub(super) superseded: bool,
    pub(super) timers: BTreeMap<(Instant, u64), Due>,
    timers_set: u64,
    gossip_set: bool,
    question_set: bool,
    /// When the list of members is compared next.
    sync_at: Instant,
    left: bool,
    last_seen: Instant,
    outputs: VecDeque<MembershipOutput>,
    refused: BTreeMap<Refusal, u64>,
}

impl Membership {
    /// A node that knows nobody. Everything random in it comes from the seed.
    pub fn new(
        now: Instant,
        config: MembershipConfig,
        me: PeerId,
        life: Incarnation,
        keys: Box<dyn Keys>,
        seed: u64,
    ) -> Self {
        let node = Node { peer: me, life: life.0, renewal: 0 };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let swim = Swim::new(node, &config, rng.next_u64());
        let own = signed(&*keys, Claim::Alive { node, number: 0 });
        let mut machine = Self {
            swim,
            rng,
            node,
            number: 0,
            own,
            sequence: 0,
            roster: Roster::new(config.members_max),
            doubt: Doubt::new(config.doubt_max),
            news: News::new(config.news_max),
            probe: None,
            seeds: BTreeMap::new(),
            sync_after: None,
            sync_with: None,
            sync_since: now,
            invited: VecDeque::new(),
            sync_again: false,
            asked: (None, None),
            renewed: None,
            concluded: false,
            accusers: Accusers::default(),
            raised: None,
            superseded: false,
            timers: BTreeMap::new(),
            timers_set: 0,
            gossip_set: false,
            question_set: false,
            sync_at: now,
            left: false,
            last_seen: now,
            outputs: VecDeque::new(),
            refused: BTreeMap::new(),
            keys,
            config,
        };
        // Nodes that start together do not all ask at the same moment.
        let sync = machine.config.sync_interval.mul_f64(machine.rng.random_range(0.5..1.5));
        let retry = machine.config.retry_interval.mul_f64(machine.rng.random_range(0.1..1.0));
        machine.set_sync(now + sync);
        machine.set_timer(now + retry, Due::Retry);
        machine.tell(now, own);
        machine
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<MembershipOutput> {
        self.outputs.pop_front()
    }

    /// When [`Membership::on_timeout`] wants to run.
    pub fn deadline(&self) -> Option<Instant> {
        if self.left {
            return None;
        }
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let suspicion = self.suspicion_deadlines().map(|(at, _)| at).min();
        timer.into_iter().chain(suspicion).min()
    }

    /// A deadline was reached.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.left {
            return;
        }
        self.note_time(now);
        while let Some(due) = self.due_timer(now) {
            self.on_due(now, due);
        }
        let expired: Vec<PeerId> =
            self.suspicion_deadlines().filter(|(at, _)| *at <= now).map(|(_, peer)| peer).collect();
        for peer in expired {
            self.exclude(now, peer);
        }
    }

    /// A packet came through others.
    ///
    /// # Errors
    /// [`Refusal`]; it is counted.
    pub fn on_packet(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Refusal> {
        let result = if self.left { Err(Refusal::Left) } else { self.take_packet(now, bytes) };
        if let Err(refusal) = result {
            self.refuse(refusal);
        }
        result
    }

    /// A packet came over a session with this peer, which stands for who wrote it. This node itself brings those that came through others.
    ///
    /// # Errors
    /// [`Refusal`]; it is counted.
    pub fn on_direct(&mut self, now: Instant, from: PeerId, bytes: &[u8]) -> Result<(), Refusal> {
        let result = if self.left { Err(Refusal::Left) } else { self.take_direct(now, from, bytes) };
        if let Err(refusal) = result {
            self.refuse(refusal);
        }
        result
    }

    /// Joins the group that a peer belongs to. It is tried until the peer is a member, more and more seldom.
    pub fn join(&mut self, now: Instant, peer: PeerId) {
        if self.left || peer == self.node.peer || self.roster.get(&peer).is_some_and(|known| known.state().is_active())
        {
            return;
        }
        self.note_time(now);
        let wait = self.config.retry_interval;
        if self.seeds.len() < self.config.members_max {
            self.seeds.insert(peer, Seed { next: now + wait, wait });
        }
        self.announce(now, Node { peer, life: 0, renewal: 0 });
    }

    /// Does not try any more to join a peer.
    pub fn forget_seed(&mut self, peer: &PeerId) {
        self.seeds.remove(peer);
    }

    /// No link to a peer is left, as far as this node can tell: that counts like a question without an answer.
    pub fn on_unreachable(&mut self, now: Instant, peer: PeerId) {
        if self.left {
            return;
        }
        self.note_time(now);
        let moment = self.config.probe_interval;
        let heard = self.roster.get(&peer).and_then(|record| record.heard());
        if heard.is_none_or(|heard| now.saturating_duration_since(heard) >= moment) {
            self.accuse(now, peer);
        }
    }

    /// This node has reason to doubt itself: it was starved, or stopped.
    pub fn on_doubt(&mut self) {
        self.doubt.on_late();
    }

    /// Says good-bye and ends.
    pub fn leave(&mut self, now: Instant) {
        if self.left {
            return;
        }
        let goodbye = self.sign(Claim::Leave { node: self.node });
        self.news.add(goodbye);
        for _ in 0..2 {
            self.gossip(now);
        }
        self.swim.leave();
        self.left = true;
        self.timers.clear();
    }

    /// Everybody that is known, by name.
    pub fn members(&self, now: Instant) -> impl Iterator<Item = MemberInfo> + '_ {
        self.roster.records().iter().map(move |(peer, record)| MemberInfo {
            peer: *peer,
            incarnation: Incarnation(record.node.life),
            state: record.state(),
            heard: record.heard().map(|heard| now.saturating_duration_since(heard)),
            accusers: record.suspicion.as_ref().map_or(0, super::suspicion::Suspicion::accusers),
            failure: record.gone.and_then(|gone| gone.failure),
        })
    }

    /// Whether somebody belongs to the group, suspected ones too.
    pub fn is_member(&self, peer: &PeerId) -> bool {
        self.roster.get(peer).is_some_and(|known| known.state().is_active())
    }

    /// How many members there are beside this node.
    pub const fn active(&self) -> usize {
        self.roster.active()
    }

    /// How many times slower this node is at present because it doubts itself.
    pub const fn doubt(&self) -> u32 {
        self.doubt.times()
    }

    /// How many packets, and statements in packets, were refused, and why.
    pub const fn refused(&self) -> &BTreeMap<Refusal, u64> {
        &self.refused
    }

    /// Notes how long this node was not running, before anything else is concluded from the time.
    ///
    /// What was due then could not be heard: suspicions wait that much longer, and a question that has no answer yet waits for those
    /// that lie in the mailbox. Others will have asked in vain meanwhile, so what they accuse this node of is answered before it comes.
    pub(super) fn note_time(&mut self, now: Instant) {
        let expected = self.deadline().map_or(now, |deadline| deadline.max(self.last_seen));
        self.last_seen = now;
        let late = now.saturating_duration_since(expected);
        if late < self.config.late_tolerance {
            return;
        }
        self.doubt.on_late();
        for suspicion in self.roster.suspicions_mut() {
            suspicion.since += late;
        }
        if self.probe.is_some_and(|probe| !probe.answered) {
            let later = now + self.config.probe_timeout * self.doubt.times();
            let early = self.timers.range(..(later, 0));
            let due: Vec<_> = early.filter(|(_, due)| ends_question(due)).map(|(at, _)| *at).collect();
            for key in due {
                if let Some(conclusion) = self.timers.remove(&key) {
                    self.set_timer(later, conclusion);
                }
            }
        }
        if late >= self.config.probe_interval {
            self.answer_beforehand(now);
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits::new(&self.config, self.roster.active(), self.roster.trusted())
    }

    /// How soon nobody accuses the same member again: an honest node asks once in an interval.
    pub(super) fn accusation_pause(&self) -> Duration {
        self.config.probe_interval * 3 / 4
    }

    /// How often anybody accuses the same member.
    pub(super) fn accusing(&self, own: bool) -> Accusing {
        Accusing { interval: self.config.probe_interval, pause: self.accusation_pause(), own }
    }

    fn suspicion_deadlines(&self) -> impl Iterator<Item = (Instant, PeerId)> + '_ {
        let limits = self.limits();
        self.roster.suspects().iter().filter_map(move |peer| {
            let record = self.roster.get(peer)?;
            Some((record.suspicion.as_ref()?.deadline(&limits, record.heard()), *peer))
        })
    }

    fn due_timer(&mut self, now: Instant) -> Option<Due> {
        let first = self.timers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn on_due(&mut self, now: Instant, due: Due) {
        match due {
            Due::Swim(timer) => {
                if is_conclusion(&timer) {
                    self.conclude_probe();
                }
                let wants = self.swim.on_timer(timer);
                self.process(now, wants, None);
            }
            Due::Gossip => {
                self.gossip_set = false;
                self.gossip(now);
                self.set_gossip(now);
            }
            Due::Sync => self.sync(now),
            Due::Retry => {
                self.retry(now);
                self.set_timer(now + self.config.retry_interval, Due::Retry);
            }
            Due::Question => {
                self.question_set = false;
                self.question(now);
                self.set_question(now);
            }
        }
    }

    fn conclude_probe(&mut self) {
        self.concluded |= self.probe.is_some();
        match self.probe.take() {
            Some(probe) if probe.answered => self.doubt.on_answer(),
            // One that others suspect too is no reason to doubt oneself.
            Some(probe) if !self.roster.suspects().contains(&probe.peer) => self.doubt.on_no_answer(),
            Some(_) | None => {}
        }
    }

    /// Carries out what the protocol wants; `by` sent the message that it follows from.
    pub(super) fn process(&mut self, now: Instant, wants: Vec<Want>, by: Option<PeerId>) {
        // The new name first: packets carry it.
        for want in &wants {
            if let Want::Renewed(node) = want {
                self.on_renewed(now, *node, by);
            }
        }
        for want in wants {
            match want {
                Want::Send(header) => self.transmit(&header, now),
                Want::Timer(timer, after) => {
                    if is_conclusion(&timer) {
                        // Those of before a time without members are void.
                        self.timers.retain(|_, due| !ends_question(due));
                    }
                    let after = match timer {
                        Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } => after * self.doubt.times(),
                        Timer::ChangeSuspectToDown { .. }
                        | Timer::PeriodicAnnounce(_)
                        | Timer::PeriodicAnnounceDown(_)
                        | Timer::PeriodicGossip(_)
                        | Timer::RemoveDown(_) => after,
                    };
                    self.set_timer(now + after, Due::Swim(timer));
                }
                Want::NoAnswer(node, number) => {
                    let current =
                        self.roster.get(&node.peer).is_some_and(|known| (known.node, known.number) == (node, number));
                    if current {
                        self.accuse(now, node.peer);
                    }
                }
                Want::Up(node) => self.on_up(now, node),
                Want::Renamed(from, to) => self.on_renamed(now, from, to),
                Want::Down(_) | Want::Renewed(_) => {}
            }
        }
    }

    /// When the question that is open ends, and the next one begins.
    pub(super) fn concludes_at(&self) -> Option<Instant> {
        self.timers.iter().find(|(_, due)| ends_question(due)).map(|((at, _), _)| *at)
    }

    /// The question that is open ends at this time, unless it does sooner.
    pub(super) fn conclude_by(&mut self, at: Instant) {
        let later = self.timers.iter().find(|((set, _), due)| *set > at && ends_question(due)).map(|(key, _)| *key);
        if let Some(due) = later.and_then(|key| self.timers.remove(&key)) {
            self.set_timer(at, due);
        }
    }

    /// What somebody may have this node do; none for who is not known.
    pub(super) fn allowance(&mut self, now: Instant, peer: &PeerId) -> Option<&mut Allowance> {
        let (record, config) = (self.roster.get_mut(peer)?, &self.config);
        Some(record.allowance.get_or_insert_with(|| Allowance::new(now, config)))
    }

    pub(super) fn set_timer(&mut self, at: Instant, due: Due) {
        self.timers_set += 1;
        self.timers.insert((at, self.timers_set), due);
    }

    /// Passes a statement on from now on.
    pub(super) fn tell(&mut self, now: Instant, statement: Statement) {
        self.news.add(statement);
        self.set_gossip(now);
    }

    /// Sets the timer of gossip when there is something to tell and somebody to tell it to.
    pub(super) fn set_gossip(&mut self, now: Instant) {
        if !self.gossip_set && !self.news.is_empty() && self.roster.active() > 0 {
            self.gossip_set = true;
            self.set_timer(now + self.config.gossip_interval, Due::Gossip);
        }
    }

    /// Sets the timer of the next comparison. There is one at a time, whatever pages come.
    pub(super) fn set_sync(&mut self, at: Instant) {
        self.sync_at = at;
        self.timers.retain(|_, due| *due != Due::Sync);
        self.set_timer(at, Due::Sync);
    }

    /// Somebody has come: lists are compared sooner, since those who come together may not hear of each other.
    pub(super) fn sync_soon(&mut self, now: Instant) {
        if self.sync_with.is_some() {
            self.sync_again = true;
            return;
        }
        let soon = now + self.config.probe_interval.mul_f64(self.rng.random_range(1.0..3.0));
        if self.sync_at > soon + self.config.probe_interval {
            self.set_sync(soon);
        }
    }

    /// Sets the timer of questions when somebody is suspected.
    pub(super) fn set_question(&mut self, now: Instant) {
        if !self.question_set && !self.roster.suspects().is_empty() {
            self.question_set = true;
            self.set_timer(now + self.config.probe_interval, Due::Question);
        }
    }

    pub(super) fn sign(&self, claim: Claim) -> Statement {
        signed(&*self.keys, claim)
    }

    pub(super) fn emit(&mut self, event: MembershipEvent) {
        self.outputs.push_back(MembershipOutput::Emit(event));
    }

    pub(super) fn send(&mut self, to: PeerId, unsigned: Bytes) {
        self.outputs.push_back(MembershipOutput::Send { to, unsigned });
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let times = self.refused.entry(refusal).or_default();
        *times = times.saturating_add(1);
    }

    /// A message from this node that says nothing but what its packet carries.
    pub(super) fn message(&self, to: Node, message: Message<Node>) -> Header<Node> {
        Header { src: self.node, src_incarnation: self.number, dst: to, message }
    }

    /// A packet that is to be sent, with its signature: as it goes through others.
    pub fn whole(&self, unsigned: &[u8]) -> Bytes {
        wire::signed(unsigned, |bytes| Signature(self.keys.sign(bytes)))
    }
}

/// Whether a timer ends a question, and begins the next.
const fn is_conclusion(timer: &Timer<Node>) -> bool {
    matches!(timer, Timer::ProbeRandomMember(_))
}

const fn ends_question(due: &Due) -> bool {
    matches!(due, Due::Swim(timer) if is_conclusion(timer))
}

fn signed(keys: &dyn Keys, claim: Claim) -> Statement {
    Statement { claim, signature: Signature(keys.sign(&claim.signed_bytes())) }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("node", &self.node).field("active", &self.active()).finish_non_exhaustive()
    }
}
