//! One node of the experiment: a participant as it is in a real node, its clock and its medium.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::{PartitionConfig, PartitionLogConfig, ResolutionConfig};
use bowline_messages::partition::Token;

use super::Sabotage;
use super::table::Book;
use crate::partition::group::{Durable, Group, GroupConfig, GroupError, Participant, Record};
use crate::partition::wire::{SIGNATURE_BYTES, Signer};

/// A clock that is off: it shows another time, and runs at another speed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) epoch: Instant,
    pub(super) ahead_ns: u64,
    pub(super) ppm: i64,
}

impl Clock {
    fn scaled(self, ns: u64) -> u64 {
        let rate = i128::from(1_000_000 + self.ppm);
        u64::try_from(i128::from(ns) * rate / 1_000_000).unwrap_or(0)
    }

    /// What it shows.
    pub(super) fn local(self, ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(self.ahead_ns + self.scaled(ns))
    }

    /// The first moment at which it shows that.
    pub(super) fn moment(self, local: Instant) -> u64 {
        let shown = local.saturating_duration_since(self.epoch).as_nanos();
        let shown = i128::try_from(shown).unwrap_or(i128::MAX) - i128::from(self.ahead_ns);
        let rate = i128::from(1_000_000 + self.ppm);
        u64::try_from((shown.max(0) * 1_000_000 + rate - 1) / rate).unwrap_or(u64::MAX)
    }
}

/// What survives a crash.
#[derive(Debug, Clone)]
pub(super) struct Medium {
    pub(super) durable: Durable,
    /// How long a write takes.
    pub(super) takes: Duration,
}

/// A node, up or down.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) me: PeerId,
    pub(super) clock: Clock,
    pub(super) medium: Medium,
    pub(super) life: Option<Group<Book>>,
    /// Counts lives, so that what was meant for an earlier one is known.
    pub(super) lives: u64,
    /// When it is to be woken next, in nanoseconds.
    pub(super) wake_at: Option<u64>,
    /// What is being written.
    pub(super) writing: Vec<Record>,
    /// The token that a sabotaged node goes on using.
    kept: Option<Token>,
}

/// The name of a node.
pub(super) fn peer(node: usize) -> PeerId {
    PeerId::from_bytes([u8::try_from(node + 1).unwrap_or(u8::MAX); 32])
}

/// The number behind a name.
pub(super) fn number(peer: PeerId) -> usize {
    usize::from(peer.as_bytes()[0]) - 1
}

/// Signatures that cost little: a digest that only who knows a key could give, were keys not known to all here.
#[derive(Debug)]
struct Seal(PeerId);

impl Seal {
    fn of(peer: &PeerId, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut out = [0; SIGNATURE_BYTES];
        blake3::Hasher::new_keyed(peer.as_bytes()).update(bytes).finalize_xof().fill(&mut out);
        out
    }
}

impl Signer for Seal {
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        Self::of(&self.0, bytes)
    }

    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Self::of(peer, bytes) == *signature
    }
}

impl Node {
    /// A node that has never run.
    pub(super) fn new(node: usize, nodes: usize, clock: Clock) -> Self {
        let medium = Medium { durable: Durable::new((0..nodes).map(peer)), takes: Duration::from_millis(1) };
        let (life, wake_at, writing, kept) = (None, None, Vec::new(), None);
        Self { me: peer(node), clock, medium, life, lives: 0, wake_at, writing, kept }
    }

    /// Starts it, or starts it again.
    pub(super) fn start(&mut self, at: u64, nodes: usize, seed: u64) -> Result<(), GroupError> {
        self.lives += 1;
        (self.wake_at, self.kept) = (None, None);
        self.writing.clear();
        // Each node, and each of its lives, has one of its own.
        let seed = seed ^ (u64::from(self.me.as_bytes()[0]) << 48) ^ (self.lives << 56);
        let participant = Participant { me: self.me, life: self.lives, seed };
        // There is no tie-breaker: half of the participants cannot commit anything.
        let config = GroupConfig {
            partition: PartitionConfig { tie_breaker: false, ..PartitionConfig::default() },
            log: PartitionLogConfig { snapshot_after: 200, ..PartitionLogConfig::default() },
            resolution: ResolutionConfig::default(),
        };
        let signer = Rc::new(Seal(self.me));
        let (now, participants) = (self.clock.local(at), (0..nodes).map(peer));
        let group = Group::new(now, participant, participants, config, &self.medium.durable, signer, Book::default())?;
        self.life = Some(group);
        Ok(())
    }

    /// Under which lease it acts now.
    pub(super) fn token(&mut self, now: Instant, sabotage: Sabotage) -> Option<Token> {
        let token = self.life.as_ref()?.token(now);
        if token.is_some() {
            self.kept = token;
        }
        if sabotage == Sabotage::NeverPauses { self.kept } else { token }
    }

    /// So many of the records that are being written are durable, if the medium keeps what it is given.
    pub(super) fn keep(&mut self, count: usize, keeps: bool) {
        for record in std::mem::take(&mut self.writing).into_iter().take(count).filter(|_| keeps) {
            // A medium that forgets has gaps.
            let _ = self.medium.durable.apply(record);
        }
    }
}
