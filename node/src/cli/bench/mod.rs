//! `bowline bench`: the measurements that `make bench` and other programs' races are made of.
//!
//! | file | idea |
//! |---|---|
//! | `serve` | the process that answers |
//! | `calls` | round trips, one-way messages, setting up, idle peers |
//! | `drip` | a steady drip of numbered messages |
//! | `peer` | one node as the benches and the demonstration need it |
//! | `wire` | what their messages look like |
//! | `measure` | clocks, processor time, memory, percentiles |
//!
//! The calls and the fields of their answers are stable: other programs are raced against them.

mod calls;
mod drip;
pub mod measure;
pub(crate) mod peer;
mod serve;
mod wire;

use std::future::Future;
use std::time::Duration;

use bowline_messages::{EndpointAddress, MessageClass, PeerId, PolicyName, UnknownPolicy};

use super::Global;
use super::output::line;
use crate::exit::{Exit, Failure};

/// How long an answer may take before a call has failed, unless `--timeout` says.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measure throughput, latency, set-up, memory and failover between two processes
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    call: Call,
}

#[derive(Debug, clap::Subcommand)]
enum Call {
    /// Answer every other call
    Serve(serve::Args),
    /// Request and answer, one at a time
    Rtt(Common),
    /// One-way messages as fast as they go, each with its receipt
    Messages(Common),
    /// From dialling to the first answer, each time as somebody unknown
    Setup(Common),
    /// What an idle peer costs the serving process in memory
    Idle(Common),
    /// Numbered messages at a steady pace
    Drip(drip::Args),
}

/// What every call needs to know.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// Who answers
    #[arg(long, value_name = "ID")]
    pub(crate) peer: PeerId,
    /// Where it can be reached; may be repeated
    #[arg(long, value_name = "URI", required = true)]
    pub(crate) to: Vec<EndpointAddress>,
    /// Bytes in a message, from 9 (what it asks for, and its number) to 1 MiB
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(wire::HEAD_BYTES as i64..=1 << 20))]
    pub(crate) size: u32,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// How many times, or how many peers [default: 200, idle: 1000]
    #[arg(long)]
    pub(crate) count: Option<usize>,
    /// Class of the messages: realtime, critical, streaming, background, bulk
    #[arg(long, default_value = "critical", value_parser = class)]
    pub(crate) class: MessageClass,
    /// Policy of the messages, as in fastest-first [default: that of the class]
    #[arg(long, value_parser = policy)]
    pub(crate) policy: Option<PolicyName>,
    /// How long an answer may take, besides the time of measuring: what `--timeout` says
    #[arg(skip = PATIENCE)]
    pub(crate) patience: Duration,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        Ok(_) => Err("more than 0, at most 86400".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn class(text: &str) -> Result<MessageClass, String> {
    let name = |class: &MessageClass| format!("{class:?}").to_lowercase();
    let wanted = text.to_lowercase();
    MessageClass::ALL.into_iter().find(|class| name(class) == wanted).ok_or_else(|| {
        let known: Vec<String> = MessageClass::ALL.iter().map(name).collect();
        format!("one of {}", known.join(", "))
    })
}

fn policy(text: &str) -> Result<PolicyName, String> {
    text.parse().map_err(|error: UnknownPolicy| error.to_string())
}

/// Runs a call.
///
/// # Errors
/// What went wrong, with its exit code.
pub fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let json = global.json;
    let timely = |common| Common { patience: global.timeout.unwrap_or(PATIENCE), ..common };
    match args.call {
        Call::Serve(args) => inside(serve::run(args, json)),
        Call::Rtt(common) => inside(calls::rtt(timely(common))).and_then(|report| print("rtt", &report, json)),
        Call::Messages(common) => {
            inside(calls::messages(timely(common))).and_then(|report| print("messages", &report, json))
        }
        Call::Setup(common) => inside(calls::setup(timely(common))).and_then(|report| print("setup", &report, json)),
        Call::Idle(common) => inside(calls::idle(timely(common))).and_then(|report| print("idle", &report, json)),
        Call::Drip(args) => inside(drip::run(args, json)).and_then(|report| print("drip", &report, json)),
    }
}

/// Runs something on an arbiter of its own: this thread's.
pub(crate) fn inside<T: 'static>(work: impl Future<Output = Result<T, Failure>> + 'static) -> Result<T, Failure> {
    // Actors that are made to panic are part of it; their supervisors report them.
    bowline_actors::supervision::report_contained_panics_quietly();
    super::run_as_task(work)
}

/// Prints a report: one line of JSON, or a line for each figure.
fn print(name: &str, report: &serde_json::Value, json: bool) -> Result<Exit, Failure> {
    if json {
        line(&super::output::with_schema(&format!("bench.{name}"), report)?.to_string())?;
    } else {
        for (field, value) in report.as_object().into_iter().flatten() {
            line(&format!("{field:<16} {value}"))?;
        }
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn classes_and_policies_go_by_their_names() {
        assert_eq!(class("Realtime").unwrap(), MessageClass::Realtime);
        assert!(class("urgent").unwrap_err().contains("critical"));
        assert_eq!(policy("load-balanced").unwrap(), PolicyName::LoadBalanced);
        assert_eq!(policy("Redundant").unwrap(), PolicyName::Redundant);
        assert!(policy("best").is_err());
    }
}
