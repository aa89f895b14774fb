//! The conformance suite over every registered transport and the simulated network.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bowline_actors::session::identity::Identity;
use bowline_actors::transport::conformance::{CASES, Subject, Verdict};
use bowline_actors::transport::memory::MemoryNetwork;
use bowline_actors::transport::mesh;
use bowline_actors::transport::mesh::plane::{Hop, RelayPlane};
use bowline_actors::transport::registry::{Registry, TransportContext};
use bowline_messages::config::MeshConfig;
use bowline_messages::{EndpointAddress, TransportKind};

#[test]
fn every_registered_transport_conforms() {
    let registry = Registry::builtin();
    let wanted = std::env::var("BOWLINE_TRANSPORT").ok();
    let over_ip = registry.kinds().filter(|kind| kind.as_str() != mesh::SCHEME);
    for kind in over_ip.filter(|kind| wanted.as_deref().is_none_or(|name| name == kind.as_str())) {
        check(kind.as_str(), || subject(&registry, kind));
    }
}

/// Three relays lie between the two ends on the short way and four on the long one; packets get lost on every hop.
#[test]
fn links_over_the_mesh_conform_over_relays_that_lose_packets() {
    for loss_ppm in [0, 10_000] {
        check(&format!("mesh with {loss_ppm} ppm lost on every hop"), || across_relays(loss_ppm, None));
    }
}

/// The same while the relay in the middle of the short way dies: what was written arrives over the long one.
#[test]
fn links_over_the_mesh_conform_while_a_relay_dies() {
    for after in [5, 40] {
        check(&format!("mesh with a relay that dies after {after} ms"), || {
            across_relays(5_000, Some(Duration::from_millis(after)))
        });
    }
}

fn across_relays(loss_ppm: u32, dies: Option<Duration>) -> Subject {
    // All of it is in this process, so its time can be virtual.
    tokio::time::pause();
    let registry = Registry::builtin();
    let plane = RelayPlane::new(1);
    let config = MeshConfig {
        relay_packets_per_second: 100_000,
        relay_bytes_per_second: 1 << 40,
        neighbour_packets_per_second: 100_000,
        neighbour_bytes_per_second: 1 << 40,
        ..MeshConfig::default()
    };
    let [a, b] = [identity(1), identity(2)];
    let build = |identity: &Arc<Identity>| {
        let port = plane.node(Arc::clone(identity), config.clone());
        let context = TransportContext { mesh: Some(port), ..TransportContext::new(Arc::clone(identity)) };
        registry.build(&TransportKind::new(mesh::SCHEME), &context).unwrap().unwrap()
    };
    let (dialer, listener) = (build(&a), build(&b));
    let hop = Hop { latency: Duration::from_millis(1), loss_ppm };
    for way in [&[11, 12, 13][..], &[21, 22, 23, 24]] {
        let mut before = a.peer_id();
        for relay in way.iter().map(|seed| identity(*seed).peer_id()) {
            plane.relay(relay, config.clone());
            plane.join(before, relay, hop);
            before = relay;
        }
        plane.join(before, b.peer_id(), hop);
    }
    let killer = plane.clone();
    actix::spawn(async move {
        if let Some(after) = dies {
            tokio::time::sleep(after).await;
            killer.kill(identity(12).peer_id());
        }
        // It lives as long as the check.
        std::future::pending::<()>().await;
    });
    Subject {
        listener,
        dialer,
        listener_peer: b.peer_id(),
        listen: mesh::address(&b.peer_id()),
        listen_v6: None,
        nobody: mesh::address(&identity(99).peer_id()),
    }
}

#[test]
fn the_simulated_network_conforms_with_one_lane_and_with_five() {
    for lanes in [1, 5] {
        check(&format!("memory with {lanes} lanes"), || {
            let network = MemoryNetwork::new(1);
            let kind = TransportKind::new("memory");
            Subject {
                listener: std::rc::Rc::new(network.transport("b", &kind)),
                dialer: std::rc::Rc::new(network.transport("a", &kind).with_lanes(lanes)),
                listener_peer: identity(2).peer_id(),
                listen: "memory://b:0".parse().unwrap(),
                listen_v6: None,
                nobody: "memory://b:7".parse().unwrap(),
            }
        });
    }
}

fn check(name: &str, subject: impl Fn() -> Subject) {
    let mut failures = Vec::new();
    for case in CASES {
        // A system of its own for each, as a test of its own would have.
        let verdict = actix::System::new().block_on(async { (case.run)(subject()).await });
        match verdict {
            Ok(Verdict::Passed) => {}
            Ok(Verdict::Skipped(reason)) => println!("{name}: {}: skipped, {reason}", case.name),
            Err(failure) => failures.push(format!("{}: {failure}", case.name)),
        }
    }
    assert!(failures.is_empty(), "{name}: {failures:#?}");
}

fn subject(registry: &Registry, kind: &TransportKind) -> Subject {
    let build = |identity| registry.build(kind, &TransportContext::new(identity)).unwrap().unwrap();
    let at = |host: &str, port| EndpointAddress::new(kind.clone(), host, Some(port), "");
    Subject {
        listener: build(identity(2)),
        dialer: build(identity(1)),
        listener_peer: identity(2).peer_id(),
        listen: at("127.0.0.1", 0),
        listen_v6: Some(at("::1", 0)),
        nobody: at("127.0.0.1", free_port()),
    }
}

/// A port at which nobody listens, for TCP and UDP: it was free a moment ago.
fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed(&[seed; 32]))
}
