//! What membership costs, how soon it notices, and how often it is wrong, on virtual time.
//!
//! `cargo bench -p bowline-actors --bench membership [-- PART…] [-- --hours N]`; parts: `scale`, `starved`, `split`. Everything follows from
//! seeds: the figures are the same on every machine.
#![allow(missing_docs, clippy::print_stdout, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use bowline_actors::membership::simulation::{Network, Noted, Simulation, Starvation};
use bowline_messages::config::MembershipConfig;
use bowline_messages::membership::MembershipEvent;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| arguments.iter().position(|argument| argument == name).and_then(|n| arguments.get(n + 1));
    let hours = after("--hours").and_then(|hours| hours.parse().ok()).unwrap_or(1000.0);
    let parts = ["scale", "starved", "split"];
    let named = arguments.iter().any(|argument| parts.contains(&argument.as_str()));
    let wanted = |part: &str| !named || arguments.iter().any(|argument| argument == part);
    if wanted("scale") {
        scale();
    }
    if wanted("split") {
        split();
    }
    if wanted("starved") {
        starved(hours);
    }
}

fn form(count: usize, config: MembershipConfig, seed: u64) -> Simulation {
    let mut simulation = Simulation::new(Instant::now(), config, Network::default(), seed);
    simulation.add_group(count, SECOND * 2);
    if !simulation.run_until(600 * SECOND, Simulation::is_complete) {
        println!("{count} nodes were not complete after 10 minutes");
    }
    simulation
}

/// Bytes and packets of each node in a second, and how soon a crash is known.
fn scale() {
    println!("a group forms, rests for a minute, and loses one node; 10–60 ms one way, 1 % of the packets lost");
    println!(
        "{:>5} {:>8} {:>12} {:>10} {:>12} {:>12} {:>12} {:>12} {:>14}",
        "nodes", "runs", "complete s", "B/s·node", "packets/s", "suspected s", "first s", "all p50 s", "all worst s"
    );
    for (count, runs) in [(3, 40), (5, 40), (10, 40), (100, 12), (500, 3)] {
        let (mut formed, mut bytes, mut packets, mut suspected, mut first, mut all) =
            (0.0, 0.0, 0.0, vec![], vec![], vec![]);
        for seed in 0..runs {
            let mut simulation = form(count, MembershipConfig::default(), seed);
            formed += simulation.elapsed().as_secs_f64();
            simulation.run(30 * SECOND);
            let (bytes_before, packets_before) =
                (simulation.bytes.iter().sum::<u64>(), simulation.packets.iter().sum::<u64>());
            simulation.run(60 * SECOND);
            let node_seconds = 60.0 * count as f64;
            bytes += (simulation.bytes.iter().sum::<u64>() - bytes_before) as f64 / node_seconds;
            packets += (simulation.packets.iter().sum::<u64>() - packets_before) as f64 / node_seconds;
            simulation.noted.clear();
            let crashed = simulation.elapsed();
            simulation.crash(1);
            simulation.run_until(180 * SECOND, Simulation::is_complete);
            let since = |noted: &Noted| (noted.at - crashed).as_secs_f64();
            let known = |event: &MembershipEvent| matches!(event, MembershipEvent::Down { peer, .. } if *peer == Simulation::peer(1));
            let doubted = |event: &MembershipEvent| matches!(event, MembershipEvent::Suspected { peer, .. } if *peer == Simulation::peer(1));
            suspected.extend(simulation.noted.iter().find(|noted| doubted(&noted.event)).map(since));
            let down: Vec<f64> = simulation.noted.iter().filter(|noted| known(&noted.event)).map(since).collect();
            first.extend(down.iter().copied().reduce(f64::min));
            all.push(if down.len() + 1 == count { down.iter().copied().fold(0.0, f64::max) } else { f64::INFINITY });
        }
        let runs = f64::from(runs as u32);
        println!(
            "{count:>5} {runs:>8} {:>12.1} {:>10.0} {:>12.2} {:>12.1} {:>12.1} {:>12.1} {:>14.1}",
            formed / runs,
            bytes / runs,
            packets / runs,
            median(&mut suspected),
            median(&mut first),
            median(&mut all),
            all.iter().copied().fold(0.0, f64::max),
        );
    }
    println!();
}

