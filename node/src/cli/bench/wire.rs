//! What the messages of the benches look like: one byte for what is asked, a number, and padding.

use bytes::Bytes;

/// What a message asks of the serving process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Send it back.
    Echo,
    /// Count it; the number is its place in the sequence.
    Count(u64),
    /// Write its arrival down; the number is its place in the sequence.
    Drip(u64),
    /// Say what was counted, and how much time and memory the process has used. The answer begins with the same byte.
    Report,
}

const ECHO: u8 = 1;
const COUNT: u8 = 2;
const DRIP: u8 = 3;
const REPORT: u8 = 4;
/// Bytes in front of the padding.
const HEAD_BYTES: usize = 9;

impl Ask {
    /// The message, padded to `size` bytes; never shorter than its head.
    pub(super) fn encode(self, size: usize) -> Bytes {
        let mut message = vec![0; size.max(HEAD_BYTES)];
        let (what, number) = match self {
            Self::Echo => (ECHO, 0),
            Self::Count(number) => (COUNT, number),
            Self::Drip(number) => (DRIP, number),
            Self::Report => (REPORT, 0),
        };
        message[0] = what;
        message[1..HEAD_BYTES].copy_from_slice(&number.to_be_bytes());
        message.into()
    }

    /// What a message asks; `None` for what is no message of ours.
    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let (what, rest) = message.split_first()?;
        let number = u64::from_be_bytes(*rest.first_chunk()?);
        match *what {
            ECHO => Some(Self::Echo),
            COUNT => Some(Self::Count(number)),
            DRIP => Some(Self::Drip(number)),
            REPORT => Some(Self::Report),
            _ => None,
        }
    }
}

/// The answer to [`Ask::Report`].
pub(super) fn answer(report: &serde_json::Value) -> Bytes {
    let mut message = Ask::Report.encode(0).to_vec();
    message.extend_from_slice(report.to_string().as_bytes());
    message.into()
}

/// What an answer to [`Ask::Report`] says; `None` for what is none.
pub(super) fn report(message: &[u8]) -> Option<serde_json::Value> {
    match Ask::decode(message)? {
        Ask::Report => serde_json::from_slice(message.get(HEAD_BYTES..)?).ok(),
        Ask::Echo | Ask::Count(_) | Ask::Drip(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_request_comes_back() {
        for ask in [Ask::Echo, Ask::Count(7), Ask::Drip(u64::MAX), Ask::Report] {
            for size in [0, 9, 64] {
                let message = ask.encode(size);
                assert_eq!((Ask::decode(&message), message.len()), (Some(ask), size.max(9)));
            }
        }
        assert_eq!(report(&answer(&json!({"a": 1}))), Some(json!({"a": 1})));
    }

    #[test]
    fn anything_else_is_none() {
        for message in [&b""[..], b"x", &[ECHO, 0, 0], &[9; 64]] {
            assert_eq!(Ask::decode(message), None);
        }
        assert_eq!(report(&Ask::Report.encode(0)), None);
        assert_eq!(report(&Ask::Echo.encode(64)), None);
    }
}
