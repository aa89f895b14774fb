//! All migrations of a node, and which stream belongs to which. Pure.
//!
//! Outlives the actor (its factory holds it), so that a restart of the actor resumes what can be resumed. Bounded: so many migrations each
//! way at once, one from each peer, and the outcomes of the last ones for senders that ask again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::config::MigrationConfig;
use bowline_messages::event::EventKind;
use bowline_messages::migration::{MigrationId, RollbackReason};
use bytes::Bytes;

use super::receiver::{Receiver, ReceiverOutput};
use super::sender::{Sender, SenderOutput};
use super::wire::{Frame, FrameError, Offer};
use super::{Migrated, Migration, MigrationError};

/// Migrations to this node that are over and remembered, for senders that did not hear how they ended.
const REMEMBERED: usize = 256;

/// Streams that one peer may have open here without having said what for.
const SILENT_STREAMS: usize = 2;

/// A stream, numbered by the actor.
pub type StreamId = u64;

/// Which migration: the state's direction, the peer and the sender's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Whether the state leaves this node.
    pub outgoing: bool,
    /// The other side.
    pub peer: PeerId,
    /// Its number.
    pub id: MigrationId,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a stream for a migration from this node; answer with [`Migrations::on_connected`] or [`Migrations::on_disconnected`].
    Connect(Key),
    /// Have the application capture; answer with [`Migrations::on_captured`].
    Capture(Migration),
    /// Have the application look at a state; answer with [`Migrations::on_verified`].
    Verify(Migration, Bytes),
    /// Have the application take a state over; answer with [`Migrations::on_applied`].
    Apply(Migration, Bytes),
    /// Tell the application how it ended.
    Ended(Migration, Result<(), RollbackReason>),
    /// Tell whoever ordered it how it ended.
    Answer(Key, Result<Migrated, RollbackReason>),
    /// There is something to write on a stream, or it is over.
    Ready(StreamId),
    /// Something happened that others want to know.
    Emit(EventKind),
}

/// What a stream's writer does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Write this.
    Write(Frame),
    /// Wait for [`Output::Ready`].
    Wait,
    /// Finish the stream.
    Finish,
}

#[derive(Debug)]
struct Going {
    sender: Sender,
    about: Migration,
    since: Instant,
    sent: (u64, u64, u32),
    stream: Option<StreamId>,
}

#[derive(Debug)]
struct Coming {
    receiver: Receiver,
    about: Migration,
    since: Instant,
    stream: Option<StreamId>,
}

/// What a stream is for.
#[derive(Debug)]
enum Use {
    /// Opened by a peer, which has to say for what until then.
    Unknown(PeerId, Instant),
    /// A migration.
    Of(Key),
    /// Nothing: this is still to be said, and then it is over.
    Refused(Option<Frame>),
}

/// All migrations of a node.
#[derive(Debug)]
pub struct Migrations {
    config: MigrationConfig,
    going: BTreeMap<Key, Going>,
    coming: BTreeMap<Key, Coming>,
    /// Those of `coming` that are over, oldest first.
    over: VecDeque<Key>,
    streams: BTreeMap<StreamId, Use>,
    outputs: VecDeque<Output>,
}

