//! What commands print: JSON with a schema version, or tables and lines for people.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};

/// Where the results of a command go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Whether progress may be drawn: on a terminal, when nobody asked for silence or JSON.
    pub(crate) fn draws(self) -> bool {
        !self.json && !self.quiet && std::io::stderr().is_terminal()
    }

    /// Prints a result: `value` with the schema `bowline.NAME/v1` as one line of JSON, or the text.
    pub(crate) fn result(
        self,
        name: &str,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json { line(&with_schema(name, value)?.to_string()) } else { line(text().trim_end_matches('\n')) }
    }

    /// Prints a remark for people, on the standard error stream.
    pub(crate) fn remark(self, text: &str) {
        if !self.quiet && !self.json {
            // A remark that cannot be printed is lost on nobody.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

/// An object with `"schema":"bowline.NAME/v1"` in front; what is no object goes under `"items"`.
pub(crate) fn with_schema(name: &str, value: &impl Serialize) -> Result<Value, Failure> {
    let value = serde_json::to_value(value)
        .map_err(|error| Failure::new(Exit::GaveUp, format_args!("a result could not be written as JSON: {error}")))?;
    let mut object = serde_json::Map::from_iter([("schema".to_owned(), json!(format!("bowline.{name}/v1")))]);
    if let Value::Object(fields) = value {
        object.extend(fields);
    } else {
        object.insert("items".into(), value);
    }
    Ok(Value::Object(object))
}

/// Prints a line to the standard output. A reader that has gone away (`bowline … | head`) ends the command quietly.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(Exit::False, format_args!("cannot write to the standard output: {error}"))),
    }
}

/// Prints why a command failed, on the standard error stream.
pub(crate) fn print_failure(failure: &Failure, as_json: bool) {
    let text = if as_json {
        let error = json!({ "message": failure.message, "hint": failure.hint, "code": failure.exit as u8 });
        json!({ "schema": "bowline.error/v1", "error": error }).to_string()
    } else {
        format!("bowline: {failure}")
    };
    // There is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Columns of text, each as wide as its widest cell; the last one is not padded.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a head.
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_uppercase).to_vec()] }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Whether there is nothing but the head.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// The table as text.
    pub(crate) fn print(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["peer", "links"]);
        assert!(table.is_empty());
        table.row(["laptop".into(), "2".into()]);
        assert_eq!(table.print(), "PEER    LINKS\nlaptop  2\n");
    }

    #[test]
    fn every_json_result_has_a_schema() {
        assert_eq!(with_schema("x", &json!({"a": 1})).unwrap(), json!({"schema": "bowline.x/v1", "a": 1}));
        assert_eq!(with_schema("x", &[1]).unwrap(), json!({"schema": "bowline.x/v1", "items": [1]}));
    }
}
