//! Requests that tell a message lost in a crash from an actor that is gone.

use std::time::Duration;

use actix::dev::{SendError, ToEnvelope};
use actix::{Actor, Addr, Handler, MailboxError, Message};

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Our fault: the actor panicked with this message in hand, or is down and drops messages; its address is
    /// still good and later messages may be answered. What the message began may be half done. The supervisor restarts it.
    #[error("the message was lost when the actor crashed")]
    Lost,
    /// The actor is gone for good; nothing was done. No supervisor will bring it back under this address.
    #[error("the actor is gone")]
    Closed,
    /// No answer in time; the message may still be handled.
    #[error("no answer in time")]
    Timeout,
    /// The mailbox is full; nothing was queued.
    #[error("the mailbox is full")]
    Full,
}

/// Sends a message and waits for its answer.
///
/// actix answers `MailboxError::Closed` both when the actor is gone and when it crashed with the message in hand. They are
/// told apart by the address: [`Addr::connected`] stays true through restarts and turns false when the child is
/// forgotten by its supervisor.
///
/// # Errors
/// [`CallError::Lost`] or [`CallError::Closed`].
pub async fn call<A, M>(address: &Addr<A>, message: M) -> Result<M::Result, CallError>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    match address.send(message).await {
        Ok(answer) => Ok(answer),
        Err(MailboxError::Closed) if address.connected() => Err(CallError::Lost),
        Err(MailboxError::Closed) => Err(CallError::Closed),
        Err(MailboxError::Timeout) => Err(CallError::Timeout),
    }
}

/// Like [`call`], for at most `limit`.
///
/// # Errors
/// As [`call`], and [`CallError::Timeout`].
pub async fn call_within<A, M>(address: &Addr<A>, message: M, limit: Duration) -> Result<M::Result, CallError>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    tokio::time::timeout(limit, call(address, message)).await.unwrap_or(Err(CallError::Timeout))
}

/// Queues a message without waiting, within the mailbox's bound (unlike `do_send`).
///
/// # Errors
/// [`CallError::Full`] or [`CallError::Closed`]; the message is dropped.
pub fn notify<A, M>(address: &Addr<A>, message: M) -> Result<(), CallError>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    address.try_send(message).map_err(|error| match error {
        SendError::Full(_) => CallError::Full,
        SendError::Closed(_) => CallError::Closed,
    })
}
