//! Finds and reads the configuration.

#[cfg(test)]
mod example;
mod layers;
mod paths;

use std::path::{Path, PathBuf};

use bowline_messages::config::{ConfigError, NodeConfig};

pub use layers::Layers;
pub use paths::Places;

use crate::exit::{Exit, Failure};

/// Configuration files larger than this are not read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is wrong with a configuration. The user's mistake; nothing was started or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFailure {
    /// A line of the file.
    #[error("{path}, line {line}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// An environment variable.
    #[error("environment variable {name}: {reason}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An assignment on the command line.
    #[error("--set {assignment}: {reason}")]
    Assignment {
        /// What was written.
        assignment: String,
        /// What is wrong.
        reason: String,
    },
    /// Layers that are right alone and wrong together.
    #[error("the configuration as a whole is wrong: {0}")]
    Whole(String),
    /// Values outside their ranges; one line each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Values(Vec<ConfigError>),
}

impl ConfigFailure {
    fn file(path: &Path, line: usize, reason: &str) -> Self {
        Self::File { path: path.to_owned(), line, reason: reason.to_owned() }
    }

    fn variable(name: &str, reason: &str) -> Self {
        Self::Variable { name: name.to_owned(), reason: reason.to_owned() }
    }

    fn assignment(assignment: &str, reason: &str) -> Self {
        Self::Assignment { assignment: assignment.to_owned(), reason: reason.to_owned() }
    }

    fn whole(error: &toml::de::Error) -> Self {
        Self::Whole(layers::explain(error.message()))
    }

    fn values(errors: Vec<ConfigError>) -> Self {
        Self::Values(errors)
    }
}

/// A configuration, and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration, checked.
    pub config: NodeConfig,
    /// The file it was read from, if there was one.
    pub file: Option<PathBuf>,
    /// Places that hold for this process.
    pub places: Places,
}

/// What is needed to load the configuration, now and again at a reload.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `--set` assignments, in order.
    pub assignments: Vec<String>,
}

impl Source {
    /// Reads the configuration from its file, the environment of this process and the flags.
    ///
    /// # Errors
    /// [`Failure`] with [`Exit::Configuration`] when something is wrong with it or a named file is missing, and with
    /// [`Exit::Permission`] when a file cannot be read.
    pub fn load(&self) -> Result<Loaded, Failure> {
        let places = Places::from_env();
        let file = self.read_file(&places)?;
        let path = file.as_ref().map(|(path, _)| path.clone());
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let layers = Layers { file, variables, assignments: self.assignments.clone() };
        let config = layers.resolve().map_err(|error| Failure::new(Exit::Configuration, error))?;
        Ok(Loaded { config, file: path, places })
    }

    fn read_file(&self, places: &Places) -> Result<Option<(PathBuf, String)>, Failure> {
        for (path, must_exist) in places.config_candidates(self.file.as_deref()) {
            match read_bounded(&path) {
                Ok(text) => return Ok(Some((path, text))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {}
                Err(error) => return Err(Failure::at(&path, &error, Exit::Configuration)),
            }
        }
        Ok(None)
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("larger than 1 MiB, so hardly a configuration"));
    }
    Ok(text)
}

impl Loaded {
    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.places.state_dir(&self.config)
    }

    /// The key file.
    pub fn key_file(&self) -> PathBuf {
        self.places.key_file(&self.config)
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.places.control_socket(&self.config)
    }
}
