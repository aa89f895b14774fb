//! Sealing and opening the records of one link (`docs/wire.md`).
//!
//! `0x10 ‖ epoch u16 ‖ counter u64 ‖ AES-128-GCM(frames)`, the header authenticated, nonce `link u32 ‖ counter u64`. A link has
//! two traffic secrets from its own handshake, one per direction; `docs/wire.md` has the key schedule. The counter never
//! starts again: not with an epoch, not with a restart of the session actor. So a (key, nonce) pair can only repeat if both the
//! epoch and the counter do, and a restart moves to the next epoch whatever is remembered of the counter.

use std::fmt;
use std::time::{Duration, Instant};

use bowline_messages::LinkId;
use bowline_messages::wire::packet::LENGTH_BYTES;
use bowline_messages::wire::{PACKET_BYTES_MAX, RecordHeader, RecordNumber};
use bytes::{Buf, Bytes, BytesMut};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use zeroize::Zeroizing;

use super::replay::{Replay, ReplayWindow};

/// Bytes of the authentication tag at the end of a record.
pub const TAG_BYTES: usize = 16;
/// Bytes that a record takes on the wire beyond its frames: length, header and tag.
pub const RECORD_OVERHEAD_BYTES: usize = LENGTH_BYTES + RecordHeader::BYTES + TAG_BYTES;
/// The most bytes of frames in one record.
pub const RECORD_FRAMES_BYTES_MAX: usize = PACKET_BYTES_MAX - RecordHeader::BYTES - TAG_BYTES;
/// How many epochs the sender may have moved on without the receiver having opened a record of those between: a session actor
/// that was restarted several times in a row. Bounds the work a forged header can cause.
pub const EPOCH_JUMP_MAX: u16 = 16;

/// When the sender moves on to the next epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationLimits {
    /// Records sealed under one key; default 2^22, of 16 KiB each far below where AES-GCM weakens (RFC 8446 §5.5 allows 2^24.5).
    pub records: u64,
    /// Bytes sealed under one key; default 32 GiB.
    pub bytes: u64,
    /// How long a key is in use; default one hour. A key that is stolen later opens nothing older than its epoch.
    pub age: Duration,
}

impl Default for RotationLimits {
    fn default() -> Self {
        Self { records: 1 << 22, bytes: 32 << 30, age: Duration::from_secs(3600) }
    }
}

/// Why nothing can be sealed (any more). Ours to bear; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The frames are more than fit a record: a mistake of the caller.
    #[error("{bytes} bytes of frames, more than fit one record ({RECORD_FRAMES_BYTES_MAX})")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// The link has used up its epochs or its numbers; it has to be replaced by a new one.
    #[error("the link's keys are used up")]
    Exhausted,
}

/// Why a record was not opened. The fault of the peer or of somebody between; the state is as before, apart from the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not a record at all.
    #[error("not a record")]
    NotARecord,
    /// Too short for a header and a tag.
    #[error("a truncated record")]
    Truncated,
    /// Longer than a packet may be.
    #[error("an oversized record")]
    Oversized,
    /// Of an epoch whose key is forgotten, or too far ahead.
    #[error("a record of epoch {epoch} in epoch {current}")]
    Epoch {
        /// The epoch it claims.
        epoch: u16,
        /// The newest epoch a record was opened in.
        current: u16,
    },
    /// Its number was opened before.
    #[error("record {0} came before")]
    Replayed(RecordNumber),
    /// Its number is too far behind to tell whether it was opened before.
    #[error("record {0} is too old")]
    TooOld(RecordNumber),
    /// It was not sealed by the peer, or was changed on the way.
    #[error("record {0} is forged")]
    Forged(RecordNumber),
}

/// What was not opened, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rejections {
    /// Not records, by their type byte.
    pub not_a_record: u64,
    /// Too short.
    pub truncated: u64,
    /// Too long.
    pub oversized: u64,
    /// Of an epoch that is forgotten or too far ahead.
    pub epoch: u64,
    /// Opened before.
    pub replayed: u64,
    /// Behind the replay window.
    pub too_old: u64,
    /// Forged or changed.
    pub forged: u64,
}

