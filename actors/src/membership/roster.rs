//! What is known about each member, bounded in every respect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::membership::{Failure, MemberState, Offence};

use super::allowance::Allowance;
use super::suspicion::Suspicion;
use super::window::Window;
use super::wire::{Claim, Digests, Node, PARTS, Signature, Statement};
use crate::bucket::Bucket;

/// How many accusers of one member are remembered with the time of their last accusation.
const RECENT_ACCUSERS: usize = 8;
/// How often in a row a node accuses the same member, which answers each time; afterwards once in [`ACCUSED_EVERY`].
const ACCUSED_IN_A_ROW: u32 = 8;
/// In intervals: a member that answers every time is not dead, so nobody is in a hurry to accuse it again.
const ACCUSED_EVERY: u32 = 4;
/// How many times as many are no flood yet: what was sent at its time comes late, and all at once, to a node that was stopped or lost packets.
const ACCUSED_LATE: u32 = 2;

/// What is known about one member.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its name.
    pub node: Node,
    /// How many accusations it answered under this name.
    pub number: u16,
    state: MemberState,
    /// Its signature under that name and number.
    pub proof: Option<Signature>,
    /// Which of its packets have come.
    pub window: Window,
    heard: Option<Instant>,
    /// How often in a row it was not asked in its turn because it had just been heard.
    pub spared: u8,
    /// Who suspects it.
    pub suspicion: Option<Suspicion>,
    /// Since when it is gone.
    pub gone: Option<Gone>,
    /// How it behaved.
    pub history: History,
    /// When it was told last that it is suspected.
    pub told: Option<Instant>,
    /// Names that it may still bring that are not known here.
    pub(super) names: Option<Bucket>,
    /// What else it may have this node do; none before it was needed.
    pub(super) allowance: Option<Allowance>,
    /// Who accused it lately.
    pub(super) accusers: Accusers,
}

/// Who accused somebody lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Accusers(Vec<Accuser>);

/// Somebody who accused a member lately.
#[derive(Debug, Clone)]
struct Accuser {
    peer: PeerId,
    /// When one of its accusations counted last.
    last: Instant,
    /// About which name and number the last one was.
    about: (Node, u16),
    /// Accusations that it may still make.
    allowance: Bucket,
}

/// What an accusation is, by when its author accused the same member before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// One that counts.
    Fit,
    /// Too soon after the last one. It may have been on its way for longer.
    TooSoon,
    /// One of more than any honest node makes.
    Flood,
}

/// A member that is gone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gone {
    /// Since when.
    pub since: Instant,
    /// The life that it had.
    pub life: u64,
    /// Why; none when it said good-bye.
    pub failure: Option<Failure>,
}

/// How a member behaved in the recent past.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// How often it answered too late.
    pub late_answers: u32,
    /// How often it answered only when others asked it.
    pub helped_answers: u32,
    /// How often it was suspected and answered that.
    pub cleared: u32,
    offences: BTreeMap<Offence, u32>,
    since: Option<Instant>,
}

impl History {
    /// The history as far as it still counts.
    pub fn recent(&mut self, now: Instant, memory: Duration) -> &mut Self {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > memory) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        self
    }

    /// Notes an offence and tells how often it was committed by now.
    pub fn offend(&mut self, offence: Offence) -> u32 {
        let times = self.offences.entry(offence).or_default();
        *times = times.saturating_add(1);
        *times
    }

    /// All offences.
    pub fn offences(&self) -> u32 {
        self.offences.values().fold(0, |sum, times| sum.saturating_add(*times))
    }
}

impl Accuser {
    fn new(peer: PeerId, about: (Node, u16), now: Instant, interval: Duration, in_a_row: u32) -> Self {
        let per_second = 1.0 / (interval * ACCUSED_EVERY).as_secs_f64();
        let mut allowance = Bucket::new(now, per_second, f64::from(in_a_row));
        allowance.take(now, 1.0);
        Self { peer, last: now, about, allowance }
    }
}

