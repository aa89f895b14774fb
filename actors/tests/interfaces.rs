//! Interface events, in a network namespace of its own.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::time::Duration;

use actix::{Actor, Context, Handler};
use bowline_actors::transport::interfaces::{InterfaceMonitor, InterfaceSubscribers, InterfaceTable};
use bowline_messages::link::InterfaceChanged;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

mod namespace;

use namespace::{ip, run};

#[test]
fn an_interface_that_goes_down_is_reported_at_once() {
    run("an_interface_that_goes_down_is_reported_at_once", inside());
}

async fn inside() {
    ip("link add bow0 type veth peer name bow1");
    ip("link set bow1 up");
    ip("address add 10.99.0.1/24 dev bow0");
    ip("link set bow0 up");
    let (tell, mut changes) = channel(100);
    let subscribers = InterfaceSubscribers::default();
    subscribers.add(Listener(tell).start().recipient());
    let table = InterfaceTable::default();
    let monitor = InterfaceMonitor::new(table.clone(), subscribers);
    let _monitor = bowline_actors::supervision::Context::run(16, monitor);
    assert_eq!(table.of_address("10.99.0.1".parse().unwrap()).unwrap().name, "bow0");

    // The first look is over once a change is reported; until then changes are part of it.
    let mut up = false;
    loop {
        ip(if up { "link set bow0 up" } else { "link set bow0 down" });
        up = !up;
        // The other end of the cable loses its carrier as well.
        if timeout(Duration::from_millis(300), async { while changes.recv().await.unwrap().name != "bow0" {} })
            .await
            .is_ok()
        {
            break;
        }
    }
    settle(&mut changes).await;
    ip("link set bow0 up");
    settle(&mut changes).await;
    ip("link set bow0 down");
    becomes(&mut changes, false).await;
    ip("link set bow0 up");
    becomes(&mut changes, true).await;
    ip("link delete bow0");
    becomes(&mut changes, false).await;
    assert_eq!(table.of_address("10.99.0.1".parse().unwrap()), None, "the table is fresh");
}

/// Waits for a change to a state, which has to come within the second in which links of a dead interface have to fail. The kernel may
/// report others before it: the carrier of the simulated cable comes and goes while it is plugged in.
async fn becomes(changes: &mut Receiver<InterfaceChanged>, up: bool) {
    let change = timeout(Duration::from_secs(1), async { while changes.recv().await.unwrap().up != up {} });
    change.await.expect("within a second");
}

async fn settle(changes: &mut Receiver<InterfaceChanged>) {
    while timeout(Duration::from_millis(200), changes.recv()).await.is_ok() {}
}

struct Listener(Sender<InterfaceChanged>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<InterfaceChanged> for Listener {
    type Result = ();

    fn handle(&mut self, change: InterfaceChanged, _: &mut Self::Context) {
        let _ = self.0.try_send(change);
    }
}