impl Rejections {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.not_a_record + self.truncated + self.oversized + self.epoch + self.replayed + self.too_old + self.forged
    }

    fn count(&mut self, error: OpenError) {
        match error {
            OpenError::NotARecord => self.not_a_record += 1,
            OpenError::Truncated => self.truncated += 1,
            OpenError::Oversized => self.oversized += 1,
            OpenError::Epoch { .. } => self.epoch += 1,
            OpenError::Replayed(_) => self.replayed += 1,
            OpenError::TooOld(_) => self.too_old += 1,
            OpenError::Forged(_) => self.forged += 1,
        }
    }
}

/// The traffic secret of one direction of a link, at one epoch. Wiped when dropped; never shown.
#[derive(Clone)]
pub(crate) struct TrafficSecret(Zeroizing<[u8; 32]>);

impl TrafficSecret {
    pub(crate) const fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        Self(secret)
    }

    fn expand(&self, label: &[u8], out: &mut [u8]) {
        /// How many bytes to expand to.
        struct Length(usize);
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &self.0[..])
            .expand(&[label], Length(out.len()))
            .and_then(|okm| okm.fill(out))
            .expect("HKDF-SHA256 gives up to 8,160 bytes");
    }

    /// The secret of the next epoch. One-way: this one cannot be had from it.
    fn next(&self) -> Self {
        let mut next = Zeroizing::new([0; 32]);
        self.expand(b"bowline v1 epoch", &mut next[..]);
        Self(next)
    }

    fn key(&self) -> LessSafeKey {
        let mut key = Zeroizing::new([0; 16]);
        self.expand(b"bowline v1 key", &mut key[..]);
        LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..]).expect("16 bytes are an AES-128 key"))
    }
}

