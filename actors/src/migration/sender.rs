//! The side of a migration that gives its state away. Pure.
//!
//! ```text
//!   Capturing ──▶ Offering ──accept──▶ Transferring ──all there──▶ Verifying ──verified──▶ Applying ──applied──▶ Ended
//!       │             │                     │                          │                      │
//!       └─────────────┴──── failure, abort, time-out: rolled back ─────┘                      └─ refused: rolled back
//!                                                                                               no answer: outcome unknown
//! ```
//!
//! A stream that breaks changes no phase: on a new one the offer is made again, and the receiver says where to go on. With the order to take the
//! state over (`Commit`) the decision is the receiver's, so from then on nothing can be called off here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bowline_messages::config::MigrationConfig;
use bowline_messages::migration::{MigrationId, MigrationPhase, RollbackReason};
use bytes::Bytes;

use super::piece::pack;
use super::wire::{Frame, Offer};

/// How long after a stream broke the next one is opened.
const RECONNECT_AFTER: Duration = Duration::from_millis(250);

/// Pieces that may be on their way. What is beyond would only wait in the session's queue; at 64 KiB it is 2 MiB for each round trip.
const WINDOW: u64 = 32;

/// What the sender wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderOutput {
    /// Open a stream to the peer; answer with [`Sender::on_connected`] or [`Sender::on_disconnected`].
    Connect,
    /// The application captured so many bytes.
    Captured(u64),
    /// The peer has all pieces.
    Transferred {
        /// Bytes of the state.
        bytes: u64,
        /// Bytes of the pieces as they were sent, those that were sent again included.
        packed_bytes: u64,
        /// How often the transfer was interrupted.
        resumed: u32,
    },
    /// The peer has verified the state.
    Verified,
    /// It is over. Once, and the last one.
    Ended {
        /// How far it was.
        phase: MigrationPhase,
        /// `Ok`: the peer has the state.
        outcome: Result<(), RollbackReason>,
    },
}

/// The state, once it is captured.
#[derive(Debug)]
struct Captured {
    bytes: Bytes,
    offer: Offer,
}

/// One migration from this node.
#[derive(Debug)]
pub struct Sender {
    config: MigrationConfig,
    id: MigrationId,
    name: String,
    phase: MigrationPhase,
    captured: Option<Captured>,
    deadline: Instant,
    connected: bool,
    /// When to open the next stream.
    connect_at: Option<Instant>,
    /// The offer was made on the present stream and not answered.
    awaits_accept: bool,
    next_piece: u64,
    /// So many pieces are there.
    arrived: u64,
    transferred: bool,
    packed_bytes: u64,
    resumed: u32,
    to_send: VecDeque<Frame>,
    outputs: VecDeque<SenderOutput>,
}

