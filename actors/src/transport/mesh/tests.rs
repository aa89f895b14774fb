#![allow(clippy::unwrap_used)]
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bowline_messages::config::MeshConfig;
use bowline_messages::link::Binding;
use bytes::Bytes;
use tokio::time::Instant;

use super::plane::{Hop, RelayPlane};
use super::*;
use crate::session::identity::Identity;
use crate::transport::LaneBuffers;

const MS: Duration = Duration::from_millis(1);
const HOP: Hop = Hop { latency: Duration::from_millis(10), loss_ppm: 0 };

type Ends = (Box<dyn Link>, Box<dyn Link>);

/// a and b, with a short way by the relay `near` and a long one by `far` and `further`.
struct Mesh {
    plane: RelayPlane,
    a: MeshPort,
    b: MeshPort,
    near: PeerId,
    far: PeerId,
    listener: Box<dyn Listener>,
}

fn peer(seed: u8) -> PeerId {
    Identity::from_seed(&[seed; 32]).peer_id()
}

impl Mesh {
    async fn new(hop: Hop) -> Self {
        Self::with_near(hop, MeshConfig::default()).await
    }

    /// With another configuration of the relay on the short way.
    async fn with_near(hop: Hop, near_config: MeshConfig) -> Self {
        let plane = RelayPlane::new(7);
        let config = MeshConfig::default();
        let a = plane.node(Arc::new(Identity::from_seed(&[1; 32])), config.clone());
        let b = plane.node(Arc::new(Identity::from_seed(&[2; 32])), config.clone());
        let (near, far, further) = (peer(3), peer(4), peer(5));
        for (relay, config) in [(near, near_config), (far, config.clone()), (further, config)] {
            plane.relay(relay, config);
        }
        for (one, two) in [(a.local(), near), (near, b.local()), (a.local(), far), (far, further), (further, b.local())]
        {
            plane.join(one, two, hop);
        }
        let listener = transport(&b).listen(&address(&b.local())).await.unwrap();
        Self { plane, a, b, near, far, listener }
    }

    async fn connect(&mut self) -> Ends {
        let dial = transport(&self.a).dial(&address(&self.b.local()), options(&self.b.local()));
        let accept = async { poll_fn(|cx| self.listener.poll_accept(cx)).await.unwrap().accept().await.unwrap() };
        let (dialled, accepted) = futures_util::future::join(dial, accept).await;
        (dialled.unwrap(), accepted)
    }
}

fn transport(port: &MeshPort) -> MeshTransport {
    MeshTransport { port: Some(port.clone()) }
}

fn options(expect: &PeerId) -> DialOptions {
    DialOptions { expect: *expect, binding: Binding::Any, timeout: Duration::from_secs(20) }
}

async fn write(link: &mut Box<dyn Link>, bytes: &[u8]) -> Result<(), TransportError> {
    let mut data = Bytes::copy_from_slice(bytes);
    while !data.is_empty() {
        poll_fn(|cx| link.poll_write(cx, 0, &mut data)).await?;
    }
    Ok(())
}

async fn read(link: &mut Box<dyn Link>, bytes: usize) -> Result<Vec<u8>, TransportError> {
    let mut buffers = LaneBuffers::default();
    while buffers.len() < bytes {
        poll_fn(|cx| link.poll_read(cx, &mut buffers)).await?;
    }
    Ok(buffers.lane(0).to_vec())
}

fn paused() {
    tokio::time::pause();
}

#[actix::test]
async fn a_link_goes_over_the_best_route_and_costs_one_round_trip_to_make() {
    paused();
    let mut mesh = Mesh::new(HOP).await;
    let start = Instant::now();
    let (mut a, mut b) = mesh.connect().await;
    assert!((60 * MS..80 * MS).contains(&start.elapsed()), "two ways and the third to be shown: {:?}", start.elapsed());
    write(&mut a, b"over relays").await.unwrap();
    assert_eq!(read(&mut b, 11).await.unwrap(), b"over relays");
    assert!(mesh.plane.counters(&mesh.near).relayed > 0);
    assert_eq!(mesh.plane.counters(&mesh.far).relayed, 0);
    assert_eq!(b.ends().remote, address(&mesh.a.local()));
}

