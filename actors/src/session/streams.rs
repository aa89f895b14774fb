//! Streams: ordered bytes both ways above a session, each on a channel of its own. This is the receiving table; what is sent goes
//! through the outbox like any message.
//!
//! Every message on a stream's channel begins with one byte that says what it is ([`StreamPart`]). The numbers of the streams that
//! a side opens grow one by one, so that a late duplicate of an ended stream is told from a new one.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use bowline_messages::ChannelId;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::ranges::RangeSet;
use super::tx_channel::window_cost;

/// Set in the numbers of streams that the peer with the larger `PeerId` opens.
const LARGER_SIDE: u32 = 1 << 30;
/// The greatest number of streams that one side can open in the life of a session.
const STREAMS_MAX: u32 = LARGER_SIDE - 1;
/// Gaps between the numbers of ended streams that are remembered: a side opens its streams in order, so there are as many as streams
/// that live long.
const GAPS_MAX: usize = 4096;

/// The peer leaves too many gaps between the numbers of its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooManyGaps;

/// What a message on a stream's channel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamPart {
    /// The first message: what the stream is for, in the words of the side that opened it.
    Open(Bytes),
    /// Bytes.
    Data(Bytes),
    /// No more bytes will come.
    Finish,
    /// The sender gave up, or wants no more: the other side's words.
    Reset(Bytes),
}

impl StreamPart {
    pub(crate) fn encode(&self) -> Bytes {
        let (kind, rest) = match self {
            Self::Open(label) => (1, label.as_ref()),
            Self::Data(bytes) => (0, bytes.as_ref()),
            Self::Finish => (2, &[][..]),
            Self::Reset(why) => (3, why.as_ref()),
        };
        let mut out = BytesMut::with_capacity(1 + rest.len());
        out.put_u8(kind);
        out.put_slice(rest);
        out.freeze()
    }

    /// What a message is; `None` when the peer sends something that is no part of a stream.
    pub(crate) fn decode(mut message: Bytes) -> Option<Self> {
        let kind = message.first().copied()?;
        message.advance(1);
        match kind {
            0 => Some(Self::Data(message)),
            1 => Some(Self::Open(message)),
            2 => Some(Self::Finish),
            3 => Some(Self::Reset(message)),
            _ => None,
        }
    }
}

/// How the receiving half of a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// All bytes came.
    Finished,
    /// The peer reset it.
    Reset(Bytes),
}

/// The receiving half of one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamRx {
    /// What came and was not read yet, each part with what it counts against the window.
    parts: VecDeque<(StreamPart, u64)>,
    end: Option<StreamEnd>,
    reader: Option<Waker>,
    /// The reader is gone: what comes is thrown away.
    abandoned: bool,
}

/// What reading gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamRead {
    /// Bytes, at least one.
    Bytes(Bytes),
    /// No more will come.
    End(StreamEnd),
    /// Nothing now; the waker will be called.
    Empty,
}

/// Messages that were consumed by reading: how many, and what they counted against the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Consumed {
    pub(crate) count: u64,
    pub(crate) cost: u64,
}

impl StreamRx {
    /// Takes the next bytes, at most `most`.
    pub(crate) fn read(&mut self, most: usize, waker: &Waker) -> (StreamRead, Consumed) {
        let mut consumed = Consumed::default();
        while let Some((part, cost)) = self.parts.front_mut() {
            let cost = *cost;
            if let StreamPart::Data(bytes) = part
                && !bytes.is_empty()
                && self.end.is_none()
            {
                let taken = bytes.split_to(most.min(bytes.len()));
                if bytes.is_empty() {
                    self.parts.pop_front();
                    consumed.count += 1;
                    consumed.cost += cost;
                }
                return (StreamRead::Bytes(taken), consumed);
            }
            let part = self.parts.pop_front();
            consumed.count += 1;
            consumed.cost += cost;
            match part {
                Some((StreamPart::Finish, _)) => self.end = self.end.take().or(Some(StreamEnd::Finished)),
                Some((StreamPart::Reset(why), _)) => self.end = self.end.take().or(Some(StreamEnd::Reset(why))),
                Some((StreamPart::Open(_) | StreamPart::Data(_), _)) | None => {}
            }
        }
        match &self.end {
            Some(end) => (StreamRead::End(end.clone()), consumed),
            None => {
                self.reader = Some(waker.clone());
                (StreamRead::Empty, consumed)
            }
        }
    }

