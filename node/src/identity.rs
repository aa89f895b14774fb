//! The key file: what makes a node itself. Created once with mode 0600 and refused when others can read it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bowline_actors::session::identity::Identity;
use bowline_messages::PeerId;
use data_encoding::BASE32_NOPAD;
use ring::rand::SecureRandom as _;
use zeroize::Zeroizing;

/// What stands before the key, so that the file is recognised and its format can change.
const MARK: &str = "bowline-secret-key-1";
/// The first line, for whoever opens the file.
const HEAD: &str = "# Whoever has this file is this peer. Keep it secret; a copy is a backup.";
/// Key files are a few hundred bytes; more is never read.
const FILE_BYTES_MAX: u64 = 4096;

/// Why a key file could not be read or made. The user's mistake or the system's; no existing file was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is none.
    #[error("there is no key file {path}", path = .0.display())]
    Missing(PathBuf),
    /// There is one, and it was not to be replaced.
    #[error("the key file {path} exists already", path = .0.display())]
    Exists(PathBuf),
    /// Others than its owner can read or write it.
    #[error("the key file {path} is open to others (mode {mode:04o})", path = path.display())]
    TooWide {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else, or was damaged.
    #[error("{path} is not a key file, or was damaged", path = .0.display())]
    Malformed(PathBuf),
    /// The operating system said no.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The file or its directory.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
    /// The system gave no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// A new identity from the system's randomness.
///
/// # Errors
/// [`KeyFileError::NoRandomness`].
pub fn generate() -> Result<Identity, KeyFileError> {
    let mut seed = Zeroizing::new([0; 32]);
    ring::rand::SystemRandom::new().fill(&mut seed[..]).map_err(|_| KeyFileError::NoRandomness)?;
    Ok(Identity::from_seed(&seed))
}

/// Reads a key file.
///
/// # Errors
/// [`KeyFileError`]; nothing was changed.
pub fn read(path: &Path) -> Result<Identity, KeyFileError> {
    let file = File::open(path).map_err(|error| failed(path, error))?;
    refuse_when_wide(&file, path)?;
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| failed(path, error))?;
    parse(&text).ok_or_else(|| KeyFileError::Malformed(path.to_owned()))
}

/// Writes an identity to a new file of mode 0600, making its directory (mode 0700) where it is missing.
///
/// # Errors
/// [`KeyFileError::Exists`] when there is a file already, which stays as it is; [`KeyFileError::Io`].
pub fn write_new(identity: &Identity, path: &Path) -> Result<(), KeyFileError> {
    if let Some(parent) = path.parent() {
        make_private_dir(parent).map_err(|error| failed(parent, error))?;
    }
    let mut file = open_new_private(path).map_err(|error| failed(path, error))?;
    let written = file.write_all(print(identity).as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a key is no key: the next start would refuse it, so it goes at once; its own failure says nothing new.
        let _ = std::fs::remove_file(path);
        failed(path, error)
    })
}

/// Reads the key file, or makes one when there is none. The flag tells whether it was made.
///
/// # Errors
/// [`KeyFileError`].
pub fn read_or_create(path: &Path) -> Result<(Identity, bool), KeyFileError> {
    match read(path) {
        Err(KeyFileError::Missing(_)) => {}
        other => return other.map(|identity| (identity, false)),
    }
    let identity = generate()?;
    match write_new(&identity, path) {
        Ok(()) => Ok((identity, true)),
        // Somebody else was faster; one of the two is the node's name from now on.
        Err(KeyFileError::Exists(_)) => read(path).map(|identity| (identity, false)),
        Err(error) => Err(error),
    }
}

fn failed(path: &Path, error: std::io::Error) -> KeyFileError {
    let kind = error.kind();
    if kind == ErrorKind::NotFound {
        KeyFileError::Missing(path.to_owned())
    } else if kind == ErrorKind::AlreadyExists {
        KeyFileError::Exists(path.to_owned())
    } else if kind == ErrorKind::InvalidData {
        KeyFileError::Malformed(path.to_owned())
    } else {
        KeyFileError::Io { path: path.to_owned(), error }
    }
}

/// The text of the key file. The peer id is in it to be read, and as a check of the key.
fn print(identity: &Identity) -> Zeroizing<String> {
    let seed = Zeroizing::new(BASE32_NOPAD.encode(&identity.seed()[..]));
    Zeroizing::new(format!("{HEAD}\n# peer {}\n{MARK}:{}\n", identity.peer_id(), *seed))
}

fn parse(text: &str) -> Option<Identity> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let encoded = line.strip_prefix(MARK)?.strip_prefix(':')?;
    let bytes = Zeroizing::new(BASE32_NOPAD.decode(encoded.as_bytes()).ok()?);
    let mut seed = Zeroizing::new([0; 32]);
    if bytes.len() != seed.len() {
        return None;
    }
    seed.copy_from_slice(&bytes);
    let identity = Identity::from_seed(&seed);
    let named = text.lines().find_map(|line| line.trim().strip_prefix("# peer ")?.trim().parse::<PeerId>().ok());
    named.is_none_or(|peer| peer == identity.peer_id()).then_some(identity)
}

#[cfg(unix)]
fn refuse_when_wide(file: &File, path: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().map_err(|error| KeyFileError::Io { path: path.to_owned(), error })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyFileError::TooWide { path: path.to_owned(), mode }) }
}

/// Elsewhere the access list of the user's profile directory protects the file.
#[cfg(not(unix))]
fn refuse_when_wide(_file: &File, _path: &Path) -> Result<(), KeyFileError> {
    Ok(())
}

/// Makes a directory that only its owner can enter, and those above it; one that exists stays as it is.
pub(crate) fn make_private_dir(path: &Path) -> std::io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Opens a new file that only its owner can read.
pub(crate) fn open_new_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_made_once_and_stays_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/identity.key");
        assert!(matches!(read(&path), Err(KeyFileError::Missing(_))));
        let (made, true) = read_or_create(&path).unwrap() else { panic!("a new key was expected") };
        let (again, false) = read_or_create(&path).unwrap() else { panic!("the same key was expected") };
        assert_eq!(again.peer_id(), made.peer_id());
        assert_eq!(*again.seed(), *made.seed());
        assert!(matches!(write_new(&made, &path), Err(KeyFileError::Exists(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.key");
        write_new(&generate().unwrap(), &path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path), Err(KeyFileError::TooWide { mode: found, .. }) if found == mode));
        }
    }

    #[test]
    fn the_secret_is_in_the_file_and_in_no_debug_output() {
        let key = Identity::from_seed(&[7; 32]);
        let secret = BASE32_NOPAD.encode(&[7; 32]);
        assert!(print(&key).contains(&secret));
        assert!(!format!("{key:?}").contains(&secret));
        assert_eq!(parse(&print(&key)).unwrap().peer_id(), key.peer_id());
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let key = Identity::from_seed(&[7; 32]);
        let good = print(&key).to_string();
        for bad in ["", "nonsense", &good.replace(MARK, "other"), &good.replace("A4", "B4"), &good[..good.len() - 5]] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
