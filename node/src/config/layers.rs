//! Puts a configuration together: flags over environment over file over defaults.
//!
//! Each layer is read into [`NodeConfig`] on its own first, so that a mistake is reported where it was made: with the line of
//! the file, the name of the variable, or the flag.

use std::path::{Path, PathBuf};

use bowline_messages::config::{NodeConfig, suggest};
use toml::{Table, Value};

use super::ConfigFailure;

/// Prefix of the environment variables that set keys: `BOWLINE_SECTION__KEY`.
const VARIABLE_PREFIX: &str = "BOWLINE_";

/// Everything a configuration is made from, besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The file and its text.
    pub file: Option<(PathBuf, String)>,
    /// Environment variables; those without the prefix or without `__` are ignored.
    pub variables: Vec<(String, String)>,
    /// Assignments from the command line, `section.key=value`.
    pub assignments: Vec<String>,
}

impl Layers {
    /// The configuration, checked.
    ///
    /// # Errors
    /// [`ConfigFailure`] with every mistake of the first layer that has one, or of the whole when each layer alone is fine.
    pub fn resolve(&self) -> Result<NodeConfig, ConfigFailure> {
        let mut merged = Table::new();
        if let Some((path, text)) = &self.file {
            merged = parse_file(path, text)?;
        }
        let named = self.variables.iter().filter_map(|(name, value)| Some((name, variable_key(name)?, value)));
        let set = named.map(|(name, key, value)| Setting {
            key: spelt_as_in(&merged, key),
            text: value,
            failed: Box::new(move |reason| ConfigFailure::variable(name, reason)),
        });
        let set: Vec<Setting<'_>> = set.collect();
        lay(&mut merged, set)?;
        let mut set = Vec::new();
        for assignment in &self.assignments {
            let failed = move |reason: &str| ConfigFailure::assignment(assignment, reason);
            let (key, text) = assignment.split_once('=').ok_or_else(|| failed("write section.key=value"))?;
            let key = key.trim().split('.').map(str::to_owned).collect();
            set.push(Setting { key, text, failed: Box::new(failed) });
        }
        lay(&mut merged, set)?;
        let config: NodeConfig = merged.try_into().map_err(|error| ConfigFailure::whole(&error))?;
        config.check().map_err(ConfigFailure::values)?;
        Ok(config)
    }
}

fn parse_file(path: &Path, text: &str) -> Result<Table, ConfigFailure> {
    let failed = |error: &toml::de::Error| {
        let line =
            error.span().map_or(1, |span| 1 + text.as_bytes().iter().take(span.start).filter(|b| **b == b'\n').count());
        ConfigFailure::file(path, line, &explain(error.message()))
    };
    toml::from_str::<NodeConfig>(text).map_err(|error| failed(&error))?;
    toml::from_str::<Table>(text).map_err(|error| failed(&error))
}

/// `BOWLINE_SESSION__LINKS_MAX` → `session`, `links_max`.
fn variable_key(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(VARIABLE_PREFIX)?;
    rest.contains("__").then(|| rest.split("__").map(str::to_ascii_lowercase).collect())
}

/// One key that is set by a variable or a flag.
struct Setting<'a> {
    key: Vec<String>,
    text: &'a str,
    failed: Box<dyn Fn(&str) -> ConfigFailure + 'a>,
}

/// How the parser begins to say that a key is required. Entries of the peer book have one: their id.
const MISSING: &str = "missing field `";

/// Lays the settings of one layer over what is below, so that the last one for a key wins. What the text of one means may depend on a
/// required neighbour that is set later (an address of a peer whose id comes in another variable): it is looked at again when the
/// others are known, and takes its own place among them all the same.
fn lay(merged: &mut Table, settings: Vec<Setting<'_>>) -> Result<(), ConfigFailure> {
    let mut known = merged.clone();
    let mut laid: Vec<Option<Table>> = vec![None; settings.len()];
    loop {
        let (mut progress, mut waiting) = (false, None);
        for (setting, place) in settings.iter().zip(&mut laid).filter(|(_, place)| place.is_none()) {
            match assign(&entry_of(&known, &setting.key), &setting.key, setting.text) {
                Ok(set) => {
                    merge(&mut known, set.clone());
                    *place = Some(set);
                    progress = true;
                }
                Err(reason) if reason.starts_with(MISSING) => {
                    waiting.get_or_insert((setting, reason));
                }
                Err(reason) => return Err((setting.failed)(&reason)),
            }
        }
        match waiting {
            None => break,
            Some(_) if progress => {}
            Some((setting, reason)) => {
                let entry = setting.key.iter().take(2).cloned().collect::<Vec<_>>().join(".");
                let reason = format!("{reason} of [{entry}]; it has to be set as well, here or in the file");
                return Err((setting.failed)(&reason));
            }
        }
    }
    laid.into_iter().flatten().for_each(|set| merge(merged, set));
    Ok(())
}

