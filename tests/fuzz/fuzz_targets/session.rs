//! The session machine against records of the fuzzer's making, authentic as if the peer itself had gone mad.
//!
//! Input: one instruction a time, `what u8 ‖ n u16`: a record of the next n bytes as frames, time, a message of this side, the
//! application taking messages.
#![no_main]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_actors::session::inbound::{Inbound, InboundLimits};
use bowline_actors::session::machine::{KeyRing, LinkJoin, LinkKeys, Output, Parts, Session};
use bowline_actors::session::outbox::{Outbox, OutboxLimits, PeerLimits};
use bowline_actors::session::seal::Sealer;
use bowline_fuzz::linked;
use bowline_messages::config::SessionConfig;
use bowline_messages::event::EventKind;
use bowline_messages::link::LinkInfo;
use bowline_messages::session::Outgoing;
use bowline_messages::{ChannelId, Incarnation, LinkId, MessageClass, TransportKind};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

const WINDOW: u64 = 4096;
const MESSAGE_BYTES: usize = 8192;

/// One side of a session with one link.
struct Side {
    now: Instant,
    session: Session,
    outbox: Outbox,
    inbound: Inbound,
    keys: KeyRing,
    /// The number behind the last message of each channel; none once the peer said that it is another life.
    marks: Option<BTreeMap<ChannelId, u64>>,
}

impl Side {
    fn with<R>(&mut self, work: impl FnOnce(&mut Session, &mut Parts<'_>) -> R) -> R {
        let mut parts = Parts { outbox: &mut self.outbox, inbound: &mut self.inbound, keys: &mut self.keys };
        work(&mut self.session, &mut parts)
    }

    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 20, "what is due stays due");
            let now = self.now;
            while self.with(|session, parts| session.poll_transmit(now, parts)).is_some() {}
            while let Some(output) = self.session.poll_output() {
                if let Output::CloseLink(link, _) = output {
                    self.keys.remove(&link);
                } else if let Output::Emit(EventKind::PeerRestarted { .. }) = output {
                    self.marks = None;
                }
            }
            let due = [self.session.deadline(now), self.outbox.deadline()];
            if due.into_iter().flatten().all(|at| at > now) {
                break;
            }
            self.with(|session, parts| session.on_timeout(now, parts));
        }
        // The session's window, one channel's beyond it, one message; and as much again for what will not come.
        assert!(self.inbound.held() <= 2 * (5 * WINDOW + MESSAGE_BYTES as u64 + 4096));
    }

    fn take(&mut self, most: usize) {
        let marks = &mut self.marks;
        self.inbound.deliver_with(most, |messages| {
            for message in messages {
                if let Some(marks) = marks.as_mut() {
                    let mark = marks.entry(message.channel).or_default();
                    assert!(message.sequence >= *mark, "twice, or out of order");
                    *mark = message.sequence + 1;
                }
            }
            Ok(())
        });
    }
}

fn side() -> (Side, Sealer, LinkId) {
    let (a, b, ours, theirs, _) = linked();
    let now = Instant::now();
    let config = SessionConfig { channel_window: WINDOW as u32, message_bytes: MESSAGE_BYTES, channels: 4, ..SessionConfig::default() };
    let limits = InboundLimits {
        channel_window: WINDOW,
        session_window: WINDOW * 4,
        message_bytes: MESSAGE_BYTES,
        channels: config.channels,
    };
    let queue = OutboxLimits { queue_bytes: 1 << 16, queue_messages: 64, message_bytes: MESSAGE_BYTES, channels: 4 };
    let (local, peer) = (b.identity.peer_id(), a.identity.peer_id());
    let link = theirs.link;
    let mut session = Session::new(peer, Incarnation(1), None, Rc::new(config));
    let address = |text: &str| text.parse().expect("an address");
    let info = LinkInfo {
        id: link,
        transport: TransportKind::new("tcp"),
        local: address("tcp://b"),
        remote: address("tcp://a"),
        interface: None,
        initiator: false,
    };
    let join = LinkJoin {
        info: Arc::new(info),
        lanes: 1,
        handshake_rtt: Duration::from_millis(5),
        ack_delay_max: Duration::from_millis(2),
        confirmed: true,
        peer_limits: PeerLimits { channel_window: WINDOW, message_bytes: MESSAGE_BYTES, channels: 4 },
    };
    session.on_link_up(now, local, join);
    let keys = KeyRing::from([(link, Box::new(LinkKeys { sealer: theirs.sealer, opener: theirs.opener }))]);
    let (outbox, inbound) = (Outbox::new(queue, WINDOW), Inbound::new(limits, local > peer));
    (Side { now, session, outbox, inbound, keys, marks: Some(BTreeMap::new()) }, ours.sealer, link)
}

fuzz_target!(|data: &[u8]| {
    let (mut side, mut sealer, link) = side();
    let mut rest = data;
    while let Some((&[what, high, low], tail)) = rest.split_first_chunk::<3>() {
        let n = usize::from(u16::from_be_bytes([high, low]));
        rest = tail;
        match what % 8 {
            0 => side.now += Duration::from_millis(n as u64 % 20_000),
            1 => {
                let message = Outgoing::new(MessageClass::ALL[n % 5], vec![1; n / 8]).on(ChannelId(n as u32 % 3));
                let _ = side.outbox.push(message, Some(side.now + Duration::from_millis(n as u64)));
            }
            2 => side.take(n % 16 + 1),
            _ => {
                let (frames, tail) = rest.split_at(rest.len().min(n % 1024));
                rest = tail;
                let mut record = BytesMut::new();
                let start = sealer.begin(&mut record);
                record.extend_from_slice(frames);
                let _ = sealer.finish(&mut record, start).expect("small");
                let now = side.now;
                side.with(|session, parts| session.on_arrived(now, link, record, parts));
            }
        }
        side.settle();
    }
});
