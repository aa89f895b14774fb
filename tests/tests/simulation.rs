//! Whole nodes on virtual time: the same seed gives the same run, random faults break no promise, a week is cheap.
#![allow(clippy::unwrap_used, clippy::print_stderr)]
#![allow(clippy::disallowed_methods)] // It measures how much faster than real time a simulation is.

use std::time::{Duration, Instant};

use bowline_actors::testing::sim::{self, Direction, LinkShape, Simulation};
use bowline_actors::transport::memory::{Change, Cut};
use bowline_messages::session::Outgoing;
use bowline_messages::{ChannelId, MessageClass};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const KINDS: [&str; 3] = ["tcp", "ble", "ws"];
/// Messages each way, over three channels.
const MESSAGES: u32 = 60;
const SEEDS: u64 = 200;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One run: two nodes, two or three links, messages both ways, a dozen faults in between, then calm weather.
fn run(seed: u64) -> Result<String, String> {
    sim::run(async move {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let simulation = Simulation::new(seed);
        let said = |error: &dyn std::fmt::Display| error.to_string();
        for name in ["a", "b"] {
            simulation.add_node(name).map_err(|e| said(&e))?;
        }
        let kinds = &KINDS[..random.random_range(2..=3)];
        for kind in kinds {
            let shape = LinkShape {
                rtt: ms(random.random_range(1..120)),
                jitter: ms(random.random_range(0..20)),
                dials: [Direction::Both, Direction::Forward, Direction::Backward][random.random_range(0..3)],
                ..LinkShape::default()
            };
            simulation.add_link("a", "b", kind, shape).map_err(|e| said(&e))?;
        }
        simulation.start().await.map_err(|e| said(&e))?;
        simulation.run_for(Duration::from_secs(2)).await;
        for number in 0..MESSAGES {
            for (from, to) in [("a", "b"), ("b", "a")] {
                let message = Outgoing::new(MessageClass::ALL[(number % 5) as usize], number.to_be_bytes().to_vec())
                    .on(ChannelId(number % 3));
                simulation.send(from, to, message).await.map_err(|e| said(&e))?.map_err(|e| said(&e))?;
            }
            simulation.run_for(ms(random.random_range(1..40))).await;
            if number % 5 == 0 {
                fault(&simulation, kinds, &mut random).await;
            }
        }
        calm(&simulation, kinds);
        simulation.run_for(Duration::from_secs(120)).await;
        check(&simulation)
    })
}

async fn fault(simulation: &Simulation, kinds: &[&str], random: &mut ChaCha8Rng) {
    let kind = kinds[random.random_range(0..kinds.len())];
    let direction = [Direction::Both, Direction::Forward, Direction::Backward][random.random_range(0..3)];
    let node = ["a", "b"][random.random_range(0..2)];
    let change = |change| simulation.change("a", "b", kind, direction, &change);
    match random.random_range(0..10) {
        0 => change(Change::Reset),
        1 => change(Change::Cut(Cut::Vanish)),
        2 => change(Change::Cut(Cut::Hold)),
        3 => change(Change::ExtraDelay(ms(300))),
        4 => change(Change::DropLargerThan(Some(120))),
        // The actor may be between two lives.
        5 => drop(simulation.kill_actor(node, &format!("link({kind})")).await),
        6 => drop(simulation.kill_actor(node, "session").await),
        7 => drop(simulation.kill_actor(node, &format!("transport({kind})")).await),
        8 => {
            simulation.set_paused(node, true).unwrap();
            simulation.run_for(ms(random.random_range(10..3000))).await;
            simulation.set_paused(node, false).unwrap();
        }
        _ => calm(simulation, kinds),
    }
}

fn calm(simulation: &Simulation, kinds: &[&str]) {
    for kind in kinds {
        for change in [Change::Heal, Change::ExtraDelay(Duration::ZERO), Change::DropLargerThan(None)] {
            simulation.change("a", "b", kind, Direction::Both, &change);
        }
    }
}

