//! What happened in a simulation: one entry for each event and message that was seen, as text and as fields.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use bowline_messages::config::print_duration;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::clock;

/// Text that is longer is shown by its beginning and its length.
const TEXT_CHARS_MAX: usize = 64;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Time since the simulation began.
    pub at: Duration,
    /// Who said it: `a.session`, `a.journal`.
    pub from: String,
    /// To whom: `a.app`, `log`.
    pub to: String,
    /// The name of the message or event.
    pub name: String,
    /// Its fields, nested ones with dots, in the order in which they are written.
    pub fields: Vec<(String, String)>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        write!(f, "{:>6}.{:06} {} -> {}  {}", at.as_secs(), at.subsec_micros(), self.from, self.to, self.name)?;
        self.fields.iter().try_for_each(|(key, value)| write!(f, " {key}={}", quoted(value)))
    }
}

/// The text, in quotation marks where it would be read as several words.
pub(crate) fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && !text.contains([' ', '"', '\n', '\t']);
    if plain { text.to_owned() } else { format!("{text:?}") }
}

/// Everything that happened, oldest first.
#[derive(Debug)]
pub struct Log {
    started: Instant,
    entries: RefCell<Vec<Entry>>,
    names: RefCell<BTreeMap<String, String>>,
    /// Transports of links, by node and number.
    links: RefCell<BTreeMap<(String, u64), String>>,
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

impl Log {
    /// An empty log that begins now.
    pub fn new() -> Self {
        Self {
            started: clock::now(),
            entries: RefCell::default(),
            names: RefCell::default(),
            links: RefCell::default(),
        }
    }

    /// From now on a text (the name of a peer, say) is written as another, also where it begins with it.
    pub fn rename(&self, text: impl Into<String>, name: impl Into<String>) {
        self.names.borrow_mut().insert(text.into(), name.into());
    }

    /// Notes that a link of a node runs over a transport: its number is written with that from now on.
    pub fn name_link(&self, node: &str, number: u64, transport: &str) {
        self.links.borrow_mut().insert((node.to_owned(), number), transport.to_owned());
    }

    /// Time since the simulation began.
    pub fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.started)
    }

    /// Adds an entry with the fields of a value. `from` and `to` begin with the node they belong to.
    pub fn add(&self, from: &str, to: &str, name: &str, fields: &impl Serialize) {
        let value = serde_json::to_value(fields).unwrap_or_else(|error| Value::String(error.to_string()));
        self.add_value(from, to, name, &value);
    }

    /// The same with a value at hand.
    pub fn add_value(&self, from: &str, to: &str, name: &str, value: &Value) {
        let node = from.split('.').next().unwrap_or(from).to_owned();
        let mut fields = Vec::new();
        self.flatten(&node, String::new(), value, &mut fields);
        let entry = Entry { at: self.now(), from: from.into(), to: to.into(), name: name.into(), fields };
        self.entries.borrow_mut().push(entry);
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries from one on.
    pub fn since(&self, first: usize) -> Vec<Entry> {
        self.entries.borrow().get(first..).unwrap_or_default().to_vec()
    }

    /// Whether there is such an entry from one on.
    pub fn count(&self, first: usize, matches: impl Fn(&Entry) -> bool) -> usize {
        self.entries.borrow().get(first..).unwrap_or_default().iter().filter(|entry| matches(entry)).count()
    }

    /// Everything as text, a line for each entry.
    pub fn text(&self) -> String {
        self.entries.borrow().iter().map(|entry| format!("{entry}\n")).collect()
    }

    /// A text with the names that were given by [`Log::rename`], shortened when it is long.
    pub fn renamed(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in self.names.borrow().iter().rev() {
            if text.contains(from.as_str()) {
                text = text.replace(from.as_str(), to);
            }
        }
        if text.chars().count() > TEXT_CHARS_MAX {
            let start: String = text.chars().take(TEXT_CHARS_MAX).collect();
            return format!("{start}… ({} bytes)", text.len());
        }
        text
    }

    /// Writes the fields of a value as text: durations, bytes and names of peers and links as people write them.
    fn flatten(&self, node: &str, key: String, value: &Value, into: &mut Vec<(String, String)>) {
        let named = if key.is_empty() { "value".to_owned() } else { key.clone() };
        match value {
            Value::Null => {}
            Value::Bool(flag) => into.push((named, flag.to_string())),
            Value::String(text) => into.push((named, self.renamed(text))),
            Value::Number(number) => into.push((named, self.number(node, &key, number))),
            Value::Array(items) => match bytes(items) {
                Some(text) => into.push((named, self.renamed(&text))),
                None => {
                    for (at, item) in items.iter().enumerate() {
                        let key = if key.is_empty() { at.to_string() } else { format!("{key}.{at}") };
                        self.flatten(node, key, item, into);
                    }
                }
            },
            Value::Object(object) => match duration(object) {
                Some(duration) => into.push((named, print_duration(duration))),
                None => {
                    for (name, item) in object {
                        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                        self.flatten(node, key, item, into);
                    }
                }
            },
        }
    }

    fn number(&self, node: &str, key: &str, number: &serde_json::Number) -> String {
        let last = key.rsplit('.').next().unwrap_or(key);
        let link = number.as_u64().filter(|_| matches!(last, "link" | "from" | "to" | "id"));
        let transport = link.and_then(|link| self.links.borrow().get(&(node.to_owned(), link)).cloned());
        match transport {
            Some(transport) => format!("{transport}#{number}"),
            None => number.to_string(),
        }
    }
}

fn duration(object: &Map<String, Value>) -> Option<Duration> {
    let part = |name: &str| object.get(name).and_then(Value::as_u64);
    let nanos = u32::try_from(part("nanos")?).ok()?;
    (object.len() == 2).then_some(Duration::new(part("secs")?, nanos))
}

/// Bytes as text where they are, else their number. `None`: not bytes.
fn bytes(items: &[Value]) -> Option<String> {
    let bytes: Option<Vec<u8>> =
        items.iter().map(|item| item.as_u64().and_then(|number| u8::try_from(number).ok())).collect();
    let bytes = bytes.filter(|bytes| !bytes.is_empty())?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.chars().all(|c| !c.is_control()));
    Some(text.unwrap_or_else(|| format!("({} bytes)", items.len())))
}

/// The name of an event as messages are named: `link_up` is `LinkUp`.
pub(crate) fn camel(snake: &str) -> String {
    let capitalise = |word: &str| {
        let mut chars = word.chars();
        chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
    };
    snake.split('_').map(capitalise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_written_as_people_write_them() {
        let log = Log::new();
        log.rename("peerofa", "a");
        log.name_link("b", 4, "tcp");
        let value = json!({
            "peer": "peerofa", "took": {"secs": 0, "nanos": 20_000_000}, "link": 4, "payload": [98, 101, 116],
            "none": null, "info": {"id": 4, "up": true}
        });
        log.add_value("b.journal", "log", "LinkUp", &value);
        let text = log.text();
        for part in ["peer=a", "took=20ms", "link=tcp#4", "payload=bet", "info.id=tcp#4", "info.up=true"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("none"));
        assert_eq!(camel("session_up"), "SessionUp");
    }
}
