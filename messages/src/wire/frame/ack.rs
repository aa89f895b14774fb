//! The ACK frame: `0x02 ‖ link ‖ delay_us ‖ largest ‖ further ranges ‖ first range ‖ (gap ‖ length)…`, all varints, the ranges
//! as in RFC 9000 §19.3.1.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};

use super::{ACK_RANGES_MAX, types};
use crate::id::LinkId;
use crate::wire::packet::RecordNumber;
use crate::wire::reader::{Reader, Short};
use crate::wire::varint;

/// Acknowledges records of one link; may arrive over any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The link whose records these are.
    pub link: LinkId,
    /// How long the newest of them waited for this frame, in microseconds.
    pub delay_us: u64,
    /// The newest record acknowledged.
    pub largest: RecordNumber,
    /// All of them.
    pub ranges: AckRanges,
}

/// The ranges of an [`Ack`], newest first: 1 to 64 of them, disjoint and not adjacent. They were checked when the frame was read and
/// are decoded while they are iterated, so an acknowledgement allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckRanges {
    /// The largest number of the range to come next; `None` at the end.
    high: Option<u64>,
    /// The lengths and gaps that follow.
    encoded: Bytes,
}

impl AckRanges {
    /// Steps through one range; `None` when the encoding is not one.
    fn step(high: u64, reader: &mut Reader<'_>, last: bool) -> Option<(RangeInclusive<u64>, Option<u64>)> {
        let low = high.checked_sub(reader.varint().ok()?)?;
        if last {
            return Some((low..=high, None));
        }
        // RFC 9000: a gap of n means n + 1 unacknowledged numbers between two ranges.
        let next = low.checked_sub(reader.varint().ok()?)?.checked_sub(2)?;
        Some((low..=high, Some(next)))
    }
}

impl Iterator for AckRanges {
    type Item = RangeInclusive<u64>;

    fn next(&mut self) -> Option<RangeInclusive<u64>> {
        let high = self.high.take()?;
        let encoded = self.encoded.clone();
        let mut reader = Reader::new(&encoded, 0);
        let length = varint::read(&encoded).map_or(0, |(_, length)| length);
        let (range, next) = Self::step(high, &mut reader, encoded.len() == length)?;
        self.high = next;
        self.encoded = encoded.slice(reader.at()..);
        Some(range)
    }
}

/// Appends an ACK frame with the newest 64 ranges; gives how many of them were written (0 when there were none, and then
/// nothing was appended).
///
/// `ranges`: newest first, disjoint and not adjacent, as a receiver keeps them; a range that breaks this order ends the list.
///
/// # Panics
/// When a number is above [`varint::MAX`].
pub fn put_ack(
    into: &mut BytesMut,
    link: LinkId,
    delay_us: u64,
    ranges: impl IntoIterator<Item = RangeInclusive<u64>>,
) -> usize {
    let mut ranges = ranges.into_iter();
    let Some(first) = ranges.next().filter(|range| range.start() <= range.end()) else { return 0 };
    // (gap to the range before, length of this one) of each further range; hardly ever is there one.
    let mut further = Vec::new();
    let mut lowest = *first.start();
    for range in ranges.take(ACK_RANGES_MAX - 1) {
        let length = range.end().checked_sub(*range.start());
        let gap = lowest.checked_sub(*range.end()).and_then(|gap| gap.checked_sub(2));
        let Some(pair) = gap.zip(length) else { break };
        further.push(pair);
        lowest = *range.start();
    }
    let (length, count) = (first.end() - first.start(), further.len() as u64);
    varint::put_frame(into, types::ACK, [link.0.into(), delay_us.min(varint::MAX), *first.end(), count, length]);
    for (gap, length) in &further {
        varint::put(into, *gap);
        varint::put(into, *length);
    }
    1 + further.len()
}

/// The longest ACK frame, in bytes: what room has to be kept for one.
pub const ACK_BYTES_MAX: usize = 1 + 8 * (4 + 2 * ACK_RANGES_MAX);

pub(super) fn read_ack(reader: &mut Reader<'_>, record: &Bytes) -> Result<Ack, Short> {
    let link = LinkId(reader.varint_u32()?);
    let delay_us = reader.varint()?;
    let largest = reader.varint()?;
    let further = reader.varint()?;
    if further >= ACK_RANGES_MAX as u64 {
        return Err(Short);
    }
    let begin = reader.at();
    let mut high = largest;
    for left in (0..=further).rev() {
        let (_, next) = AckRanges::step(high, reader, left == 0).ok_or(Short)?;
        high = next.unwrap_or(high);
    }
    let encoded = record.slice(begin..reader.at());
    Ok(Ack { link, delay_us, largest: RecordNumber(largest), ranges: AckRanges { high: Some(largest), encoded } })
}
