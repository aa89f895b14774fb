#![allow(clippy::unwrap_used)]
use std::future::poll_fn;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Handler, Message};
use bowline_messages::credit::Credit;
use bowline_messages::link::{Arrived, Binding, CloseLink, LinkCountersQuery, LinkDown, LinkFailure, Transmit};
use bowline_messages::{EndpointAddress, LinkId, PeerId, TransportKind};
use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::watch;

use super::{LinkActor, LinkObserver};
use crate::supervision::Context;
use crate::transport::memory::{Change, Cut, MemoryNetwork, Path, PathSettings};
use crate::transport::{DialOptions, LaneBuffers, Link, Transport};

const LINK: LinkId = LinkId(4);

#[actix::test]
async fn packets_arrive_whole_however_they_were_cut() {
    let mut case = Case::start(|_| {}).await;
    let packets = [packet(10), packet(300), packet(1)].concat();
    for piece in packets.chunks(7) {
        case.peer_writes(piece).await;
    }
    case.peer_writes(&packet(5)[..4]).await;
    let seen = case.wait(|seen| seen.bytes.len() == packets.len()).await;
    assert_eq!(seen.bytes, packets);
    let counters = case.link.send(LinkCountersQuery).await.unwrap();
    assert_eq!((counters.packets_received, counters.bytes_received), (3, packets.len() as u64 + 4));
}

#[actix::test]
async fn what_was_read_behind_the_handshake_is_delivered_first() {
    let mut leftover = LaneBuffers::default();
    leftover.lane(0).extend_from_slice(&packet(20));
    leftover.lane(0).extend_from_slice(&packet(30)[..10]);
    let mut case = Case::start_with(leftover, |_| {}).await;
    case.wait(|seen| seen.bytes == packet(20)).await;
    case.peer_writes(&packet(30)[10..]).await;
    case.wait(|seen| seen.bytes == [packet(20), packet(30)].concat()).await;
}

#[actix::test]
async fn what_is_transmitted_reaches_the_peer_and_waits_while_the_link_is_full() {
    let mut case = Case::start(|path| path.window_bytes = 1000).await;
    case.transmit(&packet(500));
    assert_eq!(case.peer_reads(504).await, packet(500));
    case.transmit(&packet(900));
    case.transmit(&packet(900));
    let counters = case.link.send(LinkCountersQuery).await.unwrap();
    assert!(counters.queued_bytes > 0, "the link takes no more before the peer reads");
    assert_eq!(case.peer_reads(1808).await, [packet(900), packet(900)].concat());
    let counters = case.link.send(LinkCountersQuery).await.unwrap();
    assert_eq!((counters.packets_sent, counters.bytes_sent, counters.queued_bytes), (3, 2312, 0));
}

