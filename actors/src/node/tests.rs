//! Two whole nodes in one process, over real TCP sockets.
#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Handler};
use bowline_messages::config::{TrustConfig, TrustPolicy};
use bowline_messages::event::{Event, EventKind};
use bowline_messages::membership::{MemberInfo, MemberState};
use bowline_messages::network::{Concern, GroupPacket};
use bowline_messages::session::{DialStatus, Inbox, Outgoing, ReceiptState, SessionEnd};
use bowline_messages::topology::HealingRequest;
use bowline_messages::{EndpointAddress, MessageClass, PeerId, TransportKind};
use bytes::Bytes;

use super::addresses::AddressesActor;
use super::carrier::PORT_MAILBOX;
use super::{Application, Carried, NetworkConfig, NodeHandle, NodeParts, start};
use crate::session::datagrams::DatagramError;
use crate::session::handle::Receipt;
use crate::session::identity::Identity;
use crate::session::trust::{Behaviour, SCORE_NEUTRAL, Trust};
use crate::supervision::Context;
use crate::transport::interfaces::AddressesChanged;

#[derive(Default)]
struct Collector(Rc<RefCell<Vec<Bytes>>>);

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<Inbox> for Collector {
    type Result = ();

    fn handle(&mut self, inbox: Inbox, _: &mut Self::Context) {
        self.0.borrow_mut().extend(inbox.messages.into_iter().map(|message| message.payload));
    }
}

fn parts(seed: u8) -> NodeParts {
    let trust =
        Trust::new(&TrustConfig { policy: TrustPolicy::Open, ..TrustConfig::default() }, [], [], Default::default());
    NodeParts::new(Arc::new(Identity::from_seed(&[seed; 32])), trust)
}

fn node(seed: u8) -> (NodeHandle, Rc<RefCell<Vec<Bytes>>>) {
    let got = Rc::new(RefCell::new(Vec::new()));
    let collector = Context::run(64, Collector(got.clone()));
    let mut parts = parts(seed);
    parts.application = Application { inbox: Some(collector.recipient()), ..Application::default() };
    (start(parts).unwrap(), got)
}

