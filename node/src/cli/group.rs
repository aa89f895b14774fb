//! `bowline group`.

use clap::Subcommand;
use hyper::Method;

use super::Global;
use super::human::harmless;
use super::output::Table;
use crate::control::client::Content;
use crate::exit::{Exit, Failure};
use crate::notebook::{Note, NotebookAnswer, NotebookCommand};

/// Read and change the notebook that the running node's group keeps together, also while the network falls apart
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a note; a number can be moved afterwards
    Set {
        /// Its name
        name: String,
        /// What it is to say
        note: String,
    },
    /// Read a note, as it is after everything that was done before
    Get {
        /// Its name
        name: String,
    },
    /// Take from one number and give to another, if the first one has so much
    Move {
        /// From which
        from: String,
        /// To which
        to: String,
        /// How much
        amount: u64,
    },
    /// Read all notes
    List,
}

impl From<Action> for NotebookCommand {
    fn from(action: Action) -> Self {
        match action {
            Action::Set { name, note } => {
                Self::Set { name, note: note.parse().map_or_else(|_| Note::Text(note), Note::Number) }
            }
            Action::Get { name } => Self::Get { name },
            Action::Move { from, to, amount } => Self::Move { from, to, amount },
            Action::List => Self::List,
        }
    }
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let content = Content::json(&NotebookCommand::from(args.action))?;
    let answer: NotebookAnswer = global.call(Method::POST, "/v1/group", content, None)?;
    if let NotebookAnswer::Refused(why) = &answer {
        return Err(Failure::new(Exit::False, why));
    }
    global.output().result("group", &answer, || match &answer {
        NotebookAnswer::Done | NotebookAnswer::Refused(_) => "done".to_owned(),
        NotebookAnswer::Note(None) => "there is no note of that name".to_owned(),
        NotebookAnswer::Note(Some(note)) => harmless(&note.to_string()),
        NotebookAnswer::Notes(notes) => {
            let mut table = Table::new(["name", "note"]);
            notes.iter().for_each(|(name, note)| table.row([harmless(name), harmless(&note.to_string())]));
            if table.is_empty() { "no notes".to_owned() } else { table.print() }
        }
    })?;
    Ok(if answer == NotebookAnswer::Note(None) { Exit::False } else { Exit::Ok })
}
