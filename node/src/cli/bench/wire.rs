//! What the messages of the benches look like: one byte for what is asked, a number, and padding.

use bytes::{Bytes, BytesMut};

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
/// Bytes in front of the padding: the smallest message there is.
pub(super) const HEAD_BYTES: usize = 9;

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

    /// Makes a message that was sent before into this one, without touching its padding.
    fn overwrite(self, message: &mut [u8]) {
        let head = self.encode(0);
        for (byte, new) in message.iter_mut().zip(head) {
            *byte = new;
        }
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

/// Makes payloads the way a program does that cares: small ones are cut from a larger piece of memory, large ones are taken again once
/// nobody holds them any more.
#[derive(Debug)]
pub(super) struct Payloads {
    size: usize,
    slab: BytesMut,
    spare: Vec<BytesMut>,
}

/// From this size on, in bytes, payloads are taken again.
const LARGE_BYTES: usize = 4096;
/// Bytes of the pieces from which small payloads are cut.
const SLAB_BYTES: usize = 64 * 1024;

impl Payloads {
    /// Payloads of `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        Self { size: size.max(HEAD_BYTES), slab: BytesMut::new(), spare: Vec::new() }
    }

    /// A payload, and a second hold on it where it is to be given back later.
    pub(super) fn take(&mut self, ask: Ask) -> (Bytes, Option<Bytes>) {
        if self.size >= LARGE_BYTES {
            let mut message = self.spare.pop().unwrap_or_else(|| BytesMut::zeroed(self.size));
            ask.overwrite(&mut message);
            let message = message.freeze();
            return (message.clone(), Some(message));
        }
        if self.slab.capacity() < self.size {
            self.slab = BytesMut::with_capacity(SLAB_BYTES);
        }
        self.slab.resize(self.size, 0);
        ask.overwrite(&mut self.slab);
        (self.slab.split().freeze(), None)
    }

    /// Takes a payload back whose message is final. If somebody still holds it, it is left to them.
    pub(super) fn give_back(&mut self, message: Bytes) {
        self.spare.extend(message.try_into_mut());
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
    fn payloads_differ_in_their_head_and_large_ones_come_again() {
        for size in [64, 100_000] {
            let mut payloads = Payloads::new(size);
            let mut held: Option<Bytes> = None;
            for number in 0..3000 {
                let (message, again) = payloads.take(Ask::Count(number));
                assert_eq!((Ask::decode(&message), message.len()), (Some(Ask::Count(number)), size));
                assert_eq!(again.is_some(), size >= LARGE_BYTES);
                drop(message);
                if let Some(before) = held.take() {
                    payloads.give_back(before);
                }
                held = again;
            }
            assert!(payloads.spare.len() <= 2);
        }
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
