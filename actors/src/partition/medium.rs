//! Where a participant keeps what it must not forget: nowhere but in memory, or in a folder.
//!
//! A folder has a journal of records and a file of proofs. Each record of the journal is its length, the first 8 bytes of its BLAKE3 digest, and itself; the
//! journal is synchronized to the medium before a write is over. What a crash left half written at its end is cut off: nobody was told that it is durable.
//! When a snapshot is to be kept, the journal begins anew with what all of it adds up to, as a new file that takes the old one's place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::evidence::EvidenceSnapshot;
use super::group::{Durable, Record};
use super::log::Persist;

/// The name of the journal.
const JOURNAL: &str = "journal";
/// The name of the file of proofs.
const EVIDENCE: &str = "evidence";
/// The length of a record and its check.
const HEAD: usize = 4 + SUM;
/// Bytes of the digest that are kept.
const SUM: usize = 8;

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediumError {
    /// The operating system's fault, or the medium's.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// It is not what was written. The node has to be taken out of the group and come back as a new one, for what it has promised is lost.
    #[error("{path}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// What a participant writes to.
#[derive(Debug)]
pub enum Medium {
    /// Forgets with the process.
    Memory(Durable),
    /// Keeps.
    Folder(Folder),
}

impl Medium {
    /// What is durable.
    pub const fn durable(&self) -> &Durable {
        match self {
            Self::Memory(durable) => durable,
            Self::Folder(folder) => &folder.durable,
        }
    }

    /// Makes records durable, in this order. Blocks.
    ///
    /// # Errors
    /// [`MediumError`]; some of the first ones may be durable.
    pub fn write(&mut self, records: Vec<Record>) -> Result<(), MediumError> {
        match self {
            Self::Memory(durable) => records.into_iter().try_for_each(|record| {
                durable
                    .apply(record)
                    .map_err(|error| MediumError::Damaged { path: "memory".into(), what: error.to_string() })
            }),
            Self::Folder(folder) => folder.write(records),
        }
    }

    /// Makes the proofs durable. Blocks.
    ///
    /// # Errors
    /// [`MediumError`]; the ones from before are.
    pub fn write_evidence(&mut self, evidence: EvidenceSnapshot) -> Result<(), MediumError> {
        match self {
            Self::Memory(durable) => durable.remembered.evidence = evidence,
            Self::Folder(folder) => folder.write_evidence(evidence)?,
        }
        Ok(())
    }
}

/// A folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    journal: File,
    durable: Durable,
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, MediumError> {
    result.map_err(|source| MediumError::File { path: path.to_owned(), source })
}

impl Folder {
    /// Opens a folder, or makes it: then `beginning` is what is durable.
    ///
    /// # Errors
    /// [`MediumError`].
    pub fn open(path: &Path, beginning: Durable) -> Result<Self, MediumError> {
        at(path, fs::create_dir_all(path))?;
        let (name, mut durable) = (path.join(JOURNAL), beginning);
        let bytes = match fs::read(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => at(&name, other)?,
        };
        let whole = read_journal(&name, &bytes, &mut durable)?;
        let mut options = OpenOptions::new();
        let journal = at(&name, options.create(true).truncate(false).write(true).open(&name))?;
        at(&name, journal.set_len(whole as u64).and_then(|()| journal.sync_all()))?;
        at(&name, io::Seek::seek(&mut &journal, io::SeekFrom::End(0)))?;
        let evidence = path.join(EVIDENCE);
        match fs::read(&evidence) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => {
                let read = postcard::from_bytes(&at(&evidence, other)?);
                durable.remembered.evidence = read.map_err(|error| MediumError::Damaged {
                    path: evidence,
                    what: format!("it cannot be read: {error}"),
                })?;
            }
        }
        Ok(Self { path: path.to_owned(), journal, durable })
    }

    fn write(&mut self, records: Vec<Record>) -> Result<(), MediumError> {
        let (name, mut bytes, mut anew) = (self.path.join(JOURNAL), Vec::new(), false);
        for record in records {
            anew |= matches!(record, Record::Log(Persist::Snapshot(_)));
            push(&mut bytes, &record);
            let applied = self.durable.apply(record);
            applied.map_err(|error| MediumError::Damaged { path: name.clone(), what: error.to_string() })?;
        }
        if anew {
            return self.begin_anew();
        }
        at(&name, self.journal.write_all(&bytes).and_then(|()| self.journal.sync_data()))
    }

    /// A journal of what all of it adds up to.
    fn begin_anew(&mut self) -> Result<(), MediumError> {
        let (stored, mut bytes) = (&self.durable.stored, Vec::new());
        if let Some(memory) = self.durable.remembered.lease {
            push(&mut bytes, &Record::Lease(memory));
        }
        push(&mut bytes, &Record::Log(Persist::Vote { term: stored.term, voted_for: stored.voted_for }));
        push(&mut bytes, &Record::Log(Persist::Snapshot(stored.snapshot.clone())));
        let entries = stored.entries.clone();
        push(&mut bytes, &Record::Log(Persist::Append { prev: stored.snapshot.position, entries }));
        self.journal = self.replace(JOURNAL, &bytes)?;
        Ok(())
    }

    fn write_evidence(&mut self, evidence: EvidenceSnapshot) -> Result<(), MediumError> {
        self.replace(EVIDENCE, &postcard::to_allocvec(&evidence).unwrap_or_default())?;
        self.durable.remembered.evidence = evidence;
        Ok(())
    }

    /// Writes a file beside and puts it in the place of the old one: a crash leaves the one or the other.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<File, MediumError> {
        let (new, name) = (self.path.join(format!("{name}.new")), self.path.join(name));
        let mut file = at(&new, File::create(&new))?;
        at(&new, file.write_all(bytes).and_then(|()| file.sync_all()))?;
        at(&name, fs::rename(&new, &name))?;
        // The folder has to have the new name, too. Not every system can synchronize a folder.
        if let Ok(folder) = File::open(&self.path) {
            let _ = folder.sync_all();
        }
        Ok(file)
    }
}

