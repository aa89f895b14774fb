//! `bowline broadcast`.

use std::time::Duration;

use bowline_messages::MessageClass;
use hyper::Method;

use super::Global;
use super::output::Table;
use crate::control::client::Content;
use crate::control::protocol::{BroadcastAsked, BroadcastResult};
use crate::exit::{Exit, Failure};

/// How long acknowledgements are waited for when nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Send a line of text to every connected peer, and say who has it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The text
    text: String,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let timeout = global.timeout.unwrap_or(TIMEOUT);
    let asked = BroadcastAsked { text: args.text, class: MessageClass::Background, timeout };
    let results: Vec<BroadcastResult> =
        global.call(Method::POST, "/v1/broadcast", Content::json(&asked)?, Some(timeout))?;
    let reached = results.iter().filter(|result| result.acknowledged).count();
    let value = serde_json::json!({ "reached": reached, "peers": results });
    global.output().result("broadcast", &value, || {
        let mut table = Table::new(["peer", "result"]);
        for result in &results {
            let became = result.error.clone().unwrap_or_else(|| "acknowledged".into());
            table.row([result.peer.to_string(), became]);
        }
        if table.is_empty() { "no peer is connected".to_owned() } else { table.print() }
    })?;
    Ok(if reached > 0 && reached == results.len() { Exit::Ok } else { Exit::False })
}
