//! Structured fuzz behind the decryption: whatever frames an authentic peer puts into its records, nothing panics, nothing grows beyond
//! its limits, nothing is delivered twice or out of order, no deadline stays in the past, and what it mixes among honest traffic costs
//! links at most.
//!
//! A failing case is printed, cut down, and kept by `proptest` beside this file.

use std::collections::VecDeque;
use std::task::Waker;

use bowline_messages::wire::frame::{self, types};
use bowline_messages::wire::varint;
use prop::sample::Index;

use super::super::streams::StreamPart;
use super::super::tx_channel::window_cost;
use super::*;

/// A frame as a peer may write it. Numbers are cut to what a varint holds.
#[derive(Debug, Clone)]
enum Made {
    Padding(usize),
    Ping,
    /// Link, delay, largest, first range, (gap, length) of each further one.
    Ack(u64, u64, u64, u64, Vec<(u64, u64)>),
    Skip(u64, u64, u64),
    Delivered(u64, u64, u64),
    /// Version, how many, how long.
    Addresses(u64, u8, u8),
    LinkDown(u64, u64),
    Close(u64, Vec<u8>),
    /// Class, channel, sequence, length.
    Message(u8, u64, u64, usize),
    Session(u64),
    Quarantined(u64, u64),
    /// Class, channel, sequence, total, offset, length.
    Fragment(u8, u64, u64, u64, u64, usize),
    /// A part of a stream, by its first byte.
    Part(u64, u64, u8),
    Later(u64, usize),
    Raw(Vec<u8>),
}