    /// Takes a message in. Gives what is consumed at once because nobody reads any more.
    fn take(&mut self, message: Bytes) -> Consumed {
        let cost = window_cost(message.len());
        let nonsense = || StreamPart::Reset(Bytes::from_static(b"not a part of a stream"));
        let part = StreamPart::decode(message).unwrap_or_else(nonsense);
        self.parts.push_back((part, cost));
        self.wake();
        if self.abandoned { self.drain() } else { Consumed::default() }
    }

    /// The reader is gone. Gives what is consumed by that.
    pub(crate) fn abandon(&mut self) -> Consumed {
        self.abandoned = true;
        self.drain()
    }

    fn drain(&mut self) -> Consumed {
        let mut consumed = Consumed::default();
        for (part, cost) in self.parts.drain(..) {
            consumed.count += 1;
            consumed.cost += cost;
            match part {
                StreamPart::Finish => self.end = self.end.take().or(Some(StreamEnd::Finished)),
                StreamPart::Reset(why) => self.end = self.end.take().or(Some(StreamEnd::Reset(why))),
                StreamPart::Open(_) | StreamPart::Data(_) => {}
            }
        }
        consumed
    }

    /// Whether nothing more can come and the reader is gone.
    pub(crate) fn is_done(&self) -> bool {
        self.abandoned && self.end.is_some()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }
}

/// All streams of a session that have not ended.
#[derive(Debug)]
pub(crate) struct StreamTable {
    /// Set in the numbers of streams that this side opens.
    own_bit: u32,
    next_own: u32,
    /// Numbers of the peer's streams that have ended.
    ended: RangeSet,
    /// Counts the lives of the peer's process: a handle of an earlier life reads nothing of a later one.
    life: u32,
    live: BTreeMap<ChannelId, StreamRx>,
    /// Streams that the peer opened and of which the application does not know yet.
    opened: VecDeque<(ChannelId, Bytes)>,
}

impl StreamTable {
    /// An empty table for the side with the larger or the smaller `PeerId`.
    pub(crate) fn new(larger_side: bool) -> Self {
        Self {
            own_bit: if larger_side { LARGER_SIDE } else { 0 },
            next_own: 0,
            ended: RangeSet::default(),
            life: 0,
            live: BTreeMap::new(),
            opened: VecDeque::new(),
        }
    }

    /// The number that the next stream of this side gets; `None` when all are used up.
    pub(crate) fn next_own(&self) -> Option<ChannelId> {
        let number = self.next_own;
        (number < STREAMS_MAX).then_some(ChannelId(ChannelId::STREAM_BASE | self.own_bit | number))
    }

    /// A number for a new stream of this side; `None` when all are used up.
    pub(crate) fn open(&mut self) -> Option<ChannelId> {
        let id = self.next_own()?;
        self.next_own += 1;
        self.live.insert(id, StreamRx::default());
        Some(id)
    }

    /// Whether whatever comes for a stream is a duplicate: it lives no more, or never did although this side opens it.
    pub(crate) fn is_over(&self, id: ChannelId) -> bool {
        let number = u64::from(id.0 & STREAMS_MAX);
        !self.live.contains_key(&id) && (!self.is_theirs(id) || self.ended.contains(number))
    }

    /// Whether a message for this stream may be taken in: the stream lives, or it is the peer's and new. `false`: it has ended, so
    /// whatever comes for it is a duplicate.
    ///
    /// # Errors
    /// The peer leaves so many gaps between the numbers of its streams that they are not remembered.
    pub(crate) fn admit(&mut self, id: ChannelId) -> Result<bool, TooManyGaps> {
        if self.is_over(id) {
            return Ok(false);
        }
        if self.live.contains_key(&id) {
            return Ok(true);
        }
        if self.ended.len() > GAPS_MAX {
            return Err(TooManyGaps);
        }
        self.live.insert(id, StreamRx::default());
        Ok(true)
    }

    /// Whether the peer gives the number of this stream: after a restart it gives the same ones again.
    pub(crate) fn is_theirs(&self, id: ChannelId) -> bool {
        id.0 & LARGER_SIDE != self.own_bit
    }

    /// Takes in a message for a stream, in order. Gives what is consumed at once.
    pub(crate) fn on_message(&mut self, id: ChannelId, sequence: u64, message: Bytes) -> Consumed {
        let theirs = self.is_theirs(id);
        let Some(stream) = self.live.get_mut(&id) else {
            return Consumed { count: 1, cost: window_cost(message.len()) };
        };
        if theirs
            && sequence == 0
            && let Some(StreamPart::Open(label)) = StreamPart::decode(message.clone())
        {
            self.opened.push_back((id, label));
        }
        stream.take(message)
    }

