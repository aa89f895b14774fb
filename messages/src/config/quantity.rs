//! Durations and sizes as people write them: `250ms`, `5s`, `64KiB`.
//!
//! A field says `#[serde(with = "crate::config::duration")]` or `#[serde(with = "crate::config::size")]`; what is printed is
//! read back to the same value.

use std::time::Duration;

/// Why a text is no duration or size. The user's mistake; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a whole number with a unit of time.
    #[error("`{0}` is not a duration: write a whole number and a unit, as in 250ms, 5s, 10min or 2h")]
    Duration(String),
    /// Not a whole number with a unit of size.
    #[error("`{0}` is not a size: write a whole number of bytes, or one with a unit, as in 64KiB or 10MB")]
    Size(String),
}

/// Units of time, smallest first, in nanoseconds.
const TIME_UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Units of size. Printing uses the binary ones.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Binary units, largest first, for printing.
const PRINTED_SIZES: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// The number at the start of a text and what follows it.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Reads a duration: a whole number with one of the units ns, us, ms, s, min, h, d.
///
/// # Errors
/// [`QuantityError::Duration`] when it is not written so, or exceeds 2^64 nanoseconds (584 years).
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    split_number(text)
        .and_then(|(number, unit)| {
            let (_, nanos) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
            number.checked_mul(*nanos).map(Duration::from_nanos)
        })
        .ok_or_else(|| QuantityError::Duration(text.into()))
}

/// Writes a duration with the largest unit that leaves a whole number.
pub fn print_duration(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return "0s".into();
    }
    let whole = TIME_UNITS.iter().rev().find(|(_, unit)| nanos.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{nanos}ns"), |(name, unit)| format!("{}{name}", nanos / unit))
}

/// Reads a size in bytes: a whole number, alone or with a unit (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB).
///
/// # Errors
/// [`QuantityError::Size`] when it is not written so, or exceeds 2^64 bytes.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    split_number(text)
        .and_then(|(number, unit)| match unit {
            "" => Some(number),
            unit => {
                let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
                number.checked_mul(*bytes)
            }
        })
        .ok_or_else(|| QuantityError::Size(text.into()))
}

/// Writes a size with the largest binary unit that leaves a whole number.
pub fn print_size(bytes: u64) -> String {
    let whole = PRINTED_SIZES.iter().find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Durations as text, for `#[serde(with = "crate::config::duration")]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes `250ms`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::print_duration(*duration))
    }

    /// Reads `250ms`.
    ///
    /// # Errors
    /// When it is no text, or no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text).map_err(D::Error::custom)
    }
}

/// Sizes as text or integers, for `#[serde(with = "crate::config::size")]` on `u64`, `usize` and `u32`.
pub mod size {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    /// Writes `64KiB`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer, N: TryInto<u64> + Copy>(bytes: &N, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = (*bytes).try_into().map_err(|_| serde::ser::Error::custom("a size does not fit into 64 bits"))?;
        serializer.serialize_str(&super::print_size(bytes))
    }

    /// Reads `64KiB` or `65536`.
    ///
    /// # Errors
    /// When it is neither, or does not fit into the field.
    pub fn deserialize<'de, D: Deserializer<'de>, N: TryFrom<u64>>(deserializer: D) -> Result<N, D::Error> {
        let bytes = deserializer.deserialize_any(SizeVisitor)?;
        N::try_from(bytes).map_err(|_| D::Error::custom(format!("{bytes} bytes are too many here")))
    }

    struct SizeVisitor;

    impl Visitor<'_> for SizeVisitor {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size: a number of bytes, or text as in \"64KiB\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            super::parse_size(text).map_err(E::custom)
        }

        fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
            u64::try_from(bytes).map_err(|_| E::custom("a size is not negative"))
        }

        fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
            Ok(bytes)
        }
    }
}

/// Values that may be missing, where the empty text stands for none, for `#[serde(with = "...::optional_text")]`.
pub mod optional_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the value's text, or the empty one.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer, T: Display>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_str(""),
        }
    }

    /// Reads the value's text; the empty one is `None`.
    ///
    /// # Errors
    /// When it is no text, or the text has no such value.
    pub fn deserialize<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
    {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(D::Error::custom) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [("250ms", 250), ("5s", 5_000), ("10 min", 600_000), ("2h", 7_200_000), ("0s", 0)] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis));
        }
        for text in ["", "5", "s", "-5s", "1.5s", "5 parsecs", "99999999999999d"] {
            assert_eq!(parse_duration(text), Err(QuantityError::Duration(text.into())));
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("64KiB", 65_536), ("1 MiB", 1 << 20), ("10MB", 10_000_000), ("77", 77), ("0B", 0)] {
            assert_eq!(parse_size(text).unwrap(), bytes);
        }
        for text in ["", "KiB", "-1B", "1.5MiB", "9999999999TiB", "1kib"] {
            assert_eq!(parse_size(text), Err(QuantityError::Size(text.into())));
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(nanos in any::<u64>(), bytes in any::<u64>()) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&print_duration(duration)).unwrap(), duration);
            prop_assert_eq!(parse_size(&print_size(bytes)).unwrap(), bytes);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,30}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