/// The entry that a key of three parts or more belongs to, as it is so far: `peers.laptop` for `peers.laptop.addresses`.
fn entry_of(merged: &Table, key: &[String]) -> Table {
    let entry = match key {
        [section, name, _, ..] => merged.get(section).and_then(|section| section.get(name)).map(|entry| (name, entry)),
        [] | [_] | [_, _] => None,
    };
    entry.map(|(name, entry)| nest(&[key[0].clone(), name.clone()], entry.clone())).unwrap_or_default()
}

/// A key of a variable, which has no case, as it is spelt below where it is there already: the names of peers have one.
fn spelt_as_in(merged: &Table, key: Vec<String>) -> Vec<String> {
    let mut within = Some(merged);
    let spell = |part: String| {
        let known = within.and_then(|table| table.iter().find(|(known, _)| known.eq_ignore_ascii_case(&part)));
        let spelt = known.map_or(part, |(known, _)| known.clone());
        within = known.and_then(|(_, value)| value.as_table());
        spelt
    };
    key.into_iter().map(spell).collect()
}

/// A table with one key set to a value that is written as text. What the text means depends on the key: it is taken as TOML
/// (numbers, lists, quoted text) where that fits, else as plain text, else as a list of texts separated by commas. `within`: the
/// entry around the key, as far as it is known.
fn assign(within: &Table, key: &[String], text: &str) -> Result<Table, String> {
    let list = || Value::Array(text.split(',').map(|item| Value::String(item.trim().to_owned())).collect());
    let as_toml = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut table| table.remove("value"));
    let plain = Value::String(text.to_owned());
    let mut first_error = None;
    for value in as_toml.into_iter().chain([plain, list()]) {
        let table = nest(key, value);
        let mut whole = within.clone();
        merge(&mut whole, table.clone());
        match whole.try_into::<NodeConfig>() {
            Ok(_) => return Ok(table),
            // The value fits, and something beside it is missing.
            Err(error) if error.message().starts_with(MISSING) => return Err(explain(error.message())),
            Err(error) => {
                first_error.get_or_insert_with(|| explain(error.message()));
            }
        }
    }
    Err(first_error.unwrap_or_default())
}

fn nest(key: &[String], value: Value) -> Table {
    let mut nested = value;
    for part in key.iter().skip(1).rev() {
        nested = Value::Table(Table::from_iter([(part.clone(), nested)]));
    }
    Table::from_iter(key.first().map(|first| (first.clone(), nested)))
}

