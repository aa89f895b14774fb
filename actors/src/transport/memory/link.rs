//! A simulated link, its arrival at a listener, and the listener.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bowline_messages::EndpointAddress;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::time::{Instant, Sleep};

use super::network::{ListenerKey, MemoryNetwork, lock};
use super::path::Path;
use super::pipe::{End, Found, Pipe};
use crate::transport::{Incoming, Lane, LaneBuffers, Link, LinkEnds, Listener, READ_BYTES, TransportError};

/// Both directions of one link.
#[derive(Debug)]
pub(super) struct Connection {
    directions: [(Path, Pipe); 2],
}

impl Connection {
    pub(super) fn new(forward: (Path, Pipe), backward: (Path, Pipe)) -> Self {
        Self { directions: [forward, backward] }
    }

    pub(super) fn pipe_on(&mut self, path: &Path) -> Option<&mut Pipe> {
        self.directions.iter_mut().find(|(own, _)| own == path).map(|(_, pipe)| pipe)
    }

    pub(super) fn reset(&mut self, now: Instant) {
        for (_, pipe) in &mut self.directions {
            pipe.reset(now);
        }
    }
}

/// One end of a link.
pub(super) struct MemoryLink {
    network: MemoryNetwork,
    connection: Arc<Mutex<Connection>>,
    /// Which of the two directions this end writes; it reads the other.
    writes: usize,
    ends: LinkEnds,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    closed: bool,
}

/// Why a chunk does not leave now.
enum Held {
    /// The path drops chunks of its size.
    Dropped,
    /// There is no room until then, if that is known.
    Until(Option<Instant>),
}

impl MemoryLink {
    pub(super) fn new(
        network: MemoryNetwork,
        connection: Arc<Mutex<Connection>>,
        writes: usize,
        ends: LinkEnds,
    ) -> Self {
        Self { network, connection, writes, ends, reading: None, writing: None, closed: false }
    }

    /// Takes as much as windows and queues allow; `Err` tells when to try again, if that is known.
    fn write_now(&mut self, lane: Lane, data: &mut Bytes) -> Result<Result<(), Option<Instant>>, TransportError> {
        let now = Instant::now();
        let mut connection = lock(&self.connection);
        let was_reset = connection.directions.iter().any(|(_, pipe)| pipe.was_reset(now));
        if was_reset {
            return Err(io::Error::from(io::ErrorKind::ConnectionReset).into());
        }
        let (path, pipe) = &mut connection.directions[self.writes];
        let sent = self.network.send(path, now, |settings| {
            if settings.drop_larger_than.is_some_and(|limit| data.len() > limit) {
                return Err(Held::Dropped);
            }
            let window = pipe.window_left(lane, settings.window_bytes);
            let (queue, next) = pipe.queue_left(now, settings.queue_bytes);
            let room = window.min(queue).min(data.len());
            if room == 0 { Err(Held::Until(next.filter(|_| queue == 0))) } else { Ok(room) }
        });
        Ok(match sent {
            Ok((room, departs, delay)) => {
                pipe.push(lane, data.split_to(room), now, departs, delay);
                Ok(())
            }
            Err(Held::Dropped) => {
                data.clear();
                Ok(())
            }
            Err(Held::Until(when)) => Err(when),
        })
    }

    fn finish(&mut self, end: End) {
        let now = Instant::now();
        let mut connection = lock(&self.connection);
        let (path, pipe) = &mut connection.directions[self.writes];
        let (settings, _) = self.network.look_at(path);
        pipe.finish(end, now, settings.delay());
    }
}

impl Link for MemoryLink {
    fn ends(&self) -> &LinkEnds {
        &self.ends
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, lane: Lane, data: &mut Bytes) -> Poll<Result<(), TransportError>> {
        loop {
            let wait = match self.write_now(lane, data)? {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(wait) => wait,
            };
            lock(&self.connection).directions[self.writes].1.writer = Some(cx.waker().clone());
            let Some(until) = wait else { return Poll::Pending };
            if sleep_until(&mut self.writing, until, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut LaneBuffers) -> Poll<Result<Lane, TransportError>> {
        loop {
            let now = Instant::now();
            let mut connection = lock(&self.connection);
            let pipe = &mut connection.directions[1 - self.writes].1;
            match pipe.take(now) {
                Found::Bytes(lane, bytes) => {
                    let buffer = into.lane(lane);
                    buffer.extend_from_slice(&bytes);
                    let mut read = bytes.len();
                    while read < READ_BYTES
                        && let Some(more) = pipe.take_more(now, lane)
                    {
                        buffer.extend_from_slice(&more);
                        read += more.len();
                    }
                    return Poll::Ready(Ok(lane));
                }
                Found::End(End::Closed) => {
                    return Poll::Ready(Err(TransportError::Closed));
                }
                Found::End(End::Reset) => {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset).into()));
                }
                Found::Nothing => {
                    forget_large(into);
                    pipe.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Found::NotBefore(arrives) => {
                    forget_large(into);
                    pipe.reader = Some(cx.waker().clone());
                    drop(connection);
                    if sleep_until(&mut self.reading, arrives, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if !self.closed {
            self.closed = true;
            self.finish(End::Closed);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        if !self.closed {
            self.finish(End::Reset);
        }
    }
}

/// A large transfer must not leave a large buffer behind: hundreds of simulated nodes share this process.
fn forget_large(buffers: &mut LaneBuffers) {
    const KEPT_BYTES: usize = 8 * 1024;
    for lane in 0..buffers.lanes() {
        let buffer = buffers.lane(lane);
        if buffer.is_empty() && buffer.capacity() > KEPT_BYTES {
            *buffer = bytes::BytesMut::new();
        }
    }
}

/// Sleeps until a time with a timer that is kept for the next sleep.
fn sleep_until(timer: &mut Option<Pin<Box<Sleep>>>, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
    if timer.deadline() != until {
        timer.as_mut().reset(until);
    }
    timer.as_mut().poll(cx)
}

/// A connection at a listener.
pub(super) struct MemoryIncoming {
    pub(super) link: MemoryLink,
}

impl Incoming for MemoryIncoming {
    fn source(&self) -> Option<IpAddr> {
        None
    }

    fn accept(self: Box<Self>) -> LocalBoxFuture<'static, Result<Box<dyn Link>, TransportError>> {
        Box::pin(async move { Ok(Box::new(self.link) as Box<dyn Link>) })
    }

    fn refuse(mut self: Box<Self>, mut packet: Bytes) {
        // A new link has room for one packet; without, it is turned away without a word.
        let _ = self.link.write_now(0, &mut packet);
        self.link.closed = true;
        self.link.finish(End::Closed);
    }
}

/// An open listener.
pub(super) struct MemoryListener {
    pub(super) network: MemoryNetwork,
    pub(super) key: ListenerKey,
}

impl Listener for MemoryListener {
    fn addresses(&self) -> Vec<EndpointAddress> {
        vec![EndpointAddress::new(self.key.kind.clone(), &self.key.host, self.key.port, "")]
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Incoming>, TransportError>> {
        let next = self.network.with_backlog(&self.key, |backlog| {
            let next = backlog.waiting.pop_front();
            if next.is_none() {
                backlog.acceptor = Some(cx.waker().clone());
            }
            next
        });
        match next {
            Some(Some(incoming)) => Poll::Ready(Ok(Box::new(incoming))),
            Some(None) => Poll::Pending,
            None => Poll::Ready(Err(TransportError::Closed)),
        }
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.network.unbind(&self.key);
    }
}
