//! Running this project's programs as real processes: building them, starting them, reading the JSON lines they print, and
//! leaving none behind.

#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Lines that are kept unread; a program that prints more waits.
const LINES_MAX: usize = 100_000;

/// Why a program did not do what it was started for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// It could not be built, found or started.
    #[error("{program}: {error}")]
    Start {
        /// Its name.
        program: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// It did not print in time what was waited for.
    #[error("{program} printed nothing for {waited:?}")]
    Silent {
        /// Its command line.
        program: String,
        /// How long.
        waited: Duration,
    },
    /// It ended without printing what was waited for.
    #[error("{program} ended with {status}: {said}")]
    Ended {
        /// Its command line.
        program: String,
        /// Its exit status.
        status: String,
        /// The last it said on its standard error stream.
        said: String,
    },
    /// It printed something that is not JSON.
    #[error("{program} printed `{line}`, which is not JSON")]
    NotJson {
        /// Its command line.
        program: String,
        /// What it printed.
        line: String,
    },
}

/// The folder that this process's own program was built into, and the profile it was built with.
fn built() -> Option<(PathBuf, &'static str)> {
    let mut folder = std::env::current_exe().ok()?;
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let profile = if folder.ends_with("release") { "release" } else { "dev" };
    Some((folder, profile))
}

/// A program of this workspace (`bowline`, `reference`), built in the same profile and folder as the running one.
///
/// Cargo is asked to build it when it is around, so that a test never runs against yesterday's program; not when `BOWLINE_PROGRAMS_BUILT`
/// says that this was done (as `make test` does: cargo would compile much of it once more, with other features).
///
/// # Errors
/// [`ProgramError::Start`] when it is neither there nor can be built.
pub fn program(name: &str) -> Result<PathBuf, ProgramError> {
    let missing = |error| ProgramError::Start { program: name.to_owned(), error };
    let (folder, profile) = built().ok_or_else(|| missing(std::io::ErrorKind::NotFound.into()))?;
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let built = std::env::var_os("BOWLINE_PROGRAMS_BUILT").is_some() && path.exists();
    if let (Some(cargo), Some(target), false) = (std::env::var_os("CARGO"), folder.parent(), built) {
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--workspace", "--bin", name, "--profile", profile, "--target-dir"])
            .arg(target)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .status()
            .map_err(missing)?;
        if !built.success() {
            return Err(missing(std::io::Error::other("could not be built")));
        }
    }
    if path.exists() { Ok(path) } else { Err(missing(std::io::ErrorKind::NotFound.into())) }
}

/// A process that prints JSON, one object a line. Dropping it ends it and waits until it is gone.
#[derive(Debug)]
pub struct Program {
    line: String,
    child: Child,
    printed: mpsc::Receiver<String>,
    said: mpsc::Receiver<String>,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// [`ProgramError::Start`].
    pub fn start(mut command: Command) -> Result<Self, ProgramError> {
        let line = format!("{command:?}").replace('"', "");
        let start = |error| ProgramError::Start { program: line.clone(), error };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(start)?;
        let printed = child.stdout.take().map(lines).unwrap_or_else(|| mpsc::sync_channel(0).1);
        let said = child.stderr.take().map(lines).unwrap_or_else(|| mpsc::sync_channel(0).1);
        Ok(Self { line, child, printed, said })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line it prints, waiting for `time` at most.
    ///
    /// # Errors
    /// Every [`ProgramError`].
    pub fn next(&mut self, time: Duration) -> Result<Value, ProgramError> {
        match self.printed.recv_timeout(time) {
            Ok(line) => {
                serde_json::from_str(&line).map_err(|_| ProgramError::NotJson { program: self.line.clone(), line })
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(ProgramError::Silent { program: self.line.clone(), waited: time })
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// The last line it prints before it ends, within `time`.
    ///
    /// # Errors
    /// Every [`ProgramError`]; ending with a failure is one even when something was printed.
    pub fn last(mut self, time: Duration) -> Result<Value, ProgramError> {
        let deadline = Instant::now() + time;
        let mut last = None;
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now())) {
                Ok(value) => last = Some(value),
                Err(ended @ ProgramError::Ended { .. }) => {
                    let success = self.child.wait().is_ok_and(|status| status.success());
                    return last.filter(|_| success).ok_or(ended);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn ended(&mut self) -> ProgramError {
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let said: Vec<String> = self.said.iter().collect();
        let from = said.len().saturating_sub(5);
        ProgramError::Ended { program: self.line.clone(), status, said: said[from..].join("; ") }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Runs a command to its end and gives back the last JSON line it prints.
///
/// # Errors
/// Every [`ProgramError`].
pub fn run(command: Command, time: Duration) -> Result<Value, ProgramError> {
    Program::start(command)?.last(time)
}

/// Runs `ip` with these arguments.
///
/// # Errors
/// What it says.
pub fn ip(arguments: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(arguments.split_ascii_whitespace());
    system(command)
}

/// Runs a program of the system to its end.
///
/// # Errors
/// What it says, in English: that decides whether it was not permitted.
pub fn system(mut command: Command) -> Result<(), String> {
    command.env("LC_ALL", "C");
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Whether a program of the system is at hand.
pub fn is_at_hand(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_last_line_counts() {
        let value = run(shell("echo '{\"a\":1}'; echo '{\"a\":2}'"), Duration::from_secs(20)).unwrap();
        assert_eq!(value["a"], 2);
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let error = run(shell("echo '{}'; echo no luck >&2; exit 3"), Duration::from_secs(20)).unwrap_err();
        assert!(error.to_string().ends_with("no luck"), "{error}");
    }

    #[test]
    fn a_program_that_is_dropped_is_gone() {
        let mut program = Program::start(shell("echo '{}'; exec sleep 100")).unwrap();
        program.next(Duration::from_secs(20)).unwrap();
        let process = PathBuf::from(format!("/proc/{}", program.id()));
        drop(program);
        assert!(!process.exists());
    }
}
