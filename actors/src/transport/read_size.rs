//! How much room a link reserves before it reads: small while little arrives, large in a bulk transfer.

use bytes::BytesMut;

use super::READ_BYTES;

/// Room reserved for a link that carries little: a handful of small records. An idle link keeps none of it.
const SMALL_BYTES: usize = 1024;
/// Reads in a row that used less than an eighth of the room before it is halved: a burst of acknowledgements in between
/// must not throw away the buffer of a bulk transfer.
const SHRINK_AFTER: u8 = 8;

/// Adapts the room to what arrives. One per link, or one per lane where lanes are read apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadSize {
    bytes: usize,
    sparse: u8,
}

impl Default for ReadSize {
    fn default() -> Self {
        Self { bytes: SMALL_BYTES, sparse: 0 }
    }
}

impl ReadSize {
    /// Makes room in the buffer. Called once there is something to read. Memory that the buffer had and nobody uses any more
    /// is taken again before new memory is asked for.
    pub(crate) fn reserve(&self, buffer: &mut BytesMut) {
        // Reading on in what is left avoids handing a new block to every few packets; below half, the blocks would get small.
        if buffer.capacity() - buffer.len() < self.bytes / 2 {
            buffer.reserve(self.bytes);
        }
    }

    /// Something was read; `room` is what there was room for.
    pub(crate) fn on_read(&mut self, read: usize, room: usize) {
        if read == room {
            self.bytes = (self.bytes * 4).min(READ_BYTES);
            self.sparse = 0;
        } else if read >= self.bytes / 8 {
            self.sparse = 0;
        } else {
            self.sparse += 1;
            if self.sparse >= SHRINK_AFTER {
                self.bytes = (self.bytes / 2).max(SMALL_BYTES);
                self.sparse = 0;
            }
        }
    }

    /// Like [`ReadSize::on_read`] where the room says nothing, because bytes come in portions: judged by their sum.
    #[cfg(feature = "tls")]
    pub(crate) fn on_total(&mut self, read: usize) {
        let room = if read >= self.bytes { read } else { usize::MAX };
        self.on_read(read, room);
    }

    /// Nothing more to read now: gives memory back that is far more than the traffic asks for, all of it where that is little.
    pub(crate) fn on_idle(&self, buffer: &mut BytesMut) {
        if buffer.is_empty() && (self.bytes <= SMALL_BYTES || buffer.capacity() > self.bytes * 2) {
            *buffer = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_transfer_grows_the_room_to_its_limit_and_no_further() {
        let mut size = ReadSize::default();
        let mut buffer = BytesMut::new();
        for _ in 0..20 {
            size.reserve(&mut buffer);
            let room = buffer.capacity() - buffer.len();
            size.on_read(room, room);
            buffer.clear();
        }
        assert!((READ_BYTES / 2..=READ_BYTES).contains(&buffer.capacity()), "{}", buffer.capacity());
    }

    #[test]
    fn a_link_that_gets_quiet_gives_its_memory_back() {
        let mut size = ReadSize { bytes: READ_BYTES, sparse: 0 };
        let mut buffer = BytesMut::new();
        size.reserve(&mut buffer);
        size.on_idle(&mut buffer);
        assert!(buffer.capacity() >= READ_BYTES / 2, "a pause in a bulk transfer keeps the buffer");
        for _ in 0..80 {
            size.reserve(&mut buffer);
            size.on_read(64, READ_BYTES);
            size.on_idle(&mut buffer);
        }
        assert!(buffer.capacity() <= 2 * SMALL_BYTES, "{}", buffer.capacity());
    }

    #[test]
    fn unread_bytes_are_never_thrown_away() {
        let size = ReadSize::default();
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        buffer.extend_from_slice(b"half a packet");
        size.on_idle(&mut buffer);
        assert_eq!(&buffer[..], b"half a packet");
    }
}
