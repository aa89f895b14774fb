//! The processes of a demonstration: they take orders on their standard input and report on their standard output, JSON, one object a line. Each
//! ends with its standard input, whatever else it is doing, so that no killed parent leaves one behind.

use std::io::BufRead as _;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::cli::output::line;
use crate::exit::{Exit, Failure};

/// Orders that wait to be obeyed.
const ORDERS_MAX: usize = 16;
/// How long a process may take to end in good order.
const END: Duration = Duration::from_secs(2);

/// What the process of this number said, or that it ended.
pub(super) type Said<R> = (usize, Result<R, String>);

/// One of the processes, as its parent has it.
pub(super) struct Process {
    child: Child,
    orders: Option<ChildStdin>,
}

impl Process {
    /// Starts this program with `demo` and these arguments. What it says comes under its number.
    pub(super) fn start<R: DeserializeOwned + Send + 'static>(
        number: usize,
        arguments: &[&str],
        says: mpsc::Sender<Said<R>>,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(Exit::GaveUp, format_args!("cannot start a node: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("demo").args(arguments);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().map_err(failed)?;
        let orders = child.stdin.take();
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(async move {
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let report = serde_json::from_str(&line).map_err(|error| format!("`{line}`: {error}"));
                    if says.send((number, report)).await.is_err() {
                        return;
                    }
                }
                let _ = says.send((number, Err("its process ended".into()))).await;
            });
        }
        Ok(Self { child, orders })
    }

    /// Tells it to do something.
    pub(super) async fn order(&mut self, order: &impl Serialize) {
        let Ok(mut text) = serde_json::to_string(order) else { return };
        text.push('\n');
        if let Some(orders) = &mut self.orders {
            // One that has ended says so on its other stream.
            let _ = orders.write_all(text.as_bytes()).await;
        }
    }

    /// Ends it in good order, or else at once.
    pub(super) async fn end(&mut self) {
        self.orders = None;
        if timeout(END, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }

    /// Ends it at once, without a word to it.
    pub(super) async fn kill(&mut self) {
        // It fails only when the process ended in this very moment.
        let _ = self.child.kill().await;
    }
}

/// Reads orders on a thread of its own, which ends the process when there will be no more.
pub(super) fn orders<O: DeserializeOwned + Send + 'static>() -> mpsc::Receiver<O> {
    let (sender, receiver) = mpsc::channel(ORDERS_MAX);
    std::thread::spawn(move || {
        for text in std::io::stdin().lock().lines().map_while(Result::ok) {
            if let Ok(order) = serde_json::from_str(&text)
                && sender.blocking_send(order).is_err()
            {
                break;
            }
        }
        std::process::exit(0);
    });
    receiver
}

/// Reports to the parent.
pub(super) fn say(report: &impl Serialize) -> Result<(), Failure> {
    line(&serde_json::to_string(report).map_err(|error| Failure::new(Exit::GaveUp, error))?)
}
