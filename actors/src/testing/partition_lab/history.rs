//! What clients asked and were told, and whether that can have been.
//!
//! The log gives all committed operations one order. So it is enough to look whether that very order explains everything: an operation that was
//! answered before another one was asked stands before it, every answer is the one that doing them in this order gives, and what was answered is there,
//! once. If so, the history is linearizable, with the log's order as the witness (Herlihy and Wing, 1990); no search over orders, as Wing and Gong's, is
//! needed. If not, another order might still explain the answers, but the log promised this one: it is a violation all the same.

use std::collections::{BTreeMap, BTreeSet};

use super::table::{Answer, Command, Expected, Operation};

/// What a client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing: it may have been done, or may still be.
    Nothing,
    /// That this side is paused, and nothing was done.
    Refused,
    /// What came of it, at this time in nanoseconds.
    Answered(Answer, u64),
}

/// One operation of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// What was asked.
    pub operation: Operation,
    /// When, in nanoseconds.
    pub at: u64,
    /// On which node.
    pub node: usize,
    /// What came of it.
    pub told: Told,
}

/// Everything that clients asked, by the numbers of the commands.
pub type History = BTreeMap<u64, Asked>;

/// What cannot have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Two nodes were active under leases of two holders at the same time.
    #[error("at {at_ms} ms nodes {nodes:?} were active under two holders")]
    DoubleActive {
        /// When.
        at_ms: u64,
        /// Two of them.
        nodes: (usize, usize),
    },
    /// Two contents were committed at one place of the log.
    #[error("two entries were committed at {index}")]
    TwoEntries {
        /// The place.
        index: u64,
    },
    /// Two nodes led in one term.
    #[error("two leaders in term {term}")]
    TwoLeaders {
        /// The term.
        term: u64,
    },
    /// A client was told that something is done, and it is not.
    #[error("operation {id} was answered and is lost")]
    Lost {
        /// Its number.
        id: u64,
    },
    /// A client was told something that the order of the log does not give.
    #[error("operation {id} was answered {told:?}, and the log gives {found:?}")]
    WrongAnswer {
        /// Its number.
        id: u64,
        /// What was told.
        told: Answer,
        /// What doing all in the order of the log gives.
        found: Option<Answer>,
    },
    /// An operation was answered before another one was asked, and stands behind it.
    #[error("operation {earlier} was over before {later} began, and stands behind it")]
    OutOfOrder {
        /// The one that was over.
        earlier: u64,
        /// The one that began later.
        later: u64,
    },
    /// A client was told that nothing is done, and it is.
    #[error("operation {id} was refused and is done")]
    RefusedAndDone {
        /// Its number.
        id: u64,
    },
    /// Something is done that nobody asked for.
    #[error("operation {id} was never asked for")]
    Invented {
        /// Its number.
        id: u64,
    },
    /// Stakes appeared or disappeared.
    #[error("the accounts of node {node} add up to {found}, not {expected}")]
    NotConserved {
        /// The node.
        node: usize,
        /// The sum.
        found: u64,
        /// What it has to be.
        expected: u64,
    },
    /// A node has another state than the log gives, after everything was well for long enough.
    #[error("node {node} did not converge")]
    NotConverged {
        /// The node.
        node: usize,
    },
    /// A node gave up a state and could not go back to it, or refused what a correct participant said.
    #[error("node {node}: {what}")]
    Failed {
        /// The node.
        node: usize,
        /// What failed.
        what: String,
    },
    /// There was no active side again long after everything was well.
    #[error("no recovery within {waited_ms} ms of healing")]
    Stuck {
        /// How long it was waited for.
        waited_ms: u64,
    },
}

/// Whether the answers follow from doing the committed commands in the order of the log. Gives what that makes of the application's state, too.
pub(super) fn check(history: &History, log: &BTreeMap<u64, Command>) -> (Vec<Violation>, Expected) {
    let mut violations = Vec::new();
    let mut state = Expected::default();
    let mut answers: BTreeMap<u64, Answer> = BTreeMap::new();
    let mut order = Vec::new();
    for command in log.values() {
        if let Some(answer) = state.execute(command) {
            answers.insert(command.id, answer);
            order.push(command.id);
        }
    }
    for (id, asked) in history {
        match (asked.told, answers.get(id).copied()) {
            (Told::Answered(_, _), None) => violations.push(Violation::Lost { id: *id }),
            (Told::Answered(told, _), found) if found != Some(told) => {
                violations.push(Violation::WrongAnswer { id: *id, told, found });
            }
            (Told::Refused, Some(_)) => violations.push(Violation::RefusedAndDone { id: *id }),
            (Told::Nothing | Told::Refused | Told::Answered(..), _) => {}
        }
    }
    violations.extend(answers.keys().filter(|id| !history.contains_key(id)).map(|id| Violation::Invented { id: *id }));
    violations.extend(out_of_order(history, &order));
    (violations, state)
}

/// Walks the order from its end with the earliest answer seen so far: whoever was asked after that stands too early.
fn out_of_order(history: &History, order: &[u64]) -> Vec<Violation> {
    let mut earliest: Option<(u64, u64)> = None;
    let mut violations = Vec::new();
    let mut seen = BTreeSet::new();
    for id in order.iter().rev().filter(|id| seen.insert(**id)) {
        let Some(asked) = history.get(id) else { continue };
        if let Some((answered, earlier)) = earliest.filter(|(answered, _)| *answered < asked.at) {
            debug_assert!(answered < asked.at);
            violations.push(Violation::OutOfOrder { earlier, later: *id });
        }
        if let Told::Answered(_, at) = asked.told
            && earliest.is_none_or(|(answered, _)| at < answered)
        {
            earliest = Some((at, *id));
        }
    }
    violations
}

impl Violation {
    /// Whether something committed or answered is lost.
    pub const fn is_loss(&self) -> bool {
        matches!(self, Self::TwoEntries { .. } | Self::Lost { .. } | Self::NotConverged { .. })
    }
}