#[inline]
fn nonce(link: LinkId, number: RecordNumber) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&link.0.to_be_bytes());
    bytes[4..].copy_from_slice(&number.0.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Where a record begins in a buffer, between [`Sealer::begin`] and [`Sealer::finish`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a record that was begun has to be finished or cancelled, or its room goes out as zeros"]
pub struct RecordStart {
    at: usize,
}

impl RecordStart {
    /// Bytes of frames in the record so far.
    #[inline]
    pub fn frames_bytes(&self, buffer: &BytesMut) -> usize {
        buffer.len().saturating_sub(self.at + LENGTH_BYTES + RecordHeader::BYTES)
    }

    /// Takes the record back: the buffer is as it was before [`Sealer::begin`].
    pub fn cancel(self, buffer: &mut BytesMut) {
        buffer.truncate(self.at);
    }
}

/// Seals the records of one direction of a link.
///
/// Kept where a panic of the session actor does not lose it. A number is used up before the key touches anything, so a panic in
/// the middle leaves a gap and never a second use; a session actor that was restarted calls [`Sealer::rotate`] first all the same.
pub struct Sealer {
    link: LinkId,
    epoch: u16,
    next: u64,
    records: u64,
    bytes: u64,
    since: Instant,
    limits: RotationLimits,
    secret: TrafficSecret,
    key: LessSafeKey,
}

impl Sealer {
    pub(crate) fn new(link: LinkId, secret: TrafficSecret, limits: RotationLimits, now: Instant) -> Self {
        let key = secret.key();
        Self { link, epoch: 0, next: 0, records: 0, bytes: 0, since: now, limits, secret, key }
    }

    /// Begins a record at the end of the buffer; append frames, then [`Sealer::finish`].
    #[inline]
    pub fn begin(&self, buffer: &mut BytesMut) -> RecordStart {
        let at = buffer.len();
        buffer.extend_from_slice(&[0; LENGTH_BYTES + RecordHeader::BYTES]);
        RecordStart { at }
    }

    /// Encrypts everything after the start in place, appends the tag and fills length and header in.
    ///
    /// # Errors
    /// [`SealError`]; the record is taken back then.
    #[inline]
    pub fn finish(&mut self, buffer: &mut BytesMut, start: RecordStart) -> Result<RecordNumber, SealError> {
        let frames = start.frames_bytes(buffer);
        if frames > RECORD_FRAMES_BYTES_MAX {
            start.cancel(buffer);
            return Err(SealError::TooLarge { bytes: frames });
        }
        // The caller is asked to rotate well before; a key is never used beyond its limits even by one that does not.
        if self.next == u64::MAX || (self.is_used_up() && self.rotate(self.since).is_err()) {
            start.cancel(buffer);
            return Err(SealError::Exhausted);
        }
        let number = RecordNumber(self.next);
        self.next += 1;
        self.records += 1;
        self.bytes += frames as u64;

        let header = RecordHeader { epoch: self.epoch, number }.encode();
        let body = start.at + LENGTH_BYTES + RecordHeader::BYTES;
        let length = (RecordHeader::BYTES + frames + TAG_BYTES) as u32;
        buffer[start.at..start.at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        buffer[start.at + LENGTH_BYTES..body].copy_from_slice(&header);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.link, number), Aad::from(header), &mut buffer[body..])
            .expect("a record is far below what AES-GCM can seal");
        buffer.extend_from_slice(tag.as_ref());
        Ok(number)
    }

    /// Whether the key has been used enough: by records, bytes or age.
    #[inline]
    pub fn should_rotate(&self, now: Instant) -> bool {
        self.is_used_up() || (self.records > 0 && now.saturating_duration_since(self.since) >= self.limits.age)
    }

    #[inline]
    const fn is_used_up(&self) -> bool {
        self.records > 0 && (self.records >= self.limits.records || self.bytes >= self.limits.bytes)
    }

    /// Moves on to the next epoch: new key, old one gone. Numbers go on.
    ///
    /// # Errors
    /// [`SealError::Exhausted`] after 65,535 of them; the key stays then.
    pub fn rotate(&mut self, now: Instant) -> Result<(), SealError> {
        self.epoch = self.epoch.checked_add(1).ok_or(SealError::Exhausted)?;
        self.secret = self.secret.next();
        self.key = self.secret.key();
        self.records = 0;
        self.bytes = 0;
        self.since = now;
        Ok(())
    }

    /// The link whose records these are.
    pub const fn link(&self) -> LinkId {
        self.link
    }

    /// The epoch in use.
    pub const fn epoch(&self) -> u16 {
        self.epoch
    }

    /// The number of the next record.
    pub const fn next_number(&self) -> RecordNumber {
        RecordNumber(self.next)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, epoch, next, records, bytes, since: _, limits: _, secret: _, key: _ } = self;
        write!(f, "Sealer({link}, epoch {epoch}, next {next}, {records} records and {bytes} bytes in it)")
    }
}

/// The key of the epoch before, kept for records that are still on the way.
struct PreviousEpoch {
    epoch: u16,
    key: LessSafeKey,
    /// When its age was first asked for.
    since: Option<Instant>,
}

/// Opens the records of one direction of a link.
pub struct Opener {
    link: LinkId,
    epoch: u16,
    secret: TrafficSecret,
    key: LessSafeKey,
    previous: Option<Box<PreviousEpoch>>,
    window: ReplayWindow,
    rejections: Rejections,
}

impl Opener {
    pub(crate) fn new(link: LinkId, secret: TrafficSecret) -> Self {
        let key = secret.key();
        Self {
            link,
            epoch: 0,
            secret,
            key,
            previous: None,
            window: ReplayWindow::default(),
            rejections: Rejections::default(),
        }
    }

    /// Opens a packet (without its length) in place: its number and the frames in it.
    ///
    /// # Errors
    /// [`OpenError`]; the packet is dropped and counted.
    #[inline]
    pub fn open(&mut self, mut packet: BytesMut) -> Result<(RecordNumber, Bytes), OpenError> {
        match self.open_in_place(&mut packet) {
            Ok(number) => {
                packet.truncate(packet.len() - TAG_BYTES);
                packet.advance(RecordHeader::BYTES);
                Ok((number, packet.freeze()))
            }
            Err(error) => {
                self.rejections.count(error);
                Err(error)
            }
        }
    }

