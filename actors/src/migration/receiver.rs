//! The side of a migration that gets the state. Pure.
//!
//! ```text
//!   Transferring ──complete, checksum──▶ Verifying ──acceptable──▶ Applying (waits for the order, then for the application) ──▶ Ended
//!        └──── damage, refusal, abort, time-out: rolled back ──────────┴── without an order in time, or failed: rolled back
//! ```
//!
//! What it holds grows with what arrives: the offer's size is compared with the limit and believed in nothing else. The application sees the
//! state only when it is complete and its BLAKE3 digest is that of the offer.

use std::collections::VecDeque;
use std::time::Instant;

use bowline_messages::config::MigrationConfig;
use bowline_messages::migration::{MigrationPhase, RollbackReason};
use bytes::Bytes;

use super::piece::unpack;
use super::wire::{Frame, Offer};

/// What the receiver wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverOutput {
    /// The state is complete: have the application look at it; answer with [`Receiver::on_verified`].
    Verify(Bytes),
    /// Have the application take it over; answer with [`Receiver::on_applied`].
    Apply(Bytes),
    /// All pieces are here.
    Transferred {
        /// Bytes of the state.
        bytes: u64,
        /// Bytes of the pieces as they came.
        packed_bytes: u64,
        /// How often the transfer was interrupted.
        resumed: u32,
    },
    /// Intact, and acceptable to the application.
    Verified,
    /// It is over. Once, and the last one.
    Ended {
        /// How far it was.
        phase: MigrationPhase,
        /// `Ok`: the application here has the state.
        outcome: Result<(), RollbackReason>,
    },
}

/// What is done with the whole state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is not whole yet.
    Collecting,
    /// The application looks at it.
    Looking,
    /// It is fine; the order to take it over is waited for.
    Ready,
    /// The application takes it over.
    Taking,
    /// It is over, like this; kept to answer a sender that asks again.
    Over(Result<(), ()>),
}

/// One migration to this node.
#[derive(Debug)]
pub struct Receiver {
    config: MigrationConfig,
    offer: Offer,
    step: Step,
    /// What arrived, until it is whole.
    arrived: Vec<u8>,
    /// The whole of it.
    state: Bytes,
    next_piece: u64,
    packed_bytes: u64,
    deadline: Instant,
    connected: bool,
    resumed: u32,
    failure: Option<RollbackReason>,
    to_send: VecDeque<Frame>,
    outputs: VecDeque<ReceiverOutput>,
}

impl Receiver {
    /// A migration that the application is willing to take, on the stream on which it was offered.
    ///
    /// # Errors
    /// What is wrong with the offer; nothing is kept.
    pub fn new(now: Instant, offer: Offer, config: MigrationConfig) -> Result<Self, RollbackReason> {
        if offer.bytes > config.bytes_max {
            return Err(RollbackReason::TooLarge { bytes: offer.bytes, limit: config.bytes_max });
        }
        if offer.piece_bytes == 0 || offer.piece_bytes > PIECE_BYTES_MAX {
            return Err(RollbackReason::Protocol(format!("pieces of {} bytes", offer.piece_bytes)));
        }
        let mut receiver = Self {
            deadline: now + config.transfer_timeout,
            config,
            offer,
            step: Step::Collecting,
            arrived: Vec::new(),
            state: Bytes::new(),
            next_piece: 0,
            packed_bytes: 0,
            connected: true,
            resumed: 0,
            failure: None,
            to_send: VecDeque::new(),
            outputs: VecDeque::new(),
        };
        receiver.to_send.push_back(Frame::Accept { from: 0 });
        receiver.check_whole(now);
        Ok(receiver)
    }

    /// What was offered.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// How far it is.
    pub fn phase(&self) -> MigrationPhase {
        match self.step {
            Step::Collecting => MigrationPhase::Transferring,
            Step::Looking => MigrationPhase::Verifying,
            Step::Ready | Step::Taking => MigrationPhase::Applying,
            Step::Over(_) => MigrationPhase::Ended,
        }
    }

    /// Whether it is over. It is worth keeping for a while: the sender may ask again.
    pub fn is_over(&self) -> bool {
        matches!(self.step, Step::Over(_))
    }

    /// Bytes of state held.
    pub fn held(&self) -> usize {
        self.arrived.capacity() + self.state.len()
    }

    /// The same migration is offered on a new stream: says where it is.
    pub fn on_offer(&mut self, offer: &Offer) {
        self.to_send.clear();
        self.connected = true;
        if !self.offer.is_same(offer) {
            // Whatever the sender is about, it is not this.
            self.to_send.push_back(Frame::Failed(RollbackReason::Protocol("another offer of the same number".into())));
            return;
        }
        match self.step {
            Step::Collecting => self.to_send.push_back(Frame::Accept { from: self.next_piece }),
            // It is said when the application has answered.
            Step::Looking | Step::Taking => {}
            Step::Ready => self.to_send.push_back(Frame::Verified),
            Step::Over(Ok(())) => self.to_send.push_back(Frame::Applied),
            Step::Over(Err(())) => self.say_failure(),
        }
    }

    /// The stream broke.
    pub fn on_disconnected(&mut self) {
        self.resumed += u32::from(self.connected && !self.is_over());
        self.connected = false;
        self.to_send.clear();
    }

