//! Runs every message script below `tests/scripts`.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use bowline_actors::testing::script::{self, Options};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

#[test]
fn every_script_passes() {
    let files = script::find(&[folder()]).unwrap();
    assert!(files.len() >= 25, "only {} scripts were found", files.len());
    let mut failures = Vec::new();
    for file in &files {
        if let Err(error) = script::run_file(file, Options::default()) {
            failures.push(error.to_string());
        }
    }
    assert!(failures.is_empty(), "{} of {} failed\n\n{}", failures.len(), files.len(), failures.join("\n\n"));
}

#[test]
fn a_script_says_why_at_its_head_and_has_one_behaviour_each() {
    for file in script::find(&[folder()]).unwrap() {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# "), "{} has no comment at its head", file.display());
    }
}
