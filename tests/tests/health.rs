//! Live nodes use their health monitors: links that worsen are left before they fail, and a node doubts itself before its links.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bowline_actors::testing::log::Entry;
use bowline_actors::testing::sim::{self, Direction, LinkShape, Simulation};
use bowline_actors::transport::memory::{Change, Cut};
use bowline_messages::MessageClass;
use bowline_messages::session::Outgoing;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn field<'a>(entry: &'a Entry, name: &str) -> &'a str {
    entry.fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

fn events(simulation: &Simulation, node: &str, name: &str) -> Vec<Entry> {
    let from = format!("{node}.journal");
    simulation.log().since(0).into_iter().filter(|entry| entry.from == from && entry.name == name).collect()
}

/// Messages from `a` to `b`, one every 20 ms, for so long. Gives how many.
async fn talk(simulation: &Simulation, time: Duration) -> usize {
    let mut sent = 0;
    for _ in 0..time.as_millis() / 20 {
        let message = Outgoing::new(MessageClass::Realtime, "roll");
        simulation.send("a", "b", message).await.unwrap().unwrap();
        simulation.run_for(ms(20)).await;
        sent += 1;
    }
    sent
}

async fn two_nodes(seed: u64, links: &[(&str, Duration)]) -> Simulation {
    let simulation = Simulation::new(seed);
    for name in ["a", "b"] {
        simulation.add_node(name).unwrap();
    }
    for (kind, rtt) in links {
        let shape = LinkShape { jitter: ms(15), ..LinkShape::rtt(*rtt) };
        simulation.add_link("a", "b", kind, shape).unwrap();
    }
    simulation.start().await.unwrap();
    simulation.run_for(Duration::from_secs(3)).await;
    simulation
}

/// TCP gets slower and slower and falls silent at last. The satellite link is slower all the time, so that only a prediction moves traffic to it.
#[test]
fn a_link_that_gets_worse_and_worse_is_left_before_it_dies() {
    sim::run(async {
        let simulation = two_nodes(1, &[("tcp", ms(40)), ("sat", ms(900))]).await;
        let mut sent = talk(&simulation, Duration::from_secs(15)).await;
        assert!(events(&simulation, "a", "LinkStep").iter().all(|step| field(step, "to") == "Closed"));
        for step in 1..=30 {
            simulation.change("a", "b", "tcp", Direction::Both, &Change::ExtraDelay(ms(15) * step));
            sent += talk(&simulation, ms(250)).await;
        }
        // Traffic moves in steps.
        sent += talk(&simulation, Duration::from_secs(3)).await;
        simulation.change("a", "b", "tcp", Direction::Both, &Change::Cut(Cut::Vanish));
        sent += talk(&simulation, Duration::from_secs(2)).await;
        simulation.run_for(Duration::from_secs(10)).await;
        let log = simulation.log().text();
        let left = events(&simulation, "a", "ProactiveFailover");
        let [left] = &left[..] else { panic!("{left:?}\n{log}") };
        assert!(field(left, "from").starts_with("tcp") && field(left, "to").starts_with("sat"), "{left}");
        assert!((0..8).any(|n| field(left, &format!("evidence.findings.{n}.rule")) == "TrendMeetsLimit"), "{left}");
        assert!(field(left, "evidence.alternatives.0.id").starts_with("sat"), "{left}");
        let degraded = events(&simulation, "a", "LinkStep");
        let degraded = degraded.iter().find(|step| field(step, "to") == "Degraded").unwrap();
        assert!(degraded.at <= left.at && degraded.fields.iter().any(|(key, _)| key.starts_with("reason.Worsening")));
        // The link that died had nothing to lose any more.
        assert!(events(&simulation, "a", "FailoverStarted").is_empty(), "{log}");
        assert_eq!(simulation.received("b").unwrap().len(), sent);
    });
}

/// The same without an end: what is only slow for a moment is used on, and nobody fails over.
#[test]
fn noise_is_no_reason_to_leave_a_link() {
    for seed in 1..=5 {
        sim::run(async move {
            let simulation = two_nodes(seed, &[("tcp", ms(40)), ("sat", ms(900))]).await;
            talk(&simulation, Duration::from_secs(60)).await;
            for name in ["ProactiveFailover", "FailoverStarted", "CommonCause", "LocalDoubt"] {
                assert!(events(&simulation, "a", name).is_empty(), "seed {seed}: {name}");
            }
            // A question to the spare may be answered a millisecond after its time-out, once; that is a suspicion, and over with the answer.
            let steps = events(&simulation, "a", "LinkStep");
            let suspected = |step: &&Entry| field(step, "to") == "Degraded" && field(step, "link").starts_with("sat");
            assert!(steps.iter().filter(suspected).count() <= 1, "seed {seed}: {steps:?}");
            let calm = |step: &Entry| suspected(&step) || ["Closed", "Active"].contains(&field(step, "to"));
            assert!(steps.iter().all(calm), "seed {seed}: {steps:?}");
        });
    }
}

/// A process that was stopped finds everybody silent when it goes on. It doubts itself and declares no link dead.
#[test]
fn a_node_that_was_stopped_doubts_itself_and_not_its_links() {
    for seed in 1..=20 {
        sim::run(async move {
            let simulation = two_nodes(seed, &[("tcp", ms(40)), ("ble", ms(60))]).await;
            talk(&simulation, Duration::from_secs(2)).await;
            let stopped_at = simulation.log().now();
            // In the middle of a conversation, for a time in which `b` does not miss it yet.
            simulation.set_paused("a", true).unwrap();
            simulation.run_for(ms(400)).await;
            simulation.set_paused("a", false).unwrap();
            talk(&simulation, Duration::from_secs(2)).await;
            let steps = events(&simulation, "a", "LinkStep");
            // What `b` concluded meanwhile, rightly, it tells; here only what `a` concluded itself counts.
            let own =
                |step: &&Entry| step.at > stopped_at && step.fields.iter().any(|(_, value)| value == "Unacknowledged");
            let steps: Vec<_> = steps.iter().filter(own).collect();
            assert!(steps.is_empty(), "seed {seed}: {steps:?}");
        });
    }
}
