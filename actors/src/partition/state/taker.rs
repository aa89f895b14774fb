//! A participant's part in a resolution: says what it has, and takes the chosen state over, or goes back.

use std::collections::VecDeque;
use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::config::ResolutionConfig;
use bytes::Bytes;

use super::choice::Summary;
use super::transfer::{self, Fetch, Limits, Piece, TransferError, Want, answer, digest};
use super::versioned::Versioned;
use super::wire::{Outcome, Round};
use super::{ResolutionOutput, RollbackReason};

type Outputs = VecDeque<ResolutionOutput>;
type Done = Option<(Round, Outcome)>;

/// The chosen state, on its way.
#[derive(Debug, Clone)]
struct Taking {
    source: PeerId,
    chosen: Summary,
    fetch: Fetch,
    failed: u32,
}

/// What this node has to do with the present resolution.
#[derive(Debug, Clone, Default)]
pub(super) struct Taker {
    round: Option<Round>,
    /// The state it had when it was asked: pieces of it may be wanted.
    served: Option<(transfer::Digest, Bytes)>,
    /// What it said of it.
    said: Option<Summary>,
    taking: Option<Taking>,
    done: Option<Outcome>,
    finished: bool,
    until: Option<Instant>,
}

impl Taker {
    /// The newest round it has heard of.
    pub(super) fn round(&self) -> Option<Round> {
        self.round
    }

    /// The leader asks what is here.
    pub(super) fn on_call(&mut self, until: Instant, round: Round, side: u16, state: &dyn Versioned) -> Summary {
        if let Some(said) = self.said.as_ref().filter(|_| self.round == Some(round)) {
            // Asked once more: pieces of what was said first may be on their way already.
            return said.clone();
        }
        *self = Self { round: Some(round), until: Some(until), ..Self::default() };
        let bytes = state.snapshot();
        let of = digest(&bytes);
        let summary = Summary { version: state.version(), bytes: bytes.len() as u64, digest: of, side };
        self.served = Some((of, bytes));
        self.said = Some(summary.clone());
        summary
    }

    /// The leader has chosen; `mine`: what this node has. Says at once what became of it if there is nothing to fetch, or it is known already.
    pub(super) fn on_decided(
        &mut self,
        (now, until): (Instant, Instant),
        round: Round,
        (source, mine, chosen): (PeerId, bool, Summary),
        limits: &Limits,
        state: &mut dyn Versioned,
        outputs: &mut Outputs,
    ) -> Done {
        if self.round != Some(round) {
            // It was not asked in this life, or the question came to nothing: it has to be one with the others all the same.
            *self = Self { round: Some(round), until: Some(until), ..Self::default() };
        }
        if self.taking.is_some() {
            return None;
        }
        if let Some(done) = self.done {
            return Some((round, done));
        }
        if digest(&state.snapshot()) == chosen.digest {
            return self.end(Outcome::Same);
        }
        // Who is named as the source and has it no more began anew, or went on: there has to be another choice.
        let went_on = mine || self.served_digest() == Some(chosen.digest);
        if went_on || state.committed() > chosen.version.committed {
            return self.end(Outcome::Ahead);
        }
        match Fetch::new(now, source, chosen.digest, chosen.bytes, *limits) {
            Ok(fetch) => {
                self.taking = Some(Taking { source, chosen, fetch, failed: 0 });
                None
            }
            Err(error) => self.give_up(error.into(), outputs),
        }
    }

    fn served_digest(&self) -> Option<transfer::Digest> {
        self.served.as_ref().map(|(of, _)| *of)
    }

    fn end(&mut self, outcome: Outcome) -> Done {
        self.taking = None;
        self.done = Some(outcome);
        self.round.map(|round| (round, outcome))
    }

    fn give_up(&mut self, reason: RollbackReason, outputs: &mut Outputs) -> Done {
        if let Some(round) = self.round {
            outputs.push_back(ResolutionOutput::RolledBack { round, reason });
        }
        self.end(Outcome::RolledBack)
    }

    /// What to ask the source for.
    pub(super) fn ask(&mut self, now: Instant) -> Option<(PeerId, Want)> {
        let taking = self.taking.as_mut()?;
        Some((taking.source, taking.fetch.ask(now)?))
    }

