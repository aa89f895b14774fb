//! An attachment that somebody recorded and sends again.

use super::super::handshake::{Entropy, HandshakeConfig, Initiator, InitiatorStep};
use super::*;
use crate::clock;
use crate::testing::sim::{LinkShape, Simulation, identity_of, run};
use crate::transport::{DialOptions, LaneBuffers, Transport};
use bowline_messages::link::Binding;
use bowline_messages::wire::OfferedVersions;
use bowline_messages::wire::hello::{Features, HelloParameters};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::future::poll_fn;

async fn pair() -> Simulation {
    let simulation = Simulation::new(1);
    for name in ["a", "b"] {
        simulation.add_node(name).unwrap();
    }
    simulation.add_link("a", "b", "tcp", LinkShape::rtt(20 * MS)).unwrap();
    simulation.start().await.unwrap();
    simulation.run_for(Duration::from_secs(2)).await;
    simulation
}

async fn events(simulation: &Simulation, node: &str) -> Vec<EventKind> {
    let events = simulation.handle(node).unwrap().recent_events(1000).await;
    events.unwrap().into_iter().map(|event| event.kind).collect()
}

#[test]
fn a_replayed_attachment_under_the_number_of_a_link_that_lives_changes_nothing() {
    run(async {
        let simulation = pair().await;
        let (a, b) = (simulation.handle("a").unwrap(), simulation.handle("b").unwrap());
        let links = || async { b.sessions(None).await.unwrap()[0].links.clone() };
        let living = links().await;
        assert_eq!(living.len(), 1);
        // The packet is what a would send to attach a link: somebody between has seen it, and has none of the keys.
        let ticket = a.services().resume.borrow().for_peer(&b.id(), clock::now()).unwrap();
        let parameters = HelloParameters {
            features: Features::default(),
            incarnation: a.services().incarnation,
            channel_window: 1 << 20,
            message_bytes_max: 1 << 20,
            channels_max: 256,
            ack_delay_max_us: 2000,
        };
        let config =
            HandshakeConfig { versions: OfferedVersions::ours(), parameters, rotation: RotationLimits::default() };
        let entropy = Entropy::from_rng(&mut ChaCha8Rng::seed_from_u64(7));
        let machine = Initiator::attach(identity_of("a").into(), config.into(), ticket, living[0].info.id, entropy);
        let (mut machine, attach) = machine.unwrap();
        let kind = living[0].info.transport.clone();
        let options = DialOptions { expect: b.id(), binding: Binding::Any, timeout: Duration::from_secs(1) };
        let address = "tcp://b".parse().unwrap();
        let mut link = simulation.network().transport("evil", &kind).dial(&address, options).await.unwrap();
        let (mut rest, mut buffers) = (attach, LaneBuffers::default());
        while !rest.is_empty() {
            poll_fn(|cx| link.poll_write(cx, 0, &mut rest)).await.unwrap();
        }
        poll_fn(|cx| link.poll_flush(cx)).await.unwrap();
        let answer = loop {
            if let Some(packet) = bowline_messages::wire::packet::next_packet(buffers.lane(0)).unwrap() {
                break packet;
            }
            poll_fn(|cx| link.poll_read(cx, &mut buffers)).await.unwrap();
        };
        assert!(matches!(machine.on_packet(clock::now(), &answer), Ok(InitiatorStep::Done { .. })), "b attached it");
        simulation.send("a", "b", Outgoing::new(MessageClass::Realtime, vec![0; 8])).await.unwrap().unwrap();
        simulation.run_for(Duration::from_secs(5)).await;
        assert_eq!(simulation.received("b").unwrap().len(), 1);
        let steps =
            |event: &&EventKind| matches!(event, EventKind::LinkStep { .. } | EventKind::FailoverStarted { .. });
        assert_eq!(events(&simulation, "b").await.iter().filter(steps).count(), 0);
        assert_eq!(links().await.iter().map(|l| l.info.id).collect::<Vec<_>>(), [living[0].info.id]);
    });
}
