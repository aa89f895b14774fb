//! What supervision costs: restart time, a supervised message against a plain actix one, ten thousand children.
//!
//! `cargo bench -p bowline-actors --bench supervision [-- --json]`. Ratios are what counts; the times are of this machine.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use actix::prelude::*;
use bowline_actors::supervision::{
    self, ChildSpec, Intensity, RootHandle, StartChild, SupervisorSpec, call, report_contained_panics_quietly,
};
use bowline_messages::supervision::{CountChildren, Restart, Strategy};

const ROUNDS: usize = 7;
const MESSAGES: u32 = 200_000;
const CALLS: u32 = 50_000;
const RESTARTS: u32 = 2_000;
const CHILDREN: usize = 10_000;
const GROUPS: usize = 5_000;

fn main() {
    report_contained_panics_quietly();
    let json = std::env::args().any(|argument| argument == "--json");
    let figures = System::new().block_on(measure());
    if json {
        let fields: Vec<_> = figures.iter().map(|(name, value)| format!("\"{name}\":{value:.3}")).collect();
        println!("{{{}}}", fields.join(","));
    } else {
        for (name, value) in figures {
            println!("{name:<32} {value:>12.3}");
        }
    }
}

async fn measure() -> Vec<(&'static str, f64)> {
    let plain = Plain { seen: 0 }.start();
    let (spec, supervised) = ChildSpec::new("counter", || Supervised { seen: 0 });
    let root = root(Strategy::OneForOne, vec![spec]);
    // Turn about, so that both meet the same state of the machine.
    let (mut told, mut asked) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        told.push((tell(&plain).await, tell(&supervised).await));
        asked.push((ask(&plain).await, ask(&supervised).await));
    }
    root.shutdown().await;
    let (tell_plain, tell_supervised) = medians(told);
    let (ask_plain, ask_supervised) = medians(asked);
    let restart = restarts().await;
    let (start, stop, memory, groups) = many().await;
    vec![
        ("one_way_plain_ns", tell_plain),
        ("one_way_supervised_ns", tell_supervised),
        ("one_way_ratio", tell_supervised / tell_plain),
        ("request_plain_ns", ask_plain),
        ("request_supervised_ns", ask_supervised),
        ("request_ratio", ask_supervised / ask_plain),
        ("restart_us", restart),
        ("children", CHILDREN as f64),
        ("children_start_us_each", start),
        ("children_stop_us_each", stop),
        ("child_idle_bytes", memory),
        ("group_of_three_idle_bytes", groups),
    ]
}

fn root(strategy: Strategy, children: Vec<ChildSpec>) -> RootHandle {
    let plenty = Intensity { restarts: u32::MAX, period: Duration::from_nanos(1) };
    let spec = SupervisorSpec::new("bench", strategy).intensity(plenty);
    children.into_iter().fold(spec, SupervisorSpec::child).start_root()
}

/// Nanoseconds for one message without an answer, sent in batches that the actor drains.
async fn tell<A>(address: &Addr<A>) -> f64
where
    A: Handler<Count> + Handler<Seen>,
    <A as Actor>::Context: actix::dev::ToEnvelope<A, Count> + actix::dev::ToEnvelope<A, Seen>,
{
    let begun = Instant::now();
    for _ in 0..MESSAGES / 100 {
        for _ in 0..100 {
            address.do_send(Count);
        }
        address.send(Seen).await.unwrap();
    }
    per(begun, MESSAGES)
}

/// Nanoseconds for one request and its answer.
async fn ask<A>(address: &Addr<A>) -> f64
where
    A: Handler<Seen>,
    <A as Actor>::Context: actix::dev::ToEnvelope<A, Seen>,
{
    let begun = Instant::now();
    for _ in 0..CALLS {
        address.send(Seen).await.unwrap();
    }
    per(begun, CALLS)
}

/// Microseconds from sending a message that panics to the answer of the fresh actor.
async fn restarts() -> f64 {
    let (spec, address) = ChildSpec::new("fragile", || Supervised { seen: 0 });
    let root = root(Strategy::OneForOne, vec![spec]);
    call(&address, Seen).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..RESTARTS {
        let begun = Instant::now();
        address.do_send(Crash);
        call(&address, Seen).await.unwrap();
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    root.shutdown().await;
    median(times)
}

/// Microseconds to start and to stop one of many dynamic children, and the bytes each one keeps; and those of a group,
/// measured before the children are gone, because memory they freed would be used again and not be seen.
async fn many() -> (f64, f64, f64, f64) {
    let root = root(Strategy::Dynamic, Vec::new());
    let address = root.address().clone();
    let before = resident_bytes();
    let begun = Instant::now();
    for number in 0..CHILDREN {
        let (spec, _) = ChildSpec::new(format!("child-{number}"), || Supervised { seen: 0 });
        let spec = spec.restart(Restart::Temporary);
        address.do_send(StartChild::new(spec));
        if number % 64 == 0 {
            address.send(CountChildren).await.unwrap();
        }
    }
    while address.send(CountChildren).await.unwrap().active < CHILDREN {}
    let start = begun.elapsed().as_secs_f64() * 1e6 / CHILDREN as f64;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let bytes = resident_bytes().saturating_sub(before) as f64 / CHILDREN as f64;
    let groups = groups().await;
    let begun = Instant::now();
    root.shutdown().await;
    let stop = begun.elapsed().as_secs_f64() * 1e6 / CHILDREN as f64;
    (start, stop, bytes, groups)
}

/// Bytes that one idle supervisor with three idle children keeps, as each connected peer has one.
async fn groups() -> f64 {
    let root = root(Strategy::Dynamic, Vec::new());
    let address = root.address().clone();
    let before = resident_bytes();
    for number in 0..GROUPS {
        let group = SupervisorSpec::new(format!("peer-{number}"), Strategy::OneForOne);
        let group = ["session", "link-1", "link-2"]
            .into_iter()
            .fold(group, |group, id| group.child(ChildSpec::new(id, || Supervised { seen: 0 }).0));
        let (spec, _) = group.into_child();
        address.do_send(StartChild::new(spec.restart(Restart::Temporary)));
        address.send(CountChildren).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let bytes = resident_bytes().saturating_sub(before) as f64 / GROUPS as f64;
    root.shutdown().await;
    bytes
}

/// Resident memory of this process in bytes; zero where the system does not tell.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

fn per(begun: Instant, count: u32) -> f64 {
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

fn medians(pairs: Vec<(f64, f64)>) -> (f64, f64) {
    let (left, right) = pairs.into_iter().unzip();
    (median(left), median(right))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[derive(Message)]
#[rtype(result = "()")]
struct Count;

#[derive(Message)]
#[rtype(result = "u64")]
struct Seen;

#[derive(Message)]
#[rtype(result = "()")]
struct Crash;

struct Plain {
    seen: u64,
}

impl Actor for Plain {
    type Context = actix::Context<Self>;
}

struct Supervised {
    seen: u64,
}

impl Actor for Supervised {
    type Context = supervision::Context<Self>;
}

macro_rules! counts {
    ($actor:ty) => {
        impl Handler<Count> for $actor {
            type Result = ();

            fn handle(&mut self, _: Count, _: &mut Self::Context) {
                self.seen += 1;
            }
        }

        impl Handler<Seen> for $actor {
            type Result = u64;

            fn handle(&mut self, _: Seen, _: &mut Self::Context) -> u64 {
                self.seen
            }
        }
    };
}

counts!(Plain);
counts!(Supervised);

impl Handler<Crash> for Supervised {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("crash");
    }
}
