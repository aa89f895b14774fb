//! What has come on a link: which packets, and the bytes of each lane in their order.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{Frame, LANES, Malformed, RANGES_MAX};
use crate::transport::Lane;

/// An acknowledgement waits for so long for data that it can travel with.
pub(super) const ACK_DELAY: Duration = Duration::from_millis(5);
/// Packets after which one is sent at once.
const ACK_EVERY: u32 = 2;
/// Pieces of a lane that wait for gaps before them, each with about 100 bytes beside what is in it. Pieces that touch are one, and an honest
/// sender has fewer packets on their way.
const PIECES_MAX: usize = 4096;
/// A slice of a packet keeps all of the packet in memory, so shorter ones are copied: with a packet of 16 KiB that is twice the slice at most.
const SLICE_LEAST: usize = 8 * 1024;

/// Which packets have come: ranges with both their ends, oldest first, as many as an acknowledgement holds.
#[derive(Debug, Default)]
pub(super) struct Packets {
    ranges: VecDeque<(u64, u64)>,
    /// Everything below is taken for come: ranges that were forgotten.
    floor: u64,
    newest_at: Option<Instant>,
    /// Packets that ask for an acknowledgement and have none.
    owed: u32,
    due: Option<Instant>,
}

impl Packets {
    /// The number after the highest so far.
    pub(super) fn next(&self) -> u64 {
        self.ranges.back().map_or(self.floor, |(_, last)| last + 1)
    }

    /// A packet has come; false when it had come before.
    pub(super) fn on_packet(&mut self, now: Instant, number: u64, asks: bool) -> bool {
        let in_order = number == self.next();
        if number < self.floor || !self.insert(number) {
            // Whoever sends again may have missed the acknowledgement.
            self.due = asks.then_some(now).or(self.due);
            self.owed += u32::from(asks);
            return false;
        }
        if number + 1 == self.next() {
            self.newest_at = Some(now);
        }
        if asks {
            self.owed += 1;
            let at = if self.owed >= ACK_EVERY || !in_order { now } else { now + ACK_DELAY };
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
        true
    }

    fn insert(&mut self, number: u64) -> bool {
        let at = self.ranges.partition_point(|(_, last)| *last < number);
        if self.ranges.get(at).is_some_and(|(first, _)| *first <= number) {
            return false;
        }
        let joins_before = at > 0 && self.ranges[at - 1].1 + 1 == number;
        let joins_after = self.ranges.get(at).is_some_and(|(first, _)| *first == number + 1);
        match (joins_before, joins_after) {
            (true, true) => {
                let last = self.ranges[at].1;
                self.ranges[at - 1].1 = last;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].1 = number,
            (false, true) => self.ranges[at].0 = number,
            (false, false) => self.ranges.insert(at, (number, number)),
        }
        if self.ranges.len() > RANGES_MAX
            && let Some((_, last)) = self.ranges.pop_front()
        {
            self.floor = last + 1;
        }
        true
    }

    /// What came is not to wait for its acknowledgement.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = self.due.map(|due| due.min(now));
    }

    /// When an acknowledgement has to be sent at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The acknowledgement of everything so far, when any is owed.
    pub(super) fn acknowledge(&mut self, now: Instant) -> Option<Frame> {
        if self.owed == 0 || self.ranges.is_empty() {
            return None;
        }
        self.owed = 0;
        self.due = None;
        let waited = self.newest_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let delay_us = u32::try_from(waited.as_micros()).unwrap_or(u32::MAX);
        Some(Frame::Ack { delay_us, ranges: self.ranges.iter().rev().copied().collect() })
    }
}

/// The bytes of one lane.
#[derive(Debug, Default)]
struct LaneIn {
    /// The first byte that has not come in order.
    next: u64,
    ready: VecDeque<Bytes>,
    /// Small pieces behind `ready`, together.
    tail: BytesMut,
    read: u64,
    /// Behind a gap, by offset. No two overlap, so all of them together are shorter than what was granted.
    waiting: BTreeMap<u64, BytesMut>,
    /// How far the other side may write, as it was told.
    granted: u64,
}

