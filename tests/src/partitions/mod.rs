//! Real nodes of one group on hosts of their own, whose network falls apart and comes together again while clients write; and a judge of what the clients
//! were told.

#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

mod hosts;
mod node;
pub mod round;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use hosts::Hosts;
pub use node::{LabError, Node, Stand};
pub use round::{Kind, Round};

/// How often clients write, and how often it is looked how the nodes stand.
const EVERY: Duration = Duration::from_millis(150);
/// How long everything may take to be well.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is on the accounts at the beginning.
const TOTAL: u64 = 1000;

/// What a client was told of a note that it wanted to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is written.
    Done,
    /// It is not.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// What was found.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Report {
    /// Rounds by kind, with what was measured in each.
    pub rounds: Vec<Round>,
    /// Notes that clients were told are written, are not, and may be.
    pub done: usize,
    /// Refused.
    pub refused: usize,
    /// Not known.
    pub unknown: usize,
    /// What cannot be.
    pub violations: Vec<String>,
}

/// What clients were told, by the names of the notes.
type History = Arc<Mutex<BTreeMap<String, Told>>>;

/// Clients that write until they are told to stop.
struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    history: History,
}

impl Clients {
    fn start(nodes: &[Node]) -> Self {
        let (stop, history) = (Arc::new(AtomicBool::new(false)), History::default());
        let threads = nodes.iter().enumerate().map(|(host, node)| {
            let (stop, history, node) = (Arc::clone(&stop), Arc::clone(&history), node.client());
            std::thread::spawn(move || {
                for count in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let name = format!("note-{host}-{count}");
                    let told = node.write(&name);
                    let _ = node.shift(count);
                    history.lock().unwrap_or_else(PoisonError::into_inner).insert(name, told);
                    std::thread::sleep(EVERY);
                }
            })
        });
        let threads = threads.collect();
        Self { stop, threads, history }
    }

    fn stop(self) -> BTreeMap<String, Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| drop(thread.join()));
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs so many rounds on these hosts. `say` is told of each.
///
/// # Errors
/// [`LabError`], when the laboratory itself fails.
pub fn run(
    bowline: &Path,
    hosts: &Hosts,
    count: usize,
    rounds: usize,
    mut say: impl FnMut(&Round),
) -> Result<Report, LabError> {
    let folder = tempfile::tempdir().map_err(LabError::Folder)?;
    let mut nodes = node::start_all(bowline, hosts, folder.path(), count)?;
    wait(&nodes, "begin", |stands| stands.iter().all(|stand| stand.running))?;
    nodes[0].client().must(&["set", "account-0", &TOTAL.to_string()])?;
    let clients = Clients::start(&nodes);
    let mut report = Report::default();
    for number in 0..rounds {
        let kind = Kind::ALL[number % Kind::ALL.len()];
        let round = round::play(kind, number, hosts, &mut nodes, &mut report.violations)?;
        say(&round);
        report.rounds.push(round);
    }
    let history = clients.stop();
    wait(&nodes, "recover", |stands| stands.iter().all(|stand| stand.running && stand.open == 0))?;
    judge(&nodes, &history, &mut report)?;
    Ok(report)
}

/// Looks at all nodes until they are as they should be. Gives how long that took.
fn wait(nodes: &[Node], what: &str, well: impl Fn(&[Stand]) -> bool) -> Result<Duration, LabError> {
    let start = Instant::now();
    loop {
        let stands: Vec<Stand> = nodes.iter().map(Node::stand).collect();
        if well(&stands) {
            return Ok(start.elapsed());
        }
        if start.elapsed() > PATIENCE {
            return Err(LabError::Stuck { what: what.to_owned(), stands: format!("{stands:?}") });
        }
        std::thread::sleep(EVERY);
    }
}

/// Whether what clients were told is what all nodes have.
fn judge(nodes: &[Node], history: &BTreeMap<String, Told>, report: &mut Report) -> Result<(), LabError> {
    let books = nodes.iter().map(|node| node.client().list()).collect::<Result<Vec<_>, _>>()?;
    let Some(book) = books.first() else { return Ok(()) };
    if books.iter().any(|other| other != book) {
        report.violations.push("not all nodes have the same notes".to_owned());
    }
    for (name, told) in history {
        match told {
            Told::Done => report.done += 1,
            Told::Refused => report.refused += 1,
            Told::Unknown => report.unknown += 1,
        }
        let written = book.contains_key(name);
        if written && *told == Told::Refused {
            report.violations.push(format!("{name} was refused and is there"));
        } else if !written && *told == Told::Done {
            report.violations.push(format!("{name} was written and is lost"));
        }
    }
    let strangers = book.keys().filter(|name| name.starts_with("note-") && !history.contains_key(*name));
    report.violations.extend(strangers.map(|name| format!("nobody wrote {name}")));
    let accounts = book.iter().filter(|(name, _)| name.starts_with("account-"));
    let total: u64 = accounts.filter_map(|(_, note)| note.as_u64()).sum();
    if total != TOTAL {
        report.violations.push(format!("the accounts add up to {total}, not {TOTAL}"));
    }
    Ok(())
}
