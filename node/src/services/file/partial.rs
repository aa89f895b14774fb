//! Files under way: temporary ones in the folder they are received into, and what is left of them when a receiver was killed.

use std::fs::{DirEntry, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::{FileError, ReceiveRules, Stored, off_the_arbiter};
use crate::services::file_name::numbered;

/// Names that are tried before a file is refused because all are taken.
const NAMES_TRIED: u32 = 1000;
/// New files that are tried: one may be swept away between being made and being locked.
const CREATES_TRIED: u32 = 16;
/// What temporary files are called, around 16 hexadecimal digits.
const AROUND: (&str, &str) = (".bowline-", ".part");

fn fresh_name() -> io::Result<String> {
    let mut random = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random)
        .map_err(|_| io::Error::other("no random numbers"))?;
    Ok(format!("{}{:016x}{}", AROUND.0, u64::from_be_bytes(random), AROUND.1))
}

/// Whether a file is called like one of ours.
fn is_ours(name: &str) -> bool {
    let digits = name.strip_prefix(AROUND.0).and_then(|rest| rest.strip_suffix(AROUND.1));
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Locks a file that was just made. `false`: a sweep came in between, and the file is gone or about to go.
fn hold(file: &File, path: &Path) -> bool {
    match file.try_lock() {
        Ok(()) => is_at(file, path),
        Err(TryLockError::WouldBlock) => false,
        // A file system without locks: nobody can sweep there either.
        Err(TryLockError::Error(_)) => true,
    }
}

/// Whether this very file still has that name.
fn is_at(file: &File, path: &Path) -> bool {
    let there = std::fs::symlink_metadata(path);
    matches!((file.metadata(), there), (Ok(file), Ok(there)) if there.is_file() && is_same(&file, &there))
}

#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}

#[cfg(unix)]
fn is_own(file: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(file) == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_own(_: &Metadata) -> bool {
    true
}

/// Removes what receivers that were killed left in a folder, and says how many files that were. A file that somebody still receives
/// is locked and stays; so does what belongs to another user, and a link, wherever it leads.
pub(crate) async fn sweep(dir: PathBuf) -> usize {
    let swept = tokio::task::spawn_blocking(move || {
        // A folder that is not there has nothing in it.
        let entries = std::fs::read_dir(&dir).into_iter().flatten().map_while(Result::ok);
        let swept = entries.filter(|entry| remove_if_left(entry).unwrap_or(false)).count();
        if swept > 0 {
            tracing::info!(dir = %dir.display(), files = swept, "removed what an earlier receiver had left unfinished");
        }
        swept
    });
    swept.await.unwrap_or(0)
}

/// Removes a file if it is one that was left. Says whether it did.
fn remove_if_left(entry: &DirEntry) -> io::Result<bool> {
    if !entry.file_name().to_str().is_some_and(is_ours) {
        return Ok(false);
    }
    // Of the entry itself: links are not followed.
    let found = entry.metadata()?;
    if !found.is_file() || !is_own(&found) {
        return Ok(false);
    }
    let path = entry.path();
    let file = OpenOptions::new().write(true).open(&path)?;
    // A file system without locks says nothing about who is alive: everything stays.
    let left = is_same(&found, &file.metadata()?) && file.try_lock().is_ok() && is_at(&file, &path);
    if left {
        std::fs::remove_file(&path)?;
    }
    Ok(left)
}

/// A file under way: a temporary one in the folder, removed unless it is kept.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    pub(super) hasher: blake3::Hasher,
    pub(super) bytes: u64,
    kept: bool,
}

impl Partial {
    /// A new one with a name of its own, held by a lock as long as it is under way: that is how [`sweep`] tells it from one that was
    /// left behind.
    pub(super) async fn create(dir: &Path) -> Result<Self, FileError> {
        let dir = dir.to_owned();
        off_the_arbiter(move || {
            let disk = |path: &Path, error| FileError::Disk { path: path.to_owned(), error };
            std::fs::create_dir_all(&dir).map_err(|error| disk(&dir, error))?;
            for _ in 0..CREATES_TRIED {
                let path = dir.join(fresh_name().map_err(|error| disk(&dir, error))?);
                // `create_new` follows no link and opens nothing that is there.
                let mut options = OpenOptions::new();
                let file = options.write(true).create_new(true).open(&path).map_err(|error| disk(&path, error))?;
                if hold(&file, &path) {
                    return Ok(Self { path, file, hasher: blake3::Hasher::new(), bytes: 0, kept: false });
                }
            }
            Err(disk(&dir, io::Error::other("somebody takes new files away at once")))
        })
        .await
    }

    /// Appends a block.
    pub(super) async fn write(mut self, block: Vec<u8>) -> Result<Self, FileError> {
        off_the_arbiter(move || {
            self.hasher.update(&block);
            match self.file.write_all(&block) {
                Ok(()) => {
                    self.bytes += block.len() as u64;
                    Ok(self)
                }
                Err(error) => Err(FileError::Disk { path: self.path.clone(), error }),
            }
        })
        .await
    }

    /// Gives the complete file its name.
    pub(super) async fn keep(
        mut self,
        name: String,
        digest: blake3::Hash,
        rules: ReceiveRules,
    ) -> Result<Stored, FileError> {
        off_the_arbiter(move || {
            let placed = self.file.sync_all().and_then(|()| place(&self.path, &rules.dir, &name, rules.overwrite));
            let path = placed.map_err(|error| FileError::Disk { path: rules.dir.join(&name), error })?;
            self.kept = true;
            Ok(Stored { path, bytes: self.bytes, digest })
        })
        .await
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // A leftover is named so that its owner sees what it is; there is no more to do about it here.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Moves a complete file to its name. Without `overwrite` the name is taken first, atomically and following no link, so that
/// two files that arrive at once never meet.
fn place(partial: &Path, dir: &Path, name: &str, overwrite: bool) -> io::Result<PathBuf> {
    if overwrite {
        let path = dir.join(name);
        std::fs::rename(partial, &path)?;
        return Ok(path);
    }
    for n in 0..NAMES_TRIED {
        let path = dir.join(numbered(name, n));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(placeholder) => {
                drop(placeholder);
                std::fs::rename(partial, &path).inspect_err(|_| {
                    // The empty file that held the name is ours.
                    let _ = std::fs::remove_file(&path);
                })?;
                return Ok(path);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(ErrorKind::AlreadyExists, "all names for it are taken"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn what_was_left_goes_and_what_is_under_way_stays() {
        let dir = tempfile::tempdir().unwrap();
        let left = ".bowline-00112233445566aa.part";
        std::fs::write(dir.path().join(left), "half").unwrap();
        let others =
            [".bowline-x.part", ".bowline-00112233445566aa.part.txt", "bowline-00112233445566aa.part", "a.txt"];
        for other in others {
            std::fs::write(dir.path().join(other), "precious").unwrap();
        }
        let living = Partial::create(dir.path()).await.unwrap();
        let living_name = living.path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(sweep(dir.path().to_owned()).await, 1);
        let now = names(dir.path());
        assert!(!now.contains(&left.to_owned()), "{now:?}");
        assert!(now.contains(&living_name) && others.iter().all(|other| now.contains(&(*other).to_owned())), "{now:?}");
        drop(living);
        assert_eq!(sweep(dir.path().join("missing")).await, 0);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn links_and_folders_with_such_a_name_stay_with_what_is_behind_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("target"), "precious").unwrap();
        std::os::unix::fs::symlink("target", dir.path().join(".bowline-0000000000000001.part")).unwrap();
        std::fs::create_dir(dir.path().join(".bowline-0000000000000002.part")).unwrap();
        assert_eq!(sweep(dir.path().to_owned()).await, 0);
        assert_eq!(names(dir.path()).len(), 3);
        assert_eq!(std::fs::read_to_string(dir.path().join("target")).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_new_file_that_is_swept_away_before_it_is_locked_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".bowline-0000000000000003.part");
        let file = File::create_new(&path).unwrap();
        assert_eq!(sweep(dir.path().to_owned()).await, 1);
        assert!(!hold(&file, &path));
        let (file, sweeper) = (File::create_new(&path).unwrap(), File::open(&path).unwrap());
        sweeper.try_lock().unwrap();
        assert!(!hold(&file, &path));
    }
}
