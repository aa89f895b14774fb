#![allow(clippy::unwrap_used)]
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Handler, Message};
use bowline_messages::config::TransportConfig;
use bowline_messages::link::Binding;
use bowline_messages::repair::Reopen;
use bowline_messages::supervision::Strategy;
use bowline_messages::transport::{Listen, ListenAddresses, TransportStatusQuery, Unlisten};
use bowline_messages::wire::packet::next_packet;
use bowline_messages::wire::{Features, HelloParameters, OfferedVersions, Refusal, TicketId, Version};
use bowline_messages::{EndpointAddress, EventKind, Incarnation, LinkId, PeerId, TransportKind};
use bytes::Bytes;

use super::*;
use crate::session::handshake::{HandshakeConfig, ResumeTicket, may_number};
use crate::session::seal::RotationLimits;
use crate::supervision::{ChildSpec, SupervisorSpec};
use crate::transport::memory::{Change, Cut, MemoryNetwork, Path};
use crate::transport::registry::{Registry, TransportContext};
use crate::transport::tcp::TcpTransport;
use crate::transport::{DialOptions, LaneBuffers, Link, TransportError};

#[actix::test]
async fn a_dial_gives_both_sides_a_link_with_keys_over_the_simulated_network_and_over_tcp() {
    let network = MemoryNetwork::new(1);
    let kind = TransportKind::new("memory");
    for over_tcp in [false, true] {
        let transports: [Rc<dyn Transport>; 2] = if over_tcp {
            [Rc::new(TcpTransport::default()), Rc::new(TcpTransport::default())]
        } else {
            [Rc::new(network.transport("a", &kind)), Rc::new(network.transport("b", &kind))]
        };
        let [a, b] = transports;
        let (a, b) = (Node::start(1, a), Node::start(2, b));
        let address = b.listen(if over_tcp { "tcp://127.0.0.1:0" } else { "memory://b" }).await;
        let mut dialled = a.dial(&b, &address).await.unwrap();
        let mut accepted = b.next_link().await;
        assert_eq!((dialled.established.peer, accepted.established.peer), (b.peer(), a.peer()));
        assert_eq!(dialled.established.link, accepted.established.link);
        assert!(dialled.handshake_rtt.is_some() && accepted.handshake_rtt.is_some());
        let mut data = Bytes::from_static(b"hello");
        poll_fn(|cx| dialled.link.poll_write(cx, 0, &mut data)).await.unwrap();
        while accepted.buffers.is_empty() {
            poll_fn(|cx| accepted.link.poll_read(cx, &mut accepted.buffers)).await.unwrap();
        }
        assert_eq!(&accepted.buffers.lane(0)[..], b"hello");
        assert_eq!(a.status().await.connections, 1);
        drop(dialled);
        assert_eq!(a.status().await.connections, 0);
    }
}

#[actix::test]
async fn records_behind_the_handshake_are_kept() {
    let case = Pair::start().await;
    let mut dialled = case.a.dial(&case.b, &case.address).await.unwrap();
    // With a latency the responder has not read FINISH yet when this is behind it.
    let mut data = Bytes::from_static(b"record");
    poll_fn(|cx| dialled.link.poll_write(cx, 0, &mut data)).await.unwrap();
    let mut accepted = case.b.next_link().await;
    while accepted.buffers.len() < 6 {
        poll_fn(|cx| accepted.link.poll_read(cx, &mut accepted.buffers)).await.unwrap();
    }
    assert_eq!(&accepted.buffers.lane(0)[..], b"record");
}

#[actix::test]
async fn somebody_else_than_was_called_is_a_typed_error() {
    let case = Pair::start().await;
    let stranger = PeerId::from_bytes([9; 32]);
    let error = case.a.dial_as(stranger, &case.address).await.unwrap_err();
    assert!(matches!(error, DialError::Handshake(HandshakeError::WrongPeer { .. })), "{error:?}");
}

