//! State that came apart in a split becomes one again: one is chosen, the others take it over or stay what they were.
//!
//! The leader of the log coordinates it, fenced by its term: it asks the participants what they have, and with the answers of a majority it
//! chooses ([`choice`]). Whoever has something else fetches the chosen state in pieces, compares its BLAKE3 digest, keeps a snapshot of its own, and takes it
//! over; when that fails it goes back to the snapshot. Nothing that a majority committed is undone: a state that includes less of the log than the one at
//! hand, or something else in its place, is not taken over, whoever says so. What was changed and never committed is handed to the application to propose
//! again.
//!
//! | file | idea |
//! |---|---|
//! | [`versioned`] | what the application's state offers |
//! | [`clock`] | vector clocks |
//! | [`choice`] | which state counts |
//! | `coordinator` | the leader's part |
//! | `taker` | a participant's part |
//! | [`transfer`] | bytes in pieces over a carrier that loses some |
//! | [`wire`] | what they say to each other |

pub mod choice;
pub mod clock;
mod coordinator;
mod taker;
#[cfg(test)]
mod tests;
pub mod transfer;
pub mod versioned;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::config::ResolutionConfig;
use bytes::Bytes;

use choice::Summary;
pub use clock::{Relation, VectorClock};
use coordinator::{Coordinator, Verdict};
use taker::Taker;
use transfer::Limits;
pub use versioned::{Version, Versioned};
pub use wire::{Outcome, Round};
use wire::{Packet, WireError, decode, encode};

use super::log::Position;
use super::terms::Rises;

/// What a resolution wants done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolutionOutput {
    /// Give this packet to the carrier; it may get lost.
    Send {
        /// To whom.
        to: PeerId,
        /// The packet.
        payload: Bytes,
    },
    /// The application's state is the chosen one now. Keep it durably before anything behind it is done.
    Adopted {
        /// The resolution.
        round: Round,
        /// The state.
        state: Bytes,
    },
    /// Propose this to the log: a change that was never committed, of a state that was given up.
    Propose(Bytes),
    /// The chosen state could not be taken over; the application has the one from before.
    RolledBack {
        /// The resolution.
        round: Round,
        /// Why.
        reason: RollbackReason,
    },
    /// It is over. On the leader with what became of it on whom; on the others `done` is empty.
    Resolved {
        /// The resolution.
        round: Round,
        /// What became of it here; `None` if this node did not answer in time.
        outcome: Option<Outcome>,
        /// What became of it on each that said so.
        done: BTreeMap<PeerId, Outcome>,
        /// Participants that said nothing, or not how it ended.
        silent: BTreeSet<PeerId>,
    },
    /// It came to nothing. Only on the leader. Whoever seeks one asks again.
    Failed {
        /// The resolution.
        round: Round,
        /// Why.
        reason: ResolutionError,
    },
}

/// Why a chosen state was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RollbackReason {
    /// It did not come whole and intact. The network's or the source's fault.
    #[error(transparent)]
    Transfer(#[from] transfer::TransferError),
    /// The application could not take it over.
    #[error("the application could not take it over: {0}")]
    Apply(String),
    /// After it was taken over, the application had something else. The application's or the source's fault.
    #[error("it became something else than was chosen")]
    Different,
    /// It has something else in place of what is committed here. The source's fault.
    #[error("it undoes what a majority committed")]
    Undoes,
    /// Going back failed: the application's state is in doubt, and it has to be paused.
    #[error("going back to the state from before failed: {0}")]
    InDoubt(String),
}

/// Why a resolution came to nothing. No state changed through the reason itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolutionError {
    /// Not even a majority said what it has. The network's fault; later.
    #[error("no majority answered")]
    NoMajority,
    /// Another one leads now, and coordinates what is to be coordinated.
    #[error("this node leads no more")]
    Superseded,
}

/// Why a packet was not taken. The peer's fault; nothing changed, and it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It cannot be read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// What only a leader may say, of one who does not lead, or led in a term that is over.
    #[error("it does not lead")]
    Fenced,
    /// It says that it has committed what the leader's log does not have, or something else in its place.
    #[error("it has committed what nobody has")]
    Impossible,
    /// It is beyond a bound.
    #[error("it is beyond a bound")]
    Bound,
}

