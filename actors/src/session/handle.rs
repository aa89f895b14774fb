//! What the application holds of a session: a handle to send with, and receipts.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use bowline_messages::session::{Outgoing, ReceiptState, SendError};
use bowline_messages::{ChannelId, Incarnation, MessageClass, PeerId};
use bytes::Bytes;

use super::ledger::Ledger;
use super::stream::SessionStream;
use crate::clock;

/// Sends to one peer. Cheap to clone, usable from any thread; it stays valid when links, or the session actor, come and go.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    ledger: Arc<Ledger>,
}

impl SessionHandle {
    /// A handle on a ledger.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }

    /// The peer.
    pub fn peer(&self) -> PeerId {
        self.ledger.peer()
    }

    /// The life of the peer, once a link stood.
    pub fn peer_incarnation(&self) -> Option<Incarnation> {
        self.ledger.peer_incarnation()
    }

    /// Accepts a message for sending, or refuses it at once.
    ///
    /// # Errors
    /// [`SendError`]; nothing of the message is kept then.
    #[inline]
    pub fn send(&self, message: Outgoing) -> Result<Receipt, SendError> {
        let channel = message.channel;
        if channel.is_stream() {
            return Err(SendError::TooManyChannels { limit: ChannelId::STREAM_BASE as usize });
        }
        self.push(message)
    }

    #[inline]
    pub(crate) fn push(&self, message: Outgoing) -> Result<Receipt, SendError> {
        let channel = message.channel;
        let expires = message.expires_in.map(|time| clock::now() + time);
        let pushed = self.ledger.outbox().push(message, expires);
        if matches!(pushed, Err(SendError::Full { .. })) {
            // It may be the whole node that was full; the session looks whether it still is.
            self.ledger.wake();
        }
        let pushed = pushed?;
        if pushed.wake {
            self.ledger.wake();
        }
        Ok(self.receipt(channel, pushed.sequence))
    }

    pub(crate) fn receipt(&self, channel: ChannelId, sequence: u64) -> Receipt {
        Receipt { ledger: self.ledger.clone(), channel, sequence }
    }

    /// Accepts a message for sending once there is room for it.
    ///
    /// # Errors
    /// [`SendError`], except for `Full`.
    pub async fn send_wait(&self, message: Outgoing) -> Result<Receipt, SendError> {
        loop {
            match self.send(message.clone()) {
                Err(SendError::Full { .. }) => self.room(message.class, message.payload.len()).await,
                other => return other,
            }
        }
    }

    /// Waits until there may be room for a message of so many bytes, or the session has ended.
    pub(crate) async fn room(&self, class: MessageClass, bytes: usize) {
        poll_fn(|cx| {
            let mut outbox = self.ledger.outbox();
            if outbox.is_closed() || outbox.has_room(class, bytes) {
                return Poll::Ready(());
            }
            outbox.wait_room(cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Opens a stream: ordered bytes both ways that survive the links. `label` tells the peer's application what it is for, at most
    /// 1 KiB.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn open_stream(&self, label: impl Into<Bytes>) -> Result<SessionStream, SendError> {
        SessionStream::open(self.clone(), label.into())
    }

    /// Messages and bytes that are accepted and not final.
    pub fn queued(&self) -> (usize, usize) {
        self.ledger.outbox().queued()
    }

    /// Whether the session has ended.
    pub fn is_closed(&self) -> bool {
        self.ledger.outbox().is_closed()
    }

    /// Waits until every accepted message is final.
    pub async fn settled(&self) {
        poll_fn(|cx| {
            let mut outbox = self.ledger.outbox();
            if outbox.is_settled() || outbox.is_closed() {
                return Poll::Ready(());
            }
            outbox.wait_settled(cx.waker());
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}

/// What became of one message. Holds no memory of its own beyond this value.
#[derive(Clone)]
pub struct Receipt {
    ledger: Arc<Ledger>,
    channel: ChannelId,
    sequence: u64,
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("channel", &self.channel)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Receipt {
    /// The channel of the message.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The number of the message in its channel.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What is known of the message now.
    pub fn state(&self) -> ReceiptState {
        self.ledger.outbox().state(self.channel, self.sequence)
    }

    /// Waits until nothing more will change, and tells how it ended.
    pub fn settled(&self) -> impl Future<Output = ReceiptState> + '_ {
        poll_fn(|cx| {
            let mut outbox = self.ledger.outbox();
            let state = outbox.state(self.channel, self.sequence);
            if state.is_final() {
                return Poll::Ready(state);
            }
            outbox.wait_final(self.channel, self.sequence, cx.waker());
            Poll::Pending
        })
    }
}

/// Receipts in the order of their messages, for programs that send many: one look at the session serves all of them.
#[derive(Debug, Default)]
pub struct Receipts {
    waiting: VecDeque<Receipt>,
}

impl Receipts {
    /// Adds the receipt of a message that was sent behind those of the others.
    #[inline]
    pub fn push(&mut self, receipt: Receipt) {
        self.waiting.push_back(receipt);
    }

    /// Takes receipts from the front as long as nothing more will change about them, at most so many, and tells how each ended.
    pub fn take_final(&mut self, most: usize, mut ended: impl FnMut(ReceiptState)) {
        let mut left = most;
        while left > 0
            && let Some(ledger) = self.waiting.front().map(|receipt| receipt.ledger.clone())
        {
            let outbox = ledger.outbox();
            let before = left;
            while let Some(receipt) = self.waiting.front().filter(|receipt| Arc::ptr_eq(&receipt.ledger, &ledger)) {
                let state = outbox.state(receipt.channel, receipt.sequence);
                if left == 0 || !state.is_final() {
                    break;
                }
                self.waiting.pop_front();
                left -= 1;
                ended(state);
            }
            if left == before {
                return;
            }
        }
    }

    /// Receipts that are not final, as far as was looked.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