impl Sender {
    /// A migration whose state the application captures now.
    pub fn new(now: Instant, id: MigrationId, name: String, config: MigrationConfig) -> Self {
        Self {
            deadline: now + config.capture_timeout,
            config,
            id,
            name,
            phase: MigrationPhase::Capturing,
            captured: None,
            connected: false,
            connect_at: None,
            awaits_accept: false,
            next_piece: 0,
            arrived: 0,
            transferred: false,
            packed_bytes: 0,
            resumed: 0,
            to_send: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// How far it is.
    pub fn phase(&self) -> MigrationPhase {
        self.phase
    }

    /// Whether it is over; what is still to be sent then says so to the peer.
    pub fn is_over(&self) -> bool {
        self.phase == MigrationPhase::Ended
    }

    /// The application has captured its state, or could not.
    pub fn on_captured(&mut self, now: Instant, captured: Result<Bytes, String>) {
        if self.phase != MigrationPhase::Capturing {
            return;
        }
        let bytes = match captured {
            Ok(bytes) => bytes,
            Err(why) => return self.roll_back(RollbackReason::CaptureFailed(why)),
        };
        let (size, limit) = (bytes.len() as u64, self.config.bytes_max);
        if size > limit {
            return self.roll_back(RollbackReason::TooLarge { bytes: size, limit });
        }
        let offer = Offer {
            id: self.id,
            name: self.name.clone(),
            bytes: size,
            piece_bytes: self.config.piece_bytes,
            digest: *blake3::hash(&bytes).as_bytes(),
            committed: false,
        };
        self.captured = Some(Captured { bytes, offer });
        self.outputs.push_back(SenderOutput::Captured(size));
        self.phase = MigrationPhase::Offering;
        self.deadline = now + self.config.offer_timeout;
        self.outputs.push_back(SenderOutput::Connect);
    }

    /// A stream is open.
    pub fn on_connected(&mut self) {
        let Some(captured) = &self.captured else { return };
        if self.is_over() {
            return;
        }
        let offer = Offer { committed: self.phase == MigrationPhase::Applying, ..captured.offer.clone() };
        self.to_send.clear();
        self.to_send.push_back(Frame::Offer(offer));
        self.connected = true;
        self.awaits_accept = true;
    }

    /// The stream broke, or could not be opened.
    pub fn on_disconnected(&mut self, now: Instant) {
        self.resumed += u32::from(self.connected && self.phase > MigrationPhase::Offering && !self.is_over());
        self.connected = false;
        self.awaits_accept = false;
        self.to_send.clear();
        if !self.is_over() && self.phase != MigrationPhase::Capturing {
            self.connect_at = Some(now + RECONNECT_AFTER);
        }
    }

    /// The peer said something, on the present stream.
    pub fn on_frame(&mut self, now: Instant, frame: Frame) {
        if self.is_over() || !self.connected {
            return;
        }
        match frame {
            Frame::Accept { from } => self.on_accept(now, from),
            Frame::Got { pieces } => self.on_got(now, pieces),
            Frame::Verified => self.on_verified(now),
            Frame::Applied if self.phase == MigrationPhase::Applying => self.end(Ok(())),
            Frame::Failed(reason) => self.end(Err(reason)),
            Frame::Forgotten if self.phase == MigrationPhase::Applying => self.end(Err(RollbackReason::OutcomeUnknown)),
            // Sent on a stream before this one, in answer to what was said there.
            Frame::Forgotten => {}
            Frame::Applied => self.on_violation("taken over without an order"),
            Frame::Offer(_) | Frame::Piece { .. } | Frame::Commit | Frame::Abort(_) => {
                self.on_violation("a frame of the wrong direction");
            }
        }
    }

    /// What the peer said was no frame, or not one of this moment.
    pub fn on_violation(&mut self, what: &str) {
        // After the order to take it over nothing that the peer says but the outcome counts: the stream is given up, and its outcome asked for anew.
        if self.phase != MigrationPhase::Applying && !self.is_over() {
            self.roll_back(RollbackReason::Protocol(what.to_owned()));
        }
    }

    fn on_accept(&mut self, now: Instant, from: u64) {
        let pieces = self.captured.as_ref().map_or(0, |captured| captured.offer.pieces());
        // Once for each stream, or a peer could have it all sent without end.
        if !std::mem::replace(&mut self.awaits_accept, false) || self.phase == MigrationPhase::Applying {
            return;
        }
        if from > pieces {
            return self.on_violation("pieces beyond the last");
        }
        if self.phase == MigrationPhase::Offering {
            self.deadline = now + self.config.transfer_timeout;
        }
        self.next_piece = from;
        self.arrived = from;
        self.phase = MigrationPhase::Transferring;
        self.check_transferred(now);
    }

    fn on_got(&mut self, now: Instant, pieces: u64) {
        if self.phase != MigrationPhase::Transferring || self.awaits_accept {
            return;
        }
        if pieces > self.next_piece {
            return self.on_violation("pieces that were not sent");
        }
        self.arrived = self.arrived.max(pieces);
        self.check_transferred(now);
    }

    fn check_transferred(&mut self, now: Instant) {
        let Some(captured) = &self.captured else { return };
        if self.arrived == captured.offer.pieces() {
            self.phase = MigrationPhase::Verifying;
            self.deadline = now + self.config.verify_timeout;
            self.tell_transferred();
        }
    }

    fn tell_transferred(&mut self) {
        if !std::mem::replace(&mut self.transferred, true) {
            let bytes = self.captured.as_ref().map_or(0, |captured| captured.offer.bytes);
            let (packed_bytes, resumed) = (self.packed_bytes, self.resumed);
            self.outputs.push_back(SenderOutput::Transferred { bytes, packed_bytes, resumed });
        }
    }

    fn on_verified(&mut self, now: Instant) {
        match self.phase {
            MigrationPhase::Verifying => {
                self.outputs.push_back(SenderOutput::Verified);
                self.phase = MigrationPhase::Applying;
                self.deadline = now + self.config.outcome_timeout;
            }
            // On a new stream the receiver says it in place of "go on".
            MigrationPhase::Offering | MigrationPhase::Transferring if self.awaits_accept && self.resumed > 0 => {
                self.tell_transferred();
                self.phase = MigrationPhase::Verifying;
                return self.on_verified(now);
            }
            // The order was lost with the stream before.
            MigrationPhase::Applying => {}
            MigrationPhase::Capturing
            | MigrationPhase::Offering
            | MigrationPhase::Transferring
            | MigrationPhase::Ended => return self.on_violation("verified before it was sent"),
        }
        self.awaits_accept = false;
        self.to_send.push_back(Frame::Commit);
    }

    /// The application calls it off. Says whether it can: not once the peer was told to take the state over.
    pub fn on_abort(&mut self, why: &str) -> bool {
        let can = self.phase < MigrationPhase::Applying;
        if can {
            self.roll_back(RollbackReason::Aborted(why.to_owned()));
        }
        can
    }

    /// The actor was restarted, and with it every stream and what the application was doing for it is gone.
    pub fn on_restarted(&mut self, now: Instant) {
        if self.phase == MigrationPhase::Capturing {
            self.roll_back(RollbackReason::Interrupted);
        }
        self.on_disconnected(now);
    }

    /// A deadline was reached.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.is_over() {
            return;
        }
        if now >= self.deadline {
            if self.phase == MigrationPhase::Applying {
                self.end(Err(RollbackReason::OutcomeUnknown));
            } else {
                self.roll_back(RollbackReason::TimedOut(self.phase));
            }
        } else if self.connect_at.is_some_and(|at| at <= now) {
            self.connect_at = None;
            self.outputs.push_back(SenderOutput::Connect);
        }
    }

