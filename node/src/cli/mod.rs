//! The command line. One file per command; each has `Args`, whose doc comment is its help, and `run`.
//!
//! To add a command: a `mod` line and a row in `commands!`.

#[allow(clippy::disallowed_methods, reason = "it measures time")]
pub mod bench;
mod broadcast;
mod completions;
mod config;
mod connect;
#[allow(clippy::disallowed_methods, reason = "it measures time")]
pub mod demo;
mod events;
mod forward;
mod group;
mod health;
mod human;
mod id;
mod members;
mod output;
mod partition;
pub mod partition_lab;
mod peer;
mod peers;
mod ping;
mod progress;
mod receive;
mod reload;
pub mod replay;
mod run;
mod script;
mod send;
pub mod soak;
mod status;
mod ticket;
pub mod topology;
mod tree;
mod trust;
mod why;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bowline_messages::config::parse_duration;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use hyper::Method;
use serde::de::DeserializeOwned;

use crate::config::{Loaded, Source};
use crate::control::client::{Client, Content};
use crate::exit::{Exit, Failure};

pub(crate) use output::Output;

/// One session between two peers, kept alive across many links.
#[derive(Debug, Parser)]
#[command(name = "bowline", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command understands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Configuration file [default: $BOWLINE_CONFIG, the user's, the system's; see `config path`]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set a configuration key, as in `--set limits.cool_down=5s`; may be repeated
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Control socket of the running node [default: the one in the configuration]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON with a schema version instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Give up waiting after this long, as in 250ms or 5s
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Log more (-v: debug, -vv: trace)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// Runs the work of a whole node to its end on a runtime of its own, as a task beside the others: what the runtime itself waits for
/// is polled whenever any task was, for every message that is.
pub(crate) fn run_as_task<T: 'static>(work: impl Future<Output = Result<T, Failure>> + 'static) -> Result<T, Failure> {
    let ended = actix_rt::System::new().block_on(async { actix_rt::spawn(work).await });
    ended.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => Err(Failure::new(Exit::GaveUp, error)),
    })
}

impl Global {
    /// Where the configuration comes from.
    pub fn source(&self) -> Source {
        let mut assignments = self.set.clone();
        if let Some(socket) = &self.socket {
            let quoted = toml::Value::String(socket.to_string_lossy().into_owned());
            assignments.push(format!("control.socket={quoted}"));
        }
        Source { file: self.config.clone(), assignments }
    }

    /// Loads the configuration.
    ///
    /// # Errors
    /// Those of [`Source::load`].
    pub fn load(&self) -> Result<Loaded, Failure> {
        self.source().load()
    }

    /// Runs a future to its end on a runtime of its own.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        actix_rt::System::new().block_on(future)
    }

    /// Connects to the running node.
    ///
    /// # Errors
    /// Those of the configuration and of [`Client::connect`].
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.load()?.control_socket()).await
    }

    /// Asks the running node one thing. `waits`: how long the node itself may take for it, when that is long.
    ///
    /// # Errors
    /// Those of [`Global::client`] and what the node answers.
    pub(crate) fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content: Content,
        waits: Option<Duration>,
    ) -> Result<T, Failure> {
        self.block_on(async { self.client().await?.call(method, path, content, waits.or(self.timeout)).await })
    }

    /// Where results go.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.json, self.quiet)
    }
}

macro_rules! commands {
    ($($name:ident => $module:ident,)+) => {
        #[derive(Debug, Subcommand)]
        enum Command {
            $($name($module::Args),)+
        }

        impl Command {
            fn run(self, global: &Global) -> Result<Exit, Failure> {
                match self {
                    $(Self::$name(args) => $module::run(args, global),)+
                }
            }
        }
    };
}

commands! {
    Run => run,
    Status => status,
    Peers => peers,
    Members => members,
    Connect => connect,
    Ping => ping,
    Why => why,
    Trust => trust,
    Send => send,
    Receive => receive,
    Forward => forward,
    Broadcast => broadcast,
    Events => events,
    Tree => tree,
    Reload => reload,
    Id => id,
    Bench => bench,
    Demo => demo,
    Ticket => ticket,
    Config => config,
    Script => script,
    Replay => replay,
    Soak => soak,
    Group => group,
    Partition => partition,
    PartitionLab => partition_lab,
    Topology => topology,
    Completions => completions,
}

/// Runs the command that the arguments of this process name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that was asked for goes to the standard output and is a success; there is nobody left to tell when even
            // that cannot be printed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    let json = cli.global.json;
    match cli.command.run(&cli.global) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::print_failure(&failure, json);
            failure.exit.into()
        }
    }
}

/// A query string.
fn query(fields: &[(&str, &str)]) -> String {
    let encoded: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
    encoded.join("&")
}

/// A text as it stands in a query: every byte but the unreserved ones (RFC 3986, section 2.3) as `%XX`.
fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The whole command, for completions.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_commands_are_well_formed() {
        super::command().debug_assert();
    }
}
