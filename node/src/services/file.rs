//! Files over a stream: sent in blocks with their digest at the end, received into one folder and never outside it.
//!
//! After the label, the receiver answers [`Consent`]. Then come blocks, each `length u32 ‖ bytes`; a block of length 0 is
//! followed by the BLAKE3 digest of all bytes, and the receiver answers [`Outcome`].

mod partial;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bowline_messages::config::print_duration;
use futures_util::future::Either;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use self::partial::Partial;
pub(crate) use self::partial::sweep;
use super::file_name::plain_name;
use super::label::{Consent, read_answer, write_answer};

/// Bytes in one block. Disk and digest take a block at a time off the arbiter.
pub(crate) const BLOCK_BYTES: usize = 256 * 1024;

/// What a received file may be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceiveRules {
    /// The folder it goes into.
    pub(crate) dir: PathBuf,
    /// Its size at most, in bytes.
    pub(crate) bytes_max: u64,
    /// Whether it may replace one of the same name.
    pub(crate) overwrite: bool,
    /// How long it may bring no byte before it is given up.
    pub(crate) stall: Duration,
}

/// What became of a file, as the receiver tells the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It is there, complete.
    Stored {
        /// What it is called over there.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// It was thrown away.
    Failed(String),
}

/// Why a file was not transferred. Nothing of it is left in the folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum FileError {
    /// The receiver did not want it, or could not keep it; its words.
    #[error("the peer refused the file: {0}")]
    Refused(String),
    /// Larger than allowed here. The peer's mistake.
    #[error("the file is larger than {0} bytes")]
    TooLarge(u64),
    /// It has another size than was announced. The peer's mistake, or its file changed while it was read.
    #[error("{announced} bytes were announced and {received} came")]
    Size {
        /// As announced.
        announced: u64,
        /// As received; more may have followed.
        received: u64,
    },
    /// Its digest does not fit. The peer's mistake, or its file changed while it was read.
    #[error("the file's digest does not fit its content")]
    Digest,
    /// The peer broke the rules of the transfer.
    #[error("the peer broke the rules of the transfer: {0}")]
    Protocol(&'static str),
    /// No byte came for too long. The peer's fault, or nothing carries its session.
    #[error("no byte came for {}", print_duration(*.0))]
    Stalled(Duration),
    /// The folder or the file made trouble here.
    #[error("{path}: {error}", path = path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// What is being sent could not be read here.
    #[error("what was to be sent ended early: {0}")]
    Source(#[source] io::Error),
    /// The stream broke.
    #[error("the transfer broke off: {0}")]
    Stream(#[from] io::Error),
}

/// A file that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its size.
    pub(crate) bytes: u64,
    /// Its BLAKE3 digest.
    pub(crate) digest: blake3::Hash,
}

/// Sends everything that `source` gives. `progress` is called with the bytes sent so far.
///
/// # Errors
/// [`FileError::Refused`] when the receiver does not want it or could not keep it, [`FileError::Stream`].
pub(crate) async fn send(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    source: &mut (impl AsyncRead + Unpin),
    mut progress: impl FnMut(u64),
) -> Result<(String, u64, blake3::Hash), FileError> {
    match read_answer(stream).await? {
        Consent::Accepted => {}
        Consent::Refused(why) => return Err(FileError::Refused(why)),
    }
    let (mut answers, mut blocks) = tokio::io::split(stream);
    let answer = std::pin::pin!(read_answer::<Outcome>(&mut answers));
    let upload = std::pin::pin!(send_blocks(&mut blocks, source, &mut progress));
    // A receiver that gives up says why at once, and the rest is not sent.
    let (uploaded, outcome) = match futures_util::future::select(answer, upload).await {
        Either::Left((answer, _)) => (Err(FileError::Protocol("stored before it was sent")), answer),
        Either::Right((Err(error @ FileError::Source(_)), _)) => return Err(error),
        Either::Right((uploaded, answer)) => (uploaded, answer.await),
    };
    match (outcome, uploaded) {
        (Ok(Outcome::Failed(why)), _) => Err(FileError::Refused(why)),
        (_, Err(error @ (FileError::Disk { .. } | FileError::Source(_) | FileError::Stream(_)))) => Err(error),
        (Err(error), _) => Err(FileError::Stream(error)),
        (Ok(Outcome::Stored { name, bytes }), Ok((sent, digest))) if bytes == sent => Ok((name, sent, digest)),
        (Ok(Outcome::Stored { .. }), Ok(_)) => Err(FileError::Protocol("it stored another number of bytes")),
        (Ok(Outcome::Stored { .. }), Err(error)) => Err(error),
    }
}

/// Sends all blocks and the digest; returns the number of bytes and the digest.
async fn send_blocks(
    stream: &mut (impl AsyncWrite + Unpin),
    source: &mut (impl AsyncRead + Unpin),
    progress: &mut impl FnMut(u64),
) -> Result<(u64, blake3::Hash), FileError> {
    let mut hasher = blake3::Hasher::new();
    let mut sent = 0;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let filled = fill(source, &mut block).await.map_err(FileError::Source)?;
        if filled == 0 {
            break;
        }
        hasher.update(&block[..filled]);
        stream.write_u32(u32::try_from(filled).map_err(io::Error::other)?).await?;
        stream.write_all(&block[..filled]).await?;
        sent += filled as u64;
        progress(sent);
    }
    let digest = hasher.finalize();
    stream.write_u32(0).await?;
    stream.write_all(digest.as_bytes()).await?;
    Ok((sent, digest))
}

