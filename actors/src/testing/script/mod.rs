//! Message scripts: text files that drive nodes with messages, faults and virtual time, and state what must come out.
//!
//! The language is described in `docs/scripts.md`. A script runs on whole nodes in a [simulation](super::sim); the same seed gives
//! the same run, and a script that fails prints the one command that repeats it.
//!
//! | file | idea |
//! |---|---|
//! | `parse` | lines into commands |
//! | `value` | words into JSON, patterns against entries of the log |
//! | `run` | what each verb does |
//! | `catalogue` | which messages can be sent to which actors, by name |
//! | `show` | reports that scripts record |

mod catalogue;
pub mod parse;
mod run;
mod show;
mod value;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use catalogue::names;
pub use parse::{ParseError, Place};

use super::sim;

/// How scripts are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Another seed than the one the script names.
    pub seed: Option<u64>,
    /// Whether what the script records is taken from this run instead of compared with it.
    pub rewrite: bool,
}

/// A script that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Virtual time that passed.
    pub time: Duration,
    /// Everything that happened, a line for each event.
    pub log: String,
    /// The text of the script with what it recorded in this run.
    pub text: String,
    /// The seed.
    pub seed: u64,
}

/// Why a script did not run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// It cannot be read. The user's mistake.
    #[error("{}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not written as scripts are. Its author's mistake.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Something did not come out as it says.
    #[error("{place}: {reason}\nto repeat it: bowline script {} --seed {seed}", place.file.display())]
    Failed {
        /// The line.
        place: Place,
        /// What came out instead.
        reason: String,
        /// The seed of the run.
        seed: u64,
        /// Everything that happened until then.
        log: String,
    },
}

/// Runs the script in a file, in a system of its own.
///
/// # Errors
/// [`ScriptError`].
pub fn run_file(file: &Path, options: Options) -> Result<Outcome, ScriptError> {
    let read = |source| ScriptError::Read { file: file.to_owned(), source };
    let text = std::fs::read_to_string(file).map_err(read)?;
    run_text(file, &text, options)
}

/// Runs a script, in a system of its own; `file` is for messages only.
///
/// # Errors
/// [`ScriptError`].
pub fn run_text(file: &Path, text: &str, options: Options) -> Result<Outcome, ScriptError> {
    let commands = parse::parse(file, text)?;
    sim::run(run::run(text, commands, options))
}

/// The scripts that are named: files as they are, folders with all `*.script` files below them, in alphabetical order.
///
/// # Errors
/// [`ScriptError::Read`].
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ScriptError> {
    let mut found = Vec::new();
    for path in paths {
        collect(path, true, &mut found)?;
    }
    Ok(found)
}

fn collect(path: &Path, named: bool, found: &mut Vec<PathBuf>) -> Result<(), ScriptError> {
    let read = |source| ScriptError::Read { file: path.to_owned(), source };
    if std::fs::metadata(path).map_err(read)?.is_dir() {
        let entries = std::fs::read_dir(path).map_err(read)?;
        let mut inner = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(read)?;
        inner.sort();
        return inner.iter().try_for_each(|path| collect(path, false, found));
    }
    if named || path.extension().is_some_and(|extension| extension == "script") {
        found.push(path.to_owned());
    }
    Ok(())
}
