#![allow(clippy::unwrap_used)]

use super::*;
use tokio::io::DuplexStream;

/// Of virtual time where a test waits for it.
const STALL: Duration = Duration::from_secs(120);

fn rules(dir: &Path) -> ReceiveRules {
    ReceiveRules { dir: dir.to_owned(), bytes_max: 1 << 20, overwrite: false, stall: STALL }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn transfer(
    content: &[u8],
    name: &str,
    announced: Option<u64>,
    rules: &ReceiveRules,
) -> (Result<(String, u64, blake3::Hash), FileError>, Result<Stored, FileError>) {
    let (mut here, mut there) = tokio::io::duplex(64 * 1024);
    let mut source = content;
    let receiver = async {
        let result = receive(&mut there, name, announced, rules, |_| {}).await;
        // As a stream does when its owner lets go of it; a sender in mid-block sees that.
        drop(there);
        result
    };
    tokio::join!(send(&mut here, &mut source, |_| {}), receiver)
}

#[tokio::test]
async fn a_file_arrives_with_its_digest_and_both_sides_know() {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..600_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let (sent, stored) = transfer(&content, "a.bin", Some(600_000), &rules(dir.path())).await;
    let stored = stored.unwrap();
    assert_eq!(stored.path, dir.path().join("a.bin"));
    assert_eq!(std::fs::read(&stored.path).unwrap(), content);
    assert_eq!(sent.unwrap(), ("a.bin".into(), 600_000, blake3::hash(&content)));
    assert_eq!(names(dir.path()), ["a.bin"]);
}

#[tokio::test]
async fn nothing_is_overwritten_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "old").unwrap();
    let (sent, _) = transfer(b"new", "a.txt", None, &rules(dir.path())).await;
    assert_eq!(sent.unwrap().0, "a (1).txt");
    assert_eq!(std::fs::read_to_string(dir.path().join("a.txt")).unwrap(), "old");
    let overwrite = ReceiveRules { overwrite: true, ..rules(dir.path()) };
    transfer(b"newest", "a.txt", None, &overwrite).await.1.unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("a.txt")).unwrap(), "newest");
}

#[tokio::test]
async fn a_name_cannot_lead_out_of_the_folder() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("in");
    for name in ["../x", "/x", "..\\x", "a/../../x"] {
        transfer(b"1", name, None, &rules(&dir)).await.1.unwrap();
    }
    assert_eq!(names(outside.path()), ["in"]);
    assert_eq!(names(&dir), ["x", "x (1)", "x (2)", "x (3)"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_in_the_folder_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("in");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(outside.path().join("target"), "precious").unwrap();
    std::os::unix::fs::symlink("../target", dir.join("a")).unwrap();
    std::os::unix::fs::symlink("../missing", dir.join("b")).unwrap();
    for name in ["a", "b"] {
        transfer(b"evil", name, None, &rules(&dir)).await.1.unwrap();
    }
    let overwrite = ReceiveRules { overwrite: true, ..rules(&dir) };
    transfer(b"evil", "a", None, &overwrite).await.1.unwrap();
    assert_eq!(std::fs::read_to_string(outside.path().join("target")).unwrap(), "precious");
    assert_eq!(names(outside.path()), ["in", "target"]);
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_before_or_while_it_comes_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let small = ReceiveRules { bytes_max: 1000, ..rules(dir.path()) };
    let (sent, stored) = transfer(&[1; 1001], "a", Some(1001), &small).await;
    assert!(matches!(sent, Err(FileError::Refused(why)) if why == "the file is larger than 1000 bytes"));
    assert!(matches!(stored, Err(FileError::TooLarge(1000))));
    let (sent, stored) = transfer(&[1; 1001], "a", None, &small).await;
    assert!(matches!(sent, Err(FileError::Refused(_))));
    assert!(matches!(stored, Err(FileError::TooLarge(1000))));
    let (sent, stored) = transfer(&[1; 900_000], "a", Some(10), &small).await;
    assert!(sent.is_err());
    assert!(matches!(stored, Err(FileError::TooLarge(1000))));
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn a_file_of_another_size_than_announced_is_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    for (announced, least) in [(10, 11), (12, 11), (0, 11)] {
        let (sent, stored) = transfer(b"eleven char", "a", Some(announced), &rules(dir.path())).await;
        assert!(matches!(&sent, Err(FileError::Refused(why)) if why.contains("were announced")), "{sent:?}");
        assert!(matches!(stored, Err(FileError::Size { received, .. }) if received == least), "{announced}");
        assert!(names(dir.path()).is_empty());
    }
}

#[tokio::test]
async fn a_receiver_that_gives_up_stops_the_sender_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let small = ReceiveRules { bytes_max: 1000, ..rules(dir.path()) };
    let (mut here, mut there) = tokio::io::duplex(64 * 1024);
    let mut endless = tokio::io::repeat(1);
    // The receiving end stays open and is read on, as a session does with a stream nobody wants any more.
    let receiver = async {
        let _ = receive(&mut there, "a", None, &small, |_| {}).await;
        tokio::io::copy(&mut there, &mut tokio::io::sink()).await
    };
    let sent = tokio::select! {
        sent = send(&mut here, &mut endless, |_| {}) => sent,
        _ = receiver => panic!("the sender has not ended"),
    };
    assert!(matches!(sent, Err(FileError::Refused(_))));
}

