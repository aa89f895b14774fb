//! Two links limited to the same rate against one of them: what a session makes of both at once.

use std::time::Duration;

use bowline::cli::bench::measure::median;
use bowline::cli::demo::forwarder::Conditions;
use bowline_tests::programs;
use bowline_tests::ways::Receiver;

use crate::subjects::Programs;
use crate::table::{Row, Target};

/// What each link carries, in bytes a second: far below what the processors do.
const RATE: u64 = 20_000_000;
/// Socket buffers on the way, in bytes: some milliseconds of the rate.
const BUFFER: u32 = 128 * 1024;
/// The transports of the two links; two kinds, because between two loopback interfaces there is one link of each.
const TRANSPORTS: [&str; 2] = ["tcp", "ws"];

/// Measures it: each link alone, then both.
pub(crate) fn measure(programs: &Programs, runs: usize, quick: bool) -> Vec<Row> {
    let title = format!("striping, 16 KiB, links limited to {} MB/s", RATE / 1_000_000);
    let results: Result<Vec<[f64; 3]>, String> = (0..runs).map(|_| once(programs, quick)).collect();
    let results = match results {
        Ok(results) => results,
        Err(error) => {
            let mut row = Row::new(&title, "both", "MB/s", Err(error));
            row.targets = vec![Target::RatioAtLeast(1.7)];
            return vec![row];
        }
    };
    let mut rows = Vec::new();
    let mut alone: Option<f64> = None;
    for (at, subject) in [TRANSPORTS[0], TRANSPORTS[1], "both"].into_iter().enumerate() {
        let figures: Vec<f64> = results.iter().map(|run| run[at]).collect();
        let mut row = Row::new(&title, subject, "MB/s", median(&figures).ok_or_else(|| "no run".to_owned()));
        row.runs = figures;
        let value = row.value.as_ref().ok().copied();
        if at < 2 {
            alone = alone.zip(value).map(|(alone, value)| alone.max(value)).or(value);
        } else {
            row.ratio = value.zip(alone).map(|(both, alone)| both / alone);
            row.targets = vec![Target::RatioAtLeast(1.7)];
        }
        rows.push(row);
    }
    rows
}

/// Throughput over the first link, the second, and both.
fn once(programs: &Programs, quick: bool) -> Result<[f64; 3], String> {
    let receiver = Receiver::open(&programs.bowline, &TRANSPORTS, Some(BUFFER))?;
    receiver.everywhere(Conditions { bytes_per_second: Some(RATE), ..Conditions::default() });
    let addresses: Vec<String> = receiver.ways.iter().map(|way| way.to.clone()).collect();
    let figure = |over: &[String]| {
        let mut command = programs.command(&programs.bowline, false);
        command.args([
            "bench",
            "messages",
            "--json",
            "--policy",
            "load-balanced",
            "--size",
            "16384",
            "--peer",
            &receiver.peer,
        ]);
        command.args(["--seconds", if quick { "1" } else { "3" }]);
        for address in over {
            command.args(["--to", address]);
        }
        let report = programs::run(command, Duration::from_secs(90)).map_err(|error| error.to_string())?;
        report["mb_per_s"].as_f64().ok_or_else(|| format!("no `mb_per_s` in {report}"))
    };
    Ok([figure(&addresses[..1])?, figure(&addresses[1..])?, figure(&addresses)?])
}