/// Lays one table over another, key by key.
fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// What the parser says, in one line, with the key that was probably meant when a key is unknown.
pub(super) fn explain(message: &str) -> String {
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return message;
    };
    let Some((unknown, rest)) = rest.split_once('`') else {
        return message;
    };
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    match suggest(unknown, known.iter().copied()) {
        Some(meant) => format!("unknown key `{unknown}`, did you mean `{meant}`?"),
        None => format!("unknown key `{unknown}`; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bowline_messages::config::TrustPolicy;
    use std::time::Duration;

    fn file(text: &str) -> Layers {
        Layers { file: Some(("c.toml".into(), text.into())), ..Layers::default() }
    }

    fn failure(layers: &Layers) -> String {
        layers.resolve().unwrap_err().to_string()
    }

    fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
        let mut layers = file("[limits]\nunproven_total = 1\nunproven_per_source = 1\nper_source_per_minute = 1");
        layers.variables = variables(&[
            ("BOWLINE_LIMITS__UNPROVEN_PER_SOURCE", "2"),
            ("BOWLINE_LIMITS__PER_SOURCE_PER_MINUTE", "2"),
            ("BOWLINE_CONFIG", "ignored"),
            ("PATH", "ignored"),
        ]);
        layers.assignments = vec!["limits.per_source_per_minute=3".into()];
        let limits = layers.resolve().unwrap().limits;
        assert_eq!((limits.unproven_total, limits.unproven_per_source, limits.per_source_per_minute), (1, 2, 3));
        assert_eq!(limits.cool_down, Duration::from_secs(60));
    }

    #[test]
    fn text_becomes_what_the_key_needs() {
        let layers = Layers {
            variables: variables(&[
                ("BOWLINE_LISTEN__ADDRESSES", "tcp://127.0.0.1:1, quic://[::1]:2"),
                ("BOWLINE_LISTEN__PORT_FALLBACK", "false"),
                ("BOWLINE_LIMITS__COOL_DOWN", "5s"),
                ("BOWLINE_RECEIVE__BYTES_MAX", "64KiB"),
                ("BOWLINE_RECEIVE__DIR", "12"),
                ("BOWLINE_TRUST__POLICY", "tofu"),
            ]),
            assignments: vec![r#"listen.advertise=["tcp://example.org:3"]"#.into()],
            ..Layers::default()
        };
        let config = layers.resolve().unwrap();
        assert_eq!(config.listen.addresses.len(), 2);
        assert_eq!(config.listen.advertise[0].to_string(), "tcp://example.org:3");
        assert!(!config.listen.port_fallback);
        assert_eq!(config.limits.cool_down, Duration::from_secs(5));
        assert_eq!((config.receive.bytes_max, config.receive.dir.as_str()), (65_536, "12"));
        assert_eq!(config.trust.policy, TrustPolicy::Tofu);
    }

    #[test]
    fn a_peer_can_be_given_by_variables_in_any_order_and_half_a_peer_is_a_mistake() {
        let id = bowline_messages::PeerId::from_bytes([1; 32]).to_string();
        let addresses = ("BOWLINE_PEERS__LAPTOP__ADDRESSES", "tcp://127.0.0.1:1,quic://127.0.0.1:2");
        let both = [addresses, ("BOWLINE_PEERS__LAPTOP__ID", id.as_str())];
        for list in [both, [both[1], both[0]]] {
            let config = Layers { variables: variables(&list), ..Layers::default() }.resolve().unwrap();
            assert_eq!(config.peers["laptop"].addresses.len(), 2);
        }
        let mut in_file = file(&format!("[peers.LapTop]\nid = \"{id}\"\n"));
        in_file.variables = variables(&[addresses]);
        let config = in_file.resolve().unwrap();
        assert_eq!((config.peers.len(), config.peers["LapTop"].addresses.len()), (1, 2));
        let flags = Layers {
            assignments: vec!["peers.a.connect=false".into(), format!("peers.a.id={id}")],
            ..Layers::default()
        };
        assert!(!flags.resolve().unwrap().peers["a"].connect);
        // The first of them has to wait for the id, and is still the first.
        let id = format!("peers.a.id={id}");
        for (last, others) in [("true", "false"), ("false", "true")] {
            let assignments = vec![
                format!("peers.a.connect={others}"),
                id.clone(),
                format!("peers.a.connect={others}"),
                format!("peers.a.connect={last}"),
            ];
            let config = Layers { assignments, ..Layers::default() }.resolve().unwrap();
            assert_eq!(config.peers["a"].connect.to_string(), last);
        }

        let half = Layers { variables: variables(&[addresses]), ..Layers::default() };
        assert_eq!(
            failure(&half),
            "environment variable BOWLINE_PEERS__LAPTOP__ADDRESSES: missing field `id` of [peers.laptop]; it has to be set as \
             well, here or in the file"
        );
        let mistyped = variables(&[both[1], ("BOWLINE_PEERS__LAPTOP__ADRESSES", "tcp://127.0.0.1:1")]);
        assert!(failure(&Layers { variables: mistyped, ..Layers::default() }).contains("did you mean `addresses`?"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_line_and_a_suggestion() {
        assert_eq!(
            failure(&file("\n[limits]\nunproven_totl = 1\n")),
            "c.toml, line 3: unknown key `unproven_totl`, did you mean `unproven_total`?"
        );
        assert!(failure(&file("[lisen]\n")).ends_with("line 1: unknown key `lisen`, did you mean `listen`?"));
        assert!(failure(&file("[elephants]\n")).contains("unknown key `elephants`; known here: identity, "));
        let layers = Layers { variables: variables(&[("BOWLINE_LIMITS__UNPROVEN_TOTL", "1")]), ..Layers::default() };
        assert_eq!(
            failure(&layers),
            "environment variable BOWLINE_LIMITS__UNPROVEN_TOTL: unknown key `unproven_totl`, did you mean `unproven_total`?"
        );
    }

    #[test]
    fn values_outside_their_range_are_named_with_it_all_at_once() {
        let failure = failure(&file("[limits]\nunproven_total = 0\ncool_down = \"900d\"\n"));
        assert_eq!(
            failure,
            "limits.unproven_total = 0 is not allowed: it has to be between 1 and 100000\n\
             limits.cool_down = 900d is not allowed: it has to be between 0s and 1d"
        );
    }

    #[test]
    fn broken_text_and_wrong_types_are_mistakes_with_a_place() {
        assert!(failure(&file("[limits\n")).starts_with("c.toml, line 1: "));
        assert!(
            failure(&file("[limits]\ncool_down = \"soon\"\n")).starts_with("c.toml, line 2: `soon` is not a duration")
        );
        let layers = Layers { assignments: vec!["limits".into()], ..Layers::default() };
        assert_eq!(failure(&layers), "--set limits: write section.key=value");
    }
}
