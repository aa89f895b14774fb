//! `bowline config`.

use clap::Subcommand;
use serde_json::json;

use super::Global;
use super::output::with_schema;
use crate::config::Places;
use crate::exit::{Exit, Failure};

/// Show and check the configuration
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the file in use, and where files are looked for
    Path,
    /// Print the configuration in force: flags over environment over file over defaults
    Show,
    /// Check the configuration; exit code 78 when it is wrong
    Check,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    match args.action {
        Action::Path => path(global),
        Action::Show => {
            let config = global.load()?.config;
            let text = toml::to_string(&config).map_err(|error| Failure::new(Exit::GaveUp, error))?;
            global.output().result("config", &config, || text)?;
            Ok(Exit::Ok)
        }
        Action::Check => {
            let loaded = global.load()?;
            let value = json!({ "ok": true, "file": loaded.file });
            let place =
                loaded.file.map_or_else(|| "no file; the defaults".to_owned(), |file| file.display().to_string());
            global.output().result("config-check", &value, || format!("ok: {place}"))?;
            Ok(Exit::Ok)
        }
    }
}

fn path(global: &Global) -> Result<Exit, Failure> {
    let candidates = Places::from_env().config_candidates(global.config.as_deref());
    let used = candidates.iter().map(|(path, _)| path).find(|path| path.exists());
    let searched: Vec<_> = candidates.iter().map(|(path, _)| path).collect();
    let output = global.output();
    if output.is_json() {
        super::output::line(&with_schema("config-path", &json!({ "file": used, "searched": searched }))?.to_string())?;
    } else {
        for path in &searched {
            let mark = if Some(*path) == used { "  (in use)" } else { "" };
            super::output::line(&format!("{}{mark}", path.display()))?;
        }
    }
    Ok(if used.is_some() { Exit::Ok } else { Exit::False })
}
