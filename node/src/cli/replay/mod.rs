//! `bowline replay`: recorded links through the node's own machines, measured as the traces' documents define it.
//!
//! | file | idea |
//! |---|---|
//! | `detect` | how soon outages are found, and how often one is seen that is none |
//! | `select` | which link each policy picks, against the best there was |

mod detect;
mod select;

use std::path::{Path, PathBuf};

use bowline_actors::replay::{Folder, FolderError};

use super::Global;
use crate::exit::{Exit, Failure};

/// Replay recorded links through the node's own machines and measure what they decide
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    call: Call,
}

#[derive(Debug, clap::Subcommand)]
enum Call {
    /// How soon outages are found and how often one is seen that is none, beside plain time-outs and phi accrual
    Detect(detect::Args),
    /// Which link each policy picks, second by second, against the best there was
    Select(select::Args),
}

/// Where the traces lie; the same for every call.
#[derive(Debug, Clone, clap::Args)]
struct Traces {
    /// Folder with recorded links (*__*.csv) and scenarios.json
    #[arg(long, value_name = "DIR")]
    traces: PathBuf,
}

impl Traces {
    fn open(&self) -> Result<Folder, Failure> {
        Folder::open(&self.traces).map_err(|error| unreadable(&self.traces, &error))
    }
}

/// What a folder or file that cannot be used means for the command.
fn unreadable(dir: &Path, error: &FolderError) -> Failure {
    let failure = if let FolderError::Read { path, source } = error {
        Failure::at(path, source, Exit::Usage)
    } else {
        Failure::new(Exit::Usage, error)
    };
    failure.hint(format_args!("`--traces {}` should name the folder of recorded links", dir.display()))
}

/// Runs a call.
///
/// # Errors
/// What went wrong, with its exit code.
pub fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    match args.call {
        Call::Detect(args) => detect::run(&args, global),
        Call::Select(args) => select::run(&args, global),
    }
}
