//! How a stream says what it is for, and how the other side answers: small JSON values, so that fields can be added.

use std::io;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes an answer may have.
const ANSWER_BYTES_MAX: usize = 4096;

/// What a stream is for: its label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "bowline", rename_all = "lowercase")]
pub(crate) enum Label {
    /// Everything that is written comes back.
    Echo,
    /// A file follows.
    File {
        /// Its name, a suggestion.
        name: String,
        /// Its size in bytes, when it is known.
        bytes: Option<u64>,
    },
    /// To be connected to a TCP port over there.
    Forward {
        /// The port.
        port: u16,
    },
}

impl Label {
    /// The label as it travels.
    pub(crate) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// A peer's label; `None` when it is none of ours.
    pub(crate) fn decode(label: &[u8]) -> Option<Self> {
        serde_json::from_slice(label).ok()
    }
}

/// Whether the other side does what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Consent {
    /// It does.
    Accepted,
    /// It does not, and says why.
    Refused(String),
}

/// Writes an answer: its length as `u16`, then JSON.
///
/// # Errors
/// Those of the stream.
pub(crate) async fn write_answer(stream: &mut (impl AsyncWrite + Unpin), answer: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(answer).map_err(io::Error::other)?;
    let length = u16::try_from(json.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&json);
    stream.write_all(&bytes).await
}

/// Reads an answer.
///
/// # Errors
/// Those of the stream; `InvalidData` when it is malformed or longer than 4 KiB.
pub(crate) async fn read_answer<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = usize::from(stream.read_u16().await?);
    if length > ANSWER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer's answer is too long"));
    }
    let mut json = vec![0; length];
    stream.read_exact(&mut json).await?;
    serde_json::from_slice(&json)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the peer's answer is malformed"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_come_back_and_foreign_ones_are_nothing() {
        for label in [Label::Echo, Label::File { name: "a".into(), bytes: Some(3) }, Label::Forward { port: 22 }] {
            assert_eq!(Label::decode(&label.encode()), Some(label));
        }
        for foreign in [&b""[..], b"x", b"{}", br#"{"bowline":"dance"}"#, br#"{"bowline":"forward","port":70000}"#] {
            assert_eq!(Label::decode(foreign), None);
        }
    }

    #[tokio::test]
    async fn answers_come_back_and_malformed_ones_are_errors() {
        let (mut here, mut there) = tokio::io::duplex(8192);
        write_answer(&mut here, &Consent::Refused("no".into())).await.unwrap();
        assert_eq!(read_answer::<Consent>(&mut there).await.unwrap(), Consent::Refused("no".into()));
        for bytes in [&[0xff, 0xff][..], &[0, 2, b'{', b'{']] {
            here.write_all(bytes).await.unwrap();
            assert_eq!(read_answer::<Consent>(&mut there).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        drop(here);
        assert!(read_answer::<Consent>(&mut there).await.is_err());
    }
}
