//! What waits to be written, per lane.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bowline_messages::wire::packet::LENGTH_BYTES;
use bytes::Bytes;

use crate::transport::{Lane, Link, TransportError};

/// A queue that was longer than this gives its memory back when it has been emptied.
const KEPT_CAPACITY: usize = 16;

/// The queues of one link.
#[derive(Debug)]
pub(super) struct Outgoing {
    lanes: Vec<VecDeque<Bytes>>,
    bytes: usize,
}

impl Outgoing {
    pub(super) fn new(lanes: Lane) -> Self {
        Self { lanes: vec![VecDeque::new(); usize::from(lanes.max(1))], bytes: 0 }
    }

    /// Queues bytes behind what waits on the lane.
    pub(super) fn push(&mut self, lane: Lane, data: Bytes) {
        if !data.is_empty() {
            let last = self.lanes.len() - 1;
            self.bytes += data.len();
            self.lanes[usize::from(lane).min(last)].push_back(data);
        }
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes what the link takes now, the most urgent lane first. Returns the bytes taken.
    ///
    /// # Errors
    /// Those of the link.
    pub(super) fn write(&mut self, link: &mut dyn Link, cx: &mut Context<'_>) -> Result<usize, TransportError> {
        if self.bytes == 0 {
            return Ok(0);
        }
        let before = self.bytes;
        for (lane, queue) in (0..).zip(&mut self.lanes) {
            while let Some(data) = queue.front_mut() {
                let had = data.len();
                let written = link.poll_write(cx, lane, data)?;
                self.bytes -= had - data.len();
                if data.is_empty() {
                    queue.pop_front();
                }
                if written.is_pending() {
                    break;
                }
            }
            if queue.is_empty() && queue.capacity() > KEPT_CAPACITY {
                *queue = VecDeque::new();
            }
        }
        Ok(before - self.bytes)
    }

    /// Writes everything and closes the link behind it.
    ///
    /// # Errors
    /// Those of the link.
    pub(super) fn poll_close(&mut self, link: &mut dyn Link, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.write(link, cx)?;
        if self.bytes > 0 {
            return Poll::Pending;
        }
        link.poll_close(cx)
    }
}

/// How many packets there are in bytes that are whole packets.
pub(super) fn count_packets(mut packets: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(length) = packets.first_chunk::<LENGTH_BYTES>() {
        count += 1;
        let whole = LENGTH_BYTES.saturating_add(u32::from_be_bytes(*length) as usize);
        packets = packets.get(whole..).unwrap_or_default();
    }
    count
}