#[actix::test]
async fn a_peer_that_is_not_allowed_is_told_so() {
    let case = Pair::start().await;
    case.b.rules.borrow_mut().deny = Some(case.a.peer());
    // In the full handshake the responder decides on the third message, so the dialler learns it from its link.
    let mut dialled = case.a.dial(&case.b, &case.address).await.unwrap();
    let mut buffers = LaneBuffers::default();
    while buffers.is_empty() {
        poll_fn(|cx| dialled.link.poll_read(cx, &mut buffers)).await.unwrap();
    }
    let packet = next_packet(buffers.lane(0)).unwrap().unwrap();
    assert_eq!(Refusal::decode(&packet[1..]).unwrap(), Refusal::NotAllowed);
}

#[actix::test]
async fn who_is_not_accepted_yet_does_not_leave_the_host_alone_and_is_let_in_as_soon_as_it_is() {
    let (a, b, address) = turned_away(false).await;
    for _ in 0..6 {
        let error = a.dial(&b, &address).await.unwrap_err();
        assert!(matches!(error, DialError::Handshake(HandshakeError::Refused(Refusal::CoolDown))), "{error:?}");
    }
    assert!(a.status().await.hosts_paused.is_empty());
    *b.rules.borrow_mut() = Rules { acceptances: 1, ..Rules::default() };
    a.dial(&b, &address).await.unwrap();
    assert_eq!(b.next_link().await.established.peer, a.peer());
}

#[actix::test]
async fn who_is_accepted_while_it_is_turned_away_need_not_cool_down() {
    let (a, b, address) = turned_away(true).await;
    a.dial(&b, &address).await.unwrap();
    assert_eq!(b.next_link().await.established.peer, a.peer());
}

/// The first node was turned away by the second at this address. `relents`: and accepted meanwhile.
async fn turned_away(relents: bool) -> (Node, Node, EndpointAddress) {
    let [a, b] = [1, 2].map(|seed| Node::start(seed, Rc::new(TcpTransport::default())));
    let address = b.listen("tcp://127.0.0.1:0").await;
    *b.rules.borrow_mut() = Rules { deny: Some(a.peer()), relents, ..Rules::default() };
    let mut dialled = a.dial(&b, &address).await.unwrap();
    let mut buffers = LaneBuffers::default();
    while buffers.is_empty() {
        poll_fn(|cx| dialled.link.poll_read(cx, &mut buffers)).await.unwrap();
    }
    while b.status().await.handshakes_inbound > 0 {
        tokio::task::yield_now().await;
    }
    (a, b, address)
}

#[actix::test]
async fn silent_strangers_are_counted_refused_and_forgotten() {
    tokio::time::pause();
    let case = Pair::with(|parts| parts.config.handshakes_max = 2).await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(raw_dial(&case).await);
    }
    let mut refused = strangers.pop().unwrap();
    let mut buffers = LaneBuffers::default();
    poll_fn(|cx| refused.poll_read(cx, &mut buffers)).await.unwrap();
    let packet = next_packet(buffers.lane(0)).unwrap().unwrap();
    assert_eq!(Refusal::decode(&packet[1..]).unwrap(), Refusal::Busy);
    let status = case.b.status().await;
    assert_eq!((status.handshakes_inbound, status.connections, status.refused), (2, 2, 1));
    tokio::time::sleep(Duration::from_secs(11)).await;
    let status = case.b.status().await;
    assert_eq!((status.handshakes_inbound, status.connections), (0, 0));
    case.a.dial(&case.b, &case.address).await.unwrap();
}

#[cfg(all(feature = "tls", feature = "quic", feature = "ws"))]
#[actix::test]
async fn a_refusal_before_any_handshake_has_its_reason_over_every_transport_that_can_say_one() {
    let registry = Registry::builtin();
    for scheme in ["tcp", "tls", "ws", "wss", "quic"] {
        let kind = TransportKind::new(scheme);
        let built = |seed: u8| {
            let identity = Arc::new(Identity::from_seed(&[seed; 32]));
            registry.build(&kind, &TransportContext::new(identity)).unwrap().unwrap()
        };
        let a = Node::start(1, built(1));
        let b = Node::start_with(2, built(2), |parts| parts.config.connections_max = 0);
        let address = b.listen(&format!("{scheme}://127.0.0.1:0")).await;
        let error = a.dial(&b, &address).await.unwrap_err();
        let told = matches!(error, DialError::Handshake(HandshakeError::Refused(Refusal::TooManyConnections)));
        let turned_away = matches!(error, DialError::Transport(TransportError::TurnedAway));
        assert!(if scheme == "quic" { turned_away } else { told }, "{scheme}: {error}");
    }
}

