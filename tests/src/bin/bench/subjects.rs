//! Who is measured: raw TCP, raw TLS, and Bowline over its transports. Each is a serving process and a calling one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bowline_tests::programs::{self, Program, ProgramError, is_at_hand};
use serde_json::Value;

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(20);
/// How long a call may take beyond what it was asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// The programs that are measured.
pub(crate) struct Programs {
    /// `bowline`.
    pub(crate) bowline: PathBuf,
    /// `reference`.
    pub(crate) reference: PathBuf,
    /// Whether processes can be pinned to a core.
    pub(crate) pins: bool,
}

impl Programs {
    /// Finds them next to this one.
    pub(crate) fn find() -> Result<Self, ProgramError> {
        Ok(Self {
            bowline: programs::program("bowline")?,
            reference: programs::program("reference")?,
            pins: is_at_hand("taskset"),
        })
    }

    /// A command, pinned to the first core where that is asked for and possible.
    pub(crate) fn command(&self, program: &Path, pinned: bool) -> Command {
        if pinned && self.pins {
            let mut command = Command::new("taskset");
            command.args(["-c", "0"]).arg(program);
            command
        } else {
            Command::new(program)
        }
    }
}

/// One line about where this is measured.
pub(crate) fn machine(programs: &Programs) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let pins = if programs.pins { "" } else { "; taskset is missing, nothing is pinned to a core" };
    let profile = if cfg!(debug_assertions) { "; NOT A RELEASE BUILD" } else { "" };
    format!(
        "{cores} cores, {}, {} {}{pins}{profile}",
        model.trim_start_matches([' ', '\t', ':']),
        std::env::consts::OS,
        kernel.trim()
    )
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A TCP connection.
    RawTcp,
    /// A TLS 1.3 connection: what everything is divided by.
    RawTls,
    /// Bowline over a transport.
    Bowline(&'static str),
}

impl Subject {
    /// Its name in the table.
    pub(crate) fn name(self) -> String {
        match self {
            Self::RawTcp => "raw tcp".into(),
            Self::RawTls => "raw tls".into(),
            Self::Bowline(transport) => format!("bowline {transport}"),
        }
    }

    /// Starts its serving process.
    pub(crate) fn serve(self, programs: &Programs, pinned: bool) -> Result<Server, ProgramError> {
        let mut command = match self {
            Self::RawTcp | Self::RawTls => programs.command(&programs.reference, pinned),
            Self::Bowline(_) => programs.command(&programs.bowline, pinned),
        };
        match self {
            Self::RawTcp => command.args(["serve", "tcp"]),
            Self::RawTls => command.args(["serve", "tls"]),
            Self::Bowline(transport) => {
                command.args(["bench", "serve", "--json", "--listen", &format!("{transport}://127.0.0.1:0")])
            }
        };
        let mut program = Program::start(command)?;
        let ready = program.next(READY)?;
        Ok(Server { subject: self, ready, pinned, _program: program })
    }
}

/// A serving process that is ready.
pub(crate) struct Server {
    subject: Subject,
    pinned: bool,
    /// What it said about itself.
    pub(crate) ready: Value,
    _program: Program,
}

impl Server {
    /// Runs one call against it to its end.
    pub(crate) fn call(&self, programs: &Programs, call: &str, options: &[String]) -> Result<Value, ProgramError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut command = match self.subject {
            Subject::RawTcp | Subject::RawTls => {
                let mut command = programs.command(&programs.reference, self.pinned);
                command.args([call, "--address", &text(&self.ready["address"])]);
                if self.subject == Subject::RawTls {
                    command.args(["--certificate", &text(&self.ready["certificate"])]);
                }
                command
            }
            Subject::Bowline(_) => {
                let mut command = programs.command(&programs.bowline, self.pinned);
                command.args(["bench", call, "--json", "--peer", &text(&self.ready["peer"])]);
                for address in self.ready["addresses"].as_array().into_iter().flatten() {
                    command.args(["--to", &text(address)]);
                }
                command
            }
        };
        command.args(options);
        programs::run(command, PATIENCE)
    }
}