/// How soon each side of a split suspects all of the other, and excludes it; and how soon they are one again.
fn split() {
    println!(
        "a group of 5 is split for a minute: seconds until everybody suspects, excludes, has back the others; median (worst) of 40"
    );
    println!(
        "{:>7} {:>14} {:>18} {:>18} {:>18} {:>18}",
        "split", "sessions tell", "someone suspected", "all suspected", "all excluded", "together again"
    );
    for (first, sessions) in [(1, false), (2, false), (1, true), (2, true)] {
        let (mut any, mut suspected, mut excluded, mut healed) = (vec![], vec![], vec![], vec![]);
        for seed in 0..40 {
            let mut simulation = form(5, MembershipConfig::default(), seed);
            simulation.run(20 * SECOND);
            simulation.noted.clear();
            let began = simulation.elapsed();
            simulation.split(first);
            simulation.run(1500 * MS);
            if sessions {
                // As the sessions of a node do that find all their links silent.
                for node in 0..5 {
                    let now = simulation.now();
                    let others = if node < first { first..5 } else { 0..first };
                    simulation.with(node, |machine| {
                        others.for_each(|other| machine.on_unreachable(now, Simulation::peer(other)))
                    });
                }
            }
            simulation.run(60 * SECOND);
            let lost = |event: &MembershipEvent| matches!(event, MembershipEvent::Suspected { .. });
            let gone = |event: &MembershipEvent| matches!(event, MembershipEvent::Down { .. });
            let wanted = 2 * first * (5 - first);
            let at = |kind: &dyn Fn(&MembershipEvent) -> bool| {
                simulation
                    .noted
                    .iter()
                    .filter(|noted| kind(&noted.event))
                    .map(|noted| (noted.at - began).as_secs_f64())
                    .collect::<Vec<_>>()
            };
            let each: Vec<f64> = (0..5)
                .filter_map(|node| simulation.noted.iter().find(|noted| noted.by == node && lost(&noted.event)))
                .map(|noted| (noted.at - began).as_secs_f64())
                .collect();
            any.push(each.iter().copied().fold(0.0, f64::max));
            suspected.push(at(&lost).get(wanted - 1).copied().unwrap_or(f64::INFINITY));
            excluded.push(at(&gone).get(wanted - 1).copied().unwrap_or(f64::INFINITY));
            let began = simulation.elapsed();
            simulation.heal();
            simulation.run_until(120 * SECOND, Simulation::is_complete);
            healed.push((simulation.elapsed() - began).as_secs_f64());
        }
        let show = |values: &mut Vec<f64>| {
            format!("{:.1} ({:.1})", median(values), values.iter().copied().fold(0.0, f64::max))
        };
        println!(
            "{:>7} {:>14} {:>18} {:>18} {:>18} {:>18}",
            format!("{first}+{}", 5 - first),
            if sessions { "after 1.5 s" } else { "no" },
            show(&mut any),
            show(&mut suspected),
            show(&mut excluded),
            show(&mut healed)
        );
    }
    println!();
}

/// How often a node that runs is excluded, when a tenth of the nodes are starved.
fn starved(hours: f64) {
    println!("a tenth of the nodes is stopped for 0.1–5 s at random, again and again; {hours} node-hours each");
    println!(
        "{:>5} {:>10} {:>22} {:>12} {:>12} {:>12} {:>12} {:>14}",
        "nodes", "runs for", "refinements", "accusations", "exclusions", "victims", "of healthy", "per 1000 n·h"
    );
    let plain = MembershipConfig { doubt_max: 1, suspicion_max: 1, ..MembershipConfig::default() };
    let variants = [("all", MembershipConfig::default()), ("no doubt, one wait", plain)];
    for (name, config) in &variants {
        for (count, runs) in [(100, 100 * MS..5 * SECOND), (10, 100 * MS..5 * SECOND), (100, 10 * SECOND..60 * SECOND)]
        {
            let mut simulation = form(count, config.clone(), 7);
            for node in 0..count.div_ceil(10) {
                simulation.starve(node * 10, Starvation { runs: runs.clone(), stopped: 100 * MS..5 * SECOND });
            }
            simulation.noted.clear();
            let (mut accused, mut excluded, mut healthy, mut victims) = (0_u64, 0_u64, 0_u64, 0_u64);
            let mut node_hours = 0.0;
            while node_hours < hours {
                simulation.run(60 * SECOND);
                node_hours += count as f64 / 60.0;
                for Noted { event, .. } in std::mem::take(&mut simulation.noted) {
                    accused += u64::from(matches!(event, MembershipEvent::Suspected { .. }));
                    victims += u64::from(matches!(event, MembershipEvent::Excluded { .. }));
                    if let MembershipEvent::Down { peer, .. } = event {
                        excluded += 1;
                        healthy += u64::from(simulation.place(&peer).is_some_and(|node| node % 10 != 0));
                    }
                }
            }
            println!(
                "{count:>5} {:>10} {name:>22} {accused:>12} {excluded:>12} {victims:>12} {healthy:>12} {:>14.2}",
                format!("{:.0?}–{:.0?}", runs.start, runs.end),
                excluded as f64 * 1000.0 / node_hours
            );
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
