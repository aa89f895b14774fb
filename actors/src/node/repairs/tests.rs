//! Whole nodes with something wrong that only a repair heals.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Handler, Message, WrapFuture};
use bowline_messages::config::{RepairConfig, TrustConfig, TrustPolicy};
use bowline_messages::event::EventKind;
use bowline_messages::health::{Advice, Confidence, LinkOpinion, Outlook, Quality};
use bowline_messages::link::LinkInfo;
use bowline_messages::repair::{BreakerState, Repair, RepairOutcome};
use bowline_messages::session::Outgoing;
use bowline_messages::{EndpointAddress, MessageClass, TransportKind};
use futures_util::future::LocalBoxFuture;
use zeroize::Zeroizing;

use crate::clock;
use crate::node::{FindSessionActor, NodeHandle, NodeParts, start};
use crate::session::handshake::ResumeTicket;
use crate::session::trust::Trust;
use crate::supervision::Context;
use crate::testing::sim::{Direction, LinkShape, NodeOptions, Simulation, identity_of, run};
use crate::transport::actor::TransportActor;
use crate::transport::memory::{Change, MemoryNetwork, MemoryTransport};
use crate::transport::registry::Registry;
use crate::transport::{Capabilities, DialOptions, Link, Listener, Transport, TransportError};

const SEC: Duration = Duration::from_secs(1);

/// Makes a transport's actor stop answering, as one whose handler waits for something that never comes.
#[derive(Message)]
#[rtype(result = "()")]
struct Wedge;

impl Handler<Wedge> for TransportActor {
    type Result = ();

    fn handle(&mut self, _: Wedge, ctx: &mut Context<Self>) {
        ctx.wait(std::future::pending::<()>().into_actor(self));
    }
}

async fn pair(kinds: &[&str], repairing: bool) -> Simulation {
    let simulation = Simulation::new(5);
    let attempts = if repairing { RepairConfig::default().attempts } else { 0 };
    for name in ["a", "b"] {
        let repair = RepairConfig { attempts, ..RepairConfig::default() };
        simulation.add_node_with(name, NodeOptions { repair, ..NodeOptions::default() }).unwrap();
    }
    for kind in kinds {
        simulation.add_link("a", "b", kind, LinkShape::rtt(Duration::from_millis(20))).unwrap();
    }
    simulation.start().await.unwrap();
    simulation.run_for(2 * SEC).await;
    simulation
}

async fn links(simulation: &Simulation) -> Vec<LinkInfo> {
    let sessions = simulation.handle("a").unwrap().sessions(None).await.unwrap();
    let links = sessions.into_iter().flat_map(|session| session.links);
    links.filter(|link| link.state.is_usable()).map(|link| link.info).collect()
}

async fn has_repaired(node: &NodeHandle, repair: Repair) -> bool {
    let made = node.repairs().await.unwrap().into_iter().flat_map(|status| status.attempts);
    made.into_iter().any(|attempt| attempt.repair == repair && attempt.outcome == RepairOutcome::Healed)
}

#[test]
fn a_ticket_whose_secret_the_peer_does_not_share_is_given_up_for_a_full_handshake() {
    for repairing in [true, false] {
        run(async move {
            let simulation = pair(&["tcp"], repairing).await;
            let (a, b) = (simulation.handle("a").unwrap(), simulation.peer_id("b").unwrap());
            let now = clock::now();
            let ticket = a.services().resume.borrow().for_peer(&b, now).unwrap();
            a.services().resume.borrow_mut().forget_peer(&b);
            let wrong = ResumeTicket { secret: Zeroizing::new([9; 32]), ..ticket };
            a.services().resume.borrow_mut().confirm(wrong, None, now);
            simulation.change("a", "b", "tcp", Direction::Both, &Change::Reset);
            simulation.run_for(60 * SEC).await;
            assert_eq!(!links(&simulation).await.is_empty(), repairing, "{}", simulation.log().text());
            let b = simulation.handle("b").unwrap();
            let healed = has_repaired(&a, Repair::Renegotiate).await || has_repaired(&b, Repair::Renegotiate).await;
            assert_eq!(healed, repairing);
        });
    }
}

#[test]
fn a_wedged_transport_actor_is_restarted_and_links_come_back() {
    for repairing in [true, false] {
        run(async move {
            let simulation = pair(&["tcp"], repairing).await;
            let a = simulation.handle("a").unwrap();
            a.transport(&TransportKind::new("tcp")).unwrap().do_send(Wedge);
            simulation.run_for(SEC).await;
            simulation.change("a", "b", "tcp", Direction::Both, &Change::Reset);
            simulation.run_for(120 * SEC).await;
            assert_eq!(!links(&simulation).await.is_empty(), repairing, "{}", simulation.log().text());
            assert_eq!(has_repaired(&a, Repair::RestartTransport).await, repairing);
        });
    }
}

#[test]
fn a_link_that_stays_degraded_is_reset_and_its_successor_is_well() {
    run(degraded_link_is_reset(false));
}

#[test]
fn a_repair_actor_that_was_restarted_knows_the_links_that_stand() {
    run(degraded_link_is_reset(true));
}