/// An interface gets another address: the peer learns it, with one new version for a burst of changes, and none when nothing changed.
#[test]
fn peers_are_told_when_the_addresses_of_the_machine_change() {
    actix::System::new().block_on(async {
        let here: Rc<RefCell<Vec<IpAddr>>> = Rc::new(RefCell::new(vec![[127, 0, 0, 1].into()]));
        let looks = Rc::new(Cell::new(0_usize));
        let mut parts = parts(7);
        parts.here = {
            let (here, looks) = (Rc::clone(&here), Rc::clone(&looks));
            Rc::new(move || {
                looks.set(looks.get() + 1);
                here.borrow().clone()
            })
        };
        let (a, (b, _)) = (start(parts).unwrap(), node(8));
        let wildcard = a.listen("tcp://0.0.0.0:0".parse().unwrap()).await.unwrap();
        let port = wildcard[0].port().unwrap();
        let at = |host: &str| EndpointAddress::new(TransportKind::new("tcp"), host, Some(port), "");
        let session = b.connect(a.id(), [at("127.0.0.1")]).await.unwrap();
        let receipt = session.send(Outgoing::new(MessageClass::Critical, &b"hello"[..])).unwrap();
        let follower = Context::run(16, AddressesActor::new(Rc::clone(&a.addresses), Duration::from_millis(20)));

        let version = || a.services().own_addresses().unwrap().version;
        let first = version();
        *here.borrow_mut() = vec![[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        for _ in 0..3 {
            follower.do_send(AddressesChanged);
        }
        let told = async {
            loop {
                let status = b.sessions(Some(a.id())).await.unwrap().pop().unwrap();
                if status.peer_addresses.contains(&at("127.0.0.2")) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
        assert_eq!(version(), first + 1, "a burst is told once");

        let before = looks.get();
        follower.do_send(AddressesChanged);
        while looks.get() == before {
            tokio::task::yield_now().await;
        }
        assert_eq!(version(), first + 1, "the same list is not told again");
        drop(receipt);
        a.shutdown(Duration::ZERO).await;
        b.shutdown(Duration::ZERO).await;
    });
}

#[test]
fn a_neighbour_that_floods_an_actor_keeps_no_other_out() {
    actix::System::new().block_on(async {
        let (a, _) = node(13);
        let got = Rc::new(RefCell::new(Vec::new()));
        let port = Context::run(PORT_MAILBOX, Port(got.clone())).recipient();
        let carrier = &a.services().carrier;
        carrier.set_port(&[Concern::Membership, Concern::Mesh], port);
        let (loud, quiet) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
        // Nobody reads meanwhile.
        for concern in [Concern::Membership, Concern::Mesh] {
            (0..10_000).for_each(|_| carrier.arrived(loud, concern.code(), &Bytes::from_static(b"!")));
        }
        carrier.arrived(quiet, Concern::Membership.code(), &Bytes::from_static(b"hello"));
        while got.borrow().iter().all(|packet| packet.from == loud) {
            tokio::task::yield_now().await;
        }
        assert_eq!(got.borrow().len(), PORT_MAILBOX / 8 * 3 + 1);
        a.shutdown(Duration::ZERO).await;
    });
}

#[derive(Default)]
struct Port(Rc<RefCell<Vec<GroupPacket>>>);

impl Actor for Port {
    type Context = Context<Self>;
}

impl Handler<Carried> for Port {
    type Result = ();

    fn handle(&mut self, Carried { packet, .. }: Carried, _: &mut Self::Context) {
        self.0.borrow_mut().push(packet);
    }
}

#[test]
fn a_datagram_reaches_whose_concern_it_is_and_nobody_else() {
    actix::System::new().block_on(async {
        let ((a, _), (b, inbox)) = (node(11), node(12));
        let addresses = b.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        a.connect(b.id(), addresses).await.unwrap();
        let got = Rc::new(RefCell::new(Vec::new()));
        let port = Context::run(4, Port(got.clone())).recipient();
        b.services().carrier.set_port(&[Concern::Membership], port);
        let carrier = &a.services().carrier;
        let arrived = async {
            while a.services().carrier.neighbours().is_empty() {
                tokio::task::yield_now().await;
            }
            for concern in [Concern::Mesh, Concern::Membership] {
                let payload = Bytes::from_static(b"who is there?");
                carrier.send(&b.id(), concern, MessageClass::Realtime, payload, Duration::from_secs(60)).unwrap();
            }
            while got.borrow().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), arrived).await.unwrap();
        let payload = Bytes::from_static(b"who is there?");
        assert_eq!(*got.borrow(), [GroupPacket { from: a.id(), concern: Concern::Membership, payload }]);
        assert!(inbox.borrow().is_empty(), "the application hears nothing of it");
        let neighbours = carrier.neighbours();
        assert_eq!((neighbours[0].peer, neighbours[0].direct), (b.id(), true));
        let nobody = carrier.send(&a.id(), Concern::Mesh, MessageClass::Bulk, Bytes::new(), Duration::ZERO);
        assert_eq!(nobody, Err(DatagramError::NoSession));
        a.shutdown(Duration::ZERO).await;
        b.shutdown(Duration::ZERO).await;
    });
}

/// A node that takes part in the network beyond its own sessions.
fn networked(seed: u8) -> (NodeHandle, Rc<RefCell<Vec<Bytes>>>) {
    let got = Rc::new(RefCell::new(Vec::new()));
    let collector = Context::run(64, Collector(got.clone()));
    let mut parts = parts(seed);
    parts.network = Some(NetworkConfig::default());
    parts.application = Application { inbox: Some(collector.recipient()), ..Application::default() };
    (start(parts).unwrap(), got)
}

/// Waits until something holds, for at most half a minute.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), waited).await.is_ok(), "{what}");
}

/// Three in a row: the ends know of each other by the one between, and talk through it; a direct link takes over without a loss.
#[test]
fn those_without_a_link_talk_through_others() {
    actix::System::new().block_on(async {
        let ((a, _), (b, _), (c, inbox)) = (networked(21), networked(22), networked(23));
        let addresses = b.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        a.connect(b.id(), addresses.clone()).await.unwrap();
        c.connect(b.id(), addresses).await.unwrap();
        let network = a.network().unwrap().clone();
        until("the graph has both links", || async { network.graph().await.unwrap().links.len() == 2 }).await;
        let alive = |member: &MemberInfo| member.state == MemberState::Alive;
        until("both others are members", || async {
            network.members().await.unwrap().iter().filter(|member| alive(member)).count() == 2
        })
        .await;
        until("the shape is known", || async { network.health().await.unwrap().topology.bridge_nodes == [b.id()] })
            .await;

        let session = a.connect(c.id(), []).await.unwrap();
        let through = |handle: &NodeHandle| {
            let (handle, peer) = (handle.clone(), c.id());
            async move {
                let status = handle.sessions(Some(peer)).await.unwrap();
                let usable = status.into_iter().flat_map(|session| session.links).filter(|link| link.state.is_usable());
                usable.map(|link| link.info.transport.to_string()).collect::<Vec<_>>()
            }
        };
        let send = |number: u64| {
            let message = Outgoing::new(MessageClass::Critical, number.to_be_bytes().to_vec());
            session.send(message).unwrap()
        };
        let settled = |receipt: Receipt| async move {
            let state = tokio::time::timeout(Duration::from_secs(30), receipt.settled()).await;
            assert_eq!(state, Ok(ReceiptState::Acknowledged));
        };
        settled(send(0)).await;
        assert_eq!(through(&a).await, ["mesh"]);

        let direct = c.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        a.connect(c.id(), direct).await.unwrap();
        until("there is a direct link", || async { through(&a).await.contains(&"tcp".to_owned()) }).await;
        settled(send(1)).await;
        for number in 2..50 {
            settled(send(number)).await;
        }
        let numbers: Vec<u64> =
            inbox.borrow().iter().map(|payload| u64::from_be_bytes(payload[..].try_into().unwrap())).collect();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
        for node in [a, b, c] {
            node.shutdown(Duration::ZERO).await;
        }
    });
}

/// Who is wanted whatever the way, as participants of a group are, gets the direct link that the network needs.
#[test]
fn who_is_reached_through_others_can_be_given_a_link_for_the_network() {
    actix::System::new().block_on(async {
        let ((a, _), (b, _), (c, _)) = (networked(31), networked(32), networked(33));
        let addresses = b.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        a.connect(b.id(), addresses.clone()).await.unwrap();
        c.connect(b.id(), addresses).await.unwrap();
        let direct = |to: PeerId| a.services().carrier.neighbours().iter().find(|n| n.peer == to).map(|n| n.direct);
        a.connect(c.id(), []).await.unwrap();
        until("they talk through the one between", || async { direct(c.id()) == Some(false) }).await;
        let listening = c.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addresses = listening.iter().map(ToString::to_string).collect();
        a.peers().do_send(HealingRequest::Connect { peer: c.id(), addresses });
        until("there is a direct link", || async { direct(c.id()) == Some(true) }).await;
        a.peers().do_send(HealingRequest::Release { peer: c.id() });
        assert!(a.session(c.id()).await.unwrap().is_some(), "it is wanted for something else");
        for node in [a, b, c] {
            node.shutdown(Duration::ZERO).await;
        }
    });
}

/// A peer that has not accepted this one yet refuses it, and lets its source cool down. Once it has, the next command goes through.
#[test]
fn who_is_accepted_after_it_was_refused_connects_at_once() {
    actix::System::new().block_on(async {
        let picky = Trust::new(
            &TrustConfig { policy: TrustPolicy::Allow, ..TrustConfig::default() },
            [],
            [],
            Default::default(),
        );
        let (a, _) = node(51);
        let b = start(NodeParts::new(Arc::new(Identity::from_seed(&[52; 32])), picky)).unwrap();
        let addresses = b.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        a.connect(b.id(), addresses.clone()).await.unwrap();
        let dials = || async { a.sessions(Some(b.id())).await.unwrap().pop().map(|session| session.dials) };
        let failed =
            |dials: Option<Vec<_>>| dials.is_some_and(|dials| dials.iter().any(|dial: &DialStatus| dial.failures > 6));
        until("it is refused again and again", || async { failed(dials().await) }).await;
        b.services().allow(a.id()).unwrap();
        a.connect(b.id(), addresses).await.unwrap();
        let linked = || async { a.sessions(Some(b.id())).await.unwrap().pop().is_some_and(|s| !s.links.is_empty()) };
        // The cool-down would have taken a minute.
        until("it is let in", linked).await;
        for node in [a, b] {
            node.shutdown(Duration::ZERO).await;
        }
    });
}

/// Both sides of a link for the network's sake let it go at their own time: who does first does not go on dialling the one that keeps it.
#[test]
fn who_is_let_go_and_keeps_the_session_is_not_dialled_any_more() {
    actix::System::new().block_on(async {
        let ((a, _), (b, _)) = (node(41), node(42));
        let nobody: EndpointAddress = "tcp://127.0.0.1:1".parse().unwrap();
        a.peers().do_send(HealingRequest::Connect { peer: b.id(), addresses: vec![nobody.to_string()] });
        b.connect(a.id(), a.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap()).await.unwrap();
        let status = || async { a.sessions(Some(b.id())).await.unwrap().pop().unwrap() };
        let linked = || async { status().await.links.iter().any(|link| link.state.is_usable()) };
        let dialled = || async { status().await.dials.iter().any(|dial| dial.address == nobody) };
        until("the peer has made a link", linked).await;
        assert!(dialled().await);
        a.peers().do_send(HealingRequest::Release { peer: b.id() });
        until("it is not dialled any more", || async { !dialled().await }).await;
        assert!(linked().await, "the session is the peer's");
        for node in [a, b] {
            node.shutdown(Duration::ZERO).await;
        }
    });
}

#[test]
fn two_nodes_talk_over_tcp_and_survive_kills() {
    actix::System::new().block_on(async {
        let (a, _) = node(1);
        let (b, got) = node(2);
        let addresses = b.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        let session = a.connect(b.id(), addresses).await.unwrap();
        let mut receipts = Vec::new();
        for number in 0..300u64 {
            receipts.push(session.send(Outgoing::new(MessageClass::Critical, number.to_be_bytes().to_vec())).unwrap());
            if number == 50 || number == 200 {
                let settled = tokio::time::timeout(Duration::from_secs(5), receipts.last().unwrap().settled()).await;
                assert!(
                    settled.is_ok(),
                    "{:?}\n{:?}\n{:?}\n{:?}",
                    a.recent_events(100).await,
                    b.recent_events(100).await,
                    a.sessions(None).await,
                    b.sessions(None).await
                );
                let tree = a.tree().await.unwrap();
                let sessions = tree.children.iter().find(|c| c.id == "sessions").unwrap();
                let group = sessions.children[0].id.clone();
                let victim = if number == 50 {
                    "session".to_owned()
                } else {
                    sessions.children[0].children.iter().find(|c| c.id.starts_with("link-")).unwrap().id.clone()
                };
                a.kill(&format!("sessions/{group}/{victim}")).await.unwrap();
            }
            if number % 10 == 0 {
                actix_rt::task::yield_now().await;
            }
        }
        let all = async {
            for receipt in &receipts {
                assert_eq!(receipt.settled().await, ReceiptState::Acknowledged);
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
        let numbers: Vec<_> = got.borrow().iter().map(|b| u64::from_be_bytes(b[..].try_into().unwrap())).collect();
        assert_eq!(numbers, (0..300).collect::<Vec<_>>());
        a.shutdown(Duration::from_secs(1)).await;
        b.shutdown(Duration::from_secs(1)).await;
    });
}

#[test]
fn a_peer_that_breaks_the_protocol_again_and_again_is_excluded() {
    actix::System::new().block_on(async {
        let ((a, _), (b, _)) = (node(3), node(4));
        let addresses = b.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        let session = a.connect(b.id(), addresses).await.unwrap();
        let receipt = session.send(Outgoing::new(MessageClass::Critical, &b"hello"[..])).unwrap();
        let settled = tokio::time::timeout(Duration::from_secs(20), receipt.settled()).await;
        assert_eq!(settled, Ok(ReceiptState::Acknowledged));
        assert!(b.services().trust.borrow().score(&a.id()) > SCORE_NEUTRAL, "it made a link");

        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        b.subscribe(Context::run(64, Listener(tell)).recipient());
        let incarnation = b.session(a.id()).await.unwrap().unwrap().ledger().incarnation();
        for _ in 0..8 {
            b.services().observe(a.id(), incarnation, Behaviour::BrokeProtocol);
        }
        let ended = async {
            loop {
                if let EventKind::SessionDown { reason, .. } = told.recv().await.unwrap().kind {
                    return reason;
                }
            }
        };
        let reason = tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
        assert!(matches!(reason, SessionEnd::Excluded(_)), "{reason:?}");
        assert!(b.services().allow(a.id()).is_err(), "nor does naming it help");
        a.shutdown(Duration::from_secs(1)).await;
        b.shutdown(Duration::from_secs(1)).await;
    });
}

struct Listener(tokio::sync::mpsc::UnboundedSender<Event>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Event> for Listener {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        let _ = self.0.send(event);
    }
}

/// An application that stops is no reason to lose what arrives meanwhile: the next one gets it.
#[test]
fn what_arrives_while_the_application_is_gone_waits_for_the_next_one() {
    actix::System::new().block_on(async {
        let ((a, _), (b, _)) = (node(5), node(6));
        let gone = Context::run(1, Collector::default());
        let gone_recipient = gone.clone().recipient();
        gone.do_send(Stop);
        while gone.connected() {
            tokio::task::yield_now().await;
        }
        b.services().set_application(Application { inbox: Some(gone_recipient), ..Application::default() });
        let addresses = b.listen("tcp://127.0.0.1:0".parse().unwrap()).await.unwrap();
        let session = a.connect(b.id(), addresses).await.unwrap();
        let receipt = session.send(Outgoing::new(MessageClass::Critical, &b"hello"[..])).unwrap();
        while receipt.state() == ReceiptState::Accepted {
            tokio::task::yield_now().await;
        }
        let got = Rc::new(RefCell::new(Vec::new()));
        let next = Context::run(64, Collector(got.clone()));
        b.services().set_application(Application { inbox: Some(next.recipient()), ..Application::default() });
        let settled = tokio::time::timeout(Duration::from_secs(30), receipt.settled()).await;
        assert_eq!(settled, Ok(ReceiptState::Acknowledged));
        assert_eq!(*got.borrow(), [Bytes::from_static(b"hello")]);
        a.shutdown(Duration::from_secs(1)).await;
        b.shutdown(Duration::from_secs(1)).await;
    });
}

#[derive(actix::Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Collector {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        actix::ActorContext::stop(ctx);
    }
}