/// All resolutions of a node: those it coordinates while it leads, and its part in those of others.
#[derive(Debug, Clone)]
pub struct Resolution {
    me: PeerId,
    config: ResolutionConfig,
    leader: Option<(u64, PeerId)>,
    participants: BTreeSet<PeerId>,
    /// Who takes part or did: nobody else's changes can be in a state.
    ever: BTreeSet<PeerId>,
    /// When this node asks for a resolution again, while it seeks one.
    seek_at: Option<Instant>,
    /// How often each participant may still begin a resolution here by asking for one.
    begun: BTreeMap<PeerId, Rises>,
    /// Somebody asked for a resolution when it was too late for the present one.
    wanted: bool,
    side: u16,
    /// How far the leader's own log goes: nobody can have committed more.
    log_end: Position,
    coordinator: Option<Coordinator>,
    rounds: u32,
    last: Round,
    repeats: u32,
    taker: Taker,
    refused: u64,
    /// Packets of this node to itself.
    own: VecDeque<Packet>,
    outputs: VecDeque<ResolutionOutput>,
}

impl Resolution {
    /// A node that takes part.
    pub fn new(me: PeerId, config: ResolutionConfig) -> Self {
        Self {
            me,
            leader: None,
            participants: BTreeSet::new(),
            ever: BTreeSet::new(),
            seek_at: None,
            begun: BTreeMap::new(),
            wanted: false,
            side: 1,
            log_end: Position::default(),
            coordinator: None,
            rounds: 0,
            last: Round::default(),
            repeats: 0,
            taker: Taker::default(),
            refused: 0,
            own: VecDeque::new(),
            outputs: VecDeque::new(),
            config,
        }
    }

    /// The log says who leads in which term. Only that one may coordinate.
    pub fn on_leader(&mut self, term: u64, peer: Option<PeerId>) {
        if self.leader.is_some_and(|(known, _)| known > term) {
            return;
        }
        self.leader = peer.map(|peer| (term, peer));
        if let Some(coordinator) =
            self.coordinator.take_if(|_| self.leader != Some((term, self.me)) || self.last.term != term)
        {
            let (round, reason) = (coordinator.round, ResolutionError::Superseded);
            self.outputs.push_back(ResolutionOutput::Failed { round, reason });
        }
    }

    /// How many participants are, or were, on this node's side of the split, itself included.
    pub fn on_side(&mut self, participants: usize) {
        self.side = u16::try_from(participants).unwrap_or(u16::MAX);
    }

    /// Where this node's log ends. To be said before packets are given in, whenever it has grown: while this node leads, nobody can have committed more, and
    /// who says so is refused.
    pub fn on_log_end(&mut self, end: Position) {
        self.log_end = end;
    }

    /// Who takes part, as far as the log says.
    ///
    /// # Errors
    /// [`Refused::Bound`]: more than may be; nothing changes.
    pub fn on_participants(&mut self, participants: BTreeSet<PeerId>) -> Result<(), Refused> {
        if participants.len() > self.config.participants_max {
            return Err(Refused::Bound);
        }
        self.ever.extend(&participants);
        self.begun.retain(|peer, _| participants.contains(peer));
        self.participants = participants;
        Ok(())
    }

    /// This node's state may have come apart from that of the others: it asks the leader for a resolution, or coordinates one if it leads itself, and asks
    /// again until one is over in which it took part: [`ResolutionOutput::Resolved`].
    pub fn seek(&mut self, now: Instant, state: &mut dyn Versioned) {
        self.seek_at = Some(now);
        self.go_on(now, state);
    }

    fn ask_leader(&mut self, now: Instant) {
        if self.seek_at.is_some_and(|at| at <= now) {
            self.seek_at = Some(now + self.config.retry);
            if let Some((_, leader)) = self.leader {
                self.tell(leader, Packet::Seek);
            }
        }
    }

    /// Somebody seeks a resolution: there is one, or the present one is for it, too.
    fn on_seek(&mut self, now: Instant, from: PeerId) -> Result<(), Refused> {
        let term = self.leader.filter(|(_, peer)| *peer == self.me).map(|(term, _)| term).ok_or(Refused::Fenced)?;
        if !self.participants.contains(&from) {
            return Err(Refused::Fenced);
        }
        if let Some(coordinator) = &self.coordinator {
            self.wanted |= !coordinator.asks(&from);
        } else if from == self.me || self.may_begin(now, from) {
            self.repeats = 0;
            self.begin(now, term, now + self.config.timeout);
        }
        Ok(())
    }