#[actix::test]
async fn a_relay_that_dies_costs_nothing_that_was_written() {
    paused();
    let mut mesh = Mesh::new(Hop { loss_ppm: 20_000, ..HOP }).await;
    let (mut a, mut b) = mesh.connect().await;
    let whole: Vec<u8> = (0..2_000_000_u32).map(|at| (at * 7 % 251) as u8).collect();
    let (plane, near) = (mesh.plane.clone(), mesh.near);
    let killing = async {
        tokio::time::sleep(150 * MS).await;
        plane.kill(near);
    };
    let start = Instant::now();
    let moving = futures_util::future::join(write(&mut a, &whole), read(&mut b, whole.len()));
    let ((written, got), ()) = futures_util::future::join(moving, killing).await;
    written.unwrap();
    assert!(got.unwrap() == whole);
    assert!(mesh.plane.counters(&mesh.far).relayed > 50, "it went on over the other relays");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[actix::test]
async fn a_relay_on_the_cheapest_way_that_passes_nothing_on_keeps_no_link_from_being_made() {
    paused();
    // It keeps its links, and costs are the same both ways: it is the best for calls and answers.
    let passes_nothing = MeshConfig { relay_packets_per_second: 0, ..MeshConfig::default() };
    let mut mesh = Mesh::with_near(HOP, passes_nothing).await;
    let start = Instant::now();
    let connected = tokio::time::timeout(Duration::from_secs(20), mesh.connect()).await;
    let (mut a, mut b) = connected.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "within two calls by that way: {:?}", start.elapsed());
    write(&mut a, b"around").await.unwrap();
    assert_eq!(read(&mut b, 6).await.unwrap(), b"around");
    write(&mut b, b"and back").await.unwrap();
    assert_eq!(read(&mut a, 8).await.unwrap(), b"and back");
    let near = mesh.plane.counters(&mesh.near);
    assert!(near.relayed == 0 && near.limited > 0, "it was tried first: {near:?}");
}

#[actix::test]
async fn what_a_relay_spoils_in_the_name_of_a_peer_counts_against_that_peer_behind_this_relay_only() {
    paused();
    let mut mesh = Mesh::new(HOP).await;
    let mut sources = Vec::new();
    for calls in 0..4 {
        if calls == 2 {
            mesh.plane.kill(mesh.near);
            tokio::time::sleep(500 * MS).await;
        }
        let dial = transport(&mesh.a).dial(&address(&mesh.b.local()), options(&mesh.b.local()));
        let arrive = async { poll_fn(|cx| mesh.listener.poll_accept(cx)).await.unwrap() };
        let (dialled, arrived) = futures_util::future::join(dial, arrive).await;
        sources.push(arrived.source().unwrap());
        drop(dialled.unwrap());
    }
    assert_eq!((sources[0], sources[2]), (sources[1], sources[3]), "behind the same neighbour it is the same");
    assert_ne!(sources[0], sources[2]);
}

