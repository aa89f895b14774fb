//! Structured fuzz of the sending half: any messages, with any news of them. What is written is what was pushed, within the windows and
//! the record; the accounts stay right; and once the peer takes everything, everything becomes final.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bowline_messages::wire::{Frame, FrameReader};
use prop::sample::Index;
use proptest::prelude::*;

use super::*;

const LIMITS: OutboxLimits =
    OutboxLimits { queue_bytes: 30_000, queue_messages: 60, message_bytes: 4000, channels: 4, datagram_bytes: 8000 };
const WINDOW: u64 = 3000;

#[derive(Debug, Clone)]
enum Act {
    /// Class, channel, length, delivery, when it expires.
    Push(usize, u32, usize, u8, Option<u64>),
    /// The only message of a new stream.
    Stream,
    /// Class, room.
    Fill(usize, usize),
    Copy(Index, usize),
    Acknowledged(Index),
    Lost(Index),
    /// Channel, below what, window: whatever the peer says.
    Delivered(u32, u64, u64),
    Quarantined(u32, u64),
    Time(u64),
    ActorRestarts,
    PeerRestarts,
    /// Message bytes, channels.
    Limits(usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let number = || prop_oneof![10 => 0..40u64, 1 => any::<u64>()];
    let length = prop_oneof![4 => 0..60usize, 2 => 0..4100usize];
    prop_oneof![
        12 => (0..CLASSES, 0..5u32, length, 0..3u8, prop::option::of(0..500u64))
            .prop_map(|(a, b, c, d, e)| Act::Push(a, b, c, d, e)),
        1 => Just(Act::Stream),
        10 => (0..CLASSES, prop_oneof![0..300usize, 300..5000usize]).prop_map(|(a, b)| Act::Fill(a, b)),
        2 => (any::<Index>(), 0..3000usize).prop_map(|(a, b)| Act::Copy(a, b)),
        6 => any::<Index>().prop_map(Act::Acknowledged),
        4 => any::<Index>().prop_map(Act::Lost),
        5 => (0..5u32, number(), prop_oneof![3 => Just(WINDOW), 1 => number()]).prop_map(|(a, b, c)| Act::Delivered(a, b, c)),
        4 => (0..5u32, number()).prop_map(|(a, b)| Act::Quarantined(a, b)),
        3 => (0..300u64).prop_map(Act::Time),
        1 => Just(Act::ActorRestarts),
        1 => prop_oneof![1 => Just(Act::PeerRestarts), 1 => (0..4000usize, 0..6usize).prop_map(|(a, b)| Act::Limits(a, b))],
    ]
}

/// An outbox, and what is known of it from outside.
struct World {
    outbox: Outbox,
    now: Instant,
    pushed: BTreeMap<(ChannelId, u64), Bytes>,
    items: Vec<SentItem>,
    streams: u32,
    /// For each channel, the number behind the highest that was written or skipped to the present life of the peer.
    told: BTreeMap<ChannelId, u64>,
    /// Receipts that are final.
    settled: BTreeMap<(ChannelId, u64), ReceiptState>,
}

impl World {
    fn new() -> Self {
        let outbox = Outbox::new(LIMITS, WINDOW);
        Self {
            outbox,
            now: Instant::now(),
            pushed: BTreeMap::new(),
            items: Vec::new(),
            streams: 0,
            told: BTreeMap::new(),
            settled: BTreeMap::new(),
        }
    }

