//! `bowline events`.

use hyper::Method;
use serde_json::Value;

use super::Global;
use super::output::{line, with_schema};
use crate::control::client::Content;
use crate::exit::{Exit, Failure};

/// Show what happens in the running node as it happens: links, failovers, messages, restarts
///
/// Until the node ends, or for as long as --timeout says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, global: &Global) -> Result<Exit, Failure> {
    let watched = async {
        let mut lines = global.client().await?.lines(Method::GET, "/v1/events", Content::Nothing, None).await?;
        while let Some(event) = lines.next::<Value>().await? {
            if global.json {
                line(&with_schema("event", &event)?.to_string())?;
            } else {
                line(&event.to_string())?;
            }
        }
        Ok(Exit::Ok)
    };
    global.block_on(async {
        match global.timeout {
            // Nothing was waited for that has not come: what happened within the time is all that was asked for.
            Some(limit) => tokio::time::timeout(limit, watched).await.unwrap_or(Ok(Exit::Ok)),
            None => watched.await,
        }
    })
}