/// Reads until the block is full or the source ends.
async fn fill(source: &mut (impl AsyncRead + Unpin), block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match source.read(&mut block[filled..]).await? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Receives a file into the folder of the rules, tells the sender what became of it, and returns it. A file that is stored stays so when
/// the sender is gone by then.
///
/// # Errors
/// [`FileError`]; nothing of the file is left then.
pub(crate) async fn receive(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    name: &str,
    announced: Option<u64>,
    rules: &ReceiveRules,
    progress: impl FnMut(u64),
) -> Result<Stored, FileError> {
    let prepared = match announced {
        Some(bytes) if bytes > rules.bytes_max => Err(FileError::TooLarge(rules.bytes_max)),
        _ => Partial::create(&rules.dir).await,
    };
    let partial = match prepared {
        Ok(partial) => partial,
        Err(error) => {
            tell(stream, &Consent::Refused(public_reason(&error)), rules.stall).await?;
            return Err(error);
        }
    };
    tell(stream, &Consent::Accepted, rules.stall).await?;
    let result = match receive_blocks(stream, partial, announced, rules, progress).await {
        Ok((partial, digest)) => partial.keep(plain_name(name), digest, rules.clone()).await,
        Err(error) => Err(error),
    };
    let outcome = match &result {
        Ok(stored) => Outcome::Stored { name: file_name(&stored.path), bytes: stored.bytes },
        Err(error) => Outcome::Failed(public_reason(error)),
    };
    if let Err(untold) = tell(stream, &outcome, rules.stall).await {
        tracing::debug!(%untold, "the sender does not know what became of its file");
    }
    result
}

/// Writes an answer, unless the peer has no room for it for too long.
async fn tell(
    stream: &mut (impl AsyncWrite + Unpin),
    answer: &impl Serialize,
    limit: Duration,
) -> Result<(), FileError> {
    let told = tokio::time::timeout(limit, write_answer(stream, answer)).await;
    Ok(told.map_err(|_| FileError::Stalled(limit))??)
}

async fn receive_blocks(
    stream: &mut (impl AsyncRead + Unpin),
    mut partial: Partial,
    announced: Option<u64>,
    rules: &ReceiveRules,
    mut progress: impl FnMut(u64),
) -> Result<(Partial, blake3::Hash), FileError> {
    loop {
        let mut head = [0; 4];
        read_steadily(stream, &mut head, rules.stall).await?;
        let length = u32::from_be_bytes(head) as usize;
        if length > BLOCK_BYTES {
            return Err(FileError::Protocol("a block is too long"));
        }
        if length == 0 {
            break;
        }
        let received = partial.bytes + length as u64;
        if received > rules.bytes_max {
            return Err(FileError::TooLarge(rules.bytes_max));
        }
        if let Some(announced) = announced.filter(|announced| received > *announced) {
            return Err(FileError::Size { announced, received });
        }
        let mut block = vec![0; length];
        read_steadily(stream, &mut block, rules.stall).await?;
        partial = partial.write(block).await?;
        progress(partial.bytes);
    }
    let mut digest = [0; 32];
    read_steadily(stream, &mut digest, rules.stall).await?;
    // `blake3::Hash` compares in constant time, which does no harm.
    let digest = blake3::Hash::from_bytes(digest);
    if let Some(announced) = announced.filter(|announced| *announced != partial.bytes) {
        return Err(FileError::Size { announced, received: partial.bytes });
    }
    if digest == partial.hasher.finalize() { Ok((partial, digest)) } else { Err(FileError::Digest) }
}

/// Fills a buffer. However long that takes in all, there may be no longer pause than `stall`.
async fn read_steadily(
    stream: &mut (impl AsyncRead + Unpin),
    into: &mut [u8],
    stall: Duration,
) -> Result<(), FileError> {
    let mut filled = 0;
    while filled < into.len() {
        let read = tokio::time::timeout(stall, stream.read(&mut into[filled..])).await;
        match read.map_err(|_| FileError::Stalled(stall))?? {
            0 => return Err(FileError::Stream(ErrorKind::UnexpectedEof.into())),
            read => filled += read,
        }
    }
    Ok(())
}

/// What the peer is told: never a path of this machine.
fn public_reason(error: &FileError) -> String {
    match error {
        FileError::Disk { error, .. } => format!("it cannot be stored: {}", error.kind()),
        FileError::Source(_) | FileError::Stream(_) => "the transfer broke off".to_owned(),
        FileError::Refused(_)
        | FileError::TooLarge(_)
        | FileError::Size { .. }
        | FileError::Stalled(_)
        | FileError::Digest
        | FileError::Protocol(_) => error.to_string(),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

async fn off_the_arbiter<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| FileError::Stream(io::Error::other(error)))?
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
