//! `bowline id`.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::Global;
use crate::exit::{Exit, Failure};
use crate::identity::{self, KeyFileError};

/// Make or show this node's identity
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a new key; `run` does it by itself at the first start
    New {
        /// Where to write it [default: the key file of the configuration]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show the peer id
    Show,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let (key, path, made) = match args.action {
        Action::New { output } => {
            let path = output.map_or_else(|| global.load().map(|loaded| loaded.key_file()), Ok)?;
            let key = identity::generate().map_err(key_failure)?;
            identity::write_new(&key, &path).map_err(key_failure)?;
            (key, path, true)
        }
        Action::Show => {
            let path = global.load()?.key_file();
            (identity::read(&path).map_err(key_failure)?, path, false)
        }
    };
    let value = json!({ "peer": key.peer_id(), "key_file": path, "created": made });
    global.output().result("id", &value, || key.peer_id().to_string())?;
    if made {
        global.output().remark(&format!("the key is in {}", path.display()));
    }
    Ok(Exit::Ok)
}

/// A failure of the key file, with what to do about it.
pub(crate) fn key_failure(error: KeyFileError) -> Failure {
    let (exit, hint) = match &error {
        KeyFileError::Missing(_) => (Exit::False, "make one with `bowline id new`".to_owned()),
        KeyFileError::Exists(_) => (
            Exit::False,
            "it stays as it is: whoever loses a key loses its name; move it away to make another".to_owned(),
        ),
        KeyFileError::TooWide { path, .. } => {
            (Exit::Permission, format!("make it private with `chmod 600 {}`", path.display()))
        }
        KeyFileError::Malformed(_) => (Exit::Configuration, "restore it from a backup, or move it away".to_owned()),
        KeyFileError::Io { error, .. } if error.kind() == std::io::ErrorKind::PermissionDenied => {
            (Exit::Permission, "check who may use this place".to_owned())
        }
        KeyFileError::Io { .. } => (Exit::Configuration, "check identity.state_dir".to_owned()),
        KeyFileError::NoRandomness => (Exit::GaveUp, "the operating system has to provide them".to_owned()),
    };
    Failure::new(exit, error).hint(hint)
}