    /// The sender said something, on the present stream. Offers go to [`Receiver::on_offer`].
    pub fn on_frame(&mut self, now: Instant, frame: Frame) {
        if self.is_over() || !self.connected {
            return;
        }
        match frame {
            Frame::Piece { index, raw_bytes, compressed, data } => {
                self.on_piece(now, index, raw_bytes, compressed, &data);
            }
            Frame::Commit => match self.step {
                Step::Ready => {
                    self.step = Step::Taking;
                    self.deadline = now + self.config.apply_timeout;
                    self.outputs.push_back(ReceiverOutput::Apply(self.state.clone()));
                }
                Step::Taking | Step::Over(_) => {}
                Step::Collecting | Step::Looking => self.on_violation("an order before there is anything to take over"),
            },
            // Once it is being taken over, only the outcome counts.
            Frame::Abort(_) if self.step == Step::Taking => {}
            Frame::Abort(why) => self.roll_back(RollbackReason::Aborted(why)),
            Frame::Offer(_)
            | Frame::Accept { .. }
            | Frame::Got { .. }
            | Frame::Verified
            | Frame::Applied
            | Frame::Failed(_)
            | Frame::Forgotten => self.on_violation("a frame of the wrong direction"),
        }
    }

    /// What the sender said was no frame, or not one of this moment.
    pub fn on_violation(&mut self, what: &str) {
        if !self.is_over() && self.step != Step::Taking {
            self.roll_back(RollbackReason::Protocol(what.to_owned()));
        }
    }

    fn on_piece(&mut self, now: Instant, index: u64, raw_bytes: u32, compressed: bool, data: &[u8]) {
        if self.step != Step::Collecting || index < self.next_piece {
            // It is here already.
            return;
        }
        let missing = self.offer.bytes - self.arrived.len() as u64;
        let expected = missing.min(u64::from(self.offer.piece_bytes));
        if index != self.next_piece || u64::from(raw_bytes) != expected {
            return self.on_violation("not the piece that was due");
        }
        if unpack(compressed, raw_bytes as usize, data, &mut self.arrived).is_err() {
            return self.roll_back(RollbackReason::Checksum);
        }
        self.next_piece += 1;
        self.packed_bytes += data.len() as u64;
        // One that was not written yet says as much.
        self.to_send.retain(|frame| !matches!(frame, Frame::Got { .. }));
        self.say(Frame::Got { pieces: self.next_piece });
        self.check_whole(now);
    }

    fn check_whole(&mut self, now: Instant) {
        if self.next_piece < self.offer.pieces() {
            return;
        }
        let (bytes, packed_bytes, resumed) = (self.offer.bytes, self.packed_bytes, self.resumed);
        self.outputs.push_back(ReceiverOutput::Transferred { bytes, packed_bytes, resumed });
        self.state = std::mem::take(&mut self.arrived).into();
        self.step = Step::Looking;
        self.deadline = now + self.config.verify_timeout;
        if *blake3::hash(&self.state).as_bytes() != self.offer.digest {
            return self.roll_back(RollbackReason::Checksum);
        }
        self.outputs.push_back(ReceiverOutput::Verify(self.state.clone()));
    }

    /// The application has looked at the state.
    pub fn on_verified(&mut self, now: Instant, verified: Result<(), String>) {
        if self.step != Step::Looking {
            return;
        }
        match verified {
            Ok(()) => {
                self.step = Step::Ready;
                self.deadline = now + self.config.outcome_timeout;
                self.outputs.push_back(ReceiverOutput::Verified);
                self.say(Frame::Verified);
            }
            Err(why) => self.roll_back(RollbackReason::VerificationFailed(why)),
        }
    }

    /// The application has taken the state over, or could not.
    pub fn on_applied(&mut self, applied: Result<(), String>) {
        if self.step != Step::Taking {
            return;
        }
        match applied {
            Ok(()) => {
                self.say(Frame::Applied);
                self.end(Ok(()));
            }
            Err(why) => self.roll_back(RollbackReason::ApplyFailed(why)),
        }
    }

    /// The actor was restarted, and with it every stream and what the application was doing for it is gone.
    pub fn on_restarted(&mut self) {
        self.on_disconnected();
        match self.step {
            // To look once more does no harm.
            Step::Looking => self.outputs.push_back(ReceiverOutput::Verify(self.state.clone())),
            Step::Taking => self.roll_back(RollbackReason::Interrupted),
            Step::Collecting | Step::Ready | Step::Over(_) => {}
        }
    }

    /// A deadline was reached.
    pub fn on_timeout(&mut self, now: Instant) {
        if !self.is_over() && now >= self.deadline {
            self.roll_back(RollbackReason::TimedOut(self.phase()));
        }
    }

    /// When [`Receiver::on_timeout`] wants to run.
    pub fn deadline(&self) -> Option<Instant> {
        (!self.is_over()).then_some(self.deadline)
    }

    fn say(&mut self, frame: Frame) {
        if self.connected {
            self.to_send.push_back(frame);
        }
    }

    fn say_failure(&mut self) {
        let reason = self.failure.clone().unwrap_or(RollbackReason::Interrupted);
        self.say(Frame::Failed(reason));
    }

    fn roll_back(&mut self, reason: RollbackReason) {
        self.to_send.clear();
        self.failure = Some(reason.clone());
        self.say_failure();
        self.end(Err(reason));
    }

    fn end(&mut self, outcome: Result<(), RollbackReason>) {
        let phase = self.phase();
        self.step = Step::Over(outcome.clone().map_err(|_| ()));
        self.outputs.push_back(ReceiverOutput::Ended { phase, outcome });
        (self.arrived, self.state) = (Vec::new(), Bytes::new());
    }

    /// The next frame for the present stream.
    pub fn poll_transmit(&mut self) -> Option<Frame> {
        self.to_send.pop_front()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ReceiverOutput> {
        self.outputs.pop_front()
    }
}

/// The largest piece that is taken: the upper bound of `migration.piece_bytes`, whatever is configured here.
pub const PIECE_BYTES_MAX: u32 = 1 << 20;
