//! The conformance suite over every registered transport and the simulated network.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use bowline_actors::session::identity::Identity;
use bowline_actors::transport::conformance::{CASES, Subject, Verdict};
use bowline_actors::transport::memory::MemoryNetwork;
use bowline_actors::transport::registry::{Registry, TransportContext};
use bowline_messages::{EndpointAddress, TransportKind};

#[test]
fn every_registered_transport_conforms() {
    let registry = Registry::builtin();
    let wanted = std::env::var("BOWLINE_TRANSPORT").ok();
    for kind in registry.kinds().filter(|kind| wanted.as_deref().is_none_or(|name| name == kind.as_str())) {
        check(kind.as_str(), || subject(&registry, kind));
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
