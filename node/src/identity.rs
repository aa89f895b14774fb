//! The key file: what makes a node itself. Created once with mode 0600 and refused when others can read it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bowline_messages::PeerId;
use data_encoding::BASE32_NOPAD;
use ring::rand::SecureRandom as _;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

/// What stands before the key, so that the file is recognised and its format can change.
const MARK: &str = "bowline-secret-key-1";
/// The first line, for whoever opens the file.
const HEAD: &str = "# Whoever has this file is this peer. Keep it secret; a copy is a backup.";
/// Key files are a few hundred bytes; more is never read.
const FILE_BYTES_MAX: u64 = 4096;

/// A secret key and the peer it makes. Wiped from memory when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey {
    seed: Zeroizing<[u8; 32]>,
    peer: PeerId,
}

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

impl SecretKey {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// [`KeyFileError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyFileError> {
        let mut seed = Zeroizing::new([0; 32]);
        ring::rand::SystemRandom::new().fill(&mut seed[..]).map_err(|_| KeyFileError::NoRandomness)?;
        Self::from_seed(seed).ok_or(KeyFileError::NoRandomness)
    }

    /// The key of a seed (RFC 8032); `None` when the seed is unusable, which no seed of 32 bytes is.
    pub fn from_seed(seed: Zeroizing<[u8; 32]>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed[..]).ok()?;
        let peer = PeerId::from_bytes(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { seed, peer })
    }

    /// The peer this key makes.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// The seed, for the handshake.
    pub fn seed(&self) -> &Zeroizing<[u8; 32]> {
        &self.seed
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyFileError`]; nothing was changed.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
            _ => KeyFileError::Io { path: path.to_owned(), error },
        };
        let file = File::open(path).map_err(failed)?;
        refuse_when_wide(&file, path)?;
        let mut text = Zeroizing::new(String::new());
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => KeyFileError::Malformed(path.to_owned()),
            _ => failed(error),
        })?;
        Self::parse(&text).ok_or_else(|| KeyFileError::Malformed(path.to_owned()))
    }

    /// Writes the key to a new file of mode 0600, making its directory (mode 0700) where it is missing.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] when there is a file already, which stays as it is; [`KeyFileError::Io`].
    pub fn write_new(&self, path: &Path) -> Result<(), KeyFileError> {
        let failed = |path: &Path, error| KeyFileError::Io { path: path.to_owned(), error };
        if let Some(parent) = path.parent() {
            make_private_dir(parent).map_err(|error| failed(parent, error))?;
        }
        let mut file = open_new_private(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
            _ => failed(path, error),
        })?;
        let text = self.print();
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
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
    pub fn read_or_create(path: &Path) -> Result<(Self, bool), KeyFileError> {
        match Self::read(path) {
            Err(KeyFileError::Missing(_)) => {}
            other => return other.map(|key| (key, false)),
        }
        let key = Self::generate()?;
        match key.write_new(path) {
            Ok(()) => Ok((key, true)),
            Err(KeyFileError::Exists(_)) => Self::read(path).map(|key| (key, false)),
            Err(error) => Err(error),
        }
    }

    /// The text of the key file. The peer id is in it to be read, and as a check of the key.
    fn print(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(BASE32_NOPAD.encode(&self.seed[..]));
        Zeroizing::new(format!("{HEAD}\n# peer {}\n{MARK}:{}\n", self.peer, *seed))
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
        let encoded = line.strip_prefix(MARK)?.strip_prefix(':')?;
        let bytes = Zeroizing::new(BASE32_NOPAD.decode(encoded.as_bytes()).ok()?);
        let mut seed = Zeroizing::new([0; 32]);
        if bytes.len() != seed.len() {
            return None;
        }
        seed.copy_from_slice(&bytes);
        let key = Self::from_seed(seed)?;
        let named = text.lines().find_map(|line| line.trim().strip_prefix("# peer ")?.trim().parse::<PeerId>().ok());
        named.is_none_or(|peer| peer == key.peer).then_some(key)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("peer", &self.peer).finish_non_exhaustive()
    }
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
        assert!(matches!(SecretKey::read(&path), Err(KeyFileError::Missing(_))));
        let (made, true) = SecretKey::read_or_create(&path).unwrap() else { panic!("a new key was expected") };
        let (read, false) = SecretKey::read_or_create(&path).unwrap() else { panic!("the same key was expected") };
        assert_eq!(read.peer(), made.peer());
        assert_eq!(*read.seed(), *made.seed());
        assert!(matches!(made.write_new(&path), Err(KeyFileError::Exists(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.key");
        SecretKey::generate().unwrap().write_new(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(SecretKey::read(&path), Err(KeyFileError::TooWide { mode: found, .. }) if found == mode));
        }
    }

    #[test]
    fn the_secret_is_in_the_file_and_in_no_debug_output() {
        let key = SecretKey::from_seed(Zeroizing::new([7; 32])).unwrap();
        let secret = BASE32_NOPAD.encode(&[7; 32]);
        assert!(key.print().contains(&secret));
        assert!(!format!("{key:?}").contains(&secret));
        assert_eq!(SecretKey::parse(&key.print()).unwrap().peer(), key.peer());
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let key = SecretKey::from_seed(Zeroizing::new([7; 32])).unwrap();
        let good = key.print().clone();
        for bad in ["", "nonsense", &good.replace(MARK, "other"), &good.replace("A4", "B4"), &good[..good.len() - 5]] {
            assert!(SecretKey::parse(bad).is_none(), "{bad}");
        }
    }
}
