//! Values of a script: words into JSON, and the comparison of fields.

use std::time::Duration;

use bowline_messages::config::parse_duration;
use serde_json::{Map, Value, json};

use super::parse::{Comparison, Word};
use crate::testing::log::Entry;

/// Reads a duration, as in `20ms` or `1.5s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if let Ok(duration) = parse_duration(text) {
        return Some(duration);
    }
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..unit].parse().ok()?;
    let whole = parse_duration(&format!("1{}", &text[unit..])).ok()?;
    Duration::try_from_secs_f64(number * whole.as_secs_f64()).ok()
}

/// Reads a rate, as in `1Mbit/s`, `64kB/s` or a number of bytes a second. Gives bytes a second.
pub(super) fn rate(text: &str) -> Option<u64> {
    let text = text.strip_suffix("/s").unwrap_or(text);
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let (factor, divisor) = match &text[digits..] {
        "" | "B" => (1, 1),
        "kB" => (1_000, 1),
        "MB" => (1_000_000, 1),
        "kbit" => (1_000, 8),
        "Mbit" => (1_000_000, 8),
        "Gbit" => (1_000_000_000, 8),
        _ => return None,
    };
    Some(number.checked_mul(factor)? / divisor)
}

/// A word as JSON: numbers, durations, `true`, `[..]` and `{..}` are what they look like unless they stood in quotation marks.
fn json_of(word: &Word) -> Value {
    let text = word.value.as_str();
    if word.quoted {
        return Value::String(text.into());
    }
    if let Some(duration) = duration(text) {
        return json!({ "secs": duration.as_secs(), "nanos": duration.subsec_nanos() });
    }
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) | Value::Null)) => value,
        Ok(Value::String(_)) | Err(_) => Value::String(text.into()),
    }
}

/// The content of a message from the words behind its name: an object from `key=value`, or the one value that stands alone, or
/// nothing. Names of nodes are replaced by what `peer` gives for them.
pub(super) fn content(words: &[&Word], peer: &impl Fn(&str) -> Option<String>) -> Value {
    let mut fields = Map::new();
    let mut alone = None;
    for word in words {
        let value = with_peers(json_of(word), word.quoted, peer);
        match &word.key {
            Some((key, _)) => put(&mut fields, key, value),
            None => alone = Some(value),
        }
    }
    match alone {
        Some(value) if fields.is_empty() => value,
        // `LinkDown link=1 reason=...` beside `Kind field=...`: an enum variant with fields.
        Some(Value::String(variant)) => Value::Object(Map::from_iter([(variant, Value::Object(fields))])),
        Some(value) => value,
        None if fields.is_empty() => Value::Null,
        None => Value::Object(fields),
    }
}

/// `reason.Silent=5s` is a field of a field.
fn put(fields: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            fields.insert(key.into(), value);
        }
        Some((outer, inner)) => {
            let nested = fields.entry(outer).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(nested) = nested {
                put(nested, inner, value);
            }
        }
    }
}

fn with_peers(value: Value, quoted: bool, peer: &impl Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::String(text) if !quoted => Value::String(peer(&text).unwrap_or(text)),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| with_peers(item, false, peer)).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, item)| (key, with_peers(item, false, peer))).collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

/// Who says what to whom, as `expect` and `reject` write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    from: String,
    to: Option<String>,
    name: String,
    fields: Vec<(String, Comparison, String)>,
}

impl Pattern {
    /// From words: `WHO [-> WHOM] NAME [FIELD=VALUE…]`.
    ///
    /// # Errors
    /// In words.
    pub(super) fn new(words: &[&Word]) -> Result<Self, String> {
        let plain: Vec<_> = words.iter().filter(|word| word.key.is_none()).map(|word| word.value.clone()).collect();
        let (from, to, name) = match plain.as_slice() {
            [from, name] => (from.clone(), None, name.clone()),
            [from, arrow, to, name] if arrow == "->" => (from.clone(), Some(to.clone()), name.clone()),
            _ => return Err("expected WHO [-> WHOM] NAME [FIELD=VALUE…]".into()),
        };
        let fields = words.iter().filter_map(|word| {
            word.key.as_ref().map(|(key, comparison)| (key.clone(), *comparison, word.value.clone()))
        });
        Ok(Self { from, to, name, fields: fields.collect() })
    }

    /// Whether an entry has the name that is meant, whatever its fields.
    pub(super) fn is_of_same_name(&self, entry: &Entry) -> bool {
        is_like(&self.name, &entry.name)
    }

