//! Reading from a slice without ever reading past its end.

use super::varint;

/// The input ended before the value did, or a number is out of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short;

/// A position in a slice. Every read either advances past a whole value or changes nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(data: &'a [u8], at: usize) -> Self {
        Self { data, at }
    }

    /// Bytes read so far, counted from the start of the slice.
    #[inline]
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.data.len().saturating_sub(self.at)
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let end = self.at.checked_add(length).ok_or(Short)?;
        let bytes = self.data.get(self.at..end).ok_or(Short)?;
        self.at = end;
        Ok(bytes)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let tail = self.data.get(self.at..).ok_or(Short)?;
        let bytes = *tail.first_chunk::<N>().ok_or(Short)?;
        self.at += N;
        Ok(bytes)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        let byte = *self.data.get(self.at).ok_or(Short)?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Short> {
        let (value, length) = varint::read(self.data.get(self.at..).ok_or(Short)?).ok_or(Short)?;
        self.at += length;
        Ok(value)
    }

    /// A varint that has to fit 32 bits, as link and channel numbers do.
    #[inline]
    pub(crate) fn varint_u32(&mut self) -> Result<u32, Short> {
        u32::try_from(self.varint()?).map_err(|_| Short)
    }

    /// A varint used as a length of something that follows in the same slice.
    #[inline]
    pub(crate) fn varint_length(&mut self) -> Result<usize, Short> {
        let mut ahead = *self;
        let length = usize::try_from(ahead.varint()?).map_err(|_| Short)?;
        if length > ahead.remaining() {
            return Err(Short);
        }
        *self = ahead;
        Ok(length)
    }
}