impl Record {
    fn new(node: Node, number: u16) -> Self {
        Self {
            node,
            number,
            state: MemberState::Left,
            proof: None,
            window: Window::default(),
            heard: None,
            spared: 0,
            suspicion: None,
            gone: None,
            history: History::default(),
            told: None,
            names: None,
            allowance: None,
            accusers: Accusers::default(),
        }
    }

    /// How it stands.
    pub const fn state(&self) -> MemberState {
        self.state
    }

    /// When one of its packets came last.
    pub const fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Whether it belongs to the group on the word of others alone.
    fn is_unheard(&self) -> bool {
        self.state.is_active() && self.heard.is_none()
    }

    /// What it says of itself, to be passed on.
    pub fn statement(&self) -> Option<Statement> {
        let claim = Claim::Alive { node: self.node, number: self.number };
        self.proof.map(|signature| Statement { claim, signature })
    }
}

impl Accusers {
    /// Whether an accusation came before that was too soon: it is still not worth a look.
    pub(super) fn is_repeated(&self, accuser: &PeerId, about: (Node, u16), now: Instant, pause: Duration) -> bool {
        let last = self.0.iter().find(|last| last.peer == *accuser);
        last.is_some_and(|last| last.about == about && now.saturating_duration_since(last.last) < pause)
    }

    /// Whether somebody has no accusations left: another one would be a flood.
    pub(super) fn is_spent(&mut self, accuser: &PeerId, now: Instant) -> bool {
        let last = self.0.iter_mut().find(|last| last.peer == *accuser);
        last.is_some_and(|last| last.allowance.ready(now, 1.0) > now)
    }

    /// Whether somebody may accuse now: not again within most of an `interval`, nor all the time. Notes that it does.
    pub(super) fn may_accuse(&mut self, accuser: PeerId, about: (Node, u16), now: Instant, limits: Accusing) -> Pace {
        if let Some(last) = self.0.iter_mut().find(|last| last.peer == accuser) {
            let soon = now.saturating_duration_since(last.last) < limits.pause;
            // The same one comes on several ways.
            if last.about != about && !last.allowance.take(now, 1.0) {
                return Pace::Flood;
            }
            last.about = about;
            if soon {
                return Pace::TooSoon;
            }
            last.last = now;
            return Pace::Fit;
        }
        if self.0.len() >= RECENT_ACCUSERS {
            self.0.remove(0);
        }
        let in_a_row = if limits.own { ACCUSED_IN_A_ROW } else { ACCUSED_IN_A_ROW * ACCUSED_LATE };
        self.0.push(Accuser::new(accuser, about, now, limits.interval, in_a_row));
        Pace::Fit
    }
}

/// How often somebody may accuse the same member.
#[derive(Debug, Clone, Copy)]
pub struct Accusing {
    /// The interval between two questions.
    pub interval: Duration,
    /// How soon nobody accuses it again.
    pub pause: Duration,
    /// Whether it is this node that accuses: it keeps away from what others could take for a flood.
    pub own: bool,
}

/// All members.
#[derive(Debug)]
pub struct Roster {
    records: BTreeMap<PeerId, Record>,
    suspects: BTreeSet<PeerId>,
    active: usize,
    /// Those of them that were never heard themselves.
    unheard: usize,
    members_max: usize,
}

impl Roster {
    /// Nobody.
    pub const fn new(members_max: usize) -> Self {
        Self { records: BTreeMap::new(), suspects: BTreeSet::new(), active: 0, unheard: 0, members_max }
    }

    /// Members that belong to the group, suspected ones too.
    pub const fn active(&self) -> usize {
        self.active
    }

    /// Those of them that nobody suspects.
    pub fn trusted(&self) -> usize {
        self.active - self.suspects.len()
    }

    /// Those that are suspected.
    pub const fn suspects(&self) -> &BTreeSet<PeerId> {
        &self.suspects
    }

