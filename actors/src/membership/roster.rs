//! What is known about each member, bounded in every respect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::membership::{Failure, MemberState, Offence};

use super::suspicion::Suspicion;
use super::window::Window;
use super::wire::{Claim, Digests, Node, PARTS, Signature, Statement};

/// How many accusers of one member are remembered with the time of their last accusation.
const RECENT_ACCUSERS: usize = 8;

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
    /// When one of them came last.
    pub heard: Option<Instant>,
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
    recent_accusers: Vec<(PeerId, Instant)>,
    offences: BTreeMap<Offence, u32>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// How often it answered too late.
    pub late_answers: u32,
    /// How often it answered only when others asked it.
    pub helped_answers: u32,
    /// How often it was suspected and answered that.
    pub cleared: u32,
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
            recent_accusers: Vec::new(),
            offences: BTreeMap::new(),
        }
    }

    /// How it stands.
    pub const fn state(&self) -> MemberState {
        self.state
    }

    /// What it says of itself, to be passed on.
    pub fn statement(&self) -> Option<Statement> {
        let claim = Claim::Alive { node: self.node, number: self.number };
        self.proof.map(|signature| Statement { claim, signature })
    }

    /// Whether somebody may accuse it now: not again within `pause`. Notes that it does.
    pub fn may_accuse(&mut self, accuser: PeerId, now: Instant, pause: Duration) -> bool {
        if let Some(last) = self.recent_accusers.iter_mut().find(|(peer, _)| *peer == accuser) {
            let may = now.saturating_duration_since(last.1) >= pause;
            if may {
                last.1 = now;
            }
            return may;
        }
        if self.recent_accusers.len() >= RECENT_ACCUSERS {
            self.recent_accusers.remove(0);
        }
        self.recent_accusers.push((accuser, now));
        true
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

/// All members.
#[derive(Debug)]
pub struct Roster {
    records: BTreeMap<PeerId, Record>,
    suspects: BTreeSet<PeerId>,
    active: usize,
    members_max: usize,
}

impl Roster {
    /// Nobody.
    pub const fn new(members_max: usize) -> Self {
        Self { records: BTreeMap::new(), suspects: BTreeSet::new(), active: 0, members_max }
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

    /// Takes somebody up who is not known, as gone; who has to make room is given back. None when there is no room.
    ///
    /// Half of the places are for those that were heard themselves: others can be invented by anybody. One that is heard takes the place of one
    /// that never was.
    pub fn take_up(&mut self, node: Node, number: u16, heard: bool) -> Option<Option<Record>> {
        let unheard = || self.members().filter(|(_, record)| record.heard.is_none());
        let full = self.active >= self.members_max;
        let evicted = match (heard, full) {
            (true, false) => None,
            (true, true) => Some(unheard().next().map(|(peer, _)| *peer)?),
            (false, _) if full || unheard().count() >= self.members_max / 2 => return None,
            (false, _) => None,
        };
        let evicted = evicted.and_then(|peer| self.remove(&peer));
        self.records.insert(node.peer, Record::new(node, number));
        Some(evicted)
    }

    /// Somebody stands differently now.
    pub fn set_state(&mut self, peer: &PeerId, state: MemberState) {
        let Some(record) = self.records.get_mut(peer) else { return };
        self.active -= usize::from(record.state.is_active());
        self.active += usize::from(state.is_active());
        record.state = state;
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
