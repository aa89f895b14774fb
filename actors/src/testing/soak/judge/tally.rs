//! What came of the failures: plain counts and times.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::media::MEDIA_COUNT;
use super::super::schedule::{Failure, FailureKind};
use super::super::stats::{Samples, Share};
use super::Side;

/// What came of failures of one kind.
#[derive(Debug, Clone, Default)]
pub struct KindTally {
    /// How many there were.
    pub injected: u64,
    /// From the later of the fault and the first send to the link called unusable, when messages had been sent into it.
    pub noticed_busy: Samples,
    /// The same when nothing but the session's own records had.
    pub noticed_idle: Samples,
    /// Called unusable before anything was sent: the peer had told.
    pub told: u64,
    /// Sides that had no usable link over what faded any more when it fell silent: mostly they had left it in time.
    pub foreseen: u64,
    /// Never called unusable although it should have been.
    pub missed: u64,
    /// Verdicts on links on which nothing had vanished, that the failure explains.
    pub verdicts: u64,
    /// From the failure to the first new delivery of each sequence that used what failed.
    pub failover: Samples,
    /// Sequences in which nothing was delivered in time.
    pub stalled: u64,
    /// Failures after which traffic did not go on in time although another link remained.
    pub not_migrated: u64,
}

/// What came of all of them.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// How many failures there were.
    pub failures: u64,
    /// By kind.
    pub kinds: BTreeMap<FailureKind, KindTally>,
    /// Sides that had to notice a fault, and did.
    pub noticed: Share,
    /// Sides that did not call their last link unusable, rightly.
    pub last_links: u64,
    /// Sides of which it was not asked, because a process was stopped meanwhile.
    pub forgiven: u64,
    /// Failures after which a delivery waited for a process that was stopped: its time says nothing about the failure.
    pub waited_for_process: u64,
    /// Verdicts that nothing explains.
    pub false_verdicts: u64,
    /// The same by transport.
    pub false_by_medium: [u64; MEDIA_COUNT],
    /// The first of those.
    pub false_examples: Vec<(Duration, Side)>,
    /// Verdicts that a recording explains.
    pub verdicts_by_recording: u64,
    /// Failures after which traffic went on in time, among those that concerned traffic and left another link.
    pub migrated: Share,
    /// The same for half of all transports together.
    pub half_recovered: Share,
    /// Failures of half of all transports during which another link was called unusable.
    pub cascades: u64,
    /// Failures that concerned traffic and left no other link.
    pub nowhere_to_go: u64,
    /// Sessions that ended.
    pub sessions_ended: u64,
    /// From the end of a failure to the link being usable again.
    pub restored: Samples,
    /// The first failures after which traffic did not go on in time.
    pub failed_examples: Vec<(usize, FailureKind, Duration)>,
    /// The first failures after which a delivery took long.
    pub slow_examples: Vec<(usize, FailureKind, Duration, Duration)>,
    /// The first faults that a side did not notice.
    pub missed_examples: Vec<(usize, FailureKind, Duration, Side)>,
}

impl Tally {
    /// So many examples are kept.
    pub const EXAMPLES_MAX: usize = 20;

    /// What came of a kind.
    pub fn of(&mut self, kind: FailureKind) -> &mut KindTally {
        self.kinds.entry(kind).or_default()
    }

    /// Keeps an example of a failure after which a delivery took long.
    pub fn note_slow(&mut self, failure: &Failure, took: Duration) {
        let known = self.slow_examples.iter().any(|(id, ..)| *id == failure.id);
        if !known && self.slow_examples.len() < Self::EXAMPLES_MAX {
            self.slow_examples.push((failure.id, failure.kind, failure.start, took));
        }
    }

    /// Keeps an example of a fault that a side did not notice.
    pub fn note_missed(&mut self, failure: &Failure, side: Side) {
        if self.missed_examples.len() < Self::EXAMPLES_MAX {
            self.missed_examples.push((failure.id, failure.kind, failure.start, side));
        }
    }

    /// Keeps an example of a failure after which traffic did not go on in time.
    pub fn note_failed(&mut self, failure: &Failure) {
        if self.failed_examples.len() < Self::EXAMPLES_MAX {
            self.failed_examples.push((failure.id, failure.kind, failure.start));
        }
    }
}
