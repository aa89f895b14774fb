//! The failover laboratory: a steady drip of messages over one of two cables, something happens to what carries it, and the
//! longest gap between two arrivals at the receiver says how well that was hidden.
//!
//! A run counts only when it is proven that the fault hit what carried the messages (`evidence`).

#![allow(clippy::disallowed_methods, reason = "real networks live in real time")]

mod evidence;
mod namespaces;

use std::path::Path;
use std::time::Duration;

use bowline::cli::bench::measure::mono_ns;
use serde_json::Value;

pub use evidence::Run;
pub use namespaces::{Cable, Namespaces, NoLaboratory};

use crate::arrivals::{last_link, settled};
use crate::programs::Program;
use evidence::{Moment, Report};

/// What happens, once in each run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The cable in use goes silent both ways; nobody is told.
    BlackHole,
    /// The sender's interface of the cable in use goes down.
    LinkDown,
    /// The connection in use is reset. Only TCP has such a thing.
    Reset,
    /// The cable in use goes silent while every message is sent over both.
    RedundantBlackHole,
    /// The actor of the link in use panics in the sending node.
    LinkActorPanic,
    /// The session's actor panics in the sending node.
    SessionActorPanic,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::BlackHole,
        Self::LinkDown,
        Self::Reset,
        Self::RedundantBlackHole,
        Self::LinkActorPanic,
        Self::SessionActorPanic,
    ];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BlackHole => "silent black hole",
            Self::LinkDown => "interface down",
            Self::Reset => "reset",
            Self::RedundantBlackHole => "black hole, Redundant",
            Self::LinkActorPanic => "panic of the link actor",
            Self::SessionActorPanic => "panic of the session actor",
        }
    }

    /// What is to be reached, in milliseconds: the median of the longest gaps, and the worst.
    pub const fn targets_ms(self) -> (f64, Option<f64>) {
        match self {
            Self::BlackHole => (60.0, Some(200.0)),
            Self::LinkDown | Self::Reset => (25.0, None),
            // The first one is the 99th percentile of all gaps here.
            Self::RedundantBlackHole => (15.0, Some(40.0)),
            Self::LinkActorPanic => (50.0, None),
            Self::SessionActorPanic => (250.0, None),
        }
    }

    /// Whether it can happen to links of this transport.
    pub fn applies_to(self, transport: &str) -> bool {
        self != Self::Reset || transport != "quic"
    }
}

/// When the fault happens, and how long the run goes on after it. Not at a multiple of the probes' pace or of the dwell: that is
/// when a session may take another link by preference, and the one that is hit would be in use no more.
const BEFORE: Duration = Duration::from_millis(1730);
const AFTER: Duration = Duration::from_millis(1500);
/// How long anything may take before the run has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a run whose fault hit nothing is done again: the session may take another link just before it is hit.
const ATTEMPTS: usize = 4;

/// Why a run gave no result.
enum NoResult {
    /// Nothing proves that the fault hit what was in use.
    Unproven(String),
    /// Something did not work.
    Broken(String),
}

impl From<String> for NoResult {
    fn from(error: String) -> Self {
        Self::Broken(error)
    }
}

impl From<&str> for NoResult {
    fn from(error: &str) -> Self {
        Self::Broken(error.to_owned())
    }
}

/// Does one run of a fault in a pair of namespaces; again, a few times, when the fault did not hit what was in use.
///
/// # Errors
/// What did not work, in words; also that nothing proves the fault to have hit what was in use.
pub fn run(bowline: &Path, namespaces: &Namespaces, transport: &str, fault: Fault) -> Result<Run, String> {
    let mut missing = String::new();
    for _ in 0..ATTEMPTS {
        match attempt(bowline, namespaces, transport, fault) {
            Ok(run) => return Ok(run),
            Err(NoResult::Broken(error)) => return Err(error),
            Err(NoResult::Unproven(error)) => missing = error,
        }
    }
    Err(missing)
}

fn attempt(bowline: &Path, namespaces: &Namespaces, transport: &str, fault: Fault) -> Result<Run, NoResult> {
    namespaces.heal();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let log = folder.path().join("arrivals.jsonl");
    let failed = |error: crate::programs::ProgramError| error.to_string();

    let mut command = namespaces.far(bowline);
    command.args(["bench", "serve", "--json", "--log"]).arg(&log);
    for cable in Cable::BOTH {
        command.args(["--listen", &format!("{transport}://{}:0", cable.far())]);
    }
    let mut serve = Program::start(command).map_err(failed)?;
    let ready = serve.next(PATIENCE).map_err(failed)?;
    let peer = ready["peer"].as_str().ok_or("the server did not say who it is")?;

    let mut command = namespaces.near(bowline);
    command.args(["bench", "drip", "--json", "--interval-ms", "10", "--size", "200", "--peer", peer]);
    command.args(["--seconds", &(BEFORE + AFTER).as_secs_f64().to_string()]);
    for address in ready["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        command.args(["--to", address]);
    }
    let killed = match fault {
        Fault::LinkActorPanic => Some("link"),
        Fault::SessionActorPanic => Some("session"),
        Fault::BlackHole | Fault::LinkDown | Fault::Reset => None,
        Fault::RedundantBlackHole => {
            command.args(["--policy", "redundant"]);
            None
        }
    };
    if let Some(actor) = killed {
        command.args(["--kill", actor, "--kill-after-ms", &BEFORE.as_millis().to_string()]);
    }
    let mut drip = Program::start(command).map_err(failed)?;
    let started = drip.next(PATIENCE).map_err(failed)?;
    started["start_mono_ns"].as_u64().ok_or("the drip did not say when it began")?;
    std::thread::sleep(BEFORE);
    let cable = in_use(&log)?;
    let begun = mono_ns();
    let hit = match fault {
        Fault::BlackHole | Fault::RedundantBlackHole => namespaces.black_hole(cable).map(|()| Some(cable))?,
        Fault::LinkDown => namespaces.link_down(cable).map(|()| Some(cable))?,
        Fault::Reset => namespaces.reset(cable).map(|()| Some(cable))?,
        // The sender does it by itself, and says when.
        Fault::LinkActorPanic | Fault::SessionActorPanic => None,
    };
    let done = mono_ns();
    let report = drip.last(AFTER + PATIENCE).map_err(failed)?;
    let report: Report = serde_json::from_value(report).map_err(|error| format!("the sender's report: {error}"))?;
    let moment = match &report.killed {
        Some(killed) => Moment { begun: killed.mono_ns, done: killed.mono_ns },
        None => Moment { begun, done },
    };
    let arrivals = settled(&log, report.accepted)?;
    evidence::judge(&arrivals, &report, fault, moment, hit).map_err(NoResult::Unproven)
}

fn in_use(log: &Path) -> Result<Cable, String> {
    let link = last_link(log)?;
    Cable::of(&link).ok_or_else(|| format!("`{link}` is on neither cable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_its_cable() {
        assert_eq!(Cable::of("quic://10.77.2.2:4711"), Some(Cable(2)));
        assert_eq!(Cable::of("tcp://127.0.0.1:1"), None);
    }
}
