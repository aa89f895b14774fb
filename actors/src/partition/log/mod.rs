//! The log that a majority of the participants commits: one leader per term, and the same entries in the same order for everybody.
//!
//! The consensus itself is the crate `noraft` (why: `docs/partitions.md`). Around it are here: what travels, checked against lies; what has to survive a
//! crash; the contents of entries; snapshots, and how they come to those who fell behind; the question before a vote and the leader's look at its
//! majority; time. Everything is a pure machine: the same seed and the same inputs give the same outputs.
//!
//! **Outputs are carried out in order.** A [`Persist`] is durable before anything behind it is done; while a slow medium writes, everything behind it
//! waits. Then a crash at any moment, and a restart from what was persisted, loses nothing that was committed and breaks no promise.
//!
//! | file | idea |
//! |---|---|
//! | [`wire`] | what participants say to each other |
//! | `flow` | what is under way to a follower is not sent again |
//! | `guard` | what cannot be true is refused |
//! | `roster` | keys and the numbers that the consensus uses |
//! | `election` | the question before the vote, the leader's majority |
//! | `steps` | what the consensus wants done, done |
//! | `packets` | what becomes of each packet |
//! | [`stored`] | what survives a crash |

mod election;
mod flow;
mod guard;
mod packets;
mod roster;
mod steps;
pub mod stored;
#[cfg(test)]
mod tests;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::config::PartitionLogConfig;
use bytes::Bytes;
use noraft::{LogIndex, LogPosition, NodeId, Term};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::state::transfer::{Digest, Fetch, digest};
use super::terms::Rises;
use election::Election;
use flow::Flow;
use roster::Roster;
pub use stored::{Persist, Snapshot, Stored, StoredError};
use wire::{Entry, Offer, WireError};
pub use wire::{Membership, Position};

/// What a proposal will be if it is committed: compare with the position of what is.
pub type ProposalId = Position;

/// What the log wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Write this durably before anything behind it is done.
    Persist(Persist),
    /// Give this packet to the carrier; it may get lost.
    Send {
        /// To whom.
        to: PeerId,
        /// The packet.
        payload: Bytes,
    },
    /// An entry is committed. Each once and in order in one life of the log; after a restart again from the last snapshot on.
    Committed {
        /// Its number.
        index: u64,
        /// The term in which it was made.
        term: u64,
        /// What was proposed.
        bytes: Bytes,
    },
    /// Replace the application's state by this one, which includes everything up to there.
    Restore {
        /// How far it goes.
        position: Position,
        /// The state.
        state: Bytes,
    },
    /// Majorities are counted among these from now on: a change was added to the log here, or taken out of it again. Not committed.
    Counting(Membership),
    /// These take part from this entry on; committed.
    Members {
        /// Where.
        position: Position,
        /// Who.
        membership: Membership,
    },
    /// Who leads, as far as this node knows. Of two leaders the one with the greater term counts.
    Leader {
        /// The term.
        term: u64,
        /// The leader; `None`: nobody is known.
        peer: Option<PeerId>,
    },
    /// Call [`Log::snapshot`] with the state at this index or a later one soon, so that the log stays bounded.
    SnapshotWanted {
        /// The last committed entry.
        index: u64,
    },
}

/// Why something was not proposed. Nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Another one leads, or nobody. The caller asks there, or later.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, if that is known.
        hint: Option<PeerId>,
    },
    /// It is larger than an entry may be. The caller's mistake.
    #[error("an entry of {bytes} bytes, where {limit} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The log is as long as it may be: a majority is out of reach, or no snapshot was made. Later.
    #[error("the log is full")]
    Full,
    /// The last change of participants is not through yet. Later.
    #[error("participants are being changed already")]
    Changing,
    /// Nobody would have a vote, there would be too many, two have the same number, or nothing would change. The caller's mistake.
    #[error("participants that cannot be")]
    Participants,
}

/// Why a snapshot was not taken. Nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is larger than a snapshot may be. The application's, or a matter of configuration.
    #[error("a snapshot of {bytes} bytes, where {limit} are allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// There is a newer one, or what it includes is not committed as far as this node can tell now. Later.
    #[error("no snapshot of that index is of use now")]
    Index,
}

/// Why a packet was not taken. The peer's fault; nothing changed, and it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It cannot be read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The peer takes no part.
    #[error("a packet of a stranger")]
    Stranger,
    /// It cannot be true.
    #[error("{0}")]
    Impossible(&'static str),
}

/// A log in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// The term.
    pub term: u64,
    /// Who leads.
    pub leader: Option<PeerId>,
    /// The last committed entry that was given out.
    pub committed: Position,
    /// The last entry.
    pub last: Position,
    /// What the last snapshot includes.
    pub snapshot: Position,
    /// Bytes of entries held.
    pub held_bytes: u64,
    /// Packets refused.
    pub refused: u64,
    /// Elections this node stood for.
    pub elections: u64,
}