    /// Each resolution has all participants save and hash their states. Who asks again and again begins no more of them, in the long run, than one in the time
    /// in which answers are collected; a few more at once, since what ends one may get lost.
    fn may_begin(&mut self, now: Instant, from: PeerId) -> bool {
        let every = self.config.collect;
        self.begun.entry(from).or_insert_with(|| Rises::new(now, every)).take(now)
    }

    fn begin(&mut self, now: Instant, term: u64, deadline: Instant) {
        self.wanted = false;
        let participants = self.participants.clone();
        self.rounds = self.rounds.saturating_add(1);
        let round = Round { term, number: self.rounds };
        self.last = round;
        self.coordinator = Some(Coordinator::new(now, round, participants, deadline, &self.config));
    }

    /// Whether this node coordinates a resolution now.
    pub fn is_coordinating(&self) -> bool {
        self.coordinator.is_some()
    }

    /// Packets refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// A packet arrived, authenticated as coming from this neighbour, which is a participant.
    ///
    /// # Errors
    /// [`Refused`]; it is counted in [`Resolution::refused`], too.
    pub fn on_packet(
        &mut self,
        now: Instant,
        from: PeerId,
        bytes: &[u8],
        state: &mut dyn Versioned,
    ) -> Result<(), Refused> {
        let taken = match decode(bytes) {
            Ok(packet) => self.take(now, from, packet, state),
            Err(error) => Err(error.into()),
        };
        self.refused += u64::from(taken.is_err());
        self.go_on(now, state);
        taken
    }

    /// A deadline was reached.
    pub fn on_timeout(&mut self, now: Instant, state: &mut dyn Versioned) {
        let done = self.taker.on_timeout(now, &self.limits(), &self.config, &mut self.outputs);
        self.report(done);
        self.go_on(now, state);
    }