impl Migrations {
    /// None yet.
    pub fn new(config: MigrationConfig) -> Self {
        Self {
            config,
            going: BTreeMap::new(),
            coming: BTreeMap::new(),
            over: VecDeque::new(),
            streams: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Migrations::on_timeout`] wants to run.
    pub fn deadline(&self) -> Option<Instant> {
        let going = self.going.values().filter_map(|going| going.sender.deadline());
        let coming = self.coming.values().filter_map(|coming| coming.receiver.deadline());
        let silent = self.streams.values().filter_map(|of| match of {
            Use::Unknown(_, until) => Some(*until),
            Use::Of(_) | Use::Refused(_) => None,
        });
        going.chain(coming).chain(silent).min()
    }

    /// Bytes of state that came from peers and are held.
    pub fn held(&self) -> usize {
        self.coming.values().map(|coming| coming.receiver.held()).sum()
    }

    /// Migrations that go on, from here and to here.
    pub fn under_way(&self) -> (usize, usize) {
        (self.going.len(), self.coming.values().filter(|coming| !coming.receiver.is_over()).count())
    }

    /// The application wants a state to be moved.
    ///
    /// # Errors
    /// [`MigrationError`], when nothing is begun.
    pub fn begin(&mut self, now: Instant, peer: PeerId, name: &str, id: MigrationId) -> Result<Key, MigrationError> {
        if self.going.values().any(|going| going.about.name == name) {
            return Err(MigrationError::UnderWay(name.to_owned()));
        }
        if self.going.len() >= self.config.outgoing {
            return Err(MigrationError::TooMany(self.going.len()));
        }
        let key = Key { outgoing: true, peer, id };
        let about = Migration { id, peer, name: name.to_owned(), outgoing: true };
        let sender = Sender::new(now, id, name.to_owned(), self.config.clone());
        self.outputs.push_back(Output::Emit(started(&about)));
        self.outputs.push_back(Output::Capture(about.clone()));
        self.going.insert(key, Going { sender, about, since: now, sent: (0, 0, 0), stream: None });
        Ok(key)
    }

    /// The application calls the move of a state off. Says whether it could be.
    pub fn abort(&mut self, now: Instant, name: &str, why: &str) -> bool {
        let found = self.going.iter().find(|(_, going)| going.about.name == name).map(|(key, _)| *key);
        let Some(key) = found else { return false };
        let aborted = self.going.get_mut(&key).is_some_and(|going| going.sender.on_abort(why));
        self.settle(now, key);
        aborted
    }

    /// The application captured its state.
    pub fn on_captured(&mut self, now: Instant, key: Key, captured: Result<Bytes, String>) {
        if let Some(going) = self.going.get_mut(&key) {
            going.sender.on_captured(now, captured);
        }
        self.settle(now, key);
    }

    /// A stream for a migration from this node is open.
    pub fn on_connected(&mut self, now: Instant, key: Key, stream: StreamId) {
        let Some(going) = self.going.get_mut(&key) else {
            self.streams.insert(stream, Use::Refused(None));
            self.outputs.push_back(Output::Ready(stream));
            return;
        };
        going.stream = Some(stream);
        going.sender.on_connected();
        self.streams.insert(stream, Use::Of(key));
        self.settle(now, key);
    }

    /// No stream could be opened.
    pub fn on_not_connected(&mut self, now: Instant, key: Key) {
        if let Some(going) = self.going.get_mut(&key) {
            going.sender.on_disconnected(now);
        }
        self.settle(now, key);
    }

    /// A peer opened a stream. Of those that say nothing it may have a few, and not for long.
    pub fn on_stream(&mut self, now: Instant, peer: PeerId, stream: StreamId) {
        let silent = self.streams.values().filter(|of| matches!(of, Use::Unknown(whose, _) if *whose == peer)).count();
        let of = if silent < SILENT_STREAMS {
            Use::Unknown(peer, now + self.config.offer_timeout)
        } else {
            Use::Refused(None)
        };
        self.streams.insert(stream, of);
        self.outputs.push_back(Output::Ready(stream));
    }

    /// A stream is over, or broken.
    pub fn on_disconnected(&mut self, now: Instant, stream: StreamId) {
        let Some(Use::Of(key)) = self.streams.remove(&stream) else { return };
        if let Some(going) = self.going.get_mut(&key).filter(|going| going.stream == Some(stream)) {
            going.stream = None;
            going.sender.on_disconnected(now);
        }
        if let Some(coming) = self.coming.get_mut(&key).filter(|coming| coming.stream == Some(stream)) {
            coming.stream = None;
            coming.receiver.on_disconnected();
        }
        self.settle(now, key);
    }

    /// A frame came on a stream. `accept` asks the application whether it takes a state. Says whether the stream is still of use.
    pub fn on_frame(
        &mut self,
        now: Instant,
        stream: StreamId,
        frame: Result<Frame, FrameError>,
        accept: impl FnOnce(&Migration, u64) -> Result<(), String>,
    ) -> bool {
        let (of, unknown) = match self.streams.get(&stream) {
            Some(Use::Of(key)) => (Some(*key), None),
            Some(Use::Unknown(peer, _)) => (None, Some(*peer)),
            // What is still to be said on a stream that was refused is said, whatever the peer says.
            Some(Use::Refused(_)) => return true,
            None => return false,
        };
        match (of, unknown, frame) {
            (None, Some(peer), Ok(Frame::Offer(offer))) => {
                self.on_offer(now, peer, stream, &offer, accept);
                true
            }
            (Some(key), _, frame) => {
                let intact = frame.is_ok();
                self.on_frame_of(now, key, frame);
                intact
            }
            (None, _, _) => false,
        }
    }

    fn on_frame_of(&mut self, now: Instant, key: Key, frame: Result<Frame, FrameError>) {
        if let Some(going) = self.going.get_mut(&key) {
            match frame {
                Ok(frame) => going.sender.on_frame(now, frame),
                Err(error) => going.sender.on_violation(&error.to_string()),
            }
        } else if let Some(coming) = self.coming.get_mut(&key) {
            match frame {
                Ok(frame) => coming.receiver.on_frame(now, frame),
                Err(error) => coming.receiver.on_violation(&error.to_string()),
            }
        }
        self.settle(now, key);
    }

    fn on_offer(
        &mut self,
        now: Instant,
        peer: PeerId,
        stream: StreamId,
        offer: &Offer,
        accept: impl FnOnce(&Migration, u64) -> Result<(), String>,
    ) {
        let key = Key { outgoing: false, peer, id: offer.id };
        // A number that comes again with something else is one of an earlier life of the peer, which kept none.
        if self
            .coming
            .get(&key)
            .is_some_and(|coming| coming.receiver.is_over() && !coming.receiver.offer().is_same(offer))
        {
            self.coming.remove(&key);
            self.over.retain(|known| *known != key);
        }
        if let Some(coming) = self.coming.get_mut(&key) {
            if let Some(before) = coming.stream.replace(stream) {
                coming.receiver.on_disconnected();
                self.streams.insert(before, Use::Refused(None));
                self.outputs.push_back(Output::Ready(before));
            }
            coming.receiver.on_offer(offer);
            self.streams.insert(stream, Use::Of(key));
            return self.settle(now, key);
        }
        match self.admit(now, key, offer, accept) {
            Ok(coming) => {
                self.outputs.push_back(Output::Emit(started(&coming.about)));
                self.coming.insert(key, Coming { stream: Some(stream), ..coming });
                self.streams.insert(stream, Use::Of(key));
                self.settle(now, key);
            }
            Err(frame) => {
                self.streams.insert(stream, Use::Refused(Some(frame)));
                self.outputs.push_back(Output::Ready(stream));
            }
        }
    }

    fn admit(
        &self,
        now: Instant,
        key: Key,
        offer: &Offer,
        accept: impl FnOnce(&Migration, u64) -> Result<(), String>,
    ) -> Result<Coming, Frame> {
        if offer.committed {
            return Err(Frame::Forgotten);
        }
        let mut under_way = self.coming.iter().filter(|(_, coming)| !coming.receiver.is_over());
        let busy =
            under_way.clone().count() >= self.config.incoming || under_way.any(|(known, _)| known.peer == key.peer);
        if busy {
            return Err(Frame::Failed(RollbackReason::Busy));
        }
        let about = Migration { id: key.id, peer: key.peer, name: offer.name.clone(), outgoing: false };
        let receiver = Receiver::new(now, offer.clone(), self.config.clone()).map_err(Frame::Failed)?;
        accept(&about, offer.bytes).map_err(|why| Frame::Failed(RollbackReason::Refused(why)))?;
        Ok(Coming { receiver, about, since: now, stream: None })
    }

    /// The application looked at a state.
    pub fn on_verified(&mut self, now: Instant, key: Key, verified: Result<(), String>) {
        if let Some(coming) = self.coming.get_mut(&key) {
            coming.receiver.on_verified(now, verified);
        }
        self.settle(now, key);
    }

    /// The application took a state over, or could not.
    pub fn on_applied(&mut self, now: Instant, key: Key, applied: Result<(), String>) {
        if let Some(coming) = self.coming.get_mut(&key) {
            coming.receiver.on_applied(applied);
        }
        self.settle(now, key);
    }

    /// The actor was restarted: its streams, and what the application was doing, are gone.
    pub fn on_restarted(&mut self, now: Instant) {
        self.streams.clear();
        self.outputs.clear();
        let keys: Vec<Key> = self.going.keys().chain(self.coming.keys()).copied().collect();
        for key in keys {
            if let Some(going) = self.going.get_mut(&key) {
                going.stream = None;
                going.sender.on_restarted(now);
            }
            if let Some(coming) = self.coming.get_mut(&key) {
                coming.stream = None;
                coming.receiver.on_restarted();
            }
            self.settle(now, key);
        }
    }

    /// The deadline was reached.
    pub fn on_timeout(&mut self, now: Instant) {
        for (stream, of) in &mut self.streams {
            if matches!(of, Use::Unknown(_, until) if *until <= now) {
                *of = Use::Refused(None);
                self.outputs.push_back(Output::Ready(*stream));
            }
        }
        let keys: Vec<Key> = self.going.keys().chain(self.coming.keys()).copied().collect();
        for key in keys {
            if let Some(going) = self.going.get_mut(&key) {
                going.sender.on_timeout(now);
            }
            if let Some(coming) = self.coming.get_mut(&key) {
                coming.receiver.on_timeout(now);
            }
            self.settle(now, key);
        }
    }

    /// What to write next on a stream.
    pub fn next(&mut self, stream: StreamId) -> Next {
        let key = match self.streams.get_mut(&stream) {
            Some(Use::Of(key)) => *key,
            Some(Use::Refused(frame)) => return frame.take().map_or(Next::Finish, Next::Write),
            Some(Use::Unknown(..)) => return Next::Wait,
            None => return Next::Finish,
        };
        let (frame, over) = if let Some(going) = self.going.get_mut(&key) {
            (going.sender.poll_transmit(), false)
        } else if let Some(coming) = self.coming.get_mut(&key) {
            (coming.receiver.poll_transmit(), coming.receiver.is_over())
        } else {
            (None, true)
        };
        match frame {
            Some(frame) => Next::Write(frame),
            None if over => Next::Finish,
            None => Next::Wait,
        }
    }

    /// Takes the outputs of a migration and forgets it when it is over.
    fn settle(&mut self, now: Instant, key: Key) {
        if let Some(going) = self.going.get_mut(&key) {
            while let Some(output) = going.sender.poll_output() {
                if let SenderOutput::Ended { phase, outcome } = output {
                    self.end_going(now, key, phase, outcome);
                    return;
                }
                Self::tell_sender(&mut self.outputs, key, going, output);
            }
            self.outputs.extend(going.stream.map(Output::Ready));
        } else if let Some(coming) = self.coming.get_mut(&key) {
            let mut ended = false;
            while let Some(output) = coming.receiver.poll_output() {
                ended |= Self::tell_receiver(&mut self.outputs, now, coming, output);
            }
            self.outputs.extend(coming.stream.map(Output::Ready));
            if ended {
                self.remember(key);
            }
        }
    }

    fn remember(&mut self, key: Key) {
        self.over.push_back(key);
        while self.over.len() > REMEMBERED {
            let oldest = self.over.pop_front();
            if let Some(coming) = oldest.and_then(|oldest| self.coming.remove(&oldest)) {
                self.outputs.extend(coming.stream.map(Output::Ready));
            }
        }
    }

    fn end_going(
        &mut self,
        now: Instant,
        key: Key,
        phase: bowline_messages::migration::MigrationPhase,
        outcome: Result<(), RollbackReason>,
    ) {
        let Some(mut going) = self.going.remove(&key) else { return };
        let (peer, id, took) = (key.peer, key.id, now.saturating_duration_since(going.since));
        let (bytes, packed_bytes, resumed) = going.sent;
        self.outputs.push_back(Output::Ended(going.about, outcome.clone()));
        self.outputs.push_back(Output::Emit(match &outcome {
            Ok(()) => EventKind::MigrationCompleted { peer, id, took },
            Err(reason) => EventKind::MigrationRolledBack { peer, id, phase, reason: reason.clone() },
        }));
        self.outputs
            .push_back(Output::Answer(key, outcome.map(|()| Migrated { id, bytes, packed_bytes, resumed, took })));
        if let Some(stream) = going.stream {
            self.streams.insert(stream, Use::Refused(going.sender.poll_transmit()));
            self.outputs.push_back(Output::Ready(stream));
        }
    }

    fn tell_sender(outputs: &mut VecDeque<Output>, key: Key, going: &mut Going, output: SenderOutput) {
        let (peer, id) = (key.peer, key.id);
        outputs.push_back(match output {
            SenderOutput::Connect => Output::Connect(key),
            SenderOutput::Captured(bytes) => Output::Emit(EventKind::MigrationCaptured { peer, id, bytes }),
            SenderOutput::Transferred { bytes, packed_bytes, resumed } => {
                going.sent = (bytes, packed_bytes, resumed);
                Output::Emit(EventKind::MigrationTransferred { peer, id, bytes, packed_bytes, resumed })
            }
            SenderOutput::Verified => Output::Emit(EventKind::MigrationVerified { peer, id }),
            // `settle` takes this one itself.
            SenderOutput::Ended { .. } => return,
        });
    }

    /// Says whether it is over.
    fn tell_receiver(outputs: &mut VecDeque<Output>, now: Instant, coming: &Coming, output: ReceiverOutput) -> bool {
        let about = coming.about.clone();
        let (peer, id) = (about.peer, about.id);
        match output {
            ReceiverOutput::Verify(state) => outputs.push_back(Output::Verify(about, state)),
            ReceiverOutput::Apply(state) => outputs.push_back(Output::Apply(about, state)),
            ReceiverOutput::Transferred { bytes, packed_bytes, resumed } => {
                let event = EventKind::MigrationTransferred { peer, id, bytes, packed_bytes, resumed };
                outputs.push_back(Output::Emit(event));
            }
            ReceiverOutput::Verified => outputs.push_back(Output::Emit(EventKind::MigrationVerified { peer, id })),
            ReceiverOutput::Ended { phase, outcome } => {
                let took = now.saturating_duration_since(coming.since);
                outputs.push_back(Output::Ended(about, outcome.clone()));
                outputs.push_back(Output::Emit(match outcome {
                    Ok(()) => EventKind::MigrationCompleted { peer, id, took },
                    Err(reason) => EventKind::MigrationRolledBack { peer, id, phase, reason },
                }));
                return true;
            }
        }
        false
    }
}

impl Key {
    /// The key of a migration.
    pub fn of(about: &Migration) -> Self {
        Self { outgoing: about.outgoing, peer: about.peer, id: about.id }
    }
}

fn started(about: &Migration) -> EventKind {
    let Migration { id, peer, name, outgoing } = about.clone();
    EventKind::MigrationStarted { peer, id, name, outgoing }
}
