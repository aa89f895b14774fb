//! Reads a script: lines into commands. Knows words, quotation marks and durations, not what the commands do.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where something stands in a script.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One word of a line. `key=value` and comparisons are taken apart; quotation marks only keep words together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The key and how it is compared, when there is one.
    pub key: Option<(String, Comparison)>,
    /// The rest.
    pub value: String,
    /// Whether the value stood in quotation marks: it is text then, whatever it looks like.
    pub quoted: bool,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((key, comparison)) = &self.key {
            write!(f, "{key}{}", comparison.sign())?;
        }
        if self.quoted { write!(f, "{:?}", self.value) } else { f.write_str(&self.value) }
    }
}

/// How a field is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`: the same text, where `*` stands for any text.
    Is,
    /// `!=`
    IsNot,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

impl Comparison {
    /// How it is written.
    const fn sign(self) -> &'static str {
        match self {
            Self::Is => "=",
            Self::IsNot => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }
}

/// One line with something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Where it stands.
    pub place: Place,
    /// The first word.
    pub verb: String,
    /// The others.
    pub words: Vec<Word>,
    /// What was recorded below it: the first and the last line (exclusive, from 1) and the text. `show` only.
    pub recorded: Option<Recorded>,
}

/// What was recorded below a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The line of the `----`, from 1.
    pub line: usize,
    /// The lines below.
    pub lines: Vec<String>,
}

/// Why a text is no script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ParseError {
    /// Where.
    pub place: Place,
    /// Why.
    pub reason: String,
}

/// What separates a command from what was recorded.
const RECORDED: &str = "----";

/// Reads a script.
///
/// # Errors
/// [`ParseError`] with the line.
pub fn parse(file: &Path, text: &str) -> Result<Vec<Command>, ParseError> {
    let mut commands: Vec<Command> = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let place = Place { file: file.to_owned(), line: at + 1 };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == RECORDED {
            let Some(command) = commands.last_mut().filter(|c| c.recorded.is_none()) else {
                return Err(ParseError { place, reason: format!("`{RECORDED}` belongs below a `show`") });
            };
            let mut recorded = Recorded { line: at + 1, lines: Vec::new() };
            while let Some((_, line)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
                recorded.lines.push(line.trim_end().to_owned());
            }
            command.recorded = Some(recorded);
            continue;
        }
        let mut words = split(line).map_err(|reason| ParseError { place: place.clone(), reason })?.into_iter();
        let Some(verb) = words.next() else { continue };
        commands.push(Command { place, verb: verb.value, words: words.collect(), recorded: None });
    }
    Ok(commands)
}

fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = chars.peek() else { return Ok(words) };
        if *first == '#' {
            return Ok(words);
        }
        let mut word = Word { key: None, value: String::new(), quoted: false };
        while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
            match c {
                '"' => {
                    word.quoted = true;
                    loop {
                        match chars.next() {
                            Some('"') => break,
                            Some('\\') => word.value.extend(chars.next()),
                            Some(other) => word.value.push(other),
                            None => return Err("a quotation mark is missing".into()),
                        }
                    }
                }
                '=' | '<' | '>' | '!' if word.key.is_none() && !word.quoted && is_key(&word.value) => {
                    let equals = c != '=' && chars.next_if_eq(&'=').is_some();
                    let comparison = match (c, equals) {
                        ('=', _) => Comparison::Is,
                        ('!', true) => Comparison::IsNot,
                        ('<', false) => Comparison::Less,
                        ('<', true) => Comparison::AtMost,
                        ('>', false) => Comparison::More,
                        ('>', true) => Comparison::AtLeast,
                        _ => return Err(format!("`{c}` is no comparison")),
                    };
                    word.key = Some((std::mem::take(&mut word.value), comparison));
                }
                // JSON keeps its blanks.
                '[' | '{' if word.value.is_empty() && !word.quoted => {
                    word.value.push(c);
                    let (mut depth, mut inside) = (1, false);
                    while depth > 0 {
                        let Some(c) = chars.next() else { return Err(format!("`{}` is not closed", word.value)) };
                        inside ^= c == '"';
                        depth += i32::from(!inside && matches!(c, '[' | '{'));
                        depth -= i32::from(!inside && matches!(c, ']' | '}'));
                        word.value.push(c);
                    }
                }
                _ => word.value.push(c),
            }
        }
        words.push(word);
    }
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn commands(text: &str) -> Vec<Command> {
        parse(Path::new("x.script"), text).unwrap()
    }

    #[test]
    fn words_keys_and_quotation_marks_are_told_apart() {
        let commands = commands("# why\n\nsend a.app -> a.session Outgoing payload=\"bet 5\" took<=20ms x=[1, 2]\n");
        assert_eq!((commands.len(), commands[0].place.line, commands[0].verb.as_str()), (1, 3, "send"));
        let words = &commands[0].words;
        assert_eq!(words[1].value, "->");
        assert_eq!(
            words[4],
            Word { key: Some(("payload".into(), Comparison::Is)), value: "bet 5".into(), quoted: true }
        );
        assert_eq!(words[5].key.as_ref().unwrap().1, Comparison::AtMost);
        assert_eq!(words[6].value, "[1, 2]");
    }

    #[test]
    fn what_was_recorded_ends_with_a_blank_line() {
        let commands = commands("show a links\n----\ntcp up\nble up\n\nrun 1s\n");
        assert_eq!(commands[0].recorded.as_ref().unwrap().lines, ["tcp up", "ble up"]);
        assert_eq!(commands[1].verb, "run");
    }

    #[test]
    fn mistakes_name_their_line() {
        let error = parse(Path::new("x.script"), "run 1s\nsend \"a\n").unwrap_err();
        assert_eq!(error.to_string(), "x.script:2: a quotation mark is missing");
        assert!(parse(Path::new("x.script"), "----\n").is_err());
    }
}