    /// When [`Resolution::on_timeout`] wants to run.
    pub fn deadline(&self) -> Option<Instant> {
        let coordinator = self.coordinator.as_ref().map(Coordinator::deadline);
        [coordinator, self.taker.deadline(), self.seek_at].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ResolutionOutput> {
        self.outputs.pop_front()
    }

    fn limits(&self) -> Limits {
        Limits {
            bytes_max: self.config.bytes_max,
            piece_bytes: self.config.piece_bytes,
            window: self.config.window,
            retry: self.config.retry,
            timeout: self.config.transfer_timeout,
        }
    }

    fn tell(&mut self, to: PeerId, packet: Packet) {
        if to == self.me {
            self.own.push_back(packet);
        } else {
            self.outputs.push_back(ResolutionOutput::Send { to, payload: encode(&packet) });
        }
    }

    fn report(&mut self, done: Option<(Round, Outcome)>) {
        if let (Some((round, outcome)), Some((_, leader))) = (done, self.leader) {
            self.tell(leader, Packet::Done(round, outcome));
        }
    }

    /// What only the leader of the round's term may say, and only of the present round or a newer one.
    fn fence(&self, from: PeerId, round: Round) -> Result<(), Refused> {
        let leads = self.leader == Some((round.term, from));
        if leads && self.taker.round().is_none_or(|last| round >= last) { Ok(()) } else { Err(Refused::Fenced) }
    }

    fn take(&mut self, now: Instant, from: PeerId, packet: Packet, state: &mut dyn Versioned) -> Result<(), Refused> {
        match packet {
            Packet::Seek => self.on_seek(now, from)?,
            Packet::Call(round) => {
                self.fence(from, round)?;
                let summary = self.taker.on_call(now + self.config.timeout, round, self.side, state);
                self.tell(from, Packet::Say(round, summary));
            }
            Packet::Say(round, summary) => self.on_said(from, round, summary, state)?,
            Packet::Decide { round, source, chosen } => {
                self.fence(from, round)?;
                let source = PeerId::from_bytes(source);
                let limits = self.limits();
                let until = now + self.config.timeout;
                let chosen = (source, source == self.me, chosen);
                let done = self.taker.on_decided((now, until), round, chosen, &limits, state, &mut self.outputs);
                if done.is_none() {
                    self.tell(from, Packet::Busy(round));
                }
                self.report(done);
            }
            Packet::Busy(round) => {
                if let Some(coordinator) = self.coordinator.as_mut().filter(|coordinator| coordinator.round == round) {
                    coordinator.on_busy(now, from);
                }
            }
            Packet::Done(round, outcome) => {
                if let Some(coordinator) = self.coordinator.as_mut().filter(|coordinator| coordinator.round == round) {
                    coordinator.on_done(from, outcome);
                }
            }
            Packet::Finish(round) => {
                self.fence(from, round)?;
                if let Some(outcome) = self.taker.on_finished(round).filter(|_| from != self.me) {
                    let (done, silent) = (BTreeMap::new(), BTreeSet::new());
                    self.over(round, outcome, done, silent);
                }
            }
            Packet::Want(want) => {
                for piece in self.taker.answer(&want, &self.limits()) {
                    self.tell(from, Packet::Piece(piece));
                }
            }
            Packet::Piece(piece) => {
                let (limits, config) = (self.limits(), &self.config);
                let done = self.taker.on_piece(now, from, &piece, (&limits, config), state, &mut self.outputs);
                self.report(done);
            }
        }
        Ok(())
    }

    fn on_said(&mut self, from: PeerId, round: Round, summary: Summary, state: &dyn Versioned) -> Result<(), Refused> {
        let awaits = |coordinator: &&mut Coordinator| coordinator.round == round && coordinator.awaits(&from);
        let Some(coordinator) = self.coordinator.as_mut().filter(awaits) else {
            return Ok(());
        };
        let strange = |peer: &PeerId| !self.ever.contains(peer);
        if summary.bytes > self.config.bytes_max || summary.version.clock.peers().any(strange) {
            return Err(Refused::Bound);
        }
        // The leader's log has everything that is committed.
        if summary.version.committed > self.log_end || coordinator.contradicts(&summary, state) {
            return Err(Refused::Impossible);
        }
        coordinator.on_said(from, summary);
        Ok(())
    }

    /// Says what is due, hears what this node says to itself, and ends what is over.
    fn go_on(&mut self, now: Instant, state: &mut dyn Versioned) {
        loop {
            self.ask_leader(now);
            if let Some(want) = self.taker.ask(now) {
                let (source, want) = want;
                self.tell(source, Packet::Want(want));
            }
            if let Some(coordinator) = &mut self.coordinator {
                for (to, packet) in coordinator.say(now, &self.config) {
                    self.tell(to, packet);
                }
            }
            let Some(packet) = self.own.pop_front() else {
                let Some(verdict) =
                    self.coordinator.as_mut().and_then(|coordinator| coordinator.step(now, &self.config))
                else {
                    // A choice that was made just now is said at once.
                    if self.coordinator.as_ref().is_some_and(|coordinator| coordinator.deadline() <= now) {
                        continue;
                    }
                    return;
                };
                self.end(now, verdict);
                continue;
            };
            // What this node says to itself is never refused for good: a leader that is none any more has ended its resolution.
            let _ = self.take(now, self.me, packet, state);
        }
    }

    fn end(&mut self, now: Instant, verdict: Verdict) {
        let Some(coordinator) = self.coordinator.take() else { return };
        let round = coordinator.round;
        match verdict {
            Verdict::NoMajority => {
                self.outputs.push_back(ResolutionOutput::Failed { round, reason: ResolutionError::NoMajority });
            }
            Verdict::Settled { done, silent } => {
                let again = done.values().any(|outcome| matches!(outcome, Outcome::Ahead | Outcome::RolledBack));
                if again && self.repeats + 1 < self.config.attempts && now < coordinator.ends() {
                    // What was chosen is out of date, or who has it is gone; most likely the next choice is a better one.
                    self.repeats += 1;
                    return self.begin(now, round.term, coordinator.ends());
                }
                let me = self.me;
                for peer in coordinator.participants().iter().filter(|peer| **peer != me) {
                    self.tell(*peer, Packet::Finish(round));
                }
                let outcome = self.taker.on_finished(round).flatten();
                self.over(round, outcome, done, silent);
                if std::mem::take(&mut self.wanted) {
                    self.repeats = 0;
                    self.begin(now, round.term, now + self.config.timeout);
                }
            }
        }
    }

    fn over(
        &mut self,
        round: Round,
        outcome: Option<Outcome>,
        done: BTreeMap<PeerId, Outcome>,
        silent: BTreeSet<PeerId>,
    ) {
        if outcome.is_some() {
            self.seek_at = None;
        }
        self.outputs.push_back(ResolutionOutput::Resolved { round, outcome, done, silent });
    }
}
