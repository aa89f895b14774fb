//! What is wrong with a value that is written well but makes no sense, and how each section says so.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::quantity::{print_duration, print_size};

/// A value that is not allowed. The user's mistake; nothing was started or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Outside its range.
    #[error("{key} = {found} is not allowed: it has to be between {least} and {most}")]
    OutOfRange {
        /// The key with its section, as in `session.links_max`.
        key: String,
        /// What was found.
        found: String,
        /// The smallest value that is allowed.
        least: String,
        /// The largest value that is allowed.
        most: String,
    },
    /// Wrong in another way.
    #[error("{key} = {found} is not allowed: {reason}")]
    Invalid {
        /// The key with its section.
        key: String,
        /// What was found.
        found: String,
        /// What is wrong and what would be right.
        reason: String,
    },
}

impl ConfigError {
    /// The key with its section.
    pub fn key(&self) -> &str {
        match self {
            Self::OutOfRange { key, .. } | Self::Invalid { key, .. } => key,
        }
    }
}

/// Collects everything that is wrong with a configuration, so that the user sees it all at once.
///
/// A section implements `fn check(&self, checks: &mut Checks)` and calls [`Checks::number`], [`Checks::duration`] and the like,
/// with the key written in full.
#[derive(Debug, Default)]
pub struct Checks {
    errors: Vec<ConfigError>,
}

impl Checks {
    /// A number that has to be within a range.
    pub fn number<N: PartialOrd + Display>(&mut self, key: &str, value: N, range: RangeInclusive<N>) {
        self.within(key, value, range, |n| n.to_string());
    }

    /// A duration that has to be within a range.
    pub fn duration(&mut self, key: &str, value: Duration, range: RangeInclusive<Duration>) {
        self.within(key, value, range, |d| print_duration(*d));
    }

    /// A size in bytes that has to be within a range.
    pub fn size(&mut self, key: &str, bytes: u64, range: RangeInclusive<u64>) {
        self.within(key, bytes, range, |n| print_size(*n));
    }

    /// Any other condition; `reason` says what would be right.
    pub fn ensure(&mut self, key: &str, holds: bool, found: impl Display, reason: &str) {
        if !holds {
            self.errors.push(ConfigError::Invalid { key: key.into(), found: found.to_string(), reason: reason.into() });
        }
    }

    /// Everything that was wrong, in the order of the checks.
    ///
    /// # Errors
    /// The list, when it is not empty.
    pub fn finish(self) -> Result<(), Vec<ConfigError>> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    fn within<N: PartialOrd>(&mut self, key: &str, value: N, range: RangeInclusive<N>, print: impl Fn(&N) -> String) {
        if !range.contains(&value) {
            self.errors.push(ConfigError::OutOfRange {
                key: key.into(),
                found: print(&value),
                least: print(range.start()),
                most: print(range.end()),
            });
        }
    }
}

/// The known key that a mistyped one was meant to be, when one is near enough: at most a third of its characters differ.
pub fn suggest<'a>(mistyped: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|key| (edit_distance(mistyped, key), key)).min()?;
    (near.0 <= (near.1.len() / 3).max(1)).then_some(near.1)
}

/// Characters to insert, delete, replace or swap with their neighbour to get from one text to the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn everything_wrong_is_named_with_its_key_and_range() {
        let mut checks = Checks::default();
        checks.number("limits.per_source", 0, 1..=100);
        checks.number("limits.total", 5, 1..=100);
        checks.duration("limits.cool_down", Duration::from_secs(9), Duration::ZERO..=Duration::from_secs(5));
        checks.ensure("log.format", false, "xml", "it has to be text or json");
        let errors = checks.finish().unwrap_err();
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "limits.per_source = 0 is not allowed: it has to be between 1 and 100",
                "limits.cool_down = 9s is not allowed: it has to be between 0s and 5s",
                "log.format = xml is not allowed: it has to be text or json",
            ]
        );
        assert_eq!(errors[0].key(), "limits.per_source");
    }

    #[test]
    fn a_mistyped_key_is_recognised_and_nonsense_is_not() {
        let known = ["listen", "session", "transport", "trust"];
        assert_eq!(suggest("sesion", known), Some("session"));
        assert_eq!(suggest("tarnsport", known), Some("transport"));
        assert_eq!(suggest("elephant", known), None);
        assert_eq!(suggest("listne", known), Some("listen"));
        assert_eq!(suggest("x", []), None);
    }
}
