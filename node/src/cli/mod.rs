//! The command line. One file per command; each has `Args`, whose doc comment is its help, and `run`.
//!
//! To add a command: a `mod` line and a row in `commands!`.

#[allow(clippy::disallowed_methods, reason = "it measures time")]
pub mod bench;
mod completions;
mod config;
#[allow(clippy::disallowed_methods, reason = "it measures time")]
pub mod demo;
mod id;
mod output;
mod ticket;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bowline_messages::config::parse_duration;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{Loaded, Source};
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
    #[arg(short, long, global = true)]
    pub quiet: bool,
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
    Id => id,
    Bench => bench,
    Demo => demo,
    Ticket => ticket,
    Config => config,
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
