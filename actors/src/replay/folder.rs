//! The folder that the traces lie in: `*__*.csv`, one link each, and `scenarios.json`. The only part of the replay that reads files.

use std::path::{Path, PathBuf};

use super::scenario::{self, Scenario};
use super::trace::{Trace, TraceError};

/// A file beyond this many bytes is no trace.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A folder of traces.
#[derive(Debug, Clone)]
pub struct Folder {
    dir: PathBuf,
    names: Vec<String>,
}

/// Why a folder of traces cannot be used. The caller's fault or the files'.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The folder or a file in it cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no trace in it.
    #[error("{}: no traces (files *__*.csv) in this folder", .0.display())]
    NoTraces(PathBuf),
    /// A name leads out of the folder.
    #[error("`{0}` is not the name of a file in the folder")]
    BadName(String),
    /// A trace is broken.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The list of scenarios is broken.
    #[error("{}: {source}", path.display())]
    Scenarios {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl Folder {
    /// The file with the scenarios.
    pub const SCENARIOS: &'static str = "scenarios.json";

    /// Lists a folder.
    ///
    /// # Errors
    /// [`FolderError::Read`] when it cannot be read, [`FolderError::NoTraces`] when there is no trace in it.
    pub fn open(dir: &Path) -> Result<Self, FolderError> {
        let unreadable = |source| FolderError::Read { path: dir.to_owned(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
            if name.contains("__") && name.ends_with(".csv") {
                names.push(name);
            }
        }
        if names.is_empty() {
            return Err(FolderError::NoTraces(dir.to_owned()));
        }
        names.sort();
        Ok(Self { dir: dir.to_owned(), names })
    }

    /// The traces' names, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads one trace.
    ///
    /// # Errors
    /// [`FolderError::BadName`] for a name with a path in it, [`FolderError::Read`], [`FolderError::Trace`].
    pub fn trace(&self, name: &str) -> Result<Trace, FolderError> {
        Ok(Trace::parse(name, &self.text(name)?)?)
    }

    /// Reads the scenarios.
    ///
    /// # Errors
    /// [`FolderError::Read`], [`FolderError::Scenarios`].
    pub fn scenarios(&self) -> Result<Vec<Scenario>, FolderError> {
        let text = self.text(Self::SCENARIOS)?;
        let path = self.dir.join(Self::SCENARIOS);
        scenario::parse(&text).map_err(|source| FolderError::Scenarios { path, source })
    }

    fn text(&self, name: &str) -> Result<String, FolderError> {
        // The names come from a file: they are not to lead anywhere else.
        if Path::new(name).file_name().is_none_or(|file| file != name) {
            return Err(FolderError::BadName(name.to_owned()));
        }
        let path = self.dir.join(name);
        let read = || {
            let bytes = std::fs::metadata(&path)?.len();
            if bytes > FILE_BYTES_MAX {
                return Err(std::io::Error::other(format!("{bytes} bytes are too many")));
            }
            std::fs::read_to_string(&path)
        };
        read().map_err(|source| FolderError::Read { path: path.clone(), source })
    }
}