/// One participant's log.
#[derive(Debug, Clone)]
pub struct Log {
    me: PeerId,
    id: NodeId,
    config: PartitionLogConfig,
    rng: ChaCha8Rng,
    node: noraft::Node,
    roster: Roster,
    /// Who may be taken out of the participants; none: the leader may change them as it likes.
    may_go: Option<BTreeSet<PeerId>>,
    election: Election,
    /// How often each participant may raise the term here.
    rises: BTreeMap<PeerId, Rises>,
    flow: Flow,
    /// Who was heard leading last, and in which term.
    led_by: Option<(u64, PeerId)>,
    /// The last term that this node began as its leader.
    led: Option<u64>,
    said_leader: (u64, Option<PeerId>),
    said_membership: Membership,
    /// The entries behind the snapshot, by index. Those beyond the end of the consensus' log are left from a leader of old.
    entries: BTreeMap<u64, Entry>,
    held_bytes: u64,
    /// Contents of entries that the consensus is about to append.
    incoming: BTreeMap<u64, Entry>,
    delivered: u64,
    snapshot: Snapshot,
    snapshot_digest: Digest,
    /// The snapshot before, for those who are fetching it.
    previous: Option<(Digest, Bytes)>,
    snapshot_wanted: bool,
    fetch: Option<(Fetch, Offer)>,
    refused: u64,
    outputs: VecDeque<LogOutput>,
}

fn raft(at: Position) -> LogPosition {
    LogPosition::new(Term::new(at.term), LogIndex::new(at.index))
}

fn ours(at: LogPosition) -> Position {
    Position { term: at.term.get(), index: at.index.get() }
}

impl Log {
    /// A log that goes on from what was stored; for the first start see [`Stored::new`]. `seed` moves this node's time-outs: another one for each node.
    ///
    /// # Errors
    /// [`StoredError::Unsound`].
    pub fn new(
        now: Instant,
        me: PeerId,
        stored: Stored,
        config: PartitionLogConfig,
        seed: u64,
    ) -> Result<Self, StoredError> {
        let mut roster = Roster::default();
        let memberships = stored.entries.iter().filter_map(|entry| match entry {
            Entry::Membership(membership) => Some(membership),
            Entry::Term(_) | Entry::Command(_) => None,
        });
        let known = [&stored.snapshot.membership].into_iter().chain(memberships);
        if !stored.is_sound(&config)
            || !roster.note(&Membership::of([me]))
            || !known.into_iter().all(|m| roster.note(m))
        {
            return Err(StoredError::Unsound);
        }
        let begins = stored.snapshot.position;
        let entries = noraft::LogEntries::from_iter(raft(begins), stored.entries.iter().map(steps::consensus_entry));
        let log = noraft::Log::new(roster::config(&stored.snapshot.membership), entries);
        let id = roster::number(&me);
        let voted_for = stored.voted_for.as_ref().map(roster::number);
        let node = noraft::Node::restart(id, Term::new(stored.term), voted_for, log);
        let mut election = Election::new(now, config.election_timeout, config.heartbeat);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        election.wait(now, &mut rng);
        let mut log = Self {
            me,
            id,
            rng,
            node,
            roster,
            may_go: None,
            election,
            rises: BTreeMap::new(),
            flow: Flow::default(),
            led_by: None,
            led: None,
            said_leader: (stored.term, None),
            said_membership: stored.snapshot.membership.clone(),
            held_bytes: stored.entries.iter().map(|entry| entry.bytes() as u64).sum(),
            entries: (begins.index + 1..).zip(stored.entries).collect(),
            incoming: BTreeMap::new(),
            delivered: begins.index,
            snapshot_digest: digest(&stored.snapshot.state),
            snapshot: stored.snapshot,
            previous: None,
            snapshot_wanted: false,
            fetch: None,
            refused: 0,
            outputs: VecDeque::new(),
            config,
        };
        if begins.index > 0 {
            log.outputs.push_back(LogOutput::Restore { position: begins, state: log.snapshot.state.clone() });
        }
        log.carry_out(now);
        Ok(log)
    }

    /// From now on participants are only ever lost, and only these: against them this node has proofs itself. A change of which it has none yet is not
    /// taken from the leader, nor anything behind it: it comes again.
    pub fn loses_only(&mut self, proven: BTreeSet<PeerId>) {
        self.may_go = Some(proven);
    }

