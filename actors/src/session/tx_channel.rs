//! The sending half of one channel: messages accepted and not final yet, oldest first.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::task::Waker;

use bowline_messages::session::ReceiptState;
use bowline_messages::{Delivery, MessageClass, PolicyName};
use bytes::Bytes;

use super::outcomes::Outcomes;
use super::ranges::RangeSet;

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not put on a wire as a whole.
    Waiting,
    /// On a wire, not acknowledged by the peer's session.
    InFlight,
    /// In the peer's ledger; its payload is no longer needed here.
    Received,
    /// Will not be sent (again): its outcome is noted, the peer is told to go on without it.
    Skipped,
}

/// One message.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) payload: Bytes,
    /// Length of the payload, which is gone once the peer's session has it.
    pub(crate) length: u32,
    /// Bytes put on a wire at least once, from the front.
    pub(crate) sent: u32,
    pub(crate) class: MessageClass,
    pub(crate) delivery: Delivery,
    pub(crate) policy: Option<PolicyName>,
    pub(crate) phase: Phase,
    /// Whether it counts against the peer's windows.
    pub(crate) outstanding: bool,
    /// Bytes of fragments that the peer's session has.
    pub(crate) fragments: Option<Box<RangeSet>>,
}

impl Entry {
    /// Whether any of it was ever put on a wire.
    pub(crate) fn was_on_wire(&self) -> bool {
        self.sent > 0 || matches!(self.phase, Phase::InFlight | Phase::Received)
    }

    /// Whether it was put on a wire and the peer's session may not have it.
    pub(crate) fn is_live(&self) -> bool {
        self.was_on_wire() && matches!(self.phase, Phase::InFlight | Phase::Waiting)
    }
}

/// What a message counts against the windows: its payload, and what remembering it costs.
pub(crate) fn window_cost(length: usize) -> u64 {
    length as u64 + MESSAGE_OVERHEAD_BYTES
}

/// Counted for every message, however short, so that a flood of empty ones is bounded as well. Part of the wire contract.
pub(crate) const MESSAGE_OVERHEAD_BYTES: u64 = 32;

/// The sending half of one channel.
#[derive(Debug)]
pub(crate) struct TxChannel {
    /// Sequence of `entries[0]`. Everything below is final.
    pub(crate) base: u64,
    pub(crate) entries: VecDeque<Entry>,
    /// The peer said that it is past everything below.
    pub(crate) confirmed: u64,
    /// The first message not wholly put on a wire.
    pub(crate) next_unsent: u64,
    /// Bytes put on a wire and not yet handed to the peer's application.
    pub(crate) outstanding: u64,
    /// How many such bytes the peer allows.
    pub(crate) window: u64,
    /// Whether the channel waits in a ready queue.
    pub(crate) queued: bool,
    /// No further message will be accepted; the channel goes once it is empty.
    pub(crate) finished: bool,
    pub(crate) outcomes: Outcomes,
    pub(crate) waiters: BTreeMap<u64, Vec<Waker>>,
}

impl TxChannel {
    pub(crate) fn new(window: u64) -> Self {
        Self {
            base: 0,
            entries: VecDeque::new(),
            confirmed: 0,
            next_unsent: 0,
            outstanding: 0,
            window,
            queued: false,
            finished: false,
            outcomes: Outcomes::default(),
            waiters: BTreeMap::new(),
        }
    }

    /// The sequence that the next accepted message gets.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub(crate) fn entry(&self, sequence: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(sequence.checked_sub(self.base)?).ok()?)
    }

    pub(crate) fn entry_mut(&mut self, sequence: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(sequence.checked_sub(self.base)?).ok()?)
    }

    /// The first message with something unsent. Those that are to be skipped are passed beforehand: `TxChannel::pass_skipped`.
    pub(crate) fn head(&self) -> Option<&Entry> {
        self.entry(self.next_unsent)
    }

    /// Goes past messages that are to be skipped before the first with something unsent, and gives their numbers.
    pub(crate) fn pass_skipped(&mut self) -> Range<u64> {
        let from = self.next_unsent;
        while self.entry(self.next_unsent).is_some_and(|entry| entry.phase == Phase::Skipped) {
            self.next_unsent += 1;
        }
        from..self.next_unsent
    }

    /// Whether the peer's window allows the first byte of a message of this length. A message larger than the whole window may go
    /// when nothing else is outstanding.
    pub(crate) fn has_room(&self, length: u32) -> bool {
        self.outstanding == 0 || self.outstanding + window_cost(length as usize) <= self.window
    }

    /// The state of a message as its receipt tells it.
    pub(crate) fn state(&self, sequence: u64) -> ReceiptState {
        match self.entry(sequence) {
            Some(entry) => match entry.phase {
                Phase::Skipped => self.outcomes.get(sequence).unwrap_or(ReceiptState::Unknown),
                Phase::InFlight | Phase::Received => self.outcomes.get(sequence).unwrap_or(ReceiptState::OnWire),
                Phase::Waiting if entry.was_on_wire() => ReceiptState::OnWire,
                Phase::Waiting => ReceiptState::Accepted,
            },
            None => self.outcomes.get(sequence).unwrap_or(ReceiptState::Acknowledged),
        }
    }

    /// Takes the wakers of everybody who waits for a message below `until`.
    pub(crate) fn take_waiters(&mut self, until: u64) -> Vec<Waker> {
        if self.waiters.is_empty() {
            return Vec::new();
        }
        let later = self.waiters.split_off(&until);
        let due = std::mem::replace(&mut self.waiters, later);
        due.into_values().flatten().collect()
    }
}