fn push(bytes: &mut Vec<u8>, record: &Record) {
    let encoded = postcard::to_allocvec(record).unwrap_or_default();
    bytes.extend_from_slice(&u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&blake3::hash(&encoded).as_bytes()[..SUM]);
    bytes.extend_from_slice(&encoded);
}

/// Reads records until the end, or until one that is not whole, which only the last one may be. Gives how many bytes are whole.
fn read_journal(path: &Path, bytes: &[u8], durable: &mut Durable) -> Result<usize, MediumError> {
    let damaged = |what: String| MediumError::Damaged { path: path.to_owned(), what };
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
        let (length, sum) = head.split_at(4);
        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
        let Some((encoded, behind)) = behind.split_at_checked(length) else { break };
        if blake3::hash(encoded).as_bytes()[..SUM] != *sum {
            if behind.is_empty() {
                break;
            }
            return Err(damaged(format!("a record at {} is damaged", bytes.len() - rest.len())));
        }
        let record = postcard::from_bytes(encoded).map_err(|error| damaged(error.to_string()))?;
        durable.apply(record).map_err(|error| damaged(error.to_string()))?;
        rest = behind;
    }
    Ok(bytes.len() - rest.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bowline_messages::PeerId;
    use bowline_messages::partition::Term;
    use bytes::Bytes;

    use super::*;
    use crate::partition::lease::Memory;
    use crate::partition::log::wire::Entry;
    use crate::partition::log::{Membership, Position, Snapshot};

    fn beginning() -> Durable {
        Durable::new([PeerId::from_bytes([1; 32])])
    }

    fn append(index: u64, text: &'static str) -> Record {
        let prev = Position { term: u64::from(index > 0), index };
        let first = (index == 0).then_some(Entry::Term(1));
        let entries = first.into_iter().chain([Entry::Command(Bytes::from_static(text.as_bytes()))]).collect();
        Record::Log(Persist::Append { prev, entries })
    }

    fn records() -> Vec<Record> {
        let vote = Persist::Vote { term: 1, voted_for: Some(PeerId::from_bytes([1; 32])) };
        let lease = Memory { term: Term(7), owner: None };
        vec![Record::Log(vote), append(0, "a"), Record::Lease(lease), append(2, "b")]
    }

    fn written(path: &Path) -> Durable {
        let mut folder = Folder::open(path, beginning()).unwrap();
        folder.write(records()).unwrap();
        folder.durable
    }

    #[test]
    fn what_was_written_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let durable = written(dir.path());
        assert_eq!(durable.stored.entries.len(), 3);
        assert_eq!(Folder::open(dir.path(), beginning()).unwrap().durable, durable);
    }

    #[test]
    fn a_snapshot_makes_the_journal_small_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        let mut folder = Folder::open(dir.path(), beginning()).unwrap();
        let membership = Membership::of([PeerId::from_bytes([1; 32])]);
        let snapshot =
            Snapshot { position: Position { term: 1, index: 2 }, membership, state: Bytes::from_static(b"s") };
        folder.write(vec![Record::Log(Persist::Snapshot(snapshot))]).unwrap();
        folder.write(vec![append(3, "c")]).unwrap();
        let again = Folder::open(dir.path(), beginning()).unwrap();
        assert_eq!(again.durable, folder.durable);
        assert_eq!((again.durable.stored.entries.len(), again.durable.remembered.lease.unwrap().term), (2, Term(7)));
    }

    #[test]
    fn what_a_crash_left_half_written_is_cut_off_wherever_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        let name = dir.path().join(JOURNAL);
        let bytes = fs::read(&name).unwrap();
        let mut all = beginning();
        let whole: Vec<Durable> = records()
            .into_iter()
            .map(|record| {
                all.apply(record).unwrap();
                all.clone()
            })
            .collect();
        for length in 0..bytes.len() {
            fs::write(&name, &bytes[..length]).unwrap();
            let mut folder = Folder::open(dir.path(), beginning()).unwrap();
            assert!(folder.durable == beginning() || whole.contains(&folder.durable), "{length}");
            folder.write(vec![Record::Lease(Memory { term: Term(9), owner: None })]).unwrap();
            let again = Folder::open(dir.path(), beginning()).unwrap().durable;
            assert_eq!(again.remembered.lease.unwrap().term, Term(9), "it goes on from there: {length}");
        }
    }

    #[test]
    fn a_damaged_record_in_the_middle_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        let name = dir.path().join(JOURNAL);
        let mut bytes = fs::read(&name).unwrap();
        bytes[HEAD + 1] ^= 1;
        fs::write(&name, &bytes).unwrap();
        assert!(matches!(Folder::open(dir.path(), beginning()), Err(MediumError::Damaged { .. })));
    }
}