    /// Proposes an entry.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn propose(&mut self, now: Instant, bytes: Bytes) -> Result<ProposalId, ProposeError> {
        let limit = self.config.entry_bytes_max as usize;
        if bytes.len() > limit {
            return Err(ProposeError::TooLarge { bytes: bytes.len(), limit });
        }
        let entry = Entry::Command(bytes);
        self.check_room(&entry)?;
        let index = self.last().index + 1;
        self.incoming.insert(index, entry);
        let position = self.node.propose_command();
        self.carry_out(now);
        Ok(ours(position))
    }

    /// Changes who votes, in one step with both majorities. Who leaves while it leads goes on until the change is through.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn change_voters(&mut self, now: Instant, voters: BTreeSet<PeerId>) -> Result<ProposalId, ProposeError> {
        let mut membership = self.membership();
        if membership.voters == voters || voters.is_empty() {
            return Err(ProposeError::Participants);
        }
        membership.learners.retain(|peer| !voters.contains(peer));
        membership.next_voters = voters;
        self.change(now, membership)
    }

    fn change(&mut self, now: Instant, membership: Membership) -> Result<ProposalId, ProposeError> {
        let entry = Entry::Membership(membership.clone());
        self.check_room(&entry)?;
        if self.node.config().is_joint_consensus() {
            return Err(ProposeError::Changing);
        }
        if !membership.is_sound(self.config.participants_max) || !self.roster.note(&membership) {
            return Err(ProposeError::Participants);
        }
        let position = self.node.propose_config(roster::config(&membership));
        self.carry_out(now);
        if position.is_invalid() { Err(ProposeError::Participants) } else { Ok(ours(position)) }
    }

    fn check_room(&self, entry: &Entry) -> Result<(), ProposeError> {
        if !self.node.role().is_leader() {
            return Err(ProposeError::NotLeader { hint: self.leader() });
        }
        if self.has_room(1, entry.bytes() as u64) { Ok(()) } else { Err(ProposeError::Full) }
    }

    fn has_room(&self, entries: usize, bytes: u64) -> bool {
        self.held().saturating_add(entries) <= self.config.entries_max
            && self.held_bytes.saturating_add(bytes) <= self.config.bytes_max
    }

    /// The same for the last of so many entries that come from the leader of a term. The one with which it begins finds room where none is left for
    /// others, or nothing would ever be committed again, and so nothing be forgotten, once a leader that lies had filled the log.
    fn has_room_for(&self, entry: &Entry, term: u64, entries: usize, bytes: u64) -> bool {
        match entry {
            Entry::Term(begun) if *begun == term => self.held().saturating_add(entries) <= self.config.entries_max * 2,
            Entry::Term(_) | Entry::Command(_) | Entry::Membership(_) => self.has_room(entries, bytes),
        }
    }

    /// Entries behind the snapshot.
    fn held(&self) -> usize {
        let held = self.last().index.saturating_sub(self.snapshot.position.index);
        usize::try_from(held).unwrap_or(usize::MAX)
    }

    /// The application's state at a committed index: what comes before is forgotten.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn snapshot(&mut self, now: Instant, index: u64, state: Bytes) -> Result<(), SnapshotError> {
        self.snapshot_wanted = false;
        let (bytes, limit) = (state.len() as u64, self.config.snapshot_bytes_max);
        if bytes > limit {
            return Err(SnapshotError::TooLarge { bytes, limit });
        }
        if index > self.delivered || index <= self.snapshot.position.index {
            return Err(SnapshotError::Index);
        }
        let at = self.node.log().get_position_and_config(LogIndex::new(index));
        let (position, config) = at.map(|(position, config)| (position, config.clone())).ok_or(SnapshotError::Index)?;
        if !self.node.handle_snapshot_installed(position, config.clone()) {
            return Err(SnapshotError::Index);
        }
        let membership = self.roster.membership(&config);
        self.take_snapshot(Snapshot { position: ours(position), membership, state });
        self.carry_out(now);
        Ok(())
    }

    /// A deadline was reached.
    pub fn on_timeout(&mut self, now: Instant) {
        self.on_fetch_timeout(now);
        if self.node.role().is_leader() {
            if now >= self.election.heartbeat_at {
                let membership = self.membership();
                if self.election.has_majority(now, self.me, &membership) {
                    self.node.handle_election_timeout();
                } else {
                    self.step_down(now);
                }
            }
        } else if now >= self.election.ask_at {
            self.ask(now);
        }
        self.carry_out(now);
    }

    /// When [`Log::on_timeout`] wants to run.
    pub fn deadline(&self) -> Option<Instant> {
        let turn = if self.node.role().is_leader() { self.election.heartbeat_at } else { self.election.ask_at };
        Some(self.fetch.as_ref().map_or(turn, |(fetch, _)| turn.min(fetch.deadline())))
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<LogOutput> {
        self.outputs.pop_front()
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.node.role().is_leader()
    }

    /// Who leads in this node's term, as far as it knows.
    pub fn leader(&self) -> Option<PeerId> {
        let term = self.node.current_term().get();
        if self.is_leader() { Some(self.me) } else { self.led_by.filter(|(of, _)| *of == term).map(|(_, peer)| peer) }
    }

    /// Who takes part, the last entry included even if it is not committed: as it counts for majorities.
    pub fn membership(&self) -> Membership {
        self.roster.membership(self.node.config())
    }

    /// The log in a few numbers.
    pub fn status(&self) -> LogStatus {
        LogStatus {
            term: self.node.current_term().get(),
            leader: self.leader(),
            committed: self.committed(),
            last: self.last(),
            snapshot: self.snapshot.position,
            held_bytes: self.held_bytes,
            refused: self.refused,
            elections: self.node.metrics().elections_started,
        }
    }

    /// The last committed entry that was given out.
    pub fn committed(&self) -> Position {
        let term = self.node.log().entries().get_term(LogIndex::new(self.delivered)).map_or(0, Term::get);
        Position { term, index: self.delivered }
    }

    fn last(&self) -> Position {
        ours(self.node.log().last_position())
    }
}