    /// Whether an entry is meant.
    pub(super) fn matches(&self, entry: &Entry) -> bool {
        is_actor(&self.from, &entry.from)
            && self.to.as_ref().is_none_or(|to| is_actor(to, &entry.to))
            && is_like(&self.name, &entry.name)
            && self.fields.iter().all(|(key, how, value)| field_matches(entry, key, *how, value))
    }
}

/// `a` is every actor of node `a`, `a.session` that one, `*` any text.
fn is_actor(pattern: &str, actor: &str) -> bool {
    is_like(pattern, actor)
        || (!pattern.contains('.') && actor.split('.').next().is_some_and(|node| is_like(pattern, node)))
}

/// Whether a text is like a pattern in which `*` stands for any text.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(start) else { return false };
    let parts: Vec<_> = rest.split('*').collect();
    let Some((last, middle)) = parts.split_last() else { return true };
    for part in middle {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

fn field_matches(entry: &Entry, key: &str, how: Comparison, wanted: &str) -> bool {
    let inner = format!(".{key}");
    let outer = format!("{key}.");
    let mut of_that_name =
        entry.fields.iter().filter(|(name, _)| name == key || name.ends_with(&inner) || name.starts_with(&outer));
    if how == Comparison::IsNot {
        return !of_that_name.any(|(name, value)| is_field(name, key, value, wanted));
    }
    of_that_name.any(|(name, value)| match how {
        Comparison::Is => is_field(name, key, value, wanted),
        Comparison::IsNot => false,
        Comparison::Less => compare(value, wanted, |a, b| a < b),
        Comparison::AtMost => compare(value, wanted, |a, b| a <= b),
        Comparison::More => compare(value, wanted, |a, b| a > b),
        Comparison::AtLeast => compare(value, wanted, |a, b| a >= b),
    })
}

/// A variant with fields is also meant by its name alone: `reason=Silent` for `reason.Silent=5s`.
fn is_field(name: &str, key: &str, value: &str, wanted: &str) -> bool {
    let variant = || name.split(key).nth(1).and_then(|rest| rest.strip_prefix('.'));
    is_like(wanted, value) || variant().and_then(|v| v.split('.').next()).is_some_and(|v| is_like(wanted, v))
}

fn compare(value: &str, wanted: &str, holds: impl Fn(f64, f64) -> bool) -> bool {
    let number = |text: &str| text.parse::<f64>().ok().or_else(|| duration(text).map(|d| d.as_secs_f64()));
    matches!((number(value), number(wanted)), (Some(value), Some(wanted)) if holds(value, wanted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::script::parse;

    fn words(line: &str) -> Vec<Word> {
        parse::parse(std::path::Path::new("x"), &format!("verb {line}")).unwrap().remove(0).words
    }

    fn content_of(line: &str) -> Value {
        let words = words(line);
        let peer = |name: &str| (name == "b").then(|| "key-of-b".to_owned());
        content(&words.iter().collect::<Vec<_>>(), &peer)
    }

    #[test]
    fn words_become_the_json_they_look_like() {
        assert_eq!(
            content_of("peer=b n=5 t=20ms x=\"5\" on=true"),
            json!({
                "peer": "key-of-b", "n": 5, "t": {"secs": 0, "nanos": 20_000_000}, "x": "5", "on": true
            })
        );
        assert_eq!(content_of("7"), json!(7));
        assert_eq!(content_of(""), Value::Null);
        assert_eq!(
            content_of("link=1 reason.Silent=5s"),
            json!({
                "link": 1, "reason": {"Silent": {"secs": 5, "nanos": 0}}
            })
        );
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(rate("1Mbit/s"), Some(125_000));
    }

    #[test]
    fn patterns_match_by_actor_name_and_fields() {
        let entry = Entry {
            at: Duration::ZERO,
            from: "a.session".into(),
            to: "a.app".into(),
            name: "LinkStep".into(),
            fields: vec![("reason.Silent".into(), "5s".into()), ("link.id".into(), "tcp#4".into())],
        };
        let matches = |line: &str| {
            let words = words(line);
            Pattern::new(&words.iter().collect::<Vec<_>>()).unwrap().matches(&entry)
        };
        for yes in [
            "a LinkStep",
            "a.session -> a.app Link*",
            "* LinkStep id=tcp*",
            "a LinkStep reason=Silent reason.Silent<6s",
        ] {
            assert!(matches(yes), "{yes}");
        }
        for no in [
            "b LinkStep",
            "a.app LinkStep",
            "a LinkUp",
            "a LinkStep id=ble*",
            "a LinkStep reason!=Silent",
            "a LinkStep x=1",
        ] {
            assert!(!matches(no), "{no}");
        }
    }
}