    /// Everybody that is known, the gone ones too.
    pub const fn records(&self) -> &BTreeMap<PeerId, Record> {
        &self.records
    }

    /// One of them.
    pub fn get(&self, peer: &PeerId) -> Option<&Record> {
        self.records.get(peer)
    }

    /// One of them, to be changed.
    pub fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Record> {
        self.records.get_mut(peer)
    }

    /// Those that are suspected, to be changed.
    pub fn suspicions_mut(&mut self) -> impl Iterator<Item = &mut Suspicion> {
        self.records.values_mut().filter_map(|record| record.suspicion.as_mut())
    }

    /// Those that belong to the group.
    pub fn members(&self) -> impl Iterator<Item = (&PeerId, &Record)> {
        self.records.iter().filter(|(_, record)| record.state.is_active())
    }

    /// What tells whether another list of members is the same, this node counted as a member.
    pub fn digests(&self, me: &Node) -> Digests {
        let mut digests = [0; PARTS];
        for node in self.members().map(|(_, record)| &record.node).chain([me]) {
            let (part, digest) = node.digest();
            if let Some(sum) = digests.get_mut(part) {
                *sum ^= digest;
            }
        }
        digests
    }

    /// Whether there is a place for somebody who is not known: see [`Roster::take_up`].
    pub fn has_room(&self, heard: bool) -> bool {
        let full = self.active >= self.members_max;
        if heard { !full || self.unheard > 0 } else { !full && self.unheard < self.members_max / 2 }
    }

    /// Takes somebody up who is not known, as gone; who has to make room is given back. None when there is no room.
    ///
    /// Half of the places are for those that were heard themselves: others can be invented by anybody. One that is heard takes the place of one
    /// that never was.
    pub fn take_up(&mut self, node: Node, number: u16, heard: bool) -> Option<Option<Record>> {
        if !self.has_room(heard) {
            return None;
        }
        let full = self.active >= self.members_max;
        let unheard = || self.records.iter().find(|(_, record)| record.is_unheard()).map(|(peer, _)| *peer);
        let evicted = full.then(unheard).flatten().and_then(|peer| self.remove(&peer));
        self.records.insert(node.peer, Record::new(node, number));
        Some(evicted)
    }

    /// A packet of somebody's came.
    pub fn hear(&mut self, now: Instant, peer: &PeerId) {
        let Some(record) = self.records.get_mut(peer) else { return };
        self.unheard -= usize::from(record.is_unheard());
        record.heard = Some(now);
    }

    /// Somebody stands differently now.
    pub fn set_state(&mut self, peer: &PeerId, state: MemberState) {
        let Some(record) = self.records.get_mut(peer) else { return };
        self.active -= usize::from(record.state.is_active());
        self.active += usize::from(state.is_active());
        self.unheard -= usize::from(record.is_unheard());
        record.state = state;
        self.unheard += usize::from(record.is_unheard());
        match state {
            MemberState::Suspect => {
                self.suspects.insert(*peer);
            }
            MemberState::Alive | MemberState::Down | MemberState::Left => {
                self.suspects.remove(peer);
                record.suspicion = None;
                record.told = None;
            }
        }
    }

    /// Forgets somebody.
    pub fn remove(&mut self, peer: &PeerId) -> Option<Record> {
        let record = self.records.remove(peer)?;
        self.active -= usize::from(record.state.is_active());
        self.unheard -= usize::from(record.is_unheard());
        self.suspects.remove(peer);
        Some(record)
    }

