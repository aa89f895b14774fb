//! What a node costs that works: memory, and processor time with ten messages a second, without failures and with one every other
//! second. Both processes are nodes; the costlier one counts.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::time::{Duration, Instant};

use bowline::cli::bench::measure::median;
use bowline::cli::demo::forwarder::Conditions;
use bowline_tests::ways::Receiver;

use crate::subjects::Programs;
use crate::table::{Row, Target};

/// The links between the two.
const TRANSPORTS: [&str; 4] = ["tcp", "tls", "quic", "ws"];
/// Milliseconds from one message to the next, and bytes in each.
const INTERVAL_MS: u32 = 100;
const SIZE: u32 = 200;
/// How long the way in use is silent, and how long it is good again until the next one.
const SILENT: Duration = Duration::from_secs(1);
const GOOD: Duration = Duration::from_secs(1);
/// From the start until it is measured: dialling is over.
const WARM_UP: Duration = Duration::from_secs(3);
/// The kernel's unit of processor time in `/proc`, a second's hundredth on every Linux that Rust runs on.
const TICKS_A_SECOND: f64 = 100.0;

const TITLE: &str = "a node at work: four links, 10 messages of 200 B a second";

/// One run.
struct Cost {
    resident_mib: f64,
    private_mib: f64,
    calm_percent: f64,
    failing_percent: f64,
}

/// Measures it.
pub(crate) fn measure(programs: &Programs, runs: usize, quick: bool) -> Vec<Row> {
    let lasts = Duration::from_secs(if quick { 6 } else { 20 });
    let costs: Result<Vec<Cost>, String> = (0..runs).map(|_| once(programs, lasts)).collect();
    let row = |subject: &str, unit, limit: Option<f64>, of: fn(&Cost) -> f64| {
        let figures = costs.as_ref().map(|costs| costs.iter().map(of).collect::<Vec<_>>()).map_err(Clone::clone);
        let value =
            figures.as_ref().map_err(Clone::clone).and_then(|all| median(all).ok_or_else(|| "no run".to_owned()));
        let mut row = Row::new(TITLE, subject, unit, value);
        row.runs = figures.unwrap_or_default();
        row.targets = limit.map(Target::AtMost).into_iter().collect();
        row
    };
    vec![
        row("resident", "MiB", Some(8.0), |cost| cost.resident_mib),
        row("its own", "MiB", None, |cost| cost.private_mib),
        row("calm", "% CPU", Some(1.0), |cost| cost.calm_percent),
        row("failing", "% CPU", Some(5.0), |cost| cost.failing_percent),
    ]
}

fn once(programs: &Programs, lasts: Duration) -> Result<Cost, String> {
    let receiver = Receiver::open(&programs.bowline, &TRANSPORTS, None)?;
    let drip = receiver.drip((WARM_UP + lasts * 2).as_secs_f64(), INTERVAL_MS, SIZE)?;
    let nodes = [receiver.process.id(), drip.id()];
    let costliest =
        |of: &dyn Fn(u32) -> Result<f64, String>| -> Result<f64, String> { Ok(of(nodes[0])?.max(of(nodes[1])?)) };
    std::thread::sleep(WARM_UP);
    let calm_percent = spent(nodes, || {
        std::thread::sleep(lasts);
        Ok(())
    })?;
    let resident_mib = costliest(&|id| status_mib(id, "VmRSS"))?;
    let private_mib = costliest(&|id| status_mib(id, "RssAnon"))?;
    let failing_percent = spent(nodes, || {
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            let hit = receiver.in_use()?;
            hit.path.set(Conditions::black_hole());
            std::thread::sleep(SILENT);
            hit.path.set(Conditions::default());
            std::thread::sleep(GOOD);
        }
        Ok(())
    })?;
    Ok(Cost { resident_mib, private_mib, calm_percent, failing_percent })
}

/// The share of a processor, in percent, that the costlier of the processes takes while something is done.
fn spent(nodes: [u32; 2], something: impl FnOnce() -> Result<(), String>) -> Result<f64, String> {
    let before = [ticks(nodes[0])?, ticks(nodes[1])?];
    let began = Instant::now();
    something()?;
    let seconds = began.elapsed().as_secs_f64();
    let after = [ticks(nodes[0])?, ticks(nodes[1])?];
    let most = (after[0] - before[0]).max(after[1] - before[1]);
    Ok(100.0 * most / TICKS_A_SECOND / seconds)
}

/// Processor time of a process, in the kernel's unit: user and system.
fn ticks(process: u32) -> Result<f64, String> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // The second field is a name in brackets that may hold anything; user and system time are the 14th and 15th.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().skip(11).take(2));
    let sum = fields.into_iter().flatten().filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(sum)
}

/// A line of a process's status that is in KiB.
fn status_mib(process: u32, name: &str) -> Result<f64, String> {
    let path = format!("/proc/{process}/status");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| format!("no {name} in {path}"))
}