#[actix::test]
async fn a_session_that_is_busy_stops_the_reading() {
    tokio::time::pause();
    let mut case = Case::start(|path| path.window_bytes = 64 * 1024).await;
    case.session.do_send(Hold(true));
    for _ in 0..10 {
        case.peer_writes(&packet(1000)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(case.seen.borrow().deliveries, 2, "it has two credits");
    case.session.do_send(Hold(false));
    let seen = case.wait(|seen| seen.bytes.len() == 10 * 1004).await;
    assert_eq!(seen.bytes, packet(1000).repeat(10));
}

#[actix::test]
async fn the_end_is_told_once_and_behind_what_arrived() {
    let mut case = Case::start(|_| {}).await;
    case.peer_writes(&packet(50)).await;
    let peer = case.peer.as_mut().unwrap();
    poll_fn(|cx| peer.poll_close(cx)).await.unwrap();
    let seen = case.wait(|seen| !seen.downs.is_empty()).await;
    assert_eq!((seen.bytes, seen.downs), (packet(50), vec![LinkFailure::ClosedByPeer]));
    case.is_over().await;
}

#[actix::test]
async fn a_reset_and_a_broken_packet_end_the_link_with_their_reasons() {
    let mut case = Case::start(|_| {}).await;
    case.peer = None;
    let seen = case.wait(|seen| !seen.downs.is_empty()).await;
    assert!(matches!(&seen.downs[..], [LinkFailure::Transport(_)]), "{:?}", seen.downs);

    let mut case = Case::start(|_| {}).await;
    case.peer_writes(&[0xff; 4]).await;
    let seen = case.wait(|seen| !seen.downs.is_empty()).await;
    assert!(matches!(&seen.downs[..], [LinkFailure::Protocol(_)]), "{:?}", seen.downs);
    case.is_over().await;
}

#[actix::test]
async fn closing_writes_what_is_queued_and_does_not_wait_for_a_silent_network() {
    tokio::time::pause();
    for silent in [false, true] {
        let mut case = Case::start(|path| path.window_bytes = 600).await;
        if silent {
            case.network.apply_both(&there(), Change::Cut(Cut::Hold));
        }
        case.transmit(&packet(1000));
        case.link.do_send(CloseLink { reason: "replaced".into() });
        if !silent {
            assert_eq!(case.peer_reads(1004).await, packet(1000));
        }
        let seen = case.wait(|seen| !seen.downs.is_empty()).await;
        assert_eq!(seen.downs, [LinkFailure::ClosedHere("replaced".into())]);
        case.is_over().await;
    }
}

#[actix::test]
async fn a_session_that_is_gone_ends_its_links() {
    let mut case = Case::start(|_| {}).await;
    case.session.send(Stop).await.unwrap();
    case.peer_writes(&packet(10)).await;
    case.is_over().await;
}

fn packet(bytes: usize) -> Vec<u8> {
    let mut packet = BytesMut::new();
    packet.put_u32(bytes as u32);
    packet.extend((0..bytes).map(|n| n as u8));
    packet.to_vec()
}

fn kind() -> TransportKind {
    TransportKind::new("memory")
}

fn there() -> Path {
    Path::new("a", "b", &kind())
}

/// A link actor at host a, whose session writes down what it is told, and the other end of the link.
struct Case {
    network: MemoryNetwork,
    link: Addr<LinkActor>,
    session: Addr<Session>,
    seen: watch::Receiver<Seen>,
    peer: Option<Box<dyn Link>>,
    read: LaneBuffers,
}

impl Case {
    async fn start(shape: impl FnOnce(&mut PathSettings)) -> Self {
        Self::start_with(LaneBuffers::default(), shape).await
    }

    async fn start_with(leftover: LaneBuffers, shape: impl FnOnce(&mut PathSettings)) -> Self {
        let network = MemoryNetwork::new(1);
        let mut settings = PathSettings::default();
        shape(&mut settings);
        network.apply_both(&there(), Change::Shape(settings));
        let address: EndpointAddress = "memory://b".parse().unwrap();
        let mut listener = network.transport("b", &kind()).listen(&address).await.unwrap();
        let options =
            DialOptions { expect: PeerId::from_bytes([0; 32]), binding: Binding::Any, timeout: Duration::from_secs(1) };
        let dialled = network.transport("a", &kind()).dial(&address, options).await.unwrap();
        let peer = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap().accept().await.unwrap();
        let (tell, seen) = watch::channel(Seen::default());
        let session = Session { tell, hold: false, held: Vec::new() }.start();
        let observer = LinkObserver { arrived: session.clone().recipient(), down: session.clone().recipient() };
        let link = Context::run(16, LinkActor::new(LINK, dialled, leftover, observer));
        Self { network, link, session, seen, peer: Some(peer), read: LaneBuffers::default() }
    }

    fn transmit(&self, data: &[u8]) {
        self.link.do_send(Transmit { lane: 0, data: Bytes::copy_from_slice(data) });
    }

    async fn peer_writes(&mut self, data: &[u8]) {
        let mut data = Bytes::copy_from_slice(data);
        let peer = self.peer.as_mut().unwrap();
        while !data.is_empty() {
            poll_fn(|cx| peer.poll_write(cx, 0, &mut data)).await.unwrap();
        }
        tokio::task::yield_now().await;
    }

    async fn peer_reads(&mut self, bytes: usize) -> Vec<u8> {
        let peer = self.peer.as_mut().unwrap();
        while self.read.len() < bytes {
            poll_fn(|cx| peer.poll_read(cx, &mut self.read)).await.unwrap();
        }
        self.read.lane(0).split_to(bytes).to_vec()
    }

    async fn wait(&mut self, condition: impl FnMut(&Seen) -> bool) -> Seen {
        tokio::time::timeout(Duration::from_secs(20), self.seen.wait_for(condition)).await.unwrap().unwrap().clone()
    }

    async fn is_over(&self) {
        while self.link.connected() {
            tokio::task::yield_now().await;
        }
        assert!(self.seen.borrow().downs.len() <= 1);
    }
}

/// What the session was told.
#[derive(Debug, Clone, Default)]
struct Seen {
    bytes: Vec<u8>,
    deliveries: usize,
    downs: Vec<LinkFailure>,
}

struct Session {
    tell: watch::Sender<Seen>,
    hold: bool,
    held: Vec<Credit>,
}

impl Actor for Session {
    type Context = actix::Context<Self>;
}

impl Handler<Arrived> for Session {
    type Result = ();

    fn handle(&mut self, arrived: Arrived, _: &mut Self::Context) -> Self::Result {
        assert_eq!(arrived.link, LINK);
        self.tell.send_modify(|seen| {
            seen.bytes.extend_from_slice(&arrived.data);
            seen.deliveries += 1;
        });
        if self.hold {
            self.held.push(arrived.credit);
        }
    }
}

impl Handler<LinkDown> for Session {
    type Result = ();

    fn handle(&mut self, down: LinkDown, _: &mut Self::Context) {
        self.tell.send_modify(|seen| seen.downs.push(down.reason));
    }
}

/// Whether what is delivered counts as not worked on.
#[derive(Message)]
#[rtype(result = "()")]
struct Hold(bool);

impl Handler<Hold> for Session {
    type Result = ();

    fn handle(&mut self, Hold(hold): Hold, _: &mut Self::Context) {
        self.hold = hold;
        if !hold {
            self.held.clear();
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Session {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        let _ = ctx.address();
        actix::ActorContext::terminate(ctx);
    }
}