    /// Those to be forgotten: gone for too long, or the longest gone when they are too many.
    pub fn stale(&self, now: Instant, forget_after: Duration) -> Vec<Node> {
        let mut gone: Vec<(Option<Instant>, Node)> = self
            .records
            .values()
            .filter(|record| !record.state.is_active())
            .map(|record| (record.gone.map(|gone| gone.since), record.node))
            .collect();
        gone.sort_unstable();
        let surplus = gone.len().saturating_sub(self.members_max);
        let old =
            |since: Option<Instant>| since.is_none_or(|since| now.saturating_duration_since(since) > forget_after);
        gone.iter()
            .enumerate()
            .filter(|(n, (since, _))| *n < surplus || old(*since))
            .map(|(_, (_, node))| *node)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn node(n: u8) -> Node {
        Node { peer: PeerId::from_bytes([n; 32]), life: 1, renewal: 0 }
    }

    fn limits(own: bool) -> Accusing {
        Accusing { interval: SECOND, pause: SECOND * 3 / 4, own }
    }

    /// What becomes of accusations that come at these moments, each about the next number.
    fn paces(own: bool, moments: impl IntoIterator<Item = Duration>) -> Vec<Pace> {
        let (start, mut record) = (Instant::now(), Record::new(node(1), 0));
        let mut pace = |(number, at): (u16, Duration)| {
            record.accusers.may_accuse(node(2).peer, (node(1), number), start + at, limits(own))
        };
        (0..).zip(moments).map(&mut pace).collect()
    }

    #[test]
    fn room_is_what_a_count_would_find() {
        let (now, mut roster, mut full) = (Instant::now(), Roster::new(8), 0);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let states =
            [MemberState::Alive, MemberState::Alive, MemberState::Suspect, MemberState::Down, MemberState::Left];
        for _ in 0..2000 {
            let who = node(rng.random_range(0..30));
            match rng.random_range(0..8) {
                0..=2 if roster.get(&who.peer).is_none() => drop(roster.take_up(who, 0, rng.random())),
                0..=5 => roster.set_state(&who.peer, states[rng.random_range(0..5)]),
                6 => roster.hear(now, &who.peer),
                _ => drop(roster.remove(&who.peer)),
            }
            let unheard = roster.members().filter(|(_, record)| record.heard.is_none()).count();
            let free = roster.members().count() < 8;
            full += u32::from(!free);
            assert_eq!((roster.has_room(true), roster.has_room(false)), (free || unheard > 0, free && unheard < 4));
        }
        assert!(full > 20, "{full}");
    }

    #[test]
    fn what_was_sent_at_its_time_and_comes_late_is_no_flood() {
        // As often as an honest node accuses; all of the first half minute comes at its end.
        let sent: Vec<Duration> = (0..400).map(|n| SECOND * n).collect();
        let goes = paces(true, sent.iter().copied());
        let sent = sent.iter().zip(goes).filter(|(_, pace)| *pace == Pace::Fit).map(|(at, _)| *at);
        let paces = paces(false, sent.map(|at| at.max(SECOND * 30)));
        assert!(paces.len() > 100 && !paces.contains(&Pace::Flood), "{paces:?}");
        assert!(paces.contains(&Pace::TooSoon));
    }

    #[test]
    fn who_accuses_as_fast_as_the_accused_answers_floods() {
        let paces = paces(false, (0..60).map(|n| SECOND * n));
        assert!(paces[..16].iter().all(|pace| *pace == Pace::Fit) && paces[25..].contains(&Pace::Flood), "{paces:?}");
    }

    #[test]
    fn the_same_accusation_on_many_ways_counts_once() {
        let (start, mut record) = (Instant::now(), Record::new(node(1), 0));
        let accuser = node(2).peer;
        assert_eq!(record.accusers.may_accuse(accuser, (node(1), 0), start, limits(false)), Pace::Fit);
        for _ in 0..100 {
            assert_eq!(
                record.accusers.may_accuse(accuser, (node(1), 1), start + SECOND / 10, limits(false)),
                Pace::TooSoon
            );
        }
        assert!(record.accusers.is_repeated(&accuser, (node(1), 1), start + SECOND / 10, limits(false).pause));
        assert_eq!(record.accusers.may_accuse(accuser, (node(1), 1), start + SECOND, limits(false)), Pace::Fit);
    }
}