#[actix::test]
async fn a_link_without_a_way_left_fails_in_time_at_both_ends() {
    paused();
    let mut mesh = Mesh::new(HOP).await;
    let (mut a, mut b) = mesh.connect().await;
    mesh.plane.kill(mesh.near);
    mesh.plane.kill(mesh.far);
    let start = Instant::now();
    write(&mut a, b"lost").await.unwrap();
    let error = read(&mut a, 1).await.unwrap_err();
    assert!(matches!(&error, TransportError::Io(io) if io.kind() == io::ErrorKind::HostUnreachable), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(read(&mut b, 1).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[actix::test]
async fn a_short_outage_of_all_ways_is_survived() {
    paused();
    let mut mesh = Mesh::new(HOP).await;
    let (mut a, mut b) = mesh.connect().await;
    let pairs = [(mesh.near, mesh.b.local()), (mesh.far, mesh.a.local())];
    pairs.iter().for_each(|(one, two)| mesh.plane.cut(*one, *two));
    write(&mut a, b"late").await.unwrap();
    tokio::time::sleep(1500 * MS).await;
    pairs.iter().for_each(|(one, two)| mesh.plane.join(*one, *two, HOP));
    assert_eq!(read(&mut b, 4).await.unwrap(), b"late");
}

#[actix::test]
async fn a_call_to_nobody_fails_and_leaves_nothing_behind() {
    paused();
    let mesh = Mesh::new(HOP).await;
    let start = Instant::now();
    for (nobody, least) in [(peer(9), 2), (mesh.near, 19)] {
        let dialled = transport(&mesh.a).dial(&address(&nobody), options(&nobody)).await;
        assert!(dialled.is_err());
        assert!(start.elapsed() > Duration::from_secs(least), "{:?}", start.elapsed());
    }
    assert_eq!(mesh.a.links(), 0);
    let itself = mesh.a.local();
    assert!(transport(&mesh.a).dial(&address(&itself), options(&itself)).await.is_err());
}

#[actix::test]
async fn links_that_are_over_are_forgotten_on_both_sides() {
    paused();
    let mut mesh = Mesh::new(HOP).await;
    for orderly in [true, false] {
        let (mut a, mut b) = mesh.connect().await;
        assert_eq!((mesh.a.links(), mesh.b.links()), (1, 1));
        if orderly {
            poll_fn(|cx| a.poll_close(cx)).await.unwrap();
            assert!(matches!(read(&mut b, 1).await, Err(TransportError::Closed)));
        }
        drop(a);
        if !orderly {
            assert!(matches!(read(&mut b, 1).await, Err(TransportError::Io(_))));
        }
        drop(b);
        tokio::time::sleep(500 * MS).await;
        assert_eq!((mesh.a.links(), mesh.b.links()), (0, 0), "orderly: {orderly}");
    }
}

/// The first message of a call that somebody makes in the name of one who did not call. `spoiled`: it cannot be opened.
fn first_message(to: PeerId, number: u64, spoiled: bool) -> crate::routing::MeshPacket {
    let mut rng = <rand_chacha::ChaCha20Rng as rand::SeedableRng>::seed_from_u64(number);
    let entropy = crate::session::handshake::Entropy::from_rng(&mut rng);
    let call = seal::Caller::new(peer(4), &to, crate::routing::ConnectionId([7; 8]), entropy).unwrap();
    let mut payload = call.first.to_vec();
    payload[40] ^= u8::from(spoiled);
    crate::routing::MeshPacket {
        flood: false,
        keep: false,
        hops: 1,
        labels: Vec::new(),
        destination: to,
        connection: crate::routing::ConnectionId::NONE,
        id: crate::routing::PacketId(number),
        payload: payload.into(),
    }
}

#[actix::test]
async fn callers_that_never_show_themselves_are_bounded_and_forgotten() {
    paused();
    let mut mesh = Mesh::new(HOP).await;
    let limit = MeshConfig::default().opening_links;
    let to = mesh.b.local();
    for seed in 0..(limit as u64 + 50) {
        let packet = first_message(to, seed, false);
        mesh.b.deliver(peer(3), packet.clone());
        mesh.b.deliver(peer(3), packet);
    }
    assert_eq!(mesh.b.links(), limit);
    assert!(poll_fn(|cx| std::task::Poll::Ready(mesh.listener.poll_accept(cx).is_pending())).await, "nobody is shown");
    let _ = mesh.connect().await;
    tokio::time::sleep(6000 * MS).await;
    assert_eq!(mesh.b.links(), 0, "all are gone, the dropped link too");
}

#[actix::test]
async fn a_call_that_somebody_repeats_is_answered_no_oftener_than_a_caller_would() {
    paused();
    let mesh = Mesh::new(HOP).await;
    let answers = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = Arc::clone(&answers);
    mesh.b.connect(Arc::new(move |answer| kept.lock().unwrap().push(answer)));
    let packet = first_message(mesh.b.local(), 1, false);
    let start = Instant::now();
    while start.elapsed() < 1500 * MS {
        mesh.b.deliver(peer(3), packet.clone());
        tokio::time::sleep(MS).await;
    }
    let answers = answers.lock().unwrap();
    assert!((8..=11).contains(&answers.len()), "each 150 ms: {}", answers.len());
    let on_account = |answer: &crate::routing::Outgoing| answer.on_behalf_of == Some(peer(3));
    assert!(answers.iter().all(on_account), "of who brings the call: {answers:?}");
}

#[actix::test]
async fn what_one_neighbour_brings_keeps_nobody_behind_another_from_calling() {
    paused();
    let mut mesh = Mesh::new(HOP).await;
    let config = MeshConfig::default();
    let to = mesh.b.local();
    let mut number = 0_u64;
    // More than may be opened: nonsense of the right length, and calls whose callers never show themselves.
    let mut flood = |port: &MeshPort, calls: u32| {
        for n in 0..u64::from(calls) {
            number += 1;
            let packet = first_message(to, number, n % 2 == 0);
            port.deliver(peer(5), packet);
        }
    };
    for _ in 0..3 {
        flood(&mesh.b, config.openings_per_second);
        tokio::time::sleep(100 * MS).await;
    }
    assert!(mesh.b.counters().calls_refused > 0);
    let flooding = {
        let port = mesh.b.clone();
        async move {
            for _ in 0..100 {
                flood(&port, 10);
                tokio::time::sleep(MS).await;
            }
        }
    };
    let start = Instant::now();
    let connecting = async { (mesh.connect().await, start.elapsed()) };
    let (((mut a, mut b), took), ()) = futures_util::future::join(connecting, flooding).await;
    assert!(took < 150 * MS, "at the first try: {took:?}");
    write(&mut a, b"fine").await.unwrap();
    assert_eq!(read(&mut b, 4).await.unwrap(), b"fine");
}

#[actix::test]
async fn a_link_whose_way_was_gone_goes_on_the_moment_it_is_back() {
    paused();
    let mut mesh = Mesh::new(HOP).await;
    mesh.plane.kill(mesh.far);
    let (mut a, mut b) = mesh.connect().await;
    write(&mut a, b"before").await.unwrap();
    assert_eq!(read(&mut b, 6).await.unwrap(), b"before");
    mesh.plane.cut(mesh.near, mesh.b.local());
    write(&mut a, b"meanwhile").await.unwrap();
    // Between two tries, which are further and further apart.
    tokio::time::sleep(2500 * MS).await;
    assert!(mesh.plane.counters(&mesh.a.local()).stored + mesh.plane.counters(&mesh.near).stored > 0);
    mesh.plane.join(mesh.near, mesh.b.local(), HOP);
    let start = Instant::now();
    assert_eq!(read(&mut b, 9).await.unwrap(), b"meanwhile");
    assert!(start.elapsed() < 40 * MS, "{:?}", start.elapsed());
}

#[actix::test]
async fn packets_of_nobody_are_counted_and_change_nothing() {
    paused();
    let mut mesh = Mesh::new(HOP).await;
    let (mut a, mut b) = mesh.connect().await;
    let packet = |connection, payload: &'static [u8]| crate::routing::MeshPacket {
        flood: false,
        keep: false,
        hops: 1,
        labels: Vec::new(),
        destination: mesh.b.local(),
        connection,
        id: crate::routing::PacketId(1),
        payload: Bytes::from_static(payload),
    };
    mesh.b.deliver(peer(3), packet(crate::routing::ConnectionId([3; 8]), b"nonsense"));
    mesh.b.deliver(peer(3), packet(crate::routing::ConnectionId::NONE, b"nonsense"));
    mesh.b.deliver(peer(3), packet(crate::routing::ConnectionId::NONE, &[7; seal::FIRST_BYTES]));
    assert_eq!((mesh.b.counters().stray, mesh.b.counters().calls_malformed), (1, 2));
    write(&mut a, b"fine").await.unwrap();
    assert_eq!(read(&mut b, 4).await.unwrap(), b"fine");
}

#[actix::test]
async fn one_listener_at_its_own_address() {
    let mesh = Mesh::new(HOP).await;
    let listen = |at: EndpointAddress| transport(&mesh.b).listen(&at);
    assert!(listen(address(&mesh.b.local())).await.is_err(), "there is one already");
    assert!(listen(address(&mesh.a.local())).await.is_err(), "that is somebody else");
    assert!(listen("mesh://nonsense".parse().unwrap()).await.is_err());
    let without = MeshTransport { port: None };
    assert!(matches!(without.listen(&address(&mesh.b.local())).await, Err(TransportError::Unsupported { .. })));
}