    #[inline]
    fn open_in_place(&mut self, packet: &mut BytesMut) -> Result<RecordNumber, OpenError> {
        if packet.len() > PACKET_BYTES_MAX {
            return Err(OpenError::Oversized);
        }
        let Some(header) = RecordHeader::decode(packet) else {
            let short = packet.len() < RecordHeader::BYTES;
            return Err(if short { OpenError::Truncated } else { OpenError::NotARecord });
        };
        if packet.len() < RecordHeader::BYTES + TAG_BYTES {
            return Err(OpenError::Truncated);
        }
        let number = header.number;
        self.window.check(number).map_err(|replay| match replay {
            Replay::Seen => OpenError::Replayed(number),
            Replay::TooOld => OpenError::TooOld(number),
        })?;
        let (head, body) = packet.split_at_mut(RecordHeader::BYTES);
        if header.epoch == self.epoch {
            decrypt(&self.key, self.link, number, head, body)?;
        } else if header.epoch > self.epoch {
            self.open_ahead(header, head, body)?;
        } else {
            let key = self.previous.as_ref().filter(|previous| previous.epoch == header.epoch);
            let key = key.ok_or(OpenError::Epoch { epoch: header.epoch, current: self.epoch })?;
            decrypt(&key.key, self.link, number, head, body)?;
        }
        self.window.mark(number);
        Ok(number)
    }

    /// A record of a later epoch: its key is derived, and kept only if the record opens, so a forged header moves nothing.
    #[cold]
    fn open_ahead(&mut self, header: RecordHeader, head: &[u8], body: &mut [u8]) -> Result<(), OpenError> {
        let jump = header.epoch - self.epoch;
        if jump > EPOCH_JUMP_MAX {
            return Err(OpenError::Epoch { epoch: header.epoch, current: self.epoch });
        }
        let mut secret = self.secret.next();
        for _ in 1..jump {
            secret = secret.next();
        }
        let key = secret.key();
        decrypt(&key, self.link, header.number, head, body)?;
        let old = std::mem::replace(&mut self.key, key);
        // The sender's numbers go on over its epochs: when all before this one came, nothing can come that the old key would open.
        let done = self.window.is_complete_below(header.number);
        self.previous = (!done).then(|| Box::new(PreviousEpoch { epoch: self.epoch, key: old, since: None }));
        self.secret = secret;
        self.epoch = header.epoch;
        Ok(())
    }

    /// Forgets the key of the epoch before once it was kept for this long since this was first asked; gives when that will be.
    pub fn age_previous(&mut self, now: Instant, keep: Duration) -> Option<Instant> {
        let until = *self.previous.as_mut()?.since.get_or_insert(now) + keep;
        if until > now {
            return Some(until);
        }
        self.forget_previous();
        None
    }

    /// Forgets the key of the epoch before.
    pub fn forget_previous(&mut self) {
        self.previous = None;
    }

    /// The epoch before, while its key is kept.
    pub fn previous_epoch(&self) -> Option<u16> {
        self.previous.as_ref().map(|previous| previous.epoch)
    }

    /// The newest epoch in which a record was opened.
    pub const fn epoch(&self) -> u16 {
        self.epoch
    }

    /// The link whose records these are.
    pub const fn link(&self) -> LinkId {
        self.link
    }

    /// What was not opened.
    pub const fn rejections(&self) -> &Rejections {
        &self.rejections
    }
}

#[inline]
fn decrypt(
    key: &LessSafeKey,
    link: LinkId,
    number: RecordNumber,
    head: &[u8],
    body: &mut [u8],
) -> Result<(), OpenError> {
    key.open_in_place(nonce(link, number), Aad::from(head), body).map_err(|_| OpenError::Forged(number))?;
    Ok(())
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, epoch, secret: _, key: _, previous: _, window, rejections } = self;
        write!(f, "Opener({link}, epoch {epoch}, next {}, {} rejected)", window.next(), rejections.total())
    }
}

#[cfg(test)]
mod tests;
