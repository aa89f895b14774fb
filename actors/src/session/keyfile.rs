//! The key file, and beside it the counter of this node's lives.
//!
//! The key file is one line of text, `bowline-key-1 SEED CHECKSUM`, both in hexadecimal, with mode 0600. The counter is kept in two
//! files, `KEYFILE.life-0` and `KEYFILE.life-1`, written in turn: whatever a crash does to one of them, the other still says a number, and
//! the number given out is always larger than any given out before.

use std::path::{Path, PathBuf};

use bowline_messages::Incarnation;
use rand::CryptoRng;
use ring::digest;
use zeroize::Zeroizing;

use super::identity::Identity;
use super::private_file::{self, PrivateFileError};

const MARK: &str = "bowline-key-1";
const LIFE_MARK: &str = "bowline-life-1";
const FILE_BYTES_MAX: usize = 1024;
const CHECKSUM_BYTES: usize = 4;

/// Why the key or the counter could not be had. The user's or the system's fault; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is not a key file, or was cut or changed.
    #[error("{} is not a key file: {reason}; restore it, or remove it to become a new peer", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Both files of the counter are damaged: a number might be given out twice, and the peers would take new messages for old ones.
    #[error("{} and its twin are damaged; remove both, and expect peers to mistake this node for its former self until \
             their sessions end", path.display())]
    LifeLost {
        /// The first of the two.
        path: PathBuf,
    },
}

/// Reads the identity of this node.
///
/// # Errors
/// [`KeyFileError`].
pub fn load(path: &Path) -> Result<Identity, KeyFileError> {
    let content = private_file::read(path, FILE_BYTES_MAX)?;
    let malformed = |reason| KeyFileError::Malformed { path: path.to_owned(), reason };
    parse(&content).map(|seed| Identity::from_seed(&seed)).map_err(malformed)
}

/// Creates a key file with a new identity.
///
/// # Errors
/// [`KeyFileError`]; a file that is there is never overwritten.
pub fn create(path: &Path, rng: &mut impl CryptoRng) -> Result<Identity, KeyFileError> {
    let identity = Identity::generate(rng);
    private_file::create(path, encode(identity.seed()).as_bytes())?;
    Ok(identity)
}

/// Reads the identity of this node, or creates one on its first start; the second value tells whether it was created.
///
/// # Errors
/// [`KeyFileError`]. A file that is there and cannot be used is an error: a new identity is never made in its place.
pub fn load_or_create(path: &Path, rng: &mut impl CryptoRng) -> Result<(Identity, bool), KeyFileError> {
    match load(path) {
        Err(KeyFileError::File(error)) if error.is_missing() => match create(path, rng) {
            // Another process was faster: its key counts.
            Err(KeyFileError::File(error)) if error.is_taken() => Ok((load(path)?, false)),
            created => Ok((created?, true)),
        },
        loaded => Ok((loaded?, false)),
    }
}

fn encode(seed: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(128));
    text.push_str(MARK);
    text.push(' ');
    push_hex(&mut text, seed);
    text.push(' ');
    push_hex(&mut text, &checksum(MARK, seed));
    text.push('\n');
    text
}

fn parse(content: &[u8]) -> Result<Zeroizing<[u8; 32]>, &'static str> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not text")?;
    let mut words = text.split_ascii_whitespace();
    if words.next() != Some(MARK) {
        return Err("it does not begin with bowline-key-1");
    }
    let mut seed = Zeroizing::new([0; 32]);
    let mut sum = [0; CHECKSUM_BYTES];
    read_hex(words.next(), &mut seed[..]).ok_or("its key is cut or has other characters than 0-9 and a-f")?;
    read_hex(words.next(), &mut sum).ok_or("its checksum is cut")?;
    if words.next().is_some() {
        return Err("something follows the checksum");
    }
    if sum != checksum(MARK, &seed[..]) { Err("its checksum does not fit") } else { Ok(seed) }
}

fn checksum(context: &str, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(context.as_bytes());
    hash.update(bytes);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hash.finish().as_ref()[..CHECKSUM_BYTES]);
    sum
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
}