impl LaneIn {
    /// Keeps what is not there yet of a piece behind a gap.
    fn wait(&mut self, mut offset: u64, mut bytes: Bytes) {
        if let Some((at, known)) = self.waiting.range(..=offset).next_back() {
            let there = (at + known.len() as u64).saturating_sub(offset);
            if there >= bytes.len() as u64 {
                return;
            }
            bytes.advance(there as usize);
            offset += there;
        }
        // Shorter pieces within this one go, so that each is looked at once; a longer one at its end keeps what it has.
        let end = offset + bytes.len() as u64;
        while let Some((at, length)) = self.waiting.range(offset..end).next().map(|(at, known)| (*at, known.len())) {
            if at + length as u64 <= end {
                self.waiting.remove(&at);
            } else {
                bytes.truncate((at - offset) as usize);
                break;
            }
        }
        let before = self.waiting.range_mut(..offset).next_back();
        match before.filter(|(at, known)| *at + known.len() as u64 == offset && known.len() < SLICE_LEAST) {
            Some((_, known)) => known.extend_from_slice(&bytes),
            None if bytes.is_empty() => {}
            // A copy: a piece must not keep the memory of the packet around it.
            None => drop(self.waiting.insert(offset, BytesMut::from(&bytes[..]))),
        }
    }

    /// Bytes have come in order.
    fn append(&mut self, bytes: Bytes) {
        self.next += bytes.len() as u64;
        if bytes.len() < SLICE_LEAST {
            self.tail.extend_from_slice(&bytes);
        }
        if self.tail.len() >= SLICE_LEAST || (bytes.len() >= SLICE_LEAST && !self.tail.is_empty()) {
            let tail = std::mem::take(&mut self.tail);
            self.ready.push_back(tail.freeze());
        }
        if bytes.len() >= SLICE_LEAST {
            self.ready.push_back(bytes);
        }
    }

    /// What has no gap before it any more follows.
    fn join(&mut self) {
        while let Some(piece) = self.waiting.first_entry().filter(|piece| *piece.key() <= self.next) {
            let (offset, mut bytes) = piece.remove_entry();
            let skip = self.next - offset;
            if skip < bytes.len() as u64 {
                bytes.advance(skip as usize);
                self.append(bytes.freeze());
            }
        }
    }

    fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.tail.is_empty()
    }

    fn take(&mut self) -> Option<Bytes> {
        self.ready.pop_front().or_else(|| (!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail).freeze()))
    }
}

/// The bytes of all lanes.
#[derive(Debug)]
pub(super) struct Bytestreams {
    lanes: [LaneIn; LANES],
    window: u64,
    finals: Option<[u64; LANES]>,
    /// Where the search for something to read begins, so that no lane waits for another.
    turn: usize,
}

impl Bytestreams {
    /// Lanes that hold `window` bytes each; `granted` is what the other side may write from the beginning.
    pub(super) fn new(window: u64, granted: u64) -> Self {
        let lane = || LaneIn { granted, ..LaneIn::default() };
        Self { lanes: std::array::from_fn(|_| lane()), window, finals: None, turn: 0 }
    }

    /// Bytes have come; again or in another order, it does not matter.
    pub(super) fn on_data(&mut self, lane: Lane, offset: u64, mut bytes: Bytes) -> Result<(), Malformed> {
        let end = offset + bytes.len() as u64;
        let beyond_end = self.finals.is_some_and(|finals| end > finals[usize::from(lane)]);
        let lane = &mut self.lanes[usize::from(lane)];
        if end > lane.granted || beyond_end {
            return Err(Malformed("more than was granted"));
        }
        if end <= lane.next {
            return Ok(());
        }
        if offset > lane.next {
            lane.wait(offset, bytes);
            return if lane.waiting.len() > PIECES_MAX { Err(Malformed("too many pieces")) } else { Ok(()) };
        }
        bytes.advance((lane.next - offset) as usize);
        lane.append(bytes);
        lane.join();
        Ok(())
    }

    /// The other side has said where its lanes end.
    pub(super) fn on_end(&mut self, finals: [u64; LANES]) -> Result<(), Malformed> {
        let fits = self.lanes.iter().zip(finals).all(|(lane, end)| {
            let known = lane.waiting.last_key_value().map_or(lane.next, |(at, bytes)| at + bytes.len() as u64);
            known.max(lane.next) <= end && end <= lane.granted
        });
        if !fits || self.finals.is_some_and(|known| known != finals) {
            return Err(Malformed("end"));
        }
        self.finals = Some(finals);
        Ok(())
    }

    /// The next bytes to be read, up to about `most`, all of one lane.
    pub(super) fn read(&mut self, most: usize) -> Option<(Lane, Vec<Bytes>)> {
        let lane = (0..LANES).map(|step| (self.turn + step) % LANES).find(|lane| self.lanes[*lane].has_ready())?;
        self.turn = lane + 1;
        let from = &mut self.lanes[lane];
        let (mut read, mut pieces) = (0, Vec::new());
        while read < most
            && let Some(bytes) = from.take()
        {
            read += bytes.len();
            pieces.push(bytes);
        }
        from.read += read as u64;
        Some((lane as Lane, pieces))
    }

