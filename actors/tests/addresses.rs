//! Where peers are told that a node can be reached, while its interfaces change, in a network namespace of its own.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::time::Duration;

use bowline_actors::node::{NodeHandle, NodeParts, start};
use bowline_actors::session::identity::Identity;
use bowline_actors::session::trust::Trust;

mod namespace;

use namespace::{ip, run};

#[test]
fn the_addresses_told_to_peers_follow_the_interfaces() {
    run("the_addresses_told_to_peers_follow_the_interfaces", inside());
}

async fn inside() {
    ip("link set lo up");
    ip("link add bow0 type veth peer name bow1");
    ip("link set bow1 up");
    ip("address add 10.99.0.1/24 dev bow0");
    let parts = NodeParts::new(Arc::new(Identity::from_seed(&[1; 32])), Trust::default());
    let node = start(parts).unwrap();
    let port = node.listen("tcp://0.0.0.0:0".parse().unwrap()).await.unwrap()[0].port().unwrap();
    let at = |ip: &str| format!("tcp://{ip}:{port}");
    told(&node, &[at("127.0.0.1")]).await;

    ip("link set bow0 up");
    told(&node, &[at("10.99.0.1")]).await;
    ip("address add 10.99.1.1/24 dev bow0");
    told(&node, &[at("10.99.0.1"), at("10.99.1.1")]).await;
    ip("address del 10.99.0.1/24 dev bow0");
    told(&node, &[at("10.99.1.1")]).await;
    ip("link set bow0 down");
    told(&node, &[at("127.0.0.1")]).await;
    ip("link set bow0 up");
    told(&node, &[at("10.99.1.1")]).await;
    node.shutdown(Duration::ZERO).await;
}

/// Waits until peers are told just these.
async fn told(node: &NodeHandle, expected: &[String]) {
    let now = || node.services().own_addresses().map(|told| told.addresses).unwrap_or_default();
    let becomes = async {
        while now() != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), becomes).await;
    assert!(waited.is_ok(), "told {:?} instead of {expected:?}", now());
}
