//! Running the binary, and nodes that go away with their test.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// What a process may take that has nothing to wait for. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn bowline(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.env_clear().env("HOME", home).env("XDG_RUNTIME_DIR", home).current_dir(home);
    command
}

pub fn run(home: &Path, arguments: &[&str]) -> Output {
    bowline(home).args(arguments).stdin(Stdio::null()).output().unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs a command that has to succeed and gives its JSON.
pub fn json(home: &Path, arguments: &[&str]) -> Value {
    let output = run(home, &[arguments, &["--json"]].concat());
    assert_eq!(code(&output), 0, "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until something holds.
pub fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running node in a home of its own. Killed when dropped.
pub struct Node {
    /// Its home folder, with its configuration, its state, its socket and its `log`.
    pub home: TempDir,
    /// Its process.
    pub process: Child,
    /// What it printed when it was ready.
    pub ready: Value,
}

impl Node {
    pub fn start(config: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join(".config/bowline");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.toml"), config).unwrap();
        Self::start_in(home)
    }

    pub fn start_in(home: TempDir) -> Self {
        Self::start_with(home, |command| command.args(["--listen", "tcp://127.0.0.1:0"]))
    }

    /// With other arguments and variables than usual.
    pub fn start_with(home: TempDir, more: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let log = fs::File::create(home.path().join("log")).unwrap();
        let mut command = bowline(home.path());
        command.args(["run", "--json"]);
        let mut process = more(&mut command).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line);
        let ready = ready.unwrap_or_else(|_| panic!("{}", fs::read_to_string(home.path().join("log")).unwrap()));
        Self { home, process, ready }
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn peer(&self) -> &str {
        self.ready["peer"].as_str().unwrap()
    }

    pub fn ticket(&self) -> String {
        stdout(&run(self.home(), &["ticket", "show"]))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.home().join("log")).unwrap()
    }

    /// Writes its configuration and lets it read it again.
    pub fn reload(&self, config: &str) -> Value {
        fs::write(self.home().join(".config/bowline/config.toml"), config).unwrap();
        json(self.home(), &["reload"])
    }

    /// Its session with another node, if it has one.
    pub fn session(&self, other: &Self) -> Option<Value> {
        let status = json(self.home(), &["status"]);
        status["sessions"].as_array().unwrap().iter().find(|session| session["peer"] == other.peer()).cloned()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two nodes that accept everybody, the first connected to the second.
pub fn two_nodes(config: &str) -> (Node, Node) {
    let nodes = (
        Node::start(&format!("trust.policy = \"open\"\n{config}")),
        Node::start(&format!("trust.policy = \"open\"\n{config}")),
    );
    let connected = json(nodes.0.home(), &["connect", &nodes.1.ticket(), "--timeout", "30s"]);
    assert_eq!(connected["schema"], "bowline.connect/v1");
    assert_eq!(connected["peer"], nodes.1.peer());
    nodes
}

/// A command that prints lines as things happen. Killed when dropped.
pub struct Watcher {
    pub process: Child,
    lines: mpsc::Receiver<String>,
}

impl Watcher {
    pub fn start(home: &Path, arguments: &[&str]) -> Self {
        let mut command = bowline(home);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let stdout = process.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            // Ends with the process, or with whoever listens.
            BufReader::new(stdout).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Self { process, lines }
    }

    /// The next line, which has to come.
    pub fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// A line that is there already.
    pub fn ready(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for a process to end and gives its exit code.
pub fn ended(process: &mut Child) -> i32 {
    until("the process ends", || process.try_wait().unwrap()).code().unwrap_or(-1)
}
