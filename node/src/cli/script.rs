//! `bowline script`.

use std::path::PathBuf;

use bowline_actors::testing::script::{self, Options, ScriptError};
use serde_json::json;

use super::Global;
use super::output::{line, with_schema};
use crate::exit::{Exit, Failure};

/// Run message scripts: nodes, links, faults and expectations on virtual time
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Scripts, or folders with `*.script` files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write what the scripts record into them instead of comparing
    #[arg(long)]
    rewrite: bool,
    /// Another seed than the one a script names
    #[arg(long)]
    seed: Option<u64>,
    /// Print everything that happens
    #[arg(long)]
    log: bool,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let files = script::find(&args.files).map_err(unreadable)?;
    if files.is_empty() {
        let folders: Vec<String> = args.files.iter().map(|folder| folder.display().to_string()).collect();
        return Err(Failure::new(Exit::Usage, format_args!("there is no *.script file in {}", folders.join(", "))));
    }
    let output = global.output();
    let options = Options { seed: args.seed, rewrite: args.rewrite };
    let mut failed = 0_usize;
    for file in &files {
        let ran = script::run_file(file, options);
        let mut result = json!({ "file": file, "passed": ran.is_ok() });
        match &ran {
            Ok(outcome) => {
                if args.rewrite {
                    std::fs::write(file, &outcome.text).map_err(|error| Failure::at(file, &error, Exit::False))?;
                }
                result["virtual_seconds"] = json!(outcome.time.as_secs_f64());
                result["seed"] = json!(outcome.seed);
            }
            Err(error @ ScriptError::Read { .. }) => return Err(Failure::new(Exit::Usage, error)),
            Err(error) => {
                failed += 1;
                result["error"] = json!(error.to_string());
            }
        }
        if args.log {
            result["log"] = json!(log_of(&ran).lines().collect::<Vec<_>>());
        }
        if output.is_json() {
            line(&with_schema("script", &result)?.to_string())?;
            continue;
        }
        if args.log {
            line(log_of(&ran).trim_end())?;
        }
        match ran {
            Ok(outcome) => line(&format!("ok      {} ({:.1?} of virtual time)", file.display(), outcome.time))?,
            Err(error) => line(&format!("FAILED  {error}"))?,
        }
    }
    if failed == 0 {
        output.remark(&format!("{} scripts passed", files.len()));
        return Ok(Exit::Ok);
    }
    output.remark(&format!("{failed} of {} scripts failed", files.len()));
    Ok(Exit::False)
}

fn log_of(ran: &Result<script::Outcome, ScriptError>) -> &str {
    match ran {
        Ok(outcome) => &outcome.log,
        Err(ScriptError::Failed { log, .. }) => log,
        Err(_) => "",
    }
}

fn unreadable(error: ScriptError) -> Failure {
    Failure::new(Exit::Usage, error)
}
