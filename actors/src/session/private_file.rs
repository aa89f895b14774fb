//! Files that only this user may read, written so that a crash leaves the old content or the new one and nothing else.
//!
//! The only file of this crate that asks the operating system about permissions; elsewhere than on Unix there is nothing to ask and the
//! folder's own protection has to do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Why a private file could not be used. The user's or the system's fault; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateFileError {
    /// The operating system said no.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// Others than the owner can read or write it.
    #[error("{} is open to others (mode {mode:04o}); run: chmod 600 '{}'", path.display(), path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its mode, the permission bits only.
        mode: u32,
    },
    /// It is a symbolic link, or was exchanged for another file while it was opened.
    #[error("{} is a symbolic link; give the path of the file itself", path.display())]
    Symlink {
        /// The file.
        path: PathBuf,
    },
    /// It is a folder, a device or a pipe.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It is longer than such a file can be.
    #[error("{} is longer than {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// How long it may be, in bytes.
        limit: usize,
    },
}

impl PrivateFileError {
    /// Whether the file is simply not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the file is there and should not be.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
}

fn failed<'a>(path: &'a Path, action: &'static str) -> impl FnOnce(io::Error) -> PrivateFileError + use<'a> {
    move |source| PrivateFileError::Io { path: path.to_owned(), action, source }
}

/// Reads a whole private file.
///
/// # Errors
/// [`PrivateFileError`]; [`PrivateFileError::is_missing`] when there is none.
pub fn read(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let named = fs::symlink_metadata(path).map_err(failed(path, "read"))?;
    if named.is_symlink() {
        return Err(PrivateFileError::Symlink { path: path.to_owned() });
    }
    if !named.is_file() {
        return Err(PrivateFileError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed(path, "open"))?;
    let opened = file.metadata().map_err(failed(path, "read"))?;
    // What was opened is judged, and it has to be what the name meant a moment ago.
    if !system::same_file(&named, &opened) {
        return Err(PrivateFileError::Symlink { path: path.to_owned() });
    }
    if let Some(mode) = system::mode_too_open(&opened) {
        return Err(PrivateFileError::TooOpen { path: path.to_owned(), mode });
    }
    let mut content = Zeroizing::new(Vec::with_capacity(limit.min(4096) + 1));
    file.take(limit as u64 + 1).read_to_end(&mut content).map_err(failed(path, "read"))?;
    if content.len() > limit {
        return Err(PrivateFileError::TooLong { path: path.to_owned(), limit });
    }
    Ok(content)
}

/// Creates a private file with its content, whole or not at all; its folder is created as well, for this user alone.
///
/// # Errors
/// [`PrivateFileError`]; [`PrivateFileError::is_taken`] when the file is there already, which is left as it is.
pub fn create(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    if let Some(folder) = parent(path) {
        system::create_folder(folder).map_err(failed(folder, "create the folder"))?;
    }
    let temporary = write_temporary(path, content)?;
    // A hard link, unlike a rename, does not replace what somebody else created meanwhile.
    let linked = match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && fs::symlink_metadata(path).is_err() => {
            // A file system without hard links.
            fs::rename(&temporary, path)
        }
        linked => linked,
    };
    let _ = fs::remove_file(&temporary);
    linked.map_err(failed(path, "create"))?;
    system::sync_folder(path).map_err(failed(path, "write its folder"))
}

/// Writes a private file anew, whole or not at all.
///
/// # Errors
/// [`PrivateFileError`]; the old content stays then.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    let temporary = write_temporary(path, content)?;
    fs::rename(&temporary, path).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed(path, "replace")(error)
    })?;
    system::sync_folder(path).map_err(failed(path, "write its folder"))
}

/// Waits until no other process holds this lock; held until the result is dropped. The file stays, empty.
///
/// # Errors
/// [`PrivateFileError`].
pub fn lock(path: &Path) -> Result<File, PrivateFileError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    system::private(&mut options);
    let file = options.open(path).map_err(failed(path, "open"))?;
    file.lock().map_err(failed(path, "lock"))?;
    Ok(file)
}

/// Writes the content to a new file beside `path` and pushes it to the disk.
fn write_temporary(path: &Path, content: &[u8]) -> Result<PathBuf, PrivateFileError> {
    for attempt in 0..100_u32 {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".new-{}-{attempt}", std::process::id()));
        let temporary = path.with_file_name(name);
        let mut options = OpenOptions::new();
        // `create_new` neither follows a link nor opens what somebody put there.
        options.write(true).create_new(true);
        system::private(&mut options);
        let mut file = match options.open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            opened => opened.map_err(failed(&temporary, "create"))?,
        };
        return match file.write_all(content).and_then(|()| file.sync_all()) {
            Ok(()) => Ok(temporary),
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(failed(&temporary, "write")(error))
            }
        };
    }
    Err(failed(path, "create a temporary file beside")(io::ErrorKind::AlreadyExists.into()))
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

#[cfg(unix)]
mod system {
    use std::fs::{DirBuilder, File, Metadata, OpenOptions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
    use std::path::Path;

    pub(super) fn private(options: &mut OpenOptions) {
        options.mode(0o600);
    }

    pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    pub(super) fn mode_too_open(metadata: &Metadata) -> Option<u32> {
        let mode = metadata.mode() & 0o7777;
        (mode & 0o077 != 0).then_some(mode)
    }

    pub(super) fn same_file(a: &Metadata, b: &Metadata) -> bool {
        (a.dev(), a.ino()) == (b.dev(), b.ino())
    }

    /// A new name is safe only once its folder is on the disk.
    pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
        File::open(super::parent(path).unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::{Metadata, OpenOptions};
    use std::io;
    use std::path::Path;

    pub(super) fn private(_: &mut OpenOptions) {}

    pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)
    }

    pub(super) fn mode_too_open(_: &Metadata) -> Option<u32> {
        None
    }

    pub(super) fn same_file(_: &Metadata, _: &Metadata) -> bool {
        true
    }

    pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_created_file_is_private_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/file");
        create(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(create(&path, b"two").unwrap_err().is_taken());
        assert_eq!(&read(&path, 10).unwrap()[..], b"one");
        replace(&path, b"three").unwrap();
        assert_eq!(&read(&path, 10).unwrap()[..], b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_command_that_helps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, b"one").unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path, 10).unwrap_err();
            assert!(matches!(error, PrivateFileError::TooOpen { mode: found, .. } if found == mode));
            assert!(error.to_string().contains(&format!("chmod 600 '{}'", path.display())), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read(&path, 10).is_ok());
    }

    #[test]
    fn links_folders_and_endless_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        create(&path, &[0; 11]).unwrap();
        symlink(&path, &link).unwrap();
        assert!(matches!(read(&link, 20), Err(PrivateFileError::Symlink { .. })));
        assert!(create(&link, b"x").unwrap_err().is_taken());
        assert_eq!(read(&path, 20).unwrap().len(), 11, "the link was not followed");
        assert!(matches!(read(folder.path(), 20), Err(PrivateFileError::NotAFile { .. })));
        assert!(matches!(read(&path, 10), Err(PrivateFileError::TooLong { limit: 10, .. })));
        assert!(read(&folder.path().join("none"), 1).unwrap_err().is_missing());
    }

    #[test]
    fn what_a_crashed_process_left_behind_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(folder.path().join(format!("file.new-{}-0", std::process::id())), b"torn").unwrap();
        create(&path, b"one").unwrap();
        assert_eq!(&read(&path, 10).unwrap()[..], b"one");
    }
}