    pub(crate) fn get(&mut self, id: ChannelId) -> Option<&mut StreamRx> {
        self.live.get_mut(&id)
    }

    /// The next stream that the peer opened, with its words about it.
    pub(crate) fn take_opened(&mut self) -> Option<(ChannelId, Bytes)> {
        self.opened.pop_front()
    }

    /// A stream is done.
    pub(crate) fn forget(&mut self, id: ChannelId) {
        self.live.remove(&id);
        if self.is_theirs(id) {
            let number = u64::from(id.0 & STREAMS_MAX);
            self.ended.insert(number..number + 1);
        }
    }

    /// The life of the peer's process that streams belong to now.
    pub(crate) fn life(&self) -> u32 {
        self.life
    }

    /// What a stream holds that was not read: messages, and what they count against the window. None: it does not live.
    #[cfg(test)]
    pub(crate) fn unread(&self, id: ChannelId) -> Option<(u64, u64)> {
        let stream = self.live.get(&id)?;
        Some((stream.parts.len() as u64, stream.parts.iter().map(|(_, cost)| cost).sum()))
    }

    /// How many streams of the peer live, how many are yet to be taken, and how many gaps are remembered.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let theirs = self.live.keys().filter(|id| self.is_theirs(**id)).count();
        (theirs, self.opened.len(), self.ended.len())
    }

    /// The session is lost, or the peer's process: every reader is told, and the numbers begin anew.
    pub(crate) fn reset(&mut self) {
        self.life += 1;
        self.ended = RangeSet::default();
        self.opened.clear();
        for mut stream in std::mem::take(&mut self.live).into_values() {
            stream.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(stream: &mut StreamRx, most: usize) -> (StreamRead, Consumed) {
        stream.read(most, Waker::noop())
    }

    #[test]
    fn bytes_come_in_order_and_are_consumed_with_their_last_byte() {
        let mut table = StreamTable::new(false);
        let theirs = ChannelId(ChannelId::STREAM_BASE | LARGER_SIDE);
        assert_eq!(table.admit(theirs), Ok(true));
        table.on_message(theirs, 0, StreamPart::Open(Bytes::from_static(b"file")).encode());
        table.on_message(theirs, 1, StreamPart::Data(Bytes::from_static(b"abcd")).encode());
        table.on_message(theirs, 2, StreamPart::Finish.encode());
        assert_eq!(table.take_opened(), Some((theirs, Bytes::from_static(b"file"))));
        let stream = table.get(theirs).unwrap();
        assert_eq!(read(stream, 3), (StreamRead::Bytes(Bytes::from_static(b"abc")), Consumed { count: 1, cost: 37 }));
        assert_eq!(read(stream, 3), (StreamRead::Bytes(Bytes::from_static(b"d")), Consumed { count: 1, cost: 37 }));
        assert_eq!(read(stream, 3), (StreamRead::End(StreamEnd::Finished), Consumed { count: 1, cost: 33 }));
        stream.abandon();
        assert!(stream.is_done());
    }

    #[test]
    fn a_stream_that_ended_is_not_opened_again_by_a_late_duplicate() {
        let mut table = StreamTable::new(true);
        let theirs = ChannelId(ChannelId::STREAM_BASE | 300);
        assert_eq!(table.admit(theirs), Ok(true));
        assert_eq!(table.admit(ChannelId(ChannelId::STREAM_BASE | 1)), Ok(true), "an earlier one that was overtaken");
        table.forget(theirs);
        assert_eq!(table.admit(theirs), Ok(false));
    }

    #[test]
    fn the_peer_cannot_open_a_stream_of_ours_nor_make_us_remember_without_bound() {
        let mut table = StreamTable::new(true);
        assert_eq!(table.admit(ChannelId(ChannelId::STREAM_BASE | LARGER_SIDE)), Ok(false));
        let own = table.open().unwrap();
        assert_eq!(table.admit(own), Ok(true));
        let refused = (0..100_000).step_by(2).any(|number| {
            let id = ChannelId(ChannelId::STREAM_BASE | number);
            let admitted = table.admit(id);
            table.forget(id);
            admitted == Err(TooManyGaps)
        });
        assert!(refused);
    }

    #[test]
    fn what_comes_for_an_abandoned_stream_is_consumed_at_once() {
        let mut table = StreamTable::new(false);
        let own = table.open().unwrap();
        assert_eq!(table.get(own).unwrap().abandon(), Consumed::default());
        let consumed = table.on_message(own, 0, StreamPart::Data(Bytes::from_static(b"x")).encode());
        assert_eq!(consumed, Consumed { count: 1, cost: 34 });
    }
}