#[actix::test]
async fn garbage_ends_the_handshake() {
    let case = Pair::start().await;
    for garbage in [&[0, 0, 0, 1, 0x77][..], &[0, 0, 0x20, 0][..], &[0xff; 64][..]] {
        let mut link = raw_dial(&case).await;
        let mut data = Bytes::copy_from_slice(garbage);
        if garbage.len() == 4 {
            data = [garbage, &[0x01; 8000]].concat().into();
        }
        while !data.is_empty() {
            poll_fn(|cx| link.poll_write(cx, 0, &mut data)).await.unwrap();
        }
        let mut buffers = LaneBuffers::default();
        assert!(poll_fn(|cx| link.poll_read(cx, &mut buffers)).await.is_err());
    }
}

#[actix::test]
async fn a_host_that_keeps_failing_is_left_alone_for_a_while() {
    tokio::time::pause();
    let case = Pair::start().await;
    assert!(case.b.transport.send(Unlisten { address: case.address.clone() }).await.unwrap());
    for _ in 0..5 {
        let error = case.a.dial(&case.b, &case.address).await.unwrap_err();
        assert!(matches!(error, DialError::Transport(_)), "{error:?}");
    }
    assert!(matches!(case.a.dial(&case.b, &case.address).await, Err(DialError::Paused(_))));
    assert_eq!(case.a.status().await.hosts_paused, ["b"]);
    case.b.listen("memory://b").await;
    case.a.dial_at_once(&case.b, &case.address).await.expect("the user asks for it");
    assert!(case.a.status().await.hosts_paused.is_empty());
    assert!(case.b.transport.send(Unlisten { address: case.address.clone() }).await.unwrap());
    for _ in 0..5 {
        case.a.dial(&case.b, &case.address).await.unwrap_err();
    }
    case.b.listen("memory://b").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    case.a.dial(&case.b, &case.address).await.unwrap();
    assert!(case.a.status().await.hosts_paused.is_empty());
    assert!(case.b.transport.send(Unlisten { address: case.address.clone() }).await.unwrap());
    for _ in 0..5 {
        case.a.dial(&case.b, &case.address).await.unwrap_err();
    }
    case.b.listen("memory://b").await;
    let up = InterfaceChanged { name: "eth0".into(), index: 1, up: true };
    case.a.transport.send(up).await.unwrap();
    case.a.dial(&case.b, &case.address).await.expect("a new way out is tried at once");
}

#[actix::test]
async fn dials_and_connections_are_bounded() {
    tokio::time::pause();
    let case = Pair::with(|parts| {
        parts.config.handshakes_max = 2;
        parts.config.pool_per_host = 3;
    })
    .await;
    case.network.apply_both(&there(), Change::Cut(Cut::Hold));
    let dials: Vec<_> = (0..4).map(|_| tokio::task::spawn_local(case.a.dial(&case.b, &case.address))).collect();
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(case.a.status().await.dials, 3, "the fourth found the pool of the host full");
    case.network.apply_both(&there(), Change::Heal);
    let mut links = Vec::new();
    for dial in dials {
        links.push(dial.await.unwrap());
    }
    let full = links.iter().filter(|link| matches!(link, Err(DialError::TooManyConnections))).count();
    assert_eq!((full, links.iter().filter(|link| link.is_ok()).count()), (1, 3));
}