    /// Whether everything was read and nothing will follow.
    pub(super) fn is_over(&self) -> bool {
        self.finals.is_some_and(|finals| self.lanes.iter().zip(finals).all(|(lane, end)| lane.read == end))
    }

    /// Whether the other side writes no more.
    pub(super) const fn has_end(&self) -> bool {
        self.finals.is_some()
    }

    /// A lane that may be written further by now: enough to be worth telling.
    pub(super) fn grant(&mut self) -> Option<Lane> {
        let window = self.window;
        let lanes = self.lanes.iter().position(|lane| lane.read + window >= lane.granted + window / 4)?;
        self.lanes[lanes].granted = self.lanes[lanes].read + window;
        Some(lanes as Lane)
    }

    /// How far a lane may be written.
    pub(super) fn granted(&self, lane: Lane) -> u64 {
        self.lanes[usize::from(lane)].granted
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::routing::wire::PACKET_BYTES_MAX;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn contains(packets: &Packets, number: u64) -> bool {
        packets.ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    proptest! {
        #[test]
        fn ranges_agree_with_a_set(numbers in prop::collection::vec(0..60_u64, 0..80)) {
            let now = Instant::now();
            let (mut packets, mut set) = (Packets::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(packets.on_packet(now, number, true), set.insert(number));
                prop_assert!((0..60).all(|number| contains(&packets, number) == set.contains(&number)));
                prop_assert_eq!(packets.next(), set.last().map_or(0, |last| last + 1));
            }
        }

        #[test]
        fn what_is_remembered_of_packets_is_bounded_and_nothing_comes_twice(numbers in prop::collection::vec(0..1000_u64, 0..500)) {
            let now = Instant::now();
            let (mut packets, mut new) = (Packets::default(), BTreeSet::new());
            for number in numbers {
                prop_assert!(!packets.on_packet(now, number, true) || new.insert(number));
                prop_assert!(packets.ranges.len() <= RANGES_MAX);
                let Some(Frame::Ack { ranges, .. }) = packets.acknowledge(now) else { continue };
                prop_assert!(ranges.windows(2).all(|pair| pair[1].1 + 1 < pair[0].0), "{:?}", ranges);
            }
        }

        #[test]
        fn pieces_in_any_order_make_the_whole(mut cuts in prop::collection::vec((0..1000_usize, 1..200_usize), 0..60), seed in any::<u64>()) {
            let whole: Vec<u8> = (0..1000_u32).map(|at| (at * 7 % 251) as u8).collect();
            // Whatever overlaps, everything is there in the end.
            cuts.extend((0..1000).step_by(100).map(|at| (at, 100)));
            let order = seed as usize % cuts.len();
            cuts.rotate_left(order);
            let mut streams = Bytestreams::new(1000, 1000);
            let mut read = Vec::new();
            for (at, length) in cuts {
                let end = (at + length).min(1000);
                streams.on_data(2, at as u64, Bytes::copy_from_slice(&whole[at..end])).unwrap();
                if let Some((lane, pieces)) = streams.read(150) {
                    prop_assert_eq!(lane, 2);
                    pieces.iter().for_each(|piece| read.extend_from_slice(piece));
                }
            }
            while let Some((_, pieces)) = streams.read(150) {
                pieces.iter().for_each(|piece| read.extend_from_slice(piece));
            }
            prop_assert_eq!(read, whole);
            streams.on_end([0, 0, 1000, 0, 0]).unwrap();
            prop_assert!(streams.is_over());
        }
    }

    /// Bytes of memory that a lane takes at most: slices of packets count as the packets, buffers as what they could hold.
    fn memory(lane: &LaneIn) -> usize {
        const PIECE: usize = 100;
        let ready: usize =
            lane.ready.iter().map(|bytes| PIECE + bytes.len().max(PACKET_BYTES_MAX.min(2 * bytes.len()))).sum();
        let waiting: usize = lane.waiting.values().map(|bytes| PIECE + bytes.capacity()).sum();
        ready + lane.tail.capacity() + waiting
    }

    proptest! {
        #[test]
        fn whatever_comes_in_whatever_pieces_a_lane_holds_no_more_than_its_window(
            steps in prop::collection::vec((0..40_000_u64, 1..16_000_usize, 1..64_usize, 1..400_u64, any::<bool>()), 1..60),
        ) {
            const WINDOW: usize = 32 * 1024;
            let packet = Bytes::from(vec![7; PACKET_BYTES_MAX]);
            let mut streams = Bytestreams::new(WINDOW as u64, WINDOW as u64);
            for (offset, length, pieces, step, read) in steps {
                // Many pieces of one length, each a little behind the one before, as nobody honest sends them.
                for piece in 0..pieces as u64 {
                    let offset = streams.lanes[0].read + offset + piece * step;
                    let length = length.min((streams.lanes[0].granted.saturating_sub(offset)) as usize);
                    if length > 0 {
                        streams.on_data(0, offset, packet.slice(..length)).unwrap();
                    }
                    let lane = &streams.lanes[0];
                    let waiting: usize = lane.waiting.values().map(BytesMut::len).sum();
                    let ready: usize = lane.ready.iter().map(Bytes::len).sum::<usize>() + lane.tail.len();
                    prop_assert_eq!(ready as u64, lane.next - lane.read);
                    prop_assert!(waiting + ready <= WINDOW, "{} and {}", waiting, ready);
                    prop_assert!(memory(lane) <= 2 * WINDOW + 128 * (lane.waiting.len() + 8), "{:?}", memory(lane));
                }
                if read {
                    streams.read(10_000);
                    streams.grant();
                }
            }
        }
    }

    #[test]
    fn long_pieces_one_byte_apart_are_held_once() {
        let mut streams = Bytestreams::new(512 * 1024, 32 * 1024);
        for offset in 1..4000 {
            streams.on_data(0, offset, vec![0; 16_000].into()).unwrap();
        }
        let lane = &streams.lanes[0];
        assert_eq!(lane.waiting.values().map(BytesMut::len).sum::<usize>(), 16_000 + 3998);
        assert!(lane.waiting.len() <= 4, "what touches is one: {}", lane.waiting.len());
    }

    #[test]
    fn a_small_piece_does_not_keep_the_packet_that_it_came_in() {
        let packet = Bytes::from(vec![0; PACKET_BYTES_MAX]);
        let mut streams = Bytestreams::new(64 * 1024, 64 * 1024);
        for offset in (0..2000).chain(3000..3100) {
            streams.on_data(0, offset, packet.slice(..1)).unwrap();
        }
        assert!(packet.is_unique());
        assert!(streams.lanes[0].ready.is_empty(), "small pieces are together");
        streams.on_data(0, 2000, packet.slice(..SLICE_LEAST)).unwrap();
        assert!(!packet.is_unique(), "a large one is not copied");
        let (_, read) = streams.read(usize::MAX).unwrap();
        assert_eq!(read.iter().map(Bytes::len).sum::<usize>(), 2000 + SLICE_LEAST);
    }

    #[test]
    fn nobody_writes_further_than_was_granted() {
        let mut streams = Bytestreams::new(100, 100);
        assert!(streams.on_data(0, 50, vec![0; 51].into()).is_err());
        assert!(streams.on_data(0, 0, vec![0; 100].into()).is_ok());
        assert_eq!(streams.grant(), None, "nothing was read");
        streams.read(1000);
        assert_eq!((streams.grant(), streams.granted(0)), (Some(0), 200));
        assert!(streams.on_data(0, 100, vec![0; 100].into()).is_ok());
    }

    #[test]
    fn an_end_in_the_middle_of_what_has_come_is_none() {
        let mut streams = Bytestreams::new(100, 100);
        streams.on_data(0, 10, vec![0; 10].into()).unwrap();
        assert!(streams.on_end([15, 0, 0, 0, 0]).is_err());
        assert!(streams.on_end([20, 0, 0, 0, 0]).is_ok());
        assert!(streams.on_data(0, 20, vec![0; 1].into()).is_err());
        assert!(streams.on_end([30, 0, 0, 0, 0]).is_err());
        assert!(!streams.is_over());
    }

    #[test]
    fn an_acknowledgement_waits_a_moment_unless_something_is_missing() {
        let now = Instant::now();
        let mut packets = Packets::default();
        packets.on_packet(now, 0, true);
        assert_eq!(packets.due(), Some(now + ACK_DELAY));
        packets.on_packet(now, 1, true);
        assert_eq!(packets.due(), Some(now), "every second one");
        packets.acknowledge(now);
        assert_eq!(packets.due(), None);
        packets.on_packet(now, 3, true);
        assert_eq!(packets.due(), Some(now), "2 is missing");
        packets.acknowledge(now);
        packets.on_packet(now, 4, false);
        assert_eq!((packets.due(), packets.acknowledge(now)), (None, None), "acknowledgements are not acknowledged");
    }
}