impl Made {
    fn put(&self, out: &mut BytesMut) {
        let numbers = |out: &mut BytesMut, kind: u8, numbers: &[u64]| {
            out.extend_from_slice(&[kind]);
            numbers.iter().for_each(|number| varint::put(out, number & varint::MAX));
        };
        match self {
            Self::Padding(bytes) => out.resize(out.len() + bytes, 0),
            Self::Ping => frame::put_ping(out),
            Self::Ack(link, delay, largest, first, further) => {
                numbers(out, types::ACK, &[*link, *delay, *largest, further.len() as u64, *first]);
                for (gap, length) in further {
                    varint::put(out, gap & varint::MAX);
                    varint::put(out, length & varint::MAX);
                }
            }
            Self::Skip(channel, from, until) => numbers(out, types::SKIP, &[*channel, *from, *until]),
            Self::Delivered(channel, next, window) => numbers(out, types::DELIVERED, &[*channel, *next, *window]),
            Self::Addresses(version, count, length) => {
                out.extend_from_slice(&[types::ADDRESSES]);
                // The names of both sides of a world are known.
                out.extend_from_slice(&[1 + (version % 2) as u8; 32]);
                out.extend_from_slice(&version.to_be_bytes());
                out.extend_from_slice(&[*count]);
                for _ in 0..*count {
                    out.extend_from_slice(&[*length]);
                    out.resize(out.len() + usize::from(*length), b'a');
                }
                out.resize(out.len() + 64, 7);
            }
            Self::LinkDown(link, reason) => numbers(out, types::LINK_DOWN, &[*link, *reason]),
            Self::Close(code, text) => {
                numbers(out, types::CLOSE, &[*code, text.len() as u64]);
                out.extend_from_slice(text);
            }
            Self::Message(class, channel, sequence, length) => {
                numbers(out, types::MESSAGE + class, &[*channel, *sequence, *length as u64]);
                out.resize(out.len() + length, 1);
            }
            Self::Session(life) => {
                out.extend_from_slice(&[types::SESSION]);
                out.extend_from_slice(&life.to_be_bytes());
            }
            Self::Quarantined(channel, sequence) => numbers(out, types::QUARANTINED, &[*channel, *sequence]),
            Self::Fragment(class, channel, sequence, total, offset, length) => {
                numbers(out, types::FRAGMENT + class, &[*channel, *sequence, *total, *offset, *length as u64]);
                out.resize(out.len() + length, 1);
            }
            Self::Part(channel, sequence, kind) => {
                numbers(out, types::MESSAGE, &[*channel, *sequence, 2]);
                out.extend_from_slice(&[*kind, b'x']);
            }
            Self::Later(kind, length) => frame::put_skippable(out, 0x40 + (kind >> 3), &vec![0; *length]),
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        10 => 0..8u64,
        4 => 0..300u64,
        1 => 0..70_000u64,
        1 => (1u64 << 32) - 2..(1 << 32) + 2,
        1 => (1u64 << 61) - 3..(1 << 61) + 3,
        1 => varint::MAX - 2..=varint::MAX,
        1 => any::<u64>(),
    ]
}

fn channel() -> impl Strategy<Value = u64> {
    let base = u64::from(ChannelId::STREAM_BASE);
    prop_oneof![5 => 0..4u64, 3 => base..base + 8, 3 => base + (1 << 30)..base + (1 << 30) + 8, 1 => number()]
}

fn made() -> impl Strategy<Value = Made> {
    let length = || prop_oneof![6 => 0..40usize, 1 => 0..3000usize];
    let class = || 0..6u8;
    prop_oneof![
        4 => (class(), channel(), number(), length()).prop_map(|(a, b, c, d)| Made::Message(a, b, c, d)),
        4 => (class(), channel(), number(), prop_oneof![3 => 1..200u64, 1 => number()], prop_oneof![3 => 0..200u64, 1 => number()], length())
            .prop_map(|(a, b, c, d, e, f)| Made::Fragment(a, b, c, d, e, f)),
        3 => (channel(), number(), 0..5u8).prop_map(|(a, b, c)| Made::Part(a, b, c)),
        4 => (channel(), number(), number()).prop_map(|(a, b, c)| Made::Skip(a, b, c)),
        3 => (channel(), number(), number()).prop_map(|(a, b, c)| Made::Delivered(a, b, c)),
        4 => (0..14u64, number(), number(), number(), prop::collection::vec((number(), number()), 0..4))
            .prop_map(|(a, b, c, d, e)| Made::Ack(a, b, c, d, e)),
        1 => (channel(), number()).prop_map(|(a, b)| Made::Quarantined(a, b)),
        1 => prop_oneof![3 => 0..4u64, 1 => any::<u64>()].prop_map(Made::Session),
        1 => (0..70_000usize).prop_map(|bytes| Made::Padding(bytes % 2000)),
        2 => Just(Made::Ping),
        1 => harmless(),
        1 => (number(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(a, b)| Made::Close(a, b)),
    ]
}

/// What says nothing about honest traffic: nonsense, and news of links, channels and lives that are not meant.
fn harmless() -> impl Strategy<Value = Made> {
    let elsewhere = || 1000..1100u64;
    prop_oneof![
        1 => (0..300usize).prop_map(Made::Padding),
        2 => Just(Made::Ping),
        2 => (elsewhere(), number(), number(), number(), prop::collection::vec((number(), number()), 0..70))
            .prop_map(|(a, b, c, d, e)| Made::Ack(a, b, c, d, e)),
        1 => (elsewhere(), number(), number()).prop_map(|(a, b, c)| Made::Delivered(a, b, c)),
        1 => (any::<u64>(), 0..40u8, any::<u8>()).prop_map(|(a, b, c)| Made::Addresses(a, b, c)),
        2 => (0..14u64, 0..12u64).prop_map(|(a, b)| Made::LinkDown(a, b)),
        1 => (elsewhere(), number()).prop_map(|(a, b)| Made::Quarantined(a, b)),
        1 => (0..2u64).prop_map(Made::Session),
        1 => (number(), 0..300usize).prop_map(|(a, b)| Made::Later(a >> 2, b)),
        1 => prop::collection::vec(0x10..0x3fu8, 1..8).prop_map(|mut bytes| {
            // No type that this version knows.
            bytes[0] = 0x15 + bytes[0] % 0x20;
            Made::Raw(bytes)
        }),
    ]
}

#[derive(Debug, Clone)]
enum Act {
    /// The other side of `side` sends these frames over one of the links; the last so many bytes are missing.
    Record {
        side: usize,
        link: Index,
        frames: Vec<Made>,
        cut: usize,
    },
    Send {
        side: usize,
        class: u8,
        channel: u32,
        length: usize,
        delivery: u8,
        expires: Option<u64>,
    },
    OpenStream {
        side: usize,
    },
    Read {
        side: usize,
        stream: Index,
        most: usize,
        close: bool,
    },
    /// A new link, in place of one where there are many.
    Link {
        name: usize,
        millis: u32,
    },
    Reset(Index),
    Hole(Index, bool, bool),
    Run(u64),
    Late {
        side: usize,
        millis: u64,
    },
    Appetite {
        side: usize,
        messages: usize,
    },
    ActorRestarts {
        side: usize,
    },
}

fn act(frame: BoxedStrategy<Made>, hostile: bool) -> impl Strategy<Value = Act> {
    let side = || 0..2usize;
    // A weight of nothing is not allowed; what is too much beside honest traffic becomes a moment of time.
    let only_hostile = move |act| if hostile { act } else { Act::Run(10) };
    prop_oneof![
        10 => (side(), any::<Index>(), prop::collection::vec(frame, 1..8), prop_oneof![8 => Just(0usize), 1 => 1..20usize])
            .prop_map(|(side, link, frames, cut)| Act::Record { side, link, frames, cut }),
        8 => (side(), 0..5u8, 0..3u32, prop_oneof![5 => 0..100usize, 1 => 0..8000usize], 0..3u8 * hostile as u8 + 1, prop::option::of(0..400u64))
            .prop_map(move |(side, class, channel, length, delivery, expires)| Act::Send {
                side, class, channel, length, delivery, expires: expires.filter(|_| hostile),
            }),
        1 => side().prop_map(move |side| only_hostile(Act::OpenStream { side })),
        2 => (side(), any::<Index>(), 0..50usize, any::<bool>())
            .prop_map(move |(side, stream, most, close)| only_hostile(Act::Read { side, stream, most, close })),
        2 => (0..3usize, 1..60u32).prop_map(|(name, millis)| Act::Link { name, millis }),
        1 => any::<Index>().prop_map(Act::Reset),
        1 => (any::<Index>(), any::<bool>(), any::<bool>()).prop_map(|(a, b, c)| Act::Hole(a, b, c)),
        5 => (0..600u64).prop_map(Act::Run),
        1 => (side(), 0..300u64).prop_map(|(side, millis)| Act::Late { side, millis }),
        2 => (side(), 0..30usize).prop_map(|(side, messages)| Act::Appetite { side, messages }),
        1 => side().prop_map(move |side| only_hostile(Act::ActorRestarts { side })),
    ]
}

/// Small limits, so that a few frames reach them.
fn config() -> SessionConfig {
    SessionConfig {
        queue_bytes: 64 << 10,
        queue_messages: 40,
        message_bytes: 8 << 10,
        channel_window: 4 << 10,
        channels: 5,
        peer_idle_records_per_second: 200,
        ..SessionConfig::default()
    }
}

/// What the application of one side has seen.
#[derive(Default)]
struct Seen {
    /// The number behind the last message of each channel in the life of the peer that is read now.
    marks: BTreeMap<ChannelId, u64>,
    /// Messages of each earlier life of the peer that still wait, from the front.
    lives: VecDeque<usize>,
    messages: Vec<Received>,
    streams: Vec<ChannelId>,
}

struct Fuzz {
    world: World,
    seen: [Seen; 2],
    links: Vec<LinkId>,
    next: u32,
    /// Messages accepted from each side for each channel.
    sent: [BTreeMap<u32, Vec<usize>>; 2],
}

impl Fuzz {
    fn new() -> Self {
        let mut world = World::with_config(config());
        // The application reads when it is told to, here.
        world.ends.iter_mut().for_each(|end| end.appetite = 0);
        let mut fuzz = Self { world, seen: Default::default(), links: Vec::new(), next: 1, sent: Default::default() };
        fuzz.link(0, 5);
        fuzz.link(1, 9);
        fuzz.run(Duration::from_millis(100));
        fuzz
    }

    fn link(&mut self, name: usize, millis: u32) {
        // A connection that one side gave up is gone for the other as well.
        let now = self.world.now;
        while let Some(at) = self.links.iter().position(|id| self.half_gone(*id) || self.links.len() >= 6) {
            let id = self.links.remove(at);
            for end in &mut self.world.ends {
                end.with(|s, parts| s.on_link_down(now, id, LinkFailure::ClosedByPeer, parts));
            }
        }
        let id = self.world.link(self.next, ["tcp", "ws", "tls"][name % 3], MS * millis, 400_000);
        self.next += 1;
        self.links.push(id);
    }

    fn half_gone(&self, id: LinkId) -> bool {
        self.world.ends.iter().any(|end| end.session.link(id).is_none() || !end.keys.contains_key(&id))
    }

    fn act(&mut self, act: &Act) {
        let now = self.world.now;
        match act {
            Act::Record { side, link, frames, cut } => self.record(*side, link, frames, *cut),
            Act::Send { side, class, channel, length, delivery, expires } => {
                let content = vec![*length as u8; *length];
                let message = Outgoing {
                    delivery: [
                        Delivery::ExactlyOnce,
                        Delivery::LatestOnly,
                        Delivery::AtMostOnce,
                        Delivery::ExactlyOnce,
                    ][usize::from(*delivery) % 4],
                    ..Outgoing::new(MessageClass::ALL[usize::from(*class)], content).on(ChannelId(*channel))
                };
                let expires = expires.map(|millis| now + Duration::from_millis(millis));
                if self.world.ends[*side].outbox.push(message, expires).is_ok() {
                    self.sent[*side].entry(*channel).or_default().push(*length);
                }
            }
            Act::OpenStream { side } => {
                let end = &mut self.world.ends[*side];
                let label = StreamPart::Open(Bytes::from_static(b"label")).encode();
                let id = end.inbound.streams.next_own();
                let message = |id| Outgoing::new(MessageClass::Bulk, label).on(id);
                if let Some(id) = id.filter(|id| end.outbox.push(message(*id), None).is_ok()) {
                    assert_eq!(end.inbound.streams.open(), Some(id));
                    self.seen[*side].streams.push(id);
                }
            }
            Act::Read { side, stream, most, close } => self.read(*side, stream, *most, *close),
            Act::Link { name, millis } => self.link(*name, *millis),
            Act::Reset(index) => {
                let id = *index.get(&self.links);
                self.world.reset(id);
            }
            Act::Hole(index, one, two) => {
                let id = *index.get(&self.links);
                self.world.line(id).hole = [*one, *two];
            }
            Act::Run(millis) => self.run(Duration::from_millis(*millis)),
            Act::Late { side, millis } => {
                self.world.ends[*side].session.on_late(now, Duration::from_millis(*millis));
            }
            Act::Appetite { side, messages } => self.take(*side, *messages),
            Act::ActorRestarts { side } => self.restart(*side),
        }
        self.settle();
        self.audit();
    }

    /// Has the peer of `side` send it a record of these frames, authentic whatever they are.
    fn record(&mut self, side: usize, link: &Index, frames: &[Made], cut: usize) {
        let (now, id) = (self.world.now, *link.get(&self.links));
        let Some(keys) = self.world.ends[1 - side].keys.get_mut(&id) else { return };
        let mut data = BytesMut::new();
        let start = keys.sealer.begin(&mut data);
        let begin = data.len();
        for made in frames {
            let at = data.len();
            made.put(&mut data);
            if data.len() - begin > 16_000 {
                data.truncate(at);
            }
        }
        data.truncate((data.len() - cut.min(data.len())).max(begin));
        let number = keys.sealer.finish(&mut data, start).unwrap();
        if let Some(path) = self.world.ends[1 - side].session.paths.get_mut(&id) {
            // The number is used up, as for a record that asks for nothing.
            path.on_sent(now, 0, number.0, data.len(), &[], false);
        }
        let end = &mut self.world.ends[side];
        end.with(|session, parts| session.on_arrived(now, id, data, parts));
        let restarts = |output: &&Output| matches!(output, Output::Emit(EventKind::PeerRestarted { .. }));
        let restarted = end.session.outputs.iter().filter(restarts).count();
        assert!(restarted <= 1, "a record begins one life at most");
        if restarted == 1 {
            self.seen[side].lives.push_back(end.inbound.stale());
            self.seen[side].streams.clear();
        }
    }

    /// The application of a side takes so many messages.
    fn take(&mut self, side: usize, mut most: usize) {
        let (end, seen) = (&mut self.world.ends[side], &mut self.seen[side]);
        while let Some((id, _)) = end.inbound.streams.take_opened() {
            seen.streams.push(id);
        }
        while most > 0 && end.inbound.has_deliveries() {
            let mut batch = Vec::new();
            assert!(end.inbound.deliver_with(most, |messages| {
                batch = messages;
                Ok(())
            }));
            most -= batch.len();
            for message in batch {
                while seen.lives.front() == Some(&0) {
                    seen.lives.pop_front();
                    seen.marks.clear();
                }
                seen.lives.iter_mut().for_each(|left| *left -= 1);
                let mark = seen.marks.entry(message.channel).or_default();
                assert!(message.sequence >= *mark, "{message:?} after {mark}");
                *mark = message.sequence + 1;
                assert!(!message.channel.is_stream());
                seen.messages.push(message);
            }
        }
    }

    fn read(&mut self, side: usize, stream: &Index, most: usize, close: bool) {
        let (end, seen) = (&mut self.world.ends[side], &mut self.seen[side]);
        if seen.streams.is_empty() {
            return;
        }
        let id = *stream.get(&seen.streams);
        let Some(stream) = end.inbound.stream(id) else { return };
        let (_, consumed) = stream.read(most + 1, Waker::noop());
        assert!(consumed.cost >= consumed.count * window_cost(0));
        end.inbound.on_stream_consumed(id, consumed);
        if close {
            end.inbound.close_stream(id);
            seen.streams.retain(|known| *known != id);
        }
    }

    /// The session actor of a side comes back after a panic.
    fn restart(&mut self, side: usize) {
        let now = self.world.now;
        let config = self.world.config.clone();
        let end = &mut self.world.ends[side];
        let known = end.session.peer_incarnation;
        let peer = PeerId::from_bytes([if side == 0 { 2 } else { 1 }; 32]);
        let joins: Vec<_> = end.session.paths.values().map(|path| path.info.clone()).collect();
        end.session = Session::new(peer, Incarnation(1), known, Rc::new(config.clone()));
        end.outbox.on_session_restarted();
        end.inbound.on_session_restarted();
        for info in joins {
            if let Some(keys) = end.keys.get_mut(&info.id) {
                keys.sealer.rotate(now).unwrap();
            }
            let join = LinkJoin {
                info,
                lanes: 1,
                handshake_rtt: 40 * MS,
                ack_delay_max: config.ack_delay,
                confirmed: true,
                peer_limits: peer_limits(&config),
            };
            end.session.on_link_up(now, end.id, join);
        }
    }

    /// Does everything that is due at this instant.
    fn settle(&mut self) {
        let now = self.world.now;
        for side in 0..2 {
            for round in 0.. {
                assert!(round < 20, "what is due stays due");
                self.world.pump_side(side);
                let end = &mut self.world.ends[side];
                let deadlines = [end.session.deadline(now), end.outbox.deadline()];
                if deadlines.into_iter().flatten().all(|at| at > now) {
                    break;
                }
                end.with(|session, parts| session.on_timeout(now, parts));
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.world.now + time;
        for step in 0.. {
            assert!(step < 100_000, "time does not pass");
            self.settle();
            let now = self.world.now;
            let arrival = self.world.flights.peek().map(|flight| flight.0.0.0);
            let ends = self.world.ends.iter();
            let timers = ends.flat_map(|end| [end.session.deadline(now), end.outbox.deadline()]).flatten();
            let Some(next) = timers.chain(arrival).min().filter(|next| *next <= until) else { break };
            self.world.now = next.max(now);
            while self.world.flights.peek().is_some_and(|flight| flight.0.0.0 <= self.world.now) {
                let Some(Flight(_, side, link, data)) = self.world.flights.pop() else { break };
                if self.world.lines[&link].up {
                    let now = self.world.now;
                    let data = BytesMut::from(&data[..]);
                    self.world.ends[side].with(|s, parts| s.on_arrived(now, link, data, parts));
                }
            }
        }
        self.world.now = until;
    }

    fn audit(&self) {
        for end in &self.world.ends {
            end.inbound.audit();
            end.outbox.audit();
            let session = &end.session;
            assert!(end.outbox.lost() <= 4000, "{}", end.outbox.lost());
            assert!(session.copies.len() <= 1000 && session.hedges.len() <= 1000 && session.orphans.is_empty());
            assert!(session.outputs.is_empty() && session.ways.borrow().penalties() <= 64);
            assert!(session.notices.values().all(|notices| notices.len() <= 64));
            assert!(
                session.notices.len() <= session.paths.keys().count(),
                "{} lists of notices",
                session.notices.len()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Nothing is believed of either side.
    #[test]
    fn no_frames_of_a_peer_break_what_holds_of_a_session(
        acts in prop::collection::vec(act(made().boxed(), true), 1..60),
    ) {
        let mut fuzz = Fuzz::new();
        for act in &acts {
            fuzz.act(act);
        }
        // And it goes on: time passes, whatever waits is taken.
        fuzz.link(0, 5);
        fuzz.run(Duration::from_secs(20));
        (0..2).for_each(|side| fuzz.take(side, usize::MAX));
        fuzz.settle();
        fuzz.audit();
    }

    /// Beside honest traffic, nonsense costs links and nothing else: everything arrives, once, in order.
    #[test]
    fn nonsense_beside_honest_traffic_costs_links_and_nothing_else(
        acts in prop::collection::vec(act(harmless().boxed(), false), 1..50),
    ) {
        let mut fuzz = Fuzz::new();
        for act in &acts {
            fuzz.act(act);
        }
        for _ in 0..4 {
            fuzz.link(2, 5);
            fuzz.world.lines.values_mut().for_each(|line| line.hole = [false; 2]);
            for _ in 0..30 {
                (0..2).for_each(|side| fuzz.take(side, usize::MAX));
                fuzz.run(Duration::from_secs(1));
            }
        }
        for (from, sent) in fuzz.sent.iter().enumerate() {
            for (channel, lengths) in sent {
                let got = fuzz.seen[1 - from].messages.iter().filter(|m| m.channel == ChannelId(*channel));
                prop_assert!(got.clone().map(|m| m.sequence).eq(0..lengths.len() as u64), "channel {}", channel);
                let whole = got.zip(lengths).all(|(m, length)| m.payload[..] == vec![*length as u8; *length]);
                prop_assert!(whole, "channel {}", channel);
            }
        }
    }
}
