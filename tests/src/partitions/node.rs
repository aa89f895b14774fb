//! One real node of the group, and its client.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Hosts, Told};

/// Why there was no experiment. Not what it is to find.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// There is no place for its files.
    #[error("no folder: {0}")]
    Folder(std::io::Error),
    /// A program could not be run.
    #[error("{what}: {why}")]
    Program {
        /// Which.
        what: String,
        /// What it said.
        why: String,
    },
    /// The packet filter did not do what it was told.
    #[error("{0}")]
    Hosts(String),
    /// It took too long.
    #[error("the nodes did not {what} in time: {stands}")]
    Stuck {
        /// What they should have done.
        what: String,
        /// How they stand.
        stands: String,
    },
}

/// How a node stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stand {
    /// Whether its application works.
    pub running: bool,
    /// Whether it holds the group to be split, or possibly so.
    pub suspects: bool,
    /// Whether that is acted upon.
    pub split: bool,
    /// The term that it holds the lease of, and until when it does at least.
    pub holds: Option<(u64, Instant)>,
    /// Commands that are not carried out yet.
    pub open: u64,
}

/// A node; dropping it kills it.
#[derive(Debug)]
pub struct Node {
    run: Option<Child>,
    client: Client,
    host: usize,
}

/// The command line of a node that runs.
#[derive(Debug, Clone)]
pub struct Client {
    bowline: PathBuf,
    config: PathBuf,
}

/// Makes identities and configurations, and starts all nodes.
pub(super) fn start_all(bowline: &Path, hosts: &Hosts, folder: &Path, count: usize) -> Result<Vec<Node>, LabError> {
    let clients: Vec<Client> = (0..count)
        .map(|host| Client { bowline: bowline.to_owned(), config: folder.join(format!("{host}.toml")) })
        .collect();
    let states: Vec<PathBuf> = (0..count).map(|host| folder.join(format!("state-{host}"))).collect();
    let mut ids = Vec::new();
    for (client, state) in clients.iter().zip(&states) {
        let text = format!("[identity]\nstate_dir = {:?}\n", state.display().to_string());
        std::fs::write(&client.config, text).map_err(LabError::Folder)?;
        client.json(&["id", "new"])?;
        let shown = client.json(&["id", "show"])?;
        ids.push(shown["peer"].as_str().unwrap_or_default().to_owned());
    }
    for (host, client) in clients.iter().enumerate() {
        let socket = folder.join(format!("{host}.sock")).display().to_string();
        let mut text = format!(
            "[identity]\nstate_dir = {:?}\n[listen]\naddresses = [\"tcp://{}:7700\"]\n[control]\nsocket = {socket:?}\n\
             [group]\nparticipants = {ids:?}\n",
            states[host].display().to_string(),
            Hosts::address(host),
        );
        for (other, id) in ids.iter().enumerate().filter(|(other, _)| *other != host) {
            let address = Hosts::address(other);
            text.push_str(&format!("[peers.host{other}]\nid = {id:?}\naddresses = [\"tcp://{address}:7700\"]\n"));
        }
        std::fs::write(&client.config, text).map_err(LabError::Folder)?;
    }
    let nodes = clients.into_iter().enumerate().map(|(host, client)| Node { run: None, client, host });
    let mut nodes: Vec<Node> = nodes.collect();
    nodes.iter_mut().try_for_each(|node| node.start(hosts))?;
    Ok(nodes)
}

impl Node {
    /// Starts it, or starts it again.
    pub(super) fn start(&mut self, hosts: &Hosts) -> Result<(), LabError> {
        let mut command = hosts.on(self.host, &self.client.bowline);
        command.arg("--config").arg(&self.client.config).args(["--quiet", "run"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = command.spawn();
        let failed = |error: std::io::Error| LabError::Program { what: "bowline run".into(), why: error.to_string() };
        self.run = Some(started.map_err(failed)?);
        Ok(())
    }

    /// Kills it, as a power failure would.
    pub(super) fn kill(&mut self) {
        if let Some(mut run) = self.run.take() {
            // It fails only when it has ended by itself.
            let _ = run.kill();
            let _ = run.wait();
        }
    }

    /// Its command line.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// How it stands; one that does not answer does nothing.
    pub fn stand(&self) -> Stand {
        let asked = Instant::now();
        let Ok(status) = self.client.status() else { return Stand::default() };
        let (standing, partition) = (&status["partition"]["standing"], &status["partition"]);
        let holds = (standing["standing"] == "holder").then(|| {
            let seconds = |value: &Value| value["secs"].as_u64().unwrap_or(0);
            let nanos = standing["remaining"]["nanos"].as_u64().and_then(|nanos| u32::try_from(nanos).ok());
            let remaining = Duration::new(seconds(&standing["remaining"]), nanos.unwrap_or(0));
            (standing["term"].as_u64().unwrap_or(0), asked + remaining)
        });
        Stand {
            running: status["running"] == true,
            suspects: !partition["shape"].is_null(),
            split: partition["split"] == true,
            holds,
            open: status["open"].as_u64().unwrap_or(0),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Client {
    /// Wants a note to be written.
    pub(super) fn write(&self, name: &str) -> Told {
        match self.run(&["group", "set", name, "written"]) {
            Ok((Some(0), _)) => Told::Done,
            // What this node did not accept is not done. It says so by this exit code.
            Ok((Some(1), _)) => Told::Refused,
            Ok(_) | Err(_) => Told::Unknown,
        }
    }

    /// Wants something to be moved between accounts.
    pub(super) fn shift(&self, count: u64) -> Result<(), LabError> {
        let (from, to) = (format!("account-{}", count % 3), format!("account-{}", (count + 1) % 3));
        self.run(&["group", "move", &from, &to, &(count % 50).to_string()]).map(drop)
    }

    /// All notes.
    pub(super) fn list(&self) -> Result<BTreeMap<String, Value>, LabError> {
        let answer = self.json(&["group", "list"])?;
        Ok(answer["notes"].as_object().map(|notes| notes.clone().into_iter().collect()).unwrap_or_default())
    }

    /// Does something that has to succeed.
    pub(super) fn must(&self, arguments: &[&str]) -> Result<(), LabError> {
        let arguments: Vec<&str> = [&["group"], arguments].concat();
        self.json(&arguments).map(drop)
    }

    fn status(&self) -> Result<Value, LabError> {
        let (_, said) = self.run(&["partition", "explain"])?;
        serde_json::from_str(&said).map_err(|error| self.failed(&error))
    }

    fn json(&self, arguments: &[&str]) -> Result<Value, LabError> {
        match self.run(arguments)? {
            (Some(0), said) => serde_json::from_str(&said).map_err(|error| self.failed(&error)),
            (status, said) => Err(self.failed(&format!("{arguments:?} ended with {status:?}: {said}"))),
        }
    }

    fn run(&self, arguments: &[&str]) -> Result<(Option<i32>, String), LabError> {
        let mut command = Command::new(&self.bowline);
        command.arg("--config").arg(&self.config).arg("--json").args(arguments);
        let output = command.output().map_err(|error| self.failed(&error))?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> LabError {
        LabError::Program { what: self.bowline.display().to_string(), why: why.to_string() }
    }
}
