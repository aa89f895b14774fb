//! Structured fuzz of what peers say to the services: labels, answers, and files in any sequence of blocks under any name. Nothing
//! panics, nothing is written outside of the folder or beyond its limit, and what failed leaves nothing behind.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::super::label::Label;
use super::*;

/// What a sender writes.
#[derive(Debug, Clone)]
enum Piece {
    /// A block of so many bytes, honest.
    Block(usize),
    /// A length, and so many bytes behind it.
    Said(u32, usize),
    /// The end with the right digest, or another.
    End(bool),
    Raw(Vec<u8>),
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        8 => (1..3000usize).prop_map(Piece::Block),
        1 => (any::<u32>(), 0..300usize).prop_map(|(a, b)| Piece::Said(a, b)),
        1 => Just(Piece::Said(BLOCK_BYTES as u32 + 1, 10)),
        2 => any::<bool>().prop_map(Piece::End),
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Piece::Raw),
    ]
}

fn write(pieces: &[Piece]) -> (Vec<u8>, Vec<u8>) {
    let (mut wire, mut content) = (Vec::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Block(length) => {
                let block = vec![*length as u8; *length];
                wire.extend_from_slice(&(*length as u32).to_be_bytes());
                wire.extend_from_slice(&block);
                content.extend_from_slice(&block);
            }
            Piece::Said(said, length) => {
                wire.extend_from_slice(&said.to_be_bytes());
                wire.resize(wire.len() + length, 1);
            }
            Piece::End(right) => {
                let mut digest = *blake3::hash(&content).as_bytes();
                digest[0] ^= u8::from(!right);
                wire.extend_from_slice(&[0; 4]);
                wire.extend_from_slice(&digest);
            }
            Piece::Raw(bytes) => wire.extend_from_slice(bytes),
        }
    }
    (wire, content)
}

/// Everything below a folder, as paths.
fn everything(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        }
        found.push(path);
    }
    found
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z./\\\\]{0,12}", Just("../out/x".to_owned()), Just("/tmp/x".to_owned()), any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_sender_writes_stays_in_its_folder_and_is_kept_only_whole(
        pieces in prop::collection::vec(piece(), 0..8),
        name in name(),
        announced in prop::option::of(0..9000u64),
        overwrite in any::<bool>(),
    ) {
        const MOST: u64 = 8000;
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("in");
        let rules = ReceiveRules { dir: dir.clone(), bytes_max: MOST, overwrite, stall: std::time::Duration::from_secs(60) };
        let (wire, content) = write(&pieces);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let result = runtime.block_on(async {
            let (mut here, mut there) = tokio::io::duplex(1 << 20);
            here.write_all(&wire).await.unwrap();
            here.shutdown().await.unwrap();
            receive(&mut there, &name, announced, &rules, |_| {}).await
        });
        let found = everything(root.path());
        match result {
            Ok(stored) => {
                prop_assert_eq!(found, [stored.path.clone(), dir.clone()]);
                prop_assert_eq!(stored.path.parent(), Some(&*dir));
                let kept = std::fs::read(&stored.path).unwrap();
                prop_assert!(kept.len() as u64 <= MOST && announced.is_none_or(|bytes| bytes == kept.len() as u64));
                prop_assert_eq!(blake3::hash(&kept), stored.digest);
                prop_assert!(content.starts_with(&kept), "it is what was sent up to the end");
            }
            Err(_) => prop_assert!(found.is_empty() || found == [dir], "{:?} is left", found),
        }
    }

    #[test]
    fn labels_and_answers_of_any_bytes_are_read_or_refused(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "[\\[{\"a-z0-9:,}\\]-]{0,200}".prop_map(String::into_bytes),
            (0..6000usize).prop_map(|depth| vec![b'['; depth]),
            prop_oneof![
                Just(r#"{"bowline":"file","name":"#), Just(r#"{"bowline":"forward","port":"#), Just(r#"{"bowline":"echo""#),
                Just(r#"{"refused":"#), Just(r#""accepted""#),
            ].prop_flat_map(|begin| "[\"a-z0-9:,}-]{0,30}".prop_map(move |end| format!("{begin}{end}").into_bytes())),
        ],
        length in prop::option::of(any::<u16>()),
    ) {
        if let Some(label) = Label::decode(&bytes) {
            prop_assert_eq!(Label::decode(&label.encode()), Some(label));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let read = runtime.block_on(async {
            let (mut here, mut there) = tokio::io::duplex(1 << 17);
            here.write_u16(length.unwrap_or(bytes.len() as u16)).await.unwrap();
            here.write_all(&bytes).await.unwrap();
            drop(here);
            read_answer::<Consent>(&mut there).await
        });
        if let Ok(consent) = read {
            prop_assert!(serde_json::to_vec(&consent).is_ok());
        }
    }
}