    /// When [`Sender::on_timeout`] wants to run.
    pub fn deadline(&self) -> Option<Instant> {
        (!self.is_over()).then(|| self.connect_at.map_or(self.deadline, |at| at.min(self.deadline)))
    }

    fn roll_back(&mut self, reason: RollbackReason) {
        if self.connected {
            self.to_send.clear();
            self.to_send.push_back(Frame::Abort(reason.to_string()));
        }
        self.end(Err(reason));
    }

    fn end(&mut self, outcome: Result<(), RollbackReason>) {
        if !self.is_over() {
            self.outputs.push_back(SenderOutput::Ended { phase: self.phase, outcome });
            self.phase = MigrationPhase::Ended;
            self.captured = None;
        }
    }

    /// The next frame for the present stream. A piece is packed when it is asked for.
    pub fn poll_transmit(&mut self) -> Option<Frame> {
        if let Some(frame) = self.to_send.pop_front() {
            return Some(frame);
        }
        let captured = self.captured.as_ref().filter(|_| self.phase == MigrationPhase::Transferring)?;
        let whole = self.next_piece == captured.offer.pieces();
        if !self.connected || self.awaits_accept || whole || self.next_piece - self.arrived >= WINDOW {
            return None;
        }
        let index = self.next_piece;
        let from = index.saturating_mul(u64::from(captured.offer.piece_bytes)).min(captured.offer.bytes);
        let to = from.saturating_add(u64::from(captured.offer.piece_bytes)).min(captured.offer.bytes);
        // Both are at most the length of what is in memory.
        let raw = captured.bytes.slice(usize::try_from(from).ok()?..usize::try_from(to).ok()?);
        let (compressed, data) = pack(&raw);
        self.next_piece += 1;
        self.packed_bytes += data.len() as u64;
        Some(Frame::Piece { index, raw_bytes: u32::try_from(raw.len()).unwrap_or(u32::MAX), compressed, data })
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<SenderOutput> {
        self.outputs.pop_front()
    }
}
