//! Integers of 1, 2, 4 or 8 bytes, as RFC 9000 §16 writes them: the two highest bits tell the length.

use bytes::BytesMut;

/// The largest value there is: 2^62 − 1.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes a value takes: 1, 2, 4 or 8.
#[inline]
pub const fn length(value: u64) -> usize {
    if value < 1 << 6 {
        1
    } else if value < 1 << 14 {
        2
    } else if value < 1 << 30 {
        4
    } else {
        8
    }
}

/// Writes a value at the front of `into` and gives the number of bytes it took.
///
/// # Panics
/// When the value is above [`MAX`] or `into` is too short: both are mistakes of the caller, who chose both.
#[inline]
pub fn write(into: &mut [u8], value: u64) -> usize {
    if value < 1 << 6 {
        into[0] = value as u8;
        1
    } else if value < 1 << 14 {
        into[..2].copy_from_slice(&(value as u16 | 0x4000).to_be_bytes());
        2
    } else if value < 1 << 30 {
        into[..4].copy_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes());
        4
    } else {
        assert!(value <= MAX, "a varint holds 62 bits");
        into[..8].copy_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes());
        8
    }
}

/// Appends a value.
///
/// # Panics
/// When the value is above [`MAX`].
pub fn put(into: &mut BytesMut, value: u64) {
    let mut bytes = [0; 8];
    let length = write(&mut bytes, value);
    into.extend_from_slice(&bytes[..length]);
}

/// Appends a frame's type and the numbers behind it, in one piece: for the frames that every record has.
///
/// # Panics
/// When a value is above [`MAX`].
#[inline]
pub(crate) fn put_frame<const N: usize>(into: &mut BytesMut, kind: u8, numbers: [u64; N]) {
    const { assert!(N <= NUMBERS_MAX) };
    let mut bytes = [0; 1 + 8 * NUMBERS_MAX];
    bytes[0] = kind;
    let mut length = 1;
    for number in numbers {
        length += write(&mut bytes[length..], number);
    }
    into.extend_from_slice(&bytes[..length]);
}

/// Numbers that [`put_frame`] writes at most.
const NUMBERS_MAX: usize = 5;

/// Reads a value from the front of `data`: the value and the bytes it took, or `None` when `data` ends within it. Encodings
/// longer than needed are accepted, as RFC 9000 does.
#[inline]
pub fn read(data: &[u8]) -> Option<(u64, usize)> {
    let first = *data.first()?;
    if first < 0x40 { Some((u64::from(first), 1)) } else { read_long(data, first) }
}

#[inline]
fn read_long(data: &[u8], first: u8) -> Option<(u64, usize)> {
    match first >> 6 {
        1 => Some((u64::from(u16::from_be_bytes(*data.first_chunk()?) & 0x3fff), 2)),
        2 => Some((u64::from(u32::from_be_bytes(*data.first_chunk()?) & 0x3fff_ffff), 4)),
        _ => Some((u64::from_be_bytes(*data.first_chunk()?) & MAX, 8)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_rfc_9000_appendix_a_1_are_read() {
        assert_eq!(read(&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]).unwrap(), (151_288_809_941_952_652, 8));
        assert_eq!(read(&[0x9d, 0x7f, 0x3e, 0x7d]).unwrap(), (494_878_333, 4));
        assert_eq!(read(&[0x7b, 0xbd]).unwrap(), (15_293, 2));
        assert_eq!(read(&[0x25]).unwrap(), (37, 1));
        assert_eq!(read(&[0x40, 0x25]).unwrap(), (37, 2));
    }

    proptest! {
        #[test]
        fn a_value_comes_back_in_as_many_bytes_as_promised(shift in 0..62u32, low in any::<u64>()) {
            let value = (low & MAX) >> shift;
            let mut buffer = BytesMut::new();
            put(&mut buffer, value);
            prop_assert_eq!(buffer.len(), length(value));
            prop_assert_eq!(read(&buffer).unwrap(), (value, buffer.len()));
            prop_assert_eq!(read(&buffer[..buffer.len() - 1]), None);
        }
    }
}
