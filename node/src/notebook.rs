//! What a group of `bowline run` nodes keeps together: notes under names, and numbers among them that can be moved from one to another, so that their sum
//! stays what it is.

use std::collections::BTreeMap;
use std::rc::Rc;

use bowline_actors::partition::actor::GroupApplication;
use bowline_actors::partition::group::StateMachine;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes of all names and texts at most; a snapshot may be 16 MiB, and JSON needs up to six bytes for one.
const BYTES_MAX: usize = 2 << 20;
/// Notes at most.
const NOTES_MAX: usize = 4096;
/// Bytes of a name at most.
const NAME_BYTES_MAX: usize = 256;
/// Bytes of a text at most.
const TEXT_BYTES_MAX: usize = 4096;

/// A note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Note {
    /// A number, which can be moved.
    Number(u64),
    /// Anything else.
    Text(String),
}

impl Note {
    const fn bytes(&self) -> usize {
        match self {
            Self::Number(number) => size_of_val(number),
            Self::Text(text) => text.len(),
        }
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// What can be done with the notebook, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotebookCommand {
    /// Writes a note, in place of what is there.
    Set {
        /// Its name.
        name: String,
        /// What it is to say.
        note: Note,
    },
    /// Reads a note, as it is after everything that was done before.
    Get {
        /// Its name.
        name: String,
    },
    /// Takes from one number and gives to another, if the first one has so much; one that is not there is 0.
    Move {
        /// From which.
        from: String,
        /// To which.
        to: String,
        /// How much.
        amount: u64,
    },
    /// Reads all.
    List,
}

/// What came of it, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotebookAnswer {
    /// It is done.
    Done,
    /// What a note says; none: there is none of that name.
    Note(Option<Note>),
    /// All notes.
    Notes(BTreeMap<String, Note>),
    /// It was not done, and why.
    Refused(String),
}

/// The notebook.
#[derive(Debug, Clone, Default)]
pub struct Notebook(BTreeMap<String, Note>);

impl Notebook {
    /// It as the application of a group.
    pub fn application() -> GroupApplication {
        GroupApplication { machine: Rc::new(|| Box::new(Self::default())), pause: None, resume: None }
    }

    fn carry_out(&mut self, command: NotebookCommand) -> Result<NotebookAnswer, &'static str> {
        match command {
            NotebookCommand::Set { name, note } => {
                self.check(&name)?;
                if matches!(&note, Note::Text(text) if text.len() > TEXT_BYTES_MAX) {
                    return Err("the text is too long");
                }
                let others = self.0.iter().filter(|(other, _)| **other != name);
                let held: usize = others.map(|(name, note)| name.len() + note.bytes()).sum();
                if held + name.len() + note.bytes() > BYTES_MAX {
                    return Err("the notebook is full");
                }
                self.0.insert(name, note);
                Ok(NotebookAnswer::Done)
            }
            NotebookCommand::Get { name } => Ok(NotebookAnswer::Note(self.0.get(&name).cloned())),
            NotebookCommand::Move { from, to, amount } => {
                self.check(&to)?;
                let (left, more) = (self.number(&from)?.checked_sub(amount), self.number(&to)?.checked_add(amount));
                let left = left.ok_or("there is not so much")?;
                let more = more.ok_or("that would be too much")?;
                if from != to {
                    self.0.insert(from, Note::Number(left));
                    self.0.insert(to, Note::Number(more));
                }
                Ok(NotebookAnswer::Done)
            }
            NotebookCommand::List => Ok(NotebookAnswer::Notes(self.0.clone())),
        }
    }

    /// Whether there may be a note of this name.
    fn check(&self, name: &str) -> Result<(), &'static str> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err("the name is empty or too long");
        }
        if self.0.len() >= NOTES_MAX && !self.0.contains_key(name) {
            return Err("the notebook is full");
        }
        Ok(())
    }

    fn number(&self, name: &str) -> Result<u64, &'static str> {
        match self.0.get(name) {
            Some(Note::Number(number)) => Ok(*number),
            Some(Note::Text(_)) => Err("it is no number"),
            None => Ok(0),
        }
    }
}

impl StateMachine for Notebook {
    fn execute(&mut self, command: &Bytes) -> Bytes {
        let answer = match serde_json::from_slice(command) {
            Ok(command) => self.carry_out(command).unwrap_or_else(|why| NotebookAnswer::Refused(why.to_owned())),
            Err(_) => NotebookAnswer::Refused("it is no command".to_owned()),
        };
        serde_json::to_vec(&answer).unwrap_or_default().into()
    }

    fn save(&self) -> Bytes {
        serde_json::to_vec(&self.0).unwrap_or_default().into()
    }

    fn load(&mut self, state: &Bytes) -> Result<(), String> {
        self.0 = serde_json::from_slice(state).map_err(|error| error.to_string())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn ask(book: &mut Notebook, command: &NotebookCommand) -> NotebookAnswer {
        serde_json::from_slice(&book.execute(&serde_json::to_vec(command).unwrap().into())).unwrap()
    }

    fn set(book: &mut Notebook, name: &str, note: Note) -> NotebookAnswer {
        ask(book, &NotebookCommand::Set { name: name.into(), note })
    }

    #[test]
    fn numbers_move_and_texts_do_not() {
        let mut book = Notebook::default();
        set(&mut book, "a", Note::Number(10));
        set(&mut book, "t", Note::Text("hello".into()));
        let moving = |from: &str, to: &str, amount| NotebookCommand::Move { from: from.into(), to: to.into(), amount };
        assert_eq!(ask(&mut book, &moving("a", "b", 4)), NotebookAnswer::Done);
        assert_eq!(ask(&mut book, &moving("a", "a", 6)), NotebookAnswer::Done);
        assert!(matches!(ask(&mut book, &moving("a", "b", 7)), NotebookAnswer::Refused(_)));
        assert!(matches!(ask(&mut book, &moving("a", "t", 1)), NotebookAnswer::Refused(_)));
        let get = |name: &str| NotebookCommand::Get { name: name.into() };
        assert_eq!(ask(&mut book, &get("a")), NotebookAnswer::Note(Some(Note::Number(6))));
        assert_eq!(ask(&mut book, &get("b")), NotebookAnswer::Note(Some(Note::Number(4))));
        assert_eq!(ask(&mut book, &get("c")), NotebookAnswer::Note(None));
        let mut other = Notebook::default();
        other.load(&book.save()).unwrap();
        assert_eq!(ask(&mut other, &NotebookCommand::List), ask(&mut book, &NotebookCommand::List));
    }

    #[test]
    fn it_does_not_grow_without_a_bound() {
        let mut book = Notebook::default();
        for n in 0..NOTES_MAX {
            assert_eq!(set(&mut book, &n.to_string(), Note::Number(0)), NotebookAnswer::Done);
        }
        assert!(matches!(set(&mut book, "more", Note::Number(0)), NotebookAnswer::Refused(_)));
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(matches!(set(&mut book, "1", Note::Text(long)), NotebookAnswer::Refused(_)));
    }

    proptest! {
        #[test]
        fn garbage_is_answered(bytes: Vec<u8>) {
            let answer = Notebook::default().execute(&bytes.into());
            prop_assert!(serde_json::from_slice::<NotebookAnswer>(&answer).is_ok());
        }
    }
}
