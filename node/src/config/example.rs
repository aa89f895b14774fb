//! The example configuration documents every key with its default: these tests keep it true.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use bowline_messages::config::NodeConfig;
use toml::{Table, Value};

const EXAMPLE: &str = include_str!("../../../docs/config.example.toml");

fn keys(table: &Table, prefix: &str, into: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        if let Value::Table(inner) = value {
            keys(inner, &format!("{path}."), into);
        }
        into.insert(path);
    }
}

fn keys_of(table: &Table) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    keys(table, "", &mut all);
    all
}

#[test]
fn the_example_equals_the_defaults() {
    assert_eq!(toml::from_str::<NodeConfig>(EXAMPLE).unwrap(), NodeConfig::default());
}

#[test]
fn the_example_names_every_key_and_no_other() {
    let defaults = Table::try_from(NodeConfig::default()).unwrap();
    assert_eq!(keys_of(&EXAMPLE.parse().unwrap()), keys_of(&defaults));
}

#[test]
fn every_key_of_the_example_is_explained_in_the_lines_above_it() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for (above, line) in lines.iter().zip(&lines[1..]) {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(above.starts_with('#'), "`{line}` has no explanation above it");
        }
    }
}

#[test]
fn the_peers_in_the_comments_are_right_once_they_have_an_id() {
    let id = bowline_messages::PeerId::from_bytes([1; 32]).to_string();
    let uncommented = EXAMPLE
        .replace("# [peers.laptop]", "[peers.laptop]")
        .replace("# id = \"…\"", &format!("id = \"{id}\""))
        .replace("# addresses = ", "addresses = ")
        .replace("# trust = \"allow\"", "trust = \"allow\"")
        .replace("# connect = ", "connect = ")
        .replace("# laptop = ", "laptop = ");
    let config: NodeConfig = toml::from_str(&uncommented).unwrap();
    assert_eq!(config.check(), Ok(()));
    assert_eq!(config.peers["laptop"].addresses.len(), 1);
    assert_eq!(config.forward.allow["laptop"].len(), 2);
}
