//! `bowline reload`.

use hyper::Method;

use super::Global;
use crate::control::client::Content;
use crate::control::protocol::Reloaded;
use crate::exit::{Exit, Failure};

/// Let the running node read its configuration again, as SIGHUP does
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, global: &Global) -> Result<Exit, Failure> {
    let reloaded: Reloaded = global.call(Method::POST, "/v1/reload", Content::Nothing, None)?;
    global.output().result("reload", &reloaded, || {
        let sections = reloaded.needs_restart.join(", ");
        match (reloaded.changed, reloaded.needs_restart.is_empty()) {
            (false, _) => "nothing has changed".to_owned(),
            (true, true) => "reloaded".to_owned(),
            (true, false) => format!("reloaded; these wait for a restart: {sections}"),
        }
    })?;
    Ok(Exit::Ok)
}
