//! What nodes tell each other beside messages: sent once, over whatever link is best at the time, and not again (as datagrams of QUIC
//! are, RFC 9221). They wait for room on a link until they are too old, and no more of them than fit a bound.

use std::collections::VecDeque;
use std::time::Instant;

use bowline_messages::MessageClass;
use bowline_messages::network::Concern;
use bytes::Bytes;

use super::outbox::CLASSES;

/// One that waits.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    /// The number of whose concern it is.
    pub(crate) concern: u8,
    pub(crate) payload: Bytes,
    /// When it is worth nothing any more.
    pub(crate) expires: Instant,
}

/// Why a datagram was not taken. Nothing of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// More wait already than may. The network is slow, or the sender too fast.
    #[error("too many datagrams wait for this peer")]
    Full,
    /// It does not fit a record. The caller's mistake.
    #[error("the datagram is larger than a record")]
    TooLarge,
    /// No link to the peer is usable now.
    #[error("there is no usable link to this peer")]
    NoLink,
    /// There is no session with the peer, or it has ended.
    #[error("there is no session with this peer")]
    NoSession,
}

/// Those that wait for a link. Costs one word while there are none.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    queues: [VecDeque<Datagram>; CLASSES],
    /// Bytes of all, with what each costs beside its content.
    bytes: usize,
}

/// What a datagram takes besides its content.
const OVERHEAD_BYTES: usize = size_of::<Datagram>();

/// Packets on their way to others leave one part in so many of the room to what this node and its neighbour ask and tell each other.
const KEPT_FROM_MESH_PARTS: usize = 4;

impl Datagrams {
    /// Takes one, if it fits among at most `limit` bytes once those are gone that are too old; among less if it belongs to the mesh.
    pub(crate) fn push(
        &mut self,
        now: Instant,
        class: MessageClass,
        datagram: Datagram,
        limit: usize,
    ) -> Result<(), DatagramError> {
        self.drop_expired(now);
        let waiting = self.waiting.get_or_insert_default();
        let bytes = datagram.payload.len() + OVERHEAD_BYTES;
        let kept = if datagram.concern == Concern::Mesh.code() { limit / KEPT_FROM_MESH_PARTS } else { 0 };
        if waiting.bytes + bytes > limit - kept {
            self.forget_empty();
            return Err(DatagramError::Full);
        }
        waiting.bytes += bytes;
        waiting.queues[class.index()].push_back(datagram);
        Ok(())
    }

    /// Whether one of a class waits.
    pub(crate) fn has(&self, class: usize) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.queues[class].is_empty())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// The next one of a class.
    pub(crate) fn head(&self, class: usize) -> Option<&Datagram> {
        self.waiting.as_ref()?.queues[class].front()
    }

    /// The next one of a class.
    pub(crate) fn pop(&mut self, class: usize) -> Option<Datagram> {
        let waiting = self.waiting.as_mut()?;
        let datagram = waiting.queues[class].pop_front()?;
        waiting.bytes -= datagram.payload.len() + OVERHEAD_BYTES;
        self.forget_empty();
        Some(datagram)
    }

    /// Drops what is too old; says how many. Those of one class expire in order, or nearly: each concern uses one time.
    pub(crate) fn drop_expired(&mut self, now: Instant) -> usize {
        let Some(waiting) = &mut self.waiting else { return 0 };
        let mut dropped = 0;
        for queue in &mut waiting.queues {
            while let Some(old) = queue.pop_front_if(|datagram| datagram.expires <= now) {
                waiting.bytes -= old.payload.len() + OVERHEAD_BYTES;
                dropped += 1;
            }
        }
        self.forget_empty();
        dropped
    }

    /// Drops all.
    pub(crate) fn clear(&mut self) {
        self.waiting = None;
    }

    fn forget_empty(&mut self) {
        if self.waiting.as_ref().is_some_and(|waiting| waiting.bytes == 0) {
            self.waiting = None;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    fn datagram(bytes: usize, expires: Instant) -> Datagram {
        Datagram { concern: 1, payload: vec![7; bytes].into(), expires }
    }

    #[test]
    fn what_waits_is_bounded_and_old_ones_make_room() {
        let (now, mut datagrams) = (Instant::now(), Datagrams::default());
        let soon = now + Duration::from_secs(1);
        let limit = 3 * (100 + OVERHEAD_BYTES);
        for _ in 0..3 {
            datagrams.push(now, MessageClass::Critical, datagram(100, soon), limit).unwrap();
        }
        let refused = datagrams.push(now, MessageClass::Realtime, datagram(0, soon), limit);
        assert_eq!(refused, Err(DatagramError::Full));
        datagrams.push(soon, MessageClass::Realtime, datagram(100, soon + Duration::from_secs(1)), limit).unwrap();
        assert!(!datagrams.has(MessageClass::Critical.index()));
        assert_eq!(datagrams.head(MessageClass::Realtime.index()).unwrap().payload.len(), 100);
        assert_eq!(datagrams.pop(MessageClass::Realtime.index()).unwrap().payload.len(), 100);
        assert!(datagrams.is_empty());
    }

    #[test]
    fn packets_of_the_mesh_leave_room_for_what_neighbours_tell_each_other() {
        let (now, mut datagrams) = (Instant::now(), Datagrams::default());
        let soon = now + Duration::from_secs(1);
        let limit = 8 * (100 + OVERHEAD_BYTES);
        let mut push = |concern: Concern| {
            let datagram = Datagram { concern: concern.code(), ..datagram(100, soon) };
            datagrams.push(now, MessageClass::Streaming, datagram, limit)
        };
        assert_eq!((0..20).filter(|_| push(Concern::Mesh).is_ok()).count(), 6);
        assert_eq!((0..20).filter(|_| push(Concern::Membership).is_ok()).count(), 2);
        assert_eq!(push(Concern::Mesh), Err(DatagramError::Full));
    }

    #[test]
    fn one_that_is_refused_leaves_nothing_behind() {
        let (now, mut datagrams) = (Instant::now(), Datagrams::default());
        assert_eq!(datagrams.push(now, MessageClass::Bulk, datagram(10, now), 5), Err(DatagramError::Full));
        assert!(datagrams.is_empty());
    }
}
