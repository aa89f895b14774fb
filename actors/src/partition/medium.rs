//! Where a participant keeps what it must not forget: nowhere but in memory, or in a folder.
//!
//! A folder has a journal and a file of proofs. What is written at once is one frame of the journal: its length, the first 8 bytes of the BLAKE3 digest of the
//! version of the format, its place, its length and its content, and the records. It is synchronized to the medium before the write is over, and only then it counts here, too. So what a crash
//! left half written can only be the last frame: it is cut off, for nobody was told that it is durable. A bad frame with a good one behind it is damage, and so is
//! a bad first one: a journal begins as a new file with a whole frame that takes its place by its name, at first with an empty one, and when a snapshot is to be
//! kept with what all of it adds up to.
//!
//! Each life of the actor begins by [`Medium::begin`]: what an earlier one still wanted to write is refused from then on, and after a write that failed the folder is
//! read anew, since nobody knows what of it is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::evidence::EvidenceSnapshot;
use super::group::{Durable, Record};
use super::log::{Membership, Persist};
use super::state::transfer::{Digest, digest};

/// The name of the journal.
const JOURNAL: &str = "journal";
/// The name of the file of proofs.
const EVIDENCE: &str = "evidence";
/// The length of a frame and its check.
const HEAD: usize = 4 + SUM;
/// Bytes of the digest that are kept.
const SUM: usize = 8;
/// A journal is written anew when it is so many times as long as what it added up to when it was written anew last: then it is never much longer than what it
/// has to say, and each byte is written anew less than once.
const GROWTH_MAX: u64 = 4;
/// Below this it is not: reading it takes no time.
const LENGTH_MIN: u64 = 1 << 20;
/// The version of what is in records. It is part of every sum, so that a journal of another version is not read as something else.
const VERSION: u8 = 2;

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
    /// An earlier life of the actor wanted to write.
    #[error("this life of the group's actor is over")]
    Over,
    /// It is the journal of a group of others. What was promised to one group is not kept in another one: two sides could be active.
    #[error(
        "{path} was begun with other participants than `[group] participants` names now. Put the list back that it was begun with, which does not change even when \
         somebody is taken out. To begin anew with another one, stop all nodes and remove this folder on each of them"
    )]
    Participants {
        /// The file.
        path: PathBuf,
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
pub struct Medium {
    place: Place,
    /// What there is when nothing was written.
    beginning: Durable,
    /// Lives of the actor so far.
    life: u64,
    /// The newest proofs that were written in this life.
    proofs: u64,
}

#[derive(Debug)]
enum Place {
    Memory(Durable),
    Folder(Folder),
}

impl Medium {
    /// One that forgets with the process.
    pub fn memory(beginning: Durable) -> Self {
        Self { place: Place::Memory(beginning.clone()), beginning, life: 0, proofs: 0 }
    }

    /// A folder, which is made if need be.
    ///
    /// # Errors
    /// [`MediumError`].
    pub fn folder(path: &Path, beginning: Durable) -> Result<Self, MediumError> {
        let place = Place::Folder(Folder::open(path, beginning.clone())?);
        Ok(Self { place, beginning, life: 0, proofs: 0 })
    }

    /// Begins another life of the actor. Gives its number, and what is durable.
    ///
    /// # Errors
    /// [`MediumError`].
    pub fn begin(&mut self) -> Result<(u64, Durable), MediumError> {
        self.life += 1;
        self.proofs = 0;
        let durable = match &mut self.place {
            Place::Memory(durable) => durable.clone(),
            Place::Folder(folder) => {
                if folder.failed {
                    *folder = Folder::open(&folder.path, self.beginning.clone())?;
                }
                folder.durable.clone()
            }
        };
        Ok((self.life, durable))
    }

    /// Whether it forgets with the process, and never blocks.
    pub const fn is_memory(&self) -> bool {
        matches!(self.place, Place::Memory(_))
    }

    /// Makes records durable, in this order. Blocks.
    ///
    /// # Errors
    /// [`MediumError`]; some of them may be durable, which the next life sees.
    pub fn write(&mut self, life: u64, records: Vec<Record>) -> Result<(), MediumError> {
        self.check(life)?;
        match &mut self.place {
            Place::Memory(durable) => apply(durable, records, Path::new("memory")),
            Place::Folder(folder) => folder.write(records),
        }
    }

    /// Makes proofs durable, unless newer ones are. Blocks.
    ///
    /// # Errors
    /// [`MediumError`]; the ones from before are.
    pub fn write_evidence(&mut self, life: u64, number: u64, proofs: EvidenceSnapshot) -> Result<(), MediumError> {
        self.check(life)?;
        if number <= self.proofs {
            return Ok(());
        }
        self.proofs = number;
        match &mut self.place {
            Place::Memory(durable) => durable.remembered.evidence = proofs,
            Place::Folder(folder) => folder.write_evidence(proofs)?,
        }
        Ok(())
    }

    const fn check(&self, life: u64) -> Result<(), MediumError> {
        if life == self.life { Ok(()) } else { Err(MediumError::Over) }
    }
}

fn apply(durable: &mut Durable, records: Vec<Record>, path: &Path) -> Result<(), MediumError> {
    records.into_iter().try_for_each(|record| {
        let applied = durable.apply(record);
        applied.map_err(|error| MediumError::Damaged { path: path.to_owned(), what: error.to_string() })
    })
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    journal: File,
    /// Bytes of the journal.
    length: u64,
    /// Those that it had when it was written anew last.
    began: u64,
    /// Who takes part at the very beginning, as a digest.
    participants: Digest,
    durable: Durable,
    /// A write failed: what is there is not known.
    failed: bool,
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, MediumError> {
    result.map_err(|source| MediumError::File { path: path.to_owned(), source })
}

/// A new name in a folder is durable when the folder is. Not every system can synchronize a folder.
fn synchronize(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

impl Folder {
    fn open(path: &Path, beginning: Durable) -> Result<Self, MediumError> {
        at(path, fs::create_dir_all(path))?;
        let participants = digest_of(&beginning.stored.snapshot.membership);
        let (name, mut durable) = (path.join(JOURNAL), beginning);
        let bytes = match fs::read(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let empty = frame(0, &[Record::Participants(participants)]);
                replace(path, JOURNAL, &empty)?;
                empty
            }
            other => at(&name, other)?,
        };
        let length = read_journal(&name, &bytes, &mut durable, participants)? as u64;
        let mut options = OpenOptions::new();
        let journal = at(&name, options.write(true).open(&name))?;
        at(&name, journal.set_len(length).and_then(|()| journal.sync_all()))?;
        at(&name, io::Seek::seek(&mut &journal, io::SeekFrom::End(0)))?;
        [Some(path), path.parent()].into_iter().flatten().for_each(synchronize);
        let evidence = path.join(EVIDENCE);
        match fs::read(&evidence) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => {
                let read = postcard::from_bytes(&at(&evidence, other)?);
                let what = |error| format!("it cannot be read: {error}");
                durable.remembered.evidence =
                    read.map_err(|error| MediumError::Damaged { path: evidence, what: what(error) })?;
            }
        }
        // How much of it is needed is not known: the first write may write it anew.
        let path = path.to_owned();
        Ok(Self { path, journal, length, began: 0, participants, durable, failed: false })
    }

    fn write(&mut self, records: Vec<Record>) -> Result<(), MediumError> {
        let written = self.try_write(records);
        self.failed |= written.is_err();
        written
    }

    fn try_write(&mut self, records: Vec<Record>) -> Result<(), MediumError> {
        let name = self.path.join(JOURNAL);
        let is_long = self.length >= LENGTH_MIN.max(GROWTH_MAX * self.began);
        if is_long || records.iter().any(|record| matches!(record, Record::Log(Persist::Snapshot(_)))) {
            let mut durable = self.durable.clone();
            apply(&mut durable, records, &name)?;
            (self.journal, self.length) = self.begin_anew(&durable)?;
            self.began = self.length;
            self.durable = durable;
            return Ok(());
        }
        let frame = frame(self.length, &records);
        at(&name, self.journal.write_all(&frame).and_then(|()| self.journal.sync_data()))?;
        self.length += frame.len() as u64;
        apply(&mut self.durable, records, &name)
    }

    /// A journal of what all of it adds up to.
    fn begin_anew(&self, durable: &Durable) -> Result<(File, u64), MediumError> {
        let stored = &durable.stored;
        let lease = durable.remembered.lease.map(Record::Lease);
        let log = [
            Persist::Vote { term: stored.term, voted_for: stored.voted_for },
            Persist::Snapshot(stored.snapshot.clone()),
            Persist::Append { prev: stored.snapshot.position, entries: stored.entries.clone() },
        ];
        let first = [Record::Participants(self.participants)].into_iter().chain(lease);
        let frame = frame(0, &first.chain(log.map(Record::Log)).collect::<Vec<_>>());
        Ok((replace(&self.path, JOURNAL, &frame)?, frame.len() as u64))
    }

    fn write_evidence(&mut self, evidence: EvidenceSnapshot) -> Result<(), MediumError> {
        replace(&self.path, EVIDENCE, &postcard::to_allocvec(&evidence).unwrap_or_default())?;
        self.durable.remembered.evidence = evidence;
        Ok(())
    }
}

/// Writes a file beside and puts it in the place of the old one: a crash leaves the one or the other.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<File, MediumError> {
    let (new, name) = (folder.join(format!("{name}.new")), folder.join(name));
    let mut file = at(&new, File::create(&new))?;
    at(&new, file.write_all(bytes).and_then(|()| file.sync_all()))?;
    at(&name, fs::rename(&new, &name))?;
    synchronize(folder);
    Ok(file)
}

