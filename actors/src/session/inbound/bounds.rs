//! What a peer may have outstanding here, and how it oversteps that.

use super::super::tx_channel::MESSAGE_OVERHEAD_BYTES;

/// Separate pieces of one message that are remembered: an honest sender cuts large messages into few.
const PIECES_MAX: usize = 1024;
/// The same for small ones, so that remembering the pieces takes no more memory than the message: so many,
const PIECES_MIN: usize = 4;
/// and one more for so many bytes, a third of what an honest sender's pieces have on the average at least.
const PIECE_BYTES: usize = 64;

/// Bounds of the receiving half. The peer is told the windows in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundLimits {
    /// Bytes per channel that may have arrived and not been handed over.
    pub channel_window: u64,
    /// The same for the whole session.
    pub session_window: u64,
    /// Bytes in one message.
    pub message_bytes: usize,
    /// Channels, streams included.
    pub channels: usize,
}

impl InboundLimits {
    /// Whether something of this cost may be held beside what is held for the whole session and for its channel.
    pub(super) fn check(&self, session: u64, channel: u64, cost: u64) -> Result<(), InboundError> {
        // A single message larger than the window is allowed when nothing else is held, as on the sending side. The session's window
        // bounds when a sender begins a message, so it may be overstepped by one.
        if (channel > 0 && channel + cost > self.channel_window)
            || session > self.session_window.saturating_add(self.channel_window)
        {
            return Err(InboundError::Window);
        }
        Ok(())
    }

    /// Whether one more range of skipped messages may be remembered beside these. Between two of them an honest sender has a message
    /// that it counts against the window, and it says nothing of what it skips beyond what it has sent.
    pub(super) fn check_skips(&self, session: u64, channels: u64, channel: u64) -> Result<(), InboundError> {
        let most = |window: u64| window / MESSAGE_OVERHEAD_BYTES + 1;
        // As for messages: the session's window may be overstepped by one channel's.
        let all = most(self.session_window.saturating_add(self.channel_window)) + channels;
        if channel > most(self.channel_window) || session > all {
            return Err(InboundError::Window);
        }
        Ok(())
    }

    /// How many separate pieces of a message of this length are remembered.
    pub(super) fn pieces(total: usize) -> usize {
        (PIECES_MIN + total / PIECE_BYTES).min(PIECES_MAX)
    }
}

/// The peer overstepped what it was told. Its fault; nothing of the offending frame was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InboundError {
    /// More data than the windows allow.
    #[error("the peer sent more than its window allows")]
    Window,
    /// A message larger than allowed.
    #[error("the peer sent a message of {0} bytes, which is too large")]
    MessageSize(u64),
    /// More channels than allowed.
    #[error("the peer uses too many channels")]
    Channels,
    /// Fragments of one message that contradict each other.
    #[error("the peer's fragments contradict each other")]
    Fragments,
    /// A number beyond those that can be written.
    #[error("the peer numbers a message beyond 2^61")]
    Sequence,
    /// A range that ends before it begins.
    #[error("the peer skips backwards")]
    Skip,
}