    /// Pieces of the state that this node said it has.
    pub(super) fn answer(&self, want: &Want, limits: &Limits) -> Vec<Piece> {
        match &self.served {
            Some((of, state)) if *of == want.digest => answer(state, *of, want, limits),
            Some(_) | None => Vec::new(),
        }
    }

    /// A piece arrived.
    pub(super) fn on_piece(
        &mut self,
        now: Instant,
        from: PeerId,
        piece: &Piece,
        (limits, config): (&Limits, &ResolutionConfig),
        state: &mut dyn Versioned,
        outputs: &mut Outputs,
    ) -> Done {
        let taking = self.taking.as_mut()?;
        match taking.fetch.on_piece(now, from, piece) {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                let chosen = taking.chosen.clone();
                if state.committed() > chosen.version.committed {
                    return self.end(Outcome::Ahead);
                }
                match take_over(&bytes, &chosen, state) {
                    Ok(proposals) => {
                        if let Some(round) = self.round {
                            outputs.push_back(ResolutionOutput::Adopted { round, state: bytes });
                        }
                        outputs.extend(proposals.into_iter().map(ResolutionOutput::Propose));
                        self.end(Outcome::Adopted)
                    }
                    Err(reason) => self.again(now, reason, (limits, config), outputs),
                }
            }
            Err(error) => self.again(now, error.into(), (limits, config), outputs),
        }
    }

    /// It failed: once more, unless it failed too often.
    fn again(
        &mut self,
        now: Instant,
        reason: RollbackReason,
        (limits, config): (&Limits, &ResolutionConfig),
        outputs: &mut Outputs,
    ) -> Done {
        let taking = self.taking.as_mut()?;
        taking.failed += 1;
        let again = Fetch::new(now, taking.source, taking.chosen.digest, taking.chosen.bytes, *limits);
        match again {
            Ok(fetch) if taking.failed < config.attempts && !matches!(reason, RollbackReason::InDoubt(_)) => {
                taking.fetch = fetch;
                None
            }
            Ok(_) | Err(_) => self.give_up(reason, outputs),
        }
    }

    /// It is over: what became of it here. `None` if that is no news.
    pub(super) fn on_finished(&mut self, round: Round) -> Option<Option<Outcome>> {
        if self.round != Some(round) || self.finished {
            return None;
        }
        self.finished = true;
        (self.served, self.taking, self.until) = (None, None, None);
        Some(self.done)
    }

    /// A deadline was reached.
    pub(super) fn on_timeout(
        &mut self,
        now: Instant,
        limits: &Limits,
        config: &ResolutionConfig,
        outputs: &mut Outputs,
    ) -> Done {
        if self.until.is_some_and(|until| until <= now) {
            // Nothing is heard of the leader any more: nothing is kept for it.
            (self.served, self.taking, self.until) = (None, None, None);
        }
        let fetch = &self.taking.as_ref()?.fetch;
        if fetch.is_late(now) || fetch.is_stuck(now) {
            return self.again(now, TransferError::TimedOut.into(), (limits, config), outputs);
        }
        None
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let fetch = self.taking.as_ref().map(|taking| taking.fetch.deadline());
        [fetch, self.until].into_iter().flatten().min()
    }
}

/// Takes a state over that arrived whole and intact, and makes sure that it is what was chosen; else goes back. Gives what is to be proposed again.
fn take_over(bytes: &Bytes, chosen: &Summary, state: &mut dyn Versioned) -> Result<Vec<Bytes>, RollbackReason> {
    let (before, was) = (state.snapshot(), state.version());
    let taken = state.apply(bytes).map_err(RollbackReason::Apply).and_then(|()| {
        let is = state.version();
        let undoes = is.committed < was.committed
            || is.committed == was.committed && is.committed_digest != was.committed_digest;
        if undoes {
            Err(RollbackReason::Undoes)
        } else if digest(&state.snapshot()) != chosen.digest || is != chosen.version {
            Err(RollbackReason::Different)
        } else {
            Ok(())
        }
    });
    if let Err(reason) = taken {
        state.restore(&before).map_err(RollbackReason::InDoubt)?;
        if digest(&state.snapshot()) != digest(&before) {
            return Err(RollbackReason::InDoubt("it is not the state from before".to_owned()));
        }
        return Err(reason);
    }
    Ok(state.merge(&before))
}
