//! The application of the experiment: a register, and a ledger of bets between accounts, on every node.

use std::collections::{BTreeMap, BTreeSet};

use bowline_messages::PeerId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::partition::log::Position;
use crate::partition::state::transfer::digest;
use crate::partition::state::{VectorClock, Version, Versioned};

/// Accounts in the ledger.
pub(super) const ACCOUNTS: u8 = 8;
/// What each has at the beginning.
const BALANCE: u64 = 1000;
/// Entries of a vector clock at most: more than there are nodes.
const CLOCK_MAX: usize = 64;

/// Something a client wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Writes the register.
    Write(u64),
    /// Reads the register.
    Read,
    /// Moves a stake from one account to another, if the first one has it.
    Bet {
        /// Who loses.
        from: u8,
        /// Who wins.
        to: u8,
        /// How much.
        stake: u64,
    },
}

/// An operation on its way through the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The term of the lease under which it was proposed.
    pub fence: u64,
    /// Its number, once in a run: a client's. Proposed twice, it is done once.
    pub id: u64,
    /// What is to be done.
    pub operation: Operation,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is written.
    Written,
    /// What the register held.
    Value(u64),
    /// Whether the stake was moved.
    Moved(bool),
}

impl Command {
    /// As an entry of the log.
    pub(super) fn encode(&self) -> Bytes {
        postcard::to_allocvec(self).unwrap_or_default().into()
    }

    /// From an entry of the log.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// What the log made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Committed {
    pub(super) position: Position,
    /// The highest term under which anything was done: what was proposed under a lower one is passed over.
    fence: u64,
    pub(super) register: u64,
    pub(super) accounts: Vec<u64>,
    done: BTreeSet<u64>,
}

impl Default for Committed {
    fn default() -> Self {
        let accounts = vec![BALANCE; usize::from(ACCOUNTS)];
        Self { position: Position::default(), fence: 0, register: 0, accounts, done: BTreeSet::new() }
    }
}

impl Committed {
    /// Does what an entry says; nothing if it was done before, or proposed under a lease that is over.
    pub(super) fn execute(&mut self, command: &Command, fenced: bool) -> Option<Answer> {
        if fenced && command.fence < self.fence || !self.done.insert(command.id) {
            return None;
        }
        self.fence = self.fence.max(command.fence);
        Some(match command.operation {
            Operation::Write(value) => {
                self.register = value;
                Answer::Written
            }
            Operation::Read => Answer::Value(self.register),
            Operation::Bet { from, to, stake } => {
                let (from, to) = (usize::from(from % ACCOUNTS), usize::from(to % ACCOUNTS));
                let enough = self.accounts[from] >= stake;
                if enough {
                    self.accounts[from] -= stake;
                    self.accounts[to] += stake;
                }
                Answer::Moved(enough)
            }
        })
    }

    /// Whether another one has the same contents; the place in the log may differ by entries that are no commands.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let contents = |of: &Self| (of.fence, of.register, of.accounts.clone(), of.done.clone());
        contents(self) == contents(other)
    }

    /// The sum of all accounts, which nothing changes.
    pub(super) fn total(&self) -> u64 {
        self.accounts.iter().sum()
    }
}

/// The whole state: what the log made of it, and what was accepted here and is not committed yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) committed: Committed,
    pub(super) open: BTreeMap<u64, Command>,
    clock: VectorClock,
}

impl Table {
    /// A client's operation is accepted: it will be proposed until it is committed.
    pub(super) fn accept(&mut self, me: PeerId, command: Command) {
        self.open.insert(command.id, command);
        // There are fewer nodes than entries.
        let _ = self.clock.tick(me, CLOCK_MAX);
    }

    /// An entry is committed. Gives the command and what came of it, if it was not here before.
    pub(super) fn on_committed(
        &mut self,
        position: Position,
        bytes: &[u8],
        fenced: bool,
    ) -> Option<(Command, Option<Answer>)> {
        if position.index <= self.committed.position.index {
            return None;
        }
        self.committed.position = position;
        let command = Command::decode(bytes)?;
        let answer = self.committed.execute(&command, fenced);
        if self.committed.done.contains(&command.id) {
            self.open.remove(&command.id);
        }
        Some((command, answer))
    }

    /// Whether a command is done.
    pub(super) fn is_done(&self, id: u64) -> bool {
        self.committed.done.contains(&id)
    }

    /// What the log made of it, for a snapshot of the log.
    pub(super) fn save(&self) -> Bytes {
        postcard::to_allocvec(&self.committed).unwrap_or_default().into()
    }

    /// The log replaces what it made of it.
    pub(super) fn load(&mut self, state: &[u8]) -> bool {
        let Ok(committed) = postcard::from_bytes::<Committed>(state) else { return false };
        if committed.position.index > self.committed.position.index {
            self.committed = committed;
            self.open.retain(|id, _| !self.committed.done.contains(id));
        }
        true
    }
}

impl Versioned for Table {
    fn version(&self) -> Version {
        Version {
            committed: self.committed.position,
            committed_digest: digest(&self.save()),
            sequence: (self.committed.done.len() + self.open.len()) as u64,
            clock: self.clock.clone(),
        }
    }

    fn snapshot(&self) -> Bytes {
        postcard::to_allocvec(self).unwrap_or_default().into()
    }

    fn apply(&mut self, state: &Bytes) -> Result<(), String> {
        *self = postcard::from_bytes(state).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn merge(&mut self, before: &Bytes) -> Vec<Bytes> {
        let Ok(before) = postcard::from_bytes::<Self>(before) else { return Vec::new() };
        let lost =
            before.open.into_iter().filter(|(id, _)| !self.open.contains_key(id) && !self.committed.done.contains(id));
        lost.map(|(_, command)| command.encode()).collect()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), String> {
        self.apply(snapshot)
    }
}
