//! What choosing among 8 links costs, by policy.
//!
//! `cargo bench -p bowline-actors --bench choice [-- --json]`: nanoseconds for one choice, the best of several rounds.
#![allow(missing_docs, clippy::print_stdout, clippy::disallowed_methods)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bowline_actors::session::policy::{Candidate, Chooser, Damping, Forecast, Needs, Smoothing, Wanted};
use bowline_messages::{LinkId, MessageClass, PolicyName};

const ROUNDS: usize = 9;
const CHOICES: u32 = 20_000;
const LINKS: u32 = 8;

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let figures: Vec<_> = PolicyName::ALL.iter().map(|name| (name.as_str(), nanoseconds(*name))).collect();
    if json {
        let fields: Vec<_> = figures.iter().map(|(name, value)| format!("\"{name}_ns\":{value:.0}")).collect();
        println!("{{{}}}", fields.join(","));
    } else {
        for (name, value) in figures {
            println!("{name:<20} {value:>8.0} ns");
        }
    }
}

fn nanoseconds(policy: PolicyName) -> f64 {
    let start = Instant::now();
    let links: Vec<Candidate> = (0..LINKS).map(|id| link(start, id)).collect();
    let mut chooser = Chooser::new(Damping::default(), Needs::default(), 1);
    let wanted = Wanted { policy, class: MessageClass::Critical, bytes: Some(100), apart: false };
    let mut round = || {
        let began = Instant::now();
        for _ in 0..CHOICES {
            black_box(chooser.choose(start, wanted, black_box(&links)));
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(CHOICES)
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn link(start: Instant, id: u32) -> Candidate {
    let mut forecast = Forecast::new(Smoothing::default());
    for step in 0..10 {
        let delay = Duration::from_millis(u64::from(10 + (id * 7 + step) % 13));
        forecast.on_delivered(start + Duration::from_millis(100) * step, delay);
    }
    let known = Candidate { bandwidth: Some(1e6), security: Some(0.5), ..Candidate::unmeasured(LinkId(id)) };
    let candidate = known.with_forecast(&forecast);
    Candidate { delay: candidate.forecast, ..candidate }
}
