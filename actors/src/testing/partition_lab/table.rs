//! The application of the experiment: a register, and a ledger of bets between accounts; and what the judge makes of a log by itself.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::partition::group::{self, StateMachine};

/// Accounts in the ledger.
pub(super) const ACCOUNTS: u8 = 8;
/// What each has at the beginning.
const BALANCE: u64 = 1000;

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

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is written.
    Written,
    /// What the register held.
    Value(u64),
    /// Whether the stake was moved.
    Moved(bool),
}

/// What is given to the group: an operation under a number that occurs once in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asking {
    pub(super) id: u64,
    pub(super) operation: Operation,
}

impl Asking {
    pub(super) fn encode(self) -> Bytes {
        postcard::to_allocvec(&self).unwrap_or_default().into()
    }
}

/// An operation as it stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// The term of the lease under which it was proposed.
    pub fence: u64,
    /// The number that the client gave it.
    pub id: u64,
    /// The node that accepted it, and in which life.
    pub by: (u8, u64),
    /// What is to be done.
    pub operation: Operation,
}

impl Command {
    /// From an entry of the log.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let command = group::Command::decode(bytes)?;
        let Asking { id, operation } = postcard::from_bytes(&command.content).ok()?;
        let by = (command.id.origin.as_bytes()[0], command.id.life);
        Some(Self { fence: command.fence, id, by, operation })
    }
}

/// The application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Book {
    pub(super) register: u64,
    pub(super) accounts: Vec<u64>,
}

impl Default for Book {
    fn default() -> Self {
        Self { register: 0, accounts: vec![BALANCE; usize::from(ACCOUNTS)] }
    }
}

impl Book {
    fn carry_out(&mut self, operation: Operation) -> Answer {
        match operation {
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
        }
    }

    /// The sum of all accounts, which nothing changes.
    pub(super) fn total(&self) -> u64 {
        self.accounts.iter().sum()
    }
}

impl StateMachine for Book {
    fn execute(&mut self, command: &Bytes) -> Bytes {
        let answer = postcard::from_bytes::<Asking>(command).ok().map(|asking| self.carry_out(asking.operation));
        answer.map_or_else(Bytes::new, |answer| postcard::to_allocvec(&answer).unwrap_or_default().into())
    }

    fn save(&self) -> Bytes {
        postcard::to_allocvec(self).unwrap_or_default().into()
    }

    fn load(&mut self, state: &Bytes) -> Result<(), String> {
        *self = postcard::from_bytes(state).map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// What the judge makes of the log, by rules of its own: each operation once, none under a lease that is over, none of a life of a node after something
/// of a later life of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    pub(super) book: Book,
    fence: u64,
    done: BTreeSet<u64>,
    lives: BTreeMap<u8, u64>,
}

impl Expected {
    /// What an entry does; `None`: nothing.
    pub(super) fn execute(&mut self, command: &Command) -> Option<Answer> {
        let (node, life) = command.by;
        let over = self.lives.get(&node).is_some_and(|last| life < *last);
        if over || command.fence < self.fence || !self.done.insert(command.id) {
            return None;
        }
        self.fence = command.fence;
        self.lives.insert(node, life);
        Some(self.book.carry_out(command.operation))
    }

    /// How many operations were done.
    pub(super) fn count(&self) -> u64 {
        self.done.len() as u64
    }
}