#[actix::test]
async fn a_dial_into_silence_ends_in_time() {
    tokio::time::pause();
    let case = Pair::start().await;
    case.network.apply_both(&there(), Change::Cut(Cut::Hold));
    let start = tokio::time::Instant::now();
    let error = case.a.dial(&case.b, &case.address).await.unwrap_err();
    assert!(matches!(error, DialError::TimedOut(_) | DialError::Transport(TransportError::TimedOut(_))), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[actix::test]
async fn after_a_crash_the_same_listeners_are_open_again() {
    crate::supervision::report_contained_panics_quietly();
    let case = Pair::start().await;
    let extra = case.b.listen("memory://b:0").await;
    case.b.transport.do_send(Crash);
    let dialled = loop {
        match case.a.dial(&case.b, &extra).await {
            Ok(link) => break link,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    drop(dialled);
    let mut open = case.b.transport.send(ListenAddresses).await.unwrap();
    open.sort();
    assert_eq!(open, [case.address.clone(), extra]);
}

#[actix::test]
async fn a_repair_closes_no_listener_that_is_open_and_multiplies_no_attempts() {
    tokio::time::pause();
    // One that an earlier life had open, at an address that is gone.
    let gone: EndpointAddress = "memory://gone".parse().unwrap();
    let kept = |parts: &mut TransportParts| drop(parts.kept.0.borrow_mut().insert(gone.clone(), gone.clone()));
    let case = Pair::with(kept).await;
    for _ in 0..10 {
        case.b.transport.send(Reopen).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(case.b.transport.send(ListenAddresses).await.unwrap(), std::slice::from_ref(&case.address));
    let events = case.b.events.borrow();
    let opened = events.iter().filter(|event| matches!(event, EventKind::Listening { .. })).count();
    assert_eq!(opened, 1);
    // The back-off has come to its 30 s, half of that on average.
    let failed = events.iter().filter(|event| matches!(event, EventKind::ListenFailed { .. })).count();
    assert!((20..120).contains(&failed), "{failed}");
}

#[actix::test]
async fn a_listener_that_cannot_be_opened_says_why_and_is_forgotten() {
    let case = Pair::start().await;
    let elsewhere = "memory://c".parse().unwrap();
    assert!(case.b.transport.send(Listen { address: elsewhere }).await.unwrap().is_err());
    assert_eq!(case.b.transport.send(ListenAddresses).await.unwrap(), std::slice::from_ref(&case.address));
    assert!(case.b.events.borrow().iter().any(|event| matches!(event, EventKind::ListenFailed { .. })));
}

#[actix::test]
async fn asking_for_a_listener_twice_gives_the_same_one() {
    let case = Pair::start().await;
    assert_eq!(case.b.listen("memory://b").await, case.address);
    assert_eq!(case.b.status().await.listeners.len(), 1);
}

fn there() -> Path {
    Path::new("a", "b", &TransportKind::new("memory"))
}

/// A connection without a handshake.
async fn raw_dial(case: &Pair) -> Box<dyn Link> {
    let options = DialOptions { expect: case.b.peer(), binding: Binding::Any, timeout: Duration::from_secs(1) };
    let transport = case.network.transport("a", &TransportKind::new("memory"));
    let before = case.b.status().await;
    let link = transport.dial(&case.address, options).await.unwrap();
    loop {
        let now = case.b.status().await;
        if now.handshakes_inbound > before.handshakes_inbound || now.refused > before.refused {
            return link;
        }
        tokio::task::yield_now().await;
    }
}

/// Nodes a and b on a simulated network; b listens.
struct Pair {
    network: MemoryNetwork,
    a: Node,
    b: Node,
    address: EndpointAddress,
}

impl Pair {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(shape: impl Fn(&mut TransportParts)) -> Self {
        let network = MemoryNetwork::new(1);
        let kind = TransportKind::new("memory");
        let a = Node::start_with(1, Rc::new(network.transport("a", &kind)), &shape);
        let b = Node::start_with(2, Rc::new(network.transport("b", &kind)), &shape);
        let address = b.listen("memory://b").await;
        Self { network, a, b, address }
    }
}

struct Node {
    identity: Arc<Identity>,
    transport: Addr<TransportActor>,
    links: RefCell<tokio::sync::mpsc::Receiver<EstablishedLink>>,
    rules: Rc<RefCell<Rules>>,
    events: Rc<RefCell<Vec<EventKind>>>,
}

impl Node {
    fn start(seed: u8, transport: Rc<dyn Transport>) -> Self {
        Self::start_with(seed, transport, |_| {})
    }

    fn start_with(seed: u8, transport: Rc<dyn Transport>, shape: impl FnOnce(&mut TransportParts)) -> Self {
        let identity = Arc::new(Identity::from_seed(&[seed; 32]));
        let (tell, links) = tokio::sync::mpsc::channel(100);
        let rules = Rc::new(RefCell::new(Rules::default()));
        let events = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&events);
        let mut parts = TransportParts {
            transport,
            config: TransportConfig::default(),
            limits: InboundConfig::default(),
            identity: Arc::clone(&identity),
            handshake: Arc::new(handshake_config()),
            entropy: Rc::new(Entropy::system),
            admission: Rc::clone(&rules) as Rc<RefCell<dyn Admission>>,
            established: Peers(tell).start().recipient(),
            events: Rc::new(move |event| log.borrow_mut().push(event)),
            seed: 1,
            kept: KeptListeners::default(),
        };
        shape(&mut parts);
        let (spec, transport) = ChildSpec::new("memory", move || TransportActor::new(parts.clone()));
        std::mem::forget(SupervisorSpec::new("transports", Strategy::OneForOne).child(spec).start_root());
        Self { identity, transport, links: RefCell::new(links), rules, events }
    }

    fn peer(&self) -> PeerId {
        self.identity.peer_id()
    }

    async fn listen(&self, address: &str) -> EndpointAddress {
        let opened = self.transport.send(Listen { address: address.parse().unwrap() }).await.unwrap();
        opened.unwrap().remove(0)
    }

    fn dial(
        &self,
        to: &Self,
        address: &EndpointAddress,
    ) -> impl Future<Output = Result<EstablishedLink, DialError>> + 'static {
        self.dial_as(to.peer(), address)
    }

    fn dial_as(
        &self,
        peer: PeerId,
        address: &EndpointAddress,
    ) -> impl Future<Output = Result<EstablishedLink, DialError>> + 'static {
        self.dial_with(peer, address, false)
    }

    fn dial_at_once(
        &self,
        to: &Self,
        address: &EndpointAddress,
    ) -> impl Future<Output = Result<EstablishedLink, DialError>> + 'static {
        self.dial_with(to.peer(), address, true)
    }

    fn dial_with(
        &self,
        peer: PeerId,
        address: &EndpointAddress,
        at_once: bool,
    ) -> impl Future<Output = Result<EstablishedLink, DialError>> + 'static {
        let link = (0..2).map(LinkId).find(|link| may_number(*link, &self.peer(), &peer)).unwrap();
        let dial = Dial {
            peer,
            address: address.clone(),
            binding: Binding::Any,
            link,
            mode: DialMode::Full,
            handshake: None,
            timeout: None,
            at_once,
        };
        let dialling = self.transport.send(dial);
        async move { dialling.await.unwrap() }
    }

    async fn next_link(&self) -> EstablishedLink {
        poll_fn(|cx| self.links.borrow_mut().poll_recv(cx)).await.unwrap()
    }

    async fn status(&self) -> TransportStatus {
        self.transport.send(TransportStatusQuery).await.unwrap()
    }
}

