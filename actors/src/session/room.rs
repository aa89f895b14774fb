//! Room for lists that live for one call. It is kept by the thread, not by each session: there may be thousands that are idle.

use std::cell::Cell;

use super::outbox::SentItem;
use super::path::AckOutcome;
use super::policy::Candidate;

thread_local! {
    static CANDIDATES: Cell<Vec<Candidate>> = const { Cell::new(Vec::new()) };
    static IN_QUESTION: Cell<Vec<Candidate>> = const { Cell::new(Vec::new()) };
    static SENT: Cell<Vec<SentItem>> = const { Cell::new(Vec::new()) };
    static ACKNOWLEDGED: Cell<Option<AckOutcome>> = const { Cell::new(None) };
}

/// An empty list of links to choose from.
pub(super) fn candidates() -> Vec<Candidate> {
    let mut list = CANDIDATES.take();
    list.clear();
    list
}

/// Gives the room back.
pub(super) fn give_candidates(list: Vec<Candidate>) {
    CANDIDATES.set(list);
}

/// An empty list of those of them that meet what is required.
pub(super) fn in_question() -> Vec<Candidate> {
    let mut list = IN_QUESTION.take();
    list.clear();
    list
}

/// Gives the room back.
pub(super) fn give_in_question(list: Vec<Candidate>) {
    IN_QUESTION.set(list);
}

/// An empty list of what went into a record.
pub(super) fn sent() -> Vec<SentItem> {
    let mut list = SENT.take();
    list.clear();
    list
}

/// Gives the room back.
pub(super) fn give_sent(list: Vec<SentItem>) {
    SENT.set(list);
}

/// An outcome of an acknowledgement with nothing in it.
pub(super) fn acknowledged() -> AckOutcome {
    let mut outcome = ACKNOWLEDGED.take().unwrap_or_default();
    outcome.clear();
    outcome
}

/// Gives the room back.
pub(super) fn give_acknowledged(outcome: AckOutcome) {
    ACKNOWLEDGED.set(Some(outcome));
}