fn read_hex(word: Option<&str>, out: &mut [u8]) -> Option<()> {
    let digits = word?.as_bytes();
    if digits.len() != 2 * out.len() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(())
}

/// Counts one more life of the node with this key file: every call gives a larger number than all before, from 1 on.
///
/// # Errors
/// [`KeyFileError::LifeLost`] when both files are damaged; [`KeyFileError::File`].
pub fn next_incarnation(key_file: &Path) -> Result<Incarnation, KeyFileError> {
    let paths = [life_path(key_file, 0), life_path(key_file, 1)];
    // Two processes that start at once must not get the same number.
    let _lock = private_file::lock(&life_path(key_file, "lock"))?;
    let mut lives = [Life::Missing; 2];
    for (life, path) in lives.iter_mut().zip(&paths) {
        *life = match private_file::read(path, FILE_BYTES_MAX) {
            Ok(content) => parse_life(&content),
            Err(error) if error.is_missing() => Life::Missing,
            Err(PrivateFileError::TooLong { .. }) => Life::Damaged,
            Err(error) => return Err(error.into()),
        };
    }
    // The slots to write, in order. Two sound ones are at most one apart, so a lost one never held more than the other plus one.
    let (newest, step, slots): (u64, u64, &[usize]) = match lives {
        [Life::Missing, Life::Missing] => (0, 1, &[0, 1]),
        [Life::Number(a), Life::Number(b)] if a > b => (a, 1, &[1]),
        [Life::Number(_), Life::Number(b)] => (b, 1, &[0]),
        // The lost one may have held the number after this one, and that one may have been given out. Both are written, the lost
        // one first, to be at most one apart again.
        [Life::Number(n), Life::Damaged | Life::Missing] => (n, 2, &[1, 0]),
        [Life::Damaged | Life::Missing, Life::Number(n)] => (n, 2, &[0, 1]),
        [Life::Damaged, Life::Damaged | Life::Missing] | [Life::Missing, Life::Damaged] => return Err(lost(&paths)),
    };
    let next = newest.checked_add(step).ok_or_else(|| lost(&paths))?;
    for slot in slots {
        private_file::replace(&paths[*slot], encode_life(next).as_bytes())?;
    }
    Ok(Incarnation(next))
}

fn lost(paths: &[PathBuf; 2]) -> KeyFileError {
    KeyFileError::LifeLost { path: paths[0].clone() }
}

/// What one of the two files of the counter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Missing,
    Damaged,
    Number(u64),
}

fn life_path(key_file: &Path, slot: impl std::fmt::Display) -> PathBuf {
    let mut name = key_file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".life-{slot}"));
    key_file.with_file_name(name)
}

fn encode_life(number: u64) -> String {
    let mut text = format!("{LIFE_MARK} {number} ");
    push_hex(&mut text, &checksum(LIFE_MARK, &number.to_be_bytes()));
    text.push('\n');
    text
}