/// Each message arrived once, and in order within its channel.
fn check(simulation: &Simulation) -> Result<String, String> {
    let log = simulation.log().text();
    let fail = |reason: String| Err(format!("{reason}\n{log}"));
    for node in ["a", "b"] {
        let received = simulation.received(node).map_err(|error| error.to_string())?;
        for channel in 0..3 {
            let of_channel = received.iter().filter(|(_, message)| message.channel == ChannelId(channel));
            let numbers: Vec<u32> =
                of_channel.map(|(_, message)| u32::from_be_bytes(message.payload[..].try_into().unwrap())).collect();
            let wanted: Vec<u32> = (0..MESSAGES).filter(|number| number % 3 == channel).collect();
            if numbers != wanted {
                return fail(format!("{node} received on channel {channel}: {numbers:?}"));
            }
        }
    }
    let unsettled = simulation
        .log()
        .count(0, |entry| entry.name == "Receipt" && entry.fields.iter().any(|(_, v)| v == "Acknowledged"));
    if unsettled != 2 * MESSAGES as usize {
        return fail(format!("{unsettled} receipts say acknowledged"));
    }
    Ok(log)
}

/// The seeds to try: all, or the one that a failure printed.
fn seeds() -> Vec<u64> {
    match std::env::var("BOWLINE_SEED") {
        Ok(seed) => vec![seed.parse().expect("BOWLINE_SEED is a number")],
        Err(_) => (1..=SEEDS).collect(),
    }
}

#[test]
fn the_same_seed_gives_the_same_log_and_no_fault_breaks_the_promise() {
    let mut failures = Vec::new();
    for seed in seeds() {
        let again = format!("BOWLINE_SEED={seed} cargo test -p bowline-tests --test simulation the_same_seed");
        match (run(seed), run(seed)) {
            (Ok(one), Ok(other)) if one == other => {}
            (Ok(one), Ok(other)) => {
                let differ = one.lines().zip(other.lines()).find(|(one, other)| one != other);
                failures.push(format!("seed {seed} gave two logs, first in {differ:?}\nto repeat it: {again}"));
            }
            (Err(error), _) | (_, Err(error)) => {
                let error: String = error.lines().take(40).collect::<Vec<_>>().join("\n");
                failures.push(format!("seed {seed}: {error}\nto repeat it: {again}"));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} seeds failed\n\n{}",
        failures.len(),
        failures[..failures.len().min(3)].join("\n\n")
    );
}

/// How long a week of two idle nodes may take in a release build.
const WEEK_WITHIN: Duration = Duration::from_secs(200);

#[test]
fn a_week_of_two_idle_nodes_is_cheap() {
    let hours = if cfg!(debug_assertions) { 2 } else { 168 };
    let began = Instant::now();
    sim::run(async {
        let simulation = Simulation::new(1);
        for name in ["a", "b"] {
            simulation.add_node(name).unwrap();
        }
        for kind in ["tcp", "ble"] {
            simulation.add_link("a", "b", kind, LinkShape::rtt(ms(30))).unwrap();
        }
        simulation.start().await.unwrap();
        simulation.run_for(Duration::from_secs(10)).await;
        let settled = simulation.log().len();
        simulation.run_for(Duration::from_secs(hours * 3600)).await;
        let since: Vec<_> = simulation.log().since(settled).iter().map(ToString::to_string).collect();
        assert!(since.is_empty(), "{since:#?}");
        simulation.send("a", "b", Outgoing::new(MessageClass::Critical, "good morning")).await.unwrap().unwrap();
        simulation.run_for(Duration::from_secs(1)).await;
        assert_eq!(simulation.received("b").unwrap().len(), 1);
    });
    let took = began.elapsed();
    eprintln!("{hours} virtual hours in {took:.2?}: {:.0} times real time", hours as f64 * 3600.0 / took.as_secs_f64());
    // Ten times what the specification asks for: a busy machine is no failure, a loop that spins is.
    assert!(cfg!(debug_assertions) || took < WEEK_WITHIN, "{hours} virtual hours took {took:?}");
}