async fn degraded_link_is_reset(restarted: bool) {
    let simulation = pair(&["tcp", "ble"], true).await;
    if restarted {
        simulation.kill_actor("a", "health/repairs").await.unwrap();
        simulation.run_for(SEC).await;
    }
    let (a, b) = (simulation.handle("a").unwrap(), simulation.peer_id("b").unwrap());
    let session = a.peers().send(FindSessionActor(b)).await.unwrap().unwrap();
    let stuck = links(&simulation).await.into_iter().find(|link| link.transport.as_str() == "tcp").unwrap();
    for _ in 0..60 {
        let opinion = LinkOpinion {
            link: stuck.id,
            advice: Advice::Mistrust,
            degrading: Confidence::new(0.95),
            unusable: Confidence::NONE,
            outlook: Outlook::default(),
            doubt: Confidence::NONE,
            findings: Vec::new(),
            quality: Quality::default(),
        };
        session.do_send(opinion);
        let message = Outgoing::new(MessageClass::Critical, "bet");
        simulation.send("a", "b", message).await.unwrap().unwrap();
        simulation.run_for(SEC).await;
    }
    let now: Vec<_> = links(&simulation).await.into_iter().filter(|l| l.transport.as_str() == "tcp").collect();
    assert_eq!(now.len(), 1, "{}", simulation.log().text());
    assert_ne!(now[0].id, stuck.id, "{}", simulation.log().text());
    assert!(has_repaired(&a, Repair::ResetConnection).await, "{}", simulation.log().text());
    let log = simulation.log().text();
    for step in ["CriticalError", "FailureConfirmed", "FailoverStarted"] {
        assert!(!log.contains(step), "what was reset on purpose has failed for nobody: {log}");
    }
    assert!(log.contains("Closed"), "{log}");
}

/// A transport over an adapter that fails until it is opened anew, or for ever.
#[derive(Clone)]
struct Broken {
    below: MemoryTransport,
    broken: Rc<Cell<bool>>,
    heals: bool,
}

fn down() -> TransportError {
    TransportError::Io(io::ErrorKind::NetworkDown.into())
}

impl Transport for Broken {
    fn kind(&self) -> TransportKind {
        self.below.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.below.capabilities()
    }

    fn listen(&self, address: &EndpointAddress) -> LocalBoxFuture<'static, Result<Box<dyn Listener>, TransportError>> {
        self.below.listen(address)
    }

    fn reopen(&self) {
        self.broken.set(self.broken.get() && !self.heals);
    }

    fn dial(
        &self,
        address: &EndpointAddress,
        options: DialOptions,
    ) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        if self.broken.get() { Box::pin(async { Err(down()) }) } else { self.below.dial(address, options) }
    }
}

fn node(name: &str, network: &MemoryNetwork, broken: Option<bool>) -> NodeHandle {
    let below = network.transport(name, &TransportKind::new("ble"));
    let mut registry = Registry::empty();
    let transport = Broken { below, broken: Rc::new(Cell::new(broken.is_some())), heals: broken == Some(true) };
    registry.register("ble", move |_| Ok(Rc::new(transport.clone())));
    let open = TrustConfig { policy: TrustPolicy::Open, ..TrustConfig::default() };
    let trust = Trust::new(&open, [], [], Default::default());
    let mut parts = NodeParts::new(Arc::new(identity_of(name)), trust);
    parts.registry = registry;
    start(parts).unwrap()
}

/// A node whose adapter is broken dials another one for so long.
async fn dialling(heals: bool, time: Duration) -> NodeHandle {
    let network = MemoryNetwork::new(1);
    let (a, b) = (node("a", &network, Some(heals)), node("b", &network, None));
    b.listen("ble://b".parse().unwrap()).await.unwrap();
    a.connect(b.id(), ["ble://b".parse().unwrap()]).await.unwrap();
    tokio::time::sleep(time).await;
    a
}

#[test]
fn an_adapter_that_fails_is_opened_anew() {
    run(async {
        let a = dialling(true, 60 * SEC).await;
        assert!(!a.sessions(None).await.unwrap()[0].links.is_empty());
        assert_eq!(a.transports().await.unwrap()[0].breaker, BreakerState::Closed);
        let events = a.recent_events(1000).await.unwrap();
        let begun = events.iter().filter_map(|event| {
            let EventKind::RepairStarted { repair, .. } = &event.kind else { return None };
            Some(*repair)
        });
        assert_eq!(begun.collect::<Vec<_>>(), [Repair::ReopenAdapter]);
    });
}

#[test]
fn where_nothing_helps_the_limit_is_reached_and_kept() {
    run(async {
        let a = dialling(false, Duration::from_secs(9 * 60)).await;
        let status = a.repairs().await.unwrap();
        let failing = status.iter().find(|status| status.subject.peer.is_none()).unwrap();
        assert!(failing.unrepairable, "{failing:?}");
        assert_ne!(failing.breaker, BreakerState::Closed);
        let most = RepairConfig::default().attempts as usize + 1;
        assert!((5..=most).contains(&failing.attempts.len()), "{failing:?}");
        let events = a.recent_events(10_000).await.unwrap();
        let told = events.iter().filter(|event| matches!(event.kind, EventKind::Unrepairable { .. })).count();
        assert_eq!(told, 1);
    });
}
