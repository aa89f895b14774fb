//! What `bench serve --log` writes: one line for each numbered message of `bench drip` that reached the application.

#![allow(clippy::disallowed_methods, reason = "it is written by a process in real time")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// A log that has not grown for so long is complete, whatever is missing in it.
const QUIET: Duration = Duration::from_secs(1);

/// One line of the log.
#[derive(Debug, Clone, Deserialize)]
pub struct Arrival {
    /// The number that the sender gave it.
    pub seq: u64,
    /// When, on `CLOCK_MONOTONIC`, in nanoseconds.
    pub mono_ns: u64,
    /// The receiver's end of the link it came over.
    pub link: String,
    /// The number of that link.
    pub link_id: u32,
}

/// How far a log is from what was promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that were accepted and did not arrive.
    pub lost: usize,
    /// Messages that arrived more than once.
    pub duplicated: usize,
    /// Messages that arrived after a later one.
    pub out_of_order: usize,
}

impl Tally {
    /// Counts, when the messages from 0 to `accepted` were accepted.
    pub fn of(arrivals: &[Arrival], accepted: u64) -> Self {
        let mut tally = Self::default();
        let mut seen = BTreeSet::new();
        let mut highest = None;
        for arrival in arrivals {
            if !seen.insert(arrival.seq) {
                tally.duplicated += 1;
            } else if highest.is_some_and(|highest| arrival.seq < highest) {
                tally.out_of_order += 1;
            }
            highest = highest.max(Some(arrival.seq));
        }
        tally.lost = (0..accepted).filter(|seq| !seen.contains(seq)).count();
        tally
    }
}

/// What the log says so far.
///
/// # Errors
/// In words, when it cannot be read.
pub fn arrivals(log: &Path) -> Result<Vec<Arrival>, String> {
    let text = std::fs::read_to_string(log).map_err(|error| format!("{}: {error}", log.display()))?;
    // The last line may still be in the making.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The receiver's end of the link that the newest message came over.
///
/// # Errors
/// In words, when nothing has arrived yet.
pub fn last_link(log: &Path) -> Result<String, String> {
    arrivals(log)?.pop().map(|last| last.link).ok_or_else(|| "nothing has arrived yet".to_owned())
}

/// Reads the log until every accepted message is in it, or no news have come for a second.
///
/// # Errors
/// In words, when it cannot be read.
pub fn settled(log: &Path, accepted: u64) -> Result<Vec<Arrival>, String> {
    let mut last = (Instant::now(), 0);
    loop {
        let arrivals = arrivals(log)?;
        if arrivals.len() as u64 >= accepted || (arrivals.len() == last.1 && last.0.elapsed() > QUIET) {
            return Ok(arrivals);
        }
        if arrivals.len() != last.1 {
            last = (Instant::now(), arrivals.len());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
