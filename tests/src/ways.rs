//! A receiving process with ways to it that can be made bad: `bench serve` behind the forwarder, and `bench drip` that sends to it.

#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

use std::net::SocketAddr;
use std::path::{Path as File, PathBuf};
use std::process::Command;
use std::time::Duration;

use bowline::cli::demo::forwarder::{Conditions, Path, PathKind};
use serde_json::Value;

use crate::arrivals::last_link;
use crate::programs::Program;

/// How long a program may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A path through the forwarder, and the address that it leads to.
#[derive(Debug)]
pub struct Way {
    /// The path.
    pub path: Path,
    /// Where it is entered: an endpoint address.
    pub to: String,
    /// Where it leads: an endpoint address of the receiver.
    pub leads_to: String,
}

impl Way {
    fn open(leads_to: &str, buffer_bytes: Option<u32>) -> Result<Self, String> {
        let strange = || format!("`{leads_to}` is no address of a socket");
        let (transport, target) = leads_to.split_once("://").ok_or_else(strange)?;
        let target: SocketAddr = target.parse().map_err(|_| strange())?;
        let kind = if transport == "quic" { PathKind::Udp } else { PathKind::Tcp };
        let path = Path::open(kind, target, buffer_bytes).map_err(|error| error.to_string())?;
        Ok(Self { to: format!("{transport}://{}", path.address()), leads_to: leads_to.to_owned(), path })
    }
}

/// A receiving process, and the ways to it.
#[derive(Debug)]
pub struct Receiver {
    /// The process.
    pub process: Program,
    /// Who it is.
    pub peer: String,
    /// A way to each of its addresses, in the order of the transports.
    pub ways: Vec<Way>,
    bowline: PathBuf,
    folder: tempfile::TempDir,
    // Keeps the paths running.
    _runtime: tokio::runtime::Runtime,
}

impl Receiver {
    /// Starts a receiver that listens by these transports on the loopback. `buffer_bytes`: of the sockets on the way, for ways that are to
    /// be slow.
    ///
    /// # Errors
    /// In words, what could not be started.
    pub fn open(bowline: &File, transports: &[&str], buffer_bytes: Option<u32>) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut command = Command::new(bowline);
        // Told its addresses, the session would find the way past the forwarder.
        command.args(["bench", "serve", "--json", "--no-advertise", "--log"]).arg(folder.path().join("log"));
        for transport in transports {
            command.args(["--listen", &format!("{transport}://127.0.0.1:0")]);
        }
        let mut process = Program::start(command).map_err(|error| error.to_string())?;
        let ready = process.next(PATIENCE).map_err(|error| error.to_string())?;
        let peer = ready["peer"].as_str().ok_or("the receiver did not say who it is")?.to_owned();
        let entered = runtime.enter();
        let addresses: Vec<&str> =
            ready["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut ways = Vec::new();
        for transport in transports {
            let of_it = |address: &&&str| address.strip_prefix(transport).is_some_and(|rest| rest.starts_with("://"));
            let nth = transports.iter().take(ways.len()).filter(|other| *other == transport).count();
            let address = addresses.iter().filter(of_it).nth(nth);
            let address = address.ok_or_else(|| format!("the receiver does not listen on {transport}"))?;
            ways.push(Way::open(address, buffer_bytes)?);
        }
        drop(entered);
        Ok(Self { process, peer, ways, bowline: bowline.to_owned(), folder, _runtime: runtime })
    }

    /// The log of numbered messages (see [`crate::arrivals`]).
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// A command of `bench` that dials the ways: `drip`, `messages`.
    pub fn caller(&self, call: &str) -> Command {
        let mut command = Command::new(&self.bowline);
        command.args(["bench", call, "--json", "--peer", &self.peer]);
        for way in &self.ways {
            command.args(["--to", &way.to]);
        }
        command
    }

    /// Starts numbered messages to the receiver; comes back when they flow.
    ///
    /// # Errors
    /// In words, when the sender does not start.
    pub fn drip(&self, seconds: f64, interval_ms: u32, size: u32) -> Result<Program, String> {
        let mut command = self.caller("drip");
        command.args(["--seconds", &seconds.to_string(), "--size", &size.to_string()]);
        command.args(["--interval-ms", &interval_ms.to_string()]);
        let mut drip = Program::start(command).map_err(|error| error.to_string())?;
        let started = drip.next(PATIENCE).map_err(|error| error.to_string())?;
        started["start_mono_ns"].as_u64().ok_or("the sender did not say when it began")?;
        Ok(drip)
    }

    /// The way that the newest message came.
    ///
    /// # Errors
    /// In words, when nothing has come, or over something that is none of the ways.
    pub fn in_use(&self) -> Result<&Way, String> {
        let link = last_link(&self.log())?;
        self.ways.iter().find(|way| way.leads_to == link).ok_or_else(|| format!("no way leads to {link}"))
    }

    /// Changes how all ways behave.
    pub fn everywhere(&self, conditions: Conditions) {
        self.ways.iter().for_each(|way| way.path.set(conditions));
    }
}