fn handshake_config() -> HandshakeConfig {
    HandshakeConfig {
        versions: OfferedVersions::new([Version::V1]).unwrap(),
        parameters: HelloParameters {
            features: Features::default(),
            incarnation: Incarnation(1),
            channel_window: 1 << 20,
            message_bytes_max: 1 << 20,
            ack_delay_max_us: 10_000,
            channels_max: 256,
        },
        rotation: RotationLimits::default(),
    }
}

#[derive(Default)]
struct Rules {
    deny: Option<PeerId>,
    acceptances: u64,
    /// Whoever is turned away is accepted in the same moment.
    relents: bool,
}

impl Admission for Rules {
    fn ticket(&mut self, _: &TicketId) -> Option<ResumeTicket> {
        None
    }

    fn admit(&mut self, peer: &PeerId) -> Result<(), Refusal> {
        if self.deny != Some(*peer) {
            return Ok(());
        }
        if self.relents {
            self.deny = None;
            self.acceptances += 1;
        }
        Err(Refusal::NotAllowed)
    }

    fn acceptances(&self) -> u64 {
        self.acceptances
    }
}

/// Takes the inbound links.
struct Peers(tokio::sync::mpsc::Sender<EstablishedLink>);

impl Actor for Peers {
    type Context = actix::Context<Self>;
}

impl Handler<LinkEstablished> for Peers {
    type Result = ();

    fn handle(&mut self, LinkEstablished(link): LinkEstablished, _: &mut Self::Context) {
        let _ = self.0.try_send(link);
    }
}

/// Makes the actor panic.
#[derive(Message)]
#[rtype(result = "()")]
struct Crash;

impl Handler<Crash> for TransportActor {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("asked to");
    }
}