/// Plays a sender that writes these bytes and closes.
async fn receive_raw(bytes: &[u8], rules: &ReceiveRules) -> Result<Stored, FileError> {
    let (mut here, mut there): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 20);
    here.write_all(bytes).await.unwrap();
    here.shutdown().await.unwrap();
    receive(&mut there, "a", None, rules, |_| {}).await
}

#[tokio::test]
async fn whatever_a_sender_does_wrong_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let rules = rules(dir.path());
    let mut wrong_digest = vec![0, 0, 0, 1, b'x', 0, 0, 0, 0];
    wrong_digest.extend([0; 32]);
    assert!(matches!(receive_raw(&wrong_digest, &rules).await, Err(FileError::Digest)));
    assert!(matches!(receive_raw(&[0xff; 4], &rules).await, Err(FileError::Protocol(_))));
    for cut_off in [&b""[..], &[0, 0], &[0, 0, 0, 9, 1], &[0, 0, 0, 0, 1]] {
        assert!(matches!(receive_raw(cut_off, &rules).await, Err(FileError::Stream(_))), "{cut_off:?}");
    }
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_said_without_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret-place");
    std::fs::write(&file, "").unwrap();
    let (sent, _) = transfer(b"1", "a", None, &rules(&file)).await;
    let Err(FileError::Refused(why)) = sent else { panic!("a refusal was expected") };
    assert!(why.starts_with("it cannot be stored") && !why.contains("secret-place"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_brings_no_byte_for_too_long_is_given_up_and_both_sides_know_why() {
    let dir = tempfile::tempdir().unwrap();
    let (mut here, mut there) = tokio::io::duplex(64 * 1024);
    let rules = rules(dir.path());
    let sender = async {
        assert_eq!(read_answer::<Consent>(&mut here).await.unwrap(), Consent::Accepted);
        here.write_u32(1000).await.unwrap();
        here.write_all(&[7; 500]).await.unwrap();
        let began = tokio::time::Instant::now();
        let outcome = read_answer::<Outcome>(&mut here).await.unwrap();
        assert!((STALL..2 * STALL).contains(&began.elapsed()), "{:?}", began.elapsed());
        outcome
    };
    let (outcome, received) = tokio::join!(sender, receive(&mut there, "a", None, &rules, |_| {}));
    assert!(matches!(received, Err(FileError::Stalled(STALL))), "{received:?}");
    assert_eq!(outcome, Outcome::Failed("no byte came for 2min".into()));
    assert_eq!(names(dir.path()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_file_that_keeps_coming_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let (mut here, mut there) = tokio::io::duplex(64 * 1024);
    let rules = rules(dir.path());
    let sender = async {
        read_answer::<Consent>(&mut here).await.unwrap();
        here.write_u32(5).await.unwrap();
        for byte in *b"hello" {
            tokio::time::sleep(STALL / 2).await;
            here.write_all(&[byte]).await.unwrap();
        }
        here.write_u32(0).await.unwrap();
        here.write_all(blake3::hash(b"hello").as_bytes()).await.unwrap();
        read_answer::<Outcome>(&mut here).await.unwrap()
    };
    let (outcome, received) = tokio::join!(sender, receive(&mut there, "a", None, &rules, |_| {}));
    assert_eq!(received.unwrap().bytes, 5);
    assert_eq!(outcome, Outcome::Stored { name: "a".into(), bytes: 5 });
}

#[tokio::test]
async fn a_file_whose_sender_is_gone_before_the_answer_is_stored_and_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let (mut here, mut there) = tokio::io::duplex(64 * 1024);
    let rules = rules(dir.path());
    let sender = async move {
        read_answer::<Consent>(&mut here).await.unwrap();
        here.write_u32(5).await.unwrap();
        here.write_all(b"hello").await.unwrap();
        here.write_u32(0).await.unwrap();
        here.write_all(blake3::hash(b"hello").as_bytes()).await.unwrap();
    };
    let ((), received) = tokio::join!(sender, receive(&mut there, "a", None, &rules, |_| {}));
    assert_eq!(received.unwrap().bytes, 5);
    assert_eq!(names(dir.path()), ["a"]);
}
