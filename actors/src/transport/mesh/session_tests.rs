//! Two whole nodes with a direct link and one over relays: the session moves from one to the other and back.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Handler};
use bowline_messages::config::{MeshConfig, TrustConfig, TrustPolicy};
use bowline_messages::session::{Inbox, Outgoing, ReceiptState};
use bowline_messages::{MessageClass, TransportKind};

use super::plane::{Hop, RelayPlane};
use super::{MeshPort, MeshTransport, SCHEME, address};
use crate::node::{Application, NodeHandle, NodeParts, start};
use crate::session::handle::{Receipt, SessionHandle};
use crate::session::identity::Identity;
use crate::session::trust::Trust;
use crate::supervision::Context;
use crate::transport::memory::{Change, Cut, MemoryNetwork, Path};
use crate::transport::registry::Registry;

const LIMIT: Duration = Duration::from_secs(60);
const DIRECT: &str = "sim";

/// The numbers that arrived, each with the transport that brought it.
type Log = Rc<RefCell<Vec<(u64, String)>>>;

struct Collector(Log);

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<Inbox> for Collector {
    type Result = ();

    fn handle(&mut self, inbox: Inbox, _: &mut Self::Context) {
        let via = inbox.via.transport.to_string();
        let number = |payload: &[u8]| u64::from_be_bytes(payload.try_into().unwrap());
        self.0.borrow_mut().extend(inbox.messages.into_iter().map(|message| (number(&message.payload), via.clone())));
    }
}

fn node(network: &MemoryNetwork, host: &'static str, identity: &Arc<Identity>, port: MeshPort) -> (NodeHandle, Log) {
    let log = Log::default();
    let trust =
        Trust::new(&TrustConfig { policy: TrustPolicy::Open, ..TrustConfig::default() }, [], [], Default::default());
    let mut parts = NodeParts::new(Arc::clone(identity), trust);
    parts.registry = Registry::empty();
    let direct = network.transport(host, &TransportKind::new(DIRECT));
    parts.registry.register(DIRECT, move |_| Ok(Rc::new(direct.clone())));
    parts.registry.register(SCHEME, |context| Ok(Rc::new(MeshTransport::new(context))));
    parts.mesh = Some(port);
    let inbox = Context::run(64, Collector(Rc::clone(&log))).recipient();
    parts.application = Application { inbox: Some(inbox), ..Application::default() };
    (start(parts).unwrap(), log)
}

#[test]
fn a_session_moves_from_a_direct_link_to_the_mesh_and_back_without_loss() {
    actix::System::new().block_on(async {
        let plane = RelayPlane::new(3);
        let network = MemoryNetwork::new(3);
        let [here, there, relay] = [1, 2, 3].map(|seed| Arc::new(Identity::from_seed(&[seed; 32])));
        let port = |identity: &Arc<Identity>| plane.node(Arc::clone(identity), MeshConfig::default());
        let (port_a, port_b) = (port(&here), port(&there));
        plane.relay(relay.peer_id(), MeshConfig::default());
        let hop = Hop { latency: Duration::from_millis(8), loss_ppm: 10_000 };
        plane.join(here.peer_id(), relay.peer_id(), hop);
        plane.join(relay.peer_id(), there.peer_id(), hop);
        let direct = Path::new("a", "b", &TransportKind::new(DIRECT));
        network.apply_both(&direct, Change::Latency(Duration::from_millis(2)));

        let ((a, _), (b, log)) = (node(&network, "a", &here, port_a), node(&network, "b", &there, port_b));
        let mut addresses = b.listen(format!("{DIRECT}://b:0").parse().unwrap()).await.unwrap();
        addresses.extend(b.listen(address(&there.peer_id())).await.unwrap());
        let session = a.connect(b.id(), addresses.clone()).await.unwrap();

        // Both links stand, and the direct one carries.
        let mut sent = 0_u64;
        let mut receipts = Vec::new();
        let both = until(&mut sent, &mut receipts, &session, || async {
            let status = a.sessions(Some(b.id())).await.unwrap().pop().unwrap();
            status.links.len() == 2 && last_via(&log).as_deref() == Some(DIRECT)
        });
        both.await;
        for round in 0..2 {
            network.apply_both(&direct, Change::Cut(Cut::Vanish));
            until(&mut sent, &mut receipts, &session, || async { last_via(&log).as_deref() == Some(SCHEME) }).await;
            assert!(plane.counters(&relay.peer_id()).relayed > 0);
            network.apply_both(&direct, Change::Heal);
            until(&mut sent, &mut receipts, &session, || async { last_via(&log).as_deref() == Some(DIRECT) }).await;
            assert!(sent > 0, "round {round}");
        }
        let all = async {
            for receipt in &receipts {
                assert_eq!(receipt.settled().await, ReceiptState::Acknowledged);
            }
        };
        tokio::time::timeout(LIMIT, all).await.unwrap();
        let numbers: Vec<u64> = log.borrow().iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..sent).collect::<Vec<_>>(), "each once and in order");
        a.shutdown(Duration::ZERO).await;
        b.shutdown(Duration::ZERO).await;
    });
}

fn last_via(log: &Log) -> Option<String> {
    log.borrow().last().map(|(_, via)| via.clone())
}

/// Sends a message every few milliseconds until something holds.
async fn until<F: Future<Output = bool>>(
    sent: &mut u64,
    receipts: &mut Vec<Receipt>,
    session: &SessionHandle,
    holds: impl Fn() -> F,
) {
    let work = async {
        while !holds().await {
            let message = Outgoing::new(MessageClass::Critical, sent.to_be_bytes().to_vec());
            if let Ok(receipt) = session.send(message) {
                receipts.push(receipt);
                *sent += 1;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, work).await.unwrap();
}