/// The check of a frame: of its place, its length and its content.
fn sum(place: u64, length: [u8; 4], content: &[u8]) -> [u8; SUM] {
    let mut sum = [0; SUM];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&[VERSION])
        .update(&place.to_le_bytes())
        .update(&length)
        .update(content)
        .finalize_xof()
        .fill(&mut sum);
    sum
}

fn frame(place: u64, records: &[Record]) -> Vec<u8> {
    let content = postcard::to_allocvec(records).unwrap_or_default();
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&length[..], &sum(place, length, &content), &content].concat()
}

/// A digest of who takes part.
fn digest_of(membership: &Membership) -> Digest {
    let keys: Vec<u8> = membership.everybody().iter().flat_map(|peer| *peer.as_bytes()).collect();
    digest(&keys)
}

/// The content of the frame at a place, if there is a good one.
fn frame_at(bytes: &[u8], place: usize) -> Option<&[u8]> {
    let (length, rest) = bytes.get(place..)?.split_first_chunk::<4>()?;
    let (check, rest) = rest.split_first_chunk::<SUM>()?;
    let content = rest.get(..u32::from_le_bytes(*length) as usize)?;
    (sum(place as u64, *length, content) == *check).then_some(content)
}

/// Reads frames until the end, or until one that is not good, which only the last one may be, and never the first. Gives how many bytes are good.
fn read_journal(path: &Path, bytes: &[u8], durable: &mut Durable, participants: Digest) -> Result<usize, MediumError> {
    let damaged = |what: String| MediumError::Damaged { path: path.to_owned(), what };
    let mut place = 0;
    while let Some(content) = frame_at(bytes, place) {
        let records: Vec<Record> = postcard::from_bytes(content).map_err(|error| damaged(error.to_string()))?;
        let other = |record: &Record| matches!(record, Record::Participants(of) if *of != participants);
        if records.iter().any(other) {
            return Err(MediumError::Participants { path: path.to_owned() });
        }
        apply(durable, records, path)?;
        place += HEAD + content.len();
    }
    if place == 0 || (place + 1..bytes.len()).any(|behind| frame_at(bytes, behind).is_some()) {
        return Err(damaged(format!("what was written at {place} is damaged, or by another version of this program")));
    }
    Ok(place)
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
        let mut folder = Folder::open(dir.path(), beginning()).unwrap();
        let (mut all, beginning_ends) = (vec![beginning()], usize::try_from(folder.length).unwrap());
        for record in records() {
            folder.write(vec![record]).unwrap();
            all.push(folder.durable.clone());
        }
        let name = dir.path().join(JOURNAL);
        let bytes = fs::read(&name).unwrap();
        for length in beginning_ends..bytes.len() {
            for filled in [0, 7] {
                let mut left = bytes[..length].to_vec();
                // Some systems make a file longer before they write into it.
                left.resize(length + filled, 0);
                fs::write(&name, &left).unwrap();
                let mut folder = Folder::open(dir.path(), beginning()).unwrap();
                assert!(all.contains(&folder.durable), "{length}");
                folder.write(vec![Record::Lease(Memory { term: Term(9), owner: None })]).unwrap();
                let again = Folder::open(dir.path(), beginning()).unwrap().durable;
                assert_eq!(again.remembered.lease.unwrap().term, Term(9), "it goes on from there: {length}");
            }
        }
    }

    #[test]
    fn damage_in_the_middle_is_not_passed_over_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(dir.path(), beginning()).unwrap();
        records().into_iter().for_each(|record| folder.write(vec![record]).unwrap());
        let name = dir.path().join(JOURNAL);
        let bytes = fs::read(&name).unwrap();
        let last = bytes.len() - frame(0, &records()[3..]).len();
        for place in 0..last {
            let mut bad = bytes.clone();
            bad[place] ^= 1;
            fs::write(&name, &bad).unwrap();
            assert!(matches!(Folder::open(dir.path(), beginning()), Err(MediumError::Damaged { .. })), "{place}");
        }
    }

    /// What was promised would be forgotten, and the node would vote as if it had promised nothing.
    #[test]
    fn damage_in_the_only_frame_is_no_new_beginning() {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        let membership = Membership::of([PeerId::from_bytes([1; 32])]);
        let snapshot =
            Snapshot { position: Position { term: 1, index: 2 }, membership, state: Bytes::from_static(b"s") };
        Folder::open(dir.path(), beginning()).unwrap().write(vec![Record::Log(Persist::Snapshot(snapshot))]).unwrap();
        let name = dir.path().join(JOURNAL);
        let bytes = fs::read(&name).unwrap();
        assert_eq!(frame_at(&bytes, 0).unwrap().len() + HEAD, bytes.len());
        let cut = (0..bytes.len()).map(|length| bytes[..length].to_vec());
        let flipped = (0..bytes.len()).map(|place| {
            let mut bad = bytes.clone();
            bad[place] ^= 1;
            bad
        });
        for bad in cut.chain(flipped) {
            fs::write(&name, &bad).unwrap();
            assert!(matches!(Folder::open(dir.path(), beginning()), Err(MediumError::Damaged { .. })));
            assert_eq!(fs::read(&name).unwrap(), bad, "it is left as it is, for whoever looks at it");
        }
    }

    #[test]
    fn a_life_that_is_over_writes_nothing_and_older_proofs_replace_no_newer_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mut medium = Medium::folder(dir.path(), beginning()).unwrap();
        let (one, _) = medium.begin().unwrap();
        medium.write(one, records()).unwrap();
        let (two, durable) = medium.begin().unwrap();
        assert_eq!(durable.stored.entries.len(), 3);
        assert!(matches!(medium.write(one, vec![append(3, "late")]), Err(MediumError::Over)));
        medium.write_evidence(two, 2, EvidenceSnapshot::default()).unwrap();
        medium.write_evidence(two, 1, EvidenceSnapshot::default()).unwrap();
        assert_eq!(medium.proofs, 2);
    }

    #[test]
    fn after_a_write_that_failed_it_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut medium = Medium::folder(dir.path(), beginning()).unwrap();
        let (one, _) = medium.begin().unwrap();
        medium.write(one, records()).unwrap();
        let Place::Folder(folder) = &mut medium.place else { panic!() };
        // It can be read and not written.
        folder.journal = File::open(dir.path().join(JOURNAL)).unwrap();
        assert!(matches!(medium.write(one, vec![append(3, "c")]), Err(MediumError::File { .. })));
        let (two, durable) = medium.begin().unwrap();
        assert_eq!(durable.stored.entries.len(), 3, "what is not there does not count");
        medium.write(two, vec![append(3, "c")]).unwrap();
        assert_eq!(medium.begin().unwrap().1.stored.entries.len(), 4);
    }

    #[test]
    fn a_journal_of_others_is_not_read() {
        let others = || Durable::new([1, 2, 3].map(|n| PeerId::from_bytes([n; 32])));
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(dir.path(), beginning()).unwrap();
        assert!(
            matches!(Folder::open(dir.path(), others()), Err(MediumError::Participants { .. })),
            "nothing but its beginning"
        );
        folder.write(records()).unwrap();
        assert!(matches!(Folder::open(dir.path(), others()), Err(MediumError::Participants { .. })));
        (folder.journal, folder.length) = folder.begin_anew(&folder.durable).unwrap();
        let refused = Folder::open(dir.path(), others()).unwrap_err().to_string();
        assert!(refused.contains("begun with other participants") && refused.contains("journal"), "{refused}");
        assert_eq!(Folder::open(dir.path(), beginning()).unwrap().durable, folder.durable);
    }

    #[test]
    fn a_journal_that_does_not_say_whose_it_is_is_read_and_says_so_when_it_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(JOURNAL), frame(0, &records())).unwrap();
        let folder = Folder::open(dir.path(), beginning()).unwrap();
        assert_eq!(folder.durable.stored.entries.len(), 3);
        folder.begin_anew(&folder.durable).unwrap();
        let others = Durable::new([PeerId::from_bytes([2; 32])]);
        assert!(matches!(Folder::open(dir.path(), others), Err(MediumError::Participants { .. })));
    }

    /// Whatever is written again and again, each time in the place of what was there: the journal stays small.
    #[test]
    fn a_journal_does_not_grow_without_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(dir.path(), beginning()).unwrap();
        folder.write(records()).unwrap();
        let large = Bytes::from(vec![7; 64 << 10]);
        for n in 0..100 {
            let prev = Position { term: 1, index: 1 };
            let append = Persist::Append { prev, entries: vec![Entry::Command(large.clone())] };
            let lease = Memory { term: Term(8 + n), owner: None };
            folder.write(vec![Record::Log(append), Record::Lease(lease)]).unwrap();
            let length = fs::metadata(dir.path().join(JOURNAL)).unwrap().len();
            assert_eq!(length, folder.length);
            assert!(length < LENGTH_MIN + (128 << 10), "{length}");
        }
        assert_eq!(Folder::open(dir.path(), beginning()).unwrap().durable, folder.durable);
    }
}