    fn apply(&mut self, act: Act) {
        let pick = |items: &[SentItem], index: &Index| (!items.is_empty()).then(|| *index.get(items));
        match act {
            Act::Push(class, channel, length, delivery, expires) => {
                let payload: Vec<u8> = (0..length).map(|at| (at + self.pushed.len() * 7) as u8).collect();
                let message = Outgoing {
                    delivery: [Delivery::ExactlyOnce, Delivery::LatestOnly, Delivery::AtMostOnce]
                        [usize::from(delivery)],
                    ..Outgoing::new(MessageClass::ALL[class], payload).on(ChannelId(channel))
                };
                let expires = expires.map(|millis| self.now + Duration::from_millis(millis));
                let payload = message.payload.clone();
                if let Ok(pushed) = self.outbox.push(message, expires) {
                    self.pushed.insert((ChannelId(channel), pushed.sequence), payload);
                }
            }
            Act::Stream => {
                self.streams += 1;
                let id = ChannelId(ChannelId::STREAM_BASE + self.streams);
                let pushed = self.outbox.push_last(Outgoing::new(MessageClass::Bulk, vec![2]).on(id)).unwrap();
                self.pushed.insert((id, pushed.sequence), vec![2].into());
            }
            Act::Fill(class, room) => self.fill(class, room),
            Act::Copy(index, room) => {
                let Some(item) = pick(&self.items, &index) else { return };
                let (mut out, mut items) = (BytesMut::new(), Vec::new());
                let _ = self.outbox.write_item(item, room, &mut out, &mut items);
                self.written(out, room, items);
            }
            Act::Acknowledged(index) => {
                let item = pick(&self.items, &index);
                item.map(|item| self.outbox.on_acknowledged(item));
            }
            Act::Lost(index) => {
                let item = pick(&self.items, &index);
                item.into_iter().for_each(|item| self.outbox.on_lost(item));
            }
            Act::Delivered(channel, next, window) => drop(self.outbox.on_delivered(ChannelId(channel), next, window)),
            Act::Quarantined(channel, sequence) => self.outbox.on_quarantined(ChannelId(channel), sequence),
            Act::Time(millis) => {
                self.now += Duration::from_millis(millis);
                self.outbox.on_timeout(self.now);
                assert!(self.outbox.deadline().is_none_or(|at| at > self.now));
            }
            Act::ActorRestarts => {
                self.items.clear();
                self.outbox.on_session_restarted();
            }
            Act::PeerRestarts => {
                self.items.clear();
                self.told.clear();
                let limits = PeerLimits { channel_window: WINDOW, message_bytes: 4000, channels: 4 };
                self.outbox.on_peer_restarted(limits, |_| true);
            }
            Act::Limits(message_bytes, channels) => {
                self.outbox.set_peer_limits(PeerLimits { channel_window: WINDOW, message_bytes, channels });
            }
        }
    }

    fn fill(&mut self, class: usize, room: usize) {
        let (mut out, mut items) = (BytesMut::new(), Vec::new());
        self.outbox.fill(class, room, &mut out, &mut items);
        self.written(out, room, items);
    }

    /// Looks at what was written as the peer would.
    fn written(&mut self, out: BytesMut, room: usize, items: Vec<SentItem>) {
        assert!(out.len() <= room, "{} bytes in a room of {room}", out.len());
        self.items.extend(items);
        let mut reader = FrameReader::new(out.freeze());
        while let Some(frame) = reader.next().unwrap() {
            if let Frame::Message(m) = frame {
                assert_eq!(self.pushed.get(&(m.channel, m.sequence)), Some(&m.payload));
                self.tell(m.channel, m.sequence + 1);
            } else if let Frame::Fragment(f) = frame {
                let whole = &self.pushed[&(f.channel, f.sequence)];
                assert_eq!(whole.len() as u64, f.total);
                assert_eq!(whole.slice(f.offset as usize..f.offset as usize + f.payload.len()), f.payload);
                self.tell(f.channel, f.sequence + 1);
            } else if let Frame::Skip { channel, from, until } = frame {
                let sent = self.outbox.channels.get(&channel).map_or(0, |channel| channel.next_unsent);
                assert!(from < until && until <= sent, "{from}..{until} of what is sent below {sent}");
                self.tell(channel, until);
            } else {
                panic!("{frame:?}");
            }
        }
    }

    fn tell(&mut self, channel: ChannelId, until: u64) {
        let told = self.told.entry(channel).or_default();
        *told = (*told).max(until);
    }

    /// What is final stays as it is. Not for streams, whose numbers another life of the peer may give again.
    fn check_receipts(&mut self) {
        for (id, sequence) in self.pushed.keys().copied().filter(|(id, _)| !id.is_stream()) {
            let state = self.outbox.state(id, sequence);
            if state.is_final() {
                let before = *self.settled.entry((id, sequence)).or_insert(state);
                assert_eq!(before, state, "message {sequence} of {id:?} was final");
            } else {
                assert_eq!(self.settled.get(&(id, sequence)), None, "message {sequence} of {id:?} was final");
            }
        }
    }

    /// The peer takes everything from now on.
    fn drain(&mut self) {
        let limits = PeerLimits { channel_window: 1 << 30, message_bytes: 1 << 20, channels: 100 };
        self.outbox.set_peer_limits(limits);
        for _ in 0..500 {
            for class in 0..CLASSES {
                let mut turns = 0;
                while self.outbox.has_ready(class) && turns < 1000 {
                    self.fill(class, 2000);
                    turns += 1;
                }
                assert!(turns < 1000, "class {class} is always ready");
            }
            for (channel, next) in self.told.clone() {
                self.outbox.on_delivered(channel, next, 1 << 30).unwrap();
            }
            if self.outbox.is_settled() {
                break;
            }
        }
        assert_eq!(self.outbox.queued(), (0, 0));
        assert_eq!(self.outbox.outstanding, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_peer_says_of_messages_the_accounts_are_right_and_all_become_final(
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let mut world = World::new();
        for act in acts {
            world.apply(act);
            world.outbox.audit();
            world.check_receipts();
        }
        world.drain();
        world.check_receipts();
        world.outbox.audit();
    }
}