fn parse_life(content: &[u8]) -> Life {
    let read = || -> Option<u64> {
        let mut words = std::str::from_utf8(content).ok()?.split_ascii_whitespace();
        let (mark, number, sum) = (words.next()?, words.next()?.parse::<u64>().ok()?, words.next());
        let mut expected = [0; CHECKSUM_BYTES];
        read_hex(sum, &mut expected)?;
        (mark == LIFE_MARK && expected == checksum(LIFE_MARK, &number.to_be_bytes())).then_some(number)
    };
    read().map_or(Life::Damaged, Life::Number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    fn rng(seed: u64) -> ChaCha20Rng {
        ChaCha20Rng::seed_from_u64(seed)
    }

    #[test]
    fn the_first_start_creates_an_identity_and_later_ones_find_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let (created, new) = load_or_create(&path, &mut rng(1)).unwrap();
        let (found, again) = load_or_create(&path, &mut rng(2)).unwrap();
        assert!(new && !again);
        assert_eq!(created.peer_id(), found.peer_id());
        let error = create(&path, &mut rng(3)).unwrap_err();
        assert!(matches!(error, KeyFileError::File(error) if error.is_taken()));
    }

    #[test]
    fn a_cut_or_changed_key_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create(&path, &mut rng(1)).unwrap();
        let whole = fs::read(&path).unwrap();
        // The newline at the end may be missing: an editor may have taken it.
        for length in 0..whole.len() - 1 {
            private_file::replace(&path, &whole[..length]).unwrap();
            let error = load_or_create(&path, &mut rng(2)).unwrap_err();
            assert!(matches!(error, KeyFileError::Malformed { .. }), "{length}: {error}");
            assert_eq!(fs::read(&path).unwrap(), whole[..length]);
        }
        for at in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
            private_file::replace(&path, &changed).unwrap();
            assert!(load(&path).is_err(), "{at}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused_with_the_command_that_helps() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create(&path, &mut rng(1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_create(&path, &mut rng(2)).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn an_error_shows_no_part_of_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let identity = create(&path, &mut rng(1)).unwrap();
        let text = encode(identity.seed());
        let seed = text.split(' ').nth(1).unwrap();
        private_file::replace(&path, format!("{MARK} {seed} 00000000").as_bytes()).unwrap();
        let error = format!("{0} {0:?}", load(&path).unwrap_err());
        assert!(!error.contains(&seed[..8]), "{error}");
    }

    #[test]
    fn every_life_has_a_larger_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for n in 1..20 {
            assert_eq!(next_incarnation(&path).unwrap(), Incarnation(n));
        }
    }

    /// Found by the property test below in a first version, which repaired only the damaged file.
    #[test]
    fn the_number_grows_when_the_same_file_is_damaged_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut last = next_incarnation(&path).unwrap();
        for slot in [1, 1, 0, 0, 0, 1] {
            private_file::replace(&life_path(&path, slot), b"").unwrap();
            let next = next_incarnation(&path).unwrap();
            assert!(next > last, "{next:?} after {last:?}");
            last = next;
        }
    }

    #[test]
    fn with_both_files_damaged_no_number_is_given_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        next_incarnation(&path).unwrap();
        private_file::replace(&life_path(&path, 0), b"torn").unwrap();
        private_file::replace(&life_path(&path, 1), b"").unwrap();
        assert!(matches!(next_incarnation(&path), Err(KeyFileError::LifeLost { .. })));
    }

    /// What happens between two starts.
    #[derive(Debug, Clone)]
    enum Mishap {
        None,
        Tear { slot: usize, keep: usize },
        Fill { slot: usize, bytes: Vec<u8> },
        Remove { slot: usize },
    }

    fn mishap() -> impl Strategy<Value = Mishap> {
        prop_oneof![
            2 => Just(Mishap::None),
            1 => (0..2usize, 0..30usize).prop_map(|(slot, keep)| Mishap::Tear { slot, keep }),
            1 => (0..2usize, proptest::collection::vec(any::<u8>(), 0..40))
                .prop_map(|(slot, bytes)| Mishap::Fill { slot, bytes }),
            1 => (0..2usize).prop_map(|slot| Mishap::Remove { slot }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
        #[test]
        fn the_number_grows_whatever_happens_to_one_of_the_files(mishaps in proptest::collection::vec(mishap(), 1..12)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("key");
            let mut last = next_incarnation(&path).unwrap().max(next_incarnation(&path).unwrap());
            for mishap in mishaps {
                match mishap {
                    Mishap::None => {}
                    Mishap::Tear { slot, keep } => {
                        let path = life_path(&path, slot);
                        let content = fs::read(&path).unwrap();
                        private_file::replace(&path, &content[..keep.min(content.len() - 2)]).unwrap();
                    }
                    Mishap::Remove { slot } => fs::remove_file(life_path(&path, slot)).unwrap(),
                    Mishap::Fill { slot, bytes } => private_file::replace(&life_path(&path, slot), &bytes).unwrap(),
                }
                let next = next_incarnation(&path).unwrap();
                prop_assert!(next > last);
                last = next;
            }
        }

        #[test]
        fn any_content_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&bytes).is_err());
            prop_assert_eq!(parse_life(&bytes), Life::Damaged);
        }
    }
}
