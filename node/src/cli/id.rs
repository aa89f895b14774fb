//! `bowline id`.

use std::io::ErrorKind;
use std::path::PathBuf;

use bowline_actors::session::keyfile::{self, KeyFileError};
use clap::Subcommand;
use serde_json::json;

use super::Global;
use crate::exit::{Exit, Failure};

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
            let key = keyfile::create(&path, &mut crate::randomness()?).map_err(|error| key_failure(&error))?;
            (key, path, true)
        }
        Action::Show => {
            let path = global.load()?.key_file();
            (keyfile::load(&path).map_err(|error| key_failure(&error))?, path, false)
        }
    };
    let value = json!({ "peer": key.peer_id(), "key_file": path, "created": made });
    global.output().result("id", &value, || key.peer_id().to_string())?;
    if made {
        global.output().remark(&format!("the key is in {}", path.display()));
    }
    Ok(Exit::Ok)
}

/// A failure of the key file, with its exit code.
pub(crate) fn key_failure(error: &KeyFileError) -> Failure {
    use bowline_actors::session::private_file::PrivateFileError;
    #[allow(clippy::wildcard_enum_match_arm, reason = "what comes later is a mistake in the file as well")]
    let (exit, hint) = match error {
        KeyFileError::File(file) if file.is_missing() => (Exit::False, "make one with `bowline id new`"),
        KeyFileError::File(file) if file.is_taken() => {
            (Exit::False, "it stays as it is: whoever loses a key loses its name; move it away to make another")
        }
        KeyFileError::File(PrivateFileError::Io { source, .. }) if source.kind() != ErrorKind::PermissionDenied => {
            (Exit::Configuration, "check identity.state_dir")
        }
        KeyFileError::File(PrivateFileError::Io { .. }) => (Exit::Permission, "check who may use this place"),
        KeyFileError::File(_) => return Failure::new(Exit::Permission, error),
        _ => return Failure::new(Exit::Configuration, error),
    };
    Failure::new(exit, error).hint(hint)
}
